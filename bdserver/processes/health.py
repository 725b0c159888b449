"""The health of our own services: whether each answers where its URL points, as its .bdcert's `health` wants it.

`tcp`: something listens there; `http`: it answers there below 500. A refused connection or a 500 takes a service out at once.
Silence may be a busy host's, so it takes a service out when it is the second in a row; the first changes nothing. A service
that is out keeps being checked, and returns at its first answer. To tell the mesh, and when to look, is the business of chores.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from bdserver.core.membership import DYNAMIC
from bdserver.files.bdcert import Service

if TYPE_CHECKING:
    from concurrent.futures import Future

# For the whole of an answer. A service that is a script takes a second to start where many others do.
PATIENCE = 5.0
# A few that hang must not hold up the others; and to ask is work for the host.
AT_ONCE = 8
ANSWER_BYTES_MAX = 4096

_STATUS_LINE = re.compile(rb"HTTP/[0-9.]{1,8} ([0-9]{3})\b")


class Health:
    """Which services are `sick`, None before the first look is over. One thread at a time looks; any may read.

    `say(name, why)` is called as soon as an answer has come, in the thread that looks; an empty `why` is well."""

    def __init__(self, say: Callable[[str, str], None], patience: float = PATIENCE):
        self._say, self._patience = say, patience
        self._has_looked = False
        self._sick: set[str] = set()
        self._silent: set[str] = set()

    @property
    def sick(self) -> frozenset[str] | None:
        """Their names, as far as is known now."""
        return frozenset(self._sick) if self._has_looked else None

    def look(self, asked: Collection[tuple[Service, str]], host: str, port: int) -> None:
        """Ask each of these services at its url; what a url leaves open is our own `host` and `port`."""
        names = {each.name for each, _ in asked}
        self._silent &= names
        self._sick &= names
        if asked:
            self._ask(asked, host, port)
        self._has_looked = True

    def _ask(self, asked: Collection[tuple[Service, str]], host: str, port: int) -> None:
        from concurrent.futures import ThreadPoolExecutor, as_completed  # here: many nodes have nobody to ask

        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = {pool.submit(reason, each, url, host, port, self._patience): (each.name, url) for each, url in asked}
            for answer in as_completed(answers):
                self._take(*answers[answer], answer)

    def _take(self, name: str, url: str, answer: Future[str | None]) -> None:
        try:
            why = answer.result()
            self._silent.discard(name)
        except TimeoutError:
            if name not in self._silent:
                self._silent.add(name)
                return
            why = f"{name} is not well: {url}: timed out, twice in a row"
        (self._sick.add if why else self._sick.discard)(name)
        self._say(name, why or "")


def reason(service: Service, url: str, host: str, port: int, seconds: float) -> str | None:
    """Why it is not well, in one line, or None; TimeoutError when there is no answer in time.

    A replica, whose .bdcert came from the mesh, is asked on our own host alone."""
    if service.health == "none":
        return None
    deadline = time.monotonic() + seconds
    try:
        where = _Where(url, host, port)
        if service.type == DYNAMIC and where.host != host.lower():
            return f"{service.name} is not well: it is a copy, and its url names another host, {where.host}"
        with socket.create_connection((where.host, where.port), seconds) as plain:
            if service.health == "tcp":
                return None
            with _over_tls(plain, where.host) if where.is_tls else plain as sock:
                status = _status(sock, where, deadline)
    except TimeoutError:
        raise
    except (OSError, ValueError) as error:
        return f"{service.name} is not well: {url}: {getattr(error, 'strerror', None) or str(error) or type(error).__name__}"
    return None if status < 500 else f"{service.name} is not well: {url} answers {status}"


class _Where:
    """Where a URL points; what it leaves open is our own host and port. ValueError when that is nowhere."""

    def __init__(self, url: str, host: str, port: int):
        parts = urlsplit(url)
        self.is_http, self.is_tls = parts.scheme in ("http", "https"), parts.scheme == "https"
        self.host, self.netloc = parts.hostname or host.lower(), parts.netloc.rpartition("@")[2]
        self.port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, port)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        self.target = quote(target, safe="/?%:@!$&'()*+,;=~[]-._")


def _status(sock: socket.socket, where: _Where, deadline: float) -> int:
    """The status of the answer to a GET. By hand, since http.client waits anew for each read: a server that sends a
    byte a second would keep it for ever."""
    if not where.is_http:
        raise ValueError("no http or https URL")
    request = f"GET {where.target} HTTP/1.1\r\nHost: {where.netloc}\r\nUser-Agent: bdserverd\r\nConnection: close\r\n\r\n"
    sock.sendall(request.encode("ascii", "replace"))
    said = b""
    while b"\n" not in said and len(said) < ANSWER_BYTES_MAX:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(left)
        data = sock.recv(ANSWER_BYTES_MAX)
        if not data:
            break
        said += data
    match = _STATUS_LINE.match(said)
    if match is None:
        raise ValueError(f"that is no HTTP: {said[:40]!r}" if said else "it hung up without an answer")
    return int(match[1])


def _over_tls(sock: socket.socket, host: str) -> socket.socket:
    """We ask whether it answers, not who it is: whoever calls it checks its certificate with the CAs of their own."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname=host)
