"""The purse: what a node's children have promised to each asker, on memory that they share.

What promises weigh is in the hit logs, which all children read: what is promised is a hit at once. Here is what keeps two
children from giving the same room away, a lock, and what keeps one asker from taking all of it, a sum for each. Nobody waits
for the lock: who does not get it promises nothing. Made before the first fork.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import zlib
from collections.abc import Iterator

# Askers share a slot when their names fall on the same one: then they share what one may have.
SLOTS = 1024


class Account:
    """What one asker has, while the purse is open: for each of the two seconds in which promises may end, that second and what
    the promises weigh that end in it. So what is never told of ends by itself, however much is promised meanwhile."""

    def __init__(self, slots: memoryview[float], number: int, now: float) -> None:
        self._slots, self._first, self._second = slots, 4 * number, int(now)

    @property
    def held(self) -> float:
        """What the promises weigh that have not ended yet."""
        return sum(self._slots[at + 1] for at in map(self._at, (self._second, self._second + 1)) if self._is_of_now(at))

    def add(self, weight: float, until: float) -> None:
        """So much more, of promises that end then; less, when some is given back."""
        at = self._at(int(until))
        if self._slots[at] != int(until):
            self._slots[at], self._slots[at + 1] = int(until), 0.0
        self._slots[at + 1] = max(self._slots[at + 1] + weight, 0.0)

    def _at(self, second: int) -> int:
        return self._first + 2 * (second % 2)

    def _is_of_now(self, at: int) -> bool:
        return self._second <= self._slots[at] <= self._second + 1


class Purse:
    """One for all children of a node."""

    def __init__(self) -> None:
        self._file = -1  # what is locked, once there are others
        self._slots = memoryview(mmap.mmap(-1, SLOTS * 32)).cast("d")

    def share(self) -> list[int]:
        """Before the first fork: from now on there may be others. The descriptors that it needs."""
        if self._file < 0:
            self._file = os.memfd_create("purse")
        return [self._file]

    @contextlib.contextmanager
    def opened(self, asker: str, now: float) -> Iterator[Account | None]:
        """The asker's account, for us alone; None when another child has the purse this very moment."""
        try:
            self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        try:
            yield Account(self._slots, zlib.crc32(asker.encode()) % SLOTS, now)
        finally:
            self._lock(fcntl.LOCK_UN)

    def _lock(self, how: int) -> None:
        if self._file >= 0:
            fcntl.lockf(self._file, how)
