"""The table of counters, and how they are told."""

import math
import pathlib
import re

import pytest

import bdserver
from bdserver.core import counting
from bdserver.core.counting import (
    BUCKETS,
    COUNT,
    COUNTERS,
    EVENTS,
    FIRST_BUCKET,
    KEYS,
    SUM_SLOT,
    bucket,
    counted,
    histogram,
    rates,
    slot,
    told,
)


def test_each_combination_of_labels_has_a_slot_of_its_own():
    assert len(set(KEYS)) == len(KEYS) == FIRST_BUCKET and COUNT == SUM_SLOT + 1
    assert slot("deaths") != slot("suspicions", "raised")
    assert KEYS[slot("requests", "WHEREIS", "place")] == ("requests", "WHEREIS", "place")


def test_a_word_that_nobody_knows_is_the_odd_one():
    assert slot("requests", "NONSENSE", "bad-request") == slot("requests", "?", "bad-request")
    assert slot("events", "nonsense") == slot("events", "?")
    with pytest.raises(KeyError):
        slot("nothing")


def test_each_kind_of_event_that_a_node_notes_is_counted_by_its_name():
    noted = re.compile(r'(?<!\w)_?note(?:_once)?\(\s*(?:session, )?"(\w+)"')
    sources = [path.read_text() for path in (pathlib.Path(bdserver.__file__).parent / "processes").rglob("*.py")]
    found = {what for text in sources for what in noted.findall(text)}
    assert found | {"withdrawn", "retired"} == set(EVENTS), "the two of copies.Go"
    assert {KEYS[slot("events", what)] for what in EVENTS} == {("events", what) for what in EVENTS}


@pytest.mark.parametrize(("seconds", "limit"), [(0.0, 0.001), (0.001, 0.001), (0.0011, 0.0025), (10.0, 10.0), (99.0, math.inf)])
def test_a_look_up_falls_into_the_bucket_below_whose_limit_it_stays(seconds, limit):
    assert BUCKETS[bucket(seconds) - FIRST_BUCKET] == limit


def slots(**values):
    found = [0.0] * COUNT
    for key, value in values.items():
        found[slot(*key.split("__"))] = value
    return found


def test_what_is_told_is_read_again():
    row = slots(requests__PING__pong=3, deaths=2)
    row[bucket(0.002)] += 2
    row[bucket(20)] += 1
    row[SUM_SLOT] = 20.004
    said = told(row)
    assert said["requests"] == {"PING pong": 3} and said["deaths"] == {"": 2} and said["events"] == {}
    assert {(each.row.name, each.labels, each.value) for each in counted(said)} == {
        ("requests", ("PING", "pong"), 3), ("deaths", (), 2),
    }  # fmt: skip
    buckets, total = histogram(said)
    assert total == 20.004 and buckets[0] == ("0.001", 0) and buckets[1] == ("0.0025", 2) and buckets[-1] == ("+Inf", 3)


@pytest.mark.parametrize("said", [
    None, [], {"requests": 3}, {"requests": {"PING pong": "x", "PING nothing": 1, "a b c": 1, "PING no": -1, "PING yes": True}},
    {"deaths": {"": float("inf")}}, {"unknown": {"": 1}},
])  # fmt: skip
def test_what_is_no_counter_is_passed_over(said):
    assert list(counted(said)) == []


@pytest.mark.parametrize("change", [{"sum": "x"}, {"buckets": None}, {"buckets": {}}, {"sum": math.nan}])
def test_half_a_histogram_is_none(change):
    said = told([0.0] * COUNT)
    assert histogram({counting.HISTOGRAM: said[counting.HISTOGRAM] | change}) is None


def test_rates_are_of_the_time_between():
    then, now = slots(requests__PING__pong=10), slots(requests__PING__pong=40, received__nodes=1000)
    assert rates(now, then, 10.0) == {"requests": 3.0, "lookups": 0.0, "connections": 0.0, "received": 100.0, "sent": 0.0}
    now[bucket(0.002)], now[SUM_SLOT] = 4, 0.02
    assert rates(now, then, 10.0)["lookup_seconds"] == 0.005


def test_every_counter_has_a_name_for_prometheus():
    assert all(row.metric.isidentifier() and row.meaning.endswith(".") for row in COUNTERS)
    assert len({row.metric for row in COUNTERS}) == len(COUNTERS)
