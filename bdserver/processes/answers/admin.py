"""HINT, FORGET, PUBLISH, WITHDRAW, GRAVEYARD, RESTORE, DRAIN, LEAVE, KILL: what an administrator asks."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import Any

from bdserver.core import copies, membership, pages
from bdserver.core.address import join_address, split_address
from bdserver.core.membership import NO_EDITION, STATIC, Copies, Record, Withdrawal
from bdserver.core.messages import Goodbye, Graveyard, Ok, Withdrawn
from bdserver.core.nudges import Look
from bdserver.core.roles import ADMIN
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View
from bdserver.errors import BadRequest, BadService, CantFind, Forbidden
from bdserver.files import package
from bdserver.files.bdcert import Service
from bdserver.files.password import is_guessed
from bdserver.files.quarantine import Kind
from bdserver.processes import editions
from bdserver.processes.answers import signing
from bdserver.processes.describing import Told, update_own
from bdserver.processes.node import Node
from bdserver.processes.session import Session

# Copies that live hear of a withdrawal within milliseconds, and go within a second.
WITHDRAW_SECONDS, WITHDRAW_POLL_SECONDS = 5.0, 0.02

UNCHECKED = "note: nobody looks whether its web server answers: with --health http (or tcp) it is named only while it does"

log = logging.getLogger("bdserver.admin")


def answer_hint(session: Session, address: str) -> Ok:
    """Add an address that the discoverer will visit: how a mesh is joined."""
    host, port = split_address(address)
    with session.node.cache.locked() as view:
        view.hint(join_address(host, port))
    session.node.nudge(Look())
    return Ok()


def answer_forget(session: Session, who: str) -> Ok:
    """Drop a node by name or address."""
    with session.node.cache.locked() as view:
        record = view.records.get(who) or view.at_address(who)
        if not (view.unhint(who) or (record is not None and view.forget(record.name))):
            raise CantFind(f"{who}: no such node is known here, or it is this one")
    session.node.nudge(Look())
    return Ok()


def answer_publish(session: Session, name: str, described: dict[str, Any]) -> Ok:
    """Offer a service from now on: its package follows the request, or it has just a url. What is not wished for stays as it
    was before."""
    node, here = session.node, session.node.services.get(name)
    length = session.checked_length(described)
    before = signing.kept(here) if here is not None else {}
    if not length:  # what is elsewhere has its own URL, and no copies
        before = {key: before[key] for key in ("weight", "health") if key in before}
    wish = _Wish.of({**before, **described})
    if not length and not wish.url:
        raise BadRequest("INVALID REQUEST: PUBLISH needs a file or a url")
    after = _published_after(session.view(), name, here, wish)
    wish.refuse_replicas(name, has_file=bool(length))
    signed = signing.read(wish.signature, described["sha256"] if length else "")
    source = (
        _received(session, name, described) if length else Service(name, STATIC, wish.cost, wish.url, wish.health, None, 0.0)
    )
    wished = wish.of_service(source)._replace(after=after)
    if here is not None and length and signed is None:  # what is signed is what it is, to the last key
        wished = wished._replace(extra=tuple({**dict(here.extra), **dict(source.extra)}.items()))
    service = signing.labelled(session, wished, signed)
    notes = signing.take(session, service)
    node.services.publish(service)
    update_own(node)
    _note(session, "published", name, **({"why": f"taken over from {after}"} if wish.take_over and after else {}))
    url = membership.service_url(session.look_again().own, name, wish.url)
    unchecked = [UNCHECKED] if service.health == "none" else []
    return Ok(url, [*unchecked, *notes, *_said_of_others(session.view(), name)])


class _Wish(NamedTuple):
    """What PUBLISH says beside the package's length and digest."""

    cost: float
    url: str
    health: str
    replicas: int
    copies: str
    take_over: bool
    signature: str

    @classmethod
    def of(cls, described: dict[str, Any]) -> _Wish:
        """BadRequest names what is wrong."""
        given = {key: described.get(key, default) for key, (_, default, _) in _WISHES.items()}
        for key, (kind, _, words) in _WISHES.items():
            if not isinstance(given[key], kind) or (isinstance(given[key], bool) and kind is not bool):
                raise BadRequest(f"INVALID REQUEST: PUBLISH's {key} must be {words}")
        others = ("url", "health", "replicas", "copies", "take_over", "signature")
        return cls(float(given["weight"]), *(given[key] for key in others))

    def refuse_replicas(self, name: str, has_file: bool) -> None:
        """BadService for living holders that nobody could ever become."""
        why = (
            "copies=none keeps it here" if self.copies == Copies.NONE else "" if has_file else "only a file or folder is copied"
        )
        if self.replicas > 1 and why:
            raise BadService(f"{name}: replicas={self.replicas} can't be had, since {why} (--replicas 0 takes that back)")

    def of_service(self, service: Service) -> Service:
        """The service as it is wished for."""
        return service._replace(
            cost=self.cost,
            url=self.url,
            health=self.health,
            replicas=self.replicas or service.replicas,
            copies=self.copies or service.copies,
        )


_WISHES: dict[str, tuple[Any, Any, str]] = {
    "weight": ((int, float), 1.0, "a number"),
    "url": (str, "", "a text"),
    "health": (str, "none", "a text"),
    "replicas": (int, 0, "a whole number"),
    "copies": (str, "", "a text"),
    "take_over": (bool, False, "true or false"),
    "signature": (str, "", "a text"),
}


def _published_after(view: View, name: str, here: Service | None, wish: _Wish) -> str:
    """The node whose copies are to follow what is published here now; BadService for a copy while it is not wished so."""
    if here is None or not here.is_copy:
        before = here.after if here is not None else ""
        return (copies.left_behind(view, name) or before) if wish.take_over else before
    if not wish.take_over:
        raise BadService(f"{signing.is_a_copy(view, here, 'publish')}, or publish it here with --take-over")
    return copies.standing(view, name, here).original


def _said_of_others(view: View, name: str) -> list[str]:
    """Of originals elsewhere that differ, and of copies that do not follow what is published here."""
    said, rivals, gone = [], copies.rivals(view, name), copies.left_behind(view, name)
    if rivals is not None:
        ours = rivals.digests.get(view.me, "")[: copies.DIGEST_SHOWN]
        said.append(
            f"{name} has another original, which differs, at {rivals.words(view.me)} (here: edition {ours}): "
            "copies follow the one that they came from"
        )
    if gone:
        said.append(f"note: others have copies of {name} whose original was at {gone}: with --take-over they follow this one")
    return said


def _received(session: Session, name: str, described: dict[str, Any]) -> Service:
    """The service in the package that follows this request, unpacked in a scratch folder."""
    settings, services = session.node.settings, session.node.services
    with session.receive(described) as file:
        limits = settings.package_bytes_max, settings.package_files_max
        origin = f"the package of {name} from {session.caller.name}"
        with session.node.quarantine.guard(Kind.PACKAGE, package.digest(file), origin):
            folder = package.unpack(file, described["sha256"], name, services.scratch_dir, *limits)
    return services.unpacked(folder, name)


def answer_withdraw(session: Session, service: str, here: bool = False) -> Withdrawn:
    """Offer it no longer; its files go to the graveyard, and with them all copies of it, unless it is withdrawn `here` alone.

    The word comes first: copies hear of it before what they are copies of is gone."""
    node, mine = session.node, session.node.services.get(service)
    if mine is None:
        raise CantFind(_not_here(session, service))
    if mine.is_copy and not here:
        raise BadService(f"{signing.is_a_copy(session.view(), mine, 'withdraw')}, or withdraw it --here alone")
    if not mine.is_copy and not here:
        edition = copies.above_copies(session.view(), service, mine.edition, mine.after)
        if mine.is_here or edition != NO_EDITION:  # else it was never more than a URL
            update_own(node, Told(withdrawn={service: Withdrawal(edition.counter, int(node.clock()))}))
    node.services.withdraw(service)
    node.hitlog.forget(service)
    update_own(node)
    _note(session, "withdrawn", service)
    return Withdrawn([], []) if here or mine.is_copy else _copies_gone(session, service)


def _not_here(session: Session, service: str) -> str:
    """That it is not offered here, and where it is."""
    holders = session.view().holders(service)
    originals = [record for record in holders if record.services[service].type == STATIC]
    if originals:
        return f"{service}: not offered here, its original is at {originals[0].name} ({originals[0].address})"
    return f"{service}: not offered here" + (f", a copy is at {holders[0].name} ({holders[0].address})" if holders else "")


def _copies_gone(session: Session, service: str) -> Withdrawn:
    """Whose copies go, as this node hears of it, within the time of this request; the others obey when they hear of it."""
    left = _copies_of_ours(session.look_again(), service)
    had, until = {record.name for record in left}, time.monotonic() + min(session.left() - 1, WITHDRAW_SECONDS)
    while any(record.is_there for record in left) and time.monotonic() < until:
        time.sleep(WITHDRAW_POLL_SECONDS)
        left = _copies_of_ours(session.look_again(), service)
    names = {record.name for record in left}
    return Withdrawn(pages.within(sorted(had - names)), pages.within(sorted(names)))


def _copies_of_ours(view: View, service: str) -> list[Record]:
    """Of those that are dead too: they obey when they come back."""
    holders = [*view.holders(service), *view.dead_holders(service)]
    return [record for record in holders if record.services[service].original == view.me]


def answer_adopt(session: Session, service: str) -> Ok:
    """What is a copy here, and has no original any more, is an original from now on, and other copies follow it."""
    node = session.node
    mine = node.services.get(service)
    if mine is None or not mine.is_copy:
        raise BadService(f"{service} is no copy here" if mine else _not_here(session, service))
    found = copies.standing(session.view(), service, mine)
    if mine.original and not found.is_orphan:
        raise BadService(f"{service} has its original at {found.original}, which lives: withdraw it there first")
    _make_original(node, mine, found.original)
    _note(session, "adopted", service, why=f"its original was at {found.original or 'a node that is not known'}")
    return Ok()


def _make_original(node: Node, mine: Service, after: str) -> None:
    view, digest = node.cache.view(), editions.digest_of(node, mine)
    edition = copies.next_edition(digest, node.clock(), mine.edition, copies.last_withdrawn(view, mine.name))
    edition = copies.above_copies(view, mine.name, edition, after)
    node.services.relabel(
        mine.name,
        lambda now: now._replace(type=STATIC, arrived_at=0.0, original="", after=after, edition=edition),
    )
    update_own(node)


def answer_graveyard(session: Session) -> Graveyard:
    """Names of the services that were withdrawn or retired."""
    names = session.node.services.buried()
    told = pages.within(names, pages.PAGE_BYTES)
    return Graveyard(told, len(names) - len(told))


def answer_restore(session: Session, service: str) -> Ok:
    """Back from the graveyard: an original as a new edition, and so a copy whose original is withdrawn or gone."""
    node = session.node
    node.services.restore(service)
    mine = node.services.get(service)
    if mine is not None:
        found = copies.standing(session.view(), service, mine) if mine.is_copy else None
        if found is None or found.is_withdrawn or found.is_orphan:
            _make_original(node, mine, mine.original)
    update_own(node)
    _note(session, "restored", service)
    return Ok()


def _note(session: Session, what: str, service: str, **details: str) -> None:
    node, mine = session.node, session.node.services.get(service)
    edition = {"edition": mine.edition.digest} if mine is not None and mine.edition.digest else {}
    node.journal.note(what, service, node.clock(), asker=session.caller.name, **edition, **details)
    log.info("%s %s by %s", service, what, session.caller)


def answer_drain(session: Session, on: bool) -> Ok:
    """Take no new calls from now on, or do so again; the mesh hears of it at once."""
    update_own(session.node, Told(draining=on))
    log.info("draining %s by %s", "begun" if on else "ended", session.caller)
    return Ok()


def answer_leave(session: Session) -> Ok:
    """Tell the mesh, and end, as after SIGTERM."""
    log.info("leaving at the wish of %s", session.caller)
    session.later.append(lambda: os.kill(session.node.life.listener_pid, signal.SIGTERM))
    return Ok()


def answer_kill(session: Session, password: str | None = None) -> Goodbye:
    """The node's processes end at once. For an admin, or for a caller that knows the admin_password."""
    settings = session.node.settings
    stored = settings.admin_password
    if session.caller.role != ADMIN and not (password and stored and is_guessed(password, stored, settings.var_dir)):
        raise Forbidden("KILL needs the role admin or the admin_password, and the caller's role is " + session.caller.role)
    log.warning("killed by %s", session.caller)
    session.later.append(lambda: os.kill(session.node.life.listener_pid, signal.SIGQUIT))
    return Goodbye()
