"""The demo as a user runs it: its story comes true, and nothing of it is left."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
import zeep

from bdserver.net.container import Container
from tests.hosts import free_port, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMPLES = os.path.join(ROOT, "bdserver", "demo", "services")


# The load is steady after a minute, the time for which a call weighs: DEMO_GENTLE_SECONDS=70.
GENTLE_SECONDS = float(os.environ.get("DEMO_GENTLE_SECONDS", "30"))


def start(tmp_path, *arguments, python=sys.executable, **keywords):
    line = [python, os.path.join(ROOT, "bin", "bddemo"), "--port", "0", *arguments]
    environment = os.environ | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **keywords)


def processes_of(folder):
    """Command lines of processes that have anything to do with this folder: they name it, or have a file in it open."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                names = [file.read().decode(errors="replace")]
            names += [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if any(str(folder) in name for name in names) and int(pid) != os.getpid():
            found.append(names[0])
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(the demo that has told its story and goes on, all that it has said); whoever reads on finds what comes later."""
    folder = tmp_path_factory.mktemp("demo")
    demo = start(folder)
    lines = []
    for line in demo.stdout:
        lines.append(line)
        if line.startswith("alpha/bdctl services Busy"):
            break
    try:
        yield demo, "".join(lines)
    finally:
        demo.send_signal(signal.SIGINT)
        rest = demo.communicate(timeout=60)[0]
        assert demo.returncode == 0 and "cleaned up" in rest, "".join(lines) + rest
        assert os.listdir(folder) == [] and processes_of(folder) == []


def test_the_story_comes_true(told):
    _, said = told
    for line in (
        r"alpha, beta, gamma are up and know each other, \d+ ms after",
        r"replicas=2: two living holders at all times\. (beta|gamma) has a copy",
        r"bdwhereis +http://127\.0\.0\.1:(\d+)/axis/Temperature\?wsdl .*\n.*DNS +Temperature\.bd\.internal is at port \1 ",
        r"HTTP +http://127\.0\.0\.1:\d+/Primes leads to http://127\.0\.0\.1:\d+/axis/Primes\?wsdl",
        r"Called it by SOAP: the prime factors of 600851475143 are 71 839 1471 6857",
        r"call +\d+: alpha serves",
        r"alpha said NO\. In \d+ ms the mesh copied Primes to (beta|gamma)",
        r"9 more calls",
        r"kill -9 of (beta|gamma)",
        r"30 of 30 were answered by a living host\. All knew of the death after \d+\.\d s",
        r"after \d+\.\d s TimeOfDay had two living holders again",
        r"is started again: all know \d+ ms later",
        r"later nothing needs attention",
    ):
        assert re.search(line, said), f"{line!r} is not in:\n{said}"
    assert [line for line in said.splitlines() if len(line) > 120] == [], "it is read in a terminal"


@pytest.mark.long(seconds=240)
def test_a_gentle_load_leaves_all_well(told):
    _, said = told
    folder, page = re.search("^cd (.+)$", said, re.MULTILINE)[1], re.search(r"http://127\.0\.0\.1:\d+/", said)[0]
    ends_at = time.monotonic() + GENTLE_SECONDS
    while time.monotonic() < ends_at:
        for name in ("alpha", "beta", "gamma"):
            done = subprocess.run([f"{folder}/{name}/bdctl", "--json", "status"], capture_output=True, text=True, check=True)
            assert json.loads(done.stdout)["warnings"] == [], done.stdout
        findings = json.load(urllib.request.urlopen(page + "?format=json", timeout=20))["findings"]
        assert [each for each in findings if each["severity"] != "note"] == []
        time.sleep(1)


def pasted(said, words):
    """What the commands print that stand behind the words that begin with these, each as somebody pastes it into a fresh shell."""
    folder = re.search("^cd (.+)$", said, re.MULTILINE)[1]
    commands = re.search(rf"^# {words}.*\n((?:.+\n)+)", said, re.MULTILINE)[1].splitlines()
    fresh = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "NO_PROXY": "*"}
    printed = []
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=fresh, capture_output=True, text=True, timeout=60, check=False
        )
        assert "not found" not in done.stderr and "Traceback" not in done.stderr, done
        printed.append(done.stdout + done.stderr)
    return printed


def test_what_it_prints_can_be_pasted_and_does_what_it_says(told):
    """In the order in which it is printed, as one visitor would."""
    demo, said = told
    command, dns, http = pasted(said, "Ask for a service")
    assert "/axis/Primes?wsdl" in command and "YES in" in command and "definitions" in http
    assert re.search(r"^0 0 \d+ 7f000001\.addr\.bd\.internal\.$", dns, re.MULTILINE)
    first, _, served = pasted(said, "A service of your own")
    assert "3 of 3 holders" in first and first.count("copy of alpha") == 2
    assert served.splitlines() == 6 * ["edition two"]
    withdrawn, asked = pasted(said, "A withdrawal")
    assert "copies went from 2 nodes" in withdrawn and "nobody in the mesh has it" in asked
    nodes, asked = pasted(said, "A death")
    assert re.search(r"^beta .* dead ", nodes, re.MULTILINE) and "/axis/Primes?wsdl" in asked
    asked, hung, back = pasted(said, "A node that hangs")
    assert "/axis/Primes?wsdl" in asked
    assert re.search(r"^gamma .* (suspect|dead) ", hung, re.MULTILINE) and re.search(r"^gamma .* alive ", back, re.MULTILINE)
    _, calls, holders = pasted(said, "Overload")
    assert len(calls.splitlines()) > 1 and "copy of alpha" in holders
    line = next(line for line in demo.stdout if "beta is started again" in line)
    assert line


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "Three hosts"),
        (signal.SIGTERM, "are up"),
        (signal.SIGHUP, "are up"),
        (signal.SIGINT, "call  3"),
        (signal.SIGTERM, "kill -9"),
    ],
)
def test_it_ends_at_once_at_any_time_and_leaves_nothing(tmp_path, number, moment):
    demo = start(tmp_path, start_new_session=True)
    for line in demo.stdout:
        if moment in line:
            os.killpg(demo.pid, number)  # as a terminal does: all of the foreground get it
            break
    began = time.monotonic()
    said = demo.communicate(timeout=60)[0]
    assert demo.returncode == 0 and "Traceback" not in said, said
    print(f"it took {time.monotonic() - began:.1f} s")
    assert os.listdir(tmp_path) == [] and processes_of(tmp_path) == []


def test_a_demo_that_is_killed_leaves_no_processes(tmp_path):
    demo = start(tmp_path)
    for line in demo.stdout:
        if "Watch it all" in line:
            break
    assert len(processes_of(tmp_path)) >= 6
    demo.kill()
    demo.communicate(timeout=60)
    until(lambda: processes_of(tmp_path) == [], 20, "all have ended")


def test_ports_that_are_taken_are_said_in_a_line_each_and_others_are_taken(tmp_path):
    with socket.socket() as page, socket.socket() as dns:
        port = free_port()
        for sock, number in ((page, port), (dns, port + 1)):
            sock.bind(("127.0.0.1", number))
            sock.listen()
        demo = start(tmp_path, "--port", str(port))
        first, second = demo.stdout.readline(), demo.stdout.readline()
        assert f"Port {port} is taken: the page is at " in first and f"Port {port + 1} is taken: DNS is at " in second
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
        demo.stdout.close()


NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []}


def python_for_nobody():
    """An interpreter that nobody may run, with all that the demo needs; None: here is none."""
    for python in (sys.executable, "/usr/bin/python3"):
        line = [python, "-c", "import bdserver.demo.story, OpenSSL, waitress, setproctitle, jinja2"]
        with contextlib.suppress(OSError):
            if subprocess.run(line, cwd=ROOT, capture_output=True, check=False, **NOBODY).returncode == 0:
                return python
    return None


def test_it_needs_no_rights(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("it is run without them anyway")
    python = python_for_nobody()
    if python is None:
        pytest.skip("nobody can't run a Python that has what the demo needs")
    os.chmod(tmp_path, 0o777)
    demo = start(tmp_path, "--seconds", "0.1", python=python, **NOBODY)
    said = demo.communicate(timeout=150)[0]
    assert demo.returncode == 0 and "later nothing needs attention" in said, said
    assert os.listdir(tmp_path) == []


def test_zeep_calls_each_sample_at_the_url_that_bdwhereis_printed(mesh):
    one, two = mesh.start(2)
    container = Container("127.0.0.1", 0, one.services)
    threading.Thread(target=container.serve_forever, daemon=True).start()
    try:
        one.write_config(axis_port=container.server_port)
        one.process.send_signal(signal.SIGHUP)
        for name in ("Primes", "Temperature", "TimeOfDay"):
            with open(os.path.join(SAMPLES, name)) as file:
                one.add_service(name, file.read(), health="http")
        until(lambda: len(two.ctl("services")) == 3, 20, "n2 knows the samples")
        until(lambda: f":{container.server_port}/" in two.lookup("Primes")[-1]["url"], 20, "n1 has taken its new port")
        urls = {name: two.whereis(name).stdout.strip() for name in ("Primes", "Temperature", "TimeOfDay")}
        assert zeep.Client(urls["Primes"]).service.Factors(number=91).factors == "7 13"
        assert zeep.Client(urls["Temperature"]).service.Convert(degrees=0, unit="C").degrees == 32
        assert zeep.Client(urls["TimeOfDay"]).service.Now(zone="UTC").time.endswith("+00:00")
    finally:
        container.shutdown()
        container.server_close()
