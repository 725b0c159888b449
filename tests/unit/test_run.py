"""A node's life around the listener's loop: the first record, the pulse, reload, what a child undoes, the last word."""

import logging
import os
import signal
import socket
import time

import pytest

from bdserver.core.membership import LEFT
from bdserver.files.settings import load
from bdserver.processes import reload, run, startup
from bdserver.processes.describing import Told, update_own
from bdserver.processes.node import open_node
from tests.hosts import Mesh, until
from tests.unit.changes import publish
from tests.unit.forks import in_a_child


@pytest.fixture(autouse=True)
def log_level():
    """As it was: what reads a config sets it for the whole process."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


@pytest.fixture
def mesh(tmp_path):
    return Mesh(str(tmp_path))


@pytest.fixture
def host(mesh):
    return mesh.host("alpha", hints="192.0.2.1:9001")


@pytest.fixture
def node(host):
    """A node that nobody runs."""
    os.makedirs(os.path.join(host.folder, "var"), exist_ok=True)
    return open_node(load(host.config_path))


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What systemd was told since it was last asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def read():
            found = []
            try:
                while True:
                    found.append(sock.recv(4096).decode())
            except BlockingIOError:
                return found

        yield read


def test_a_node_begins_with_a_newer_record_than_ever_and_its_hints(node):
    run.begin(node)
    first = node.cache.view().own
    assert node.cache.view().hints == {"192.0.2.1:9001"} and first.address == node.address
    update_own(node, Told(draining=True))
    run.begin(node)
    assert node.cache.view().own.version > first.version and not node.cache.view().own.draining


# --- systemd ------------------------------------------------------------------------------------------------------


def test_the_status_line_has_figures(node, told):
    run.begin(node)
    publish(node.services, None, "wiki", 1.0, "http://127.0.0.1/", "none")
    assert run.pulse(node, 3) == run.STATUS_SECONDS
    assert told() == [
        "STATUS=1 nodes, 1 services here, weight 0.0 of 100, 3 connections; "
        "alone: none of the nodes at its hints (192.0.2.1:9001) is met yet"
    ]
    update_own(node, Told(draining=True))
    with open(os.path.join(node.settings.services_dir, "broken.bdcert"), "w") as file:
        file.write("nonsense\n")
    run.pulse(node, 0)
    [line] = told()
    assert line.startswith("STATUS=1 nodes, 1 services here, weight 0.0 of 100, draining, 0 connections; alone: ")
    assert line.endswith(" (and 1 more: bdctl status)")


def test_where_nobody_wants_to_know_there_is_no_pulse(node, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert run.pulse(node, 0) is None


def test_the_watchdog_is_told_thrice_in_its_time_even_when_there_are_no_figures(node, told, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "6000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    run.begin(node)
    assert run.pulse(node, 0) == 2.0
    assert told()[0] == "WATCHDOG=1"
    monkeypatch.setattr(node.load, "total_weight", None)
    with pytest.raises(TypeError):
        run.pulse(node, 0)
    assert told() == ["WATCHDOG=1"]


def test_a_reload_that_meets_a_bug_is_over_for_systemd_too(node, told, monkeypatch):
    assert run._reload(node) == []
    assert [text.split("=")[0] for text in told()] == ["RELOADING", "READY"]
    monkeypatch.setattr(reload, "read_anew", None)
    with pytest.raises(TypeError):
        run._reload(node)
    assert [text.split("=")[0] for text in told()] == ["RELOADING", "READY"]


# --- reload -------------------------------------------------------------------------------------------------------


def test_reading_anew_sets_the_level_of_the_log_and_waits_for_no_lock(node, host):
    host.write_config(log_level="error", receiver_threshold=7)
    with node.cache.locked():
        started = time.monotonic()
        assert reload.read_anew(node) == []
        assert time.monotonic() - started < 1.0  # the lock is waited for longer
    assert logging.getLogger().level == logging.ERROR and node.settings.receiver_threshold == 7
    host.write_config(log_level="loud")
    [complaint] = reload.read_anew(node)
    assert "log_level='loud' must be" in complaint and logging.getLogger().level == logging.ERROR


# --- a whole life, in a process of its own ------------------------------------------------------------------------


def live(host):
    """A node's life as the command runs it; the process."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            logging.disable()
            start = startup.prepare(host.config_path, "", "", print)
            with start.claims[0], start.claims[1]:
                run.run(start.node, start.sockets, start.claims, lambda: None)
            status = 0
        finally:
            os._exit(status)
    return pid


def is_answering(host):
    try:
        return host.ask(["PING"])[0] == "PONG"
    except Exception:
        return False


def test_a_life_begins_answers_and_ends_with_a_last_word_to_the_others(mesh, host):
    beta = mesh.host("beta", hints=host.address)
    pids = [live(host), live(beta)]
    try:
        for each in (host, beta):
            until(lambda each=each: is_answering(each), 20, "it answers")
        until(lambda: host.status_of("beta") == "alive", 20, "they know each other")
        pid = pids.pop()
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        until(lambda: host.status_of("beta") == "left", 20, "its last word is heard: without it, it would be dead")
        assert not os.path.exists(beta.socket) and not os.path.exists(beta.socket.replace(".sock", ".pid"))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_last_word_is_written_where_nobody_is_told(node, host):
    run.begin(node)
    sockets = startup.Sockets(node.settings, (0, 0))
    run.say_goodbye(node, sockets)
    assert node.cache.view().own.status == LEFT


def test_without_the_lock_a_node_leaves_without_a_word(node):
    run.begin(node)
    with node.cache.locked():
        in_a_child(lambda: run.say_goodbye(node, startup.Sockets(node.settings, (0, 0))))
    assert node.cache.view().own.status != LEFT


def test_in_a_forked_process_locks_are_let_go_and_the_dice_are_its_own(node, tmp_path):
    claim = startup.PidFile(str(tmp_path / "claimed"))
    claim.claim()
    thrown = set()
    for _ in range(3):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                run._undo(node, [claim])
                claim.fileno()
            except AssertionError:
                os.write(write, b"%d" % node.rng.getrandbits(60))
            finally:
                os._exit(0)
        os.close(write)
        thrown.add(os.read(read, 100))
        os.close(read)
        os.waitpid(pid, 0)
    claim.remove()
    assert len(thrown) == 3 and b"" not in thrown


def test_the_settings_of_children_arrive(node, host, monkeypatch):
    host.write_config(max_children=20, max_children_per_address=4, connections_per_child=1)
    seen = []

    class Listener:
        wake_write, life_read = 7, 8

        def __init__(self, runs, limits):
            seen.append((runs, limits))

        def run(self):
            seen.append(node.life.wake_descriptor)

    monkeypatch.setattr(run, "Listener", Listener)
    node.settings = load(host.config_path)
    run.run(node, startup.Sockets(node.settings, (0, 0)), [], lambda: None)
    (runs, limits), descriptor = seen
    assert (limits.children, limits.per_caller, limits.connections, descriptor) == (20, 4, 1, 7)
    assert runs.is_refused("192.0.2.1") is False and runs.has_changed() is False
