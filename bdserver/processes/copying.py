"""The discoverer's part in copies: it has its own node do what is due, by a request on the local socket.

Whenever the view or the services folder has changed, core.upkeep says what is to be done for our services. A child does it
(answers.tending), and a thread waits for that: hashing and fetching take their time, and the loop has none. What fails is a
warning as long as it is still to be done. Files that somebody is writing are hashed when they have rested (core.stillness).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bdserver.core import turns
from bdserver.core.copies import Go
from bdserver.core.membership import Record
from bdserver.core.messages import Ok
from bdserver.core.stillness import Stillness
from bdserver.core.turns import Errand, Place
from bdserver.core.upkeep import Look, Rules, Upkeep
from bdserver.core.view import View
from bdserver.errors import BDError
from bdserver.files import package
from bdserver.net import dialling
from bdserver.processes.node import Node

ERRAND_SECONDS = 50.0
# To look at the stamps of all files of all services may take a fiftieth of our time, and keeps the loop for a moment each time:
# then it goes on later, with the next service.
LOOK_SHARE, LOOK_SECONDS, LOOK_AT_ONCE_SECONDS = 50, 2.0, 0.02
# The next look while something is to rest: with the next second's turn of the loop.
REST_LOOK_SECONDS = 0.5
# What was changed by hand is hashed once more: a write to mapped memory, or from another host of a network file system, may
# show in a file's times when it begins, and not when it ends. Linux writes what is mapped to the disk within half a minute.
ONCE_MORE_SECONDS = 60.0

RESTLESS = "%s: its files change again and again, and are no new edition before they rest (is a log among them?)"


class Copying:
    """Only the discoverer's loop calls it. `call(function)` has the loop do something soon; `changed()` is called when our own
    record is to be described anew."""

    def __init__(self, node: Node, call: Callable[[Callable[[], None]], None], changed: Callable[[], None]) -> None:
        self._node, self._call, self._changed = node, call, changed
        self._upkeep = Upkeep(node.rng)
        self._looks: dict[str, str] = {}  # service -> how its files looked when a child last saw which edition they are
        self._seen_looks: dict[str, str] = {}  # and how they look now
        self._stillness = Stillness()
        self._once_more: dict[str, float] = {}  # service -> when it is hashed once more
        self._to_look: list[str] = []  # what is left of this round
        self._look_at = 0.0
        self._seen: View | None = None

    @property
    def idle(self) -> dict[str, int]:
        """The copies that wish to retire, with the epoch second of their last call."""
        return self._upkeep.idle

    def due(self, weights: dict[str, float], clock: float, wall: float) -> None:
        """A second has passed. `weights`: of our services, by their hits."""
        arrived = {name: each.arrived_at for name, each in self._node.services.all().items() if each.is_copy}
        self._upkeep.note(arrived, [name for name, total in weights.items() if total > 0], clock, wall)
        self._look_at_files(clock)
        self._start(self._node.cache.view(), clock, wall)

    def notice(self, view: View, clock: float, wall: float) -> None:
        """The view may be another one."""
        if view is not self._seen:
            self._seen = view
            if view.own.services:
                self._start(view, clock, wall)

    def failing(self) -> list[str]:
        """What could not be done, a line each."""
        return [*self._upkeep.failing(), *(RESTLESS % name for name in self._stillness.restless())]

    def _look_at_files(self, clock: float) -> None:
        """Which services look otherwise than when a child last saw which edition they are, and have rested."""
        if clock < self._look_at:
            return
        began, files_max = time.monotonic(), self._node.settings.package_files_max
        here = {name: each for name, each in self._node.services.all().items() if each.is_here}
        self._to_look = self._to_look or sorted(here, reverse=True)
        seen = {name: look for name, look in self._seen_looks.items() if name in here}
        while self._to_look and time.monotonic() - began <= LOOK_AT_ONCE_SECONDS:
            name = self._to_look.pop()
            if name in here:
                seen[name] = package.look(here[name].offered(), files_max)
                self._stillness.note(name, seen[name], clock)
        self._stillness.keep(frozenset(here))
        self._seen_looks = seen
        due = [name for name, at in self._once_more.items() if at <= clock]
        self._once_more = {name: at for name, at in self._once_more.items() if at > clock}
        self._looks = {name: look for name, look in self._looks.items() if name in here and name not in due}
        changed = [name for name, each in seen.items() if self._looks.get(name) != each]
        rested = [name for name in changed if self._stillness.has_rested(name)]
        look = self._upkeep.look(rested, clock)
        if look is not None:
            self._run(look, {name: seen[name] for name in look.names})
        took = time.monotonic() - began
        pause = 0.0 if self._to_look else REST_LOOK_SECONDS if len(rested) < len(changed) else LOOK_SECONDS
        self._look_at = clock + max(pause, LOOK_SHARE * took)

    def _start(self, view: View, clock: float, wall: float) -> None:
        told, trust, here = self._upkeep.idle, self._node.trust.untrusted(), self._node.services.all()
        unoffered = {name: here[name] for name in trust if name in here}
        rules = Rules(
            self._node.settings.replica_idle, self._may_have(view), unoffered, partial(self._node.policies.are_apart, view)
        )
        for errand in self._upkeep.due(view, clock, wall, rules):
            self._run(errand, {})
        if self._upkeep.idle.keys() != told.keys():
            self._changed()

    def _may_have(self, view: View) -> Callable[[str, Record], bool]:
        policies = self._node.policies

        def can_talk(a: str, b: str) -> bool:
            return policies.can_talk(view, view.records[a], view.records[b])

        return lambda name, record: policies.talkable(view, record) and turns.may_have(view, name, record, can_talk)

    # -- errands

    def _run(self, errand: Errand | Look, looks: dict[str, str]) -> None:
        """`looks`: those of the services that are hashed."""
        names = errand.names if isinstance(errand, Look) else (errand.name,)
        path, request = self._node.settings.socket, _request(errand)

        def run() -> None:
            try:
                failed = _asked(path, request, names)
            except BDError as error:
                failed = dict.fromkeys(names, str(error))
            except Exception as error:  # a thread that ends unheard would leave its services busy for ever
                failed = dict.fromkeys(names, f"a bug: {error!r}")
            self._call(lambda: self._over(errand, failed, looks))

        try:
            threading.Thread(target=run, name=request[0], daemon=True).start()
        except RuntimeError:  # no room for one: tried again after a pause, as all that fails
            self._over(errand, dict.fromkeys(names, "there was no room for a thread"), looks)

    def _over(self, errand: Errand | Look, failed: dict[str, str], looks: dict[str, str]) -> None:
        self._upkeep.over(errand, failed, time.monotonic())
        seen = {name: look for name, look in looks.items() if name not in failed}
        again_at = time.monotonic() + ONCE_MORE_SECONDS
        self._once_more |= {name: again_at for name in seen if name in self._looks}
        self._looks |= seen
        self._seen = None  # look again


def _request(errand: Errand | Look) -> list[Any]:
    match errand:
        case Look(names):
            return ["TEND", list(names)]
        case Place(name, node):
            return ["PLACE", name, node]
        case Go(name, "retired", why):
            return ["RETIRE", name, why]
    return ["TEND", [errand.name]]


def _asked(path: str, request: list[Any], names: tuple[str, ...]) -> dict[str, str]:
    """For which of these services our own node could not do it, and why."""
    deadline = time.monotonic() + ERRAND_SECONDS
    with dialling.dial_local(path, deadline) as talk:
        said = talk.ask(request, deadline)
    if not isinstance(said, Ok):
        return dict.fromkeys(names, "the node that was asked has no room, or was given no copy")
    noted = (note.partition(": ") for note in said.notes)
    return {name: why for name, _, why in noted if name in names}
