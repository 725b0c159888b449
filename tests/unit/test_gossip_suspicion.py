"""From a doubt to a death: how long a suspect may take to refute, and what shortens or lengthens that."""

import math
from random import Random

import pytest

from bdserver.core.gossip.actions import Probe, Push, Refused, Silent, Verdict
from bdserver.core.gossip.suspicion import (
    AWARENESS_MAX,
    DOUBLE_CHECKERS,
    REFUSED_SECONDS,
    Awareness,
    Doubt,
    Suspicion,
    suspicion_seconds,
)
from bdserver.core.membership import SUSPECT, Record
from bdserver.core.messages import Pong
from tests.unit.minds import doubt, mind_at
from tests.unit.views import NOW, a_view, changed


# Lifeguard, with three quarters of memberlist's multiplier: node count, accusers -> seconds at a probe a second and no doubt in ourselves.
@pytest.mark.parametrize(
    ("nodes", "accusers", "seconds"),
    [(2, 1, 3.0), (3, 1, 18.0), (3, 2, 3.0), (10, 1, 18.0), (10, 2, 10.5), (10, 4, 3.0), (10, 9, 3.0),
     (100, 1, 36.0), (100, 4, 6.0)],
)  # fmt: skip
def test_a_suspicion_is_shorter_the_more_accuse(nodes, accusers, seconds):
    assert suspicion_seconds(accusers, nodes, 0, 1.0) == pytest.approx(seconds)


def test_a_suspicion_is_longer_when_our_own_probes_fail_all_around():
    assert suspicion_seconds(4, 10, 8, 1.0) == pytest.approx(27.0)


@pytest.mark.parametrize(("outcome", "seconds"), [(Refused(), REFUSED_SECONDS), (Silent(), 6.0)])
def test_a_refused_connection_is_evidence_and_silence_is_not(outcome, seconds):
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, outcome)
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    assert mind.verdicts(view, 1.0) == []
    assert mind.verdicts(view, 1.0 + seconds - 0.01) == []
    assert mind.verdicts(view, 1.0 + seconds + 0.01) == [Verdict(True, "n0")]


def test_a_refuted_suspicion_is_dropped():
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, Refused())
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    mind.due(view, 1.0, 0.0, 100.0)
    view = changed(view, lambda twin: twin.merge(Record("n0", "n0:1", (1, 1)), NOW))
    assert mind.verdicts(view, 100.0) == []


def test_who_answers_and_is_suspected_hears_of_it():
    mind, view = mind_at(), changed(a_view("n0", "n1"), lambda twin: twin.accuse("n0", NOW))
    mind.due(view, 0.0, 0.0, 100.0)
    assert mind.done(Probe("n0", "n0:1", 1.0), Pong(), view, 1.0) == ([], [Push("n0", "n0:1", ("n0",))])


def test_a_death_is_said_until_the_view_has_it():
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, Refused())
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    assert mind.verdicts(view, 1.0) == []
    for clock in (1.6, 1.7, 1.8):
        assert mind.verdicts(view, clock) == [Verdict(True, "n0")]
    assert mind.verdicts(changed(view, lambda twin: twin.bury("n0", NOW)), 1.9) == []


def test_an_accusation_that_the_view_does_not_have_yet_kills_nobody_and_is_remembered():
    mind, view = mind_at(), a_view("n0", "n1")
    mind.due(view, 0.0, 0.0, 100.0)
    assert mind.suspicion.accuse(Doubt(view.records["n0"], True, 0)) == Verdict(False, "n0")
    assert mind.suspicion.next_at(view) == math.inf and mind.verdicts(view, 100.0) == []
    view = changed(view, lambda twin: twin.merge(Record("n1", "n1:1", (1, 1)), NOW))
    assert mind.verdicts(view, 100.0) == []
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    assert mind.verdicts(view, 200.0) == []
    assert mind.verdicts(view, 200.0 + REFUSED_SECONDS) == [Verdict(True, "n0")]


def test_a_node_that_answers_after_all_gets_the_time_of_a_silent_one():
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, Refused())
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    mind.verdicts(view, 1.0)
    assert mind.verdicts(view, 1.6) == [Verdict(True, "n0")]
    mind.done(Probe("n0", "n0:1", 1.0), Pong(), view, 1.7)
    assert mind.verdicts(view, 1.8) == []
    assert mind.verdicts(view, 4.1) == [Verdict(True, "n0")]


def test_a_suspicion_of_a_new_version_begins_anew_and_knows_of_no_refusal():
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, Refused())
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    mind.verdicts(view, 1.0)
    view = changed(view, lambda twin: twin.merge(Record("n0", "n0:1", (2, 0), SUSPECT, NOW, accusers=("x",)), NOW))
    assert mind.verdicts(view, 1.4) == []
    assert mind.verdicts(view, 1.4 + REFUSED_SECONDS) == []
    assert mind.verdicts(view, 1.4 + 3.0) == [Verdict(True, "n0")]


def test_of_a_suspicion_that_is_heard_about_four_nodes_of_the_mesh_make_sure():
    names, hurried = [f"n{i}" for i in range(19)], 0
    view = changed(a_view(*names), lambda twin: twin.merge(Record("n0", "n0:1", (1, 0), SUSPECT, NOW, accusers=("n1",)), NOW))
    for seed in range(1000):
        hurried += Suspicion("me", 1.0, Random(seed), Awareness()).notice(view, 0.0) == ["n0"]
    assert hurried / 1000 == pytest.approx(DOUBLE_CHECKERS / 20, abs=0.05)
    ours = changed(view, lambda twin: twin.accuse("n0", NOW))
    assert not any(Suspicion("me", 1.0, Random(seed), Awareness()).notice(ours, 0.0) for seed in range(100)), (
        "we have just tried"
    )


def test_patience_has_an_end():
    awareness = Awareness()
    awareness.raised(AWARENESS_MAX + 5)
    assert awareness.value == AWARENESS_MAX


def test_the_view_that_repeats_a_suspicion_does_not_begin_it_anew():
    mind, view = mind_at(), changed(a_view("n0", "n1"), lambda twin: twin.accuse("n0", NOW))
    mind.due(view, 0.0, 0.0, 100.0)
    over = mind.suspicion.next_at(view)
    mind.due(changed(view, lambda twin: twin.merge(Record("n1", "n1:1", (1, 5)), NOW)), 1.0, 0.0, 100.0)
    assert mind.suspicion.next_at(view) == over
