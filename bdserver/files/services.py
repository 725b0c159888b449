"""The services this node offers: what is live in the folder, and changing that.

A service with its .bdcert in the folder is live. A broken .bdcert takes out its own service and no other, and is said; one that
breaks while we look takes out none.
Readers wait for nobody; changes are made one at a time, and are there whole or not at all (moves).
What comes, goes or is renamed changes the folder's time, and counts at once. A .bdcert that somebody edits in place does not:
one process looks at each (`look`), and tells the others by a file, so that who serves a caller looks at two times alone.
What somebody writes in place is empty or cut for a moment: what a .bdcert said before counts until the new text has rested, and
nothing is written over it meanwhile. One that a node has written shows that it is whole, and counts at once.
What a .bdcert says is the business of bdcert, counting hits hitlog's; deciding what to retire is core.weight's.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import time
from collections.abc import Callable

from bdserver.core.membership import DYNAMIC
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig, BadPackage, BadService, CantFind, Quarantined, TooBusy
from bdserver.files import bdcert, durable, pairs
from bdserver.files.bdcert import SUFFIX, Service, digest_of, read_service
from bdserver.files.durable import Stamp, shown
from bdserver.files.moves import Moves
from bdserver.files.quarantine import Kind, Quarantine

# So many are read by one process, which has its time for them (quarantine.TRIAL_SECONDS): on a machine that is slow the next
# look goes on with the others.
READ_AT_ONCE = 100
# More than any host serves: beyond it somebody mistook the directory. So many records of .bdcert files are looked at within
# 10 ms, and the record that tells of them is 100 KiB.
SERVICES_MAX = 1000
# Retired replicas lie elsewhere too, or they would not have been copied; a hundred of them are kept to come back.
RETIRED_MAX = 100
# What changed less than this ago may change again within the same tick of the file system's clock; of some that is a second.
SETTLED_NS, SETTLED_NS_COARSE = 50_000_000, 1_000_000_000
# After so long it is said that a .bdcert does not rest; one that was emptied is looked at again so often.
RESTLESS_SECONDS, AGAIN_SECONDS = 10.0, 1.0


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
    is_whole: bool  # a node has written it


class Services:
    """The directory as it is now; every .bdcert is read again only when it changed."""

    def __init__(self, services_dir: str, graveyard_dir: str, scratch_dir: str, quarantine: Quarantine | None = None):
        self.services_dir, self.graveyard_dir, self.scratch_dir = services_dir, graveyard_dir, scratch_dir
        self._moves = Moves(services_dir, graveyard_dir, scratch_dir)
        self._quarantine = quarantine or Quarantine("")
        self.complaints: list[str] = []
        self._edited = os.path.join(graveyard_dir, ".edited")  # touched when a look has found something
        self._read: dict[str, _Read] = {}
        self._all: dict[str, Service] = {}
        self._looks: _Looks | None = None
        self._told: _Looks | None = None
        self._seen: tuple[Stamp, Stamp | None] | None = None  # None: look again, something may change within the same tick
        # What was written, and is not believed whole: since when, by the monotonic clock, and when to look at it again.
        self._restless: dict[str, float] = {}
        self._again_at = math.inf

    # -- looking

    def all(self) -> dict[str, Service]:
        """name -> Service of everything that is live now. What is broken is in `complaints`: one that was well before is as it
        was then, another is left out."""
        known = self._seen
        if (
            known is not None
            and durable.is_still(self.services_dir, known[0])
            and durable.is_still(self._edited, known[1])
            and (not self._restless or time.monotonic() < self._again_at)
        ):
            return self._all
        try:
            self._look((durable.stamp_of(os.stat(self.services_dir)), durable.stamp(self._edited)))
        except OSError as error:
            self._seen = self._looks = None
            self.complaints = [f"{shown(self.services_dir)}: {error.strerror}"]
            if not durable.is_passing(error) and error.errno != errno.EACCES:  # what can't be looked at may be there as ever
                self._all = {}
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
        self._read = {
            name: read._replace(look=_Look(None, False)) if read.complaints else read
            for name, read in self._read.items()
            if read.service is not None
        }
        self._seen = self._looks = None

    def get(self, name: str) -> Service | None:
        """The service of that name, or None."""
        return self.all().get(name)

    def _look(self, seen: tuple[Stamp, Stamp | None]) -> None:
        is_settled, looks = _is_settled(seen[0]), _looks(self.services_dir)
        if looks != self._looks or self._restless or not all(each.is_settled for each in self._read.values()):
            self._looks = looks if self._take(looks, seen[0]) else None
        is_settled = is_settled and all(each.is_settled for each in self._read.values())
        self._seen = seen if is_settled and self._looks is not None else None

    def _take(self, looks: _Looks, folder: Stamp) -> bool:
        """False when some could not be read now: they are as they were."""
        found = {name: self._known(name, look) for name, look in looks.by_name.items()}
        found |= self._kept(found, looks, folder)
        new = [name for name, read in found.items() if read is None]
        has_all = all(self._has_read(found, looks, new[at : at + READ_AT_ONCE]) for at in range(0, len(new), READ_AT_ONCE))
        read = {name: each for name in found if (each := found[name] or self._read.get(name)) is not None}
        complaints = [line for name in read for line in read[name].complaints]
        before = time.monotonic() - RESTLESS_SECONDS
        complaints += [RESTLESS % shown(self._cert(name)) for name, at in self._restless.items() if at < before]
        if looks.in_all > SERVICES_MAX:
            complaints.append(
                f"{shown(self.services_dir)}: of {looks.in_all} services only the first {SERVICES_MAX} by name are offered"
            )
        self._read = read
        live = {name: each.service for name, each in read.items() if each.service is not None}
        if live != self._all:  # else it stays the same one: by that others see that nothing has changed
            self._all = live
        self.complaints = complaints
        return has_all

    def _has_read(self, found: dict[str, _Read | None], looks: _Looks, names: list[str]) -> bool:
        """Take in what was read, which may have been begun at an earlier look; whether these are among it."""

        def read() -> dict[str, _Read]:
            return {name: self._read_one(name, looks.by_name[name]) for name in names}

        fresh = self._quarantine.read_elsewhere("services", read) or {}
        found |= {name: each for name, each in fresh.items() if name in found}
        return all(name in fresh and fresh[name].look == looks.by_name[name] for name in names)

    def _known(self, name: str, look: _Look) -> _Read | None:
        """What was read, if the .bdcert is still the same: of one that may have changed within one tick, by its digest."""
        known = self._read.get(name)
        if known is None or known.look != look or not (known.is_settled or known.digest == digest_of(self._cert(name))):
            return None
        return known._replace(is_settled=known.is_settled or look.is_settled())

    def _kept(self, found: dict[str, _Read | None], looks: _Looks, folder: Stamp) -> dict[str, _Read]:
        """Of what was read before, what counts though there is another .bdcert now, or none: that has just been written."""
        before, changed_at = self._restless, {}
        for name, known in self._read.items():
            look = looks.by_name.get(name)
            if found.get(name) is not None or known.service is None or known.look.cert is None:
                continue
            if look is None and known.service.is_here and not os.path.lexists(self._cert(name)):
                if os.path.lexists(os.path.join(self.services_dir, name)):  # else both are gone: it was withdrawn
                    changed_at[name] = folder
            elif look is not None and look.cert is not None and look.has_service >= known.look.has_service:
                changed_at[name] = look.cert
        kept = {name: self._read[name] for name, stamp in changed_at.items() if self._is_being_written(name, stamp)}
        now = time.monotonic()
        self._restless = {name: before.get(name, now) for name in kept}
        self._again_at = now + min((durable.rests_in(changed_at[name]) or AGAIN_SECONDS for name in kept), default=0.0)
        return kept

    def _is_being_written(self, name: str, stamp: Stamp) -> bool:
        """Whether what has changed at this time took the place of what was whole, and may not be whole itself. What is empty
        never is: a full disk leaves it so, and an upload that falters."""
        known = self._read[name]
        is_emptied = not stamp.size and known.look.cert is not None and known.look.cert.size > 0
        if not (is_emptied or durable.rests_in(stamp) > 0) or bdcert.is_whole(self._cert(name)):
            return False
        return self._was_whole(known, stamp)

    def _was_whole(self, known: _Read, now: Stamp) -> bool:
        """Whether what was read before had rested when it was changed, or a node had written it."""
        before = known.look.cert
        return known.is_whole or (before is not None and abs(now.ctime_ns - before.ctime_ns) > durable.REST_NS)

    def _check_rested(self, name: str) -> None:
        """TooBusy while somebody is writing it: who has the file open would go on with one that has no name any more."""
        cert, known = self._cert(name), self._read.get(name)
        now = durable.stamp(cert)
        is_read = now is not None and known is not None and known.look.cert == now and not known.complaints
        if not is_read or (durable.rests_in(now) > 0 and not bdcert.is_whole(cert)):
            self._seen = None
            raise TooBusy(f"{shown(cert)}: is being changed by hand: it is written by the node when it has rested for a second")

    def _check_room(self, name: str) -> None:
        """One more would take the place of another."""
        if len(self.all()) >= SERVICES_MAX and name not in self.all():
            raise BadService(f"{name}: a node offers {SERVICES_MAX} services at most, and this one does: withdraw some first")

    def _cert(self, name: str) -> str:
        return os.path.join(self.services_dir, name + SUFFIX)

    def _read_one(self, name: str, look: _Look) -> _Read:
        cert = self._cert(name)
        is_settled, digest, is_whole = look.is_settled(), digest_of(cert), bdcert.is_whole(cert)
        try:
            return _Read(look, is_settled, digest, self._read_service(self.services_dir, name), [], is_whole)
        except (BadService, BadConfig, Quarantined) as error:
            complaints = str(error).splitlines()
            if isinstance(error.__cause__, OSError) and durable.is_passing(error.__cause__):
                known = self._read.get(name)  # it can't be read now: it is as it was, and is read again at the next look
                return _Read(_Look(None, False), False, digest, known.service if known else None, complaints, False)
            return _Read(look, is_settled, digest, self._said_before(name, look), complaints, False)

    def _said_before(self, name: str, look: _Look) -> Service | None:
        """What counts in place of a .bdcert that is wrong: what it said before, as long as its service is there. It may have
        been cut for longer than anybody waits, or for good."""
        known = self._read.get(name)
        if known is None or known.service is None or look.cert is None or (known.service.is_here and not look.has_service):
            return None
        return known.service if self._was_whole(known, look.cert) or known.complaints else None

    def _read_service(self, folder: str, name: str) -> Service:
        """As read_service; Quarantined when it is left out."""
        cert = os.path.join(folder, name + SUFFIX)
        with self._quarantine.guard(Kind.SERVICE, digest_of(cert), shown(cert)):
            return read_service(folder, name)

    # -- changing

    def publish(self, service: Service) -> None:
        """Offer a service whose file or folder lies at `path`, and is moved here, or which is registered by its url.

        A service of that name goes to the graveyard. Where the source lies in scratch, its folder goes with it."""
        try:
            bdcert.check(service)
            with self._moves.changing():
                self._check_room(service.name)
                self._moves.put(service)
        finally:
            self._moves.clean(service.path)

    def install(self, folder: str, packed: Service, now: float) -> None:
        """Put an unpacked package live as a copy, and remove its folder. An original that is here stays as it is."""
        name = packed.name
        try:
            if name.lower() in bdcert.CONTAINERS_OWN:
                raise BadPackage(f"{name}: a servlet container's own folder is no service")
            with self._moves.changing():
                here = self.get(name)
                if here is None:
                    self._check_room(name)
                    if os.path.lexists(self._cert(name)):
                        raise BadPackage(
                            f"{shown(self._cert(name))}: is in the way, and what is wrong with it must be mended first"
                        )
                    self._moves.put(packed._replace(type=DYNAMIC, arrived_at=now))
                elif here.is_copy:
                    self._moves.renew(packed._replace(type=DYNAMIC, arrived_at=here.arrived_at))
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
        """Write anew what the .bdcert says, not what is offered: `change` gets it as it is now. None when it is gone; TooBusy
        while somebody is writing it."""
        with self._moves.changing():
            service = self.get(name)
            if service is None:
                return None
            changed = change(service)
            if changed != service:
                self._check_rested(name)
                pairs.write(self._cert(name), changed.pairs())
            return changed

    def withdraw(self, name: str) -> None:
        """Offer it no longer: its files go to the graveyard."""
        with self._moves.changing():
            if self.get(name) is None:
                raise CantFind(f"{name}: not offered here")
            self._moves.bury(name)

    def retire(self, name: str) -> None:
        """Send a replica to the graveyard, to make room. One that is gone already has made it."""
        with self._moves.changing():
            service = self.get(name)
            if service is None:
                return
            if service.type != DYNAMIC:
                raise BadService(f"{name} is static: only its owner withdraws it")
            self._moves.bury(name)
            self._forget_oldest_retired()

    def restore(self, name: str) -> None:
        """Bring it back from the graveyard."""
        with self._moves.changing():
            if name not in self.buried():
                raise CantFind(f"{name}: not in the graveyard")
            if self.get(name) is not None:
                raise BadService(f"{name} is here already: withdraw it first")
            self._check_room(name)
            self._moves.dig_up(name)
            service = self.get(name)
            if service is not None:  # a rename looks as a change does: now it shows that it is whole
                pairs.write(self._cert(name), service.pairs())

    def buried(self) -> list[str]:
        """Names of the services in the graveyard."""
        return self._moves.buried()

    def sweep(self) -> None:
        """Remove what changes have left: old editions, and remains of those that were killed."""
        self._moves.sweep()

    def _forget_oldest_retired(self) -> None:
        retired = []
        for name in self.buried():
            with contextlib.suppress(BadService, BadConfig, OSError):
                if read_service(self.graveyard_dir, name).type == DYNAMIC:
                    path = os.path.join(self.graveyard_dir, name)
                    retired.append((os.lstat(path + SUFFIX).st_ctime_ns, path))
        for _, path in sorted(retired)[:-RETIRED_MAX]:
            self._moves.clear(path)


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
    return durable.age_ns(stamp) > (SETTLED_NS if stamp.ctime_ns % SETTLED_NS_COARSE else SETTLED_NS_COARSE)


RESTLESS = "%s: is empty, or written again and again: what it said before counts until it is whole, and has rested for a second"
