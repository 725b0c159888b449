"""Where a gateway is put together: the follower, DNS and HTTP on their sockets."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.types import WSGIApplication

from bdserver.audit import app as audit
from bdserver.audit.config import AuditConfig
from bdserver.audit.crawl import crawl
from bdserver.audit.sharing import shared
from bdserver.errors import BDError
from bdserver.files import policyfile
from bdserver.gateway import config as gateway_config
from bdserver.gateway.config import GatewayConfig
from bdserver.gateway.dns import DnsServer
from bdserver.gateway.follower import Follower
from bdserver.gateway.http import Gateway
from bdserver.gateway.lookups import Lookups
from bdserver.gateway.metrics import Metrics
from bdserver.gateway.sockets import KINDS, Sockets
from bdserver.gateway.web import WebServer

# Threads of HTTP beside one for each look-up and each watcher.
THREADS_BESIDE = 2
CONNECTIONS_BESIDE = 100
# The follower has its own connection, so that no look-up makes it late.
FOLLOWER_SECONDS = 10.0

log = logging.getLogger("bdserver.gateway")


class Faces:
    """DNS, HTTP and what they are made of, by one config; SIGHUP brings another one."""

    def __init__(self, config: GatewayConfig, sockets: Sockets, text: str | None) -> None:
        self._config, self._sockets = config, sockets
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
        self.web = WebServer(
            self.http,
            config.lookups_max + config.watchers_max + THREADS_BESIDE,
            config.watchers_max + CONNECTIONS_BESIDE,
            partial(metrics.count_http, "bent"),
            partial(metrics.count_refused, "http", "connections"),
        )

    def _lookups(self, face: str, seconds: float) -> Lookups:
        config, refused = self._config, partial(self._metrics.count_refused, face, "lookups_max")
        return Lookups(config.socket, config.lookups_max, seconds, refused)

    def _look_up(self, service: str, deadline: float) -> dict[str, Any]:
        with self._metrics.timed("dns"):
            return self._by_dns.whereis(service, self._policy, deadline)

    def begin(self) -> None:
        """Follow the mesh, and answer DNS; HTTP when `web` runs."""
        threading.Thread(target=self._follower.run, args=(self._stop,), name="follower", daemon=True).start()
        self.dns.start(self._sockets.of("dns"))
        for sock in self._sockets.of("http"):
            self.web.listen(sock)

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
        self._listen(fresh)
        self._config, left = self._config.reloaded(fresh)
        self._apply(self._config, text)
        log.info("SIGHUP: config and policy read anew")
        if left:
            log.warning("SIGHUP: changed, and counts after a restart: %s", ", ".join(left))
        return self._config

    def _listen(self, fresh: GatewayConfig) -> None:
        """On other addresses, if those are in `fresh`: the new ones are bound before the old ones are left. What can't be bound
        leaves its face where it is."""
        servers: dict[str, DnsServer | WebServer] = {"dns": self.dns, "http": self.web}
        for face in KINDS:
            old = getattr(self._config, face)
            try:
                added, left = self._sockets.change(face, getattr(fresh, face))
            except BDError as error:
                log.error("SIGHUP: %s stays at %s: %s", face, " ".join(old) or "nowhere", error)
                setattr(fresh, face, old)
                continue
            for sock in added:
                servers[face].listen(sock)
            for sock in left:
                servers[face].leave(sock)
            if added or left:
                log.info("SIGHUP: %s is answered at %s", face, " ".join(getattr(fresh, face)) or "no address")
        for address in set(fresh.open_to_others) - set(self._config.open_to_others):
            log.warning("%s: others than this host can look up, and see the mesh, there", address)

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
    faces = Faces(config, sockets, policyfile.read(config.policy).text)
    faces.begin()
    try:
        on_ready(faces)
        faces.web.run()
    finally:
        faces.end()
