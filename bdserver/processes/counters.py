"""The counters of a node, on memory that all of its processes share (what is counted: core.counting).

A process adds up for itself, and puts it to the others' when it may: it never waits for a lock, so a process that is
stopped while it holds it delays nobody, and one that is killed loses what it had not put there yet. Made before the first fork.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from array import array
from collections import deque

from bdserver.core import counting

SLOT_BYTES = 8
# Rates are of about the last minute, in steps of so many seconds.
STEP_SECONDS, STEPS = 10.0, 6


class Counters:
    """`is_paused`: a process that rehearses counts nothing."""

    def __init__(self) -> None:
        self._file = -1  # what is locked, once there are others
        self._now = memoryview(mmap.mmap(-1, counting.COUNT * SLOT_BYTES)).cast("d")
        # As they were a minute ago; when that was stands before them.
        self._then = memoryview(mmap.mmap(-1, (1 + counting.COUNT) * SLOT_BYTES)).cast("d")
        self._mine: dict[int, float] = {}
        self._steps: deque[tuple[float, array[float]]] = deque(maxlen=STEPS)
        self.is_paused = False

    def share(self) -> list[int]:
        """Before the first fork: from now on there may be others. The descriptors that it needs."""
        if self._file < 0:
            self._file = os.memfd_create("counters")
        return [self._file]

    def add(self, name: str, *labels: str, by: float = 1) -> None:
        """So many more."""
        if by and not self.is_paused:
            number = counting.slot(name, *labels)
            self._mine[number] = self._mine.get(number, 0) + by

    def news(self, way: str, count: int) -> None:
        """So many bytes were "sent" to other nodes, or "received" from them, as news."""
        self.add(way, "nodes", by=count)

    def took(self, seconds: float) -> None:
        """A look-up took so long."""
        if not self.is_paused:
            number = counting.bucket(seconds)
            self._mine[number] = self._mine.get(number, 0) + 1
            self._mine[counting.SUM_SLOT] = self._mine.get(counting.SUM_SLOT, 0) + seconds

    @property
    def has_some(self) -> bool:
        """Whether this process has counted what is not with the others' yet."""
        return bool(self._mine)

    def flush(self) -> None:
        """To the others', unless somebody else is at it this very moment: then at the next time."""
        if not self._mine:
            return
        try:
            self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        try:
            for number, by in self._mine.items():
                self._now[number] += by
            self._mine.clear()
        finally:
            self._lock(fcntl.LOCK_UN)

    def _lock(self, how: int) -> None:
        if self._file >= 0:
            fcntl.lockf(self._file, how)

    def value(self, name: str, *labels: str) -> float:
        """What one has come to, of all processes that have put it there."""
        return self._now[counting.slot(name, *labels)]

    def told(self) -> dict[str, object]:
        """As STATUS tells them, with all that this process has counted."""
        self.flush()
        return counting.told(self._now.tolist())

    def step(self) -> None:
        """Every STEP_SECONDS, by the discoverer: rates are counted from the oldest of the last steps on."""
        self._steps.append((time.monotonic(), array("d", self._now)))
        at, slots = self._steps[0]
        self._then[1:] = memoryview(slots)
        self._then[0] = at

    def rates(self) -> dict[str, float]:
        """A second, over the last minute; empty before there was one step."""
        at = self._then[0]
        seconds = time.monotonic() - at
        return counting.rates(self._now.tolist(), self._then[1:].tolist(), seconds) if at and seconds > 0 else {}
