"""A real bdgateway before a test's host, and what a test asks of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from typing import Any

import dns.message
import dns.query

from tests.hosts import Host, free_port, until

SECONDS = 20.0


class Gateway:
    """One that runs; `dns` and `http` are its ports."""

    def __init__(self, host: Host, **config: Any) -> None:
        self.host, self.dns, self.http = host, free_port(), free_port()
        self.config_path = os.path.join(host.folder, "gateway.conf")
        self.log_path = os.path.join(host.folder, "gateway.log")
        settings = {"socket": host.socket, "dns": f"127.0.0.1:{self.dns}", "http": f"127.0.0.1:{self.http}"} | config
        with open(self.config_path, "w") as file:
            file.writelines(f"{key}={value}\n" for key, value in settings.items())
        self.url = f"http://127.0.0.1:{self.http}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Gateway:
        """Start it, wait until it answers; itself."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.host.command_line("bdgateway", self.config_path), stdout=log, stderr=log)
        until(self._answers, SECONDS, "the gateway answers")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.http), 1).close()
            return True
        return False

    @property
    def log(self) -> str:
        """All that it has said."""
        with open(self.log_path) as file:
            return file.read()

    def end(self) -> int:
        """End it; its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(SECONDS)

    # -- asking

    def ask(
        self, name: str, kind: str = "A", tcp: bool = False, seconds: float = SECONDS, **options: Any
    ) -> dns.message.Message:
        """A DNS query's answer."""
        how = dns.query.tcp if tcp else dns.query.udp
        return how(dns.message.make_query(name, kind, **options), "127.0.0.1", timeout=seconds, port=self.dns)

    def get(self, path: str, **headers: str) -> tuple[int, Message, bytes]:
        """(status, headers, body) of an HTTP answer; a redirection is not followed."""
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with _OPENER.open(request, timeout=SECONDS) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def json(self, path: str) -> Any:
        """What is told at a path; AssertionError for a refusal."""
        status, _, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def events(self, last: str = "") -> Iterator[tuple[str, str, Any]]:
        """(id, event, data) of /v1/watch, as they come."""
        request = urllib.request.Request(self.url + "/v1/watch", headers={"Last-Event-ID": last} if last else {})
        with _OPENER.open(request, timeout=2 * SECONDS) as answer:
            fields: dict[str, str] = {}
            for line in answer:
                key, _, value = line.decode().rstrip("\n").partition(": ")
                if key:
                    fields[key] = value
                elif "event" in fields:
                    yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                    fields = {}


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **keywords: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)


@contextlib.contextmanager
def running(host: Host, **config: Any) -> Iterator[Gateway]:
    """A gateway for as long as it takes."""
    gateway = Gateway(host, **config).start()
    try:
        yield gateway
    finally:
        assert gateway.end() == 0
