"""Whom a crawl that ends nodes calls, and in which order."""

import pytest

from bdserver.core.messages import Goodbye, Status
from bdserver.errors import BadConfig, Forbidden
from bdserver.net.killing import kill_outward, kill_request
from tests.unit.canned import Node, let_dial, own, seen, unvisited


@pytest.fixture
def ring(monkeypatch):
    """Four nodes, each of which knows itself and the next one."""
    nodes = {}
    for number in range(1, 5):
        following = number % 4 + 1
        known = [seen(f"n{number}", number), seen(f"n{following}", following)]
        nodes[f"10.0.0.{number}:9001"] = Node(STATUS=Status(own(f"n{number}"), known), KILL=Goodbye())
    let_dial(monkeypatch, nodes)
    return nodes


def test_each_is_ended_once_however_often_it_is_told_of(ring):
    first = ring["10.0.0.1:9001"].answers["STATUS"]
    ended = kill_outward(first, lambda: "credentials", "sesame", pytest.fail)
    assert sorted(ended.killed) == list(ring) and (ended.silent, ended.refused) == ([], [])
    assert all(node.requests() == [["KILL", "sesame"]] for node in ring.values())


def test_the_node_of_this_host_comes_last_and_is_not_called_over_tls(ring):
    order = []
    for address, node in ring.items():
        node.answers["KILL"] = lambda *password, address=address: order.append(address) or Goodbye()
    first = ring["10.0.0.1:9001"].answers["STATUS"]
    ended = kill_outward(first, lambda: "credentials", None, pytest.fail, lambda: order.append("local"))
    assert order == ["10.0.0.2:9001", "10.0.0.3:9001", "10.0.0.4:9001", "local"]
    assert ended.killed[-1] == "10.0.0.1:9001" and ring["10.0.0.1:9001"].asked == []


def test_a_node_that_is_alone_is_ended_without_any_keys():
    def keys():
        raise BadConfig("no keys")

    ended = kill_outward(Status(own(), [seen("alpha")]), keys, None, pytest.fail, lambda: None)
    assert ended == (["10.0.0.1:9001"], [], [])


def test_without_keys_those_elsewhere_refuse_and_with_no_local_one_that_is_an_error():
    def keys():
        raise BadConfig("no keys")

    first, reasons = Status(own(), [seen("alpha"), unvisited("10.0.0.9:9001")]), []
    assert kill_outward(first, keys, None, reasons.append, lambda: None) == (["10.0.0.1:9001"], [], ["10.0.0.9:9001"])
    assert reasons == ["no keys"]
    with pytest.raises(BadConfig):
        kill_outward(first, keys, None, reasons.append)


def test_a_local_node_that_refuses_is_told_of_too():
    def refuse():
        raise Forbidden("not you")

    reasons = []
    ended = kill_outward(Status(own(), [seen("alpha")]), lambda: "", None, reasons.append, refuse)
    assert ended.refused == ["10.0.0.1:9001"] and reasons == ["not you"]
    assert "10.0.0.1:9001" in ended.refusal() and "\n" not in ended.refusal()


def test_an_admin_needs_no_password():
    assert kill_request(None) == kill_request("") == ["KILL"] and kill_request("x") == ["KILL", "x"]
