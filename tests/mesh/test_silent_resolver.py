"""A name server that is really silent: a UDP socket that never answers, asked by the C library itself, in a mount namespace."""

import os
import shutil
import socket
import subprocess
import time

import pytest

from tests.hosts import until

SILENT = "127.0.0.77"

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare, for a resolv.conf of its own"
)


@pytest.fixture
def resolver(tmp_path):
    """The words that run a command where names are asked for at the silent socket; and the socket, to see that it was asked."""
    (tmp_path / "resolv.conf").write_text(f"nameserver {SILENT}\noptions timeout:5 attempts:2\n")
    mount = f'mount --bind {tmp_path / "resolv.conf"} /etc/resolv.conf && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((SILENT, 53))
        sock.setblocking(False)
        yield words, sock


def was_asked(sock):
    try:
        return b"silent" in sock.recv(4096)
    except BlockingIOError:
        return False


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["bdwhereis", "Echo"], "http://"),
        (["bdctl", "services"], "Echo"),
        (["bdctl", "status"], "n1 of "),
    ],
    ids=" ".join,
)
def test_a_command_asks_the_next_node_within_its_timeout(mesh, resolver, command, said):
    words, sock = resolver
    [one] = mesh.start(1)
    one.add_service("Echo")
    until(lambda: "Echo" in one.ctl("services"), 10, "it is offered")
    folder = mesh.issue("joe", role="client")
    mine = mesh.hosts[0].command_line(command[0], "--timeout", "2", "--keys", f"{folder}/joe")
    started = time.monotonic()
    done = subprocess.run(
        [*words, *mine, "--node", "silent.example", "--node", one.address, *command[1:]],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0 and said in done.stdout, done.stderr
    assert seconds < 3 and was_asked(sock)


def test_when_all_names_are_silent_it_ends_in_its_time_and_says_so(mesh, resolver):
    words, sock = resolver
    host = mesh.host("n1")
    folder = mesh.issue("joe", role="client")
    mine = host.command_line("bdwhereis", "--timeout", "1", "--keys", f"{folder}/joe", "Echo")
    started = time.monotonic()
    done = subprocess.run(
        [*words, *mine, "--node", "silent.example", "--node", "silent2.example:9"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert time.monotonic() - started < 2 and was_asked(sock)
    assert done.returncode == 4 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("bdwhereis: no node answers: silent.example: no name server said in time where that is; silent2")


@pytest.mark.long
def test_a_node_with_a_silent_name_among_its_hints_serves_hears_and_ends_as_ever(mesh, resolver):
    words, sock = resolver
    [one] = mesh.start(1)
    two = mesh.host("n2", hints=f"silent.example:9001 {one.address} silent2.example:9001", within=words).start()
    two.add_service("Echo", weight=0)
    mesh.wait_known()
    until(lambda: was_asked(sock), 10, "the name was looked up")
    for _ in range(50):
        started = time.monotonic()
        assert two.lookup("Echo")[0] == "ME"
        assert time.monotonic() - started < 1
    one.kill()
    until(lambda: two.status_of("n1") == "dead", 15, "the death is known")
    started = time.monotonic()
    two.end()
    assert time.monotonic() - started < 3
