"""Where a gateway is put together: the follower, DNS and HTTP on sockets that are bound first, since that may fail."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import waitress
import waitress.server

from bdserver.audit import app as audit
from bdserver.audit.config import AuditConfig
from bdserver.audit.crawl import crawl
from bdserver.core.address import split_address
from bdserver.core.messages import TEXT_MAX
from bdserver.errors import NotYet
from bdserver.files import policyfile
from bdserver.gateway.config import GatewayConfig
from bdserver.gateway.dns import DnsServer
from bdserver.gateway.follower import Follower
from bdserver.gateway.http import Gateway
from bdserver.gateway.lookups import Lookups
from bdserver.gateway.metrics import Metrics

BACKLOG = 128
# Of one connection; a caller that is silent for so long is hung up on.
HEADER_BYTES_MAX, SILENT_SECONDS = 16 << 10, 30
# Threads of HTTP beside one for each look-up and each watcher.
THREADS_BESIDE = 2
CONNECTIONS_BESIDE = 100
# The follower has its own connection, so that no look-up makes it late.
FOLLOWER_SECONDS = 10.0

log = logging.getLogger("bdserver.gateway")


class Sockets:
    """What it listens on. NotYet names what is taken."""

    def __init__(self, config: GatewayConfig) -> None:
        self.dns: list[socket.socket] = []
        self.http: list[socket.socket] = []
        try:
            for address in config.dns:
                self.dns += [_bound(address, socket.SOCK_DGRAM), _bound(address, socket.SOCK_STREAM)]
            for address in config.http:
                self.http.append(_bound(address, socket.SOCK_STREAM))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of them."""
        for sock in (*self.dns, *self.http):
            sock.close()


def _bound(address: str, kind: socket.SocketKind) -> socket.socket:
    host, port = split_address(address)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    try:
        if ":" in host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise NotYet(f"{address}: {error.strerror}") from None
    return sock


def run(config: GatewayConfig, sockets: Sockets, on_ready: Callable[[Callable[[], None]], None]) -> None:
    """Serve until SystemExit or KeyboardInterrupt. `on_ready(quieten)`: what is called then ends all that would keep us waiting
    for it. Until then no signal may come."""
    text = policyfile.read(config.policy).text
    metrics, stop = Metrics(), threading.Event()
    looker = Lookups(config.socket, 1, FOLLOWER_SECONDS)
    follower = Follower(looker.ping, looker.status)
    threading.Thread(target=follower.run, args=(stop,), name="follower", daemon=True).start()
    dns = _dns(config, text, follower, metrics)
    dns.start(sockets.dns)
    gateway = _http(config, text, follower, metrics)

    def quieten() -> None:
        gateway.stop.set()
        stop.set()  # behind it: the follower wakes the watchers, and they look

    try:
        _serve(config, gateway, sockets.http, lambda: on_ready(quieten))
    finally:
        quieten()
        dns.stop()


def _dns(config: GatewayConfig, text: str | None, follower: Follower, metrics: Metrics) -> DnsServer:
    lookups = Lookups(config.socket, config.lookups_max, config.dns_seconds)

    def look_up(service: str, deadline: float) -> dict[str, Any]:
        with metrics.timed("dns"):
            return lookups.whereis(service, text, deadline)

    return DnsServer(
        config.domain,
        look_up,
        follower,
        config.dns_seconds,
        config.lookups_max,
        config.queries_per_second,
        metrics.count_dns,
    )


def _http(config: GatewayConfig, text: str | None, follower: Follower, metrics: Metrics) -> Gateway:
    lookups = Lookups(config.socket, config.lookups_max, config.lookup_seconds)
    audited = AuditConfig(config.path, {"socket": config.socket, "crawl_seconds": config.crawl_seconds})
    return Gateway(
        lookups,
        follower,
        timed=lambda: metrics.timed("http"),
        own_policy=text,
        hosts=config.http_hosts,
        watchers_max=config.watchers_max,
        audit=audit.application(lambda: crawl(audited), config.draw_seconds, watch="v1/watch"),
        metrics=lambda: metrics.text(follower, lookups.own),
        count=metrics.count_http,
        boot=os.urandom(8).hex(),
    )


def _serve(config: GatewayConfig, gateway: Gateway, sockets: list[socket.socket], on_ready: Callable[[], None]) -> None:
    if not sockets:
        on_ready()
        threading.Event().wait()
    server = waitress.server.create_server(
        gateway,
        sockets=sockets,
        threads=config.lookups_max + config.watchers_max + THREADS_BESIDE,
        connection_limit=config.watchers_max + CONNECTIONS_BESIDE,
        channel_timeout=SILENT_SECONDS,
        max_request_header_size=HEADER_BYTES_MAX,
        max_request_body_size=TEXT_MAX,
        ident="bdgateway",
        clear_untrusted_proxy_headers=True,
        asyncore_use_poll=True,
    )
    on_ready()
    server.run()
