"""A session: one connection that is served, as the functions that answer its requests see it.

It knows the caller, how long the request may still take, and what the world looked like when the request began; it asks other
nodes for the caller, and notes what is owed after the answer. Reading and writing the connection is child's business.
"""

from __future__ import annotations

import contextlib
import os
import select
import tempfile
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from bdserver.core import messages
from bdserver.core.messages import Found, Package, Request, Yes
from bdserver.core.roles import NODE
from bdserver.core.routing import Question
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View
from bdserver.core.weight import BACK
from bdserver.errors import BadRequest, BDError, Deadline, NobodyThere, TooLarge
from bdserver.files.bdcert import Service
from bdserver.files.settings import Settings
from bdserver.net.connections import Connections
from bdserver.net.conversation import Conversation
from bdserver.net.identity import Identity
from bdserver.processes.node import Node
from bdserver.processes.promising import Giver, Taker
from bdserver.processes.repeating import Repeat
from bdserver.processes.world import World

# Whatever deadline a caller wishes for, a child does not work longer on one request.
REQUEST_SECONDS_MAX = 60.0
# Of an answer that has begun to come, the rest is there at once.
WORD_SECONDS = 0.1
# A node that is silent is probed at once, and suspected within 2 s.
DOUBTED_SECONDS = 2.0
# Connections to other nodes that a child keeps while its caller's is open.
KEPT_MAX = 8


class Caller(NamedTuple):
    """The other end of a connection: `role` from the certificate or the socket, `name` for the logs, `host` for hit logs,
    `identity` by the certificate, None on the local socket."""

    role: str
    name: str
    host: str
    identity: Identity | None = None

    def __str__(self) -> str:
        return f"{self.role} {self.name} from {self.host}"


class _Checked(NamedTuple):
    """A request that was found to be one, under these settings."""

    message: object
    settings: Settings
    row: Request
    arguments: list[Any]


class _Waiting(NamedTuple):
    """A question that stands, and since when."""

    talk: Conversation
    request: list[Any]
    asked_at: float


# receive(length, file, deadline): copies a package that follows the request into a file.
Receive = Callable[[int, BinaryIO, float], None]


class Session:
    """`dispatch(session, request)` answers a request that this node asks itself, checked like those that come from outside."""

    def __init__(self, node: Node, caller: Caller, receive: Receive, dispatch: Callable[[Session, list[Any]], Any]) -> None:
        self.node, self.caller = node, caller
        self.deadline: float = time.monotonic() + node.settings.request_timeout
        self.later: list[Callable[[], None]] = []
        self._receive, self._dispatch = receive, dispatch
        self._services: dict[str, Service] | None = None
        self._view: View | None = None
        self._world: World | None = None
        self._checked: _Checked | None = None
        self._connections = Connections(node.call, node.refusal, KEPT_MAX, lambda name: self.taker.farewell(name))
        self.taker = Taker(node, self._connections)
        self.giver = Giver(node, caller.name, caller.host)
        self._held = contextlib.ExitStack()  # until the answer is sent
        self.doubted: dict[str, float] = {}  # who was silent a moment ago, and until when that counts
        self.question: Question | None = None  # of the last look-up without a policy
        self._waiting: dict[str, _Waiting] = {}  # who was asked and may still answer
        self.repeat: Repeat | None = None  # of the last look-up
        # The service and the time of a call that we agreed to just now, for another node.
        self.agreed: tuple[str, float] | None = None
        self._has_place = False

    def begin(self, seconds: float) -> None:
        """A request begins: it has its own deadline, and its own look at view and services."""
        self.deadline = time.monotonic() + min(seconds, REQUEST_SECONDS_MAX)
        self._services = self._view = self._world = self.agreed = None
        self.taker.is_taking = False
        if self.doubted:
            now = time.monotonic()
            for name in [name for name, until in self.doubted.items() if until <= now]:
                del self.doubted[name]

    def checked(self, message: object) -> tuple[Request, list[Any]]:
        """The row and the arguments of a request of the caller's; the very message of the last time is not checked anew."""
        before, settings = self._checked, self.node.settings
        if before is not None and before.message is message and before.settings is settings:
            return before.row, before.arguments
        row, arguments = messages.check(message, self.caller.role, settings.protocol)
        self._checked = _Checked(message, settings, row, arguments)
        return row, arguments

    def doubt(self, names: list[str]) -> None:
        """These were silent: until the view tells, others are asked before them."""
        self.doubted.update(dict.fromkeys(names, time.monotonic() + DOUBTED_SECONDS))

    def left(self) -> float:
        """Seconds until the caller's deadline."""
        return self.deadline - time.monotonic()

    def take_back(self) -> None:
        """The caller broke off: where it had asked us to take a call, it has not heard that we do, or has no use for that."""
        if self.agreed is not None and self.caller.role == NODE:
            service, at = self.agreed
            self.agreed = None
            self.node.hit(service, self.caller.host, at, BACK)
            self.giver.settle(service, 0, self.node.clock())

    def end(self) -> None:
        """After the answer: what is owed to others."""
        self._give_back()
        self._let_go()
        owed, self.later = self.later, []
        for each in owed:
            each()

    def close(self) -> None:
        """Hang up on everybody that was called for this caller."""
        self._give_back()
        self._let_go()
        self._connections.close()

    def look_anew(self) -> None:
        """The settings have changed: who was called for this caller is called anew."""
        self._connections.close()

    def _let_go(self) -> None:
        if self._has_place:
            self._has_place = False
            self._held.close()

    # -- one look serves the whole of a request

    def services(self) -> dict[str, Service]:
        """Our services as this request found them."""
        if self._services is None:
            self._services = self.node.services.all()
        return self._services

    def view(self) -> View:
        """The view as this request found it."""
        if self._view is None:
            self._view = self.node.cache.view()
        return self._view

    def world(self) -> World:
        """Both, and what follows from them."""
        if self._world is None:
            self._world = self.node.world(self.view(), self.services())
        return self._world

    def look_again(self) -> View:
        """The view of now, for the rest of the request, which has changed something itself."""
        self._services = self._view = self._world = None
        return self.view()

    # -- asking others

    def ask(self, name: str, request: list[Any], seconds: float) -> Any:
        """Another node's answer, or this one's, within so many seconds; over a connection kept from before where there is one.

        A package that follows an answer is in its `file`. NobodyThere when it does not answer in its time."""
        if name == self.node.name:
            answer = self._dispatch(self, request)
            self.agreed = None  # our own call, which nobody gives back
            return answer
        request = self.taker.asking(name, request)
        asked_at = time.monotonic()
        deadline = min(asked_at + seconds, self.deadline)
        return self._talk(name, deadline, lambda talk: self._asked(name, talk, request, asked_at, deadline))

    def put(self, name: str, request: list[Any], seconds: float, patience: float) -> Any:
        """As `ask`; Deadline after so many seconds where the question stands, and `hear` may hear the answer."""
        if name == self.node.name:
            return self.ask(name, request, seconds)
        if name in self._waiting:  # it was asked before, and is asked otherwise now
            self._waiting.pop(name).talk.break_off()
        request, now = self.taker.asking(name, request), time.monotonic()
        at_once, deadline = min(now + seconds, self.deadline), min(now + patience, self.deadline)

        def say(talk: Conversation) -> Any:
            talk.begin(request, deadline)
            return self._heard(name, talk, request, now, at_once) if talk.is_readable(at_once) else None

        answer = self._talk(name, at_once, say)
        if answer is None:
            self._waiting[name] = _Waiting(self._connections.taken_out(name), request, now)
            raise Deadline(f"{name} has not answered yet")
        return answer

    def hear(self, seconds: float) -> tuple[str, Any] | None:
        """(name, its answer) of a node that was `put` a question, and answers within so many seconds."""
        until = min(time.monotonic() + seconds, self.deadline)
        while self._waiting:
            names = {waiting.talk.fileno(): name for name, waiting in self._waiting.items()}
            poll = select.poll()
            for descriptor in names:
                poll.register(descriptor, select.POLLIN)
            readable = poll.poll(max(until - time.monotonic(), 0.0) * 1000)
            if not readable:
                return None
            name = names[readable[0][0]]
            talk, request, asked_at = self._waiting.pop(name)
            try:
                answer = self._heard(name, talk, request, asked_at, time.monotonic() + WORD_SECONDS)
            except BDError:
                talk.break_off()
                continue
            self._connections.keep(name, talk)
            return name, answer
        return None

    def _heard(self, name: str, talk: Conversation, request: list[Any], asked_at: float, deadline: float) -> Any:
        answer = talk.finish(request, deadline)
        self.taker.heard(self.view().records.get(name), request, answer, asked_at, talk)
        return answer

    def spend(self, name: str, service: str) -> Yes | None:
        """The YES of a holder that has promised this call before; None when it is to be asked."""
        return self.taker.spend(self.view().records[name], service)

    def _give_back(self) -> None:
        """Who has not answered yet is hung up on without a goodbye: should it still take the call, it takes that back."""
        while self._waiting:
            self._waiting.popitem()[1].talk.break_off()

    def _talk(self, name: str, deadline: float, say: Callable[[Conversation], Any]) -> Any:
        record = self.view().records.get(name)
        if record is None:
            raise NobodyThere(f"{name}: nobody of that name is known here")
        try:
            return self._connections.talk(name, record.address, deadline, say)
        except Deadline:
            if time.monotonic() < self.deadline:
                raise NobodyThere(f"{name} did not answer in time") from None
            raise

    def _asked(self, name: str, conversation: Conversation, request: list[Any], asked_at: float, deadline: float) -> Any:
        answer = conversation.ask(request, deadline)
        self.taker.heard(self.view().records.get(name), request, answer, asked_at, conversation)
        if isinstance(answer, Package | Found) and "sha256" in answer.described:
            self._take_place()
            file = self.spooled(answer.described, lambda length, out: conversation.receive_package(length, out, deadline))
            return answer._replace(file=file)
        return answer

    # -- packages on their way

    def _take_place(self) -> None:
        """One for all that is done for a request; TooBusy when so many packages are under way already."""
        if not self._has_place:
            self._held.enter_context(self.node.parcels.place(self.caller.name))
            self._has_place = True

    def packed(self, service: Service) -> Package:
        """The package of a service of ours."""
        self._take_place()
        limits = self.node.settings.package_bytes_max, self.node.settings.package_files_max
        parcel = self.node.parcels.packed(service, *limits, self.left())
        self._held.callback(parcel.close)
        return Package(parcel.described, parcel.opened())

    def receive(self, described: dict[str, Any]) -> BinaryIO:
        """The package that follows this request, in a file, at its beginning."""
        return self.spooled(described, lambda length, out: self._receive(length, out, self.deadline))

    def spooled(self, described: dict[str, Any], copy: Callable[[int, BinaryIO], None]) -> BinaryIO:
        """A file, at its beginning, with what `copy(length, file)` writes to it; TooLarge before anything is written."""
        length = self.checked_length(described)
        file = self._spool()
        try:
            copy(length, file)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def _spool(self) -> BinaryIO:
        """A nameless file for a package on its way, on the services' disk."""
        os.makedirs(self.node.services.scratch_dir, mode=0o700, exist_ok=True)
        return tempfile.TemporaryFile(dir=self.node.services.scratch_dir)

    def checked_length(self, described: dict[str, Any]) -> int:
        """The declared length of a package, if we are ready to take that much."""
        length, most = described.get("bytes"), self.node.settings.package_bytes_max
        if type(length) is not int or length < 0 or not isinstance(described.get("sha256"), str):
            raise BadRequest("INVALID REQUEST: a package is declared by its bytes and sha256")
        if length > most:
            raise TooLarge(f"a package of {length} bytes is over package_bytes_max={most}")
        return length
