"""Whose a copy is, which edition counts, and what becomes of it: each rule alone."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core import copies
from bdserver.core.copies import Condition, Go, Lately, Place, Raise, Renew, Rivals, Standing
from bdserver.core.membership import ALIVE, COUNTER_MAX, DEAD, LEFT, NO_EDITION, SUSPECT, Copies, Edition, Withdrawal
from tests.unit.offers import NAME, a_copy, holds, original, seen, withdrew

E1, E2, E3 = Edition(1, "d1"), Edition(2, "d2"), Edition(3, "d3")


# --- how a copy stands ----------------------------------------------------------------------------------------------


def standing(view, edition=E1, of="a"):
    return copies.standing(view, NAME, a_copy(of, *edition))


@pytest.mark.parametrize(
    ("told", "is_stale"), [(E1, False), (E2, True), (Edition(1, "other"), True), (Edition(0, "d0"), False), (NO_EDITION, False)]
)
def test_a_copy_follows_its_original_unless_that_has_fallen_back(told, is_stale):
    view = seen(holds("a", original(*told)))
    assert standing(view) == Standing("a", told, is_stale)
    assert (
        copies.is_stale(seen(holds("a", original(*told)), holds("b", a_copy("a"))), NAME, holds("b", a_copy("a"))) == is_stale
    )


@pytest.mark.parametrize("counter", [1, 7])
def test_a_copy_of_what_was_withdrawn_goes(counter):
    for status in ("alive", "suspect", "dead", "left"):
        view = seen(withdrew("a", counter, status=status))
        assert standing(view) == Standing("a", E1, is_withdrawn=True)
        assert copies.to_withdraw(view, NAME, a_copy("a")) == Go(NAME, "withdrawn", "a has withdrawn it")
        assert not copies.may_serve(view, NAME, a_copy("a"))


def test_a_withdrawal_does_not_count_for_a_later_edition_nor_where_the_original_is_back():
    assert standing(seen(withdrew("a", 1)), E2) == Standing("a", E2, is_orphan=True)
    assert standing(seen(withdrew("a", 1, original(*E2)))) == Standing("a", E2, is_stale=True)


@pytest.mark.parametrize("gone", [[], [holds("a")], [holds("a", a_copy("x"))], [holds("a", a_copy("a"))]])
def test_a_copy_whose_original_went_without_a_word_is_an_orphan_and_stays(gone):
    view = seen(*gone, holds("x", original(*E3)))
    assert standing(view) == Standing("a", E1, is_orphan=True)
    assert copies.to_withdraw(view, NAME, a_copy("a")) is None and copies.to_renew(view, NAME, a_copy("a")) is None
    assert copies.may_serve(view, NAME, a_copy("a"))


@pytest.mark.parametrize("status", [DEAD, LEFT])
def test_what_a_dead_originals_node_said_last_is_the_truth(status):
    dead = holds("a", original(*E2), status=status)
    assert standing(seen(dead), E2) == Standing("a", E2, is_orphan=True)
    assert standing(seen(dead), E1) == Standing("a", E1, is_stale=True, is_orphan=True)  # nobody has it, so this one serves on
    assert copies.may_serve(seen(dead), NAME, a_copy("a")) and copies.to_renew(seen(dead), NAME, a_copy("a")) is None
    assert standing(seen(dead), E3) == Standing("a", E3, is_orphan=True)
    with_one = seen(dead, holds("b", a_copy("a", *E2)), holds("liar", a_copy("a", *E3)))
    assert standing(with_one) == Standing("a", E2, is_stale=True, is_orphan=True)
    assert copies.to_renew(with_one, NAME, a_copy("a")) == Renew(NAME, "a", E2) and not copies.may_serve(
        with_one, NAME, a_copy("a")
    )


def test_orphans_become_the_newest_edition_that_is_left_among_them():
    for a in ([], [holds("a")], [holds("a", original(*E3), status=DEAD)]):
        view = seen(*a, holds("b", a_copy("a", *E2)), holds("x", a_copy("other", *E3)))
        assert standing(view) == Standing("a", E2, is_stale=True, is_orphan=True)
        assert copies.to_renew(view, NAME, a_copy("a")) == Renew(NAME, "a", E2)
        assert standing(view, E2).newest == E2


def test_the_others_follow_whoever_has_adopted_it_since():
    view = seen(
        holds("a"), holds("b", original(*E2, after="a")), holds("c", original(*E3, after="a")), holds("x", original(*E3))
    )
    assert standing(view) == Standing("c", E3, is_stale=True)
    assert copies.to_renew(view, NAME, a_copy("a")) == Renew(NAME, "c", E3)
    assert standing(view, E3) == Standing("a", E3, is_orphan=True)  # none of them is above it
    view.merge(
        holds(
            "a",
            original(*E1),
        )._replace(version=(2, 0)),
        0,
    )  # it is back, and had never withdrawn
    assert standing(view) == Standing("a", E1)


# --- what may be served ---------------------------------------------------------------------------------------------


def test_an_old_edition_is_served_as_long_as_the_new_one_is_not_to_be_had():
    a, b, c = holds("a", original(*E2)), holds("b", a_copy("a")), holds("c", original(*E1))
    view = seen(a, b, c)
    assert copies.current(view, NAME, [a, b, c]) == [a, c]
    assert copies.holders_of(view, NAME, E2) == [a]
    assert copies.to_renew(view, NAME, None) is None and copies.to_renew(view, NAME, original()) is None
    assert copies.to_withdraw(view, NAME, None) is None and copies.to_withdraw(view, NAME, original()) is None
    assert copies.may_serve(view, NAME, a_copy(""))  # nobody knows whose it is


def test_what_can_not_be_copied_any_more_is_served_by_its_original_alone():
    view = seen(holds("a", original(0, "")))
    assert not copies.may_serve(view, NAME, a_copy("a")) and copies.to_renew(view, NAME, a_copy("a")) is None


# --- whom to believe ------------------------------------------------------------------------------------------------


def believed(view, edition=E1, giver="b", of="a"):
    return copies.is_credible(view, NAME, giver, of, edition)


def test_a_giver_is_believed_that_has_the_original_or_says_what_its_node_says():
    view = seen(holds("a", original(*E2)), holds("b", a_copy("a")))
    assert believed(view, E1, "a") and believed(view, E2) and not believed(view, E1) and not believed(view, E3)
    assert not believed(view, E3, of="nobody")  # an orphan, it says, and a lives


def test_an_orphan_is_believed_while_nobody_has_what_its_original_was_last():
    assert believed(seen(holds("b", a_copy("a")))) and believed(seen(holds("a"), holds("b", a_copy("a"))))
    dead = holds("a", original(*E2), status=DEAD)
    assert believed(seen(dead, holds("b", a_copy("a")))) and believed(seen(dead), E2)
    assert not believed(seen(dead, holds("b", a_copy("a")), holds("c", a_copy("a", *E2))))


def test_what_was_withdrawn_is_nobodys_to_give():
    view = seen(withdrew("a", 1), holds("b", a_copy("a")))
    assert not believed(view) and not believed(view, giver="a") and believed(view, E2)


# --- numbers ------------------------------------------------------------------------------------------------------


def test_the_next_edition_is_above_those_before_whatever_the_clock_says():
    assert copies.next_edition("d", 1000.9) == Edition(1000, "d")
    assert copies.next_edition("d", 5, Edition(7, "x"), Edition(9, "y")) == Edition(10, "d")
    assert copies.next_edition("d", -5) == Edition(0, "d")
    assert copies.next_edition("d", 5, Edition(COUNTER_MAX, "x")) == Edition(COUNTER_MAX, "d")


@pytest.mark.parametrize(
    ("edition", "of_copies", "numbered"),
    [
        (E2, None, E2), (E2, E1, E2), (E2, E2, E2), (E2, Edition(2, "other"), Edition(3, "d2")), (E1, E2, Edition(3, "d1")),
        (E1, Edition(2, "d1"), Edition(3, "d1")), (Edition(5, ""), E2, Edition(5, "")),
    ],
)  # fmt: skip
def test_an_original_that_fell_back_is_numbered_above_its_copies(edition, of_copies, numbered):
    others = (
        [holds("b", a_copy("me", *of_copies)), holds("c", a_copy("x", *E3)), holds("d", original(*E3))] if of_copies else []
    )
    view = seen(*others, mine=original(*edition))
    assert copies.above_copies(view, NAME, edition, "") == numbered
    is_due = edition.digest and numbered != edition
    assert copies.to_raise(view, NAME, original(*edition)) == (Raise(NAME) if is_due else None)
    assert copies.to_raise(view, NAME, a_copy("x", *edition)) is None


def test_what_was_adopted_is_numbered_above_the_orphans_that_are_to_follow():
    orphan = holds("c", a_copy("a", *E2))
    assert copies.above_copies(seen(holds("a"), orphan), NAME, E1, "a") == Edition(3, "d1")
    assert copies.above_copies(seen(holds("a"), orphan), NAME, E2, "a") == Edition(3, "d2")  # to them it is no heir at the same
    assert copies.above_copies(seen(holds("a"), orphan, holds("d", a_copy("me", *E2))), NAME, E2, "a") == Edition(3, "d2")
    assert copies.above_copies(seen(holds("a", original(*E2)), orphan), NAME, E1, "a") == E1  # they follow a
    assert copies.above_copies(seen(holds("a"), holds("x", original(*E3))), NAME, E1, "") == E1


def test_what_is_hashed_is_numbered_above_what_was_here_and_what_was_withdrawn():
    def numbered(here, view=None, digest="d", now=5):
        return copies.numbered(view or seen(), NAME, digest, here, "", now)

    assert numbered(None) == Edition(5, "d") and numbered(None, digest="") == NO_EDITION
    assert numbered(original(3, "d")) == Edition(3, "d") and numbered(original(8, "other")) == Edition(9, "d")
    assert numbered(a_copy("a", 3, "d")) == Edition(5, "d") and numbered(a_copy("a", 7, "d")) == Edition(8, "d")
    gone = seen(withdrawn={NAME: Withdrawal(7, 1)})
    assert numbered(None, gone) == Edition(8, "d") == numbered(original(3, "d"), gone)
    assert numbered(original(3, "d"), seen(holds("b", a_copy("me", 9, "d")))) == Edition(10, "d")


def test_how_our_services_stand_is_told_in_words():
    assert copies.condition(seen(holds("a", original(*E2)), mine=a_copy("a"))) == Condition(stale=("Echo (of a)",))
    assert copies.condition(seen(mine=a_copy("a", replicas=2))) == Condition(orphans=("Echo (of a)",), short=("Echo (1 of 2)",))
    assert copies.condition(seen(holds("a", original(*E2)), mine=original())) == Condition(rivals=("Echo (at a)",))
    assert copies.condition(seen(mine=original())) == copies.condition(seen(mine=a_copy(""))) == Condition()


# --- who decides ----------------------------------------------------------------------------------------------------


def test_a_node_that_is_named_as_the_service_counts_as_any_other():
    record = holds(NAME, a_copy("gone"))
    assert copies._in_turn(NAME, [record]) == [NAME]
    alone = seen(record)
    alone.me = NAME
    assert copies.is_decider(alone, NAME)


def test_nobody_replaces_holders_that_go_since_it_was_withdrawn():
    mine = a_copy("a", replicas=3)
    assert copies.missing(seen(holds("a"), mine=mine), NAME) == 2
    assert copies.missing(seen(withdrew("a"), mine=mine), NAME) == 0


def test_the_originals_node_decides_or_the_first_around_the_ring_while_it_is_gone():
    b, c = holds("b", a_copy("a")), holds("c", a_copy("a"))
    assert copies.is_decider(seen(b, c, mine=original()), NAME) and not copies.is_decider(seen(b, mine=None), NAME)
    assert not copies.is_decider(seen(holds("a", original()), mine=a_copy("a")), NAME)
    orphans = [seen(*(holds(n, a_copy("a")) for n in "bcd" if n != me)) for me in "bcd"]
    for view, me in zip(orphans, "bcd", strict=True):
        view.me = me
        view.put(holds(me, a_copy("a")))
    assert sum(copies.is_decider(view, NAME) for view in orphans) == 1


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
    assert copies.missing(seen(*others, mine=mine), NAME) == missing


def test_a_copy_goes_where_there_is_room_on_another_host_in_another_zone_and_least_load():
    def place(*others, busy=(), may_have=lambda record: True):
        view = seen(*others, mine=original(replicas=3), address="10.0.0.1:1", policy="p")
        return copies.to_place(view, NAME, may_have, busy, Random(1))

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
    assert copies.wanted(seen(mine=original(replicas=3)), NAME) == 3 and copies.wanted(seen(), NAME) == 0


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
    assert copies.may_have(view, NAME, holds("t"), lambda one, other: one in talk and other == "t") == may


# --- too many -------------------------------------------------------------------------------------------------------

LONG_AGO = Lately(0.0, 0.0, 0.0, 0.0)


def retires(*others, mine=None, held=LONG_AGO, now=1000.0, idle=600.0, **own):
    gone = copies.to_retire(seen(*others, mine=mine, **own), NAME, held, now, idle)
    return gone and gone.why


IDLE = a_copy("a", idle_since=5)
NOBODY = "nobody called it for 1000 s"


def test_an_idle_copy_goes_when_it_has_said_so_for_a_while():
    a = holds("a", original())
    assert copies.to_retire(seen(a, mine=IDLE), NAME, LONG_AGO, 1000.0, 600.0) == Go(NAME, "retired", NOBODY)
    assert retires(a, mine=a_copy("a")) is None  # the others have not heard
    assert retires(a, mine=IDLE, now=604.9) is None and retires(a, mine=IDLE, now=605.0)
    assert retires(a, mine=IDLE, idle=0) is None
    for later in ({"arrived_at": 500.0}, {"called_at": 500.0}, {"steady_since": 500.0}):
        assert retires(a, mine=IDLE, held=LONG_AGO._replace(**later)) is None
    assert retires(a, mine=IDLE, held=LONG_AGO._replace(arrived_at=1.0), now=60.0, idle=1.0) is None
    assert retires(a, mine=IDLE, held=LONG_AGO._replace(joined_at=999.0)) == NOBODY
    assert retires(a) is None and retires(a, mine=original()) is None and retires(a, mine=a_copy("", idle_since=5)) is None


def test_the_last_holder_that_is_sure_to_be_there_never_goes():
    for others in (
        [], [holds("a", original(), SUSPECT)], [holds("a", original(), DEAD)], [holds("a", original(), draining=True)],
        [holds("x", original(*E3))], [holds("x", a_copy("x"))], [holds("a", a_copy("x"))],
    ):  # fmt: skip
        assert retires(*others, mine=IDLE) is None and not copies.can_spare(seen(*others, mine=IDLE), NAME)
    assert copies.can_spare(seen(holds("x", original()), mine=a_copy("")), NAME)  # whose it is, nobody knows
    left = seen(holds("a", original()), mine=IDLE, status=LEFT)
    assert not copies.can_spare(left, NAME) and copies.wanted_by(left, NAME, a_copy("b", replicas=2)) == 2
    assert not copies.can_spare(seen(holds("x", original()), mine=original()), NAME) and not copies.can_spare(seen(), NAME)


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
    turn = copies._in_turn(NAME, [holds(name, a_copy("a")) for name in names])
    me = turn[-1 - behind]
    view = seen(holds("a", original(replicas=3)), *(holds(name, a_copy("a")) for name in names if name != me))
    view.me = me
    view.put(holds(me, a_copy("a")))
    held = LONG_AGO._replace(joined_at=1000.0, called_at=999.0)
    assert copies.to_retire(view, NAME, held, 999.9 + seconds, 0) is None
    gone = copies.to_retire(view, NAME, held, 1000.0 + seconds, 0)
    assert gone == Go(NAME, "retired", "6 nodes have it, and 3 are wanted")
    assert copies.to_retire(view, NAME, held._replace(is_on_demand=True), 2000.0, 0) is None
    assert copies.to_retire(view, NAME, held._replace(arrived_at=1950.0), 2000.0, 0) is None
    view.put(view.records["a"]._replace(load=6))
    assert copies.to_retire(view, NAME, held, 2000.0, 0) is None  # there is work for them


def test_the_first_holders_in_turn_stay():
    turn = copies._in_turn(NAME, [holds(name, a_copy("a")) for name in ("b", "c", "d")])
    view = seen(holds("a", original(replicas=3)), *(holds(name, a_copy("a")) for name in turn[1:]))
    view.me = turn[0]
    view.put(holds(turn[0], a_copy("a")))
    assert copies.to_retire(view, NAME, LONG_AGO, 2000.0, 0) is None


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
def test_holders_that_all_go_at_once_leave_as_many_as_are_wanted(holders, now, is_on_demand):
    records = [holds(name, service, status, draining=draining) for name, service, status, draining in holders]
    held = LONG_AGO._replace(is_on_demand=is_on_demand)
    there = [record.name for record in records if record.status == ALIVE]
    gone = {me for me in there if copies.to_retire(as_seen_by(me, records), NAME, held, now, 600.0)}
    spared = {me for me in there if copies.can_spare(as_seen_by(me, records), NAME)}
    assert gone <= spared
    for me in spared:
        view = as_seen_by(me, records)
        wanted = max(copies.wanted_by(view, NAME, view.own.services[NAME]), 1)
        left = [record for record in copies.kin(view, NAME, view.own.services[NAME]) if record.name not in spared]
        assert sum(record.status == ALIVE and not record.draining for record in left) >= wanted
    for original_of in ("a", "x"):
        idle = [me for me in gone if as_seen_by(me, records).own.services[NAME].original == original_of]
        assert len(idle) <= 1 or not is_on_demand


@given(who_holds(), st.randoms())
def test_whatever_the_order_of_gossip_all_find_the_same(holders, random):
    records = [holds(name, service, status, draining=draining) for name, service, status, draining in holders]
    there = [record.name for record in records if record.is_there]
    found = []
    for me in there:
        random.shuffle(records)
        view = as_seen_by(me, records)
        found.append([copies.standing(view, NAME, record.services[NAME]) for record in sorted(records)])
    assert all(each == found[0] for each in found)
    assert sum(copies.is_decider(as_seen_by(me, records), NAME) for me in there) == min(len(there), 1)


# --- rivals ---------------------------------------------------------------------------------------------------------


def test_originals_that_differ_are_rivals():
    a, b, c = holds("a", original(*E1)), holds("b", original(*E3)), holds("c", a_copy("a", *E2))
    assert copies.rivals(seen(a, b, c), NAME) == Rivals({"a": "d1", "b": "d3"}, 3)
    assert copies.originals(seen(a, b, c, holds("d", original(0, ""))), NAME) == [a, b]
    assert copies.rivals(seen(a, c), NAME) is None and copies.rivals(seen(a, holds("b", original(2, "d1"))), NAME) is None
    assert copies.rivals(seen(a, b._replace(status=DEAD)), NAME) is None
    assert standing(seen(a, b)) == Standing("a", E1) and standing(seen(a, b), E3, "b") == Standing("b", E3)
