"""How threads and signals reach the loop of their process: what they hand over is done there, and there alone.

A pipe that the loop waits on, and a queue beside it. A thread puts a function in; the loop, woken by a byte, calls it. So
whatever only the loop may touch needs no lock.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
from collections.abc import Callable


class Wakeup:
    """One for each loop. `call` is for any thread, everything else for the loop's own."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def fileno(self) -> int:
        """The descriptor that becomes readable; for select."""
        return self._read

    def call(self, function: Callable[[], None]) -> None:
        """Have the loop call this soon."""
        self._calls.put(function)  # this first: the loop empties the pipe, then the queue
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes it too
            if (write := self._write) >= 0:
                os.write(write, b"\0")

    def catch_signals(self) -> None:
        """Have each signal with a handler wake the loop as well."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def drain(self) -> None:
        """Do what was asked for until now."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 65536)
        for _ in range(self._calls.qsize()):
            self._calls.get()()

    def close(self) -> None:
        """The loop has ended: what a thread hands over from now on, nobody does."""
        write, self._write = self._write, -1  # this first: a number that is closed may soon be another file's
        os.close(write)
        os.close(self._read)
