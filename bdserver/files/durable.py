"""How files are handled that processes share and that crashes leave behind: each way of doing it, once for all of files/.

- `replace`: a file is there whole or not at all. It is written beside, synced, renamed, and the folder is synced.
- `sync`: what was done so far is on the disk before what comes next.
- `append`, `append_lines`: one write, so that several processes may append to one file without a lock.
- `lock`: flock(2) with a deadline.
- `stamp`: has this file changed? Two stamps of one path differ when it has. `has_name`: is it still the file of this name?
- `open_regular`, `read`: regular files alone, and no more of them than a limit: a pipe of that name would keep us waiting.
- `shown`: a path that fits into a complaint, whatever bytes somebody named a file with.

A full disk is NoSpace, a lock that is not to be had in time TooBusy. Whatever else the system refuses stays an OSError, and
its `strerror` is fit for a complaint. What the bytes mean is the business of each file's own module.

A local bdwhereis reads its config through this module: nothing heavy is imported here.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from _operator import attrgetter  # operator's import would cost bdwhereis as much as all that it saves

from bdserver.core.tuples import NamedTuple
from bdserver.errors import NoSpace, TooBusy

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

LOCK_POLL_SECONDS = 0.002
# What an editor, cp or scp writes in place is empty or cut for a moment: it is believed whole when it was as it is for so long.
REST_NS = 1_000_000_000


class Stamp(NamedTuple):
    """What of a file's status changes when the file does.

    device, inode: another file was renamed into its place, be it of the same size and age, as `mv` and `cp -p` leave it.
    size: it grew or was cut, even within one tick of the file system's clock.
    mtime_ns: it was written in place.
    ctime_ns: the same, with the mtime set back, as rsync, tar and `touch -r` do; nobody can set this one back. It changes with
    owner and mode as well, after which a file may be readable that was not."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Unfit(OSError):
    """There is something of that name, and it is no file that we read: not a regular one, or larger than it may be."""


# --- looking ------------------------------------------------------------------------------------------------------


def stamp(path: str) -> Stamp | None:
    """What tells that the file has changed; None when it is not there, or not to be seen."""
    try:
        return stamp_of(os.stat(path))
    except OSError:
        return None


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp in a status."""
    return _new_tuple(Stamp, fields_of(status))


# What a stamp is made of. A look-up makes five looks, nearly all of which find nothing changed: those make no Stamp.
fields_of = attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
_new_tuple = tuple.__new__


def is_still(path: str, known: Stamp | None) -> bool:
    """Whether a look at this file shows what a look before has shown; None: nothing."""
    try:
        return fields_of(os.stat(path)) == known
    except OSError:
        return known is None


def age_ns(known: Stamp) -> int:
    """How long ago it was changed. A time to come, as after the clock was set back, says nothing: it is as long ago."""
    return abs(time.time_ns() - known.ctime_ns)


def rests_in(known: Stamp | None) -> float:
    """In how many seconds it is believed whole, if it stays as it is; 0: it is so now, or is not there."""
    return max(REST_NS - age_ns(known), 0) / 1e9 if known is not None else 0.0


def has_name(descriptor: int, path: str) -> bool:
    """Whether the open file is the one of this name: not removed, and no other put in its place."""
    named, ours = stamp(path), stamp_of(os.fstat(descriptor))
    return named is not None and (named.device, named.inode) == (ours.device, ours.inode)


def shown(path: str) -> str:
    """The path on one line and in Unicode: bytes that are no UTF-8 and control characters come escaped."""
    return path if path.isprintable() else "".join(map(_shown_character, path))


def _shown_character(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    # What os.listdir makes of a byte that is no UTF-8.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode()


def open_lock(path: str) -> BinaryIO:
    """A file to hold the lock of, made if there is none. Something else of its name, a pipe say, is not waited for."""
    return open(open_regular(path, os.O_RDWR | os.O_CREAT, mode=0o644), "r+b")


# --- reading ------------------------------------------------------------------------------------------------------


def open_regular(path: str, flags: int = os.O_RDONLY, *, follow: bool = True, mode: int = 0o640) -> int:
    """A descriptor of a regular file; Unfit for anything else of that name, without `follow` for a symbolic link too."""
    flags |= os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise Unfit(errno.ELOOP, "a symbolic link, not a regular file", path) from None
        if error.errno == errno.ENXIO:  # a socket, or a pipe that nobody reads
            raise Unfit(errno.ENXIO, "not a regular file", path) from None
        if error.errno == errno.EISDIR:
            raise Unfit(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        raise
    except ValueError:
        raise Unfit(errno.EINVAL, "no file can have this name", path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unfit(errno.EINVAL, "not a regular file", path)
    return descriptor


def read(path: str, bytes_max: int, *, follow: bool = True) -> tuple[bytes, os.stat_result]:
    """Content and status of a regular file; Unfit for one that is larger than `bytes_max`."""
    with open(open_regular(path, follow=follow), "rb") as file:
        status, data = os.fstat(file.fileno()), file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise Unfit(errno.EFBIG, f"larger than {bytes_max} bytes", path)
    return data, status


def is_passing(error: OSError) -> bool:
    """Whether this says something of the host at the moment, and nothing of the file."""
    return error.errno in _PASSING


_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN)


# --- writing ------------------------------------------------------------------------------------------------------


def is_full(error: OSError) -> bool:
    """Whether this means that the disk, or somebody's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def replace(
    path: str,
    chunks: Iterable[bytes],
    *,
    mode: int = 0o666,
    like: os.stat_result | None = None,
    is_synced: bool = True,
    is_named: bool = True,
) -> Stamp:
    """Put a file of these bytes in the place of `path`, whole or not at all; its stamp.

    Without `is_named`, a crash of the machine soon after may bring back the file that was there before, whole.
    `like`: it gets mode and owner of a file in this state, else `mode` as the umask leaves it. Without `is_synced`, a crash
    of the machine may leave an empty file. What another crash leaves is named `.NAME.new.PID`: with a dot, so that web servers
    and we ourselves pass over it, and with the process, so that two of them never write to the same one."""
    folder, name = os.path.split(path)
    new = os.path.join(folder, f".{name}.new.{os.getpid()}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(new, flags, mode if like is None else 0o600)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None  # nobody knows the other name
        try:
            for chunk in chunks:
                append(descriptor, chunk)
            if like is not None:
                if os.geteuid() == 0:
                    os.fchown(descriptor, like.st_uid, like.st_gid)
                os.fchmod(descriptor, like.st_mode & 0o777)
            if is_synced:
                os.fsync(descriptor)
            os.replace(new, path)
            made = stamp_of(os.fstat(descriptor))  # behind the rename, which changes the ctime
        finally:
            os.close(descriptor)
        if is_synced and is_named:
            sync(folder or ".")
    except BaseException as error:
        _unlink(new)
        if isinstance(error, OSError) and is_full(error):
            raise NoSpace(f"{shown(path)}: {error.strerror}") from None
        raise
    return made


def sweep(path: str) -> None:
    """Remove what killed processes left of a `replace`; when nobody else is at work on this file."""
    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder or ".")
    except OSError:  # no folder, no remains
        return
    for each in names:
        if each.startswith(f".{name}.new."):
            _unlink(os.path.join(folder, each))


def append(descriptor: int, data: bytes) -> None:
    """One write; behind all that is there, if it was opened so. A short one, on a disk that is nearly full, is finished by
    another, which raises when there is no room for the rest."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def append_lines(descriptor: int, lines: bytes) -> None:
    """One write, as `append`. If a full disk or a crash left half a line before, ours begins on its own all the same. An
    empty line comes of it when another process is in the middle of its write just then: readers pass over those."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        lines = b"\n" + lines
    append(descriptor, lines)


def exchange(one: str, other: str) -> None:
    """Two files or folders of one file system change places, in one step: nobody finds either place empty (renameat2(2) of
    Linux). Where that is not to be had, the other is away for a moment."""
    try:
        _renameat2(one, other, _RENAME_EXCHANGE)
        return
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
    beside = f"{other}.moving.{os.getpid()}"
    beside = os.path.join(os.path.dirname(beside), f".{os.path.basename(beside)}")
    os.rename(other, beside)
    os.rename(one, other)
    os.rename(beside, one)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _renameat2(one: str, other: str, flags: int) -> None:
    import ctypes  # here: few processes ever exchange anything

    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if function(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one)


def sync(path: str) -> None:
    """What was written to this file, or was made, renamed or removed in this folder, is on the disk before anything that
    comes later: a power cut keeps no order of its own."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # it was never made, or its disk is beyond our help: the caller gets the first error
        pass


# --- locking ------------------------------------------------------------------------------------------------------


def lock(descriptor: int, seconds: float, path: str, *, is_shared: bool = False) -> None:
    """Hold the lock of a file until it is closed or unlocked; TooBusy, with its path, when others have it for so long."""
    import fcntl

    kind, deadline = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX, time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TooBusy(f"{shown(path)}: its lock was not to be had in {seconds:g} s") from None
            time.sleep(LOCK_POLL_SECONDS)


def unlock(descriptor: int) -> None:
    """Let the lock go."""
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_UN)
