"""A trial: another process of ours reads what may crash its reader, and what came of it comes back.

Promises that whoever begins a trial lives on, whatever becomes of it, and need not wait: it may look again later, and give up
one that has had its time. What comes back is a value of ours, pickled by a process of ours.

Leaves to `quarantine` what is read, when a trial is worth its fork, and what is to blame when the reader died.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import resource
import signal
import time
from collections.abc import Callable
from typing import Any, BinaryIO

# All that one trial reads takes so long at most, whatever it waits for: it depends on the machine and its disks, and then
# nothing is to blame.
TRIAL_SECONDS = 10.0
POLL_SECONDS = 0.001
# How often it looks whether whoever began it is still there: it has its locks and sockets, which the next one wants.
ORPHAN_SECONDS = 0.2

log = logging.getLogger("bdserver.trials")


class Trial:
    """A process that reads. `read`: what it does there; what that returns is what comes back."""

    def __init__(self, read: Callable[[], object]) -> None:
        """OSError when there is no room for one."""
        self._until = time.monotonic() + TRIAL_SECONDS
        began_by = os.getpid()
        self._found = open(os.memfd_create("read"), "w+b")  # noqa: SIM115 (until it has come back)
        try:
            self._pid = os.fork()
        except OSError:
            self._found.close()
            raise
        if self._pid == 0:
            _live(read, self._found, began_by)

    def has_ended(self, until: float) -> bool:
        """Wait for its end, until then at most; of one that is to go on no longer, too."""
        while not self._is_gone():
            now = time.monotonic()
            if now >= min(until, self._until):
                return False
            time.sleep(POLL_SECONDS)
        return True

    def is_late(self) -> bool:
        """Whether it has had its time."""
        return time.monotonic() >= self._until

    def what_it_read(self) -> Any:
        """Of one that has ended; None when that was before it could say so."""
        with self._found:
            self._found.seek(0)
            with contextlib.suppress(EOFError, pickle.UnpicklingError):  # it has what we have, our key too
                return pickle.load(self._found)
        return None

    def end(self) -> None:
        """It is given up."""
        self._found.close()
        if not self._is_gone():
            os.kill(self._pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)

    def forget(self) -> None:
        """In a process that was forked meanwhile: it is another's."""
        self._found.close()

    def _is_gone(self) -> bool:
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # whoever reaps all children has reaped this one
            return True


def _live(read: Callable[[], object], found: BinaryIO, began_by: int) -> None:
    try:
        signal.set_wakeup_fd(-1)  # the other's
        _limit_processor_time()
        signal.signal(signal.SIGALRM, lambda number, frame: _end_if_orphan(began_by))
        signal.setitimer(signal.ITIMER_REAL, ORPHAN_SECONDS, ORPHAN_SECONDS)
        what = read()
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        pickle.dump(what, found)
        found.flush()
    except Exception:
        log.exception("what another process reads met a bug")
    finally:
        os._exit(0)


def _limit_processor_time() -> None:
    """By the kernel: a loop in C hears of no alarm, and whoever began it may be gone and end it no more."""
    seconds = math.ceil(TRIAL_SECONDS)
    with contextlib.suppress(ValueError, OSError):  # it has less already
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def _end_if_orphan(began_by: int) -> None:
    """By an exception, which comes once: so what is being read is not to blame, and the way out is not disturbed."""
    if os.getppid() != began_by:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        raise SystemExit
