"""Meshes of real daemons for tests and benchmarks: the demo's, and what only a test does to a host.

A test imports these alone, and never the demo's own: certificates of any role, several hosts at once, hosts within network
namespaces, services dropped into a folder, processes that are stopped in the middle, `bdctl` parsed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

from bdserver.core.roles import NODE, Role
from bdserver.demo import hosts
from bdserver.demo.hosts import LOOPBACK, RUN, free_port, until
from bdserver.net.authority import Authority, general_names

__all__ = ["RUN", "Host", "Mesh", "free_port", "has_files", "is_gone", "until"]


class Mesh(hosts.Mesh):
    """As the demo's, of hosts as below."""

    hosts: list[Host]

    def issue(self, name: str, *hosts: str, role: str = NODE, folder: str | None = None) -> str:
        """A key and certificate; the folder that holds them and ca.crt."""
        folder = folder or os.path.join(self.folder, "keys", name)
        Authority.load(self.authority).issue(folder, name, Role(role), general_names(hosts or (LOOPBACK,)))
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

    def stop(self) -> None:
        """End everything, also what a test has stopped in the middle."""
        for host in self.hosts:
            if host.is_running:
                host.process.send_signal(signal.SIGCONT)
        super().stop()

    def __enter__(self) -> Mesh:
        return self


# A version of the protocol that is to come, as far as that is known: its number.
NEXT_RUN = RUN.replace("from importlib", "from bdserver.core import wire; wire.VERSION += 1; from importlib")
HASTY_RUN = RUN.replace("from importlib", "from bdserver.files import durable; durable.REST_NS = 0; from importlib")


class Host(hosts.Host):
    """As the demo's, and a test may change, stop and look into it. `is_next`: what it starts from now on speaks the next version
    of the protocol, too; `is_hasty`: it believes files that were just written."""

    is_next = is_hasty = False

    def __init__(self, mesh: Mesh, name: str, config: dict[str, Any]):
        self.within = list(config.pop("within", ()))
        super().__init__(mesh, name, config, config.pop("ip", LOOPBACK), config.pop("port", 0))

    def command_line(self, command: str, *arguments: str) -> list[str]:
        """The words that run one of our commands on this host."""
        words = [*self.within, *super().command_line(command, *arguments)]
        run = NEXT_RUN if self.is_next else HASTY_RUN if self.is_hasty else RUN
        return [run if word == RUN else word for word in words]

    def start(self, *arguments: str) -> Host:
        """Launch the daemon, wait until it answers; itself."""
        super().start(*arguments)
        return self

    def write_config(self, **changes) -> None:
        """Write the config anew, with these changes."""
        self.config |= changes
        super().write_config()

    def add_service(self, name: str, text: str = "#!/bin/sh\necho\n", **bdcert) -> None:
        """Drop a service into the services folder: each of its two files is there whole or not at all, since a daemon that looks
        meanwhile would take an empty one for what is offered."""
        pairs = {"weight": 1, "type": "static"} | bdcert
        lines = "".join(f"{key}={value}\n" for key, value in pairs.items())
        new = os.path.join(self.services, f".{name}.dropped")
        for end, content, mode in (("", text, 0o755), (".bdcert", lines, 0o644)):
            with open(new, "w") as file:
                file.write(content)
            os.chmod(new, mode)
            os.replace(new, os.path.join(self.services, name + end))

    def run_daemon(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`bdserverd … CONFIG`, to its end."""
        line = self.command_line("bdserverd", *arguments, self.config_path)
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

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

    def kill_all(self) -> None:
        """The host is gone, and with it all that ran on it and each of its connections."""
        assert self.process is not None
        pids = (self.process.pid, *self.children())
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        self.process.wait()
        until(lambda: not any(map(has_files, pids)), 10, f"{self.name} is gone")

    @contextlib.contextmanager
    def frozen(self, *pids: int) -> Iterator[None]:
        """The host hangs meanwhile: its listener is stopped, and of the listener's children these, or all."""
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

    def ctl(self, *arguments: str) -> Any:
        """`bdctl --json …`, parsed; AssertionError with its complaint if it fails."""
        done = self.run("bdctl", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None


def is_gone(pid: int) -> bool:
    """Ended, though perhaps nobody has asked for its status yet."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second: it was reaped between opening and reading
        return True


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # a child may end by itself at any time
        os.kill(pid, number)


def has_files(pid: int) -> bool:
    """Whether this process has not closed its connections: one that was killed ends when it has its turn."""
    try:
        return bool(os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # it is no more
        return False
