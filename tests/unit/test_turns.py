"""How many nodes have a service, and which: who may go, who takes one more copy, who sees to it."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core import copies, turns
from bdserver.core.copies import Go
from bdserver.core.membership import ALIVE, DEAD, LEFT, SUSPECT, Copies, Edition
from bdserver.core.turns import Condition, Lately, Place
from tests.unit.offers import NAME, a_copy, holds, original, seen, withdrew

E1, E2, E3 = Edition(1, "d1"), Edition(2, "d2"), Edition(3, "d3")


# --- who decides ----------------------------------------------------------------------------------------------------


def test_a_node_that_is_named_as_the_service_counts_as_any_other():
    record = holds(NAME, a_copy("gone"))
    assert turns._in_turn(NAME, [record]) == [NAME]
    alone = seen(record)
    alone.me = NAME
    assert turns.is_decider(alone, NAME)


def test_nobody_replaces_holders_that_go_since_it_was_withdrawn():
    mine = a_copy("a", replicas=3)
    assert turns.missing(seen(holds("a"), mine=mine), NAME) == 2
    assert turns.missing(seen(withdrew("a"), mine=mine), NAME) == 0


def test_the_originals_node_decides_or_the_first_around_the_ring_while_it_is_gone():
    b, c = holds("b", a_copy("a")), holds("c", a_copy("a"))
    assert turns.is_decider(seen(b, c, mine=original()), NAME) and not turns.is_decider(seen(b, mine=None), NAME)
    assert not turns.is_decider(seen(holds("a", original()), mine=a_copy("a")), NAME)
    orphans = [seen(*(holds(n, a_copy("a")) for n in "bcd" if n != me)) for me in "bcd"]
    for view, me in zip(orphans, "bcd", strict=True):
        view.me = me
        view.put(holds(me, a_copy("a")))
    assert sum(turns.is_decider(view, NAME) for view in orphans) == 1


def test_of_originals_of_one_name_the_one_that_wants_most_decides():
    wants_three, wants_none = original(replicas=3), original(*E2)
    assert turns.missing(seen(holds("a", wants_none), mine=wants_three), NAME) == 1, "though a comes first"
    assert turns.missing(seen(holds("z", wants_three), mine=wants_none), NAME) == 0
    assert not turns.is_decider(seen(holds("a", wants_three), mine=wants_three), NAME)


# --- too few --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "others", "missing"),
    [
        (None, [], 0), (original(replicas=3), [], 2), (original(), [], 0), (original(replicas=1), [], 0),
        (original(replicas=3, copies=Copies.NONE), [], 0), (original(replicas=3)._replace(replicable=False), [], 0),
        (original(replicas=3), [holds("b", a_copy("me"), SUSPECT)], 1), (original(replicas=3), [holds("b", a_copy("me"), DEAD)], 2),
        (original(replicas=2), [holds("b", a_copy("me"), draining=True)], 1),
        (original(replicas=2), [holds(n, a_copy("me")) for n in "bcd"], 0),
        (a_copy("a", replicas=5), [holds("a", original(replicas=2), DEAD)], 1), (a_copy("a", replicas=5), [], 4),
        (a_copy("a", replicas=5), [holds("a", original(replicas=5))], 0),
    ],
)  # fmt: skip
def test_how_many_holders_are_missing_is_what_the_original_said_last(mine, others, missing):
    assert turns.missing(seen(*others, mine=mine), NAME) == missing


def test_a_copy_goes_where_there_is_room_on_another_host_in_another_zone_and_least_load():
    def place(*others, busy=(), may_have=lambda record: True):
        view = seen(*others, mine=original(replicas=3), address="10.0.0.1:1", policy="p")
        return turns.to_place(view, NAME, may_have, busy, Random(1))

    def free(name, **more):
        return holds(name, **{"free_dynamic": 1, **more})

    def chosen(*others, **more):
        placed = place(*others, **more)
        return placed and placed.node

    b, c = free("b", policy="p"), free("c", policy="q")
    assert place(b, c) == Place(NAME, "c", "1 of 3 holders live")
    assert chosen(free("b")._replace(address="10.0.0.1:2"), b) == "b" and chosen(c._replace(free_dynamic=0), b) == "b"
    assert chosen(c._replace(load=3), free("d", policy="q", load=2)) == "d"
    assert chosen(c, busy=["c"]) is None and chosen(c, may_have=lambda record: False) is None
    for nobody in ({"status": SUSPECT}, {"status": DEAD}, {"draining": True}, {"load": 11}):
        assert chosen(c._replace(**nobody)) is None
    assert chosen(holds("c", a_copy("me"))) is None and chosen(c._replace(free_dynamic=0)) == "c"
    assert turns.wanted(seen(mine=original(replicas=3)), NAME) == 3 and turns.wanted(seen(), NAME) == 0


@pytest.mark.parametrize(
    ("holders", "talk", "may"),
    [
        ([original()], "", True), ([original(copies=Copies.NONE)], "a", False), ([original(copies=Copies.MEETING)], "", False),
        ([original(copies=Copies.MEETING)], "a", True), ([original(), a_copy("a", copies=Copies.NONE)], "", True),
        ([a_copy("x", copies=Copies.MEETING), a_copy("x")], "b", True), ([a_copy("x"), a_copy("x", copies=Copies.NONE)], "ab", False),
    ],
)  # fmt: skip
def test_a_node_may_have_a_copy_by_what_the_original_says_of_that(holders, talk, may):
    view = seen(*(holds(name, service) for name, service in zip("abc", holders, strict=False)))
    assert turns.may_have(view, NAME, holds("t"), lambda one, other: one in talk and other == "t") == may


# --- too many -------------------------------------------------------------------------------------------------------

LONG_AGO = Lately(0.0, 0.0, 0.0, 0.0)


def retires(*others, mine=None, held=LONG_AGO, now=1000.0, idle=600.0, **own):
    gone = turns.to_retire(seen(*others, mine=mine, **own), NAME, held, now, idle)
    return gone and gone.why


IDLE = a_copy("a", idle_since=5)
NOBODY = "nobody called it for 1000 s"


def test_an_idle_copy_goes_when_it_has_said_so_for_a_while():
    a = holds("a", original())
    assert turns.to_retire(seen(a, mine=IDLE), NAME, LONG_AGO, 1000.0, 600.0) == Go(NAME, "retired", NOBODY)
    assert retires(a, mine=a_copy("a")) is None  # the others have not heard
    assert retires(a, mine=IDLE, now=604.9) is None and retires(a, mine=IDLE, now=605.0)
    assert retires(a, mine=IDLE, idle=0) is None
    for later in ({"arrived_at": 500.0}, {"called_at": 500.0}, {"steady_since": 500.0}):
        assert retires(a, mine=IDLE, held=LONG_AGO._replace(**later)) is None
    assert retires(a, mine=IDLE, held=LONG_AGO._replace(arrived_at=1.0), now=60.0, idle=1.0) is None
    assert retires(a, mine=IDLE, held=LONG_AGO._replace(joined_at=999.0)) == NOBODY
    assert retires(a) is None and retires(a, mine=original()) is None and retires(a, mine=a_copy("", idle_since=5)) is None


def test_a_copy_may_stay_by_what_its_original_says_now():
    ours = a_copy("a")

    def shut_out(wish, mine=ours, are_apart=lambda a, b: False, **more):
        return turns.shut_out(seen(holds("a", original(copies=wish), **more), mine=mine), NAME, are_apart)

    def apart(one, other):
        return (one, other) == ("a", "me")

    assert shut_out(Copies.NONE) == "a wants no copies of it any more"
    assert "does not meet that of a" in shut_out(Copies.MEETING, are_apart=apart)
    assert shut_out(Copies.MEETING) == "" == shut_out(Copies.ANY, are_apart=apart)
    for more in ({"status": SUSPECT}, {"status": DEAD}, {"draining": True}):
        assert shut_out(Copies.NONE, **more) == ""  # it may be the last one
    for mine in (None, original(), a_copy("another"), a_copy("")):
        assert shut_out(Copies.NONE, mine) == ""
    assert turns.shut_out(seen(holds("a"), mine=a_copy("a")), NAME, apart) == ""


def test_the_last_holder_that_is_sure_to_be_there_never_goes():
    for others in (
        [], [holds("a", original(), SUSPECT)], [holds("a", original(), DEAD)], [holds("a", original(), draining=True)],
        [holds("x", original(*E3))], [holds("x", a_copy("x"))], [holds("a", a_copy("x"))],
    ):  # fmt: skip
        assert retires(*others, mine=IDLE) is None and not turns.can_spare(seen(*others, mine=IDLE), NAME)
    assert turns.can_spare(seen(holds("x", original()), mine=a_copy("")), NAME)  # whose it is, nobody knows
    left = seen(holds("a", original()), mine=IDLE, status=LEFT)
    assert not turns.can_spare(left, NAME) and turns.wanted_by(left, NAME, a_copy("b", replicas=2)) == 2
    assert not turns.can_spare(seen(holds("x", original()), mine=original()), NAME) and not turns.can_spare(seen(), NAME)


def test_of_those_that_are_wanted_none_goes_however_idle():
    a, b = holds("a", original(replicas=2)), holds("b", a_copy("a"))
    assert retires(a, mine=IDLE) is None
    assert retires(a, b, mine=IDLE, load=6) == NOBODY


def test_of_idle_copies_the_one_goes_that_was_called_longest_ago():
    a = holds("a", original())
    assert retires(a, holds("b", IDLE._replace(idle_since=4)), mine=IDLE) is None
    assert retires(a, holds("b", IDLE._replace(idle_since=6)), mine=IDLE) == NOBODY
    assert retires(a, holds("z", IDLE), mine=IDLE) == NOBODY and retires(a, holds("b", IDLE), mine=IDLE) is None


def test_idle_copies_that_stay_keep_no_other_from_going():
    a = holds("a", original())
    orphan = holds("b", a_copy("gone", idle_since=1))
    assert retires(a, orphan, mine=IDLE) == NOBODY
    assert retires(holds("a"), holds("b", a_copy("a")), mine=IDLE) is None  # orphans


@pytest.mark.parametrize(("behind", "seconds"), [(0, 15), (1, 25), (2, 35)])
def test_holders_that_are_too_many_go_the_last_in_turn_first(behind, seconds):
    names = ["b", "c", "d", "e", "f"]
    turn = turns._in_turn(NAME, [holds(name, a_copy("a")) for name in names])
    me = turn[-1 - behind]
    view = seen(holds("a", original(replicas=3)), *(holds(name, a_copy("a")) for name in names if name != me))
    view.me = me
    view.put(holds(me, a_copy("a")))
    held = LONG_AGO._replace(joined_at=1000.0, called_at=999.0)
    assert turns.to_retire(view, NAME, held, 999.9 + seconds, 0) is None
    gone = turns.to_retire(view, NAME, held, 1000.0 + seconds, 0)
    assert gone == Go(NAME, "retired", "6 nodes have it, and 3 are wanted")
    assert turns.to_retire(view, NAME, held._replace(is_on_demand=True), 2000.0, 0) is None
    assert turns.to_retire(view, NAME, held._replace(arrived_at=1950.0), 2000.0, 0) is None
    view.put(view.records["a"]._replace(load=6))
    assert turns.to_retire(view, NAME, held, 2000.0, 0) is None  # there is work for them


def test_the_first_holders_in_turn_stay():
    turn = turns._in_turn(NAME, [holds(name, a_copy("a")) for name in ("b", "c", "d")])
    view = seen(holds("a", original(replicas=3)), *(holds(name, a_copy("a")) for name in turn[1:]))
    view.me = turn[0]
    view.put(holds(turn[0], a_copy("a")))
    assert turns.to_retire(view, NAME, LONG_AGO, 2000.0, 0) is None


def who_holds():
    """Holders of Echo: whose it is, how each of them is."""
    service = st.sampled_from(
        [original(2, replicas=2), a_copy("a", 2, replicas=2), a_copy("a", 2, idle_since=1), a_copy("x", 1)]
    )
    status = st.sampled_from([ALIVE, ALIVE, ALIVE, SUSPECT, DEAD])
    holder = st.tuples(st.sampled_from("abcdefgh"), service, status, st.sampled_from([False, False, True]))
    return st.lists(holder, min_size=1, max_size=8, unique_by=lambda each: each[0])


def as_seen_by(me, records):
    view = seen(*(record for record in records if record.name != me))
    view.remove("me")
    view.me = me
    view.put(next(record for record in records if record.name == me))
    return view


@given(who_holds(), st.floats(0, 2000), st.booleans())
def test_holders_that_all_go_at_once_leave_as_many_as_are_wanted(found, now, is_on_demand):
    records = [holds(name, service, status, draining=draining) for name, service, status, draining in found]
    held = LONG_AGO._replace(is_on_demand=is_on_demand)
    there = [record.name for record in records if record.status == ALIVE]
    gone = {me for me in there if turns.to_retire(as_seen_by(me, records), NAME, held, now, 600.0)}
    spared = {me for me in there if turns.can_spare(as_seen_by(me, records), NAME)}
    assert gone <= spared
    for me in spared:
        view = as_seen_by(me, records)
        wanted = max(turns.wanted_by(view, NAME, view.own.services[NAME]), 1)
        left = [record for record in turns.kin(view, NAME, view.own.services[NAME]) if record.name not in spared]
        assert sum(record.status == ALIVE and not record.draining for record in left) >= wanted
    for original_of in ("a", "x"):
        idle = [me for me in gone if as_seen_by(me, records).own.services[NAME].original == original_of]
        assert len(idle) <= 1 or not is_on_demand


@given(who_holds(), st.randoms())
def test_whatever_the_order_of_gossip_all_find_the_same(found, random):
    records = [holds(name, service, status, draining=draining) for name, service, status, draining in found]
    there = [record.name for record in records if record.is_there]
    found = []
    for me in there:
        random.shuffle(records)
        view = as_seen_by(me, records)
        found.append([copies.standing(view, NAME, record.services[NAME]) for record in sorted(records)])
    assert all(each == found[0] for each in found)
    assert sum(turns.is_decider(as_seen_by(me, records), NAME) for me in there) == min(len(there), 1)


# --- in words -------------------------------------------------------------------------------------------------------


def test_how_our_services_stand_is_told_in_words():
    assert turns.condition(seen(holds("a", original(*E2)), mine=a_copy("a"))) == Condition(stale=("Echo (of a)",))
    assert turns.condition(seen(mine=a_copy("a", replicas=2))) == Condition(orphans=("Echo (of a)",), short=("Echo (1 of 2)",))
    differing = ("Echo, at a (edition d2), since 1970-01-01 00:00 UTC",)
    assert turns.condition(seen(holds("a", original(*E2)), mine=original())) == Condition(rivals=differing)
    assert turns.condition(seen(mine=original())) == turns.condition(seen(mine=a_copy(""))) == Condition()


def test_holders_that_there_can_not_be_are_lacking_too():
    short = ("Echo (1 of 3)",)
    for mine in (original(replicas=3)._replace(replicable=False), original(replicas=3, copies=Copies.NONE)):
        for_others = () if mine.copies == Copies.NONE else ("Echo",)
        assert turns.missing(seen(mine=mine), NAME) == 0, "nobody is asked in vain"
        assert turns.condition(seen(mine=mine)) == Condition(short=short, for_others=for_others)
    assert turns.condition(seen(holds("b", a_copy("me")), mine=original())) == Condition(for_others=("Echo",))
    assert turns.condition(seen(holds("b", a_copy("me")), mine=original(copies=Copies.NONE))) == Condition()
