"""A process that the listener keeps alive, the discoverer: when it is started again, whether it hangs, and the pipes to it.

It forks and kills nothing: that is the listener's business, which tells it what it sees.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

# One that dies at once is started again after this many seconds, doubled each time, up to the second number.
RESTART_PAUSE, RESTART_PAUSE_MAX = 0.25, 30.0
# One that lived this long was well: the pauses begin anew.
WELL_SECONDS = 60.0
# One that has not turned at so many of the listener's own looks hangs, and is ended: 30 s, longer than any disk that comes
# back. Looks are counted, not seconds: the whole host may have been stopped meanwhile.
HUNG_LOOKS = 15


class Supervised:
    """The life of the discoverer, and the two pipes to it: children nudge it through the first, which outlives it; the
    second ends when the listener does, whatever killed it."""

    def __init__(self) -> None:
        self.pid = 0  # 0: there is none now
        self.born_at = 0.0
        self._pause = RESTART_PAUSE
        self._beat: float | None = None
        self._looks = 0  # at which that was the last beat
        self.wake_read, self.wake_write = os.pipe()
        self.life_read, self.life_write = os.pipe()
        os.set_blocking(self.wake_write, False)  # whoever nudges does not wait: if the pipe is full, it is awake anyway
        os.set_blocking(self.wake_read, False)

    def life_of(self, discover: Callable[[int, int], None]) -> Callable[[], None]:
        """The function that the discoverer's process runs."""
        return functools.partial(discover, self.wake_read, self.life_read)

    def is_hung(self, beat: float | None) -> bool:
        """At a look at its last beat: whether there was none for too many of them."""
        self._looks = self._looks + 1 if self.pid and beat is not None and beat == self._beat else 0
        self._beat = beat
        return self._looks >= HUNG_LOOKS

    def pause_after_its_end(self, now: float) -> float:
        """How long to wait until it is started again: twice as long each time, until one was well."""
        if now - self.born_at > WELL_SECONDS:
            self._pause = RESTART_PAUSE
        pause, self._pause = self._pause, min(2 * self._pause, RESTART_PAUSE_MAX)
        return pause

    def forget(self) -> None:
        """In another child: what is the discoverer's alone."""
        os.close(self.wake_read)
