"""SYNCHRONIZE: take another node's news, give ours. How views merge is core.exchange's business."""

from __future__ import annotations

from typing import Any

from bdserver.core import exchange
from bdserver.core.messages import Exchanged, No
from bdserver.core.nudges import Look, Tell
from bdserver.errors import TooBusy
from bdserver.files.cache import LOCK_SECONDS
from bdserver.processes.session import Session


def answer_synchronize(session: Session, said: dict[str, Any]) -> Exchanged | No:
    """Our part of the exchange, or NO when the cache's lock can't be had in time."""
    node = session.node
    theirs = exchange.checked(said)
    view = session.view()
    if not exchange.has_news(theirs):
        return Exchanged(exchange.respond(view, theirs))
    try:
        with node.cache.locked(min(LOCK_SECONDS, max(session.left() / 2, 0.0))) as view:
            added = exchange.absorb(view, theirs, node.clock(), session.caller.name)
            changed = view.changes > 0
    except TooBusy:
        return No()
    if changed:
        names, until = exchange.to_pass_on(view, theirs, session.caller.name)
        node.nudge(Tell(until, tuple(names)) if names else Look())
    return Exchanged(exchange.respond(view, theirs) | added)
