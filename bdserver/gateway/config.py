"""gateway.conf: where bdgateway listens, which node it asks, and how much it does at once.

A file of its own: bdgateway runs as a user who may not read bdserverd.conf, which may hold a password.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any

from bdserver.core.address import split_address
from bdserver.errors import BadConfig
from bdserver.files import settings
from bdserver.files.settings import ADDRESSES, COUNT, HOSTS, PATH, PATH_OR_NONE, SECONDS, USUAL_SOCKET, AppliedBy, Kind, Setting

DEFAULT_PATH = "/etc/bdserver/gateway.conf"

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
# A service's name of 100 characters and this domain are a name of DNS, which has 253.
DOMAIN_CHARACTERS_MAX = 120


def _read_domain(text: str) -> str:
    domain = text.lower().strip(".")
    if len(domain) > DOMAIN_CHARACTERS_MAX or not _DOMAIN.fullmatch(domain):
        raise ValueError
    return domain


AT_ONCE, LOG_LEVEL, LOG_FORMAT = (settings.BY_NAME[name].kind for name in ("max_children", "log_level", "log_format"))
GATEWAY = AppliedBy.GATEWAY
DOMAIN = Kind(_read_domain, str, f"a domain's name, of up to {DOMAIN_CHARACTERS_MAX} characters")

SETTINGS = (
    Setting("socket", PATH, USUAL_SOCKET, "The local node's socket."),
    Setting("dns", ADDRESSES, ("127.0.0.1:9053",), "Where DNS is answered, by UDP and TCP; empty: nowhere.", GATEWAY),
    Setting("domain", DOMAIN, "bd.internal", "The domain of services: NAME.DOMAIN.", GATEWAY),
    Setting("http", ADDRESSES, ("127.0.0.1:9080",), "Where HTTP is answered; empty: nowhere.", GATEWAY),
    Setting(
        "http_hosts",
        HOSTS,
        (),
        "Names by which browsers may call this host, beside localhost and addresses: of a proxy, say.",
        GATEWAY,
    ),
    Setting("policy", PATH_OR_NONE, "", "The WS-Policy of those who look up and bring none; empty: none.", GATEWAY),
    Setting("lookup_seconds", SECONDS, 10.0, "For a look-up by HTTP, which may copy the service to another host.", GATEWAY),
    Setting("dns_seconds", SECONDS, 4.0, "For a look-up by DNS: resolvers ask again after 5.", GATEWAY),
    Setting("lookups_max", AT_ONCE, 4, "Look-ups under way at once: so many by DNS, and so many by HTTP."),
    Setting("queries_per_second", AT_ONCE, 500, "DNS queries that are read; what comes beyond is dropped.", GATEWAY),
    Setting("watchers_max", COUNT, 20, "Programs that follow /v1/watch at once."),
    Setting("crawl_seconds", SECONDS, 3.0, "For asking all nodes, when the audit page is looked at.", GATEWAY),
    Setting("draw_seconds", SECONDS, 5.0, "For drawing its topology.", GATEWAY),
    Setting("log_level", LOG_LEVEL, "info", "What is worth a line.", AppliedBy.LOG),
    Setting("log_format", LOG_FORMAT, "text", "How its lines are: for people, or a JSON object each."),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}

SAMPLE_HEAD = """\
# gateway.conf: how bdgateway answers DNS and HTTP. KEY=VALUE, as bdserverd.conf; what is commented out is the default, and
# without this file all is. Relative paths begin at this file's folder. Read at the start, and at SIGHUP.
# Made from the table in bdserver/gateway/config.py; see gateway.conf(5).
"""


class GatewayConfig:
    """The settings as attributes; paths absolute."""

    def __init__(self, path: str, values: dict[str, Any], is_there: bool = True):
        self.path, self.is_there = os.path.abspath(path), is_there
        for setting in SETTINGS:
            value = values.get(setting.name, setting.default)
            if setting.kind in (PATH, PATH_OR_NONE) and value:
                value = os.path.normpath(os.path.join(os.path.dirname(self.path), value))
            setattr(self, setting.name, value)

    socket: str
    dns: tuple[str, ...]
    domain: str
    http: tuple[str, ...]
    http_hosts: tuple[str, ...]
    policy: str
    lookup_seconds: float
    dns_seconds: float
    lookups_max: int
    queries_per_second: int
    watchers_max: int
    crawl_seconds: float
    draw_seconds: float
    log_level: str
    log_format: str

    def reloaded(self, fresh: GatewayConfig) -> tuple[GatewayConfig, list[str]]:
        """These settings, with what SIGHUP may change taken from `fresh`; and the names of the others that differ there."""
        kept = {setting.name: getattr(self, setting.name) for setting in SETTINGS if not setting.reloadable}
        merged = GatewayConfig(self.path, {setting.name: getattr(fresh, setting.name) for setting in SETTINGS} | kept)
        return merged, [name for name, value in kept.items() if getattr(fresh, name) != value]

    @property
    def open_to_others(self) -> list[str]:
        """The addresses, of those on which it listens, that are not this host's alone."""
        return [each for each in (*self.dns, *self.http) if not _ip(each).is_loopback]


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(split_address(address)[0])


def load(path: str | None = None) -> GatewayConfig:
    """The config at `path`, else of the default place, where it may be missing.

    BadConfig has one `FILE:LINE: …` line for each thing that is wrong."""
    if path is None and not os.path.lexists(DEFAULT_PATH):
        return GatewayConfig(DEFAULT_PATH, {}, is_there=False)
    path = path or DEFAULT_PATH
    values, at, complaints, _ = settings.read_values(path, BY_NAME)
    config = GatewayConfig(path, values)
    for name in ("dns", "http"):
        for address in getattr(config, name):
            try:
                _ip(address)
            except ValueError:
                complaints.append(
                    f"{path}:{at[name]}: {name}={address}: give an address of this host, as 127.0.0.1, not a name"
                )
    if not config.dns and not config.http:
        complaints.append(f"{path}: dns and http are both empty: there is nothing to do")
    if complaints:
        raise BadConfig("\n".join(complaints))
    return config


def sample() -> str:
    """The sample config: every setting at its default, commented out, with its meaning."""
    return settings.written_sample(SAMPLE_HEAD, SETTINGS)
