"""A child: serves one connection, from the handshake to the caller's hanging up, then is ready for the next (a pre-forked
worker that is used again).

Promises an answer to every request that is one, an error to every other, and an end to a conversation that makes no sense, is
idle for too long, or whose certificate is revoked meanwhile. SIGTERM is noted; the loop sees it where it waits, so a request
that is running ends first. What requests mean is the business of `answers`, getting connections that of the listener.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import select
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, BinaryIO

import setproctitle

from bdserver.core import messages
from bdserver.core.address import split_address
from bdserver.core.messages import Found, Package
from bdserver.core.roles import ADMIN, CLIENT
from bdserver.core.wire import Decoder, encode
from bdserver.errors import (
    BadFrame,
    BadRequest,
    BDError,
    Deadline,
    Forbidden,
    NobodyThere,
    NoSpace,
    TooLarge,
)
from bdserver.net import tls
from bdserver.net.conversation import CHUNK_BYTES, LocalStream, next_text, receive
from bdserver.processes import joining, reload
from bdserver.processes.answers import answer, ask_ourselves
from bdserver.processes.node import Node
from bdserver.processes.repeating import Repeat
from bdserver.processes.session import REQUEST_SECONDS_MAX, Caller, Session
from bdserver.processes.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from bdserver.net.conversation import Stream

# A caller has this long for TCP and TLS before it has said anything.
HANDSHAKE_SECONDS = 5.0
# For the answer to a request whose own time is over, for the word that ends a conversation, and for the next bytes of what was
# refused.
LAST_WORD_SECONDS = 1.0
# How often what was counted is put to the others': a caller that asks on and on pays less for that.
COUNT_SECONDS = 0.1
# It is a line for a person, and may quote what another node said.
ERROR_CHARACTERS_MAX = 2000

log = logging.getLogger("bdserver.child")


class Signals:
    """What a child is told while it has a caller: SIGTERM, to leave; SIGHUP, that the settings have changed. The handlers note
    it, and a child that is to end and waits for its caller's next word (`idle` is its stream then) finds that no more comes.

    Before and after, SIGHUP waits: the listener blocks it around the fork, so that none is lost, and none ends a child."""

    def __init__(self) -> None:
        self.is_leaving = self.is_stale = False
        self.idle: Stream | None = None
        self.ends_when_stale: Callable[[], bool] = lambda: False  # what was said on this connection counts no longer then

    def listen(self) -> None:
        """From now on, in this process."""
        signal.signal(signal.SIGTERM, self._note_leaving)
        signal.signal(signal.SIGHUP, self._note_stale)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])

    def _note_leaving(self, number: int, frame: object) -> None:
        self.is_leaving = True
        if self.idle is not None:
            self.idle.hear_no_more()

    def _note_stale(self, number: int, frame: object) -> None:
        self.is_stale = True
        if self.idle is not None and self.is_over():
            self.idle.hear_no_more()

    def is_over(self) -> bool:
        """Whether the caller is to be answered no more."""
        return self.is_leaving or (self.is_stale and self.ends_when_stale())

    def close(self) -> None:
        """Listen no longer: SIGTERM ends the process, SIGHUP waits for the next caller."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# --- one connection -----------------------------------------------------------------------------------------------


def serve_connection(node: Node, sock: socket.socket, address: tuple[Any, ...] | None) -> None:
    """One connection from the listener, whose peer is at this address; None: the local socket."""
    sock.setblocking(True)
    node.counters.add("connections", "local" if address is None else "tls")
    if address is None:
        serve(node, LocalStream(sock), local_caller(sock))
    else:
        _serve_over_tls(node, sock, split_address(address[0], 1)[0])
    be_spare(node)


def _serve_over_tls(node: Node, sock: socket.socket, host: str) -> None:
    setproctitle.setproctitle(f"bdserverd: child of {node.name}: handshake with {host}")
    deadline = time.monotonic() + HANDSHAKE_SECONDS
    try:
        stream = tls.accept(sock, node.credentials, deadline, lambda: joining.may_join(node))
    except BDError as error:
        log.log(_loudness(error), "%s: %s", host, error)
        return
    if stream.is_stranger:
        joining.serve(node, stream, host, deadline)
        return
    identity = stream.identity
    try:
        serve(node, stream, Caller(identity.role, identity.name, host, identity))
    finally:
        stream.close()


def _loudness(error: BDError) -> int:
    """A stranger is worth a warning, nonsense a line; callers that went away come by the thousand."""
    if isinstance(error, Forbidden):
        return logging.WARNING
    return logging.DEBUG if isinstance(error, NobodyThere) else logging.INFO


def local_caller(sock: socket.socket) -> Caller:
    """By SO_PEERCRED: root and the daemon's own user administer, every other user who may open the socket looks up."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    role = ADMIN if uid in (0, os.geteuid()) else CLIENT
    return Caller(role, f"uid {uid}", "127.0.0.1")


def be_spare(node: Node) -> None:
    """What `ps` shows of a child between two callers."""
    setproctitle.setproctitle(f"bdserverd: spare of {node.name}, for the next caller")


# --- a conversation -----------------------------------------------------------------------------------------------


def serve(node: Node, stream: Stream, caller: Caller) -> None:
    """Answer one request after the other until the caller hangs up, is idle for too long, or talks nonsense."""
    signals = Signals()
    signals.listen()
    try:
        _Conversation(node, stream, caller, signals).run()
    finally:
        signals.close()


class _Counted:
    """A stream whose bytes are counted."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.sent = self.received = 0
        self.identity = stream.identity
        self.hear_no_more, self.fileno = stream.hear_no_more, stream.fileno
        self.close, self.break_off = stream.close, stream.break_off

    def send(self, data: bytes, deadline: float) -> None:
        """All of it."""
        self._stream.send(data, deadline)
        self.sent += len(data)

    def recv(self, bytes_max: int, deadline: float) -> bytes:
        """What there is."""
        data = self._stream.recv(bytes_max, deadline)
        self.received += len(data)
        return data


class _Rehearsal:
    """A stream on which one request comes, and nobody reads the answer."""

    identity = None

    def __init__(self, request: list[Any]) -> None:
        self._left = [b"", encode(request)]

    def recv(self, bytes_max: int, deadline: float) -> bytes:
        """The request, then the end."""
        return self._left.pop()

    def send(self, data: bytes, deadline: float) -> None:
        """Nobody hears it."""

    def hear_no_more(self) -> None:
        """Nobody speaks."""

    def fileno(self) -> int:
        """There is no socket."""
        return -1

    def close(self) -> None:
        """There is nothing to close."""

    break_off = close


def rehearse(node: Node) -> None:
    """A handshake with ourselves and a look-up that finds nothing (a warm-up): half of what a first request costs is memory
    that is copied when a forked process first writes to it."""
    tls.rehearse(node.credentials)
    node.counters.is_paused = True
    serve(node, _Rehearsal(["WHEREIS", "nobody", None]), Caller(CLIENT, "nobody", "-"))
    node.counters.is_paused = False
    be_spare(node)


class _Conversation:
    """The callee's end: what the caller's opening said, and its requests one by one."""

    def __init__(self, node: Node, stream: Stream, caller: Caller, signals: Signals) -> None:
        self._node, self._caller, self._signals = node, caller, signals
        self._stream = _Counted(stream)
        self._decoder = Decoder()
        self._session = Session(node, caller, self._receive, ask_ourselves)
        signals.ends_when_stale = self._session.giver.are_out
        self._terms = Terms(node)
        self._title = ""
        self._text: bytes | None = None  # of the last message
        self._message: Any = None
        self._before: Any = None  # the one that was answered last
        self._said: Any = object()  # the last answer, and its frame: the same one is not encoded anew
        self._frame = b""
        self._count_at = 0.0  # when to put what was counted to the others': at once after the first answer

    def run(self) -> None:
        """Until it is over, for whatever reason."""
        try:
            while (message := self._next_message()) is not None:
                if message is self._before and self._answered_again():
                    continue
                self._begin(message)
                if messages.is_opening(message):
                    self._terms.take(message, str(self._caller))
                elif not self._answered(message):
                    return
        except (NobodyThere, Deadline) as error:
            log.debug("%s: %s", self._caller, error)
            if isinstance(error, NobodyThere):
                self._session.take_back()
        except (BadFrame, TooLarge) as error:
            log.warning("%s: %s", self._caller, error)
            with contextlib.suppress(BDError):
                self._stream.send(encode(messages.encoded(_said(error))), time.monotonic() + LAST_WORD_SECONDS)
        finally:
            self._session.close()
            self._count()

    def _begin(self, message: Any) -> None:
        """A message that is not answered as the one before."""
        self._before, session = message, self._session
        if session.repeat is not None:
            session.repeat.tell()
            session.repeat = None

    def _next_message(self) -> Any:
        """The next message; None at the end, the caller's or ours."""
        signals, deadline = self._signals, time.monotonic() + self._node.settings.idle_timeout
        signals.idle = self._stream  # this first: a signal that comes before it is seen in the next line
        try:
            message = None if signals.is_over() else self._awaited_message(deadline)
        except BDError:
            if signals.is_over():  # that is why nothing came, or half of a message
                return None
            raise
        finally:
            signals.idle = None
        self._node.look_at_keys()
        if signals.is_stale:  # what has changed counts for this request already
            signals.is_stale = False
            reload.read_anew(self._node)  # the listener says what is wrong with it
            self._session.look_anew()
        return message

    def _awaited_message(self, deadline: float) -> Any:
        """As it comes. Meanwhile, holders are told when the tickets that they gave have ended, and the other processes what was
        counted; and where we gave some tickets, the connection ends with the listener, so that none is spent any more."""
        while True:
            until = min(self._due(), deadline)
            try:
                return None if self._is_bereft(until) else self._read(next_text(self._stream, self._decoder, until))
            except Deadline:
                if until >= deadline:
                    raise
                self._do_what_is_due()

    def _read(self, text: bytes | None) -> Any:
        """The message that came so: the same object as the last one if it has come in the same words, which are words alone, so
        that nobody can have changed them."""
        if text is None or text == self._text:
            return self._message if text is not None else None
        self._message = self._decoder.read(text)
        self._text = text if text.rfind(b"[") == 0 and b"{" not in text else None
        return self._message

    def _is_bereft(self, until: float) -> bool:
        """Whether the listener has ended before the caller said anything, where that matters."""
        life = self._node.life.life_descriptor
        if not self._session.giver.are_out() or life is None or self._decoder.pending_bytes:
            return False
        poll = select.poll()
        for descriptor in (self._stream.fileno(), life):
            poll.register(descriptor, select.POLLIN)
        return any(descriptor == life for descriptor, _ in poll.poll(max(until - time.monotonic(), 0.0) * 1000))

    def _due(self) -> float:
        """When there is something to do, if the caller says nothing before."""
        ends_at = self._session.taker.ends_at()
        repeat = self._session.repeat
        has_some = self._node.counters.has_some or (repeat is not None and repeat.noted)
        count_at = self._count_at if has_some else math.inf
        return count_at if ends_at is None else min(ends_at, count_at)

    def _do_what_is_due(self) -> None:
        if time.monotonic() >= self._count_at:
            self._count()
        if (ends_at := self._session.taker.ends_at()) is not None and time.monotonic() >= ends_at:
            self._session.taker.tell()

    def _count(self) -> None:
        """What this connection came to is for the other processes to see."""
        if self._session.repeat is not None:
            self._session.repeat.tell()
        stream, counters = self._stream, self._node.counters
        counters.add("sent", "callers", by=stream.sent)
        counters.add("received", "callers", by=stream.received)
        stream.sent = stream.received = 0
        counters.flush()
        self._count_at = time.monotonic() + COUNT_SECONDS

    def _receive(self, length: int, file: BinaryIO, deadline: float) -> None:
        receive(self._stream, self._decoder, length, file, deadline)

    def _answered(self, message: Any) -> bool:
        """Answer one request; False when the conversation is over after it."""
        if os.getppid() != self._node.life.listener_pid:
            log.info("%s: no answer, since the listener is gone", self._caller)
            return False
        command = _command(message)
        self._show(command)
        self._session.begin(self._terms.seconds)
        started = time.monotonic()
        said, frame = self._answer(message, command)
        self._send(said, frame)
        if log.isEnabledFor(logging.DEBUG):
            word, ms = messages.word_of(said), 1000 * (time.monotonic() - started)
            log.debug("%s: %s -> %s in %.1f ms", self._caller, command, word, ms)
        self._session.end()
        outcome = said.code if isinstance(said, messages.Error) else messages.word_of(said).lower()
        self._node.counters.add("requests", command, outcome)
        if started >= self._count_at:  # behind the answer: nobody waits for it
            self._count()
        if isinstance(said, messages.Error):
            row = messages.REQUESTS.get(command)
            if row is not None and row.stream:  # nobody knows any more where the next request begins
                self._outlast()
                return False
            if self._revoked():
                return False
        return not self._signals.is_leaving

    def _outlast(self) -> None:
        """Take what still comes of a package that was refused (a lingering close): hanging up on it would reset the connection,
        and the caller might never see why."""
        with contextlib.suppress(BDError):
            while not self._signals.is_leaving:
                until = min(self._session.deadline, time.monotonic() + LAST_WORD_SECONDS)
                if not self._stream.recv(CHUNK_BYTES, until):
                    return

    def _answered_again(self) -> bool:
        """Whether the request of before, which has come again, was answered as it was then. False where it is to be answered as
        any other: nothing is done then."""
        node, repeat = self._node, self._session.repeat
        if repeat is None or repeat.said is not self._said or os.getppid() != node.life.listener_pid:
            return False
        began, now = time.monotonic(), node.clock()
        try:
            if not self._is_taken_again(repeat, now):
                return False
        except Exception:  # whatever it is, it is met again, and told
            return False
        repeat.noted.append((now, time.monotonic() - began))
        self._stream.send(self._frame, began + max(min(self._terms.seconds, REQUEST_SECONDS_MAX), LAST_WORD_SECONDS))
        if began >= self._count_at:  # behind the answer: nobody waits for it
            self._count()
        return True

    def _is_taken_again(self, repeat: Repeat, now: float) -> bool:
        identity = self._caller.identity
        if not repeat.is_same_world() or (identity is not None and self._node.refusal(identity, repeat.world.view)):
            return False
        return repeat.agrees(now)

    def _show(self, command: str) -> None:
        """To be seen in `ps`; set when it changes, since that is a tenth of a WHEREIS on an open connection."""
        if command != self._title:
            self._title = command
            name = self._node.name
            setproctitle.setproctitle(f"bdserverd: child of {name}: {command} for {self._caller}")

    def _answer(self, message: Any, command: str) -> tuple[Any, bytes]:
        """The answer and its frame; an error, where there is none, or it is too large to travel."""
        caller = self._caller
        try:
            if refusal := self._revoked():
                raise Forbidden(refusal)
            self._terms.check()
            said = answer(self._session, message)
            if said is not self._said:
                self._said, self._frame = said, encode(messages.encoded(said))
            return said, self._frame
        except BDError as error:
            level = logging.WARNING if isinstance(error, Forbidden | BadRequest) else logging.INFO
            log.log(level, "%s: %s: %s", caller, command, error)
            failure = _said(error)
        except OSError as error:  # a full disk, no more descriptors: the host's trouble, and the caller should know
            log.error("%s: %s: %s", caller, command, error)
            code = NoSpace.code if error.errno in (errno.ENOSPC, errno.EDQUOT) else BDError.code
            failure = messages.Error(code, error.strerror or str(error))
        except Exception:
            log.exception("%s: %s", caller, command)
            failure = messages.Error(BDError.code, f"{command} met a bug of {self._node.name}: see its log")
        return failure, encode(messages.encoded(failure))

    def _send(self, said: Any, frame: bytes) -> None:
        """The answer, and the package that follows it."""
        deadline = max(self._session.deadline, time.monotonic() + LAST_WORD_SECONDS)
        file = said.file if isinstance(said, Package | Found) else None
        try:
            self._stream.send(frame, deadline)
            while file is not None and (chunk := file.read(CHUNK_BYTES)):
                self._stream.send(chunk, deadline)
        finally:
            if file is not None:
                file.close()

    def _revoked(self) -> str | None:
        """Before each request: a certificate may have been revoked since the last one."""
        caller = self._caller
        return self._node.refusal(caller.identity, self._session.view()) if caller.identity is not None else None


def _command(message: Any) -> str:
    """The command, for the log and the title in `ps`; "?" for what a stranger made up, which may be any text, NUL and all."""
    command = message[0] if isinstance(message, list) and message else None
    return command if isinstance(command, str) and command in messages.REQUESTS else "?"


def _said(error: BDError) -> messages.Error:
    return messages.Error(error.code, str(error)[:ERROR_CHARACTERS_MAX])
