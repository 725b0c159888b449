"""The services this node offers: the directory, the .bdcert beside each, the graveyard.

What is in the directory is live: an installation becomes visible by one rename, or not at all (the service first, its .bdcert
last; a removal the other way round). A broken .bdcert takes out its own service and no other.
Counting hits is hitlog's business, deciding what to retire is core.weight's.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import shutil
import socket
from collections import namedtuple
from urllib.parse import urlsplit

from bdserver.core.names import valid_name
from bdserver.errors import BadConfig, BadService, CantFind
from bdserver.settings import read_pairs, write_pairs

SUFFIX = ".bdcert"
HEALTH = ("none", "tcp", "http")
WEIGHT_MAX = 1e9
SERVICES_MAX = 10_000
_KEYS = ("weight", "type", "url", "health", "arrived_at")


class Service(namedtuple("Service", "name type weight url health path arrived_at extra")):
    """One service. `weight`: the cost of a hit; `path`: its file or folder, None when registered by URL; `arrived_at`:
    epoch seconds of a replica's arrival; `extra`: the .bdcert's other (key, value) pairs, kept."""

    __slots__ = ()

    def pairs(self) -> list[tuple[str, str]]:
        """The .bdcert's content."""
        pairs = [("weight", f"{self.weight:g}"), ("type", self.type)]
        pairs += [("url", self.url)] if self.url else []
        pairs += [("health", self.health)] if self.health != "none" else []
        pairs += [("arrived_at", f"{self.arrived_at:.3f}")] if self.arrived_at else []
        return pairs + list(self.extra)


class Services:
    """The directory as it is now; every file is read again only when it changed."""

    def __init__(self, services_dir: str, graveyard_dir: str, scratch_dir: str):
        self.services_dir, self.graveyard_dir, self.scratch_dir = services_dir, graveyard_dir, scratch_dir
        self.complaints: list[str] = []
        self._read: dict[str, tuple] = {}  # name -> (stamp, Service or None, complaint or None)
        self._all: dict[str, Service] = {}
        self._stamp: tuple | None = None

    def all(self) -> dict[str, Service]:
        """name -> Service of everything that is live now."""
        certs = self._certs()
        stamp = tuple(sorted(certs.items()))
        if stamp != self._stamp:
            self._read = {name: self._read_one(name, certs[name]) for name in certs}
            self._all = {name: read[1] for name, read in sorted(self._read.items()) if read[1] is not None}
            self.complaints = [read[2] for _, read in sorted(self._read.items()) if read[2]]
            self._stamp = stamp
        return self._all

    def get(self, name: str) -> Service | None:
        """The service of that name, or None."""
        return self.all().get(name)

    def _certs(self) -> dict[str, tuple]:
        """name -> what changes when its .bdcert, or its being there, does."""
        found: dict[str, tuple] = {}
        there = set()
        try:
            with os.scandir(self.services_dir) as entries:
                for entry in entries:
                    there.add(entry.name)
                    if entry.name.endswith(SUFFIX) and valid_name(entry.name.removesuffix(SUFFIX)):
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat()
                            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
                            found[entry.name.removesuffix(SUFFIX)] = stamp
        except OSError:
            return {}
        return {name: (*stamp, name in there) for name, stamp in list(found.items())[:SERVICES_MAX]}

    def _read_one(self, name: str, stamp: tuple) -> tuple:
        known = self._read.get(name)
        if known is not None and known[0] == stamp:
            return known
        try:
            return stamp, read_service(self.services_dir, name), None
        except (BadService, BadConfig) as error:
            return stamp, None, str(error)

    # -- changes

    def publish(self, source: str | None, name: str, weight: float, url: str = "", health: str = "none") -> None:
        """Offer `source` (a file or folder, moved from scratch; None: registered by `url`) as a static service."""
        if not valid_name(name):
            raise BadService(f"{name[:60]!r} is no service's name: letters, digits and ._-, up to 100")
        if not 0 <= weight <= WEIGHT_MAX or health not in HEALTH:
            raise BadService(f"{name}: weight must be 0 to {WEIGHT_MAX:g}, health one of {', '.join(HEALTH)}")
        if any(not character.isprintable() for character in url):
            raise BadService(f"{name}: its url has a character that is not printable")
        self._put(source, Service(name, "static", weight, url, health, source, 0.0, ()))

    def install(self, folder: str, name: str, now: float) -> None:
        """Put an unpacked package live as a dynamic service; its scratch folder is gone afterwards."""
        try:
            packed = read_service(folder, name)
            self._put(os.path.join(folder, name), packed._replace(type="dynamic", arrived_at=now))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _put(self, source: str | None, service: Service) -> None:
        target = os.path.join(self.services_dir, service.name)
        if source is not None:
            if os.path.lexists(target):
                self._bury(service.name)
            _move(source, target)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(source))
        write_pairs(target + SUFFIX, service.pairs())

    def withdraw(self, name: str) -> None:
        """Offer it no longer: its files go to the graveyard."""
        if self.get(name) is None:
            raise CantFind(f"{name}: not offered here")
        self._bury(name)

    retire = withdraw  # what is retired to make room goes the same way

    def _bury(self, name: str) -> None:
        os.makedirs(self.graveyard_dir, exist_ok=True)
        for suffix in (SUFFIX, ""):  # the .bdcert first: from then on it is not offered
            here, there = (os.path.join(folder, name + suffix) for folder in (self.services_dir, self.graveyard_dir))
            if os.path.lexists(here):
                _remove(there)
                _move(here, there)

    def buried(self) -> list[str]:
        """Names of the services in the graveyard."""
        try:
            names = os.listdir(self.graveyard_dir)
        except OSError:
            return []
        return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))

    def restore(self, name: str) -> None:
        """Bring it back from the graveyard."""
        buried = os.path.join(self.graveyard_dir, name)
        if not os.path.exists(buried + SUFFIX):
            raise CantFind(f"{name}: not in the graveyard")
        if self.get(name) is not None:
            raise BadService(f"{name} is offered here already: withdraw it first")
        target = os.path.join(self.services_dir, name)
        if os.path.lexists(buried):
            _move(buried, target)
        _move(buried + SUFFIX, target + SUFFIX)

    def check_health(self, service: Service, host: str, port: int, url: str, timeout: float) -> str | None:
        """None when it is well, else one line; `tcp`: something listens; `http`: it answers below 500."""
        if service.health == "none":
            return None
        try:
            if service.health == "tcp":
                socket.create_connection((host, port), timeout).close()
                return None
            return _http_reason(service.name, url, timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return f"{service.name} is not well: {error}"


def _http_reason(name: str, url: str, timeout: float) -> str | None:
    parts = urlsplit(url)
    connection_class = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connection_class(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path or "/")
        status = connection.getresponse().status
    finally:
        connection.close()
    return None if status < 500 else f"{name} is not well: {url} answers {status}"


def read_service(folder: str, name: str) -> Service:
    """The service `name` in a folder; BadService or BadConfig with FILE:LINE says what is wrong with its .bdcert."""
    cert = os.path.join(folder, name + SUFFIX)
    values = {key: (number, value) for number, key, value in read_pairs(cert)}
    path = os.path.join(folder, name)
    url = values.get("url", (0, ""))[1]
    if not os.path.exists(path) and not url:
        raise BadService(f"{cert}: there is no {name} beside it, and it names no url")
    kind = _checked(cert, values, "type", "static", str.lower, lambda text: text in ("static", "dynamic"))
    weight = _checked(cert, values, "weight", "1", float, lambda number: 0 <= number <= WEIGHT_MAX)
    health = _checked(cert, values, "health", "none", str.lower, lambda text: text in HEALTH)
    arrived_at = _checked(cert, values, "arrived_at", "0", float, lambda number: number >= 0)
    extra = tuple((key, value) for key, (_, value) in values.items() if key not in _KEYS)
    return Service(name, kind, weight, url, health, path if os.path.exists(path) else None, arrived_at, extra)


def _checked(cert: str, values: dict, key: str, default: str, read, is_right):
    number, text = values.get(key, (0, default))
    try:
        value = read(text)
    except ValueError:
        value = None
    if value is None or not is_right(value):
        raise BadService(f"{cert}:{number}: {key}={text[:60]!r} is not a {key}")
    return value


def _move(source: str, target: str) -> None:
    """One rename; from another file system by way of a dot name beside the target."""
    try:
        os.rename(source, target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    beside = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}")
    if os.path.isdir(source):
        shutil.copytree(source, beside)
    else:
        shutil.copy2(source, beside)
    os.rename(beside, target)
    _remove(source)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
