"""The processes of a node: who is who, who outlives whom, what is left behind."""

import os
import pwd
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from bdserver.errors import BDError
from bdserver.files.cache import LOCK_SECONDS, Cache
from tests.hosts import RUN, free_port, is_gone, until


def discoverer_of(host):
    """Its pid, as soon as `ps` shows it: that a node answers does not wait for it."""
    return until(host.discoverer_pid, 10, "a discoverer")


def test_ps_shows_who_is_who(mesh):
    (host,) = mesh.start(1)
    with open(f"/proc/{host.process.pid}/cmdline") as file:
        assert f"listener of n1 at {host.address}" in file.read()
    until(lambda: any("discoverer of n1" in title for title in host.children().values()), 10, "a discoverer")


def test_a_killed_discoverer_is_started_again(mesh):
    (host,) = mesh.start(1)
    first = discoverer_of(host)
    os.kill(first, signal.SIGKILL)
    until(lambda: host.discoverer_pid() not in (0, first), 10, "a new discoverer")
    assert host.ask(["PING"])[0] == "PONG"


def test_the_discoverer_ends_when_the_listener_is_killed(mesh):
    (host,) = mesh.start(1)
    discoverer = discoverer_of(host)
    host.kill()
    until(lambda: is_gone(discoverer), 10, "the discoverer ends")


def test_a_node_starts_again_at_once_after_kill_9(mesh):
    (host,) = mesh.start(1)
    generation = host.ctl("status")["version"][0]
    host.kill()
    host.start()
    assert host.ctl("status")["version"][0] > generation


def test_a_second_daemon_on_the_same_config_is_refused_with_the_pid_of_the_first(mesh):
    (host,) = mesh.start(1)
    done = subprocess.run(
        [sys.executable, "-c", RUN, "bdserverd", "--foreground", host.config_path], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert f"running already, as process {host.process.pid}" in done.stderr
    assert host.ask(["PING"])[0] == "PONG"


def test_sigterm_lets_a_running_request_end_and_tells_the_mesh(mesh):
    one, two = mesh.start(2)
    mesh.wait_known()
    two.end()
    until(lambda: one.status_of("n2") == "left", 10, "n1 hears that n2 left")
    assert two.process.returncode == 0
    assert not os.path.exists(two.socket)


def test_a_port_that_is_taken_is_one_line(mesh):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        host = mesh.host("n1", port=taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", RUN, "bdserverd", "--check", host.config_path], capture_output=True, text=True, timeout=30
        )
    assert done.returncode == 1  # it may pass by itself
    assert done.stderr.count("\n") == 1 and f"port={host.port} can't be had" in done.stderr


def test_check_starts_nothing(mesh):
    host = mesh.host("n1")
    done = subprocess.run(
        [sys.executable, "-c", RUN, "bdserverd", "--check", host.config_path], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0 and "ok: n1 of demo" in done.stdout, done.stderr
    assert not os.path.exists(host.socket)


def test_check_of_a_running_node_looks_at_its_files_and_not_at_its_port(mesh):
    (host,) = mesh.start(1)
    line = [sys.executable, "-c", RUN, "bdserverd", "--check", host.config_path]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    host.write_config(receiver_threshold="much")
    assert subprocess.run(line, capture_output=True, text=True, timeout=30).returncode == 2
    assert host.ask(["PING"])[0] == "PONG"


def test_a_key_that_others_can_read_is_refused(mesh):
    host = mesh.host("n1")
    os.chmod(os.path.join(host.folder, "n1.key"), 0o644)
    done = subprocess.run(
        [sys.executable, "-c", RUN, "bdserverd", "--check", host.config_path], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert "n1.key" in done.stderr and "chmod 600" in done.stderr and done.stderr.count("\n") == 1


def test_in_the_background_the_starter_returns_when_the_listener_answers(mesh):
    host = mesh.host("n1", log_file="daemon.log")
    done = subprocess.run(
        [sys.executable, "-c", RUN, "bdserverd", host.config_path], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    with open(host.socket.replace(".sock", ".pid")) as file:
        pid = int(file.read())
    try:
        assert host.ask(["PING"])[0] == "PONG"  # at once: no waiting
        assert os.getsid(pid) != os.getsid(0)
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: is_gone(pid), 20, "the daemon ends on SIGTERM")
    assert not os.path.exists(host.socket)


def test_sighup_takes_a_good_config_and_keeps_the_old_one_for_a_bad_one(mesh):
    (host,) = mesh.start(1)
    host.write_config(receiver_threshold=7)
    host.process.send_signal(signal.SIGHUP)
    until(lambda: host.ctl("status")["receiver_threshold"] == 7, 10, "the new threshold")
    host.write_config(receiver_threshold="much")
    host.process.send_signal(signal.SIGHUP)
    until(lambda: "receiver_threshold='much' must be" in host.log, 10, "the complaint")
    assert host.ask(["STATUS"])[1]["receiver_threshold"] == 7
    assert host.is_running
    [warning] = until(lambda: host.ask(["STATUS"])[1]["warnings"], 10, "it is not well until that is mended")
    assert warning.startswith("what was before SIGHUP is in force: ") and "receiver_threshold='much' must be" in warning
    host.write_config(receiver_threshold=8, backlog=7)
    host.process.send_signal(signal.SIGHUP)
    until(lambda: host.ctl("status")["receiver_threshold"] == 8, 10, "the mended one")
    own = host.ctl("status")
    assert own["warnings"] == [], "it is well again"
    assert "these have other values than in force: backlog" in str([each["text"] for each in own["findings"]])


def test_sighup_keeps_nobody_waiting_while_the_cache_is_locked(mesh):
    (host,) = mesh.start(1)
    cache = Cache(os.path.join(host.folder, "var", "n1.bdcache"), "n1")
    with cache.locked():
        host.write_config(log_level="info")
        host.process.send_signal(signal.SIGHUP)
        until(lambda: "read anew" in host.log, 10, "the reload")
        started = time.monotonic()
        assert host.ask(["PING"])[0] == "PONG"
        assert time.monotonic() - started < LOCK_SECONDS / 2


def test_sighup_reaches_the_log_and_the_record_by_way_of_the_discoverer(mesh):
    one, two = mesh.start(2, log_level="info")
    mesh.wait_known()
    one.write_config(log_level="debug", receiver_threshold=7)
    one.process.send_signal(signal.SIGHUP)

    def threshold_at_two():
        return next(node for node in two.nodes() if node["name"] == "n1")["receiver_threshold"]

    until(lambda: threshold_at_two() == 7, 20, "the others hear of it")
    two.kill()
    until(lambda: "DEBUG: Probe" in one.log, 30, "the discoverer tells what it does")


def test_a_local_socket_that_was_deleted_is_back_within_seconds(mesh):
    (host,) = mesh.start(1)
    os.unlink(host.socket)
    until(lambda: os.path.exists(host.socket), 10, "it is made again")
    assert host.ask(["PING"])[0] == "PONG"
    os.unlink(host.socket)
    host.process.send_signal(signal.SIGHUP)
    until(lambda: os.path.exists(host.socket), 10, "after SIGHUP as well")
    assert host.log.count(f"socket={host.socket} was deleted: made again") == 2


def test_a_node_whose_descriptors_run_out_closes_callers_and_lives(mesh):
    (host,) = mesh.start(1, max_children_per_address=500)
    in_use = len(os.listdir(f"/proc/{host.process.pid}/fd"))
    resource.prlimit(host.process.pid, resource.RLIMIT_NOFILE, (in_use + 12, in_use + 12))
    held = [socket.create_connection(("127.0.0.1", host.port)) for _ in range(40)]
    until(lambda: "no room for a connection: Too many open files" in host.log, 10, "it is said")
    for sock in held:
        sock.close()

    def answers():
        try:
            return host.ask(["PING"])[0] == "PONG"
        except BDError:
            return False

    until(answers, 20, "it answers again")
    assert host.is_running and "met a bug" not in host.log


def test_status_says_that_the_discoverer_has_no_descriptors_left(mesh):
    host, _ = mesh.start(2)
    mesh.wait_known()  # one that has no descriptors at its very start ends, and is started anew
    pid = host.discoverer_pid()
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))  # it keeps those that it has
    until(lambda: any("lacks descriptors" in line for line in host.ctl("status")["warnings"]), 20, "it is said")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert host.discoverer_pid() == pid


def test_a_second_daemon_on_the_same_cache_is_refused(mesh, tmp_path):
    (host,) = mesh.start(1)
    with open(host.config_path) as file:
        text = file.read().replace(f"port={host.port}", f"port={free_port()}")
    other = os.path.join(host.folder, "other.conf")
    with open(other, "w") as file:
        file.write(f"{text}pid_file={tmp_path}/other.pid\nsocket={tmp_path}/other.sock\n")
    line = [sys.executable, "-c", RUN, "bdserverd", "--foreground", other]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert (
        f"n1.lock: this cache is used already by a bdserverd with another pid_file, as process {host.process.pid}"
        in done.stderr
    )
    assert host.ask(["PING"])[0] == "PONG"


def test_with_one_connection_a_child_each_caller_has_a_process_of_its_own(mesh):
    (host,) = mesh.start(1, connections_per_child=1)
    pids = []
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", host.port)):

            def new_one():
                return next((p for p, title in host.children().items() if "child of" in title and p not in pids), 0)

            pids.append(until(new_one, 10, "a child that served nobody before"))
        until(lambda: pids[-1] not in host.children(), 10, "it ends with its caller")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("how", ["--foreground", None])
def test_the_daemon_becomes_its_user_and_is_in_that_users_groups(mesh, shared_path, how):
    host = mesh.host("n1", user="www-data", log_file="daemon.log")
    for folder, _, names in os.walk(host.folder):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            shutil.chown(path, "www-data", "www-data")
    line = [sys.executable, "-c", RUN, "bdserverd", *filter(None, [how]), host.config_path]
    with open(host.log_path, "wb") as log:
        host.process = subprocess.Popen(line, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    pid_file = host.socket.replace(".sock", ".pid")
    until(lambda: os.path.exists(host.socket) and os.path.exists(pid_file), 20, f"it runs: {host.log}")
    with open(pid_file) as file:
        pid = int(until(file.read, 10, "its pid"))
    try:
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":\t") for line in file.read().splitlines() if ":\t" in line)
        account = pwd.getpwnam("www-data")
        assert status["Uid"].split() == [str(account.pw_uid)] * 4
        assert status["Gid"].split() == [str(account.pw_gid)] * 4 and status["Groups"].split() == [str(account.pw_gid)]
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        with open(f"/proc/{pid}/limits") as file:
            assert re.search(r"Max core file size +0 ", file.read())
        assert host.ask(["PING"])[0] == "PONG"
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: is_gone(pid), 20, "it ends on SIGTERM")
    assert not os.path.exists(host.socket) and not os.path.exists(pid_file)


def test_a_black_listed_address_is_closed_unread(mesh, tmp_path):
    black_list = tmp_path / "black"
    black_list.write_text("# nobody from here\n127.0.0.9\n")
    (host,) = mesh.start(1, black_list=black_list)
    for source, is_closed in (("127.0.0.9", True), ("127.0.0.1", False)):
        with socket.socket() as sock:
            sock.bind((source, 0))
            sock.connect(("127.0.0.1", host.port))
            sock.settimeout(0.5)
            try:
                closed = sock.recv(1) == b""
            except ConnectionResetError:
                closed = True
            except TimeoutError:
                closed = False
            assert closed == is_closed, source


def test_connections_beyond_the_cap_for_an_address_are_closed_before_a_fork(mesh):
    (host,) = mesh.start(1, max_children_per_address=3)
    held = [socket.create_connection(("127.0.0.1", host.port)) for _ in range(3)]
    until(lambda: sum("child" in title for title in host.children().values()) == 3, 10, "three children")
    with socket.create_connection(("127.0.0.1", host.port)) as one_more:
        one_more.settimeout(5)
        try:
            assert one_more.recv(1) == b""
        except ConnectionResetError:
            pass
    assert "too busy for 127.0.0.1" in host.log
    assert host.ask(["PING"])[0] == "PONG"  # the local socket has room of its own
    for sock in held:
        sock.close()
    until(lambda: not [t for t in host.children().values() if "child" in t], 10, "children end with their callers")


def test_a_killed_child_takes_nobody_with_it(mesh):
    (host,) = mesh.start(1)
    with socket.create_connection(("127.0.0.1", host.port)):
        pid = until(lambda: next((p for p, t in host.children().items() if "child" in t), None), 10, "a child")
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in host.children(), 10, "it is reaped")
    assert host.ask(["PING"])[0] == "PONG"


def test_the_local_socket_has_the_configured_mode(mesh):
    (host,) = mesh.start(1, socket_mode="0600")
    assert stat.S_IMODE(os.stat(host.socket).st_mode) == 0o600


def test_kill_ends_all_processes_and_leaves_no_file(mesh):
    (host,) = mesh.start(1)
    discoverer = discoverer_of(host)
    assert host.ask(["KILL"]) == ["PEACE OUT"]
    host.process.wait(20)
    until(lambda: is_gone(discoverer), 10, "the discoverer ends")
    assert not os.path.exists(host.socket)


@pytest.mark.parametrize("file", ["bdserver.key", "bdserver.crt", "ca.crt"])
def test_missing_keys_are_named(tmp_path, file):
    config = tmp_path / "bdserverd.conf"
    config.write_text(f"port={free_port()}\n")
    done = subprocess.run(
        [sys.executable, "-c", RUN, "bdserverd", "--check", str(config)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1  # it may not be mounted yet
    assert file in done.stderr and "Traceback" not in done.stderr
