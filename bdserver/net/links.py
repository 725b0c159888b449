"""A link: one TLS connection of many in a loop, from its opening to its end, with whole messages both ways.

A link never waits: the loop tells it that its socket is ready, and it takes its next steps; what it wants to be told of is
`wants()`. Messages that came before its end are handed out before the end is told. Limits: a handshake and a frame each have
their time, what waits to be sent has a size, so a peer that is silent, half open, dripping or does not read costs a descriptor
for some seconds, and no more; what is decoded in a turn has a size, so one that floods us gives others their turn. What is
asked on it, and answered, is for others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from bdserver.core.wire import NEWS_BYTES_MAX, NEWS_VALUES_MAX, Decoder
from bdserver.errors import BadFrame, BDError, Deadline, NobodyThere, Refused, TooLarge
from bdserver.net.tls import Channel, Want

CHUNK_BYTES = 64 * 1024
# A message is at most 1 MiB on its way; a peer that lets more than this pile up does not read.
WAITING_BYTES_MAX = 4 << 20
# Of one link, so much is read before the others have their turn.
READS_MAX = 4
# When so much of its messages is decoded, or so many are, the rest waits for the next turn: a kilobyte on its way may be a
# megabyte, which takes some 20 ms. The last message of a turn may be longer.
DECODED_BYTES_MAX, MESSAGES_MAX = 1 << 20, 64
# For connecting and shaking hands, when all is well; and for the rest of a frame of which some has come.
OPENING_SECONDS, FRAME_SECONDS = 5.0, 5.0


class State(StrEnum):
    """How far a link has come."""

    CONNECTING = "connecting"  # TCP is on its way
    SHAKING = "shaking"  # TLS is
    OPEN = "open"  # the other end is proved
    CLOSED = "closed"


class Link:
    """One connection. `where`: as logs name it; `used_at`: when something came last; `ended`: why no more will come;
    `counted("sent" or "received", bytes)` hears of what has gone through it."""

    def __init__(self, channel: Channel, where: str, clock: float, is_connected: bool, opening_seconds: float) -> None:
        self.channel, self.where = channel, where
        self.state = State.SHAKING if is_connected else State.CONNECTING
        self.used_at = clock
        self.ended: BDError | None = None
        self.counted: Callable[[str, int], None] = lambda way, count: None
        self._decoder = Decoder(NEWS_BYTES_MAX, NEWS_VALUES_MAX)
        self._out = bytearray()
        self._want = Want.WORD if is_connected else Want.ROOM
        self._late_at = clock + opening_seconds
        self._is_behind = False  # whole messages may have come that were not handed out yet

    @property
    def name(self) -> str:
        """The name of the node at the other end, as its certificate proves it once the link is OPEN."""
        return self.channel.identity.name

    def fileno(self) -> int:
        """For a selector."""
        return self.channel.sock.fileno()

    def wants(self) -> int:
        """What a selector is to wait for. The socket does not tell of what we have read already: while something of that waits,
        room for an answer is what we wait for, which there is, unless the peer does not read."""
        if self.state is State.OPEN:
            return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out or self._is_behind else 0)
        return selectors.EVENT_WRITE if self._want is Want.ROOM else selectors.EVENT_READ

    def late_at(self) -> float:
        """When its patience ends: with an opening that is under way, or a frame of which some has come."""
        return self._late_at

    def say(self, frame: bytes) -> None:
        """Send this as soon as may be."""
        if len(self._out) + len(frame) > WAITING_BYTES_MAX:
            raise TooLarge(f"{self.where} does not read: {len(self._out)} bytes wait for it")
        self._out += frame
        if self.state is State.OPEN:
            self._write()

    @property
    def decoded_bytes(self) -> int:
        """Of all messages so far, inflated."""
        return self._decoder.decoded_bytes

    @property
    def is_behind(self) -> bool:
        """Whether more may have come than was handed out."""
        return self._is_behind

    def ready(self, clock: float, messages_max: int = MESSAGES_MAX) -> list[Any]:
        """Take the steps that can be taken; the messages that came whole, not more than these. BDError when it is over; when
        messages came before that, it is in `ended`. With the step that opens it no message is read yet: who is it, first?"""
        if self.state is State.CONNECTING:
            self._connected()
        was_open = self.state is State.OPEN
        if self.state is State.SHAKING:
            self._shake()
        if self.state is not State.OPEN:
            return []
        self.used_at = clock
        self._write()
        return self._messages(clock, messages_max) if was_open else []

    def late(self, clock: float) -> BDError | None:
        """What to say when its patience has ended."""
        if clock < self._late_at:
            return None
        if self.state is State.OPEN:
            return BadFrame(f"{self.where} sent half a message, and no more")
        return Deadline(f"{self.where} did not shake hands in time")

    def rest(self) -> None:
        """Nobody reads it for a while: meanwhile half a message is not late."""
        if self.state is State.OPEN:
            self._late_at = float("inf")

    def close(self) -> None:
        """Hang up, without waiting."""
        if self.state is not State.CLOSED:
            was_open = self.state is State.OPEN
            self.state = State.CLOSED
            (self.channel.close if was_open else self.channel.break_off)()

    # -- steps

    def _connected(self) -> None:
        number = self.channel.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number == errno.ECONNREFUSED:
            raise Refused(f"{self.where}: connection refused")
        if number:
            raise NobodyThere(f"{self.where}: {os.strerror(number)}")
        self.state = State.SHAKING

    def _shake(self) -> None:
        self._want = self.channel.shake()
        if self._want is Want.NOTHING:
            self.state, self._late_at = State.OPEN, float("inf")

    def _write(self) -> None:
        while self._out:
            with memoryview(self._out) as view:
                taken = self.channel.write(view[:CHUNK_BYTES])
            if not taken:
                return
            self.counted("sent", taken)
            del self._out[:taken]

    def _messages(self, clock: float, messages_max: int) -> list[Any]:
        found: list[Any] = []
        try:
            self._read(found, messages_max)
        except BDError as error:
            if not found:
                raise
            self.ended = error
        if not self._decoder.pending_bytes or self._is_behind:
            self._late_at = float("inf")
        elif self._late_at == float("inf") or found:
            self._late_at = clock + FRAME_SECONDS
        return found

    def _read(self, found: list[Any], messages_max: int) -> None:
        bytes_until = self._decoder.decoded_bytes + DECODED_BYTES_MAX
        if not self._decode(found, bytes_until, messages_max):
            return
        for _ in range(READS_MAX):
            data = self.channel.read(CHUNK_BYTES)
            if data == b"":
                raise NobodyThere(f"{self.where} hung up")
            if data is None:
                return
            self.counted("received", len(data))
            self._decoder.feed(data)
            if not self._decode(found, bytes_until, messages_max) or (found and not self.channel.pending()):
                return  # what is still in the kernel it tells us of; to ask for nothing costs as much as to read

    def _decode(self, found: list[Any], bytes_until: int, messages_max: int) -> bool:
        """Whether there may be more of it in this turn."""
        self._is_behind = False
        while (message := self._decoder.next_message()) is not None:
            found.append(message)
            if self._decoder.decoded_bytes >= bytes_until or len(found) >= messages_max:
                self._is_behind = self._decoder.pending_bytes > 0
                return False
        return True


def watch(selector: selectors.BaseSelector, link: Link, data: object) -> None:
    """Have the selector wait for what the link wants now; `data` comes with its events."""
    if link.state is State.CLOSED:
        return
    try:
        key = selector.get_key(link)
    except KeyError:
        selector.register(link, link.wants(), data)
        return
    if key.events != link.wants():
        selector.modify(link, link.wants(), data)


def hang_up(selector: selectors.BaseSelector, link: Link) -> None:
    """Close the link; the selector forgets it first, since the next socket may get its number."""
    with contextlib.suppress(KeyError, ValueError):
        selector.unregister(link)
    link.close()
