"""From a doubt to a death: how long a suspect may take to refute, and what shortens or lengthens that."""

import math
from random import Random

import pytest

from bdserver.core.gossip.actions import Probe, Push, Refused, Silent, Verdict
from bdserver.core.gossip.patience import LAG_STEP, Awareness
from bdserver.core.gossip.suspicion import (
    DOUBLE_CHECKERS,
    FINDER_SECONDS,
    REFUSED_SECONDS,
    Doubt,
    Suspicion,
    suspicion_seconds,
)
from bdserver.core.membership import SUSPECT, Record
from bdserver.core.messages import Pong
from bdserver.core.view import Change
from tests.unit.minds import doubt, mind_at, of_kind
from tests.unit.views import NOW, a_view, changed


# Lifeguard, with an eighth of memberlist's multiplier: node count, accusers -> seconds at a probe a second and no doubt in ourselves.
@pytest.mark.parametrize(
    ("nodes", "accusers", "seconds"),
    [(2, 1, 3.0), (3, 1, 6.0), (3, 2, 0.5), (10, 1, 6.0), (10, 2, 3.25), (10, 4, 0.5), (10, 9, 0.5),
     (100, 1, 12.0), (100, 4, 1.0)],
)  # fmt: skip
def test_a_suspicion_is_shorter_the_more_accuse(nodes, accusers, seconds):
    assert suspicion_seconds(accusers, nodes, 0, 1.0) == pytest.approx(seconds)


def test_an_accusation_that_nobody_took_over_is_over_when_the_node_answers():
    suspicion = Suspicion("me", 1.0, Random(1), Awareness())
    record = Record("n0", "n0:1", (1, 0))
    suspicion.accuse(Doubt(record, False, 0), 1.0)
    suspicion.answered("n0", 2.0)
    assert suspicion._suspicions["n0"].failures == 0 and suspicion.next_at(a_view("n0")) == math.inf


def test_a_suspicion_is_longer_when_our_own_probes_fail_all_around():
    assert suspicion_seconds(4, 10, 8, 1.0) == pytest.approx(4.5)


def test_a_refused_connection_is_evidence():
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, Refused())
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    assert mind.verdicts(view, 1.0) == mind.verdicts(view, 1.0 + REFUSED_SECONDS - 0.01) == []
    assert mind.verdicts(view, 1.0 + REFUSED_SECONDS + 0.01) == [Verdict(True, "n0")]


def failed_again(mind, view, clock):
    """The suspect is asked at this instant, and is silent."""
    [probe] = of_kind(mind.due(view, clock, 0.0, 100.0), Probe)
    assert mind.done(probe, Silent(), view, clock + 0.5) == ([Verdict(False, "n0")], [])


def test_silence_is_none_until_the_suspect_was_asked_twice_and_has_had_its_time():
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, Silent())
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    assert mind.verdicts(view, 1.0) == mind.verdicts(view, 20.0) == []
    failed_again(mind, view, 20.0)
    assert mind.verdicts(view, 20.5) == [Verdict(True, "n0")]

    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, Silent())
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    failed_again(mind, view, 1.0)
    assert mind.verdicts(view, 6.9) == []  # 3 s, and we are one in doubt of ourselves
    assert mind.verdicts(view, 7.1) == [Verdict(True, "n0")]


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
    assert mind.suspicion.accuse(Doubt(view.records["n0"], True, 0), 0.0) == Verdict(False, "n0")
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
    assert mind.verdicts(view, 1.8) == [] and mind.verdicts(view, 4.6) == []
    failed_again(mind, view, 4.8)
    assert mind.verdicts(view, 5.3) == [], "whom we reached we ask twice before we bury it"
    failed_again(mind, view, 6.3)
    assert mind.verdicts(view, 6.8) == [Verdict(True, "n0")]


def test_a_suspicion_of_a_new_version_begins_anew_and_knows_of_no_refusal():
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, Refused())
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    mind.verdicts(view, 1.0)
    view = changed(view, lambda twin: twin.merge(Record("n0", "n0:1", (2, 0), SUSPECT, NOW, accusers=("x",)), NOW))
    assert mind.verdicts(view, 1.4) == []
    assert mind.verdicts(view, 1.4 + 3.0) == [], "whom others accuse is dead when we have not reached it either"
    failed_again(mind, view, 1.4 + 3.4)
    failed_again(mind, view, 1.4 + 4.9)
    assert mind.verdicts(view, 1.4 + 5.4) == [Verdict(True, "n0")]


def test_who_has_found_it_says_so_first_and_who_has_confirmed_it_a_little_later():
    mind, view = mind_at(), changed(a_view("n0"), lambda twin: twin.merge(
        Record("n0", "n0:1", (1, 0), SUSPECT, NOW, accusers=("x",)), NOW))  # fmt: skip
    [probe] = of_kind(mind.due(view, 0.0, 0.0, 100.0), Probe)
    assert mind.done(probe, Refused(), view, 0.0) == ([Verdict(False, "n0")], [])
    assert mind.verdicts(view, REFUSED_SECONDS + FINDER_SECONDS - 0.01) == []
    assert mind.verdicts(view, REFUSED_SECONDS + FINDER_SECONDS) == [Verdict(True, "n0")]


def test_of_a_suspicion_that_is_heard_about_four_nodes_of_the_mesh_make_sure():
    suspect = Record("n0", "n0:1", (1, 0), SUSPECT, NOW, accusers=("n1",))

    def checked(seed, record, awareness):
        return Suspicion("me", 1.0, Random(seed), awareness).notice([Change(None, record)], 20, 0.0) == ["n0"]

    hurried = sum(checked(seed, suspect, Awareness()) for seed in range(1000))
    assert hurried / 1000 == pytest.approx(DOUBLE_CHECKERS / 20, abs=0.05)
    ours = suspect._replace(accusers=("n1", "me"))
    assert not any(checked(seed, ours, Awareness()) for seed in range(100)), "we have just tried"
    late = Awareness()
    late.lag.note(LAG_STEP, 0.0)
    assert not any(checked(seed, suspect, late) for seed in range(100)), "others have more time for it"


def test_the_view_that_repeats_a_suspicion_does_not_begin_it_anew():
    mind, view = mind_at(), changed(a_view("n0", "n1"), lambda twin: twin.accuse("n0", NOW))
    mind.due(view, 0.0, 0.0, 100.0)
    over = mind.suspicion.next_at(view)
    assert over > 1.0
    mind.due(changed(view, lambda twin: twin.merge(Record("n1", "n1:1", (1, 5)), NOW)), 1.0, 0.0, 100.0)
    assert mind.suspicion.next_at(view) == over
    since = mind.suspicion._suspicions["n0"].since
    more = changed(view, lambda twin: twin.merge(Record("n0", "n0:1", (1, 0), SUSPECT, NOW, accusers=("me", "x")), NOW))
    mind.due(more, 1.5, 0.0, 100.0)
    assert mind.suspicion._suspicions["n0"].since == since and mind.suspicion.next_at(more) < over
