"""One function for each request, and `serve`, which runs a conversation in a child of the listener.

Every answer is worked out within the caller's deadline, and nothing here holds the cache's lock while it talks. What
may be asked by whom is core.requests' table, how a client is routed is core.routing, how views merge core.exchange.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable

import setproctitle

from bdserver import __version__
from bdserver.core import exchange, membership, plan, policy, requests, routing, weight
from bdserver.core.address import join_address, split_address
from bdserver.core.membership import LEFT, Record, View
from bdserver.core.wire import OLDEST, Decoder, encode
from bdserver.errors import (
    BadFrame,
    BadPackage,
    BadRequest,
    BDError,
    CantFind,
    Deadline,
    Forbidden,
    NobodyThere,
    NoSpace,
    PolicyMismatch,
    PolicyUnknown,
    TooBusy,
    TooLarge,
)
from bdserver.files import package
from bdserver.files.cache import LOCK_SECONDS
from bdserver.files.password import password_matches
from bdserver.files.services import Service
from bdserver.net.client import CHUNK_BYTES, Conversation, receive
from bdserver.processes.connections import Connections
from bdserver.processes.node import Node

# Whatever deadline a caller wishes for, a child does not work longer on one request.
REQUEST_SECONDS_MAX = 60.0
# Steps of a FIND that this node starts itself, when a replica is wanted and no cache knows a holder.
FIND_STEPS = 4
FIND_SECONDS = 2.0
# Of the journal, STATUS tells this many events.
EVENTS_TOLD = 20
# Of a service's holders, the journal names this many.
HOLDERS_TOLD = 5
# Connections to other nodes that a child keeps while its caller's is open.
KEPT_MAX = 8

log = logging.getLogger("bdserver.answers")


class Caller:
    """Who is at the other end: `role` from the certificate or the socket, `name` for the logs, `host` for hit logs,
    `serial` of the certificate, None on the local socket."""

    def __init__(self, role: str, name: str, host: str, serial: int | None = None):
        self.role, self.name, self.host, self.serial = role, name, host, serial

    def __str__(self):
        return f"{self.role} {self.name} from {self.host}"


class Reply(list):
    """An answer behind which a package follows: an open file, sent and closed after it."""

    def __init__(self, answer: list, file):
        super().__init__(answer)
        self.file = file


class Session:
    """One connection being served: who asks, until when, and what is owed after the answer."""

    def __init__(self, node: Node, caller: Caller, stream=None, decoder: Decoder | None = None):
        self.node, self.caller = node, caller
        self.stream, self.decoder = stream, decoder
        self.deadline = time.monotonic() + node.settings.request_timeout
        self.later: list[Callable[[], None]] = []
        self._services: dict[str, Service] | None = None
        self._view: View | None = None
        self._title = ""
        self.is_busy = self.is_leaving = self.is_revoked = False
        self._connections = Connections(node, KEPT_MAX)

    def begin(self, command: str, seconds: float) -> None:
        """A request begins: it has its own deadline, its own look at view and services, and is to be seen in ps."""
        self.deadline = time.monotonic() + min(seconds, REQUEST_SECONDS_MAX)
        self._services = self._view = None
        if command != self._title:  # a tenth of a WHEREIS on an open connection, if it is set each time
            self._title = command
            setproctitle.setproctitle(f"bdserverd: child of {self.node.name}: {command[:20]} for {self.caller}")

    def services(self) -> dict[str, Service]:
        """Our services as this request found them: one look at the folder serves the whole of a look-up."""
        if self._services is None:
            self._services = self.node.services.all()
        return self._services

    def view(self) -> View:
        """The view as this request found it: one look at the cache file serves the whole of a look-up."""
        if self._view is None:
            self._view = self.node.cache.view()
        return self._view

    def left(self) -> float:
        """Seconds until the caller's deadline."""
        return self.deadline - time.monotonic()

    def leave(self, number, frame) -> None:
        """SIGTERM: a request that is running ends first."""
        self.is_leaving = True
        if not self.is_busy:
            os._exit(0)

    def ask(self, name: str, request: list, seconds: float) -> list:
        """Ask another node, or this one; over a connection kept from before where there is one."""
        if name == self.node.name:
            return ANSWERS[request[0]](self, *request[1:])
        record = self.node.cache.view().records.get(name)
        if record is None:
            raise NobodyThere(f"{name}: nobody of that name is known here")
        deadline = min(time.monotonic() + seconds, self.deadline)
        try:
            return self._connections.talk(name, record.address, deadline, lambda talk: self._asked(talk, request, deadline))
        except Deadline:
            if time.monotonic() < self.deadline:
                raise NobodyThere(f"{name} did not answer in time") from None
            raise

    def _asked(self, conversation: Conversation, request: list, deadline: float) -> list:
        said = conversation.ask(request, deadline)
        if described := _package_in(said):
            return Reply(said, self._receive(conversation, described, deadline))
        return said

    def _receive(self, conversation: Conversation, described: dict, deadline: float):
        out_file = self.spool()
        length = self.checked_length(described)
        conversation.receive_package(length, out_file, deadline)
        out_file.seek(0)
        return out_file

    def spool(self):
        """A nameless file for a package on its way, on the services' disk."""
        os.makedirs(self.node.services.scratch_dir, mode=0o700, exist_ok=True)
        return tempfile.TemporaryFile(dir=self.node.services.scratch_dir)

    def checked_length(self, described: dict) -> int:
        """The declared length of a package, if we are ready to take that much."""
        length, most = described.get("bytes"), self.node.settings.package_bytes_max
        if type(length) is not int or length < 0 or not isinstance(described.get("sha256"), str):
            raise BadRequest("INVALID REQUEST: a package is declared by its bytes and sha256")
        if length > most:
            raise TooLarge(f"a package of {length} bytes is over package_bytes_max={most}")
        return length

    def close(self) -> None:
        """Hang up on everybody that was called for this caller."""
        self._connections.close()


def _package_in(said: list) -> dict | None:
    described = said[-1] if said[:1] == ["YES"] else None
    return described if isinstance(described, dict) and "sha256" in described else None


# --- running a conversation ---------------------------------------------------------------------------------------


def serve(node: Node, stream, caller: Caller, idle_seconds: float) -> None:
    """Answer one request after the other until the caller hangs up, is idle too long, or talks nonsense."""
    decoder = Decoder()
    session = Session(node, caller, stream, decoder)
    terms = Terms(node)
    signal.signal(signal.SIGTERM, session.leave)
    try:
        while (message := _next_message(stream, decoder, idle_seconds)) is not None:
            if isinstance(message, list) and message[:1] == ["OPEN"]:
                terms.take(message)
                continue
            if os.getppid() != node.listener_pid:
                log.info("%s: no answer, since the listener is gone", caller)
                return
            session.is_busy = True
            goes_on = _answer_one(session, terms, message)
            session.is_busy = False
            if not goes_on or session.is_leaving:
                return
    except (NobodyThere, Deadline) as error:
        log.debug("%s: %s", caller, error)
    except (BadFrame, TooLarge) as error:
        log.warning("%s: %s", caller, error)
        with contextlib.suppress(BDError):
            stream.send(encode(["ERROR", error.code, str(error)]), time.monotonic() + 1)
    finally:
        session.close()


class _Rehearsal:
    """A stream on which one request comes, and nobody reads the answer."""

    def __init__(self, request: list):
        self._left = [b"", encode(request)]

    def recv(self, bytes_max: int, deadline: float) -> bytes:
        """The request, then the end."""
        return self._left.pop()

    def send(self, data: bytes, deadline: float) -> None:
        """To nobody."""


def rehearse(node: Node) -> None:
    """Answer a look-up that finds nothing: whatever memory that touches, a forked process has to itself afterwards."""
    serve(node, _Rehearsal(["WHEREIS", "nobody", None]), Caller(requests.CLIENT, "nobody", "-"), 1.0)


def _next_message(stream, decoder: Decoder, idle_seconds: float):
    """The next message, or None at the end; a frame that came in half by the deadline is the caller's fault."""
    deadline = time.monotonic() + idle_seconds
    while (message := decoder.next_message()) is None:
        data = stream.recv(CHUNK_BYTES, deadline)
        if not data:
            if decoder.pending_bytes:
                raise BadFrame("the connection ended in the middle of a frame")
            return None
        decoder.feed(data)
    return message


def _answer_one(session: Session, terms: Terms, message) -> bool:
    """Answer one request; False when the conversation is over after it."""
    command = message[0] if isinstance(message, list) and message else "?"
    session.begin(str(command), terms.seconds)
    started = time.monotonic()
    try:
        _refuse_revoked(session)
        terms.check(session.node)
        said = answer(session, message)
    except BDError as error:
        said = ["ERROR", error.code, str(error)]
        level = logging.WARNING if isinstance(error, Forbidden | BadRequest) else logging.INFO
        log.log(level, "%s: %s: %s", session.caller, str(command)[:40], error)
    except OSError as error:  # a full disk, no more descriptors: the host's trouble, and the caller should know
        said = ["ERROR", NoSpace.code if error.errno in (errno.ENOSPC, errno.EDQUOT) else BDError.code, str(error)]
        log.error("%s: %s: %s", session.caller, str(command)[:40], error)
    except Exception:
        said = ["ERROR", BDError.code, f"{str(command)[:40]} met a bug of {session.node.name}: see its log"]
        log.exception("%s: %s", session.caller, str(command)[:40])
    deadline = max(session.deadline, time.monotonic() + 1.0)
    session.stream.send(encode(list(said)), deadline)
    if isinstance(said, Reply):
        with said.file:
            while chunk := said.file.read(CHUNK_BYTES):
                session.stream.send(chunk, deadline)
    log.debug("%s: %s -> %s in %.1f ms", session.caller, command, said[0], 1000 * (time.monotonic() - started))
    for owed in session.later:
        owed()
    session.later.clear()
    # After a refusal of a request that a stream of unknown length follows, nobody knows where the next one begins.
    return not (said[0] == "ERROR" and (command == "PUBLISH" or session.is_revoked))


def _refuse_revoked(session: Session) -> None:
    """Before each request: a certificate may have been revoked since the last one."""
    caller = session.caller
    refusal = session.node.revoked.refusal(caller.name, caller.serial) if caller.serial is not None else None
    if refusal:
        session.is_revoked = True
        raise Forbidden(refusal)


class Terms:
    """What the caller's openings said: its policy, and how many seconds it gives each request."""

    def __init__(self, node: Node):
        self.seconds = node.settings.request_timeout
        self._policy: policy.Policy | None = None
        self._error: BDError | None = None
        self._node = node

    def take(self, message: list) -> None:
        """["OPEN", {"version", "oldest", "deadline": seconds, "policy": digest | "policy_text": document}]: never answered."""
        said = message[1] if len(message) == 2 and isinstance(message[1], dict) else {}
        self._error = None
        seconds = said.get("deadline", self.seconds)
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds >= 0:
            self.seconds = float(seconds)
        ours, theirs = self._node.settings.protocol, said.get("version")
        oldest = said.get("oldest", theirs)
        if type(theirs) is not int or type(oldest) is not int or theirs < OLDEST or oldest > ours:
            self._error = BadRequest(f"INVALID REQUEST: this node speaks versions {OLDEST} to {ours} of the protocol")
        try:
            self._policy = self._read(said)
        except BDError as error:
            self._error = error

    def _read(self, said: dict):
        text, digest = said.get("policy_text"), said.get("policy")
        if isinstance(text, str):
            return policy.parse(text, "the caller's policy")
        if digest is None:
            return None
        known = self._node.cache.view().policies.get(str(digest))
        if known is None:
            raise PolicyUnknown("your policy is not known here by its digest: send policy_text")
        return policy.parse(known, "the caller's policy")

    def check(self, node: Node) -> None:
        """Before each request: nothing wrong with the opening, and the two policies meet."""
        if self._error is not None:
            raise self._error
        if not policy.can_talk(self._policy, node.policy, node.settings.policy_mode):
            raise PolicyMismatch(f"the caller's policy does not meet the policy of {node.name}")


def answer(session: Session, message: list) -> list:
    """The answer to one request, checked against the table first."""
    row, arguments = requests.check(message, session.caller.role, session.node.settings.protocol)
    if session.left() <= 0:
        raise Deadline(f"no time left for {row.name}")
    return ANSWERS[row.name](session, *arguments)


# --- looking ------------------------------------------------------------------------------------------------------


def answer_ping(session: Session) -> list:
    """PONG, and the digest of our view: whoever differs, and hears no news, comes and synchronises."""
    return ["PONG", session.node.cache.view().digest()]


def answer_probe(session: Session, address: str) -> list:
    """PING a node in place of a caller that could not reach it: PONG, or NOPONG and why."""
    try:
        with session.node.call(address, session.deadline - 0.05) as conversation:
            return conversation.ask(["PING"], session.deadline - 0.05)[:1]
    except PolicyMismatch:
        return ["PONG"]
    except BDError as error:
        return ["NOPONG", error.code, str(error)]


def answer_giveyourservices(session: Session) -> list:
    """The time, our services, our free dynamic slots."""
    node = session.node
    own = node.cache.view().own
    return [time.time(), sorted(own.services), own.free_dynamic]


def answer_status(session: Session, wish: dict | None = None) -> list:
    """["STATUS", status, nodes]: the shapes of `bdctl status --json` and `bdctl nodes --json`.

    With a wish, for a crawl of the mesh: {"of": NAME} is answered by that node, through this one; {"brief": true} tells
    of the others what differs between observers: [name, address, status, version, talkable, heard_at]."""
    wish = wish or {}
    if isinstance(wish.get("of"), str) and wish["of"] != session.node.name:
        try:
            return session.ask(wish["of"], ["STATUS", {"brief": wish.get("brief") is True}], session.left())
        except BadRequest:  # it speaks version 1, which knew no wishes
            return session.ask(wish["of"], ["STATUS"], session.left())
    node, now = session.node, time.time()
    view = node.cache.view()
    status = status_of(node, view, now)
    if wish.get("brief") is True:
        return ["STATUS", status, [_brief(node, view, record) for record in view.records.values()]]
    if "brief" in wish:
        status["policies"] = view.policies
    return ["STATUS", status, [_node_of(node, view, record) for record in view.records.values()]
            + [_unvisited(address) for address in sorted(view.hints)]]  # fmt: skip


def status_of(node: Node, view: View, now: float) -> dict:
    """How this node is."""
    own, weights, services = view.own, node.weights(now), node.services.all()
    unhealthy = own.extra.get("unhealthy", [])
    return {
        "address": own.address,
        "name": node.name,
        "mesh": node.mesh,
        "version": list(own.version),
        "software": __version__,
        "nodes": 1 + len(view.others_there()),
        "weight": round(sum(weights.values()), 3),
        "receiver_threshold": node.settings.receiver_threshold,
        "overloaded": weight.is_overloaded(sum(weights.values()), node.settings.receiver_threshold),
        "draining": own.draining,
        "free_dynamic": own.free_dynamic,
        "uptime": round(now - node.started_at, 1),
        "certificate_days_left": round(node.credentials.days_left(now), 1),
        "policy": node.policy_text,
        "rival": view.rival[0] if view.rival else None,
        "policy_mode": node.settings.policy_mode,
        "complaints": list(node.services.complaints),
        "warnings": node.warnings(view, now),
        "events": node.journal.recent(EVENTS_TOLD),
        "services": {
            name: {
                "type": service.type,
                "weight": round(weights.get(name, 0.0), 3),
                "cost": service.weight,
                "healthy": name not in unhealthy,
                "url": membership.service_url(own, name, service.url),
            }
            for name, service in sorted(services.items())
        },
    }


def _brief(node: Node, view: View, record: Record) -> list:
    talkable = record.name == node.name or node.talkable(view, record)
    heard_at = node.heard_at(view, record.name)
    return [record.name, record.address, record.status, list(record.version), talkable, heard_at]


def _node_of(node: Node, view: View, record: Record) -> dict:
    return {
        "address": record.address,
        "name": record.name,
        "status": record.status,
        "version": list(record.version),
        "services": sorted(record.services),
        "types": {name: service.type for name, service in record.services.items()},
        "urls": {n: membership.service_url(record, n, each.url) for n, each in record.services.items()},
        "free_dynamic": record.free_dynamic,
        "load": record.load,
        "receiver_threshold": record.receiver_threshold,
        "policy": record.policy,
        "talkable": record.name == node.name or node.talkable(view, record),
        "draining": record.draining,
        "heard_at": node.heard_at(view, record.name),
    }


def _unvisited(address: str) -> dict:
    blank = {"services": [], "types": {}, "urls": {}, "free_dynamic": 0, "draining": False, "heard_at": 0.0}
    return {"address": address, "name": None, "status": "unvisited", "version": [0, 0], "talkable": True, **blank}


# --- routing ------------------------------------------------------------------------------------------------------


def answer_whereis(session: Session, service: str, client_policy: str | None) -> list:
    """[host, axis_port, web_dir, details]; ["ME", …] is this node itself; CANTFIND; POLICYMISMATCH. Details: the shape
    of `bdwhereis --json`."""
    node = session.node
    parsed = None if client_policy is None else policy.parse(client_policy, "the client's policy")
    view = _with_own_services(session)
    search = routing.Search(
        routing.Question(
            view,
            service,
            suits=lambda record: node.suits(view, parsed, record),
            talkable=lambda record: node.talkable(view, record),
            can_talk=lambda a, b: node.can_talk(view, view.records[a], view.records[b]),
            ask=session.ask,
            left=session.left,
            clock=time.monotonic,
            rng=node.rng,
            order=routing.ORDERS[node.settings.routing],
        )
    )
    found = search.whereis()
    session.later.append(lambda: _correct(session, search))
    asked = [{"node": a.node, "answer": a.answer, "ms": round(1000 * a.seconds, 1)} for a in search.asked]
    details = {"url": found.url, "node": found.node, "service": service, "phase": found.phase, "asked": asked}
    if found.word != "YES":
        return [found.word, details]
    if found.phase == 2:
        node.nudge(f"visit {found.node}")
    return ["ME" if found.node == node.name else found.host, found.port, found.web_dir, details]


def _with_own_services(session: Session) -> View:
    """The view, with what lies in our services directory this very moment: dropped in is live at once."""
    node = session.node
    view = session.view()
    here, sick = session.services().keys(), view.own.extra.get("unhealthy")
    if (here - sick if sick else here) != view.own.services.keys():
        node.update_own()
        view = session._view = node.cache.view()
    return view


def _correct(session: Session, search: routing.Search) -> None:
    """After the answer: let the discoverer look at who was not there, and visit who had not what we thought."""
    for name in search.gone:
        session.node.nudge(f"probe {name}")
    for name in search.mistaken:
        session.node.nudge(f"visit {name}")


def _offer(node: Node, own: Record, mine: Service) -> list:
    """YES, and where: the answer comes from the named node itself."""
    url = membership.service_url(own, mine.name, mine.url)
    return ["YES", node.settings.axis_port, node.settings.axis_web_dir, url]


def answer_willyouexecute(session: Session, service: str) -> list:
    """YES and a hit logged; NO when overloaded or draining; DONTHAVE."""
    node, now, own = session.node, time.time(), session.view().own
    services = session.services()
    if service not in services or service in own.extra.get("unhealthy", []):
        return ["DONTHAVE"]
    if own.draining or node.is_overloaded(now, services):
        return ["NO"]
    node.hit(service, session.caller.host, now)
    return _offer(node, own, services[service])


def answer_youwillexecute(session: Session, service: str) -> list:
    """YES and a hit, overloaded or not; DONTHAVE."""
    node, own = session.node, session.view().own
    mine = session.services().get(service)
    if mine is None or service in own.extra.get("unhealthy", []):
        return ["DONTHAVE"]
    node.hit(service, session.caller.host, time.time())
    return _offer(node, own, mine)


# --- replicating --------------------------------------------------------------------------------------------------


def answer_willyoureplicate(session: Session, service: str) -> list:
    """YES when we have it (now); NO without room; CANTFIND when nobody gives it."""
    node = session.node
    if node.services.get(service) is None:
        with _one_at_a_time(session, service):
            if node.services.get(service) is None:
                refusal = _replicate(session, service)
                if refusal:
                    return refusal
    mine = node.services.get(service)
    if mine is None:  # withdrawn this very moment
        return ["NO"]
    node.hit(service, session.caller.host, time.time())
    node.update_own()
    return _offer(node, node.cache.view().own, mine)


@contextlib.contextmanager
def _one_at_a_time(session: Session, service: str):
    """Two callers who want the same replica at once get one copy: the second waits for the first."""
    folder = session.node.services.scratch_dir
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, f"{service}.lock"), "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if session.left() <= 0.2:
                    raise Deadline(f"another copy of {service} is still on its way") from None
                time.sleep(0.02)
        yield


def _replicate(session: Session, service: str) -> list | None:
    node, now = session.node, time.time()
    if node.settings.max_dynamic == 0 or node.cache.view().own.draining or node.is_overloaded(now):
        return ["NO"]
    to_retire = None
    if node.dynamic_count() >= node.settings.max_dynamic:
        weights = node.weights(now)
        replicas = [(s.name, weights[s.name], s.arrived_at) for s in node.services.all().values() if s.type == "dynamic"]
        to_retire = weight.to_retire(replicas, now)
        if to_retire is None:
            return ["NO"]
    fetched = _fetch(session, service)
    if fetched is None:
        return ["CANTFIND"]
    started = time.monotonic()
    said, giver = fetched
    why = _why_replicate(node, service)
    with said.file as file:
        described = said[-1]
        folder = package.unpack(
            file,
            described["sha256"],
            service,
            node.services.scratch_dir,
            node.settings.package_bytes_max,
            node.settings.package_files_max,
        )
    if to_retire is not None:
        node.services.retire(to_retire)
        node.journal.note("retired", to_retire, now, why=f"its slot is needed for {service}")
        log.info("%s retired to the graveyard: its slot is needed for %s", to_retire, service)
    node.services.install(folder, service, now)
    node.journal.note("replicated", service, now, giver=giver, asker=session.caller.name, why=why)
    log.info("%s replicated here for %s, installed in %.0f ms", service, session.caller, 1000 * (time.monotonic() - started))
    return None


def _why_replicate(node: Node, service: str) -> str:
    """A copy is asked for when a holder said NO; which holders there are, as far as this node knows."""
    holders = sorted(each.name for each in node.cache.view().others_there() if service in each.services)
    return "overloaded or draining: " + (", ".join(holders[:HOLDERS_TOLD]) or "holders that are not known here")


def _fetch(session: Session, service: str) -> tuple[Reply, str] | None:
    """The package and its giver: a holder that we may call, else one behind others, else whom a search finds."""
    node = session.node
    view = node.cache.view()
    holders = [r for r in view.others_there() if service in r.services and r.services[service].replicable]
    near = [record for record in holders if node.talkable(view, record)]
    for record in routing.ORDERS[node.settings.routing](near, node.rng):
        with contextlib.suppress(BDError):
            said = session.ask(record.name, ["GIVESERVICE", service], session.left() * routing.SHARE)
            if isinstance(said, Reply):
                return said, record.name
    far = [record.name for record in holders]
    if far:
        tree = plan.tree(
            node.name,
            [record.name for record in view.others_there()],
            far,
            lambda a, b: node.can_talk(view, view.records[a], view.records[b]),
            node.rng,
        )
        for relay in tree[plan.SELF]:
            request = ["MASSMESSAGE", plan.branch(tree, relay), far, ["GIVESERVICE", service]]
            with contextlib.suppress(BDError):
                said = session.ask(relay, request, session.left() * routing.SHARE)
                if isinstance(said, Reply):
                    return said, str(said[1])
    with contextlib.suppress(BDError):
        said = find(session, service, [], FIND_STEPS)
        if isinstance(said, Reply):
            return said, str(said[1])
    return None


def answer_giveservice(session: Session, service: str) -> list:
    """YES and the package, or NO. The REPLICATE line makes our older hits count a tenth less: one burst does not flood
    the mesh with replicas."""
    node = session.node
    mine = node.services.get(service)
    if mine is None or mine.path is None:
        return ["NO"]
    reply = _packed(session, mine)
    node.hit(service, session.caller.host, time.time(), "REPLICATE")
    node.journal.note("gave", service, time.time(), taker=session.caller.name)
    return reply


def _packed(session: Session, service) -> Reply:
    file = session.spool()
    try:
        length, sha256 = package.pack(service, file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return Reply(["YES", {"bytes": length, "sha256": sha256}], file)


def answer_find(session: Session, service: str, visited: list, steps: int) -> list:
    """["YES", giver, package] or ["NO", names of all who were asked]."""
    return find(session, service, visited, steps)


def find(session: Session, service: str, visited: list[str], steps: int) -> list:
    """Depth first through the nodes we may call; `visited` grows by all who were asked: nobody is asked twice."""
    node = session.node
    mine = node.services.get(service)
    if mine is not None:
        if mine.path is None:
            return ["YES", node.name, {"url": membership.service_url(node.cache.view().own, service, mine.url)}]
        reply = _packed(session, mine)
        reply.insert(1, node.name)
        return reply
    visited = list(dict.fromkeys([*visited, node.name]))
    view = node.cache.view()
    next_ones = [r.name for r in view.others_there() if r.name not in visited and node.talkable(view, r)]
    if steps == 0 or not next_ones:
        return ["NO", visited]
    visited += next_ones
    for name in next_ones:
        try:
            said = session.ask(name, ["FIND", service, visited, steps - 1], min(FIND_SECONDS, session.left() * 0.5))
        except BDError:
            continue
        if said[:1] == ["YES"]:
            return said
        if len(said) == 2 and isinstance(said[1], list):
            visited = list(dict.fromkeys([*visited, *(each for each in said[1] if isinstance(each, str))]))
    return ["NO", visited[: requests.LIST_MAX]]


def answer_massmessage(session: Session, tree: dict, recipients: list, message: list) -> list:
    """Ask the recipients among our children, then forward the rest of the plan down each branch.

    YES, host, …, name; NO; DONTHAVE; NETFAULT, the names of those who are not there, and what the others said."""
    requests.check(message, requests.NODE)
    children = list(dict.fromkeys(tree.get(plan.SELF, [])))
    session.node.rng.shuffle(children)
    has_no, faults = False, []
    view = session.node.cache.view()
    steps = [(child, message) for child in children if child in recipients]
    steps += [(c, ["MASSMESSAGE", plan.branch(tree, c), recipients, message]) for c in children if tree.get(c)]
    for child, request in steps:
        if child in faults:
            continue
        try:
            said = session.ask(child, request, session.left() * routing.SHARE)
        except (NobodyThere, Deadline):
            faults.append(child)
            session.node.nudge(f"probe {child}")
            continue
        except BDError as error:
            log.info("%s for %s: %s", request[0], session.caller, error)
            continue
        if said[:1] == ["YES"]:
            return said if request is not message else _with_host(said, view, child)
        has_no = has_no or "NO" in (said[:1] + said[2:3])
        if said[:1] == ["NETFAULT"] and isinstance(said[1], list):
            faults += [name for name in said[1] if isinstance(name, str)]
    others = "NO" if has_no else "DONTHAVE"
    return ["NETFAULT", faults, others] if faults else [others]


def _with_host(said: list, view: View, name: str) -> list:
    """A recipient's YES as it goes back up the tree: whose it is must be in it."""
    if isinstance(said, Reply):
        return Reply(["YES", name, said[-1]], said.file)
    return ["YES", view.records[name].address.rpartition(":")[0], *said[1:4], name]


# --- gossip -------------------------------------------------------------------------------------------------------


def answer_synchronize(session: Session, said: dict) -> list:
    """["SYNCHRONIZE", exchange], or NO when the cache's lock can't be had in time."""
    node = session.node
    theirs = exchange.checked(said)
    added, view = {}, node.cache.view()
    if exchange.has_news(theirs):
        try:
            with node.cache.locked(min(LOCK_SECONDS, max(session.left() / 2, 0.0))) as view:
                added = exchange.absorb(view, theirs, time.time(), session.caller.name)
                changed = view.changes > 0
        except TooBusy:
            return ["NO"]
        if changed:
            names, until = exchange.to_pass_on(view, theirs, session.caller.name)
            node.nudge(f"tell {until} {' '.join(names)}" if names else "look")
    return ["SYNCHRONIZE", exchange.respond(view, theirs) | added]


# --- an administrator's -------------------------------------------------------------------------------------------


def answer_hint(session: Session, address: str) -> list:
    """Add an address that the discoverer will visit: how a mesh is joined."""
    host, port = split_address(address)
    with session.node.cache.locked() as view:
        view.hint(join_address(host, port))
    session.node.nudge("look")
    return ["OK"]


def answer_forget(session: Session, who: str) -> list:
    """Drop a node by name or address."""
    with session.node.cache.locked() as view:
        record = view.records.get(who) or view.at_address(who)
        if not (view.unhint(who) or (record is not None and view.forget(record.name))):
            raise CantFind(f"{who}: no such node is known here, or it is this one")
    session.node.nudge("look")
    return ["OK"]


def answer_publish(session: Session, service: str, described: dict) -> list:
    """Offer a service from now on: its package follows the request, or it has just a url."""
    node = session.node
    length = session.checked_length(described)
    cost, url, health = described.get("weight", 1.0), described.get("url", ""), described.get("health", "none")
    if type(cost) not in (int, float) or not isinstance(url, str) or not isinstance(health, str):
        raise BadRequest("INVALID REQUEST: PUBLISH takes weight (a number), url and health (texts)")
    source = None
    if length:
        with session.spool() as file:
            receive(session.stream, session.decoder, length, file, session.deadline)
            file.seek(0)
            folder = package.unpack(
                file,
                described["sha256"],
                service,
                node.services.scratch_dir,
                node.settings.package_bytes_max,
                node.settings.package_files_max,
            )
        source = os.path.join(folder, service)
        if not os.path.exists(source):
            raise BadPackage(f"the package holds no {service}")
    elif not url:
        raise BadRequest("INVALID REQUEST: PUBLISH needs a file or a url")
    node.services.publish(source, service, float(cost), url, health)
    node.update_own()
    node.journal.note("published", service, time.time(), asker=session.caller.name)
    log.info("%s published by %s", service, session.caller)
    return ["OK", membership.service_url(node.cache.view().own, service, url)]


def answer_withdraw(session: Session, service: str) -> list:
    """Offer it no longer; its files go to the graveyard."""
    if session.node.services.get(service) is None:
        raise CantFind(f"{service}: not offered here")
    session.node.services.withdraw(service)
    session.node.hitlog.forget(service)
    session.node.update_own()
    session.node.journal.note("withdrawn", service, time.time(), asker=session.caller.name)
    log.info("%s withdrawn by %s", service, session.caller)
    return ["OK"]


def answer_graveyard(session: Session) -> list:
    """["GRAVEYARD", names]"""
    return ["GRAVEYARD", sorted(session.node.services.buried())]


def answer_restore(session: Session, service: str) -> list:
    """Back from the graveyard."""
    session.node.services.restore(service)
    session.node.update_own()
    session.node.journal.note("restored", service, time.time(), asker=session.caller.name)
    log.info("%s restored by %s", service, session.caller)
    return ["OK"]


def answer_drain(session: Session, on: bool) -> list:
    """Take no new calls from now on, or do so again; the mesh hears of it at once."""
    session.node.update_own(draining=on)
    log.info("draining %s by %s", "begun" if on else "ended", session.caller)
    return ["OK"]


def answer_leave(session: Session) -> list:
    """Tell the mesh, and end, as after SIGTERM."""
    log.info("leaving at the wish of %s", session.caller)
    session.later.append(lambda: os.kill(session.node.listener_pid, signal.SIGTERM))
    return ["OK"]


def answer_kill(session: Session, password: str | None = None) -> list:
    """The node's processes end at once. For an admin, or for whoever knows the admin_password."""
    stored = session.node.settings.admin_password
    if session.caller.role != requests.ADMIN and not (password and stored and password_matches(password, stored)):
        raise Forbidden("KILL needs the role admin or the admin_password, and the caller's role is " + session.caller.role)
    log.warning("killed by %s", session.caller)
    session.later.append(lambda: os.kill(session.node.listener_pid, signal.SIGQUIT))
    return ["PEACE OUT"]


def mark_left(node: Node) -> Record:
    """Our last word to the mesh."""
    with node.cache.locked() as view:
        view.describe(view.own._replace(status=LEFT), time.time())
        return view.own


ANSWERS: dict[str, Callable[..., list]] = {
    "PING": answer_ping,
    "PROBE": answer_probe,
    "STATUS": answer_status,
    "WHEREIS": answer_whereis,
    "GIVEYOURSERVICES": answer_giveyourservices,
    "SYNCHRONIZE": answer_synchronize,
    "WILLYOUEXECUTE": answer_willyouexecute,
    "YOUWILLEXECUTE": answer_youwillexecute,
    "WILLYOUREPLICATE": answer_willyoureplicate,
    "GIVESERVICE": answer_giveservice,
    "FIND": answer_find,
    "MASSMESSAGE": answer_massmessage,
    "HINT": answer_hint,
    "FORGET": answer_forget,
    "PUBLISH": answer_publish,
    "WITHDRAW": answer_withdraw,
    "GRAVEYARD": answer_graveyard,
    "RESTORE": answer_restore,
    "DRAIN": answer_drain,
    "LEAVE": answer_leave,
    "KILL": answer_kill,
}
