"""A stranger joins: what a signer says to somebody who has no certificate yet, and a token to get one.

It happens in a child, on a connection of its own kind (bd-join/1), which nobody gets while there is no invitation. All of it
has the time that a handshake has, and a message has few bytes: somebody without a token costs no more than somebody without a
certificate. What it is told is what each handshake shows: certificates. Who is let in, by which token, is core.joining's rule;
it is asked, and the certificate signed, while nobody else can change the invitations.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from base64 import b64decode
from datetime import UTC, datetime

from bdserver.core import joining, messages
from bdserver.core.joining import Admission, Invitation, Joined, Welcome, Wish
from bdserver.core.roles import NODE
from bdserver.core.view import View
from bdserver.core.wire import Decoder, encode
from bdserver.errors import BadConfig, BadRequest, BDError, Forbidden, NobodyThere
from bdserver.files.invitations import Book, Signed
from bdserver.net import chain as chains
from bdserver.net import openssl
from bdserver.net.authority import SigningRequest, request_of
from bdserver.net.chain import Chain
from bdserver.net.conversation import next_message
from bdserver.net.signing import key_digest
from bdserver.net.tls import Stream
from bdserver.processes.node import Node

# Nodes that a newcomer is told to begin with, beside the one that let it in.
HINTS_MAX = 4
# For the last word, when the time is over.
LAST_WORD_SECONDS = 1.0

log = logging.getLogger("bdserver.joining")


def may_join(node: Node) -> bool:
    """Whether anybody may at all: this node signs, and has invited."""
    return node.signer is not None and node.invitations.are_there(node.clock())


def serve(node: Node, stream: Stream, host: str, deadline: float) -> None:
    """The whole conversation with a stranger from this host."""
    try:
        stream.send(encode(joining.said(_welcome(node, host))), deadline)
        message = next_message(stream, Decoder(joining.MESSAGE_BYTES_MAX), deadline)
        if message is None:
            raise NobodyThere("hung up")
        wish = joining.heard_wish(message)
        said = encode(joining.said(admit(node, wish, host)))
    except NobodyThere as error:
        log.info("%s wanted to join, and did not go on: %s", host, error)
    except BDError as error:
        log.warning("%s wants to join: %s", host, error)
        said = encode(messages.encoded(messages.Error(error.code, str(error))))
        with contextlib.suppress(BDError):
            stream.send(said, time.monotonic() + LAST_WORD_SECONDS)
    else:
        with contextlib.suppress(BDError):  # it comes again with the same key
            stream.send(said, time.monotonic() + LAST_WORD_SECONDS)
    finally:
        stream.close()


def _welcome(node: Node, host: str) -> Welcome:
    return Welcome(node.name, node.mesh, authorities_of(node), node.clock(), host)


def authorities_of(node: Node) -> str:
    """The mesh's CAs, as a newcomer gets them."""
    return "".join(chains.Chain(each).pem().decode() for each in node.credentials.authorities)


def admit(node: Node, wish: Wish, host: str) -> Admission:
    """A certificate for whoever knows the secret of an invitation; Forbidden or BadRequest says why there is none."""
    signer, now = node.signer, node.clock()
    if signer is None:
        raise Forbidden(joining.UNKNOWN)
    try:
        secret = bytes.fromhex(wish.secret)
        request = request_of(wish.request.encode(), "the request")
    except (ValueError, BadConfig) as error:
        raise BadRequest(f"INVALID REQUEST: {error}") from None
    with node.invitations.locked(now) as book:
        invitation = _invitation(book, wish.id, secret, request, now)
        _refuse_name(node, book, invitation, request)
        chain = signer.certify(
            request.public_key,
            request.name,
            invitation.role,
            request.hosts if invitation.role == NODE else [],
            node.settings.certificate_days,
            since(node.cache.view(), request.name),
        )
        key = key_digest(request.public_key)
        if key not in [each.key for each in invitation.joined]:
            joined = (*invitation.joined, Joined(request.name, key, now))
            book.invitations[invitation.id] = invitation._replace(joined=joined)
        book.note(entry(request, invitation.role, chain, now, f"invitation {invitation.id}"))
    log.info("%s joins from %s as %s, by the invitation %s", request.name, host, invitation.role, invitation.id)
    return Admission(chain.pem().decode(), authorities_of(node), _hints(node.cache.view()))


def _invitation(book: Book, id_: str, secret: bytes, request: SigningRequest, now: float) -> Invitation:
    """The invitation of this token; what is wrong with it is counted, and Forbidden."""
    invitation = book.invitations.get(id_)
    if invitation is None:
        book.unknown += 1
    elif invitation.hash != joining.hash_of(secret):
        book.invitations[id_] = invitation._replace(wrong=invitation.wrong + 1)
    found = joining.checked(invitation, secret, request.name, key_digest(request.public_key), now)
    if found.role == NODE and not request.hosts:
        raise BadRequest("INVALID REQUEST: a node needs the address at which it is dialled")
    return found


def _refuse_name(node: Node, book: Book, invitation: Invitation, request: SigningRequest) -> None:
    name, key, view = request.name, key_digest(request.public_key), node.cache.view()
    record = view.records.get(name)
    given_at = book.given_at(name, key)
    mesh_says = f"a node at {record.address}" if record is not None else "a host that this node has signed for"
    in_the_mesh = _keys_in(view, name)
    known = book.keys_of(name) | in_the_mesh
    is_alive = record is not None and record.is_there and key not in in_the_mesh
    why = joining.name_refusal(invitation, name, key, known, is_alive, given_at, mesh_says)
    if why is not None:
        raise Forbidden(why)


def _keys_in(view: View, name: str) -> set[str]:
    """Digests of the keys by which the mesh knows a node of this name."""
    record = view.records.get(name)
    text = view.certificates.get(record.certificate, "") if record is not None else ""
    try:
        return {key_digest(chains.from_der(b64decode(text)).certificate.public_key())} if text else set()  # type: ignore[arg-type]
    except ValueError:
        return set()


def since(view: View, name: str) -> datetime | None:
    """From when on a new certificate of this name counts, if earlier ones were revoked: that must not be backdated."""
    at = view.revocations.name_at(name)
    return datetime.fromtimestamp(math.floor(at) + 1, UTC) if at else None


def entry(request: SigningRequest, role: str, chain: Chain, now: float, why: str) -> Signed:
    """What a signer notes of a certificate that it has signed."""
    certificate = chain.certificate
    until = openssl.ends(certificate).timestamp()
    return Signed(request.name, role, key_digest(request.public_key), f"{certificate.serial_number:x}", now, until, why)


def _hints(view: View) -> list[str]:
    others = [record.address for record in view.others_there()][:HINTS_MAX]
    return [view.own.address, *others]
