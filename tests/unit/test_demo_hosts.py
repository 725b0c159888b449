"""The demo's hosts: what is written into their folders, and how their processes are started, asked and ended. Most of the
processes here are stand-ins; real daemons are the business of tests/mesh."""

import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from bdserver.core.messages import Place, Pong, Status
from bdserver.core.roles import NODE
from bdserver.demo import hosts
from bdserver.demo.hosts import Host, Mesh, ending_with_us, free_port, is_free, until
from bdserver.errors import NobodyThere
from bdserver.files import settings
from bdserver.net import keys
from tests.hosts import is_gone
from tests.unit.canned import Node, own, seen
from tests.unit.stages import Clock


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(hosts, "time", clock)
    return clock


@pytest.fixture
def mesh(tmp_path):
    with Mesh(str(tmp_path / "mesh")) as mesh:
        yield mesh


@pytest.fixture
def host(mesh):
    return mesh.host("alpha")


def runs(host, script):
    """Whatever is started of this host is this shell script from now on; it gets the words of the command."""
    host.command_line = lambda *words: ["sh", "-c", script, "sh", *words]


# --- waiting ------------------------------------------------------------------------------------------------------


def test_what_is_waited_for_is_handed_on(clock):
    answers = iter([None, "", 0, "here"])
    assert until(lambda: next(answers), 5, "it is here") == "here"
    assert clock.now == pytest.approx(1000 + 3 * hosts.POLL_SECONDS)


def test_what_does_not_come_is_named_with_the_time_that_it_had(clock):
    with pytest.raises(AssertionError, match="^not within 7 s: the cows are home$"):
        until(lambda: False, 7.2, "the cows are home", pause=0.5)
    assert 1007.2 < clock.now <= 1007.7


# --- ports --------------------------------------------------------------------------------------------------------


def test_a_port_comes_with_the_one_behind_it_and_once(monkeypatch):
    monkeypatch.setattr(hosts, "_given", set())
    given = [free_port() for _ in range(50)]
    assert len({each for port in given for each in (port, port + 1)}) == 100
    assert all(hosts.FIRST_PORT <= port < hosts._first_ephemeral() - 1 for port in given)


def test_a_port_that_is_taken_or_whose_next_one_is_is_passed_over(monkeypatch):
    taken = {20_001, 20_002, 20_005}
    tries = iter([20_001, 20_000, 20_004, 20_006])
    monkeypatch.setattr(hosts, "_given", {20_007})
    monkeypatch.setattr(hosts, "is_free", lambda port: port not in taken)
    monkeypatch.setattr(hosts.random, "Random", lambda: SimpleNamespace(randrange=lambda first, end: next(tries, 20_008)))
    assert free_port() == 20_008


@pytest.mark.parametrize(
    ("text", "first"), [("40000\t60999\n", 40_000), ("1024 65535", 32_768), ("", 32_768), ("many", 32_768), (None, 32_768)]
)
def test_ports_end_where_the_kernel_takes_its_own(tmp_path, monkeypatch, text, first):
    if text is not None:
        (tmp_path / "range").write_text(text)
    monkeypatch.setattr(hosts, "EPHEMERAL_FILE", str(tmp_path / "range"))
    assert hosts._first_ephemeral() == first


def test_a_port_is_free_when_nobody_listens_and_there_is_one_of_that_number():
    port = free_port()
    assert is_free(port) and not is_free(70_000)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)


# --- what is written ----------------------------------------------------------------------------------------------


def test_a_new_host_has_a_config_that_only_its_owner_reads(mesh):
    host = mesh.host("alpha", receiver_threshold=30, log_level="info")
    with open(host.config_path) as file:
        assert file.read() == f"port={host.port}\nusername=alpha\nbind=127.0.0.1\nlog_level=info\nreceiver_threshold=30\n"
    assert os.stat(host.config_path).st_mode & 0o777 == 0o600
    read = settings.load(host.config_path)
    assert (read.username, read.port, read.receiver_threshold, read.services_dir) == ("alpha", host.port, 30, host.services)


def test_a_new_host_has_keys_of_the_meshs_authority(mesh):
    alpha, beta = (keys.load(mesh.host(name).folder, name).identity for name in ("alpha", "beta"))
    assert [(each.mesh, each.role, each.name) for each in (alpha, beta)] == [("demo", NODE, "alpha"), ("demo", NODE, "beta")]
    assert tuple(alpha.hosts) == ("127.0.0.1",)


def test_hosts_lie_beside_each_other_with_ports_of_their_own(mesh):
    alpha, beta = mesh.host("alpha"), mesh.host("beta")
    assert mesh.hosts == [alpha, beta] and len({alpha.port, alpha.port + 1, beta.port, beta.port + 1}) == 4
    assert alpha.address == f"127.0.0.1:{alpha.port}" and alpha.gossip_address == f"127.0.0.1:{alpha.port + 1}"
    for host in (alpha, beta):
        assert host.folder == f"{mesh.folder}/{host.name}" and os.listdir(host.services) == []
        assert host.socket == f"{host.folder}/var/run/{host.name}.sock" and not host.is_running


def test_a_config_that_was_changed_is_written_anew(host):
    host.config["hints"] = "127.0.0.1:9001"
    host.write_config()
    assert settings.load(host.config_path).hints == ("127.0.0.1:9001",)


# --- how it lives -------------------------------------------------------------------------------------------------


@pytest.fixture
def typed():
    """Something that was typed on our standard input, for us alone."""
    reading, writing = os.pipe()
    os.write(writing, b"typed\n")
    os.close(writing)
    before = os.dup(0)
    os.dup2(reading, 0)
    yield
    os.dup2(before, 0)
    os.close(reading)
    os.close(before)


def test_a_daemon_runs_in_the_foreground_on_the_hosts_config_and_says_all_into_its_log(host, typed):
    runs(host, 'echo "$@"; echo oh >&2; cat; echo end')
    host.launch("--debug")
    assert host.process.wait(10) == 0 and not host.is_running
    assert host.log == f"bdserverd --foreground {host.config_path} --debug\noh\nend\n", "and it reads nothing"
    host.launch()
    host.process.wait(10)
    assert host.log.count("bdserverd --foreground") == 2, "what it said before is kept"


def test_a_host_is_ready_when_it_answers(host, clock, monkeypatch):
    node, tries = Node(PING=Pong("digest")), []

    def dial(path, deadline):
        assert path == host.socket and deadline == clock.now + 5.0
        tries.append(path)
        if len(tries) < 3:
            raise NobodyThere(f"{path}: No such file")
        return node.dial()

    monkeypatch.setattr(hosts.dialling, "dial_local", dial)
    runs(host, "exec sleep 60")
    host.start()
    assert host.is_running and len(tries) == 3 and node.asked == [["PING"]]


def test_a_host_that_never_answers_is_named(host, clock):
    runs(host, "exec sleep 60")
    with pytest.raises(AssertionError, match="^not within 20 s: alpha answers$"):
        host.start()


def test_a_daemon_that_ends_before_it_answers_is_told_with_what_it_said(host):
    runs(host, "echo the port is taken; exit 1")
    host.launch()
    host.process.wait(10)
    with pytest.raises(AssertionError, match="^alpha ended: the port is taken\n"):
        host.wait_ready()


def test_a_daemon_is_ended_by_sigterm_and_may_be_killed(host):
    host.end()  # it was never started
    runs(host, "exec sleep 60")
    host.launch()
    host.end()
    assert host.process.returncode == -signal.SIGTERM and not host.is_running
    host.end()  # it has ended
    host.launch()
    host.kill()
    assert host.process.returncode == -signal.SIGKILL


def test_a_daemon_that_does_not_end_is_killed_and_told(host):
    runs(host, "trap '' TERM; echo stubborn; exec sleep 60")
    host.launch()
    until(lambda: "stubborn" in host.log, 10, "it has set its trap")
    with pytest.raises(AssertionError, match="^alpha did not end on signal 15: stubborn\n$"):
        host.end(seconds=0.1)
    assert host.process.returncode == -signal.SIGKILL


def test_all_are_told_to_end_before_any_is_waited_for_also_who_was_stopped(mesh):
    names = ("alpha", "beta", "gamma")
    for host in map(mesh.host, names):
        runs(host, f"trap 'echo told; exit 3' TERM; echo up; while :; do sleep 0.01; done; : {host.name}")
    alpha, beta = mesh.hosts[:2]  # gamma is never started
    for host in (alpha, beta):
        host.launch()
        until(lambda host=host: "up" in host.log, 10, f"{host.name} has set its trap")
    beta.process.send_signal(signal.SIGSTOP)
    order, end = [], Host.end

    def watched(host):
        order.append((host.name, host.process is not None and until(lambda: "told" in host.log, 10, "it was told")))
        end(host)

    for host in mesh.hosts:
        host.end = lambda host=host: watched(host)
    mesh.stop()
    assert order == [("alpha", True), ("beta", True), ("gamma", False)]
    assert [host.process and host.process.returncode for host in mesh.hosts] == [3, 3, None]


def test_a_mesh_ends_its_hosts_when_its_block_ends(tmp_path):
    with Mesh(str(tmp_path / "m")) as mesh:
        host = mesh.host("alpha")
        runs(host, "exec sleep 60")
        host.launch()
    assert host.process.returncode == -signal.SIGTERM


# --- what ends with us --------------------------------------------------------------------------------------------

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
# A process that starts such a one, says its pid when it is up, and waits to be killed.
STARTS_ONE = """\
import subprocess, sys, time
from bdserver.demo.hosts import ending_with_us
process = subprocess.Popen(ending_with_us({line!r}), stdout=subprocess.PIPE)
process.stdout.readline()
print(process.pid, flush=True)
time.sleep(60)
"""


def test_what_was_started_ends_with_us_even_if_we_are_killed():
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE.format(line=SLEEP)], stdout=subprocess.PIPE, text=True, cwd=hosts.ROOT
    )
    pid = int(starter.stdout.readline())
    assert not is_gone(pid)
    starter.kill()
    starter.communicate()
    until(lambda: is_gone(pid), 10, "its child has ended")


def test_what_was_started_when_we_were_gone_already_does_not_begin():
    line = ending_with_us(SLEEP)
    orphan = [line[0], line[1], line[2].replace(f"== {os.getpid()} ", "== 1 << 30 "), *line[3:]]
    assert orphan != line
    done = subprocess.run(orphan, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("ends_with_us", [True, False])
def test_a_terminals_ctrl_c_does_not_reach_hosts_that_end_with_us(tmp_path, ends_with_us):
    with Mesh(str(tmp_path / "m"), ends_with_us=ends_with_us) as mesh:
        host = mesh.host("alpha")
        host.command_line = lambda *words: SLEEP
        host.launch()
        until(lambda: "up" in host.log, 10, "it runs")
        assert (os.getpgid(host.process.pid) != os.getpgrp()) == ends_with_us


# --- talking to it ------------------------------------------------------------------------------------------------

URL = "http://10.0.0.2:8080/axis/Echo?wsdl"


@pytest.fixture
def node(monkeypatch):
    """Who answers at the local socket."""
    node = Node(
        STATUS=Status(own(), [seen("alpha"), seen("beta", 2, status="dead")]),
        WHEREIS=Place("10.0.0.2", 8080, "axis", {"url": URL, "node": "beta", "service": "Echo", "phase": 1, "asked": []}),
    )
    monkeypatch.setattr(hosts.dialling, "dial_local", lambda path, deadline: node.dial())
    return node


def test_whom_it_knows_and_how_they_are(host, node):
    assert [each["name"] for each in host.nodes()] == ["alpha", "beta"] and host.alive_names() == ["alpha"]
    assert [host.status_of(name) for name in ("alpha", "beta", "gamma")] == ["alive", "dead", "unknown"]


def test_a_look_up_is_the_answer_as_it_travels(host, node):
    word, port, folder, details = host.lookup("Echo", "<policy/>")
    assert (word, port, folder, details["url"]) == ("10.0.0.2", 8080, "axis", URL)
    assert node.asked == [["WHEREIS", "Echo", "<policy/>"]]


def test_a_command_is_run_with_this_hosts_config(host):
    runs(host, 'echo "$@"; echo oh >&2; exit 3')
    done = host.run("bdctl", "nodes", "--brief")
    assert (done.returncode, done.stdout, done.stderr) == (3, f"bdctl --config {host.config_path} nodes --brief\n", "oh\n")
    assert host.whereis("Echo", "--json").stdout == f"bdwhereis --config {host.config_path} --json Echo\n"


def test_the_commands_are_those_of_this_very_package(host):
    done = host.whereis("Echo")
    assert done.returncode not in (0, 1) and done.stdout == ""
    assert f"bdwhereis: {host.socket}: No such file or directory (is bdserverd running?)" in done.stderr


# --- knowing each other -------------------------------------------------------------------------------------------


def knows(name, *answers, is_running=True):
    """A host that says in turn whom it takes for alive; then it goes on with the last."""
    left = list(answers)
    return SimpleNamespace(name=name, is_running=is_running, alive_names=lambda: left.pop(0) if len(left) > 1 else left[0])


def test_all_that_run_know_each_other(mesh, clock):
    mesh.hosts = [knows("a", ["a"], ["a", "b"]), knows("b", ["b"], ["b", "x", "a"]), knows("c", [], is_running=False)]
    mesh.wait_known()
    assert clock.now == pytest.approx(1000 + 2 * 2 * hosts.POLL_SECONDS), "two rounds, with a pause for each of two hosts"
    mesh.hosts = []


def test_only_those_that_were_named_are_waited_for(mesh, clock):
    a, b, c = knows("a", ["a", "b"]), knows("b", ["b", "a"]), knows("c", ["c"])
    mesh.hosts = [a, b, c]
    mesh.wait_known(hosts=[a, b])
    assert clock.now == 1000
    with pytest.raises(AssertionError, match="^not within 3 s: 3 nodes know each other$"):
        mesh.wait_known(3)
    mesh.hosts = []
