"""A service as a tar stream: pack, check everything, unpack to scratch.

The stream is ustar with the service (NAME, or NAME/ and all below it) and NAME.bdcert, of a name of more than 93 characters
.bdcert alone: regular files and folders, nothing else.
It is read by our own loop over 512-byte headers and never by tarfile's extract: 3.11's tarfile has known escapes and
an endless loop. Both sides keep to the same limits. What is unpacked lies in a scratch folder, whole and on the disk, and goes
live by services' one rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from bdserver.core.membership import DIGEST_CHARACTERS
from bdserver.core.names import valid_name
from bdserver.errors import BadPackage, NoSpace, TooLarge
from bdserver.files import durable
from bdserver.files.bdcert import SUFFIX, Service

BLOCK_BYTES = 512
CHUNK_BYTES = 64 * 1024
# A service deeper than this is no service that a web server serves; and removing a tree goes as deep as it is.
DEPTH_MAX = 16
# What file systems take; ustar itself ends at 256 for the whole path, and at 100 for a name that is no path.
PART_BYTES_MAX = 255
NAME_BYTES_MAX = 100
# A .bdcert is a few lines; it is read whole.
CERT_BYTES_MAX = 64 * 1024
FILE, FOLDER = b"0", b"5"
FILE_MODE, PROGRAM_MODE, FOLDER_MODE = 0o644, 0o755, 0o755

# name, mode, uid, gid, size, mtime, checksum, kind, link, magic and version, owner, group, devices, prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s16s155s12x")
_MAGIC = b"ustar\x0000"


class Writes(Protocol):
    """Where a package goes to: a file, or a stream."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""


class Reads(Protocol):
    """Where a package comes from: a file, or a stream."""

    def read(self, count: int, /) -> bytes:
        """Some of the next `count` bytes, none at the end."""


def pack(service: Service, out_file: Writes, bytes_max: int | None = None, files_max: int | None = None) -> tuple[int, str]:
    """Write the package of a service; (bytes, sha256 in hex). The same service packs to the same bytes,
    whichever holder does it. BadPackage says what in it can't be copied; TooLarge, NoSpace."""
    if service.path is None:
        raise BadPackage(f"{service.name}: registered by its url, there is nothing to copy")
    out = _Sink(out_file, service.name, bytes_max, files_max)
    try:
        _pack_tree(out, service.name, service.path)
        _pack_cert(out, service)
        out.write(bytes(2 * BLOCK_BYTES))
    except OSError as error:
        if durable.is_full(error):
            raise NoSpace(f"no space to pack {service.name}") from None
        raise BadPackage(f"{durable.shown(str(error.filename or service.path))}: {error.strerror}") from None
    return out.length, out.hash.hexdigest()


def edition_digest(service: Service, bytes_max: int, files_max: int) -> str:
    """What tells one edition of a service from another: the first 32 hex digits of its package's SHA-256."""
    return edition_of(sha256_of(service, bytes_max, files_max))


def sha256_of(service: Service, bytes_max: int | None = None, files_max: int | None = None) -> str:
    """Of its package, in hex; it is packed only to be hashed."""
    return pack(service, _Nowhere(), bytes_max, files_max)[1]


def edition_of(sha256: str) -> str:
    """The same, of a package that is there."""
    return sha256[:DIGEST_CHARACTERS].lower()


def look(service: Service, files_max: int) -> str:
    """A digest that changes when the service does, by a look at its files' stamps, not at what is in them. A change within the
    same tick of the file system's clock may be missed, and one behind as many files as a package may have: it is too large."""
    seen = hashlib.sha256(repr(service).encode("utf-8", "surrogatepass"))
    for path, status in _statuses(service, files_max):
        seen.update(repr((path, status.st_mode, durable.stamp_of(status))).encode("utf-8", "surrogatepass"))
    return seen.hexdigest()[:32]


def rests_in(service: Service, files_max: int) -> float:
    """In how many seconds it is believed whole, if nobody changes its files meanwhile: 0 for what has rested."""
    stamps = (durable.stamp_of(status) for _, status in _statuses(service, files_max))
    return max(map(durable.rests_in, stamps), default=0.0)


def _statuses(service: Service, files_max: int) -> Iterator[tuple[str, os.stat_result]]:
    """(path, status) of all that it is made of, and of no more than a package may have; what can't be looked at is left out:
    packing says what is wrong."""
    to_see = [service.path] if service.path is not None else []
    for path in to_see:
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            yield path, status
            room = files_max + 1 - len(to_see)
            if stat.S_ISDIR(status.st_mode) and room > 0:
                to_see += [os.path.join(path, name) for name in sorted(os.listdir(path))[:room]]


class _Nowhere:
    """Takes what is packed only to be hashed."""

    def write(self, data: bytes, /) -> None:
        """Gone."""


def unpack(in_file: Reads, declared_sha256: str, service: str, scratch_dir: str, bytes_max: int, files_max: int) -> str:
    """Unpack to a new folder in `scratch_dir` and return its path; its owner renames or removes it.

    Raises BadPackage (a name, kind, digest or cut that must not be), TooLarge, NoSpace; then nothing is left."""
    if not valid_name(service):
        raise BadPackage(f"{service[:60]!r} is no service's name")
    os.makedirs(scratch_dir, mode=0o700, exist_ok=True)
    try:
        folder = tempfile.mkdtemp(prefix=f"{service}.", dir=scratch_dir)
    except OSError as error:
        raise NoSpace(f"{scratch_dir}: {error.strerror}") from None
    try:
        source = _Source(in_file, service, bytes_max)
        _unpack_members(source, service, folder, files_max)
        source.read_end()
        if source.hash.hexdigest() != declared_sha256.lower():
            raise source.bad(f"its SHA-256 is not the declared {declared_sha256[:64]!r}")
        for each, _, _ in os.walk(os.path.join(folder, service)):
            durable.sync(each)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and durable.is_full(error):
            raise NoSpace(f"{scratch_dir}: no space for {service}") from None
        raise
    return folder


def digest(file: BinaryIO) -> str:
    """Of what the file holds, whatever was declared; then it is at its beginning again."""
    found = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        found.update(chunk)
    file.seek(0)
    return found.hexdigest()


def _check_name(name: str, kind: bytes, service: str) -> None:
    """BadPackage for every name but NAME, NAME/… and the file NAME.bdcert."""
    if name == _cert_name(service) and kind == FILE:
        return
    parts = name.split("/")
    if parts[0] != service or any(not _is_plain(part) for part in parts):
        raise BadPackage(f"package of {service}: the name {name[:80]!r} must not be in it")
    if len(parts) > DEPTH_MAX:
        raise BadPackage(f"package of {service}: {name[:80]!r} lies deeper than {DEPTH_MAX}")


def _cert_name(service: str) -> str:
    """What a .bdcert is called in the package: as its file, but for a service whose name leaves no room in a header."""
    name = service + SUFFIX
    return name if len(name) <= NAME_BYTES_MAX else SUFFIX


def _is_plain(part: str) -> bool:
    """A name that is one step down and nothing else, for every program that may look at it."""
    return part not in ("", ".", "..") and "\\" not in part and part.isprintable() and _fits(part)


def _fits(part: str) -> bool:
    return len(part.encode("utf-8", "surrogatepass")) <= PART_BYTES_MAX


# --- packing ------------------------------------------------------------------------------------------------------


class _Sink:
    """The stream, hashed as it is written, within its limits."""

    def __init__(self, file: Writes, service: str, bytes_max: int | None, files_max: int | None):
        self._file, self._service = file, service
        self._bytes_max, self._files_left, self._files_max = bytes_max, files_max, files_max
        self.hash, self.length = hashlib.sha256(), 0

    def member(self, name: str, kind: bytes, length: int, mode: int) -> None:
        """A header; TooLarge before anything is written that leads beyond a limit."""
        import tarfile  # here: 0.3 MiB and a millisecond of each node's start, and few of them ever pack

        _check_name(name, kind, self._service)
        if self._files_left is not None and name != _cert_name(self._service):
            self._files_left -= 1
            if self._files_left < 0:
                raise TooLarge(f"{self._service} has more than {self._files_max} files and folders")
        self._check_length(length)
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.type = length, mode, kind
        try:
            self.write(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
        except ValueError:  # UnicodeError is one
            raise BadPackage(f"{name[:80]!r}: too long a path, or one that is not UTF-8, to be copied") from None

    def write(self, data: bytes) -> None:
        """Content, or padding."""
        self._check_length(len(data))
        self._file.write(data)
        self.hash.update(data)
        self.length += len(data)

    def pad(self) -> None:
        """To the end of the block."""
        self.write(bytes(-self.length % BLOCK_BYTES))

    def _check_length(self, more: int) -> None:
        if self._bytes_max is not None and self.length + more > self._bytes_max:
            raise TooLarge(f"{self._service} is larger than {self._bytes_max} bytes, packed")


def _pack_tree(out: _Sink, name: str, path: str) -> None:
    """A file, or a folder and what is in it by name; links and devices are an error."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode):
        _pack_file(out, name, path)
    elif stat.S_ISDIR(mode):
        out.member(name, FOLDER, 0, FOLDER_MODE)
        for each in sorted(os.listdir(path)):
            _pack_tree(out, f"{name}/{each}", os.path.join(path, each))
    else:
        raise BadPackage(f"{durable.shown(path)}: only files and folders can be copied")


def _pack_file(out: _Sink, name: str, path: str) -> None:
    try:
        descriptor = durable.open_regular(path, follow=False)
    except durable.Unfit:  # it was a file when its folder was listed
        raise BadPackage(f"{durable.shown(path)}: only files and folders can be copied") from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        out.member(name, FILE, status.st_size, PROGRAM_MODE if status.st_mode & 0o111 else FILE_MODE)
        left = status.st_size
        while left > 0:
            data = file.read(min(CHUNK_BYTES, left))
            if not data:
                raise BadPackage(f"{durable.shown(path)}: became shorter while it was packed")
            out.write(data)
            left -= len(data)
    out.pad()


def _pack_cert(out: _Sink, service: Service) -> None:
    """The .bdcert as it is at home; the node that unpacks it knows best what it is there, and since when."""
    pairs = service.offered().pairs()
    if any(character in key + value for key, value in pairs for character in "\r\n\0"):
        raise BadPackage(f"{service.name}: a value in its .bdcert is more than a line")
    cert = "".join(f"{key}={value}\n" for key, value in pairs).encode("utf-8", "replace")
    if len(cert) > CERT_BYTES_MAX:
        raise TooLarge(f"{service.name}: its .bdcert is larger than {CERT_BYTES_MAX} bytes")
    out.member(_cert_name(service.name), FILE, len(cert), FILE_MODE)
    out.write(cert)
    out.pad()


# --- unpacking ----------------------------------------------------------------------------------------------------


class _Source:
    """The stream, hashed as it is read, with an end."""

    def __init__(self, file: Reads, service: str, bytes_max: int):
        self._file, self._service = file, service
        self._max, self.left = bytes_max, bytes_max
        self.hash = hashlib.sha256()

    def bad(self, reason: str) -> BadPackage:
        """The error for a package that must not be installed."""
        return BadPackage(f"package of {self._service}: {reason}")

    def too_large(self) -> TooLarge:
        """The error for a package that is over its limit."""
        return TooLarge(f"package of {self._service}: more than {self._max} bytes")

    def read(self, count: int) -> bytes:
        """Some of the next `count` bytes, none at the end; TooLarge beyond the limit."""
        data = self._file.read(count)
        self.left -= len(data)
        if self.left < 0:
            raise self.too_large()
        self.hash.update(data)
        return data

    def exactly(self, count: int) -> Iterator[bytes]:
        """The next `count` bytes, in chunks; BadPackage when the stream is cut before."""
        while count > 0:
            data = self.read(min(count, CHUNK_BYTES))
            if not data:
                raise self.bad("it ends in the middle")
            count -= len(data)
            yield data

    def block(self) -> bytes:
        """One header, or what stands in its place."""
        return b"".join(self.exactly(BLOCK_BYTES))

    def read_end(self) -> None:
        """A second block of zeros, and nothing but zeros to the end."""
        data = self.block()
        while data:
            if data.count(0) != len(data):
                raise self.bad("there is something behind its end")
            data = self.read(CHUNK_BYTES)


def _unpack_members(source: _Source, service: str, folder: str, files_max: int) -> None:
    kinds: dict[str, bytes] = {}
    cert = _cert_name(service)
    while any(header := source.block()):
        name, kind, mode, length = _read_header(source, header, service)
        if len(kinds) - (cert in kinds) >= files_max and name != cert:
            raise TooLarge(f"package of {service}: more than {files_max} files and folders")
        if name in kinds:
            raise source.bad(f"{name[:80]!r} is in it twice")
        parent = name.rpartition("/")[0]
        if parent and kinds.get(parent) != FOLDER:
            raise source.bad(f"{name[:80]!r} comes before its folder")
        kinds[name] = kind
        path = os.path.join(folder, service + SUFFIX if name == cert else name)
        if kind == FOLDER:
            os.mkdir(path)
            os.chmod(path, FOLDER_MODE)
        else:
            _unpack_file(source, path, length, PROGRAM_MODE if mode & 0o111 else FILE_MODE)
    for name in (service, cert):
        if name not in kinds:
            raise source.bad(f"there is no {name} in it")


def _unpack_file(source: _Source, path: str, length: int, mode: int) -> None:
    if length > source.left:
        raise source.too_large()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for data in source.exactly(length):
            file.write(data)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    for _ in source.exactly(-length % BLOCK_BYTES):
        pass


def _read_header(source: _Source, header: bytes, service: str) -> tuple[str, bytes, int, int]:
    """(name, kind, mode, length) of one member, all checked."""
    name, mode, _, _, size, _, checksum, kind, _, magic, _, _, _, prefix = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise source.bad("a member that is not ustar")
    # The checksum is that of the header with blanks in its own place.
    if _octal(source, checksum) != sum(header) - sum(checksum) + len(checksum) * ord(" "):
        raise source.bad("a header whose checksum is wrong")
    if kind not in (FILE, FOLDER):
        raise source.bad(f"a member of kind {kind!r}: only files and folders may be in it")
    text, length = _path(source, prefix, name), _octal(source, size)
    if kind == FOLDER:
        text = text.removesuffix("/")
        if length:
            raise source.bad(f"{text[:80]!r} is a folder with content")
    _check_name(text, kind, service)
    if text == _cert_name(service) and length > CERT_BYTES_MAX:
        raise TooLarge(f"package of {service}: its .bdcert is larger than {CERT_BYTES_MAX} bytes")
    return text, kind, _octal(source, mode), length


def _path(source: _Source, prefix: bytes, name: bytes) -> str:
    prefix, name = (field.partition(b"\0")[0] for field in (prefix, name))
    try:
        return (prefix + b"/" + name if prefix else name).decode()
    except UnicodeDecodeError:
        raise source.bad("a name that is not UTF-8") from None


def _octal(source: _Source, field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise source.bad("a number that is not octal")
    return int(digits, 8)
