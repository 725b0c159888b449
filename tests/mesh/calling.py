"""Callers of a service, as clients are: a look-up, then a call of the URL that it names, and what was served there.

Each host's services folder is served by a small web server in this process, as long as the host runs: a file as it is, of a folder
its `index`.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from bdserver.errors import BDError

CALL_SECONDS = 10.0


class Call(NamedTuple):
    """When it began, which node was named, what was served, or what failed."""

    at: float
    node: str
    served: str
    failure: str


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, host):
        self.host = host
        super().__init__((host.ip, int(host.config["axis_port"])), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        path = os.path.join(self.server.host.services, name)
        content = None
        with contextlib.suppress(OSError), open(os.path.join(path, "index") if os.path.isdir(path) else path, "rb") as file:
            content = file.read(1000)
        self.send_response(404 if content is None or not self.server.host.is_running else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(hosts):
    """The services of these hosts can be called; each has an `axis_port` in its config."""
    servers = [_Server(host) for host in hosts]
    try:
        yield
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@contextlib.contextmanager
def calls(service, hosts, a_second, callers=4):
    """A list of calls that grows: so many a second in all, each look-up asked of a random one of these hosts that runs."""
    made, stop = [], threading.Event()

    def go_on(number):
        rng = random.Random(number)
        while not stop.wait(callers / a_second):
            made.append(_call(service, rng.choice([host for host in hosts if host.is_running])))

    threads = [threading.Thread(target=go_on, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        stop.set()
        for thread in threads:
            thread.join(2 * CALL_SECONDS)


def _call(service, host):
    at, node = time.monotonic(), ""
    try:
        said = host.lookup(service, seconds=CALL_SECONDS)
        if said[0] in ("CANTFIND", "POLICYMISMATCH"):
            return Call(at, node, "", f"{said[0]} at {host.name}: {said[-1]}")
        node = said[-1]["node"]
        with urllib.request.urlopen(said[-1]["url"], timeout=CALL_SECONDS) as answer:
            return Call(at, node, answer.read().decode(), "")
    except (BDError, OSError) as error:
        return Call(at, node, "", f"{host.name}, then {node or 'nobody'}: {error!r}")
