"""Hosts that begin a mesh and join it by the commands alone: `bdkeys init --here`, `bdctl invite`, `bdkeys join`.

Each has a folder of its own and an address of loopback, or words before its commands (as `ip netns exec NAME`). Whatever they
start is ended by `end`, by the pid in the pid file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

from tests.hosts import RUN, free_port, until


class Joiner:
    """An empty host of that name; `more` are settings beside those that a host of a test needs."""

    def __init__(self, folder, name: str, ip: str = "127.0.0.1", port: int = 0, within=(), **more):
        self.name, self.ip, self.port = name, ip, port or free_port()
        self.folder = os.path.join(str(folder), name)
        self.config = os.path.join(self.folder, "bdserverd.conf")
        self.within = list(within)
        os.makedirs(self.folder, exist_ok=True)
        self.settings = {
            "var_dir": os.path.join(self.folder, "var"),
            "port": self.port,
            "bind": ip,
            "log_file": os.path.join(self.folder, "log"),
            "log_level": "debug",
        } | more

    @property
    def address(self) -> str:
        return f"{self.ip}:{self.port}"

    @property
    def keys(self) -> str:
        return os.path.join(self.settings["var_dir"], "keys")

    @property
    def log(self) -> str:
        with open(self.settings["log_file"], errors="replace") as file:
            return file.read()

    def place(self, host: str | None = None) -> list[str]:
        """The options that say where this host is."""
        pairs = [word for key, value in self.settings.items() for word in ("--set", f"{key}={value}")]
        return ["--name", self.name, "--host", host or self.ip, "--config", self.config, *pairs]

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess:
        words = [*self.within, sys.executable, "-c", RUN, command, *arguments]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    def popen(self, command: str, *arguments: str) -> subprocess.Popen:
        words = [*self.within, sys.executable, "-c", RUN, command, *arguments]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def begin(self, mesh: str = "home", *more: str) -> subprocess.CompletedProcess:
        """`bdkeys init --here`."""
        ca = os.path.join(os.path.dirname(self.folder), "ca")
        return self.run("bdkeys", "init", ca, "--mesh", mesh, "--here", *self.place(), *more)

    def token(self, *arguments: str) -> str:
        """`bdctl invite`: the words behind `bdkeys join`."""
        done = self.run("bdctl", "--config", self.config, "invite", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[3]

    def join(self, address: str, token: str, *more: str) -> subprocess.CompletedProcess:
        """`bdkeys join`."""
        return self.run("bdkeys", "join", address, token, *self.place(), *more)

    def ctl(self, *arguments: str) -> Any:
        done = self.run("bdctl", "--config", self.config, "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def alive(self) -> set[str]:
        return {each["name"] for each in self.ctl("nodes") if each["status"] == "alive"}

    @property
    def pid(self) -> int:
        """Of its listener; 0 when it does not run."""
        with contextlib.suppress(OSError, ValueError):
            with open(os.path.join(self.settings["var_dir"], "run", f"{self.name}.pid")) as file:
                pid = int(file.read())
            os.kill(pid, 0)
            return pid
        return 0

    def end(self, number: int = signal.SIGTERM) -> None:
        if pid := self.pid:
            os.kill(pid, number)
            until(lambda: not self.pid, 20, f"{self.name} has ended")
