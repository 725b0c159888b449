"""bdctl watch and bdctl export: what changes in the mesh as it changes; what it offers now, for other programs.

Both work on what STATUS tells of nodes. What a change is, and the forms of export, are pure functions.
"""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

from bdserver.core.address import split_address
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
    if old["version"][0] != new["version"][0] and new["status"] == "alive":
        yield "was started anew"
    if old["address"] != new["address"]:
        yield f"is at {new['address']}, was at {old['address']}"
    if old["draining"] != new["draining"]:
        yield "drains" if new["draining"] else "takes calls again"
    is_over, was_over = new["load"] > FULL_LOAD, old["load"] > FULL_LOAD
    if is_over != was_over:
        yield "is overloaded" if is_over else "has room again"
    for service in sorted(set(new["services"]) - set(old["services"])):
        yield f"offers {service} ({new['types'][service]})"
    for service in sorted(set(old["services"]) - set(new["services"])):
        yield f"offers {service} no longer"


# --- export -------------------------------------------------------------------------------------------------------


def exported(form: str, nodes: list[Node]) -> str:
    """What the living nodes offer, as `haproxy`, `hosts` or `json`."""
    there = sorted((node for node in nodes if node["status"] == "alive"), key=lambda node: node["name"])
    return FORMS[form](there)


def _places(nodes: list[Node]) -> dict[str, list[Node]]:
    """service -> [{"node", "host", "port", "url", "type"}]; those whose node drains or whose URL has no host are left out."""
    found: dict[str, list[Node]] = {}
    for node in nodes:
        for service in [] if node["draining"] else node["services"]:
            url = urllib.parse.urlsplit(node["urls"][service])
            if url.hostname:
                port = url.port or (443 if url.scheme == "https" else 80)
                place = {"node": node["name"], "host": url.hostname, "port": port, "url": url.geturl()}
                found.setdefault(service, []).append({**place, "type": node["types"][service]})
    return dict(sorted(found.items()))


def _haproxy(nodes: list[Node]) -> str:
    """A backend for each service: give it to `haproxy -f` beside your frontends, and reload when it changes."""
    blocks = []
    for service, places in _places(nodes).items():
        servers = [f"    server {place['node']} {_host(place['host'])}:{place['port']} check" for place in places]
        blocks.append("\n".join([f"backend {service}", *servers]) + "\n")
    return "\n".join(blocks)


def _hosts(nodes: list[Node]) -> str:
    """Lines for /etc/hosts; nodes that are known by a name already need none."""
    rows = [(split_address(node["address"])[0], node["name"]) for node in nodes]
    return "".join(f"{host}\t{name}\n" for host, name in rows if host and (host[0].isdigit() or ":" in host))


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


FORMS: dict[str, Callable[[list[Node]], str]] = {
    "haproxy": _haproxy,
    "hosts": _hosts,
    "json": lambda nodes: json.dumps(_places(nodes), indent=2) + "\n",
}
