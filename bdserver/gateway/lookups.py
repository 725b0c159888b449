"""Asking the local node: a few connections that stay open, shared by all threads that look up.

Promises an answer within its deadline, or the BDError that bdwhereis would end with. No more than `count` questions are under
way at once; whoever finds all busy waits for a part of its time, and is then told TooBusy: a flood of questions here must not
become one at the node.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from bdserver.api import Mesh
from bdserver.core import pages
from bdserver.core.messages import Status
from bdserver.errors import TooBusy
from bdserver.net.conversation import Conversation
from bdserver.net.entrances import located

# Of its time, so much may a question wait for its turn.
WAIT_SHARE = 0.5

Result = TypeVar("Result")


class Lookups:
    """The connections; each look-up is one call that the host named has counted."""

    def __init__(self, socket: str, count: int, seconds: float, refused: Callable[[], None] = lambda: None) -> None:
        """`seconds`: of every question, and may be changed at any time; `refused` hears of each that found all busy."""
        self.seconds, self._refused = seconds, refused
        # The one that was used last is used next: where little is asked, one connection stays open.
        self._free: queue.LifoQueue[Mesh] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(Mesh(socket=socket, timeout=seconds))

    def whereis(self, service: str, policy: str | None = None, until: float | None = None) -> dict[str, Any]:
        """The details of `bdwhereis --json`; `until`: an earlier deadline than that of every question."""
        request = ["WHEREIS", service, policy]
        return located(service, self._ask(lambda talk, deadline: talk.ask(request, deadline), until))

    def status(self) -> Status:
        """How the node is, and which nodes it knows."""
        return self._ask(pages.status_of)

    def own(self) -> dict[str, Any]:
        """How the node itself is: in brief, since of the others nothing is wanted."""
        return self._ask(lambda talk, deadline: pages.status_of(talk, deadline, {"brief": True})).own

    def ping(self) -> str | None:
        """The digest of the node's view."""
        digest: str | None = self._ask(lambda talk, deadline: talk.ask(["PING"], deadline)).digest
        return digest

    def close(self) -> None:
        """Hang up all that are not in use."""
        while not self._free.empty():
            self._free.get_nowait().close()

    def _ask(self, say: Callable[[Conversation, float], Result], until: float | None = None) -> Result:
        latest = time.monotonic() + self.seconds
        latest = latest if until is None else min(until, latest)
        with self._one() as mesh:
            mesh.timeout = self.seconds
            result: Result = mesh.ask(lambda talk, deadline: say(talk, min(deadline, latest)))
            return result

    @contextmanager
    def _one(self) -> Iterator[Mesh]:
        try:
            mesh = self._free.get(timeout=self.seconds * WAIT_SHARE)
        except queue.Empty:
            self._refused()
            raise TooBusy("as many look-ups are under way as lookups_max allows") from None
        try:
            yield mesh
        finally:
            self._free.put(mesh)
