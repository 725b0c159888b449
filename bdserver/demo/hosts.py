"""A mesh of real daemons on this machine's loopback, with keys of its own, for the demo to tell of.

Each Host is a folder with config, keys and services, and the processes started from it. Nothing waits by a fixed
sleep: `until` polls for what is wanted and says what it waited for. Only processes that were started here are ended.
The tests build on these, and add what only they need.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from bdserver.core import messages
from bdserver.core.address import join_address
from bdserver.core.membership import ALIVE
from bdserver.core.roles import NODE
from bdserver.errors import BDError
from bdserver.net import dialling
from bdserver.net.authority import Authority, general_names

READY_SECONDS = 20.0
POLL_SECONDS = 0.02
LOOPBACK = "127.0.0.1"

Result = TypeVar("Result")


def until(is_so: Callable[[], Result], seconds: float, what: str, pause: float = POLL_SECONDS) -> Result:
    """Poll until `is_so()` is true, and return what it returned; AssertionError names what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        is_over = time.monotonic() > deadline  # this first: who was not given the processor meanwhile looks once more
        if result := is_so():
            return result
        if is_over:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


# From its first number on the kernel takes ports for outgoing connections: one that is free now may be taken a moment later.
EPHEMERAL_FILE = "/proc/sys/net/ipv4/ip_local_port_range"
FIRST_PORT = 10_000

_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, nor on the one behind it, and that was not given to anybody before."""
    rng = random.Random()
    while True:
        port = rng.randrange(FIRST_PORT, _first_ephemeral() - 1)
        if not {port, port + 1} & _given and is_free(port) and is_free(port + 1):
            _given.update((port, port + 1))
            return port


def _first_ephemeral() -> int:
    try:
        with open(EPHEMERAL_FILE) as file:
            first = int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        first = 0
    return first if first > 2 * FIRST_PORT else 32_768  # the kernel's own choice; where it was changed, we take our chance


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of 127.0.0.1, and this account may."""
    with socket.socket() as sock:
        try:
            sock.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
    return True


class Mesh:
    """A certificate authority, and the hosts that it made; a context manager that ends them. `ends_with_us`: whatever ends this
    process, kill -9 too, ends the daemons; a terminal's Ctrl-C reaches this process alone, which then ends them in turn."""

    def __init__(self, folder: str, name: str = "demo", ends_with_us: bool = False):
        self.folder, self.name, self.ends_with_us = str(folder), name, ends_with_us
        self.authority = os.path.join(self.folder, "ca")
        self.hosts: list[Host] = []
        Authority.make(self.authority, name)

    def host(self, name: str, **config: object) -> Host:
        """A new host, not yet started; `config` are settings of its own."""
        host = Host(self, name, config)
        self.hosts.append(host)
        return host

    def wait_known(self, seconds: float = 30.0, hosts: Iterable[Host] = ()) -> None:
        """Until each of these hosts that runs knows the others as alive; without, all of the mesh."""
        running = [host for host in hosts or self.hosts if host.is_running]
        names = {host.name for host in running}

        def everybody_knows() -> bool:
            return all(names <= set(host.alive_names()) for host in running)

        # Each question costs its host a fork: many hosts on one machine are not to be kept busy by it.
        until(everybody_knows, seconds, f"{len(names)} nodes know each other", POLL_SECONDS * len(running))

    def stop(self) -> None:
        """End everything, also what somebody has stopped in the middle."""
        for host in self.hosts:
            if host.process and host.process.poll() is None:
                host.process.terminate()
                host.process.send_signal(signal.SIGCONT)
        for host in self.hosts:
            host.end()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


class Host:
    """One node: its folder, its config, its daemon."""

    def __init__(self, mesh: Mesh, name: str, config: dict[str, object], ip: str = LOOPBACK, port: int = 0):
        self.mesh, self.name = mesh, name
        self.folder = os.path.join(mesh.folder, name)
        self.ip, self.port = ip, port or free_port()
        self.services = os.path.join(self.folder, "var", "services")
        self.config_path = os.path.join(self.folder, "bdserverd.conf")
        self.process: subprocess.Popen[bytes] | None = None
        Authority.load(mesh.authority).issue(self.folder, name, NODE, general_names((ip,)))
        os.makedirs(self.services)
        self.config = {"port": self.port, "username": name, "bind": ip, "log_level": "debug"} | config
        self.write_config()

    @property
    def address(self) -> str:
        """ip:port"""
        return join_address(self.ip, self.port)

    @property
    def gossip_address(self) -> str:
        """ip:port of what it hears from other nodes"""
        return join_address(self.ip, self.port + 1)

    @property
    def socket(self) -> str:
        """The local socket."""
        return os.path.join(self.folder, "var", "run", f"{self.name}.sock")

    @property
    def log_path(self) -> str:
        """The file to which the daemon's stderr goes."""
        return os.path.join(self.folder, "log")

    @property
    def log(self) -> str:
        """All that the daemon has said so far."""
        with open(self.log_path, errors="replace") as file:
            return file.read()

    @property
    def is_running(self) -> bool:
        """Started and not ended."""
        return self.process is not None and self.process.poll() is None

    def write_config(self) -> None:
        """Write the config file as `config` has it now."""
        with open(self.config_path, "w") as file:
            file.writelines(f"{key}={value}\n" for key, value in self.config.items())
        os.chmod(self.config_path, 0o600)

    # -- its life

    def command_line(self, command: str, *arguments: str) -> list[str]:
        """The words that run one of our commands."""
        return [sys.executable, "-c", RUN, command, *arguments]

    def launch(self, *arguments: str) -> None:
        """Start the daemon in the foreground, as a child of ours."""
        line = self.command_line("bdserverd", "--foreground", self.config_path, *arguments)
        ends_with_us = self.mesh.ends_with_us
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                ending_with_us(line) if ends_with_us else line,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=ends_with_us,
            )

    def wait_ready(self) -> None:
        """Until the daemon answers on its local socket."""

        def answers() -> bool:
            assert self.is_running, f"{self.name} ended: {self.log[-2000:]}"
            with contextlib.suppress(BDError):
                return bool(self.ask(["PING"]))
            return False

        until(answers, READY_SECONDS, f"{self.name} answers")

    def start(self, *arguments: str) -> None:
        """Launch the daemon, and wait until it answers."""
        self.launch(*arguments)
        self.wait_ready()

    def end(self, number: int = signal.SIGTERM, seconds: float = 20.0) -> None:
        """End the daemon by a signal, and wait until it is gone."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} did not end on signal {number}: {self.log[-2000:]}") from None

    def kill(self) -> None:
        """kill -9 of the listener; the discoverer ends by itself."""
        self.end(signal.SIGKILL)

    # -- talking to it

    def ask(self, request: list[Any], seconds: float = 5.0) -> list[Any]:
        """One request over the local socket, in this process; the answer as the list that travels."""
        deadline = time.monotonic() + seconds
        with dialling.dial_local(self.socket, deadline) as talk:
            return messages.encoded(talk.ask(request, deadline))

    def nodes(self) -> list[dict[str, Any]]:
        """`bdctl nodes`."""
        known: list[dict[str, Any]] = self.ask(["STATUS"])[2]
        return known

    def status_of(self, name: str) -> str:
        """The state of another node as this one sees it: alive, suspect, dead, left, or unknown."""
        return next((node["status"] for node in self.nodes() if node["name"] == name), "unknown")

    def alive_names(self) -> list[str]:
        """The names of all nodes that this one takes for alive."""
        return [node["name"] for node in self.nodes() if node["status"] == ALIVE]

    def run(self, command: str, *arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
        """One of our commands as a process, with this host's config."""
        line = self.command_line(command, "--config", self.config_path, *arguments)
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, **keywords)

    def whereis(self, service: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`bdwhereis …`"""
        return self.run("bdwhereis", *arguments, service)

    def lookup(self, service: str, policy: str | None = None, seconds: float = 10.0) -> list[Any]:
        """WHEREIS in this process: [host or word, …, details]."""
        return self.ask(["WHEREIS", service, policy], seconds)


# The commands as processes of the very interpreter that runs us, installed or from a checkout.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUN = (
    f"import sys; sys.path.insert(0, {ROOT!r}); from importlib import import_module; "
    "sys.exit(import_module('bdserver.commands.' + sys.argv.pop(1)).main())"
)
# PR_SET_PDEATHSIG: the kernel sends the signal when our thread ends, however it ends. It may have ended before that was said.
_WITH_US = "import ctypes, os; ctypes.CDLL(None).prctl(1, {number}); os.getppid() == {parent} or os._exit(1); "


def ending_with_us(line: list[str]) -> list[str]:
    """The same command line, `python -c TEXT …`, of a process that is told to end when this thread does."""
    python, option, text, *words = line
    return [python, option, _WITH_US.format(number=int(signal.SIGTERM), parent=os.getpid()) + text, *words]
