"""One conversation: requests and typed answers, one after the other, on one open stream.

The caller's opening goes out with its first request, unasked, so policies cost no round trip. Every step has the caller's
deadline (an instant of the monotonic clock). What comes is checked by core.messages' tables; an ["ERROR", code, text] comes
out as the exception of that code, nonsense as BadFrame. Both ends read with `next_message`. How to reach a node is dialling's
business, in which order to try several that of entrances.
"""

from __future__ import annotations

import select
import socket
import time

from bdserver.core import messages
from bdserver.core.wire import OLDEST, VERSION, Decoder, encode
from bdserver.errors import BadFrame, BDError, Deadline, NobodyThere, PolicyUnknown, TooLarge, from_wire

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Protocol

    from bdserver.net.identity import Identity

    class Stream(Protocol):
        """Bytes both ways: net.tls.Stream, or a local socket. Each call raises Deadline or NobodyThere."""

        @property
        def identity(self) -> Identity | None: ...
        def send(self, data: bytes, deadline: float) -> None: ...
        def recv(self, bytes_max: int, deadline: float) -> bytes: ...
        def hear_no_more(self) -> None: ...
        def fileno(self) -> int: ...
        def close(self) -> None: ...
        def break_off(self) -> None: ...


CHUNK_BYTES = 64 * 1024
# Places that are kept as they came: what a node answers differs by how long it took, in tenths of a millisecond.
PLACES_MAX, PLACE_BYTES_MAX = 64, 1024


class LocalStream:
    """A connected socket with the manners of net.tls.Stream, for the local socket."""

    identity = None

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, data: bytes, deadline: float) -> None:
        """All of it, or Deadline or NobodyThere."""
        self._await(deadline)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise Deadline("the time is over while sending") from None
        except OSError as error:
            raise NobodyThere(f"the connection broke: {error.strerror}") from None

    def recv(self, bytes_max: int, deadline: float) -> bytes:
        """What there is, b"" at the end."""
        self._await(deadline)
        try:
            return self._socket.recv(bytes_max)
        except TimeoutError:
            raise Deadline("the time is over while waiting for an answer") from None
        except OSError as error:
            raise NobodyThere(f"the connection broke: {error.strerror}") from None

    def _await(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Deadline("the time is over")
        self._socket.settimeout(left)

    def hear_no_more(self) -> None:
        """`recv` finds the end behind what has come so far. May be called by a signal's handler."""
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:  # it has ended already
            pass

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Never blocks."""
        self._socket.close()

    break_off = close  # there is no goodbye


class Conversation:
    """The caller's end. `identity`: of the node at the other end, None on the local socket; `where`: its address or path, which
    begins the text of each error."""

    def __init__(
        self,
        stream: Stream,
        where: str,
        policy_digest: str | None = None,
        policy_text: str | None = None,
        version: int = VERSION,
    ) -> None:
        self._stream = stream
        self._decoder = Decoder()
        self._places: dict[bytes, messages.Place] = {}
        self.where = where
        # A node names a policy that the other very likely knows, and says its text when asked for it.
        said_at_once = policy_text if policy_digest is None else None
        self._opening = messages.Opening(version, min(OLDEST, version), None, policy_digest, said_at_once)
        self._policy_text = policy_text if policy_digest is not None else None
        self._opened_for: float | None = None
        self.identity = stream.identity

    def ask(self, request: list[Any], deadline: float, package: BinaryIO | None = None) -> Any:
        """Send a request (and the bytes of `package`, an open file, behind it); the answer, of one of the types in its row.

        An answer to WHEREIS that says what one before has said is that one: nobody may change its details."""
        try:
            self._send(request, deadline, package)
        except NobodyThere:
            # A node that refuses a package hangs up while it still comes: why, it has said before.
            answer = self._last_word(request, deadline)
            if answer is None:
                raise
        else:
            answer = self._received(request, deadline)
        return self._refused(answer, request, deadline, package) if isinstance(answer, messages.Error) else answer

    def begin(self, request: list[Any], deadline: float) -> None:
        """Send a request whose answer `finish` receives."""
        self._stream.send(self._opening_bytes(deadline) + encode(request), deadline)

    def finish(self, request: list[Any], deadline: float) -> Any:
        """The answer to what was begun, as from `ask`."""
        answer = self._received(request, deadline)
        return self._refused(answer, request, deadline, None) if isinstance(answer, messages.Error) else answer

    def is_readable(self, deadline: float) -> bool:
        """Whether something comes until then."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(max(deadline - time.monotonic(), 0.0) * 1000))

    def _send(self, request: list[Any], deadline: float, package: BinaryIO | None) -> None:
        self._stream.send(self._opening_bytes(deadline) + encode(request), deadline)
        if package is not None:
            while chunk := package.read(CHUNK_BYTES):
                self._stream.send(chunk, deadline)

    def _received(self, request: list[Any], deadline: float) -> Any:
        """The answer, which may be an Error."""
        try:
            text = next_text(self._stream, self._decoder, deadline)
            if text is None:
                raise NobodyThere(f"{self.where} hung up without an answer")
            known = self._places.get(text) if request[0] == "WHEREIS" else None
            return known or self._read(request, text)
        except (BadFrame, TooLarge) as error:
            raise BadFrame(f"{self.where}: {error}") from None

    def _read(self, request: list[Any], text: bytes) -> Any:
        answer = messages.decode(request[0], self._decoder.read(text), request[1:])
        if isinstance(answer, messages.Place) and len(text) <= PLACE_BYTES_MAX:
            if len(self._places) >= PLACES_MAX:
                self._places.clear()
            self._places[text] = answer
        return answer

    def _last_word(self, request: list[Any], deadline: float) -> Any:
        try:
            return self._received(request, deadline)
        except BDError:
            return None

    def _refused(self, said: messages.Error, request: list[Any], deadline: float, package: BinaryIO | None) -> Any:
        """Raises what was said; but where our policy is not known by its digest, the answer to asking with its text."""
        refusal = from_wire(said.code, f"{self.where}: {said.text}")
        if isinstance(refusal, PolicyUnknown) and self._policy_text and package is None:
            self._opening = self._opening._replace(policy=None, policy_text=self._policy_text)
            self._policy_text = self._opened_for = None
            return self.ask(request, deadline)
        raise refusal

    def _opening_bytes(self, deadline: float) -> bytes:
        """Said first, and again when the time that is left has changed by a tenth."""
        left = max(deadline - time.monotonic(), 0.0)
        if self._opened_for is not None and 0.9 * self._opened_for <= left <= 1.1 * self._opened_for:
            return b""
        self._opened_for = left
        return encode(messages.opened(self._opening._replace(deadline=round(left, 3))))

    def receive_package(self, length: int, out_file: BinaryIO, deadline: float) -> None:
        """Copy the `length` raw bytes behind the last answer into a file; its digest is the receiver's to check."""
        receive(self._stream, self._decoder, length, out_file, deadline)

    def fileno(self) -> int:
        """The socket's, to wait on: a connection that is readable between two questions has hung up."""
        return self._stream.fileno()

    def close(self) -> None:
        """Hang up."""
        self._stream.close()

    def break_off(self) -> None:
        """Hang up without a goodbye: what was answered last is given back (docs/PROTOCOL.md)."""
        self._stream.break_off()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def next_message(stream: Stream, decoder: Decoder, deadline: float) -> Any:
    """The next message of a stream; None when the other end has hung up between two. BadFrame when it did so within one."""
    text = next_text(stream, decoder, deadline)
    return None if text is None else decoder.read(text)


def next_text(stream: Stream, decoder: Decoder, deadline: float) -> bytes | None:
    """As `next_message`, for `Decoder.read`."""
    while (text := decoder.next_text()) is None:
        data = stream.recv(CHUNK_BYTES, deadline)
        if not data:
            if decoder.pending_bytes:
                raise BadFrame("the connection ended in the middle of a frame")
            return None
        decoder.feed(data)
    return text


def receive(stream: Stream, decoder: Decoder, length: int, out_file: BinaryIO, deadline: float) -> None:
    """Copy `length` raw bytes from a stream (first what its decoder has already) into a file."""
    while length > 0:
        data = decoder.take(length) or stream.recv(min(length, CHUNK_BYTES), deadline)
        if not data:
            raise NobodyThere(f"the connection ended {length} bytes before the package did")
        out_file.write(data)
        length -= len(data)
