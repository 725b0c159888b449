"""A file that holds a process's pid, and cannot go stale: a flock is held on it as long as the process lives.

kill -9 frees the lock, so the file alone means nothing. A node has two: its `pid_file`, for people and init scripts,
and one beside its cache, so that no second daemon, with another `pid_file`, writes into the same cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import IO

from bdserver.errors import BadConfig
from bdserver.files import durable

# A process's number, and what ends its line.
BYTES_MAX = 20


class PidFile:
    """One such file. `means`: what it means when another process has it."""

    def __init__(self, path: str, means: str = "bdserverd is running already"):
        self.path = path
        self._means = means
        self._file: IO[str] | None = None

    def claim(self) -> None:
        """Take the lock, or BadConfig with the pid of the process that has it."""
        try:
            while self._file is None:
                descriptor = durable.open_regular(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, mode=0o644)
                file = open(descriptor, "a+", errors="replace")  # noqa: SIM115 (held open on purpose)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if durable.has_name(file.fileno(), self.path):  # else the one before us removed it while we opened it
                    self._refuse_others(file)
                    self._file = file
        except BlockingIOError:
            file.seek(0)
            raise BadConfig(f"{self.path}: {self._means}, as process {file.read(BYTES_MAX).strip() or 'unknown'}") from None
        except OSError as error:
            raise BadConfig(f"{self.path}: {error.strerror}") from None

    def trouble(self) -> str:
        """Why it can't be claimed, whoever has it now; "" when nothing is in the way."""
        try:
            if os.path.lexists(self.path):
                with open(durable.open_regular(self.path)) as file:
                    self._refuse_others(file)
        except OSError as error:
            return f"{self.path}: {error.strerror}"
        except BadConfig as error:
            return str(error)
        return ""

    def _refuse_others(self, file: IO[str]) -> None:
        """Somebody's file that a setting names by mistake is not written over. A short one may be ours, damaged by a crash."""
        if os.fstat(file.fileno()).st_size > BYTES_MAX:
            raise BadConfig(f"{self.path}: is there, and is no file with a process's number: it is not written over")

    def is_held(self) -> bool:
        """Whether another process lives that has claimed it."""
        try:
            with open(durable.open_regular(self.path)) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # there is none, or it is not ours to read: claim() would say so
            pass
        return False

    def fileno(self) -> int:
        """The descriptor that holds the lock."""
        assert self._file is not None
        return self._file.fileno()

    def release(self) -> None:
        """In a child, first of all: a flock is shared over fork, so one that outlives the listener would keep it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> PidFile:
        """Write the pid: only now, since a daemon is another process than the one that claimed the file."""
        assert self._file is not None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def remove(self) -> None:
        """While we have the lock, the file is ours."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self.release()
