"""How long a look-up by DNS and by HTTP takes, beside the same libraries that ask nobody, and beside a bdwhereis."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Callable

import dns.message

from tests.bench.commands import BDWHEREIS
from tests.bench.floor import HERE
from tests.bench.lookups import SERVICE
from tests.bench.pairs import Row, measure, milliseconds
from tests.gateways import running
from tests.hosts import Host, free_port

IN_A_ROW = 20


def _dns(port: int) -> Callable[[], None]:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", port))
    sock.settimeout(20)

    def ask() -> None:
        sock.send(dns.message.make_query(f"{SERVICE}.bd.internal", "A").to_wire())
        assert sock.recv(4096)[3] & 15 == 0

    return ask


def _http(port: int) -> Callable[[], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask() -> None:
        connection.request("GET", f"/v1/whereis/{SERVICE}")
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read()

    return ask


def rows(host: Host, pairs: int) -> list[Row]:
    """DNS and HTTP."""
    ports = free_port(), free_port()
    bare = subprocess.Popen(
        [sys.executable, os.path.join(HERE, "bare_gateway.py"), *map(str, ports)], stdout=subprocess.PIPE, text=True
    )
    line = [sys.executable, "-S", BDWHEREIS, "--config", host.config_path, SERVICE]
    try:
        assert bare.stdout is not None and bare.stdout.readline() == "ready\n"
        with running(host, queries_per_second=100_000) as gateway:

            def process() -> float:
                return milliseconds(lambda: subprocess.run(line, check=True, stdout=subprocess.DEVNULL))

            found = []
            for name, ours, floor in (
                ("DNS", _dns(gateway.dns), _dns(ports[0])),
                ("HTTP", _http(gateway.http), _http(ports[1])),
            ):
                in_a_row = [lambda each=each: milliseconds(each, IN_A_ROW) for each in (ours, floor)]
                found.append(measure(f"a look-up by {name}, beside a bare echo of its library", "ms", *in_a_row, pairs))
                found.append(measure(f"a look-up by {name}, beside bdwhereis as a process", "ms", in_a_row[0], process, pairs))
            return found
    finally:
        bare.terminate()
        bare.wait()
        if bare.stdout is not None:
            bare.stdout.close()
