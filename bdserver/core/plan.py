"""The multicast tree: who relays for whom, so that a MASSMESSAGE reaches nodes we may not talk to ourselves.

From the original: paths grow outward from the asker and from every recipient at once, groups are joined where
they meet, and the edges used are kept: a tree through all recipients with few relays. The plan travels with the
message as {"self": [children], NAME: [children]}; each relay re-roots its branch. Asking is routing's and answers'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

Plan = dict[str, list[str]]
SELF = "self"
# Policies that keep nodes apart make paths of two or three steps. Each step costs its relay a child that waits.
DEPTH_MAX = 16
# A name stands in a MASSMESSAGE three times, and is up to 100 characters long: so many, and the relays to them, fit a frame.
RECIPIENTS_MAX = 1000


def tree(me: str, nodes: Iterable[str], recipients: Iterable[str], can_talk: Callable[[str, str], bool], rng: Random) -> Plan:
    """A tree from `me` through every recipient that can be reached; {"self": []} when none can.

    `can_talk(a, b)`: whether there is an edge (asked lazily: a thousand nodes have half a million pairs)."""
    nodes = [me, *(name for name in nodes if name != me)]
    seeds = [me, *(name for name in dict.fromkeys(recipients) if name != me)]
    parents: dict[str, str | None] = dict.fromkeys(seeds)  # each labelled node: the node it was reached from
    groups = {name: {name} for name in seeds}  # each seed: the seeds that it is joined with
    seed_of = {name: name for name in seeds}
    edges: list[tuple[str, str]] = []
    fringe = seeds
    while fringe and len(seeds) > 1:
        rng.shuffle(fringe)
        grown: list[str] = []
        for node in fringe:
            others = [name for name in nodes if name != node]
            rng.shuffle(others)
            others.sort(key=lambda name: name not in seed_of)  # meeting first, then growing: fewer relays
            for other in others:
                if other in seed_of and groups[seed_of[other]] is groups[seed_of[node]]:
                    continue
                if not can_talk(node, other):
                    continue
                if other not in seed_of:
                    seed_of[other], parents[other] = seed_of[node], node
                    grown.append(other)
                    continue
                edges += [*_path(node, parents), (node, other), *_path(other, parents)]
                joined = groups[seed_of[node]] | groups[seed_of[other]]
                groups.update(dict.fromkeys(joined, joined))
                if len(joined) == len(seeds):
                    return _rooted(me, edges)
        fringe = grown
    return _rooted(me, edges)


def _path(node: str, parents: dict[str, str | None]) -> list[tuple[str, str]]:
    """The edges from a labelled node back to its seed."""
    edges = []
    while (parent := parents[node]) is not None:
        edges.append((parent, node))
        node = parent
    return edges


def _rooted(me: str, edges: list[tuple[str, str]]) -> Plan:
    """The edges as a tree from `me`; what hangs on nobody that `me` reaches in DEPTH_MAX steps is left out."""
    plan: Plan = {SELF: []}
    depths = {SELF: 0}
    waiting = list(dict.fromkeys(edges))
    while True:
        used = False
        for a, b in list(waiting):
            for parent, child in ((a, b), (b, a)):
                key = SELF if parent == me else parent
                if depths.get(key, DEPTH_MAX) < DEPTH_MAX and child not in plan and child != me:
                    plan[key].append(child)
                    plan[child] = []
                    depths[child] = depths[key] + 1
                    waiting.remove((a, b))
                    used = True
                    break
        if not used:
            return plan


def branch(plan: Plan, child: str) -> Plan:
    """The part of the plan below one child, re-rooted there."""
    part: Plan = {SELF: list(plan.get(child, []))}
    below = list(part[SELF])
    while below:
        node = below.pop()
        if node in plan and node not in part:
            part[node] = list(plan[node])
            below += plan[node]
    return part


def is_tree(value: object, names_max: int) -> bool:
    """Whether this, which somebody sent, is a plan: each name stands in it once, so no message comes anywhere twice, and all
    hang on the callee, at most DEPTH_MAX steps away. One pass, however hostile."""
    if not isinstance(value, dict) or not all(map(_is_names, value.values())):
        return False
    children = [child for each in value.values() for child in each]
    distinct = {SELF, *children}
    if len(children) > names_max or len(distinct) <= len(children) or not value.keys() <= distinct:
        return False
    reached, level = 0, value.get(SELF, [])
    for _ in range(DEPTH_MAX):
        reached += len(level)
        level = [child for parent in level for child in value.get(parent, ())]
    return reached == len(children)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
