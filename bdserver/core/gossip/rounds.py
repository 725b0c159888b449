"""With whom to synchronise, and when: rounds of anti-entropy (push-pull), and dials to find those who were lost.

The original's rounds make certain what gossip makes fast: every 10 to 35 s with one partner, a node never visited first, else
mostly the least recently visited. Out of turn comes a partner whose view differs although all is quiet, and some quick rounds
at the start and when a policy's text does not come; a node that has reason to doubt itself takes its time. Dead nodes and hints
are dialled for ever, with pauses up to a minute: so two halves of a mesh find each other again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from random import Random

from bdserver.core.gossip.actions import Synchronise
from bdserver.core.gossip.patience import Awareness
from bdserver.core.membership import DEAD, Record
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View

# A mesh that has told us nothing new for so long, and yet differs from us, is synchronised with out of turn; and so is one
# that has told us of a node whose policy's text did not come.
QUIET_SECONDS = 2.0
STARTUP_ROUNDS, STARTUP_PAUSE = 3, 0.25
LEAST_RECENT_SHARE = 0.9
DIAL_PAUSE, DIAL_PAUSE_MAX = 0.5, 60.0
DIALS_AT_ONCE = 8


class Rhythm(NamedTuple):
    """The pace, in seconds; the rounds' numbers are the original's."""

    probe_interval: float = 1.0
    round_min: float = 10.0
    round_max: float = 30.0


def next_partner(candidates: list[Record], visited_at: dict[str, float], rng: Random) -> Record | None:
    """The node to synchronise with in this round: one never visited, else the least recently visited with
    probability 0.9, else a random one; None when there is nobody. (BDdaemon.discoverer, 2006)"""
    if not candidates:
        return None
    never = [record for record in candidates if record.name not in visited_at]
    if never:
        return rng.choice(never)
    if rng.random() < LEAST_RECENT_SHARE:
        return min(candidates, key=lambda record: visited_at[record.name])
    return rng.choice(candidates)


def round_delay(weight: float, threshold: float, rhythm: Rhythm, rng: Random) -> float:
    """Seconds until the next round: 30 / RT x weight, at least about 10; when overloaded 30 to 35."""
    if weight > threshold:
        return rhythm.round_max + rng.random() * rhythm.round_max / 6
    delay = rhythm.round_max / threshold * weight
    return delay if delay >= rhythm.round_min else rhythm.round_min * (1 - rng.random() / 5)


class Rounds:
    """The partner of each round, and when the next one is."""

    def __init__(
        self, rhythm: Rhythm, rng: Random, clock: float, awareness: Awareness, forbids: Callable[[Record], bool]
    ) -> None:
        self.rhythm, self.rng, self.awareness, self.forbids = rhythm, rng, awareness, forbids
        self._visited_at: dict[str, float] = {}
        self._count = 0  # since the start, or since quick rounds were wanted last
        self._round_at = clock
        self._quiet_since = clock
        self._lacking: set[str] = set()  # digests of policies whose text did not come
        self._lacking_at = math.inf

    def notice(self, view: View, clock: float) -> None:
        """Somebody has another policy, or a text has come; it follows its record, if the sender had it."""
        before, self._lacking = self._lacking, set(view.unknown_policies())
        if not self._lacking:
            self._lacking_at = math.inf
        elif self._lacking - before:
            self._lacking_at = min(self._lacking_at, clock + QUIET_SECONDS)

    def heard(self, clock: float) -> None:
        """There was news: a difference between views may be news under way."""
        self._quiet_since = clock

    def due(self, view: View, clock: float, weight: float, threshold: float) -> list[Synchronise]:
        """The partner of a round, when one is due and there is somebody."""
        if clock >= self._lacking_at:  # as at the start: some quick rounds, with one after the other
            self._lacking_at, self._count, self._round_at = math.inf, 0, clock
        if clock < self._round_at:
            return []
        self._count += 1
        is_startup = self._count <= STARTUP_ROUNDS
        delay = STARTUP_PAUSE if is_startup else round_delay(weight, threshold, self.rhythm, self.rng)
        self._round_at = clock + delay * (1 + self.awareness.value)
        partner = next_partner([r for r in view.others_there() if not self.forbids(r)], self._visited_at, self.rng)
        return [self._visit(partner, clock)] if partner else []

    def next_at(self) -> float:
        """When the next round will be due."""
        return min(self._round_at, self._lacking_at)

    def compared(self, record: Record, digest: str, view: View, clock: float) -> list[Synchronise]:
        """A node has told the digest of its view ("" for none): synchronise out of turn, if all is quiet and yet it differs."""
        is_behind = digest not in ("", view.digest()) and clock - self._quiet_since > QUIET_SECONDS
        if not is_behind or self.forbids(record):
            return []
        self._quiet_since = clock
        return [self._visit(record, clock)]

    def _visit(self, partner: Record, clock: float) -> Synchronise:
        self._visited_at[partner.name] = clock
        return Synchronise(partner.name, partner.address)


class Dials:
    """The addresses where a node was, or is said to be. `hints` gives those of the settings as they are now."""

    def __init__(self, rng: Random, hints: Callable[[], Iterable[str]]) -> None:
        self.rng, self.hints = rng, hints
        self._next: dict[str, tuple[float, float]] = {}  # address -> (when, the pause after that)
        self._under_way: set[str] = set()
        self._looked_at: frozenset[str] | None = None  # the hints when it was looked which addresses are wanted

    def notice(self) -> None:
        """Somebody has come or gone."""
        self._looked_at = None

    def due(self, view: View, clock: float) -> list[Synchronise]:
        """Those to dial now, so many at once."""
        hints = frozenset(view.hints).union(self.hints())
        if self._looked_at != hints:
            self._looked_at = hints
            self._look(view, hints, clock)
        due = [a for a, (next_at, _) in self._next.items() if clock >= next_at and a not in self._under_way]
        due = due[: max(DIALS_AT_ONCE - len(self._under_way), 0)]
        for address in due:
            pause = self._next[address][1]
            self._next[address] = (clock + pause * (1 + self.rng.random() / 2), min(pause * 2, DIAL_PAUSE_MAX))
            self._under_way.add(address)
        return [Synchronise(None, address) for address in due]

    def next_at(self) -> float:
        """When the next dial will be due."""
        if len(self._under_way) >= DIALS_AT_ONCE:
            return math.inf
        return min((at for address, (at, _) in self._next.items() if address not in self._under_way), default=math.inf)

    def done(self, address: str, is_there: bool) -> None:
        """A conversation with the node at this address is over. If it went well and yet the view goes on lacking a node
        there, the address is dialled anew."""
        self._under_way.discard(address)
        if is_there:
            self._next.pop(address, None)
            self._looked_at = None

    def _look(self, view: View, hints: frozenset[str], clock: float) -> None:
        """Which addresses are wanted: that changes with the company and the hints alone."""
        occupied = {record.address for record in view.records.values() if record.is_there}
        wanted = ({record.address for record in view.others() if record.status == DEAD} | hints) - occupied
        for address in sorted(wanted - self._next.keys()):
            self._next[address] = (clock if address in hints else clock + 1, DIAL_PAUSE)
        for address in self._next.keys() - wanted:
            del self._next[address]
