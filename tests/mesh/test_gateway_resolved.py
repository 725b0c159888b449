"""The recipe of docs/GATEWAY.md for systemd-resolved, by a real one.

Installing it would make it the resolver of this machine: so where it is not, its Debian package is fetched and unpacked into the
test's folder. It runs in a mount namespace with a /run of its own, and speaks to loopback alone.
"""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.gateways import SECONDS, running
from tests.hosts import until
from tests.mesh.test_gateway import hosts  # noqa: F401 (a fixture)

ROOT = pathlib.Path(__file__).parents[2]
INSTALLED = pathlib.Path("/lib/systemd/systemd-resolved")
STUB = "127.0.0.53"
USER = "systemd-resolve"
# No more than loopback: else it greets its neighbours, and asks a public server for what the gateway refuses.
QUIET = "[Resolve]\nLLMNR=no\nMulticastDNS=no\nFallbackDNS=\n"
START = """
mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/resolved.conf.d || exit 9
for file in passwd group; do mount --bind {folder}/$file /etc/$file || exit 9; done
cp {folder}/*.conf /run/systemd/resolved.conf.d || exit 9
SYSTEMD_LOG_TARGET=console exec {program}
"""


def recipe():
    """The file that the document tells to write."""
    text = (ROOT / "docs" / "GATEWAY.md").read_text()
    block = re.search(r"resolved\.conf\.d/bdserver\.conf[^\n]*\n\n((?:    [^\n]*\n)+)", text)[1]
    return re.sub("^    ", "", block, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A systemd-resolved that can be run."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, for a mount namespace")
    with contextlib.suppress(OSError), socket.create_connection((STUB, 53), 1):
        pytest.skip("this machine's own resolver is a systemd-resolved")
    if INSTALLED.exists():
        return INSTALLED
    if shutil.which("apt-get") is None:
        pytest.skip("needs systemd-resolved")
    folder = tmp_path_factory.mktemp("package")
    line = ["apt-get", "--quiet=2", "--option", "APT::Sandbox::User=root", "download", "systemd-resolved"]
    fetched = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    packages = list(folder.glob("*.deb"))
    if fetched.returncode or not packages:
        pytest.skip(f"systemd-resolved can't be fetched: {fetched.stderr.strip()[-200:]}")
    subprocess.run(["dpkg", "-x", packages[0], folder], check=True)
    return folder / "lib" / "systemd" / "systemd-resolved"


def accounts(folder):
    """/etc/passwd and /etc/group as they are, with the account to which it drops its rights."""
    for name, more in (("passwd", f"{USER}:x:64053:64053::/:/usr/sbin/nologin\n"), ("group", f"{USER}:x:64053:\n")):
        text = pathlib.Path("/etc", name).read_text()
        (folder / name).write_text(text if f"{USER}:" in text else text + more)


@contextlib.contextmanager
def resolved(program, config, folder):
    """One that runs; its process."""
    accounts(folder)
    (folder / "bdserver.conf").write_text(config)
    (folder / "quiet.conf").write_text(QUIET)
    log = folder / "resolved.log"
    script = START.format(folder=folder, program=program)
    with open(log, "wb") as file:
        process = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=file, stderr=file)
    try:

        def is_up():
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError), socket.create_connection((STUB, 53), 1):
                return True

        until(is_up, SECONDS, "systemd-resolved answers")
        yield process
        assert "Unknown" not in log.read_text() and "Failed to parse" not in log.read_text(), log.read_text()
    finally:
        process.terminate()
        process.wait(SECONDS)


def ask(name, kind="A"):
    """As a program of this host would, whose /etc/resolv.conf names the stub."""
    return dns.query.udp(dns.message.make_query(name, kind), STUB, timeout=SECONDS)


def getent(process, *words):
    """What glibc finds in the namespace of the resolver, by its resolv.conf."""
    script = 'mount --bind /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf && exec getent "$@"'
    line = ["nsenter", f"--target={process.pid}", "--mount", "unshare", "--mount", "sh", "-c", script, "sh", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_systemd_resolved_hands_on_each_question_and_keeps_nothing(hosts, program, tmp_path):  # noqa: F811
    alpha, beta, gamma = hosts
    with running(alpha) as gateway:
        config = recipe()
        assert ":9053\n" in config
        with resolved(program, config.replace(":9053\n", f":{gateway.dns}\n"), tmp_path) as process:
            weight = lambda: beta.ctl("status")["weight"] + gamma.ctl("status")["weight"]  # noqa: E731
            before = weight()
            ports = [ask("Echo.bd.internal", "SRV").answer[0][0].port for _ in range(20)]
            assert set(ports) <= {8001, 8002}
            assert weight() - before >= 15, "each question is a call: nothing is kept (hits weigh less after ten seconds)"
            assert ask("echo.bd.internal").answer[0][0].to_text() == "127.0.0.1"
            assert ask("nothing.bd.internal").rcode() == dns.rcode.NXDOMAIN
            assert ask("Echo.bd.internal", "AAAA").rcode() == dns.rcode.NOERROR
            assert getent(process, "hosts", "echo.bd.internal").stdout.startswith("127.0.0.1")
            assert getent(process, "hosts", "nothing.bd.internal").returncode == 2
            victim, other = (beta, 8002) if ports[-1] == 8001 else (gamma, 8001)
            victim.kill()
            assert {ask("Echo.bd.internal", "SRV").answer[0][0].port for _ in range(100)} == {other}, "not even for a second"
