"""The gateway's figures."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bdserver.core.messages import Status
from bdserver.errors import CantFind, NobodyThere
from bdserver.gateway.follower import Follower
from bdserver.gateway.metrics import Metrics
from tests.unit.canned import own, seen

COUNTERS = {"requests": {"WHEREIS place": 3}, "deaths": {"": 1}}


def silent():
    raise NobodyThere("it is not there")


def samples(metrics, follower, how=lambda: own(counters=COUNTERS, warnings=["x"])):
    families = text_string_to_metric_families(metrics.text(follower, how).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_what_stands_in_a_label_ends_no_label():
    name = 'a"b\\c\nbdserver_forged 1'
    found = samples(Metrics(), Follower(lambda: "", lambda: Status(own(), [])), lambda: own(name=name, warnings=[]))
    assert found[("bdserver_node_weight", (("node", name),))] == 1.5 and not [each for each in found if "forged" in each[0]]


def test_answers_look_ups_and_nodes_are_counted():
    follower = Follower(lambda: "", lambda: Status(own(), [seen("a"), seen("b", status="dead")]))
    metrics = Metrics()
    assert samples(metrics, follower, silent)[("bdserver_gateway_node_answers", ())] == 0
    follower.turn(0.0, 0.0)
    metrics.count_dns("udp", "nxdomain")
    metrics.count_http("/v1/status", "200")
    metrics.count_refused("http", "watchers_max")
    with metrics.timed("dns"):
        pass
    with pytest.raises(CantFind), metrics.timed("dns"):
        raise CantFind("nobody")
    found = samples(metrics, follower)
    assert found[("bdserver_gateway_node_answers", ())] == 1
    assert found[("bdserver_nodes", (("state", "alive"),))] == found[("bdserver_nodes", (("state", "dead"),))] == 1
    assert found[("bdserver_gateway_answers_total", (("face", "dns"), ("kind", "udp"), ("outcome", "nxdomain")))] == 1
    assert found[("bdserver_gateway_lookups_total", (("face", "dns"), ("outcome", "cant-find")))] == 1
    assert found[("bdserver_gateway_lookup_seconds_count", (("face", "dns"),))] == 2
    refused = "bdserver_gateway_refused_total"
    assert found[(refused, (("face", "http"), ("limit", "watchers_max")))] == 1
    assert found[(refused, (("face", "dns"), ("limit", "queries_per_second")))] == 0, "it is there before it rises"
    node = ("node", "alpha")
    assert found[("bdserver_requests_total", (("kind", "WHEREIS"), node, ("outcome", "place")))] == 3
    assert found[("bdserver_deaths_total", (node,))] == found[("bdserver_node_warnings", (node,))] == 1
    assert (
        found[("bdserver_node_weight", (node,))] == 1.5
        and found[("bdserver_service_healthy", (node, ("service", "Echo")))] == 1
    )
    assert ("bdserver_service_healthy", (node, ("service", "Echo"))) not in samples(metrics, follower, lambda: own(services={}))
