"""How keys and certificates are written: a private key is 0600 from its first instant and never overwritten, and every file
appears whole or not at all, on the disk before anything that comes later.

Leaves to others what they say (`issuing`, `authority`), and reading them (`keys`).
"""

from __future__ import annotations

import contextlib
import os

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bdserver.errors import BadConfig
from bdserver.net import keys


def new_key(path: str) -> ec.EllipticCurvePrivateKey:
    """A key in a new file that only its owner could ever read."""
    key = ec.generate_private_key(ec.SECP256R1())
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        create(path, data, 0o600)
    except FileExistsError:
        raise BadConfig(f"{path}: is there already, and a key is never overwritten") from None
    return key


def kept_key(path: str) -> ec.EllipticCurvePrivateKey:
    """The key in the file, made now if there is none."""
    return keys.load_key(path) if os.path.exists(path) else new_key(path)


def pem(certificates: list[x509.Certificate]) -> bytes:
    """All of them, as they lie in a file."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def refuse_existing(*paths: str) -> None:
    """BadConfig when one of them is there."""
    for path in paths:
        if os.path.exists(path):
            raise BadConfig(f"{path}: is there already, and is not overwritten")


def write(path: str, data: bytes) -> None:
    """A public file, whole or not at all. Anybody may read it, whatever the umask: a node runs as another user than root."""
    os.replace(_beside(path, data, 0o644), path)
    settle(os.path.dirname(path) or ".")


def create(path: str, data: bytes, mode: int) -> None:
    """A new file, whole or not at all; FileExistsError when there is one of that name."""
    new = _beside(path, data, mode)
    try:
        os.link(new, path)
    finally:
        os.unlink(new)


def _beside(path: str, data: bytes, mode: int) -> str:
    """A file beside this one with all of this on the disk; its path."""
    new = f"{path}.new.{os.getpid()}"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)  # of a crash of another process that had our number
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        os.unlink(new)
        raise BadConfig(f"{path}: can't be written: {error.strerror}") from None
    return new


def make_folder(folder: str) -> None:
    """A folder that its owner alone can enter, on the disk with those above it."""
    path, made = os.path.abspath(folder), []
    while not os.path.isdir(path):
        path = os.path.dirname(path)
        made.append(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for each in made:
        settle(each)


def settle(folder: str) -> None:
    """A new name in a folder lasts through a power cut only when the folder is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise BadConfig(f"{folder}: can't be written: {error.strerror}") from None
    finally:
        os.close(descriptor)
