"""No matter what stands where a signature or a key is to be, it is a ValueError in one line; or it is read, is the same when it is
written and read again, and is good for nothing but what its key has signed.

    python -m tests.fuzz.fuzz_minisign

The input is taken for a .bdcert's signature, for minisign's files of a signature and of both halves of a key, and for a counter
and a package's SHA-256 that somebody else puts before a signature that is good.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from bdserver.files import minisign
from bdserver.files.minisign import RANDOM_BYTES, PublicKey, SecretKey, Signature
from bdserver.files.publishers import Signed, signed, statement
from tests.fuzz.running import fuzz

_KEY, _SHA256 = SecretKey.of_random(bytes(range(RANDOM_BYTES))), "0123456789abcdef" * 4
_SIGNED = signed(_KEY, "Echo", 7, _SHA256)
SEEDS = (_SIGNED.text.encode(), _SIGNED.signature.file, _KEY.file, _KEY.public.file)
TOKENS = (b" ", b"\n", b"\r\n", b"=", b"untrusted comment: ", b"trusted comment: ", b"RW", b"RU", b"0", b"9" * 20, b"\0", b"\xff",
          b"\xc2\xa0", b"\t", _SHA256.encode(), b"A" * 100)  # fmt: skip


def one(data: bytes) -> bool:
    """Whether it was any of them."""
    readers: tuple[tuple[Callable[[bytes], Any], Callable[[Any], bytes]], ...] = (
        (lambda given: Signed.of_text(given.decode(errors="replace")), lambda found: found.text.encode()),
        (Signature.of_file, lambda found: found.file),
        (SecretKey.of_file, lambda found: found.file),
        (PublicKey.of_file, lambda found: found.file),
    )
    found = [_is_read(data, *each) for each in readers]  # all are tried
    return any(found)


def _is_read(data: bytes, read: Callable[[bytes], Any], write: Callable[[Any], bytes]) -> bool:
    try:
        found = read(data)
    except ValueError as error:
        assert "\n" not in str(error)
        return False
    assert read(write(found)) == found
    if isinstance(found, Signed):
        is_ours = (found.counter, found.sha256, found.signature) == _SIGNED
        assert minisign.is_good(_KEY.public, found.signature, statement("Echo", found.counter, found.sha256)) == is_ours
    return True


if __name__ == "__main__":
    sys.exit(fuzz(one, SEEDS))
