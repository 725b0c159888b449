"""Trials: what another process reads, whatever becomes of whoever began it."""

import itertools
import os
import signal
import time

from bdserver.files import trials
from bdserver.files.trials import Trial


def test_what_it_read_comes_back():
    trial = Trial(lambda: {"read": 1})
    assert trial.has_ended(time.monotonic() + 20) and trial.what_it_read() == {"read": 1}


def begun_by_one_that_is_killed(hang):
    """Whoever begins a trial that hangs is killed when it does; what comes out of the pipe that `hang` is given, from then on."""
    kept, given = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(kept)
        Trial(lambda: hang(given))
        time.sleep(60)
        os._exit(1)
    os.close(given)
    assert os.read(kept, 10) == b"hangs"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    began = time.monotonic()
    left = os.read(kept, 10)
    assert time.monotonic() - began < 30, "it has ended, and did not go on"
    os.close(kept)
    return left


def test_one_that_hangs_ends_with_whoever_began_it_and_keeps_nothing_of_its():
    """A listener that is killed has locks and ports, and the next one wants them at once."""

    def hang(given):
        try:
            os.write(given, b"hangs")
            time.sleep(60)
        finally:
            os.write(given, b"undone")

    assert begun_by_one_that_is_killed(hang) == b"undone", "it was left in order: what was read is not to blame"


def test_a_loop_in_c_which_hears_of_no_alarm_is_ended_by_the_kernel(monkeypatch):
    monkeypatch.setattr(trials, "TRIAL_SECONDS", 0.5)

    def hang(given):
        os.write(given, b"hangs")
        sum(itertools.repeat(0))

    assert begun_by_one_that_is_killed(hang) == b""
