"""The strips of the time line: what they show, what they say, and that what is not known is told as such."""

import re

import pytest

from bdserver.audit import page, past
from bdserver.audit.crawl import LookUp
from bdserver.audit.snapshot import Snapshot
from bdserver.core import timeline
from bdserver.core.timeline import Span

from . import crawls

NOW = 28_000_000


def line(minutes, hours=1):
    return timeline.from_json(timeline.told(minutes, NOW, hours))


def minute(back, calls=2, deaths=0, copies=0, weight=10.0, peak=20.0):
    return Span(NOW - back, 60, calls, deaths, copies, weight, peak, 100.0)


def test_four_strips_tell_in_words_what_they_show():
    drawn = past.drawing(line([minute(back, deaths=int(back == 7), copies=2 * (back == 9)) for back in range(60)]))
    words = {strip.name: strip.words for strip in drawn.strips}
    assert words["Weight"].startswith("10.0 on average in this minute, at most 20.0 at ") and words["Weight"].endswith("of 100")
    assert words["Calls"] == "120 in all, at most 2 a minute"
    assert words["Deaths seen"] == "1 in all" and words["Copies taken and given"] == "2 in all"
    assert drawn.unknown == "" and drawn.gaps == [] and len(drawn.ticks) == past.TICKS + 1
    assert all(strip.words in drawn.words for strip in drawn.strips)


def test_a_time_of_more_than_a_day_is_told_with_its_day():
    of_a_day, of_a_week = (past.drawing(line([minute(back) for back in range(90)], hours)) for hours in (24, 168))
    assert all(re.fullmatch(r"\d\d:\d\d", tick) for tick in of_a_day.ticks)
    assert all(re.fullmatch(r"\w+ \d\d:\d\d", tick) for tick in of_a_week.ticks) and len({*of_a_week.ticks}) == past.TICKS + 1
    assert re.search(r"on average in the last \d+ min, at most 20.0 at \w+ \d\d:\d\d,", of_a_week.strips[0].words)


def test_a_gap_cuts_the_curve_and_is_told():
    drawn = past.drawing(line([minute(back) for back in range(60) if not 20 <= back < 35]))
    weight = drawn.strips[0]
    assert len(weight.areas) == len(weight.peaks) == 2
    [gap] = drawn.gaps
    assert (gap.x, gap.width) == (25, 15) and gap.words.startswith("nothing is known of ")
    assert drawn.unknown == "Nothing is known of 15 min of it, which is grey." and drawn.unknown in drawn.words


def test_a_node_that_has_just_begun_knows_nothing():
    drawn = past.drawing(line([], 6))
    assert [strip.words for strip in drawn.strips] == ["unknown"] * 4
    assert drawn.gaps[0].width == 359 and "5 h 59 min" in drawn.unknown
    quiet = past.drawing(line([minute(0, calls=0, weight=0.0, peak=0.0)._replace(threshold=0.0, seconds=0)]))
    assert quiet.strips[0].level is None and quiet.strips[1].words == "0 in all, at most 0 a minute"


@pytest.mark.parametrize("hours", [1, 6, 24, 168])
def test_everything_lies_within_the_picture(hours):
    drawn = past.drawing(
        line([minute(back, back % 50, int(back % 7 == 0), int(back % 11 == 0)) for back in range(hours * 60)], hours)
    )
    for strip in drawn.strips:
        for points in (*strip.areas, *strip.peaks):
            for x, y in (map(float, point.split(",")) for point in points.split()):
                assert 0 <= x <= drawn.width and 0 <= y <= past.HEIGHT
        assert all(0 <= box.x <= drawn.width and 0 <= box.y <= past.HEIGHT for box in strip.boxes)


def test_it_stands_on_the_page_of_the_mesh_and_of_the_node():
    made = crawls.mesh(2)
    for name in made.statuses:
        made.statuses[name] = made.statuses[name]._replace(line=line([minute(back) for back in range(30)]))
    snapshot = Snapshot(made)
    for html in (
        page.render(snapshot, 0, 20, frame=page.Frame(hours=6)),
        page.render_node(snapshot, "n001", page.Frame(hours=6)),
    ):
        assert html.count('<svg class="strip"') == 4 and 'class="gap"' in html and "<strong>6 h</strong>" in html
        assert re.search(r'href="\?(node=n001&amp;)?hours=24"', html)
    assert "<svg" not in page.render_node(Snapshot(crawls.mesh(1)), "n000")


def test_who_asks_and_why_look_ups_went_where_they_went_stand_on_both_pages():
    made = crawls.mesh(2)
    found = LookUp(NOW * 60.0, "Search", "192.0.2.7", "n000", 1, "", [("n001", "NO", 1.5), ("n000", "YES", 2.0)])
    nobody = LookUp(NOW * 60.0 - 5, "Search", "192.0.2.8", "", 0, "no room", [])
    made.statuses["n001"] = made.statuses["n001"]._replace(askers={"Search": [("192.0.2.9", 12)]}, lookups=[found, nobody])
    snapshot = Snapshot(made)
    for html in (page.render_node(snapshot, "n001"), page.render_service(snapshot, "Search")):
        assert "192.0.2.9" in html and "a holder with room" in html and "n001 NO in 1.5 ms, n000 YES in 2.0 ms" in html
        assert "nobody could take it: no room" in html and '<span class="warn">nobody</span>' in html
    assert "Nobody, within the last minute." in page.render_node(snapshot, "n000") and "not told" not in html


def test_callers_whose_addresses_are_not_told_are_rows_of_their_own():
    made = crawls.mesh(2)
    found = LookUp(NOW * 60.0, "Search", "", "n000", 1, "", [])
    made.statuses["n001"] = made.statuses["n001"]._replace(askers={"Search": [("", 12), ("", 7)]}, lookups=[found])
    for html in (page.render_node(Snapshot(made), "n001"), page.render_service(Snapshot(made), "Search")):
        assert html.count(">not told</span>") == 3
        keys = re.findall(r'data-key="(\d+ Search n001)"', html)
        assert keys == ["1 Search n001", "2 Search n001"]
