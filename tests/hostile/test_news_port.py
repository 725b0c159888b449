"""Attacks on the port for news of a real node: look-ups are answered meanwhile, and its mesh does not miss it."""

import contextlib
import itertools
import os
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bdserver.core.wire import encode
from bdserver.errors import BadRequest, BDError
from bdserver.net import dialling, keys, tls
from bdserver.net.conversation import Conversation
from bdserver.processes.callers import LINKS_MAX, STRANGERS_MAX
from tests.hostile import attacks
from tests.hosts import Mesh, until

CROWD = 2000
UPDATES = 400_000  # of keys, which take OpenSSL more than two seconds
MEMORY_MIB = 96.0  # of the discoverer, whatever is done to it
SECONDS = 4.0  # of each attack: long enough for many probes, and for the suspicion that would follow the first of them
ROUND_TRIP = 1.0


NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """Two nodes that watch each other, and keys of an attacker in each role."""
    with Mesh(str(tmp_path_factory.mktemp("news"))) as mesh:
        mesh.start(2, probe_interval=0.3, receiver_threshold=1e9)
        mesh.hosts[0].add_service("Echo")
        mesh.wait_known()
        mesh.issue("another", role="node", folder=f"{mesh.folder}/another")
        mesh.issue("a-client", role="client", folder=f"{mesh.folder}/a-client")
        yield mesh


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Keys of a node of another mesh."""
    other = Mesh(str(tmp_path_factory.mktemp("other")), "strangers")
    return keys.load(other.issue("a-node", folder=f"{other.folder}/keys"), "a-node")


@pytest.fixture(autouse=True)
def newcomer(mesh):
    """Each test attacks as a node of its own: whoever has made others work for its share is not heard for a minute."""
    name = f"node-{next(NUMBERS)}"
    mesh.issue(name, role="node", folder=f"{mesh.folder}/{name}")
    mesh.attacker = name


@pytest.fixture(scope="module", autouse=True)
def many_descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], CROWD + 1000), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def credentials(mesh, role):
    name = mesh.attacker if role == "node" else f"a-{role}"
    return keys.load(f"{mesh.folder}/{name}", name)


def memory_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


@pytest.fixture
def unharmed(mesh):
    """A function that watches for some seconds of an attack, and then whether it left anything."""
    target, other = mesh.hosts
    client = credentials(mesh, "client")
    said_before = {host: len(host.log) for host in mesh.hosts}
    pid = target.discoverer_pid()

    def watch(seconds=SECONDS, step=lambda: None):
        until_then = time.monotonic() + seconds
        while time.monotonic() < until_then:
            step()
            began = time.monotonic()
            assert target.lookup("Echo")[0] == "ME" and time.monotonic() - began < ROUND_TRIP, "over the local socket"
            began = time.monotonic()
            with dialling.dial(target.address, client, began + 10) as talk:
                assert talk.ask(["WHEREIS", "Echo", None], began + 10).host == "ME"
            assert time.monotonic() - began < ROUND_TRIP, "over TLS"
            assert memory_mib(pid) < MEMORY_MIB
            time.sleep(0.05)

    yield watch
    assert target.discoverer_pid() == pid, "it died"
    until(lambda: other.status_of("n1") == target.status_of("n2") == "alive", 20, "a suspicion, if there was one, is refuted")
    said = "".join(host.log[before:] for host, before in said_before.items())
    assert "is dead" not in said and "Traceback" not in said and "listener does not answer" not in said, said[-3000:]
    deadline = time.monotonic() + 10
    with dialling.dial(target.gossip_address, credentials(mesh, "node"), deadline) as talk:
        talk.ask(["PING"], deadline)


def raw(mesh):
    return attacks.raw(mesh.hosts[0].gossip_address)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_two_thousand_silent_connections(mesh, unharmed):
    pid = mesh.hosts[0].discoverer_pid()
    before = descriptors(pid)
    with contextlib.ExitStack() as crowd:

        def come():
            for _ in range(CROWD):
                with contextlib.suppress(OSError):
                    crowd.enter_context(raw(mesh))

        coming = threading.Thread(target=come)
        coming.start()
        unharmed(step=lambda: descriptors(pid) <= before + STRANGERS_MAX + 20 or pytest.fail("more than may be"))
        deadline = time.monotonic() + 20
        with dialling.dial(mesh.hosts[0].gossip_address, credentials(mesh, "node"), deadline) as talk:
            talk.ask(["PING"], deadline)  # a node gets through all the same
        coming.join(60)
        assert not coming.is_alive()
    until(lambda: descriptors(pid) <= before + 5, 30, "they are all gone")


@pytest.mark.parametrize("who", ["client", "stranger", "nobody"])
def test_those_who_are_no_nodes_of_this_mesh(mesh, unharmed, stranger, who):
    def knock():
        for _ in range(20):
            with contextlib.suppress(BDError, OSError):
                deadline = time.monotonic() + 10
                if who == "nobody":
                    import ssl

                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                    with raw(mesh) as sock, context.wrap_socket(sock) as talk:
                        talk.sendall(encode(["PING"]))
                        assert b"PONG" not in talk.recv(100)
                else:
                    credential = stranger if who == "stranger" else credentials(mesh, "client")
                    with dialling.dial(mesh.hosts[0].gossip_address, credential, deadline) as talk:
                        talk.ask(["PING"], deadline)
                        pytest.fail("it was answered")

    unharmed(3.0, knock)


def node_stream(mesh):
    return attacks.stream(mesh.hosts[0].gossip_address, credentials(mesh, "node"))


def is_ended(stream, seconds=20.0):
    with contextlib.suppress(BDError):
        while stream.recv(65536, time.monotonic() + seconds):
            pass
    return True


def test_one_byte_a_moment_before_and_after_the_handshake(mesh, unharmed):
    drips = [raw(mesh) for _ in range(20)]
    streams = [node_stream(mesh) for _ in range(5)]
    frame = encode(["SYNCHRONIZE", {"digest": os.urandom(2000).hex()}])
    sent = [0]

    def drip():
        for sock in drips:
            with contextlib.suppress(OSError):
                sock.sendall(attacks.HELLO[sent[0] : sent[0] + 1])
        for stream in streams:
            with contextlib.suppress(BDError):
                stream.send(frame[sent[0] : sent[0] + 1], time.monotonic() + 5)
        sent[0] += 1

    unharmed(step=drip)
    began = time.monotonic()
    assert all(is_ended(stream) for stream in streams) and time.monotonic() - began < 10
    for each in (*drips, *streams):
        each.close()


def test_half_records_and_resets(mesh, unharmed):
    def reset():
        for data in attacks.NO_HELLO:
            sock = raw(mesh)
            sock.sendall(data)
            attacks.reset(sock)

    unharmed(3.0, reset)


def test_garbage_in_frames_of_a_node(mesh, unharmed):
    garbage = itertools.cycle(attacks.GARBAGE)

    def send():
        stream = node_stream(mesh)
        stream.send(next(garbage), time.monotonic() + 5)
        stream.close()

    unharmed(SECONDS, send)


def test_ten_thousand_requests_whose_answers_nobody_reads(mesh, unharmed):
    stream = node_stream(mesh)
    sent = [0]

    def ask():
        with contextlib.suppress(BDError):
            for _ in range(20):
                stream.send(encode(["PING"]) * 100, time.monotonic() + 0.2)
                sent[0] += 100

    unharmed(SECONDS, ask)
    assert sent[0] >= 10_000
    stream.close()


@pytest.mark.parametrize("count", [1, LINKS_MAX])
def test_messages_of_a_kilobyte_that_are_a_megabyte(mesh, unharmed, count):
    """Another node has a turn of the loop between two of them, on however many connections they come; and whoever sends them has
    its share of a minute, and no more."""
    bombs, streams = attacks.BOMB * 20, [node_stream(mesh) for _ in range(count)]
    other = attacks.stream(mesh.hosts[0].gossip_address, keys.load(f"{mesh.folder}/another", "another"))
    ask = Conversation(other, "n1").ask

    def send():
        for stream in streams:
            with contextlib.suppress(BDError):
                stream.send(bombs, time.monotonic() + 0.1)
        began = time.monotonic()
        ask(["PING"], began + 10)
        assert time.monotonic() - began < ROUND_TRIP, "on the port for news"

    unharmed(SECONDS, send)
    for each in (*streams, other):
        each.close()


def test_records_of_tls_that_bring_nothing(mesh, unharmed):
    """Nor do they keep the loop for as long as there are any."""
    attacker = credentials(mesh, "node")
    secret_of, sock = attacks.secret_kept(attacker.context), raw(mesh)
    with socket.socket(fileno=os.dup(sock.fileno())) as bare:
        stream = tls.connect(sock, attacker, mesh.hosts[0].gossip_address, time.monotonic() + attacks.SECONDS)
        stream.send(b"", time.monotonic() + 10)
        updates = attacks.key_updates(secret_of("CLIENT"), UPDATES)
        bare.settimeout(60)
        with ThreadPoolExecutor() as pool:
            sending = pool.submit(bare.sendall, updates)
            unharmed()
            stream.break_off()
            bare.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                sending.result()


def rows(count, length):
    return {f"{number:0{length}}": [2**53, 2**53, 3] for number in range(count)}


@pytest.mark.parametrize(
    "said",
    [
        {"of": list(range(32)), "versions": rows(19_000, 60)},
        {"of": [0], "versions": {"x" * 1_000_000: [1, 1, 1]}},
        {"of": [0] * 99_000, "versions": {}},
        {"wanted": list(rows(12_000, 60)), "unmet": list(rows(12_000, 60))},
        {"wanted": ["n1"] * 90_000},
        {"unknown": ["x"] * 90_000},
        {"until": "x" * 1_000_000},
    ],
    ids=["versions", "a version", "of", "wanted and unmet", "one wanted", "unknown", "until"],
)
def test_lists_that_are_long_by_their_bytes_are_refused_unread(mesh, unharmed, said):
    request, memory = ["SYNCHRONIZE", said], memory_mib(mesh.hosts[0].discoverer_pid())
    stream = Conversation(node_stream(mesh), "n1")

    def send():
        for _ in range(5):
            with pytest.raises(BadRequest, match="has a wrong shape"):
                stream.ask(request, time.monotonic() + 10)

    unharmed(1.0, send)
    stream.close()
    assert memory_mib(mesh.hosts[0].discoverer_pid()) < memory + 16


def test_ten_thousand_large_exchanges_whose_answers_nobody_reads(mesh, unharmed):
    record = {"said": '{"name": "n1", "address": "127.0.0.1:1", "version": [1, 1]}'}
    request = encode(["SYNCHRONIZE", {"records": [record] * 500}])
    stream = node_stream(mesh)

    def ask():
        with contextlib.suppress(BDError):
            for _ in range(20):
                stream.send(request, time.monotonic() + 0.2)

    unharmed(SECONDS, ask)
    stream.close()
