"""When a node has its certificate renewed, by whom, and how long it waits after a signer has said no.

From two thirds of a certificate's life on, a ninth of it later at most, drawn for each certificate: nodes that joined together
do not come together. After a failure the pauses grow. What a third of a life leaves is a month of ninety days, and twenty
seconds of a minute: signers may be away for long.

A CA that is rolled makes a certificate due at once: as soon as a signer has a certificate by the new one. So does a signer that
is going to be revoked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from random import Random

from bdserver.core.tuples import NamedTuple

# Of a certificate's life: from when on it is renewed, and how much later at most.
DUE_SHARE, JITTER_SHARE = 2 / 3, 1 / 9
# The first pause after a failure, as a share of the life, and the longest; each is twice the one before.
PAUSE_SHARE, PAUSE_SHARE_MAX = 1 / 20_000, 1 / 60
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 1.0, 6 * 3600.0
# With its jitter.
LONGEST_SECONDS = 1.5 * PAUSE_SECONDS_MAX
DOUBLINGS_MAX, URGENT_DOUBLINGS = 30, 4
# Of what is left until a signer is revoked, no pause is longer than this.
HURRY_SHARE = 1 / 8
# A new certificate must last longer than the old one by so much of its life, else it is none: the signer's own ends.
GAIN_SHARE = 1 / 20


class Life(NamedTuple):
    """From when and until when a certificate is good; `draw`: from 0 to 1, its part of the jitter."""

    begins: float
    ends: float
    draw: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it is good in all."""
        return max(self.ends - self.begins, 0.0)

    @property
    def due_at(self) -> float:
        """When it is to be renewed."""
        return self.begins + self.seconds * (DUE_SHARE + JITTER_SHARE * self.draw)


class Renewal(NamedTuple):
    """One certificate on its way to the next. `is_urgent`: not its age asks for it, but that those who vouch for it change, the
    signer at `by`, which is inf for a CA that is rolled."""

    life: Life
    failures: int = 0
    next_at: float = 0.0
    why: str = ""  # it failed last
    is_urgent: bool = False
    by: float = math.inf

    def due_at(self) -> float:
        """When to try next."""
        return self.next_at if self.is_urgent else max(self.life.due_at, self.next_at)

    def is_due(self, now: float) -> bool:
        """Whether to try now. A time that is further ahead than any pause a clock has set that was put back since."""
        is_believed = self.next_at <= now + LONGEST_SECONDS
        return now >= (self if is_believed else self._replace(next_at=0.0)).due_at()

    def urged(self, now: float, rng: Random, by: float = math.inf) -> Renewal:
        """It is due whatever its age, in a spread of an hour or two, or of a part of the time that is left: all others come as
        well."""
        if self.is_urgent and by >= self.by:
            return self
        spread = min(_pause(self.life, URGENT_DOUBLINGS), (by - now) * HURRY_SHARE)
        return self._replace(is_urgent=True, by=by, next_at=now + max(spread, 0.0) * rng.random())

    def failed(self, why: str, now: float, rng: Random) -> Renewal:
        """Nobody has signed."""
        pause = min(_pause(self.life, self.failures), max((self.by - now) * HURRY_SHARE, PAUSE_SECONDS_MIN))
        pause *= 0.5 + rng.random()
        return self._replace(failures=self.failures + 1, next_at=now + pause, why=why)

    def is_failing(self, now: float) -> bool:
        """Whether somebody should look: it has failed for a tenth of what is left from its due time on, or it is over."""
        left = self.life.ends - self.life.due_at
        return bool(self.failures) and (self.is_urgent or now > self.life.due_at + left / 10)


def _pause(life: Life, failures: int) -> float:
    longest = min(life.seconds * PAUSE_SHARE_MAX, PAUSE_SECONDS_MAX)
    pause = life.seconds * PAUSE_SHARE * float(2 ** min(failures, DOUBLINGS_MAX))
    return max(min(pause, longest), PAUSE_SECONDS_MIN)


def is_gain(old: Life, new: Life) -> bool:
    """Whether the new certificate is worth putting in the place of the old one."""
    return new.ends > old.ends + GAIN_SHARE * old.seconds


def order(me: str, signers: Sequence[str], avoided: Collection[str], rng: Random) -> list[str]:
    """Whom to ask, first to last: ourselves if we sign, then the others in shuffled turn; those avoided (their own certificate
    is by the old CA, or is going to be revoked) are not asked at all."""
    asked = sorted(set(signers) - set(avoided))
    rng.shuffle(asked)
    return sorted(asked, key=lambda name: name != me)
