"""What this node says of itself to the mesh: its own record, brought up to date by what lies here.

`update_own` is the way for whoever changed something: it asks for no account of what that was, describes all anew under the
cache's lock, and wakes the discoverer if anything is different. A record is signed where the lock is left (`View.seal`); how it
travels is the discoverer's business, and what others make of it core's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from bdserver.core import copies, membership, namesakes, nudges, weight
from bdserver.core.membership import LEFT, NO_EDITION, STATIC, WITHDRAWN_MAX, Copies, Record, Withdrawal
from bdserver.core.namesakes import Claim, Namesakes
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import TOMBSTONE_SECONDS, View
from bdserver.files.bdcert import Service
from bdserver.net.identity import Identity
from bdserver.net.proofs import fingerprint
from bdserver.processes.node import Node
from bdserver.processes.trust import Judged


class Told(NamedTuple):
    """What our record is to say beside what lies in files; None leaves it as it says. `withdrawn`: from now on; `idle`: epoch
    second of the last call of copies that wish to retire."""

    draining: bool | None = None
    unhealthy: Collection[str] | None = None
    withdrawn: Mapping[str, Withdrawal] = MappingProxyType({})
    idle: Mapping[str, int] | None = None


def describe(node: Node, view: View, now: float, told: Told = Told()) -> bool:  # noqa: B008 (a value that nobody can change)
    """Bring this node's own record in `view` (held locked) up to date; True if it changed."""
    document = node.rules.document
    if document.digest is not None and document.text is not None:
        view.learn_policy(document.digest, document.text)
    is_learnt = bool(node.proofs.digest) and view.learn_certificate(node.proofs.digest, node.proofs.certificate)
    described, _ = _described(node, view.own, now, told, namesakes_of(node, view, now))
    return view.describe(described, now) or is_learnt


def namesakes_of(node: Node, view: View, now: float) -> Namesakes | None:
    """This node and another live one of its name, if there is one."""
    rival = view.living_rival(now)
    if rival is None:
        return None
    text = view.certificates.get(rival.certificate, "")
    return Namesakes(
        _claim(node.address, node.credentials.identity),
        _claim(rival.address, node.proofs.identity(rival.certificate, text) if text else None),
    )


def _described(node: Node, own: Record, now: float, told: Told, two: Namesakes | None = None) -> tuple[Record, list[str]]:
    """Our record as it should be, and the services that have no room in it."""
    services = node.services.all()
    sick = own.extra.get("unhealthy", []) if told.unhealthy is None else told.unhealthy
    total, judged = node.load.total_weight(now), node.trust.judged()
    withdrawn = _withdrawn({**own.withdrawn, **told.withdrawn}, services, now)
    return membership.fitting(
        own._replace(
            address=node.address,
            services={
                name: _offered(node, each, own, told, judged)
                for name, each in services.items()
                if name not in sick
                and name not in judged.untrusted
                and (each.is_copy or name not in withdrawn or not each.is_here)
            },
            free_dynamic=min(max(node.settings.max_dynamic - node.dynamic_count(), 0), membership.FREE_DYNAMIC_MAX),
            load=weight.load_step(total, node.settings.receiver_threshold, own.load),
            receiver_threshold=node.settings.receiver_threshold,
            web_port=node.settings.axis_port,
            gossip_port=node.settings.gossip_port,
            web_dir=node.settings.axis_web_dir,
            service_url=node.settings.service_url,
            policy=node.rules.document.digest,
            draining=own.draining if told.draining is None else told.draining,
            withdrawn=withdrawn,
            extra=_said_beside(node, sorted(set(sick) & services.keys()), two),
            certificate=node.proofs.digest,
        )
    )


def _offered(node: Node, service: Service, own: Record, told: Told, judged: Judged) -> membership.Service:
    """What our record says of a service."""
    before, idle_since, edition = own.services.get(service.name), 0, service.edition
    if edition == NO_EDITION and service.is_here and before is not None and before.type == service.type == STATIC:
        edition = before.edition  # its .bdcert was written anew by hand: what it is now, somebody is about to see
    if service.is_copy:
        idle_since = told.idle.get(service.name, 0) if told.idle is not None else before.idle_since if before else 0
    return membership.Service(
        service.type,
        service.cost,
        service.url,
        judged.may_give(service),
        edition,
        service.original,
        service.after,
        service.replicas,
        Copies(service.copies or node.settings.copies),
        judged.signer(service),
        idle_since,
        service.health != "none",
    )


def _withdrawn(said: Mapping[str, Withdrawal], services: Mapping[str, Service], now: float) -> dict[str, Withdrawal]:
    """Of what we have withdrawn, what is still worth telling: the newest, of a day, and not what is offered here anew."""
    kept = [
        (name, each)
        for name, each in said.items()
        if now - TOMBSTONE_SECONDS <= each.at
        and not (name in services and not services[name].is_copy and services[name].edition.counter > each.counter)
    ]
    kept.sort(key=lambda item: item[1].at)
    return dict(kept[-WITHDRAWN_MAX:])


def _said_beside(node: Node, sick: list[str], two: Namesakes | None) -> dict[str, Any]:
    """Of our record: what not every node has to say."""
    said: dict[str, Any] = {"unhealthy": sick} if sick else {}
    if two is not None:
        said[namesakes.FIELD] = two.as_json()
    if node.signer is not None:
        said[membership.SIGNER] = fingerprint(node.signer.root)
    if len(node.credentials.authorities) > 1:
        said[membership.ROOTS] = sorted(map(fingerprint, node.credentials.authorities))
    return said


def left_out(node: Node, own: Record, now: float) -> list[str]:
    """The services that have no room in our record; asked for only where some are not in it."""
    hidden = {*own.extra.get("unhealthy", []), *node.trust.untrusted()}
    missing = node.services.all().keys() - own.services.keys() - hidden
    return _described(node, own, now, Told())[1] if missing else []


def finish_withdrawals(node: Node, own: Record) -> None:
    """What our record says is withdrawn, and lies here still: the life before ended between the two."""
    for name, service in node.services.all().items():
        if not service.is_copy and service.edition.counter and copies.is_withdrawn(own, name, service.edition):
            node.services.withdraw(name)


def own_record(node: Node) -> Record:
    """Our record at the start."""
    return Record(node.name, node.address, (0, 0))


def update_own(node: Node, told: Told = Told()) -> bool:  # noqa: B008 (a value that nobody can change)
    """Describe ourselves anew under the cache's lock, and nudge the discoverer to spread it."""
    with node.cache.locked() as view:
        changed = describe(node, view, node.clock(), told)
    if changed:
        node.nudge(nudges.Look())
    return changed


def mark_left(node: Node) -> Record:
    """Our last word to the mesh, as a record."""
    with node.cache.locked() as view:
        view.describe(view.own._replace(status=LEFT), node.clock())
        return view.own


def _claim(address: str, identity: Identity | None) -> Claim:
    if identity is None:
        return Claim(address)
    return Claim(address, f"{identity.serial:x}", identity.signer.name if identity.signer is not None else "")
