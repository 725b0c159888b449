"""The listener's loop: descriptors that it waits for, what is due at which time, and no error that ends it.

A bug in what it calls is said, and the loop goes on; where there is no room (descriptors, memory, processes), its owner decides
what is let be for a moment. What a turn of it does is its owner's business.
"""

from __future__ import annotations

import errno
import logging
import math
import selectors
import time
from collections.abc import Callable

log = logging.getLogger("bdserver.listener")

NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ENOSPC)
# The same line is written this often at most, since a flood of connections must not be one of lines.
SAY_SECONDS = 1.0
# A loop that meets the same bug again and again must not take a whole core for it.
BUG_PAUSE = 0.1


class Loop:
    """Of one thread. `no_room(error)`: called when there is none; what is registered at `selector` has as its data the function
    that is called with it."""

    def __init__(self, no_room: Callable[[OSError], None]) -> None:
        self.selector = selectors.DefaultSelector()
        self._agenda: dict[Callable[[], None], float] = {}  # what is to be done, and when
        self._no_room = no_room
        self._said_at: dict[str, float] = {}

    def wait(self, until: float) -> bool:
        """Call what is ready by then, or has become due; and whether anything was ready."""
        until = min([until, *self._agenda.values()])
        events = self.selector.select(max(until - time.monotonic(), 0.0) if until < math.inf else None)
        for key, _ in events:
            self.guarded(key.data, key.fileobj)
        now = time.monotonic()
        for act, at in list(self._agenda.items()):
            if now >= at:
                self._agenda.pop(act, None)
                self.guarded(act)
        return bool(events)

    def call_later(self, seconds: float, act: Callable[[], None]) -> None:
        """Once, after so many seconds from now on; it is called at no other time that was said before."""
        self._agenda[act] = time.monotonic() + seconds

    def cancel(self, act: Callable[[], None]) -> None:
        """It is not called any more."""
        self._agenda.pop(act, None)

    def guarded(self, act: Callable[..., object], *arguments: object) -> None:
        """Nothing that goes wrong within ends the loop: neither lack of room, nor a bug, be it of what was handed in."""
        try:
            act(*arguments)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                self._no_room(error)
            else:
                self.seldom(log.exception, "the listener met a bug, and goes on")
                time.sleep(BUG_PAUSE)

    def seldom(self, say: Callable[..., None], text: str, *arguments: object) -> None:
        """Say it, unless the same was said a moment ago."""
        now = time.monotonic()
        if now - self._said_at.get(text, -math.inf) >= SAY_SECONDS:
            self._said_at[text] = now
            say(text, *arguments)
