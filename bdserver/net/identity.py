"""Who a certificate speaks for: the URI `bd://MESH/ROLE/NAME` in it, and the hosts that it may be dialled at.

Promises one reading of a certificate for all who ask: the loading of our own, the judging of the other side's, bdkeys. Its
parts keep the rules that hold everywhere (`core.names`, `core.roles`, `core.address`).

Leaves to others whether what the certificate says is true: that takes a CA's signature, and is `handshake`'s and `keys`'
business.
"""

from __future__ import annotations

import re
from datetime import datetime

from cryptography import x509

from bdserver.core.address import normal_host, without_zone
from bdserver.core.names import valid_name
from bdserver.core.roles import EVERYONE, Role
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadRequest
from bdserver.net import openssl
from bdserver.net.chain import named

# A role that does not exist is worth a word of its own, if it looks like one.
_URI = re.compile(r"bd://([^/]*)/([a-z]{1,20})/([^/]*)")


class Signer(NamedTuple):
    """By its own certificate: the node that signs, the certificate's serial number, and from when it is good."""

    name: str
    serial: int
    not_before: float


class Identity(NamedTuple):
    """Who a certificate speaks for; `hosts` are the normal texts of the names and addresses that it may be dialled at.
    `signer`: who signed it, None when the mesh's CA did itself."""

    mesh: str
    role: Role
    name: str
    hosts: tuple[str, ...]
    not_after: float
    serial: int
    not_before: float = 0.0
    signer: Signer | None = None

    @property
    def places(self) -> str:
        """Its hosts, as a complaint names them."""
        return " and ".join(self.hosts) or "no host"


def identity_of(certificate: x509.Certificate, signer: x509.Certificate | None = None) -> Identity:
    """Who the certificate says it is; the text of its ValueError goes on after "the certificate …"."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise ValueError("is malformed") from None
    mesh, role, name = _parts(names.get_values_for_type(x509.UniformResourceIdentifier))
    texts = [
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    ]
    hosts = tuple(dict.fromkeys(map(_host, texts)))
    begins, ends = openssl.begins(certificate).timestamp(), openssl.ends(certificate).timestamp()
    return Identity(mesh, role, name, hosts, ends, certificate.serial_number, begins, _signer(signer, mesh))


def _signer(certificate: x509.Certificate | None, mesh: str) -> Signer | None:
    names = named(certificate.subject) if certificate is not None else None
    if certificate is None or names is None:
        return None
    if names[0] != mesh:
        raise ValueError(f"of mesh {mesh} is signed by a signer of mesh {names[0]}")
    return Signer(names[1], certificate.serial_number, openssl.begins(certificate).timestamp())


def uri_of(mesh: str, role: Role, name: str) -> str:
    """What `identity_of` reads."""
    return f"bd://{mesh}/{role}/{name}"


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False


def expired(certificate: x509.Certificate) -> str:
    """The words for a certificate whose time is over."""
    return f"expired on {_date(openssl.ends(certificate))}"


def too_early(certificate: x509.Certificate) -> str:
    """The words for a certificate whose time has not come."""
    return f"is not valid before {_date(openssl.begins(certificate))} (is a clock wrong?)"


def _parts(uris: list[str]) -> tuple[str, Role, str]:
    ours = [uri for uri in uris if uri.startswith("bd:")]
    if len(ours) > 1:
        raise ValueError("has two bd:// URIs")
    match = _URI.fullmatch(ours[0]) if ours else None
    if match is None or not valid_name(match[1]) or not valid_name(match[3]):
        raise ValueError("has no bd://MESH/ROLE/NAME in it")
    if match[2] not in EVERYONE:
        raise ValueError(f"is for {match[2]}, which is no role")
    return match[1], Role(match[2]), match[3]


def _host(text: str) -> str:
    try:
        return without_zone(normal_host(text))
    except BadRequest:
        return text.lower()  # a pattern like *.example.org: nobody can dial it, but a complaint may show it


def _date(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M UTC")
