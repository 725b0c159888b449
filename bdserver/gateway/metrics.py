"""Figures of a gateway and of its node, in Prometheus' text form. Counters begin anew with the gateway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bdserver.errors import BDError
from bdserver.gateway.follower import Follower

# From a look-up on an open connection to one that copies a service.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counted here; `follower` tells of the mesh."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "bdserver_gateway_answers",
            "What was answered, by DNS and by HTTP.",
            ("face", "kind", "outcome"),
            registry=self._registry,
        )
        self._lookups = Counter(
            "bdserver_gateway_lookups",
            "Look-ups at the node, by what came of them.",
            ("face", "outcome"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "bdserver_gateway_lookup_seconds", "How long look-ups took.", ("face",), buckets=BUCKETS, registry=self._registry
        )
        self._nodes = Gauge("bdserver_nodes", "Nodes by state, as the node knows them.", ("state",), registry=self._registry)
        self._answering = Gauge("bdserver_gateway_node_answers", "1 when the node answers.", registry=self._registry)

    def count_dns(self, kind: str, outcome: str) -> None:
        """An answer to a query by UDP or TCP."""
        self._answers.labels("dns", kind, outcome).inc()

    def count_http(self, kind: str, outcome: str) -> None:
        """An answer to a request at a path of the table of routes."""
        self._answers.labels("http", kind, outcome).inc()

    @contextmanager
    def timed(self, face: str) -> Iterator[None]:
        """A look-up; what it raises is its outcome."""
        began = time.monotonic()
        outcome = "found"
        try:
            yield
        except BDError as error:
            outcome = error.code
            raise
        finally:
            self._lookups.labels(face, outcome).inc()
            self._seconds.labels(face).observe(time.monotonic() - began)

    def text(self, follower: Follower) -> bytes:
        """The text form, version 0.0.4."""
        self._answering.set(not follower.silence)
        counts: dict[str, int] = dict.fromkeys(("alive", "suspect", "dead", "left"), 0)
        for node in (follower.nodes or {}).values():
            counts[node["status"]] = counts.get(node["status"], 0) + 1
        for state, count in counts.items():
            self._nodes.labels(state).set(count)
        return generate_latest(self._registry)
