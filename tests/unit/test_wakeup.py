"""Waking a loop from threads and signals: nothing is lost, nothing runs elsewhere."""

import os
import select
import signal
import threading

import pytest

from bdserver.processes.wakeup import Wakeup


@pytest.fixture
def wakeup():
    wakeup = Wakeup()
    yield wakeup
    wakeup.close()


def is_awake(wakeup, seconds=0.0):
    return bool(select.select([wakeup], [], [], seconds)[0])


def test_what_a_thread_hands_over_is_done_by_the_loop(wakeup):
    done = []
    threads = [threading.Thread(target=wakeup.call, args=(lambda: done.append(threading.current_thread()),)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_awake(wakeup) and done == []
    wakeup.drain()
    assert done == [threading.main_thread()] * 20 and not is_awake(wakeup)


def test_what_is_asked_for_meanwhile_is_done_at_the_next_turn(wakeup):
    done = []
    wakeup.call(lambda: wakeup.call(lambda: done.append("later")))
    wakeup.drain()
    assert done == [] and is_awake(wakeup)
    wakeup.drain()
    assert done == ["later"]


def test_a_full_pipe_loses_nothing(wakeup):
    done = []
    for number in range(70_000):
        wakeup.call(lambda n=number: done.append(n))
    while is_awake(wakeup):
        wakeup.drain()
    assert done == list(range(70_000))


@pytest.fixture
def hup():
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGHUP, before)


def test_a_signal_wakes_the_loop(wakeup, hup):
    noted = []
    wakeup.catch_signals()
    signal.signal(signal.SIGHUP, lambda number, frame: noted.append(number))
    os.kill(os.getpid(), signal.SIGHUP)
    assert is_awake(wakeup, 10.0) and noted == [signal.SIGHUP]  # the kernel may give a signal to another thread of ours
    wakeup.drain()
    assert not is_awake(wakeup)


def test_after_its_end_what_a_thread_hands_over_is_written_nowhere(monkeypatch):
    """Its descriptor's number may be another file's by then."""
    wakeup, done = Wakeup(), []
    wakeup.close()
    monkeypatch.setattr(os, "write", lambda descriptor, data: done.append(descriptor))
    wakeup.call(lambda: done.append("heard"))
    assert done == []
