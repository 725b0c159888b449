"""A stage in memory, for the story's tests: three nodes that see at once what lies in each other's folders, a page and a DNS
server that answer, and a clock which only sleeping moves, so each figure of the story is the same in each run."""

import contextlib
import os
import re
import shutil
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from subprocess import CompletedProcess
from urllib.parse import urlsplit

import dns.message
import dns.rcode
import dns.rrset

from bdserver.core.membership import ALIVE, DEAD
from bdserver.demo.stage import NAMES, THRESHOLD
from tests.unit import clocks

# As Primes.bdcert says it, and for how long a node remembers a call.
WEIGHT, REMEMBERED_SECONDS = 5.0, 60.0


class Clock(clocks.Clock):
    """Stands still, but for whoever sleeps."""

    def sleep(self, seconds):
        self.now += seconds


class Stage:
    """The stage, and its mesh, too. `did`: what was done to it, in order; the other attributes are what a test may change."""

    port = dns_port = 0

    def __init__(self, folder, clock):
        self.folder, self.clock = str(folder), clock
        self.did, self.notices, self.warnings = [], [], []
        self.mute = ()  # the names of those that never answer
        self.dies_after = 1.0  # so many seconds after it was killed a node is known to be dead
        self.threshold = THRESHOLD
        self.happens = []  # (instant, line or exception) of what `tend` finds
        self.error = None  # what a look-up raises
        self.complaint = ""  # what `bdwhereis` says on stderr, and fails
        self.mesh, self.hosts = self, [Host(self, name) for name in NAMES]

    def begin(self):
        self.did.append("begin")
        return self.hosts

    def wait_known(self):
        self.did.append("wait until they know each other")

    def open_gateway(self, host):
        self.did.append(f"open the gateway of {host.name}")

    def start(self, host):
        self.did.append(f"start {host.name}")
        host.died_at = None

    def tend(self, now):
        while self.happens and self.happens[0][0] <= now:
            what = self.happens.pop(0)[1]
            if isinstance(what, BaseException):
                raise what
            yield what

    def __exit__(self, *exception):
        self.did.append("end")

    def heal(self):
        """Copies of TimeOfDay, until as many living nodes have it as its .bdcert wants."""
        wanted = re.search(r"^replicas=(\d+)$", self.said_of("TimeOfDay"), re.MULTILINE)
        holders = [host for host in self.hosts if host.state == ALIVE and "TimeOfDay" in host.offers()]
        for host in self.hosts:
            if wanted and len(holders) < int(wanted[1]) and host.state == ALIVE and host not in holders:
                self.copy("TimeOfDay", host)
                holders.append(host)

    def said_of(self, service):
        """Its .bdcert at the first host, "" for none."""
        try:
            with open(os.path.join(self.hosts[0].services, f"{service}.bdcert")) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def copy(self, service, host):
        """From whoever has it."""
        source = next(each for each in self.hosts if service in each.offers())
        for name in (service, f"{service}.bdcert"):
            shutil.copy(os.path.join(source.services, name), host.services)


class Host:
    """A node: what lies in its folder, and when it was called."""

    def __init__(self, stage, name):
        self.stage, self.name = stage, name
        self.services = os.path.join(stage.folder, name)
        os.mkdir(self.services)
        self.died_at = None
        self._calls = []

    @property
    def state(self):
        is_known_dead = self.died_at is not None and self.stage.clock.now - self.died_at >= self.stage.dies_after
        return DEAD if is_known_dead else ALIVE

    @property
    def weight(self):
        return WEIGHT * sum(self.stage.clock.now - at < REMEMBERED_SECONDS for at in self._calls)

    def offers(self):
        return sorted(name.removesuffix(".bdcert") for name in os.listdir(self.services) if name.endswith(".bdcert"))

    def wait_ready(self):
        self.stage.did.append(f"wait for {self.name}")
        assert self.name not in self.stage.mute, f"not within 20 s: {self.name} answers"

    def kill(self):
        self.stage.did.append(f"kill {self.name}")
        self.died_at = self.stage.clock.now

    def nodes(self):
        self.stage.heal()
        return [{"name": each.name, "status": each.state, "services": each.offers()} for each in self.stage.hosts]

    def status_of(self, name):
        return next(node["status"] for node in self.nodes() if node["name"] == name)

    def ask(self, request):
        assert request == ["STATUS"]
        return ["STATUS", {"weight": self.weight, "warnings": self.stage.warnings}, self.nodes()]

    def lookup(self, service):
        """The first that has it and has room; if none has, the first that had it not, which is given a copy. Primes alone weighs."""
        if self.stage.error:
            raise self.stage.error
        up = [each for each in self.stage.hosts if each.died_at is None]
        holders = [each for each in up if service in each.offers()]
        free = [each for each in holders if each.weight + WEIGHT <= self.stage.threshold or service != "Primes"]
        taker = free[0] if free else next(each for each in up if each not in holders)
        if not free:
            self.stage.copy(service, taker)
        if service == "Primes":
            taker._calls.append(self.stage.clock.now)
        return [{"node": taker.name, "url": self._url(service), "phase": 1 if free else 2, "asked": [{"ms": 2.0}, {"ms": 3.4}]}]

    def whereis(self, service):
        return CompletedProcess([], bool(self.stage.complaint), f"{self._url(service)}\n", self.stage.complaint)

    def _url(self, service):
        return f"http://127.0.0.1:{self.stage.port}/axis/{service}?wsdl"


class Web(ThreadingHTTPServer):
    """The page, which leads from /NAME to where NAME is, and that. `calls`: the header and the body of each POST."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Page)
        self.calls, self.factors = [], "71 839 1471 6857"


class _Page(BaseHTTPRequestHandler):
    def do_GET(self):
        path = urlsplit(self.path).path
        if path.startswith("/axis/"):
            return self._say(f'<definitions name="{path.removeprefix("/axis/")}"/>')
        self.send_response(302)
        self.send_header("Location", f"/axis{self.path}")
        return self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.calls.append((self.path, self.headers["SOAPAction"], body))
        self._say(f"<factors>{self.server.factors}</factors>")

    def _say(self, text):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *words):
        pass


class Names(socketserver.UDPServer):
    """A DNS server that knows `port` of each service; 0: it knows none."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Question)
        self.port = 8080


class _Question(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        asked = dns.message.from_wire(data)
        said = dns.message.make_response(asked)
        if self.server.port:
            target = f"0 0 {self.server.port} 7f000001.addr.bd.internal."
            said.answer.append(dns.rrset.from_text(asked.question[0].name, 0, "IN", "SRV", target))
        else:
            said.set_rcode(dns.rcode.NXDOMAIN)
        sock.sendto(said.to_wire(), self.client_address)


@contextlib.contextmanager
def served(server):
    """It answers meanwhile, in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with server:
            yield server
            server.shutdown()
    finally:
        thread.join()
