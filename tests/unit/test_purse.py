"""The purse that the children of a node share."""

import os

import pytest

from bdserver.core.tickets import TICKET_SECONDS
from bdserver.processes.purse import SLOTS, Purse
from tests.unit.forks import in_a_child

NOW = 1_700_000_000.25
UNTIL = NOW + TICKET_SECONDS


@pytest.fixture
def purse():
    purse = Purse()
    (file,) = purse.share()
    assert purse.share() == [file]
    yield purse
    os.close(file)


def held(purse, asker, now=NOW):
    with purse.opened(asker, now) as account:
        return account.held


def test_what_one_child_adds_another_finds_and_askers_are_told_apart(purse):
    def add():
        with purse.opened("a", NOW) as account:
            account.add(3.5, UNTIL)

    in_a_child(add)
    assert held(purse, "a") == 3.5 and held(purse, "b") == 0.0


def test_what_is_given_back_is_no_longer_held_and_never_less_than_nothing(purse):
    with purse.opened("a", NOW) as account:
        account.add(3.0, UNTIL)
        account.add(-1.0, UNTIL)
        assert account.held == 2.0
        account.add(-9.0, UNTIL)
        assert account.held == 0.0


@pytest.mark.parametrize("later", [2 * TICKET_SECONDS, -10.0])
def test_all_has_ended_after_its_time_and_when_the_clock_was_put_right(purse, later):
    with purse.opened("a", NOW) as account:
        account.add(3.0, UNTIL)
    assert held(purse, "a", NOW + TICKET_SECONDS / 2) == 3.0
    assert held(purse, "a", NOW + later) == 0.0


def test_what_is_never_told_of_ends_while_more_is_promised(purse):
    for tenth in range(50):
        now = NOW + tenth / 10
        with purse.opened("a", now) as account:
            account.add(1.0, now + TICKET_SECONDS)
            assert min(tenth + 1, 10) <= account.held <= 20


def test_nobody_waits_for_a_purse_that_is_open(purse):
    seen = []
    read, write = os.pipe()

    def look():
        with purse.opened("a", NOW) as account:
            os.write(write, b"busy" if account is None else b"open")

    with purse.opened("b", NOW):
        in_a_child(look)
    in_a_child(look)
    seen = os.read(read, 100)
    assert seen == b"busyopen"


def test_any_number_of_askers_has_a_slot(purse):
    for number in range(3 * SLOTS):
        held(purse, f"asker{number}")


def test_before_there_are_others_no_lock_is_needed():
    assert held(Purse(), "a") == 0.0
