"""A mesh of real daemons on this machine's loopback, with keys of its own, for demo, tests and benchmarks.

Each Host is a folder with config, keys and services, and the processes started from it. Nothing waits by a fixed
sleep: `until` polls for what is wanted and says what it waited for. Only processes that were started here are ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from bdserver.core import messages
from bdserver.core.address import join_address
from bdserver.core.roles import NODE, Role
from bdserver.errors import BDError
from bdserver.net import dialling
from bdserver.net.authority import Authority, general_names

READY_SECONDS = 20.0
POLL_SECONDS = 0.02


def until(is_so: Callable[[], object], seconds: float, what: str, pause: float = POLL_SECONDS):
    """Poll until `is_so()` is true, and return what it returned; AssertionError names what was waited for."""
    deadline = time.monotonic() + seconds
    while not (result := is_so()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
    return result


_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that was not given to anybody before."""
    while True:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


class Mesh:
    """A certificate authority, and the hosts that it made."""

    def __init__(self, folder: str, name: str = "demo"):
        self.folder, self.name = str(folder), name
        self.authority = os.path.join(self.folder, "ca")
        self.hosts: list[Host] = []
        Authority.make(self.authority, name)

    def issue(self, name: str, *hosts: str, role: str = NODE, folder: str | None = None) -> str:
        """A key and certificate; the folder that holds them and ca.crt."""
        folder = folder or os.path.join(self.folder, "keys", name)
        Authority.load(self.authority).issue(folder, name, Role(role), general_names(hosts or ("127.0.0.1",)))
        return folder

    def host(self, name: str, **config) -> Host:
        """A new host, not yet started; `config` are settings of its own.

        Besides: `ip`, `port`, and `within`, the words before each of its commands (as `ip netns exec NAME`)."""
        host = Host(self, name, config)
        self.hosts.append(host)
        return host

    def start(self, count: int, **config) -> list[Host]:
        """`count` hosts, all hinted at the first, started side by side and ready."""
        first = self.hosts[0].address if self.hosts else ""
        hosts = []
        for _ in range(count):
            host = self.host(f"n{len(self.hosts) + 1}", **({"hints": first} if first else {}) | config)
            first = first or host.address
            hosts.append(host)
        for host in hosts:
            host.launch()
        for host in hosts:
            host.wait_ready()
        return hosts

    def wait_known(self, seconds: float = 30.0, hosts: list[Host] | None = None) -> None:
        """Until every running host knows every running host as alive."""
        running = [host for host in hosts or self.hosts if host.is_running]
        names = {host.name for host in running}

        def everybody_knows():
            return all(names <= set(host.alive_names()) for host in running)

        # Each question costs its host a fork: many hosts on one machine are not to be kept busy by it.
        until(everybody_knows, seconds, f"{len(names)} nodes know each other", POLL_SECONDS * len(running))

    def stop(self) -> None:
        """End everything."""
        for host in self.hosts:
            if host.process and host.process.poll() is None:
                host.process.send_signal(signal.SIGCONT)
                host.process.terminate()
        for host in self.hosts:
            host.end()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *exception) -> None:
        self.stop()


class Host:
    """One node: its folder, its config, its daemon."""

    def __init__(self, mesh: Mesh, name: str, config: dict):
        self.mesh, self.name = mesh, name
        self.folder = os.path.join(mesh.folder, name)
        self.ip = config.pop("ip", "127.0.0.1")
        self.port = config.pop("port", None) or free_port()
        self.within = list(config.pop("within", ()))
        self.services = os.path.join(self.folder, "var", "services")
        self.config_path = os.path.join(self.folder, "bdserverd.conf")
        self.process: subprocess.Popen | None = None
        mesh.issue(name, self.ip, folder=self.folder)
        os.makedirs(self.services)
        self.config = {"port": self.port, "username": name, "bind": self.ip, "log_level": "debug"} | config
        self.write_config()

    @property
    def address(self) -> str:
        """ip:port"""
        return join_address(self.ip, self.port)

    @property
    def socket(self) -> str:
        """The local socket."""
        return os.path.join(self.folder, "var", "run", f"{self.name}.sock")

    @property
    def log_path(self) -> str:
        """What the daemon said on stderr."""
        return os.path.join(self.folder, "log")

    @property
    def log(self) -> str:
        """What it said so far."""
        with open(self.log_path, errors="replace") as file:
            return file.read()

    @property
    def is_running(self) -> bool:
        """Started and not ended."""
        return self.process is not None and self.process.poll() is None

    def write_config(self, **changes) -> None:
        """Write the config anew, with these changes."""
        self.config |= changes
        with open(self.config_path, "w") as file:
            file.writelines(f"{key}={value}\n" for key, value in self.config.items())
        os.chmod(self.config_path, 0o600)

    def add_service(self, name: str, text: str = "#!/bin/sh\necho\n", **bdcert) -> None:
        """Drop a service into the services folder, as a person would."""
        path = os.path.join(self.services, name)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o755)
        with open(path + ".bdcert", "w") as file:
            file.writelines(f"{key}={value}\n" for key, value in ({"weight": 1, "type": "static"} | bdcert).items())

    # -- its life

    def launch(self, *arguments: str) -> None:
        """Start the daemon in the foreground, as a child of ours."""
        with open(self.log_path, "ab") as log:
            line = [*self.within, sys.executable, "-c", RUN, "bdserverd", "--foreground", self.config_path, *arguments]
            self.process = subprocess.Popen(line, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait_ready(self) -> None:
        """Until it answers on its local socket."""

        def answers():
            assert self.is_running, f"{self.name} ended: {self.log[-2000:]}"
            with contextlib.suppress(BDError):
                return self.ask(["PING"])

        until(answers, READY_SECONDS, f"{self.name} answers")

    def start(self, *arguments: str) -> Host:
        """Launch and wait."""
        self.launch(*arguments)
        self.wait_ready()
        return self

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

    def children(self) -> dict[int, str]:
        """pid -> title of the listener's children, as `ps` shows them."""
        assert self.process is not None
        found = {}
        with contextlib.suppress(OSError), open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            for pid in file.read().split():
                with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as title:
                    found[int(pid)] = title.read().replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def discoverer_pid(self) -> int:
        """The discoverer's pid, 0 while there is none."""
        return next((pid for pid, title in self.children().items() if "discoverer" in title), 0)

    @contextlib.contextmanager
    def frozen(self, *pids: int) -> Iterator[None]:
        """It hangs meanwhile: its listener is stopped, and of the listener's children these, or all."""
        assert self.process is not None
        stopped = [self.process.pid]
        try:
            _signal(self.process.pid, signal.SIGSTOP)  # it forks no more
            for pid in pids or self.children():
                _signal(pid, signal.SIGSTOP)
                stopped.append(pid)
            yield
        finally:
            for pid in stopped:
                _signal(pid, signal.SIGCONT)

    # -- talking to it

    def ask(self, request: list, seconds: float = 5.0) -> list:
        """One request over the local socket, in this process; the answer as the list that travels."""
        deadline = time.monotonic() + seconds
        with dialling.dial_local(self.socket, deadline) as talk:
            return messages.encoded(talk.ask(request, deadline))

    def nodes(self) -> list[dict]:
        """`bdctl nodes`."""
        return self.ask(["STATUS"])[2]

    def status_of(self, name: str) -> str:
        """What this node thinks of that one: alive, suspect, dead, left, or unknown."""
        return next((node["status"] for node in self.nodes() if node["name"] == name), "unknown")

    def alive_names(self) -> list[str]:
        """Who is alive as far as this node knows."""
        return [node["name"] for node in self.nodes() if node["status"] == "alive"]

    def run(self, command: str, *arguments: str, **keywords) -> subprocess.CompletedProcess:
        """One of our commands as a process, with this host's config."""
        line = [*self.within, sys.executable, "-c", RUN, command, "--config", self.config_path, *arguments]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, **keywords)

    def ctl(self, *arguments: str):
        """`bdctl --json …`, parsed; AssertionError with its complaint if it fails."""
        done = self.run("bdctl", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def whereis(self, service: str, *arguments: str) -> subprocess.CompletedProcess:
        """`bdwhereis …`"""
        return self.run("bdwhereis", *arguments, service)

    def lookup(self, service: str, policy: str | None = None, seconds: float = 10.0) -> list:
        """WHEREIS in this process: [host or word, …, details]."""
        return self.ask(["WHEREIS", service, policy], seconds)


# The commands as processes of the very interpreter that runs us, installed or from a checkout.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUN = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from importlib import import_module; "
    "sys.exit(import_module('bdserver.commands.' + sys.argv.pop(1)).main())"
)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # a child may end by itself at any time
        os.kill(pid, number)
