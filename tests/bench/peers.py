"""A crowd of BDserver's nodes, or of Serf's agents, as processes of ours on loopback, and what each of them knows.

Both sides run with their own defaults and are watched alike and without a question: a Serf agent writes what it learns
to its log, a node of ours to its cache file. Only the watcher's eyes differ: `look`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable

from bdserver.core.view import View
from bdserver.files.cache import Cache
from tests.hosts import Host, Mesh, free_port, until

# How often it is looked what each node knows: a hundredth of what is to be measured.
LOOK_SECONDS = 0.002
ALIVE, DEAD = "alive", "dead"
TAGGED = "bench"


def missing(*programs: str) -> list[str]:
    """Those that are not installed."""
    return [program for program in programs if shutil.which(program) is None]


def seconds_until_all(knowers: list, knows: Callable, seconds: float, what: str, started: float | None = None) -> float:
    """From `started`, else from now, until `knows(knower)` is true of each."""
    started = time.monotonic() if started is None else started
    left = list(knowers)

    def nobody_left() -> bool:
        for knower in left:
            knower.look()
        left[:] = [knower for knower in left if not knows(knower)]
        return not left

    until(nobody_left, seconds, what, LOOK_SECONDS)
    return time.monotonic() - started


class Agent:
    """A Serf agent."""

    SIDE = "Serf"

    def __init__(self, folder: str, name: str):
        self.name, self.port, self.rpc_port = name, free_port(), free_port()
        self.log_path = os.path.join(folder, name + ".log")
        self.statuses: dict[str, str] = {}
        self.updates: dict[str, int] = {}
        self.process: subprocess.Popen | None = None
        self._read_bytes = 0

    @property
    def address(self) -> str:
        """Where the others reach it."""
        return f"127.0.0.1:{self.port}"

    def launch(self, join: str = "") -> None:
        """Start it, to join whoever is at that address."""
        command = ["serf", "agent", f"-node={self.name}", f"-bind={self.address}", f"-rpc-addr=127.0.0.1:{self.rpc_port}"]
        self.statuses.clear()
        with open(self.log_path, "ab") as log:
            self._read_bytes = log.seek(0, os.SEEK_END)
            self.process = subprocess.Popen(
                [*command, *([f"-retry-join={join}", "-retry-interval=1s"] if join else [])], stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        """Until its RPC answers."""
        until(self._answers, 20, f"{self.name} answers")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            self.rpc("members-filtered", Tags={}, Status="none", Name="none")
            return True
        return False

    def look(self) -> None:
        """Read what it logged since."""
        if os.stat(self.log_path).st_size == self._read_bytes:
            return
        with open(self.log_path, "rb") as file:
            file.seek(self._read_bytes)
            lines = file.read().rpartition(b"\n")
        self._read_bytes += len(lines[0]) + len(lines[1])
        for what, name in re.findall(r"serf: EventMember(\w+): (\S+)", lines[0].decode()):
            if what == "Update":
                self.updates[name] = self.updates.get(name, 0) + 1
            else:
                self.statuses[name] = ALIVE if what == "Join" else DEAD

    def join(self, address: str) -> None:
        """Join whoever is there."""
        self.rpc("join", Existing=[address], Replay=False)

    def offer(self, is_offered: bool) -> Callable[[Agent], bool]:
        """Set or delete a tag; what tells whether an agent knows."""
        before = {}

        def knows(agent: Agent) -> bool:
            return agent.updates.get(self.name, 0) > before[agent.name]

        def tell(agents: list[Agent]) -> None:
            before.update({agent.name: agent.updates.get(self.name, 0) for agent in agents})
            self.rpc("tags", Tags={TAGGED: "1"} if is_offered else {}, DeleteTags=[] if is_offered else [TAGGED])

        knows.tell = tell  # type: ignore[attr-defined]
        return knows

    def rpc(self, command: str, **arguments) -> None:
        """One command on a connection of its own; it is carried out when this returns."""
        with socket.create_connection(("127.0.0.1", self.rpc_port), 10) as sock:
            for number, (word, body) in enumerate((("handshake", {"Version": 1}), (command, arguments))):
                sock.sendall(packed({"Command": word, "Seq": number}) + packed(body))
                said = sock.recv(65536)
                assert packed("Error") + packed("") in said, said

    def pids(self) -> list[int]:
        """Its one process."""
        assert self.process is not None
        return [self.process.pid]

    def end(self) -> None:
        """Whatever state it is in."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def failures(self) -> int:
        """How often it took another for dead."""
        with open(self.log_path) as file:
            return file.read().count("serf: EventMemberFailed")

    def suspicions(self) -> int:
        """How often it suspected another."""
        with open(self.log_path) as file:
            return len(re.findall(r"memberlist: Suspect \S+ has failed", file.read()))


def packed(value) -> bytes:
    """Message pack, as much of it as Serf's commands need."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return bytes([value])
    if isinstance(value, str):
        return (
            bytes([0xA0 | len(value)]) + value.encode() if len(value) < 32 else b"\xd9" + bytes([len(value)]) + value.encode()
        )
    if isinstance(value, list):
        return bytes([0x90 | len(value)]) + b"".join(map(packed, value))
    return bytes([0x80 | len(value)]) + b"".join(packed(key) + packed(each) for key, each in value.items())


class Node:
    """A host of ours, watched through its cache file."""

    SIDE = "BDserver"

    def __init__(self, host: Host):
        self.host, self.name, self.address = host, host.name, host.address
        self._cache = Cache(os.path.join(host.folder, "var", f"{host.name}.bdcache"), host.name)
        self.statuses: dict[str, str] = {}
        self.services: dict[str, set[str]] = {}
        self._seen: View | None = None

    def launch(self, join: str = "") -> None:
        """Start it, with that address as its only hint."""
        self.host.write_config(hints=join)
        self.host.launch()

    def wait_ready(self) -> None:
        """Until it answers on its local socket."""
        self.host.wait_ready()

    def look(self) -> None:
        """Read its cache file if it is another one than before."""
        view = self._cache.view()
        if view is not self._seen:
            self._seen = view
            self.statuses = {name: record.status for name, record in view.records.items()}
            self.services = {name: set(record.services) for name, record in view.records.items()}

    def join(self, address: str) -> None:
        """Join whoever is there."""
        assert self.host.ask(["HINT", address])[0] == "OK"

    def offer(self, is_offered: bool) -> Callable[[Node], bool]:
        """Publish or withdraw a service; what tells whether a node knows."""

        def knows(node: Node) -> bool:
            return (TAGGED in node.services.get(self.name, ())) == is_offered

        def tell(nodes: list[Node]) -> None:
            described = {"bytes": 0, "sha256": "", "url": "http://127.0.0.1/"}
            said = self.host.ask(["PUBLISH", TAGGED, described] if is_offered else ["WITHDRAW", TAGGED])
            assert said[0] == ("OK" if is_offered else "WITHDRAWN"), said

        knows.tell = tell  # type: ignore[attr-defined]
        return knows

    def pids(self) -> list[int]:
        """The listener first, then its children."""
        assert self.host.process is not None
        return [self.host.process.pid, *self.host.children()]

    def end(self) -> None:
        """Whatever state it is in."""
        if self.host.is_running:
            send(self, signal.SIGKILL)
            self.host.process.wait()  # type: ignore[union-attr]

    def failures(self) -> int:
        """How often it took another for dead."""
        return len(re.findall(r" is dead$", self.host.log, re.M))

    def suspicions(self) -> int:
        """How often it suspected another."""
        return len(re.findall(r" is suspect$", self.host.log, re.M))


Knower = Agent | Node


def send(knower: Knower, number: int) -> None:
    """A signal to all its processes."""
    for pid in knower.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Crowd:
    """All nodes of one side."""

    def __init__(self, side: type, folder: str):
        self.side, self.folder = side, folder
        os.makedirs(folder)
        self.mesh = Mesh(folder) if side is Node else None
        self.all: list = []

    def new(self) -> Knower:
        """One more, not yet started."""
        name = f"n{len(self.all) + 1}"
        self.all.append(Node(self.mesh.host(name, log_level="info")) if self.mesh else Agent(self.folder, name))
        return self.all[-1]

    def start(self, count: int) -> float:
        """All at once, each but the first to join the first; seconds until all know all."""
        made = [self.new() for _ in range(count)]
        started = time.monotonic()
        for each in made:
            each.launch(made[0].address if each is not made[0] else "")
        return self.settle(started)

    def settle(self, started: float | None = None, seconds: float = 120.0) -> float:
        """Seconds until everybody knows everybody as alive."""
        names = {each.name for each in self.all}
        return seconds_until_all(
            self.all,
            lambda knower: all(knower.statuses.get(name) == ALIVE for name in names),
            seconds,
            f"all {len(names)} of {self.side.SIDE} know all",
            started,
        )

    def others(self, knower: Knower) -> list:
        """All but this one."""
        return [each for each in self.all if each is not knower]

    def cpu_seconds(self) -> float:
        """Used so far by all processes and by those that they have reaped."""
        return sum(cpu_seconds(pid) for each in self.all for pid in each.pids())

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *exception) -> None:
        for each in self.all:
            each.end()


def cpu_seconds(pid: int) -> float:
    """Used so far by this process and by those that it has reaped."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0
