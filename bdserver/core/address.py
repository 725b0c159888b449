"""HOST:PORT in its one canonical form: IPv6 in brackets, IP addresses normalised, names in lower case."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

from bdserver.errors import BadRequest

# RFC 1035's 63 a label and 253 in all; _ since many a host's name has one.
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*\.?", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
HOST_CHARACTERS_MAX = 253
PORT_MAX = 65535
SHOWN_CHARACTERS_MAX = 80


def split_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """(host, port) of "HOST:PORT" (or "HOST" with a default port); BadRequest when it is neither.

    The host comes without brackets: what a socket takes."""
    host, port, is_bracketed = _cut(text.strip(), text)
    if not port and default_port is not None:
        return _normal(host, is_bracketed, text), default_port
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= PORT_MAX:
        raise _no_address(text, f"the port must be 1 to {PORT_MAX}")
    return _normal(host, is_bracketed, text), int(port)


def join_address(host: str, port: int) -> str:
    """ "HOST:PORT", an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cut(stripped: str, text: str) -> tuple[str, str, bool]:
    """(host, port or "", whether the host stood in brackets)."""
    if stripped.startswith("["):
        host, bracket, rest = stripped[1:].partition("]")
        if not bracket or (rest and rest[0] != ":") or rest == ":":
            raise _no_address(text, "a [ without its ], or something other than :PORT behind it")
        return host, rest[1:], True
    if stripped.count(":") > 1:  # a bare IPv6 address
        return stripped, "", False
    host, colon, port = stripped.partition(":")
    if colon and not port:
        raise _no_address(text, "no port behind the colon")
    return host, port, False


def _normal(host: str, is_bracketed: bool, text: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return _normal_name(host, is_bracketed, text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None and not _ZONE.fullmatch(address.scope_id):
            raise _no_address(text, "its zone is no interface's name")
        # ::ffff:192.0.2.1 is how a socket for both shows a caller over IPv4: the same host, so the same text.
        return str(address.ipv4_mapped or address)
    if is_bracketed:
        raise _no_address(text, "only IPv6 addresses stand in brackets")
    return str(address)


def _normal_name(host: str, is_bracketed: bool, text: str) -> str:
    name = host.lower()
    is_number = name.replace(".", "").isdigit()
    if is_bracketed or is_number or len(name) > HOST_CHARACTERS_MAX or not _HOST_NAME.fullmatch(name):
        raise _no_address(text, f"{host[:SHOWN_CHARACTERS_MAX]!r} is neither an address nor a host's name")
    return name.rstrip(".")


def _no_address(text: str, reason: str) -> BadRequest:
    return BadRequest(f"{text[:SHOWN_CHARACTERS_MAX]!r} is no HOST:PORT: {reason}")
