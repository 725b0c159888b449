"""The processes of a node: who is who, who outlives whom, what is left behind."""

import os
import signal
import socket
import stat
import subprocess
import sys

import pytest

from bdserver.demo.hosts import RUN, free_port, until


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_ps_shows_who_is_who(mesh):
    (host,) = mesh.start(1)
    with open(f"/proc/{host.process.pid}/cmdline") as file:
        assert f"listener of n1 at {host.address}" in file.read()
    assert "discoverer of n1" in host.children()[host.discoverer_pid()]


def test_a_killed_discoverer_is_started_again(mesh):
    (host,) = mesh.start(1)
    first = host.discoverer_pid()
    os.kill(first, signal.SIGKILL)
    until(lambda: host.discoverer_pid() not in (0, first), 10, "a new discoverer")
    assert host.ask(["PING"])[0] == "PONG"


def test_the_discoverer_ends_when_the_listener_is_killed(mesh):
    (host,) = mesh.start(1)
    discoverer = host.discoverer_pid()
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
    assert done.returncode == 2
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
    discoverer = host.discoverer_pid()
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
    assert done.returncode == 2
    assert file in done.stderr and "Traceback" not in done.stderr
