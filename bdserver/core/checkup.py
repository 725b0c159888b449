"""Visits: what one node finds when it goes to another the way callers and news go, and what many visits mean together.

A visit is facts, in words and numbers; `findings` judges all of them at once, so that a host that nobody reaches is one line
and not one for each other host, and a firewall that lets one direction through is told from a host that is down. Who visits
whom is the business of answers and of `bdctl doctor`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bdserver.core.attention import (
    CLOCK_SECONDS,
    REMEDIES,
    Finding,
    Severity,
    Unmet,
    few,
    gravest_first,
    why_unmet,
)
from bdserver.core.tuples import NamedTuple
from bdserver.errors import NoSuchCommand

# A round trip between hosts of one mesh takes a tenth of it at most; callers wait for several.
SLOW_SECONDS = 1.0
# More than any path's largest packet, several times: what travels in one piece at most somewhere is found out.
LARGE_BYTES = 16 << 10
# Of a mesh that is larger, each node visits so many: its followers in the order of names, so that each is visited as often.
VISITS_MAX = 40
WORDS_CHARACTERS_MAX = 300


class Visit(NamedTuple):
    """What came of it. `code` and `text` are those of the error with which it ended, `step` what it was at: "call" before the
    other node was proved, "ask" when small questions got no answer, "large" when only large ones did not. `news`: why its port
    for news can't be reached. `name`: whom we wanted, else who it was. `clock_off`: seconds that its clock is ahead of ours."""

    name: str
    address: str
    code: str = ""
    text: str = ""
    step: str = ""
    seconds: float = 0.0
    clock_off: float | None = None
    news: str = ""

    @property
    def is_well(self) -> bool:
        """Callers and news both get there."""
        return not self.code and not self.news


def as_json(visit: Visit) -> dict[str, Any]:
    """As it travels; fields at their defaults stay at home."""
    return {key: value for key, value in visit._asdict().items() if value != Visit._field_defaults.get(key, "")}


def from_json(said: Mapping[str, Any]) -> Visit:
    """What another node tells of its visit, whatever it says."""

    def text(key: str) -> str:
        value = said.get(key, "")
        return value[:WORDS_CHARACTERS_MAX] if isinstance(value, str) else ""

    def number(key: str) -> float | None:
        value = said.get(key)
        return float(value) if isinstance(value, int | float) and abs(value) < 1e12 else None

    name, address, seconds = text("name"), text("address"), number("seconds") or 0.0
    return Visit(name, address, text("code"), text("text"), text("step"), seconds, number("clock_off"), text("news"))


def whom(me: str, names: list[str]) -> list[str]:
    """Of the other nodes, those that this one visits: all, or as many as VISITS_MAX that follow it in the order of names."""
    ordered = sorted(name for name in names if name != me)
    behind = [name for name in ordered if name > me] + [name for name in ordered if name < me]
    return behind[:VISITS_MAX]


# --- what they mean -----------------------------------------------------------------------------------------------


def findings(visits: Mapping[str, list[Visit]]) -> list[Finding]:
    """Of all visits, by visitor, the gravest first: those that one cause explains are one finding."""
    told = {(visitor, visit.name): visit for visitor, each in visits.items() for visit in each}
    return gravest_first([*_unreached(told), *_clocks(told), *_slow(told)])


Told = dict[tuple[str, str], Visit]


def _clocks(told: Told) -> Iterator[Finding]:
    """A clock is off that is not with most others; of two, nobody knows which."""
    clocks = _laid_out(told)
    if len(clocks) == 2:
        (one, first), (two, second) = sorted(clocks.items())
        if abs(first - second) > CLOCK_SECONDS:
            yield _clock(one, first - second, f"that of {two}")._replace(remedy="set the wrong one, and have NTP keep both")
        return
    usual = sorted(clocks.values())[(len(clocks) - 1) // 2] if clocks else 0.0  # the median, of two the lower one
    for name, seconds in sorted(clocks.items()):
        if abs(seconds - usual) > CLOCK_SECONDS:
            yield _clock(name, seconds - usual, "those of most other nodes")


def _laid_out(told: Told) -> dict[str, float]:
    """name -> seconds by which its clock is ahead of that of one of them, by one difference after the other."""
    differences: dict[str, dict[str, float]] = {}
    for (visitor, host), visit in told.items():
        if visit.clock_off is not None:
            differences.setdefault(visitor, {})[host] = visit.clock_off
            differences.setdefault(host, {})[visitor] = -visit.clock_off
    first = min(differences, key=lambda name: (-len(differences[name]), name), default=None)
    if first is None:
        return {}
    found, waiting = {first: 0.0}, [first]
    for name in waiting:
        for other, seconds in differences[name].items():
            if other not in found:
                found[other] = found[name] + seconds
                waiting.append(other)
    return found


def _clock(name: str, seconds: float, whose: str) -> Finding:
    said = f"the clock of {name} is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} {whose}"
    return Finding(Severity.GRAVE if abs(seconds) > 3600 else Severity.WARNING, "clock", said, "set it, and have NTP keep it")


def _unreached(told: Told) -> Iterator[Finding]:
    """Whom nobody reaches first, then who reaches nobody, then pairs."""
    failed = {pair: visit for pair, visit in told.items() if not visit.is_well}
    explained: set[tuple[str, str]] = set()
    for host in sorted({host for _, host in failed}):
        there = [pair for pair in told if pair[1] == host]
        if len(there) > 1 and all(pair in failed for pair in there):
            explained.update(there)
            yield _failure(f"none of {len(there)} nodes reaches {host}", failed[there[0]])
    for visitor in sorted({visitor for visitor, _ in failed}):
        gone = [pair for pair in told if pair[0] == visitor]
        left = [pair for pair in gone if pair not in explained]
        if len(left) > 1 and all(pair in failed for pair in gone):
            explained.update(left)
            yield _failure(f"{visitor} reaches none of {len(gone)} nodes", failed[left[0]])
    for pair in sorted(failed.keys() - explained):
        if (pair[1], pair[0]) not in explained:
            yield _of_pair(pair, failed[pair], told.get((pair[1], pair[0])))
            explained.add(pair)


def _of_pair(pair: tuple[str, str], visit: Visit, back: Visit | None) -> Finding:
    one, other = pair
    if why_unmet(visit.code, visit.text) is Unmet.POLICY:  # zones of a policy may be what somebody wants
        return Finding(Severity.NOTE, "policy", f"the policies of {one} and {other} do not meet", REMEDIES[Unmet.POLICY])
    if back is None:
        return _failure(f"{one} does not reach {other}", visit)
    if back.is_well:
        found = _failure(f"{one} does not reach {other}, and {other} reaches {one}", visit)
        is_silence = why_unmet(visit.code, visit.text) is Unmet.SILENCE and visit.step == "call"
        if is_silence:
            return found._replace(key="one-way", remedy=f"does a firewall let {one} through to {other}?")
        return found
    return _failure(f"{one} and {other} do not reach each other", visit)


def _failure(who: str, visit: Visit) -> Finding:
    """Of a visit that failed; `who`: the words for whose it was."""
    if not visit.code:
        remedy = "let it through every firewall between: gossip_port is the one behind port"
        return Finding(Severity.GRAVE, "news-port", f"{who} on the port for news: {visit.news}", remedy)
    if visit.code == NoSuchCommand.code:
        words = f"{who} at its port for callers: {visit.text}"
        return Finding(
            Severity.GRAVE, "wrong-port", words, "name that port in hints: gossip_port is for other nodes' news alone"
        )
    if visit.step == "large":
        words = f"{who} with large messages, and does with small ones: {visit.text}"
        return Finding(Severity.GRAVE, "mtu", words, "is an MTU between them smaller than theirs? (ping -M do -s 1472)")
    if visit.step == "ask" and why_unmet(visit.code, visit.text) is Unmet.SILENCE:
        words = f"{who}, which takes connections and does not answer: {visit.text}"
        return Finding(Severity.GRAVE, "hangs", words, "see its log; is its machine overloaded?")
    why = why_unmet(visit.code, visit.text)
    return Finding(Severity.GRAVE, f"unreached-{why}", f"{who}: {visit.text}", REMEDIES[why])


def _slow(told: Told) -> Iterator[Finding]:
    slow: dict[str, list[float]] = {}
    for (_, host), visit in told.items():
        if not visit.code and visit.seconds > SLOW_SECONDS:
            slow.setdefault(host, []).append(visit.seconds)
    if slow:
        worst = max(max(each) for each in slow.values())
        words = f"answers from {few(sorted(slow))} take up to {worst:.1f} s"
        yield Finding(Severity.WARNING, "slow", words, "is its machine, or the way to it, overloaded?")
