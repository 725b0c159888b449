"""RENEW, REVOKE: a signer signs a certificate over the one before, or says that one counts no longer."""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from bdserver.core import statements
from bdserver.core.messages import Certified, Ok
from bdserver.core.names import valid_name
from bdserver.core.nudges import Look
from bdserver.core.statements import NAME, SERIAL, SIGNER, Revocation, Roll, Statement
from bdserver.core.view import View
from bdserver.errors import BadConfig, BadRequest, CantFind, Forbidden, TooBusy
from bdserver.net import chain as chains
from bdserver.net import openssl
from bdserver.net.authority import general_names, request_of
from bdserver.processes.answers.inviting import refuse_no_signer
from bdserver.processes.joining import authorities_of, entry
from bdserver.processes.session import Session

log = logging.getLogger("bdserver.certifying")

# A revocation is kept until the certificate has ended; where that is not known, as long as one by hand is good, and a while.
REVOKED_DAYS = 400.0
# So many as a signer keeps may be signed for one name in this share of their life: a lying node gets no more of our time.
OFTEN_SHARE = 1 / 20
# Statements are about the past, and a signer's may be told in advance: half as long as a node takes in what is dated ahead,
# since the clocks of some are behind ours.
GRACE_SECONDS_MAX = statements.AHEAD_MAX / 2


def answer_renew(session: Session, request: str) -> Certified:
    """Name, role and hosts are those of the caller's certificate; the request proves that it has the key."""
    node, identity = session.node, session.caller.identity
    if identity is None:
        raise Forbidden("RENEW is over the caller's certificate, and the local socket asks for none")
    if node.signer is None:
        refuse_no_signer(node, session.view(), "renew")
        raise AssertionError
    try:
        wish = request_of(request.encode(), "the request")
    except BadConfig as error:
        raise BadRequest(f"INVALID REQUEST: {error}") from None
    if wish.name != identity.name:
        raise Forbidden(f"{identity.name} asks for a certificate of {wish.name}")
    now, hosts = node.clock(), general_names(identity.hosts)
    days = node.settings.certificate_days
    with node.invitations.locked(now) as book:
        if book.has_many(identity.name, identity.role, now - 86400 * days * OFTEN_SHARE):
            raise TooBusy(f"{identity.name} has had its certificate renewed again and again: later")
        chain = node.signer.certify(wish.public_key, identity.name, identity.role, hosts, days)
        book.note(entry(wish, identity.role, chain, now, "renewal"))
    log.info("the certificate of %s %s is renewed", identity.role, identity.name)
    rolls = [each.as_json() for each in session.view().statements.values() if isinstance(statements.meaning(each), Roll)]
    return Certified(chain.pem().decode(), authorities_of(node), rolls)


def answer_revoke(session: Session, wish: dict[str, Any]) -> Ok:
    """By an admin's statement, or by one that this signer makes at the wish of an admin."""
    node, now = session.node, session.node.clock()
    if "statement" in wish:
        statement = statements.from_json(wish["statement"])
        _refuse_doubted(session, statement)
    else:
        if node.signer is None:
            refuse_no_signer(node, session.view(), "revoke")
            raise AssertionError
        text = revocation(wish, session.view(), now).text()
        signature = b64encode(node.signer.sign(statements.PREFIX + text.encode())).decode()
        certificate = b64encode(node.signer.certificate.public_bytes(Encoding.DER)).decode()
        statement = Statement(text, signature, certificate)
    notes = _doubts(session, statements.meaning(statement))
    take(session, statement)
    log.warning("%s by %s", statement.said, session.caller)
    return Ok("", notes)


def _doubts(session: Session, said: Revocation | Roll) -> list[str]:
    """A name that nobody has may be mistyped; or a client's, of whom no view tells."""
    if not isinstance(said, Revocation) or said.what == SERIAL or said.value in session.view().records:
        return []
    if session.node.invitations.book().keys_of(said.value):
        return []
    return [f"note: no node named {said.value} is known here, and none was signed for: is that its name?"]


def answer_roll(session: Session, said: dict[str, Any]) -> Ok:
    """The CA before has signed it, so it speaks for itself; each node does its part from now on."""
    statement = statements.from_json(said)
    if not isinstance(statements.meaning(statement), Roll):
        raise BadRequest("INVALID REQUEST: ROLL takes what bdkeys roll has made")
    _refuse_doubted(session, statement)
    take(session, statement)
    log.warning("the CA is rolled, by %s", session.caller)
    return Ok()


def _refuse_doubted(session: Session, statement: Statement) -> None:
    why = statements.untimely(statement, session.node.clock()) or session.node.proofs.vouch(statement)
    if why is not None:
        raise BadRequest(f"the statement is not believed: {why}")


def take(session: Session, statement: Statement) -> None:
    """Into the view, and to everybody: with our own record, said once more."""
    now = session.node.clock()
    with session.node.cache.locked() as view:
        if not view.state(statement, now):
            if statement.id in view.statements:
                return
            raise TooBusy(f"there are {len(view.statements)} statements about certificates, and no room for more")
        view.repeat(now)
    session.node.nudge(Look())


def revocation(wish: dict[str, Any], view: View, now: float) -> Revocation:
    """What an admin wishes to be said; BadRequest or CantFind when it makes no sense."""
    what, value, why = wish.get("what"), wish.get("value"), wish.get("why", "")
    in_seconds = wish.get("in", 0.0)
    if what not in (NAME, SERIAL, SIGNER) or not isinstance(value, str) or not isinstance(why, str):
        raise BadRequest("INVALID REQUEST: REVOKE takes what (name, serial or signer), value and why")
    if type(in_seconds) not in (int, float) or not 0 <= in_seconds <= GRACE_SECONDS_MAX:
        raise BadRequest("INVALID REQUEST: a revocation is told 12 h in advance at most")
    if len(why) > statements.WHY_CHARACTERS_MAX:
        raise BadRequest(f"INVALID REQUEST: a reason has {statements.WHY_CHARACTERS_MAX} characters at most")
    if what != SERIAL and not valid_name(value):
        raise BadRequest(f"INVALID REQUEST: {value[:60]!r} is no name")
    if what == NAME and value == view.me:
        raise CantFind(f"{value}: this node does not revoke itself: ask another signer")
    at = now + in_seconds
    return Revocation(what, value, at, max(at + REVOKED_DAYS * 86400, _ends(view, value)), why)


def _ends(view: View, name: str) -> float:
    """When the certificate of a node that is known ends; 0 when none is."""
    record = view.records.get(name)
    text = view.certificates.get(record.certificate, "") if record is not None else ""
    try:
        return openssl.ends(chains.from_der(b64decode(text)).certificate).timestamp() if text else 0.0
    except ValueError:
        return 0.0
