"""Work in a process of its own, for tests of what processes share."""

import os
import traceback


def forked(work):
    """The pid of a child that does it and ends: with 0, or with 1 when it raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def has_ended_well(pid):
    """Whether that child, which is waited for, ended with 0."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def in_a_child(work):
    """A child does it, and has ended well when this returns."""
    assert has_ended_well(forked(work))
