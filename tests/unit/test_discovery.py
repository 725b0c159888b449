"""Whom to probe, suspect, ask, tell and visit, and when: each rule on its own."""

import itertools
from collections import Counter
from random import Random

import pytest

from bdserver.core import discovery
from bdserver.core.discovery import (
    REFUSED,
    SILENT,
    THERE,
    Ask,
    Discovery,
    Probe,
    Push,
    Rhythm,
    Synchronise,
    Verdict,
    arc,
    follower,
    next_partner,
    pieces,
    round_delay,
    suspicion_seconds,
    transmissions,
)
from bdserver.core.exchange import EVERYBODY
from bdserver.core.membership import DEAD, Record
from bdserver.core.view import View

NOW = 1_700_000_000.0


def a_view(*names, me="me"):
    view = View(me)
    view.start(Record(me, f"{me}:1", (0, 0)), NOW)
    for name in names:
        view.merge(Record(name, f"{name}:1", (1, 0)), NOW)
    return view


def changed(view, do):
    twin = view.copy()
    do(twin)
    return twin


def mind_at(me="me", clock=0.0, **keywords):
    return Discovery(me, Rhythm(), Random(1), clock, **keywords)


def of_kind(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


def drained(mind, view, seconds, step=0.05, outcome=THERE, start=0.0):
    """(clock, action) of everything the mind wants, each answered at once."""
    said, clock = [], start
    while clock < seconds:
        for action in mind.due(view, clock, 0.0, 100.0):
            said.append((clock, action))
            mind.done(action, outcome, view, clock, known=0, digest=view.digest())
        clock += step
    return said


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
    mind._round_at = 1000.0
    lacking = changed(view, lambda twin: twin.merge(Record("d", "d:1", (1, 0), policy="0" * 32), NOW))
    assert rounds(lacking, 12.0, 13.5) == []
    assert sorted(rounds(lacking, 13.5, 15.5)) == ["a", "b", "c", "d"]
    assert rounds(lacking, 15.5, 21.0) == []
    mind._round_at = 1000.0
    later = changed(lacking, lambda twin: twin.merge(Record("a", "a:1", (2, 0)), NOW))
    assert rounds(later, 21.0, 25.0) == [], "it was asked for, and nobody had it: from now on in the rounds of every day"


def test_a_policy_whose_text_comes_behind_its_record_costs_no_round():
    mind, view = mind_at(), a_view("a", "b", "c")
    drained(mind, view, 12)
    mind._round_at = 1000.0
    view = changed(view, lambda twin: twin.merge(Record("d", "d:1", (1, 0), policy="0" * 32), NOW))
    mind.due(view, 12.0, 0.0, 100.0)
    view = changed(view, lambda twin: twin.learn_policy("0" * 32, "<Policy/>"))
    assert not of_kind([action for _, action in drained(mind, view, 20, start=12.1)], Synchronise)


def test_at_rest_each_node_watches_one_and_each_is_watched_by_one():
    names = [f"n{i}" for i in range(9)]
    assert sorted(follower(name, set(names) - {name}) for name in names) == names
    for name in names:
        mind, others = mind_at(name), sorted(set(names) - {name})
        view = a_view(*others, me=name)
        drained(mind, view, 10)  # until its own birth is old news
        probes = [action for _, action in drained(mind, view, 30, start=10) if isinstance(action, Probe)]
        assert len(probes) > 15 and {(each.name, each.stays) for each in probes} == {(follower(name, others), True)}
    assert follower("n0", []) is None


def test_in_trouble_each_finger_is_probed_once_before_any_twice():
    names = [f"n{i}" for i in range(8)]
    mind, view = mind_at(), a_view(*names)
    drained(mind, view, 10)
    around = arc("me", EVERYBODY, names)
    suspect = next(name for name in names if name not in (around[0], around[1], around[3], around[7]))
    view = changed(view, lambda twin: twin.accuse(suspect, NOW))
    mind.due(view, 10.0, 0.0, 100.0)
    mind._turn.clear()  # of its own birth, some are left
    view = changed(view, lambda twin: twin.merge(Record(suspect, f"{suspect}:1", (1, 1)), NOW))
    probed = [a.name for _, a in drained(mind, view, 19, start=10) if isinstance(a, Probe) and a.name != around[0]]
    assert sorted(probed[:3]) == sorted([around[1], around[3], around[7]]) and set(probed) == set(probed[:3])


def test_each_node_is_probed_in_trouble_by_as_many_as_it_probes():
    names = [f"n{i}" for i in range(30)]
    probed_by = Counter(
        piece[0] for name in names for piece in pieces(arc(name, EVERYBODY, [each for each in names if each != name]))
    )
    assert set(probed_by) == set(names) and set(probed_by.values()) == {5}


def test_a_watched_node_that_is_suspected_is_watched_no_longer():
    names = [f"n{i}" for i in range(8)]
    mind, view = mind_at(), a_view(*names)
    drained(mind, view, 10)
    first = follower("me", names)
    view = changed(view, lambda twin: twin.accuse(first, NOW))
    probed = Counter(a.name for _, a in drained(mind, view, 14, start=10) if isinstance(a, Probe))
    assert probed.most_common(1)[0][0] == follower("me", [name for name in names if name != first])
    assert probed[first] < 3


def test_who_was_not_to_be_reached_is_probed_on_a_new_connection():
    mind, view = mind_at(), a_view("a", "b", "c")
    drained(mind, view, 10)
    watched = follower("me", "abc")
    mind.hurry(watched)
    probes = of_kind(mind.due(view, 12.0, 0.0, 100.0), Probe)  # the turn of the watch as well: one probe serves both
    assert [(probe.name, probe.stays) for probe in probes if probe.name == watched] == [(watched, False)]


def test_a_suspect_is_probed_on_new_connections_alone():
    mind, view = mind_at(), a_view("a", "b", "c")
    drained(mind, view, 10)
    suspect = arc("me", EVERYBODY, "abc")[1]
    view = changed(view, lambda twin: twin.accuse(suspect, NOW))
    mind.due(view, 10.0, 0.0, 100.0)  # the double check
    probes = [action for _, action in drained(mind, view, 19, start=10) if isinstance(action, Probe)]
    assert {probe.stays for probe in probes if probe.name == suspect} == {False}
    assert {probe.stays for probe in probes if probe.name != suspect} == {True}


def pushes_of(actions):
    return {push.name: push.until for push in of_kind(actions, Push)}


@pytest.mark.parametrize("count", range(1, 40))
def test_the_ring_is_cut_into_pieces_of_one_two_four_eight(count):
    around = [f"n{i}" for i in range(count)]
    cut = pieces(around)
    assert [name for piece in reversed(cut) for name in piece] == around
    assert [piece[0] for piece in reversed(cut)] == [f"n{step}" for step in (0, 1, 3, 7, 15, 31) if step < count]


def test_whom_a_node_tells_is_the_same_however_far_it_is_his_to_tell():
    names = [f"n{i}" for i in range(30)]
    around = arc("me", EVERYBODY, names)
    all_around = [piece[0] for piece in pieces(around)]
    for length in range(1, 30):
        assert {piece[0] for piece in pieces(around[:length])} <= set(all_around)


def test_news_of_ours_goes_around_the_ring_and_each_is_told_once():
    names = [f"n{i}" for i in range(20)]
    around = arc("me", EVERYBODY, names)
    assert sorted(around) == sorted(names) and around[0] == follower("me", names)
    told, waiting = [], [("me", EVERYBODY)]
    while waiting and len(told) < 100:  # each plays its part, as it was handed over
        name, until = waiting.pop()
        theirs, others = mind_at(name), sorted({"me", *names} - {name})
        theirs_view = a_view(*others, me=name)
        drained(theirs, theirs_view, 10)
        fresh = changed(theirs_view, lambda twin: twin.merge(Record("new", "new:1", (1, 0)), NOW))
        theirs.pass_on(["new"], until, fresh, 11.0)
        pushes = pushes_of(theirs.due(fresh, 11.0, 0.0, 100.0))
        assert len(pushes) <= 5
        told += pushes
        waiting += pushes.items()
    assert sorted(told) == sorted(names)
    assert len(told) == len(set(told))


def test_the_part_of_one_who_does_not_answer_is_ours():
    names = [f"n{i}" for i in range(20)]
    mind, view = mind_at(), a_view(*names)
    first = of_kind(mind.due(view, 0.0, 0.0, 100.0), Push)
    assert len(first) == 5
    parts = [arc(push.name, push.until, names) for push in first]
    assert list(map(len, parts)) == [4, 7, 3, 1, 0]
    for push, outcome in zip(first, (THERE, REFUSED, THERE, THERE, THERE), strict=True):
        mind.done(push, outcome, view, 0.01)
    next_at = mind.next_at(view)
    assert next_at < 0.1
    again = pushes_of(mind.due(view, next_at, 0.0, 100.0))
    assert sorted(again) == sorted(piece[0] for piece in pieces(parts[1]))
    assert sorted(n for name, until in again.items() for n in [name, *arc(name, until, names)]) == sorted(parts[1])


def test_who_is_still_telling_gathers_what_comes_meanwhile():
    names = [f"n{i}" for i in range(20)]
    mind, view = mind_at(), a_view(*names)
    first = of_kind(mind.due(view, 0.0, 0.0, 100.0), Push)
    for number in range(5):
        view = changed(view, lambda twin, n=number: twin.merge(Record(f"new{n}", f"new{n}:1", (1, 0)), NOW))
        mind.pass_on([f"new{number}"], EVERYBODY, view, 0.1)
        assert not of_kind(mind.due(view, 0.1, 0.0, 100.0), Push)
    for push in first:
        mind.done(push, THERE, view, 0.2)
    pushes = of_kind(mind.due(view, 1.3, 0.0, 100.0), Push)
    assert len(pushes) == 5 and all(set(push.news) == {f"new{n}" for n in range(5)} for push in pushes)


def test_what_was_noticed_before_we_were_asked_to_pass_it_on_is_passed_on_all_the_same():
    names = [f"n{i}" for i in range(20)]
    mind, view = mind_at(), a_view(*names)
    drained(mind, view, 10)
    view = changed(view, lambda twin: twin.merge(Record("new", "new:1", (1, 0)), NOW))
    first = of_kind(mind.due(view, 11.0, 0.0, 100.0), Push)
    assert {push.until for push in first} == {None}
    for push in first:
        mind.done(push, THERE, view, 11.0)
    mind.pass_on(["new"], EVERYBODY, view, 11.0)
    assert len([until for until in pushes_of(mind.due(view, 11.0, 0.0, 100.0)).values() if until]) == 5
    mind.pass_on(["new"], EVERYBODY, view, 11.1)  # but once
    assert not pushes_of(mind.due(view, 11.1, 0.0, 100.0))


def test_alone_there_is_nothing_to_do():
    assert drained(mind_at(), a_view(), 30) == []


def doubt(mind, view, outcome, clock=1.0):
    """Let a probe of n0 fail; the asks that follow."""
    mind.due(view, 0.0, 0.0, 100.0)
    mind.hurry("n0")
    probe = next(a for a in of_kind(mind.due(view, clock, 0.0, 100.0), Probe) if a.name == "n0")
    return mind.done(probe, outcome, view, clock)


@pytest.mark.parametrize("outcome", [REFUSED, SILENT])
def test_three_others_are_asked_before_anybody_is_accused(outcome):
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(6)])
    verdicts, asks = doubt(mind, view, outcome)
    assert verdicts == [] and len({ask.helper for ask in asks}) == 3 and "n0" not in {ask.helper for ask in asks}
    assert mind.done(asks[0], SILENT, view, 1.1) == ([], [])
    assert mind.done(asks[1], SILENT, view, 1.1) == ([], [])
    assert mind.done(asks[2], SILENT, view, 1.1) == ([Verdict(False, "n0")], [])


def test_one_pong_through_others_clears_the_doubt():
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(6)])
    _, asks = doubt(mind, view, SILENT)
    outcomes = [mind.done(ask, outcome, view, 1.1) for ask, outcome in zip(asks, (SILENT, THERE, SILENT), strict=True)]
    assert outcomes == [([], [])] * 3


def test_with_nobody_to_ask_the_accusation_is_at_once():
    mind, view = mind_at(), a_view("n0")
    assert doubt(mind, view, SILENT) == ([Verdict(False, "n0")], [])


@pytest.mark.parametrize(("outcome", "seconds"), [(REFUSED, discovery.REFUSED_SECONDS), (SILENT, 6.0)])
def test_a_refused_connection_is_evidence_and_silence_is_not(outcome, seconds):
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, outcome)
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    assert mind.verdicts(view, 1.0) == []
    assert mind.verdicts(view, 1.0 + seconds - 0.01) == []
    assert mind.verdicts(view, 1.0 + seconds + 0.01) == [Verdict(True, "n0")]


def test_a_refuted_suspicion_is_dropped():
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, REFUSED)
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    mind.due(view, 1.0, 0.0, 100.0)
    view = changed(view, lambda twin: twin.merge(Record("n0", "n0:1", (1, 1)), NOW))
    assert mind.verdicts(view, 100.0) == []


def test_who_answers_and_is_suspected_hears_of_it():
    mind, view = mind_at(), changed(a_view("n0", "n1"), lambda twin: twin.accuse("n0", NOW))
    mind.due(view, 0.0, 0.0, 100.0)
    assert mind.done(Probe("n0", "n0:1", 1.0), THERE, view, 1.0) == ([], [Push("n0", "n0:1", ("n0",))])


def test_a_silent_probe_without_a_witness_makes_us_more_patient_and_a_good_one_less():
    mind, view = mind_at(), a_view("n0")
    doubt(mind, view, SILENT)
    assert mind.awareness == 1
    mind.done(Probe("n0", "n0:1", 1.0), THERE, view, 2.0)
    assert mind.awareness == 0


def helpers_of(mind, view, name):
    _, asks = mind.done(Probe(name, f"{name}:1", 1.0), SILENT, view, 1.0)
    assert len(asks) == 3
    return asks


@pytest.mark.parametrize(
    ("answers", "awareness"),
    [
        ([(SILENT, True)] * 3, 0),  # all helpers answered, and did not reach it either: the fault is its own
        ([(SILENT, False), (SILENT, True), (SILENT, True)], 1),  # one helper was silent to us too
        ([(SILENT, False)] * 3, 3),  # nobody answers us: very likely it is us
        ([(THERE, False)], 1),  # others reach it
        ([(REFUSED, True)] * 3, 0),
    ],
)
def test_how_patient_we_become_depends_on_who_else_is_silent(answers, awareness):
    mind, view = mind_at(), a_view("n0", "n1", "n2", "n3", "n4")
    for ask, (outcome, is_nack) in zip(helpers_of(mind, view, "n0"), answers, strict=False):
        mind.done(ask, outcome, view, 2.0, is_nack=is_nack)
    assert mind.awareness == awareness


def test_news_is_told_at_once_then_again_and_then_no_more():
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(10)])
    drained(mind, view, 5)
    view = changed(view, lambda twin: twin.merge(Record("n3", "n3:1", (1, 1), draining=True), NOW))
    pushes = of_kind(mind.due(view, 5.0, 0.0, 100.0), Push)
    assert len(pushes) == discovery.FANOUT and {push.news for push in pushes} == {("n3",)}
    told, clock = len(pushes), 5.0
    while clock < 20:
        for push in pushes:
            mind.done(push, THERE, view, clock)
        clock += 0.05
        pushes = of_kind(mind.due(view, clock, 0.0, 100.0), Push)
        told += len(pushes)
    assert told <= transmissions(11) + discovery.FANOUT


def test_news_that_everybody_knows_is_dropped():
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(10)])
    drained(mind, view, 5)
    view = changed(view, lambda twin: twin.merge(Record("n3", "n3:1", (1, 1), draining=True), NOW))
    for push in of_kind(mind.due(view, 5.0, 0.0, 100.0), Push):
        mind.done(push, THERE, view, 5.0, known=1)
    assert not of_kind(mind.due(view, 6.0, 0.0, 100.0), Push)


def test_nothing_new_is_pushed_while_the_last_listeners_are_still_listening():
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(10)])
    drained(mind, view, 5)
    for number in range(1, 5):
        view = changed(
            view, lambda twin, n=number: twin.merge(Record("n3", "n3:1", (1, n), free_dynamic=0, draining=bool(n % 2)), NOW)
        )
        pushes = of_kind(mind.due(view, 5.0 + number, 0.0, 100.0), Push)
        assert bool(pushes) == (number == 1)


def test_a_change_of_load_alone_rides_on_probes():
    mind, view = mind_at(), a_view("n0", "n1")
    drained(mind, view, 5)
    view = changed(view, lambda twin: twin.describe(twin.own._replace(load=7), NOW))
    actions = mind.due(view, 5.0, 0.0, 100.0)
    assert not of_kind(actions, Push)
    mind.hurry("n0")
    (probe,) = [p for p in of_kind(mind.due(view, 5.01, 0.0, 100.0), Probe) if p.name == "n0"] or of_kind(actions, Probe)
    assert probe.news == ("me",)


def test_dead_nodes_and_hints_are_dialled_for_ever_with_pauses_up_to_a_minute():
    mind = mind_at(hints=["hint:1"])
    view = changed(a_view("n0"), lambda twin: twin.merge(Record("n0", "n0:1", (1, 0), DEAD, NOW), NOW))
    dials = {"hint:1": [], "n0:1": []}
    for clock, action in drained(mind, view, 900, step=0.25, outcome=REFUSED):
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
    assert mind.done(probe, THERE, view, 5.0, digest=view.digest()) == ([], [])
    assert mind.done(probe, THERE, view, 5.0, digest="other") == ([], [Synchronise("n0", "n0:1")])
    assert mind.done(probe, THERE, view, 5.5, digest="other") == ([], [])  # not at every probe


def test_the_loop_never_spins():
    mind, view = mind_at(hints=["hint:1"]), a_view(*[f"n{i}" for i in range(5)])
    clock, turns = 0.0, 0
    while clock < 60:
        for action in mind.due(view, clock, 0.0, 100.0):
            mind.done(action, THERE if not isinstance(action, Ask) else SILENT, view, clock, digest=view.digest())
        clock = max(clock, mind.next_at(view))
        turns += 1
    assert turns < 200
