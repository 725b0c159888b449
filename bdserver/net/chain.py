"""A certificate with the one of its signer, if a signer stands between it and the mesh's CA: what vouches for whom.

A chain has two certificates at most: the CA signs signers, a signer signs nodes, clients and admins. As a file it is PEM, the
holder's own first; as it travels it is both in DER, one behind the other. Promises that `roots` vouches only for what OpenSSL
takes in a handshake as well: a signer is a CA of path length 0, constrained to the names of one mesh, and signed by a CA that
may have signers under it.

Leaves to others: dates, who is revoked, and what the certificate says of its holder (`identity`).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bdserver.core.tuples import NamedTuple
from bdserver.net import openssl

# Of a signer's subject; its organization is the mesh, its common name the node that signs.
SIGNER_UNIT = "signer"


class Chain(NamedTuple):
    """A holder's certificate, and its signer's; None: the mesh's CA has signed it itself."""

    certificate: x509.Certificate
    signer: x509.Certificate | None = None

    @property
    def certificates(self) -> list[x509.Certificate]:
        """All of them, the holder's first."""
        return [self.certificate, *([self.signer] if self.signer is not None else [])]

    def pem(self) -> bytes:
        """As it lies in a file."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.certificates)

    def der(self) -> bytes:
        """As it travels."""
        return b"".join(each.public_bytes(Encoding.DER) for each in self.certificates)


def of(certificates: list[x509.Certificate]) -> Chain:
    """The chain that these make, in this order; ValueError when they are none, or too many."""
    if not 1 <= len(certificates) <= 2:
        raise ValueError(f"{len(certificates)} certificates where one belongs, or one and its signer's")
    return Chain(certificates[0], certificates[1] if len(certificates) == 2 else None)


def from_pem(text: bytes) -> Chain:
    """The chain in a file; ValueError when it is none."""
    return of(openssl.load_all(text))


def from_der(data: bytes) -> Chain:
    """The chain as it came; ValueError when it is none."""
    first, rest = _split(data)
    return of([x509.load_der_x509_certificate(each) for each in (first, rest) if each])


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The first DER value, and what stands behind it. A certificate is longer than 255 bytes, so its length has two bytes."""
    if data[:2] != b"\x30\x82":
        return data, b""
    end = 4 + int.from_bytes(data[2:4], "big")
    return data[:end], data[end:]


def roots(authorities: list[x509.Certificate], chain: Chain) -> list[x509.Certificate]:
    """Those of these CAs that vouch for the chain: several, when a CA was renewed with the same key."""
    if chain.signer is None:
        return issuers_among(authorities, chain.certificate)
    if not is_signer(chain.signer) or not issuers_among([chain.signer], chain.certificate):
        return []
    return [each for each in issuers_among(authorities, chain.signer) if may_have_signers(each)]


def issuers_among(authorities: list[x509.Certificate], certificate: x509.Certificate) -> list[x509.Certificate]:
    """Those of these CAs whose signature the certificate bears."""
    found = []
    for authority in authorities:
        try:
            openssl.refuse_other_issuer(certificate, authority)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        found.append(authority)
    return found


def may_have_signers(authority: x509.Certificate) -> bool:
    """Whether a CA may have signers under it; those made before there were any may not."""
    constraints = _constraints(authority)
    return constraints is not None and constraints.ca and constraints.path_length != 0


def is_signer(certificate: x509.Certificate) -> bool:
    """Whether it is one of a signer of ours: a CA that may sign holders alone, of one mesh alone."""
    constraints = _constraints(certificate)
    if constraints is None or not constraints.ca or constraints.path_length != 0:
        return False
    names = names_of(certificate)
    try:
        return names is not None and _permitted(certificate) == [names[0]]
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False


def names_of(signer: x509.Certificate) -> tuple[str, str] | None:
    """(mesh, name of the node) of a signer, by its subject; None when it is that of none."""
    return named(signer.subject)


def named(subject: x509.Name) -> tuple[str, str] | None:
    """The same of a subject, or of the issuer of a certificate."""
    kinds = NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME
    values = [[str(each.value) for each in subject.get_attributes_for_oid(kind)] for kind in kinds]
    if any(len(each) != 1 for each in values) or values[1] != [SIGNER_UNIT]:
        return None
    return values[0][0], values[2][0]


def _permitted(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    return [str(each.value) for each in names.permitted_subtrees or () if isinstance(each, x509.UniformResourceIdentifier)]


def _constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None
