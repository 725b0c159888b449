"""Whose turn it is, what waits for how long, who was asked: what a node remembers of its copies and standing services."""

from itertools import pairwise
from random import Random

import pytest

from bdserver.core.copies import Go, Raise, Renew
from bdserver.core.membership import STATIC, Copies, Edition
from bdserver.core.turns import Place
from bdserver.core.upkeep import ERRANDS_MAX, HEARD_SECONDS, REFUSED_SECONDS, RENEWALS_A_SECOND, Look, Rules, Upkeep
from tests.unit.offers import NAME, a_copy, holds, original, seen, withdrew
from tests.unit.views import NOW

E2 = Edition(2, "d2")
A = holds("a", original())


class Life:
    """An Upkeep, a clock, and what it last found due."""

    def __init__(self, *others, mine=None, idle=600.0, **own):
        self.upkeep, self.idle, self.clock, self.own = Upkeep(Random(1)), idle, 0.0, own
        self.see(*others, mine=mine)

    def see(self, *others, mine=None):
        self.view = seen(*others, mine=mine, **self.own)
        return self

    def note(self, arrived=NOW - 1000, called=False):
        self.upkeep.note({NAME: arrived}, [NAME] if called else [], self.clock, NOW + self.clock)
        return self

    def after(self, seconds):
        self.clock += seconds
        return self

    def due(self, may_have=lambda name, record: True):
        return self.upkeep.due(self.view, self.clock, NOW + self.clock, Rules(self.idle, may_have))

    def over(self, errand, why=""):
        self.upkeep.over(errand, {NAME: why} if why else {}, self.clock)
        return self


# --- one errand at a time, and pauses -------------------------------------------------------------------------------


def test_a_service_has_one_errand_at_a_time():
    life = Life(withdrew("a"), mine=a_copy("a"))
    gone = Go(NAME, "withdrawn", "a has withdrawn it")
    assert life.due() == [gone] and life.due() == [] and life.upkeep.look([NAME], 0.0) is None
    assert life.over(gone).due() == [gone] and life.upkeep.failing() == []


def test_what_failed_is_tried_again_after_growing_pauses_and_is_a_warning_until_it_went_well():
    life, pauses = Life(withdrew("a"), mine=a_copy("a")), []
    (gone,) = life.due()
    for _ in range(9):
        life.over(gone, "the disk is full")
        began = life.clock
        assert life.upkeep.failing() == ["Echo: the disk is full"]
        while not life.due():
            life.after(0.05)
        pauses.append(life.clock - began)
    assert 0.25 <= pauses[0] <= 0.6 and 30 <= pauses[-1] <= 60.1 and all(b < 4.1 * a for a, b in pairwise(pauses))
    assert life.over(gone).upkeep.failing() == []


def test_what_is_not_to_be_done_any_more_has_not_failed():
    life = Life(withdrew("a"), mine=a_copy("a"))
    (gone,) = life.due()
    life.over(gone, "the disk is full").see(A, mine=a_copy("a")).due()
    assert life.upkeep.failing() == []


def test_so_many_errands_at_once_and_withdrawals_come_first():
    view = seen(withdrew("a"), mine=a_copy("a"))
    services = {f"S{number}": original(2) for number in range(ERRANDS_MAX + 2)}
    view.put(holds("b")._replace(services={name: a_copy("me", 3) for name in services}))
    view.put(view.own._replace(services={**services, "Z" + NAME: a_copy("a")}))
    view.put(view.records["a"]._replace(withdrawn={"Z" + NAME: view.records["a"].withdrawn[NAME]}))
    upkeep = Upkeep(Random(1))
    due = upkeep.due(view, 0.0, NOW, Rules(600.0, lambda name, record: True))
    assert len(due) == ERRANDS_MAX and isinstance(due[0], Go) and {type(each) for each in due[1:]} == {Raise}
    upkeep.over(due[1], {}, 0.0)
    assert upkeep.due(view, 0.0, NOW, Rules(600.0, lambda name, record: True)) == []  # originals have time
    upkeep.note({}, [], 1.0, NOW)
    assert len(upkeep.due(view, 0.0, NOW, Rules(600.0, lambda name, record: True))) == 1


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_service_whose_files_can_not_be_read_keeps_no_other_from_being_looked_at():
    upkeep = Upkeep(Random(1))
    look = upkeep.look(["bad", "good"], 0.0)
    assert look == Look(("bad", "good")) and upkeep.look(["bad", "good"], 0.0) is None
    upkeep.over(look, {"bad": "the disk is broken"}, 0.0)
    assert upkeep.look(["bad", "new"], 0.1) == Look(("new",)) and upkeep.failing() == ["bad: the disk is broken"]
    assert upkeep.look([], 0.1) is None and upkeep.failing() == []


def test_what_fails_for_two_reasons_alike_is_told_once():
    life = Life(holds("a", original(*E2)), mine=a_copy("a")).note()
    look = life.upkeep.look([NAME], 0.0)
    (renewal,) = life.over(look, "nobody gives it").after(9).due()
    life.over(renewal, "nobody gives it")
    assert life.upkeep.failing() == ["Echo: nobody gives it"]


# --- renewals -------------------------------------------------------------------------------------------------------


def test_an_original_below_its_copies_is_numbered_anew():
    assert Life(holds("b", a_copy("me", *E2)), mine=original()).due() == [Raise(NAME)]


def test_those_that_hear_of_a_new_edition_at_once_begin_one_after_the_other():
    others = [holds(f"n{number}", a_copy("a")) for number in range(40)]
    begins = []
    for seed in range(40):
        life = Life(holds("a", original(*E2)), *others, mine=a_copy("a"))
        life.upkeep = Upkeep(Random(seed))
        while not (due := life.due()):
            life.after(0.05)
        assert due == [Renew(NAME, "a", E2)]
        begins.append(life.clock)
    assert max(begins) <= 40 / RENEWALS_A_SECOND + 0.1 and len({round(each, 1) for each in begins}) > 10
    assert Life(holds("a", original(*E2)), mine=a_copy("a")).due() == [Renew(NAME, "a", E2)]  # alone, at once


def test_a_newer_edition_that_comes_meanwhile_has_a_turn_of_its_own():
    life = Life(holds("a", original(*E2)), mine=a_copy("a"))
    (renewal,) = life.due()
    life.over(renewal).see(holds("a", original(3)), mine=a_copy("a"))
    assert life.due() == [Renew(NAME, "a", Edition(3, "d3"))]


# --- too many -------------------------------------------------------------------------------------------------------


def test_an_idle_copy_says_so_and_goes_when_the_mesh_has_heard():
    life = Life(A, mine=a_copy("a")).note()
    assert life.due() == [] and life.upkeep.idle == {}
    assert life.after(599).note(called=True).due() == [] and life.upkeep.idle == {}
    assert life.after(600).note().due() == [] and life.upkeep.idle == {NAME: int(NOW + 599)}
    life.see(A, mine=a_copy("a", idle_since=int(NOW + 599)))
    assert life.after(4).due() == [] and life.after(1).due() == [Go(NAME, "retired", "nobody called it for 605 s")]


def test_a_copy_that_may_not_be_here_any_more_goes_and_takes_no_new_edition():
    life = Life(holds("a", original(*E2, copies=Copies.MEETING, replicas=2)), mine=a_copy("a")).note()
    rules = Rules(0.0, lambda name, record: True, are_apart=lambda one, other: (one, other) == ("a", "me"))
    (gone,) = life.upkeep.due(life.view, 0.0, NOW, rules)
    assert (gone.what, gone.name) == ("retired", NAME) and "policy" in gone.why


def test_a_copy_that_is_not_to_be_spared_does_not_wish_to_go():
    for others in ([], [holds("a", original(replicas=2))]):
        assert Life(*others, mine=a_copy("a")).note().after(9999).note().due() == []
    life = Life(holds("a", original(replicas=2)), mine=a_copy("a")).note()
    life.due()
    life.after(700).due()
    assert life.upkeep.idle == {}


def test_a_change_of_holders_begins_the_time_anew_and_so_does_another_copy():
    life = Life(A, mine=a_copy("a")).note()
    life.due()
    life.after(500).see(A, holds("b", a_copy("a")), mine=a_copy("a")).due()
    life.after(500).due()
    assert life.upkeep.idle == {}
    life.after(100).due()
    assert life.upkeep.idle == {NAME: int(NOW)}
    life.note(arrived=NOW + 1100).due()
    assert life.upkeep.idle == {}


def test_the_wall_clock_may_step():
    life = Life(A, mine=a_copy("a")).note()
    life.due()
    life.upkeep.note({NAME: NOW - 1000}, [], 10.0, NOW + 86400)
    life.after(10).due()
    assert life.upkeep.idle == {}
    life = Life(A, mine=a_copy("a")).note(arrived=NOW + 86400)  # it came while the clock was wrong
    life.due()
    life.after(600).due()
    assert life.upkeep.idle == {NAME: int(NOW)}


def surplus(arrived=NOW - 1000, called=False, was_here=True):
    """The errands of a holder, the last in turn, when another one has come back; three are wanted now, of four."""
    others = [holds("a", original(replicas=3)), holds("b", a_copy("a")), holds("c", a_copy("a"))]
    life = Life(*others, mine=a_copy("a", replicas=3))
    if was_here:
        life.note(arrived)
    else:
        life.upkeep.note({}, [], 0.0, NOW)
        life.note(arrived, called)
    life.due()
    life.upkeep.note({NAME: arrived}, [NAME], life.clock, NOW)
    return life


def test_what_came_back_is_too_many_soon_and_what_came_for_a_call_is_not():
    def goes(was_here, called):
        life = surplus(NOW if not was_here else NOW - 1000, called, was_here)
        return [each for _ in range(100) for each in life.after(1).due()]

    assert [type(each) for each in goes(True, False)] == [Go] and [type(each) for each in goes(False, False)] == [Go]
    assert goes(False, True) == []


def test_a_copy_that_came_for_a_call_counts_as_the_others_once_it_is_needed():
    life = surplus(NOW, True, False)
    three = [holds("a", original(replicas=3)), holds("b", a_copy("a"))]
    life.see(*three, mine=a_copy("a", replicas=3)).due()
    life.see(*three, holds("c", a_copy("a")), mine=a_copy("a", replicas=3))
    assert [type(each) for _ in range(100) for each in life.after(1).due()] == [Go]


# --- too few --------------------------------------------------------------------------------------------------------


def test_one_more_holder_at_a_time_and_nobody_is_asked_twice_within_a_while():
    b, c = holds("b", free_dynamic=1), holds("c", free_dynamic=1)
    life = Life(b, c, mine=original(replicas=3))
    (first,) = life.due()
    assert isinstance(first, Place) and life.due() == []
    (second,) = life.over(first, "no room").after(0.6).due()
    assert {first.node, second.node} == {"b", "c"}
    life.over(second, "no room")
    assert life.after(2).due() == []
    none = "Echo: 3 holders are wanted, and no node can take one more copy"
    assert life.upkeep.failing() == [none, "Echo: no room"]
    assert life.after(REFUSED_SECONDS).due()[0].node in "bc" and none not in life.upkeep.failing()


def test_who_took_a_copy_counts_until_its_record_should_have_come():
    b, c = holds("b", free_dynamic=1), holds("c", free_dynamic=1)
    life = Life(b, c, mine=original(replicas=2))
    (place,) = life.due()
    assert life.over(place).due() == [] and life.after(HEARD_SECONDS - 0.1).due() == []
    assert life.after(0.2).due() != []
    life = Life(b, c, mine=original(replicas=3))
    (place,) = life.due()
    took = holds(place.node, a_copy("me"))
    (other,) = life.over(place).due()
    assert other.node != place.node
    assert (
        life.over(other).see(took, mine=original(replicas=3)).due() == []
    )  # the other is on its way, forgotten meanwhile or not
    assert life.see(took, holds(other.node, a_copy("me")), mine=original(replicas=3)).due() == []


def test_a_warning_that_nobody_can_take_one_ends_when_there_are_enough():
    life = Life(mine=original(replicas=2))
    assert life.due() == [] and len(life.upkeep.failing()) == 1
    assert life.see(holds("b", a_copy("me")), mine=original(replicas=2)).due() == [] and life.upkeep.failing() == []


def test_policies_say_who_may_be_asked():
    life = Life(holds("b", free_dynamic=1), mine=original(replicas=2))
    assert life.due(may_have=lambda name, record: (name, record.name) != (NAME, "b")) == []


@pytest.mark.parametrize("mine", [original(), a_copy(""), a_copy("")._replace(type=STATIC)])
def test_a_service_of_its_own_needs_nothing(mine):
    assert Life(holds("b", free_dynamic=1), mine=mine).note().due() == []


# --- copies that are not offered ------------------------------------------------------------------------------------


def test_a_copy_that_our_record_does_not_tell_of_is_renewed_or_goes_all_the_same():
    """Nobody had signed it; now its original has been signed, as a new edition."""
    life = Life(holds("a", original(2)))
    hidden = {NAME: a_copy("a")}
    rules = Rules(600.0, lambda name, record: True, hidden)
    assert life.due() == []
    [errand] = life.upkeep.due(life.view, 0.0, NOW, rules)
    assert isinstance(errand, Renew) and errand.edition == E2
    life.over(errand).see(withdrew("a"))
    assert [type(each) for each in life.upkeep.due(life.view, 0.0, NOW, rules)] == [Go]
    life.see(A)
    assert life.upkeep.due(life.view, 0.0, NOW, rules) == []
