"""Ours and its floor measured in turns, since a machine's mood lasts longer than one measurement.

Promises a Row of medians, and the ratio as the median of the pairs' ratios, with its quartiles.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table. `unit`: ms, MiB, or per s, where more is better and the ratio is the floor's over ours."""

    what: str
    unit: str
    floor: float
    ours: float
    ratio: float
    quartiles: tuple[float, float]
    budget: float | None

    @property
    def is_met(self) -> bool | None:
        """None where there is no budget."""
        return None if self.budget is None else self.ratio <= self.budget


def measure(
    what: str, unit: str, ours: Callable[[], float], floor: Callable[[], float], pairs: int, budget: float | None = None
) -> Row:
    """Each function does it once and returns the figure. One pair first that does not count: caches, files, imports."""
    ours(), floor()
    both = []
    for turn in range(pairs):
        first, second = (ours, floor) if turn % 2 else (floor, ours)  # nobody is always the one who comes second
        a, b = first(), second()
        both.append((a, b) if turn % 2 else (b, a))
    ratios = [f / o if unit == "per s" else o / f for o, f in both]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    mine, theirs = (statistics.median(column) for column in zip(*both, strict=True))
    return Row(what, unit, theirs, mine, statistics.median(ratios), (low, high), budget)


def milliseconds(action: Callable[[], object], times: int = 1, pause: float = 0.0) -> float:
    """How long one takes, on an average of `times` in a row; `pause`: seconds of rest before each, which do not count."""
    spent = 0.0
    for _ in range(times):
        if pause:
            time.sleep(pause)
        started = time.perf_counter()
        action()
        spent += time.perf_counter() - started
    return 1000 * spent / times


def table(rows: list[Row]) -> str:
    """For people and for docs/BENCHMARKS.md."""
    lines = ["| what | floor | ours | ratio (quartiles) | budget | met |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for row in rows:
        budget = "" if row.budget is None else f"{row.budget:.1f} ×"
        met = {None: "", True: "yes", False: "NO"}[row.is_met]
        ratio = f"{row.ratio:.2f} × ({row.quartiles[0]:.2f} to {row.quartiles[1]:.2f})"
        lines.append(f"| {row.what} | {_figure(row.floor, row.unit)} | {_figure(row.ours, row.unit)} "
                     f"| {ratio} | {budget} | {met} |")  # fmt: skip
    return "\n".join(lines)


def _figure(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"
