"""The time line of a node as strips for the page: weight, calls, deaths and copies, each a small SVG as wide as it may be.

What is not known is a gap, and is drawn and told as one. Text stands beside the pictures, so that it keeps its size. Pure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from bdserver.core.timeline import Line, Span
from bdserver.core.tuples import NamedTuple

HEIGHT = 40
TICKS = 4
DAY_HOURS = 24
# A single event is to be seen, however long the line.
BAR_SHARE = 1 / 250


class Box(NamedTuple):
    """A rectangle, and what it says."""

    x: float
    width: float
    y: float
    height: float
    words: str


class Strip(NamedTuple):
    """One picture. `areas`: points of polygons; `peaks`: points of lines; `level`: where the threshold is drawn."""

    name: str
    words: str
    areas: list[str]
    peaks: list[str]
    boxes: list[Box]
    level: float | None


class Drawing(NamedTuple):
    """All that the page shows of a time line. `ticks`: times from left to right; `words`: all of it for who sees no picture."""

    width: int
    hours: int
    gaps: list[Box]
    strips: list[Strip]
    ticks: list[str]
    words: str
    unknown: str


def drawing(line: Line) -> Drawing:
    """The pictures."""
    width = line.now + 1 - line.first
    clock = _clock_of(line)
    gaps = [
        Box(start - line.first, end - start, 0, HEIGHT, f"nothing is known of {clock(start)} to {clock(end)}")
        for start, end in line.gaps
    ]
    minutes = sum(end - start for start, end in line.gaps)
    strips = [
        _weight(line),
        _calls(line),
        _events(line, width, "Deaths seen", lambda span: span.deaths),
        _events(line, width, "Copies taken and given", lambda span: span.copies),
    ]
    unknown = f"Nothing is known of {duration(minutes)} of it, which is grey." if minutes else ""
    words = "; ".join(f"{strip.name}: {strip.words}" for strip in strips)
    ticks = [clock(round(line.first + width * k / TICKS)) for k in range(TICKS + 1)]
    return Drawing(width, line.hours, gaps, strips, ticks, f"The last {line.hours} h. {words}. {unknown}".strip(), unknown)


def _clock_of(line: Line) -> Callable[[int], str]:
    """A minute of the epoch, for a person here: with its day where a time of day would be of more than one."""
    form = "%H:%M" if line.hours <= DAY_HOURS else "%a %H:%M"
    return lambda minute: time.strftime(form, time.localtime(minute * 60))


def duration(minutes: int) -> str:
    """So many minutes."""
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _runs(line: Line) -> Iterable[list[Span]]:
    """Spans that follow one another without a gap."""
    run: list[Span] = []
    for span in line.spans:
        if run and span.start != run[-1].start + line.step:
            yield run
            run = []
        run.append(span)
    if run:
        yield run


def _steps(line: Line, run: list[Span], value: Callable[[Span], float], most: float) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for span in run:
        y = HEIGHT - HEIGHT * value(span) / most
        left = span.start - line.first
        points += [(left, y), (min(left + line.step, line.now + 1 - line.first), y)]
    return points


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:.1f}" for x, y in points)


def _area(line: Line, run: list[Span], value: Callable[[Span], float], most: float) -> str:
    points = _steps(line, run, value, most)
    return _points([(points[0][0], HEIGHT), *points, (points[-1][0], HEIGHT)])


def _weight(line: Line) -> Strip:
    threshold, clock = line.spans[-1].threshold if line.spans else 0.0, _clock_of(line)
    peak = max(line.spans, key=lambda span: span.peak, default=None)
    most = max([threshold, *(span.peak for span in line.spans)]) * 1.05 or 1.0
    words = (
        f"{line.spans[-1].weight:.1f} on average {_lately(line.step)}, at most {peak.peak:.1f} at {clock(peak.start)}, "
        f"of {threshold:g}"
        if peak is not None
        else "unknown"
    )
    areas = [_area(line, run, lambda span: span.weight, most) for run in _runs(line)]
    peaks = [_points(_steps(line, run, lambda span: span.peak, most)) for run in _runs(line)]
    return Strip("Weight", words, areas, peaks, [], HEIGHT - HEIGHT * threshold / most if threshold else None)


def _lately(minutes: int) -> str:
    return "in this minute" if minutes == 1 else f"in the last {minutes} min"


def _calls(line: Line) -> Strip:
    def a_minute(span: Span) -> float:
        return span.calls * 60 / span.seconds if span.seconds else 0.0

    most = max(map(a_minute, line.spans), default=0.0)
    total = sum(span.calls for span in line.spans)
    words = f"{total} in all, at most {most:.0f} a minute" if line.spans else "unknown"
    areas = [_area(line, run, a_minute, most * 1.05 or 1.0) for run in _runs(line)]
    return Strip("Calls", words, areas, [], [], None)


def _events(line: Line, width: int, name: str, count: Callable[[Span], int]) -> Strip:
    most = max(map(count, line.spans), default=0)
    boxes = [
        Box(
            span.start - line.first,
            max(line.step, width * BAR_SHARE),
            HEIGHT - HEIGHT * count(span) / most,
            HEIGHT * count(span) / most,
            f"{count(span)} at {_clock_of(line)(span.start)}",
        )
        for span in line.spans
        if count(span)
    ]
    total = sum(map(count, line.spans))
    return Strip(name, (f"{total} in all" if total else "none") if line.spans else "unknown", [], [], boxes, None)
