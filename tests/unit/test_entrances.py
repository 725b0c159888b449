"""Several entrances to the mesh: the share of the time that each has, who is passed over, and what is told when none lets us in."""

import pytest

from bdserver.core.messages import Mismatch, Nobody, Place
from bdserver.errors import (
    BadConfig,
    BadFrame,
    CantFind,
    Deadline,
    Forbidden,
    NobodyThere,
    PolicyMismatch,
    Refused,
    TooBusy,
)
from bdserver.net import entrances as module
from bdserver.net.entrances import PASSED_OVER, SHARE, enter, in_turn, located
from tests.unit.clocks import Clock
from tests.unit.sockets import soon


class Talk:
    """A conversation at an entrance: what is said there, an answer or an exception."""

    def __init__(self, answer):
        self.answer, self.is_open = answer, True

    def close(self):
        self.is_open = False


class Entrance:
    """Lets in, or raises; remembers until when it was given time."""

    def __init__(self, answer="in", at_the_door=None):
        self.answer, self.at_the_door = answer, at_the_door
        self.until, self.talk = None, None

    def __call__(self, deadline):
        self.until = deadline
        if self.at_the_door is not None:
            raise self.at_the_door
        self.talk = Talk(self.answer)
        return self.talk


def say(talk, deadline):
    if isinstance(talk.answer, Exception):
        raise talk.answer
    return talk.answer


def test_the_first_that_answers_is_it_and_nobody_else_is_called():
    first, second = Entrance("one"), Entrance("two")
    assert in_turn([first, second], soon(), say) == "one" and second.until is None and not first.talk.is_open


def test_an_entered_conversation_stays_open():
    entrance = Entrance("one")
    entered = enter([entrance], soon(), say)
    assert entered == ("one", entrance.talk, entrance) and entrance.talk.is_open


@pytest.mark.parametrize("error", [NobodyThere, Refused, Deadline, TooBusy, BadFrame])
@pytest.mark.parametrize("where", ["at the door", "inside"])
def test_who_is_silent_busy_late_or_talks_nonsense_is_passed_over(error, where):
    first = Entrance(at_the_door=error("no")) if where == "at the door" else Entrance(error("no"))
    assert in_turn([first, Entrance("two")], soon(), say) == "two" and issubclass(error, PASSED_OVER)
    assert first.talk is None or not first.talk.is_open


@pytest.mark.parametrize("error", [Forbidden, PolicyMismatch, CantFind, BadConfig, KeyError])
def test_what_a_node_says_of_the_request_is_the_answer_and_ends_it(error):
    first, second = Entrance(error("no")), Entrance("two")
    with pytest.raises(error):
        in_turn([first, second], soon(), say)
    assert second.until is None and not first.talk.is_open


@pytest.fixture
def clock(monkeypatch):
    clock = Clock(0.0)
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_each_has_half_of_the_time_that_is_left_and_the_last_all_of_it(clock):
    entrances = [Entrance(at_the_door=Deadline("late")) for _ in range(4)]
    with pytest.raises(NobodyThere):
        in_turn(entrances, 8.0, say)
    assert SHARE == 0.5 and [each.until for each in entrances] == [4.0, 4.0, 4.0, 8.0]


def test_what_one_has_spent_is_not_there_for_the_next(clock):
    def slow(deadline):
        clock.now += 100.0
        raise Deadline("late")

    second, third = Entrance(at_the_door=Deadline("late")), Entrance("three")
    assert in_turn([slow, second, third], clock.now + 400.0, say) == "three"
    assert second.until == 100.0 + 300.0 / 2 and third.until == 400.0


def test_of_one_entrance_its_own_error_is_told():
    with pytest.raises(TooBusy, match="^full$"):
        in_turn([Entrance(at_the_door=TooBusy("full"))], soon(), say)


def test_of_several_each_is_named():
    with pytest.raises(NobodyThere, match="^no node answers: a: refused; b: late$"):
        in_turn([Entrance(at_the_door=Refused("a: refused")), Entrance(Deadline("b: late"))], soon(), say)


def test_of_none_that_is_said():
    with pytest.raises(NobodyThere, match="no entrance to the mesh is configured"):
        in_turn([], soon(), say)


# --- what WHEREIS was answered ------------------------------------------------------------------------------------


DETAILS = {"url": "http://h/x", "node": "a", "service": "x", "phase": 1, "asked": []}


def test_a_place_has_its_details():
    assert located("x", Place("h", 80, "axis", DETAILS)) is DETAILS


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "x: nobody in the mesh has it"),
        ([{"node": "a"}], "x: the nodes that have it do not answer"),
        ([{"answer": "forbidden"}, {"answer": "nobody-there"}], "x: the nodes that have it do not answer"),
        ([{"answer": "forbidden"}] * 2, "x: the nodes that have it refuse the one that asks for you"),
    ],
)
def test_why_nobody_was_found_is_told(asked, words):
    with pytest.raises(CantFind, match=words):
        located("x", Nobody(DETAILS | {"asked": asked}))


def test_a_policy_that_meets_nobodys_is_told():
    with pytest.raises(PolicyMismatch, match="x: no holder's policy meets yours"):
        located("x", Mismatch(DETAILS))
