"""STATEMENT, SIGN, and the signature of what is published: how an original comes to be signed.

What is signed, and whose signatures count, is the business of files.publishers and trust. An original whose signature does not
count here is served all the same, since an administrator brought it, and never copied: that is said.
"""

from __future__ import annotations

import logging
from typing import Any

from bdserver.core import copies
from bdserver.core.messages import Ok, Stated
from bdserver.core.view import View
from bdserver.errors import BadRequest, BadService, CantFind
from bdserver.files import package, publishers
from bdserver.files.bdcert import Service
from bdserver.files.publishers import Signed
from bdserver.processes import editions
from bdserver.processes.describing import update_own
from bdserver.processes.session import Session
from bdserver.processes.trust import said_of_original

log = logging.getLogger("bdserver.signing")


def answer_statement(session: Session, service: str, take_over: bool = False) -> Stated:
    """What a publisher is to sign of a service here, or of one that is to come, and what was signed of it."""
    node = session.node
    mine = node.services.get(service) if take_over else _original(session, service)
    sha256 = _sha256(session, mine) if mine is not None and mine.is_here else ""
    counter = editions.to_be_signed(node, session.view(), service)
    if mine is None:
        return Stated(counter, sha256, "")
    wished = {key: value for key, value in kept(mine).items() if value}
    return Stated(counter, sha256, mine.signature, wished)


def kept(mine: Service) -> dict[str, Any]:
    """What a new edition of it has too unless something else is wished, by the names of PUBLISH."""
    url = mine.url if mine.is_here else ""  # of one that was elsewhere, it says where
    return {"weight": mine.cost, "url": url, "health": mine.health, "replicas": mine.replicas, "copies": mine.copies}


def answer_sign(session: Session, service: str, signature: str) -> Ok:
    """What is offered here is signed from now on: a new edition of the same content, which its copies fetch."""
    node, mine = session.node, _original(session, service)
    if mine is None or not mine.is_here:
        raise CantFind(f"{service}: no file or folder of that name is offered here")
    fresh = labelled(session, mine, read(signature, _sha256(session, mine)))
    notes = take(session, fresh)
    node.services.relabel(
        service, lambda now: now._replace(edition=fresh.edition, signer=fresh.signer, signature=fresh.signature)
    )
    update_own(node)
    node.journal.note("signed", service, node.clock(), asker=session.caller.name, signer=fresh.signer)
    log.info("%s signed by the key %s, brought by %s", service, fresh.signer, session.caller)
    return Ok("", notes)


def _original(session: Session, service: str) -> Service | None:
    mine = session.node.services.get(service)
    if mine is not None and mine.is_copy:
        raise BadService(is_a_copy(session.view(), mine, "sign"))
    return mine


def is_a_copy(view: View, mine: Service, wish: str) -> str:
    """Why what is wished for (a verb) is not done to our copy, and what to do instead."""
    found = copies.standing(view, mine.name, mine)
    where = "nobody has its original" if found.is_orphan else f"its original is at {found.original}"
    return f"{mine.name} is a copy here, and {where}: {'bdctl adopt it first' if found.is_orphan else f'{wish} it there'}"


def _sha256(session: Session, mine: Service) -> str:
    settings = session.node.settings
    return package.sha256_of(mine, settings.package_bytes_max, settings.package_files_max)


def read(text: str, sha256: str) -> Signed | None:
    """The signature of a package with this SHA-256; none in an empty text."""
    if not text:
        return None
    try:
        signed = Signed.of_text(text)
    except ValueError as error:
        raise BadRequest(f"INVALID REQUEST: {error}") from None
    if not signed.is_of(sha256):
        raise BadService("what was signed is another package: the service has changed since, or it is not this one")
    return signed


def labelled(session: Session, service: Service, signed: Signed | None) -> Service:
    """An original with its edition and signature; where nobody signs it now, that of before counts for the same content."""
    node, here = session.node, session.node.services.get(service.name)
    if signed is not None:
        service = service._replace(signer=signed.signer, signature=signed.text)
    elif here is not None and not here.is_copy:
        service = service._replace(signer=here.signer, signature=here.signature)
    edition = editions.of_original(node, session.view(), service)
    if service.signature and not publishers.counter_of(service.signature, edition.digest):
        if signed is not None:
            raise BadService(f"{service.name} is another package here than what was signed")
        service = service._replace(signer="", signature="")
    return service._replace(edition=edition)


def take(session: Session, service: Service) -> list[str]:
    """What there is to say about the signature of an original; BadPackage for a good one that is older than what was here."""
    node, judges = session.node, session.node.rules.publishers
    if not service.is_here or not judges.are_asked_for:
        return []
    digest = service.edition.digest
    if why := judges.doubt(service.name, digest, service.signature):
        return [said_of_original(service.name, why)]
    node.trust.take(service.name, digest, service.signature, node.clock())
    return []
