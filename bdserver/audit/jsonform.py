"""The JSON form of the audit, for programs: the snapshot, or what it knows of one service or node, as docs/AUDIT.md says.

Fields are added; none goes away or changes its meaning within one FORMAT. Pure.
"""

from __future__ import annotations

from typing import Any

from bdserver.audit.crawl import Offer, Sight
from bdserver.audit.snapshot import Node, ServiceTotal, Snapshot
from bdserver.core import attention, holding

# Raised when a field is removed or changes its meaning.
FORMAT = 1


def whole(snapshot: Snapshot) -> dict[str, Any]:
    """Everything."""
    return {
        **_taken(snapshot),
        "totals": snapshot.totals(),
        "nodes": [_node(snapshot, node) for node in snapshot.nodes],
        "services": [_service(service) for service in snapshot.services],
        "edges": snapshot.edge_counts,
        "views": {observer: _view(snapshot, observer) for observer in snapshot.observers},
        "policies": [{"shown": zone.shown, "nodes": zone.names} for zone in snapshot.zones],
        "warnings": [{"node": name, "text": said} for name, said in snapshot.warnings()],
        "findings": [{"node": name, **attention.as_json(finding)} for name, finding in snapshot.findings()],
        "disagreements": [{"node": name, "says": says} for name, says in snapshot.disagreements],
        "events": snapshot.lately.events(),
        "hints": snapshot.crawl.hints,
        "timeline": _timeline(snapshot, snapshot.entry),
    }


def of_service(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """One service; CantFind when there is none of this name."""
    service, by_name = snapshot.service(name), snapshot.by_name
    return {
        **_taken(snapshot),
        "service": _service(service),
        "findings": [attention.as_json(finding) for finding in service.whole.findings()],
        "offers": {holder: _offer(by_name[holder].services[name]) for holder in service.holders},
        "dead": {node.name: _offer(node.services[name]) for node in snapshot.dead_holders(name)},
        "events": snapshot.lately.events(name),
        **_traffic(snapshot, service=name),
    }


def of_node(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """One node; CantFind when nobody knows it."""
    node = snapshot.node(name)
    return {
        **_taken(snapshot),
        "node": _node(snapshot, node),
        "seen": {
            observer: _sight(snapshot, observer, sights[name])
            for observer, sights in sorted(snapshot.crawl.sights.items())
            if name in sights and observer != name
        },
        "events": snapshot.lately.events_of_node(name),
        **_traffic(snapshot, node=name),
        "timeline": _timeline(snapshot, name),
    }


def _taken(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "taken_at": round(snapshot.taken_at, 3),
        "seconds": round(snapshot.seconds, 3),
        "entry": snapshot.entry,
        "mesh": snapshot.mesh,
    }


def _service(service: ServiceTotal) -> dict[str, Any]:
    """Its fields, and of the whole those that are not told already."""
    seen = service.whole
    return {key: value for key, value in service._asdict().items() if key != "whole"} | {
        "living": seen.living,
        "wanted": seen.wanted,
        "edition": list(seen.newest),
        "stale": seen.stale,
        "orphans": seen.orphans,
        "rivals": seen.rivals and {"digests": dict(seen.rivals.digests), "since": seen.rivals.since},
    }


def _node(snapshot: Snapshot, node: Node) -> dict[str, Any]:
    fields = node._asdict()
    fields["warnings"] = attention.lines(node.findings)
    fields["findings"] = [attention.as_json(finding) for finding in node.findings]
    fields["policy"] = snapshot.zones[fields.pop("zone")].shown
    fields["services"] = {name: _offer(offer) for name, offer in node.services.items()}
    return fields


def _offer(offer: Offer) -> dict[str, Any]:
    """Whether it is checked is told by the word that the audit has for it."""
    fields = offer._asdict()
    held = holding.as_json(fields.pop("held"))
    del held["checked"]
    return fields | held


def _view(snapshot: Snapshot, observer: str) -> dict[str, Any]:
    return {sight.name: _sight(snapshot, observer, sight) for sight in snapshot.crawl.sights[observer].values()}


def _sight(snapshot: Snapshot, observer: str, sight: Sight) -> dict[str, Any]:
    return {
        "status": sight.status,
        "version": list(sight.version),
        "talkable": sight.talkable,
        "heard_at": sight.heard_at,
        "edge": snapshot.edge(observer, sight.name) if sight.name != observer else None,
    }


def _traffic(snapshot: Snapshot, node: str = "", service: str = "") -> dict[str, Any]:
    lookups = [
        {"by": name, **each._asdict(), "asked": [dict(zip(("node", "answer", "ms"), row, strict=True)) for row in each.asked]}
        for name, each in snapshot.lately.lookups(node, service)
    ]
    return {"askers": [each._asdict() for each in snapshot.lately.askers(node, service)], "lookups": lookups}


def _timeline(snapshot: Snapshot, name: str) -> dict[str, Any] | None:
    status = snapshot.crawl.statuses.get(name)
    line = status.line if status is not None else None
    return line and {**line._asdict(), "spans": [span._asdict() for span in line.spans], "node": name}
