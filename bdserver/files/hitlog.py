"""The hit logs, NAME.bdlog: the original's lines, appended with one write, read from the end, trimmed without loss.

`HIT ~ epoch ~ ctime ~ client-ip`, `REPLICATE ~ …`, and `BACK ~ …`, which takes a HIT of the same second back.
A reader remembers where it stopped and reads only what came since; the first reading begins 60 s back from the end and no
further, however long the log. A process that appends holds a shared lock and makes sure that the file still has the name;
whoever trims holds it alone: no hit is lost between them, nor when a process is killed. Nothing is synced: a power cut may take
hits, which count for a minute anyhow, but makes none up. A log is a regular file of this folder: a symbolic link or a pipe of
its name is refused. What hits weigh is core.weight's business.

Most services of a node are not called in a minute. Which ones were, one process finds out by a look at all logs, and writes
down (`list_called`): who serves a caller then looks at those alone (`called`). Whoever logs the first call of one that is not
in that list adds it, so that the next caller's process counts it as well.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections import Counter, deque
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from bdserver.core.tuples import NamedTuple
from bdserver.core.weight import AHEAD, BACK, HIT, HORIZON, Balance, Run
from bdserver.errors import NoSpace, TooBusy
from bdserver.files import durable

# Backward, a chunk holds a thousand lines: the last minute of most services. Forward, the fewer calls the better.
BACK_CHUNK_BYTES, CHUNK_BYTES = 64 << 10, 1 << 20
# A minute of 15,000 calls a second. In a log that is full of garbage, nothing further back is looked for.
BACK_BYTES_MAX = 64 << 20
# No line of ours is longer; a longer one is somebody's garbage.
LINE_BYTES_MAX = 512
CLIENT_CHARACTERS_MAX = 64
# The lock is held for a write, or for copying the last minute. A process that holds it longer has been stopped.
LOCK_SECONDS = 0.5
# The last bytes that were read must still be there when we come back, else it is another file with the same inode.
SEEN_BYTES = 64
FOLDED_MAX = 20_000
# The list of services that were called lately is no longer: a thousand names.
LIST_BYTES_MAX = 1 << 20

_LINE = re.compile(rb"^(HIT|REPLICATE|BACK) ~ ([0-9]{1,12}) ~ [ -}\x80-\xff]{1,64}~ [ -}\x80-\xff]{1,256}\n", re.MULTILINE)
_ASKED = re.compile(rb"^(HIT|BACK) ~ ([0-9]{1,12}) ~ [ -}\x80-\xff]{1,64}~ ([ -}\x80-\xff]{1,256})\n", re.MULTILINE)
# Who calls a service is told of so many, by a look at no more than this.
ASKERS_TOLD_MAX, ASKERS_BYTES_MAX = 10, 1 << 20
# Its second is older than those of the lines about it.
_BACK = BACK.encode()
# What stands for the beginning of an overlong line while its end is awaited: no line of ours begins so.
_OVERLONG = b"~"


class _Held(NamedTuple):
    """The log that was written to last, open for the next line; of `process` alone, since a lock is shared over fork."""

    service: str
    descriptor: int
    file: tuple[int, int]
    process: int


class HitLog:
    """All hit logs of a node. Survives fork: what was read stays read, and no lock is kept."""

    def __init__(self, directory: str):
        self.directory = directory
        self._tallies: dict[str, _Tally] = {}
        self._held: _Held | None = None
        self._ours: set[str] = set()  # which this process counted a call of, that may not be listed yet
        self._list = os.path.join(directory, ".called")
        self._list_stamp: durable.Stamp | None = None
        self._listed: frozenset[str] = frozenset()
        self._called: frozenset[str] | None = None  # both; None when one of them has changed

    def path(self, service: str) -> str:
        """The service's log."""
        return f"{self.directory}/{service}.bdlog"

    def append(self, service: str, kind: str, client: str, now: float, count: int = 1) -> None:
        """Log a HIT, a REPLICATE, or with the second of a HIT a BACK; so many of them with one write.

        NoSpace when the disk does not take it, the lock can't be had, or it is no log of ours."""
        self._append(service, _line(kind, client, int(now)) * count, [(kind, int(now), count)])

    def extend(self, service: str, hits: list[tuple[str, float]]) -> None:
        """Log many a HIT, (client, when), with one write."""
        lines = b"".join(_line(HIT, client, int(at)) for client, at in hits)
        self._append(service, lines, [(HIT, int(at), 1) for _, at in hits])

    def _append(self, service: str, lines: bytes, runs: list[Run]) -> None:
        is_first = service not in self._ours
        if is_first:
            self._ours.add(service)
            self._called = None
        tally = self._tallies.get(service)
        try:
            while not self._has_written(service, tally, lines, runs):
                self.close()  # a trim, or somebody, has put another one in its place
        except OSError as error:
            raise NoSpace(f"{self.path(service)}: {error.strerror}") from None
        except TooBusy as error:
            raise NoSpace(str(error)) from None
        if is_first and service not in self._listed:
            with contextlib.suppress(OSError):  # it is listed within a second
                self._list_too(service)

    def _list_too(self, service: str) -> None:
        """Behind the others, as a line of its own even where the last one was cut."""
        has_name = False
        while not has_name:  # else another list has taken its place meanwhile
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            descriptor = durable.open_regular(self._list, flags, follow=False, mode=0o666)
            try:
                durable.append(descriptor, f"\n{service}\n".encode())
                has_name = os.fstat(descriptor).st_nlink > 0
            finally:
                os.close(descriptor)

    def _has_written(self, service: str, tally: _Tally | None, lines: bytes, runs: list[Run]) -> bool:
        """False when it went to a file that has no name any more."""
        held = self._hold(service, tally)
        descriptor = held.descriptor
        durable.lock(descriptor, LOCK_SECONDS, self.path(service), is_shared=True)
        try:
            if tally is not None and tally.is_at_end(held.file):  # what we write now need not be read again
                durable.append(descriptor, lines)
                status = os.fstat(descriptor)
                tally.add(lines, runs, status)
            else:
                durable.append_lines(descriptor, lines)
                status = os.fstat(descriptor)
        finally:
            durable.unlock(descriptor)
        return status.st_nlink > 0

    def _hold(self, service: str, tally: _Tally | None) -> _Held:
        """The log of this name, as whoever asked for its hits has just seen it. One stays open: opening it each time took 8 %
        of a look-up."""
        held = self._held
        if held is not None and held.service == service and held.process == os.getpid():
            if tally is not None and tally.has_just_seen(held.file):
                return held
            with contextlib.suppress(FileNotFoundError):
                if _identity(os.lstat(self.path(service))) == held.file:
                    return held
        self.close()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        try:
            descriptor = durable.open_regular(self.path(service), flags, follow=False)
        except FileNotFoundError:  # somebody has removed the folder
            os.makedirs(self.directory, exist_ok=True)
            descriptor = durable.open_regular(self.path(service), flags, follow=False)
        self._held = held = _Held(service, descriptor, _identity(os.fstat(descriptor)), os.getpid())
        return held

    def close(self) -> None:
        """Let go of the log that was written to last; the next line opens one anew."""
        if self._held is not None:
            os.close(self._held.descriptor)
            self._held = None

    def called(self) -> frozenset[str]:
        """The services that were called within the last minute, as far as this process knows; some others may be among them."""
        if not durable.is_still(self._list, self._list_stamp):
            self._list_stamp, self._listed = durable.stamp(self._list), frozenset()
            with contextlib.suppress(OSError, UnicodeDecodeError):  # it is made anew within a second
                self._listed = frozenset(durable.read(self._list, LIST_BYTES_MAX, follow=False)[0].decode().split())
            self._called = None
        if self._called is None:
            self._called = self._listed | self._ours
        return self._called

    def list_called(self, services: set[str], before: frozenset[str] | None = None) -> None:
        """All services that were called within the last minute; OSError or NoSpace when that can't be written. `before`: what
        was `called` when the look at the logs began: what was added to the list since then stays in it."""
        self.called()
        if before is not None:
            services = services | (self._listed - before)
        if services != self._listed:
            durable.replace(self._list, ["\n".join(sorted(services)).encode()], is_synced=False)
        self._ours.clear()
        self._called = None

    def runs(self, service: str, now: float) -> list[Run]:
        """What counts of a service's log, newest first, neighbours of one kind and second together."""
        found = self._looked(service, now).newest_first(int(now))
        if not found and service in self._ours:
            self._ours.discard(service)
            self._called = None
        return found

    def weight(self, service: str, cost: float, now: float) -> float:
        """What its calls weigh now, where each costs so much."""
        tally = self._looked(service, now)
        return tally.balance.weight(lambda: self.runs(service, now), cost, now)

    def _looked(self, service: str, now: float) -> _Tally:
        tally = self._tallies.get(service)
        if tally is None:
            if len(self._tallies) >= FOLDED_MAX:  # services come and go; those that are here are soon read again
                self._tallies.clear()
            tally = self._tallies[service] = _Tally()
        try:
            tally.read(self.path(service), int(now))
        except OSError:  # no log, no hits; and a log that can't be read has none for us either
            tally.clear()
        return tally

    def askers(self, service: str, now: float) -> list[list[Any]]:
        """[client, calls within the last minute] of those that called most, the most first. Of a log that is written to so fast
        that a minute is more than ASKERS_BYTES_MAX, the end is looked at."""
        counts: Counter[str] = Counter()
        try:
            descriptor = durable.open_regular(self.path(service), follow=False)
        except OSError:
            return []
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            file.seek(max(_start_of_what_counts(descriptor, size, int(now)), size - ASKERS_BYTES_MAX))
            for kind, second, client in _ASKED.findall(file.read(ASKERS_BYTES_MAX)):
                if now - HORIZON < int(second) <= now:
                    counts[client.decode(errors="replace")] += {b"HIT": 1, _BACK: -1}[kind]
        return [[client, count] for client, count in counts.most_common(ASKERS_TOLD_MAX) if count > 0]

    def trim(self, service: str, now: float, above_bytes: int) -> int:
        """Cut a log larger than this to what still counts, while others append: no hit is lost. Returns bytes cut.

        NoSpace when the disk does not take the copy, or the lock can't be had; the log is as it was then."""
        path = self.path(service)
        try:
            if os.lstat(path).st_size <= above_bytes:
                return 0
            with self._alone(path) as (descriptor, status):
                size = status.st_size
                start = _start_of_what_counts(descriptor, size, int(now))
                if start < size // 2:  # copying more than is won back is no gain; soon it will be less
                    return 0
                durable.sweep(path)  # we have the lock: what lies there is of a trim that was killed
                durable.replace(path, _tail(descriptor, start), like=status, is_synced=False)
                return start
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise NoSpace(f"{path}: {error.strerror}") from None
        except TooBusy as error:
            raise NoSpace(str(error)) from None

    def forget(self, service: str) -> None:
        """Drop the log of a service that is not offered any more."""
        self._tallies.pop(service, None)
        with contextlib.suppress(OSError):  # there is none, or it is none of ours: nobody counts it in either case
            os.unlink(self.path(service))

    @contextlib.contextmanager
    def _alone(self, path: str) -> Iterator[tuple[int, os.stat_result]]:
        """The log, locked for us alone, and surely the one that has the name now: another trim may have put one there."""
        while True:
            descriptor = durable.open_regular(path, os.O_RDWR, follow=False)
            try:
                durable.lock(descriptor, LOCK_SECONDS, path)
                status = os.fstat(descriptor)
                if _identity(os.lstat(path)) == _identity(status):
                    yield descriptor, status
                    return
            finally:
                os.close(descriptor)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@functools.lru_cache(maxsize=64)
def _line(kind: str, client: str, second: int) -> bytes:
    clean = "".join(c for c in client[:CLIENT_CHARACTERS_MAX] if c.isprintable() and c != "~").strip() or "-"
    return f"{kind} ~ {second} ~ {time.ctime(second)} ~ {clean}\n".encode()


def _tail(descriptor: int, start: int) -> Iterator[bytes]:
    while data := os.pread(descriptor, CHUNK_BYTES, start):
        start += len(data)
        yield data


def _start_of_what_counts(descriptor: int, size: int, now: int) -> int:
    """Offset behind the newest line that is older than 60 s; searched backward, so only the last minute is read."""
    floor = max(size - BACK_BYTES_MAX, 0)
    end = size
    while end > floor:
        begin = max(end - BACK_CHUNK_BYTES, floor)
        # The chunk's last line ends beyond it; its first one belongs to the chunk before.
        data = os.pread(descriptor, min(end + LINE_BYTES_MAX, size) - begin, begin)
        first = data.find(b"\n") + 1 if begin else 0
        lines = set(_LINE.findall(data, first))  # a match object a line costs three times that
        if any(int(second) < now - HORIZON for kind, second in lines if kind != _BACK):
            return begin + max(m.end() for m in _LINE.finditer(data, first) if int(m[2]) < now - HORIZON and m[1] != _BACK)
        end = begin
    return floor


class _Tally:
    """How far one log was read, and what counts of it: oldest run first. `balance`: what that weighs."""

    def __init__(self) -> None:
        self.balance = Balance()
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._stamp: durable.Stamp | None = None
        self._offset = 0
        self._seen = self._rest = b""
        self._runs: deque[Run] = deque()
        self._swept = -1  # the second for which no old run is among them
        self._has_looked = False
        self.balance.forget()

    def read(self, path: str, now: int) -> None:
        """Take in what was appended since; begin anew when the file is another one, or was cut."""
        self._has_looked = True
        if durable.fields_of(os.lstat(path)) == self._stamp:
            return
        descriptor = durable.open_regular(path, follow=False)
        try:
            stamp = durable.stamp_of(os.fstat(descriptor))
            if not self._continues(descriptor, stamp):
                self.clear()
                self._offset = _start_of_what_counts(descriptor, stamp.size, now)
                # In the middle of a line, when there is nothing old within reach: wait for its end.
                self._rest = _OVERLONG if self._offset and os.pread(descriptor, 1, self._offset - 1) != b"\n" else b""
            while data := os.pread(descriptor, BACK_CHUNK_BYTES, self._offset):
                self._offset += len(data)
                self._seen = (self._seen + data)[-SEEN_BYTES:]
                self._take(data)
            # The size of what was read: when more came meanwhile, the next call sees another stamp.
            self._stamp = stamp._replace(size=self._offset)
        finally:
            os.close(descriptor)

    def has_just_seen(self, file: tuple[int, int]) -> bool:
        """Whether this was the file of the name when somebody looked, and nothing was added since: true once for each look."""
        has_looked, self._has_looked = self._has_looked, False
        return has_looked and self._is_of(file)

    def _is_of(self, file: tuple[int, int]) -> bool:
        return self._stamp is not None and self._stamp[:2] == file

    def is_at_end(self, file: tuple[int, int]) -> bool:
        """Whether this file was read to the end of a line."""
        return not self._rest and self._is_of(file)

    def add(self, lines: bytes, runs: list[Run], status: os.stat_result) -> None:
        """Take in what we have just written behind all that was read, unless somebody else came between."""
        if status.st_size == self._offset + len(lines):
            self._offset = status.st_size
            self._seen = (self._seen + lines)[-SEEN_BYTES:]
            for run in runs:
                self._count(run)
            self._stamp = durable.stamp_of(status)

    def _continues(self, descriptor: int, stamp: durable.Stamp) -> bool:
        """Whether this is the file that we read before, only longer. An inode alone is soon given to another one."""
        if self._stamp is None or stamp[:2] != self._stamp[:2] or stamp.size < self._offset:
            return False
        return os.pread(descriptor, len(self._seen), self._offset - len(self._seen)) == self._seen

    def _take(self, data: bytes) -> None:
        lines, newline, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest if len(rest) <= LINE_BYTES_MAX else _OVERLONG
        for (kind, second), group in groupby(_LINE.findall(lines + newline)):
            self._count((kind.decode(), int(second), len(list(group))))

    def _count(self, run: Run) -> None:
        kind, second, count = run
        if kind == BACK:
            self.balance.forget()
            self._uncount(second, count)
            return
        self.balance.add(run)
        if self._runs and self._runs[-1][:2] == (kind, second):
            count += self._runs.pop()[2]
        else:
            self._swept = -1
        self._runs.append((kind, second, count))

    def _uncount(self, second: int, count: int) -> None:
        for number in range(len(self._runs) - 1, -1, -1):
            kind, at, hits = self._runs[number]
            if at < second - AHEAD or not count:
                return
            if (kind, at) == (HIT, second):
                self._runs[number] = (kind, at, max(hits - count, 0))
                count = max(count - hits, 0)

    def newest_first(self, now: int) -> list[Run]:
        """The runs that count; the others are dropped here, so that memory stays that of a minute."""
        if self._swept != now:
            self._swept = now
            old = next((i for i in range(len(self._runs) - 1, -1, -1) if self._runs[i][1] < now - HORIZON), -1)
            for _ in range(old + 1):
                self._runs.popleft()
        return list(reversed(self._runs))
