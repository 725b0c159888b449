"""The time line of this node, USERNAME.bdtimeline: a ring of minutes, of a size that never changes.

A slot a minute, at the place of its number, each with a checksum: a kill, a power cut or damage costs that minute, which is a
gap then, and no other. It is written in place, by one process, and not synced: what a power cut takes is the newest minutes. A
file that is none of ours, or of another size, is made anew, with what of it can be read.
"""

from __future__ import annotations

import math
import os
import struct
import zlib

from bdserver.core.timeline import Span
from bdserver.errors import NoSpace
from bdserver.files import durable

# start, seconds, deaths, copies, (nothing), calls, weight, peak, threshold
_SLOT = struct.Struct("<IHHHHIfff")
# With its checksum, so that none lies across two pages.
SLOT_BYTES = 32
_MAGIC = b"bdserver time line 1\n".ljust(SLOT_BYTES, b"\0")
MINUTES_MAX = 168 * 60
FILE_BYTES_MAX = SLOT_BYTES * (1 + MINUTES_MAX)
SHORT_MAX, LONG_MAX = 0xFFFF, 0xFFFFFFFF


class Timeline:
    """The newest `minutes` of them."""

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, minute: Span, minutes: int) -> None:
        """Keep a minute; one of the same number is replaced. NoSpace when the disk does not take it."""
        size = SLOT_BYTES * (1 + minutes)
        try:
            descriptor = self._ours(size)
            if descriptor is None:
                known = [each for each in self.read() if each.start > minute.start - minutes]
                durable.replace(self.path, [_MAGIC, *_ring(known, minutes)], is_synced=False)
                descriptor = durable.open_regular(self.path, os.O_RDWR)
            try:
                os.pwrite(descriptor, _packed(minute), SLOT_BYTES * (1 + minute.start % minutes))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise NoSpace(f"{durable.shown(self.path)}: {error.strerror}") from None

    def _ours(self, size: int) -> int | None:
        """Open for writing; None when it is not there, or not what we have left."""
        try:
            descriptor = durable.open_regular(self.path, os.O_RDWR)
        except FileNotFoundError:
            return None
        is_ours = False
        try:
            is_ours = os.fstat(descriptor).st_size == size and os.pread(descriptor, SLOT_BYTES, 0) == _MAGIC
        finally:
            if not is_ours:
                os.close(descriptor)
        return descriptor if is_ours else None

    def read(self) -> list[Span]:
        """All minutes that are whole, in no order; of a file that can't be read, none."""
        try:
            data = durable.read(self.path, FILE_BYTES_MAX)[0]
        except OSError:
            return []
        if data[:SLOT_BYTES] != _MAGIC:
            return []
        slots = (data[at : at + SLOT_BYTES] for at in range(SLOT_BYTES, len(data), SLOT_BYTES))
        return [span for span in map(_unpacked, slots) if span is not None]

    def at(self, start: int) -> Span | None:
        """The minute of that number, if it is kept."""
        return next((each for each in self.read() if each.start == start), None)


def _ring(known: list[Span], minutes: int) -> list[bytes]:
    slots = [bytes(SLOT_BYTES)] * minutes
    for each in sorted(known):
        slots[each.start % minutes] = _packed(each)
    return slots


def _packed(minute: Span) -> bytes:
    deaths, copies, seconds = (min(each, SHORT_MAX) for each in (minute.deaths, minute.copies, minute.seconds))
    amounts = (minute.weight, minute.peak, minute.threshold)
    data = _SLOT.pack(minute.start, seconds, deaths, copies, 0, min(minute.calls, LONG_MAX), *amounts)
    return data + struct.pack("<I", zlib.crc32(data))


def _unpacked(slot: bytes) -> Span | None:
    if len(slot) != SLOT_BYTES or zlib.crc32(slot[:-4]) != int.from_bytes(slot[-4:], "little"):
        return None
    start, seconds, deaths, copies, _, calls, *amounts = _SLOT.unpack(slot[:-4])
    if not all(math.isfinite(each) and each >= 0 for each in amounts):
        return None
    return Span(start, seconds, calls, deaths, copies, *amounts)
