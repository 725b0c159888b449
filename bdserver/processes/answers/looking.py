"""PING, PROBE, GIVEYOURSERVICES, STATUS: requests that look, and change nothing."""

from __future__ import annotations

from typing import Any

from bdserver import __version__
from bdserver.core import attention, fields, holding, membership, pages, timeline, turns, weight
from bdserver.core.membership import SIGNER, Record
from bdserver.core.messages import NoPong, Offers, Pong, Status
from bdserver.core.roles import ADMIN, CLIENT, NODE
from bdserver.core.statements import Revocation
from bdserver.core.view import View
from bdserver.errors import BadRequest, BDError, NobodyThere, PolicyMismatch, Refused
from bdserver.files.bdcert import Service
from bdserver.files.settings import in_words
from bdserver.processes import facts
from bdserver.processes.node import Node
from bdserver.processes.renewing import rolls_told
from bdserver.processes.session import Session

# Of the journal, STATUS tells this many events.
EVENTS_TOLD = 20
# And so many look-ups, and callers of so many services.
LOOKUPS_TOLD, ASKED_SERVICES_MAX = 20, 20
# A list of hints may be longer.
SETTING_CHARACTERS_MAX = 1000
# No host's name or digest is longer.
SHORT_CHARACTERS_MAX = 300
# Services of one node that are not well; whoever has more is not well itself.
ILL_TOLD_MAX = 100
# A name of 100 characters four times, type and cost; where it is not as usual once more, and as much that says how;
# and what JSON makes of an odd character.
SERVICE_BYTES_ABOUT, HELD_BYTES_ABOUT, BYTES_OF_A_CHARACTER_MAX = 550, 700, 6
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
    of the others what differs between observers: [name, address, status, version, talkable, heard_at]; {"from": NEXT} goes on
    where the page before ended; {"detail": true} tells who calls and where look-ups went, {"detail": SERVICE} of one service
    alone, and whose calls and look-ups these were to whom callers_seen_by allows it; {"timeline": HOURS} tells what was."""
    wish = wish or {}
    of, is_brief, start = wish.get("of"), wish.get("brief") is True, wish.get("from", "")
    if not isinstance(start, str):
        raise BadRequest("INVALID REQUEST: from must be what the page before said")
    if isinstance(of, str) and of != session.node.name:
        return _status_of_another(session, of, is_brief, start, wish)
    node, view = session.node, session.view()
    told, goes_on = pages.page(_sections(node, view, wish), start)
    own = _own_status(node, view, node.clock()) | {"services": told["services"]}
    if session.caller.role == ADMIN:
        own["settings"] = {name: word[:SETTING_CHARACTERS_MAX] for name, word in in_words(node.settings).items()}
    if "brief" in wish and not is_brief:
        own["policies"] = told["policies"]
    if not start:
        own |= _wished(session, wish)
    return Status(own, [*told["nodes"].values(), *told["hints"].values()], goes_on)


def _wished(session: Session, wish: dict[str, Any]) -> dict[str, Any]:
    """What is told to those alone who want to see it, since it takes a look at files."""
    node = session.node
    found: dict[str, Any] = {}
    detail, hours, now = wish.get("detail"), wish.get("timeline"), node.clock()
    if detail is True or isinstance(detail, str):
        service = detail if isinstance(detail, str) else None
        called = sorted(name for name in node.hitlog.called() & node.services.all().keys() if service in (None, name))
        askers = {name: node.hitlog.askers(name, now) for name in called[:ASKED_SERVICES_MAX]}
        lookups = node.lookups.recent(service)[:LOOKUPS_TOLD]
        if not _sees_callers(session, wish):
            askers = {name: [["", calls] for _, calls in each] for name, each in askers.items()}
            lookups = [{**each, "client": ""} for each in lookups]
        found["askers"] = {name: each for name, each in askers.items() if each}
        found["lookups"] = pages.within(lookups)
    if isinstance(hours, int) and 1 <= hours <= timeline.HOURS_MAX and node.settings.timeline_hours:
        found["timeline"] = timeline.told(node.files.timeline.read(), int(now) // 60, min(hours, node.settings.timeline_hours))
    return found


def _sees_callers(session: Session, wish: dict[str, Any]) -> bool:
    """Whether addresses are told: a node that passes on a question says whether an administrator asks, and decides of its own
    callers alone."""
    role = session.caller.role
    return role == ADMIN or session.node.settings.callers_seen_by == CLIENT or (role == NODE and wish.get("callers") is True)


def _sections(node: Node, view: View, wish: dict[str, Any]) -> list[pages.Section]:
    """What is told in pages: our services, the texts of policies, all nodes, and hints."""
    services, weights, is_brief = node.services.all(), node.load.weights(node.clock()), wish.get("brief") is True
    calls = node.load.calls(node.clock())
    texts = [digest for digest, text in view.policies.items() if len(text) <= fields.TEXT_MAX]
    tell, heard_at = _brief if is_brief else node_seen, node.heard_at(view)
    return [
        pages.Section(
            "services", sorted(services), lambda name: _offer(view, services[name], weights.get(name, 0.0), calls.get(name, 0))
        ),
        pages.Section("policies", sorted(texts) if "brief" in wish and not is_brief else [], view.policies.__getitem__),
        pages.Section("nodes", sorted(view.records), lambda name: tell(node, view, view.records[name], heard_at(name))),
        pages.Section("hints", [] if is_brief else sorted(view.hints), _unvisited),
    ]


def _offer(view: View, service: Service, weight: float, calls: int) -> dict[str, Any]:
    own, name = view.own, service.name
    return {
        "type": service.type,
        "weight": round(weight, 3),
        "cost": service.cost,
        "calls": calls,
        "healthy": name not in own.extra.get("unhealthy", []),
        "checked": service.health != "none",
        "url": membership.service_url(own, name, service.url),
        "living": len(view.holders(name)),
        "wanted": turns.wanted(view, name),
        **(holding.told(view, own, name) if name in own.services else {}),
    }


def _status_of_another(session: Session, name: str, is_brief: bool, start: str, whole: dict[str, Any]) -> Status:
    """One page of it."""
    wish = {"brief": is_brief, **({"from": start} if start else {})}
    wish |= {key: whole[key] for key in ("detail", "timeline") if key in whole}
    if session.caller.role == ADMIN:
        wish["callers"] = True
    said: Status = session.ask(name, ["STATUS", wish], session.left())
    return said


def _own_status(node: Node, view: View, now: float) -> dict[str, Any]:
    own, weights, found = view.own, node.load.weights(now), facts.findings(node, view, now)
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
        "certificate_days_left": round(node.credentials.days_left(now), 4),
        "certificate_serial": f"{node.credentials.identity.serial:x}",
        "certificate": _certificate(node),
        "roll": rolls_told(node, view, now),
        "revoked": pages.within([_revoked(each) for each in view.revocations.all(now)]),
        "lag": node.heard.report().lag,
        "policy": node.rules.document.text,
        "rival": rival.address if (rival := view.living_rival(now)) is not None else None,
        "policy_mode": node.settings.policy_mode,
        "complaints": pages.lines_within(node.services.complaints),
        "warnings": pages.lines_within(attention.lines(found)),
        "findings": pages.within(map(attention.as_json, found)),
        "events": pages.within(node.journal.recent(EVENTS_TOLD)),
        "counters": node.counters.told(),
        "rates": node.counters.rates(),
    }


def _certificate(node: Node) -> dict[str, Any]:
    """Our own, as it is in force."""
    identity = node.credentials.identity
    signer = identity.signer.name if identity.signer is not None else None
    return {
        "serial": f"{identity.serial:x}",
        "signer": signer,
        "until": node.credentials.not_after,
        "signs": node.signer is not None,
    }


def _revoked(said: Revocation) -> dict[str, Any]:
    return {"what": said.what, "value": said.value, "at": said.at, "until": said.until, "why": said.why}


def _is_talkable(node: Node, view: View, record: Record) -> bool:
    return record.name == node.name or node.policies.talkable(view, record)


def _brief(node: Node, view: View, record: Record, heard_at: float) -> list[Any]:
    talkable = _is_talkable(node, view, record)
    return [record.name, _short(record.address), record.status, list(record.version), talkable, heard_at]


def node_seen(node: Node, view: View, record: Record, heard_at: float) -> dict[str, Any]:
    """A node as this one sees it: the shape of `bdctl nodes --json`."""
    urls, offers, left_out = _services_within(view, record)
    ill = _ill(record)
    return {
        "address": _short(record.address),
        "name": record.name,
        "status": record.status,
        "version": list(record.version),
        "services": list(urls),
        "types": {name: record.services[name].type for name in urls},
        "urls": urls,
        "costs": {name: record.services[name].cost for name in urls},
        "free_dynamic": record.free_dynamic,
        "load": record.load,
        "receiver_threshold": record.receiver_threshold,
        "policy": record.policy and _short(record.policy),
        "talkable": _is_talkable(node, view, record),
        "draining": record.draining,
        "heard_at": heard_at,
        **({"unhealthy": ill} if ill else {}),
        "offers": offers,
        **({"left_out": left_out} if left_out else {}),
        **({"signs": True} if record.extra.get(SIGNER) else {}),
    }


def _ill(record: Record) -> list[str]:
    """The services that a node does not offer since they are not well."""
    said: list[str] = record.extra.get("unhealthy", [])
    return said[:ILL_TOLD_MAX]


def _services_within(view: View, record: Record) -> tuple[dict[str, str], dict[str, dict[str, Any]], int]:
    """service -> URL of a node's services, as many as may be told of one node; service -> how it stands there, where that is
    not as usual; and how many more services there are."""
    urls: dict[str, str] = {}
    offers: dict[str, dict[str, Any]] = {}
    room = pages.PAGE_BYTES // 2
    for name in sorted(record.services):
        url = membership.service_url(record, name, record.services[name].url)
        held = holding.told(view, record, name)
        room -= SERVICE_BYTES_ABOUT + BYTES_OF_A_CHARACTER_MAX * len(url) + (HELD_BYTES_ABOUT if held else 0)
        if room < 0:
            break
        urls[name] = url
        if held:
            offers[name] = held
    return urls, offers, len(record.services) - len(urls)


def _short(text: str) -> str:
    """An address or a digest, whatever a node says that its own is."""
    return text[:SHORT_CHARACTERS_MAX]


def _unvisited(address: str) -> dict[str, Any]:
    blank = {"services": [], "types": {}, "urls": {}, "free_dynamic": 0, "draining": False, "heard_at": 0.0}
    return {"address": _short(address), "name": None, "status": "unvisited", "version": [0, 0], "talkable": True, **blank}
