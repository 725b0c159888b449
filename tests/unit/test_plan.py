"""The multicast tree, against a slow obvious search of the same graph."""

import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core.plan import DEPTH_MAX, SELF, branch, is_tree, tree

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


# --- what is a plan -----------------------------------------------------------------------------------------------


@given(GRAPHS)
def test_what_we_plan_is_a_tree_and_so_is_each_branch_of_it(graph):
    nodes, pairs, wanted, seed = graph

    def can_talk(a, b):
        return (int(a[1]), int(b[1])) in pairs or (int(b[1]), int(a[1])) in pairs

    plan = tree("n0", nodes, [nodes[i] for i in wanted], can_talk, Random(seed))
    assert is_tree(plan, len(nodes)) and all(is_tree(branch(plan, child), len(nodes)) for child in plan[SELF])


NAMES = st.sampled_from(["self", "a", "b", "c", "d", "e"])


def is_tree_slowly(plan, names_max):
    """By following each path from the callee."""
    met, paths = [], [[child] for child in plan.get(SELF, [])]
    while paths:
        path = paths.pop()
        if len(path) > DEPTH_MAX or path[-1] in (SELF, *met):
            return False
        met.append(path[-1])
        paths += [[*path, child] for child in plan.get(path[-1], [])]
    return len(met) <= names_max and set(plan) <= {SELF, *met}


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=4), max_size=6), st.integers(0, 5))
def test_a_plan_is_a_tree_as_a_slow_walk_says(plan, names_max):
    assert is_tree(plan, names_max) == is_tree_slowly(plan, names_max)


@pytest.mark.parametrize("value", [None, [], "x", {"self": "ab"}, {"self": [1]}, {"self": None}, {"self": {"a": 1}}])
def test_what_has_another_shape_is_no_plan(value):
    assert not is_tree(value, 10)


def a_line(length):
    return {"self": ["n0"]} | {f"n{number}": [f"n{number + 1}"] for number in range(length - 1)}


def test_a_plan_stands_at_its_limits():
    assert is_tree(a_line(DEPTH_MAX), 100) and not is_tree(a_line(DEPTH_MAX + 1), 100)
    assert is_tree({"self": ["a", "b"]}, 2) and not is_tree({"self": ["a", "b"]}, 1) and is_tree({}, 0)


def test_what_lies_too_far_away_is_left_out_of_our_plans():
    nodes = [f"n{number}" for number in range(DEPTH_MAX + 4)]
    neighbours = {frozenset(pair) for pair in itertools.pairwise(nodes)}
    plan = tree("n0", nodes, nodes[1:], lambda a, b: frozenset((a, b)) in neighbours, Random(1))
    assert is_tree(plan, 100) and len(plan) == DEPTH_MAX + 1
