"""How a service gets into the folder, changes there, and leaves for the graveyard: rows of renames.

Each change becomes visible by one rename, or not at all (the service first, its .bdcert last; a removal the other way round),
each step on the disk before the next. No crash undoes a change that is done; of one that is not, no half is live and nothing
is lost: at worst a new file stands under the old .bdcert, or what it was to replace waits in the graveyard.
Changes are made one at a time, whichever process makes them: whoever changes holds `changing`.
Whether a change may be made, and what a .bdcert says, is the business of services and bdcert.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Iterator

from bdserver.core.names import valid_name
from bdserver.errors import BadPackage, BadService, NoSpace
from bdserver.files import durable, pairs
from bdserver.files.bdcert import SUFFIX, Service
from bdserver.files.durable import shown

# Of kills in the middle of a change, remains lie in scratch, and old editions for calls that run. After an hour nobody is at
# work on them.
REMAINS_SECONDS = 3600.0
CHANGE_SECONDS = 5.0

_REMAINS = re.compile(r"\..+\.(?:new|moving|old)\.[0-9.]+")


class Moves:
    """Between the folder of what is offered, the graveyard, and scratch, where packages are unpacked."""

    def __init__(self, services_dir: str, graveyard_dir: str, scratch_dir: str):
        self.services_dir, self.graveyard_dir, self.scratch_dir = services_dir, graveyard_dir, scratch_dir

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """One change at a time. Its remains, if it is killed, are swept by a later one, or in time."""
        os.makedirs(self.scratch_dir, mode=0o700, exist_ok=True)
        path = os.path.join(self.scratch_dir, ".lock")
        with durable.open_lock(path) as file:
            durable.lock(file.fileno(), CHANGE_SECONDS, path)
            self.sweep()
            try:
                for folder in (self.services_dir, self.graveyard_dir):  # the steps of one that was killed come before ours
                    if os.path.isdir(folder):
                        durable.sync(folder)
                yield
            except OSError as error:
                if durable.is_full(error):
                    raise NoSpace(f"{shown(self.services_dir)}: {error.strerror}") from None
                raise

    def put(self, service: Service) -> None:
        """Offer it. What is offered under its name goes to the graveyard."""
        source, target = service.path, os.path.join(self.services_dir, service.name)
        if os.path.lexists(target) or os.path.isdir(target + SUFFIX):
            if source is not None and self._is_exchanged(source, service.name):
                source = None
            elif not (source is not None and _are_files(source, target) and self._is_linked_to_graveyard(service.name)):
                self.bury(service.name)
        if source is not None:
            _move(source, target)
        durable.sync(self.services_dir)
        pairs.write(target + SUFFIX, service.pairs())

    def renew(self, service: Service) -> None:
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

    def bury(self, name: str) -> None:
        """Out of the folder into the graveyard, where it takes the place of an older one of its name."""
        here, there = self._places(name)
        if os.path.lexists(here + SUFFIX) or not os.path.lexists(there + SUFFIX):
            self.clear(there)
        elif os.path.lexists(there):  # of a change that was killed, or a stray file: it is not to take a whole one's place
            there = os.path.join(self.graveyard_dir, f".{name}.unoffered")
            self.clear(there)
        # Else a burial was killed when the .bdcert alone was there: it goes on.
        for suffix in (SUFFIX, ""):  # the .bdcert first: from then on it is not offered
            if os.path.lexists(here + suffix):
                _move(here + suffix, there + suffix)
                durable.sync(self.services_dir)

    def dig_up(self, name: str) -> None:
        """Back from the graveyard into the folder, where there is none of this name."""
        here, there = self._places(name)
        if os.path.lexists(there) and os.path.lexists(here):  # of a change that was killed, or somebody is putting it there
            raise BadService(f"{shown(here)} is in the way, and is not offered: remove it first")
        if os.path.lexists(there):
            _move(there, here)
            durable.sync(self.services_dir)
        _move(there + SUFFIX, here + SUFFIX)
        durable.sync(self.services_dir)

    def clear(self, there: str) -> None:
        """Remove a service from the graveyard, the .bdcert first: no other one ever gets the rest of it."""
        for path in (there + SUFFIX, there):
            if os.path.lexists(path):
                _remove(path)
                durable.sync(self.graveyard_dir)

    def buried(self) -> list[str]:
        """Names of the services in the graveyard."""
        buried = (name.removesuffix(SUFFIX) for name in _names(self.graveyard_dir) if name.endswith(SUFFIX))
        return sorted(name for name in buried if valid_name(name))

    def clean(self, source: str | None) -> None:
        """Remove the folder in scratch that a package was unpacked to."""
        folder = os.path.dirname(os.path.abspath(source)) if source is not None else ""
        if os.path.dirname(folder) == os.path.abspath(self.scratch_dir):
            shutil.rmtree(folder, ignore_errors=True)

    def _is_exchanged(self, source: str, name: str) -> bool:
        """Whether what is here could change places with what is to replace it, so that something is offered all the while: the
        new one waits in the graveyard, and the old one stays there."""
        here, there = self._places(name)
        if _are_files(source, here) or not os.path.lexists(here) or not _is_regular(here + SUFFIX):
            return False
        self.clear(there)
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
        self.clear(there)
        if not (_is_linked(here, there) and _is_linked(here + SUFFIX, there + SUFFIX)):
            return False
        durable.sync(self.graveyard_dir)
        return True

    def _places(self, name: str) -> tuple[str, str]:
        if not os.path.isdir(self.graveyard_dir):
            os.makedirs(self.graveyard_dir, exist_ok=True)
            durable.sync(os.path.dirname(self.graveyard_dir) or ".")
        return os.path.join(self.services_dir, name), os.path.join(self.graveyard_dir, name)

    def sweep(self) -> None:
        """Remove what changes have left, once nobody is at work on it: another sweep at the same time harms nobody."""
        before = time.time() - REMAINS_SECONDS
        for folder in (self.scratch_dir, self.services_dir, self.graveyard_dir):
            for name in _names(folder):
                if _REMAINS.fullmatch(name) or (folder == self.scratch_dir and name != ".lock"):
                    path = os.path.join(folder, name)
                    with contextlib.suppress(OSError):  # another process' file that went its way meanwhile
                        if os.lstat(path).st_mtime < before:
                            _remove(path)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


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
