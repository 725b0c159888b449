"""A TLS connection to another process of the mesh whose other end has proved who it is, as a stream of bytes both ways.

Promises that no call outlasts its deadline, however slowly bytes drip in (the socket does not block: poll waits, and never
OpenSSL), and that whatever goes wrong ends as one BDError.

Leaves to others: dialling and listening (a connected socket comes in, and is closed here when the handshake fails), what is
asked of the other side's certificate (`handshake`), our own (`keys`), what a role may do, what the bytes mean.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from enum import StrEnum

from cryptography import x509
from OpenSSL import SSL

from bdserver.core.address import split_address, without_zone
from bdserver.core.roles import NODE, Role
from bdserver.errors import BadFrame, BDError, Deadline, Forbidden, NobodyThere, Refused
from bdserver.net import openssl
from bdserver.net.handshake import (
    ALPN,
    JOIN_ALPN,
    Judge,
    alert_trouble,
    callee_trouble,
    caller_trouble,
    make_joiners_context,
    reasons_of,
)
from bdserver.net.identity import Identity
from bdserver.net.keys import Credentials

# The longest payload of a record of TLS.
_RECORD_BYTES = 1 << 14
# Records of TLS' own that stand before a first word: the callee's two tickets.
_ASIDES_MAX = 2
# Holds what is written back until it is taken off; None where a kernel has no such thing.
_CORK = getattr(socket, "TCP_CORK", None)
# That the other side will say no more, which Linux alone tells before one has read everything.
_HUNG_UP = getattr(select, "POLLRDHUP", 0)


class Want(StrEnum):
    """For what a channel waits before it can go on."""

    NOTHING = "nothing"
    WORD = "word"  # the socket is to become readable
    ROOM = "room"  # the socket is to become writable


def connect(sock: socket.socket, credentials: Credentials, address: str, deadline: float, role: Role | None = NODE) -> Stream:
    """TLS as the caller, with whoever was dialled at `address`, HOST:PORT; `role` None takes any.

    Our last part of the handshake leaves with the first `send` (or before the first `recv`): one packet and one waking
    of the callee less. So a refusal of *our* certificate comes out only then."""
    stream = Stream(calling(sock, credentials, address, role))
    stream.shake(deadline)
    return stream


def accept(
    sock: socket.socket, credentials: Credentials, deadline: float, may_join: Callable[[], bool] | None = None
) -> Stream:
    """TLS as the callee. What the caller's role may do is for others to check; whether it has one, too: with `may_join` it may
    be a stranger who wants to join."""
    stream = Stream(called(sock, credentials, may_join=may_join))
    stream.shake(deadline)
    return stream


def knock(sock: socket.socket, address: str, deadline: float) -> Stream:
    """TLS as a caller without a certificate, who wants to join. Nothing of the callee is proved: see its `chain`."""
    judge = Judge(f"{address}: its certificate", "", None, None, Refused)
    judge.is_stranger = True
    stream = Stream(Channel(sock, make_joiners_context(), f"{address}:", judge, callee_trouble, is_caller=True))
    stream.shake(deadline)
    return stream


def calling(sock: socket.socket, credentials: Credentials, address: str, role: Role | None = NODE) -> Channel:
    """The caller's end before its handshake, for a loop that waits for many; as `connect`."""
    host = without_zone(split_address(address)[0])
    judge = Judge(f"{address}: its certificate", credentials.identity.mesh, role, host, Refused)
    return Channel(sock, credentials.context, f"{address}:", judge, callee_trouble, is_caller=True)


def called(
    sock: socket.socket, credentials: Credentials, role: Role | None = None, may_join: Callable[[], bool] | None = None
) -> Channel:
    """The callee's end before its handshake; `role` None takes any."""
    judge = Judge("the caller's certificate", credentials.identity.mesh, role, None, Forbidden, may_join)
    return Channel(sock, credentials.context, "the caller", judge, caller_trouble, is_caller=False)


def rehearse(credentials: Credentials) -> None:
    """A handshake with ourselves: whatever memory that touches, a forked process has to itself afterwards."""
    ends = []
    set_states = (SSL.Connection.set_connect_state, SSL.Connection.set_accept_state)
    for sock, set_state in zip(socket.socketpair(), set_states, strict=True):
        sock.setblocking(False)
        end = SSL.Connection(credentials.context, sock)
        end.set_app_data(Judge("our own certificate", credentials.identity.mesh, None, None, Forbidden))
        set_state(end)
        ends.append(end)
    for end in (*ends, *ends):
        openssl.forget_errors()
        with contextlib.suppress(SSL.Error):  # it wants to read; or our certificate is no good: callers will be told
            end.do_handshake()
    for end in ends:
        end.close()


class Channel:
    """TLS on a socket that does not block, step by step: each step does what can be done now, or says for what to wait.

    Whatever goes wrong is one BDError, after which only `close` makes sense."""

    __slots__ = (
        "_is_corked",
        "_judge",
        "_readable",
        "_tls",
        "_trouble_of",
        "failure",
        "identity",
        "is_caller",
        "is_stranger",
        "sock",
        "who"
    )  # fmt: skip

    identity: Identity  # once it has shaken hands
    is_stranger: bool  # nobody has proved who the other end is

    def __init__(
        self,
        sock: socket.socket,
        context: SSL.Context,
        who: str,
        judge: Judge,
        trouble_of: Callable[[str, list[str]], BDError],
        is_caller: bool,
    ) -> None:
        self.sock = sock
        self.who, self._judge, self._trouble_of, self.is_caller = who, judge, trouble_of, is_caller
        self.is_stranger = False
        self._is_corked = False  # what we wrote waits for something to travel with
        self.failure: BDError | None = None  # what ended the reading, for whoever reads again
        self._readable = select.poll()
        self._tls = SSL.Connection(context, sock)
        openssl.read_by_the_record(self._tls)
        self._tls.set_app_data(judge)
        if is_caller:
            self._tls.set_connect_state()
        else:
            self._tls.set_accept_state()
        try:
            sock.setblocking(False)
            self._readable.register(sock, select.POLLIN | _HUNG_UP)
            if sock.family != socket.AF_UNIX:
                # Else the second small message in a row waits for the acknowledgement of the first: 40 ms.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            raise NobodyThere(f"{who} broke off ({error.strerror or error})") from None

    def shake(self) -> Want:
        """One step of the handshake; NOTHING when it is over, and `identity` proved. What a caller writes last waits for its
        first message."""
        judge = self._judge
        openssl.forget_errors()
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self.uncork()
            return Want.WORD
        except SSL.WantWriteError:
            return Want.ROOM
        except SSL.SysCallError as error:
            raise judge.problem or self._gone(error) from None
        except SSL.Error as error:
            raise judge.problem or self._trouble_of(self.who, reasons_of(error)) from None
        if self._tls.get_alpn_proto_negotiated() != (JOIN_ALPN if judge.is_stranger else ALPN):
            raise self._trouble_of(self.who, ["no application protocol"])
        if judge.is_stranger:
            self.is_stranger = True
            return Want.NOTHING
        if judge.problem is not None:
            raise judge.problem
        if judge.identity is None:  # cannot be: it would mean a handshake without a certificate
            raise Forbidden(f"{judge.whose} was not checked")
        self.identity = judge.identity
        self._tls.set_app_data(None)
        return Want.NOTHING

    def write(self, data: memoryview) -> int:
        """How many of these bytes the kernel has taken; 0 when there is no room."""
        openssl.forget_errors()
        try:
            return self._tls.send(data)
        except SSL.WantWriteError:
            return 0
        except SSL.Error as error:
            raise self._last_words() or self._trouble(error) from None

    def read(self, bytes_max: int) -> bytes | None:
        """What came, at least a byte; b"" when the other side closed as it should, None when there is nothing whole yet."""
        if self.failure is not None:
            raise self.failure
        openssl.forget_errors()
        try:
            return self._tls.recv(min(bytes_max, _RECORD_BYTES))
        except SSL.WantReadError:
            return None
        except SSL.ZeroReturnError:
            return b""
        except SSL.Error as error:
            self.failure = self._trouble(error)
            raise self.failure from None

    def chain(self) -> list[x509.Certificate]:
        """The certificates that the other side has shown, its own first."""
        return [each.to_cryptography() for each in self._tls.get_peer_cert_chain() or ()]

    def pending(self) -> int:
        """Bytes that are decrypted and were not read: the socket does not tell of them."""
        return self._tls.pending()

    def refusal(self) -> BDError | None:
        """Why the other side hung up, if it did and said so.

        To be asked before writing: after a write that failed, OpenSSL 4 reads nothing any more."""
        if any(events & (_HUNG_UP | select.POLLHUP) for _, events in self._readable.poll(0)):
            return self._last_words()
        return None

    def close(self) -> None:
        """Says goodbye if that costs no waiting, and closes the socket."""
        if self.sock.fileno() < 0:
            return
        openssl.forget_errors()
        with contextlib.suppress(SSL.Error):  # the handshake is not over, or TLS has failed: nothing to say goodbye to
            self._tls.shutdown()
        self.break_off()

    def break_off(self) -> None:
        """Close the socket without a word."""
        self.uncork()
        with contextlib.suppress(OSError):
            # Bytes left unread would turn our goodbye, or the alert that says why, into a reset that overtakes it.
            self.sock.recv(1 << 16, socket.MSG_DONTWAIT)
        self.sock.close()

    def cork(self) -> None:
        """What a caller writes from now on waits for `uncork`, or travels with more."""
        if self.is_caller and _CORK is not None and self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, _CORK, 1)
            self._is_corked = True

    def uncork(self) -> None:
        """What was written leaves."""
        if self._is_corked:
            self._is_corked = False
            with contextlib.suppress(OSError):  # it has gone: reading or writing will say so
                self.sock.setsockopt(socket.IPPROTO_TCP, _CORK, 0)  # type: ignore[arg-type]

    def await_word(self, seconds: float) -> bool:
        """Wait until the socket is readable; False when it was not in this time."""
        return bool(self._readable.poll(seconds * 1000))

    def _last_words(self) -> BDError | None:
        """What ended the other side's talk, if that is the next thing to read: data before it is for `read`."""
        for _ in range(_ASIDES_MAX + 1):
            openssl.forget_errors()
            try:
                self._tls.recv(1, socket.MSG_PEEK)
            except SSL.WantReadError:  # it said nothing, or an aside
                continue
            except SSL.ZeroReturnError:  # goodbye, and may read on
                pass
            except SSL.SysCallError as broken:
                self.failure = self.failure or self._gone(broken)
            except SSL.Error as said:
                self.failure = self.failure or alert_trouble(self.who, reasons_of(said))
            break
        return self.failure

    def _gone(self, error: SSL.SysCallError) -> NobodyThere:
        number = error.args[0]
        return NobodyThere(f"{self.who} broke off {f'({os.strerror(number)})' if number > 0 else 'without a word'}")

    def _trouble(self, error: SSL.Error) -> BDError:
        if isinstance(error, SSL.SysCallError):
            return self._gone(error)
        reasons = reasons_of(error)
        if not reasons:  # it failed before, and that was told then
            return NobodyThere(f"{self.who} broke off")
        return alert_trouble(self.who, reasons) or BadFrame(f"{self.who} sent what does not decrypt ({'; '.join(reasons)})")


class Stream:
    """A channel that is waited for: bytes both ways, to and from `identity`, each call within a deadline."""

    __slots__ = ("_channel", "identity")

    identity: Identity  # unless it is a stranger's

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def shake(self, deadline: float) -> None:
        """The whole handshake; the socket is closed when it fails."""
        channel = self._channel
        try:
            while (want := channel.shake()) is not Want.NOTHING:
                self._await(want, deadline)
                channel.cork()
        except BaseException:
            channel.break_off()
            raise
        if not channel.is_stranger:
            self.identity = channel.identity

    @property
    def is_stranger(self) -> bool:
        """Whether nobody has proved who the other end is."""
        return self._channel.is_stranger

    def chain(self) -> list[x509.Certificate]:
        """The certificates that the other side has shown, its own first; whether they are worth anything is not looked at."""
        return self._channel.chain()

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """All of it is with the kernel, or an exception says why not; after one, only `recv` and `close` make sense."""
        channel = self._channel
        refusal = channel.refusal() if channel.is_caller else None  # a callee's word comes out of `recv`
        if refusal is not None:
            raise refusal
        view = memoryview(data)
        while view:
            taken = channel.write(view)
            if not taken:
                self._await(Want.ROOM, deadline)
            view = view[taken:]
        channel.uncork()

    def recv(self, bytes_max: int, deadline: float) -> bytes:
        """At least one byte and at most these; b"" when the other side closed as it should, NobodyThere when it broke off."""
        channel = self._channel
        channel.uncork()
        while True:
            if not channel.pending() and channel.failure is None:
                self._await(Want.WORD, deadline)
            data = channel.read(bytes_max)
            if data is not None:
                return data

    def hear_no_more(self) -> None:
        """`recv` finds the end behind what has come so far. May be called by a signal's handler."""
        with contextlib.suppress(OSError):  # it has ended already
            self._channel.sock.shutdown(socket.SHUT_RD)

    def fileno(self) -> int:
        """The socket's, to wait on when all that was said has been received."""
        return self._channel.sock.fileno()

    def close(self) -> None:
        """Says goodbye if that costs no waiting, and closes the socket."""
        self._channel.close()

    def break_off(self) -> None:
        """Closes the socket without a goodbye."""
        self._channel.break_off()

    def _await(self, want: Want, deadline: float) -> None:
        left = deadline - time.monotonic()
        if want is Want.WORD:
            if left <= 0 or not self._channel.await_word(left):
                raise Deadline(f"{self._channel.who} did not answer in time")
            return
        writable = select.poll()
        writable.register(self._channel.sock, select.POLLOUT)
        if left <= 0 or not writable.poll(left * 1000):
            raise Deadline(f"{self._channel.who} did not read in time")
