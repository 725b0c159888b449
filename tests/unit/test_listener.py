"""The listener with a function that echoes: forks, caps, reaping, signals, the discoverer's restart, leaving."""

import contextlib
import errno
import gc
import itertools
import logging
import os
import resource
import signal
import socket
import struct
import time

import pytest

from bdserver.processes import children, supervised
from bdserver.processes import listener as module
from bdserver.processes.children import Limits
from bdserver.processes.listener import Listener, Runs
from bdserver.processes.loop import SAY_SECONDS
from tests.hosts import is_gone, until


class Running:
    """A listener in a process of its own, which pauses for a twentieth as long, and the log of what its functions did."""

    def __init__(
        self, folder, children_max=10, per_address_max=10, limits=None, begin=lambda: None, spare_pause=0.05, **handed_in
    ):
        self.log = folder / "log"
        self.log.touch()
        self.changed = folder / "changed"
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.local = socket.socket(socket.AF_UNIX)
        self.local.bind(str(folder / "socket"))
        self.local.listen()
        os.chmod(folder / "socket", 0o666)
        self.address = self.sock.getsockname()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                logging.basicConfig(filename=folder / "said", format="%(message)s", force=True, level=logging.INFO)
                children.SPARE_PAUSE = spare_pause
                begin()
                runs = Runs(sockets=lambda: [self.sock, self.local], close_sockets=self.close)._replace(
                    serve=self.echo,
                    discover=self.discover,
                    rehearse=lambda: self.say(f"spare-{os.getpid()}"),
                    reload=lambda: self.say("reload") or ["that is bad"],
                    say_goodbye=lambda: self.say("goodbye"),
                    on_ready=lambda: self.say("ready"),
                    has_changed=self.has_changed,
                )
                limits = limits or Limits(children_max, per_address_max, spare_seconds=0.25)
                Listener(runs._replace(**handed_in), limits).run()
                status = 0
            finally:
                os._exit(status)
        self.close()
        self.folder = folder
        until(lambda: "ready" in self.said(), 10, "it is ready")

    def close(self):
        self.sock.close()
        self.local.close()

    @property
    def messages(self):
        """What the listener's own log has."""
        return (self.folder / "said").read_text()

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

    def is_deaf(self):
        try:
            self.call().close()
        except ConnectionRefusedError:
            return True
        return False

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

    def call_locally(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(str(self.folder / "socket"))
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
def run(tmp_path):
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


def test_a_node_that_has_just_started_forks_no_child_ahead(run):
    node = run(limits=Limits(10, 10, connections=1), spare_pause=3600.0)
    for count in range(1, 4):
        with node.call() as sock:
            assert node.is_echoing(sock)
        until(lambda count=count: len(node.pids("served")) == count and len(node.children()) == 1, 10, "its child has ended")
    assert not node.pids("spare")


def test_a_child_whose_caller_has_hung_up_serves_the_next_one(run):
    node = run(limits=Limits(10, 10, connections=3))
    served, calls_left = [], 50
    while calls_left:
        with node.call() as sock:
            assert node.is_echoing(sock)
        count = len(served)
        until(lambda count=count: len(node.pids("served")) > count, 10, "the child says that it has served")
        served = node.pids("served")
        # A child that has served may not be a spare yet when the next caller comes, who has another one then.
        calls_left = calls_left - 1 if max(map(served.count, served)) < 3 else min(calls_left - 1, 5)
    assert max(map(served.count, served)) == 3  # and no more than it may


def test_with_one_connection_a_child_each_caller_has_a_process_of_its_own(run):
    node = run(limits=Limits(10, 10, connections=1))
    for count in range(1, 5):
        with node.call() as sock:
            assert node.is_echoing(sock)
        until(lambda count=count: len(node.pids("served")) == count, 10, "it has served")
    assert len(set(node.pids("served"))) == 4


def test_no_more_spares_are_kept_than_a_few(run):
    node = run(limits=Limits(10, 10, spares=2, spare_seconds=60.0))
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
    node.spare()
    sock = node.call()
    assert node.is_echoing(sock)
    [serving] = node.pids("serving")  # be it the spare, or a child that was forked because that was not ready yet
    spare = node.spare(but=serving)
    node.send(number)
    until(lambda: is_gone(spare), 10, "it ended")


def test_who_has_hung_up_while_it_waited_costs_no_child_and_who_says_no_more_is_heard(run):
    listener = run()
    os.kill(listener.pid, signal.SIGSTOP)
    for _ in range(20):
        listener.call_locally().close()
        with listener.call() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    waiting = [listener.call(), listener.call_locally()]
    for sock in waiting:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
    os.kill(listener.pid, signal.SIGCONT)
    for sock in waiting:
        with sock:
            assert sock.recv(5) == b"hello"
    assert len(listener.pids("serving")) == 2


def test_the_cap_for_an_address_is_checked_before_the_fork(run):
    node = run(per_address_max=2)
    first, second, third = node.call(), node.call(), node.call()
    assert node.is_echoing(first) and node.is_echoing(second)
    assert not node.is_echoing(third)
    first.close()
    until(lambda: node.is_echoing(node.call()), 10, "a slot is free again")


def test_a_refused_address_is_closed_unread(run):
    node = run(is_refused=lambda host: host == "127.0.0.1")
    assert not node.is_echoing(node.call())
    assert node.is_echoing(node.call_locally())


def test_the_discoverer_is_restarted_and_ends_with_its_listener(run):
    node = run()
    os.kill(discoverer_of(node), signal.SIGKILL)
    until(lambda: node.log.read_text().count("discoverer-") == 2, 10, "another discoverer")
    node.end(signal.SIGKILL)
    until(lambda: "discoverer-ended" in node.said(), 10, "it ends when the life line does")


def test_a_discoverer_whose_loop_does_not_turn_is_ended_and_another_one_started(run, tmp_path):
    def begin():
        module.SOCKETS_SECONDS, supervised.HUNG_LOOKS = 0.05, 3

    def beat():
        """The first one's stands still, once it has begun; the second one's never does."""
        has_begun, is_ended = "discoverer-" in (tmp_path / "log").read_text(), "hangs" in (tmp_path / "said").read_text()
        return 7.0 if has_begun and not is_ended else None

    node = run(begin=begin, beat=beat)
    until(lambda: node.log.read_text().count("discoverer-") == 2, 10, "another discoverer")
    assert node.messages.count("the discoverer hangs: ending it") == 1


def discoverer_of(node):
    """The pid of the first one, once it has said so."""

    def found():
        said = (word.partition("-")[2] for word in node.said() if word.startswith("discoverer-"))
        return next((int(pid) for pid in said if pid.isdigit()), 0)

    return until(found, 10, "a discoverer")


def test_one_that_dies_at_once_is_restarted_with_growing_pauses_and_callers_are_served_meanwhile(run):
    def begin():
        supervised.RESTART_PAUSE = 0.02

    node = run(begin=begin, discover=lambda wake, life: None)
    for pause in ("0.02", "0.04", "0.08"):
        until(lambda pause=pause: f"the discoverer ended, starting it again in {pause} s" in node.messages, 10, "another one")
        assert node.is_echoing(node.call())


def test_sighup_reloads_and_drops_no_connection(run):
    node = run()
    sock = node.call()
    assert node.is_echoing(sock)
    node.send(signal.SIGHUP)
    until(lambda: "reload" in node.said(), 10, "the reload")
    assert node.is_echoing(sock) and node.is_echoing(node.call())


def test_sighup_waits_for_what_is_being_written_and_not_for_ever(run, tmp_path):
    busy = tmp_path / "busy"
    busy.touch()
    node = run(begin=lambda: setattr(module, "REST_SECONDS_MAX", 60.0), rests_in=lambda: 0.05 * busy.exists())
    node.send(signal.SIGHUP)
    sock = node.call()
    assert node.is_echoing(sock) and "reload" not in node.said()
    busy.unlink()
    until(lambda: node.said().count("reload") == 1, 10, "the reload")
    busy.touch()
    node.end()


def test_sighup_for_files_that_never_rest_reads_them_all_the_same(run):
    node = run(begin=lambda: setattr(module, "REST_SECONDS_MAX", 0.3), rests_in=lambda: 0.05)
    node.send(signal.SIGHUP)
    until(lambda: "reload" in node.said(), 10, "the reload")
    node.send(signal.SIGHUP)
    until(lambda: node.said().count("reload") == 2, 10, "the second one")


def test_sigterm_stops_accepting_lets_children_end_and_says_goodbye(run):
    node = run()
    sock = node.call()
    assert node.is_echoing(sock)
    node.send(signal.SIGTERM)
    until(lambda: "child-told" in node.said(), 10, "the child is told")
    assert node.is_echoing(sock)  # what runs goes on
    until(node.is_deaf, 10, "connections are refused")  # a spare just forked has the socket for a moment
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


@pytest.mark.long
def test_a_thousand_connections_that_say_nothing_leave_nothing(run):
    node = run(children_max=50, per_address_max=50)
    for _ in range(1000):
        node.call().close()
    until(lambda: node.is_echoing(node.call()), 20, "it still echoes")


# --- what is handed in --------------------------------------------------------------------------------------------


def test_a_function_of_a_wrong_name_is_an_error_at_once():
    with pytest.raises(TypeError, match="has_changedd"):
        Runs(sockets=list, close_sockets=list, has_changedd=lambda: True)


def fails(*arguments):
    raise ValueError("a bug")


@pytest.mark.parametrize("name", ["refresh", "pulse", "reload", "rehearse", "on_leaving", "say_goodbye"])
def test_a_bug_in_what_is_handed_in_ends_neither_listener_nor_connections(run, name):
    node = run(**{name: fails})
    if name == "rehearse":
        until(lambda: "a bug" in node.messages, 10, "a child is forked ahead")
    with node.call() as sock:
        assert node.is_echoing(sock)
        node.send(signal.SIGHUP)
        with node.call_locally() as another:
            assert node.is_echoing(another)
        assert node.is_echoing(sock)
    node.send(signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(node.pid, 0)[1]) == 0
    assert "ValueError: a bug" in node.messages


def test_while_nobody_knows_whether_a_child_is_out_of_date_nobody_is_served(run):
    node = run(has_changed=fails)
    assert not node.is_echoing(node.call())
    until(lambda: "ValueError: a bug" in node.messages, 10, "it is said")
    assert node.end(signal.SIGTERM) == 0


def test_the_pulse_is_called_as_often_as_it_wishes_and_told_how_many_are_served(run, tmp_path):
    def pulse(busy):
        with open(tmp_path / "pulse", "a") as file:
            file.write(f"{busy}\n")
        return 0.02

    (tmp_path / "pulse").touch()
    node = run(pulse=pulse)
    with node.call() as sock:
        assert node.is_echoing(sock)
        until(lambda: (tmp_path / "pulse").read_text().endswith("1\n1\n"), 10, "two with a caller")
    until(lambda: (tmp_path / "pulse").read_text().endswith("0\n0\n"), 10, "two without")


def test_while_the_loop_hangs_there_is_no_pulse(run, tmp_path):
    (tmp_path / "pulse").touch()

    def count():
        return len((tmp_path / "pulse").read_text())

    def pulse(busy):
        with open(tmp_path / "pulse", "a") as file:
            file.write(".")
        return 0.02

    def hangs():
        while (tmp_path / "hang").exists():
            time.sleep(0.01)
        return False

    (tmp_path / "pulse").touch()
    node = run(pulse=pulse, has_changed=hangs)
    until(lambda: count() > 2, 10, "it turns")
    (tmp_path / "hang").touch()
    with node.call() as sock:
        sock.sendall(b"hello")
        before = until(lambda: wait_quiet(count), 10, "it is quiet")
        (tmp_path / "hang").unlink()
        assert sock.recv(5) == b"hello"
    until(lambda: count() > before, 10, "it turns again")


def wait_quiet(count):
    """The count, if it does not rise while ten pulses would have come."""
    before, until_then = count(), time.monotonic() + 0.2
    while time.monotonic() < until_then:
        if count() != before:
            return 0
    return before


@pytest.mark.parametrize("seconds", [0.05, 3600.0], ids=["at the next look", "at SIGHUP"])
def test_sockets_that_were_made_anew_are_accepted_on_and_the_old_ones_no_longer(run, tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(module, "SOCKETS_SECONDS", seconds)
    sockets = []

    def now():
        if (tmp_path / "wanted").exists() and len(sockets) < 2:
            sockets[0].close()
            sockets.append(listening("again"))
        return sockets[-1:]

    def listening(name):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / f"{name}.new"))
        sock.listen()
        (tmp_path / f"{name}.new").rename(tmp_path / name)  # who finds the file finds somebody who listens
        return sock

    sockets.append(listening("first"))
    node = run(sockets=now, close_sockets=lambda: [sock.close() for sock in sockets])
    sockets[0].close()
    for name in ("first", "again"):
        until(lambda name=name: (tmp_path / name).exists(), 10, f"{name} is there")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / name))
            assert node.is_echoing(sock)
        (tmp_path / "wanted").touch()
        if seconds > 1:
            node.send(signal.SIGHUP)
    assert "bug" not in node.messages


# --- without room -------------------------------------------------------------------------------------------------


def leave_descriptors(count):
    """So many more than are open now. The kernel's limit is on their numbers, and earlier tests leave gaps among those."""
    gc.collect()
    is_open = set(map(int, os.listdir("/proc/self/fd")))  # and that of the listing itself, which is free again afterwards
    free = (number for number in itertools.count() if number not in is_open)
    most = next(itertools.islice(free, count - 1, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def test_without_descriptors_callers_are_closed_and_the_listener_lives(run):
    began = time.monotonic()
    node = run(children_max=100, per_address_max=100, begin=lambda: leave_descriptors(12), spare_pause=children.SPARE_PAUSE)
    echoing, socks = [], [node.call() for _ in range(30)]
    for sock in socks:
        echoing += [sock] if node.is_echoing(sock) else []
    assert 2 <= len(echoing) < 20
    until(lambda: "no room for a connection: Too many open files" in node.messages, 10, "it is said")
    for sock in socks:
        sock.close()
    until(lambda: node.is_echoing(node.call()), 10, "it serves again")
    # Once a second, and not for each caller.
    assert "bug" not in node.messages and node.messages.count("no room") <= 1 + (time.monotonic() - began) / SAY_SECONDS


def test_without_processes_callers_are_closed_and_the_listener_lives(run, tmp_path):
    no_more, fork = tmp_path / "no-more", os.fork

    def fork_if_there_is_room():
        if no_more.exists():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    def begin():
        os.fork = fork_if_there_is_room

    node = run(begin=begin)
    spare = node.spare()
    no_more.touch()
    with node.call() as first, node.call() as second:
        assert node.is_echoing(first) and spare in node.pids("serving")
        assert not node.is_echoing(second)
        until(lambda: "no room for a connection: Resource temporarily unavailable" in node.messages, 10, "it is said")
        os.kill(discoverer_of(node), signal.SIGKILL)
        until(lambda: "can't fork" in node.messages, 10, "the discoverer can't be started either")
        no_more.unlink()
        until(lambda: node.log.read_text().count("discoverer-") == 2, 10, "then it can")
    until(lambda: node.is_echoing(node.call()), 10, "it serves again")


# --- local users --------------------------------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user")


def hold_as(uid, node, count):
    """How many of so many local connections of a user are served, and the process that holds them all."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.setuid(uid)
            socks = [node.call_locally() for _ in range(count)]
            os.write(write, b"%d\n" % sum(node.is_echoing(sock) for sock in socks))
            signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as file:
        return int(file.readline()), pid


@as_root
def test_a_local_user_has_as_many_children_as_an_address_and_root_finds_room(run, shared_path):
    node = run(children_max=16, per_address_max=3)
    held = []
    try:
        served, pid = hold_as(12345, node, 5)
        held.append(pid)
        assert served == 3
        assert "too busy for user 12345: 3 children, 3 for it" in node.messages
        for uid in (12346, 12347, 12348, 12349):
            served, pid = hold_as(uid, node, 5)
            held.append(pid)
        assert served == 0  # 12 of 16 are with local users
        socks = [node.call() for _ in range(3)]
        assert all(node.is_echoing(sock) for sock in socks)  # the mesh has its share
        assert not node.is_echoing(node.call())  # and its cap
        mine = [node.call_locally() for _ in range(2)]
        assert node.is_echoing(mine[0]) and not node.is_echoing(mine[1])  # 16 of 16
    finally:
        for pid in held:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    until(lambda: node.is_echoing(node.call_locally()), 10, "there is room again")


# --- what a forked process has of its parent ----------------------------------------------------------------------


def sockets_of(pid):
    found = set()
    for each in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed them
            found.add(os.readlink(f"/proc/{pid}/fd/{each}"))
    return {link for link in found if link.startswith("socket:")}


def test_a_child_keeps_nothing_of_its_parents_and_its_siblings(run):
    not_ours = sockets_of(os.getpid())
    node = run()
    with node.call() as held:
        assert node.is_echoing(held)
        [busy] = node.pids("serving")
        spare = node.spare(but=busy)

        def are_apart():  # in the end: one that has just been forked is about to close what it has of its parent
            of_parent, of_spare, of_busy = (sockets_of(pid) - not_ours for pid in (node.pid, spare, busy))
            is_shared = of_spare & of_parent or of_busy & of_parent or of_spare & of_busy
            return len(of_spare) == 1 and len(of_busy) == 2 and not is_shared  # its line, and its caller

        until(are_apart, 10, "each has its own sockets alone")


def test_what_is_handed_in_to_undo_is_undone_in_each_process(run, tmp_path):
    def undo():
        (tmp_path / f"undone-{os.getpid()}").touch()

    node = run(undo=undo)
    spare = node.spare()
    for pid in (spare, discoverer_of(node)):
        assert (tmp_path / f"undone-{pid}").exists()


def test_a_signal_for_a_child_is_not_taken_for_the_parents(run):
    node = run()
    with node.call() as sock:
        assert node.is_echoing(sock)
        [child] = node.pids("serving")
        os.kill(child, signal.SIGTERM)
        until(lambda: "child-told" in node.said(), 10, "the child has it")
        assert node.is_echoing(node.call())
    assert "leaving" not in node.messages
