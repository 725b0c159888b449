"""How busy this node is: the weight of each service here, as its logged calls make it, and whether that is too much.

Promises that a question costs a look at the hits of those services alone that were called lately (`files.hitlog`), so a node
with many services answers as fast as one with few. How calls weigh is decided in `core.weight`; that a call is logged is the
business of `Node.hit`, and what an overloaded node says of `answers.routing`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping

from bdserver.core import weight
from bdserver.core.tickets import NOT_BEFORE_MAX
from bdserver.errors import NoSpace
from bdserver.files.bdcert import Service
from bdserver.files.hitlog import HitLog
from bdserver.files.services import Services

# Calls a minute.
CALLS_SECONDS = 60


class Load:
    """As one process of a node sees it. `threshold()`: the receiver_threshold in force."""

    def __init__(self, services: Services, hitlog: HitLog, threshold: Callable[[], float]) -> None:
        self._services, self._hitlog, self._threshold = services, hitlog, threshold

    def weights(self, now: float) -> dict[str, float]:
        """service -> weight, of all services here, by a look at each one's hits."""
        return {name: self._weight(each, now) for name, each in self._services.all().items()}

    def _weight(self, service: Service, now: float, ahead: float = 0.0) -> float:
        if not ahead:
            return self._hitlog.weight(service.name, service.cost, now)
        return weight.weight(self._hitlog.runs(service.name, now), service.cost, now + ahead)

    def calls_between(self, after: int, until: int, now: float) -> int:
        """How many calls came behind one second and up to another one, within the last minute, of all services together."""
        return sum(self._calls(name, after, until, now) for name in self._hitlog.called())

    def calls(self, now: float) -> dict[str, int]:
        """service -> how many calls within the last minute, of those that were called lately."""
        second = int(now)
        return {name: self._calls(name, second - CALLS_SECONDS, second, now) for name in self._hitlog.called()}

    def _calls(self, name: str, after: int, until: int, now: float) -> int:
        runs = self._hitlog.runs(name, now)
        return sum(count for kind, second, count in runs if kind == weight.HIT and after < second <= until)

    def total_weight(
        self, now: float, asked: str | None = None, found: Mapping[str, Service] | None = None, ahead: float = 0.0
    ) -> float:
        """The sum of all weights, by a look at the hits of those that were called lately, and of the one that is asked for.
        `found`: the services here, by who has just looked; `ahead`: so many seconds from now on, if nobody calls."""
        services, names = self._services.all() if found is None else found, self._hitlog.called()
        if asked is not None and asked not in names:
            names |= {asked}
        return math.fsum([self._weight(services[name], now, ahead) for name in names if name in services])

    def weigh(self, now: float) -> dict[str, float]:
        """service -> weight, by a look at each one's hits; for the processes that do not look so far, which were called is
        written down."""
        before, weights = self._hitlog.called(), self.weights(now)
        # Where that can't be, each process counts what it has logged itself, and what it is asked for.
        with contextlib.suppress(OSError, NoSpace):
            self._hitlog.list_called({name for name, each in weights.items() if each > 0}, before)
        return weights

    def is_overloaded(self, now: float, asked: str | None = None, found: Mapping[str, Service] | None = None) -> bool:
        """The original's test: the sum of weights exceeds receiver_threshold."""
        return weight.is_overloaded(self.total_weight(now, asked, found), self._threshold())

    def room_in(self, now: float, asked: str, found: Mapping[str, Service]) -> float:
        """Of an overloaded node: for how many seconds it stays so even if nobody calls, at most NOT_BEFORE_MAX."""
        begun = now % 1  # weight changes with the second
        seconds = 1.0
        while seconds <= NOT_BEFORE_MAX:
            total = self.total_weight(now, asked, found, seconds)
            if not weight.is_overloaded(total, self._threshold()):
                return round(seconds - begun, 3)
            seconds += 1.0
        return NOT_BEFORE_MAX
