"""The metrics, read by Prometheus' own parser."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bdserver.audit import metrics
from bdserver.audit.crawl import Offer
from bdserver.audit.snapshot import Snapshot
from bdserver.core.holding import Holder
from bdserver.core.membership import Edition

from . import crawls


@pytest.fixture
def troubled():
    return Snapshot(crawls.troubled())


def test_metrics_are_what_prometheus_reads(troubled):
    families = {family.name: family for family in text_string_to_metric_families(metrics.text(troubled).decode())}
    states = {sample.labels["state"]: sample.value for sample in families["bdserver_nodes"].samples}
    assert states == {"alive": 5, "suspect": 1, "dead": 1, "left": 1}
    weights = {sample.labels["node"]: sample.value for sample in families["bdserver_node_weight"].samples}
    assert weights == {"n000": 0, "n001": 37, "n002": 130, "n005": 5}
    [info] = families["bdserver_mesh_info"].samples
    assert info.labels == {"mesh": "demo", "entry": "n000"} and all(family.documentation for family in families.values())
    edges = {sample.labels["colour"]: sample.value for sample in families["bdserver_edges"].samples}
    assert edges == troubled.edge_counts
    found = [tuple(map(each.labels.get, ("node", "key", "severity"))) for each in families["bdserver_findings"].samples]
    assert ("n003", "dead", "grave") in found and ("n002", "overloaded", "warning") in found


def test_a_service_is_healthy_checked_both_or_neither():
    made = crawls.mesh(1)
    offers = {"Wiki": Offer("static", 1.0, 1.0, True, "", is_checked=False), "Sick": Offer("static", 1.0, 1.0, False, "")}
    made.statuses["n000"] = crawls.status("n000", 0, offers, 5.0)
    families = {family.name: family for family in text_string_to_metric_families(metrics.text(Snapshot(made)).decode())}

    def by_service(name):
        return {sample.labels["service"]: sample.value for sample in families[name].samples}

    assert by_service("bdserver_service_healthy") == {"Wiki": 1, "Sick": 0}
    assert by_service("bdserver_service_checked") == {"Wiki": 0, "Sick": 1}


def test_who_has_signed_a_certificate_that_renews_itself_is_told():
    made = crawls.mesh(2)
    made.statuses["n001"] = made.statuses["n001"]._replace(signer="n000")
    families = {family.name: family for family in text_string_to_metric_families(metrics.text(Snapshot(made)).decode())}
    assert [each.labels for each in families["bdserver_node_certificate_signer"].samples] == [
        {"node": "n001", "signer": "n000"}
    ]


def test_how_the_copies_of_a_service_stand():
    made = crawls.mesh(3)
    held = [
        Holder(edition=Edition(9, "aaaa"), replicas=4),
        Holder(edition=Edition(8, "bbbb")),
        Holder("dynamic", Edition(7, "aaaa"), "n000", stale=True, orphan=True),
    ]
    for number, each in enumerate(held):
        offers = {"Echo": Offer(each.type, 1.0, 1.0, True, "", held=each)}
        made.statuses[f"n{number:03}"] = crawls.status(f"n{number:03}", number, offers, 5.0)
    families = {family.name: family for family in text_string_to_metric_families(metrics.text(Snapshot(made)).decode())}

    def of_echo(name):
        return [each.value for each in families[f"bdserver_service_{name}"].samples if each.labels == {"service": "Echo"}]

    assert [of_echo(name) for name in ("holders", "holders_wanted", "stale", "orphans", "rivals")] == [[3], [4], [1], [1], [2]]
