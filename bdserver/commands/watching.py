"""bdctl watch: what changes in the mesh, as it changes.

Works on what STATUS tells of nodes, asked once a second. A pure function says what counts as a change.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from bdserver.core.membership import ALIVE
from bdserver.core.weight import FULL_LOAD
from bdserver.errors import BDError

POLL_SECONDS = 1.0
# A node as `bdctl nodes --json` prints it.
Node = dict[str, Any]


def watch(ask: Callable[[], list[Node]], as_json: bool) -> None:
    """Print a line for each change until interrupted; silence of the node itself is a change too."""
    before: dict[str, Node] | None = None
    is_silent = False
    while True:
        try:
            nodes = {node["name"]: node for node in ask() if node["name"]}
            if is_silent:
                _say(time.time(), "this node", "answers again", as_json)
            is_silent = False
            for name, words in changes(nodes if before is None else before, nodes):
                _say(time.time(), name, words, as_json)
            before = nodes
        except BDError as error:
            if before is None:
                raise
            if not is_silent:
                _say(time.time(), "this node", f"does not answer: {error}", as_json)
            is_silent = True
        time.sleep(POLL_SECONDS)


def _say(at: float, name: str, words: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"at": round(at, 3), "node": name, "change": words}), flush=True)
    else:
        print(f"{time.strftime('%H:%M:%S', time.localtime(at))}  {name} {words}", flush=True)


def changes(before: dict[str, Node], after: dict[str, Node]) -> Iterator[tuple[str, str]]:
    """(node, what happened to it) between two answers; name -> node, as `bdctl nodes --json` has them."""
    for name in sorted(after.keys() - before.keys()):
        yield name, f"is new, {after[name]['status']}, at {after[name]['address']}"
    for name in sorted(before.keys() - after.keys()):
        yield name, "is forgotten"
    for name in sorted(before.keys() & after.keys()):
        yield from ((name, words) for words in _changed(before[name], after[name]))


def _changed(old: Node, new: Node) -> Iterator[str]:
    if old["status"] != new["status"]:
        yield f"is {new['status']}, was {old['status']}"
    if old["version"][0] != new["version"][0] and new["status"] == ALIVE:
        yield "was started anew"
    if old["address"] != new["address"]:
        yield f"is at {new['address']}, was at {old['address']}"
    if old["draining"] != new["draining"]:
        yield "drains" if new["draining"] else "takes calls again"
    is_over, was_over = _is_overloaded(new), _is_overloaded(old)
    if is_over != was_over:
        yield "is overloaded" if is_over else "has room again"
    yield from _offers_changed(old, new)


def _is_overloaded(node: Node) -> bool:
    return bool(node.get("load", 0) > FULL_LOAD)


def _offers_changed(old: Node, new: Node) -> Iterator[str]:
    """Services that come and go, and of those that stay their type, URL and cost, as far as they are told: all that `export`
    and a look-up depend on."""
    before, after = set(old["services"]), set(new["services"])
    for name in sorted(after - before):
        yield f"offers {name} ({new['types'][name]})"
    for name in sorted(before - after):
        yield f"offers {name} no longer"
    for name in sorted(before & after):
        if old["types"][name] != new["types"][name]:
            yield f"offers {name} ({new['types'][name]}), which was {old['types'][name]}"
        if old["urls"][name] != new["urls"][name]:
            yield f"offers {name} at {new['urls'][name]}, was at {old['urls'][name]}"
        costs = old.get("costs", {}).get(name), new.get("costs", {}).get(name)
        if None not in costs and costs[0] != costs[1]:
            yield f"offers {name} at a cost of {costs[1]:g} a call, was {costs[0]:g}"
