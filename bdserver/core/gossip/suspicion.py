"""Which nodes are suspect, how long each may take to refute it, and which are dead: SWIM's suspicion, as Lifeguard has it.

A doubt (neither we nor our helpers reached it) becomes an accusation. A suspect that nobody hears refute it in time is dead:
the sooner the more accuse it, the later the more reason we have to doubt ourselves (`patience`); very soon where the connection
was refused, since the host itself says that nobody listens there. Nobody says of a node that it is dead who has not failed to
reach it twice: whoever has accused it goes on asking it, everybody else asks when its time is over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from random import Random

from bdserver.core.gossip.actions import Verdict
from bdserver.core.gossip.patience import Awareness
from bdserver.core.membership import SUSPECT, Record
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import Change, View

# Lifeguard's suspicion, with memberlist's k = 4 - 2 + 1 confirmations. Its SuspicionMult of 4 and SuspicionMaxTimeoutMult of 6
# are for datagrams, one of which may be lost, and for nodes that bury whom they have not asked. Our probes are answered in a
# thousandth of this on connections that are open, and what makes answers late makes us patient; so what all say is believed
# sooner, and what one alone says no sooner.
SUSPICION_MULTIPLIER = 0.5
SUSPICION_MAX_MULTIPLIER = 12.0
CONFIRMATIONS = 3
# Long enough for the word to reach an accused that lives and its answer to come back: some 5 round trips.
REFUSED_SECONDS = 0.2
# Who has found the suspect says that it is dead; who has only confirmed that leaves it so much time to say it first, lest all
# of them tell the whole mesh the same.
FINDER_SECONDS = 0.3
# Who says of a silent node that it is dead has not reached it so often.
FAILURES = 2
# When a suspicion is heard, about this many nodes of the mesh probe out of turn.
DOUBLE_CHECKERS = 4.0


def suspicion_seconds(accusers: int, nodes: int, awareness: int, probe_interval: float) -> float:
    """How long a suspect may take to refute: from 12 x down to 1 x the least, the log of confirmations between.

    Lifeguard (arXiv 1707.00788); `accusers` counts the first one too. With nobody who could confirm it, it is half of the
    longest: to wait for them is of no use."""
    least = SUSPICION_MULTIPLIER * max(1.0, math.log10(max(nodes, 1))) * probe_interval * (1 + awareness)
    most = SUSPICION_MAX_MULTIPLIER * least
    expected = min(CONFIRMATIONS, nodes - 2)
    if expected < 1:
        return most / 2
    confirmations = min(max(accusers - 1, 0), expected)
    return max(least, most - (most - least) * math.log(confirmations + 1) / math.log(expected + 1))


class Doubt(NamedTuple):
    """Neither we nor our helpers have reached this node. `deaf`: how many helpers did not answer us either."""

    record: Record
    is_refused: bool
    deaf: int


class State(StrEnum):
    """Where a suspicion stands; refuted or buried it is no more."""

    ACCUSED = "accused"  # by us, and the view does not say so yet
    SUSPECT = "suspect"  # in the view: it may refute until its time runs out
    OVER = "over"  # its time has run out: we say so in each turn until the view has it


class _Suspicion:
    """Of one node at one version; each method is an event."""

    __slots__ = ("asked_at", "failures", "is_ours", "is_refused", "since", "state", "version")

    def __init__(self, version: tuple[int, int]) -> None:
        self.state, self.version = State.ACCUSED, version
        self.since = math.inf
        self.asked_at = -math.inf  # by us, as a suspect
        self.failures = 0  # to reach it, of ours
        self.is_refused = False
        self.is_ours = False  # we were the first to say so, as far as we know

    @property
    def is_unreached(self) -> bool:
        """Whether we have tried enough to say of it that it is dead."""
        return self.is_refused or self.failures >= FAILURES

    def accused(self, doubt: Doubt, clock: float) -> None:
        """We have not reached it ourselves."""
        self.failures, self.asked_at = self.failures + 1, clock
        self.is_refused |= doubt.is_refused and doubt.record.version == self.version

    def heard(self, version: tuple[int, int], clock: float) -> bool:
        """The view says that it is suspect; whether that is new, or of a new version, which begins anew."""
        if self.state is not State.ACCUSED and self.version == version:
            return False
        is_same = self.version == version
        self.is_ours = is_same and self.failures > 0
        self.is_refused, self.failures = self.is_refused and is_same, self.failures * is_same
        self.state, self.version, self.since = State.SUSPECT, version, clock
        return True

    def answered(self, clock: float) -> None:
        """It lives after all; and yet it has to refute, or nobody else would know. Its time begins anew."""
        self.failures, self.is_refused = 0, False
        if self.state is not State.ACCUSED:
            self.state, self.since = State.SUSPECT, clock

    def ran_out(self) -> None:
        """Its time is over, and we do not reach it either."""
        self.state = State.OVER


class Suspicion:
    """All suspicions, by the name of the suspect."""

    def __init__(self, me: str, probe_interval: float, rng: Random, awareness: Awareness) -> None:
        self.me, self.probe_interval, self.rng, self.awareness = me, probe_interval, rng, awareness
        self._suspicions: dict[str, _Suspicion] = {}
        self._found: set[str] = set()
        self._nodes = 1

    def notice(self, changes: Iterable[Change], nodes: int, clock: float) -> list[str]:
        """What a new view says, of so many nodes; the names of the suspects that we are to probe out of turn."""
        self._found.clear()
        self._nodes = nodes
        checked = []
        for change in changes:
            record = change.now
            if record is not None and record.name != self.me and record.status == SUSPECT:
                is_new = self._of(record).heard(record.version, clock)
                if is_new and self.me not in record.accusers and self._checks():
                    checked.append(record.name)
            elif change.name in self._suspicions:
                self._is_no_suspect(change.name, record is not None and record.is_there)
        return checked

    def _checks(self) -> bool:
        """Whether it is for us to look as well: some of all look, and nobody whose own time is short."""
        return not self.awareness.is_late and self.rng.random() < DOUBLE_CHECKERS / self._nodes

    def _is_no_suspect(self, name: str, is_there: bool) -> None:
        if not is_there or self._suspicions[name].state is not State.ACCUSED:
            del self._suspicions[name]

    def has_found(self, name: str) -> bool:
        """Whether it was we who found out what this new view says of that node."""
        return name in self._found

    def accuse(self, doubt: Doubt, clock: float) -> Verdict:
        """Nobody reached it, as far as we know."""
        name = doubt.record.name
        self.awareness.raised(doubt.deaf)
        self._found.add(name)
        self._of(doubt.record).accused(doubt, clock)
        return Verdict(False, name)

    def answered(self, name: str, clock: float) -> None:
        """We have reached it."""
        if name in self._suspicions:
            self._suspicions[name].answered(clock)

    def verdicts(self, view: View, clock: float) -> list[Verdict]:
        """Suspects whose time to refute has run out, and whom we have not reached ourselves."""
        over = []
        for name, each in self._suspicions.items():
            if each.state is State.OVER or (each.is_unreached and clock >= self._over_at(name, each, view)):
                each.ran_out()
                over.append(name)
        self._found.update(over)
        return [Verdict(True, name) for name in over]

    def to_ask(self, view: View, clock: float) -> list[str]:
        """Suspects whom we are to probe now."""
        due = [name for name, each in self._suspicions.items() if clock >= self._ask_at(name, each, view)]
        for name in due:
            self._suspicions[name].asked_at = clock
        return due

    def next_at(self, view: View) -> float:
        """When a suspect is to be asked next, or its time will have run out."""
        return min((self._due_at(name, each, view) for name, each in self._suspicions.items()), default=math.inf)

    def _of(self, record: Record) -> _Suspicion:
        return self._suspicions.setdefault(record.name, _Suspicion(record.version))

    def _due_at(self, name: str, suspicion: _Suspicion, view: View) -> float:
        over_at = self._over_at(name, suspicion, view) if suspicion.is_unreached else math.inf
        return min(over_at, self._ask_at(name, suspicion, view))

    def _ask_at(self, name: str, suspicion: _Suspicion, view: View) -> float:
        """Whom we did not reach is asked once more at once, then again and again; whom others alone accuse, when its time is
        over."""
        if suspicion.state is not State.SUSPECT:
            return math.inf
        if suspicion.failures and suspicion.asked_at <= suspicion.since:
            return suspicion.since
        again_at = suspicion.asked_at + self.probe_interval * (1 + self.awareness.value)
        return again_at if suspicion.failures else max(again_at, self._over_at(name, suspicion, view))

    def _over_at(self, name: str, suspicion: _Suspicion, view: View) -> float:
        if suspicion.state is State.ACCUSED:
            return math.inf
        since = suspicion.since + (0.0 if suspicion.is_ours else FINDER_SECONDS)
        if suspicion.is_refused:
            return since + REFUSED_SECONDS
        record = view.records.get(name)
        accusers = len(record.accusers) if record else 1
        return since + suspicion_seconds(accusers, self._nodes, self.awareness.value, self.probe_interval)
