"""The listener with a function that echoes: forks, caps, reaping, signals, the discoverer's restart, leaving."""

import contextlib
import os
import signal
import socket
import time

import pytest

from bdserver.demo.hosts import until
from bdserver.processes import listener as module
from bdserver.processes.listener import Listener, Parts


class Running:
    """A listener in a process of its own, and the log of what its functions did."""

    def __init__(self, folder, children_max=10, per_address_max=10, refused=(), discover=None):
        self.log = folder / "log"
        self.log.touch()
        self.changed = folder / "changed"
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.address = self.sock.getsockname()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                parts = Parts(
                    serve_child=self.echo,
                    run_discoverer=discover or self.discover,
                    refresh=lambda: None,
                    rehearse=lambda: self.say(f"spare-{os.getpid()}"),
                    reload=lambda: self.say("reload") or ["that is bad"],
                    say_goodbye=lambda: self.say("goodbye"),
                    is_refused=lambda host: host in refused,
                    on_ready=lambda: self.say("ready"),
                    has_changed=self.has_changed,
                )
                Listener([self.sock], parts, children_max, per_address_max).run()
                status = 0
            finally:
                os._exit(status)
        self.sock.close()
        until(lambda: "ready" in self.said(), 10, "it is ready")

    def say(self, word):
        with open(self.log, "a") as file:
            file.write(f"{word}\n")

    def said(self):
        return self.log.read_text().split()

    def has_changed(self):
        is_so = self.changed.exists()
        self.changed.unlink(missing_ok=True)
        return is_so

    def echo(self, sock, address):
        sock.setblocking(True)
        signal.signal(signal.SIGTERM, lambda *_: self.say("child-told"))
        self.say(f"serving-{os.getpid()}")
        while data := sock.recv(100):
            sock.sendall(data)
        self.say(f"served-{os.getpid()}")

    def discover(self, wake, life):
        self.say(f"discoverer-{os.getpid()}")
        os.read(life, 1)  # the end of the listener's life line
        self.say("discoverer-ended")

    def children(self):
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            return {int(pid) for pid in file.read().split()}

    def pids(self, word):
        """Who said this word, in order."""
        return [int(said.rpartition("-")[2]) for said in self.said() if said.startswith(f"{word}-")]

    def spare(self, but=0):
        """The pid of a child that waits for a connection, once it does (`but` has one)."""

        def waiting():
            spares = {*self.pids("spare"), *self.pids("served")}
            return next((pid for pid in self.children() - {but} if pid in spares), 0)

        return until(waiting, 10, "a spare child")

    def call(self):
        sock = socket.create_connection(self.address)
        sock.settimeout(10)
        return sock

    def is_echoing(self, sock):
        try:
            sock.sendall(b"hello")
            return sock.recv(5) == b"hello"
        except OSError:
            return False

    def send(self, number):
        os.kill(self.pid, number)

    def end(self, number=signal.SIGQUIT):
        self.send(number)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SPARE_SECONDS", 1.0)
    running = []

    def start(**keywords):
        running.append(Running(tmp_path, **keywords))
        return running[-1]

    yield start
    for each in running:
        try:
            each.end(signal.SIGKILL)
        except (ProcessLookupError, ChildProcessError):
            pass


def test_each_connection_has_a_child_and_each_child_is_reaped(run):
    node = run()
    socks = [node.call() for _ in range(5)]
    assert all(node.is_echoing(sock) for sock in socks)
    for sock in socks:
        sock.close()
    until(lambda: len(node.children()) == 2, 10, "only the discoverer and a spare are left")


def test_a_connection_finds_its_child_forked_already_and_another_one_takes_its_place(run):
    node = run()
    for _ in range(3):
        spare = node.spare()
        with node.call() as sock:
            assert node.is_echoing(sock) and spare in node.children()
            until(lambda: len(node.children()) == 3, 10, "the discoverer, the child, the next spare")  # none for this caller
        until(lambda: len(node.children()) == 2, 10, "of the two that wait then, one ends")


def test_a_child_whose_caller_has_hung_up_serves_the_next_one(run, monkeypatch):
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 3)
    node = run()
    served = []
    for _ in range(6):
        with node.call() as sock:
            assert node.is_echoing(sock)
        count = len(served)
        until(lambda count=count: len(node.pids("served")) > count, 10, "the child says that it has served")
        served = node.pids("served")
    assert len(served) == 6 and max(map(served.count, served)) == 3  # and no more than it may


def test_no_more_spares_are_kept_than_a_few(run, monkeypatch):
    monkeypatch.setattr(module, "SPARES_MAX", 2)
    monkeypatch.setattr(module, "SPARE_SECONDS", 60.0)
    node = run()
    socks = [node.call() for _ in range(6)]
    assert all(node.is_echoing(sock) for sock in socks)
    for sock in socks:
        sock.close()
    until(lambda: len(node.children()) == 3, 10, "the discoverer and two spares")


def test_a_child_from_before_a_sighup_serves_nobody_after_it(run):
    node = run()
    with node.call() as sock:
        assert node.is_echoing(sock)
        [before] = node.pids("serving")
        node.send(signal.SIGHUP)
        until(lambda: "reload" in node.said(), 10, "the reload")
        assert node.is_echoing(sock)
    until(lambda: before not in node.children(), 10, "it ends with its connection")
    assert node.is_echoing(node.call())


def test_children_from_before_a_change_serve_nobody_after_it(run):
    node = run()
    spare = node.spare()
    with node.call() as held:
        assert node.is_echoing(held)
        [busy] = node.pids("serving")
        node.changed.touch()
        with node.call() as sock:
            assert node.is_echoing(sock)
        assert not {spare, busy} & set(node.pids("serving")[1:])
    until(lambda: not {spare, busy} & set(node.children()), 10, "they end")


def test_connections_without_a_spare_child_have_one_forked(run):
    node = run()
    socks = [node.call() for _ in range(8)]
    assert all(node.is_echoing(sock) for sock in socks)


def test_a_spare_child_that_was_killed_is_missed_by_nobody_and_replaced(run):
    node = run()
    for _ in range(3):
        spare = node.spare()
        os.kill(spare, signal.SIGKILL)
        until(lambda spare=spare: spare not in node.children(), 10, "it is reaped")
        assert node.is_echoing(node.call())


def test_sighup_makes_a_new_spare_child(run):
    node = run()
    spare = node.spare()
    node.send(signal.SIGHUP)
    until(lambda: spare not in node.children(), 10, "the old one has ended")
    assert node.spare() != spare and node.is_echoing(node.call())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT])
def test_a_spare_child_ends_with_its_listener_even_while_another_child_lives(run, number):
    node = run()
    first = node.spare()
    sock = node.call()
    assert node.is_echoing(sock)
    spare = node.spare(but=first)
    node.send(number)

    def has_ended():
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{spare}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
        return True

    until(has_ended, 10, "it ended")


def test_the_cap_for_an_address_is_checked_before_the_fork(run):
    node = run(per_address_max=2)
    first, second, third = node.call(), node.call(), node.call()
    assert node.is_echoing(first) and node.is_echoing(second)
    assert not node.is_echoing(third)
    first.close()
    until(lambda: node.is_echoing(node.call()), 10, "a slot is free again")


def test_a_refused_address_is_closed_unread(run):
    node = run(refused=("127.0.0.1",))
    assert not node.is_echoing(node.call())


def test_the_discoverer_is_restarted_and_ends_with_its_listener(run):
    node = run()
    until(lambda: "discoverer-" in node.log.read_text(), 10, "a discoverer")
    os.kill(discoverer_of(node), signal.SIGKILL)
    until(lambda: node.log.read_text().count("discoverer-") == 2, 10, "another discoverer")
    node.end(signal.SIGKILL)
    until(lambda: "discoverer-ended" in node.said(), 10, "it ends when the life line does")


def discoverer_of(node):
    return int(next(word for word in node.said() if word.startswith("discoverer-")).partition("-")[2])


def test_one_that_dies_at_once_is_restarted_with_growing_pauses(run):
    node = run(discover=lambda wake, life: None)
    assert node.is_echoing(node.call())  # and the listener goes on meanwhile
    assert module.RESTART_PAUSE_MAX >= 16 * module.RESTART_PAUSE


def test_sighup_reloads_and_drops_no_connection(run):
    node = run()
    sock = node.call()
    assert node.is_echoing(sock)
    node.send(signal.SIGHUP)
    until(lambda: "reload" in node.said(), 10, "the reload")
    assert node.is_echoing(sock) and node.is_echoing(node.call())


def test_sigterm_stops_accepting_lets_children_end_and_says_goodbye(run):
    node = run()
    sock = node.call()
    assert node.is_echoing(sock)
    node.send(signal.SIGTERM)
    until(lambda: "child-told" in node.said(), 10, "the child is told")
    assert node.is_echoing(sock)  # what runs goes on
    with pytest.raises(ConnectionRefusedError):
        node.call()
    assert "goodbye" not in node.said()
    sock.close()
    assert os.waitstatus_to_exitcode(os.waitpid(node.pid, 0)[1]) == 0
    assert node.said()[-1] == "goodbye"


def test_sigquit_ends_at_once(run):
    node = run()
    sock = node.call()
    assert node.is_echoing(sock)
    started = time.monotonic()
    assert node.end(signal.SIGQUIT) == 0
    assert time.monotonic() - started < module.DRAIN_SECONDS
    assert "goodbye" in node.said() and not node.is_echoing(sock)


def test_a_thousand_connections_that_say_nothing_leave_nothing(run):
    node = run(children_max=50, per_address_max=50)
    for _ in range(1000):
        node.call().close()
    until(lambda: node.is_echoing(node.call()), 20, "it still echoes")
