"""The heartbeat: a discoverer's questions to its own listener, which a test plays on a real local socket."""

import contextlib
import errno
import os
import selectors
import socket

import pytest

from bdserver.core.wire import Decoder, encode
from bdserver.processes import heartbeat as module
from bdserver.processes.heartbeat import Heartbeat
from tests.unit.clocks import Clock


class Listener:
    """The other end: accepts when a test says so."""

    def __init__(self, path):
        self.path, self.selector, self.accepted = path, selectors.DefaultSelector(), []
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(1)
        self.sock.settimeout(10)

    def hear(self):
        """Accept, and read the opening and the request."""
        sock, _ = self.sock.accept()
        sock.settimeout(10)
        self.accepted.append(sock)
        decoder, found = Decoder(), []
        while len(found) < 2:
            decoder.feed(sock.recv(4096))
            while (message := decoder.next_message()) is not None:
                found.append(message)
        return found

    def say(self, *messages):
        self.accepted[-1].sendall(b"".join(map(encode, messages)))

    def close(self):
        for each in (*self.accepted, self.sock):
            each.close()

    def accept_all(self):
        """Whoever waits, however many they are."""
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.accepted.append(self.sock.accept()[0])
        self.sock.settimeout(10)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time passes in turns of the loop alone: so a machine that is busy is no listener that hangs."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    return clock


@pytest.fixture
def listener(tmp_path):
    listener = Listener(str(tmp_path / "sock"))
    yield listener
    listener.close()
    listener.selector.close()


@pytest.fixture
def beating(listener, clock):
    return Heartbeat(listener.path, listener.selector, clock.now)


def turn(heart):
    """What the discoverer's loop does with it, a hundred times a second. What was said on a local socket has come at once."""
    module.time.now += 0.01
    heart.due(module.time.now)
    for key, _ in heart._selector.select(0):
        assert key.data is heart
        heart.ready()


def until(heart, is_so):
    for _ in range(1000):
        if is_so():
            return
        turn(heart)
    pytest.fail("not within ten seconds")


def turn_for(heart, seconds):
    for _ in range(round(100 * seconds)):
        turn(heart)


def answered(heart, listener, answer=("PONG", "digest")):
    """One question, and its answer."""
    until(heart, lambda: heart._sock is not None)
    found = listener.hear()
    listener.say(list(answer))
    until(heart, lambda: heart._sock is None)
    return found


def test_it_asks_as_callers_do_once_in_a_while(beating, listener, clock):
    began = clock.now
    for _ in range(3):
        opening, request = answered(beating, listener)
        assert opening[0] == "OPEN" and request == ["PING"]
    assert not beating.is_hung and clock.now - began >= 0.04


def test_one_that_never_answered_may_be_on_its_way_for_half_a_minute(beating, listener):
    turn_for(beating, module.START_SECONDS - 1)
    assert not beating.is_hung
    until(beating, lambda: beating.is_hung)
    listener.accept_all()
    until(beating, lambda: beating._sock is None)
    answered(beating, listener)
    assert not beating.is_hung


def fill_queue(listener):
    """The sockets that wait to be accepted."""
    hogs = []
    with contextlib.suppress(BlockingIOError):
        for _ in range(10):
            hogs.append(socket.socket(socket.AF_UNIX))
            hogs[-1].setblocking(False)
            hogs[-1].connect(listener.path)
    return hogs


@pytest.mark.parametrize("is_full", [False, True])
def test_one_that_answers_no_longer_hangs_until_it_does_again(beating, listener, clock, caplog, is_full):
    answered(beating, listener)
    hogs = fill_queue(listener) if is_full else []  # nobody accepts, and there is no room to wait for that
    began = clock.now
    until(beating, lambda: beating.is_hung)
    assert 0.3 <= clock.now - began < 0.4 and "does not answer" in caplog.text
    for hog in hogs:
        hog.close()
    listener.accept_all()
    until(beating, lambda: beating._sock is None)
    answered(beating, listener)
    until(beating, lambda: not beating.is_hung)
    assert "answers again" in caplog.text


def test_one_whose_queue_is_full_does_not_hang_as_long_as_it_accepts(listener, clock):
    accepted_at = [0.0]
    heart = Heartbeat(listener.path, listener.selector, clock.now, accepted_at=lambda: accepted_at[0])
    answered(heart, listener)
    hogs = fill_queue(listener)
    for _ in range(100):  # three times its patience
        accepted_at[0] = clock.now
        turn(heart)
        assert not heart.is_hung
    until(heart, lambda: heart.is_hung)
    for hog in hogs:
        hog.close()


def test_a_question_that_waits_in_the_queue_of_one_that_accepts_has_longer_and_not_for_ever(listener, clock, monkeypatch):
    """The queue is served in order, and others came before."""
    monkeypatch.setattr(module, "CROWDED_PATIENCE", 1.0)
    heart = Heartbeat(listener.path, listener.selector, clock.now, accepted_at=clock.monotonic)
    answered(heart, listener)
    until(heart, lambda: heart._sock is not None)
    asked = heart._sock
    for _ in range(90):  # three times its patience
        turn(heart)
        assert heart._sock is asked and not heart.is_hung
    listener.hear()
    listener.say(["PONG", "digest"])
    until(heart, lambda: heart._sock is None)
    assert not heart.is_hung
    until(heart, lambda: heart.is_hung)


def none_left(family):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_process_without_descriptors_does_not_ask_and_says_nothing_of_the_listener(beating, listener, monkeypatch):
    answered(beating, listener)
    with monkeypatch.context() as patch:
        patch.setattr(module.socket, "socket", none_left)
        turn_for(beating, 1.0)
        assert not beating.is_hung and beating.is_short
    answered(beating, listener)
    assert not beating.is_hung and not beating.is_short


def test_who_is_refused_after_it_had_no_descriptor_has_patience_from_then_on(beating, listener, monkeypatch):
    answered(beating, listener)
    with monkeypatch.context() as patch:
        patch.setattr(module.socket, "socket", none_left)
        turn_for(beating, 1.0)
    listener.sock.close()
    turn_for(beating, 0.2)
    assert not beating.is_hung and not beating.is_short
    until(beating, lambda: beating.is_hung)


def test_it_waits_longer_while_the_machine_is_short_of_time(listener, clock, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    times = 100
    heart = Heartbeat(listener.path, listener.selector, clock.now, lambda seconds: times * seconds)
    answered(heart, listener)
    until(heart, lambda: heart._sock is not None)
    assert heart.next_at() == clock.now + 10
    opening, _ = listener.hear()
    assert opening[1]["deadline"] == 10
    listener.say(["PONG", "digest"])
    until(heart, lambda: heart._sock is None)
    times = 1
    until(heart, lambda: heart.is_hung)


@pytest.mark.parametrize("answer", [["ERROR", "forbidden", "no"], ["WHAT"]])
def test_an_answer_that_is_none_is_as_bad_as_silence_in_the_long_run(beating, listener, answer):
    answered(beating, listener)
    answered(beating, listener, answer)
    assert not beating.is_hung, "once is nothing"
    for _ in range(100):
        if not beating.is_hung:
            answered(beating, listener, answer)
    assert beating.is_hung


def test_a_socket_that_is_gone_is_as_bad_as_silence_in_the_long_run(beating, listener):
    answered(beating, listener)
    listener.close()
    until(beating, lambda: beating.is_hung)


@pytest.mark.parametrize("instead", [None, os.mkdir, os.mkfifo], ids=["gone", "a folder", "a pipe"])
def test_a_socket_whose_file_is_gone_or_another_one_says_nothing_of_the_listener(beating, listener, instead):
    answered(beating, listener)
    os.unlink(listener.path)
    if instead is not None:
        instead(listener.path)
    turn_for(beating, 1.0)  # three times its patience
    assert not beating.is_hung


@pytest.mark.parametrize("answer", [None, ["ERROR", "too-busy", "128 children"]])
def test_one_that_is_busy_does_not_hang_however_long(beating, listener, clock, answer):
    answered(beating, listener)
    began = clock.now
    while clock.now < began + 1.0:  # three times its patience
        until(beating, lambda: beating._sock is not None)
        if answer is None:
            listener.sock.accept()[0].close()
            until(beating, lambda: beating._sock is None)
        else:
            listener.hear()
            listener.say(answer)
            until(beating, lambda: beating._sock is None)
        assert not beating.is_hung


def test_half_an_answer_is_waited_for_and_a_hang_up_is_not(beating, listener):
    answered(beating, listener)
    until(beating, lambda: beating._sock is not None)
    listener.hear()
    listener.accepted[-1].sendall(encode(["PONG", "x"])[:5])
    turn(beating)
    assert beating._sock is not None
    listener.accepted[-1].sendall(encode(["PONG", "x"])[5:])
    until(beating, lambda: beating._sock is None)
    until(beating, lambda: beating._sock is not None)
    listener.hear()
    listener.accepted[-1].close()
    until(beating, lambda: beating._sock is None)
    assert not beating.is_hung
    beating.ready()  # an event of a turn in which it was over already
