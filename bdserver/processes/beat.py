"""A beat: when a process of a node did something last, on a page of memory that all its processes share.

A loop that hangs, in a file system that does not answer or in a bug, can't say so itself. Others do: of the discoverer's a
child in STATUS, and the listener, which ends it after a while; of the listener's accepting, the discoverer. A file would cost a
write a second; a quiet node writes nothing.
"""

from __future__ import annotations

import mmap
import struct

_INSTANT = struct.Struct("d")  # eight bytes at the beginning of a page: written and read at once


class Beat:
    """Made before the first fork. Instants are of the monotonic clock, which is the same in all processes."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _INSTANT.size)

    def note(self, clock: float) -> None:
        """It does so now."""
        _INSTANT.pack_into(self._page, 0, clock)

    def at(self) -> float:
        """When it did so last; 0 for never."""
        instant: float = _INSTANT.unpack_from(self._page)[0]
        return instant
