"""HOST:PORT in its one canonical form: IPv6 in brackets, IP addresses normalised, names in lower case."""

from __future__ import annotations

import re
from ipaddress import ip_address

from bdserver.errors import BadRequest

_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*\.?", re.ASCII)
HOST_CHARACTERS_MAX = 253


def split_address(text: str, default_port: int | None = None) -> tuple[str, int]:
    """(host, port) of "HOST:PORT" (or "HOST" with a default port); BadRequest when it is neither."""
    host, port = _cut(text.strip(), default_port)
    if not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise BadRequest(f"{text[:80]!r} is no HOST:PORT: the port must be 1 to 65535")
    return _normal(host, text), int(port)


def join_address(host: str, port: int) -> str:
    """ "HOST:PORT", an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cut(text: str, default_port: int | None) -> tuple[str, str]:
    default = "" if default_port is None else str(default_port)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":") or default
    if text.count(":") > 1:  # a bare IPv6 address
        return text, default
    host, _, port = text.partition(":")
    return host, port or default


def _normal(host: str, text: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    name = host.lower()
    if len(name) > HOST_CHARACTERS_MAX or not _HOST_NAME.fullmatch(name) or name.replace(".", "").isdigit():
        raise BadRequest(f"{text[:80]!r} is no HOST:PORT: {host[:60]!r} is neither an address nor a host's name")
    return name.rstrip(".")
