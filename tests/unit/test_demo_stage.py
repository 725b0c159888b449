"""The demo's stage: what lies on it, what is started and ended on it, and what visitors are told; tests/mesh/test_demo.py plays on it."""

import os
import shlex
import signal
import socket
import subprocess
import tempfile
import urllib.request
from types import SimpleNamespace

import pytest

from bdserver.demo import hosts, stage, trying
from bdserver.demo.ending import Ending
from bdserver.demo.hosts import ending_with_us, free_port
from bdserver.demo.stage import AGAIN_SECONDS, END_SECONDS, NAMES, THRESHOLD, Stage
from bdserver.files import settings
from tests.unit.stages import Clock, Names, served


def test_the_ports_that_are_wanted_are_taken_when_they_are_free():
    port = free_port()
    made = Stage(port, Ending())
    assert (made.port, made.dns_port, made.notices) == (port, port + 1, [])


def test_a_port_that_is_taken_is_said_and_another_one_is_used():
    port = free_port()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port + 1))
        sock.listen()
        made = Stage(port, Ending())
    assert made.port == port and made.dns_port not in (port, port + 1)
    assert made.notices == [f"Port {port + 1} is taken: DNS is at {made.dns_port}."]


def test_any_port_is_no_notice():
    made = Stage(0, Ending())
    assert made.notices == [] and len({made.port, made.dns_port}) == 2


def test_a_stage_that_was_never_begun_has_nothing_to_end():
    with Stage(0, Ending()) as made:
        assert made.folder == ""


class Host:
    """A node that runs, or does not."""

    def __init__(self, name):
        self.name, self.is_running, self.started = name, True, 0

    def launch(self):
        self.is_running, self.started = True, self.started + 1


@pytest.fixture
def played():
    """A stage with a node that runs."""
    made, host = Stage(0, Ending()), Host("beta")
    made.mesh = type("Mesh", (), {"hosts": [host]})()
    return made, host


def test_a_node_that_has_ended_is_started_again_after_a_while(played):
    made, host = played
    assert list(made.tend(100.0)) == []
    host.is_running = False
    assert list(made.tend(101.0)) == ["beta has ended. It is started again in 20 s."]
    assert list(made.tend(101.0 + AGAIN_SECONDS - 0.1)) == [] and host.started == 0
    assert list(made.tend(101.0 + AGAIN_SECONDS)) == ["beta is started again."] and host.started == 1
    assert list(made.tend(200.0)) == []
    host.is_running = False
    assert list(made.tend(201.0)) == ["beta has ended. It is started again in 20 s."], "each time anew"


def test_what_ends_before_it_answers_is_said_with_its_status():
    process = subprocess.Popen(["false"])
    process.wait()
    with pytest.raises(AssertionError, match="has ended with status 1"):
        stage._is_up(free_port(), process)


def test_what_is_printed_is_shell_whole_with_words_behind_a_hash():
    tries = trying.tries("http://127.0.0.1:8460", "./ask-dns", 20.0)
    told = trying.told("/tmp/bddemo-x", tries)
    assert told.startswith("cd /tmp/bddemo-x\n\n# Ask for a service")
    assert subprocess.run(["bash", "-n"], input=told, text=True, check=False).returncode == 0
    for each in tries:
        assert each.words.endswith(".") and all(not command.startswith("#") for command in each.commands)
    assert all(len(line) <= 120 for line in told.splitlines())


def test_a_program_for_visitors_hands_on_its_words(tmp_path):
    path = tmp_path / "say"
    stage._write_program(str(path), f'exec {shlex.join(["printf", "%s|"])} "$@"')
    assert os.access(path, os.X_OK)
    assert subprocess.run([path, "a b", "c"], capture_output=True, text=True, check=True).stdout == "a b|c|"


# --- begun, with web containers and daemons that are real and end before they are ready --------------------------------


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A stage that has begun; its folder has a blank in its name, as that of a visitor may."""
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a b"))
    with Stage(0, Ending()) as made:
        made.begin()
        yield made


def processes(made):
    return [*made._beside, *(host.process for host in made.mesh.hosts)]


def test_three_hosts_lie_in_one_folder_and_are_hinted_at_the_first(begun):
    alpha, *others = begun.mesh.hosts
    assert [host.name for host in begun.mesh.hosts] == list(NAMES)
    assert os.path.basename(begun.folder).startswith("bddemo-") and alpha.folder == f"{begun.folder}/alpha"
    assert "hints" not in alpha.config and all(settings.load(host.config_path).hints == (alpha.address,) for host in others)
    assert all(settings.load(host.config_path).receiver_threshold == THRESHOLD for host in begun.mesh.hosts)
    assert begun.mesh.ends_with_us and all(host.process is not None for host in begun.mesh.hosts)


def test_what_is_dropped_into_a_hosts_folder_its_web_container_serves(begun):
    for host in begun.mesh.hosts:
        for name in ("Hello", "Hello.bdcert"):
            with open(os.path.join(host.services, name), "w") as file:
                file.write(f"edition of {host.name}")
        with urllib.request.urlopen(f"http://127.0.0.1:{host.config['axis_port']}/axis/Hello", timeout=20) as page:
            assert page.read().decode() == f"edition of {host.name}"


@pytest.mark.parametrize("words", [["bdctl", "status"], ["bdwhereis", "Primes"]])
def test_the_commands_beside_a_host_ask_that_host_wherever_they_are_pasted(begun, words):
    for host in begun.mesh.hosts:
        host.end()
    for host in begun.mesh.hosts:
        done = subprocess.run([f"{host.folder}/{words[0]}", *words[1:]], cwd="/", capture_output=True, text=True, check=False)
        assert done.stdout == "" and f"{words[0]}: {host.socket}: " in done.stderr, done


def test_who_has_no_dig_asks_dns_by_a_program_beside_the_hosts(begun):
    with served(Names()) as names:
        path = os.path.join(begun.folder, "ask-dns")
        with open(path) as file:
            text = file.read()
        assert f"port={begun.dns_port}" in text
        with open(path, "w") as file:
            file.write(text.replace(f"port={begun.dns_port}", f"port={names.server_address[1]}"))
        for port, said in ((8080, "0 0 8080 7f000001.addr.bd.internal.\n"), (0, "NXDOMAIN\n")):
            names.port = port
            asked = subprocess.run([path, "Primes.bd.internal", "SRV"], capture_output=True, text=True, check=True)
            assert asked.stdout == said


def test_nothing_is_left_of_it(begun):
    pids = [process.pid for process in processes(begun)]
    assert len(pids) == 6 and os.path.isdir(begun.folder)
    os.kill(pids[0], signal.SIGSTOP)  # as a visitor may
    begun.__exit__()
    assert not os.path.exists(begun.folder)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# --- with stand-ins for processes -------------------------------------------------------------------------------------


class Process:
    """A process that does nothing; `did` is the diary of all of them."""

    def __init__(self, name, did, ends=True, status=None):
        self.name, self.did, self.ends, self.returncode = name, did, ends, status

    def poll(self):
        return self.returncode

    def terminate(self):
        self.did.append((self.name, "terminate"))

    def send_signal(self, number):
        self.did.append((self.name, signal.Signals(number).name))

    def wait(self, seconds=None):
        self.did.append((self.name, "wait"))
        if not self.ends and (self.name, "kill") not in self.did:
            assert seconds is not None, "it would be waited for in vain"
            raise subprocess.TimeoutExpired(self.name, seconds)
        self.returncode = self.returncode or 0

    def kill(self):
        self.did.append((self.name, "kill"))


@pytest.fixture
def started(monkeypatch):
    """What is started from now on are stand-ins: `lines`, (command line, keywords) of each; `status`, with which they have ended."""
    started = SimpleNamespace(lines=[], status=None)

    def popen(line, **keywords):
        started.lines.append((line, keywords))
        return Process("process", [], status=started.status)

    monkeypatch.setattr(stage.subprocess, "Popen", popen)
    return started


@pytest.fixture
def alpha(tmp_path):
    """The host whose gateway is opened."""
    return hosts.Mesh(str(tmp_path)).host("alpha")


def test_the_gateway_is_told_where_its_host_is_and_where_to_listen(started, alpha):
    made = Stage(0, Ending())
    with socket.create_server(("127.0.0.1", made.port)):
        made.open_gateway(alpha)
    path = f"{alpha.folder}/gateway.conf"
    with open(path) as file:
        assert file.read() == f"socket={alpha.socket}\nhttp=127.0.0.1:{made.port}\ndns=127.0.0.1:{made.dns_port}\n"
    [(line, keywords)] = started.lines
    assert line == ending_with_us(alpha.command_line("bdgateway", path))
    assert keywords["stdout"].name == keywords["stderr"].name == f"{alpha.folder}/gateway.log" and keywords["start_new_session"]


def test_a_gateway_that_does_not_answer_is_waited_for_and_named(started, alpha, monkeypatch):
    monkeypatch.setattr(hosts, "time", Clock())
    with pytest.raises(AssertionError, match="^not within 20 s: the gateway answers$"):
        Stage(0, Ending()).open_gateway(alpha)


def test_a_gateway_that_ends_is_not_waited_for(started, alpha):
    started.status = 2
    made = Stage(0, Ending())
    with pytest.raises(AssertionError, match=f"^what should answer at port {made.port} has ended with status 2$"):
        made.open_gateway(alpha)


def test_a_web_container_that_ends_ends_the_beginning_and_nothing_is_left(started, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started.status = 1
    made = Stage(0, Ending())
    with pytest.raises(AssertionError, match="has ended with status 1$"), made:
        made.begin()
    assert len(started.lines) == 1 and os.listdir(tmp_path) == []


@pytest.fixture
def ending():
    """Whose signals are put back afterwards."""
    before = {number: signal.getsignal(number) for number in Ending.NUMBERS}
    ending = Ending()
    ending.install()
    yield ending
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interruption_while_the_folder_is_made_leaves_no_folder(ending, tmp_path, monkeypatch):
    def mkdtemp(prefix):
        path = tmp_path / f"{prefix}x"
        path.mkdir()
        signal.raise_signal(signal.SIGINT)
        return str(path)

    monkeypatch.setattr(stage.tempfile, "mkdtemp", mkdtemp)
    with pytest.raises(KeyboardInterrupt), Stage(0, ending) as made:
        made.begin()
    assert made.folder == f"{tmp_path}/bddemo-x" and os.listdir(tmp_path) == []


def test_an_interruption_while_a_process_is_started_ends_that_process_too(ending, alpha, tmp_path, monkeypatch):
    did = []

    def popen(line, **keywords):
        signal.raise_signal(signal.SIGTERM)
        return Process("gateway", did)

    monkeypatch.setattr(stage.subprocess, "Popen", popen)
    made = Stage(0, ending)
    made.folder = alpha.folder
    with pytest.raises(KeyboardInterrupt), made:
        made.open_gateway(alpha)
    assert did[:3] == [("gateway", "terminate"), ("gateway", "SIGCONT"), ("gateway", "wait")]


def test_all_are_told_to_end_before_any_is_waited_for_then_the_folder_goes(played, tmp_path, monkeypatch):
    made, host = played
    did = []
    made.folder = str(tmp_path)
    made._beside = [Process("web", did), Process("gateway", did, status=1)]
    host.process = Process("beta", did, ends=False)
    monkeypatch.setattr(stage.shutil, "rmtree", lambda path, ignore_errors: did.append((path, "remove")) or os.rmdir(path))
    made.__exit__()
    assert did == [
        ("web", "terminate"), ("web", "SIGCONT"), ("beta", "terminate"), ("beta", "SIGCONT"),
        ("web", "wait"), ("web", "kill"), ("web", "wait"),
        ("gateway", "wait"), ("gateway", "kill"), ("gateway", "wait"),
        ("beta", "wait"), ("beta", "kill"), ("beta", "wait"),
        (str(tmp_path), "remove"),
    ]  # fmt: skip


def test_an_interruption_while_a_node_is_started_comes_behind_it(ending, played):
    _, host = played

    def launch():
        signal.raise_signal(signal.SIGTERM)
        host.started += 1

    host.launch = launch
    with pytest.raises(KeyboardInterrupt):
        Stage(0, ending).start(host)
    assert host.started == 1


def test_whoever_interrupts_the_cleaning_up_does_not_stop_it(ending, tmp_path):
    class Impatient(Process):
        def terminate(self):
            signal.raise_signal(signal.SIGINT)

    made, did = Stage(0, ending), []
    made.folder, made._beside = str(tmp_path), [Impatient("web", did)]
    made.__exit__()
    assert did[-1] == ("web", "wait") and not tmp_path.exists()


def test_whoever_still_writes_into_the_folder_is_outlasted_for_a_while(played, tmp_path, monkeypatch):
    made, host = played
    clock, tries = Clock(), []
    host.process, made.folder = None, str(tmp_path)

    def rmtree(path, ignore_errors):
        tries.append(path)
        clock.sleep(1.0)
        if len(tries) == times:
            os.rmdir(path)

    monkeypatch.setattr(stage, "time", clock)
    monkeypatch.setattr(stage, "shutil", SimpleNamespace(rmtree=rmtree))
    times = 3
    made.__exit__()
    assert len(tries) == 3 and not tmp_path.exists()
    tmp_path.mkdir()
    times, clock.now = 1000, 0.0
    tries.clear()
    made.__exit__()
    assert len(tries) == 2 * END_SECONDS, "and it is given up"
