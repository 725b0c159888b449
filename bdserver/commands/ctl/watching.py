"""bdctl watch: the mesh as it is, then what changes in it, as it changes.

The node is asked for its digest some times a second on a connection that stays open, and for all it knows when that is another.
What was known before a silence is compared with what is known after it, so whatever happened meanwhile is told; core.changes
says what counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from bdserver.commands.output import refuse_unread
from bdserver.core.changes import Change, Node, changes, named
from bdserver.errors import BDError

POLL_SECONDS = 0.2
# What is no record (hints that are visited) changes no digest: now and then all is looked at.
WHOLE_SECONDS = 30.0


class Watch:
    """`ping()` returns the digest of the node's view, `look()` the nodes that it knows; `say(at, change)` prints."""

    def __init__(
        self, ping: Callable[[], str], look: Callable[[], list[Node]], say: Callable[[float, dict[str, object]], None]
    ) -> None:
        self._ping, self._look, self._say = ping, look, say
        self._nodes: dict[str, Node] | None = None
        self._digest, self._looked_at = "", float("-inf")
        self._is_silent = False

    def turn(self, clock: float, wall: float) -> None:
        """One look. Silence is a change too; before the first answer it is an error."""
        try:
            digest = self._ping()
            is_same = bool(digest) and digest == self._digest and clock - self._looked_at < WHOLE_SECONDS
            if is_same and not self._is_silent:
                return
            nodes = named(self._look())
        except BDError as error:
            if self._nodes is None:
                raise
            if not self._is_silent:
                self._say(wall, {"node": "this node", "kind": "silent", "change": f"does not answer: {error}"})
            self._is_silent = True
            return
        if self._is_silent:
            self._say(wall, {"node": "this node", "kind": "answers", "change": "answers again"})
        self._is_silent = False
        for fact in state(nodes) if self._nodes is None else map(Change.facts, changes(self._nodes, nodes)):
            self._say(wall, {**fact})
        self._digest, self._looked_at, self._nodes = digest, clock, nodes


def state(nodes: dict[str, Node]) -> list[dict[str, object]]:
    """A fact for each node: how it is, and which services it has of which type."""
    return [
        {"node": name, "kind": "state", "change": _at_first(node), "status": node["status"], "services": node["types"]}
        for name, node in sorted(nodes.items())
    ]


def _at_first(node: Node) -> str:
    offers = ", ".join(f"{service} ({kind})" for service, kind in sorted(node["types"].items()))
    draining = ", drains" if node["draining"] else ""
    return f"is {node['status']}, at {node['address']}{draining}" + (f", offers {offers}" if offers else "")


def watch(ping: Callable[[], str], look: Callable[[], list[Node]], as_json: bool) -> None:
    """Print a line for each node, then for each change, until interrupted."""
    watched = Watch(ping, look, _in_json if as_json else _in_words)
    while True:
        watched.turn(time.monotonic(), time.time())
        time.sleep(POLL_SECONDS)
        refuse_unread()


def _in_json(at: float, facts: dict[str, object]) -> None:
    print(json.dumps({"at": round(at, 3), **facts}), flush=True)


def _in_words(at: float, facts: dict[str, object]) -> None:
    print(f"{time.strftime('%H:%M:%S', time.localtime(at))}  {facts['node']} {facts['change']}", flush=True)
