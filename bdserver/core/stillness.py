"""Which things that change by hand have come to rest: what somebody writes in place is half of itself for a moment.

A large file that is uploaded changes for minutes, and a log that lies in a service's folder does for ever. How each thing looks
is noted again and again, and it has rested when it looked the same for a moment. That moment is longer for what has been
changing longer: an upload may falter, and a log is not to be something new with each line. What follows from rest is its
caller's business.
"""

from __future__ import annotations

from bdserver.core.tuples import NamedTuple

# Two looks a second apart, and one more for an upload that falters; or so much of the time that it has been changing.
REST_SECONDS, REST_SECONDS_MAX, REST_SHARE = 1.9, 60.0, 0.1
# What was still for so long begins anew with its next change.
CALM_SECONDS = 120.0
# What has not rested for so long is said.
RESTLESS_SECONDS = 10.0


class _Seen(NamedTuple):
    """How it looked last, since when, when that was; and since when it changes."""

    look: str
    since: float
    seen_at: float
    changing_since: float

    @property
    def has_rested(self) -> bool:
        patience = min(max(REST_SHARE * (self.since - self.changing_since), REST_SECONDS), REST_SECONDS_MAX)
        return self.seen_at - self.since >= patience


class Stillness:
    """Of several things, by their names. The clock is handed in, and never steps."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def note(self, name: str, look: str, clock: float) -> None:
        """It looks so now."""
        seen = self._seen.get(name)
        if seen is None:
            self._seen[name] = _Seen(look, clock, clock, clock)
        elif seen.look == look:
            self._seen[name] = seen._replace(seen_at=clock)
        else:
            is_calm = clock - seen.since >= CALM_SECONDS
            self._seen[name] = _Seen(look, clock, clock, clock if is_calm else seen.changing_since)

    def keep(self, names: frozenset[str]) -> None:
        """Others are gone."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}

    def has_rested(self, name: str) -> bool:
        """Whether it has looked as it does for long enough, as far as was noted."""
        return name in self._seen and self._seen[name].has_rested

    def restless(self) -> list[str]:
        """What has been changing for long, and not rested since."""
        return sorted(
            name
            for name, seen in self._seen.items()
            if not seen.has_rested and seen.seen_at - seen.changing_since >= RESTLESS_SECONDS
        )
