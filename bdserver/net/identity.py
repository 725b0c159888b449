"""Who a certificate speaks for: the URI `bd://MESH/ROLE/NAME` in it, and the hosts that it may be dialled at.

Promises one reading of a certificate for all who ask: the loading of our own, the judging of the other side's, bdkeys. Its
parts keep the rules that hold everywhere (`core.names`, `core.roles`, `core.address`).

Leaves to others whether what the certificate says is true: that takes a CA's signature, and is `handshake`'s and `keys`'
business.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from cryptography import x509

from bdserver.core.address import normal_host, without_zone
from bdserver.core.names import valid_name
from bdserver.core.roles import EVERYONE, Role
from bdserver.errors import BadRequest
from bdserver.net import openssl

# A role that does not exist is worth a word of its own, if it looks like one.
_URI = re.compile(r"bd://([^/]*)/([a-z]{1,20})/([^/]*)")


class Identity(NamedTuple):
    """Who a certificate speaks for; `hosts` are the normal texts of the names and addresses that it may be dialled at."""

    mesh: str
    role: Role
    name: str
    hosts: tuple[str, ...]
    not_after: float
    serial: int


def identity_of(certificate: x509.Certificate) -> Identity:
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
    return Identity(mesh, role, name, hosts, openssl.ends(certificate).timestamp(), certificate.serial_number)


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
