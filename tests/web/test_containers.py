"""What bdwhereis prints is live: services and replicas under real web servers, and the original's own .jws under Axis."""

import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import zeep

from tests.hosts import Mesh, until

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
    said = beta.ctl("status")["services"]["Primes"]
    wanted = {"type": "dynamic", "cost": 5, "healthy": True, "checked": True, "url": url, "original": "alpha", "living": 2}
    assert said | wanted == said


SHOWS_ITSELF = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nI ran as %s' \"$SCRIPT_NAME\"\n"
PROGRAMS = ("Echo", ".Echo.new.12", "Wiki/index.cgi", "Wiki/.hidden", "Wiki/.folder/index.cgi", ".Wiki.moving.12/index.cgi")
SERVED = {
    "Echo": "/axis/Echo", "Echo/more?wsdl": "/axis/Echo",
    "Wiki/": "/axis/Wiki/index.cgi", "Wiki": "/axis/Wiki/index.cgi", "Wiki?wsdl": "/axis/Wiki/index.cgi",
}  # fmt: skip
NEVER_SERVED = [
    "", "Nothing", "Plain", "Wiki/data.txt", "..%2f..%2foutside", "%2e%2e/%2e%2e/outside",
    "Echo.bdcert", "Echo.bdcert?wsdl", "Echo.bdcert/", "Echo.bdcert/more", "/Echo.bdcert", "Echo%2ebdcert", "Wiki/../Echo.bdcert",
    "Echo.bdcert%00", "Wiki.bdcert", ".Echo.new.12", "%2eEcho.new.12", "/.Echo.new.12", ".Echo.new.12/more", "Wiki/.hidden",
    ".Wiki.moving.12", ".Wiki.moving.12/", ".Wiki.moving.12/index.cgi", "Wiki/.folder/", "Wiki/.folder/index.cgi",
]  # fmt: skip


@pytest.mark.parametrize("kind", SERVERS)
def test_services_run_and_what_lies_beside_them_is_never_served(folder, start, kind):
    server = start(kind)
    for name in PROGRAMS:
        path = server.services / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(SHOWS_ITSELF)
        path.chmod(0o755)
    for name in ("Echo.bdcert", "Wiki.bdcert", "Plain", "Wiki/data.txt", "../../outside"):
        (server.services / name).write_text("a secret")

    assert {path: server.fetch(path) for path in SERVED} == {path: (200, f"I ran as {name}") for path, name in SERVED.items()}
    for path in NEVER_SERVED:
        status, body = server.fetch(path)
        assert status >= 400 and "I ran" not in body and "a secret" not in body, (path, status, body)
        if ".bdcert" in path and "%00" not in path:
            assert status == 403, path


@pytest.mark.skipif(shutil.which("javac") is None, reason="needs Debian's default-jdk-headless")
@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("int one() { return 1; }", 0, ""),
        ("void note(java.util.List list) { list.add(1); }", 0, ""),  # an unchecked call: javac has a note on it
        ("int", 1, "identifier"),
    ],
)
def test_to_axis_a_note_is_no_failure_and_a_failure_is_told(folder, body, status, said):
    (folder / "Service.java").write_text(f"public class Service {{ {body} }}\n")
    line = ["sh", containers.ETC / "bdserver-axis-jikes", "+E", "-nowarn", "-d", folder, folder / "Service.java"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status and done.stdout == "" and said in done.stderr and bool(said) == bool(done.stderr), done
    assert (folder / "Service.class").exists() == (status == 0)
