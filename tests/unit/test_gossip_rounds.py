"""Rounds and dials: with whom to synchronise, when, and how those who were lost are found again."""

import itertools
import math
from collections import Counter
from random import Random

import pytest

from bdserver.core.gossip.actions import Probe, Push, Refused, Synchronise
from bdserver.core.gossip.rounds import DIALS_AT_ONCE, Dials, Rhythm, next_partner, round_delay
from bdserver.core.membership import DEAD, Record
from bdserver.core.messages import Pong
from tests.unit.minds import drained, follower, mind_at, of_kind
from tests.unit.views import NOW, a_view, changed


@pytest.mark.parametrize(("weight", "least", "most"), [(0, 8, 10), (50, 15, 15), (100, 30, 30), (101, 30, 35)])
def test_the_pause_between_rounds_is_the_originals(weight, least, most):
    for seed in range(50):
        assert least <= round_delay(weight, 100.0, Rhythm(), Random(seed)) <= most


def test_who_was_never_visited_comes_first_then_mostly_who_waited_longest():
    candidates = [Record(name, f"{name}:1", (1, 0)) for name in "abc"]
    assert next_partner([], {}, Random(1)) is None
    assert {next_partner(candidates, {"a": 1.0}, Random(seed)).name for seed in range(50)} == {"b", "c"}
    visited = {"a": 3.0, "b": 1.0, "c": 2.0}
    counts = Counter(next_partner(candidates, visited, Random(seed)).name for seed in range(3000))
    assert counts["b"] / 3000 == pytest.approx(0.9 + 0.1 / 3, abs=0.02)


def test_three_quick_rounds_at_the_start_then_slow_ones():
    rounds = [clock for clock, action in drained(mind_at(), a_view("a", "b"), 60) if isinstance(action, Synchronise)]
    assert rounds[:4] == pytest.approx([0.0, 0.25, 0.5, 0.75], abs=0.06)
    assert all(7.9 < later - earlier < 10.1 for earlier, later in itertools.pairwise(rounds[3:]))


def test_a_policy_whose_text_does_not_come_is_asked_for_in_some_quick_rounds():
    def rounds(view, start, end):
        return [a.name for _, a in drained(mind, view, end, start=start) if isinstance(a, Synchronise)]

    mind, view = mind_at(), a_view("a", "b", "c")
    drained(mind, view, 12)
    mind.rounds._round_at = 1000.0
    lacking = changed(view, lambda twin: twin.merge(Record("d", "d:1", (1, 0), policy="0" * 32), NOW))
    assert rounds(lacking, 12.0, 13.5) == []
    assert sorted(rounds(lacking, 13.5, 15.5)) == ["a", "b", "c", "d"]
    assert rounds(lacking, 15.5, 21.0) == []
    mind.rounds._round_at = 1000.0
    later = changed(lacking, lambda twin: twin.merge(Record("a", "a:1", (2, 0)), NOW))
    assert rounds(later, 21.0, 25.0) == [], "it was asked for, and nobody had it: from now on in the rounds of every day"


def test_a_policy_whose_text_comes_behind_its_record_costs_no_round():
    mind, view = mind_at(), a_view("a", "b", "c")
    drained(mind, view, 12)
    mind.rounds._round_at = 1000.0
    view = changed(view, lambda twin: twin.merge(Record("d", "d:1", (1, 0), policy="0" * 32), NOW))
    mind.due(view, 12.0, 0.0, 100.0)
    view = changed(view, lambda twin: twin.learn_policy("0" * 32, "<Policy/>"))
    assert not of_kind([action for _, action in drained(mind, view, 20, start=12.1)], Synchronise)


def test_dead_nodes_and_hints_are_dialled_for_ever_with_pauses_up_to_a_minute():
    mind = mind_at(hints=lambda: ["hint:1"])
    view = changed(a_view("n0"), lambda twin: twin.merge(Record("n0", "n0:1", (1, 0), DEAD, NOW), NOW))
    dials = {"hint:1": [], "n0:1": []}
    for clock, action in drained(mind, view, 900, step=0.25, outcome=Refused()):
        if isinstance(action, Synchronise) and action.name is None:
            dials[action.address].append(clock)
    for instants in dials.values():
        pauses = [b - a for a, b in itertools.pairwise(instants)]
        assert pauses[0] < 1.1 and max(pauses) < 92 and pauses[-1] > 30
        assert instants[-1] > 800


def test_who_our_policy_forbids_is_not_visited_but_probed():
    forbidden, other = (first := follower("me", ["n0", "n1"])), "n1" if first == "n0" else "n0"
    mind = mind_at(forbids=lambda record: record.name == forbidden)
    said = [action for _, action in drained(mind, a_view("n0", "n1"), 40)]
    assert {action.name for action in of_kind(said, Synchronise)} == {other}
    assert forbidden in {action.name for action in of_kind(said, Probe)}
    assert forbidden not in {action.name for action in of_kind(said, Push)}


def test_who_differs_and_hears_no_news_synchronises_out_of_turn():
    mind, view = mind_at(), a_view("n0", "n1")
    drained(mind, view, 5)
    probe = Probe("n0", "n0:1", 1.0)
    assert mind.done(probe, Pong(view.digest()), view, 5.0) == ([], [])
    assert mind.done(probe, Pong("other"), view, 5.0) == ([], [Synchronise("n0", "n0:1")])
    assert mind.done(probe, Pong("other"), view, 5.5) == ([], [])  # not at every probe


def test_hints_are_those_of_now():
    hints = ["first:1"]
    mind, view = mind_at(hints=lambda: hints), a_view("n0")

    def dialled(start, end):
        said = drained(mind, view, end, outcome=Refused(), start=start)
        return [(clock, a.address) for clock, a in said if isinstance(a, Synchronise) and a.name is None]

    assert {address for _, address in dialled(0.0, 5.0)} == {"first:1"}
    hints = ["second:1"]
    later = dialled(5.0, 200.0)
    assert {address for _, address in later} == {"second:1"}
    assert later[0][0] == 5.0, "at once, though the view is the same"


def test_a_hint_where_a_node_is_known_is_not_dialled():
    dials = Dials(Random(1), lambda: ["n0:1", "else:1"])
    assert dials.due(a_view("n0"), 0.0) == [Synchronise(None, "else:1")]


def test_so_many_are_dialled_at_once_and_no_more():
    hints = [f"hint{i}:1" for i in range(DIALS_AT_ONCE + 1)]
    dials, view = Dials(Random(1), lambda: hints), a_view()
    first = dials.due(view, 0.0)
    assert len(first) == DIALS_AT_ONCE
    assert dials.due(view, 90.0) == [] and dials.next_at() == math.inf
    dials.done(first[0].address, False)
    (next_one,) = dials.due(view, 90.0)
    assert next_one.address in {first[0].address, *hints} - {each.address for each in first[1:]}


def test_where_a_dial_went_well_and_yet_nobody_is_known_there_it_is_dialled_again():
    dials, view = Dials(Random(1), lambda: ["hint:1"]), a_view()
    assert dials.due(view, 0.0) == [Synchronise(None, "hint:1")]
    dials.done("hint:1", True)
    assert dials.next_at() == math.inf
    assert dials.due(view, 0.1) == [Synchronise(None, "hint:1")]
