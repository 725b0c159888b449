"""Lookups beside Serf's and etcd's: whole processes, requests a second, and what a holder that fails costs.

The peers answer from what they have been told; ours asks a holder, which logs the hit. So it is measured twice: where
the node asked is the holder itself, and where it calls another one.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

from bdserver.core.messages import Place
from bdserver.net import dialling
from bdserver.net.conversation import Conversation
from bdserver.net.keys import load
from tests.bench.commands import BDWHEREIS
from tests.bench.pairs import Row, measure, milliseconds
from tests.bench.peers import Agent, missing
from tests.bench.peers_etcd import KEY, Etcd, EtcdClient
from tests.hosts import Host, Mesh, until

HERE, THERE = "Here", "There"
SECONDS = 10.0
IN_A_ROW = 200
CLIENTS = 8
NEVER_OVERLOADED = 1e11


def rows(pairs: int) -> list[Row]:
    """All comparisons that the installed peers allow."""
    with tempfile.TemporaryDirectory() as folder, Mesh(folder, "bench") as mesh:
        host, other = mesh.start(2, log_level="info", receiver_threshold=NEVER_OVERLOADED)
        host.add_service(HERE), other.add_service(THERE)
        mesh.wait_known()
        until(lambda: host.lookup(HERE)[0] == "ME" and host.lookup(THERE)[0] != "CANTFIND", 30, "both services are known")
        found: list[Row] = []
        if not missing("serf"):
            found += _beside_serf(host, folder, pairs)
        if not missing("etcd", "etcdctl"):
            keys = os.path.join(mesh.issue("bench"), "bench")
            for where in ("", keys):
                with Etcd(os.path.join(folder, "etcd-tls" if where else "etcd"), where) as etcd:
                    found += _beside_etcd(host, etcd, keys, pairs)
        return found


def _beside_serf(host: Host, folder: str, pairs: int) -> list[Row]:
    agent = Agent(folder, "n1")
    agent.launch()
    try:
        agent.wait_ready()
        members = ["serf", "members", f"-rpc-addr=127.0.0.1:{agent.rpc_port}"]
        ours = _bdwhereis("--config", host.config_path, HERE)
        return [_processes("`bdwhereis`, local socket, against `serf members`", ours, members, pairs)]
    finally:
        agent.end()


def _beside_etcd(host: Host, etcd: Etcd, keys: str, pairs: int) -> list[Row]:
    folder, name = os.path.split(keys)
    if etcd.keys:
        way, arguments = "TLS", ["--node", host.address, "--keys", keys, HERE]
        credentials = load(folder, name)

        def dial() -> Conversation:
            return dialling.dial(host.address, credentials, time.monotonic() + 3600)
    else:
        way, arguments = "local socket", ["--config", host.config_path, HERE]

        def dial() -> Conversation:
            return dialling.dial_local(host.socket, time.monotonic() + 3600)

    found = [_processes(f"`bdwhereis`, {way}, against `etcdctl get`", _bdwhereis(*arguments), etcd.control("get", KEY), pairs)]
    for service, holder in ((HERE, "the node asked holds it"), (THERE, "another node holds it")):
        for count, clients in ((1, "one open connection"), (CLIENTS, f"{CLIENTS} clients")):
            found.append(
                measure(
                    f"lookups, {way}, {clients}, {holder}, against etcd's gets",
                    "per s",
                    lambda count=count, service=service: _per_second(count, lambda: _asker(dial(), service)),
                    lambda count=count: _per_second(count, lambda: EtcdClient(etcd).get),
                    max(pairs // 3, 2),
                )
            )
    return found


def _bdwhereis(*arguments: str) -> list[str]:
    return [sys.executable, "-S", BDWHEREIS, *arguments]  # as bin/bdwhereis starts it


def _processes(what: str, ours: list[str], theirs: list[str], pairs: int) -> Row:
    return measure(what, "ms", lambda: milliseconds(lambda: _run(ours)), lambda: milliseconds(lambda: _run(theirs)), pairs)


def _run(command: list[str]) -> None:
    away = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    _, status = os.waitpid(os.posix_spawnp(command[0], command, os.environ, file_actions=[away]), 0)
    assert status == 0, f"{command} ended with {os.waitstatus_to_exitcode(status)}"


def _asker(talk: Conversation, service: str) -> Callable[[], object]:
    def ask() -> None:
        said = talk.ask(["WHEREIS", service, None], time.monotonic() + SECONDS)
        assert isinstance(said, Place), said

    return ask


def _per_second(clients: int, prepare: Callable[[], Callable[[], object]]) -> float:
    """Each client is a process with one open connection; they start together, and the last one's end counts."""
    ready = multiprocessing.get_context("fork").Barrier(clients + 1)
    processes = [multiprocessing.get_context("fork").Process(target=_work, args=(ready, prepare)) for _ in range(clients)]
    for process in processes:
        process.start()
    ready.wait(60)
    started = time.perf_counter()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0, f"a client ended with {process.exitcode}"
    return clients * IN_A_ROW / (time.perf_counter() - started)


def _work(ready: Barrier, prepare: Callable[[], Callable[[], object]]) -> None:
    ask = prepare()
    ask()
    ready.wait(60)
    for _ in range(IN_A_ROW):
        ask()


# -- a holder that fails: no peer has anything like it

TRIALS_HEAD = """| one lookup, asked of a third node | median | slowest | answers |
| --- | ---: | ---: | --- |"""


def trials(times: int) -> str:
    """What a lookup costs while one of two holders is dead, hung, or both are overloaded; as a table."""
    folder = tempfile.mkdtemp(prefix="lookups")
    try:
        with Mesh(folder, "bench") as mesh:
            return "\n".join([TRIALS_HEAD, *_Trials(mesh).all(times)])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Trials:
    """Two holders, one who asks, one with room for copies."""

    def __init__(self, mesh: Mesh):
        self.mesh = mesh
        settings = {"log_level": "info", "receiver_threshold": NEVER_OVERLOADED}
        self.asked, self.a, self.b = mesh.start(3, max_dynamic=0, **settings)
        for holder in (self.a, self.b):
            holder.add_service(THERE)
        mesh.wait_known()
        until(lambda: self._holders(THERE) == 2, 30, "both holders are known")

    def all(self, times: int) -> list[str]:
        """One line for each case."""
        return [
            self._line("both holders are well", [self._lookup() for _ in range(10 * times)]),
            self._line("one was killed (kill -9) just before", [self._after(signal.SIGKILL) for _ in range(times)]),
            self._line("one hung (SIGSTOP) just before", [self._after(signal.SIGSTOP) for _ in range(times)]),
            self._overloaded(times),
            self._copied(times),
        ]

    def _lookup(self, service: str = THERE) -> tuple[float, str]:
        started = time.perf_counter()
        said = self.asked.lookup(service)
        return 1000 * (time.perf_counter() - started), said[-1]["node"] or said[0]

    def _after(self, number: int) -> tuple[float, str]:
        """The slowest of the next lookups; half of them are sent to the failed one first."""
        assert self.a.process is not None
        pids = [self.a.process.pid, *self.a.children()]
        for pid in pids:
            os.kill(pid, number)
        slowest = max(self._lookup() for _ in range(6))
        if number == signal.SIGKILL:
            self.a.process.wait()
            self.a.start()
        else:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        until(lambda: self.asked.status_of(self.a.name) == "alive" and self.a.is_running, 60, f"{self.a.name} is back")
        until(lambda: self._holders(THERE) == 2, 60, "both holders are known")
        return slowest

    def _overloaded(self, times: int) -> str:
        for holder in (self.a, self.b):
            holder.write_config(receiver_threshold=0.5)
            assert holder.process is not None
            holder.process.send_signal(signal.SIGHUP)
        until(lambda: self._is_overloaded(self.a) and self._is_overloaded(self.b), 30, "both holders are overloaded")
        return self._line("all holders are overloaded, nobody has room", [self._lookup() for _ in range(10 * times)])

    def _copied(self, times: int) -> str:
        names = [f"Copied{number}" for number in range(times)]
        for name in names:
            self.a.add_service(name)
        roomy = self.mesh.start(1, max_dynamic=times + 1, log_level="info", receiver_threshold=NEVER_OVERLOADED)[0]
        self.mesh.wait_known()
        until(lambda: all(self._holders(name) for name in names), 30, "the new services are known")
        until(lambda: self._is_free(roomy), 30, "the room is known")
        return self._line("all holders are overloaded, one copies the service", [self._lookup(name) for name in names])

    def _is_free(self, host: Host) -> bool:
        return any(node["name"] == host.name and node["free_dynamic"] for node in self.asked.nodes())

    def _is_overloaded(self, holder: Host) -> bool:
        self.asked.lookup(THERE)
        return holder.ask(["STATUS"])[1]["overloaded"]

    def _holders(self, service: str) -> int:
        return sum(service in node["services"] and node["status"] == "alive" for node in self.asked.nodes())

    def _line(self, what: str, found: list[tuple[float, str]]) -> str:
        spans = [span for span, _ in found]
        told = {word: sum(answer == word for _, answer in found) for word in sorted({answer for _, answer in found})}
        answers = ", ".join(f"{word} {count}" for word, count in told.items())
        return f"| {what} | {statistics.median(spans):.3g} ms | {max(spans):.4g} ms | {answers} |"
