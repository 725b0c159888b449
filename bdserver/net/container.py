"""A small web server for services, where a host has no other: `web=embedded`, the demo's, and for tests.

http://HOST:PORT/WEB_DIR/NAME is the service NAME, if NAME.bdcert lies beside it: a program that is executable is run as a CGI
script, just as Apache's mod_cgid would, and any other file is sent as it is; of a folder its index.cgi or index.html, and the
files below it. What is dropped in is live at once. A .bdcert, a dot name and what a link leads out to are nobody's business.
Limits come before work: callers, body, time, number of scripts at once. Whose account scripts run under is the business of
whoever starts it.

python -m bdserver.net.container --host H --port P --services DIR [--web-dir axis]
"""

from __future__ import annotations

import argparse
import contextlib
import mimetypes
import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from bdserver.core.names import valid_name

BODY_BYTES_MAX, LENGTH_DIGITS_MAX = 1 << 20, 12
OUTPUT_BYTES_MAX = 16 << 20
SCRIPT_SECONDS = 30.0
SCRIPTS_MAX = 32
# A caller that says nothing is hung up on.
IDLE_SECONDS = 30.0
# Callers at once, each a thread. Who comes then takes the place of the one that is there for longest, if it has had so long,
# and else is hung up on: nobody keeps others out by being slow.
CALLERS_MAX, PLACE_SECONDS = 256, 10.0
# For the thread of one that gives way to end.
GIVE_WAY_SECONDS = 0.2
CHUNK_BYTES = 1 << 16
SUFFIX = ".bdcert"


class Container(ThreadingHTTPServer):
    """An HTTP server for one services folder, on `listening` if that is given. Without `runs_scripts` a program is refused."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        host: str,
        port: int,
        services_dir: str,
        web_dir: str = "axis",
        runs_scripts: bool = True,
        listening: socket.socket | None = None,
    ):
        self.services_dir, self.web_dir, self.runs_scripts = services_dir, web_dir.strip("/"), runs_scripts
        self.slots = threading.BoundedSemaphore(SCRIPTS_MAX)
        self._places = threading.BoundedSemaphore(CALLERS_MAX)
        self._callers: dict[socket.socket, float] = {}  # since when each is there, the oldest first
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler, bind_and_activate=listening is None)
        if listening is not None:
            self.socket.close()
            self.socket = listening
            self.server_address = listening.getsockname()[:2]
            self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def server_bind(self) -> None:
        """Not http.server's, which asks a name server who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread, unless there are too many."""
        if not self._places.acquire(blocking=False) and not self._has_made_room():
            self.shutdown_request(request)
            return
        self._callers[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no room for a thread
            self._let_go(request)
            raise

    def _has_made_room(self) -> bool:
        oldest, since = next(iter(list(self._callers.items())), (None, 0.0))
        if oldest is None or time.monotonic() - since < PLACE_SECONDS:
            return False
        with contextlib.suppress(OSError):  # it has just ended
            oldest.shutdown(socket.SHUT_RDWR)  # its thread finds that it has hung up
        return self._places.acquire(timeout=GIVE_WAY_SECONDS)

    def _let_go(self, request: Any) -> None:
        self._callers.pop(request, None)
        self._places.release()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """And the next one may come."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._let_go(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is no news."""

    def file_of(self, path: str) -> str | None:
        """What a URL's path names, or None: nobody else's file can be named by it."""
        parts = unquote(path).strip("/").split("/")
        prefix = self.web_dir.split("/") if self.web_dir else []
        name, *below = parts[len(prefix) :] or [""]
        if parts[: len(prefix)] != prefix or not valid_name(name) or not os.path.exists(self._path(name + SUFFIX)):
            return None
        file = self._path(name)
        if below and (not os.path.isdir(file) or not all(map(_is_open, below))):
            return None
        file = os.path.join(file, *below)
        if os.path.isdir(file):
            file = next((each for each in _indexes(file) if os.path.exists(each)), file)
        inside = os.path.realpath(self._path(name))
        is_inside = os.path.realpath(file) == inside or os.path.realpath(file).startswith(inside + os.sep)
        return file if os.path.isfile(file) and is_inside and not os.path.islink(self._path(name)) else None

    def _path(self, name: str) -> str:
        return os.path.join(self.services_dir, name)


def _is_open(part: str) -> bool:
    """Whether a part of a path below a service may be named."""
    return not part.startswith(".") and not part.endswith(SUFFIX) and part != "" and "\0" not in part


def _indexes(folder: str) -> list[str]:
    return [os.path.join(folder, name) for name in ("index.cgi", "index.html")]


class Handler(BaseHTTPRequestHandler):
    """One request: a script's standard input and output."""

    server: Container
    server_version = "BDserver"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        """Run the script without a body."""
        self._serve(b"")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Run the script with the body that was declared."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.send_error(411)
        elif len(length) > LENGTH_DIGITS_MAX or int(length) > BODY_BYTES_MAX:
            self.send_error(413)
        else:
            self._serve(self.rfile.read(int(length)))

    def _serve(self, body: bytes) -> None:
        url = urlsplit(self.path)
        file = self.server.file_of(url.path) if "\0" not in unquote(url.path) else None
        if file is None:
            return self.send_error(404)
        if not os.access(file, os.X_OK):
            return self._send(file) if self.command in ("GET", "HEAD") else self.send_error(405)
        if not self.server.runs_scripts:
            return self.send_error(403, explain="programs are run under an account of their own alone: see web_user")
        if not self.server.slots.acquire(blocking=False):
            return self.send_error(503)
        try:
            self._answer(*_run(file, self._environment(url, body), body))
        finally:
            self.server.slots.release()
        return None

    def _send(self, path: str) -> None:
        """A file as it is."""
        try:
            file = open(path, "rb")  # noqa: SIM115 (closed below)
        except OSError:
            return self.send_error(403)
        with file:
            size = os.fstat(file.fileno()).st_size
            self.send_response(200)
            self.send_header("Content-Type", mimetypes.guess_type(path)[0] or "text/plain; charset=utf-8")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Length", str(size))
            self.end_headers()
            with contextlib.suppress(OSError):  # it no longer wants to know
                while self.command != "HEAD" and size > 0 and (data := file.read(min(CHUNK_BYTES, size))):
                    self.wfile.write(data)
                    size -= len(data)
        return None

    def _environment(self, url: SplitResult, body: bytes) -> dict[str, str]:
        """CGI/1.1 (RFC 3875). No header becomes HTTP_PROXY, which programs would take for a setting (httpoxy)."""
        host, port = self.server.server_address[:2]
        headers = {
            "HTTP_" + key.upper().replace("-", "_"): value
            for key, value in self.headers.items()
            if key.lower() not in ("proxy", "content-length", "content-type")
        }
        return headers | {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "GATEWAY_INTERFACE": "CGI/1.1",
            "REQUEST_METHOD": self.command,
            "QUERY_STRING": url.query,
            "SCRIPT_NAME": unquote(url.path),
            "PATH_INFO": "",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": str(host),
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": self.request_version,
            "SERVER_SOFTWARE": self.server_version,
            "REMOTE_ADDR": self.client_address[0],
        }

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it no longer wants to know
                self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet: what is called is counted by the mesh."""


def _run(script: str, environment: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """(status, headers, body) of a script's run; 500 when it fails or says nonsense, 504 when it takes too long."""
    until = time.monotonic() + SCRIPT_SECONDS
    try:
        with open(os.memfd_create("body"), "w+b") as given:  # a file: whoever does not read it keeps nobody waiting
            given.write(body)
            given.seek(0)
            process = subprocess.Popen(
                [script],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=os.path.dirname(script),
                start_new_session=True,
            )
    except OSError:
        return 500, [], b"the script can't be started\n"
    assert process.stdout is not None
    with process.stdout as pipe:
        try:
            output = _said(pipe.fileno(), until)
        finally:
            _kill_group(process.pid)  # and whatever it left behind
            process.wait()
    if output is None:
        return 504, [], b"the script took too long\n"
    return _parsed(output)


def _said(descriptor: int, until: float) -> bytes | None:
    """All that is written there; nothing when that is too much; None when nothing came in time. What a script has left
    behind, in a session of its own, may keep the pipe open for ever."""
    output, poll = bytearray(), select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(output) <= OUTPUT_BYTES_MAX:
        if not poll.poll(1000 * max(until - time.monotonic(), 0)):
            return bytes(output) or None
        if not (data := os.read(descriptor, CHUNK_BYTES)):
            return bytes(output)
        output += data
    return b""


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _parsed(output: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    head, _, body = output.replace(b"\r\n", b"\n", 64).partition(b"\n\n")
    status, headers = 200, []
    for line in head.decode("latin-1").split("\n"):
        key, colon, value = line.partition(":")
        if not colon or not key.replace("-", "").isalnum():
            return 500, [], b"the script answered nonsense\n"
        if key.lower() == "status":
            status = int(value.split()[0]) if value.split() and value.split()[0].isdigit() else 500
        elif key.lower() != "content-length":
            headers.append((key, value.strip()))
    return status, headers, body


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="bdserver.net.container")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--services", required=True)
    parser.add_argument("--web-dir", default="axis")
    parser.add_argument("--no-scripts", action="store_true", help="send files, and run no programs")
    options = parser.parse_args(arguments)
    try:
        container = Container(options.host, options.port, options.services, options.web_dir, not options.no_scripts)
    except OSError as error:
        print(f"container: {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=container.shutdown).start())
    print(f"serving {options.services} at http://{options.host}:{options.port}/{container.web_dir}/", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        container.serve_forever(poll_interval=0.1)
    container.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
