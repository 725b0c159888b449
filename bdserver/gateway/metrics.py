"""Figures of a gateway and of its node, in Prometheus' text form. Counters begin anew with the gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bdserver.audit.metrics import Counts
from bdserver.errors import BDError
from bdserver.gateway.follower import Follower

# From a look-up on an open connection to one that copies a service.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


# Of the node: its name in STATUS and here, what it is to be multiplied with, and what it is. As the audit has them.
GAUGES = (
    ("weight", "weight", 1, "The node's weight."),
    ("receiver_threshold", "receiver_threshold", 1, "The weight above which the node is overloaded."),
    ("overloaded", "overloaded", 1, "1 when the node is overloaded."),
    ("draining", "draining", 1, "1 when the node takes no new calls."),
    ("free_dynamic", "free_dynamic", 1, "Replicas that the node would still take."),
    ("uptime", "uptime_seconds", 1, "How long the node has run."),
    ("lag", "lag_seconds", 1, "How late the node's loop was lately, at most."),
    ("certificate_days_left", "certificate_expires_in_seconds", 86400, "How long the node's certificate is still good."),
)


# What may be reached by each face: settings by their names, and what stands in dns.py.
LIMITS = {
    "dns": ("queries_per_second", "connections", "waiting", "lookups_max"),
    "http": ("lookups_max", "watchers_max", "connections"),
}


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
        self._refused = Counter(
            "bdserver_gateway_refused",
            "What a limit kept from being answered, by the limit that was reached.",
            ("face", "limit"),
            registry=self._registry,
        )
        for face, limits in LIMITS.items():
            for limit in limits:  # a counter that is not there yet can't be seen to rise
                self._refused.labels(face, limit)
        self._seconds = Histogram(
            "bdserver_gateway_lookup_seconds", "How long look-ups took.", ("face",), buckets=BUCKETS, registry=self._registry
        )
        self._nodes = Gauge("bdserver_nodes", "Nodes by state, as the node knows them.", ("state",), registry=self._registry)
        self._answering = Gauge("bdserver_gateway_node_answers", "1 when the node answers.", registry=self._registry)
        self._gauges = [
            Gauge(f"bdserver_node_{name}", words, ("node",), registry=self._registry) for _, name, _, words in GAUGES
        ]
        self._warnings = Gauge(
            "bdserver_node_warnings", "What the node says needs attention.", ("node",), registry=self._registry
        )
        self._healthy = Gauge(
            "bdserver_service_healthy",
            "1 when a service on the node is well, or is not checked.",
            ("service", "node"),
            registry=self._registry,
        )
        self._weight = Gauge(
            "bdserver_service_weight", "A service's weight on the node.", ("service", "node", "type"), registry=self._registry
        )

    def count_dns(self, kind: str, outcome: str) -> None:
        """An answer to a query by UDP or TCP."""
        self._answers.labels("dns", kind, outcome).inc()

    def count_http(self, kind: str, outcome: str) -> None:
        """An answer to a request at a path of the table of routes; `bent`: to what is no request."""
        self._answers.labels("http", kind, outcome).inc()

    def count_refused(self, face: str, limit: str) -> None:
        """A query, a connection or a look-up that found a limit reached."""
        self._refused.labels(face, limit).inc()

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

    def text(self, follower: Follower, own: Callable[[], dict[str, Any]]) -> bytes:
        """The text form, version 0.0.4. `own()`: how the node itself is."""
        registry = CollectorRegistry()
        try:
            registry.register(Counts([self._take(own())]))
            self._answering.set(1)
        except BDError:
            self._answering.set(0)
        counts: dict[str, int] = dict.fromkeys(("alive", "suspect", "dead", "left"), 0)
        for node in (follower.nodes or {}).values():
            counts[node["status"]] = counts.get(node["status"], 0) + 1
        for state, count in counts.items():
            self._nodes.labels(state).set(count)
        return generate_latest(self._registry) + generate_latest(registry)

    def _take(self, own: dict[str, Any]) -> tuple[str, object]:
        """The gauges of the node; its name and what it has counted."""
        name = own["name"]
        for gauge, (key, _, factor, _) in zip(self._gauges, GAUGES, strict=True):
            gauge.labels(name).set(float(own.get(key, 0)) * factor)
        self._warnings.labels(name).set(len(own["warnings"]))
        for figure in (self._healthy, self._weight):
            figure.clear()  # services go
        for service, offer in own["services"].items():
            self._healthy.labels(service, name).set(offer["healthy"])
            self._weight.labels(service, name, offer["type"]).set(offer["weight"])
        return name, own.get("counters")
