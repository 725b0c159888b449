"""The mind as a whole: what ties watch, suspicion, news and rounds."""

import pytest

from bdserver.core.gossip.actions import Ask, Probe, Push, Refused, Silent, Synchronise, Taken, There, is_there
from bdserver.core.membership import Record
from bdserver.core.messages import Pong
from tests.unit.minds import drained, follower, mind_at, of_kind, well
from tests.unit.views import NOW, a_view, changed


def test_alone_there_is_nothing_to_do():
    assert drained(mind_at(), a_view(), 30) == []


def test_the_loop_never_spins():
    mind, view = mind_at(hints=lambda: ["hint:1"]), a_view(*[f"n{i}" for i in range(5)])
    clock, turns = 0.0, 0
    while clock < 60:
        for action in mind.due(view, clock, 0.0, 100.0):
            mind.done(action, Silent() if isinstance(action, Ask) else well(action, view), view, clock)
        clock = max(clock, mind.next_at(view))
        turns += 1
    assert turns < 200


def test_of_the_first_view_only_what_it_says_of_ourselves_is_news():
    mind, view = mind_at(), a_view("n0", "n1", "n2")
    told = {name for push in of_kind(mind.due(view, 0.0, 0.0, 100.0), Push) for name in push.news}
    assert told == {"me"}


def test_an_outcome_says_whether_the_node_lives():
    assert [is_there(each) for each in (There(), Pong("x"), Taken(1))] == [True] * 3
    assert [is_there(each) for each in (Refused("x"), Silent(), Silent(is_nack=True))] == [False] * 3


def test_the_watched_node_is_among_those_near_and_those_who_are_gone_are_not():
    mind, names = mind_at(), [f"n{number}" for number in range(9)]
    view = a_view(*names)
    mind.due(view, 0.0, 0.0, 100.0)
    near = mind.company.near
    assert follower("me", names) == mind.company.follower in near and len(near) == 4
    mind.due(changed(view, lambda twin: twin.bury(near[0], NOW)), 0.1, 0.0, 100.0)
    assert near[0] not in mind.company.near and len(mind.company.near) == 4


def test_a_round_that_failed_is_as_good_as_a_probe_that_failed():
    mind, view = mind_at(), a_view("n0", "n1")
    mind.due(view, 0.0, 0.0, 100.0)
    mind.done(Synchronise("n1", "n1:1"), Silent(), view, 0.1)
    assert "n1" in {probe.name for probe in of_kind(mind.due(view, 0.1, 0.0, 100.0), Probe)}
    mind.done(Synchronise(None, "hint:1"), Silent(), view, 0.2)
    assert mind.next_at(view) > 0.0, "at a hint nobody knows whom to probe"


def test_an_action_or_an_outcome_that_nobody_knows_is_a_bug_and_no_silence():
    mind, view = mind_at(), a_view("n0", "n1")
    ask = Ask("n1", "n1:1", "n0", "n0:1", 1.0)
    for action, outcome in (
        (("PING",), There()),
        (Push("n0", "n0:1", ("me",), "n1"), "there"),
        (Probe("n0", "n0:1", 1.0), "there"),
    ):
        with pytest.raises(AssertionError):
            mind.done(action, outcome, view, 0.0)
    mind.done(Probe("n0", "n0:1", 1.0), Silent(), view, 0.0)
    with pytest.raises(AssertionError):
        mind.done(ask, "there", view, 0.0)


def test_of_a_node_that_is_forgotten_nothing_is_told_and_nobody_waits_for_it():
    mind, view = mind_at(), a_view("n0", "n1")
    mind.due(view, 0.0, 0.0, 100.0)
    view = changed(view, lambda twin: twin.merge(Record("n0", "n0:1", (1, 7), draining=True), NOW))
    mind.due(view, 0.1, 0.0, 100.0)
    assert "n0" in mind.news._pieces
    mind.due(changed(view, lambda twin: twin.forget("n0")), 0.2, 0.0, 100.0)
    assert "n0" not in mind.news._pieces and "n0" not in mind.news._pushing and mind.company.there == ["n1"]


def test_another_date_of_the_same_suspicion_is_no_news():
    mind, suspect = mind_at(), Record("n0", "n0:1", (1, 0), "suspect", NOW, accusers=("n1",))
    view = changed(a_view("n0", "n1"), lambda twin: twin.merge(suspect, NOW))
    drained(mind, view, 30)
    assert not mind.news.is_any
    mind.due(changed(view, lambda twin: twin.merge(suspect._replace(since=NOW + 1), NOW)), 30.0, 0.0, 100.0)
    assert not mind.news.is_any
