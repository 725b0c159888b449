"""The ring: who follows whom, who the fingers are, and how an arc is cut."""

from collections import Counter

import pytest

from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip.actions import Probe
from bdserver.core.gossip.ring import Company, arc, fingers, pieces
from bdserver.core.membership import Record
from tests.unit.minds import drained, follower, mind_at
from tests.unit.views import NOW, a_view, changed


def test_at_rest_each_node_watches_one_and_each_is_watched_by_one():
    names = [f"n{i}" for i in range(9)]
    assert sorted(follower(name, set(names) - {name}) for name in names) == names
    for name in names:
        mind, others = mind_at(name), sorted(set(names) - {name})
        view = a_view(*others, me=name)
        drained(mind, view, 10)  # until its own birth is old news
        probes = [action for _, action in drained(mind, view, 30, start=10) if isinstance(action, Probe)]
        assert len(probes) > 15 and {each.name for each in probes} == {follower(name, others)}
    assert Company("n0", lambda record: False).follower is None


def test_each_node_is_probed_in_trouble_by_as_many_as_it_probes():
    names = [f"n{i}" for i in range(30)]
    probed_by = Counter(
        piece[0] for name in names for piece in pieces(arc(name, EVERYBODY, [each for each in names if each != name]))
    )
    assert set(probed_by) == set(names) and set(probed_by.values()) == {5}


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


def test_the_listeners_are_those_alive_whom_our_policy_does_not_forbid_in_the_order_of_the_ring():
    names = [f"n{i}" for i in range(9)]
    asked = []

    def forbids(record):
        asked.append(record.name)
        return record.name == "n1"

    company, view = Company("me", forbids), changed(a_view(*names), lambda twin: twin.accuse("n2", NOW))
    company.notice(view)
    around = arc("me", EVERYBODY, names)
    wanted = [name for name in around if name not in ("n1", "n2")]
    assert company.listeners == company.arc("me", EVERYBODY) == wanted and company.there == around and len(asked) == 8
    assert company.arc("me", wanted[2]) == wanted[:3] and company.arc(wanted[1], wanted[3]) == wanted[2:4]
    assert company.near == fingers(around) and company.near[-1] == around[0]
    assert company.follower == next(name for name in around if name != "n2")
    company.notice(changed(view, lambda twin: twin.bury(wanted[0], NOW)))
    assert company.listeners == wanted[1:]


def test_who_is_there_is_looked_up_when_that_has_changed_and_not_at_each_piece_of_news():
    asked = []
    mind, view = mind_at(forbids=lambda record: bool(asked.append(record.name))), a_view("a", "b", "c")
    mind.due(view, 0.0, 0.0, 100.0)
    looked = len(asked)
    loaded = changed(view, lambda twin: twin.merge(Record("a", "a:1", (1, 1), load=3), NOW))
    mind.pass_on(["a"], EVERYBODY, loaded, 0.1)
    assert len(asked) == looked
    mind.pass_on(["a"], EVERYBODY, changed(loaded, lambda twin: twin.bury("a", NOW)), 0.2)
    assert len(asked) > looked and mind.company.there == arc("me", EVERYBODY, ["b", "c"])
