"""What changed in the mesh between two looks at it: who came, went, is overloaded; what is offered, copied, ill.

Works on nodes as STATUS tells of them (the shape of `bdctl nodes --json`); what an older node does not tell is never said to
have changed. For `bdctl watch`, the gateway's /v1/watch and the program of `on_change` alike. To look is their business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from bdserver.core.membership import ALIVE, DYNAMIC
from bdserver.core.tuples import NamedTuple
from bdserver.core.weight import FULL_LOAD

# A node as `bdctl nodes --json` prints it.
Node = dict[str, Any]


class Kind(StrEnum):
    """What happened."""

    NEW = "new"
    FORGOTTEN = "forgotten"
    STATUS = "status"
    STARTED = "started"
    MOVED = "moved"
    DRAINING = "draining"
    OVERLOADED = "overloaded"
    OFFERED = "offered"
    COPIED = "copied"
    WITHDRAWN = "withdrawn"
    ILL = "ill"
    WELL = "well"
    EDITION = "edition"
    TYPE = "type"
    URL = "url"
    COST = "cost"


class Change(NamedTuple):
    """`kind` happened to `node`, and to its `service` where it is about one; `words` tell a person."""

    node: str
    kind: Kind
    words: str
    service: str = ""

    def facts(self) -> dict[str, str]:
        """As programs are told of it."""
        about = {"service": self.service} if self.service else {}
        return {"node": self.node, "kind": str(self.kind), **about, "change": self.words}


def named(nodes: Iterable[Node]) -> dict[str, Node]:
    """name -> node, of those that have answered."""
    return {node["name"]: node for node in nodes if node["name"]}


def changes(before: Mapping[str, Node], after: Mapping[str, Node]) -> Iterator[Change]:
    """What happened between two answers; name -> node."""
    for name in sorted(after.keys() - before.keys()):
        yield Change(name, Kind.NEW, f"is new, {after[name]['status']}, at {after[name]['address']}")
    for name in sorted(before.keys() - after.keys()):
        yield Change(name, Kind.FORGOTTEN, "is forgotten")
    for name in sorted(before.keys() & after.keys()):
        yield from _changed(name, before[name], after[name])


def _changed(name: str, old: Node, new: Node) -> Iterator[Change]:
    if old["status"] != new["status"]:
        yield Change(name, Kind.STATUS, f"is {new['status']}, was {old['status']}")
    if old["version"][0] != new["version"][0] and new["status"] == ALIVE:
        yield Change(name, Kind.STARTED, "was started anew")
    if old["address"] != new["address"]:
        yield Change(name, Kind.MOVED, f"is at {new['address']}, was at {old['address']}")
    if old["draining"] != new["draining"]:
        yield Change(name, Kind.DRAINING, "drains" if new["draining"] else "takes calls again")
    is_over, was_over = _is_overloaded(new), _is_overloaded(old)
    if is_over != was_over:
        yield Change(name, Kind.OVERLOADED, "is overloaded" if is_over else "has room again")
    yield from _offers_changed(name, old, new)


def _is_overloaded(node: Node) -> bool:
    return bool(node.get("load", 0) > FULL_LOAD)


def _offers_changed(name: str, old: Node, new: Node) -> Iterator[Change]:
    """Services that come and go, and of those that stay their type, URL, cost and edition, as far as they are told: all that
    `export` and a look-up depend on. One that is ill is offered no longer, and is said to be ill instead."""
    before, after = set(old["services"]), set(new["services"])
    were_ill, are_ill = set(old.get("unhealthy", ())), set(new.get("unhealthy", ()))
    for service in sorted(after - before):
        if service in were_ill:
            yield Change(name, Kind.WELL, f"offers {service} again, which is well", service)
            continue
        kind = new["types"][service]
        yield Change(name, Kind.COPIED if kind == DYNAMIC else Kind.OFFERED, f"offers {service} ({kind})", service)
    for service in sorted(are_ill - were_ill):
        yield Change(name, Kind.ILL, f"does not offer {service}, which is not well", service)
    for service in sorted((before | were_ill) - after - are_ill):
        yield Change(name, Kind.WITHDRAWN, f"offers {service} no longer", service)
    for service in sorted(before & after):
        yield from _offer_changed(name, service, old, new)


def _offer_changed(name: str, service: str, old: Node, new: Node) -> Iterator[Change]:
    if old["types"][service] != new["types"][service]:
        words = f"offers {service} ({new['types'][service]}), which was {old['types'][service]}"
        yield Change(name, Kind.TYPE, words, service)
    if _differ(_edition(service, old), _edition(service, new)):
        yield Change(name, Kind.EDITION, f"offers a new edition of {service}", service)
    if old["urls"][service] != new["urls"][service]:
        yield Change(name, Kind.URL, f"offers {service} at {new['urls'][service]}, was at {old['urls'][service]}", service)
    was, cost = (each.get("costs", {}).get(service) for each in (old, new))
    if _differ(was, cost):
        yield Change(name, Kind.COST, f"offers {service} at a cost of {cost:g} a call, was {was:g}", service)


def _edition(service: str, node: Node) -> Any:
    return node.get("offers", {}).get(service, {}).get("edition")


def _differ(old: Any, new: Any) -> bool:
    """Whether both are told, and are not the same."""
    return None not in (old, new) and old != new
