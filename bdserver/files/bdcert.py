"""What a .bdcert says: the service it stands for, read, checked and written.

A .bdcert is a regular file beside its service, and no complaint shows what stands in it: it goes to everybody who asks for
STATUS, and a symbolic link would make it tell of any file that the node may read. Keys that have no meaning here are kept.
Which of them are live, and how they change, is the business of services; guarding against what kills a reader, of its caller.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from hashlib import blake2b
from typing import TypeVar

from bdserver.core.membership import (
    COUNTER_MAX,
    DIGEST_CHARACTERS,
    DYNAMIC,
    NO_EDITION,
    REPLICAS_MAX,
    STATIC,
    Copies,
    Edition,
    ServiceType,
)
from bdserver.core.names import valid_name
from bdserver.core.tuples import NamedTuple
from bdserver.core.urls import URL_CHARACTERS_MAX, is_url
from bdserver.errors import BadService
from bdserver.files import durable, lines, pairs
from bdserver.files.durable import shown
from bdserver.files.settings import decimal

SUFFIX = ".bdcert"
HEALTH = ("none", "tcp", "http")
COST_MAX = 1e9
# A signature of minisign's, its comment too.
SIGNATURE_CHARACTERS_MAX = 1000

_KEYS = (
    "weight", "type", "url", "health", "arrived_at", "replicas", "copies",
    "edition", "original", "after", "signer", "signature",
)  # fmt: skip
# Folders of a web application (its classes and settings), which may share services_dir with services.
CONTAINERS_OWN = frozenset(("web-inf", "meta-inf"))


_T = TypeVar("_T")


class Service(NamedTuple):
    """One service. `cost`: what a hit weighs, `weight` in the .bdcert; `path`: its file or folder, None when it is registered
    by its URL alone; `arrived_at`: epoch seconds of a replica's arrival, else 0; `extra`: the .bdcert's other (key, value)
    pairs, kept; `replicas`: living holders that are wanted; `copies`: where it may be copied to, "" as the config has it. Of an
    edition: which one it is, the node whose it is or was before (core.copies), who signed it and the signature."""

    name: str
    type: ServiceType
    cost: float
    url: str
    health: str
    path: str | None
    arrived_at: float
    extra: tuple[tuple[str, str], ...] = ()
    replicas: int = 0
    copies: str = ""
    edition: Edition = NO_EDITION
    original: str = ""
    after: str = ""
    signer: str = ""
    signature: str = ""

    @property
    def is_here(self) -> bool:
        """Whether its file or folder lies here, so that it can be copied; else it is registered by its URL alone."""
        return self.path is not None

    @property
    def is_copy(self) -> bool:
        """Whether it came from another node."""
        return self.type == DYNAMIC

    def offered(self) -> Service:
        """What is the same on every holder of an edition: without what this node alone knows, and what says which it is."""
        return self._replace(type=STATIC, arrived_at=0.0, edition=NO_EDITION, original="", after="", signer="", signature="")

    def pairs(self) -> list[tuple[str, str]]:
        """The .bdcert's content."""
        content = [("weight", repr(float(self.cost)).removesuffix(".0")), ("type", self.type)]
        content += [("url", self.url)] if self.url else []
        content += [("health", self.health)] if self.health != "none" else []
        content += [("replicas", str(self.replicas))] if self.replicas else []
        content += [("copies", self.copies)] if self.copies else []
        content += [("arrived_at", f"{self.arrived_at:.3f}")] if self.arrived_at else []
        content += [("edition", f"{self.edition.counter}:{self.edition.digest}")] if self.edition != NO_EDITION else []
        mine = (("original", self.original), ("after", self.after), ("signer", self.signer), ("signature", self.signature))
        return content + [(key, value) for key, value in mine if value] + list(self.extra)


def read_service(folder: str, name: str) -> Service:
    """The service `name` in a folder; BadService or BadConfig with FILE:LINE says what is wrong with its .bdcert.

    One whose file is gone is not offered, though its .bdcert has a url: what never had a file has no digest of it."""
    cert = os.path.join(folder, name + SUFFIX)
    if not valid_name(name):
        raise BadService(f"{shown(cert)}: this is no service's name: 1 to 100 letters, digits and ._-")
    values = _Values(cert)
    url = values.take("url", "", str, lambda text: not text or is_url(text), URL_WORDS)
    service = Service(
        name,
        values.take("type", STATIC, _service_type, lambda kind: True, f"{STATIC} or {DYNAMIC}"),
        values.take("weight", "1", decimal, lambda number: 0 <= number <= COST_MAX, f"a number from 0 to {COST_MAX:g}"),
        url,
        values.take("health", "none", str.lower, HEALTH.__contains__, " or ".join(HEALTH)),
        _found(os.path.join(folder, name)),
        values.take("arrived_at", "0", decimal, lambda number: number >= 0, "a number of seconds"),
        values.extra(),
        values.take("replicas", "0", int, lambda number: 0 <= number <= REPLICAS_MAX, f"a number from 0 to {REPLICAS_MAX}"),
        values.take("copies", "", str.lower, ("", *Copies).__contains__, " or ".join(Copies)),
        values.take("edition", "0:", _edition, lambda edition: True, "COUNTER:DIGEST, which the node writes by itself"),
        values.take("original", "", str, _is_node_or_none, "a node's name"),
        values.take("after", "", str, _is_node_or_none, "a node's name"),
        values.take("signer", "", str, lambda text: len(text) <= DIGEST_CHARACTERS, "a publisher's key"),
        values.take("signature", "", str, lambda text: len(text) <= SIGNATURE_CHARACTERS_MAX, "a signature"),
    )
    if service.path is None and (service.edition.digest or not url):
        why = f"it is edition {service.edition.digest} of a file or folder" if service.edition.digest else "it names no url"
        raise BadService(f"{shown(cert)}: there is no {name} beside it, and {why}")
    return service


def _found(path: str) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise BadService(f"{shown(path)}: neither a file nor a folder")
    return path


def _edition(text: str) -> Edition:
    counter, colon, digest = text.partition(":")
    if not colon or not counter.isdecimal() or int(counter) > COUNTER_MAX or len(digest) > DIGEST_CHARACTERS:
        raise ValueError(text)
    return Edition(int(counter), digest)


def _is_node_or_none(text: str) -> bool:
    return not text or valid_name(text)


def _service_type(text: str) -> ServiceType:
    return ServiceType(text.lower())


def digest_of(cert: str) -> str:
    """Of a .bdcert: its name, which is read too, and its content as far as there is one."""
    try:
        content = durable.read(cert, lines.FILE_BYTES_MAX, follow=False)[0]
    except OSError:  # its reader says why
        content = b""
    return blake2b(os.fsencode(os.path.basename(cert)) + b"\0" + content, digest_size=16).hexdigest()


def is_whole(cert: str) -> bool:
    """Whether it is as a node has written it, to its end: what a person writes shows that by resting alone."""
    try:
        return lines.split_ending(durable.read(cert, lines.FILE_BYTES_MAX, follow=False)[0])[1]
    except OSError:
        return False


class _Values:
    """The pairs of a .bdcert, each with its line."""

    def __init__(self, cert: str):
        self._cert = cert
        self._pairs: dict[str, tuple[int, str]] = {}
        for number, key, value in pairs.read(cert, follow=False, quotes=False):
            if key in self._pairs:
                named = key if key in _KEYS else "a key"
                raise BadService(f"{shown(cert)}:{number}: {named} was set in line {self._pairs[key][0]} already")
            self._pairs[key] = (number, value)

    def take(self, key: str, default: str, read: Callable[[str], _T], is_right: Callable[[_T], bool], words: str) -> _T:
        """The value of a key; BadService with its line says what it must be."""
        number, text = self._pairs.get(key, (0, default))
        try:
            value = read(text)
        except ValueError:
            value = None
        if value is None or not is_right(value):
            raise BadService(f"{shown(self._cert)}:{number}: {key} must be {words}")
        return value

    def extra(self) -> tuple[tuple[str, str], ...]:
        """What we have no meaning for."""
        return tuple((key, value) for key, (_, value) in self._pairs.items() if key not in _KEYS)


URL_WORDS = f"a URL as http://host:port/path, without blanks, of up to {URL_CHARACTERS_MAX} characters"


def check(service: Service) -> None:
    """What an administrator publishes: BadService when it can't be."""
    name = service.name
    if not valid_name(name):
        raise BadService(f"{name[:60]!r} is no service's name: 1 to 100 letters, digits and ._-")
    if name.lower() in CONTAINERS_OWN:
        raise BadService(f"{name}: a servlet container's own folder is no service")
    if not 0 <= service.cost <= COST_MAX:
        raise BadService(f"{name}: a weight is 0 to {COST_MAX:g}, not {service.cost}")
    if service.health not in HEALTH:
        raise BadService(f"{name}: health is one of {', '.join(HEALTH)}, not {service.health[:60]!r}")
    if service.url and not is_url(service.url):
        raise BadService(f"{name}: its url must be {URL_WORDS}")
    if service.path is None and not service.url:
        raise BadService(f"{name}: neither a file nor a url")
    if service.path is not None and (os.path.islink(service.path) or _found(service.path) is None):
        raise BadService(f"{shown(service.path)}: no such file or folder")
