"""The examples of docs/PYTHON.md, run as their readers run them: real nodes, and the demo's services in its container."""

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import partial

import pytest

import bdserver
from tests.hosts import free_port, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLES = os.path.join(ROOT, "docs", "examples")
SAMPLES = os.path.join(ROOT, "bdserver", "demo", "services")
NUMBER, FACTORS = "600851475143", "71 839 1471 6857"


@pytest.fixture
def hosts(mesh):
    """Two hosts, both with Primes, each with a container before its services."""
    containers = []
    hosts = []
    for name in ("alpha", "beta"):
        hints = {"hints": hosts[0].address} if hosts else {}
        host = mesh.host(name, axis_port=free_port(), receiver_threshold=1000, **hints)
        line = [sys.executable, "-m", "bdserver.net.container", "--services", host.services]
        line += ["--port", str(host.config["axis_port"])]
        containers.append(subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        assert containers[-1].stdout.readline(), f"the container of {name} did not start"
        for file in ("Primes", "Primes.bdcert"):
            shutil.copy(os.path.join(SAMPLES, file), host.services)
        hosts.append(host.start())
    mesh.wait_known()
    until(lambda: len(hosts[0].ctl("services").get("Primes", ())) == 2, 20, "alpha knows both holders")
    yield hosts
    for container in containers:
        container.terminate()
        container.wait()
        container.stdout.close()


def run(host, example, *arguments):
    environment = os.environ | {"BDSERVER_CONFIG": host.config_path, "PYTHONPATH": ROOT, "NO_PROXY": "*"}
    line = [sys.executable, os.path.join(EXAMPLES, example), *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_plain_fetches_a_service(hosts):
    done = run(hosts[0], "plain.py", "Primes")
    assert done.returncode == 0 and "definitions" in done.stdout and "urn:bdserver:demo:Primes" in done.stdout, done.stderr


@pytest.mark.parametrize("example", ["plain.py", "with_requests.py", "zeep_transport.py"])
def test_an_example_without_its_arguments_says_which(hosts, example):
    done = run(hosts[0], example)
    assert done.returncode == 1 and done.stderr.startswith(f"usage: {example} ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("example", [("plain.py", "Nothing"), ("with_requests.py", "Nothing", "1")])
def test_what_nobody_has_is_one_line_and_bdwhereis_status(hosts, example):
    done = run(hosts[0], *example)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{example[0]}: Nothing: nobody in the mesh has it\n"


def test_with_requests_spreads_calls_over_the_hosts(hosts):
    done = run(hosts[0], "with_requests.py", "Primes", "12")
    assert done.returncode == 0, done.stderr
    calls = dict(line.split(": ") for line in done.stdout.splitlines())
    assert calls.keys() <= {"alpha", "beta"} and sum(map(int, calls.values())) == 12


def test_zeep_calls_by_soap(hosts):
    done = run(hosts[0], "zeep_transport.py", NUMBER)
    assert done.returncode == 0 and done.stdout.startswith(f"{FACTORS}, by 127.0.0.1:"), done.stderr


def test_zeep_goes_where_the_mesh_says_at_each_call(hosts, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    spec = importlib.util.spec_from_file_location("zeep_transport", os.path.join(EXAMPLES, "zeep_transport.py"))
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    alpha, beta = hosts
    with bdserver.Mesh(config=alpha.config_path) as mesh:

        def is_served_by(host):
            return mesh.whereis("Primes").node == host.name

        client = example.client(mesh, "Primes")
        for drained, serving in ((alpha, beta), (beta, alpha)):
            drained.ctl("drain")
            until(partial(is_served_by, serving), 20, f"{drained.name} drains")
            found = client.service.Factors(number=int(NUMBER))
            assert (found.factors, found.host) == (FACTORS, f"127.0.0.1:{serving.config['axis_port']}")
            drained.ctl("drain", "--off")
            until(lambda: not any(node["draining"] for node in alpha.ctl("nodes")), 20, "nobody drains")
