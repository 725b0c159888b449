"""What a minute of a node comes to: each call, death and copy counts once, whatever restarts between."""

import pytest

from bdserver.core.timeline import Span
from bdserver.processes.past import Past
from tests.unit.nodes import a_node

START = 28_000_000
SECOND = START * 60


@pytest.fixture
def node(tmp_path):
    return a_node(tmp_path, timeline_hours=1).offer("Echo").offer("Maps")


def turn(past, seconds, weight=10.0):
    """The looks of these seconds behind the beginning of the minute."""
    for second in seconds:
        past.turn(SECOND + second + 0.3, weight)


def kept(node, start=START):
    return node.files.timeline.at(start)


def hits(node, second, count, service="Echo"):
    for _ in range(count):
        node.hitlog.append(service, "HIT", "192.0.2.1", SECOND + second)


def test_a_minute_is_written_when_it_is_over(node):
    past = Past(node)
    turn(past, range(9), 10.0)
    assert kept(node) is None
    turn(past, range(9, 30), 10.0)
    assert kept(node).seconds == 30, "what a kill would leave"
    turn(past, range(30, 60), 20.0)
    turn(past, [60])
    assert kept(node) == Span(START, 60, 0, 0, 0, 15.0, 20.0, node.settings.receiver_threshold)


def test_each_call_counts_once_however_often_it_is_looked_at(node):
    past = Past(node)
    turn(past, range(5))
    for second in range(5, 55):
        hits(node, second, 2)
        hits(node, second, 1, "Maps")
        turn(past, [second] * 3)
    turn(past, range(55, 61))
    assert kept(node).calls == 150 and kept(node).seconds == 60


def test_a_call_at_the_end_of_a_minute_is_not_lost(node):
    past = Past(node)
    turn(past, range(60))
    hits(node, 59, 5)
    turn(past, range(60, 121))
    assert kept(node).calls == 0 and kept(node, START + 1).calls == 5


def test_looks_that_came_late_count_the_calls_of_the_seconds_between(node):
    past = Past(node)
    turn(past, [10])
    hits(node, 20, 7)
    turn(past, [40, 60])
    assert kept(node).calls == 7 and kept(node).seconds == 2


def test_deaths_and_copies_are_counted_as_the_counters_have_grown(node):
    node.counters.add("deaths", by=5)
    node.counters.flush()
    past = Past(node)
    turn(past, range(10))
    node.counters.add("deaths", by=2)
    node.counters.add("events", "replicated")
    node.counters.add("events", "gave")
    node.counters.add("events", "retired")
    node.counters.flush()
    turn(past, range(10, 61))
    assert (kept(node).deaths, kept(node).copies) == (2, 2)


def test_a_minute_goes_on_after_a_restart_and_nothing_counts_twice(node):
    first = Past(node)
    turn(first, [3, 4])
    hits(node, 5, 4)
    turn(first, range(5, 20))
    first.end()
    assert kept(node).calls == 4 and kept(node).seconds == 17
    turn(Past(node), range(20, 61))
    assert kept(node).calls == 4 and kept(node).seconds == 57


def test_a_restart_at_once_does_not_count_the_last_seconds_again(node):
    hits(node, 4, 4)
    first = Past(node)
    turn(first, range(7))
    first.end()
    node.clock.now = SECOND + 6.5
    turn(Past(node), range(6, 61))
    assert kept(node).calls == 4


def test_a_node_that_was_away_leaves_a_gap(node):
    turn(Past(node), range(61))
    turn(Past(node), range(600, 661))
    starts = sorted(each.start - START for each in node.files.timeline.read())
    assert starts == [0, 10]


def test_without_hours_nothing_is_kept(tmp_path):
    node = a_node(tmp_path, timeline_hours=0)
    past = Past(node)
    turn(past, range(130))
    past.end()
    assert node.files.timeline.read() == []
