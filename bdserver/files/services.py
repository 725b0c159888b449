"""The services this node offers: the directory, the .bdcert beside each, the graveyard.

What is in the directory is live: an installation becomes visible by one rename, or not at all (the service first, its
.bdcert last; a removal the other way round), each on the disk before the next. No crash undoes a change that is done; of one
that is not, no half is live and nothing is lost: at worst a new file stands under the old .bdcert, or what it was to replace
waits in the graveyard. A broken .bdcert takes out its own service and no other, and is said.
A .bdcert is a regular file of this folder, and no complaint shows what stands in it: it goes to everybody who asks for STATUS,
and a symbolic link would make it tell of any file that the node may read.
Changes are made one at a time, whichever process makes them; readers wait for nobody.
What comes, goes or is renamed changes the folder's time, and counts at once. A .bdcert that somebody edits in place does not:
one process looks at each (`look`), and tells the others by a file, so that who serves a caller looks at two times alone.
Counting hits is hitlog's business, deciding what to retire is core.weight's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

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
from bdserver.errors import BadConfig, BadPackage, BadService, CantFind, NoSpace, Quarantined
from bdserver.files import durable, lines, pairs
from bdserver.files.durable import Stamp, shown
from bdserver.files.quarantine import Kind, Quarantine
from bdserver.files.settings import decimal

SUFFIX = ".bdcert"
HEALTH = ("none", "tcp", "http")
COST_MAX = 1e9
URL_CHARACTERS_MAX = 2000
# A signature of minisign's, its comment too.
SIGNATURE_CHARACTERS_MAX = 1000
# So many are read by one process, which has its time for them (quarantine.TRIAL_SECONDS): on a machine that is slow the next
# look goes on with the others.
READ_AT_ONCE = 100
# More than any host serves: beyond it somebody mistook the directory. So many records of .bdcert files are looked at within
# 10 ms, and the record that tells of them is 100 KiB.
SERVICES_MAX = 1000
# Retired replicas lie elsewhere too, or they would not have been copied; a hundred of them are kept to come back.
RETIRED_MAX = 100
# Of kills in the middle of a change, remains lie in scratch. After an hour nobody is at work on them.
REMAINS_SECONDS = 3600.0
CHANGE_SECONDS = 5.0
# What changed less than this ago may change again within the same tick of the file system's clock.
SETTLED_NS = 50_000_000

_KEYS = (
    "weight", "type", "url", "health", "arrived_at", "replicas", "copies",
    "edition", "original", "after", "signer", "signature",
)  # fmt: skip
# What stands for the parts of a URL that are filled in later (membership.service_url).
_FILLED_IN = {"{host}": "host", "{axis_port}": "80", "{axis_web_dir}": "dir", "{service}": "service"}
_REMAINS = re.compile(r"\..+\.(?:new|moving|old)\.[0-9.]+")
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


class _Look(NamedTuple):
    """What changes when a .bdcert does, or the being there of its service."""

    cert: Stamp | None  # None: gone while we looked
    has_service: bool

    def is_settled(self) -> bool:
        return self.cert is not None and _is_settled(self.cert)


class _Looks(NamedTuple):
    """The folder: the first by name of its .bdcert files, and how many there are."""

    by_name: dict[str, _Look]
    in_all: int


class _Read(NamedTuple):
    """What reading a .bdcert, which had this digest, came to."""

    look: _Look
    is_settled: bool
    digest: str
    service: Service | None
    complaints: list[str]


class Services:
    """The directory as it is now; every .bdcert is read again only when it changed."""

    def __init__(self, services_dir: str, graveyard_dir: str, scratch_dir: str, quarantine: Quarantine | None = None):
        self.services_dir, self.graveyard_dir, self.scratch_dir = services_dir, graveyard_dir, scratch_dir
        self._quarantine = quarantine or Quarantine("")
        self.complaints: list[str] = []
        self._edited = os.path.join(graveyard_dir, ".edited")  # touched when a look has found something
        self._read: dict[str, _Read] = {}
        self._all: dict[str, Service] = {}
        self._looks: _Looks | None = None
        self._told: _Looks | None = None
        self._seen: tuple[Stamp, Stamp | None] | None = None  # None: look again, something may change within the same tick

    # -- looking

    def all(self) -> dict[str, Service]:
        """name -> Service of everything that is live now. What is broken is left out, and in `complaints`."""
        try:
            seen = durable.stamp_of(os.stat(self.services_dir)), durable.stamp(self._edited)
            if seen != self._seen:
                self._look(seen)
        except OSError as error:
            self._seen = self._looks = None
            self._all, self.complaints = {}, [f"{shown(self.services_dir)}: {error.strerror}"]
        return self._all

    def look(self) -> None:
        """Look at each .bdcert, whatever the folder's time says, and tell the other processes if one has changed."""
        self.all()
        if self._looks is not None and any(_changed(self.services_dir, *each) for each in self._looks.by_name.items()):
            self._seen = None
            self.all()
        if self._looks != self._told:
            self._told = self._looks
            with contextlib.suppress(OSError):  # a full disk: then they find it when the folder changes
                os.makedirs(self.graveyard_dir, exist_ok=True)
                with durable.open_lock(self._edited):
                    os.utime(self._edited)

    def read_anew(self) -> None:
        """At the next look, read also those that could not be read, though nothing of them has changed."""
        self._read = {name: read for name, read in self._read.items() if read.service is not None}
        self._seen = self._looks = None

    def get(self, name: str) -> Service | None:
        """The service of that name, or None."""
        return self.all().get(name)

    def _look(self, seen: tuple[Stamp, Stamp | None]) -> None:
        is_settled, looks = _is_settled(seen[0]), _looks(self.services_dir)
        if looks != self._looks or not all(each.is_settled for each in self._read.values()):
            self._looks = looks if self._take(looks) else None
        is_settled = is_settled and all(each.is_settled for each in self._read.values())
        self._seen = seen if is_settled and self._looks is not None else None

    def _take(self, looks: _Looks) -> bool:
        """False when some could not be read now: they are as they were."""
        found = {name: self._known(name, look) for name, look in looks.by_name.items()}
        new = [name for name, read in found.items() if read is None]
        has_all = all(self._has_read(found, looks, new[at : at + READ_AT_ONCE]) for at in range(0, len(new), READ_AT_ONCE))
        read = {name: each for name in found if (each := found[name] or self._read.get(name)) is not None}
        complaints = [line for name in read for line in read[name].complaints]
        if looks.in_all > SERVICES_MAX:
            complaints.append(
                f"{shown(self.services_dir)}: of {looks.in_all} services only the first {SERVICES_MAX} by name are offered"
            )
        self._read = read
        self._all = {name: each.service for name, each in read.items() if each.service is not None}
        self.complaints = complaints
        return has_all

    def _has_read(self, found: dict[str, _Read | None], looks: _Looks, names: list[str]) -> bool:
        fresh = self._quarantine.read_elsewhere(lambda: {name: self._read_one(name, looks.by_name[name]) for name in names})
        found |= fresh or {}
        return fresh is not None

    def _known(self, name: str, look: _Look) -> _Read | None:
        """What was read, if the .bdcert is still the same: of one that may have changed within one tick, by its digest."""
        known = self._read.get(name)
        if known is None or known.look != look or not (known.is_settled or known.digest == _digest(self._cert(name))):
            return None
        return known._replace(is_settled=known.is_settled or look.is_settled())

    def _check_room(self, name: str) -> None:
        """One more would take the place of another."""
        if len(self.all()) >= SERVICES_MAX and name not in self.all():
            raise BadService(f"{name}: a node offers {SERVICES_MAX} services at most, and this one does: withdraw some first")

    def _cert(self, name: str) -> str:
        return os.path.join(self.services_dir, name + SUFFIX)

    def _read_one(self, name: str, look: _Look) -> _Read:
        is_settled, digest = look.is_settled(), _digest(self._cert(name))
        try:
            return _Read(look, is_settled, digest, self._read_service(self.services_dir, name), [])
        except (BadService, BadConfig, Quarantined) as error:
            return _Read(look, is_settled, digest, None, str(error).splitlines())

    def _read_service(self, folder: str, name: str) -> Service:
        """As read_service; Quarantined when it is left out."""
        cert = os.path.join(folder, name + SUFFIX)
        with self._quarantine.guard(Kind.SERVICE, _digest(cert), shown(cert)):
            return read_service(folder, name)

    # -- changing

    def publish(self, service: Service) -> None:
        """Offer a service whose file or folder lies at `path`, and is moved here, or which is registered by its url.

        A service of that name goes to the graveyard. Where the source lies in scratch, its folder goes with it."""
        try:
            _check(service)
            with self._changing():
                self._check_room(service.name)
                self._put(service)
        finally:
            self._clean(service.path)

    def install(self, folder: str, packed: Service, now: float) -> None:
        """Put an unpacked package live as a copy, and remove its folder. An original that is here stays as it is."""
        name = packed.name
        try:
            if name.lower() in CONTAINERS_OWN:
                raise BadPackage(f"{name}: a servlet container's own folder is no service")
            with self._changing():
                here = self.get(name)
                if here is None:
                    self._check_room(name)
                    self._put(packed._replace(type=DYNAMIC, arrived_at=now))
                elif here.is_copy:
                    self._renew(packed._replace(type=DYNAMIC, arrived_at=here.arrived_at))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def unpacked(self, folder: str, name: str) -> Service:
        """The service in a folder that a package was unpacked to; when there is none, BadPackage, and the folder is removed."""
        try:
            return self._read_service(folder, name).offered()
        except (BadConfig, BadService, Quarantined) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise BadPackage(str(error).splitlines()[0]) from None

    def relabel(self, name: str, change: Callable[[Service], Service]) -> Service | None:
        """Write anew what the .bdcert says, not what is offered: `change` gets it as it is now. None when it is gone."""
        with self._changing():
            service = self.get(name)
            if service is None:
                return None
            changed = change(service)
            if changed != service:
                pairs.write(os.path.join(self.services_dir, name) + SUFFIX, changed.pairs())
            return changed

    def _renew(self, service: Service) -> None:
        """Another edition of a copy takes the place of the one here, which nobody needs any more. It lies in scratch for a
        while, for calls that are running."""
        target = os.path.join(self.services_dir, service.name)
        source = service.path
        if source is None:
            raise BadPackage(f"{service.name}: a package without a service")
        try:
            durable.exchange(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            beside = os.path.join(self.services_dir, f".{service.name}.moving.{os.getpid()}")
            _move(source, beside)
            durable.exchange(beside, target)
            _move(beside, source)
        durable.sync(self.services_dir)
        old = os.path.join(self.scratch_dir, f".{service.name}.old.{os.getpid()}.{time.time_ns()}")
        os.rename(source, old)
        os.utime(old, follow_symlinks=False)
        pairs.write(target + SUFFIX, service.pairs())

    def withdraw(self, name: str) -> None:
        """Offer it no longer: its files go to the graveyard."""
        with self._changing():
            if self.get(name) is None:
                raise CantFind(f"{name}: not offered here")
            self._bury(name)

    def retire(self, name: str) -> None:
        """Send a replica to the graveyard, to make room. One that is gone already has made it."""
        with self._changing():
            service = self.get(name)
            if service is None:
                return
            if service.type != DYNAMIC:
                raise BadService(f"{name} is static: only its owner withdraws it")
            self._bury(name)
            self._forget_oldest_retired()

    def buried(self) -> list[str]:
        """Names of the services in the graveyard."""
        try:
            names = os.listdir(self.graveyard_dir)
        except OSError:
            return []
        buried = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
        return sorted(name for name in buried if valid_name(name))

    def restore(self, name: str) -> None:
        """Bring it back from the graveyard."""
        with self._changing():
            if name not in self.buried():
                raise CantFind(f"{name}: not in the graveyard")
            here, there = os.path.join(self.services_dir, name), os.path.join(self.graveyard_dir, name)
            if self.get(name) is not None:
                raise BadService(f"{name} is here already: withdraw it first")
            if os.path.lexists(there) and os.path.lexists(here):  # of a change that was killed, or somebody is putting it there
                raise BadService(f"{shown(here)} is in the way, and is not offered: remove it first")
            self._check_room(name)
            if os.path.lexists(there):
                _move(there, here)
                durable.sync(self.services_dir)
            _move(there + SUFFIX, here + SUFFIX)
            durable.sync(self.services_dir)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time. Its remains, if it is killed, are swept by a later one."""
        os.makedirs(self.scratch_dir, mode=0o700, exist_ok=True)
        path = os.path.join(self.scratch_dir, ".lock")
        with durable.open_lock(path) as file:
            durable.lock(file.fileno(), CHANGE_SECONDS, path)
            self._sweep()
            try:
                for folder in (self.services_dir, self.graveyard_dir):  # the steps of one that was killed come before ours
                    if os.path.isdir(folder):
                        durable.sync(folder)
                yield
            except OSError as error:
                if durable.is_full(error):
                    raise NoSpace(f"{shown(self.services_dir)}: {error.strerror}") from None
                raise

    def _put(self, service: Service) -> None:
        source, target = service.path, os.path.join(self.services_dir, service.name)
        if os.path.lexists(target) or os.path.isdir(target + SUFFIX):
            if source is not None and self._is_exchanged(source, service.name):
                source = None
            elif not (source is not None and _are_files(source, target) and self._is_linked_to_graveyard(service.name)):
                self._bury(service.name)
        if source is not None:
            _move(source, target)
        durable.sync(self.services_dir)
        pairs.write(target + SUFFIX, service.pairs())

    def _is_exchanged(self, source: str, name: str) -> bool:
        """Whether what is here could change places with what is to replace it, so that something is offered all the while: the
        new one waits in the graveyard, and the old one stays there."""
        here, there = self._places(name)
        if _are_files(source, here) or not os.path.lexists(here) or not _is_regular(here + SUFFIX):
            return False
        self._clear(there)
        _move(source, there)
        try:
            durable.sync(self.graveyard_dir)
            if _is_linked(here + SUFFIX, there + SUFFIX):
                durable.exchange(there, here)
                durable.sync(self.graveyard_dir)
                return True
        except OSError as error:  # another file system than that of the services, or one that can't
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS):
                raise
        _remove(there + SUFFIX)
        _move(there, source)
        return False

    def _is_linked_to_graveyard(self, name: str) -> bool:
        """Whether a file that another one is about to replace could get a second name in the graveyard, as its .bdcert, so that
        it is offered all the while. A folder can't be replaced so: it is not offered until the new one is there."""
        here, there = self._places(name)
        if not _is_regular(here + SUFFIX):  # a link or a pipe, which nobody was offered
            return False
        self._clear(there)
        if not (_is_linked(here, there) and _is_linked(here + SUFFIX, there + SUFFIX)):
            return False
        durable.sync(self.graveyard_dir)
        return True

    def _bury(self, name: str) -> None:
        here, there = self._places(name)
        if os.path.lexists(here + SUFFIX) or not os.path.lexists(there + SUFFIX):
            self._clear(there)
        elif os.path.lexists(there):  # of a change that was killed, or a stray file: it is not to take a whole one's place
            there = os.path.join(self.graveyard_dir, f".{name}.unoffered")
            self._clear(there)
        # Else a burial was killed when the .bdcert alone was there: it goes on.
        for suffix in (SUFFIX, ""):  # the .bdcert first: from then on it is not offered
            if os.path.lexists(here + suffix):
                _move(here + suffix, there + suffix)
                durable.sync(self.services_dir)

    def _places(self, name: str) -> tuple[str, str]:
        if not os.path.isdir(self.graveyard_dir):
            os.makedirs(self.graveyard_dir, exist_ok=True)
            durable.sync(os.path.dirname(self.graveyard_dir) or ".")
        return os.path.join(self.services_dir, name), os.path.join(self.graveyard_dir, name)

    def _clear(self, there: str) -> None:
        """Remove a service from the graveyard, the .bdcert first: no other one ever gets the rest of it."""
        for path in (there + SUFFIX, there):
            if os.path.lexists(path):
                _remove(path)
                durable.sync(self.graveyard_dir)

    def _forget_oldest_retired(self) -> None:
        retired = []
        for name in self.buried():
            with contextlib.suppress(BadService, BadConfig, OSError):
                if read_service(self.graveyard_dir, name).type == DYNAMIC:
                    path = os.path.join(self.graveyard_dir, name)
                    retired.append((os.lstat(path + SUFFIX).st_ctime_ns, path))
        for _, path in sorted(retired)[:-RETIRED_MAX]:
            self._clear(path)

    def _sweep(self) -> None:
        before = time.time() - REMAINS_SECONDS
        for folder in (self.scratch_dir, self.services_dir, self.graveyard_dir):
            names = os.listdir(folder) if os.path.isdir(folder) else []
            for name in names:
                if _REMAINS.fullmatch(name) or (folder == self.scratch_dir and name != ".lock"):
                    path = os.path.join(folder, name)
                    with contextlib.suppress(OSError):  # another process' file that went its way meanwhile
                        if os.lstat(path).st_mtime < before:
                            _remove(path)

    def _clean(self, source: str | None) -> None:
        """Remove the folder in scratch that a package was unpacked to."""
        folder = os.path.dirname(os.path.abspath(source)) if source is not None else ""
        if os.path.dirname(folder) == os.path.abspath(self.scratch_dir):
            shutil.rmtree(folder, ignore_errors=True)


# --- a .bdcert ----------------------------------------------------------------------------------------------------


def read_service(folder: str, name: str) -> Service:
    """The service `name` in a folder; BadService or BadConfig with FILE:LINE says what is wrong with its .bdcert."""
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
    if service.path is None and not url:
        raise BadService(f"{shown(cert)}: there is no {name} beside it, and it names no url")
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


def _digest(cert: str) -> str:
    """Of a .bdcert: its name, which is read too, and its content as far as there is one."""
    try:
        content = durable.read(cert, lines.FILE_BYTES_MAX, follow=False)[0]
    except OSError:  # its reader says why
        content = b""
    return blake2b(os.fsencode(os.path.basename(cert)) + b"\0" + content, digest_size=16).hexdigest()


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


def is_url(text: str) -> bool:
    """Whether this may be a service's URL, in which {host}, {axis_port}, {axis_web_dir} and {service} are filled in. What other
    hosts' browsers, balancers and health checks can't take apart must not get into the mesh."""
    if len(text) > URL_CHARACTERS_MAX or not text.isprintable() or " " in text:
        return False
    for name, value in _FILLED_IN.items():
        text = text.replace(name, value)
    try:
        parts = urlsplit(text)
        return bool(parts.scheme and parts.hostname and parts.port != 0)
    except ValueError:  # a [ without its ], or a port above 65535
        return False


def _check(service: Service) -> None:
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


# --- files --------------------------------------------------------------------------------------------------------


def _looks(folder: str) -> _Looks:
    """What tells that a .bdcert has changed, or that a service has come or gone."""
    certs, there = {}, set()
    with os.scandir(folder) as entries:
        for entry in entries:
            there.add(entry.name)
            if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                certs[entry.name.removesuffix(SUFFIX)] = entry
    first = sorted(certs)[:SERVICES_MAX]
    return _Looks({name: _Look(_stamp(certs[name]), name in there) for name in first}, len(certs))


def _changed(folder: str, name: str, look: _Look) -> bool:
    """Whether a .bdcert is not as it was when the folder was looked at. To list a folder takes much longer, if it is large."""
    try:
        return durable.stamp_of(os.lstat(os.path.join(folder, name + SUFFIX))) != look.cert
    except OSError:
        return True


def _stamp(entry: os.DirEntry[str]) -> Stamp | None:
    try:
        return durable.stamp_of(entry.stat(follow_symlinks=False))
    except OSError:  # gone meanwhile
        return None


def _is_settled(stamp: Stamp) -> bool:
    """Whether a change from now on would show in its ctime, which every change sets."""
    return abs(time.time_ns() - stamp.ctime_ns) > SETTLED_NS


def _are_files(source: str, target: str) -> bool:
    return os.path.isfile(source) and os.path.isfile(target)


def _is_regular(path: str) -> bool:
    return os.path.isfile(path) and not os.path.islink(path)


def _is_linked(source: str, target: str) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one without links
        return False
    return True


def _move(source: str, target: str) -> None:
    """One rename; from another file system by way of a dot name beside the target."""
    try:
        os.rename(source, target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    beside = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.moving.{os.getpid()}")
    _remove(beside)
    try:
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.copytree(source, beside, symlinks=True)
        else:
            shutil.copy2(source, beside, follow_symlinks=False)
        _sync_all(beside)
        os.rename(beside, target)
        durable.sync(os.path.dirname(target))
    except BaseException:
        _remove(beside)
        raise
    _remove(source)


def _sync_all(path: str) -> None:
    """A copy is on the disk, with all that is in it; symbolic links are so with their folder."""
    if os.path.islink(path):
        return
    durable.sync(path)
    for folder, folders, names in os.walk(path):
        for each in (os.path.join(folder, name) for name in folders + names):
            if not os.path.islink(each):
                durable.sync(each)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
