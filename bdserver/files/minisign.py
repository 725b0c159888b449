"""minisign's keys and signatures (Ed25519): bytes in, bytes out, as Debian's `minisign` reads and writes them.

A key pair is two files, of which the public one is as good as the line of base64 in it. A signature is a file of four lines:
the second proves what was signed, the fourth the trusted comment in the third, and both must be right. Whatever is no such file
is a ValueError in one line. Which keys count, and what is signed, is the business of publishers.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from hashlib import blake2b

from bdserver.core.tuples import NamedTuple

# Of an algorithm's two letters, the second tells what is signed: the message (of old), or its BLAKE2b, which is what we sign.
_OF_MESSAGE, _OF_HASH = b"Ed", b"ED"
_KEY_ALGORITHM, _NOT_ENCRYPTED, _CHECKSUM_ALGORITHM = b"Ed", b"\0\0", b"B2"
_ID_BYTES, _KEY_BYTES, _SIGNATURE_BYTES = 8, 32, 64
# Behind the three algorithms of a secret key, salt and limits of its encryption; behind the key, a checksum that `minisign -W`
# leaves empty.
_ENCRYPTION_BYTES, _CHECKSUM_BYTES = 32 + 8 + 8, 32
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "
# What our files have room for in one line; minisign's own, a time and a file's name, are shorter.
COMMENT_CHARACTERS_MAX = 300
# What a new key is made of.
RANDOM_BYTES = _ID_BYTES + _KEY_BYTES
FILE_BYTES_MAX = 4096
_IS_COMMENT = re.compile(r"(?:[!-~](?:[ -~\t]*[!-~])?)?")


class PublicKey(NamedTuple):
    """`id`: the 8 bytes by which a signature names it; anybody can make another key with the same."""

    id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The id as minisign shows it: 16 hex digits."""
        return name_of(self.id)

    @property
    def line(self) -> str:
        """The key in base64, as `minisign -P` takes it."""
        return b64encode(_KEY_ALGORITHM + self.id + self.key).decode()

    @property
    def file(self) -> bytes:
        """As `minisign -p` reads it."""
        return f"{_UNTRUSTED}minisign public key {self.name}\n{self.line}\n".encode()

    @classmethod
    def of_line(cls, line: str) -> PublicKey:
        """The key in a line of base64."""
        data = _decoded(line, len(_KEY_ALGORITHM) + _ID_BYTES + _KEY_BYTES, "a public key of minisign's")
        if data[:2] != _KEY_ALGORITHM:
            raise ValueError("a public key of another algorithm")
        return cls(data[2 : 2 + _ID_BYTES], data[2 + _ID_BYTES :])

    @classmethod
    def of_file(cls, data: bytes) -> PublicKey:
        """The key in a file, with its comment or without."""
        return cls.of_line(_lines(data, "a public key of minisign's")[-1])


class SecretKey(NamedTuple):
    """The private half."""

    id: bytes
    seed: bytes

    @property
    def public(self) -> PublicKey:
        """The other half."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return PublicKey(self.id, public.public_bytes(Encoding.Raw, PublicFormat.Raw))  # Debian 12's has no public_bytes_raw

    @property
    def file(self) -> bytes:
        """As `minisign -G -W` makes it: without a password."""
        body = _KEY_ALGORITHM + _NOT_ENCRYPTED + _CHECKSUM_ALGORITHM + bytes(_ENCRYPTION_BYTES)
        body += self.id + self.seed + self.public.key + bytes(_CHECKSUM_BYTES)
        return f"{_UNTRUSTED}minisign secret key {self.public.name}\n{b64encode(body).decode()}\n".encode()

    @classmethod
    def of_random(cls, data: bytes) -> SecretKey:
        """Of so many random bytes as RANDOM_BYTES says."""
        return cls(data[:_ID_BYTES], data[_ID_BYTES:])

    @classmethod
    def of_file(cls, data: bytes) -> SecretKey:
        """The key in a file; one with a password is for minisign alone."""
        what = "a secret key of minisign's"
        start = len(_KEY_ALGORITHM + _NOT_ENCRYPTED + _CHECKSUM_ALGORITHM) + _ENCRYPTION_BYTES
        body = _decoded(_lines(data, what)[-1], start + _ID_BYTES + 2 * _KEY_BYTES + _CHECKSUM_BYTES, what)
        if body[:2] != _KEY_ALGORITHM:
            raise ValueError("a secret key of another algorithm")
        if body[2:4] != _NOT_ENCRYPTED:
            raise ValueError("has a password, so minisign alone can sign with it")
        key, seed = cls(body[start : start + _ID_BYTES], body[start + _ID_BYTES :][:_KEY_BYTES]), start + _ID_BYTES
        if body[seed + _KEY_BYTES :][:_KEY_BYTES] != key.public.key:
            raise ValueError("is damaged: its two halves are not of one pair")
        return key


class Signature(NamedTuple):
    """`comment` is the trusted one, and `proof` what makes it so. `is_of_hash`: not the message was signed, but its hash."""

    id: bytes
    signature: bytes
    is_of_hash: bool
    comment: str
    proof: bytes

    @property
    def signer(self) -> str:
        """The id of the key that it says it is by."""
        return name_of(self.id)

    @property
    def texts(self) -> tuple[str, str, str]:
        """(signature, proof, comment), the first two in base64: what the file consists of."""
        body = (_OF_HASH if self.is_of_hash else _OF_MESSAGE) + self.id + self.signature
        return b64encode(body).decode(), b64encode(self.proof).decode(), self.comment

    @property
    def file(self) -> bytes:
        """As `minisign -x` reads it."""
        signature, proof, comment = self.texts
        return f"{_UNTRUSTED}signature by {self.signer}\n{signature}\n{_TRUSTED}{comment}\n{proof}\n".encode()

    @classmethod
    def of_texts(cls, signature: str, proof: str, comment: str) -> Signature:
        """The reverse of `texts`."""
        what = "a signature of minisign's"
        data = _decoded(signature, len(_OF_HASH) + _ID_BYTES + _SIGNATURE_BYTES, what)
        if data[:2] not in (_OF_HASH, _OF_MESSAGE):
            raise ValueError("a signature of another algorithm")
        if len(comment) > COMMENT_CHARACTERS_MAX or not _IS_COMMENT.fullmatch(comment):
            raise ValueError(f"a trusted comment that is not up to {COMMENT_CHARACTERS_MAX} characters of ASCII")
        proof_bytes = _decoded(proof, _SIGNATURE_BYTES, what)
        return cls(data[2 : 2 + _ID_BYTES], data[2 + _ID_BYTES :], data[:2] == _OF_HASH, comment, proof_bytes)

    @classmethod
    def of_file(cls, data: bytes) -> Signature:
        """The signature in a file."""
        what = "a signature of minisign's"
        found = _lines(data, what)
        if len(found) != 4 or not found[0].startswith(_UNTRUSTED) or not found[2].startswith(_TRUSTED):
            raise ValueError(f"not {what}")
        return cls.of_texts(found[1], found[3], found[2].removeprefix(_TRUSTED))


def name_of(key_id: bytes) -> str:
    """A key's id as minisign shows it."""
    return f"{int.from_bytes(key_id, 'little'):016X}"


def sign(key: SecretKey, message: bytes, comment: str) -> Signature:
    """The signature of a message, and of a trusted comment."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    signature = private.sign(blake2b(message).digest())
    return Signature(key.id, signature, True, comment, private.sign(signature + comment.encode()))


def is_good(key: PublicKey, signature: Signature, message: bytes) -> bool:
    """Whether this key has signed the message, and the comment."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if signature.id != key.id:
        return False
    try:
        public = Ed25519PublicKey.from_public_bytes(key.key)
        public.verify(signature.signature, blake2b(message).digest() if signature.is_of_hash else message)
        public.verify(signature.proof, signature.signature + signature.comment.encode())
    except InvalidSignature:
        return False
    return True


def _lines(data: bytes, what: str) -> list[str]:
    """Those of a file, one at least; of a comment's end no blank is lost."""
    try:
        found = data.decode().removesuffix("\n").split("\n") if len(data) <= FILE_BYTES_MAX else []
    except UnicodeDecodeError:
        found = []
    if not found or not found[-1]:
        raise ValueError(f"not {what}")
    return [line.removesuffix("\r") for line in found]


def _decoded(text: str, count: int, what: str) -> bytes:
    """So many bytes that were base64, in the one way to write them."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        data = b""
    if len(data) != count or b64encode(data).decode() != text:
        raise ValueError(f"not {what}")
    return data
