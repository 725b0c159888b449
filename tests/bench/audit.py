"""The audit's crawl of 30 nodes, through one local socket and with a client's certificate, beside asking each on its own
local socket, one after the other: what must happen at least, without TLS and without going through another node."""

from __future__ import annotations

import tempfile
import time
from functools import partial

from bdserver.audit.crawl import crawl_from
from bdserver.net import dialling, keys
from tests.bench.pairs import Row, measure, milliseconds
from tests.hosts import Mesh

NODES = 30
SECONDS = 10.0


def rows(pairs: int) -> list[Row]:
    """A mesh of its own."""
    with tempfile.TemporaryDirectory() as folder, Mesh(folder, "audit") as mesh:
        hosts = mesh.start(NODES, log_level="info")
        mesh.wait_known(120)
        credentials = keys.load(mesh.issue("auditor", role="client"), "auditor")
        dials = [partial(dialling.dial_local, hosts[0].socket)]

        def crawled(keys) -> None:
            assert len(crawl_from(dials, SECONDS, keys).statuses) == NODES

        def each_alone() -> None:
            for host in hosts:
                with dialling.dial_local(host.socket, time.monotonic() + SECONDS) as talk:
                    talk.ask(["STATUS", {"brief": True}], time.monotonic() + SECONDS)

        floor = partial(milliseconds, each_alone)
        return [
            measure(
                f"crawl of {NODES} nodes, the local node asks",
                "ms",
                partial(milliseconds, partial(crawled, None)),
                floor,
                pairs,
            ),
            measure(
                f"crawl of {NODES} nodes, by a certificate",
                "ms",
                partial(milliseconds, partial(crawled, credentials)),
                floor,
                pairs,
            ),
        ]
