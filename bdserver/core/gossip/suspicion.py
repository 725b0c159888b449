"""Which nodes are suspect, how long each may take to refute it, and which are dead: SWIM's suspicion, as Lifeguard has it.

A doubt (neither we nor our helpers reached it) becomes an accusation. A suspect that nobody hears refute it in time is dead:
the sooner the more accuse it, the later the more our own probes fail all around (Lifeguard's local health); very soon where
the connection was refused, since the host itself says that nobody listens there.
"""

from __future__ import annotations

import math
from enum import StrEnum
from random import Random
from typing import NamedTuple

from bdserver.core.gossip.actions import Verdict
from bdserver.core.membership import SUSPECT, Record
from bdserver.core.view import View

# Lifeguard's suspicion (as memberlist: SuspicionMaxTimeoutMult 6, k = 4 - 2 + 1 confirmations; its SuspicionMult of 4 is for
# datagrams, one of which may be lost: our probes are connections, and TCP has repeated what was lost before they fail).
SUSPICION_MULTIPLIER = 3.0
SUSPICION_MAX_MULTIPLIER = 6.0
CONFIRMATIONS = 3
AWARENESS_MAX = 8
# Long enough for the word to reach an accused that lives and its answer to come back: some 10 round trips.
REFUSED_SECONDS = 0.5
# When a suspicion is heard, about this many nodes of the mesh probe out of turn.
DOUBLE_CHECKERS = 4.0


def suspicion_seconds(accusers: int, nodes: int, awareness: int, probe_interval: float) -> float:
    """How long a suspect may take to refute: from 6 x down to 1 x the least, the log of confirmations between.

    Lifeguard (arXiv 1707.00788), with memberlist's constants; `accusers` counts the first one too."""
    least = SUSPICION_MULTIPLIER * max(1.0, math.log10(max(nodes, 1))) * probe_interval * (1 + awareness)
    expected = min(CONFIRMATIONS, nodes - 2)
    if expected < 1:
        return least
    most = SUSPICION_MAX_MULTIPLIER * least
    confirmations = min(max(accusers - 1, 0), expected)
    return max(least, most - (most - least) * math.log(confirmations + 1) / math.log(expected + 1))


class Awareness:
    """Lifeguard's local health multiplier: 0 is well. When nodes are silent that should not be, the fault is perhaps ours;
    so we are more patient, until probes succeed."""

    def __init__(self) -> None:
        self.value = 0

    def raised(self, by: int) -> None:
        """So many were silent that should not have been."""
        self.value = min(self.value + by, AWARENESS_MAX)

    def lowered(self) -> None:
        """A probe of ours was answered."""
        self.value = max(self.value - 1, 0)


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

    __slots__ = ("is_refused", "since", "state", "version")

    def __init__(self, version: tuple[int, int]) -> None:
        self.state, self.version = State.ACCUSED, version
        self.since = math.inf
        self.is_refused = False

    def accused(self, doubt: Doubt) -> None:
        """We have not reached it ourselves."""
        self.is_refused |= doubt.is_refused and doubt.record.version == self.version

    def heard(self, version: tuple[int, int], clock: float) -> bool:
        """The view says that it is suspect; whether that is new, or of a new version, which begins anew."""
        if self.state is not State.ACCUSED and self.version == version:
            return False
        self.is_refused = self.is_refused and self.version == version
        self.state, self.version, self.since = State.SUSPECT, version, clock
        return True

    def answered(self) -> None:
        """It listens after all; and yet it has to refute, or nobody else would know."""
        self.is_refused = False
        if self.state is State.OVER:
            self.state = State.SUSPECT

    def ran_out(self) -> None:
        """Its time is over."""
        self.state = State.OVER


class Suspicion:
    """All suspicions, by the name of the suspect."""

    def __init__(self, me: str, probe_interval: float, rng: Random, awareness: Awareness) -> None:
        self.me, self.probe_interval, self.rng, self.awareness = me, probe_interval, rng, awareness
        self._suspicions: dict[str, _Suspicion] = {}
        self._found: set[str] = set()

    def notice(self, view: View, clock: float) -> list[str]:
        """A new view: those that are suspect now; the names of the ones that we are to probe out of turn."""
        self._found.clear()
        checked = []
        suspects = {r.name: r for r in view.others() if r.status == SUSPECT}
        for name, record in suspects.items():
            is_new = self._of(record).heard(record.version, clock)
            if is_new and self.me not in record.accusers and self.rng.random() < DOUBLE_CHECKERS / len(view.records):
                checked.append(name)
        for name in self._suspicions.keys() - suspects.keys():
            is_there = name in view.records and view.records[name].is_there
            if not is_there or self._suspicions[name].state is not State.ACCUSED:
                del self._suspicions[name]
        return checked

    def has_found(self, name: str) -> bool:
        """Whether it was we who found out what this new view says of that node."""
        return name in self._found

    def accuse(self, doubt: Doubt) -> Verdict:
        """Nobody reached it, as far as we know."""
        name = doubt.record.name
        self.awareness.raised(doubt.deaf)
        self._found.add(name)
        self._of(doubt.record).accused(doubt)
        return Verdict(False, name)

    def answered(self, name: str) -> None:
        """We have reached it."""
        if name in self._suspicions:
            self._suspicions[name].answered()

    def verdicts(self, view: View, clock: float) -> list[Verdict]:
        """Suspects whose time to refute has run out."""
        over = []
        for name, each in self._suspicions.items():
            if each.state is State.OVER or clock >= self._over_at(name, each, view):
                each.ran_out()
                over.append(name)
        self._found.update(over)
        return [Verdict(True, name) for name in over]

    def next_at(self, view: View) -> float:
        """When the time of the next suspect will have run out."""
        return min((self._over_at(name, each, view) for name, each in self._suspicions.items()), default=math.inf)

    def _of(self, record: Record) -> _Suspicion:
        return self._suspicions.setdefault(record.name, _Suspicion(record.version))

    def _over_at(self, name: str, suspicion: _Suspicion, view: View) -> float:
        if suspicion.state is State.ACCUSED:
            return math.inf
        if suspicion.is_refused:
            return suspicion.since + REFUSED_SECONDS
        record = view.records.get(name)
        accusers = len(record.accusers) if record else 1
        nodes = 1 + len(view.others_there())
        return suspicion.since + suspicion_seconds(accusers, nodes, self.awareness.value, self.probe_interval)
