"""The last look-ups that this node answered, and why each went where it went; on memory that all of its processes share.

It informs, and delays nobody: no lock is taken, a look-up is noted after its answer, and of two that are noted in the same
moment one may be lost. Made before the first fork; gone with the node.
"""

from __future__ import annotations

import marshal
import mmap
import struct
import zlib
from typing import Any

KEPT = 64
SLOT_BYTES = 1024
# Of those that were asked, the last ones.
ASKED_KEPT_MAX = 6
WORDS_CHARACTERS_MAX = 100
_TOLD = "service", "client", "node", "phase", "why", "asked"
_STAMP = struct.Struct("<QdH")  # number, time, length
_CHECKSUM = struct.Struct("<I")  # of what follows, then of the stamp
_HEAD_BYTES = _STAMP.size + _CHECKSUM.size


class LookUps:
    """A ring of them; the number of the newest stands at its beginning."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 + KEPT * SLOT_BYTES)
        self._details: dict[str, Any] | None = None  # of the last one, and what was written of it
        self._about = "", ""
        self._said, self._checksum = b"", 0

    def note(self, now: float, client: str, details: dict[str, Any], why: str = "") -> None:
        """`details`: the shape of `bdwhereis --json`; the same object as the last time says the same."""
        about = client, why
        if details is not self._details or about != self._about:
            self._details, self._about, self._said = details, about, _written(client, details, why)
            self._checksum = zlib.crc32(self._said)
        data = self._said
        if len(data) > SLOT_BYTES - _HEAD_BYTES:
            return
        number = int.from_bytes(self._memory[:8], "little") + 1
        self._memory[:8] = number.to_bytes(8, "little")
        at = 8 + (number % KEPT) * SLOT_BYTES
        stamp = _STAMP.pack(number, now, len(data))
        self._memory[at : at + _HEAD_BYTES + len(data)] = stamp + _CHECKSUM.pack(zlib.crc32(stamp, self._checksum)) + data

    def recent(self, service: str | None = None) -> list[dict[str, Any]]:
        """The newest first, or those of one service; what somebody is writing just now is left out."""
        found = []
        for at in range(8, len(self._memory), SLOT_BYTES):
            slot = self._memory[at : at + SLOT_BYTES]
            number, noted_at, length = _STAMP.unpack_from(slot)
            data = slot[_HEAD_BYTES : _HEAD_BYTES + length]
            if number and (zlib.crc32(slot[: _STAMP.size], zlib.crc32(data)),) == _CHECKSUM.unpack_from(slot, _STAMP.size):
                found.append((number, {"at": round(noted_at, 3), **dict(zip(_TOLD, marshal.loads(data), strict=True))}))
        found.sort(key=lambda each: -each[0])
        return [said for _, said in found if service in (None, said["service"])]


def _written(client: str, details: dict[str, Any], why: str) -> bytes:
    asked = [[each["node"], each["answer"], each["ms"]] for each in details["asked"][-ASKED_KEPT_MAX:]]
    client, why = client[:WORDS_CHARACTERS_MAX], details.get("why", why)[:WORDS_CHARACTERS_MAX]
    said = [details["service"], client, details["node"] or "", details["phase"] or 0, why, asked]
    data = marshal.dumps(said)
    if len(data) > SLOT_BYTES - _HEAD_BYTES:  # names of a hundred characters
        data = marshal.dumps([*said[:-1], []])
    return data
