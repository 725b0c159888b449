"""What a command has printed is written before it ends, where it can still say why not.

Python itself writes what is left when it ends, and where nobody reads it any more (`bdctl nodes | head -1`) or the disk is full
it says so in words of its own, with a status (120) that no manual has. Every command's work goes through `written`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable


def written(work: Callable[[], int | None]) -> int:
    """The exit status of this work, whose output is written then; None is 0, and so is output that nobody wants to read any
    more. OSError says why else it can't be written."""
    try:
        try:
            return work() or 0
        finally:
            _flush()
    except BrokenPipeError:
        return 0


def refuse_unread() -> None:
    """BrokenPipeError when nobody reads what we print any more. Else only a write tells, and a command may have nothing to
    print for a long time."""
    import select

    poll = select.poll()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no file, or none at all
        poll.register(sys.stdout.fileno(), 0)  # what is told in any case: an error, a hang-up
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _flush() -> None:
    """What can't be written goes nowhere: Python would try again at its end."""
    try:
        if sys.stdout is not None:  # the caller has closed it
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OSError(error.errno, error.strerror, "standard output") from None
