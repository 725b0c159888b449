"""The crawl: from one node outward, everybody is asked for STATUS, side by side, until the deadline for all.

With a client's certificate the nodes are called directly; without one the entry node asks them for us, over its local
socket. What comes back is checked here, field by field: behind this module there are only clean texts and numbers.
What it means for the mesh as a whole is snapshot's business.
"""

from __future__ import annotations

import concurrent.futures
import math
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from bdserver.audit.config import AuditConfig, Dial, entrances_of
from bdserver.core.membership import ALIVE, RANK, RECORDS_MAX, SUSPECT
from bdserver.core.names import valid_name
from bdserver.errors import BadFrame, BadRequest, BDError, NobodyThere
from bdserver.net import client

WORKERS = 16
# Nobody may use up the whole time: a hung node would make each page as slow as the deadline.
SHARE = 0.5
# Longer texts from the mesh are cut: a page is for reading. (Policies are parsed, and have a limit of their own.)
TEXT_CHARACTERS_MAX = 300
LIST_MAX = 1000
UNVISITED = "unvisited"


class Sight(NamedTuple):
    """What one node says of another."""

    name: str
    address: str
    status: str
    version: tuple[int, int]
    talkable: bool
    heard_at: float


class Offer(NamedTuple):
    """A service on a node. `weight` is None when the node itself was not asked."""

    type: str
    weight: float | None
    cost: float | None
    is_healthy: bool
    url: str


class Status(NamedTuple):
    """What a node says of itself."""

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
    events: list[dict[str, Any]]
    services: dict[str, Offer]


class Hearsay(NamedTuple):
    """What the entry node knows of another's services and load: shown for those who do not answer."""

    services: dict[str, Offer]
    load: int
    receiver_threshold: float
    policy: str | None
    is_draining: bool


class Crawl(NamedTuple):
    """All that was heard. `failures`: name -> (code, text) of whoever was asked in vain."""

    taken_at: float
    seconds: float
    entry: str
    statuses: dict[str, Status]
    sights: dict[str, dict[str, Sight]]
    hearsay: dict[str, Hearsay]
    failures: dict[str, tuple[str, str]]
    hints: list[str]
    policies: dict[str, str]


def crawl(config: AuditConfig) -> Crawl:
    """Crawl as audit.conf says. Raises the error of the last entrance when none lets us in."""
    dials, credentials = entrances_of(config)
    return crawl_from(dials, config.crawl_seconds, credentials)


def crawl_from(entrances: Sequence[Dial], seconds: float, credentials=None) -> Crawl:
    """Crawl through the first of `entrances` that answers: each dials a node within a deadline."""
    started, taken_at = time.monotonic(), time.time()
    deadline = started + seconds
    dial, said = _enter(entrances, deadline)
    first = _status(said[1])
    answers = _Answers(first, said)
    askers = _Askers(dial, credentials, started, seconds)
    _spread(answers, askers)
    return Crawl(
        taken_at,
        time.monotonic() - started,
        first.name,
        answers.statuses,
        answers.sights,
        answers.hearsay,
        answers.failures,
        answers.hints,
        _policies(said[1]),
    )


def _enter(entrances: Sequence[Dial], deadline: float) -> tuple[Dial, list]:
    error: BDError = NobodyThere("no entrance to the mesh is configured")
    for left, dial in zip(range(len(entrances), 0, -1), entrances, strict=True):
        now = time.monotonic()
        until = deadline if left == 1 else now + (deadline - now) * SHARE
        try:
            with dial(until) as talk:
                try:
                    return dial, _whole(talk.ask(["STATUS", {"brief": False}], until))
                except BadRequest:
                    return dial, _whole(talk.ask(["STATUS"], until))
        except BDError as this:
            error = this
    raise error


class _Askers:
    """A connection to the entry a thread, or a call to each node; all with the same deadline."""

    def __init__(self, dial: Dial, credentials, started: float, seconds: float):
        self._dial, self._credentials = dial, credentials
        self._deadline, self._each = started + seconds, seconds * SHARE
        self._own = threading.local()
        self._open: list[client.Conversation] = []

    def ask(self, name: str, address: str) -> list:
        """The node's own STATUS."""
        deadline = min(self._deadline, time.monotonic() + self._each)
        if self._credentials is not None:
            with client.dial(address, self._credentials, deadline, name) as talk:
                try:
                    return _whole(talk.ask(["STATUS", {"brief": True}], deadline))
                except BadRequest:  # it speaks version 1 of the protocol, which knew no wishes
                    return _whole(talk.ask(["STATUS"], deadline))
        talk = getattr(self._own, "talk", None)
        if talk is None:
            talk = self._dial(deadline)
            self._open.append(talk)
        self._own.talk = None  # after an error nobody knows what comes next on this connection
        said = _whole(talk.ask(["STATUS", {"of": name, "brief": True}], deadline))
        self._own.talk = talk
        return said

    def close(self) -> None:
        """Hang up."""
        for talk in self._open:
            talk.close()


class _Answers:
    """What has been heard so far, and whom to ask next."""

    def __init__(self, first: Status, said: list):
        self.statuses = {first.name: first}
        self.sights: dict[str, dict[str, Sight]] = {}
        self.hearsay: dict[str, Hearsay] = {}
        self.failures: dict[str, tuple[str, str]] = {}
        self.hints: list[str] = []
        self._asked = {first.name}
        known = {}
        for value in said[2][:RECORDS_MAX]:
            if not isinstance(value, dict):
                raise BadFrame("the answer to STATUS lists no nodes")
            if value.get("name") is None:
                self.hints.append(_text(value.get("address")))
                continue
            sight = _sight(value)
            known[sight.name] = sight
            self.hearsay[sight.name] = _hearsay(value)
        self.sights[first.name] = known

    def take(self, name: str, said: list) -> None:
        """A node's answer; BadFrame when it is somebody else's, or makes no sense."""
        status = _status(said[1])
        if status.name != name:
            raise BadFrame(f"{name} says that it is {status.name}")
        rows = [row for row in said[2][:RECORDS_MAX] if not isinstance(row, dict) or row.get("name") is not None]
        self.sights[name] = {sight.name: sight for sight in map(_sight, rows)}
        self.statuses[name] = status

    def next_ones(self) -> list[tuple[str, str]]:
        """(name, address) of those who are said to be there and were not asked yet."""
        found = {
            sight.name: sight.address
            for sights in self.sights.values()
            for sight in sights.values()
            if sight.name not in self._asked and sight.status in (ALIVE, SUSPECT)
        }
        self._asked |= found.keys()
        return list(found.items())


def _spread(answers: _Answers, askers: _Askers) -> None:
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        running: dict = {}
        while True:
            for name, address in answers.next_ones():
                running[pool.submit(askers.ask, name, address)] = name
            if not running:
                break
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                try:
                    answers.take(name, future.result())
                except BDError as error:
                    answers.failures[name] = (error.code, _text(str(error)))
    askers.close()


# --- checking what came over the network --------------------------------------------------------------------------


def _whole(said: list) -> list:
    if len(said) < 3 or said[0] != "STATUS" or not isinstance(said[1], dict) or not isinstance(said[2], list):
        raise BadFrame("the answer to STATUS makes no sense")
    return said


def _text(value: object) -> str:
    """Printable and of bounded length, whatever came."""
    text = value if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:TEXT_CHARACTERS_MAX])


def _number(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise BadFrame(f"{str(value)[:40]!r} is no number")
    return value  # type: ignore[return-value]


def _name(value: object) -> str:
    if not isinstance(value, str) or not valid_name(value):
        raise BadFrame(f"{str(value)[:40]!r} is no name")
    return value


def _texts(value: object) -> list[str]:
    return [_text(each) for each in value[:LIST_MAX]] if isinstance(value, list) else []


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items())[:LIST_MAX] if isinstance(value, dict) else []


def _status(said: dict) -> Status:
    services, policy, events = said.get("services"), said.get("policy"), said.get("events")
    return Status(
        _name(said.get("name")),
        _text(said.get("address")),
        _text(said.get("mesh")),
        _text(said.get("software")),
        _number(said.get("weight")),
        _number(said.get("receiver_threshold")),
        said.get("overloaded") is True,
        said.get("draining") is True,
        int(_number(said.get("free_dynamic"))),
        _number(said.get("uptime")),
        _number(said.get("certificate_days_left")),
        policy if isinstance(policy, str) else None,
        "strict" if said.get("policy_mode") == "strict" else "lax",
        _text(said.get("rival")) or None,
        _texts(said.get("complaints")),
        [_event(each) for each in events[:LIST_MAX] if isinstance(each, dict)] if isinstance(events, list) else [],
        {_name(name): _offer(each) for name, each in _items(services)},
    )


def _event(said: dict) -> dict[str, Any]:
    texts = {key: _text(said.get(key)) for key in ("what", "service", "giver", "taker", "asker", "why")}
    return {"at": _number(said.get("at")), **texts}


def _offer(said: object) -> Offer:
    if not isinstance(said, dict):
        raise BadFrame("a service must be an object")
    kind = "dynamic" if said.get("type") == "dynamic" else "static"
    healthy = said.get("healthy") is not False
    return Offer(kind, _number(said.get("weight")), _number(said.get("cost")), healthy, _text(said.get("url")))


def _sight(row: object) -> Sight:
    if isinstance(row, dict):  # told in full
        row = [row.get(key) for key in Sight._fields]
    if not isinstance(row, list) or len(row) < 6:
        raise BadFrame("a node is told of in six fields")
    name, address, status, version, talkable, heard_at = row[:6]
    if status not in RANK and status != UNVISITED:
        raise BadFrame(f"{str(status)[:40]!r} is no state of a node")
    if not isinstance(version, list) or len(version) != 2:
        raise BadFrame("a version is two numbers")
    generation, counter = (int(_number(each)) for each in version)
    return Sight(_name(name), _text(address), status, (generation, counter), talkable is True, _number(heard_at))


def _hearsay(said: dict) -> Hearsay:
    urls = dict(_items(said.get("urls")))
    offers = {
        _name(name): Offer("dynamic" if kind == "dynamic" else "static", None, None, True, _text(urls.get(name)))
        for name, kind in _items(said.get("types"))
    }
    load, threshold = int(_number(said.get("load", 0))), _number(said.get("receiver_threshold", 0.0))
    return Hearsay(offers, load, threshold, _text(said.get("policy")) or None, said.get("draining") is True)


def _policies(said: dict) -> dict[str, str]:
    return {_text(digest): text for digest, text in _items(said.get("policies")) if isinstance(text, str)}
