"""One text for each host, and HOST:PORT in its one canonical form.

Promises that two texts of the same host come out as one: IP addresses normalised, names in lower case and without the last
dot, an IPv4 address in IPv6's clothes (`::ffff:192.0.2.1`) as itself. So certificates, black lists and limits for each
address can compare texts. A zone (`fe80::1%eth0`) says through which interface of *this* host an address is reached: it is kept
where something is dialled, and `without_zone` takes it off where hosts of different machines are compared.
"""

from __future__ import annotations

import functools
import re
from ipaddress import IPv6Address, ip_address

from bdserver.errors import BadRequest

TYPE_CHECKING = False  # as typing's, whose import costs two milliseconds
if TYPE_CHECKING:
    from typing import Any

# RFC 1035's 63 a label and 253 in all; _ since many a host's name has one. Matched before it is put in lower case: the
# Kelvin sign becomes an ordinary k by that.
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
HOST_CHARACTERS_MAX = 253
PORT_MAX = 65535
SHOWN_CHARACTERS_MAX = 80
# A name, a port, brackets, a zone, and blanks around them.
TEXT_CHARACTERS_MAX = 400

_MAPPED = "::ffff:"


def normal_host(host: str) -> str:
    """The one text for a host, without brackets; BadRequest when it is neither an address nor a host's name."""
    try:
        return _normal(host)
    except ValueError as reason:
        raise BadRequest(str(reason)) from None


def without_zone(host: str) -> str:
    """The host as it stands in certificates, where the name of an interface here would mean nothing."""
    return host.partition("%")[0]


def host_of(socket_address: tuple[Any, ...]) -> str:
    """The normal text of the host in what `accept` and `getpeername` return for a TCP socket.

    It never fails, as the loop that accepts connections calls it: the kernel's text is normal but for the mapped form."""
    host = str(socket_address[0])
    return host.removeprefix(_MAPPED) if "." in host else host


def host_part(address: str) -> str:
    """The HOST of a canonical HOST:PORT, in brackets where a URL needs them."""
    return address.rpartition(":")[0]


@functools.lru_cache(maxsize=4096)
def split_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """(host, port) of "HOST:PORT" (or "HOST" with a default port); BadRequest when it is neither.

    The host comes without brackets: what a socket takes. What is remembered is short: a longer text is none."""
    if len(text) > TEXT_CHARACTERS_MAX:
        raise _no_address(text, f"it has {len(text)} characters")
    host, port, is_bracketed = _cut(text.strip(), text)
    if port:
        if not _PORT.fullmatch(port) or not 1 <= int(port) <= PORT_MAX:
            raise _no_address(text, f"the port must be 1 to {PORT_MAX}")
        default_port = int(port)
    if default_port is None:
        raise _no_address(text, "it has no port")
    if is_bracketed and ":" not in host:
        raise _no_address(text, "only IPv6 addresses stand in brackets")
    try:
        return _normal(host), default_port
    except ValueError as reason:
        raise _no_address(text, str(reason)) from None


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


def _normal(host: str) -> str:
    """As normal_host; the ValueError's text says what is wrong."""
    try:
        address = ip_address(host)
    except ValueError:
        return _normal_name(host)
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.scope_id is not None and not _ZONE.fullmatch(address.scope_id):
        raise ValueError("its zone is no interface's name")
    return str(address.ipv4_mapped or address)


def _normal_name(host: str) -> str:
    name = host.removesuffix(".")
    is_number = name.replace(".", "").isdigit()  # 256.1.1.1 is a slip in an address, not a name
    if is_number or len(name) > HOST_CHARACTERS_MAX or not _HOST_NAME.fullmatch(name):
        raise ValueError(f"{host[:SHOWN_CHARACTERS_MAX]!r} is neither an address nor a host's name")
    return name.lower()


def _no_address(text: str, reason: str) -> BadRequest:
    return BadRequest(f"{text[:SHOWN_CHARACTERS_MAX]!r} is no HOST:PORT: {reason}")
