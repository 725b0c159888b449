"""A process that is kept alive: whether it hangs, and when it is started again."""

import os

import pytest

from bdserver.processes.supervised import HUNG_LOOKS, RESTART_PAUSE, RESTART_PAUSE_MAX, WELL_SECONDS, Supervised


@pytest.fixture
def life():
    life = Supervised()
    yield life
    for descriptor in (life.wake_read, life.wake_write, life.life_read, life.life_write):
        os.close(descriptor)


def test_one_whose_loop_turns_is_left_alone_and_looks_at_another_one_begin_anew(life):
    assert not any(life.is_hung(5.0) for _ in range(99)), "there is none"
    life.pid = 1
    assert not any(life.is_hung(None) for _ in range(99)), "nobody tells"
    assert not any(life.is_hung(float(number)) for number in range(99)), "it turns"
    assert [life.is_hung(98.0) for _ in range(HUNG_LOOKS)] == [False] * (HUNG_LOOKS - 1) + [True]
    life.pid = 0
    assert not life.is_hung(98.0)
    life.pid = 2
    assert not life.is_hung(98.0)


def test_the_pauses_before_it_is_started_again_grow_until_one_was_well(life):
    pauses = [life.pause_after_its_end(1.0) for _ in range(12)]
    assert pauses[:3] == [RESTART_PAUSE, 2 * RESTART_PAUSE, 4 * RESTART_PAUSE] and pauses[-1] == RESTART_PAUSE_MAX
    life.born_at = 1.0
    assert life.pause_after_its_end(1.0 + WELL_SECONDS) == RESTART_PAUSE_MAX, "it lived no longer than one that is not well"
    assert life.pause_after_its_end(1.5 + WELL_SECONDS) == RESTART_PAUSE
