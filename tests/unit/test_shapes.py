"""The shapes of `bdctl --json` and of the gateway."""

from bdserver.core import shapes
from tests.unit.canned import seen, unvisited


def test_nodes_are_in_order_and_begin_with_what_was_promised():
    told = shapes.nodes([seen("b", 2), seen("a"), unvisited("10.0.0.9:9001")])
    assert [node["name"] for node in told] == [None, "a", "b"]
    assert tuple(told[1])[: len(shapes.NODE_SHAPE)] == shapes.NODE_SHAPE and told[1]["load"] == 3
