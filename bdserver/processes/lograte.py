"""How many lines of the log each place of the code may say, all processes of a node together: else whoever calls again and
again, with ever other words, fills the disk.

The counts stand on a page of memory that the processes share, since a child serves few callers and remembers no others. Two
processes that write at once may let a line more through, which does no harm.
"""

from __future__ import annotations

import mmap
import struct
from zlib import crc32

# Of one place so many lines may come at once, as when half of a large mesh is gone, and so many a second in the long run.
BURST, RATE = 500, 2.0
# Places that have the same number share what they may say.
PLACES = 256
# So long after the first one, it is said how many lines were left out.
TELL_SECONDS = 10.0

_NUMBER = struct.Struct("d")


class Rates:
    """Made before the first fork. Instants are of the monotonic clock, which is the same in all processes.

    Of each place it is known until when its lines are paid for, at RATE (the generic cell rate algorithm)."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, (PLACES + 2) * _NUMBER.size)

    def has_room(self, place: str, now: float) -> bool:
        """Whether this place of the code may say one more; if not, that is counted."""
        number = crc32(place.encode()) % PLACES
        paid_until = max(self._get(number), now)
        if paid_until - now > (BURST - 1) / RATE:
            if not (left_out := self._get(PLACES)):
                self._set(PLACES + 1, now + TELL_SECONDS)
            self._set(PLACES, left_out + 1)
            return False
        self._set(number, paid_until + 1 / RATE)
        return True

    def left_out(self, now: float) -> int:
        """How many lines were, since that was last told; 0 while more may come."""
        count = int(self._get(PLACES))
        if not count or now < self._get(PLACES + 1):
            return 0
        self._set(PLACES, 0.0)
        return count

    def _get(self, number: int) -> float:
        found: float = _NUMBER.unpack_from(self._page, number * _NUMBER.size)[0]
        return found

    def _set(self, number: int, value: float) -> None:
        _NUMBER.pack_into(self._page, number * _NUMBER.size, value)
