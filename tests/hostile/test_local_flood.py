"""An account without rights floods the local socket of a real node: others' look-ups go on, and its mesh does not miss it."""

import contextlib
import os
import signal
import socket
import time

import pytest

from bdserver.core.wire import encode
from bdserver.net import dialling, keys
from tests.hosts import Mesh, until
from tests.unit.forks import forked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")

NOBODY = 65534
ATTACKERS = 2  # processes, beside which all else has two cores
HELD_MAX = 600  # more than any node has children
ROUNDS = 12  # of look-ups, at each way in
SECONDS = 20.0  # that a look-up may take: behind a full queue it waits for its turn


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """Two nodes that watch each other, and a client's keys."""
    with Mesh(str(tmp_path_factory.mktemp("local"))) as mesh:
        mesh.start(2, probe_interval=0.3, receiver_threshold=1e9)
        mesh.hosts[0].add_service("Echo")
        mesh.wait_known()
        mesh.issue("a-client", role="client", folder=f"{mesh.folder}/a-client")
        yield mesh


# --- what the account does, for ever: `path` leads to the socket from where it stands -----------------------------------


def hold(path):
    """Connect, and say nothing."""
    _crowd(path, b"")


def ask_by_half(path):
    """Connect, and say half of a request."""
    _crowd(path, encode(["STATUS"])[:-1])


def _crowd(path, word):
    crowd = []
    while True:
        crowd.append(_connected(path))
        with contextlib.suppress(OSError):
            crowd[-1].sendall(word)
        if len(crowd) > HELD_MAX:
            crowd.pop(0).close()


def come_and_go(path):
    """Connect and hang up, as fast as may be."""
    while True:
        _connected(path).close()


def ask_and_go(path):
    """Ask for much, and hang up."""
    while True:
        with _connected(path) as sock, contextlib.suppress(OSError):
            sock.sendall(encode(["STATUS"]) * 20)


def fill_the_queue(path):
    """Never wait: whoever may not come tries again at once."""
    while True:
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.connect(path)


def _connected(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    with contextlib.suppress(OSError):
        sock.connect(path)
    return sock


@contextlib.contextmanager
def flooded(host, act):
    """Meanwhile that account does it."""

    def live():
        folder, name = os.path.split(host.socket)
        os.chdir(folder)  # the way there is a test's, which is closed to others
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        act(name)

    pids = [forked(live) for _ in range(ATTACKERS)]
    try:
        yield
        assert all(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in pids), "it was at it"
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.mark.parametrize("act", [hold, ask_by_half, come_and_go, ask_and_go, fill_the_queue])
def test_look_ups_by_tls_and_root_s_go_on_and_the_node_is_not_taken_for_hung(mesh, act):
    target, other = mesh.hosts
    client = keys.load(f"{mesh.folder}/a-client", "a-client")
    pids = target.process.pid, target.discoverer_pid()
    said_before = {host: len(host.log) for host in mesh.hosts}
    with flooded(target, act):
        for _ in range(ROUNDS):
            assert target.lookup("Echo", seconds=SECONDS)[0] == "ME", "root's"
            deadline = time.monotonic() + SECONDS
            with dialling.dial(target.address, client, deadline) as talk:
                assert talk.ask(["WHEREIS", "Echo", None], deadline).host == "ME", "by TLS"
            # On a machine that has no processor left a question may be late for one look-up, and so for the next ones of a second.
            until(
                lambda: other.lookup("Echo", seconds=SECONDS)[0] != "CANTFIND", SECONDS, "the other node's, which asks this one"
            )
            time.sleep(0.2)
    assert (target.process.pid, target.discoverer_pid()) == pids, "nobody died"
    said = "".join(host.log[before:] for host, before in said_before.items())
    assert "is dead" not in said and "listener does not answer" not in said and "Traceback" not in said, said[-3000:]
    until(lambda: other.status_of("n1") == target.status_of("n2") == "alive", 20, "a suspicion, if there was one, is refuted")
    until(lambda: len(target.children()) < 20, 20, "what it held is let go")
