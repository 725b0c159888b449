"""Packages on their way to others: so many at once, and a service that many ask for at once is packed once.

A package under way has a place, whoever packed it: a locked file, so that the place of a process that is killed is free again.
What is packed lies in a file whose name is a digest of how the service looks now. It is given to everybody who asks while
somebody still reads it, and the last one removes it, so slow readers, however many, hold one file of each service.
What is in a package is the business of `package`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import BinaryIO

from bdserver.errors import TooBusy
from bdserver.files import durable, package
from bdserver.files.bdcert import Service

# Of packages under way through a node, whoever asks. Each may be as large as package_bytes_max: 512 MiB of disk by default.
UNDER_WAY_MAX = 8
# Of those, for one caller: a node that does not read leaves places to the others.
OF_ONE_CALLER_MAX = 2
# To look for a place takes a fraction of a millisecond.
LOOK_SECONDS = 1.0
# A packed file begins with its SHA-256 in hex, so that it is worked out once as well.
DIGEST_BYTES = 64


class Parcel:
    """A package that lies ready, at its beginning. `described`: as the protocol declares it."""

    def __init__(self, kept: BinaryIO, path: str) -> None:
        self._kept, self._path = kept, path
        sha256 = kept.read(DIGEST_BYTES).decode()
        self.described = {"bytes": os.fstat(kept.fileno()).st_size - DIGEST_BYTES, "sha256": sha256}

    def opened(self) -> BinaryIO:
        """To read; whoever reads it closes it."""
        file = open(os.dup(self._kept.fileno()), "rb")  # noqa: SIM115 (it is handed on)
        file.seek(DIGEST_BYTES)
        return file

    def close(self) -> None:
        """It is wanted no longer: gone, unless somebody else has asked for it meanwhile."""
        with self._kept:
            _remove_unused(self._kept.fileno(), self._path)


class Parcels:
    """The folder of packages on their way, which all processes of a node share."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def place(self, caller: str) -> BinaryIO:
        """A place for a package that this caller asks for, its own until the file is closed; TooBusy when there is none."""
        free, theirs = None, 0
        with self._alone(".places", LOOK_SECONDS):
            for number in range(UNDER_WAY_MAX):
                try:
                    file = self._open(f".place.{number}")
                except durable.Unfit:  # something else lies there, which is no place
                    continue
                if not _is_ours_alone(file.fileno()):
                    theirs += file.read() == caller.encode()
                elif free is None:
                    free = file
                    continue
                file.close()
            if free is None or theirs >= OF_ONE_CALLER_MAX:
                if free is not None:
                    free.close()
                raise TooBusy(f"{UNDER_WAY_MAX} packages are under way, or {OF_ONE_CALLER_MAX} for {caller}: come later")
            os.ftruncate(free.fileno(), 0)
            os.pwrite(free.fileno(), caller.encode(), 0)
        return free

    def packed(self, service: Service, bytes_max: int, files_max: int, seconds: float) -> Parcel:
        """The package of a service, packed now, or by somebody whose caller still reads it; TooBusy when those before it take
        longer than so many seconds. Else as package.pack."""
        name = f"{service.name}.{package.look(service, files_max)}"
        path = os.path.join(self.folder, name)
        with self._alone(".packing", seconds):
            self._sweep()  # what is left is in use, and whole
            try:
                file = self._open(name, os.O_RDONLY)
            except FileNotFoundError:
                self._pack(service, path, bytes_max, files_max)
                file = self._open(name, os.O_RDONLY)
            fcntl.flock(file.fileno(), fcntl.LOCK_SH)  # whoever is just removing it has its lock for a moment
            return Parcel(file, path)

    def _pack(self, service: Service, path: str, bytes_max: int, files_max: int) -> None:
        new = path + ".new"
        try:
            with open(new, "wb") as file:
                file.write(bytes(DIGEST_BYTES))
                _, sha256 = package.pack(service, file, bytes_max, files_max)
                file.seek(0)
                file.write(sha256.encode())
            os.rename(new, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            raise

    def _sweep(self) -> None:
        """Remove what killed processes left."""
        for name in os.listdir(self.folder):
            if not name.startswith("."):
                # What is something else, nobody of us has left.
                with contextlib.suppress(OSError), self._open(name, os.O_RDONLY) as file:
                    _remove_unused(file.fileno(), os.path.join(self.folder, name))

    def _open(self, name: str, flags: int = os.O_RDWR | os.O_CREAT) -> BinaryIO:
        return open(durable.open_regular(os.path.join(self.folder, name), flags, follow=False, mode=0o600), "rb")

    @contextlib.contextmanager
    def _alone(self, name: str, seconds: float) -> Iterator[None]:
        """One process of this node at a time."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        with self._open(name) as file:
            durable.lock(file.fileno(), seconds, os.path.join(self.folder, name))
            yield


def _is_ours_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_unused(descriptor: int, path: str) -> None:
    if _is_ours_alone(descriptor) and durable.has_name(descriptor, path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
