"""How long a lookup takes: over TLS on an open and on a new connection, and as a whole process, each beside its floor."""

from __future__ import annotations

import os
import sys
import time

from bdserver import client, tls
from bdserver.core.wire import encode
from bdserver.demo.hosts import Host, Mesh
from tests.bench.echo_client import EchoClient, tls_context
from tests.bench.floor import HERE, EchoServer
from tests.bench.pairs import Row, measure, milliseconds

SERVICE = "Echo"
BDWHEREIS = os.path.join(os.path.dirname(os.path.dirname(HERE)), "bin", "bdwhereis")
IN_A_ROW = 50
SECONDS = 5.0
# A hundred new callers a second are many for one node; one at once after the other leaves no time to fork ahead.
PAUSE = 0.01


def rows(mesh: Mesh, host: Host, pairs: int) -> list[Row]:
    """The first four rows of the budgets, and the same against a floor with our own TLS settings."""
    keys = mesh.issue("bench", role="client")
    request = ["WHEREIS", SERVICE, None]
    answer_bytes = len(encode(host.ask(request)))
    opening_bytes = len(encode(["OPEN", {"version": 1, "deadline": SECONDS}]))
    found = []
    for lean in ("", "lean"):
        with EchoServer(answer_bytes, "tls", host.folder, host.name, lean) as server:
            called = _Called(host, keys, server.port, len(encode(request)), opening_bytes, answer_bytes, lean)
            found += [called.open_connection(pairs), called.new_connection(pairs, PAUSE)]
            found += [called.new_connection(pairs, 0.0), called.process(pairs)]
    return [*found[:3], _local_process(host, pairs), *found[3:]]


class _Called:
    """The same conversation with both: our node, and the echo server."""

    def __init__(self, host: Host, keys: str, port: int, request_bytes: int, opening_bytes: int, answer_bytes: int, lean: str):
        self.host, self.keys, self.port, self.lean = host, keys, port, lean
        self.request_bytes, self.opening_bytes, self.answer_bytes = request_bytes, opening_bytes, answer_bytes
        self.credentials = tls.load(keys, "bench")
        self.context = tls_context(keys, "bench", bool(lean))
        self.note = " (floor with our TLS settings)" if lean else ""

    def open_connection(self, pairs: int) -> Row:
        ours, floor = self._dial(), EchoClient(self.context, self.port)
        request = b"x" * self.request_bytes
        try:
            return measure(
                f"WHEREIS on an open connection{self.note}",
                "ms",
                lambda: milliseconds(lambda: _ask(ours), IN_A_ROW),
                lambda: milliseconds(lambda: floor.ask(request, self.answer_bytes), IN_A_ROW),
                pairs,
                None if self.lean else 2.0,
            )
        finally:
            ours.close()
            floor.close()

    def new_connection(self, pairs: int, pause: float) -> Row:
        def ours() -> None:
            with self._dial() as talk:
                _ask(talk)

        request = b"x" * (self.opening_bytes + self.request_bytes)

        def floor() -> None:
            caller = EchoClient(self.context, self.port)
            caller.ask(request, self.answer_bytes)
            caller.close()

        return measure(
            f"WHEREIS, new connection, {f'{1000 * pause:.0f} ms' if pause else 'at once'} after the one before{self.note}",
            "ms",
            lambda: milliseconds(ours, 5, pause),
            lambda: milliseconds(floor, 5, pause),
            pairs,
            None if self.lean else 1.5,
        )

    def process(self, pairs: int) -> Row:
        ours = [BDWHEREIS, "--node", self.host.address, "--keys", f"{self.keys}/bench", SERVICE]
        sizes = [str(self.opening_bytes + self.request_bytes), str(self.answer_bytes)]
        floor = [f"{HERE}/echo_client.py", str(self.port), self.keys, "bench", *sizes, *([self.lean] if self.lean else [])]
        return measure(
            f"bdwhereis over TLS, whole process{self.note}",
            "ms",
            lambda: milliseconds(lambda: _run(ours)),
            lambda: milliseconds(lambda: _run(floor)),
            pairs,
            None if self.lean else 1.3,
        )

    def _dial(self) -> client.Conversation:
        return client.dial(self.host.address, self.credentials, time.monotonic() + SECONDS)


def _ask(talk: client.Conversation) -> None:
    said = talk.ask(["WHEREIS", SERVICE, None], time.monotonic() + SECONDS)
    assert said[0] == "ME", said


def _local_process(host: Host, pairs: int) -> Row:
    ours = [BDWHEREIS, "--config", host.config_path, SERVICE]
    return measure(
        "bdwhereis by the local socket, whole process",
        "ms",
        lambda: milliseconds(lambda: _run(ours)),
        lambda: milliseconds(lambda: _run(["-c", "import socket, json"])),
        pairs,
        2.0,
    )


def _run(arguments: list[str]) -> None:
    """A Python process, its stdout thrown away; starting it costs both sides the same."""
    away = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    pid = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ, file_actions=[away])
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"{arguments} ended with {os.waitstatus_to_exitcode(status)}"
