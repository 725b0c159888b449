"""What this process has open, for tests of code that must leave nothing open."""

import contextlib
import gc
import os


@contextlib.contextmanager
def none_left():
    """What is done within leaves no descriptor. What other tests left may be closed meanwhile, by a thread of theirs."""
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    yield
    left = set(os.listdir("/proc/self/fd")) - before
    assert not left, {each: _name(each) for each in left}


def _name(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:  # that of the listing itself
        return ""
