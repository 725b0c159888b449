"""A signer: a node that signs for others of its mesh, by a key of its own that the mesh's CA has signed.

Promises that it signs for its own mesh alone (its certificate allows no other), for nobody longer than it is good itself, and
nothing while it is not in date. Leaves to others: for whom it signs (`processes.joining`, `processes.renewing`).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bdserver.core.roles import Role
from bdserver.errors import BadConfig, NotYet
from bdserver.net import chain as chains
from bdserver.net import keys, openssl
from bdserver.net.chain import Chain
from bdserver.net.identity import expired, too_early
from bdserver.net.issuing import Hosts, Issuer

DIGEST_CHARACTERS = 32


def paths(key_dir: str, username: str) -> tuple[str, str]:
    """Of its key and its certificate."""
    base = os.path.join(key_dir, f"{username}.signer")
    return base + ".key", base + ".crt"


class Signer:
    """The key in a node's key_dir, and its certificate."""

    __slots__ = ("_issuer", "certificate", "name", "not_after", "path", "root")

    def __init__(self, issuer: Issuer, name: str, path: str, roots: list[x509.Certificate]) -> None:
        self._issuer, self.name, self.path = issuer, name, path
        self.root = keys.longest(roots, datetime.now(UTC))
        self.certificate = issuer.certificate
        self.not_after = min(openssl.ends(issuer.certificate), openssl.ends(self.root)).timestamp()

    @classmethod
    def load(cls, key_dir: str, username: str, mesh: str, authorities: list[x509.Certificate], group: str = "") -> Signer:
        """The signer of a node; BadConfig says what is wrong with its files."""
        key_path, path = paths(key_dir, username)
        for each in (key_path, path):
            if not os.path.exists(each):
                raise NotYet(f"{each}: missing, and signer=yes (make with `bdkeys signer DIR NAME --out {key_dir}`)")
        key = keys.load_key(key_path, group)
        certificate = keys.load_certificate(path)
        names = chains.names_of(certificate)
        if names is None or names[0] != mesh or not chains.is_signer(certificate):
            raise BadConfig(f"{path}: is not that of a signer of mesh {mesh}")
        if not openssl.is_key_of(key, certificate):
            raise BadConfig(f"{key_path}: is not the key of {path}")
        roots = [each for each in chains.issuers_among(authorities, certificate) if chains.may_have_signers(each)]
        if not roots:
            raise BadConfig(f"{path}: is not signed by a CA in ca.crt")
        return cls(Issuer(key, certificate, mesh), names[1], path, roots)

    def certify(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        role: Role,
        hosts: Hosts,
        days: float,
        since: datetime | None = None,
    ) -> Chain:
        """A certificate, with ours behind it."""
        now = datetime.now(UTC)
        if now > openssl.ends(self.certificate):
            raise BadConfig(f"{self.path}: {expired(self.certificate)}, and nothing that it signs is good")
        if now < openssl.begins(self.certificate):
            raise NotYet(f"{self.path}: {too_early(self.certificate)}")
        return Chain(self._issuer.holders(public_key, name, role, hosts, days, since), self.certificate)

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """What it signs with."""
        return self._issuer.key

    def sign(self, data: bytes) -> bytes:
        """Our signature of this: ECDSA with SHA-256."""
        return self.key.sign(data, ec.ECDSA(SHA256()))


def key_digest(public_key: ec.EllipticCurvePublicKey) -> str:
    """How a key is named in the books of a signer."""
    data = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(data).hexdigest()[:DIGEST_CHARACTERS]
