"""The shapes of `bdctl --json` and of the gateway."""

from bdserver.commands import showing
from bdserver.core import shapes
from bdserver.core.messages import Status
from tests.unit.canned import own, seen, unvisited


def test_nodes_are_in_order_and_begin_with_what_was_promised():
    told = shapes.nodes(Status(own(), [seen("b", 2), seen("a"), unvisited("10.0.0.9:9001")]))
    assert [node["name"] for node in told] == [None, "a", "b"]
    assert tuple(told[1])[: len(shapes.NODE_SHAPE)] == shapes.NODE_SHAPE and told[1]["load"] == 3


def test_bdctl_which_has_no_time_to_import_them_prints_the_same():
    known = [seen("b", 2), seen("a"), unvisited("10.0.0.9:9001")]
    assert showing.nodes(own(), known, 0.0, True) == shapes.nodes(Status(own(), known))
