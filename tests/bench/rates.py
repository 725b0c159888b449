"""How many requests a second on an open local socket, and how many connections, a child each, a second."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from bdserver.core.wire import Decoder, encode
from bdserver.net import dialling
from tests.bench.floor import EchoServer
from tests.bench.lookups import SERVICE
from tests.bench.pairs import Row, measure
from tests.hosts import Host

REQUESTS = 200
# Connections that are open at once: enough to keep the listener forking, below what a node takes by default.
BURST = 32


def rows(host: Host, pairs: int) -> list[Row]:
    """Both rates, beside a forking echo server on a Unix socket."""
    request = ["WHEREIS", SERVICE, None]
    answer_bytes = len(encode(host.ask(request)))
    path = os.path.join(host.folder, "echo.sock")
    with EchoServer(answer_bytes, "unix", path):
        return [_requests(host, path, request, pairs), _children(host, path, pairs)]


def _per_second(action: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    action()
    return times / (time.perf_counter() - started)


def _requests(host: Host, path: str, request: list, pairs: int) -> Row:
    deadline = time.monotonic() + 600
    bare = encode(request)
    with dialling.dial_local(host.socket, deadline) as talk, socket.socket(socket.AF_UNIX) as floor:
        floor.connect(path)

        def ours() -> None:
            for _ in range(REQUESTS):
                assert talk.ask(request, deadline).host == "ME"

        def theirs() -> None:
            for _ in range(REQUESTS):
                floor.sendall(bare)
                assert floor.recv(65536)

        what = "WHEREIS requests on an open local socket"
        return measure(what, "per s", lambda: _per_second(ours, REQUESTS), lambda: _per_second(theirs, REQUESTS), pairs)


def _children(host: Host, path: str, pairs: int) -> Row:
    bare = encode(["PING"])

    def ours() -> None:
        def is_pong(data: bytes) -> bool:
            decoder = Decoder()
            decoder.feed(data)
            return decoder.next_message()[0] == "PONG"  # type: ignore[index]

        _burst(host.socket, bare, is_pong)

    def theirs() -> None:
        _burst(path, bare, bool)

    what = f"connections to the local socket, a child each, {BURST} at once"
    return measure(what, "per s", lambda: _per_second(ours, BURST), lambda: _per_second(theirs, BURST), pairs)


def _burst(path: str, request: bytes, is_right: Callable[[bytes], bool]) -> None:
    socks = []
    for _ in range(BURST):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        sock.sendall(request)
        socks.append(sock)
    for sock in socks:
        assert is_right(sock.recv(65536))
        sock.close()
