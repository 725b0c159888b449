"""Where the demo plays: three hosts with a web container each, a gateway beside the first, and commands for whoever watches.

Promises that nothing is left: neither a process nor a file when it is closed, and no process when this one is killed. A node
that has ended is started again after a while, so that a visitor may end one. What is told on this stage is story's business.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bdserver.demo.ending import Ending
from bdserver.demo.hosts import LOOPBACK, ROOT, Host, Mesh, ending_with_us, free_port, is_free, until

NAMES = ("alpha", "beta", "gamma")
# A hit of Primes weighs 5: at this threshold the seventh call within ten seconds overloads its holder.
THRESHOLD = 30
# Long enough to look at the mesh without the node that was ended.
AGAIN_SECONDS = 20.0
END_SECONDS = 5.0
READY_SECONDS = 20.0

_PATH = f"import sys; sys.path.insert(0, {ROOT!r})\n"
_CONTAINER = _PATH + "from bdserver.net.container import main; sys.exit(main())"
# As short as what `dig +short` says, for hosts that have none.
_ASK_DNS = """\
import sys
import dns.message, dns.query
name, kind = sys.argv[1:]
said = dns.query.udp(dns.message.make_query(name, kind), {ip!r}, timeout=10, port={port})
print("\\n".join(each.to_text() for record in said.answer for each in record) or said.rcode().name)
"""


class Stage:
    """The hosts and what stands beside them; a context manager that leaves nothing behind. `port`: of the page, 0 for any; DNS
    has the next one. Where one of them is taken another is, and `notices` has a line for that."""

    def __init__(self, port: int, ending: Ending) -> None:
        self._ending = ending
        self.notices: list[str] = []
        self.port = self._port(port, "the page")
        self.dns_port = self._port(port and port + 1, "DNS")
        self.folder = ""
        self.mesh: Mesh
        self._beside: list[subprocess.Popen[bytes]] = []
        self._again_at: dict[str, float] = {}

    def _port(self, wanted: int, whose: str) -> int:
        if wanted and is_free(wanted):
            return wanted
        port = free_port()
        if wanted:
            self.notices.append(f"Port {wanted} is taken: {whose} is at {port}.")
        return port

    def __enter__(self) -> Stage:
        return self

    # -- its life

    def begin(self) -> list[Host]:
        """The hosts, with nothing to offer yet; when it returns they are being started."""
        with self._ending.held():
            self.folder = tempfile.mkdtemp(prefix="bddemo-")
        self.mesh = Mesh(self.folder, ends_with_us=True)
        for name in NAMES:
            hints = {"hints": self.mesh.hosts[0].address} if self.mesh.hosts else {}
            host = self.mesh.host(name, receiver_threshold=THRESHOLD, axis_port=free_port(), log_level="info", **hints)
            self._serve(host)
            for command in ("bdwhereis", "bdctl"):
                words = f"BDSERVER_CONFIG={shlex.quote(host.config_path)} exec {shlex.join(host.command_line(command))}"
                _write_program(os.path.join(host.folder, command), f'{words} "$@"')
        ask = _ASK_DNS.format(ip=LOOPBACK, port=self.dns_port)
        _write_program(os.path.join(self.folder, "ask-dns"), f'exec {shlex.join([sys.executable, "-c", ask])} "$@"')
        for host in self.mesh.hosts:
            self.start(host)
        return self.mesh.hosts

    def _serve(self, host: Host) -> None:
        """A web container beside the node, in whose folder services and replicas are live."""
        words = ["--services", host.services, "--port", str(host.config["axis_port"]), "--host", host.ip]
        container = self._begin_beside([sys.executable, "-c", _CONTAINER, *words], os.path.join(host.folder, "web.log"))
        until(lambda: _is_up(int(str(host.config["axis_port"])), container), READY_SECONDS, f"the web container of {host.name}")

    def start(self, host: Host) -> None:
        """Launch a node, for the first time or again."""
        with self._ending.held():
            host.launch()

    def open_gateway(self, host: Host) -> None:
        """DNS, HTTP and the page, of one of the hosts."""
        path = os.path.join(host.folder, "gateway.conf")
        with open(path, "w") as file:
            file.write(f"socket={host.socket}\nhttp={LOOPBACK}:{self.port}\ndns={LOOPBACK}:{self.dns_port}\n")
        gateway = self._begin_beside(host.command_line("bdgateway", path), os.path.join(host.folder, "gateway.log"))
        until(lambda: _is_up(self.port, gateway), READY_SECONDS, "the gateway answers")

    def _begin_beside(self, line: list[str], log_path: str) -> subprocess.Popen[bytes]:
        with self._ending.held(), open(log_path, "ab") as log:
            process = subprocess.Popen(
                ending_with_us(line), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            self._beside.append(process)
        return process

    def tend(self, now: float) -> Iterator[str]:
        """Start what has ended again, after a while; a line for each thing that happened."""
        for host in self.mesh.hosts:
            if host.is_running:
                continue
            if host.name not in self._again_at:
                self._again_at[host.name] = now + AGAIN_SECONDS
                yield f"{host.name} has ended. It is started again in {AGAIN_SECONDS:.0f} s."
            elif now >= self._again_at[host.name]:
                del self._again_at[host.name]
                self.start(host)
                yield f"{host.name} is started again."

    def __exit__(self, *exception: object) -> None:
        self._ending.over()
        if not self.folder:
            return
        hosts = self.mesh.hosts if hasattr(self, "mesh") else []
        processes = [*self._beside, *(host.process for host in hosts if host.process)]
        for process in processes:
            if process.poll() is None:
                process.terminate()
                process.send_signal(signal.SIGCONT)  # a visitor may have stopped it
        deadline = time.monotonic() + END_SECONDS
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.0))
            process.kill()
            process.wait()
        while os.path.exists(self.folder) and time.monotonic() < deadline + END_SECONDS:
            shutil.rmtree(self.folder, ignore_errors=True)  # the last of a node that was killed may still write


def _write_program(path: str, words: str) -> None:
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\n{words}\n")
    os.chmod(path, 0o755)


def _is_up(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"what should answer at port {port} has ended with status {process.returncode}"
    with contextlib.suppress(OSError):
        socket.create_connection((LOOPBACK, port), 1).close()
        return True
    return False
