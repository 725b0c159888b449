"""What a certificate says that the mesh's CA or one of its signers makes: its fields, its extensions, its dates.

Promises P-256 and SHA-256, a serial number that nobody guesses, an end that is not behind that of whoever signs; who a
certificate is for stands in a URI bd://MESH/ROLE/NAME, and nobody but a node may be called.

Leaves to others: whom to sign for (`authority`, `signing`), and where files lie.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bdserver.core.roles import NODE, Role
from bdserver.core.tuples import NamedTuple
from bdserver.net import openssl
from bdserver.net.chain import SIGNER_UNIT
from bdserver.net.identity import uri_of

# Clocks of hosts differ; a certificate made now must be good on one that is a little behind. One for a minute begins less
# early: when to renew it follows from its dates.
BACKDATED, BACKDATED_SHARE = timedelta(minutes=10), 10

Hosts: TypeAlias = list[x509.IPAddress | x509.DNSName]


class Issuer(NamedTuple):
    """Who signs: a key, its certificate, and the mesh in whose name it may."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    mesh: str

    def holders(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        role: Role,
        hosts: Hosts,
        days: float,
        since: datetime | None = None,
    ) -> x509.Certificate:
        """The certificate of a node, a client or an admin; `since`: not good before that, however far it is backdated."""
        who = x509.UniformResourceIdentifier(uri_of(self.mesh, role, name))
        # Only a node is ever called, so nobody else's certificate can stand in for one.
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if role == NODE else [])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            self._builder(subject, public_key, days, since)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([who, *hosts]), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())

    def signers(self, public_key: ec.EllipticCurvePublicKey, name: str, days: float) -> x509.Certificate:
        """The certificate of a signer: it may sign in the name of this mesh, and make no other signers."""
        kinds = NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME
        values = self.mesh, SIGNER_UNIT, name
        subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in zip(kinds, values, strict=True)])
        # To OpenSSL the host in a URI is what stands where bd://MESH/ROLE/NAME has its mesh.
        names = x509.NameConstraints([x509.UniformResourceIdentifier(self.mesh)], None)
        builder = (
            self._builder(subject, public_key, days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(names, critical=True)
        )
        return builder.sign(self.key, hashes.SHA256())

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, days: float, since: datetime | None = None
    ) -> x509.CertificateBuilder:
        now, life = datetime.now(UTC), timedelta(days=days)
        begins_at = now - min(BACKDATED, life / BACKDATED_SHARE)
        if since is not None and since > begins_at:
            begins_at = since
        ends_at = min(now + life, openssl.ends(self.certificate))
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            builder_of(subject, public_key, begins_at, ends_at)
            .issuer_name(self.certificate.subject)
            .add_extension(identifier, critical=False)
        )


def builder_of(
    subject: x509.Name, public_key: ec.EllipticCurvePublicKey, begins_at: datetime, ends_at: datetime
) -> x509.CertificateBuilder:
    """What every certificate has."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_at)
        .not_valid_after(ends_at)
    )


def key_usage(signs: bool) -> x509.KeyUsage:
    """What a key may be used for: to sign certificates, or to prove who one is."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
