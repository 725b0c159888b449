"""The crawl: from one node outward, everybody is asked for STATUS, side by side, until the deadline for all.

With a client's certificate the nodes are called directly; without one the entry node asks them for us, over its local
socket. Answers are cut to a readable size here: behind this module there are only clean texts and numbers.
The meaning for the mesh as a whole is snapshot's business.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from bdserver.audit.config import AuditConfig, entrances_of
from bdserver.core import attention, holding, messages, pages, timeline
from bdserver.core.attention import Finding
from bdserver.core.holding import Holder
from bdserver.core.membership import ALIVE, RANK, RECORDS_MAX, SUSPECT, ServiceType
from bdserver.core.timeline import Line
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadFrame, BDError
from bdserver.net import dialling
from bdserver.net.conversation import Conversation
from bdserver.net.entrances import SHARE, enter

if TYPE_CHECKING:
    from bdserver.net.entrances import Entrance
    from bdserver.net.keys import Credentials

# So many nodes are asked at once. More would be forked for, and wait for each other (16 took 1.7 times as long on two cores);
# but whenever none of them answers for a while, twice as many are, so that silent ones keep nobody waiting.
AT_ONCE, WORKERS = 3, 16
STUCK_SECONDS = 0.1
# Longer texts from the mesh are cut: a page is for reading. (Policies are parsed, and have a limit of their own.)
TEXT_CHARACTERS_MAX = 300
LIST_MAX = 1000
ASKERS_SHOWN_MAX = 20
UNVISITED = "unvisited"
EVENT_TEXTS = ("what", "service", "giver", "taker", "asker", "why", "edition", "original")


class Sight(NamedTuple):
    """One node's word on another."""

    name: str
    address: str
    status: str
    version: tuple[int, int]
    talkable: bool
    heard_at: float


class Offer(NamedTuple):
    """A service on a node. `weight` is None when the node itself was not asked; `is_checked`: somebody looks if it is well, and
    else it is taken for well. `held`: whose it is and which edition, and how it stands: a node's own word where it answered."""

    type: ServiceType
    weight: float | None
    cost: float | None
    is_healthy: bool
    url: str
    is_checked: bool = True
    held: Holder = Holder()
    calls: int | None = None  # within the last minute


class LookUp(NamedTuple):
    """A look-up that a node has answered: for whom ("" when that is not told), and where it went (`phase` 0: nowhere). `asked`:
    (node, answer, ms)."""

    at: float
    service: str
    client: str
    node: str
    phase: int
    why: str
    asked: list[tuple[str, str, float]]


class About(NamedTuple):
    """What a page is about, which nodes are asked for more than others: one service, or one node, or "" for both. `hours` of
    the entry's time line, or of that node's; 0: none."""

    service: str = ""
    node: str = ""
    hours: int = 0


class Status(NamedTuple):
    """A node's word on itself."""

    name: str
    address: str
    mesh: str
    software: str
    weight: float
    receiver_threshold: float
    is_overloaded: bool
    is_draining: bool
    free_dynamic: int
    uptime: float
    days_left: float
    policy: str | None
    policy_mode: str
    rival: str | None
    complaints: list[str]
    findings: list[Finding]
    events: list[dict[str, Any]]
    services: dict[str, Offer]
    signer: str = ""
    counters: object = None  # as it tells them: core.counting reads what it knows of
    askers: dict[str, list[tuple[str, int]]] = {}
    lookups: list[LookUp] = []
    line: Line | None = None


class Hearsay(NamedTuple):
    """The services and the load of another node, as the entry node knows them: shown where that node does not answer."""

    services: dict[str, Offer]
    load: int
    receiver_threshold: float
    policy: str | None
    is_draining: bool


class Crawl(NamedTuple):
    """All that was heard. `failures`: name -> (code, text) of each node that was asked in vain."""

    taken_at: float
    seconds: float
    entry: str
    statuses: dict[str, Status]
    sights: dict[str, dict[str, Sight]]
    hearsay: dict[str, Hearsay]
    failures: dict[str, tuple[str, str]]
    hints: list[str]
    policies: dict[str, str]


WHOLE = About()


def crawl(config: AuditConfig, about: About = WHOLE) -> Crawl:
    """Crawl as audit.conf says. Raises the error of the last entrance when none lets us in."""
    entrances, credentials = entrances_of(config)
    return crawl_from(entrances, config.crawl_seconds, credentials, about)


def crawl_from(
    entrances: Sequence[Entrance], seconds: float, credentials: Credentials | None = None, about: About = WHOLE
) -> Crawl:
    """Crawl through the first of `entrances` that answers: each dials a node within a deadline."""
    started, taken_at = time.monotonic(), time.time()
    entered = enter(entrances, started + seconds, lambda talk, until: _asked(talk, _first_wish(about), until))
    entered.conversation.close()
    said = entered.result
    first = _status(said.own)
    answers = _Answers(first, said)
    _spread(answers, _Askers(entered.entrance, credentials, started, seconds, about))
    return Crawl(
        taken_at,
        time.monotonic() - started,
        first.name,
        answers.statuses,
        answers.sights,
        answers.hearsay,
        answers.failures,
        answers.hints,
        _policies(said.own),
    )


def _asked(talk: Conversation, wish: dict[str, Any], deadline: float) -> messages.Status:
    return pages.status(lambda request: talk.ask(request, deadline), wish)


def _first_wish(about: About) -> dict[str, Any]:
    """Of the entry, whose name nobody knows yet: it may be the node that the page is about."""
    detail: str | bool = about.service or bool(about.node)
    return {"brief": False, **({"detail": detail} if detail else {}), **({"timeline": about.hours} if about.hours else {})}


def _wish(about: About, name: str) -> dict[str, Any]:
    """What another node is to tell beside its STATUS."""
    if about.service:
        return {"detail": about.service}
    return {"detail": True, **({"timeline": about.hours} if about.hours else {})} if about.node == name else {}


class _Askers:
    """A connection to the entry a thread, or a call to each node; all with the same deadline."""

    def __init__(self, dial: Entrance, credentials: Credentials | None, started: float, seconds: float, about: About):
        self._dial, self._credentials, self._about = dial, credentials, about
        self._deadline, self._each = started + seconds, seconds * SHARE
        self._own = threading.local()
        self._open: list[Conversation] = []

    def ask(self, name: str, address: str) -> messages.Status:
        """The node's own STATUS."""
        deadline = min(self._deadline, time.monotonic() + self._each)
        if self._credentials is not None:
            with dialling.dial(address, self._credentials, deadline, name) as talk:
                return _asked(talk, {"brief": True, **_wish(self._about, name)}, deadline)
        kept: Conversation | None = getattr(self._own, "talk", None)
        talk = kept or self._dial(deadline)
        if kept is None:
            self._open.append(talk)
        self._own.talk = None  # after an error nobody knows what comes next on this connection
        said = _asked(talk, {"of": name, "brief": True, **_wish(self._about, name)}, deadline)
        self._own.talk = talk
        return said

    def close(self) -> None:
        """Hang up."""
        for talk in self._open:
            talk.close()


class _Answers:
    """All answers so far, and the nodes to ask next."""

    def __init__(self, first: Status, said: messages.Status):
        self.statuses = {first.name: first}
        self.sights: dict[str, dict[str, Sight]] = {}
        self.hearsay: dict[str, Hearsay] = {}
        self.failures: dict[str, tuple[str, str]] = {}
        self.hints: list[str] = []
        self._asked = {first.name}
        known = {}
        for value in said.nodes[:RECORDS_MAX]:
            if value["name"] is None:
                self.hints.append(_text(value["address"]))
                continue
            sight = _sight(value)
            known[sight.name] = sight
            self.hearsay[sight.name] = _hearsay(value)
        if first.name not in known:
            raise BadFrame(f"{first.name} does not tell of itself among the nodes")
        self.sights[first.name] = known

    def take(self, name: str, said: messages.Status) -> None:
        """A node's answer; BadFrame when it is somebody else's, or makes no sense."""
        status = _status(said.own)
        if status.name != name:
            raise BadFrame(f"{name} says that it is {status.name}")
        rows = [row for row in said.nodes[:RECORDS_MAX] if not isinstance(row, dict) or row["name"] is not None]
        self.sights[name] = {sight.name: sight for sight in map(_sight, rows)}
        self.statuses[name] = status

    def next_ones(self) -> list[tuple[str, str]]:
        """(name, address) of the nodes that are said to be there and were not asked yet."""
        found = {
            sight.name: sight.address
            for sights in self.sights.values()
            for sight in sights.values()
            if sight.name not in self._asked and sight.status in (ALIVE, SUSPECT)
        }
        self._asked |= found.keys()
        return list(found.items())


def _spread(answers: _Answers, askers: _Askers) -> None:
    finished: queue.SimpleQueue[concurrent.futures.Future[messages.Status]] = queue.SimpleQueue()
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        running: dict[concurrent.futures.Future[messages.Status], str] = {}
        waiting: list[tuple[str, str]] = []
        at_once = AT_ONCE
        while True:
            waiting += answers.next_ones()
            while waiting and len(running) < at_once:
                name, address = waiting.pop()
                asked = pool.submit(askers.ask, name, address)
                running[asked] = name
                asked.add_done_callback(finished.put)
            if not running:
                break
            try:
                future = finished.get(timeout=STUCK_SECONDS)
            except queue.Empty:
                at_once = min(2 * at_once, WORKERS)
                continue
            name = running.pop(future)
            try:
                answers.take(name, future.result())
            except BDError as error:
                answers.failures[name] = (error.code, _text(str(error)))
    askers.close()


# --- clean texts and numbers --------------------------------------------------------------------------------------
# The fields are there, and of their types: core.messages has checked that.


def _text(value: object) -> str:
    """Printable and of bounded length, whatever came."""
    text = value[:TEXT_CHARACTERS_MAX] if isinstance(value, str) else ""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _texts(values: list[str]) -> list[str]:
    return [_text(each) for each in values[:LIST_MAX]]


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items())[:LIST_MAX] if isinstance(value, dict) else []


def _status(said: dict[str, Any]) -> Status:
    return Status(
        said["name"],
        _text(said["address"]),
        _text(said["mesh"]),
        _text(said["software"]),
        said["weight"],
        said["receiver_threshold"],
        said["overloaded"],
        said["draining"],
        said["free_dynamic"],
        said["uptime"],
        said["certificate_days_left"],
        said["policy"],
        "strict" if said.get("policy_mode") == "strict" else "lax",
        _text(said.get("rival")) or None,
        _texts(said["complaints"]),
        _findings(said),
        [_event(each) for each in said.get("events", [])[:LIST_MAX]],
        {name: _offer(each) for name, each in _items(said["services"])},
        _text(said.get("certificate", {}).get("signer")),
        said.get("counters"),
        {name: _askers(each) for name, each in _items(said.get("askers"))},
        [each for each in map(_lookup, _list(said.get("lookups"))) if each is not None],
        timeline.from_json(said.get("timeline")),
    )


def _list(said: object) -> list[Any]:
    return said[:LIST_MAX] if isinstance(said, list) else []


def _is_number(said: object) -> TypeGuard[float]:
    return isinstance(said, int | float) and not isinstance(said, bool) and abs(said) < 1 << 53


def _askers(said: object) -> list[tuple[str, int]]:
    return [(_text(client), calls) for client, calls in holding.callers(said)[:ASKERS_SHOWN_MAX]]


def _lookup(said: object) -> LookUp | None:
    if not isinstance(said, dict) or not (_is_number(said.get("at")) and _is_number(said.get("phase"))):
        return None
    service, client, node, why = (_text(said.get(key)) for key in ("service", "client", "node", "why"))
    asked = [row for row in _list(said.get("asked"))[:ASKERS_SHOWN_MAX] if isinstance(row, list) and len(row) == 3]
    told = [(_text(name), _text(answer), float(ms)) for name, answer, ms in asked if _is_number(ms)]
    return LookUp(said["at"], service, client, node, int(said["phase"]), why, told)


def _findings(said: dict[str, Any]) -> list[Finding]:
    """Of an older node, its lines."""
    told = said.get("findings", [{"text": line} for line in said["warnings"]])
    return [attention.from_json({key: _text(text) for key, text in each.items()}) for each in told[:LIST_MAX]]


def _event(said: dict[str, Any]) -> dict[str, Any]:
    texts = {key: _text(said.get(key)) for key in EVENT_TEXTS}
    at = said.get("at")
    return {"at": at if isinstance(at, int | float) else 0.0, **texts}


def _offer(said: dict[str, Any]) -> Offer:
    kind, calls = holding.kind_of(said["type"]), said.get("calls")
    held = _held(kind, said)
    known = int(calls) if _is_number(calls) else None
    return Offer(kind, said["weight"], said["cost"], said["healthy"], _text(said["url"]), held.checked, held, known)


def _held(kind: ServiceType, said: dict[str, Any]) -> Holder:
    held = holding.from_json(kind, {key: _text(each) if isinstance(each, str) else each for key, each in said.items()})
    return held._replace(edition=held.edition._replace(digest=_text(held.edition.digest)))


def _sight(row: dict[str, Any] | list[Any]) -> Sight:
    if isinstance(row, dict):  # told in full
        row = [row[key] for key in Sight._fields]
    name, address, status, version, talkable, heard_at = row[:6]
    if status not in RANK and status != UNVISITED:
        raise BadFrame(f"{str(status)[:40]!r} is no state of a node")
    return Sight(name, _text(address), status, (version[0], version[1]), talkable, heard_at)


def _hearsay(said: dict[str, Any]) -> Hearsay:
    urls, told = said["urls"], said.get("offers", {})  # an older node does not tell how they stand
    kinds = {name: holding.kind_of(kind) for name, kind in _items(said["types"])}
    stands = {name: _held(kind, told.get(name, {})) for name, kind in kinds.items()}
    offers = {
        name: Offer(kind, None, None, True, _text(urls.get(name)), stands[name].checked, stands[name])
        for name, kind in kinds.items()
    }
    load, threshold = said.get("load", 0), said.get("receiver_threshold", 0.0)
    return Hearsay(offers, load, threshold, _text(said.get("policy")) or None, said["draining"])


def _policies(said: dict[str, Any]) -> dict[str, str]:
    return {_text(digest): text for digest, text in _items(said.get("policies", {})) if isinstance(text, str)}
