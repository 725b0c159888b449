"""How the demo is interrupted: once, and never in the middle of what must be known to whoever cleans up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Ending:
    """Ctrl-C, SIGTERM and a closed terminal. The first of them is a KeyboardInterrupt; what comes later is passed over, so that
    cleaning up is not interrupted."""

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._is_held = self._came = self._is_over = False

    def install(self) -> None:
        """From now on they are ours."""
        for number in self.NUMBERS:
            signal.signal(number, self._take)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A step that is done whole: the interruption comes behind it."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._came and not self._is_over:
            self._raise()

    def over(self) -> None:
        """Nothing is interrupted any more."""
        self._is_over = True

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        if not self._is_held and not self._is_over:
            self._raise()

    def _raise(self) -> None:
        self._is_over = True
        raise KeyboardInterrupt
