"""Callers: the discoverer's conversations with nodes that call it, in one loop, without a thread.

Promises that nobody is heard who is no node by its certificate, that each request has a slot and answers go out in the order of
the requests, however long one of them takes, and that no caller keeps the loop from the others. For that there is a limit:

- of all: of callers, and of strangers that have not shaken hands yet (the oldest gives way); beyond, the kernel's queue waits;
- of one connection: of requests that wait for their answer, of policies, of answers that are not read;
- of one node: of its connections; and on all of them together, in a turn of the loop, of messages, bytes and processor time
  (then others have theirs), and within a minute, of processor time: a node that has had its share rests until that is over.

Leaves to others: what is answered (the function that fills the slots), bytes and TLS (`net.links`), whether policies meet
(`terms`). `lines` is the same loop's other half, the conversations that this node begins.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from bdserver.core import messages
from bdserver.core.address import host_of
from bdserver.core.roles import NODE
from bdserver.core.wire import encode
from bdserver.errors import BadFrame, BDError, Forbidden, NobodyThere, TooLarge
from bdserver.net import links, tls
from bdserver.net.links import Link, State
from bdserver.processes.node import Node
from bdserver.processes.terms import Terms

# Callers at once, and of those that have not shaken hands yet.
CALLERS_MAX, STRANGERS_MAX = 512, 128
# A handshake takes some milliseconds: when there is no more room for strangers, the one that has had so long gives way.
STRANGER_SECONDS = 0.25
# A caller without a word for so long is let go; when there is no more room, after the shorter time. A caller that keeps its
# line to us says something in the longer one, or dials again.
IDLE_SECONDS, IDLE_SECONDS_WHEN_FULL = 600.0, 60.0
# Connections of one node: it has one or two, and some that it does not know of any more.
LINKS_MAX = 8
# Of a minute of processor time, what one node gets. A newcomer to a mesh of thousands takes a second or two.
MINUTE, SHARE_SECONDS = 60.0, 10.0
# Of one turn of the loop, what one node gets: so many messages, bytes of them, seconds; the last message may be longer.
# To answer one takes 20 ms at most, but for one that tells 2,000 records.
TURN_MESSAGES_MAX, TURN_BYTES_MAX, TURN_SECONDS = 8, 512 << 10, 0.1
# Shares that are remembered; beyond it, those are forgotten whose minute is over and whose node is not connected.
SHARES_MAX = 1000
# How often it is looked who is idle.
SWEEP_SECONDS = 10.0
# Requests of one caller that wait for their answer: a node has a few at most.
SLOTS_MAX = 64
# Accepted in one turn: each turn of the loop has its price.
ACCEPTS_MAX = 8
# When accepting fails because something has run out, it is left for so long: else the loop would do nothing else.
SHORTAGE_SECONDS = 0.5
PASSING = (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR)

log = logging.getLogger("bdserver.callers")


class Slot:
    """The place of an answer to a caller."""

    def __init__(self, filled: Callable[[], None]) -> None:
        self._filled = filled
        self.said: Any = None  # the answer, None while there is none
        self.frame = b""

    def fill(self, answer: Any) -> None:
        """This is the answer. It goes out when those before it have."""
        if self.said is None:
            self.said = answer
            try:
                self.frame = encode(messages.encoded(answer))
            except BDError as error:  # it is too large to travel
                self.frame = encode(messages.encoded(messages.Error(error.code, str(error))))
            self._filled()


class Share:
    """What the loop did for one node, on all its connections, in the minute that began at that time, and in a turn."""

    __slots__ = ("_seconds_before", "_turn", "_turn_bytes", "_turn_messages", "began", "seconds")

    def __init__(self, clock: float) -> None:
        self.began, self.seconds = clock, 0.0
        self._turn = self._turn_messages = self._turn_bytes = 0
        self._seconds_before = 0.0

    def has_room(self, turn: int) -> bool:
        """Whether one more message may be read in this turn of the loop."""
        if turn != self._turn:
            self._turn, self._turn_messages, self._turn_bytes, self._seconds_before = turn, 0, 0, self.seconds
        is_little = self._turn_messages < TURN_MESSAGES_MAX and self._turn_bytes < TURN_BYTES_MAX
        return is_little and self.seconds - self._seconds_before < TURN_SECONDS

    def read(self, count: int) -> None:
        """In this turn a message of so many bytes was read."""
        self._turn_messages += 1
        self._turn_bytes += count

    def take(self, seconds: float, clock: float) -> bool:
        """So much more; True when that has spent it."""
        if clock >= self.began + MINUTE:
            self.began, self.seconds = clock, 0.0
        before, self.seconds = self.seconds, self.seconds + seconds
        return before < SHARE_SECONDS <= self.seconds

    def rests_until(self) -> float:
        """When it may be heard again; 0 while nothing is against it."""
        return self.began + MINUTE if self.seconds >= SHARE_SECONDS else 0.0


class Caller:
    """A node that has called us: its link, what its opening said, its requests that wait for an answer, and, as soon as it is
    known who it is, its share of our time."""

    def __init__(self, link: Link, terms: Terms, host: str) -> None:
        self.link, self.terms, self.host = link, terms, host
        self.slots: deque[Slot] = deque()
        self.share = Share(0.0)
        self.is_resting = False

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """What is done within is done for this caller."""
        began = time.thread_time()
        try:
            yield
        finally:
            if self.share.take(time.thread_time() - began, time.monotonic()):
                log.warning("%s took %g s of processor time: not heard until a minute is over", self.who, SHARE_SECONDS)

    @property
    def is_stranger(self) -> bool:
        """Whether it has not shaken hands yet."""
        return self.link.state is not State.OPEN

    @property
    def who(self) -> str:
        """As logs name it."""
        return self.host if self.is_stranger else f"{self.link.name} from {self.host}"

    def say_what_is_there(self) -> None:
        """Send the answers that are there, in order; BDError when it does not read, or is gone."""
        while self.slots and self.slots[0].said is not None:
            self.link.say(self.slots.popleft().frame)


# answer(caller, message, slot): fill the slot, now or later. BDError is an answer too.
Answerer = Callable[[Caller, Any, Slot], None]


class Callers:
    """`is_mute`: nobody is accepted or answered. `patience` is as `Lines` has it: on a machine that is short of time whoever is
    hung up on in the middle of a handshake has cost us most of one, and calls again."""

    def __init__(
        self,
        node: Node,
        selector: selectors.BaseSelector,
        listening: list[socket.socket],
        answer: Answerer,
        patience: Callable[[float], float],
    ) -> None:
        self.node, self._selector, self._listening, self._answer = node, selector, listening, answer
        self._patience = patience
        self._callers: dict[Link, Caller] = {}
        self._shares: dict[str, Share] = {}
        self._is_listening = False
        self._accept_at = 0.0
        self._sweep_at = time.monotonic() + SWEEP_SECONDS
        self._turn = 0
        self.is_mute = False
        for sock in listening:
            sock.setblocking(False)

    # -- accepting

    def listen(self) -> None:
        """A turn begins: accept while there is room, and while we speak at all."""
        self._turn += 1
        wants = self._room_at() <= time.monotonic()
        if wants == self._is_listening:
            return
        self._is_listening = wants
        for sock in self._listening:
            if wants:
                self._selector.register(sock, selectors.EVENT_READ, sock)
            else:
                self._selector.unregister(sock)

    def _room_at(self) -> float:
        """When there is, or will be, room for another one."""
        if self.is_mute:
            return float("inf")
        room_at, callers = self._accept_at, self._callers.values()
        if (oldest := self._oldest_stranger()) is not None:
            room_at = max(room_at, oldest.link.used_at + self._patience(STRANGER_SECONDS))
        if len(callers) >= CALLERS_MAX:
            idlest = self._idlest()
            room_at = max(room_at, idlest.link.used_at + IDLE_SECONDS_WHEN_FULL if idlest else float("inf"))
        return room_at

    def _oldest_stranger(self) -> Caller | None:
        """The one that is to give way; None while there is room."""
        strangers = [caller for caller in self._callers.values() if caller.is_stranger]
        return min(strangers, key=lambda each: each.link.used_at) if len(strangers) >= STRANGERS_MAX else None

    def _idlest(self) -> Caller | None:
        idle = [caller for caller in self._callers.values() if not caller.slots]
        return min(idle, key=lambda each: each.link.used_at, default=None)

    def accept(self, listening: socket.socket) -> None:
        """Somebody calls."""
        for _ in range(ACCEPTS_MAX):
            if self._room_at() > time.monotonic():
                return
            try:
                sock, address = listening.accept()
            except OSError as error:
                if error.errno not in PASSING:
                    log.error("can't accept: %s", error.strerror)
                    self._accept_at = time.monotonic() + SHORTAGE_SECONDS
                return
            self._make_room()
            self._take(sock, host_of(address))

    def _make_room(self) -> None:
        oldest = self._oldest_stranger()
        if oldest is not None:
            self._dismiss(oldest, NobodyThere(f"{oldest.link.where} did not shake hands, and others wait"))
        if len(self._callers) >= CALLERS_MAX and (idlest := self._idlest()) is not None:
            self._dismiss(idlest, None)

    def _take(self, sock: socket.socket, host: str) -> None:
        if self.node.is_black_listed(host):
            sock.close()
            return
        try:
            channel, seconds = tls.called(sock, self.node.credentials, NODE), self._patience(links.OPENING_SECONDS)
            link = Link(channel, host, time.monotonic(), True, seconds)
        except BDError:  # it has hung up
            return
        link.counted = self.node.counters.news
        caller = self._callers[link] = Caller(link, Terms(self.node), host)
        self._watch(caller)

    def _greet(self, caller: Caller) -> None:
        """It has shown who it is."""
        self._refuse_revoked(caller)
        clock, name = time.monotonic(), caller.link.name
        if len(self._shares) >= SHARES_MAX:
            used = {each.share for each in self._callers.values()}
            kept = [(each, it) for each, it in self._shares.items() if it in used or clock < it.began + MINUTE]
            self._shares = dict(kept)
        caller.share = self._shares.setdefault(name, Share(clock))
        same = [each for each in self._callers.values() if not each.is_stranger and each.link.name == name]
        if len(same) > LINKS_MAX:
            self._dismiss(min(same, key=lambda each: each.link.used_at), None)

    def _watch(self, caller: Caller) -> None:
        """Be told of what it sends, unless it rests."""
        caller.is_resting = caller.share.rests_until() > time.monotonic()
        if not caller.is_resting:
            links.watch(self._selector, caller.link, caller)
            return
        caller.link.rest()
        with contextlib.suppress(KeyError, ValueError):  # it rests already, or is closed
            self._selector.unregister(caller.link)

    # -- time

    def next_at(self) -> float:
        """When the next patience ends, or there is room again."""
        instants = [self._sweep_at, *(link.late_at() for link in self._callers)]
        instants += [caller.share.rests_until() for caller in self._callers.values() if caller.is_resting]
        if not self._is_listening:
            instants.append(self._room_at())
        return min(instants)

    def on_time(self) -> None:
        """See whose time is over."""
        clock = time.monotonic()
        for caller in list(self._callers.values()):
            if (late := caller.link.late(clock)) is not None:
                self._dismiss(caller, late)
            elif caller.is_resting and clock >= caller.share.rests_until():
                self._watch(caller)
        if clock >= self._sweep_at:
            self._sweep_at = clock + SWEEP_SECONDS
            for caller in list(self._callers.values()):
                if not caller.slots and clock - caller.link.used_at > IDLE_SECONDS:
                    self._dismiss(caller, None)

    # -- what comes

    def step(self, caller: Caller) -> None:
        """The socket of this caller is ready. What there is no room for in this turn, the next one is told of."""
        try:
            while caller.link.state is not State.CLOSED and caller.share.has_room(self._turn):
                with caller.at_work():
                    self._listen_to(caller)
                if not caller.link.is_behind:
                    break
        except BDError as error:
            self._dismiss(caller, error)
        if caller.link in self._callers:
            self._watch(caller)

    def _listen_to(self, caller: Caller) -> None:
        """To one message, if one has come whole."""
        link, was_stranger, before = caller.link, caller.is_stranger, caller.link.decoded_bytes
        said = link.ready(time.monotonic(), 1)
        if was_stranger and not caller.is_stranger:
            self._greet(caller)
        if said and self.is_mute:
            raise NobodyThere(f"{caller.who} is not answered now")
        for message in said:
            caller.share.read(link.decoded_bytes - before)
            self._heard(caller, message)
        if link.ended is not None and link in self._callers:
            raise link.ended

    def _heard(self, caller: Caller, message: Any) -> None:
        if messages.is_opening(message):
            caller.terms.take(message, caller.who)
            return
        self._refuse_revoked(caller)
        if len(caller.slots) >= SLOTS_MAX:
            raise TooLarge(f"{caller.who} asks {SLOTS_MAX} things and waits for no answer")
        slot = Slot(lambda: self._filled(caller))
        caller.slots.append(slot)
        try:
            caller.terms.check()
            self._answer(caller, message, slot)
        except BDError as error:
            slot.fill(messages.Error(error.code, str(error)))
        except Exception:
            log.exception("%s: %s", caller.who, str(message)[:60])
            slot.fill(messages.Error(BDError.code, f"that met a bug of {self.node.name}: see its log"))

    def _filled(self, caller: Caller) -> None:
        """One more answer is there; it may have taken its time."""
        if caller.is_stranger:  # that is, closed meanwhile
            return
        try:
            caller.say_what_is_there()
        except BDError as error:
            self._dismiss(caller, error)
            return
        self._watch(caller)

    def _refuse_revoked(self, caller: Caller) -> None:
        identity = caller.link.channel.identity
        refusal = self.node.refusal(identity)
        if refusal:
            with contextlib.suppress(BDError):
                caller.link.say(encode(messages.encoded(messages.Error(Forbidden.code, refusal))))
            raise Forbidden(refusal)

    # -- the end

    def _dismiss(self, caller: Caller, error: BDError | None) -> None:
        if self._callers.pop(caller.link, None) is None:
            return
        if isinstance(error, Forbidden | BadFrame | TooLarge):
            log.warning("%s: %s", caller.who, error)
        elif error is not None:
            log.debug("%s: %s", caller.who, error)
        links.hang_up(self._selector, caller.link)

    def dismiss_all(self) -> None:
        """Hang up on everybody: keys, rules or black list are others now."""
        for caller in list(self._callers.values()):
            self._dismiss(caller, None)
