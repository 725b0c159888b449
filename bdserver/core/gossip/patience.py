"""How much time we give others, and how little more work we make when time is short: the rule for congestion.

Three things say that an answer may be late without anything being wrong: our own loop is late (`Lag`), probes of ours fail
that should not (`Awareness`, Lifeguard's local health), or this very node took long the last times (`Patience`). Then we wait
longer, suspect later, probe and synchronise less often, keep our echoes for later and check no suspicion that others found:
a mesh whose machines are short of time tells less and later, and never does more because something is late.
"""

from __future__ import annotations

from collections.abc import Container

AWARENESS_MAX = 8
# Each tenth of a second that our loop is late counts as much as a probe that failed.
LAG_STEP = 0.1
# What was late a second ago counts half.
LAG_HALF_LIFE = 1.0
# As TCP's time-out for a repetition: some times what the answer took before, which is forgotten slowly.
ROUND_TRIPS, REMEMBERED = 4.0, 0.7
# A node that has never answered us is perhaps just being started, with many others.
FIRST_SECONDS = 2.0
PATIENCE_MAX = 8.0


class Lag:
    """How late the loop is: what was due at one instant, and done at a later one."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._noted_at = -1e9

    def note(self, late: float, clock: float) -> None:
        """Something was so many seconds late (none, or less: it was not)."""
        faded = self.seconds * 0.5 ** ((clock - self._noted_at) / LAG_HALF_LIFE)
        self.seconds, self._noted_at = max(late, faded), clock


class Awareness:
    """Lifeguard's local health multiplier: 0 is well. When nodes are silent that should not be, or our own loop is late, the
    fault is perhaps ours; so we are more patient, until probes succeed and the loop is in time."""

    def __init__(self) -> None:
        self.lag = Lag()
        self._failed = 0

    @property
    def value(self) -> int:
        """From 0 to AWARENESS_MAX."""
        return min(self._failed + int(self.lag.seconds / LAG_STEP), AWARENESS_MAX)

    @property
    def is_late(self) -> bool:
        """Whether our own loop is: then we do nothing that others do as well."""
        return self.lag.seconds >= LAG_STEP

    def raised(self, by: int) -> None:
        """So many were silent that should not have been."""
        self._failed = min(self._failed + by, AWARENESS_MAX)

    def lowered(self) -> None:
        """A probe of ours was answered."""
        self._failed = max(self._failed - 1, 0)


class Patience:
    """For how long to wait for each node: longer for all while we are in doubt of ourselves, and for one that took long."""

    def __init__(self, awareness: Awareness) -> None:
        self.awareness = awareness
        self._asked_at: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def seconds(self, least: float, name: str) -> float:
        """How long to wait for an answer of this node that takes less than `least` when all is well."""
        took = self._took.get(name)
        usual = FIRST_SECONDS if took is None else ROUND_TRIPS * took
        return max(min(max(self.of_others(least), usual), PATIENCE_MAX), least)

    def of_others(self, least: float) -> float:
        """The same for a node that others have not reached, who know it better."""
        return least * (1 + self.awareness.value)

    def asked(self, name: str, clock: float) -> None:
        """A question goes out to this node."""
        self._asked_at.setdefault(name, clock)

    def answered(self, name: str, clock: float) -> None:
        """It has answered, in time or late."""
        asked_at = self._asked_at.pop(name, None)
        if asked_at is not None:
            self._took[name] = max(clock - asked_at, REMEMBERED * self._took.get(name, 0.0))

    def forget(self, known: Container[str]) -> None:
        """What was noted of nodes that are known no longer."""
        for noted in (self._asked_at, self._took):
            for name in [name for name in noted if name not in known]:
                del noted[name]
