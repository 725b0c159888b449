"""Signals of the listener: noted as they come, acted on by its loop, where nothing is half done."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)


class Signals:
    """Signals as bytes in a pipe, so that the loop wakes up for them and acts where nothing is half done."""

    def __init__(self) -> None:
        self.read = self._write = -1

    def open(self) -> None:
        """From now on they are noted."""
        self.read, self._write = os.pipe()
        os.set_blocking(self.read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _note)

    def noted(self) -> Iterable[int]:
        """Each once, however often it came, in the order in which they came."""
        with contextlib.suppress(BlockingIOError):
            return dict.fromkeys(os.read(self.read, 1 << 16))
        return ()

    def close(self) -> None:
        """In a forked process: they are the parent's."""
        os.close(self.read)
        os.close(self._write)


def _note(number: int, frame: object) -> None:
    """The wake-up descriptor has it already; the loop acts."""


def kill(pid: int, number: int) -> None:
    """Send it, if that process is there still."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
