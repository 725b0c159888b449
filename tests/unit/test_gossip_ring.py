"""The ring: who follows whom, who the fingers are, and how an arc is cut."""

from collections import Counter

import pytest

from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip.actions import Probe
from bdserver.core.gossip.ring import Listeners, arc, fingers, follower, pieces
from tests.unit.minds import drained, mind_at
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
    assert follower("n0", []) is None


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

    listeners, view = Listeners("me", forbids), changed(a_view(*names), lambda twin: twin.accuse("n2", NOW))
    wanted = [name for name in arc("me", EVERYBODY, names) if name not in ("n1", "n2")]
    assert listeners.around(view) == listeners.around(view) == wanted
    assert len(asked) == 8, "each view is looked through once"
    dead = changed(view, lambda twin: twin.bury(wanted[0], NOW))
    assert listeners.around(dead) == wanted[1:]
    assert fingers(wanted)[-1] == wanted[0]
