"""The multicast tree, against a slow obvious search of the same graph."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bdserver.core.plan import SELF, branch, tree

GRAPHS = st.integers(2, 9).flatmap(
    lambda count: st.tuples(
        st.just([f"n{i}" for i in range(count)]),
        st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda e: e[0] < e[1])),
        st.sets(st.integers(1, count - 1)),
        st.integers(0, 1000),
    )
)


def reachable(me, nodes, can_talk):
    """Everybody that a message can reach: the slow obvious way."""
    found, waiting = {me}, [me]
    while waiting:
        node = waiting.pop()
        for other in nodes:
            if other not in found and can_talk(node, other):
                found.add(other)
                waiting.append(other)
    return found


def edges_of(plan, me):
    return [(me if parent == SELF else parent, child) for parent, children in plan.items() for child in children]


@given(GRAPHS)
def test_the_tree_reaches_every_recipient_that_can_be_reached_and_nobody_twice(graph):
    nodes, pairs, wanted, seed = graph
    recipients = [nodes[i] for i in wanted]

    def can_talk(a, b):
        return (int(a[1]), int(b[1])) in pairs or (int(b[1]), int(a[1])) in pairs

    plan = tree("n0", nodes, recipients, can_talk, Random(seed))
    edges = edges_of(plan, "n0")
    assert all(can_talk(a, b) for a, b in edges)
    children = [child for _, child in edges]
    assert len(children) == len(set(children)) and "n0" not in children  # a tree: one parent each
    in_tree = {"n0", *children}
    assert set(recipients) & in_tree == set(recipients) & reachable("n0", nodes, can_talk)
    assert in_tree == reachable("n0", in_tree, lambda a, b: (a, b) in edges or (b, a) in edges)


@given(GRAPHS)
def test_branches_hold_what_hangs_below_them_and_nothing_else(graph):
    nodes, pairs, wanted, seed = graph

    def can_talk(a, b):
        return (int(a[1]), int(b[1])) in pairs or (int(b[1]), int(a[1])) in pairs

    plan = tree("n0", nodes, [nodes[i] for i in wanted], can_talk, Random(seed))
    below = [edge for child in plan[SELF] for edge in [("n0", child), *edges_of(branch(plan, child), child)]]
    assert sorted(below) == sorted(edges_of(plan, "n0"))


def test_one_hop_where_one_hop_is_enough():
    plan = tree("me", ["a", "b", "c"], ["b"], lambda a, b: True, Random(1))
    assert plan == {SELF: ["b"], "b": []}


def test_a_relay_joins_two_who_may_not_talk():
    allowed = {frozenset(["me", "relay"]), frozenset(["relay", "far"])}
    plan = tree("me", ["relay", "far", "bystander"], ["far"], lambda a, b: frozenset((a, b)) in allowed, Random(1))
    assert plan == {SELF: ["relay"], "relay": ["far"], "far": []}


def test_nobody_to_reach_is_an_empty_plan():
    assert tree("me", ["a"], ["a"], lambda a, b: False, Random(1)) == {SELF: []}


def test_a_complete_graph_of_a_thousand_costs_few_questions():
    asked = []

    def can_talk(a, b):
        asked.append((a, b))
        return True

    nodes = [f"n{i}" for i in range(1000)]
    plan = tree("n0", nodes, ["n5", "n7"], can_talk, Random(1))
    assert {"n5", "n7"} <= plan.keys() and len(asked) < 10


def test_a_hostile_plan_with_a_loop_ends():
    assert branch({SELF: ["a"], "a": ["b"], "b": ["a", "b"]}, "a") == {SELF: ["b"], "b": ["a", "b"], "a": ["b"]}
