"""A service as a tar stream: pack, check everything, unpack to scratch.

The stream is ustar with the service (NAME, or NAME/ and all below it) and NAME.bdcert: regular files and folders, nothing else.
It is read by our own loop over 512-byte headers and never by tarfile's extract: 3.11's tarfile has known escapes and
an endless loop. What is unpacked lies in a scratch folder, and goes live by services' one rename.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tarfile
import tempfile

from bdserver.errors import BadPackage, NoSpace, TooLarge

BLOCK_BYTES = 512
CHUNK_BYTES = 64 * 1024
# A service deeper or with longer names than this is no service that a web server serves.
DEPTH_MAX = 16
NAME_BYTES_MAX = 255
MEMBERS_EXTRA = 1  # the .bdcert
FILE, FOLDER = b"0", b"5"


def pack(service, out_file) -> tuple[int, str]:
    """Write the package of a services.Service; (bytes, sha256 in hex). The same service packs to the same bytes."""
    out = _Hashed(out_file)
    for name, path in _members(service):
        _pack_member(out, name, path)
    cert = "".join(f"{key}={value}\n" for key, value in service.pairs()).encode()
    _write_member(out, f"{service.name}.bdcert", len(cert), 0o644, FILE)
    out.write(cert + bytes(-len(cert) % BLOCK_BYTES))
    out.write(bytes(2 * BLOCK_BYTES))
    return out.length, out.hash.hexdigest()


def unpack(in_file, declared_sha256: str, service: str, scratch_dir: str, bytes_max: int, files_max: int) -> str:
    """Unpack to a new folder in `scratch_dir` and return its path; its owner renames or removes it.

    Raises BadPackage (a name, type, digest or cut that must not be), TooLarge, NoSpace; then nothing is left."""
    os.makedirs(scratch_dir, mode=0o700, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=f"{service}.", dir=scratch_dir)
    try:
        source = _Source(in_file, bytes_max)
        _unpack_members(source, service, folder, files_max)
        source.drain()
        if source.hash.hexdigest() != declared_sha256:
            raise BadPackage(f"package of {service}: its SHA-256 is not the declared {declared_sha256[:64]}")
        if not os.path.exists(os.path.join(folder, service)):
            raise BadPackage(f"package of {service}: there is no {service} in it")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{scratch_dir}: no space for {service}") from None
        raise BadPackage(f"package of {service}: {error.strerror}") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


# --- packing ------------------------------------------------------------------------------------------------------


class _Hashed:
    def __init__(self, file):
        self._file, self.hash, self.length = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.hash.update(data)
        self.length += len(data)


def _members(service):
    """(name in the package, path) of every file and folder, sorted; links and devices are an error."""
    yield service.name, service.path
    if os.path.isdir(service.path) and not os.path.islink(service.path):
        for folder, folders, files in os.walk(service.path):
            folders.sort()
            below = os.path.relpath(folder, service.path)
            for each in sorted([*folders, *files]):
                yield os.path.normpath(os.path.join(service.name, below, each)), os.path.join(folder, each)


def _pack_member(out: _Hashed, name: str, path: str) -> None:
    status = os.lstat(path)
    if os.path.islink(path) or not (os.path.isfile(path) or os.path.isdir(path)):
        raise BadPackage(f"{path}: only files and folders can be copied")
    if os.path.isdir(path):
        _write_member(out, name, 0, 0o755, FOLDER)
        return
    _write_member(out, name, status.st_size, 0o755 if status.st_mode & 0o111 else 0o644, FILE)
    left = status.st_size
    with open(path, "rb") as file:
        while left > 0:
            data = file.read(min(CHUNK_BYTES, left))
            if not data:
                raise BadPackage(f"{path}: became shorter while it was packed")
            out.write(data)
            left -= len(data)
    out.write(bytes(-status.st_size % BLOCK_BYTES))


def _write_member(out: _Hashed, name: str, length: int, mode: int, kind: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type = length, mode, kind
    try:
        out.write(info.tobuf(tarfile.USTAR_FORMAT))
    except (ValueError, UnicodeError) as error:
        raise BadPackage(f"{name}: {error}") from None


# --- unpacking ----------------------------------------------------------------------------------------------------


class _Source:
    """The stream, hashed as it is read, with an end."""

    def __init__(self, file, bytes_max: int):
        self._file, self._left, self._max = file, bytes_max, bytes_max
        self.hash = hashlib.sha256()

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; TooLarge beyond the limit."""
        data = self._file.read(count)
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(f"a package of more than {self._max} bytes")
        self.hash.update(data)
        return data

    def block(self) -> bytes:
        """One header; BadPackage when the stream is cut."""
        data = self.read(BLOCK_BYTES)
        if len(data) != BLOCK_BYTES:
            raise BadPackage("a package that ends in the middle")
        return data

    def drain(self) -> None:
        """To the end: what comes behind the last member counts for the digest."""
        while self.read(CHUNK_BYTES):
            pass


def _unpack_members(source: _Source, service: str, folder: str, files_max: int) -> None:
    count, seen = 0, set()
    while any(header := source.block()):
        count += 1
        if count > files_max + MEMBERS_EXTRA:
            raise TooLarge(f"package of {service}: more than {files_max} files")
        name, kind, mode, length = _read_header(header, service)
        if name in seen:
            raise BadPackage(f"package of {service}: {name!r} is in it twice")
        seen.add(name)
        path = os.path.join(folder, name)
        if kind == FOLDER:
            os.mkdir(path, 0o755)
        else:
            _unpack_file(source, path, length, 0o755 if mode & 0o111 else 0o644)


def _unpack_file(source: _Source, path: str, length: int, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        left = length
        while left > 0:
            data = source.read(min(CHUNK_BYTES, left))
            if not data:
                raise BadPackage("a package that ends in the middle")
            file.write(data)
            left -= len(data)
        source.read(-length % BLOCK_BYTES)
        file.flush()
        os.fsync(descriptor)


def _read_header(header: bytes, service: str) -> tuple[str, bytes, int, int]:
    """(name, kind, mode, length) of one member, all checked."""
    checksum = sum(header[:148]) + 8 * 0x20 + sum(header[156:])
    if header[257:262] != b"ustar" or _octal(header[148:156]) != checksum:
        raise BadPackage(f"package of {service}: a header that is not ustar")
    name, prefix = (header[a:b].split(b"\0")[0] for a, b in ((0, 100), (345, 500)))
    try:
        text = (prefix + b"/" + name if prefix else name).decode("ascii").removesuffix("/")
    except UnicodeDecodeError:
        raise BadPackage(f"package of {service}: a name that is not ASCII") from None
    kind, length = header[156:157], _octal(header[124:136])
    if kind not in (FILE, FOLDER):
        raise BadPackage(f"package of {service}: {text!r} is neither file nor folder")
    if kind == FOLDER and length:
        raise BadPackage(f"package of {service}: {text!r} is a folder with content")
    _check_name(text, kind, service)
    return text, kind, _octal(header[100:108]), length


def _check_name(text: str, kind: bytes, service: str) -> None:
    parts = text.split("/")
    if parts == [f"{service}.bdcert"] and kind == FILE:
        return
    is_odd = any(part in ("", ".", "..") or len(part) > NAME_BYTES_MAX or not part.isprintable() for part in parts)
    if is_odd or parts[0] != service or len(parts) > DEPTH_MAX:
        raise BadPackage(f"package of {service}: the name {text[:80]!r} must not be in it")


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise BadPackage("a package with a number that is not octal")
    return int(digits, 8)
