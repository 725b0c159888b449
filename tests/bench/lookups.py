"""How long a lookup takes over TLS, on an open and on a new connection, each beside its floor. Whole processes are in commands.

A bare caller asks both, with the same bytes: what differs is the node and its floor. What our own client
library costs more is a row without a budget."""

from __future__ import annotations

import time
from collections.abc import Callable

from bdserver.core.wire import encode
from bdserver.net import dialling
from bdserver.net.conversation import Conversation
from bdserver.net.keys import load
from tests.bench.echo_client import FRAME_HEADER_BYTES, BareCaller, tls_context
from tests.bench.floor import EchoServer
from tests.bench.pairs import Row, measure, milliseconds
from tests.hosts import Host, Mesh

SERVICE = "Echo"
IN_A_ROW = 50
SECONDS = 5.0
# A hundred new callers a second are many for one node; one at once after the other leaves no time to fork ahead.
PAUSE = 0.01


def rows(mesh: Mesh, host: Host, pairs: int) -> list[Row]:
    """The first rows of the budgets, and the same against a floor with our own TLS settings."""
    keys = mesh.issue("bench", role="client")
    request = ["WHEREIS", SERVICE, None]
    opening, answer_bytes = encode(["OPEN", {"version": 1, "deadline": SECONDS}]), len(encode(host.ask(request)))
    found = []
    for lean in ("", "lean"):
        with EchoServer(answer_bytes, "tls", host.folder, host.name, lean) as server:
            called = _Called(host, keys, server.port, opening, encode(request), lean)
            found += [called.open_connection(pairs), called.new_connection(pairs, PAUSE)]
            found += [called.new_connection(pairs, 0.0)]
            found += [] if lean else [called.open_library(pairs), called.new_library(pairs)]
    return found


class _Called:
    """The same conversation with both: our node, and the echo server."""

    def __init__(self, host: Host, keys: str, port: int, opening: bytes, request: bytes, lean: str):
        self.host, self.keys, self.floor_port, self.lean = host, keys, port, lean
        self.opening, self.request = opening, request
        self.credentials = load(keys, "bench")
        self.context = tls_context(keys, "bench", bool(lean))
        self.note = " (floor with our TLS settings)" if lean else ""

    def open_connection(self, pairs: int) -> Row:
        ours, floor = BareCaller(self.context, self.host.port), BareCaller(self.context, self.floor_port)
        ours.ask(self.opening + self.request)
        return self._on_open(f"WHEREIS on an open connection{self.note}", pairs, lambda: self._found(ours), floor, ours.close,
                             None if self.lean else 2.5)  # fmt: skip

    def open_library(self, pairs: int) -> Row:
        ours, floor = self._dial(), BareCaller(self.context, self.floor_port)
        what = "WHEREIS on an open connection, our client library against the bare caller"
        return self._on_open(what, pairs, lambda: _ask(ours), floor, ours.close, None)

    def _on_open(
        self,
        what: str,
        pairs: int,
        ask: Callable[[], None],
        floor: BareCaller,
        hang_up: Callable[[], None],
        budget: float | None,
    ) -> Row:
        try:
            return measure(
                what,
                "ms",
                lambda: milliseconds(ask, IN_A_ROW),
                lambda: milliseconds(lambda: floor.ask(self.request), IN_A_ROW),
                pairs,
                budget,
            )
        finally:
            hang_up()
            floor.close()

    def new_connection(self, pairs: int, pause: float) -> Row:
        def ours() -> None:
            caller = BareCaller(self.context, self.host.port)
            self._found(caller, self.opening)
            caller.close()

        when = f"{1000 * pause:.0f} ms" if pause else "at once"
        what = f"WHEREIS, new connection, {when} after the one before{self.note}"
        return self._on_new(what, pairs, pause, ours, None if self.lean else 1.5)

    def new_library(self, pairs: int) -> Row:
        def ours() -> None:
            with self._dial() as talk:
                _ask(talk)

        return self._on_new(
            "WHEREIS, new connection, at once, our client library against the bare caller", pairs, 0.0, ours, None
        )

    def _on_new(self, what: str, pairs: int, pause: float, ours: Callable[[], None], budget: float | None) -> Row:
        def floor() -> None:
            caller = BareCaller(self.context, self.floor_port)
            caller.ask(self.opening + self.request)
            caller.close()

        return measure(what, "ms", lambda: milliseconds(ours, 5, pause), lambda: milliseconds(floor, 5, pause), pairs, budget)

    def _found(self, caller: BareCaller, opening: bytes = b"") -> None:
        answer = caller.ask(opening + self.request)
        assert answer[FRAME_HEADER_BYTES:].startswith(b'["ME",'), answer

    def _dial(self) -> Conversation:
        return dialling.dial(self.host.address, self.credentials, time.monotonic() + SECONDS)


def _ask(talk: Conversation) -> None:
    said = talk.ask(["WHEREIS", SERVICE, None], time.monotonic() + SECONDS)
    assert said.host == "ME", said
