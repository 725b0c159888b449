"""The discoverer's part in copies: it sees what is due, and has its own node do it, by a request on the local socket.

Whenever the view or the services folder has changed, core.copies says which of our copies are to be renewed or go, and which
services of ours need one more holder. A child does it (answers.tending), and a thread waits for that: hashing and fetching take
their time, and the loop has none. A service has one errand at a time; what fails is tried again after growing pauses, and is
a warning.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from bdserver.core import copies
from bdserver.core.copies import Lately
from bdserver.core.membership import Record
from bdserver.core.messages import Ok
from bdserver.core.view import View
from bdserver.errors import BDError
from bdserver.files import package
from bdserver.net import dialling
from bdserver.processes.node import Node

ERRAND_SECONDS = 50.0
# At once, for all services: each is a thread here, and a child.
ERRANDS_MAX = 4
# After a failure; then twice as long each time.
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.5, 60.0
# To look at the stamps of all files of all services may take a fiftieth of our time.
LOOK_SHARE, LOOK_SECONDS = 50, 2.0
# Many copies that hear of a new edition at once do not all ask for it at once: so many a second begin.
RENEWALS_A_SECOND = 20
# A node that would not take a copy is not asked again for so long; of one that took it, the mesh knows before this.
REFUSED_SECONDS, HEARD_SECONDS = 20.0, 5.0


class _Pause(NamedTuple):
    until: float
    seconds: float
    why: str


class _Asked(NamedTuple):
    until: float
    has_it: bool


class Copying:
    """Only the discoverer's loop calls it. `call(function)` has the loop do something soon; `changed()` is called when our own
    record is to be described anew. `idle`: copies that wish to retire, with the epoch second of their last call."""

    def __init__(self, node: Node, call: Callable[[Callable[[], None]], None], changed: Callable[[], None]) -> None:
        self._node, self._call, self._changed = node, call, changed
        self.idle: dict[str, int] = {}
        self._busy: set[str] = set()  # services that have an errand
        self._pauses: dict[str, _Pause] = {}
        self._asked: dict[tuple[str, str], _Asked] = {}  # (service, node) that was to take a copy
        self._looks: dict[str, str] = {}
        self._look_at = 0.0
        self._called_at: dict[str, float] = {}
        self._holders: dict[str, tuple[frozenset[str], float]] = {}  # who has it, and since when
        self._renew_at: dict[tuple[str, str], float] = {}  # (service, digest) -> when our turn comes
        self._seen: View | None = None

    def due(self, weights: dict[str, float], clock: float, wall: float) -> None:
        """A second has passed. `weights`: of our services, by their hits."""
        self._note_calls(weights, wall)
        self._look_at_files(clock)
        self._start(self._node.cache.view(), clock, wall)

    def notice(self, view: View, clock: float, wall: float) -> None:
        """The view may be another one."""
        if view is not self._seen:
            self._seen = view
            if any(service.original or service.replicas for service in view.own.services.values()):
                self._start(view, clock, wall)

    def failing(self) -> list[str]:
        """What could not be done, a line each."""
        return [f"{name}: {pause.why}" for name, pause in sorted(self._pauses.items()) if pause.why]

    # -- what is to be known

    def _note_calls(self, weights: dict[str, float], wall: float) -> None:
        here = self._node.services.all()
        self._called_at = {name: self._called_at.get(name, wall) for name, each in here.items() if each.is_copy}
        self._called_at |= {name: wall for name in self._called_at if weights.get(name, 0.0) > 0}

    def _lately(self, view: View, name: str, wall: float) -> Lately:
        holders = frozenset(record.name for record in view.holders(name))
        known = self._holders.get(name)
        if known is None or known[0] != holders:
            self._holders[name] = known = holders, wall
        here = self._node.services.get(name)
        arrived_at = min(here.arrived_at, wall) if here is not None else wall
        return Lately(arrived_at, self._called_at.get(name, wall), known[1])

    def _look_at_files(self, clock: float) -> None:
        """Which services look otherwise than when a child last saw which edition they are."""
        if clock < self._look_at:
            return
        began, files_max = time.monotonic(), self._node.settings.package_files_max
        services = self._node.services.all()
        self._looks = {name: look for name, look in self._looks.items() if name in services}
        changed = {
            name: look
            for name, each in services.items()
            if each.is_here and name not in self._busy
            if self._looks.get(name) != (look := package.look(each.offered(), files_max))
        }
        if changed and self._has_room(clock, *changed):
            self._errand(["TEND", list(changed)], *changed, done=lambda: self._looks.update(changed))
        self._look_at = clock + max(LOOK_SECONDS, LOOK_SHARE * (time.monotonic() - began))

    # -- what is done about it

    def _start(self, view: View, clock: float, wall: float) -> None:
        idle = {}
        for name, service in view.own.services.items():
            if service.original:
                lately = self._lately(view, name, wall)
                if copies.wishes_to_retire(lately, wall, self._node.settings.replica_idle):
                    idle[name] = int(lately.called_at)
                self._tend(view, name, lately, clock, wall)
            if service.original or service.replicas:
                self._place(view, name, clock)
        if idle.keys() != self.idle.keys():
            self.idle = idle
            self._changed()

    def _tend(self, view: View, name: str, lately: Lately, clock: float, wall: float) -> None:
        if not self._has_room(clock, name):
            return
        service = view.own.services[name]
        if copies.to_withdraw(view, name, service):
            self._errand(["TEND", [name]], name)
        elif renewal := copies.to_renew(view, name, service):
            if self._is_our_turn(view, name, renewal, clock):
                self._errand(["TEND", [name]], name)
        elif gone := copies.to_retire(view, name, lately, wall, self._node.settings.replica_idle):
            self._errand(["RETIRE", name, gone.why], name)

    def _is_our_turn(self, view: View, name: str, renewal: copies.Renew, clock: float) -> bool:
        """Each of those that have an old edition draws when it begins, and those before it can give it too."""
        key = name, renewal.edition.digest
        if key not in self._renew_at:
            old = sum(record.services[name].edition != renewal.edition for record in view.holders(name))
            self._renew_at = {each: at for each, at in self._renew_at.items() if each[0] != name}
            self._renew_at[key] = clock + self._node.rng.uniform(0, max(old - 1, 0) / RENEWALS_A_SECOND)
        return clock >= self._renew_at[key]

    def _place(self, view: View, name: str, clock: float) -> None:
        asked = f"{name}\0place"
        self._asked = {each: asked for each, asked in self._asked.items() if asked.until > clock}
        busy = {node: asked.has_it for (service, node), asked in self._asked.items() if service == name}
        on_their_way = [node for node, has_it in busy.items() if has_it and name not in view.records[node].services]
        if copies.missing(view, name) <= len(on_their_way) or not self._has_room(clock, asked):
            return
        place = copies.to_place(view, name, lambda record: self._may_have(view, name, record), busy, self._node.rng)
        if place is None:
            self._pause(asked, clock, f"{copies.wanted(view, name)} holders are wanted, and no node can take one more copy")
            return
        self._asked[name, place.node] = _Asked(clock + REFUSED_SECONDS, False)
        self._errand(["PLACE", name, place.node], asked, done=lambda: self._placed(name, place.node))

    def _placed(self, name: str, node: str) -> None:
        """It has it, and its record, which says so, is on its way."""
        self._asked[name, node] = _Asked(time.monotonic() + HEARD_SECONDS, True)

    def _may_have(self, view: View, name: str, record: Record) -> bool:
        policies = self._node.policies
        return policies.talkable(view, record) and copies.may_have(
            view, name, record, lambda a, b: policies.can_talk(view, view.records[a], view.records[b])
        )

    def _has_room(self, clock: float, *names: str) -> bool:
        is_paused = any(name in self._pauses and clock < self._pauses[name].until for name in names)
        return not is_paused and len(self._busy) < ERRANDS_MAX and not any(name in self._busy for name in names)

    # -- errands

    def _errand(self, request: list[Any], *names: str, done: Callable[[], None] = lambda: None) -> None:
        """`done` is called when it went well."""
        self._busy |= set(names)

        def run() -> None:
            try:
                why = _asked(self._node.settings.socket, request)
            except BDError as error:
                why = str(error)
            except Exception as error:  # a thread that ends unheard would leave its services busy for ever
                why = f"a bug: {error!r}"
            self._call(lambda: self._over(names, why, done))

        threading.Thread(target=run, name=request[0], daemon=True).start()

    def _over(self, names: Iterable[str], why: str, done: Callable[[], None]) -> None:
        for name in names:
            self._busy.discard(name)
            if why:
                self._pause(name, time.monotonic(), why)
            else:
                self._pauses.pop(name, None)
        if not why:
            done()
        self._seen = None  # look again

    def _pause(self, name: str, clock: float, why: str) -> None:
        before = self._pauses.get(name)
        seconds = min(2 * before.seconds, PAUSE_SECONDS_MAX) if before else PAUSE_SECONDS
        self._pauses[name] = _Pause(clock + self._node.rng.uniform(seconds / 2, seconds), seconds, why)


def _asked(path: str, request: list[Any]) -> str:
    """Why our own node could not do it, in a line; "" when it could."""
    deadline = time.monotonic() + ERRAND_SECONDS
    with dialling.dial_local(path, deadline) as talk:
        said = talk.ask(request, deadline)
    if not isinstance(said, Ok):
        return "the node that was asked has no room, or was given no copy"
    return "; ".join(said.notes)
