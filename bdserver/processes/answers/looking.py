"""PING, PROBE, GIVEYOURSERVICES, STATUS: requests that look, and change nothing."""

from __future__ import annotations

from typing import Any

from bdserver import __version__
from bdserver.core import membership, messages, weight
from bdserver.core.membership import Record
from bdserver.core.messages import NoPong, Offers, Pong, Status
from bdserver.core.roles import ADMIN
from bdserver.core.view import View
from bdserver.errors import BDError, NobodyThere, PolicyMismatch, Refused
from bdserver.files.settings import in_words
from bdserver.processes.node import Node
from bdserver.processes.session import Session

# Of the journal, STATUS tells this many events.
EVENTS_TOLD = 20
# What is left for our own word when a PING for somebody else has taken its time.
ANSWER_SECONDS = 0.05


def answer_ping(session: Session) -> Pong:
    """PONG, and the digest of our view: a node whose own differs, and that hears no news, comes and synchronises."""
    return Pong(session.view().digest(), session.node.gossip_port)


def answer_probe(session: Session, address: str) -> Pong | NoPong:
    """PING a node in place of a caller that could not reach it (SWIM's ping-req). A policy mismatch shows that it lives.

    A node's wish is carried out only where a node is known to live, with one answer for every kind of silence: else any node
    would have a scanner of ports in us. That a node's own host refuses, which is evidence of its death, is told apart. An
    administrator may ask for any address, and hears all."""
    record = session.view().at_address(address)
    is_admin = session.caller.role == ADMIN
    if record is None and not is_admin:
        return NoPong(NobodyThere.code, f"{address}: no answer")
    deadline = session.deadline - ANSWER_SECONDS
    try:
        with session.node.call(address, deadline, record.name if record is not None else None) as conversation:
            conversation.ask(["PING"], deadline)
    except PolicyMismatch:
        pass
    except Refused as error:
        return NoPong(Refused.code, str(error) if is_admin else f"{address}: connection refused")
    except BDError as error:
        return NoPong(error.code, str(error)) if is_admin else NoPong(NobodyThere.code, f"{address}: no answer")
    return Pong()


def answer_giveyourservices(session: Session) -> Offers:
    """The time, our services, our free dynamic slots."""
    own = session.view().own
    return Offers(session.node.clock(), sorted(own.services), own.free_dynamic)


def answer_status(session: Session, wish: dict[str, Any] | None = None) -> Status:
    """The shapes of `bdctl status --json` and `bdctl nodes --json`.

    With a wish, for a crawl of the mesh: {"of": NAME} is answered by that node, through this one; {"brief": true} tells
    of the others what differs between observers: [name, address, status, version, talkable, heard_at]."""
    wish = wish or {}
    of, is_brief = wish.get("of"), wish.get("brief") is True
    if isinstance(of, str) and of != session.node.name:
        return _status_of_another(session, of, is_brief)
    node, view = session.node, session.view()
    own = _own_status(node, view, node.clock())
    if session.caller.role == ADMIN:
        own["settings"] = in_words(node.settings)
    if is_brief:
        return Status(own, [_brief(node, view, record) for record in view.records.values()])
    if "brief" in wish:
        own["policies"] = view.policies
    known = [_node_seen(node, view, record) for record in view.records.values()]
    return Status(own, known + [_unvisited(address) for address in sorted(view.hints)])


def _status_of_another(session: Session, name: str, is_brief: bool) -> Status:
    return messages.ask_status(lambda request: session.ask(name, request, session.left()), {"brief": is_brief})


def _own_status(node: Node, view: View, now: float) -> dict[str, Any]:
    own, weights, services = view.own, node.weights(now), node.services.all()
    unhealthy = own.extra.get("unhealthy", [])
    return {
        "address": own.address,
        "name": node.name,
        "mesh": node.mesh,
        "version": list(own.version),
        "software": __version__,
        "nodes": 1 + len(view.others_there()),
        "weight": round(sum(weights.values()), 3),
        "receiver_threshold": node.settings.receiver_threshold,
        "overloaded": weight.is_overloaded(sum(weights.values()), node.settings.receiver_threshold),
        "draining": own.draining,
        "free_dynamic": own.free_dynamic,
        "uptime": round(now - node.life.started_at, 1),
        "certificate_days_left": round(node.credentials.days_left(now), 1),
        "lag": node.heard.report().lag,
        "policy": node.rules.document.text,
        "rival": view.rival[0] if view.rival else None,
        "policy_mode": node.settings.policy_mode,
        "complaints": list(node.services.complaints),
        "warnings": node.warnings(view, now),
        "events": node.journal.recent(EVENTS_TOLD),
        "services": {
            name: {
                "type": service.type,
                "weight": round(weights.get(name, 0.0), 3),
                "cost": service.cost,
                "healthy": name not in unhealthy,
                "checked": service.health != "none",
                "url": membership.service_url(own, name, service.url),
            }
            for name, service in sorted(services.items())
        },
    }


def _is_talkable(node: Node, view: View, record: Record) -> bool:
    return record.name == node.name or node.policies.talkable(view, record)


def _brief(node: Node, view: View, record: Record) -> list[Any]:
    talkable, heard_at = _is_talkable(node, view, record), node.heard_at(view, record.name)
    return [record.name, record.address, record.status, list(record.version), talkable, heard_at]


def _node_seen(node: Node, view: View, record: Record) -> dict[str, Any]:
    return {
        "address": record.address,
        "name": record.name,
        "status": record.status,
        "version": list(record.version),
        "services": sorted(record.services),
        "types": {name: service.type for name, service in record.services.items()},
        "urls": {n: membership.service_url(record, n, each.url) for n, each in record.services.items()},
        "costs": {name: service.cost for name, service in record.services.items()},
        "free_dynamic": record.free_dynamic,
        "load": record.load,
        "receiver_threshold": record.receiver_threshold,
        "policy": record.policy,
        "talkable": _is_talkable(node, view, record),
        "draining": record.draining,
        "heard_at": node.heard_at(view, record.name),
    }


def _unvisited(address: str) -> dict[str, Any]:
    blank = {"services": [], "types": {}, "urls": {}, "free_dynamic": 0, "draining": False, "heard_at": 0.0}
    return {"address": address, "name": None, "status": "unvisited", "version": [0, 0], "talkable": True, **blank}
