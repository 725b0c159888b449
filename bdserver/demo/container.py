"""The embedded web container: serves a node's services directory over HTTP where there is no Apache yet.

    python -m bdserver.demo.container --host 127.0.0.1 --port 8461 --web-dir axis --services DIR

Each executable file NAME in DIR (or a directory NAME with an executable `index.cgi`) that has its NAME.bdcert beside
it is live at http://HOST:PORT/WEB_DIR/NAME, as a CGI/1.1 script with the environment that Apache's mod_cgid gives it:
what works here works there. The directory is looked at for each request, so what is dropped in is live at once.

Promised: no request, script or silence costs more than `Limits` says; when a script's time is over, or its answer is
complete, nothing of its process group is left; an answer that failed half-way is an honest 5xx, since it is held until
the script has ended. SIGTERM lets running requests end, then ends what is left.
Unlike Apache: one request a connection, no arguments from `?a+b` (RFC 3875, 4.4: history, and a way in), a Location
within this host is a 302 and not fetched for the caller. Counting hits and choosing hosts is the node's business.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from bdserver.core.names import valid_name
from bdserver.errors import BadConfig

# What beside running scripts is let go on at SIGTERM, before their process groups are killed.
GRACE_SECONDS = 5.0
# A script that has closed its output is done; one that then lingers is killed, as by Apache.
LINGER_SECONDS = 1.0
# Of what a script says on stderr the end is logged: a traceback's last line says what happened.
COMPLAINT_BYTES_MAX = 2048
# The head of a script's answer. Apache takes lines of 8 KiB.
ANSWER_HEAD_BYTES_MAX = 32 * 1024
# A caller that is refused while it still sends gets this chance to read why, before the connection is reset.
DRAIN_SECONDS = 1.0

CHUNK_BYTES = 64 * 1024


class Limits(NamedTuple):
    """What a caller and a script may cost. Every field is an option of the command line."""

    head_bytes_max: int = 32 * 1024  # request line and headers; Apache's limits add up to more than any client needs
    body_bytes_max: int = 1024 * 1024  # a SOAP call; held in memory until the script has read it
    answer_bytes_max: int = 4 * 1024 * 1024  # held in memory until the script has ended, `scripts_max` times
    script_seconds: float = 30.0  # from the start of a script until its process group is killed
    caller_seconds: float = 20.0  # in which a caller must send its whole request, and again take its answer
    turn_seconds: float = 5.0  # a burst of calls waits this long for a turn, then it is told 503
    scripts_max: int = 16  # processes at once
    connections_max: int = 256  # threads at once; most of them wait for their turn


class Refusal(Exception):
    """A request that ends without its service's answer: the status, and the reason in a line."""

    def __init__(self, status: HTTPStatus, reason: str):
        super().__init__(reason)
        self.status = status


# ---------------------------------------------------------------------------------------------------- what is asked for

# As RFC 3986 has it, without user or empty name: this goes into URLs that services answer with.
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Each would be taken by a script, or by a library in it, for something that the server said (HTTP_PROXY: "httpoxy"),
# or is a secret between caller and server. Content-Type and -Length have variables of their own.
_NOT_FOR_SCRIPTS = {"proxy", "authorization", "proxy-authorization", "content-type", "content-length"}


class Target(NamedTuple):
    """What a request line asks for, decoded."""

    service: str
    path_info: bytes
    query: str


def target_of(request_target: str, web_dir: tuple[str, ...]) -> Target:
    """The service that a request line names below `web_dir`; Refusal when it is not the path of any."""
    path, _, query = request_target.partition("?")
    if not path.startswith("/"):
        raise Refusal(HTTPStatus.BAD_REQUEST, "the path must begin with /")
    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        raise Refusal(HTTPStatus.BAD_REQUEST, "% without two hexadecimal digits")
    # An encoded slash is part of no name (Apache: AllowEncodedSlashes Off), and NUL ends a name for the system.
    if re.search(r"(?i)%2f|%00", path) or _CONTROL.search(path):
        raise Refusal(HTTPStatus.NOT_FOUND, "no such service here")
    segments = urllib.parse.unquote_to_bytes(path.encode("latin-1")).split(b"/")[1:]
    prefix, rest = segments[: len(web_dir)], segments[len(web_dir) :]
    # Nothing needs `..` here: what would walk the tree is not found, instead of being resolved.
    if prefix != [os.fsencode(each) for each in web_dir] or not rest or {b".", b".."} & set(rest):
        raise Refusal(HTTPStatus.NOT_FOUND, "no such service here")
    name, *more = rest
    return Target(name.decode("latin-1"), b"".join(b"/" + each for each in more), query)


def script_of(services_dir: str, service: str) -> str | None:
    """The path of the script that answers for a service, or None when this directory does not offer it."""
    if not valid_name(service) or service.endswith(".bdcert"):
        return None
    path = os.path.join(services_dir, service)
    if not os.path.isfile(path + ".bdcert"):
        return None
    if os.path.isdir(path):
        path = os.path.join(path, "index.cgi")
    return path if os.path.isfile(path) and os.access(path, os.X_OK) else None


def checked_host(hosts: list[str], version: str) -> str | None:
    """The Host header's value without its port; None when an old client sent none; Refusal for a wrong one."""
    if not hosts and version == "HTTP/1.0":
        return None
    match = _HOST.fullmatch(hosts[0].strip()) if len(hosts) == 1 else None
    if match is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "there must be one Host header, and a host in it")
    return match[1]


def body_length(headers, body_bytes_max: int) -> int:
    """How long the request's body is; Refusal when that is not said plainly, or too much."""
    if "transfer-encoding" in headers:
        raise Refusal(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length instead of Transfer-Encoding")
    said = headers.get_all("content-length", ["0"])
    if len(said) != 1 or re.fullmatch(r"[0-9]{1,18}", said[0].strip()) is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "Content-Length must be one number")
    if int(said[0]) > body_bytes_max:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {body_bytes_max} bytes")
    return int(said[0])


def header_variables(items: list[tuple[str, str]]) -> dict[str, bytes]:
    """The HTTP_* variables of a request; Refusal for headers that are none."""
    variables: dict[str, bytes] = {}
    for name, value in items:
        if _HEADER_NAME.fullmatch(name) is None or _CONTROL.search(value):
            raise Refusal(HTTPStatus.BAD_REQUEST, "a header has characters that no header may have")
        # Apache since 2.4: what is not letters, digits and - would pass for another header once - has become _.
        if name.lower() in _NOT_FOR_SCRIPTS or re.fullmatch(r"[A-Za-z0-9-]+", name) is None:
            continue
        variable, text = "HTTP_" + name.upper().replace("-", "_"), value.strip().encode("latin-1")
        variables[variable] = variables[variable] + b", " + text if variable in variables else text
    return variables


def inherited_variables() -> dict[str, str]:
    """What scripts see of our own environment: a PATH on which `env python3` is the Python that runs this."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    return {"PATH": path, "SERVER_SOFTWARE": "BDserver"}


# --------------------------------------------------------------------------------------------------------- scripts


class Output(NamedTuple):
    """What a script left: its whole stdout, the end of its stderr, and its exit status (None: it had to be killed)."""

    stdout: bytes
    complaint: str
    status: int | None


class Scripts:
    """Runs scripts, so many at once, each in a process group of its own that ends with its answer or its time."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self._turns = threading.BoundedSemaphore(limits.scripts_max)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._closed = False

    def run(self, path: str, environment: dict[str, str | bytes], body: bytes) -> Output:
        """Run a script until it has ended; Refusal when it could not, or not within the limits."""
        if not self._turns.acquire(timeout=self.limits.turn_seconds):
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{self.limits.scripts_max} scripts are running already")
        try:
            process = self._start(path, environment)
            try:
                return _converse(process, body, self.limits)
            finally:
                self._end(process)
        finally:
            self._turns.release()

    def close(self) -> None:
        """Kill what still runs, and start nothing more."""
        with self._lock:
            self._closed = True
            for process in self._running:
                _kill_group(process)

    def _start(self, path: str, environment: dict[str, str | bytes]) -> subprocess.Popen:
        with self._lock:  # a script is either refused by close() or killed by it
            if self._closed:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the container is ending")
            try:
                process = subprocess.Popen(
                    [path],
                    cwd=os.path.dirname(path),
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                )
            except FileNotFoundError:
                # Withdrawn since it was looked up, or its interpreter is not on this host: not here, either way.
                raise Refusal(HTTPStatus.NOT_FOUND, "no such service here (it or its interpreter is missing)") from None
            except OSError as error:
                raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"it cannot be run: {error.strerror}") from None
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen) -> None:
        with self._lock:
            # Before it is reaped: from then on its number may be another's.
            _kill_group(process)
            self._running.discard(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            # A write that its reader did not take is of no interest any more.
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        process.wait()


def _kill_group(process: subprocess.Popen) -> None:
    # Some systems refuse to signal a group in which only ended processes are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _converse(process: subprocess.Popen, body: bytes, limits: Limits) -> Output:
    """Feed a script, take what it says, and await its end; the caller cleans up after it."""
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin and stdout and stderr
    deadline = time.monotonic() + limits.script_seconds
    unsent, answer, complaint = memoryview(body), bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe, event in ((stdin, selectors.EVENT_WRITE), (stdout, selectors.EVENT_READ), (stderr, 1)):
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, event)
        while stdout in selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                text = _last_line(complaint)
                raise Refusal(HTTPStatus.GATEWAY_TIMEOUT, f"it ran longer than {limits.script_seconds:g} s{text}")
            for key, _ in selector.select(left):
                if key.fileobj is stdin:
                    unsent = unsent[_write_now(stdin.fileno(), unsent) :]
                    if not unsent:
                        selector.unregister(stdin)
                        stdin.close()
                    continue
                chunk = os.read(key.fd, CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is stdout:
                    answer += chunk
                else:
                    complaint = (complaint + chunk)[-COMPLAINT_BYTES_MAX:]
            if len(answer) > limits.answer_bytes_max:
                text = f"its answer is longer than {limits.answer_bytes_max} bytes"
                raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, text)
    status = _awaited_status(process, min(deadline, time.monotonic() + LINGER_SECONDS))
    with contextlib.suppress(BlockingIOError):
        complaint += os.read(stderr.fileno(), CHUNK_BYTES)
    return Output(bytes(answer), _last_line(complaint), status)


def _write_now(descriptor: int, data: memoryview) -> int:
    """How much of the data the pipe took; all of it when nobody reads any more, which is a script's right."""
    try:
        return os.write(descriptor, data[:CHUNK_BYTES])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(data)


def _awaited_status(process: subprocess.Popen, deadline: float) -> int | None:
    """The exit status of a process (negative: the signal), not reaped, or None when it still runs at the deadline."""
    pause = 0.0002  # nearly always it has ended with its output
    while True:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if ended is not None:
            return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _last_line(complaint: bytes | bytearray) -> str:
    lines = complaint.decode("utf-8", "replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f"; it said {ascii(said[-1][-200:])}" if said else ""


# ----------------------------------------------------------------------------------------------- what a script answers

# Between server and caller alone, or ours to say.
_NOT_FROM_SCRIPTS = {
    *("connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade"),
    *("status", "content-length", "date", "server"),
}


class Answer(NamedTuple):
    """A script's answer: the status, its phrase if the script has one, the headers to send, the body."""

    status: int
    phrase: str | None
    headers: list[tuple[str, str]]
    body: bytes


def answer_of(output: bytes) -> Answer:
    """A CGI script's output as an answer; Refusal when it is none."""
    # A blank line, with either line end, ends the head; the (?<=\n) form is the blank line of a head without headers.
    end = re.compile(rb"\r?\n\r?\n").search(output, 0, ANSWER_HEAD_BYTES_MAX)
    if end is None:
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "its output has no complete head")
    fields: dict[str, str] = {}
    headers = []
    for line in re.split(r"\r?\n", output[: end.start()].decode("latin-1")):
        name, colon, value = line.partition(":")
        value = value.strip()
        if not colon or _HEADER_NAME.fullmatch(name) is None or _CONTROL.search(value):
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"its head has the line {ascii(line[:80])}")
        fields[name.lower()] = value
        if name.lower() not in _NOT_FROM_SCRIPTS:
            headers.append((name, value))
    status, phrase = _status_of(fields)
    return Answer(status, phrase, headers, output[end.end() :])


def _status_of(fields: dict[str, str]) -> tuple[int, str | None]:
    if "status" not in fields:
        return (302 if "location" in fields else 200), None
    match = re.fullmatch(r"([2-5][0-9][0-9])(?: (.*))?", fields["status"])
    if match is None:
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"its status is {ascii(fields['status'][:80])}")
    return int(match[1]), match[2] or None


# ------------------------------------------------------------------------------------------------------ the HTTP side


class _Incoming(io.RawIOBase):
    """A caller's bytes: so many, until an instant. Reading one byte more, or later, is a Refusal."""

    def __init__(self, connection: socket.socket, allowance: int, deadline: float):
        self.connection, self.allowance, self.deadline = connection, allowance, deadline

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.allowance <= 0:
            raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request line and headers are too long")
        try:
            self.connection.settimeout(max(0.001, self.deadline - time.monotonic()))
            count = self.connection.recv_into(memoryview(buffer)[: self.allowance])
        except TimeoutError:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time") from None
        self.allowance -= count
        return count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "BDserver", ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    server: _Server

    def setup(self):
        super().setup()
        self.rfile.close()
        limits = self.server.limits
        self.started_at = time.monotonic()
        self.incoming = _Incoming(self.connection, limits.head_bytes_max, self.started_at + limits.caller_seconds)
        self.rfile = io.BufferedReader(self.incoming)
        # What a refusal needs before there is a request.
        self.command, self.requestline, self.request_version = None, "", "HTTP/1.1"
        self.answered, self.sent_bytes, self.remark = None, 0, ""
        self.expects_continue = False

    def handle(self):
        """One request, and its line in the log."""
        self.close_connection = True
        try:
            self.handle_one_request()
        except Refusal as refusal:
            self._refuse(refusal)
        except ConnectionError:
            self.remark = "; the caller went away"
        if self.answered or self.remark:
            took = f"{self.sent_bytes} bytes {(time.monotonic() - self.started_at) * 1000:.0f} ms"
            line = f"{self.client_address[0]} {ascii(self.requestline[:300])} {self.answered or '-'} {took}"
            self.server.log(line + self.remark)

    def do_GET(self):
        """Run the script; its output is the answer."""
        with self.server.request_begun():
            answer = self._answer()
            self.connection.settimeout(self.server.limits.caller_seconds)
            self._send(answer)

    do_HEAD = do_POST = do_GET

    def do_PUT(self):
        """Anything else is not for scripts."""
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "GET, HEAD and POST are what a service answers")

    do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = do_PUT

    def handle_expect_100(self):
        """Said only when nothing speaks against the body."""
        self.expects_continue = True
        return True

    def _answer(self) -> Answer:
        limits = self.server.limits
        if self.request_version not in ("HTTP/1.0", "HTTP/1.1") or self.headers.defects:
            raise Refusal(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
        host = checked_host(self.headers.get_all("host", []), self.request_version)
        variables = header_variables(self.headers.items())
        target = target_of(self.raw_target, self.server.web_dir)
        script = script_of(self.server.services_dir, target.service)
        if script is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "no such service here")
        body = self._body(body_length(self.headers, limits.body_bytes_max))
        environment = {**inherited_variables(), **variables, **self._variables(target, script, host)}
        output = self.server.scripts.run(script, environment, body)
        self.remark = output.complaint
        if output.status is not None and output.status < 0:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"it was ended by signal {-output.status}")
        if output.status != 0:
            # Its answer counts, as with Apache: plenty of scripts end so after a complete page.
            how = "lingered and was killed" if output.status is None else f"ended with status {output.status}"
            self.remark = f"; it {how}{output.complaint}"
        return answer_of(output.stdout)

    @property
    def raw_target(self) -> str:
        """The request line's path as it came: `self.path` has its leading slashes folded."""
        return self.requestline.split()[1]

    def _body(self, length: int) -> bytes:
        if length and self.expects_continue:
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
        self.incoming.allowance = length
        body = self.rfile.read(length)
        if len(body) < length:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the body ended early")
        return body

    def _variables(self, target: Target, script: str, host: str | None) -> dict[str, str | bytes]:
        address, port = self.connection.getsockname()[:2]
        variables: dict[str, str | bytes] = {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_PROTOCOL": self.request_version,
            "SERVER_NAME": host or (f"[{address}]" if ":" in address else address),
            "SERVER_ADDR": address,
            "SERVER_PORT": str(port),
            "REQUEST_SCHEME": "http",
            "REQUEST_METHOD": self.command,
            "REQUEST_URI": self.raw_target.encode("latin-1"),
            "SCRIPT_NAME": "/" + "/".join([*self.server.web_dir, target.service]),
            "SCRIPT_FILENAME": script,
            "PATH_INFO": target.path_info,
            "QUERY_STRING": target.query.encode("latin-1"),
            "REMOTE_ADDR": self.client_address[0],
            "REMOTE_PORT": str(self.client_address[1]),
        }
        if not target.path_info:
            del variables["PATH_INFO"]
        for name in ("Content-Type", "Content-Length"):
            if name in self.headers:
                variables[name.upper().replace("-", "_")] = self.headers[name].strip().encode("latin-1")
        return variables

    def _send(self, answer: Answer) -> None:
        has_body = answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        self.send_response(answer.status, answer.phrase)
        for name, value in answer.headers:
            self.send_header(name, value)
        # After HEAD a script may leave the body out, and then nobody knows how long it would have been.
        if has_body and (answer.body or self.command != "HEAD"):
            self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if has_body and self.command != "HEAD":
            self.wfile.write(answer.body)
            self.sent_bytes = len(answer.body)

    def _refuse(self, refusal: Refusal) -> None:
        self.remark = f"; {refusal}"
        with contextlib.suppress(OSError):  # it may be gone, or not listening
            self.connection.settimeout(DRAIN_SECONDS)
            self.send_error(refusal.status, str(refusal))
            self._drain()

    def end_headers(self):
        """Add what some statuses must say."""
        if self.answered == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD, POST")
        if self.answered == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "1")
        super().end_headers()

    def _drain(self) -> None:
        """Read on for a moment: closing on unread bytes resets the connection, and the refusal is lost with it."""
        deadline, unread = time.monotonic() + DRAIN_SECONDS, 2 * self.server.limits.body_bytes_max
        self.connection.shutdown(socket.SHUT_WR)
        while unread > 0 and (left := deadline - time.monotonic()) > 0:
            self.connection.settimeout(left)
            chunk = self.connection.recv(CHUNK_BYTES)
            if not chunk:
                return
            unread -= len(chunk)

    def log_request(self, code="-", size="-"):
        """The line is written when all is over."""
        self.answered = int(code)

    def log_error(self, format, *arguments):
        """What http.server itself refuses: the reason goes on the same line."""
        self.remark = self.remark or f"; {format % arguments}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, web_dir: tuple[str, ...], services_dir: str, limits: Limits, log: Callable
    ):
        self.web_dir, self.services_dir, self.limits, self.log = web_dir, services_dir, limits, log
        self.scripts = Scripts(limits)
        self._connections = threading.BoundedSemaphore(limits.connections_max)
        self._requests, self._requests_changed = 0, threading.Condition()
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
        self.address_family = family
        super().__init__(address[:2], _Handler)

    def server_bind(self):
        """As HTTPServer does, less its look-up of our own name, which may wait for a name server."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request, client_address):
        """A thread for the connection, or a word that there are too many."""
        if not self._connections.acquire(blocking=False):
            self.log(f"{client_address[0]} turned away; {self.limits.connections_max} connections are open")
            with contextlib.suppress(OSError):
                request.send(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n", socket.MSG_DONTWAIT)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._connections.release()
            raise

    def process_request_thread(self, request, client_address):
        """The thread of one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request, client_address):
        """What a handler let through: the caller's going away is one line, a bug of ours is a traceback."""
        error = sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]
        if isinstance(error, OSError):
            self.log(f"{client_address[0]} went away; {error}")
        else:
            super().handle_error(request, client_address)

    @contextlib.contextmanager
    def request_begun(self):
        """While a request is in work: what `finish` waits for."""
        with self._requests_changed:
            self._requests += 1
        try:
            yield
        finally:
            with self._requests_changed:
                self._requests -= 1
                self._requests_changed.notify_all()

    def finish(self, seconds: float) -> None:
        """Let the requests in work end, so long; then kill their scripts, and let that be answered."""
        for more in (seconds, 1.0):
            with self._requests_changed:
                ended = self._requests_changed.wait_for(lambda: not self._requests, more)
            self.scripts.close()
            if ended:
                return


def _to_stderr(line: str) -> None:
    # One write: lines of several threads never mix, and no lock can be left held at the interpreter's end.
    with contextlib.suppress(OSError):
        os.write(2, f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {line}\n".encode("utf-8", "backslashreplace"))


class Container:
    """The container within a program: bound when made, serving between `start` and `stop`, or in a `with`."""

    def __init__(
        self,
        services_dir: str,
        host: str = "127.0.0.1",
        port: int = 0,
        web_dir: str = "axis",
        limits: Limits | None = None,
        log: Callable[[str], None] = _to_stderr,
    ):
        segments = tuple(each for each in web_dir.split("/") if each)
        if not segments or not all(map(valid_name, segments)):
            raise BadConfig(f"web directory {web_dir!r}: letters, digits and ._- between slashes, as in a URL")
        if not os.path.isdir(services_dir):
            raise BadConfig(f"{services_dir}: is no directory")
        try:
            self._server = _Server(host, port, segments, os.path.abspath(services_dir), limits or Limits(), log)
        except (OSError, OverflowError) as error:
            raise BadConfig(f"cannot listen on {host} port {port}: {error}") from None
        self.host, self.port = host, self._server.server_port
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}/{'/'.join(segments)}/"
        self._thread: threading.Thread | None = None

    def start(self) -> Container:
        """Serve, in a thread of its own, until `stop`."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="container", daemon=True)
        self._thread.start()
        return self

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Accept nothing more, let running requests end for a while, kill the rest."""
        if self._thread is not None:
            self._server.shutdown()
        self._server.server_close()
        self._server.finish(grace_seconds)

    def __enter__(self) -> Container:
        return self.start()

    def __exit__(self, *_exception) -> None:
        self.stop()


# ------------------------------------------------------------------------------------------------------ the command


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bdserver.demo.container", description="Serve a services directory by HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on, 0 for any free one (default 8080)")
    parser.add_argument("--web-dir", default="axis", help="first part of the path (default axis)")
    parser.add_argument("--services", required=True, metavar="DIR", help="the services directory")
    for name, default in Limits._field_defaults.items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=_above_zero(type(default)), default=default, help=f"(default {default:g})")
    return parser.parse_args(arguments)


def _above_zero(kind: type) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < 2**40:
            raise ValueError
        return value

    number.__name__ = "number above 0"
    return number


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP; the exit status."""
    options = _options(arguments)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, lambda *_: None)  # its number arrives on the pipe
    limits = Limits(*(getattr(options, name) for name in Limits._fields))
    try:
        container = Container(options.services, options.host, options.port, options.web_dir, limits)
    except BadConfig as error:
        print(f"bdserver.demo.container: {error}", file=sys.stderr)
        return error.exit
    container.start()
    print(f"{container.url} serves {options.services}", flush=True)
    os.read(wake_read, 1)
    container.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
