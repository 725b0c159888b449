"""A joiner meets a mesh: who is at the address, and whether that is the node that has invited, of the mesh of the token.

Promises that nothing of the token but the kind of connection is said before that is proved: the node's certificate leads to the
CA whose fingerprint the token has, it is a node's of that mesh, and its name is that of the inviter. A clock that differs is
named, and not obeyed: dates are looked at by our own, which must be right first.

Leaves to others: the token (`core.joining`), the files (`commands.joining`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bdserver.core import joining, messages
from bdserver.core.joining import Admission, Token, Welcome, Wish
from bdserver.core.roles import NODE
from bdserver.core.wire import Decoder, encode
from bdserver.errors import BadConfig, BadFrame, BadRequest, Forbidden, NobodyThere, from_wire
from bdserver.net import chain as chains
from bdserver.net import openssl, tcp, tls
from bdserver.net.chain import Chain
from bdserver.net.conversation import next_message
from bdserver.net.identity import Identity, expired, identity_of, too_early
from bdserver.net.tls import Stream

# Certificates begin ten minutes before they are made: a clock that is further behind would refuse ours.
CLOCK_SECONDS_MAX = 300.0


class Meeting:
    """The conversation with the node that has invited, once it is proved to be that; `own`: our address as we called it."""

    def __init__(self, stream: Stream, decoder: Decoder, welcome: Welcome, root: x509.Certificate, own: str, where: str):
        self._stream, self._decoder, self.welcome, self.root = stream, decoder, welcome, root
        self.own, self.where = own, where

    def wish(self, wish: Wish, deadline: float) -> Admission:
        """Ask to be let in; the error of the node that says no."""
        self._stream.send(encode(joining.said(wish)), deadline)
        return joining.heard_admission(_heard(self._stream, self._decoder, self.where, deadline))

    def close(self) -> None:
        """Hang up."""
        self._stream.close()


def meet(address: str, token: Token, deadline: float) -> Meeting:
    """Whoever answers at HOST:PORT, if it is the node that gave the token; Forbidden, BadConfig or NobodyThere say why not."""
    sock = tcp.connect(address, deadline)
    own = str(sock.getsockname()[0])
    try:
        stream = tls.knock(sock, address, deadline)
    except NobodyThere as error:
        raise NobodyThere(f"{error}: is no invitation open there any more, or is that node no signer?") from None
    decoder = Decoder()
    try:
        welcome = joining.heard_welcome(_heard(stream, decoder, address, deadline))
        root = _proved(address, token, welcome, stream.chain())
    except BadRequest as error:
        stream.close()
        raise BadFrame(f"{address}: {error}") from None
    except BaseException:
        stream.close()
        raise
    return Meeting(stream, decoder, welcome, root, own, address)


def _heard(stream: Stream, decoder: Decoder, where: str, deadline: float) -> object:
    message = next_message(stream, decoder, deadline)
    if message is None:
        raise NobodyThere(f"{where} hung up")
    if isinstance(message, list) and len(message) == 3 and message[0] == "ERROR":
        error = messages.Error(str(message[1]), str(message[2]))
        raise from_wire(error.code, f"{where}: {error.text}")
    return message


def _proved(address: str, token: Token, welcome: Welcome, shown: list[x509.Certificate]) -> x509.Certificate:
    """The CA of the token."""
    try:
        authorities = openssl.load_all(welcome.authorities.encode())
        chain = chains.of(shown)
        identity = identity_of(*chain)
    except ValueError as error:
        raise Forbidden(f"{address}: the certificate there {error}") from None
    roots = [each for each in authorities if token.is_of(each.public_bytes(Encoding.DER))]
    if not roots:
        raise Forbidden(f"{address}: a node of mesh {identity.mesh} is there, and the token is of another CA: nothing was sent")
    vouching = chains.roots(roots, chain)
    if not vouching or identity.role != NODE:
        raise Forbidden(f"{address}: whoever is there has no certificate by the CA of the token: nothing was sent")
    if not token.is_by(identity.name):
        raise Forbidden(f"{address}: {identity.name} is there, and another node gave the token: nothing was sent")
    _refuse_other_clock(welcome, identity)
    _refuse_outdated(address, chain, vouching)
    return vouching[0]


def _refuse_other_clock(welcome: Welcome, identity: Identity) -> None:
    ahead = time.time() - welcome.now
    if abs(ahead) > CLOCK_SECONDS_MAX:
        days = abs(ahead) / 86400
        amount = f"{days:.1f} days" if days >= 1 else f"{abs(ahead) / 60:.0f} min"
        word = "ahead of" if ahead > 0 else "behind"
        raise BadConfig(f"this host's clock is {amount} {word} that of {identity.name}: set the wrong one, and join again")


def _refuse_outdated(address: str, chain: Chain, roots: list[x509.Certificate]) -> None:
    now = datetime.now(UTC)
    for certificate in (*chain.certificates, *roots[:1]):
        if now > openssl.ends(certificate):
            raise Forbidden(f"{address}: a certificate there {expired(certificate)}")
        if now < openssl.begins(certificate):
            raise Forbidden(f"{address}: a certificate there {too_early(certificate)}")
