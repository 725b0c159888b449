"""The snapshot as metrics, for Prometheus and whatever reads its text form. Gauges: they were so when they were taken; and what
nodes have counted since their start.

Names and labels are promised as the JSON is: none is taken away or changes its meaning within one format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Gauge, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bdserver.audit.snapshot import Snapshot
from bdserver.core import counting
from bdserver.core.membership import ALIVE, DYNAMIC, STATIC, Status


def text(snapshot: Snapshot) -> bytes:
    """The text form, version 0.0.4."""
    registry = CollectorRegistry()
    totals = snapshot.totals()

    def gauge(name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"bdserver_{name}", words, labels, registry=registry)

    Info("bdserver_mesh", "The mesh, and the node at which the crawl began.", registry=registry).info(
        {"mesh": snapshot.mesh, "entry": snapshot.entry}
    )
    gauge("taken_at_timestamp_seconds", "When this was taken.").set(snapshot.taken_at)
    gauge("crawl_duration_seconds", "How long asking all nodes took.").set(snapshot.seconds)
    nodes = gauge("nodes", "Nodes by state.", "state")
    for state in Status:
        nodes.labels(state).set(totals[state])
    edges = gauge("edges", "What nodes say of each other; see the colours of the topology.", "colour")
    for colour, count in snapshot.edge_counts.items():
        edges.labels(colour).set(count)
    gauge("disagreements", "Nodes of which not all say the same.").set(len(snapshot.disagreements))
    gauge("warnings", "What the audit page lists as needing attention.").set(len(snapshot.warnings()))
    findings = gauge("findings", "What needs attention, by its key and how grave it is.", "node", "key", "severity")
    for (name, key, severity), count in Counter((name, f.key, f.severity) for name, f in snapshot.findings()).items():
        findings.labels(name, key, severity).set(count)

    up = gauge("node_up", "1 when the mesh takes the node for alive.", "node")
    answered = gauge("node_answered", "1 when the node answered this crawl.", "node")
    weight = gauge("node_weight", "The node's weight.", "node")
    threshold = gauge("node_receiver_threshold", "The weight above which the node is overloaded.", "node")
    overloaded = gauge("node_overloaded", "1 when the node is overloaded.", "node")
    draining = gauge("node_draining", "1 when the node takes no new calls.", "node")
    free = gauge("node_free_dynamic", "Replicas that the node would still take.", "node")
    uptime = gauge("node_uptime_seconds", "How long the node has run.", "node")
    certificate = gauge("node_certificate_expires_in_seconds", "How long the node's certificate is still good.", "node")
    signer = gauge("node_certificate_signer", "1 for the signer of the certificate, which renews itself.", "node", "signer")
    for node in snapshot.nodes:
        up.labels(node.name).set(node.state == ALIVE)
        answered.labels(node.name).set(node.has_answered)
        overloaded.labels(node.name).set(node.is_overloaded)
        draining.labels(node.name).set(node.is_draining)
        for figure, value in ((weight, node.weight), (free, node.free_dynamic), (uptime, node.uptime)):
            if value is not None:
                figure.labels(node.name).set(value)
        if node.has_answered:
            threshold.labels(node.name).set(node.receiver_threshold)
        if node.days_left is not None:
            certificate.labels(node.name).set(node.days_left * 86400)
        if node.signer:
            signer.labels(node.name, node.signer).set(1)

    service_weight = gauge("service_weight", "A service's weight on a node.", "service", "node", "type")
    healthy = gauge("service_healthy", "1 when a service on a node is well, or is not checked.", "service", "node")
    checked = gauge("service_checked", "1 when somebody looks whether a service on a node is well.", "service", "node")
    replicas = gauge("service_replicas", "How many nodes hold a service.", "service", "type")
    holders = gauge("service_holders", "How many living nodes hold a service.", "service")
    wanted = gauge("service_holders_wanted", "How many are to hold it; 0: as many as are called for.", "service")
    stale = gauge("service_stale", "Copies of a service that are older than their original.", "service")
    orphans = gauge("service_orphans", "Copies of a service whose original is gone.", "service")
    rivals = gauge("service_rivals", "Originals of one name that differ; 0 when none does.", "service")
    for service in snapshot.services:
        whole = service.whole
        holders.labels(service.name).set(whole.living)
        wanted.labels(service.name).set(whole.wanted)
        stale.labels(service.name).set(len(whole.stale))
        orphans.labels(service.name).set(len(whole.orphans))
        rivals.labels(service.name).set(len(whole.rivals.digests) if whole.rivals is not None else 0)
        replicas.labels(service.name, STATIC).set(service.static)
        replicas.labels(service.name, DYNAMIC).set(service.dynamic)
        for holder in service.holders:
            offer = snapshot.by_name[holder].services[service.name]
            healthy.labels(service.name, holder).set(offer.is_healthy)
            checked.labels(service.name, holder).set(offer.is_checked)
            if offer.weight is not None:
                service_weight.labels(service.name, holder, offer.type).set(offer.weight)
    registry.register(Counts((name, said.counters) for name, said in snapshot.crawl.statuses.items()))
    return generate_latest(registry)


# What was never counted is 0: else the first time would be seen by nobody. But kinds of requests with their outcomes are many.
_NEVER = dict.fromkeys((key for key in counting.KEYS if key[0] != "requests"), 0.0)


class Counts(Collector):
    """What nodes have counted since their start; (node, the `counters` of its STATUS)."""

    def __init__(self, told: Iterable[tuple[str, object]]) -> None:
        self._told = list(told)

    def describe(self) -> Iterable[Metric]:
        """Nothing is to be known before it is asked for."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """A family for each counter, and the histogram of look-ups."""
        families = {
            row.name: CounterMetricFamily(f"bdserver_{row.metric}", row.meaning, labels=("node", *row.labels))
            for row in counting.COUNTERS
        }
        lookups = HistogramMetricFamily(f"bdserver_{counting.HISTOGRAM}", counting.HISTOGRAM_MEANING, labels=("node",))
        for node, said in self._told:
            if not isinstance(said, dict):  # an older node
                continue
            counts = _NEVER | {(each.row.name, *each.labels): each.value for each in counting.counted(said)}
            for (name, *labels), value in counts.items():
                families[name].add_metric((node, *labels), value)
            histogram = counting.histogram(said)
            if histogram is not None:
                lookups.add_metric((node,), *histogram)
        yield from families.values()
        yield lookups
