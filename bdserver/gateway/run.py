"""Where a gateway is put together: the follower, DNS and HTTP on sockets that are bound first, since that may fail."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication

import waitress
import waitress.server

from bdserver.audit import app as audit
from bdserver.audit.config import AuditConfig
from bdserver.audit.crawl import crawl
from bdserver.audit.sharing import shared
from bdserver.core.address import split_address
from bdserver.core.fields import TEXT_MAX
from bdserver.errors import BDError, NotYet
from bdserver.files import policyfile
from bdserver.gateway import config as gateway_config
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


class Faces:
    """DNS, HTTP and what they are made of, by one config; SIGHUP brings another one."""

    def __init__(self, config: GatewayConfig, text: str | None) -> None:
        self._config = config
        self._stop = threading.Event()
        self._metrics = metrics = Metrics()
        looker = Lookups(config.socket, 1, FOLLOWER_SECONDS)
        self._follower = follower = Follower(looker.ping, looker.status)
        self._policy = text
        self._by_dns, self._by_http = self._lookups("dns", config.dns_seconds), self._lookups("http", config.lookup_seconds)
        self.dns = DnsServer(
            config.domain,
            self._look_up,
            follower,
            config.dns_seconds,
            config.lookups_max,
            config.queries_per_second,
            metrics.count_dns,
            partial(metrics.count_refused, "dns"),
        )
        self.http = Gateway(
            self._by_http,
            follower,
            timed=lambda: metrics.timed("http"),
            own_policy=text,
            hosts=config.http_hosts,
            watchers_max=config.watchers_max,
            audit=_audit(config),
            metrics=lambda: metrics.text(follower, self._by_http.own),
            count=metrics.count_http,
            refused=partial(metrics.count_refused, "http"),
            boot=os.urandom(8).hex(),
        )

    def _lookups(self, face: str, seconds: float) -> Lookups:
        config, refused = self._config, partial(self._metrics.count_refused, face, "lookups_max")
        return Lookups(config.socket, config.lookups_max, seconds, refused)

    def _look_up(self, service: str, deadline: float) -> dict[str, Any]:
        with self._metrics.timed("dns"):
            return self._by_dns.whereis(service, self._policy, deadline)

    def begin(self, sockets: list[socket.socket]) -> None:
        """Follow the mesh, and answer DNS."""
        threading.Thread(target=self._follower.run, args=(self._stop,), name="follower", daemon=True).start()
        self.dns.start(sockets)

    def reload(self) -> GatewayConfig:
        """Read config and policy anew, and answer by them; returns the settings in force. What is wrong is logged, a line each,
        and then all stays as it was."""
        path = self._config.path
        try:
            fresh = gateway_config.load(None if path == gateway_config.DEFAULT_PATH else path)
            text = policyfile.read(fresh.policy).text
        except BDError as error:
            for line in str(error).splitlines():
                log.error("SIGHUP: the old one stays: %s", line)
            return self._config
        except Exception:
            log.exception("SIGHUP: the old one stays: a bug")
            return self._config
        self._config, left = self._config.reloaded(fresh)
        self._apply(self._config, text)
        log.info("SIGHUP: config and policy read anew")
        if left:
            log.warning("SIGHUP: changed, and counts after a restart: %s", ", ".join(left))
        return self._config

    def _apply(self, config: GatewayConfig, text: str | None) -> None:
        self._policy = text
        self._by_dns.seconds, self._by_http.seconds = config.dns_seconds, config.lookup_seconds
        self.dns.change(config.domain, config.dns_seconds, config.queries_per_second)
        self.http.change(text, config.http_hosts, _audit(config))

    def quieten(self) -> None:
        """End what would keep us waiting for it."""
        self.http.stop.set()
        self._stop.set()  # behind it: the follower wakes the watchers, and they look

    def end(self) -> None:
        """Answer no more."""
        self.quieten()
        self.dns.stop()


def _audit(config: GatewayConfig) -> WSGIApplication:
    audited = AuditConfig(config.path, {"socket": config.socket, "crawl_seconds": config.crawl_seconds})
    return audit.application(shared(lambda about: crawl(audited, about)), config.draw_seconds, watch="v1/watch")


def run(config: GatewayConfig, sockets: Sockets, on_ready: Callable[[Faces], None]) -> None:
    """Serve until SystemExit or KeyboardInterrupt. `on_ready` takes what can be quietened and reloaded; until then no signal
    may come."""
    faces = Faces(config, policyfile.read(config.policy).text)
    faces.begin(sockets.dns)
    try:
        _serve(config, faces.http, sockets.http, lambda: on_ready(faces))
    finally:
        faces.end()


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
