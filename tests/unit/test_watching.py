"""What counts as a change in the mesh, for `bdctl watch`."""

from bdserver.commands.watching import changes

from .stand_in import seen

URL = "http://10.0.0.1:8080/axis/Echo?wsdl"


def told(old, new):
    return [words for _, words in changes({"a": seen("a") | old}, {"a": seen("a") | new})]


def test_each_kind_of_change_is_one_line():
    assert told({}, {"version": [5, 9], "load": 9, "heard_at": 77.0}) == []
    assert told({}, {"status": "dead"}) == ["is dead, was alive"]
    assert told({"status": "dead"}, {"version": [6, 1]}) == ["is alive, was dead", "was started anew"]
    assert told({}, {"address": "10.0.0.2:9001"}) == ["is at 10.0.0.2:9001, was at 10.0.0.1:9001"]
    assert told({}, {"draining": True}) == ["drains"] and told({"draining": True}, {}) == ["takes calls again"]
    assert told({}, {"load": 11}) == ["is overloaded"] and told({"load": 20}, {"load": 10}) == ["has room again"]


def test_each_change_of_what_is_offered_is_one_line():
    copy = {"services": ["Copy"], "types": {"Copy": "dynamic"}, "urls": {"Copy": "x"}}
    assert told({}, copy) == ["offers Copy (dynamic)", "offers Echo no longer"]
    moved = "http://10.0.0.1:9090/axis/Echo?wsdl"
    assert told({}, {"urls": {"Echo": moved}}) == [f"offers Echo at {moved}, was at {URL}"], "the port is part of it"
    assert told({}, {"types": {"Echo": "dynamic"}}) == ["offers Echo (dynamic), which was static"]
    assert told({}, {"costs": {"Echo": 2.5}}) == ["offers Echo at a cost of 2.5 a call, was 1"]


def test_of_an_older_node_that_tells_no_cost_and_no_load_nothing_is_made_up():
    older = seen("a")
    del older["costs"], older["load"]
    assert list(changes({"a": older}, {"a": seen("a")})) == list(changes({"a": seen("a")}, {"a": older})) == []


def test_nodes_come_and_go():
    assert list(changes({"a": seen("a")}, {"b": seen("b")})) == [
        ("b", "is new, alive, at 10.0.0.1:9001"),
        ("a", "is forgotten"),
    ]
