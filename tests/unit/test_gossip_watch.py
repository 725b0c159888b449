"""The watch: whom to probe and when, and who helps when a probe fails."""

import math
from collections import Counter

import pytest

from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip.actions import Probe, Refused, Silent, There, Verdict
from bdserver.core.gossip.ring import arc
from bdserver.core.membership import DEAD, Record
from bdserver.core.messages import Pong
from tests.unit.minds import doubt, drained, follower, mind_at, of_kind
from tests.unit.views import NOW, a_view, changed


def test_in_trouble_each_finger_is_probed_once_before_any_twice():
    names = [f"n{i}" for i in range(8)]
    mind, view = mind_at(), a_view(*names)
    drained(mind, view, 10)
    around = arc("me", EVERYBODY, names)
    suspect = next(name for name in names if name not in (around[0], around[1], around[3], around[7]))
    view = changed(view, lambda twin: twin.accuse(suspect, NOW))
    mind.due(view, 10.0, 0.0, 100.0)
    mind.watch._turn.clear()  # of its own birth, some are left
    view = changed(view, lambda twin: twin.merge(Record(suspect, f"{suspect}:1", (1, 1)), NOW))
    probed = [a.name for _, a in drained(mind, view, 19, start=10) if isinstance(a, Probe) and a.name != around[0]]
    assert sorted(probed[:3]) == sorted([around[1], around[3], around[7]]) and set(probed) == set(probed[:3])


def test_a_watched_node_that_is_suspected_is_watched_no_longer():
    names = [f"n{i}" for i in range(8)]
    mind, view = mind_at(), a_view(*names)
    drained(mind, view, 10)
    first = follower("me", names)
    view = changed(view, lambda twin: twin.accuse(first, NOW))
    probed = Counter(a.name for _, a in drained(mind, view, 14, start=10) if isinstance(a, Probe))
    assert probed.most_common(1)[0][0] == follower("me", [name for name in names if name != first])
    assert probed[first] < 3


def test_who_was_not_to_be_reached_is_probed_at_once_and_but_once():
    mind, view = mind_at(), a_view("a", "b", "c")
    drained(mind, view, 10)
    watched = follower("me", "abc")
    mind.hurry(watched)
    probes = of_kind(mind.due(view, 12.0, 0.0, 100.0), Probe)  # the turn of the watch as well: one probe serves both
    assert [probe.name for probe in probes if probe.name == watched] == [watched]


@pytest.mark.parametrize("outcome", [Refused(), Silent()])
def test_three_others_are_asked_before_anybody_is_accused(outcome):
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(6)])
    verdicts, asks = doubt(mind, view, outcome)
    assert verdicts == [] and len({ask.helper for ask in asks}) == 3 and "n0" not in {ask.helper for ask in asks}
    assert mind.done(asks[0], Silent(), view, 1.1) == ([], [])
    assert mind.done(asks[1], Silent(), view, 1.1) == ([], [])
    assert mind.done(asks[2], Silent(), view, 1.1) == ([Verdict(False, "n0")], [])


def test_one_pong_through_others_clears_the_doubt():
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(6)])
    _, asks = doubt(mind, view, Silent())
    outcomes = [mind.done(ask, outcome, view, 1.1) for ask, outcome in zip(asks, (Silent(), There(), Silent()), strict=True)]
    assert outcomes == [([], [])] * 3


def test_with_nobody_to_ask_the_accusation_is_at_once():
    mind, view = mind_at(), a_view("n0")
    assert doubt(mind, view, Silent()) == ([Verdict(False, "n0")], [])


def test_a_silent_probe_without_a_witness_makes_us_more_patient_and_a_good_one_less():
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, Silent())
    assert mind.awareness.value == 1
    mind.done(Probe("n0", "n0:1", 1.0), Pong(), view, 2.0)
    assert mind.awareness.value == 0


def helpers_of(mind, view, name):
    _, asks = mind.done(Probe(name, f"{name}:1", 1.0), Silent(), view, 1.0)
    assert len(asks) == 3
    return asks


@pytest.mark.parametrize(
    ("answers", "awareness"),
    [
        ([Silent(is_nack=True)] * 3, 0),  # all helpers answered, and did not reach it either: the fault is its own
        ([Silent(), Silent(is_nack=True), Silent(is_nack=True)], 1),  # one helper was silent to us too
        ([Silent()] * 3, 3),  # nobody answers us: very likely it is us
        ([There()], 1),  # others reach it
        ([Refused()] * 3, 0),
    ],
)
def test_how_patient_we_become_depends_on_who_else_is_silent(answers, awareness):
    mind, view = mind_at(), a_view("n0", "n1", "n2", "n3", "n4")
    for ask, outcome in zip(helpers_of(mind, view, "n0"), answers, strict=False):
        mind.done(ask, outcome, view, 2.0)
    assert mind.awareness.value == awareness


def test_a_helper_that_comes_back_when_the_doubt_is_over_changes_nothing():
    mind, view = mind_at(), a_view("n0", "n1", "n2", "n3", "n4")
    asks = helpers_of(mind, view, "n0")
    assert mind.done(asks[0], There(), view, 2.0) == ([], [])
    mind.hurry("n0")
    assert [probe.name for probe in of_kind(mind.due(view, 2.5, 0.0, 100.0), Probe) if probe.name == "n0"] == ["n0"]
    for ask in asks[1:]:
        assert mind.done(ask, Silent(), view, 3.0) == ([], []), "the probe that is under way now is another one"
    assert mind.awareness.value == 1


def test_a_node_is_not_probed_again_while_a_probe_of_it_is_under_way_or_helpers_are_out():
    mind, view = mind_at(), a_view("n0", "n1", "n2", "n3", "n4")
    _, asks = doubt(mind, view, Silent())
    mind.hurry("n0")
    assert not [probe for probe in of_kind(mind.due(view, 2.0, 0.0, 100.0), Probe) if probe.name == "n0"]
    for ask in asks:
        mind.done(ask, Silent(), view, 2.1)
    mind.hurry("n0")
    assert [probe for probe in of_kind(mind.due(view, 2.2, 0.0, 100.0), Probe) if probe.name == "n0"]


@pytest.mark.parametrize("now", [
    None, Record("n0", "n0:1", (1, 0), DEAD, NOW), Record("n0", "elsewhere:1", (2, 0))])  # fmt: skip
def test_a_probe_that_failed_says_nothing_of_a_node_that_is_gone_or_has_moved_meanwhile(now):
    mind, before = mind_at(), a_view("n0", "n1", "n2")
    view = changed(before, lambda twin: twin.forget("n0") if now is None else twin.merge(now, NOW))
    assert mind.done(Probe("n0", "n0:1", 1.0), Silent(), view, 1.0) == ([], [])
    assert mind.awareness.value == 0


def test_a_pong_of_a_node_that_is_forgotten_meanwhile_says_nothing():
    mind, view = mind_at(), a_view("n1")
    assert mind.done(Probe("n0", "n0:1", 1.0), Pong("other"), view, 9.0) == ([], [])


def test_the_watcher_alone_looks_why_a_connection_has_ended():
    mind, view = mind_at(), a_view("a", "b", "c")
    drained(mind, view, 10)
    watched = follower("me", "abc")
    for name in "abc":
        mind.hung_up(name)
    assert mind.next_at(view) == -math.inf
    assert [probe.name for probe in of_kind(mind.due(view, 10.0, 0.0, 100.0), Probe)] == [watched]


def test_helpers_are_those_whom_our_policy_lets_us_ask():
    mind, view = mind_at(forbids=lambda record: record.name in ("n1", "n2")), a_view("n0", "n1", "n2", "n3")
    _, asks = doubt(mind, view, Silent())
    assert [ask.helper for ask in asks] == ["n3"]
