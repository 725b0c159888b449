"""The shapes of `bdctl --json` and of the gateway."""

from bdserver.commands import showing
from bdserver.core import shapes
from bdserver.core.messages import Status

from .stand_in import own, seen, unvisited


def test_nodes_are_in_order_and_begin_with_what_was_promised():
    told = shapes.nodes(Status(own(), [seen("b", 2), seen("a"), unvisited("10.0.0.9:9001")]))
    assert [node["name"] for node in told] == [None, "a", "b"]
    assert tuple(told[1])[: len(shapes.NODE_SHAPE)] == shapes.NODE_SHAPE and told[1]["load"] == 3


def test_services_are_those_of_nodes_that_live():
    told = shapes.services(
        Status(own(), [seen("b", 2, status="suspect"), seen("a"), seen("dead", 3, ("Lost",), status="dead")])
    )
    assert list(told) == ["Echo"] and [holder["node"] for holder in told["Echo"]] == ["b", "a"]
    assert told["Echo"][1] == {"node": "a", "type": "static", "url": "http://10.0.0.1:8080/axis/Echo?wsdl"}


def test_bdctl_which_has_no_time_to_import_them_prints_the_same():
    known = [seen("b", 2), seen("a"), unvisited("10.0.0.9:9001")]
    assert showing.nodes(own(), known, 0.0, True) == shapes.nodes(Status(own(), known))
