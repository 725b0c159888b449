"""The switchboard: all conversations of the discoverer with other nodes, in one loop, without a thread.

Outwards they are `lines`, inwards `callers`; here is the selector that they share, and the turn of the loop. What is said and
answered is the business of those who hand it in; when to look at the clock again, `next_at` says.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

from bdserver.processes.callers import Answerer, Caller, Callers
from bdserver.processes.line import Line
from bdserver.processes.lines import Lines
from bdserver.processes.names import Names
from bdserver.processes.node import Node


class Switchboard:
    """`answer` fills slots of callers; `hung_up`, `came_late` and `patience` are as `Lines` has them."""

    def __init__(
        self,
        node: Node,
        listening: list[socket.socket],
        names: Names,
        answer: Answerer,
        hung_up: Callable[[str], None],
        came_late: Callable[[str], None],
        patience: Callable[[float], float] = lambda seconds: seconds,
    ) -> None:
        self.selector = selectors.DefaultSelector()
        self.lines = Lines(node, self.selector, names, hung_up, came_late, patience)
        self.callers = Callers(node, self.selector, listening, answer, patience)

    def turn(self, patience: float) -> list[Any]:
        """Wait for at most so many seconds, and do what can be done; the `data` of descriptors that others have registered."""
        self.callers.listen()
        foreign, due_at = [], self.next_at()
        for key, _ in self.selector.select(max(min(patience, due_at - time.monotonic()), 0.0)):
            match key.data:
                case Line():
                    self.lines.step(key.data)
                case Caller():
                    self.callers.step(key.data)
                case socket.socket():
                    self.callers.accept(key.data)
                case other:
                    foreign.append(other)
        if time.monotonic() >= due_at:
            self.lines.on_time()
            self.callers.on_time()
        return foreign

    def next_at(self) -> float:
        """When the next patience ends."""
        return min(self.lines.next_at(), self.callers.next_at())

    def renew(self) -> None:
        """Hang up everywhere: keys, rules or black list are others now."""
        self.lines.renew()
        self.callers.dismiss_all()
