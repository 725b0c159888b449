"""The demo's story: three nodes find each other, share a service's load, copy it, lose a node and get it back.

Everything is real (daemons, keys, TLS, SOAP calls), and every figure is measured while it is told. Where it plays is stage's
business, what a visitor may do meanwhile trying's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import urllib.error
import urllib.request
from collections import Counter

import dns.message
import dns.query

from bdserver.core.membership import ALIVE, DEAD
from bdserver.demo import trying
from bdserver.demo.hosts import LOOPBACK, Host, until
from bdserver.demo.stage import AGAIN_SECONDS, THRESHOLD, Stage
from bdserver.errors import BDError

PORT = 8460
SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "services")
NUMBER = 600851475143
# So many that the second holder is full too, and the third one still has room.
SHARED_CALLS = 9
CALLS_AROUND_A_DEATH = 30
HOLDERS_OF_TIME = 2
# A call costs 5, and weighs for a minute: one in eight seconds adds up to 21, and with what the story left to 27. So
# one host bears all of them, and does when it is the one that is asked.
GENTLE_PAUSE, TEND_PAUSE = 8.0, 0.2
# After so long nothing of the story's load is left. A host that has so much room takes a visitor's copies, too.
CALM_SECONDS, CALM_SHARE = 90.0, 0.6

CALL = (
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><p:Factors xmlns:p="urn:bdserver:demo:Primes">'
    "<p:number>{}</p:number></p:Factors></s:Body></s:Envelope>"
)


class Story:
    """The story on its stage; a context manager that leaves nothing behind. `seconds`: so long it goes on after the last scene,
    None: until it is interrupted."""

    def __init__(self, stage: Stage, seconds: float | None = None):
        self._started = time.monotonic()
        self._seconds = seconds
        self._stage = stage
        self._page = f"http://{LOOPBACK}:{self._stage.port}"

    def __enter__(self) -> Story:
        return self

    def __exit__(self, *exception: object) -> None:
        self.say("Ending all processes …")
        self._stage.__exit__(*exception)

    def say(self, text: str) -> None:
        """One line of the story, with the second at which it happens."""
        print(f"{time.monotonic() - self._started:6.1f} s  {text}", flush=True)

    # -- the scenes

    def tell(self) -> None:
        """The whole story; then a gentle load until it is ended."""
        alpha, beta, gamma = self._begin()
        self._publish(alpha, beta)
        self._look_up(gamma)
        self._overload(alpha, gamma)
        self._share(gamma)
        self._lose(self._holder_of_time(alpha), alpha)
        self._calm_down()
        self._linger(alpha)

    def _begin(self) -> list[Host]:
        for notice in self._stage.notices:
            self.say(notice)
        self.say("Three hosts on this machine, keys from a CA made just now, no central server.")
        hosts = self._stage.begin()
        started = time.monotonic()
        for host in hosts:
            host.wait_ready()
        self._stage.mesh.wait_known()
        names = ", ".join(host.name for host in hosts)
        self.say(f"{names} are up and know each other, {_ms(started)} after they were started.")
        self._stage.open_gateway(hosts[0])
        self.say(f"Watch it all: {self._page}/")
        return hosts

    def _publish(self, alpha: Host, beta: Host) -> None:
        for host, name in ((alpha, "Primes"), (alpha, "TimeOfDay"), (beta, "Temperature")):
            source = os.path.join(SAMPLES, name)
            shutil.copy(source, host.services)
            shutil.copy(source + ".bdcert", host.services)  # last: from now on it is offered
            if name == "TimeOfDay":
                with open(os.path.join(host.services, name + ".bdcert"), "a") as file:
                    file.write(f"replicas={HOLDERS_OF_TIME}\n")
        started = time.monotonic()
        wanted, hosts = {"Primes", "TimeOfDay", "Temperature"}, self._stage.mesh.hosts
        until(lambda: all(wanted <= set(_offered(host)) for host in hosts), 20, "all nodes know the services")
        self.say(f"Files dropped: Primes, TimeOfDay at alpha, Temperature at beta. All know {_ms(started)} later.")
        until(lambda: len(_offered(alpha)["TimeOfDay"]) == HOLDERS_OF_TIME, 20, "TimeOfDay has its copy")
        name = self._holder_of_time(alpha).name
        self.say(f"TimeOfDay says replicas={HOLDERS_OF_TIME}: two living holders at all times. {name} has a copy.")

    def _holder_of_time(self, asker: Host) -> Host:
        """The host with the copy."""
        names = _offered(asker)["TimeOfDay"]
        return next(host for host in self._stage.mesh.hosts if host.name in names and host.name != "alpha")

    def _look_up(self, asker: Host) -> None:
        self.say("Three ways to ask. Each answer is a host that has just agreed to the call.")
        started = time.monotonic()
        done = asker.whereis("Temperature")
        assert done.returncode == 0, done.stderr
        self.say(f"  bdwhereis  {done.stdout.strip()}   ({_ms(started)}, the whole command)")
        started = time.monotonic()
        said = dns.query.udp(
            dns.message.make_query("Temperature.bd.internal", "SRV"), LOOPBACK, timeout=10, port=self._stage.dns_port
        )
        port = next((each.port for record in said.answer for each in record), 0)
        assert port, f"DNS says of Temperature: {said.rcode().name}, and no port"
        self.say(f"  DNS        Temperature.bd.internal is at port {port}   ({_ms(started)})")
        started = time.monotonic()
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self._page}/Primes?wsdl", timeout=20) as page:
            self.say(f"  HTTP       {self._page}/Primes leads to {page.url}   ({_ms(started)})")
        factors = _call(page.url)
        assert "<factors>71 839 1471 6857</factors>" in factors, factors
        self.say(f"Called it by SOAP: the prime factors of {NUMBER} are 71 839 1471 6857.")

    def _overload(self, holder: Host, asker: Host) -> None:
        self.say(f"Now clients come. Each call of Primes weighs 5; alpha is overloaded above {THRESHOLD}.")
        for count in range(1, 100):
            said = asker.lookup("Primes")[-1]
            _call(said["url"])
            weight = holder.ask(["STATUS"])[1]["weight"]
            self.say(f"  call {count:2}: {said['node']:5} serves   alpha {_bar(weight)} {weight:g}")
            if said["phase"] == 2:
                took = sum(each["ms"] for each in said["asked"])
                taker = said["node"]
                self.say(f"alpha said NO. In {took:.0f} ms the mesh copied Primes to {taker}, which took that very call.")
                return
        raise AssertionError("a hundred calls did not overload alpha")

    def _share(self, asker: Host) -> None:
        holders = set(_offered(asker)["Primes"])
        served: Counter[str] = Counter()
        for _ in range(SHARED_CALLS):
            said = asker.lookup("Primes")[-1]
            _call(said["url"])
            served[said["node"]] += 1
        shares = ", ".join(f"{name} {count}" for name, count in sorted(served.items()))
        copied = "".join(f" {name} was given a copy on the way." for name in sorted(served.keys() - holders))
        self.say(f"{SHARED_CALLS} more calls, none more than its host bears: {shares}.{copied}")

    def _lose(self, victim: Host, asker: Host) -> None:
        others = [host for host in self._stage.mesh.hosts if host is not victim]
        self.say(f"kill -9 of {victim.name}, while {CALLS_AROUND_A_DEATH} calls of TimeOfDay go on …")
        victim.kill()
        started = time.monotonic()
        known_after = copied_after = 0.0
        good = 0
        for _ in range(CALLS_AROUND_A_DEATH):
            said = asker.lookup("TimeOfDay")[-1]
            good += said["node"] not in ("", victim.name) and "TimeOfDay" in _read(said["url"])
            known_after = known_after or _since(started, all(host.status_of(victim.name) == DEAD for host in others))
            copied_after = copied_after or _since(started, _is_held_twice(asker, victim))
            time.sleep(0.05)
        until(lambda: all(host.status_of(victim.name) == DEAD for host in others), 30, f"all know that {victim.name} is dead")
        known_after = known_after or time.monotonic() - started
        until(lambda: _is_held_twice(asker, victim), 30, "TimeOfDay has two living holders again")
        copied_after = copied_after or time.monotonic() - started
        assert good == CALLS_AROUND_A_DEATH, f"{CALLS_AROUND_A_DEATH - good} calls failed"
        self.say(
            f"{good} of {CALLS_AROUND_A_DEATH} were answered by a living host. All knew of the death after {known_after:.1f} s,"
        )
        self.say(f"and after {copied_after:.1f} s TimeOfDay had two living holders again.")
        started = time.monotonic()
        self._stage.start(victim)
        victim.wait_ready()
        self._stage.mesh.wait_known()
        self.say(f"{victim.name} is started again: all know {_ms(started)} later.")

    def _calm_down(self) -> None:
        """What was called is forgotten within a minute, and what needed attention has passed."""
        hosts, started = self._stage.mesh.hosts, time.monotonic()
        until(lambda: all(map(_is_calm, hosts)), CALM_SECONDS, "nothing needs attention", TEND_PAUSE)
        self.say(f"Load is forgotten by the second: {_seconds(started)} later nothing needs attention, and all have room.")

    def _linger(self, asker: Host) -> None:
        ends_at = None if self._seconds is None else time.monotonic() + self._seconds
        self.say("A gentle load goes on." if ends_at else "A gentle load goes on. Ctrl-C ends everything.")
        has_dig = shutil.which("dig") is not None
        dns = f"dig @{LOOPBACK} -p {self._stage.dns_port} +short" if has_dig else "./ask-dns"
        tries = trying.tries(self._page, dns, AGAIN_SECONDS)
        print(f"\nThe page, which keeps itself up to date: {self._page}/\nAnd in another terminal:\n", flush=True)
        print(trying.told(self._stage.folder, tries), end="\n\n", flush=True)
        call_at = 0.0
        while ends_at is None or time.monotonic() < ends_at:
            for line in self._stage.tend(time.monotonic()):
                self.say(line)
            if time.monotonic() >= call_at:
                with contextlib.suppress(BDError, urllib.error.URLError, OSError):
                    _call(asker.lookup("Primes")[-1]["url"])
                call_at = time.monotonic() + GENTLE_PAUSE
            time.sleep(TEND_PAUSE)


def _offered(host: Host) -> dict[str, list[str]]:
    """service -> the nodes that are alive and have it, as a host knows them."""
    found: dict[str, list[str]] = {}
    for node in host.nodes():
        for name in node["services"] if node["status"] == ALIVE else ():
            found.setdefault(name, []).append(node["name"])
    return found


def _is_held_twice(asker: Host, dead: Host) -> bool:
    """Whether as many hosts have TimeOfDay as it wants, beside a dead one."""
    return len(set(_offered(asker).get("TimeOfDay", ())) - {dead.name}) >= HOLDERS_OF_TIME


def _is_calm(host: Host) -> bool:
    own = host.ask(["STATUS"])[1]
    return not own["warnings"] and own["weight"] < THRESHOLD * CALM_SHARE


def _since(started: float, is_so: bool) -> float:
    return time.monotonic() - started if is_so else 0.0


def _read(url: str | urllib.request.Request) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=20) as answer:
        said: bytes = answer.read()
    return said.decode()


def _call(url: str) -> str:
    """A SOAP call of Primes at the URL that the mesh gave."""
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '"urn:bdserver:demo:Primes#Factors"'}
    request = urllib.request.Request(url.removesuffix("?wsdl"), CALL.format(NUMBER).encode(), headers)
    return _read(request)


def _bar(weight: float) -> str:
    filled = min(round(weight / 2), 25)
    return "#" * filled + "." * (25 - filled)


def _ms(started: float) -> str:
    return f"{1000 * (time.monotonic() - started):.0f} ms"


def _seconds(started: float) -> str:
    return f"{time.monotonic() - started:.0f} s"
