"""The sockets on which a node is called: for each address of `bind` one for callers and one for other nodes' news (the
discoverer's), and the local one.

The local socket is a file, which somebody may delete while the node runs: then it is made again. Accepting on them is the
listener's business.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Sequence

from bdserver.errors import BadConfig, NotYet
from bdserver.files import settings as usual
from bdserver.files.settings import Settings

log = logging.getLogger("bdserver.sockets")

# Errors that pass by themselves at boot, and where to look if they do not.
PASSING = {
    errno.EADDRINUSE: "ss -ltnp tells by whom",
    errno.EADDRNOTAVAIL: "no interface of this host has that address: ip addr shows those it has",
}
# Errors that do not, and what to do about them.
LASTING = {
    errno.EACCES: "a port below 1024 is root's: start as root with user= set, or grant CAP_NET_BIND_SERVICE",
}


class Sockets:
    """All of them, once they are open; `owner` (uid, gid) is given the local one's file, when we are root."""

    def __init__(self, settings: Settings, owner: tuple[int, int]):
        self._settings, self._owner = settings, owner
        self._tcp: list[socket.socket] = []
        self.ears: list[socket.socket] = []  # the discoverer accepts on these, and nobody else
        self._local: socket.socket | None = None
        self._file: tuple[int, int] | None = None  # device and inode of the local one's file
        self._complaint = ""

    def open(self) -> None:
        """Listen on all; NotYet when an address may still become free, BadConfig when a person must do something."""
        try:
            trouble = local_trouble(self._settings.socket)
            if trouble:
                raise BadConfig(f"{self._settings.path}: {trouble}")
            self.open_tcp()
            self._open_local()
        except BaseException:
            self.close()
            self.close_ears()
            raise

    def open_tcp(self, is_check: bool = False) -> None:
        """One for each address of `bind`; for all addresses, one that takes IPv4 too. A check does not listen."""
        settings = self._settings
        news = "gossip_port", settings.gossip_port or settings.port + 1
        for sockets, setting, port in ((self._tcp, "port", settings.port), (self.ears, *news)):
            for family, host in addresses(settings):
                sockets.append(tcp_socket(settings, setting, port, family, host, is_check))

    def now(self) -> Sequence[socket.socket]:
        """Those that listen now. If the local one's file is gone, or something else is there on which nobody listens, it is
        made again; if that fails, it is said once."""
        if self._local is not None and not _is_socket(self._settings.socket):
            try:
                self._open_local()
            except BadConfig as error:
                if str(error) != self._complaint:
                    log.error("the local socket is gone, and can't be made again: %s", error)
                self._complaint = str(error)
            else:
                log.warning("socket=%s was deleted: made again", self._settings.socket)
                self._complaint = ""
        return [*self._tcp, *([self._local] if self._local is not None else [])]

    def files(self) -> list[int]:
        """Their descriptors."""
        return [sock.fileno() for sock in (*self._tcp, *self.ears, *([self._local] if self._local is not None else []))]

    def close_ears(self) -> None:
        """In each process that is not the discoverer, nor its parent: it would go on listening when both are gone."""
        for sock in self.ears:
            sock.close()
        self.ears.clear()

    def close(self) -> None:
        """Stop listening to callers."""
        for sock in self._tcp:
            sock.close()
        self._tcp.clear()
        if self._local is not None:
            self._local.close()
            self._local = None

    def remove(self) -> None:
        """The local one's file, if it still is ours."""
        with contextlib.suppress(OSError):
            if self._file == _identity(self._settings.socket):
                os.unlink(self._settings.socket)
        with contextlib.suppress(OSError):  # its folder is root's: what stays leads nowhere, and is replaced at the next start
            if self._is_usual() and os.readlink(usual.USUAL_SOCKET) == self._settings.socket:
                os.unlink(usual.USUAL_SOCKET)

    def _open_local(self) -> None:
        """One that a crash left behind is replaced: the pid file's lock says that nobody else is here."""
        path = self._settings.socket
        sock = socket.socket(socket.AF_UNIX)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            sock.bind(path)
            os.chmod(path, self._settings.socket_mode)
            if os.geteuid() == 0:
                os.chown(path, *self._owner)
            sock.listen(self._settings.backlog)
            self._file = _identity(path)
        except OSError as error:
            sock.close()
            raise BadConfig(f"{self._settings.path}: socket={path}: {error.strerror or error}") from None
        if self._local is not None:
            self._local.close()
        self._local = sock
        with contextlib.suppress(OSError):  # without the right to it: then others need --socket
            self._link()

    def _is_usual(self) -> bool:
        """Whether this is the node that commands without options mean, and its socket lies elsewhere than they look."""
        mine, theirs = self._settings, os.path.realpath(usual.DEFAULT_PATH)
        return os.path.realpath(mine.path) == theirs and mine.socket != usual.USUAL_SOCKET

    def _link(self) -> None:
        """From the usual place, unless another node is there: the config may be for root's eyes alone."""
        path = usual.USUAL_SOCKET
        if not self._is_usual() or os.path.exists(path):
            return
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(self._settings.socket, path)


# Of a path in sockaddr_un, which ends with a NUL byte (unix(7)).
PATH_BYTES_MAX = 107


def local_trouble(path: str) -> str:
    """Why no local socket can be made there, whatever may be written there; "" when nothing is in the way. What a crash left
    is a socket: a file of another kind is somebody's, and is not ours to remove."""
    size = len(os.fsencode(path))
    if size > PATH_BYTES_MAX:
        return f"socket={path}: has {size} bytes, and the path of a socket has {PATH_BYTES_MAX} at most"
    if os.path.lexists(path) and not _is_socket(path) and not os.path.islink(path):
        return f"socket={path}: is there, and is no socket: it is not removed"
    return ""


def addresses(settings: Settings) -> list[tuple[int, str]]:
    """(family, host) of each address to listen on."""
    if not settings.bind and socket.has_dualstack_ipv6():
        return [(socket.AF_INET6, "::")]
    return [(socket.AF_INET6 if ":" in host else socket.AF_INET, host) for host in settings.bind or ["0.0.0.0"]]


def tcp_socket(settings: Settings, setting: str, port: int, family: int, host: str, is_check: bool) -> socket.socket:
    """Bound to that port, which a check does not listen on."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" and not settings.bind else 1)
        sock.bind((host, port))
        if not is_check:
            sock.listen(settings.backlog)
    except OSError as error:
        sock.close()
        number = error.errno or 0
        kind = NotYet if number in PASSING else BadConfig
        hint = PASSING.get(number) or LASTING.get(number)
        where = host if settings.bind else "any address"
        said = f"{settings.path}: {setting}={port} can't be had on {where}: {error.strerror or error}"
        raise kind(f"{said} ({hint})" if hint else said) from None
    return sock


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
