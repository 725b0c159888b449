"""The cache file: what this node knows of the mesh, shared by listener, discoverer and children.

Readers take no lock: a save is write-new, fsync, rename, fsync of the folder. Changes happen under the lock, on what is
in the file *now*, and nobody holds the lock on the network. A file that can't be read is set aside as `.corrupt`, and
said. What a record means and how records merge is core.membership's business.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import time

from filelock import FileLock, Timeout

from bdserver.core import membership
from bdserver.core.membership import View
from bdserver.errors import BDError, NoSpace, TooBusy

FORMAT = 1
# A save takes milliseconds; who waits longer than this for the lock had better answer NO and be asked again.
LOCK_SECONDS = 2.0
# 20,000 records of a kilobyte, and policies: beyond it the file is not ours.
FILE_BYTES_MAX = 64 << 20

log = logging.getLogger("bdserver.cache")


class Cache:
    """The view on disk, and the newest decoded copy of it in memory (which nobody changes: changes go to copies)."""

    def __init__(self, path: str, me: str):
        self.path = path
        self.me = me
        self._stamp: tuple | None = None
        self._view = View(me)
        self._could_save = True

    def view(self) -> View:
        """The view of now: decoded anew only if the file changed."""
        stamp = self._stamp_now()
        if stamp != self._stamp and self._could_save:
            self._view = self._load()
            self._stamp = stamp
        return self._view

    @contextlib.contextmanager
    def locked(self, seconds: float = LOCK_SECONDS):
        """A copy of the view of now, to change; saved on the way out if it was. TooBusy when the lock can't be had."""
        lock = FileLock(self.path + ".lock", timeout=max(seconds, 0))
        try:
            lock.acquire(poll_interval=0.005)
        except Timeout:
            raise TooBusy(f"{self.path}.lock was not to be had in {seconds:.1f} s") from None
        except OSError as error:
            raise NoSpace(f"{self.path}.lock: {error.strerror}") from None
        try:
            view = self.view().copy()
            yield view
            if view.changes:
                self._save(view)
        finally:
            lock.release()

    def sweep(self) -> None:
        """Remove what a crash left half-written; at the start, when nobody else is at work here."""
        for path in glob.glob(glob.escape(self.path) + ".new.*"):
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _stamp_now(self):
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _load(self) -> View:
        try:
            with open(self.path, "rb") as file:
                return decode(file.read(FILE_BYTES_MAX + 1), self.me)
        except FileNotFoundError:
            return View(self.me)
        except (OSError, ValueError, BDError) as error:
            self._set_aside(error)
            return View(self.me)

    def _set_aside(self, error: Exception) -> None:
        """Keep the unreadable file for whoever wants to look, and go on from hints."""
        with contextlib.suppress(OSError):
            os.replace(self.path, self.path + ".corrupt")
        log.error("%s can't be read (%s): set aside as %s.corrupt, starting from hints", self.path, error, self.path)

    def _save(self, view: View) -> None:
        """Write new, fsync, rename, fsync of the folder. A full disk is said once; memory goes on being right."""
        new, previous = f"{self.path}.new.{os.getpid()}", self._stamp_now()
        try:
            with open(new, "wb") as file:
                file.write(encode(view))
                file.flush()
                # The kernel's own time-stamps are 4 ms coarse and inodes are used again: two saves within that time
                # could look the same, and a third process work on an old view. So each save is later than the last.
                mtime = max(time.time_ns(), (previous[1] if previous else 0) + 1)
                os.utime(file.fileno(), ns=(mtime, mtime))
                os.fsync(file.fileno())
            os.replace(new, self.path)
            folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(new)
            if self._could_save:
                log.error("%s can't be saved (%s): going on in memory", self.path, error.strerror)
            self._could_save = False
        else:
            if not self._could_save:
                log.warning("%s is saved again", self.path)
            self._could_save = True
            self._stamp = self._stamp_now()
        view.changes = 0
        self._view = view


def encode(view: View) -> bytes:
    """The file's bytes: one JSON object with the format's number first."""
    return json.dumps(
        {
            "format": FORMAT,
            "generation": view.generation,
            "records": [membership.as_json(record) for record in view.records.values()],
            "hints": sorted(view.hints),
            "policies": view.policies,
            "heard_at": view.heard_at,
            "rival": view.rival,
        },
        separators=(",", ":"),
    ).encode()


def decode(data: bytes, me: str) -> View:
    """The view in a file's bytes; ValueError or BadRequest when it is cut, foreign or of a newer format."""
    content = json.loads(data)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"format {content.get('format') if isinstance(content, dict) else 'unknown'}, not {FORMAT}")
    try:
        return _view(content, me)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a field is missing or wrong: {error}") from None


def _view(content: dict, me: str) -> View:
    view = View(me, int(content["generation"]))
    for value in content["records"]:
        record = membership.from_json(value)
        view.records[record.name] = record
    view.hints = set(map(str, content["hints"]))
    view.policies = {str(digest): str(text) for digest, text in content["policies"].items()}
    view.heard_at = {str(name): float(at) for name, at in content["heard_at"].items()}
    view.rival = tuple(content["rival"]) if content.get("rival") else None
    return view
