"""WHEREIS, WILLYOUEXECUTE, YOUWILLEXECUTE: who serves a client's next call. In which order whom to ask is core.routing's."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from bdserver.core import routing
from bdserver.core.messages import DontHave, Mismatch, No, Nobody, Ok, Place, Yes, word_of
from bdserver.core.nudges import Hurry, Visit
from bdserver.core.policy import Policy
from bdserver.processes.describing import update_own
from bdserver.processes.node import Node
from bdserver.processes.repeating import BY_TICKET, Repeat
from bdserver.processes.session import Session
from bdserver.processes.world import World

log = logging.getLogger("bdserver.answers")

# Of the nodes that were asked, the last ones: whoever asked more had hundreds of silent holders.
ASKED_TOLD_MAX = 1000
# Answers that are kept for the next look-up of the same service: they differ by how long it took, in tenths of a millisecond.
PLACES_MAX = 1000


def answer_whereis(session: Session, service: str, client_policy: str | None) -> Place | Nobody | Mismatch:
    """A host that has just said that it takes this call; `details` has the shape of `bdwhereis --json`."""
    began, node = time.monotonic(), session.node
    client = None if client_policy is None else node.read_policy(client_policy, "the client's policy", str(session.caller))
    session.taker.begin()
    world = _with_own_services(session)
    only = _of_the_only_one(session, world, service) if client is None else None
    said = only or _searched(session, _question(session, world, client), service)
    _count(session, said, time.monotonic() - began)
    if only is not None and world.is_told and not log.isEnabledFor(logging.DEBUG):
        agrees = _agreement(session, world, service)
        session.repeat = Repeat(session.node, session.caller.host, world, only, _is_by_ticket(only), agrees)
    return said


def _agreement(session: Session, world: World, service: str) -> Callable[[float], bool]:
    """Whether the only one who may be named in this world takes one more call now, as `_of_the_only_one` finds out."""
    node, host, known = session.node, session.caller.host, world.candidates[service]
    if known.own is None:
        [other] = known.others
        return lambda now: session.taker.spend(other, service) is not None

    def agrees(now: float) -> bool:
        if node.load.is_overloaded(now, service, world.services):
            return False
        node.hit(service, host, now)
        return True

    return agrees


def _is_by_ticket(said: Place | Nobody | Mismatch) -> bool:
    asked = said.details["asked"]
    return bool(asked) and asked[-1]["answer"] == routing.TICKET


def _count(session: Session, said: Place | Nobody | Mismatch, seconds: float) -> None:
    node, details = session.node, said.details
    is_by_ticket = _is_by_ticket(said)
    phase, by = str(details["phase"] or word_of(said).lower()), "ticket" if is_by_ticket else "question"
    node.counters.add("lookups", phase, by)
    node.counters.took(seconds)
    if log.isEnabledFor(logging.DEBUG):
        found = details["node"] or word_of(said)
        log.debug("WHEREIS %s: %s, %s", details["service"], found, "by its ticket" if is_by_ticket else "asked")
    if not node.counters.is_paused:
        why = BY_TICKET if is_by_ticket else ""
        session.later.append(lambda: node.lookups.note(node.clock(), session.caller.host, details, why))


def _question(session: Session, world: World, client: Policy | None) -> routing.Question:
    """What a look-up needs to ask; without a client's policy the one of the look-up before, in the same world."""
    asked = session.question
    if asked is not None and client is None and asked.known is world.candidates:
        return asked
    node, policies, view = session.node, session.node.policies, world.view
    question = routing.Question(
        view,
        suits=lambda record: policies.suits(view, client, record),
        talkable=lambda record: policies.talkable(view, record),
        can_talk=lambda a, b: policies.can_talk(view, view.records[a], view.records[b]),
        ask=session.ask,
        left=session.left,
        clock=time.monotonic,
        rng=node.rng,
        order=routing.ORDERS[node.settings.routing],
        put=session.put,
        hear=session.hear,
        doubted=session.doubted,
        spend=session.spend,
        is_refused=session.taker.is_refused,
        known=world.candidates if client is None else None,
    )
    if client is None:
        session.question = question
    return question


def _of_the_only_one(session: Session, world: World, service: str) -> Place | None:
    """What a search would come to where only one node may be named, and it agrees at once: this one, or another by its ticket.
    None where there is something to search for. The answer is the same object as before where it says the same."""
    known = world.candidates.get(service)
    if known is None or len(known.others) + (known.own is not None) != 1:
        return None
    said: Yes | No | DontHave | None
    if known.own is not None:
        began = time.monotonic()
        only, word, said = known.own, "YES", _execute(session, service, is_late=False)
        seconds = time.monotonic() - began
        session.agreed = None  # our own call, which nobody gives back
    else:
        only, word, said, seconds = known.others[0], routing.TICKET, session.spend(known.others[0].name, service), 0.0
    if not isinstance(said, Yes):
        return None
    asked = service, word, round(1000 * seconds, 1)
    place = world.places.get(asked)
    if place is None or (place.axis_port, place.web_dir, place.details["url"]) != said[:3]:
        if len(world.places) >= PLACES_MAX:
            world.places.clear()
        found = routing.found_at(only, 1, said)
        details = _details(service, found, [routing.Asked(only.name, word, seconds)])
        place = world.places[asked] = _place(session.node, found, details)
    return place


def _searched(session: Session, question: routing.Question, service: str) -> Place | Nobody | Mismatch:
    node, search = session.node, routing.Search(question, service)
    found = search.whereis()
    if search.gone or search.mistaken:
        session.later.append(lambda: _correct(node, search))
        session.doubt(search.gone)
    details = _details(service, found, search.asked)
    if found.word == "CANTFIND":
        return Nobody(details)
    if found.word == "POLICYMISMATCH":
        return Mismatch(details)
    if found.phase in (2, 4):  # what we know of it is old
        node.nudge(Visit(found.node))
    return _place(node, found, details)


def _place(node: Node, found: routing.Outcome, details: dict[str, Any]) -> Place:
    return Place("ME" if found.node == node.name else found.host, found.port, found.web_dir, details)


def _details(service: str, found: routing.Outcome, asked: list[routing.Asked]) -> dict[str, Any]:
    told = [{"node": a.node, "answer": a.answer, "ms": round(1000 * a.seconds, 1)} for a in asked[-ASKED_TOLD_MAX:]]
    why = {"why": found.why} if found.why else {}
    return {"url": found.url, "node": found.node, "service": service, "phase": found.phase, "asked": told, **why}


def _with_own_services(session: Session) -> World:
    """The world, with a view of what lies in our services directory this very moment: dropped in is live at once."""
    world = session.world()
    if not world.is_told:
        update_own(session.node)
        session.look_again()
        world = session.world()
    return world


def _correct(node: Node, search: routing.Search) -> None:
    """After the answer: let the discoverer look at the nodes that were silent, and visit those that had not what we thought."""
    for name in search.gone:
        node.nudge(Hurry(name))
    for name in search.mistaken:
        node.nudge(Visit(name))


def answer_willyouexecute(session: Session, service: str, takes: dict[str, Any] | None = None) -> Yes | No | DontHave:
    """YES and a hit logged, unless this node is overloaded or drains; more hits for an asker that takes tickets."""
    if takes is not None:
        session.giver.settle(service, takes.get("spent", 0), session.node.clock())
    return _execute(session, service, is_late=False, takes_tickets=takes is not None)


def answer_spent(session: Session, calls: dict[str, int]) -> Ok:
    """What was promised and not spent weighs nothing any more."""
    for service, spent in calls.items():
        session.giver.settle(service, spent, session.node.clock())
    return Ok()


def answer_youwillexecute(session: Session, service: str, takes_old: bool = False) -> Yes | No | DontHave:
    """YES and a hit, overloaded or not: a client is served late rather than never, by an old edition rather than by none."""
    return _execute(session, service, is_late=True, takes_old=takes_old)


def _execute(
    session: Session, service: str, is_late: bool, takes_old: bool = False, takes_tickets: bool = False
) -> Yes | No | DontHave:
    node, world = session.node, session.world()
    offer, now, services = world.offer(service), node.clock(), world.services
    if offer is None:
        return DontHave()
    if not takes_old and not offer.is_current:
        return DontHave() if is_late else No()
    if not is_late and world.view.own.draining:
        return No()
    if not is_late and node.load.is_overloaded(now, service, services):
        return No({"not_before": node.load.room_in(now, service, services)}) if takes_tickets else No()
    if node.hit(service, session.caller.host, now):
        session.agreed = service, now
    if takes_tickets:
        return offer.yes._replace(promise=session.giver.promise(services[service], services, now))
    return offer.yes
