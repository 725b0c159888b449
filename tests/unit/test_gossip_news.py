"""News: around the ring, by echoes, by gossip, and along with probes."""

import pytest

from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip import news as module
from bdserver.core.gossip.actions import Probe, Push, Refused, Taken, There
from bdserver.core.gossip.news import FANOUT, transmissions
from bdserver.core.gossip.ring import arc, pieces
from bdserver.core.membership import SUSPECT, Record
from tests.unit.minds import drained, follower, mind_at, of_kind
from tests.unit.seals import sealed
from tests.unit.views import NOW, a_view, changed


def pushes_of(actions):
    return {push.name: push.until for push in of_kind(actions, Push)}


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
    for push, outcome in zip(first, (There(), Refused(), There(), There(), There()), strict=True):
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
        mind.done(push, Taken(0), view, 0.2)
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
        mind.done(push, Taken(0), view, 11.0)
    mind.pass_on(["new"], EVERYBODY, view, 11.0)
    assert len([until for until in pushes_of(mind.due(view, 11.0, 0.0, 100.0)).values() if until]) == 5
    mind.pass_on(["new"], EVERYBODY, view, 11.1)  # but once
    assert not pushes_of(mind.due(view, 11.1, 0.0, 100.0))


def test_news_is_told_at_once_then_again_and_then_no_more():
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(10)])
    drained(mind, view, 5)
    view = changed(view, lambda twin: twin.merge(Record("n3", "n3:1", (1, 1), draining=True), NOW))
    pushes = of_kind(mind.due(view, 5.0, 0.0, 100.0), Push)
    assert len(pushes) == FANOUT and {push.news for push in pushes} == {("n3",)}
    told, clock = len(pushes), 5.0
    while clock < 20:
        for push in pushes:
            mind.done(push, Taken(0), view, clock)
        clock += 0.05
        pushes = of_kind(mind.due(view, clock, 0.0, 100.0), Push)
        told += len(pushes)
    assert told <= transmissions(11) + FANOUT


def test_news_that_everybody_knows_is_dropped():
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(10)])
    drained(mind, view, 5)
    view = changed(view, lambda twin: twin.merge(Record("n3", "n3:1", (1, 1), draining=True), NOW))
    for push in of_kind(mind.due(view, 5.0, 0.0, 100.0), Push):
        mind.done(push, Taken(1), view, 5.0)
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


@pytest.mark.parametrize("seal", [lambda record: record, sealed])
def test_a_change_of_load_alone_rides_on_probes(seal):
    """Signed, it comes with another text and another signature."""
    mind, view = mind_at(), changed(a_view("n0", "n1"), lambda twin: twin.seal(seal))
    drained(mind, view, 5)
    view = changed(view, lambda twin: twin.describe(twin.own._replace(load=7), NOW) and twin.seal(seal))
    actions = mind.due(view, 5.0, 0.0, 100.0)
    assert not of_kind(actions, Push)
    mind.hurry("n0")
    (probe,) = [p for p in of_kind(mind.due(view, 5.01, 0.0, 100.0), Probe) if p.name == "n0"] or of_kind(actions, Probe)
    assert probe.news == ("me",)


def many_parts(mind, view, count):
    """Hear `count` pieces of news, each to be passed on as far as another node."""
    for number in range(count):
        view = changed(view, lambda twin, n=number: twin.merge(Record(f"n{n}", f"n{n}:1", (1, 1)), NOW))
        mind.pass_on([f"n{number}"], f"n{number + 20}", view, 10.0)
    return view


@pytest.mark.parametrize(("count", "is_around"), [(module.ARCS_MAX, True), (module.ARCS_MAX + 1, False)])
def test_where_many_parts_of_the_ring_wait_at_once_the_news_is_gossiped_instead(count, is_around):
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(40)])
    drained(mind, view, 9)
    view = many_parts(mind, view, count)
    pushes = of_kind(mind.due(view, 10.0, 0.0, 100.0), Push)
    assert {push.until is not None for push in pushes} == {is_around}
    if not is_around:
        assert len(pushes) == FANOUT and all(len(push.news) >= count - 1 for push in pushes)


def test_there_is_nothing_to_tell_of_a_node_that_is_forgotten():
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(10)])
    drained(mind, view, 5)
    view = changed(view, lambda twin: twin.merge(Record("n3", "n3:1", (1, 1)), NOW))
    mind.verdicts(view, 5.0)
    view = changed(view, lambda twin: twin.forget("n3"))
    assert not of_kind(mind.due(view, 5.0, 0.0, 100.0), Push) and not mind.news.is_any


def test_a_suspect_hears_of_itself_that_it_is_suspect_and_no_other_node_hears_of_itself():
    mind, view = mind_at(), a_view("n0", "n1")
    drained(mind, view, 5)
    view = changed(view, lambda twin: twin.merge(Record("n0", "n0:1", (1, 1), SUSPECT, NOW, accusers=("n1",)), NOW))
    mind.due(view, 5.0, 0.0, 100.0)
    for name, news in (("n0", ("n0",)), ("n1", ("n0",))):
        mind.news.heard(None, view.records["n0"], False, view)
        assert mind.news.riding(view.records[name]) == news
    view = changed(view, lambda twin: twin.merge(Record("n0", "n0:1", (1, 2)), NOW))
    mind.verdicts(view, 5.0)
    assert mind.news.riding(view.records["n0"]) == ()


def test_a_listener_that_refuses_for_policy_lives_and_its_part_of_the_ring_is_not_ours():
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(20)])
    for push in of_kind(mind.due(view, 0.0, 0.0, 100.0), Push):
        mind.done(push, There(), view, 0.01)
    assert not [push for push in of_kind(mind.due(view, mind.next_at(view), 0.0, 100.0), Push) if push.until]
