"""INVITE, INVITATIONS, UNINVITE: who may join the mesh, by a token that a signer makes."""

from __future__ import annotations

import logging
import os
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from bdserver.core import joining, pages
from bdserver.core.joining import Invitation
from bdserver.core.membership import SIGNER
from bdserver.core.messages import Invitations, Invited, Ok
from bdserver.core.view import View
from bdserver.errors import NoSuchCommand
from bdserver.processes.node import Node
from bdserver.processes.session import Session

log = logging.getLogger("bdserver.admin")

# Of the signers, a complaint names this many.
SIGNERS_SHOWN = 3


def answer_invite(session: Session, wish: dict[str, Any]) -> Invited:
    """A token; nobody can ask for it again, since its hash alone is kept."""
    node = session.node
    refuse_no_signer(node, session.view(), "invite")
    name, role, uses, seconds = joining.wished(wish)
    now = node.clock()
    root = node.credentials.root.public_bytes(Encoding.DER)
    token = joining.make_token(root, node.name, os.urandom)
    secret_hash = joining.hash_of(token.secret)
    invitation = Invitation(token.id.hex(), secret_hash, name, role, uses, now, now + seconds, str(session.caller))
    node.invitations.add(invitation, now)
    log.info("%s invites %s as %s, for %.0f s: %s", session.caller, name or "any host", role, seconds, invitation.id)
    return Invited(token.text(), session.view().own.address, invitation.until, _note(session.view(), name))


def _note(view: View, name: str) -> str:
    """Of a name that somebody has: whoever types the line would be refused, on another host and perhaps hours later."""
    record = view.records.get(name)
    if record is None or not record.is_there:
        return ""
    return f"{name} is alive, at {record.address}: while it is, no other host is let in by this line"


def answer_invitations(session: Session) -> Invitations:
    """All that are open, and what became of those of the last day."""
    now, book = session.node.clock(), session.node.invitations.book()
    told = sorted((each.told(now) for each in book.invitations.values()), key=lambda each: -each["made_at"])
    return Invitations(pages.within(told), book.unknown)


def answer_uninvite(session: Session, id_: str) -> Ok:
    """Forget a token."""
    session.node.invitations.revoke(id_, session.node.clock())
    log.info("%s revokes the invitation %s", session.caller, id_)
    return Ok()


def refuse_no_signer(node: Node, view: View, verb: str) -> None:
    """NoSuchCommand when this node does not sign, with the names of those that do: it is answered there."""
    if node.signer is not None:
        return
    signers = sorted(f"{each.name} ({each.address})" for each in view.others_there() if each.extra.get(SIGNER))
    if signers:
        raise NoSuchCommand(f"{node.name} is no signer: {verb} on {' or '.join(signers[:SIGNERS_SHOWN])}")
    raise NoSuchCommand(
        f"{node.name} is no signer, and none is known: bdkeys signer DIR {node.name}, then signer=yes in its config"
    )
