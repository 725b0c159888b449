"""Starts the echo server, waits until it is ready, ends it."""

from __future__ import annotations

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


class EchoServer:
    """echo_server.py as a process of ours; `port` where it listens for TLS."""

    def __init__(self, answer_bytes: int, *arguments: str):
        command = [sys.executable, os.path.join(HERE, "echo_server.py"), str(answer_bytes), *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        word, _, port = self._process.stdout.readline().partition(" ")
        assert word == "ready", f"the echo server did not start: {command}"
        self.port = int(port) if port.strip().isdigit() else 0

    def __enter__(self) -> EchoServer:
        return self

    def __exit__(self, *exception) -> None:
        self._process.communicate()
