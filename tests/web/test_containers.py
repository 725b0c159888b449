"""What bdwhereis prints is live: services and replicas under real web servers, and the original's own .jws under Axis."""

import contextlib
import functools
import os
import pwd
import tempfile
from pathlib import Path

import pytest
import zeep

from bdserver.demo.hosts import Mesh, until

from . import containers
from .containers import Apache, Lighttpd

SERVERS = {"apache2": Apache, "lighttpd": Lighttpd}
NUMBER = 600851475143


@pytest.fixture
def folder(public):
    """One that every user can reach."""
    with tempfile.TemporaryDirectory(dir=public) as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def start(folder):
    """Starts servers, and ends them."""
    with contextlib.ExitStack() as stack:

        def start_one(kind):
            server = SERVERS[kind](folder / f"{kind}{len(os.listdir(folder))}").start()
            stack.callback(server.stop)
            return server

        yield start_one


@pytest.fixture
def mesh(folder):
    with Mesh(str(folder / "mesh")) as mesh:
        yield mesh


@pytest.fixture
def node(mesh, prefix):
    """Starts a node: name, server, settings."""
    return functools.partial(containers.node, mesh, prefix)


def whereis(host, name):
    """The URL that bdwhereis prints."""
    done = host.whereis(name)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


def overload(host, name):
    """Ask for it until its one holder is overloaded and another has it; that one's name."""

    def other():
        said = host.lookup(name)[-1]
        return said["node"] if said["phase"] == 2 else None

    return until(other, 30, f"a replica of {name}")


@pytest.mark.parametrize(("first", "second"), [("apache2", "lighttpd"), ("lighttpd", "apache2")])
def test_a_dropped_service_and_its_replica_are_live_at_the_urls_that_bdwhereis_prints(mesh, node, start, first, second):
    here, there = start(first), start(second)
    alpha = node("alpha", here, receiver_threshold=20)
    beta = node("beta", there, receiver_threshold=1000)
    mesh.wait_known()

    containers.drop(alpha, "Primes")
    url = whereis(alpha, "Primes")
    assert url == f"http://127.0.0.1:{here.port}/axis/Primes?wsdl"
    said = zeep.Client(url).service.Factors(number=NUMBER)
    assert (said.factors, said.host) == ("71 839 1471 6857", f"127.0.0.1:{here.port}")

    assert overload(alpha, "Primes") == "beta"
    url = whereis(alpha, "Primes")
    assert url == f"http://127.0.0.1:{there.port}/axis/Primes?wsdl"
    said = zeep.Client(url).service.Factors(number=NUMBER)
    assert (said.factors, said.host) == ("71 839 1471 6857", f"127.0.0.1:{there.port}")

    replica, cert = (os.stat(there.services / name) for name in ("Primes", "Primes.bdcert"))
    assert {pwd.getpwuid(status.st_uid).pw_name for status in (replica, cert)} == {containers.USER}
    assert (replica.st_mode & 0o7777, cert.st_mode & 0o7777) == (0o755, 0o644)
    assert [server.fetch("Primes.bdcert")[0] for server in (here, there)] == [403, 403]
    assert beta.ctl("status")["services"]["Primes"] | {"weight": 0} == {
        "type": "dynamic", "weight": 0, "cost": 5, "healthy": True, "url": url,
    }  # fmt: skip
