"""HINT, FORGET, PUBLISH, WITHDRAW, GRAVEYARD, RESTORE, DRAIN, LEAVE, KILL: what an administrator asks."""

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from bdserver.core import membership, pages
from bdserver.core.address import join_address, split_address
from bdserver.core.messages import Goodbye, Graveyard, Ok
from bdserver.core.nudges import Look
from bdserver.core.roles import ADMIN
from bdserver.errors import BadRequest, CantFind, Forbidden
from bdserver.files import package
from bdserver.files.password import is_guessed
from bdserver.files.quarantine import Kind
from bdserver.processes.session import Session

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


def answer_publish(session: Session, service: str, described: dict[str, Any]) -> Ok:
    """Offer a service from now on: its package follows the request, or it has just a url."""
    node = session.node
    length = session.checked_length(described)
    cost, url, health = described.get("weight", 1.0), described.get("url", ""), described.get("health", "none")
    if type(cost) not in (int, float) or not isinstance(url, str) or not isinstance(health, str):
        raise BadRequest("INVALID REQUEST: PUBLISH takes weight (a number), url and health (texts)")
    if not length and not url:
        raise BadRequest("INVALID REQUEST: PUBLISH needs a file or a url")
    source = _received(session, service, described) if length else None
    node.services.publish(source, service, float(cost), url, health)
    node.update_own()
    _note(session, "published", service)
    return Ok(membership.service_url(session.look_again().own, service, url))


def _received(session: Session, service: str, described: dict[str, Any]) -> str:
    """The service in the package that follows this request, unpacked in a scratch folder."""
    settings = session.node.settings
    with session.receive(described) as file:
        limits = settings.package_bytes_max, settings.package_files_max
        origin = f"the package of {service} from {session.caller.name}"
        with session.node.quarantine.guard(Kind.PACKAGE, package.digest(file), origin):
            folder = package.unpack(file, described["sha256"], service, session.node.services.scratch_dir, *limits)
    return os.path.join(folder, service)


def answer_withdraw(session: Session, service: str) -> Ok:
    """Offer it no longer; its files go to the graveyard."""
    node = session.node
    if node.services.get(service) is None:
        raise CantFind(f"{service}: not offered here")
    node.services.withdraw(service)
    node.hitlog.forget(service)
    node.update_own()
    _note(session, "withdrawn", service)
    return Ok()


def answer_graveyard(session: Session) -> Graveyard:
    """Names of the services that were withdrawn or retired."""
    names = session.node.services.buried()
    told = pages.within(names, pages.PAGE_BYTES)
    return Graveyard(told, len(names) - len(told))


def answer_restore(session: Session, service: str) -> Ok:
    """Back from the graveyard."""
    session.node.services.restore(service)
    session.node.update_own()
    _note(session, "restored", service)
    return Ok()


def _note(session: Session, what: str, service: str) -> None:
    session.node.journal.note(what, service, session.node.clock(), asker=session.caller.name)
    log.info("%s %s by %s", service, what, session.caller)


def answer_drain(session: Session, on: bool) -> Ok:
    """Take no new calls from now on, or do so again; the mesh hears of it at once."""
    session.node.update_own(draining=on)
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
