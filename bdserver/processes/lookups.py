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
_TOLD = "at", "service", "client", "node", "phase", "why", "asked"
_HEAD = struct.Struct("<QHI")  # number, length, checksum


class LookUps:
    """A ring of them; the number of the newest stands at its beginning."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 + KEPT * SLOT_BYTES)

    def note(self, now: float, client: str, details: dict[str, Any], why: str = "") -> None:
        """`details`: the shape of `bdwhereis --json`."""
        asked = [[each["node"], each["answer"], each["ms"]] for each in details["asked"][-ASKED_KEPT_MAX:]]
        client, why = client[:WORDS_CHARACTERS_MAX], details.get("why", why)[:WORDS_CHARACTERS_MAX]
        said = [now, details["service"], client, details["node"] or "", details["phase"] or 0, why, asked]
        data = marshal.dumps(said)
        if len(data) > SLOT_BYTES - _HEAD.size:  # names of a hundred characters
            data = marshal.dumps([*said[:-1], []])
        if len(data) > SLOT_BYTES - _HEAD.size:
            return
        number = int.from_bytes(self._memory[:8], "little") + 1
        self._memory[:8] = number.to_bytes(8, "little")
        at = 8 + (number % KEPT) * SLOT_BYTES
        self._memory[at : at + _HEAD.size + len(data)] = _HEAD.pack(number, len(data), zlib.crc32(data)) + data

    def recent(self, service: str | None = None) -> list[dict[str, Any]]:
        """The newest first, or those of one service; what somebody is writing just now is left out."""
        found = []
        for at in range(8, len(self._memory), SLOT_BYTES):
            slot = self._memory[at : at + SLOT_BYTES]
            number, length, checksum = _HEAD.unpack_from(slot)
            data = slot[_HEAD.size : _HEAD.size + length]
            if number and zlib.crc32(data) == checksum:
                found.append((number, dict(zip(_TOLD, marshal.loads(data), strict=True))))
        found.sort(key=lambda each: -each[0])
        return [said | {"at": round(said["at"], 3)} for _, said in found if service in (None, said["service"])]
