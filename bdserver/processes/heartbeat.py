"""The heartbeat: the discoverer asks its own listener once a second, the way callers go: a connection, a PING, its PONG.

So whether this node lives is the node's own knowledge, and a probe from outside costs one small message on an open connection.
A listener that does not answer in time hangs: then the discoverer says so to the mesh, and answers for the node no longer,
until the listener does again. A socket whose file is gone, or another one, says nothing of it: it is the listener's to mend.
One that hangs up at once, as it does when all its children are busy, does not hang: else whoever fills them could have the node
declared dead; nor one whose queue is full while it accepts, or in whose queue the question waits then, or any local user could.
Nor does one that is late on a machine that is short of time, when the discoverer is late itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable

from bdserver.core import messages
from bdserver.core.messages import Opening, Pong
from bdserver.core.ticks import following
from bdserver.core.wire import Decoder, encode
from bdserver.errors import BDError, TooBusy

BEAT_SECONDS = 1.0
# A spare child answers in a millisecond; on a machine that swaps, in some hundreds of them. Where the discoverer's own loop is
# late, as when the listener forks for hundreds, it waits longer.
PATIENCE = 2.0
# While it accepts others, a question may wait so long in its queue: for a hundred of them, each of which a child is forked for.
CROWDED_PATIENCE = 10.0
# One that has never answered may be on its way: a hundred nodes that start on one machine take so long.
START_SECONDS = 30.0

log = logging.getLogger("bdserver.heartbeat")


class Heartbeat:
    """One question at a time, the first at `beat_at`, over the local socket; registered in `selector` with itself for data.

    `patience(seconds)`: how long to wait now for what takes less when all is well; `accepted_at()`: when the listener accepted
    somebody last."""

    def __init__(
        self,
        path: str,
        selector: selectors.BaseSelector,
        beat_at: float,
        patience: Callable[[float], float] = lambda seconds: seconds,
        accepted_at: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._path, self._selector, self._patience, self._accepted_at = path, selector, patience, accepted_at
        self._sock: socket.socket | None = None
        self._decoder = Decoder()
        self._asked_at = self._beat_at = beat_at
        self._seconds = PATIENCE  # that this question may take
        self._answered_at = beat_at + START_SECONDS  # until then it may be on its way
        self._file: tuple[int, int] | None = None  # device and inode of the socket on which it did so last
        self.is_hung = self.is_short = False  # the listener hangs; this process had no descriptor to ask it

    def next_at(self) -> float:
        """When it is to look at the clock again."""
        return self._asked_at + self._seconds if self._sock is not None else self._beat_at

    def due(self, clock: float) -> None:
        """Ask, or lose patience."""
        if self._sock is not None:
            if clock < self._asked_at + self._seconds:
                return
            if self._accepted_at() > clock - BEAT_SECONDS and clock < self._asked_at + CROWDED_PATIENCE:
                self._seconds += BEAT_SECONDS
            else:
                self._over("no answer")
        elif clock >= self._beat_at:
            self._ask(clock)

    def _ask(self, clock: float) -> None:
        self._asked_at, self._beat_at = clock, following(self._beat_at, BEAT_SECONDS, clock)
        self._seconds, self._decoder = self._patience(PATIENCE), Decoder()
        try:
            sock = socket.socket(socket.AF_UNIX)
        except OSError as error:  # this process lacks something, which says nothing of the listener
            log.debug("our listener is not asked: %s", error.strerror)
            self._answered_at, self.is_short = clock, True
            return
        self.is_short = False
        sock.setblocking(False)
        try:
            sock.connect(self._path)
            sock.send(encode(messages.opened(Opening(deadline=self._seconds))) + encode(["PING"]))
        except OSError as error:
            sock.close()
            is_crowded = isinstance(error, BlockingIOError) and self._accepted_at() > clock - self._seconds
            if is_crowded or (self._file is not None and _identity(self._path) != self._file):
                self._answered_at = clock
                return
            self._over(error.strerror or str(error))
            return
        self._sock = sock
        self._selector.register(sock, selectors.EVENT_READ, self)

    def ready(self) -> None:
        """Something came, or the connection has ended."""
        if self._sock is None:
            return
        try:
            data = self._sock.recv(4096)
            if not data:
                raise ConnectionResetError
            self._decoder.feed(data)
            message = self._decoder.next_message()
            if message is None:
                return
            answer = messages.decode("PING", message)
        except ConnectionResetError:
            self._over("")  # it has accepted, and has nobody to spare
            return
        except (OSError, BDError) as error:
            self._over(str(error))
            return
        self._over("" if isinstance(answer, Pong) or answer.code == TooBusy.code else answer.text)

    def _over(self, reason: str) -> None:
        """This question is; `reason` is empty when it was answered."""
        if self._sock is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._sock)
            self._sock.close()
            self._sock = None
        # One that was refused at once, because the listener restarts its socket or is busy, has the same patience as silence.
        is_hung = bool(reason) and (self.is_hung or time.monotonic() >= self._answered_at + self._seconds)
        if not reason:
            self._answered_at, self._file = time.monotonic(), _identity(self._path)
        if is_hung != self.is_hung:
            self.is_hung = is_hung
            if is_hung:
                log.error("our listener does not answer (%s): the mesh is told, and probes are not answered", reason)
            else:
                log.warning("our listener answers again")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
