"""What a large mesh and a long hit log cost one node: a daemon whose cache holds 1,000 nodes x 10 services, beside one of 3 x 3.

The other nodes are records without hosts: probes and rounds are set to a day, so nobody looks for them, and what is
measured is the daemon's own work. A 10-million-line hit log is a real file, old but for its last lines.
"""

from __future__ import annotations

import os
import shutil
import time
from base64 import b64encode
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from bdserver.core import exchange, membership
from bdserver.core.address import split_address
from bdserver.core.membership import Record, Service
from bdserver.core.roles import NODE
from bdserver.core.view import View
from bdserver.files.cache import Cache
from bdserver.net import dialling, keys
from bdserver.net.authority import Authority, general_names
from bdserver.net.conversation import Conversation
from bdserver.net.proofs import PREFIX
from tests.bench.memory import pss_mib
from tests.bench.pairs import Row, measure, milliseconds
from tests.bench.peers import cpu_seconds
from tests.exchanges import synchronise
from tests.hosts import Host, Mesh, until

NODES, SERVICES = 1000, 10
SMALL_NODES, SMALL_SERVICES = 3, 3
BUDGET = 1.2
LOG_LINES = 10_000_000
OLD_SECONDS = 3600
SERVICE, CALLER = "Echo", "bench-teller"
# Over this every holder would be overloaded by the measurement itself.
NEVER_OVERLOADED = 1e11
A_DAY = 86400
IN_A_ROW = 50
# The changes of one measurement of their cost: one a second is asked for, and a hundred in a row cost each the same.
CHANGES = 100
SECONDS = 10.0


def rows(folder: str, pairs: int) -> list[Row]:
    """All rows: large mesh beside small, long log beside empty one, and what a change costs."""
    with Mesh(folder, "scale") as mesh:
        large, small, logged = (_host(mesh, name) for name in ("large", "small", "logged"))
        _fill(large, NODES, SERVICES)
        _fill(small, SMALL_NODES, SMALL_SERVICES)
        _fill(logged, SMALL_NODES, SMALL_SERVICES)
        _write_long_log(logged, LOG_LINES)
        for host in (large, small, logged):
            host.start()
        pair = _Pair(
            mesh, large, small, f"{NODES:,} nodes x {SERVICES} services cached, against {SMALL_NODES} x {SMALL_SERVICES}"
        )
        found = [
            pair.open_connection(pairs, BUDGET),
            pair.new_connection(pairs, BUDGET),
            pair.fork(pairs, BUDGET),
            pair.round(pairs, BUDGET),
            pair.child_memory(max(pairs // 8, 2), BUDGET),
            pair.start(max(pairs // 4, 2), BUDGET),
        ]
        logs = _Pair(mesh, logged, small, f"a hit log of {LOG_LINES:,} lines, against an empty one")
        found += [logs.open_connection(pairs, BUDGET), logs.new_connection(pairs, BUDGET)]
    return found


def change_cost(folder: str) -> str:
    """Processor time of all of a node's processes for one change that the mesh tells it, as a share of a core at one a second."""
    with Mesh(folder, "change") as mesh:
        found, joined = {}, []
        for nodes, services in ((SMALL_NODES, SMALL_SERVICES), (NODES, SERVICES)):
            host = _host(mesh, f"n{nodes}")
            _fill(host, nodes, services)
            host.start()
            found[nodes] = _change_seconds(mesh, host)
            joined.append(_join_seconds(mesh, host, nodes))
            host.end()
        files = _cache_seconds(os.path.join(folder, "cache"))
    lines = [
        f"one change told by SYNCHRONIZE, all processes, on {nodes:,} nodes: {1000 * anew:.1f} ms on a connection of its own, "
        f"{1000 * kept:.1f} ms on one that stays open ({100 * kept:.2f} % of a core at one a second)"
        for nodes, (anew, kept) in found.items()
    ]
    (few, _), (many, took) = joined
    lines.append(
        f"a newcomer takes in {NODES:,} records with their certificates: {many - few:.2f} s of processor time more than "
        f"{SMALL_NODES}, {took:.2f} s from its start"
    )
    lines.append(f"of a change one save of the cache and its reading by two more processes: {1000 * files:.2f} ms "
                 f"({100 * files:.2f} %; budget 2 %)")  # fmt: skip
    return "\n".join(lines)


# --- hosts and what is in their files -------------------------------------------------------------------------------


def _host(mesh: Mesh, name: str) -> Host:
    host = mesh.host(
        name, log_level="info", receiver_threshold=NEVER_OVERLOADED, probe_interval=A_DAY, round_min=A_DAY, round_max=A_DAY,
        hit_log_bytes=1 << 30,
    )  # fmt: skip
    host.add_service(SERVICE)
    return host


def _credentials(mesh: Mesh) -> keys.Credentials:
    """A node's, made once."""
    folder = os.path.join(mesh.folder, "keys", CALLER)
    return keys.load(folder if os.path.isdir(folder) else mesh.issue(CALLER), CALLER)


def _fill(host: Host, nodes: int, services: int) -> None:
    """A cache as the host would have it after it met so many others."""
    signers = Signers(host.mesh)
    with _cache(host).locked() as view:
        fill(view, host.name, nodes - 1, services, signers.signed)


class Signers:
    """Nodes of a mesh that are not there: each has a certificate of its own, and all have one key."""

    def __init__(self, mesh: Mesh) -> None:
        self._authority, self._key = Authority.load(mesh.authority), ec.generate_private_key(ec.SECP256R1())

    def signed(self, record: Record) -> tuple[Record, str]:
        """The record as its node would have said it, and the node's certificate."""
        host, _ = split_address(record.address)
        certificate = self._authority.sign(self._key.public_key(), record.name, NODE, general_names([host]))
        text = b64encode(certificate.public_bytes(Encoding.DER)).decode()
        return self.signed_again(record._replace(certificate=membership.certificate_digest(text))), text

    def signed_again(self, record: Record) -> Record:
        """What a node says that has its certificate already."""
        said = membership.statement(record)
        return record._replace(said=said, signature=self._sign(said))

    def _sign(self, said: str) -> str:
        return b64encode(self._key.sign(PREFIX + said.encode(), ec.ECDSA(SHA256()))).decode()


def fill(
    view: View, me: str, nodes: int, services: int, signed: Callable[[Record], tuple[Record, str]] = lambda record: (record, "")
) -> None:
    """Records of other nodes, each with services of its own, some with a policy; `me` with nothing yet."""
    now = time.time()
    if me not in view.records:
        view.start(Record(me, "127.0.0.1:1", (0, 0)), now)
    for number in range(nodes):
        named = {f"Service-{number * services + each}": Service("static", 1.0, "", True) for each in range(services)}
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}:9001"
        version = (int(now), number)
        bare = Record(f"node-{number:05}", address, version, services=named, receiver_threshold=100.0, web_port=8080)
        record, certificate = signed(bare)
        view.merge(record, now)
        if certificate:
            view.learn_certificate(record.certificate, certificate)


def _cache(host: Host) -> Cache:
    return Cache(os.path.join(host.folder, "var", f"{host.name}.bdcache"), host.name)


def _write_long_log(host: Host, lines: int) -> None:
    """An hour old but for the last minute, in which the node was called a hundred times."""
    folder = os.path.join(host.folder, "var", "log")
    os.makedirs(folder, exist_ok=True)
    now = time.time()
    old = f"HIT ~ {int(now) - OLD_SECONDS} ~ {time.ctime(now - OLD_SECONDS)} ~ 127.0.0.1\n".encode() * 10_000
    with open(os.path.join(folder, f"{SERVICE}.bdlog"), "wb") as file:
        for _ in range(lines // 10_000):
            file.write(old)
        for each in range(100):
            at = now - 50 + each / 2
            file.write(f"HIT ~ {int(at)} ~ {time.ctime(at)} ~ 127.0.0.1\n".encode())


# --- one host beside the other --------------------------------------------------------------------------------------


class _Pair:
    """The same asked of two hosts in turn."""

    def __init__(self, mesh: Mesh, ours: Host, floor: Host, what: str):
        self.ours, self.floor, self.what = ours, floor, what
        self.credentials = _credentials(mesh)

    def _measure(self, what: str, unit: str, of: Callable[[Host], float], pairs: int, budget: float | None) -> Row:
        return measure(f"{what}: {self.what}", unit, lambda: of(self.ours), lambda: of(self.floor), pairs, budget)

    def _dial(self, host: Host) -> Conversation:
        return dialling.dial(host.address, self.credentials, time.monotonic() + SECONDS)

    def open_connection(self, pairs: int, budget: float) -> Row:
        """WHEREIS on a connection that is open."""
        talks = {host.name: self._dial(host) for host in (self.ours, self.floor)}
        try:
            return self._measure(
                "WHEREIS, open connection", "ms", lambda h: milliseconds(lambda: _ask(talks[h.name]), IN_A_ROW), pairs, budget
            )
        finally:
            for talk in talks.values():
                talk.close()

    def new_connection(self, pairs: int, budget: float) -> Row:
        """WHEREIS on a new one."""

        def once(host: Host) -> None:
            with self._dial(host) as talk:
                _ask(talk)

        return self._measure("WHEREIS, new connection", "ms", lambda h: milliseconds(lambda: once(h), 5), pairs, budget)

    def fork(self, pairs: int, budget: float) -> Row:
        """PING on a new local connection: a fork, and next to nothing else."""
        return self._measure(
            "PING, new local connection", "ms", lambda h: milliseconds(lambda: h.ask(["PING"]), 10), pairs, budget
        )

    def round(self, pairs: int, budget: float) -> Row:
        """A round of SYNCHRONIZE with a node that knows the same: what a quiet mesh pays."""
        views = {host.name: _cache(host).view() for host in (self.ours, self.floor)}

        def once(host: Host) -> None:
            view = views[host.name]
            with dialling.dial(host.gossip_address, self.credentials, time.monotonic() + SECONDS) as talk:
                synchronise(lambda: view, lambda theirs: {}, lambda say: _turn(talk, say))

        return self._measure(
            "a round of SYNCHRONIZE, nothing new", "ms", lambda h: milliseconds(lambda: once(h), 5), pairs, budget
        )

    def child_memory(self, times: int, budget: float) -> Row:
        """PSS of a child whose connection is open and that has answered."""

        def of(host: Host) -> float:
            before = set(host.children())
            with self._dial(host) as talk:
                _ask(talk)
                [pid] = [pid for pid, title in host.children().items() if "WHEREIS" in title and CALLER in title] or [0]
                assert pid, f"no child of {host.name} serves us; there were {before}"
                return pss_mib(pid)

        return self._measure("memory of a child (PSS)", "MiB", of, times, budget)

    def start(self, times: int, budget: float) -> Row:
        """From exec until the node answers; each host is ended and started again."""

        def of(host: Host) -> float:
            host.end()
            started = time.perf_counter()
            host.launch()
            until(lambda: os.path.exists(host.socket), SECONDS, f"{host.name} listens", 0.001)
            host.wait_ready()
            return 1000 * (time.perf_counter() - started)

        return self._measure("start of the daemon", "ms", of, times, budget)


def _ask(talk: Conversation) -> None:
    said = talk.ask(["WHEREIS", SERVICE, None], time.monotonic() + SECONDS)
    assert said.host == "ME", said


def _turn(talk: Conversation, say: exchange.Exchange) -> exchange.Exchange:
    return exchange.checked(talk.ask(["SYNCHRONIZE", say], time.monotonic() + SECONDS).exchange)


# --- what a change costs --------------------------------------------------------------------------------------------


def _change_seconds(mesh: Mesh, host: Host) -> tuple[float, float]:
    """Processor seconds of one change that is told to it: on a connection of its own, and on one that stays open."""
    credentials, signers = _credentials(mesh), Signers(mesh)

    def dial() -> Conversation:
        return dialling.dial(host.gossip_address, credentials, time.monotonic() + SECONDS)

    def tell(talk: Conversation, said: exchange.Exchange) -> None:
        assert _turn(talk, said)["known"] == 0

    first = int(time.time()) + 1  # newer than what `fill` says of it, perhaps within this very second
    changes = _changes(signers, first, 2 * CHANGES + 1)
    with dial() as talk:  # it learns the certificate
        tell(talk, changes.pop(0))
    found = []
    for is_open in (False, True):
        before = _cpu_seconds(host)
        with dial() as kept:
            for number in range(CHANGES):
                said = changes[CHANGES * is_open + number]
                if is_open:
                    tell(kept, said)
                else:
                    with dial() as talk:
                        tell(talk, said)
        found.append((_cpu_seconds(host) - before) / CHANGES)
    return found[0], found[1]


def _changes(signers: Signers, first: int, count: int) -> list[exchange.Exchange]:
    """One node's news, change after change; with the first comes its certificate."""
    record, text = signers.signed(Record("node-00001", "10.0.0.1:9001", (first, 0)))
    found: list[exchange.Exchange] = [{"records": [membership.as_json(record)], "certificates": {record.certificate: text}}]
    for number in range(1, count):
        changed = signers.signed_again(record._replace(version=(first + number, 0)))
        found.append({"records": [membership.as_json(changed)]})
    return found


def _join_seconds(mesh: Mesh, host: Host, nodes: int) -> tuple[float, float]:
    """Seconds of processor time that a newcomer has spent when it knows all that this host does, and seconds by the clock."""
    newcomer = mesh.host(f"new-to-{nodes}", hints=host.address, probe_interval=A_DAY, round_min=A_DAY, round_max=A_DAY)
    began = time.monotonic()
    newcomer.launch()
    cache = _cache(newcomer)
    until(lambda: len(cache.view().records) == nodes + 1, 60, f"it knows {nodes} nodes")
    took = time.monotonic() - began
    time.sleep(1)  # what it does about them, too
    spent = _cpu_seconds(newcomer)
    newcomer.end()
    return spent, took


def _cpu_seconds(host: Host) -> float:
    """Of all processes of a node, those that have ended too."""
    assert host.process is not None
    return sum(map(cpu_seconds, (host.process.pid, *host.children())))


def _cache_seconds(folder: str) -> float:
    """Processor seconds of one save and of its reading by two others, in this process."""
    os.makedirs(folder)
    path = os.path.join(folder, "me.bdcache")
    writer, readers = Cache(path, "me"), [Cache(path, "me") for _ in range(2)]
    with writer.locked() as view:
        fill(view, "me", NODES - 1, SERVICES)
    for reader in readers:
        reader.view()
    started = time.process_time()
    for number in range(CHANGES):
        with writer.locked() as view:
            record = view.records["node-00001"]
            view.merge(record._replace(version=(record.version[0] + 1, number)), time.time())
        for reader in readers:
            reader.view()
    spent = (time.process_time() - started) / CHANGES
    assert all(reader.view().records == writer.view().records for reader in readers)
    shutil.rmtree(folder)
    return spent
