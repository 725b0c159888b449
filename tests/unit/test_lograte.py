"""How many lines of the log each place may say."""

import os

from bdserver.processes.lograte import BURST, RATE, TELL_SECONDS, Rates


def said(rates, place, count, now):
    """How many of so many lines were said."""
    return sum(rates.has_room(place, now) for _ in range(count))


def test_a_place_says_so_many_at_once_and_so_many_a_second_in_the_long_run():
    rates = Rates()
    assert said(rates, "here:1", BURST + 100, 1000.0) == BURST
    assert said(rates, "here:1", 100, 1010.0) == 10 * RATE
    assert sum(said(rates, "here:1", 10, 1010.0 + second) for second in range(1, 101)) == 100 * RATE
    assert said(rates, "here:1", BURST + 100, 10_000.0) == BURST, "after a pause as at first"


def test_another_place_says_its_own():
    rates = Rates()
    said(rates, "here:1", BURST + 1, 1000.0)
    assert said(rates, "here:2", 10, 1000.0) == 10


def test_how_many_were_left_out_is_told_once_a_while_after_the_first():
    rates = Rates()
    assert rates.left_out(1000.0) == 0
    said(rates, "here:1", BURST + 7, 1000.0)
    assert [rates.left_out(1000.0 + seconds) for seconds in (0.0, TELL_SECONDS, TELL_SECONDS)] == [0, 7, 0]


def test_all_processes_together_say_so_many():
    rates = Rates()
    pid = os.fork()
    if pid == 0:
        said(rates, "here:1", BURST + 3, 1000.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert said(rates, "here:1", 10, 1000.0) == 0 and rates.left_out(1000.0 + TELL_SECONDS) == 13
