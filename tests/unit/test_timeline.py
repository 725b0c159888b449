"""The time line: minutes become spans, gaps stay gaps, and what another node tells is taken only where it makes sense."""

import math

import pytest

from bdserver.core import timeline
from bdserver.core.timeline import HOURS_MAX, SPANS_MAX, Line, Span

NOW = 28_000_000


def minute(start, calls=1, seconds=60, weight=1.0, peak=2.0):
    return Span(start, seconds, calls, 0, 1, weight, peak, 100.0)


def test_an_hour_is_a_span_a_minute_and_a_week_has_no_more_than_a_screen():
    minutes = [minute(NOW - back) for back in range(HOURS_MAX * 60 + 5)]
    assert [span.start for span in timeline.spans(minutes, NOW, 1)] == list(range(NOW - 59, NOW + 1))
    for hours in (1, 6, 24, HOURS_MAX):
        found = timeline.spans(minutes, NOW, hours)
        assert len(found) <= SPANS_MAX + 1
        assert sum(span.calls for span in found) == hours * 60, "each minute counts once"


def test_minutes_are_drawn_together_by_how_long_they_were_seen():
    both = minute(8, calls=3, seconds=60, weight=10.0, peak=12.0).with_next(minute(9, 1, 20, 2.0, 30.0))
    assert both == Span(8, 80, 4, 0, 2, 8.0, 30.0, 100.0)
    nothing = minute(8, seconds=0)
    assert nothing.with_next(nothing).weight == 0.0


def test_what_is_to_come_and_what_is_long_over_is_left_out():
    assert timeline.spans([minute(NOW + 1), minute(NOW - 60), minute(NOW - 59)], NOW, 1) == [minute(NOW - 59)]


def test_a_gap_is_a_gap():
    minutes = [minute(start) for start in range(NOW - 40, NOW) if start not in (NOW - 20, NOW - 19)]
    line = timeline.from_json(timeline.told(minutes, NOW, 1))
    assert line.gaps == [(NOW - 59, NOW - 40), (NOW - 20, NOW - 18)], "and the minute that runs is none"
    assert timeline.from_json(timeline.told([], NOW, 1)).gaps == [(NOW - 59, NOW)]
    whole = timeline.from_json(timeline.told([minute(NOW - back) for back in range(60)], NOW, 1))
    assert whole.gaps == []


def test_what_is_told_comes_back_as_it_was():
    minutes = [minute(NOW - back, calls=back) for back in range(300)]
    for hours in (1, 7, HOURS_MAX):
        line = timeline.from_json(timeline.told(minutes, NOW, hours))
        assert line == Line(NOW, hours, timeline.step_of(hours), timeline.spans(minutes, NOW, hours))


GOOD = timeline.told([minute(NOW)], NOW, 1)


@pytest.mark.parametrize(
    "said",
    [None, [], "x", {}, GOOD | {"now": "x"}, GOOD | {"now": True}, GOOD | {"hours": 0}, GOOD | {"hours": HOURS_MAX + 1},
     GOOD | {"now": -1}, GOOD | {"spans": {}}],
)  # fmt: skip
def test_what_is_no_time_line_is_none(said):
    assert timeline.from_json(said) is None


@pytest.mark.parametrize(
    "row",
    [None, [], [NOW] * 7, [NOW, 1, 1, 0, 0, 1.0, 1.0, math.nan], [NOW, 1, 1, 0, 0, 1.0, 1.0, math.inf], [NOW, -1, 1, 0, 0, 1, 1, 1],
     [NOW, 1.5, 1, 0, 0, 1, 1, 1], [NOW + 1, 1, 1, 0, 0, 1, 1, 1], [NOW - 999, 1, 1, 0, 0, 1, 1, 1], [NOW, 1, 1, 0, 0, "1", 1, 1]],
)  # fmt: skip
def test_a_row_that_makes_no_sense_is_left_out(row):
    assert timeline.from_json(GOOD | {"spans": [row]}).spans == []


def test_no_more_is_read_than_a_screen_has_room_for():
    rows = [[NOW - back % 60, 1, 1, 0, 0, 1, 1, 1] for back in range(100_000)]
    assert len(timeline.from_json(GOOD | {"spans": rows}).spans) == 60
