"""Quarantine, USERNAME.bdquarantine: what made its reader crash is left out from the second time on, by its digest.

A policy, a record, a service or a package comes from somebody else, and a bug of ours in reading it must not end the node
again and again. `guard` stands around each reading. An exception that nobody expected is a strike; so is the death of the
process: what it reads stands in a note, a file that it holds locked and that outlives it, and the next reader of the same
finds that, or `settle` does. A reading that goes well takes the strike back. A node says ever new things of itself: when
its records have struck four times, all are left out, for ten minutes after the last.

Promises that two strikes are enough, that all processes of the node leave the thing out then, and that `status` can name it,
and where it came from. A process that must not die, like the listener, has another one read (`read_elsewhere`). A line of the
file is one thing, for a person to read and to remove; what another version of BDserver crashed of is tried again.

Leaves to others: how another process reads (`trials`), and what is read within a guard.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from hashlib import blake2b
from io import FileIO
from typing import Any, TypeVar

from bdserver import __version__
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BDError, NoSpace, Quarantined, TooBusy
from bdserver.files import durable
from bdserver.files.trials import Trial
from bdserver.files.values import value_in

# The first time may have been a kill, or a lack of memory.
STRIKES = 2
# When things about one node have struck so often, all are left out, for so long after the last.
RESTLESS_STRIKES, RESTLESS_SECONDS = 4, 600.0
# The newest of so many are kept: whoever makes more of them does not fill the disk, and each costs its readers two crashes.
ENTRIES_MAX = 200
FILE_BYTES_MAX = 1 << 20
WORDS_CHARACTERS_MAX = 200
LOCK_SECONDS = 1.0
# Reading one of these takes milliseconds; who takes so much processor time for it is ended, and that is a strike too.
READ_SECONDS = 2.0
# A process in haste waits so long for what another one reads, and this share of its time at most.
HASTY_SECONDS, HASTY_SHARE = 0.5, 0.1
# Two for each of so many things that came at once; the rest is left to the next process that dies of them.
TRIALS_MAX = 16

log = logging.getLogger("bdserver.quarantine")

_T = TypeVar("_T")


class Kind(StrEnum):
    """What is read."""

    POLICY = "policy"
    SERVICE = "service"
    PACKAGE = "package"
    RECORD = "record"


_QUICKLY_READ = (Kind.POLICY, Kind.SERVICE)


class Entry(NamedTuple):
    """One thing that its readers crashed of. `origin`: the file, or the node that told it; `why`: how the last one ended; `at`:
    epoch seconds; `about`: the node that it seems to be of, if that says ever new ones."""

    kind: Kind
    digest: str
    origin: str
    why: str = ""
    at: float = 0.0
    strikes: int = 0
    software: str = __version__
    about: str = ""

    @property
    def is_left_out(self) -> bool:
        return self.strikes >= STRIKES and self.software == __version__

    def words(self) -> str:
        """One line for a person."""
        return f"{self.origin or self.kind}: in quarantine, since reading it went wrong {self.strikes} times ({self.why})"


class Quarantine:
    """The file, and what this process knows of it; without a path, in memory alone."""

    def __init__(self, path: str):
        self.path = path
        self._notes = _Notes(path, self._died)
        self._entries: dict[str, Entry] = {}
        self._stamp: durable.Stamp | None = None
        self._is_trial = self.is_hasty = False
        self._trials: dict[str, Trial] = {}
        self._may_wait_seconds = self._earned_at = 0.0
        self._deaths = self._raised = 0

    @contextlib.contextmanager
    def guard(self, kind: Kind, digest: str, origin: str, about: str = "") -> Iterator[None]:
        """Read what has this digest within. Quarantined when it is left out, or met a bug just now; what the reader itself says
        against it, and what the host lacks, is passed on."""
        entry = Entry(kind, digest, origin, about=about)
        with self._notes.of(entry):
            known = self._look().get(digest)
            for left_out in (known, self._restless(about) if about else None):
                if left_out is not None and left_out.is_left_out:
                    raise Quarantined(left_out.words())
            try:
                with self._within_its_time(kind):
                    yield
            except (BDError, OSError, MemoryError):
                raise
            except Exception as error:
                self._raised += 1
                struck = self._strike(entry, repr(error))
                log.exception("%s: reading it met a bug", origin or kind)
                raise Quarantined(struck.words()) from error
        if known is not None:
            self._change(lambda entries: entries.pop(digest, None))

    @contextlib.contextmanager
    def _within_its_time(self, kind: Kind) -> Iterator[None]:
        """By a signal that ends the process, also in the middle of a loop in C. A process in haste is spared."""
        is_spared = self.is_hasty and not self._is_trial
        if is_spared or kind not in _QUICKLY_READ:
            yield
            return
        signal.setitimer(signal.ITIMER_PROF, READ_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)

    def read_elsewhere(self, what: str | None, read: Callable[[], _T]) -> _T | None:
        """What another process reads, one after the other until none dies of it any more. None when there is no room for one,
        or it takes too long: then it is not known yet. Without a file, where nobody would hear of a death, it is read here.

        Who is in haste waits a moment, and finds what came of it when it asks for the same (`what`) again. None: it won't."""
        if not self.path:
            return read()
        began = time.monotonic()
        until = began + self._patience(began, what)
        try:
            for _ in range(TRIALS_MAX):
                trial = (self._trials.pop(what, None) if what else None) or Trial(lambda: self._read_on_trial(read))
                if not trial.has_ended(until):
                    self._leave(what, trial)
                    return None
                what_it_read: _T | None = trial.what_it_read()
                if not self.settle():
                    return what_it_read
        except OSError as error:
            log.warning("can't fork to read what is new: %s", error.strerror)
        finally:
            self._may_wait_seconds -= time.monotonic() - began
        return None

    def be_hasty(self) -> None:
        """From now on, in a process that others wait for."""
        self.is_hasty, self._may_wait_seconds, self._earned_at = True, HASTY_SECONDS, time.monotonic()

    def begin_apart(self) -> None:
        """In a forked process: what the parent waits for is the parent's, and who waits for this one is not known."""
        for trial in self._trials.values():
            trial.forget()
        self._trials.clear()
        self.is_hasty = False

    def _patience(self, now: float, what: str | None) -> float:
        if not self.is_hasty:
            return math.inf
        if what is None:
            return HASTY_SECONDS
        earned = (now - self._earned_at) * HASTY_SHARE
        self._may_wait_seconds, self._earned_at = min(max(self._may_wait_seconds, 0.0) + earned, HASTY_SECONDS), now
        return self._may_wait_seconds

    def _leave(self, what: str | None, trial: Trial) -> None:
        """It goes on, unless it has had its time."""
        if what is not None and not trial.is_late():
            self._trials[what] = trial
            return
        log.warning("reading what is new takes too long")
        self._notes.settle()  # this first: whoever died before is not taken for the one that is ended now
        trial.end()
        self._notes.settle(is_counted=False)

    def _read_on_trial(self, read: Callable[[], _T]) -> _T:
        """In a process of its own. What raised is read once more: then it is left out for all, or its strike is taken back."""
        self._is_trial = True
        self._notes.keep_one_for_all()
        content = read()
        return read() if self._raised else content

    def settle(self) -> int:
        """Take up what dead processes were reading when they died: a strike each; how many."""
        before = self._deaths
        self._notes.settle()
        return self._deaths - before

    def entries(self) -> list[Entry]:
        """What is left out now; of a node that all is left out of, the newest."""
        all_of = {about: self._restless(about) for about in sorted({entry.about for entry in self._look().values()} - {""})}
        found = [entry for entry in self._entries.values() if entry.is_left_out and all_of.get(entry.about) is None]
        return found + [entry for entry in all_of.values() if entry is not None]

    def _restless(self, about: str) -> Entry | None:
        """The newest thing about this node, with the strikes of all, when those are enough to leave out the next one unread."""
        found = [entry for entry in self._entries.values() if entry.about == about and entry.software == __version__]
        strikes = sum(entry.strikes for entry in found)
        is_enough = strikes >= RESTLESS_STRIKES and abs(time.time() - found[-1].at) < RESTLESS_SECONDS
        return found[-1]._replace(strikes=strikes) if is_enough else None

    # -- the file

    def _died(self, entry: Entry) -> None:
        """A process did while it read this."""
        self._deaths += 1
        self._strike(entry, "its reader died")
        log.error("%s: a process died while it read this", entry.origin or entry.kind)

    def _strike(self, entry: Entry, why: str) -> Entry:
        def strike(entries: dict[str, Entry]) -> None:
            before = entries.pop(entry.digest, None)
            strikes = before.strikes if before is not None and before.software == __version__ else 0
            words = " ".join(why.split())[:WORDS_CHARACTERS_MAX]
            entries[entry.digest] = entry._replace(why=words, at=round(time.time(), 3), strikes=strikes + 1)
            for digest in list(entries)[:-ENTRIES_MAX]:
                del entries[digest]

        self._change(strike)
        return self._entries[entry.digest]

    def _change(self, change: Callable[[dict[str, Entry]], object]) -> None:
        """In memory, and in the file if it can be."""
        with contextlib.ExitStack() as held:
            try:
                if self.path:
                    lock = held.enter_context(durable.open_lock(self.path + ".lock"))
                    durable.lock(lock.fileno(), LOCK_SECONDS, self.path)
            except (OSError, TooBusy) as error:
                log.error("%s: %s", self.path, error)
            change(self._look())
            try:
                if self.path:
                    self._stamp = durable.replace(self.path, map(_line, self._entries.values()), mode=0o640)
            except (OSError, NoSpace) as error:
                log.error("%s: %s", self.path, error)

    def _look(self) -> dict[str, Entry]:
        stamp = durable.stamp(self.path) if self.path else None
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                lines = durable.read(self.path, FILE_BYTES_MAX)[0].splitlines()
            except OSError:  # removed, or none that we read: nothing is in quarantine
                lines = []
            found = filter(None, map(_parsed, lines))
            self._entries = {entry.digest: entry for entry in found}
        return self._entries


class _Notes:
    """What is being read now, by any process of this node: a file for each thing, which its reader holds locked as long as it
    lives, and removes. One that nobody holds was left by a reader that died: `died(entry)` hears of it, once.

    Records come by the thousand, and one process reads them all: it keeps one file for them, and writes over it. So does, for
    all that it reads, a process that ends when it has read."""

    def __init__(self, path: str, died: Callable[[Entry], None]):
        folder, name = os.path.split(path)
        self._begin = os.path.join(folder, f".{name}.reading.") if path else ""
        self._died = died
        self._kept: FileIO | None = None
        self._kept_name, self._is_for_all = "records", False

    def keep_one_for_all(self) -> None:
        """In a forked process, which shares its parent's locks, but must not its note."""
        self._kept, self._kept_name, self._is_for_all = None, str(os.getpid()), True

    @contextlib.contextmanager
    def of(self, entry: Entry) -> Iterator[None]:
        """Meanwhile a file says so. Without room for one, or while another process reads the same, a death is not counted."""
        with contextlib.ExitStack() as undone:
            with contextlib.suppress(OSError, TooBusy):
                if self._begin:
                    self._write(entry, undone)
            yield

    def _write(self, entry: Entry, undone: contextlib.ExitStack) -> None:
        if entry.kind is Kind.RECORD or self._is_for_all:
            if self._kept is None:
                self._kept = FileIO(self._held(self._begin + self._kept_name, os.O_CREAT), "r+")
            descriptor = self._kept.fileno()
            undone.callback(_empty, descriptor)
        else:
            path = self._begin + blake2b(entry.digest.encode(errors="replace"), digest_size=16).hexdigest()
            descriptor = self._held(path, os.O_CREAT)
            undone.callback(os.close, descriptor)
            undone.callback(_unlink, path)
        os.pwrite(descriptor, _line(entry), 0)

    def settle(self, is_counted: bool = True) -> None:
        """Take up, and remove, what dead processes left; without `is_counted` it is only removed."""
        for path in glob.glob(glob.escape(self._begin) + "*") if self._begin else ():
            with contextlib.suppress(OSError, TooBusy):  # its reader lives, or is through
                descriptor = self._held(path, is_counted=is_counted)
                _unlink(path)
                os.close(descriptor)

    def _held(self, path: str, flags: int = 0, is_counted: bool = True) -> int:
        """A note, locked for us, and what a dead process left in it taken up; TooBusy while another has it, or was through with
        it just now."""
        descriptor = durable.open_regular(path, os.O_RDWR | flags, follow=False, mode=0o600)
        try:
            durable.lock(descriptor, 0, path)
            if not durable.has_name(descriptor, path):
                raise TooBusy(f"{path} is gone")
            left = _parsed(os.pread(descriptor, FILE_BYTES_MAX, 0).partition(b"\n")[0])
            if left is not None and is_counted:
                self._died(left)
            _empty(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _empty(note: int) -> None:
    """Nothing is being read. A note of a few lines is written over: to cut it would take much longer."""
    with contextlib.suppress(OSError):  # a full disk has no room for what was to stand there, either
        os.pwrite(note, b"\n", 0)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):  # another one has taken it up
        os.unlink(path)


def _line(entry: Entry) -> bytes:
    return json.dumps(entry._asdict()).encode() + b"\n"


def _parsed(line: bytes) -> Entry | None:
    """The entry in a line; None when it is none of ours."""
    try:
        said: dict[str, Any] = value_in(line)
        digest, origin, why, about = (str(said[key])[:WORDS_CHARACTERS_MAX] for key in ("digest", "origin", "why", "about"))
        return Entry(
            Kind(said["kind"]), digest, origin, why, float(said["at"]), int(said["strikes"]), str(said["software"]), about
        )
    except (ValueError, TypeError, KeyError):
        return None
