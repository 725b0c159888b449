"""The discoverer's mind: whom to probe, suspect, ask for help, tell the news and synchronise with, and when.

State in, actions out: the discoverer (or a simulation) carries the actions out and reports each outcome to `done`. Two
clocks come as arguments: `clock` is monotonic and paces everything, wall time is the view's. Each mechanism is a class of
its own: `Watch` (probes, direct and indirect), `Suspicion` (from a doubt to a death), `News` (what to tell whom), `Rounds`
(anti-entropy) and `Dials` (to those who were lost). None calls another; this ties them. How to merge is membership's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import assert_never

from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip.actions import Action, Ask, Outcome, Probe, Push, Refused, Synchronise, Verdict, is_there
from bdserver.core.gossip.news import News
from bdserver.core.gossip.ring import Listeners, arc, fingers
from bdserver.core.gossip.rounds import Dials, Rhythm, Rounds
from bdserver.core.gossip.suspicion import Awareness, Doubt, Suspicion
from bdserver.core.gossip.watch import Watch
from bdserver.core.membership import ALIVE, DEAD, SUSPECT, Record, standing
from bdserver.core.messages import Pong
from bdserver.core.view import View


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
        self.watch = Watch(me, rhythm.probe_interval, rng, clock, self.awareness, forbids)
        self.suspicion = Suspicion(me, rhythm.probe_interval, rng, self.awareness)
        self.news = News(me, rng, clock, Listeners(me, forbids))
        self.rounds = Rounds(rhythm, rng, clock, forbids)
        self.dials = Dials(rng, hints)
        self._view: View | None = None

    # -- what to do now

    def due(self, view: View, clock: float, weight: float, threshold: float) -> list[Action]:
        """Everything that is due at this instant, in the order of its urgency."""
        self._notice(view, clock)
        return [
            *self.news.due(view, clock),
            *self._probes(view, clock),
            *self.dials.due(view, clock),
            *self.rounds.due(view, clock, weight, threshold),
        ]

    def verdicts(self, view: View, clock: float) -> list[Verdict]:
        """Suspects whose time to refute has run out."""
        self._notice(view, clock)
        return self.suspicion.verdicts(view, clock)

    def next_at(self, view: View) -> float:
        """The instant at which something will be due, if nothing happens before."""
        parts = self.watch.next_at(), self.news.next_at(), self.dials.next_at(), self.rounds.next_at()
        return min(*parts, self.suspicion.next_at(view))

    def _probes(self, view: View, clock: float) -> Iterator[Probe]:
        """News rides along, where our policy lets us tell it."""
        for probe in self.watch.due(view, clock, self.news.is_any):
            record = view.records[probe.name]
            yield probe if self.forbids(record) else probe._replace(news=self.news.riding(record))

    def near(self, view: View) -> list[str]:
        """Those to whom we speak again and again: the one that we watch, and those that we tell our news."""
        return fingers(arc(self.me, EVERYBODY, (record.name for record in view.others_there())))

    # -- what happens

    def hung_up(self, name: str) -> None:
        """A connection that was kept has ended."""
        self.watch.hung_up(name)

    def hurry(self, name: str) -> None:
        """Probe this node now: somebody could not reach it."""
        self.watch.hurry(name)

    def pass_on(self, names: Iterable[str], until: str, view: View, clock: float) -> None:
        """Somebody has told us these, and wants us to pass them on around the ring as far as `until`, or EVERYBODY."""
        self._notice(view, clock)
        self.news.pass_on(names, until)

    def _notice(self, view: View, clock: float) -> None:
        """What a new view says that the one before did not; of the first one, only what it says of ourselves."""
        if view is self._view:
            return
        seen, self._view = self._view, view
        for before, record in _changes(seen, view, self.me):
            if record.status in (SUSPECT, DEAD):
                self.watch.trouble(clock)
            self.rounds.heard(clock)
            is_ours = record.name == self.me or self.suspicion.has_found(record.name)
            self.news.heard(before, record, is_ours, view)
        self.news.forget_those_gone(view)
        self.watch.notice(view)
        for name in self.suspicion.notice(view, clock):
            self.watch.hurry(name)
        self.rounds.notice(view, clock)

    # -- what came of it

    def done(self, action: Action, outcome: Outcome, view: View, clock: float) -> tuple[list[Verdict], list[Action]]:
        """Report an action's outcome; returns what to write into the view and what to do next."""
        match action:
            case Probe():
                return self._probed(action, outcome, view, clock)
            case Ask():
                return self._accusation(self.watch.helped(action, outcome)), []
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
            return self._accusation(doubt), [*asks]
        self.watch.answered(probe.name)
        record = view.records.get(probe.name)
        if record is None:
            return [], []
        self.awareness.lowered()
        self.suspicion.answered(probe.name)
        if record.status != ALIVE:
            return [], [self.news.told_of_itself(record)]
        return [], [*self.rounds.compared(record, outcome.digest if isinstance(outcome, Pong) else "", view, clock)]

    def _accusation(self, doubt: Doubt | None) -> list[Verdict]:
        return [self.suspicion.accuse(doubt)] if doubt is not None else []


def _changes(seen: View | None, view: View, me: str) -> Iterator[tuple[Record | None, Record]]:
    """(before, now) of each record that says more than before: of a higher standing, or with more accusers."""
    old = seen.records if seen is not None else {}
    for name, record in view.records.items():
        before = old.get(name)
        if before is record or (seen is None and name != me):
            continue
        if before is None or standing(before) != standing(record) or len(before.accusers) < len(record.accusers):
            yield before, record
