"""A look-up that comes again: on the same connection, in the very words of the one before, in a world that has not changed.

What was checked of it and worked out for it then still holds. New with each call is only whether the node that was named takes
one more: this node by its load and a line in its hit log, another one by a ticket. So a caller that asks for one service on and
on costs that, and a look at the world. Whether a request is such a one is the business of `child`, what a first one takes that
of `answers.routing`; what is noted of the others is told ten times a second, with what is counted.
"""

from __future__ import annotations

from collections.abc import Callable

from bdserver.core.messages import Place
from bdserver.processes import lookups
from bdserver.processes.node import Node
from bdserver.processes.world import World

# Why a host was named that nobody asked, for those who look at the last look-ups.
BY_TICKET = "it had promised this call ahead"


class Repeat:
    """How it is answered: `said` once more, if a look shows `world` and `agrees(now)` says that one more call is taken."""

    def __init__(
        self, node: Node, host: str, world: World, said: Place, is_by_ticket: bool, agrees: Callable[[float], bool]
    ) -> None:
        self._node, self._host, self._is_by_ticket = node, host, is_by_ticket
        self.world, self.said, self.agrees = world, said, agrees
        self.noted: list[tuple[float, float]] = []  # when, and the seconds that it took

    def is_same_world(self) -> bool:
        """Whether a look shows what it showed then."""
        node = self._node
        return node.world(node.cache.view(), node.services.all()) is self.world

    def tell(self) -> None:
        """Those that were noted are for the other processes to see."""
        noted, node, details = self.noted, self._node, self.said.details
        by, why = ("ticket", BY_TICKET) if self._is_by_ticket else ("question", "")
        node.counters.add("requests", "WHEREIS", "place", by=len(noted))
        node.counters.add("lookups", str(details["phase"]), by, by=len(noted))
        for _, seconds in noted:
            node.counters.took(seconds)
        for at, _ in noted[-lookups.KEPT :]:
            node.lookups.note(at, self._host, details, why)
        noted.clear()
