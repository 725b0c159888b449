"""What counts as a change in the mesh."""

from bdserver.core.changes import Kind, changes, named
from tests.unit.canned import seen, unvisited

URL = "http://10.0.0.1:8080/axis/Echo?wsdl"


def told(old, new):
    return [each.words for each in changes({"a": seen("a") | old}, {"a": seen("a") | new})]


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
        ("b", Kind.NEW, "is new, alive, at 10.0.0.1:9001", ""),
        ("a", Kind.FORGOTTEN, "is forgotten", ""),
    ]


def test_a_hint_that_nobody_has_answered_at_is_no_node():
    assert list(named([seen("a"), unvisited("10.0.0.9:9001")])) == ["a"]


def test_a_service_that_is_ill_is_said_to_be_ill_and_not_withdrawn():
    ill = seen("a", services=(), unhealthy=["Echo"])
    assert told({}, ill) == ["does not offer Echo, which is not well"]
    assert told(ill, {}) == ["offers Echo again, which is well"]
    assert told(ill, seen("a", services=())) == ["offers Echo no longer"]


def test_a_new_edition_is_told_by_those_who_tell_editions():
    first, second = ({"offers": {"Echo": {"edition": edition}}} for edition in ([1, "d1"], [2, "d2"]))
    assert told(first, second) == ["offers a new edition of Echo"]
    assert told(first, first) == told({}, second) == []


def test_the_facts_name_node_kind_and_service():
    copied, gone = changes({"a": seen("a")}, {"a": seen("a", services=("Copy",), types={"Copy": "dynamic"})})
    assert copied.facts() == {"node": "a", "kind": "copied", "service": "Copy", "change": "offers Copy (dynamic)"}
    assert gone.kind is Kind.WITHDRAWN
    (new,) = changes({}, {"b": seen("b")})
    assert new.facts() == {"node": "b", "kind": "new", "change": "is new, alive, at 10.0.0.1:9001"}
