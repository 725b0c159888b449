"""A line: who waits for which answer, until when, and what is given up; no socket, and no clock but the test's."""

from types import SimpleNamespace

import pytest

from bdserver.net.links import State
from bdserver.processes.line import MUTE_SECONDS, Line, Turn

NEVER = float("inf")


def line(*deadlines, state=None, late_at=NEVER):
    """To which so many talks wait until then; without a state it has no link."""
    made = Line(("10.0.0.1:9002", False), "n0", 100.0)
    made.waiting.extend(Turn(iter(()), ["PING"], deadline, print) for deadline in deadlines)
    if state is not None:
        made.link = SimpleNamespace(state=state, late_at=lambda: late_at)
    return made


def deadlines(turns):
    return [turn.deadline for turn in turns]


def test_it_is_dialled_when_somebody_waits_and_there_is_no_link():
    assert line(101.0).wants_link and not line().wants_link and not line(101.0, state=State.CONNECTING).wants_link
    assert line().address == "10.0.0.1:9002" and line().used_at == line().opened_at == 100.0
    assert [line(state=state).is_open for state in (None, State.CONNECTING, State.OPEN)] == [False, False, True]


@pytest.mark.parametrize(
    ("made", "at"),
    [
        (line(), NEVER),
        (line(state=State.OPEN), NEVER),
        (line(103.0, 101.0), 101.0),
        (line(103.0, state=State.OPEN), 103.0),
        (line(103.0, state=State.OPEN, late_at=102.0), 102.0),
        (line(state=State.CONNECTING, late_at=105.0), 105.0),
    ],
    ids=["nobody waits", "it is open", "a talk", "a talk on an open one", "half a frame", "it shakes hands"],
)
def test_its_next_patience_is_that_of_a_talk_or_of_its_link(made, at):
    assert made.next_at() == at


def test_another_address_of_the_host_is_tried_in_time():
    made = line(103.0, state=State.CONNECTING)
    made.next_address_at = 101.5
    assert made.next_at() == 101.5


def test_on_an_open_line_what_is_given_up_keeps_its_place_and_its_answer_is_awaited_a_while():
    made = line(101.0, 110.0, state=State.OPEN)
    assert made.give_up(100.9) == []
    assert deadlines(made.give_up(101.0)) == [101.0] and made.give_up(101.0) == [], "once"
    assert deadlines(made.waiting) == [101.0, 110.0] and deadlines(made.wanted) == [110.0]
    assert made.mute_at() == made.next_at() == 101.0 + MUTE_SECONDS


def test_on_a_line_that_is_not_open_it_was_never_asked_and_is_forgotten():
    for state in (None, State.CONNECTING):
        made = line(101.0, 110.0, state=state)
        assert deadlines(made.give_up(101.0)) == [101.0]
        assert deadlines(made.waiting) == deadlines(made.wanted) == [110.0] and made.mute_at() == NEVER
