"""What is asked of the other side in a handshake, and OpenSSL's verdicts and alerts in our words.

Promises TLS 1.3 and `bd/1` or nothing; a certificate of the mesh's CA on both sides, in date, of our mesh, of the role that is
wanted and for the host that was dialled. Whatever is wrong ends as one BDError with a line that says what, on the side that
found it and, by a TLS alert, on the other.

Leaves to others: the bytes and the deadline (`tls`), the files (`keys`), who is revoked or on the black list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from bdserver.core.roles import ADMIN, Role
from bdserver.errors import BadFrame, BDError, Forbidden, NobodyThere, Refused
from bdserver.net import openssl
from bdserver.net.chain import Chain
from bdserver.net.identity import Identity, expired, identity_of, too_early

ALPN = b"bd/1"
# Of somebody who has no certificate yet, and a token to get one.
JOIN_ALPN = b"bd-join/1"

# SSL_MODE_NO_AUTO_CHAIN, which pyOpenSSL does not name. Without it OpenSSL verifies our own certificate anew in each
# handshake to send the CA along, which the other side has anyway: 768 µs and 1,100 bytes more became 644 µs.
_MODE_NO_AUTO_CHAIN = 0x8


def make_context(key: ec.EllipticCurvePrivateKey, chain: Chain, authorities: list[x509.Certificate]) -> SSL.Context:
    """One context for calling and being called. A connection made from it carries a Judge as its application data."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    openssl.use(context, key, *chain)
    store = context.get_cert_store()
    assert store is not None
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    context.set_alpn_protos([ALPN])
    context.set_alpn_select_callback(_select_alpn)
    # Half of the 50 KiB that each end of an open connection weighs, for 0.1 µs a frame: most of them rest most of the time.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # What follows makes a handshake cheap; in µs for both sides together, without the network (tests/bench has the whole).
    context.set_mode(_MODE_NO_AUTO_CHAIN)
    openssl.choose_quick(context)
    # No resumption: it would skip the checks of Judge. That leaves two tickets of 79 bytes; real ones cost 50 µs and 1,400 B.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    return context


def make_joiners_context() -> SSL.Context:
    """For calling without a certificate. Nobody is believed by the handshake: whoever calls so looks at the chain itself."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    context.set_alpn_protos([JOIN_ALPN])
    openssl.choose_quick(context)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


# --------------------------------------------------------------------------------------------------------------------
# The other side's certificate

_UNKNOWN_AUTHORITY = frozenset(
    (
        openssl.CODES.ERR_UNABLE_TO_GET_ISSUER_CERT,
        openssl.CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        openssl.CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        openssl.CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
        openssl.CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN,
        openssl.CODES.ERR_CERT_SIGNATURE_FAILURE,
        openssl.CODES.ERR_AKID_SKID_MISMATCH,
        openssl.CODES.ERR_AKID_ISSUER_SERIAL_MISMATCH,
        openssl.CODES.ERR_SUBJECT_ISSUER_MISMATCH,
    )
)


class Judge:
    """What we ask of the other side's certificate, and what came out; hung on the connection during its handshake.

    `whose` certificate it is begins each complaint. `role` and `host` None take any. `somebody_else` is the class of error
    for a certificate that is good, but not of the one whom we wanted: a caller that does not belong here is Forbidden, a
    callee that is another one means that ours is not there. `may_join()`: whether a caller without a certificate is let in who
    speaks bd-join/1; then it `is_stranger`, and nothing of it is proved."""

    __slots__ = ("host", "identity", "is_stranger", "may_join", "mesh", "problem", "role", "signer", "somebody_else", "whose")

    def __init__(
        self,
        whose: str,
        mesh: str,
        role: Role | None,
        host: str | None,
        somebody_else: type[BDError],
        may_join: Callable[[], bool] | None = None,
    ):
        self.whose = whose
        self.may_join, self.is_stranger = may_join, False
        self.signer: x509.Certificate | None = None  # the one that OpenSSL has found good before the holder's
        self.mesh = mesh
        self.role = role
        self.host = host
        self.somebody_else = somebody_else
        self.identity: Identity | None = None
        self.problem: BaseException | None = None

    def check(self, certificate: x509.Certificate) -> None:
        """The certificate is the CA's work; is it of our mesh, of the right role, for the host that we dialled?"""
        try:
            identity = identity_of(certificate, self.signer)
        except ValueError as reason:
            raise self.somebody_else(f"{self.whose} {reason}") from None
        self._check_mesh(identity)
        self._check_role(identity)
        if self.host is not None and self.host not in identity.hosts:
            raise self.somebody_else(f"{self.whose} ({identity.name}) is for {identity.places}, not for {self.host}")
        self.identity = identity

    def explain(self, certificate: x509.Certificate, error: int, depth: int) -> NoReturn:
        """OpenSSL does not like it: say so in words. What the certificate says of itself is not proved here."""
        codes = openssl.CODES
        named = self.whose
        if depth == 0:
            try:
                identity = identity_of(certificate)
            except ValueError:
                pass  # then it goes without a name: what OpenSSL found matters more
            else:
                named = f"{self.whose} ({identity.name})"
                self._check_mesh(identity)
                if error == codes.ERR_INVALID_PURPOSE:
                    self._check_role(identity)
        else:
            named = f"the CA of {self.whose}" if self.whose.startswith("the ") else f"{self.whose}: its CA"
        if error == codes.ERR_CERT_HAS_EXPIRED:
            raise Forbidden(f"{named} {expired(certificate)}")
        if error == codes.ERR_CERT_NOT_YET_VALID:
            raise Forbidden(f"{named} {too_early(certificate)}")
        if error in _UNKNOWN_AUTHORITY:
            raise Forbidden(f"{named} is signed by a CA that is not in our ca.crt")
        if error == codes.ERR_INVALID_PURPOSE:
            raise Forbidden(f"{named} is not for this use")
        if error in (codes.ERR_PERMITTED_VIOLATION, codes.ERR_PATH_LENGTH_EXCEEDED, codes.ERR_INVALID_CA):
            raise Forbidden(f"{named} is signed by somebody who may not sign it")
        raise Forbidden(f"{named} is not valid (X.509 error {error})")

    def _check_mesh(self, identity: Identity) -> None:
        if identity.mesh != self.mesh:
            raise self.somebody_else(f"{self.whose} ({identity.name}) is of mesh {identity.mesh}, not of our mesh {self.mesh}")

    def _check_role(self, identity: Identity) -> None:
        if self.role is not None and identity.role != self.role:
            raise self.somebody_else(f"{self.whose} ({identity.name}) is that of {_a(identity.role)}, not of {_a(self.role)}")


def _a(role: Role) -> str:
    return f"an {role}" if role == ADMIN else f"a {role}"


def _verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """OpenSSL's callback. An exception must not pass through C, where it is printed and lost: it waits in the judge."""
    judge: Judge = connection.get_app_data()
    try:
        if not ok:
            judge.explain(certificate.to_cryptography(), error, depth)
        if depth == 1:
            judge.signer = certificate.to_cryptography()
        if depth == 0:
            judge.check(certificate.to_cryptography())
    except BaseException as problem:  # a signal's SystemExit too
        judge.problem = judge.problem or problem
        return False
    return True


def _select_alpn(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    if ALPN in offered:
        return ALPN
    judge: Judge = connection.get_app_data()
    if JOIN_ALPN in offered and judge.may_join is not None and judge.may_join():
        judge.is_stranger = True
        connection.set_verify(SSL.VERIFY_NONE, _verify)
        return JOIN_ALPN
    raise BadFrame("the caller does not speak bd/1")


# --------------------------------------------------------------------------------------------------------------------
# OpenSSL's reasons in our words

_NOT_ACCEPTED = {
    "certificate expired": "it has expired, or a clock is wrong",
    "bad certificate": "it is not valid yet, or a clock is wrong",
    "unknown ca": "it is signed by a CA that is not in the ca.crt there",
    "certificate unknown": "wrong mesh, role or address",
    # What OpenSSL makes of a Judge's no, as its own checks had found nothing.
    "internal error": "wrong mesh, role or address",
    "unsupported certificate": "it is not for this use",
    "certificate revoked": "it is revoked",
    "certificate required": "none came",
    "access denied": "access denied",
    "decrypt error": "its signature is wrong",
}
_NOT_OURS = ("no application protocol", "protocol version", "handshake failure", "insufficient security")


def reasons_of(error: SSL.Error) -> list[str]:
    """OpenSSL's own words, the first thing that went wrong first."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return [reason for _, _, reason in queue if reason]


def alert_trouble(who: str, reasons: list[str]) -> BDError | None:
    """What the other side's alert means, if one came."""
    for reason in reasons:
        _, is_alert, alert = reason.partition(" alert ")
        if not is_alert:
            continue
        if alert in _NOT_ACCEPTED:
            return Forbidden(f"{who} does not accept our certificate: {_NOT_ACCEPTED[alert]}")
        if alert in _NOT_OURS:
            return Refused(f"{who} does not speak bd/1 over TLS 1.3 ({alert})")
        return NobodyThere(f"{who} broke off the TLS ({alert})")
    return None


def callee_trouble(who: str, reasons: list[str]) -> BDError:
    """Our call failed, and not for the callee's certificate."""
    return alert_trouble(who, reasons) or Refused(
        f"{who} does not speak bd/1 over TLS 1.3 ({'; '.join(reasons) or 'TLS failed'})"
    )


def caller_trouble(who: str, reasons: list[str]) -> BDError:
    """A caller's handshake failed, and not for what its certificate says."""
    trouble = alert_trouble(who, reasons)
    if trouble is not None:
        return trouble
    if "peer did not return a certificate" in reasons:
        return Forbidden(f"{who} sent no certificate")
    if "http request" in reasons or "https proxy request" in reasons:
        return BadFrame(f"{who} speaks plain HTTP, this port is for bd/1 over TLS 1.3")
    if "unsupported protocol" in reasons:
        return BadFrame(f"{who} speaks a TLS older than 1.3")
    if "no application protocol" in reasons:
        return BadFrame(f"{who} does not speak bd/1")
    return BadFrame(f"{who} does not speak TLS ({'; '.join(reasons) or 'TLS failed'})")
