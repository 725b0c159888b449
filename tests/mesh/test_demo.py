"""The demo as a user runs it: its story comes true, and nothing of it is left."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest
import zeep

from bdserver.net.container import Container
from tests.hosts import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMPLES = os.path.join(ROOT, "bdserver", "demo", "services")


def start(tmp_path, *arguments):
    line = [sys.executable, os.path.join(ROOT, "bin", "bddemo"), "--port", "0", *arguments]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def processes_of(folder):
    """Command lines of processes that have anything to do with this folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and int(pid) != os.getpid():
            found.append(line)
    return found


def test_the_story_comes_true_and_nothing_is_left(tmp_path):
    demo = start(tmp_path, "--seconds", "1")
    told, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, told
    for line in (
        r"alpha, beta, gamma are up, and each knows the others, \d+ ms after",
        r"\$ bdwhereis Primes .*\n.*http://127\.0\.0\.1:\d+/axis/Primes\?wsdl",
        r"Called it by SOAP: the prime factors of 600851475143 are 71 839 1471 6857",
        r"call +\d+: alpha serves",
        r"alpha said NO\. In \d+ ms the mesh copied Primes to (beta|gamma)",
        r"Twelve more calls",
        r"kill -9 of (beta|gamma)",
        r"40 of 40 were answered by a living host; all knew of the death after \d+\.\d s",
        r"is started again: all know \d+ ms later",
        r"Everything is ended and cleaned up",
    ):
        assert re.search(line, told), f"{line!r} is not in:\n{told}"
    assert os.listdir(tmp_path) == [] and processes_of(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_at_any_time(tmp_path, number):
    demo = start(tmp_path)
    for line in demo.stdout:
        if "Watch it all at" in line:
            page = urllib.request.urlopen(line.split()[-1], timeout=20).read().decode()
            assert all(name in page for name in ("alpha", "beta", "gamma"))
            demo.send_signal(number)
    assert demo.wait(60) == 0
    assert os.listdir(tmp_path) == [] and processes_of(tmp_path) == []


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
