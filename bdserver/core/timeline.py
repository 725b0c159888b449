"""The time line of a node: what each minute came to, drawn together to as many spans as somebody wants to see.

A span of which nothing is known is not there: whoever shows the line shows a gap. To count and to keep minutes is the
business of processes.past and files.timeline. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeGuard

from bdserver.core.tuples import NamedTuple

HOURS_MAX = 168
# As many as a screen has room for, and a STATUS.
SPANS_MAX = 360


class Span(NamedTuple):
    """What was seen from the minute `start` (of the epoch) on. `seconds`: of how many seconds of it; `weight`: on average;
    `peak`: the highest; `threshold`: the last."""

    start: int
    seconds: int
    calls: int
    deaths: int
    copies: int
    weight: float
    peak: float
    threshold: float

    def with_next(self, other: Span) -> Span:
        """Both, as one."""
        seconds = self.seconds + other.seconds
        return Span(
            self.start,
            seconds,
            self.calls + other.calls,
            self.deaths + other.deaths,
            self.copies + other.copies,
            (self.weight * self.seconds + other.weight * other.seconds) / seconds if seconds else 0.0,
            max(self.peak, other.peak),
            other.threshold,
        )


def step_of(hours: int) -> int:
    """How many minutes are one span of so many hours."""
    return max(1, math.ceil(hours * 60 / SPANS_MAX))


def spans(minutes: Iterable[Span], now_minute: int, hours: int) -> list[Span]:
    """The last hours of what was kept, oldest first, each span of `step_of(hours)` minutes; nothing of the future."""
    step = step_of(hours)
    found: dict[int, Span] = {}
    for each in sorted(minutes):
        if now_minute - hours * 60 < each.start <= now_minute:
            start = each.start - each.start % step
            found[start] = found[start].with_next(each) if start in found else each._replace(start=start)
    return list(found.values())


# --- on the wire --------------------------------------------------------------------------------------------------


def told(minutes: Iterable[Span], now_minute: int, hours: int) -> dict[str, Any]:
    """As STATUS tells it."""
    rows = [[*each[:5], *(round(value, 3) for value in each[5:])] for each in spans(minutes, now_minute, hours)]
    return {"now": now_minute, "hours": hours, "step": step_of(hours), "spans": rows}


class Line(NamedTuple):
    """What a node told: `spans` of `step` minutes each in the `hours` until the minute `now`, by its clock."""

    now: int
    hours: int
    step: int
    spans: list[Span]

    @property
    def first(self) -> int:
        """The minute with which it begins."""
        return (self.now - self.hours * 60 + 1) // self.step * self.step

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """(first minute, minute behind the last) of each time of which nothing is known. What begins now may still come."""
        found, at = [], self.first
        for each in self.spans:
            if each.start > at:
                found.append((at, each.start))
            at = each.start + self.step
        last = self.now - self.now % self.step
        return [*found, (at, last)] if at < last else found


def from_json(said: object) -> Line | None:
    """What another node tells, of any version; None when it is no time line. It may lie, but not in form or size."""
    if not isinstance(said, dict):
        return None
    now, hours, rows = said.get("now"), said.get("hours"), said.get("spans")
    if not (_is_whole(now) and _is_whole(hours) and 1 <= hours <= HOURS_MAX and isinstance(rows, list)):
        return None
    step = step_of(hours)
    line = Line(now, hours, step, [])
    known = {span.start: span for span in map(_span, rows[: 2 * SPANS_MAX]) if span is not None}
    fit = [span for start, span in sorted(known.items()) if start % step == 0 and line.first <= start <= now]
    return line._replace(spans=fit)


def _span(row: object) -> Span | None:
    if not isinstance(row, list) or len(row) != len(Span._fields):
        return None
    if not all(map(_is_whole, row[:5])) or not all(map(_is_amount, row[5:])):
        return None
    return Span(*row)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32


def _is_amount(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
