"""The cache file: what this node knows of the mesh, shared by listener, discoverer and children.

A file of lines, each one JSON object: the first is a whole view, each further one what a save changed. A reader takes
no lock; it remembers how far it read, and takes in the whole lines that came since. A change happens under the lock, on
what is in the file *now*, and adds a line with one write and a sync; when the changes outweigh the view, it is written
anew: write-new, fsync, rename, fsync of the folder. Nobody holds the lock on the network. A file that can't be read is
set aside as `.corrupt`, and said. What a record means and how records merge is core.membership's business.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from bdserver.core import membership
from bdserver.core.membership import View
from bdserver.errors import BDError, NoSpace, TooBusy

# 1 was the first line alone, without its end.
FORMAT = 2
# A save takes milliseconds; who waits longer than this for the lock had better answer NO and be asked again.
LOCK_SECONDS = 2.0
# 20,000 records of a kilobyte, policies, and as much again in changes: beyond it the file is not ours.
FILE_BYTES_MAX = 128 << 20
# Changes may grow to the size of the view, and to this: so each byte is written anew once at most.
CHANGES_BYTES_MIN = 64 << 10
# The last bytes that were read must still be there when we come back, else it is another file with the same inode.
SEEN_BYTES = 64

log = logging.getLogger("bdserver.cache")


class _Known(NamedTuple):
    """What was read: the view, the file's stamp then, how far its whole lines went, their last bytes, the first one's length.

    Never changed but replaced, so the discoverer's threads need no lock: whoever is late puts back an older one at worst,
    and the next look goes on from there."""

    view: View
    stamp: tuple[int, ...] | None = None
    offset: int = 0
    seen: bytes = b""
    first_bytes: int = 0


class Cache:
    """The view on disk, and the newest decoded copy of it in memory (which nobody changes: changes go to copies)."""

    def __init__(self, path: str, me: str):
        self.path = path
        self.me = me
        self._could_save = True
        self._known = _Known(View(me))

    def view(self) -> View:
        """The view of now: only what was added to the file is read."""
        return self._now().view

    def _now(self) -> _Known:
        known = self._known
        if self._could_save:
            stamp = self._stamp_now()
            if stamp != known.stamp:
                self._known = known = self._read(known) if stamp else _Known(View(self.me))
        return known

    @contextlib.contextmanager
    def locked(self, seconds: float = LOCK_SECONDS) -> Iterator[View]:
        """A copy of the view of now, to change; saved on the way out if it was. TooBusy when the lock can't be had."""
        lock = FileLock(self.path + ".lock", timeout=max(seconds, 0))
        try:
            lock.acquire(poll_interval=0.005)
        except Timeout:
            raise TooBusy(f"{self.path}.lock was not to be had in {seconds:.1f} s") from None
        except OSError as error:
            raise NoSpace(f"{self.path}.lock: {error.strerror}") from None
        try:
            known = self._now()
            view = known.view.copy()
            yield view
            if view.changes:
                self._known = self._save(known, view)
        finally:
            lock.release()

    def sweep(self) -> None:
        """Remove what a crash left half-written; at the start, when nobody else is at work here."""
        for path in glob.glob(glob.escape(self.path) + ".new.*"):
            with contextlib.suppress(OSError):
                os.unlink(path)

    # -- reading

    def _stamp_now(self) -> tuple[int, ...] | None:
        try:
            return _stamp(os.stat(self.path))
        except OSError:
            return None

    def _read(self, known: _Known) -> _Known:
        """Take in what came since; everything, when it is another file than before."""
        try:
            with open(self.path, "rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                stamp = _stamp(status)
                if not _continues(file.fileno(), stamp, known):
                    known = _Known(View(self.me))
                # What comes meanwhile is for the next look; asking for more would take the memory for it first.
                data = os.pread(file.fileno(), min(status.st_size, FILE_BYTES_MAX + 1) - known.offset, known.offset)
            return self._taken(known, data)._replace(stamp=stamp)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, BDError) as error:
            self._set_aside(error)
        return _Known(View(self.me))

    def _taken(self, known: _Known, data: bytes) -> _Known:
        """Whole lines alone: of the last one, a save that is under way may have written half."""
        *lines, rest = data.split(b"\n")
        view, first_bytes = known.view, known.first_bytes
        if known.offset:
            view = view.copy() if lines else view
        else:
            first, *lines = lines or [rest]  # format 1 had no end of the line
            view, first_bytes = decode(first, self.me), len(first) + 1
        for line in lines:
            apply(view, line)
        whole = data[: len(data) - len(rest)]
        return _Known(view, None, known.offset + len(whole), (known.seen + whole)[-SEEN_BYTES:], first_bytes)

    def _set_aside(self, error: Exception) -> None:
        """Keep the unreadable file for whoever wants to look, and go on from hints."""
        with contextlib.suppress(OSError):
            os.replace(self.path, self.path + ".corrupt")
        log.error("%s can't be read (%s): set aside as %s.corrupt, starting from hints", self.path, error, self.path)

    # -- saving, under the lock

    def _save(self, known: _Known, view: View) -> _Known:
        """A full disk is said once; memory goes on being right."""
        line = _line(changes_between(known.view, view))
        view.changes = 0
        try:
            if self._could_save and known.offset and known.offset + len(line) < 2 * known.first_bytes + CHANGES_BYTES_MIN:
                known = self._append(known, line)
            else:
                known = self._write_anew(view)
        except OSError as error:
            if self._could_save:
                log.error("%s can't be saved (%s): going on in memory", self.path, error.strerror)
            self._could_save = False
        else:
            if not self._could_save:
                log.warning("%s is saved again", self.path)
            self._could_save = True
        return known._replace(view=view)

    def _append(self, known: _Known, line: bytes) -> _Known:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, known.offset)  # half a line, if a full disk or a crash left one
            try:
                written = os.pwrite(descriptor, line, known.offset)
                if written != len(line):
                    os.pwrite(descriptor, line[written:], known.offset + written)  # this raises, and says why
                os.fdatasync(descriptor)
            except OSError:
                os.ftruncate(descriptor, known.offset)
                raise
            stamp = _stamp(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        seen = (known.seen + line)[-SEEN_BYTES:]
        return known._replace(stamp=stamp, offset=known.offset + len(line), seen=seen)

    def _write_anew(self, view: View) -> _Known:
        new, line = f"{self.path}.new.{os.getpid()}", encode(view)
        try:
            with open(new, "wb") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
                status = os.fstat(file.fileno())
                stamp = _stamp(status)
            os.replace(new, self.path)
            folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        return _Known(view, stamp, len(line), line[-SEEN_BYTES:], len(line))


def _continues(descriptor: int, stamp: tuple[int, ...], known: _Known) -> bool:
    """Whether this is the file that we read before, only longer."""
    if known.stamp is None or stamp[0] != known.stamp[0] or stamp[1] < known.offset:
        return False
    return os.pread(descriptor, len(known.seen), known.offset - len(known.seen)) == known.seen


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns


# --- lines --------------------------------------------------------------------------------------------------------


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def encode(view: View) -> bytes:
    """The first line: a whole view, which is what changes an empty one into it, with the format's number before it."""
    return _line({"format": FORMAT, **changes_between(View(view.me, -1), view)})


def decode(data: bytes, me: str) -> View:
    """The view in a first line; ValueError or BadRequest when it is cut, foreign or of a newer format."""
    content = json.loads(data)
    number = content.get("format") if isinstance(content, dict) else "unknown"
    if number not in (1, FORMAT):
        raise ValueError(f"format {number}, not {FORMAT}")
    if "generation" not in content:
        raise ValueError("a field is missing: generation")
    view = View(me)
    _apply(view, content)
    return view


def changes_between(old: View, new: View) -> dict[str, Any]:
    """What makes the old view the new one; None for what is gone."""
    content: dict[str, Any] = {}
    if new.generation != old.generation:
        content["generation"] = new.generation
    content["records"] = [membership.as_json(each) for name, each in new.records.items() if old.records.get(name) is not each]
    content["gone"] = [name for name in old.records if name not in new.records]
    if new.hints != old.hints:
        content["hints"] = sorted(new.hints)
    for name in ("policies", "heard_at"):
        before, after = getattr(old, name), getattr(new, name)
        content[name] = {key: value for key, value in after.items() if before.get(key) != value}
        content[name].update((key, None) for key in before if key not in after)
    if new.rival != old.rival:
        content["rival"] = new.rival
    return {key: value for key, value in content.items() if value or key in ("hints", "rival", "generation")}


def apply(view: View, line: bytes) -> None:
    """Change the view by one further line; ValueError or BadRequest when it is none."""
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError("a line that is no object")
    _apply(view, content)


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
        _merge(view.heard_at, content.get("heard_at", {}), float)
        if "rival" in content:
            view.rival = tuple(content["rival"]) if content["rival"] else None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a field is missing or wrong: {error}") from None


def _merge(known: dict, said: dict, kind: type) -> None:
    for key, value in said.items():
        if value is None:
            known.pop(key, None)
        else:
            known[str(key)] = kind(value)
