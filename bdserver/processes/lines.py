"""Lines: the discoverer's conversations with nodes that it calls, in one loop, without a thread.

A *talk* is a generator: it yields a request and is sent the answer, or has the error thrown in; what it returns, or raises,
goes to the function that started it. Many talks share one line to a node, and their requests follow each other on it without
waiting (pipelining); answers come in the order of the requests, so a request whose answer takes long goes over a line of its
own. One that is late is still waited for, though its talk has ended: it shows that the node lives. Lines stay open from one
talk to the next, so that no piece of news pays for a handshake; only a few are opened at once.

Who waits on a line, and until when, is in `line`. What is said is the business of those who hand it in; what comes of it is a
value or one BDError, and late means Deadline.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Collection
from typing import Any

from bdserver.core import messages
from bdserver.core.address import split_address
from bdserver.core.messages import Opening
from bdserver.core.wire import OLDEST, encode
from bdserver.errors import BadFrame, BDError, Deadline, Forbidden, NobodyThere, PolicyUnknown, Refused, from_wire
from bdserver.net import links, tls
from bdserver.net.links import Link, State
from bdserver.net.tcp import ADDRESSES_MAX
from bdserver.processes.line import Done, Line, Talk, Turn
from bdserver.processes.names import Names
from bdserver.processes.node import Node

# The watch and the fingers, log2 of the nodes of a mesh, and some that were before the last change.
LINES_MAX = 32
# Lines that are being opened at once: a handshake takes milliseconds of both ends, and a mesh starts gently. One that takes
# longer than this waits for somebody who is silent, and does not hold up the others.
OPENING_MAX, OPENING_SECONDS = 4, 0.3
# A line that is not kept is let go when it was not used for so long; how often that is looked at.
IDLE_SECONDS, SWEEP_SECONDS = 60.0, 10.0
# When we have no descriptor or memory for a socket, so long nothing is dialled.
SHORTAGE_SECONDS = 0.5
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger("bdserver.lines")


class Ourselves(NobodyThere):
    """The address leads back to the node that dialled it."""


class Lines:
    """`hung_up(name)` hears of lines that ended by themselves, `came_late(name)` of nodes whose answer came, or whose line
    opened, when nobody waited any more. `patience(seconds)`: how long to wait now for what takes less when all is well."""

    def __init__(
        self,
        node: Node,
        selector: selectors.BaseSelector,
        names: Names,
        hung_up: Callable[[str], None],
        came_late: Callable[[str], None],
        patience: Callable[[float], float],
    ) -> None:
        self.node, self._selector, self._names, self.patience = node, selector, names, patience
        self._hung_up, self._came_late = hung_up, came_late
        self._lines: dict[tuple[str, bool], Line] = {}
        self._kept: Collection[str] = ()
        self._is_opening = False
        self._dial_at = 0.0
        self._sweep_at = time.monotonic() + SWEEP_SECONDS

    # -- talks

    def start(self, talk: Talk, address: str, name: str | None, seconds: float, done: Done, is_slow: bool = False) -> None:
        """Begin a talk with the node at this address, which must prove to be `name` if that is given. `is_slow`: on a line
        of its own, because an answer that takes long would hold up all others."""
        key = address, is_slow
        line = self._lines.get(key)
        if line is not None and None not in (name, line.name) and line.name != name:
            self._fail(line, NobodyThere(f"{address}: {line.name} is not there any more"))
            line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(key, name, time.monotonic())
        line.name = line.name or name
        self._advance(line, talk, None, time.monotonic() + seconds, done)
        self._let_go()
        self.open_waiting()

    def _advance(self, line: Line, talk: Talk, said: Any, deadline: float, done: Done) -> None:
        """Give the talk an answer (None: its beginning) or an error; note what it says next."""
        request = self._said(line, talk, said, done)
        if request is None:
            return
        turn = Turn(talk, request, deadline, done)
        line.waiting.append(turn)
        line.used_at = time.monotonic()
        if line.is_open:
            self._ask(line, turn)

    def _ask(self, line: Line, turn: Turn) -> None:
        assert line.link is not None
        try:
            line.link.say(encode(turn.request))
        except BDError as error:
            self._break(line, error)
            return
        links.watch(self._selector, line.link, line)

    def _end(self, line: Line, turn: Turn, error: BDError) -> None:
        """A talk may make the best of an error, but not say more on a line that is over."""
        if self._said(line, turn.talk, error, turn.done) is not None:
            turn.talk.close()
            turn.done(error)

    def _said(self, line: Line, talk: Talk, heard: Any, done: Done) -> list[Any] | None:
        """What the talk says to an answer or an error; None when that has ended it, and `done` knows."""
        try:
            request: list[Any] = talk.throw(heard) if isinstance(heard, BDError) else talk.send(heard)
            return request
        except StopIteration as end:
            done(end.value)
        except BDError as error:
            done(error)
        except Exception:
            log.exception("a talk with %s met a bug", line.address)
            done(NobodyThere("a bug"))
        return None

    # -- time

    def next_at(self) -> float:
        """When the next patience ends."""
        instants = [self._sweep_at, *(line.next_at() for line in self._lines.values())]
        if any(line.wants_link for line in self._lines.values()):
            clock = time.monotonic()
            instants += [line.opened_at + OPENING_SECONDS for line in self._opening(clock)]
            if self._dial_at > clock:
                instants.append(self._dial_at)
        return min(instants)

    def on_time(self) -> None:
        """See whose time is over."""
        clock = time.monotonic()
        for line in list(self._lines.values()):
            link = line.link
            self._too_late(line, clock)
            if clock >= line.mute_at():
                self._mute(line)
            elif link is not None and link.state is State.CONNECTING and clock >= line.next_address_at:
                self._unreached(line, Deadline(f"{line.address} did not answer in time"))
            elif link is not None and (late := link.late(clock)) is not None:
                self._break(line, late)
        if clock >= self._sweep_at:
            self._sweep(clock)
        self.open_waiting()

    def _too_late(self, line: Line, clock: float) -> None:
        """End the talks whose time is over. The line stays, and one that is being opened may open yet: to dial anew because
        something is late would make more that is late."""
        late = line.give_up(clock)
        if late and not line.waiting and line.link is None:
            self._drop(line)
        for turn in late:
            self._end(line, turn, Deadline(f"{line.address} did not answer in time"))

    def _mute(self, line: Line) -> None:
        """It is over; those that nobody has given up are asked on a new line."""
        wanted = line.wanted
        self._drop(line)
        self._again(line, wanted)

    def _sweep(self, clock: float) -> None:
        """Let go of lines that nobody uses."""
        self._sweep_at = clock + SWEEP_SECONDS
        for line in list(self._lines.values()):
            if not line.waiting and line.name not in self._kept and clock - line.used_at > IDLE_SECONDS:
                self._drop(line)
        self._let_go()

    def keep(self, names: Collection[str]) -> None:
        """Lines to these nodes stay open though nobody uses them."""
        self._kept = names

    def _let_go(self) -> None:
        """Of too many lines, close those that nobody uses; those that are kept last."""
        over = len(self._lines) - LINES_MAX
        if over > 0:
            idle = [line for line in self._lines.values() if not line.waiting]
            for line in sorted(idle, key=lambda line: (line.name in self._kept, line.used_at))[:over]:
                self._drop(line)

    # -- opening

    def _opening(self, clock: float) -> list[Line]:
        """Those that were dialled this very moment, and are not open yet."""
        lines = self._lines.values()
        return [line for line in lines if line.link and not line.is_open and clock - line.opened_at < OPENING_SECONDS]

    def open_waiting(self) -> None:
        """Open what is wanted, a few at once, those that have waited longest first."""
        if self._is_opening:  # a line that could not be opened has ended a talk, and that began another one
            return
        self._is_opening = True
        try:
            while self._open_one():
                pass
        finally:
            self._is_opening = False

    def _open_one(self) -> bool:
        """Whether it is worth while to look for another one."""
        clock = time.monotonic()
        if clock < self._dial_at or len(self._opening(clock)) >= OPENING_MAX:
            return False
        return any(self._open(line, clock) for line in list(self._lines.values()) if line.wants_link)

    def _open(self, line: Line, clock: float) -> bool:
        """Dial, or break the line; False when that must wait."""
        try:
            if not line.untried:
                host, port = split_address(line.address)
                if self.node.is_black_listed(host):
                    raise Forbidden(f"{line.address} is in our black list")
                found = self._names.addresses(host, port)
                if found is None:
                    return False  # its name is being looked up
                line.untried = found[:ADDRESSES_MAX]
        except BDError as error:
            self._break(line, error)
            return True
        family, where = line.untried.pop(0)
        try:
            line.link = self._dialled(line, family, where, clock)
        except OSError as error:
            if error.errno in SHORTAGES:  # ours alone: it says nothing of the other node
                log.error("can't dial %s: %s", line.address, error.strerror)
                line.untried.insert(0, (family, where))
                self._dial_at = clock + SHORTAGE_SECONDS
                return False
            self._unreached(line, NobodyThere(f"{line.address}: {error.strerror or error}"))
        except BDError as error:
            self._unreached(line, error)
        else:
            line.opened_at = clock
            patience = min(turn.deadline for turn in line.waiting) - clock
            line.next_address_at = clock + patience / (len(line.untried) + 1) if line.untried else float("inf")
            links.watch(self._selector, line.link, line)
        return True

    def _dialled(self, line: Line, family: int, where: Any, clock: float) -> Link:
        sock = socket.socket(family, socket.SOCK_STREAM)
        channel = tls.calling(sock, self.node.credentials, line.address)
        try:
            number = sock.connect_ex(where)
        except OSError:
            channel.break_off()
            raise
        if number in (0, errno.EINPROGRESS):
            link = Link(channel, line.address, clock, number == 0, self.patience(links.OPENING_SECONDS))
            link.counted = self.node.counters.news
            return link
        channel.break_off()
        if number == errno.ECONNREFUSED:
            raise Refused(f"{line.address}: connection refused")
        raise OSError(number, os.strerror(number))

    def _unreached(self, line: Line, error: BDError) -> None:
        """This address of the host leads to nobody: its next one is dialled, if there is one."""
        if not line.untried:
            self._break(line, error)
        elif line.link is not None:
            links.hang_up(self._selector, line.link)
            line.link = None

    def _opened(self, line: Line, link: Link) -> None:
        """Look who answers; then send our opening, and all that waits."""
        identity = link.channel.identity
        if identity.name == self.node.name:
            raise Ourselves(f"{line.address} leads back to this node")
        if line.name is not None and identity.name != line.name:
            raise Refused(f"{line.address}: {identity.name} is there, not {line.name}")
        refusal = self.node.refusal(identity)
        if refusal:
            raise Forbidden(f"{line.address}: {refusal}")
        line.name = identity.name
        if not line.waiting:
            self._came_late(line.name)
        link.say(self._opening_message(with_text=False))
        for turn in line.waiting:
            link.say(encode(turn.request))

    def _opening_message(self, with_text: bool) -> bytes:
        document, version = self.node.rules.document, self.node.settings.protocol
        policy, text = (None, document.text) if with_text else (document.digest, None)
        return encode(messages.opened(Opening(version, min(OLDEST, version), None, policy, text)))

    # -- what comes

    def step(self, line: Line) -> None:
        """The socket of this line is ready."""
        link = line.link
        if link is None:  # it was closed in this very turn
            return
        before = link.state
        try:
            said = link.ready(time.monotonic())
            if before is not State.OPEN and link.state is State.OPEN:
                self._opened(line, link)
                self.open_waiting()
            for message in said:
                self._answered(line, message)
            if link.ended is not None:
                raise link.ended
        except BDError as error:
            if line.link is link:
                (self._unreached if link.state is State.CONNECTING else self._break)(line, error)
                self.open_waiting()
            return
        if line.link is link:
            links.watch(self._selector, link, line)

    def _answered(self, line: Line, message: Any) -> None:
        if not line.waiting:
            raise BadFrame(f"{line.address} says something unasked")
        turn = line.waiting.popleft()
        line.used_at = time.monotonic()
        if turn.is_given_up:
            if line.name is not None:
                self._came_late(line.name)
            return
        try:
            answer = messages.decode(turn.request[0], message)
        except BadFrame as error:
            answer = BadFrame(f"{line.address}: {error}")
        if isinstance(answer, messages.Error):
            answer = from_wire(answer.code, f"{line.address}: {answer.text}")
            if isinstance(answer, PolicyUnknown) and self._tells_policy(line, turn):
                return
        self._advance(line, turn.talk, answer, turn.deadline, turn.done)

    def _tells_policy(self, line: Line, turn: Turn) -> bool:
        """Ask again, behind the text of our policy; False when that is of no use."""
        if turn.has_told_policy or not self.node.rules.document.text or line.link is None:
            return False
        line.waiting.append(turn._replace(has_told_policy=True))
        line.link.say(self._opening_message(with_text=True))
        line.link.say(encode(turn.request))
        return True

    # -- the end

    def _break(self, line: Line, error: BDError) -> None:
        """The line is over. If it was open, and the other end hung up (it may have read its keys anew, or had enough of us),
        what waits is asked once more, on a new line."""
        if not line.is_open or not isinstance(error, NobodyThere) or isinstance(error, Refused | Ourselves):
            self._fail(line, error)
            return
        waiting = line.wanted
        self._drop(line)
        self._again(line, [turn._replace(has_been_lost=True) for turn in waiting if not turn.has_been_lost])
        if line.name is not None:
            self._hung_up(line.name)
        for turn in waiting:
            if turn.has_been_lost:
                self._end(line, turn, error)

    def _fail(self, line: Line, error: BDError) -> None:
        """The line is over, and so is all that waits."""
        waiting = line.wanted
        self._drop(line)
        for turn in waiting:
            self._end(line, turn, error)

    def _again(self, line: Line, waiting: list[Turn]) -> None:
        """What was asked on a line that is gone, through no fault of the other end, is asked on a new one."""
        if waiting:
            again = self._lines[line.key] = Line(line.key, line.name, time.monotonic())
            again.waiting.extend(waiting)

    def _drop(self, line: Line) -> None:
        if self._lines.get(line.key) is line:
            del self._lines[line.key]
        if line.link is not None:
            links.hang_up(self._selector, line.link)
            line.link = None
        line.waiting.clear()

    def let_go(self, address: str) -> None:
        """Close the line to this address, if nothing is under way on it."""
        line = self._lines.get((address, False))
        if line is not None and not line.waiting:
            self._drop(line)

    def renew(self) -> None:
        """Hang up everywhere: keys, rules or black list are others now. What waits is asked on new lines."""
        for line in list(self._lines.values()):
            wanted = line.wanted
            self._drop(line)
            self._again(line, wanted)
        self.open_waiting()
