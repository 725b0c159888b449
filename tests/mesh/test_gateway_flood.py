"""bdgateway under a flood: what is bent is answered or dropped, and no more reaches the node than the settings allow."""

import contextlib
import random
import socket
import statistics
import subprocess
import sys
import time

import dns.exception
import dns.message
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateways import running
from tests.hosts import until

PACKETS = 10_000
FLOOD_SECONDS = 5.0
# Sends queries for other names all the time, as fast as one processor can.
FLOOD = """
import socket, struct, sys, time
sock = socket.socket(type=socket.SOCK_DGRAM); sock.connect(("127.0.0.1", int(sys.argv[1])))
number, until = 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    number += 1
    label = b"x%d" % number
    name = bytes([len(label)]) + label + b"\\2bd\\10internal\\0"
    try:
        sock.send(struct.pack("!HHHHHH", number & 65535, 256, 1, 0, 0, 0) + name + b"\\0\\1\\0\\1")
    except OSError:
        pass
print(number)
"""


def value(metrics, name, **labels):
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.fixture
def host(mesh):
    alpha, beta = mesh.start(2, receiver_threshold=1e9)
    beta.add_service("Echo")
    until(lambda: "Echo" in alpha.ctl("services"), 20, "alpha knows it")
    return alpha


def answers(gateway):
    """What a resolver does: ask again when nothing comes."""
    with contextlib.suppress(dns.exception.Timeout):
        return gateway.ask("Echo.bd.internal", seconds=1.0).answer


def latencies(host, count):
    """Of look-ups by the node's own socket, in milliseconds."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        assert host.ask(["WHEREIS", "Echo", None])[3]["node"] == "n2"
        found.append(1000 * (time.perf_counter() - began))
    return found


def test_ten_thousand_bent_packets_harm_nothing(host):
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with running(host, queries_per_second=100_000) as gateway, socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", gateway.dns))
        sock.setblocking(False)
        for _ in range(PACKETS):
            data = bytearray(
                dns.message.make_query(
                    rng.choice(["Echo.bd.internal", "bd.internal"]), rng.choice(["A", "SRV", "MX"])
                ).to_wire()
            )
            for _ in range(rng.randrange(8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            sock.send(data[: rng.choice([len(data), rng.randrange(len(data) + 1)])] + rng.randbytes(rng.choice([0, 0, 9])))
            try:
                while sock.recv(4096):
                    pass
            except BlockingIOError:
                pass
        until(lambda: answers(gateway), 20, "it answers as before")
        assert "Traceback" not in gateway.log, gateway.log


def test_a_flood_is_dropped_before_it_reaches_the_node(host):
    with running(host, queries_per_second=200) as gateway:
        before = latencies(host, 200)
        began = time.monotonic()
        flood = subprocess.Popen([sys.executable, "-c", FLOOD, str(gateway.dns), str(FLOOD_SECONDS)], stdout=subprocess.PIPE)
        during = []
        while flood.poll() is None:
            during += latencies(host, 10)
        sent = int(flood.stdout.read())
        flood.stdout.close()
        metrics = gateway.get("/metrics")[2].decode()  # once: what waits in its socket's queue is counted still
        seconds = time.monotonic() - began
        asked = value(metrics, "bdserver_gateway_lookups_total", face="dns")
        dropped = value(metrics, "bdserver_gateway_answers_total", outcome="dropped")
        refused = value(metrics, "bdserver_gateway_refused_total", face="dns", limit="queries_per_second")
        print(
            f"{sent} queries sent, {dropped:.0f} dropped, {asked:.0f} asked of the node in {seconds:.1f} s; look-ups beside it:"
        )
        print(f"median {statistics.median(before):.2f} ms before, {statistics.median(during):.2f} ms during")
        assert sent > 10 * asked and asked <= 200 * (seconds + 1) and dropped > asked
        assert refused == dropped, "and that is told, by the limit's name"
        until(lambda: answers(gateway), 20, "it answers as before")
        assert "Traceback" not in gateway.log, gateway.log
