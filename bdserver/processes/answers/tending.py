"""TEND, RETIRE, PLACE: what the discoverer asks of its own node, so that copies follow their originals.

The discoverer sees what is due (core.copies), and speaks with many at once; to hash, fetch and install takes its time, so a
child does it, and looks first whether it is due still.
"""

from __future__ import annotations

import functools
import logging

from bdserver.core import copies, turns
from bdserver.core.membership import Edition
from bdserver.core.messages import No, NotGiven, Ok
from bdserver.errors import BDError, CantFind, TooBusy
from bdserver.files import package
from bdserver.files.bdcert import Service
from bdserver.processes import editions
from bdserver.processes.answers import replicating
from bdserver.processes.describing import update_own
from bdserver.processes.node import Node
from bdserver.processes.session import Session

# Nothing is begun so long before the caller's patience ends.
LEFT_SECONDS = 2.0

log = logging.getLogger("bdserver.tending")


def answer_tend(session: Session, names: list[str]) -> Ok:
    """Look after these services: each one in its turn, whatever became of those before it. The notes say what failed, a line
    `NAME: why` each, or was not begun: to hash many large ones may take longer than the caller waits."""
    notes = []
    for name in names:
        mine = session.node.services.get(name)
        if mine is None:
            continue
        if session.left() <= LEFT_SECONDS:
            notes.append(f"{name}: there was no time left to look at it")
            continue
        try:
            if mine.is_copy:
                _tend_copy(session, mine)
            else:
                _tend_original(session, mine)
        except BDError as error:
            notes.append(f"{name}: {error}")
        session.look_again()
    return Ok("", notes)


def _tend_original(session: Session, mine: Service) -> None:
    node, files_max = session.node, session.node.settings.package_files_max
    before = package.look(mine.offered(), files_max)
    edition = editions.of_original(node, session.view(), mine)
    if package.look(mine.offered(), files_max) != before:
        raise TooBusy("it was changed while it was hashed")
    if edition != mine.edition:
        _renumber(node, mine, edition)
    told = session.view().own.services.get(mine.name)
    if mine.is_here and not edition.digest and told is not None and turns.is_for_others(session.view(), mine.name, told):
        editions.refuse_uncopied(node, mine)


def _renumber(node: Node, mine: Service, edition: Edition) -> None:
    node.services.relabel(mine.name, lambda now: editions.labelled(now, edition))
    update_own(node)
    if mine.edition.digest:  # else it was numbered for the first time
        why = "its copies were above it" if edition.digest == mine.edition.digest else "its files were changed here"
        node.journal.note("updated", mine.name, node.clock(), edition=edition.digest, why=why)
    log.info("%s is a new edition, %s", mine.name, edition.digest[:8] or "which can't be copied")


def _tend_copy(session: Session, mine: Service) -> None:
    node, view = session.node, session.view()
    gone = copies.to_withdraw(view, mine.name, mine)
    if gone is not None:
        _let_go(session, mine.name, gone.what, gone.why)
        return
    renewal = copies.to_renew(view, mine.name, mine)
    is_spoilt = renewal is None and (renewal := _repair(session, mine)) is not None
    if renewal is None:
        return
    with replicating.one_at_a_time(session, mine.name):
        if replicating.renew(session, renewal, is_spoilt) is not None:
            why = f"none of those that have edition {renewal.edition.digest[:8]} of {renewal.original} gives it"
            node.journal.note_once("refused", mine.name, node.clock(), why=why)
            raise CantFind(why)
    update_own(node)


def _repair(session: Session, mine: Service) -> copies.Renew | None:
    """A copy that somebody changed by hand is fetched anew; one without an original stays as it is."""
    if not mine.edition.digest or editions.digest_of(session.node, mine) == mine.edition.digest:
        return None
    if not [each for each in copies.holders_of(session.view(), mine.name, mine.edition) if each.name != session.node.name]:
        return None
    log.warning("%s is not what its edition says: it was changed here, and is fetched anew", mine.name)
    return copies.Renew(mine.name, mine.original, mine.edition)


def _let_go(session: Session, name: str, what: str, why: str) -> None:
    node = session.node
    node.services.retire(name)
    node.hitlog.forget(name)
    update_own(node)
    node.journal.note(what, name, node.clock(), why=why)
    log.info("%s goes to the graveyard: %s", name, why)


def answer_retire(session: Session, name: str, why: str) -> Ok:
    """Our copy goes, if it can be spared still, or may not be here any more: it has told the mesh for a while that nobody calls
    it, so few calls are under way."""
    mine, view = session.node.services.get(name), session.view()
    if mine is not None and mine.is_copy:
        are_apart = functools.partial(session.node.policies.are_apart, view)
        if turns.can_spare(view, name) or turns.shut_out(view, name, are_apart):
            _let_go(session, name, "retired", why)
    return Ok()


def answer_place(session: Session, name: str, node: str) -> Ok | No | NotGiven:
    """That node's answer: it has a copy now, has no room, or nobody gives it one."""
    view, journal, now = session.view(), session.node.journal, session.node.clock()
    if not turns.missing(view, name):  # somebody has come back meanwhile
        return Ok()
    why = f"{len(view.holders(name))} of {turns.wanted(view, name)} holders live"
    said = session.ask(node, ["WILLYOUREPLICATE", name, False], session.left())
    if isinstance(said, No | NotGiven):
        refusal = "it has no room for a copy" if isinstance(said, No) else "nobody gives it a copy"
        journal.note_once("refused", name, now, taker=node, why=refusal)
        return said
    journal.note("placed", name, now, taker=node, why=why)
    return Ok()
