"""The demo's story: three nodes find each other, share a service's load, copy it, lose a node and get it back.

Everything is real (daemons, keys, TLS, SOAP calls), and every figure is measured while it is told. Mesh and hosts are
hosts' business, running the services is container's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from functools import partial
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from bdserver.audit.app import application
from bdserver.audit.crawl import crawl_from
from bdserver.core.membership import DEAD
from bdserver.demo.hosts import Host, Mesh, free_port, until
from bdserver.errors import BDError
from bdserver.net import dialling

PORT = 8460
_CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = ("alpha", "beta", "gamma")
SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "services")
# A hit of Primes weighs 5: at this threshold the seventh call within ten seconds overloads its holder.
THRESHOLD = 30
NUMBER = 600851475143
CALLS_AROUND_A_DEATH = 40
# A call costs 5, and weighs for a minute: at one in four seconds all hosts together stay below what one of them bears.
GENTLE_PAUSE = 4.0
CRAWL_SECONDS = 3.0

CALL = (
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><p:Factors xmlns:p="urn:bdserver:demo:Primes">'
    "<p:number>{}</p:number></p:Factors></s:Body></s:Envelope>"
)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """The story is told on the terminal, not the page's visitors."""


class Story:
    """The mesh, its web containers, the audit page; a context manager that leaves nothing behind."""

    def __init__(self, port: int, seconds: float | None):
        self._ends_at = None if seconds is None else time.monotonic() + seconds
        self._started = time.monotonic()
        self._port = port
        self.folder = tempfile.mkdtemp(prefix="bddemo-")
        self.mesh = Mesh(self.folder)
        self._containers: list[subprocess.Popen[str]] = []
        self._page: WSGIServer | None = None

    def __enter__(self) -> Story:
        return self

    def __exit__(self, *exception: object) -> None:
        self.say("Ending all processes …")
        if self._page is not None:
            self._page.shutdown()
            self._page.server_close()
        self.mesh.stop()
        for container in self._containers:
            container.terminate()
            container.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def say(self, text: str) -> None:
        """One line of the story, with the second at which it happens."""
        print(f"{time.monotonic() - self._started:6.1f} s  {text}", flush=True)

    # -- the scenes

    def tell(self) -> None:
        """The whole story; then a gentle load until it is ended."""
        alpha, beta, gamma = self._begin()
        self._publish(alpha, beta)
        self._look_up(gamma)
        replica = self._overload(alpha, gamma)
        self._share(gamma, {alpha.name, replica.name})
        self._lose(replica, gamma)
        self._linger(gamma)

    def _begin(self) -> list[Host]:
        self.say("Three hosts on this machine, with keys of their own from a CA made just now; no central server.")
        for name in NAMES:
            hints = {"hints": self.mesh.hosts[0].address} if self.mesh.hosts else {}
            host = self.mesh.host(name, receiver_threshold=THRESHOLD, axis_port=free_port(), log_level="info", **hints)
            self._serve(host)
        started = time.monotonic()
        for host in self.mesh.hosts:
            host.launch()
        for host in self.mesh.hosts:
            host.wait_ready()
        self.mesh.wait_known()
        self.say(f"{', '.join(NAMES)} are up, and each knows the others, {_ms(started)} after the first was started.")
        self._show_page()
        return self.mesh.hosts

    def _serve(self, host: Host) -> None:
        """A web container beside the node, in whose folder services and replicas are live."""
        line = [sys.executable, "-m", "bdserver.net.container", "--services", host.services]
        line += ["--port", str(host.config["axis_port"]), "--host", host.ip]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        container = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)
        self._containers.append(container)
        assert container.stdout and container.stdout.readline(), f"the web container of {host.name} did not start"

    def _show_page(self) -> None:
        dials = [partial(dialling.dial_local, host.socket) for host in self.mesh.hosts]
        app = application(lambda: crawl_from(dials, CRAWL_SECONDS))
        try:
            self._page = make_server("127.0.0.1", self._port, app, handler_class=_Quiet)
        except OSError as error:
            self.say(f"Port {self._port} is taken ({error.strerror}): the audit page takes another one.")
            self._page = make_server("127.0.0.1", 0, app, handler_class=_Quiet)
        threading.Thread(target=self._page.serve_forever, args=[0.1], daemon=True).start()
        self.say(f"Watch it all at http://127.0.0.1:{self._page.server_port}/")

    def _publish(self, alpha: Host, beta: Host) -> None:
        for host, name in ((alpha, "Primes"), (alpha, "TimeOfDay"), (beta, "Temperature")):
            source = os.path.join(SAMPLES, name)
            shutil.copy(source, host.services)
            shutil.copy(source + ".bdcert", host.services)  # last: from now on it is offered
        started = time.monotonic()
        wanted = {"Primes", "TimeOfDay", "Temperature"}

        def all_know() -> bool:
            return all(wanted <= {s for node in host.nodes() for s in node["services"]} for host in self.mesh.hosts)

        until(all_know, 20, "all nodes know the services")
        self.say(f"Dropped Primes and TimeOfDay into alpha's folder, Temperature into beta's: all know {_ms(started)} later.")

    def _look_up(self, asker: Host) -> None:
        for name in ("Temperature", "Primes"):
            started = time.monotonic()
            done = asker.whereis(name)
            assert done.returncode == 0, done.stderr
            self.say(f"$ bdwhereis {name}   (asked gamma, {_ms(started)} for the whole command)")
            self.say(f"    {done.stdout.strip()}")
        said = _call(done.stdout.strip())
        assert "<factors>71 839 1471 6857</factors>" in said, said
        self.say(f"Called it by SOAP: the prime factors of {NUMBER} are 71 839 1471 6857.")

    def _overload(self, holder: Host, asker: Host) -> Host:
        self.say(f"Now clients come. Each call of Primes weighs 5; alpha is overloaded above {THRESHOLD}.")
        for count in range(1, 100):
            said = asker.lookup("Primes")[-1]
            _call(said["url"])
            weight = holder.ask(["STATUS"])[1]["weight"]
            self.say(f"  call {count:2}: {said['node']:5} serves   alpha {_bar(weight)} {weight:g}")
            if said["phase"] == 2:
                took = sum(each["ms"] for each in said["asked"])
                self.say(
                    f"alpha said NO. In {took:.0f} ms the mesh copied Primes to {said['node']}, which answered the same call."
                )
                return next(host for host in self.mesh.hosts if host.name == said["node"])
        raise AssertionError("a hundred calls did not overload alpha")

    def _share(self, asker: Host, holders: set[str]) -> None:
        served: Counter[str] = Counter()
        for _ in range(12):
            said = asker.lookup("Primes")[-1]
            _call(said["url"])
            served[said["node"]] += 1
        shares = ", ".join(f"{name} {count}" for name, count in sorted(served.items()))
        copied = "".join(f" {name} was given a copy on the way." for name in sorted(served.keys() - holders))
        self.say(f"Twelve more calls, and nobody is asked to do more than it can: {shares}.{copied}")

    def _lose(self, victim: Host, asker: Host) -> None:
        if victim is asker:
            asker = self.mesh.hosts[0]
        others = [host for host in self.mesh.hosts if host is not victim]
        self.say(f"kill -9 of {victim.name}, while {CALLS_AROUND_A_DEATH} lookups go on at {asker.name} …")
        victim.kill()
        started = time.monotonic()
        known_after = 0.0
        good = 0
        for _ in range(CALLS_AROUND_A_DEATH):
            said = asker.lookup("Primes")[-1]
            good += said["node"] not in ("", victim.name) and "<factors>" in _call(said["url"])
            if not known_after and all(host.status_of(victim.name) == DEAD for host in others):
                known_after = time.monotonic() - started
            time.sleep(0.05)
        until(lambda: all(host.status_of(victim.name) == DEAD for host in others), 30, f"all know that {victim.name} is dead")
        known_after = known_after or time.monotonic() - started
        assert good == CALLS_AROUND_A_DEATH, f"{CALLS_AROUND_A_DEATH - good} lookups failed"
        self.say(
            f"{good} of {CALLS_AROUND_A_DEATH} were answered by a living host; all knew of the death after {known_after:.1f} s."
        )
        started = time.monotonic()
        victim.start()
        self.mesh.wait_known()
        self.say(f"{victim.name} is started again: all know {_ms(started)} later, its replica with it.")

    def _linger(self, asker: Host) -> None:
        assert self._page is not None
        until_then = "" if self._ends_at is not None else "; Ctrl-C ends it"
        self.say(f"A gentle load goes on{until_then}. Audit page: http://127.0.0.1:{self._page.server_port}/")
        self.say(f"Try it yourself: {_command('bdwhereis')} --config {asker.config_path} --explain Primes")
        while self._ends_at is None or time.monotonic() < self._ends_at:
            with contextlib.suppress(BDError, urllib.error.URLError, OSError):
                _call(asker.lookup("Primes")[-1]["url"])
            time.sleep(GENTLE_PAUSE)


def _call(url: str) -> str:
    """A SOAP call of Primes at the URL that the mesh gave."""
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '"urn:bdserver:demo:Primes#Factors"'}
    request = urllib.request.Request(url.removesuffix("?wsdl"), CALL.format(NUMBER).encode(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        said: bytes = answer.read()
    return said.decode()


def _command(name: str) -> str:
    """As a person can type it here: a checkout's and a virtual environment's commands are not on PATH."""
    beside = [os.path.join(folder, name) for folder in (os.path.dirname(sys.executable), os.path.join(_CHECKOUT, "bin"))]
    return name if shutil.which(name) else next((each for each in beside if os.access(each, os.X_OK)), name)


def _bar(weight: float) -> str:
    filled = min(round(weight / 2), 25)
    return "#" * filled + "." * (25 - filled)


def _ms(started: float) -> str:
    return f"{1000 * (time.monotonic() - started):.0f} ms"
