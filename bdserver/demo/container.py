"""The embedded web container: runs the executable files of a services folder as CGI scripts.

Just as Apache's mod_cgid would run them: http://HOST:PORT/WEB_DIR/NAME is the script NAME if NAME.bdcert lies beside it. What
is dropped in is live at once. Limits come before work: body, time, number of scripts at once. For the demo and the
tests; a host of your own has a web server already.

python -m bdserver.demo.container --host H --port P --services DIR [--web-dir axis]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any
from urllib.parse import SplitResult, unquote, urlsplit

from bdserver.core.names import valid_name

BODY_BYTES_MAX = 1 << 20
OUTPUT_BYTES_MAX = 16 << 20
SCRIPT_SECONDS = 30.0
SCRIPTS_MAX = 32
# A caller that says nothing is hung up on.
IDLE_SECONDS = 30.0


class Container(ThreadingHTTPServer):
    """An HTTP server for one services folder."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, services_dir: str, web_dir: str = "axis"):
        self.services_dir, self.web_dir = services_dir, web_dir.strip("/")
        self.slots = threading.BoundedSemaphore(SCRIPTS_MAX)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)

    def script_of(self, path: str) -> tuple[str, str] | None:
        """(name, executable) of a URL's path, or None: nobody else's file can be named by it."""
        parts = unquote(path).strip("/").split("/")
        prefix = self.web_dir.split("/") if self.web_dir else []
        if len(parts) != len(prefix) + 1 or parts[:-1] != prefix or not valid_name(parts[-1]):
            return None
        file = os.path.join(self.services_dir, parts[-1])
        if os.path.isdir(file):
            file = os.path.join(file, "index.cgi")
        if not os.path.exists(os.path.join(self.services_dir, parts[-1] + ".bdcert")) or not os.access(file, os.X_OK):
            return None
        return (parts[-1], file) if os.path.isfile(file) else None


class Handler(BaseHTTPRequestHandler):
    """One request: a script's standard input and output."""

    server: Container
    server_version = "BDdemo"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        """Run the script without a body."""
        self._serve(b"")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Run the script with the body that was declared."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            self.send_error(411)
        elif int(length[:12]) > BODY_BYTES_MAX:
            self.send_error(413)
        else:
            self._serve(self.rfile.read(int(length)))

    def _serve(self, body: bytes) -> None:
        url = urlsplit(self.path)
        found = self.server.script_of(url.path)
        if found is None:
            return self.send_error(404)
        if not self.server.slots.acquire(blocking=False):
            return self.send_error(503)
        try:
            self._answer(*_run(found[1], self._environment(url, body), body))
        finally:
            self.server.slots.release()
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
        """Quiet: the demo tells its own story."""


def _run(script: str, environment: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """(status, headers, body) of a script's run; 500 when it fails or says nonsense, 504 when it takes too long."""
    try:
        process = subprocess.Popen(
            [script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=os.path.dirname(script),
            start_new_session=True,
        )
    except OSError:
        return 500, [], b"the script can't be started\n"
    clock = threading.Timer(SCRIPT_SECONDS, _kill_group, [process.pid])
    clock.start()
    try:
        output = _talk(process, body)
    finally:
        clock.cancel()
        _kill_group(process.pid)  # and whatever it left behind
        process.wait()
    if not output and process.returncode == -signal.SIGKILL:
        return 504, [], b"the script took too long\n"
    return _parsed(output)


def _talk(process: subprocess.Popen[bytes], body: bytes) -> bytes:
    assert process.stdin and process.stdout
    feeder = threading.Thread(target=_feed, args=[process.stdin, body])
    feeder.start()
    output = process.stdout.read(OUTPUT_BYTES_MAX + 1)
    if len(output) > OUTPUT_BYTES_MAX:
        _kill_group(process.pid)
    process.stdout.close()
    feeder.join()
    return output if len(output) <= OUTPUT_BYTES_MAX else b""


def _feed(pipe: IO[bytes], body: bytes) -> None:
    with contextlib.suppress(OSError), pipe:
        pipe.write(body)


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
    parser = argparse.ArgumentParser(prog="bdserver.demo.container")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--services", required=True)
    parser.add_argument("--web-dir", default="axis")
    options = parser.parse_args(arguments)
    try:
        container = Container(options.host, options.port, options.services, options.web_dir)
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
