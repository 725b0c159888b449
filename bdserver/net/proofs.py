"""Who says what a record says: our own is signed here, others' are proved.

Promises that a record against which `doubt` has nothing was said by the node of its name: its certificate is by a CA of our
ca.crt, of our mesh, of the role node, for that name and for the host of its address, both are in date, it is not revoked, and
the signature over the statement is by its key. What a certificate says is worked out once; dates and the revoked are looked at
each time. Costs 0.1 ms for a record of a node that is known, 0.3 ms for a new one (tests/bench/scale.py), so it is asked once
for each version of a record, when it is taken in, and never in a look-up.

Leaves to others when to ask (`core.exchange`), and how many records a teller may have proved (`processes.tellers`).
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from bdserver.core import joining, membership, statements
from bdserver.core.address import split_address, without_zone
from bdserver.core.membership import Record
from bdserver.core.roles import ADMIN, NODE
from bdserver.core.statements import Holder, Revocation, Roll, Statement
from bdserver.core.tuples import NamedTuple
from bdserver.errors import Forbidden
from bdserver.net import chain as chains
from bdserver.net import openssl
from bdserver.net.chain import Chain
from bdserver.net.identity import Identity, expired, identity_of, too_early
from bdserver.net.keys import Credentials

# Before what is signed, so that no other text that a node's key may ever sign can be taken for a record.
PREFIX = b"BDserver record 1\0"
# Certificates that are kept as worked out, some 2 KiB each: as many nodes as anybody has simulated, in 10 MiB.
CERTIFICATES_KEPT_MAX = 5000

# refusal(identity): why that certificate is revoked, or None.
Refusal = Callable[[Identity], str | None]


class _Worked(NamedTuple):
    """A certificate as far as it stays the same: why it is none of a node of ours, else whose it is and how long it counts."""

    why: str
    identity: Identity | None = None
    chain: Chain | None = None
    key: ec.EllipticCurvePublicKey | None = None
    roots: tuple[x509.Certificate, ...] = ()


def _p256(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != ec.SECP256R1.name:
        raise Forbidden("its author has another kind of key")
    return key


class Proofs:
    """`digest` and `certificate` (DER in base64) are our own. With other credentials, others are to be made."""

    def __init__(self, credentials: Credentials, refusal: Refusal, clock: Callable[[], float] = time.time) -> None:
        self._credentials, self._refusal, self._clock = credentials, refusal, clock
        self._worked: OrderedDict[str, _Worked] = OrderedDict()

    @property
    def digest(self) -> str:
        """Of our certificate, as records name it."""
        return self._credentials.digest

    @property
    def certificate(self) -> str:
        """Ours, as it travels."""
        return self._credentials.der

    # -- our own record

    def seal(self, record: Record) -> Record:
        """Our own record, signed. BadRequest when nobody could read it, not even we."""
        said = membership.statement(record)
        signature = b64encode(self._credentials.sign(PREFIX + said.encode())).decode()
        sealed = record._replace(said=said, signature=signature, certificate=self.digest)
        membership.from_json(membership.as_json(sealed))
        return sealed

    # -- others' records

    def doubt(self, record: Record, certificate: str) -> str | None:
        """Why this record is not believed, of which the certificate is this text; None when it is."""
        if not record.signature:
            return "it is not signed"
        why = self.doubt_certificate(record, certificate)
        if why is not None:
            return why
        key = self._look(record.certificate, certificate).key
        try:
            assert key is not None
            key.verify(b64decode(record.signature, validate=True), PREFIX + record.said.encode(), ec.ECDSA(SHA256()))
        except (InvalidSignature, ValueError):
            return "its signature does not fit"
        return None

    def doubt_certificate(self, record: Record, certificate: str) -> str | None:
        """The same, without a look at the signature: for records that were believed when they came."""
        worked = self._look(record.certificate, certificate)
        identity, chain = worked.identity, worked.chain
        if identity is None or chain is None:
            return worked.why
        if identity.name != record.name:
            return f"its certificate is that of {identity.name}"
        host = without_zone(split_address(record.address)[0])
        if host not in identity.hosts:
            return f"its certificate is for {identity.places}, not for {host}"
        now = datetime.fromtimestamp(self._clock(), UTC)
        if now > openssl.ends(chain.certificate):
            return f"its certificate {expired(chain.certificate)}"
        if now < openssl.begins(chain.certificate):
            return f"its certificate {too_early(chain.certificate)}"
        if chain.signer is not None and not openssl.begins(chain.signer) <= now <= openssl.ends(chain.signer):
            return "the signer of its certificate is not in date"
        if not any(openssl.begins(root) <= now <= openssl.ends(root) for root in worked.roots):
            return "the CA of its certificate is not in date"
        return self._refusal(identity)

    def identity(self, digest: str, certificate: str) -> Identity | None:
        """Whose certificate this is; None when it is none of a node of ours."""
        return self._look(digest, certificate).identity

    # -- what is said of certificates

    def vouch(self, statement: Statement) -> str | None:
        """Why this statement is not believed; None when it is. A revocation is for a signer or an admin to say, a new CA for
        the one before it. Its author must have been good when it was said: a revocation outlives its author's certificate."""
        said = statements.meaning(statement)
        try:
            data = b64decode(statement.certificate, validate=True)
            key = self._rolled(said, data) if isinstance(said, Roll) else self._revoked_by(said, data)
            key.verify(
                b64decode(statement.signature, validate=True), statements.PREFIX + statement.said.encode(), ec.ECDSA(SHA256())
            )
        except InvalidSignature:
            return "its signature does not fit"
        except Forbidden as error:
            return str(error)
        except Exception as error:  # the parser of strangers' certificates has many
            return f"its certificates cannot be read: {str(error)[:80]}"
        return None

    def _revoked_by(self, said: Revocation, data: bytes) -> ec.EllipticCurvePublicKey:
        """The key of the author, a signer by its own certificate or an admin."""
        chain, ours = chains.from_der(data), self._credentials.identity.mesh
        at = datetime.fromtimestamp(min(said.at, self._clock()), UTC)
        if any(not openssl.begins(each) <= at <= openssl.ends(each) for each in chain.certificates):
            raise Forbidden("its author's certificate was not in date then")
        authorities = self._credentials.authorities
        if chain.signer is None and chains.is_signer(chain.certificate):
            names = chains.names_of(chain.certificate)
            roots = [each for each in chains.issuers_among(authorities, chain.certificate) if chains.may_have_signers(each)]
            if not roots or names is None or names[0] != ours:
                raise Forbidden("its author is no signer of ours")
            return _p256(chain.certificate)
        identity = identity_of(*chain)
        if identity.mesh != ours or identity.role != ADMIN or not chains.roots(authorities, chain):
            raise Forbidden("its author is neither a signer nor an admin of ours")
        if why := self._refusal(identity):
            raise Forbidden(why)
        return _p256(chain.certificate)

    def _rolled(self, said: Roll, data: bytes) -> ec.EllipticCurvePublicKey:
        """The key of the CA before, which is one of ours."""
        before = x509.load_der_x509_certificate(data)
        if before not in self._credentials.authorities:
            raise Forbidden("the CA that was rolled is not in our ca.crt")
        authority = x509.load_der_x509_certificate(b64decode(said.authority, validate=True))
        if authority.issuer != authority.subject or not chains.may_have_signers(authority):
            raise Forbidden("what is to follow the CA is none")
        return _p256(before)

    def _look(self, digest: str, text: str) -> _Worked:
        worked = self._worked.get(digest)
        if worked is None:
            worked = self._worked[digest] = self._work_out(text)
            if len(self._worked) > CERTIFICATES_KEPT_MAX:
                self._worked.popitem(last=False)
        else:
            self._worked.move_to_end(digest)
        return worked

    def _work_out(self, text: str) -> _Worked:
        try:
            chain = chains.from_der(b64decode(text, validate=True))
            key = chain.certificate.public_key()
            identity = identity_of(*chain)
        except Exception as error:  # the parser of strangers' certificates has many, and none of them is worth more words
            return _Worked(f"its certificate cannot be read: {str(error)[:80]}")
        roots = tuple(chains.roots(self._credentials.authorities, chain))
        ours = self._credentials.identity.mesh
        if not roots:
            return _Worked("its certificate is signed by a CA that is not in our ca.crt")
        if identity.mesh != ours:
            return _Worked(f"its certificate is of mesh {identity.mesh}, not of our mesh {ours}")
        if identity.role != NODE:
            return _Worked(f"its certificate is for the role {identity.role}, not for the role node")
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != ec.SECP256R1.name:
            return _Worked("its certificate is for another kind of key")
        return _Worked("", identity, chain, key, roots)


def holder(identity: Identity) -> Holder:
    """The certificate as revocations see it."""
    name, serial, begins, signer = identity.name, identity.serial, identity.not_before, identity.signer
    if signer is None:
        return Holder(name, serial, begins)
    return Holder(name, serial, begins, signer.name, signer.serial, signer.not_before)


def fingerprint(authority: x509.Certificate) -> str:
    """How records name a CA."""
    return joining.fingerprint(authority.public_bytes(Encoding.DER)).hex()
