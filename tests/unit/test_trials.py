"""Trials: what another process reads, whatever becomes of whoever began it."""

import os
import signal
import time

from bdserver.files.trials import Trial


def test_what_it_read_comes_back():
    trial = Trial(lambda: {"read": 1})
    assert trial.has_ended(time.monotonic() + 20) and trial.what_it_read() == {"read": 1}


def test_one_that_hangs_ends_with_whoever_began_it_and_keeps_nothing_of_its():
    """A listener that is killed has locks and ports, and the next one wants them at once."""
    kept, given = os.pipe()
    undone, undo = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(kept)
        os.close(undone)

        def hang():
            try:
                os.write(given, b"hangs")
                time.sleep(60)
            finally:
                os.write(undo, b"undone")

        Trial(hang)
        time.sleep(60)
        os._exit(1)
    os.close(given)
    os.close(undo)
    assert os.read(kept, 10) == b"hangs"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    began = time.monotonic()
    assert os.read(kept, 10) == b"", "nobody has it open any more"
    assert time.monotonic() - began < 30, "it has ended, and did not sleep on"
    assert os.read(undone, 10) == b"undone", "it was left in order: what was read is not to blame"
