"""The admin_password: a hash of it in the config, and the comparison. scrypt, from hashlib."""

from __future__ import annotations

import hashlib
import hmac
import os

# RFC 7914's interactive cost: some 50 ms and 16 MiB a try.
COST, BLOCK, PARALLEL = 2**14, 8, 1
PREFIX = "scrypt$"


def hash_password(password: str) -> str:
    """`scrypt$salt$hash`, in hex, for the config."""
    salt = os.urandom(16)
    return f"{PREFIX}{salt.hex()}${_scrypt(password, salt).hex()}"


def password_matches(given: str, stored: str) -> bool:
    """Whether `given` is the password in the config, plain or hashed, compared in constant time."""
    if not stored.startswith(PREFIX):
        return hmac.compare_digest(given.encode(), stored.encode())
    try:
        salt, expected = (bytes.fromhex(part) for part in stored.removeprefix(PREFIX).split("$"))
    except ValueError:
        return False
    return hmac.compare_digest(_scrypt(given, salt), expected)


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=COST, r=BLOCK, p=PARALLEL, dklen=32)
