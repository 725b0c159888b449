"""The listener's loop: what is ready, what is due, and what goes wrong in either."""

import errno
import logging
import math
import os
import selectors
import time

import pytest

from bdserver.processes import loop as module
from bdserver.processes.loop import Loop


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(module, "BUG_PAUSE", 0.0)


def test_what_is_ready_is_called_with_its_descriptor_and_then_what_is_due(request):
    loop, called = Loop(called_never), []
    read, write = os.pipe()
    request.addfinalizer(lambda: (os.close(read), os.close(write), loop.selector.close()))
    loop.selector.register(read, selectors.EVENT_READ, lambda descriptor: called.append(os.read(descriptor, 9)))
    loop.call_later(0.0, lambda: called.append("due"))
    os.write(write, b"!")
    assert loop.wait(math.inf) and called == [b"!", "due"]
    assert not loop.wait(time.monotonic()) and called == [b"!", "due"], "once"


def called_never(error):
    pytest.fail(str(error))


def test_what_was_put_off_or_is_not_wanted_any_more_is_not_called(request):
    loop, called = Loop(called_never), []
    request.addfinalizer(loop.selector.close)
    first, second = (lambda: called.append("first")), (lambda: called.append("second"))
    loop.call_later(0.0, first)
    loop.call_later(999.0, first)
    loop.call_later(0.0, second)
    loop.cancel(second)
    loop.cancel(second)
    assert not loop.wait(time.monotonic()) and called == []


def test_a_bug_is_said_once_and_what_else_is_due_is_done(request, caplog):
    loop, called = Loop(called_never), []
    request.addfinalizer(loop.selector.close)
    for _ in range(2):
        loop.call_later(0.0, lambda: 1 / 0)
    loop.call_later(0.0, lambda: called.append("more"))
    loop.wait(math.inf)
    assert called == ["more"] and [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "ZeroDivisionError" in caplog.text


def test_without_room_its_owner_is_asked_and_any_other_error_is_a_bug(request, caplog):
    errors = []
    loop = Loop(errors.append)
    request.addfinalizer(loop.selector.close)

    def failing(number):
        raise OSError(number, "planted")

    loop.guarded(failing, errno.EMFILE)
    assert [error.errno for error in errors] == [errno.EMFILE] and not caplog.records
    loop.guarded(failing, errno.EBADF)
    assert len(errors) == 1 and len(caplog.records) == 1
