"""One conversation as caller: over the local socket or over TLS, policies and deadline said in the opening.

The opening goes out with the first request, unasked, so policies cost no round trip. Every step has the caller's
deadline (an instant of the monotonic clock). An ["ERROR", code, text] comes out as the exception of that code. TLS is
imported only where it is used: `bdwhereis` would pay for it at each start.
"""

from __future__ import annotations

import socket
import time

from bdserver.core.wire import OLDEST, VERSION, Decoder, encode
from bdserver.errors import (
    BadConfig,
    BadFrame,
    CantFind,
    Deadline,
    NobodyThere,
    PolicyMismatch,
    PolicyUnknown,
    Refused,
    from_wire,
)

CHUNK_BYTES = 64 * 1024
# Between two tries at a local socket whose backlog is full.
FULL_PAUSE = 0.005


class LocalStream:
    """A connected socket with the manners of tls.Stream, for the local socket."""

    identity = None

    def __init__(self, sock):
        self._socket = sock

    def send(self, data, deadline):
        """All of it, or Deadline or NobodyThere."""
        self._await(deadline)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise Deadline("the time is over while sending") from None
        except OSError as error:
            raise NobodyThere(f"the connection broke: {error.strerror}") from None

    def recv(self, bytes_max, deadline):
        """What there is, b"" at the end."""
        self._await(deadline)
        try:
            return self._socket.recv(bytes_max)
        except TimeoutError:
            raise Deadline("the time is over while waiting for an answer") from None
        except OSError as error:
            raise NobodyThere(f"the connection broke: {error.strerror}") from None

    def _await(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise Deadline("the time is over")
        self._socket.settimeout(left)

    def fileno(self):
        """The socket's descriptor."""
        return self._socket.fileno()

    def close(self):
        """Never blocks."""
        self._socket.close()


class Conversation:
    """Requests and answers, one after the other, on one open stream."""

    def __init__(self, stream, where, policy_digest=None, policy_text=None, version=VERSION):
        self._stream = stream
        self._versions = {"version": version, "oldest": min(OLDEST, version)}
        self._decoder = Decoder()
        self.where = where
        self._policy = {}
        if policy_digest is not None:  # a node names a policy that the other very likely knows
            self._policy = {"policy": policy_digest}
        elif policy_text is not None:
            self._policy, policy_text = {"policy_text": policy_text}, None
        self._policy_text = policy_text
        self._opened_for = None
        self.identity = stream.identity

    def ask(self, request, deadline, package=None):
        """Send a request (and the bytes of `package`, an open file, behind it); return the answer, a list."""
        answer = self._ask(request, deadline, package)
        if answer[:1] != ["ERROR"]:
            return answer
        error = from_wire(
            str(answer[1]) if len(answer) > 1 else "", f"{self.where}: {answer[2] if len(answer) > 2 else answer}"
        )
        if isinstance(error, PolicyUnknown) and self._policy_text and package is None:
            self._policy, self._policy_text = {"policy_text": self._policy_text}, None
            self._opened_for = None
            return self.ask(request, deadline)
        raise error

    def _ask(self, request, deadline, package):
        self._stream.send(self._opening(deadline) + encode(request), deadline)
        if package is not None:
            while chunk := package.read(CHUNK_BYTES):
                self._stream.send(chunk, deadline)
        while (answer := self._decoder.next_message()) is None:
            data = self._stream.recv(CHUNK_BYTES, deadline)
            if not data:
                raise NobodyThere(f"{self.where} hung up without an answer")
            self._decoder.feed(data)
        if not isinstance(answer, list) or not answer:
            raise BadFrame(f"{self.where} answered no list")
        return answer

    def _opening(self, deadline):
        """Said first, and again when the time that is left has changed by a tenth."""
        left = max(deadline - time.monotonic(), 0.0)
        if self._opened_for is not None and 0.9 * self._opened_for <= left <= 1.1 * self._opened_for:
            return b""
        self._opened_for = left
        return encode(["OPEN", {**self._versions, "deadline": round(left, 3), **self._policy}])

    def receive_package(self, length, out_file, deadline):
        """Copy the `length` raw bytes behind the last answer into a file; its digest is the receiver's to check."""
        receive(self._stream, self._decoder, length, out_file, deadline)

    def fileno(self):
        """The socket's, to wait on: readable between two questions, it has hung up."""
        return self._stream.fileno()

    def close(self):
        """Hang up."""
        self._stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def receive(stream, decoder, length, out_file, deadline):
    """Copy `length` raw bytes from a stream (first what its decoder has already) into a file."""
    while length > 0:
        data = decoder.take(length) or stream.recv(min(length, CHUNK_BYTES), deadline)
        if not data:
            raise NobodyThere(f"the connection ended {length} bytes before the package did")
        out_file.write(data)
        length -= len(data)


def located(service, said):
    """The details in an answer to WHEREIS; CantFind or PolicyMismatch when it names nobody."""
    details = said[-1]
    if said[0] == "CANTFIND":
        reason = "who has it does not answer" if details["asked"] else "nobody in the mesh has it"
        raise CantFind(f"{service}: {reason}")
    if said[0] == "POLICYMISMATCH":
        raise PolicyMismatch(f"{service}: no holder's policy meets yours")
    return details


def policy_text(path):
    """The document in a caller's WS-Policy file, as it goes into requests; None without a path. BadConfig or BadPolicy."""
    if not path:
        return None
    from bdserver.core import policy

    try:
        with open(path, "rb") as file:
            data = file.read(policy.TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    policy.parse(data, path)
    return policy.text_of(data)


def dial_local(path, deadline):
    """A conversation over the local socket of this host's node."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(max(deadline - time.monotonic(), 0.001))
    while True:
        try:
            sock.connect(path)
            return Conversation(LocalStream(sock), path)
        except BlockingIOError:  # its backlog is full: unlike TCP, a local socket says so at once
            if time.monotonic() < deadline:
                time.sleep(FULL_PAUSE)
                continue
            reason = "the node is too busy to answer"
        except OSError as error:
            reason = f"{error.strerror or error} (is bdserverd running?)"
        sock.close()
        raise NobodyThere(f"{path}: {reason}")


def dial(address, credentials, deadline, name=None, policy_digest=None, policy_text=None, version=VERSION):
    """A conversation over TLS with the node at HOST:PORT, which must prove to be `name` if that is given.

    Refused: nothing of ours listens there. NobodyThere or Deadline: silence. Forbidden: it refuses us, or we it."""
    from bdserver.core.address import split_address
    from bdserver.net import tls

    host, port = split_address(address)
    left = deadline - time.monotonic()
    if left <= 0:
        raise Deadline(f"no time left to call {address}")
    try:
        sock = socket.create_connection((host, port), timeout=left)
    except ConnectionRefusedError:
        raise Refused(f"{address}: connection refused") from None
    except TimeoutError:
        raise NobodyThere(f"{address}: no answer in {left:.1f} s") from None
    except OSError as error:
        raise NobodyThere(f"{address}: {error.strerror or error}") from None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = tls.connect(sock, credentials, address, deadline)
    except BaseException:
        sock.close()
        raise
    if name is not None and stream.identity.name != name:
        stream.close()
        raise Refused(f"{address}: {stream.identity.name} is there, not {name}")
    return Conversation(stream, address, policy_digest, policy_text, version)
