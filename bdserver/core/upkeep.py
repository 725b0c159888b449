"""What the services of one node need, and when: whose turn it is, what waits for how long, who was asked.

What is due follows from the view alone (core.copies). Here is what a node remembers beside it: when its copies came and were
called, since when the same nodes hold them, what failed and is tried again after growing pauses, which nodes would not take a
copy. Out come errands; whoever runs them says how each one ended. A service has one errand at a time, and one more to find it
another holder. The clock is handed in and never steps, whatever the wall clock does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from types import MappingProxyType

from bdserver.core import copies, turns
from bdserver.core.copies import Go, Held, Renew
from bdserver.core.membership import Edition, Record, Service
from bdserver.core.tuples import NamedTuple
from bdserver.core.turns import Errand, Lately, Place
from bdserver.core.view import View

# At once, for all services: each is a thread, and a child.
ERRANDS_MAX = 4
# After a failure; then twice as long each time. Another node can be asked to take a copy sooner than the same one for its file.
PAUSE_SECONDS, PAUSE_SECONDS_MAX, PLACE_PAUSE_SECONDS_MAX = 0.5, 60.0, 8.0
# Many copies that hear of a new edition at once do not all ask for it at once: so many a second begin.
RENEWALS_A_SECOND = 20
# A node that would not take a copy is not asked again for so long; of one that took it, the mesh knows before this.
REFUSED_SECONDS, HEARD_SECONDS = 20.0, 5.0

_LOOK, _TEND, _PLACE = "look", "tend", "place"
_Key = tuple[str, str]  # what is done, for which service


class Look(NamedTuple):
    """The files of these services changed, or were never looked at: which editions are they?"""

    names: tuple[str, ...]


class Rules(NamedTuple):
    """What the node's settings and policies say: after how many seconds without a call a copy wishes to retire, and
    `may_have(name, record)`: whether that node may be asked to take a copy; `unoffered`: copies here that our record does not
    tell of, since nobody has signed them, and that may be renewed all the same; `are_apart(a, b)`: the policies of these two
    nodes are known, and don't meet."""

    replica_idle: float
    may_have: Callable[[str, Record], bool]
    unoffered: Mapping[str, Held] = MappingProxyType({})
    are_apart: Callable[[str, str], bool] = lambda a, b: False


class _Pause(NamedTuple):
    until: float
    seconds: float
    why: str


class _Asked(NamedTuple):
    until: float
    has_it: bool


class _Copy:
    """What is remembered of a copy of ours. `arrived`: the epoch second in its .bdcert, by which it is told from one that was
    here before."""

    def __init__(self, arrived: float, clock: float, wall: float, is_on_demand: bool) -> None:
        self.arrived, self.arrived_at = arrived, clock - max(wall - arrived, 0.0)
        self.called_at = self.steady_since = self.joined_at = clock
        self.is_on_demand = is_on_demand
        self.holders: frozenset[str] = frozenset()

    def notice(self, view: View, name: str, service: Service, clock: float) -> Lately:
        """Who has it now. It is here on demand if it came for a call, and there were and are enough holders without it."""
        holders = frozenset(record.name for record in turns.kin(view, name, service))
        if not holders <= self.holders:
            self.joined_at = clock
        if holders != self.holders:
            self.holders, self.steady_since = holders, clock
        self.is_on_demand = self.is_on_demand and len(holders) > turns.wanted_by(view, name, service)
        return Lately(self.arrived_at, self.called_at, self.steady_since, self.joined_at, self.is_on_demand)


class Upkeep:
    """The memory of one node. `idle`: copies that wish to retire -> the epoch second of their last call, for its record."""

    def __init__(self, rng: Random) -> None:
        self.idle: dict[str, int] = {}
        self._rng = rng
        self._copies: dict[str, _Copy] | None = None
        self._running: set[Errand | Look] = set()
        self._at_work: set[_Key] = set()
        self._pauses: dict[_Key, _Pause] = {}
        self._turns: dict[str, tuple[Edition, float]] = {}  # service -> the edition it is to become, and when
        self._asked: dict[tuple[str, str], _Asked] = {}  # (service, node) that was to take a copy
        self._unplaced: dict[str, str] = {}
        self._is_for_all = True  # originals that want no copies are to be seen to, too

    def note(self, arrived: Mapping[str, float], called: Iterable[str], clock: float, wall: float) -> None:
        """Our copies, with the epoch second at which each has come, and the services that are called these days."""
        called, before = set(called), self._copies
        self._copies = {}
        for name, at in arrived.items():
            copy = before.get(name) if before is not None else None
            if copy is None or copy.arrived != at:  # what lay here when we began has not come for a call
                copy = _Copy(at, clock, wall, is_on_demand=before is not None and name in called)
            if name in called:
                copy.called_at = clock
            self._copies[name] = copy
        self._is_for_all = True

    def look(self, names: Iterable[str], clock: float) -> Look | None:
        """To look at those of these services that nothing is done for now: they have changed, and no others have."""
        keys = {(_LOOK, name) for name in names}
        self._forgive((_LOOK,), keys)
        look = Look(tuple(sorted(name for _, name in keys if self._is_free((_LOOK, name), clock))))
        return look if look.names and self._begin(look, clock) else None

    def due(self, view: View, clock: float, wall: float, rules: Rules) -> list[Errand]:
        """What is to be begun now. Withdrawals come first; originals that want no copies, which may be many, are seen to once
        after each `note`."""
        self._asked = {each: asked for each, asked in self._asked.items() if asked.until > clock}
        self._turns = {name: turn for name, turn in self._turns.items() if name in view.own.services}
        self.idle, self._unplaced = {}, {}
        found: list[Errand] = []
        still_due = set()
        for name, service in view.own.services.items():
            if not self._is_for_all and not service.original and not service.replicas:
                still_due.add((_TEND, name))
            elif errand := self._tended(view, name, service, clock, wall, rules):
                found.append(errand)
            if self._lacks(view, name, service):
                still_due.add((_PLACE, name))
                if self._is_free((_PLACE, name), clock) and (place := self._placed(view, name, rules.may_have)):
                    found.append(place)
        for name, copy in rules.unoffered.items():
            if renewed := copies.to_renew(view, name, copy) or copies.to_withdraw(view, name, copy):
                found.append(renewed)
        self._is_for_all = False
        self._forgive((_TEND, _PLACE), {key for errand in found for key in _keys(errand)} | still_due)
        found.sort(key=lambda errand: not isinstance(errand, Go))
        return [errand for errand in found if self._begin(errand, clock)]

    def over(self, errand: Errand | Look, failed: Mapping[str, str], clock: float) -> None:
        """How it ended: for the services that it failed for, why."""
        self._running.discard(errand)
        for key in _keys(errand):
            self._at_work.discard(key)
            if key[1] in failed:
                self._pause(key, failed[key[1]], clock)
            else:
                self._pauses.pop(key, None)
        if isinstance(errand, Place) and not failed:  # its record, which says so, is on its way
            self._asked[errand.name, errand.node] = _Asked(clock + HEARD_SECONDS, True)

    def failing(self) -> list[str]:
        """What could not be done, and is still to be, a line each, and none twice, though a look and its turn failed alike."""
        return sorted({*(f"{name}: {pause.why}" for (_, name), pause in self._pauses.items()), *self._unplaced.values()})

    # -- what is due

    def _tended(self, view: View, name: str, service: Service, clock: float, wall: float, rules: Rules) -> Errand | None:
        if why := turns.shut_out(view, name, rules.are_apart):
            return Go(name, "retired", why)
        copy = self._copies.get(name) if self._copies is not None and service.original else None
        lately = copy.notice(view, name, service, clock) if copy is not None else None
        if lately and turns.wishes_to_retire(lately, clock, rules.replica_idle) and turns.can_spare(view, name):
            self.idle[name] = int(wall - (clock - lately.called_at))
        if renewal := copies.to_renew(view, name, service):
            return renewal if clock >= self._turn(view, renewal, clock) else None
        return (
            copies.to_withdraw(view, name, service)
            or copies.to_raise(view, name, service)
            or (turns.to_retire(view, name, lately, clock, rules.replica_idle) if lately else None)
        )

    def _turn(self, view: View, renewal: Renew, clock: float) -> float:
        """When we begin: each of those that have an old edition draws for itself, and those before it can give it too."""
        edition, at = self._turns.get(renewal.name, (None, 0.0))
        if edition != renewal.edition:
            old = sum(record.services[renewal.name].edition != renewal.edition for record in view.holders(renewal.name))
            at = clock + self._rng.uniform(0, (old - 1) / RENEWALS_A_SECOND)
            self._turns[renewal.name] = renewal.edition, at
        return at

    def _lacks(self, view: View, name: str, service: Service) -> bool:
        """Whether we are to see to one more holder, beside those whose record is on its way."""
        if not service.original and not service.replicas:
            return False
        took = [node for (each, node), asked in self._asked.items() if each == name and asked.has_it]
        coming = [node for node in took if node in view.records and name not in view.records[node].services]
        return turns.missing(view, name) > len(coming)

    def _placed(self, view: View, name: str, may_have: Callable[[str, Record], bool]) -> Place | None:
        asked = [node for each, node in self._asked if each == name]
        place = turns.to_place(view, name, lambda record: may_have(name, record), asked, self._rng)
        if place is None:
            wanted = turns.wanted(view, name)
            self._unplaced[name] = f"{name}: {wanted} holders are wanted, and no node can take one more copy"
        return place

    # -- errands

    def _is_free(self, key: _Key, clock: float) -> bool:
        """Whether nothing is done about it now, and it is not to wait."""
        kind, name = key
        at_work = {(_PLACE, name)} if kind == _PLACE else {(_LOOK, name), (_TEND, name)}
        return not at_work & self._at_work and not (key in self._pauses and clock < self._pauses[key].until)

    def _begin(self, errand: Errand | Look, clock: float) -> bool:
        keys = _keys(errand)
        if len(self._running) >= ERRANDS_MAX or not all(self._is_free(key, clock) for key in keys):
            return False
        self._running.add(errand)
        self._at_work |= set(keys)
        if isinstance(errand, Place):
            self._asked[errand.name, errand.node] = _Asked(clock + REFUSED_SECONDS, False)
        return True

    def _pause(self, key: _Key, why: str, clock: float) -> None:
        before, most = self._pauses.get(key), PLACE_PAUSE_SECONDS_MAX if key[0] == _PLACE else PAUSE_SECONDS_MAX
        seconds = min(2 * before.seconds, most) if before else PAUSE_SECONDS
        self._pauses[key] = _Pause(clock + self._rng.uniform(seconds / 2, seconds), seconds, why)

    def _forgive(self, kinds: tuple[str, ...], still_due: set[_Key]) -> None:
        """What is not to be done any more has not failed."""
        still_due |= self._at_work
        self._pauses = {key: pause for key, pause in self._pauses.items() if key[0] not in kinds or key in still_due}


def _keys(errand: Errand | Look) -> list[_Key]:
    if isinstance(errand, Look):
        return [(_LOOK, name) for name in errand.names]
    return [(_PLACE if isinstance(errand, Place) else _TEND, errand.name)]
