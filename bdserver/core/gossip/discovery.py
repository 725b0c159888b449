"""The discoverer's mind: whom to probe, suspect, ask for help, tell the news and synchronise with, and when.

State in, actions out: the discoverer (or a simulation) carries the actions out and reports each outcome to `done`. Two
clocks come as arguments: `clock` is monotonic and paces everything, wall time is the view's. Each mechanism is a class of
its own: `Watch` (probes, direct and indirect), `Suspicion` (from a doubt to a death), `News` (what to tell whom), `Rounds`
(anti-entropy), `Dials` (to those who were lost); `Company` and `Patience` are what they share. None
calls another; this ties them. How to merge is membership's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import assert_never

from bdserver.core.gossip.actions import (
    PUSH_SECONDS,
    Action,
    Ask,
    Outcome,
    Probe,
    Push,
    Refused,
    Synchronise,
    Verdict,
    is_there,
)
from bdserver.core.gossip.news import News
from bdserver.core.gossip.patience import Awareness, Patience
from bdserver.core.gossip.ring import Company
from bdserver.core.gossip.rounds import Dials, Rhythm, Rounds
from bdserver.core.gossip.suspicion import Doubt, Suspicion
from bdserver.core.gossip.watch import Watch
from bdserver.core.membership import ALIVE, DEAD, SUSPECT, Record, standing
from bdserver.core.messages import Pong
from bdserver.core.view import Change, View, changes


class Discovery:
    """The mechanisms, and the view that they have seen last.

    `hints` gives the addresses of the settings as they are now; `forbids(record)` tells which nodes our own policy keeps us
    from calling."""

    def __init__(
        self,
        me: str,
        rhythm: Rhythm,
        rng: Random,
        clock: float,
        hints: Callable[[], Iterable[str]] = lambda: (),
        forbids: Callable[[Record], bool] = lambda record: False,
    ) -> None:
        self.me, self.forbids = me, forbids
        self.awareness = Awareness()
        self.patience = Patience(self.awareness)
        self.company = Company(me, forbids)
        self.watch = Watch(rhythm.probe_interval, rng, clock, self.patience, self.company)
        self.suspicion = Suspicion(me, rhythm.probe_interval, rng, self.awareness)
        self.news = News(me, rng, clock, self.awareness, self.company)
        self.rounds = Rounds(rhythm, rng, clock, self.awareness, forbids)
        self.dials = Dials(rng, hints)
        self._view: View | None = None
        self._promised_at = math.inf  # when we wanted to be asked again

    # -- what to do now

    def due(self, view: View, clock: float, weight: float, threshold: float) -> list[Action]:
        """Everything that is due at this instant, in the order of its urgency."""
        self.awareness.lag.note(clock - self._promised_at, clock)
        self._notice(view, clock)
        for name in self.suspicion.to_ask(view, clock):
            self.watch.hurry(name)
        actions: list[Action] = [
            *self.news.due(view, clock),
            *self._probes(view, clock),
            *self.dials.due(view, clock),
            *self.rounds.due(view, clock, weight, threshold),
        ]
        return [self._asked(action, clock) for action in actions]

    def verdicts(self, view: View, clock: float) -> list[Verdict]:
        """Suspects whose time to refute has run out."""
        self._notice(view, clock)
        return self.suspicion.verdicts(view, clock)

    def next_at(self, view: View) -> float:
        """The instant at which something will be due, if nothing happens before."""
        parts = self.watch.next_at(), self.news.next_at(), self.dials.next_at(), self.rounds.next_at()
        due_at = min(*parts, self.suspicion.next_at(view))
        self._promised_at = due_at if due_at > -math.inf else math.inf
        return due_at

    def _probes(self, view: View, clock: float) -> Iterator[Probe]:
        """News rides along, where our policy lets us tell it."""
        for probe in self.watch.due(view, clock, self.news.is_any):
            record = view.records[probe.name]
            yield probe if self.forbids(record) else probe._replace(news=self.news.riding(record))

    def _asked(self, action: Action, clock: float) -> Action:
        """Note when whom was asked, and give a node that takes long more time."""
        if isinstance(action, Push):
            action = action._replace(seconds=self.patience.seconds(PUSH_SECONDS, action.name))
        if isinstance(action, Push | Probe):
            self.patience.asked(action.name, clock)
        return action

    # -- what happens

    def hung_up(self, name: str) -> None:
        """A connection that was kept has ended."""
        self.watch.hung_up(name)

    def hurry(self, name: str) -> None:
        """Probe this node now: somebody could not reach it."""
        self.watch.hurry(name)

    def came_late(self, name: str, clock: float) -> None:
        """A node has answered that had been given up: it lives, and will be waited for longer."""
        self.patience.answered(name, clock)
        self.watch.answered(name)
        self.suspicion.answered(name, clock)

    def pass_on(self, names: Iterable[str], until: str, view: View, clock: float) -> None:
        """Somebody has told us these, and wants us to pass them on around the ring as far as `until`, or EVERYBODY."""
        self._notice(view, clock)
        self.news.pass_on(names, until)

    def _notice(self, view: View, clock: float) -> None:
        """What a new view says that the one before did not; of the first one, only what it says of ourselves is news.

        What costs a look at every record is done when the company has changed, not at each change of what a node offers."""
        if view is self._view:
            return
        seen, self._view = self._view, view
        found = changes(seen.records if seen is not None else {}, view.records)
        if seen is None or view.policies.keys() != seen.policies.keys() or any(each.is_of_company for each in found):
            self.company.notice(view)
            self.patience.forget(view.records)
            self.dials.notice()
            self.rounds.notice(view, clock)
        for change in found:
            if seen is not None or change.name == self.me:
                self._notice_change(change, view, clock)
        for name in self.suspicion.notice(found, 1 + len(self.company.there), clock):
            self.watch.hurry(name)

    def _notice_change(self, change: Change, view: View, clock: float) -> None:
        before, record = change
        if record is None:
            self.news.forget(change.name)
            return
        if record.status != ALIVE:
            self.news.doubted(record.name)
        if before is not None and standing(before) == standing(record) and len(before.accusers) >= len(record.accusers):
            return
        if record.status in (SUSPECT, DEAD):
            self.watch.trouble(clock)
        self.rounds.heard(clock)
        is_ours = record.name == self.me or self.suspicion.has_found(record.name)
        self.news.heard(before, record, is_ours, view)

    # -- what came of it

    def done(self, action: Action, outcome: Outcome, view: View, clock: float) -> tuple[list[Verdict], list[Action]]:
        """Report an action's outcome; returns what to write into the view and what to do next."""
        self._notice(view, clock)
        if isinstance(action, Probe | Push) and is_there(outcome):
            self.patience.answered(action.name, clock)
        match action:
            case Probe():
                return self._probed(action, outcome, view, clock)
            case Ask():
                return self._accusation(self.watch.helped(action, outcome), clock), []
            case Push():
                self.news.done(action, outcome, clock)
            case Synchronise():
                self.dials.done(action.address, is_there(outcome))
                if action.name is not None and not is_there(outcome):  # a round that failed is as good as a probe that failed
                    self.watch.hurry(action.name)
            case _:
                assert_never(action)
        return [], []

    def _probed(self, probe: Probe, outcome: Outcome, view: View, clock: float) -> tuple[list[Verdict], list[Action]]:
        if not is_there(outcome):
            doubt, asks = self.watch.failed(probe, isinstance(outcome, Refused), view, clock)
            return self._accusation(doubt, clock), [*asks]
        self.watch.answered(probe.name)
        record = view.records.get(probe.name)
        if record is None:
            return [], []
        self.awareness.lowered()
        self.suspicion.answered(probe.name, clock)
        if record.status != ALIVE:
            return [], [self.news.told_of_itself(record)]
        return [], [*self.rounds.compared(record, outcome.digest if isinstance(outcome, Pong) else "", view, clock)]

    def _accusation(self, doubt: Doubt | None, clock: float) -> list[Verdict]:
        return [self.suspicion.accuse(doubt, clock)] if doubt is not None else []
