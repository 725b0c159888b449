"""What counts as a change, and what export writes."""

import json

from bdserver.commands.watching import changes, exported


def node(name, **fields):
    made = {
        "name": name, "address": "10.0.0.1:9001", "status": "alive", "version": [5, 1], "draining": False, "load": 3,
        "services": ["Echo"], "types": {"Echo": "static", "Copy": "dynamic"},
        "urls": {"Echo": "http://10.0.0.1:8080/axis/Echo?wsdl", "Copy": "https://[fe80::1]/Copy"},
    }  # fmt: skip
    return made | fields


def told(old, new):
    return [words for _, words in changes({"a": node("a") | old}, {"a": node("a") | new})]


def test_each_kind_of_change_is_one_line():
    assert told({}, {"version": [5, 9], "load": 9}) == []
    assert told({}, {"status": "dead"}) == ["is dead, was alive"]
    assert told({"status": "dead"}, {"version": [6, 1]}) == ["is alive, was dead", "was started anew"]
    assert told({}, {"address": "10.0.0.2:9001"}) == ["is at 10.0.0.2:9001, was at 10.0.0.1:9001"]
    assert told({}, {"draining": True}) == ["drains"] and told({"draining": True}, {}) == ["takes calls again"]
    assert told({}, {"load": 11}) == ["is overloaded"] and told({"load": 20}, {"load": 10}) == ["has room again"]
    assert told({}, {"services": ["Copy"]}) == ["offers Copy (dynamic)", "offers Echo no longer"]


def test_nodes_come_and_go():
    assert list(changes({"a": node("a")}, {"b": node("b")})) == [
        ("b", "is new, alive, at 10.0.0.1:9001"),
        ("a", "is forgotten"),
    ]


NODES = [
    node("b", services=["Copy", "Echo"]), node("a"), node("dead", status="dead"), node("busy", draining=True),
    node("named", address="web.example:9001", services=[]),
]  # fmt: skip


def test_backends_for_haproxy():
    assert exported("haproxy", NODES) == (
        "backend Copy\n    server b [fe80::1]:443 check\n\n"
        "backend Echo\n    server a 10.0.0.1:8080 check\n    server b 10.0.0.1:8080 check\n"
    )


def test_lines_for_etc_hosts():
    assert exported("hosts", NODES) == "10.0.0.1\ta\n10.0.0.1\tb\n10.0.0.1\tbusy\n"
    assert exported("hosts", [node("six", address="[fe80::1]:9001")]) == "fe80::1\tsix\n"


def test_json():
    said = json.loads(exported("json", NODES))
    assert list(said) == ["Copy", "Echo"] and [place["node"] for place in said["Echo"]] == ["a", "b"]
    assert said["Copy"][0] == {"node": "b", "host": "fe80::1", "port": 443, "url": "https://[fe80::1]/Copy", "type": "dynamic"}
    assert exported("json", []) == "{}\n" and exported("haproxy", []) == ""
