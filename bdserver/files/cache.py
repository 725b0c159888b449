"""The cache file: what this node knows of the mesh, shared by listener, discoverer and children.

A file of lines, each one a checksum and a JSON object: the first is a whole view, each further one what a save changed. They
are numbered by saves, so that a file which was cut, or is an older copy, is told from one that has grown. A reader takes no
lock; it remembers how far it read, and takes in the whole lines that came since. A change happens under the lock, on what is
in the file *now*, and adds a line with one write, and a sync when it says something of this node, which nobody else could
tell us again; when the changes outweigh the view, it is written anew. Nobody holds the lock on the network.

What this node knew once it does not lose with the file: when the file of a running node is gone, cut, damaged or of a newer
format, memory goes on and the file is made anew from it, by the first process that sees this and has the lock. Bad content is
set aside as `.corrupt`, and said; without memory, what stands before it counts. A file that merely can't be read now (no
descriptor left, no permission, a failing disk) is left as it is, and nothing is saved over it. No view is handed out that
lacks this node's own record, or has an older one than before; each version of it is signed on its way out of the lock. No crash
undoes what a save said of this node, so a generation never goes back. What a record means and how records merge is
core.membership's business.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any
from zlib import crc32

from bdserver.core import membership, statements
from bdserver.core.membership import Record
from bdserver.core.statements import Statement
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import Rival, View
from bdserver.errors import BDError, NoSpace, TooBusy
from bdserver.files import durable
from bdserver.files.durable import Stamp

# A file of another format is set aside. 4 is the first whose records are signed.
FORMAT = 4
# A save takes milliseconds. After this long, give up: the request is answered NO, and its caller retries.
LOCK_SECONDS = 2.0
# 20,000 records of a kilobyte, policies, and as much again in changes: beyond it the file is not ours.
FILE_BYTES_MAX = 128 << 20
# Changes may grow to the size of the view, and to this: so each byte is written anew once at most.
CHANGES_BYTES_MIN = 64 << 10
# The last bytes that were read must still be there when we come back, else it is another file with the same inode.
SEEN_BYTES = 64

log = logging.getLogger("bdserver.cache")


class _Known(NamedTuple):
    """What this process knows, and how far that is what the file says.

    Never changed but replaced, so the discoverer's threads need no lock: a thread that is late puts back an older one at
    worst, and the next look goes on from there."""

    view: View
    stamp: Stamp | None = None  # of the file when it was looked at
    offset: int = 0  # how far its whole lines went; 0 when the file does not say what we know, and is to be made anew
    seen: bytes = b""  # their last bytes
    first_bytes: int = 0  # the length of the first line
    save: int = 0  # the number of the last line


class _Damaged(ValueError):
    """A line is none of ours; `before`: what is known from those before it."""

    def __init__(self, why: str, before: _Known):
        super().__init__(f"{why}, and the lines before it count")
        self.before = before


class Cache:
    """The view on disk, and the newest decoded copy of it in memory (which nobody changes: changes go to copies).

    `seal` signs this node's own record. All that changes it passes the lock, so each version is signed once, and none is saved
    or told without."""

    def __init__(self, path: str, me: str, seal: Callable[[Record], Record] = lambda record: record):
        self.path = path
        self.me = me
        self.seal = seal
        self._could_read = self._could_save = True
        self._named: tuple[int, int] | None = None  # the file whose name is surely on the disk: device and inode
        self._known = _Known(View(me))

    def view(self) -> View:
        """The view of now: only what was added to the file is read."""
        known = self._now()
        if self._is_lost(known):
            with contextlib.suppress(TooBusy, NoSpace):  # whoever has the lock makes it anew; without space, the next save
                self._make_anew()
        return self._known.view

    def _make_anew(self) -> None:
        with self.locked(0):
            pass

    def _is_lost(self, known: _Known) -> bool:
        """Whether the file does not say what we know, though it could."""
        return self.me in known.view.records and not known.offset and self._could_read and self._could_save

    @contextlib.contextmanager
    def locked(self, seconds: float = LOCK_SECONDS) -> Iterator[View]:
        """A copy of the view of now, to change; saved on the way out if it was. TooBusy when the lock is not to be had; NoSpace
        when there can't be one, or when the file can't be read and nothing is known yet."""
        path = self.path + ".lock"
        try:
            let_go = _locked_now(path) or _locked_within(path, seconds)
        except OSError as error:
            raise NoSpace(f"{path}: {error.strerror}") from None
        try:
            known = self._now()
            if not self._could_read and self.me not in known.view.records:
                raise NoSpace(f"{self.path} can't be read, and nothing is known without it")
            view = known.view.copy()
            yield view
            view.seal(self.seal)
            if view.changes or self._is_lost(known):
                self._known = self._save(known, view)
        finally:
            let_go()

    def sweep(self) -> None:
        """Remove what a crash left half-written; at the start, when nobody else is at work here."""
        durable.sweep(self.path)

    # -- reading

    def _now(self) -> _Known:
        """What is known now: what the file says, if it changed since."""
        known = self._known
        if not self._could_save:
            return known
        if self._could_read and durable.is_still(self.path, known.stamp):
            return known
        stamp = durable.stamp(self.path)
        try:
            self._known = known = self._read(known, stamp) if stamp is not None else self._from_memory(known, None, "is gone")
        except OSError as error:
            if self._could_read:
                log.error("%s can't be read (%s): it is left as it is, going on in memory", self.path, error.strerror)
            self._could_read = False
        else:
            if not self._could_read and known.offset:
                log.warning("%s is read again", self.path)
            self._could_read = True
        return known

    def _read(self, known: _Known, stamp: Stamp) -> _Known:
        """Take in what came since; everything, when it is another file than before. OSError when it can't be read now."""
        try:
            descriptor = durable.open_regular(self.path)
        except FileNotFoundError:
            return self._from_memory(known, None, "is gone")
        except durable.Unfit as error:
            return self._set_aside(known, stamp, str(error.strerror))
        try:
            status = os.fstat(descriptor)
            stamp = durable.stamp_of(status)
            before = known if _continues(descriptor, stamp, known) else _Known(View(self.me))
            if status.st_size > FILE_BYTES_MAX:
                return self._set_aside(known, stamp, f"larger than {FILE_BYTES_MAX} bytes")
            # What comes meanwhile is for the next look; asking for more would take the memory for it first.
            data = os.pread(descriptor, status.st_size - before.offset, before.offset)
        finally:
            os.close(descriptor)
        try:
            fresh = _taken(before, data)._replace(stamp=stamp)
        except (ValueError, ArithmeticError, RecursionError, BDError) as error:
            if isinstance(error, _Damaged) and not known.view.records:
                known = error.before
            return self._set_aside(known, stamp, str(error))
        if fresh.save < known.save:  # cut, a copy of before, or made anew by a process that knew less
            known = known._replace(view=_with_newer_own(known.view, fresh.view))
            return self._from_memory(known, stamp, "is older than what this node knows")
        view = _with_newer_own(fresh.view, known.view)
        if view is fresh.view:
            return fresh
        log.warning("%s does not say what this node last said of itself: made anew", self.path)
        return fresh._replace(view=view, offset=0)

    def _from_memory(self, known: _Known, stamp: Stamp | None, why: str) -> _Known:
        if known.view.records:
            log.warning("%s %s: made anew from memory", self.path, why)
        return _Known(known.view, stamp, save=known.save)

    def _set_aside(self, known: _Known, stamp: Stamp, why: str) -> _Known:
        """Keep what can't be read for whoever wants to look, and go on from memory, or from hints."""
        goes_on = "made anew from what is known" if known.view.records else "starting from hints"
        if durable.stamp(self.path) != stamp:  # another process has been faster: the next look sees what it did
            return _Known(known.view, save=known.save)
        aside = self.path + ".corrupt"
        if os.path.isdir(aside) or os.path.isdir(self.path):  # a rename would not replace it, or not replace by it
            aside += f".{time.time_ns()}"
        try:
            os.rename(self.path, aside)
        except OSError as error:
            log.error("%s can't be read (%s), nor set aside (%s): %s", self.path, why, error.strerror, goes_on)
            return _Known(known.view, stamp, save=known.save)
        log.error("%s can't be read (%s): set aside as %s, %s", self.path, why, aside, goes_on)
        return _Known(known.view, save=known.save)

    # -- saving, under the lock

    def _save(self, known: _Known, view: View) -> _Known:
        """A full disk is said once; memory goes on being right."""
        changes, view.changes = changes_between(known.view, view, view.touched), 0
        if not self._could_read:
            return known._replace(view=view)
        says_of_us = not _OURS.isdisjoint(changes) or view.records.get(self.me) is not known.view.records.get(self.me)
        line = _line(known.save + 1, changes)
        is_short = known.offset + len(line) < 2 * known.first_bytes + CHANGES_BYTES_MIN
        try:
            if self._could_save and known.offset and is_short and os.path.exists(self.path):
                known = self._append(known, line, is_synced=says_of_us)
            else:
                known = self._write_anew(view, known.save + 1)
        except (OSError, NoSpace) as error:
            if self._could_save:
                why = error.strerror if isinstance(error, OSError) else os.strerror(errno.ENOSPC)
                log.error("%s can't be saved (%s): going on in memory", self.path, why)
            self._could_save = False
        else:
            if not self._could_save:
                log.warning("%s is saved again", self.path)
            self._could_save = True
        return known._replace(view=view)

    def _append(self, known: _Known, line: bytes, is_synced: bool) -> _Known:
        descriptor = durable.open_regular(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(descriptor).st_size > known.offset:
                log.warning("%s ended in half a line, as a full disk or a crash leaves it: cut off", self.path)
                os.ftruncate(descriptor, known.offset)
            try:
                durable.append(descriptor, line)
                if is_synced:
                    os.fdatasync(descriptor)
                    self._settle(descriptor)
            except OSError:
                os.ftruncate(descriptor, known.offset)
                raise
            stamp = durable.stamp_of(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        seen = (known.seen + line)[-SEEN_BYTES:]
        return known._replace(stamp=stamp, offset=known.offset + len(line), seen=seen, save=known.save + 1)

    def _settle(self, descriptor: int) -> None:
        """Another process may have been killed between the rename of this file and the sync of its folder."""
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != self._named:
            durable.sync(os.path.dirname(self.path) or ".")
            self._named = status.st_dev, status.st_ino

    def _write_anew(self, view: View, save: int) -> _Known:
        line = encode(view, save)
        if len(line) > FILE_BYTES_MAX:
            raise OSError(errno.EFBIG, f"more than {FILE_BYTES_MAX} bytes, which nobody would read")
        stamp = durable.replace(self.path, [line])
        self._named = stamp.device, stamp.inode
        return _Known(view, stamp, len(line), line[-SEEN_BYTES:], len(line), save)


# What nobody else would tell us again, were it lost, or not in time; and so is our own record.
_OURS = frozenset(("generation", "hints", "statements"))


def _with_newer_own(view: View, other: View) -> View:
    """The view, and of the two records of this node itself the newer one: what was said of it once never goes back."""
    mine, others = view.records.get(view.me), other.records.get(view.me)
    if others is None or (mine is not None and mine.version >= others.version):
        return view
    twin = view.copy()
    twin.put(others)
    twin.generation = max(view.generation, other.generation)
    return twin


def _continues(descriptor: int, stamp: Stamp, known: _Known) -> bool:
    """Whether this is the file that we read before, only longer. One that changed and did not grow was written to by others."""
    if known.stamp is None or not known.offset or stamp[:2] != known.stamp[:2] or stamp.size < known.offset:
        return False
    if stamp.size == known.offset and stamp != known.stamp:
        return False
    return os.pread(descriptor, len(known.seen), known.offset - len(known.seen)) == known.seen


def _taken(known: _Known, data: bytes) -> _Known:
    """What is known with these bytes behind it. Whole lines alone: of the last one, a save that is under way may have written
    half, and one that the power was cut from any part. ValueError or BadRequest when they are none of ours."""
    *whole, rest = data.split(b"\n")
    view, first_bytes, save = known.view, known.first_bytes, known.save
    if known.offset:
        view = view.copy() if whole else view
    else:
        if not whole:
            raise ValueError("the first line is cut")
        first, *whole = whole
        view, save = decode(first, view.me)
        first_bytes = len(first) + 1
    for number, line in enumerate(whole, 1):
        try:
            content = _content(line)
            if content.get("save") != save + 1:
                raise ValueError(f"save {content.get('save')!r} where {save + 1} should be")
        except ValueError as error:
            if number < len(whole) or rest:
                raise _Damaged(str(error), _Known(view, save=save)) from None
            rest = line + b"\n"
            break
        save += 1
        _apply(view, content)
    data = data[: len(data) - len(rest)]
    return _Known(view, None, known.offset + len(data), (known.seen + data)[-SEEN_BYTES:], first_bytes, save)


# --- lines --------------------------------------------------------------------------------------------------------


def _line(save: int, changes: dict[str, Any]) -> bytes:
    text = json.dumps({"save": save, **changes}, separators=(",", ":")).encode()
    return b"%08x %b\n" % (crc32(text), text)


def _content(line: bytes) -> dict[str, Any]:
    """The object in a line; ValueError when it is not as it was written."""
    text = line[9:]
    if line[:9] != b"%08x " % crc32(text):
        raise ValueError("a line with a wrong checksum")
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("a line that is no object")
    return content


def encode(view: View, save: int = 1) -> bytes:
    """The first line: a whole view, which is what changes an empty one into it, with the format's number before it."""
    everybody = view.records.keys() | view.heard_at.keys()
    return _line(save, {"format": FORMAT, **changes_between(View(view.me, -1), view, everybody)})


def decode(line: bytes, me: str) -> tuple[View, int]:
    """The view in a first line, without its end, and the save's number; ValueError or BadRequest when it is damaged, foreign or
    of another format."""
    content = _content(line)
    number, save = content.get("format"), content.get("save", 0)
    if number != FORMAT:
        raise ValueError(f"format {number!r}, not {FORMAT}"[:80])
    if "generation" not in content or type(save) is not int:
        raise ValueError("a field is missing or wrong: generation, save")
    view = View(me)
    _apply(view, content)
    return view, save


def changes_between(old: View, new: View, touched: Collection[str]) -> dict[str, Any]:
    """What makes the old view the new one, which differ in what they say of these nodes; None stands for what is gone."""
    content: dict[str, Any] = {}
    if new.generation != old.generation:
        content["generation"] = new.generation
    names = sorted(touched, key=lambda name: (name != new.me, name))  # our own first
    changed = [new.records[name] for name in names if name in new.records]
    content["records"] = [membership.as_json(each) for each in changed if old.records.get(each.name) is not each]
    content["gone"] = [name for name in names if name in old.records and name not in new.records]
    if new.hints != old.hints:
        content["hints"] = sorted(new.hints)
    content["heard_at"] = _differing(old.heard_at, new.heard_at, names)
    for field in ("policies", "certificates"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            content[field] = _differing(before, after, before.keys() | after.keys())
    if new.statements != old.statements:
        before = {key: each.as_json() for key, each in old.statements.items()}
        after = {key: each.as_json() for key, each in new.statements.items()}
        content["statements"] = _differing(before, after, before.keys() | after.keys())
    if new.rival != old.rival:
        content["rival"] = new.rival
    return {key: value for key, value in content.items() if value or key in ("hints", "rival", "generation")}


def _differing(before: dict[str, Any], after: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: after.get(key) for key in keys if before.get(key) != after.get(key)}


def _apply(view: View, content: dict[str, Any]) -> None:
    try:
        if "generation" in content:
            view.generation = int(content["generation"])
        for name in content.get("gone", ()):
            view.remove(name)
        for value in content.get("records", ()):
            view.put(membership.from_json(value))
        if "hints" in content:
            view.hints = set(map(str, content["hints"]))
        _merge(view.policies, content.get("policies", {}), str)
        _merge(view.certificates, content.get("certificates", {}), str)
        _merge(view.heard_at, content.get("heard_at", {}), float)
        _merge(view.statements, content.get("statements", {}), _statement)
        if "rival" in content:
            view.rival = Rival(*content["rival"]) if content["rival"] else None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a field is missing or wrong: {error}") from None


def _statement(value: Any) -> Statement:
    statement = statements.from_json(value)
    statements.meaning(statement)
    return statement


def _merge(known: dict[str, Any], said: dict[str, Any], kind: Callable[[Any], Any]) -> None:
    for key, value in said.items():
        if value is None:
            known.pop(key, None)
        else:
            known[str(key)] = kind(value)


# --- the lock -----------------------------------------------------------------------------------------------------


def _locked_now(path: str) -> Callable[[], None] | None:
    """Hold the lock, if nobody has it, as nearly always: what lets it go."""
    descriptor = durable.open_regular(path, os.O_RDWR | os.O_CREAT, follow=False, mode=0o644)
    with contextlib.ExitStack() as held:
        held.callback(os.close, descriptor)
        with contextlib.suppress(TooBusy):
            durable.lock(descriptor, 0, path)
            held.callback(durable.unlock, descriptor)  # since a process that we have forked has the descriptor, too
            if os.fstat(descriptor).st_nlink:
                return held.pop_all().close
    return None


def _locked_within(path: str, seconds: float) -> Callable[[], None]:
    """Wait for the lock: what lets it go; TooBusy when it is not to be had."""
    from filelock import FileLock, Timeout  # here: it takes a start longer to import than all that it does under the lock

    lock = FileLock(path, timeout=max(seconds, 0))
    try:
        lock.acquire(poll_interval=0.005)
    except Timeout:
        raise TooBusy(f"{path} was not to be had in {seconds:.1f} s") from None
    return lock.release
