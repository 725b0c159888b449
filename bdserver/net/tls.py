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

from OpenSSL import SSL

from bdserver.core.address import split_address, without_zone
from bdserver.core.roles import NODE, Role
from bdserver.errors import BadFrame, BDError, Deadline, Forbidden, NobodyThere, Refused
from bdserver.net import openssl
from bdserver.net.handshake import ALPN, Judge, alert_trouble, callee_trouble, caller_trouble, reasons_of
from bdserver.net.identity import Identity
from bdserver.net.keys import Credentials

# The longest payload of a record of TLS.
_RECORD_BYTES = 1 << 14
# Holds what is written back until it is taken off; None where a kernel has no such thing.
_CORK = getattr(socket, "TCP_CORK", None)
# That the other side will say no more, which Linux alone tells before one has read everything.
_HUNG_UP = getattr(select, "POLLRDHUP", 0)


def connect(sock: socket.socket, credentials: Credentials, address: str, deadline: float, role: Role | None = NODE) -> Stream:
    """TLS as the caller, with whoever was dialled at `address`, HOST:PORT; `role` None takes any.

    Our last part of the handshake leaves with the first `send` (or before the first `recv`): one packet and one waking
    of the callee less. So a refusal of *our* certificate comes out only then."""
    host = without_zone(split_address(address)[0])
    judge = Judge(f"{address}: its certificate", credentials.identity.mesh, role, host, Refused)
    stream = Stream(sock, credentials.context, f"{address}:", judge)
    stream._tls.set_connect_state()
    stream._handshake(judge, deadline, callee_trouble, is_corked=True)
    return stream


def accept(sock: socket.socket, credentials: Credentials, deadline: float) -> Stream:
    """TLS as the callee. What the caller's role may do is for others to check."""
    judge = Judge("the caller's certificate", credentials.identity.mesh, None, None, Forbidden)
    stream = Stream(sock, credentials.context, "the caller", judge)
    stream._tls.set_accept_state()
    stream._handshake(judge, deadline, caller_trouble, is_corked=False)
    return stream


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


class Stream:
    """Bytes both ways, to and from `identity`.

    The socket does not block: poll waits, as long as the deadline allows, so that no dripping of bytes can hold us inside
    OpenSSL past it."""

    __slots__ = ("_failure", "_is_corked", "_readable", "_sock", "_tls", "_who", "identity")

    identity: Identity

    def __init__(self, sock: socket.socket, context: SSL.Context, who: str, judge: Judge):
        self._sock = sock
        self._who = who
        self._tls = SSL.Connection(context, sock)
        self._tls.set_app_data(judge)
        self._readable = select.poll()
        self._is_corked = False  # what we wrote waits for something to travel with
        self._failure: BDError | None = None  # what ended the reading, for whoever reads again

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """All of it is with the kernel, or an exception says why not; after one, only `recv` and `close` make sense."""
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        view = memoryview(data)
        while view:
            openssl.forget_errors()
            try:
                view = view[self._tls.send(view) :]
            except SSL.WantWriteError:
                self._await_room(deadline)
            except SSL.Error as error:
                raise self._last_words() or self._trouble(error) from None
        self._uncork()

    def recv(self, max_bytes: int, deadline: float) -> bytes:
        """At least one byte and at most these; b"" when the other side closed as it should, NobodyThere when it broke off."""
        if self._failure is not None:
            raise self._failure
        self._uncork()
        while True:
            if not self._tls.pending():
                self._await_word(deadline)
            openssl.forget_errors()
            try:
                return self._tls.recv(min(max_bytes, _RECORD_BYTES))
            except SSL.WantReadError:  # not yet a whole record
                pass
            except SSL.ZeroReturnError:
                return b""
            except SSL.Error as error:
                self._failure = self._trouble(error)
                raise self._failure from None

    def pending(self) -> int:
        """Bytes that are decrypted and were not received: the socket does not tell of them."""
        return self._tls.pending()

    def fileno(self) -> int:
        """The socket's, to wait on when all that was said has been received."""
        return self._sock.fileno()

    def close(self) -> None:
        """Says goodbye if that costs no waiting, and closes the socket."""
        if self._sock.fileno() < 0:
            return
        openssl.forget_errors()
        with contextlib.suppress(SSL.Error):  # the handshake is not over, or TLS has failed: nothing to say goodbye to
            self._tls.shutdown()
        self._close()

    # From here on: the way between TLS and the socket.

    def _handshake(self, judge: Judge, deadline: float, trouble: Callable[[str, list[str]], BDError], is_corked: bool) -> None:
        """With `is_corked`, what we write last waits for our first message."""
        try:
            self._prepare()
            while True:
                openssl.forget_errors()
                try:
                    self._tls.do_handshake()
                except SSL.WantReadError:
                    self._uncork()
                    self._await_word(deadline)
                    if is_corked:
                        self._cork()
                except SSL.SysCallError as error:
                    raise judge.problem or self._gone(error) from None
                except SSL.Error as error:
                    raise judge.problem or trouble(self._who, reasons_of(error)) from None
                else:
                    break
            self._finish(judge, trouble)
        except BaseException:
            self._close()
            raise

    def _prepare(self) -> None:
        try:
            self._sock.setblocking(False)
            self._readable.register(self._sock, select.POLLIN | _HUNG_UP)
            if self._sock.family != socket.AF_UNIX:
                # Else the second small message in a row waits for the acknowledgement of the first: 40 ms.
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise NobodyThere(f"{self._who} broke off ({error.strerror or error})") from None

    def _finish(self, judge: Judge, trouble: Callable[[str, list[str]], BDError]) -> None:
        if self._tls.get_alpn_proto_negotiated() != ALPN:
            raise trouble(self._who, ["no application protocol"])
        if judge.problem is not None:
            raise judge.problem
        if judge.identity is None:  # cannot be: it would mean a handshake without a certificate
            raise Forbidden(f"{judge.whose} was not checked")
        self.identity = judge.identity
        self._tls.set_app_data(None)

    def _cork(self) -> None:
        if _CORK is not None and self._sock.family != socket.AF_UNIX:
            self._sock.setsockopt(socket.IPPROTO_TCP, _CORK, 1)
            self._is_corked = True

    def _uncork(self) -> None:
        if self._is_corked:
            self._is_corked = False
            with contextlib.suppress(OSError):  # it has gone: reading or writing will say so
                self._sock.setsockopt(socket.IPPROTO_TCP, _CORK, 0)  # type: ignore[arg-type]

    def _await_word(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not self._readable.poll(left * 1000):
            raise Deadline(f"{self._who} did not answer in time")

    def _await_room(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        writable = select.poll()
        writable.register(self._sock, select.POLLOUT)
        if left <= 0 or not writable.poll(left * 1000):
            raise Deadline(f"{self._who} did not read in time")

    def _refusal(self) -> BDError | None:
        """Why the other side hung up, if it did and said so.

        To be asked before writing: after a write that failed, OpenSSL 4 reads nothing any more."""
        if any(events & (_HUNG_UP | select.POLLHUP) for _, events in self._readable.poll(0)):
            return self._last_words()
        return None

    def _last_words(self) -> BDError | None:
        """What ended the other side's talk, if that is the next thing to read: data before it is for `recv`."""
        openssl.forget_errors()
        try:
            self._tls.recv(1, socket.MSG_PEEK)
        except (SSL.WantReadError, SSL.ZeroReturnError):
            pass  # it said nothing, or goodbye, and may read on
        except SSL.SysCallError as broken:
            self._failure = self._failure or self._gone(broken)
        except SSL.Error as said:
            self._failure = self._failure or alert_trouble(self._who, reasons_of(said))
        return self._failure

    def _close(self) -> None:
        self._uncork()
        with contextlib.suppress(OSError):
            # Bytes left unread would turn our goodbye, or the alert that says why, into a reset that overtakes it.
            self._sock.recv(1 << 16, socket.MSG_DONTWAIT)
        self._sock.close()

    def _gone(self, error: SSL.SysCallError) -> NobodyThere:
        number = error.args[0]
        return NobodyThere(f"{self._who} broke off {f'({os.strerror(number)})' if number > 0 else 'without a word'}")

    def _trouble(self, error: SSL.Error) -> BDError:
        if isinstance(error, SSL.SysCallError):
            return self._gone(error)
        reasons = reasons_of(error)
        if not reasons:  # it failed before, and that was told then
            return NobodyThere(f"{self._who} broke off")
        return alert_trouble(self._who, reasons) or BadFrame(f"{self._who} sent what does not decrypt ({'; '.join(reasons)})")
