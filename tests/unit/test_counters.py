"""Counters that the processes of a node share."""

import fcntl
import os
import time

import pytest

from bdserver.processes.counters import Counters
from tests.unit.forks import forked, has_ended_well


@pytest.fixture
def counters():
    counters = Counters()
    (file,) = counters.share()
    yield counters
    os.close(file)


def pongs(counters):
    return counters.told()["requests"].get("PING pong", 0)


def test_what_processes_count_is_added_up(counters):
    def count():
        for _ in range(300):
            counters.add("requests", "PING", "pong")
            counters.flush()
        while counters._mine:
            counters.flush()

    assert all(has_ended_well(pid) for pid in [forked(count) for _ in range(4)])
    assert pongs(counters) == 1200


def test_nobody_waits_for_one_that_holds_the_lock(counters):
    read, write = os.pipe()
    stop, go = os.pipe()

    def hold():
        fcntl.lockf(counters._file, fcntl.LOCK_EX)
        os.write(write, b"x")
        os.read(stop, 1)

    pid = forked(hold)
    os.read(read, 1)
    counters.add("requests", "PING", "pong")
    counters.flush()
    assert pongs(counters) == 0, "not yet"
    os.write(go, b"x")
    assert has_ended_well(pid)
    for each in (read, write, stop, go):
        os.close(each)
    counters.flush()
    assert pongs(counters) == 1


def test_who_rehearses_counts_nothing(counters):
    counters.is_paused = True
    counters.add("deaths")
    counters.took(1.0)
    counters.is_paused = False
    counters.flush()
    assert counters.told()["deaths"] == {} and not any(counters.told()["lookup_seconds"]["buckets"].values())


def test_look_ups_and_bytes(counters):
    counters.took(0.002)
    counters.news("sent", 100)
    counters.add("sent", "callers", by=0)
    counters.flush()
    said = counters.told()
    assert said["sent"] == {"nodes": 100} and said["lookup_seconds"]["sum"] == 0.002


def test_rates_begin_with_the_first_step(counters, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert counters.rates() == {}
    counters.step()
    counters.add("requests", "PING", "pong", by=50)
    counters.flush()
    clock[0] += 10
    assert counters.rates()["requests"] == 5.0
    for _ in range(6):
        counters.step()
        clock[0] += 10
    assert counters.rates()["requests"] == 0.0, "of the last minute"
