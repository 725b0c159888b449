"""The hit logs, NAME.bdlog: the original's lines, appended with one write, read from the end, trimmed without loss.

`HIT ~ epoch ~ ctime ~ client-ip` and `REPLICATE ~ …`. A reader remembers where it stopped and reads only what came
since; the first reading begins 60 s back from the end and no further. What hits weigh is core.weight's business.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections import deque

from bdserver.core.weight import HIT, HORIZON, Run
from bdserver.errors import NoSpace

CHUNK_BYTES = 64 * 1024
# No line of ours is longer; a longer one is somebody's garbage and counts nothing.
LINE_BYTES_MAX = 512
CLIENT_CHARACTERS_MAX = 64


class HitLog:
    """All hit logs of a node. Survives fork: what was read stays read, and every append opens the file anew."""

    def __init__(self, directory: str):
        self.directory = directory
        self._tallies: dict[str, _Tally] = {}

    def path(self, service: str) -> str:
        """The service's log."""
        return os.path.join(self.directory, f"{service}.bdlog")

    def append(self, service: str, kind: str, client: str, now: float) -> None:
        """Log a HIT or REPLICATE; NoSpace when the disk does not take it."""
        clean = "".join(c for c in client[:CLIENT_CHARACTERS_MAX] if c.isprintable() and c != "~") or "-"
        line = f"{kind} ~ {int(now)} ~ {time.ctime(now)} ~ {clean}\n".encode(errors="replace")
        try:
            with self._open(service, fcntl.LOCK_SH, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as descriptor:
                written = os.write(descriptor, line)
                if written != len(line):  # a full disk took half of it: this hit, and one after it, count nothing
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise NoSpace(f"{self.path(service)}: {error.strerror}") from None

    @contextlib.contextmanager
    def _open(self, service: str, lock: int, flags: int):
        """The log, locked, and surely the one that has the name now (a trim may have renamed a new one there)."""
        path = self.path(service)
        while True:
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, lock)
                if _is_at(descriptor, path):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def runs(self, service: str, now: float) -> list[Run]:
        """What counts of a service's log, newest first, lines of one kind and second together."""
        tally = self._tallies.setdefault(service, _Tally())
        try:
            tally.read(self.path(service), int(now))
        except OSError:
            tally.clear()
        return tally.newest_first(int(now))

    def forget(self, service: str) -> None:
        """Drop the log of a service that is not offered any more."""
        self._tallies.pop(service, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(service))

    def trim(self, service: str, now: float, above_bytes: int) -> int:
        """Cut a log larger than this to what still counts, while others append: no hit is lost. Returns bytes cut."""
        path = self.path(service)
        try:
            if os.stat(path).st_size <= above_bytes:
                return 0
        except FileNotFoundError:
            return 0
        with self._open(service, fcntl.LOCK_EX, os.O_RDWR) as descriptor:
            size = os.fstat(descriptor).st_size
            start = _start_of_what_counts(descriptor, size, int(now))
            if start < size // 2:  # copying more than is won back is no gain
                return 0
            _copy_tail(descriptor, start, path)
            return start


def _is_at(descriptor: int, path: str) -> bool:
    try:
        there, here = os.stat(path), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)


def _copy_tail(descriptor: int, start: int, path: str) -> None:
    new = f"{path}.new.{os.getpid()}"
    out = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.fstat(descriptor).st_mode & 0o777)
    try:
        while data := os.pread(descriptor, CHUNK_BYTES, start):
            start += os.write(out, data)
        if os.geteuid() == 0:
            status = os.fstat(descriptor)
            os.fchown(out, status.st_uid, status.st_gid)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
    finally:
        os.close(out)


def _start_of_what_counts(descriptor: int, size: int, now: int) -> int:
    """Offset of the oldest line that may still count: behind the newest HIT that is older than 60 s.

    Read backward, chunk by chunk: the length of the log does not matter, only of its last minute."""
    end, tail = size, b""
    while end > 0:
        begin = max(end - CHUNK_BYTES, 0)
        tail = os.pread(descriptor, end - begin, begin) + tail[: LINE_BYTES_MAX * 2]
        stop = end - begin
        while True:
            newline = tail.rfind(b"\n", 0, stop)
            line_end = tail.find(b"\n", newline + 1)
            if newline < 0:
                break
            parsed = _parse(tail[newline + 1 : line_end]) if line_end > 0 else None
            if parsed and parsed[0] == HIT and parsed[1] < now - HORIZON:
                return begin + line_end + 1
            stop = newline
        end = begin
    return 0


def _parse(line: bytes) -> tuple[str, int] | None:
    """(kind, second), or None for a line that counts nothing."""
    if len(line) > LINE_BYTES_MAX:
        return None
    kind, _, rest = line.partition(b" ~ ")
    second, tilde, _ = rest.partition(b" ~ ")
    if kind not in (b"HIT", b"REPLICATE") or not tilde or not second.isdigit() or len(second) > 12:
        return None
    return kind.decode(), int(second)


class _Tally:
    """How far one log was read, and what counts of it: oldest run first."""

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._rest = b""
        self._runs: deque[list] = deque()

    def read(self, path: str, now: int) -> None:
        """Take in what was appended since; begin anew when the file is another one, or shorter."""
        status = os.stat(path)
        file = (status.st_dev, status.st_ino)
        if file == self._file and status.st_size == self._offset:
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if file != self._file or status.st_size < self._offset:
                self.clear()
                self._file = file
                self._offset = _start_of_what_counts(descriptor, status.st_size, now)
            while data := os.pread(descriptor, CHUNK_BYTES * 16, self._offset):
                self._offset += len(data)
                self._take(data)
        finally:
            os.close(descriptor)

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LINE_BYTES_MAX - 1 :]
        for line in lines:
            parsed = _parse(line)
            if parsed is None:
                continue
            if self._runs and self._runs[-1][0] == parsed[0] and self._runs[-1][1] == parsed[1]:
                self._runs[-1][2] += 1
            else:
                self._runs.append([*parsed, 1])

    def newest_first(self, now: int) -> list[Run]:
        """What counts; what no longer does is dropped here, so that memory stays that of a minute."""
        for index in range(len(self._runs) - 1, -1, -1):
            kind, second, _ = self._runs[index]
            if kind == HIT and second < now - HORIZON:
                for _ in range(index + 1):
                    self._runs.popleft()
                break
        return [(kind, second, count) for kind, second, count in reversed(self._runs)]
