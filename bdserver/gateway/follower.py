"""Following the mesh: what the local node knows, looked at once a second, and each change as an event with a number.

A node whose view did not change is asked for its digest alone. Events are kept for those who come back: a watcher that names
the last that it heard is told all that came since, or that it has missed some. Threads may wait for the next one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bdserver.core.changes import Node, changes, named
from bdserver.core.membership import ALIVE
from bdserver.core.messages import Status
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BDError, NobodyThere

POLL_SECONDS = 1.0
# The look at a large mesh takes its time: of one processor, no more than this share.
BUSY_SHARE = 0.1
# A view that keeps its digest is asked for all the same now and then: what is no record, as hints, may have changed.
WHOLE_SECONDS = 30.0
EVENTS_MAX = 1000

log = logging.getLogger("bdserver.gateway")


class Event(NamedTuple):
    """A change, when it was seen, and its number: each is one more than the one before."""

    number: int
    at: float
    facts: dict[str, Any]


class Follower:
    """What the node knows, as of the last look. `ping()` returns the digest of its view, `look()` its STATUS."""

    def __init__(self, ping: Callable[[], str | None], look: Callable[[], Status]) -> None:
        self._ping, self._look = ping, look
        self._news = threading.Condition(threading.RLock())
        self._digest: str | None = None
        self._looked_at = float("-inf")
        self._nodes: dict[str, Node] | None = None
        self._services: dict[str, str] = {}
        self._events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self._number = 0
        self.silence = "it has not answered yet"

    # -- what is known

    @property
    def nodes(self) -> dict[str, Node] | None:
        """name -> node; None before the first look."""
        return self._nodes

    def state(self) -> tuple[dict[str, Node], int]:
        """The nodes, and the number of the last event that led to them; NobodyThere before the first look."""
        with self._news:
            if self._nodes is None:
                raise NobodyThere(self.silence)
            return self._nodes, self._number

    def service(self, name: str) -> str:
        """The name of the service that is meant: DNS knows no capitals. What is not known is meant as it stands."""
        return name if name in self._services.values() else self._services.get(name.lower(), name)

    def has(self, name: str) -> bool:
        """Whether any node that is known, dead ones too, has or had that service."""
        return name.lower() in self._services

    def has_below(self, name: str) -> bool:
        """Whether some service's name ends with that one: to DNS there is something below it."""
        end = "." + name.lower()
        return any(each.endswith(end) for each in self._services)

    def since(self, number: int | None, seconds: float) -> tuple[list[Event] | None, int]:
        """(the events after that one, the number of the last); waits for the first as long as that. None instead of a list when
        some of them are not here any more, or never were: then whoever asks looks at all of it anew."""
        with self._news:
            if number is None or number > self._number or number < self._number - len(self._events):
                return None, self._number
            if number == self._number:
                self._news.wait(seconds)
            return [event for event in self._events if event.number > number], self._number

    # -- looking

    def run(self, stop: threading.Event) -> None:
        """Look once a second until `stop` is set."""
        while not stop.is_set():
            began = time.monotonic()
            try:
                self.turn(began, time.time())
            except Exception:
                log.exception("following the mesh: a bug")
            took = time.monotonic() - began
            stop.wait(max(POLL_SECONDS - took, took / BUSY_SHARE - took))
        with self._news:
            self._news.notify_all()

    def turn(self, clock: float, wall: float) -> None:
        """One look."""
        try:
            digest = self._ping()
            if digest and digest == self._digest and clock - self._looked_at < WHOLE_SECONDS and not self.silence:
                return
            nodes = named(self._look().nodes)
        except BDError as error:
            if not self.silence:
                log.warning("the node does not answer: %s", error)
                self._tell([{"kind": "silent", "change": f"does not answer: {error}", "node": "this node"}], wall)
            self.silence = str(error)
            return
        facts = [each.facts() for each in changes(nodes if self._nodes is None else self._nodes, nodes)]
        if self.silence and self._nodes is not None:
            facts.insert(0, {"kind": "answers", "change": "answers again", "node": "this node"})
            log.info("the node answers again")
        self._digest, self._looked_at, self.silence = digest, clock, ""
        # In this order: of two services that differ in capitals alone, the one that lives is meant.
        ranked = sorted(nodes.values(), key=lambda node: node["status"] == ALIVE)
        self._services = {name.lower(): name for node in ranked for name in (*node.get("unhealthy", ()), *node["services"])}
        with self._news:  # together: a watcher that begins with the nodes hears of each change since, once
            self._nodes = nodes
            self._tell(facts, wall)

    def _tell(self, facts: list[dict[str, Any]], wall: float) -> None:
        with self._news:
            for each in facts:
                self._number += 1
                self._events.append(Event(self._number, wall, {"at": round(wall, 3), **each}))
            if facts:
                self._news.notify_all()
