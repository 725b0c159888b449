"""The admin_password: a hash of it in the config, the comparison, and how often strangers may guess. scrypt, from hashlib."""

from __future__ import annotations

import hashlib
import hmac
import os
import time

from bdserver.files import durable

# RFC 7914's interactive cost: some 50 ms and 16 MiB a try. Written into each hash, so that it can rise one day.
COST, BLOCK, PARALLEL = 2**14, 8, 1
SALT_BYTES, HASH_BYTES = 16, 32
PREFIX = "scrypt$"
# A hash that somebody edited must not cost us a gigabyte at each KILL.
MEMORY_BYTES_MAX = 64 << 20
# Behind a wrong one, nobody's is compared for so long: a guesser of many connections gets through a million in eleven days,
# and costs the host a twentieth of a core.
WRONG_SECONDS = 1.0


def hash_password(password: str) -> str:
    """`scrypt$cost$block$parallel$salt$hash` for the config, salt and hash in hex."""
    salt = os.urandom(SALT_BYTES)
    return f"{PREFIX}{COST}${BLOCK}${PARALLEL}${salt.hex()}${_scrypt(password, salt, COST, BLOCK, PARALLEL).hex()}"


def is_hash(stored: str) -> bool:
    """Whether it is a whole hash as `hash_password` makes them, and not the remains of one."""
    return _parts(stored) is not None


def password_matches(given: str, stored: str) -> bool:
    """Whether `given` is the password in the config, plain or hashed, compared in constant time.

    Where none is stored, nothing matches."""
    if not stored:
        return False
    if not stored.startswith(PREFIX):
        return hmac.compare_digest(_bytes(given), _bytes(stored))
    parts = _parts(stored)
    if parts is None:
        return False
    cost, block, parallel, salt, expected = parts
    return hmac.compare_digest(_scrypt(given, salt, cost, block, parallel), expected)


def is_guessed(given: str, stored: str, folder: str) -> bool:
    """As `password_matches`, for somebody who may be guessing: one at a time in all processes that name the same folder, and a
    pause behind each wrong one. TooBusy, without a comparison, while another one is under way."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        durable.lock(descriptor, 0.0, folder)
        is_right = password_matches(given, stored)
        if not is_right:
            time.sleep(WRONG_SECONDS)
        return is_right
    finally:
        os.close(descriptor)


def _parts(stored: str) -> tuple[int, int, int, bytes, bytes] | None:
    try:
        cost, block, parallel, salt, expected = stored.removeprefix(PREFIX).split("$")
        parts = int(cost), int(block), int(parallel), bytes.fromhex(salt), bytes.fromhex(expected)
    except ValueError:
        return None
    is_usable = parts[0] > 1 and parts[0] & (parts[0] - 1) == 0 and parts[1] > 0 and 0 < parts[2] <= 16
    is_whole = stored.startswith(PREFIX) and len(parts[3]) == SALT_BYTES and len(parts[4]) == HASH_BYTES
    return parts if is_usable and is_whole and 128 * parts[0] * parts[1] <= MEMORY_BYTES_MAX // 2 else None


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(_bytes(password), salt=salt, n=cost, r=block, p=parallel, maxmem=MEMORY_BYTES_MAX, dklen=HASH_BYTES)


def _bytes(text: str) -> bytes:
    # JSON can carry half a surrogate pair; it is a wrong password then, and no crash.
    return text.encode("utf-8", "surrogatepass")
