"""Copies of services: whose each one is, which edition of it counts, and what becomes of it.

A service has its *original* on the node whose administrator published it, or put it there; others have copies, each of which
says whose it is and which edition. What the original's node says of it, last and signed, is the truth: a newer edition makes
copies stale until they have renewed themselves, a withdrawal makes them go. An original that is gone in any other way (its
host is dead, or came back empty) takes no copy along: they are orphans, until somebody adopts the service and the others
follow it.

All of it follows from a view, so each node finds the same by itself, whatever the order of gossip, and a copy decides for
itself whether it serves, renews or goes. How many copies there are to be, and who has them, is the business of turns; fetching
and moving files that of processes and files.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from bdserver.core.membership import (
    COUNTER_MAX,
    DYNAMIC,
    NO_EDITION,
    STATIC,
    Edition,
    Record,
    ServiceType,
)
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View

# Of a digest, for people to compare.
DIGEST_SHOWN = 8


class Held(Protocol):
    """What a holder offers, as its record has it or as its folder does."""

    @property
    def type(self) -> ServiceType: ...
    @property
    def edition(self) -> Edition: ...
    @property
    def original(self) -> str: ...
    @property
    def after(self) -> str: ...


class Standing(NamedTuple):
    """What the mesh says of a copy: the node that has the original, or had it, and the edition that it told last."""

    original: str
    newest: Edition
    is_stale: bool = False  # there is a newer edition
    is_orphan: bool = False  # nobody who lives has the original
    is_withdrawn: bool = False


def is_withdrawn(record: Record | None, name: str, edition: Edition) -> bool:
    """Whether the owner of this record has withdrawn this edition, or a later one, and offers none that came after it."""
    withdrawal = record.withdrawn.get(name) if record is not None else None
    if record is None or withdrawal is None or withdrawal.counter < edition.counter:
        return False
    return not has_original(record, name) or record.services[name].edition.counter <= withdrawal.counter


def has_original(record: Record | None, name: str) -> bool:
    """Whether that node says that the service is its own."""
    service = record.services.get(name) if record is not None else None
    return service is not None and service.type == STATIC


def _lives(record: Record | None, name: str) -> bool:
    return record is not None and record.is_there and has_original(record, name)


def standing(view: View, name: str, copy: Held) -> Standing:
    """How a copy stands, by what this view knows of its original."""
    record = view.records.get(copy.original)
    if is_withdrawn(record, name, copy.edition):
        return Standing(copy.original, copy.edition, is_withdrawn=True)
    if record is not None and _lives(record, name):
        return _followed(record, name, copy)
    heir = _heir(view, name, copy)
    return _followed(heir, name, copy) if heir is not None else _orphaned(view, name, copy)


def _followed(record: Record, name: str, copy: Held) -> Standing:
    newest = record.services[name].edition
    return Standing(record.name, newest, is_stale=_is_behind(copy.edition, newest))


def _is_behind(edition: Edition, told: Edition) -> bool:
    """Whether a copy's edition is another than its original's. Where the copy's is above it, the original's node has lost its
    clock or its files, and will raise its own (`above_copies`); and what has no edition yet is what was copied from it."""
    return told not in (edition, NO_EDITION) and told.counter >= edition.counter


def _orphaned(view: View, name: str, copy: Held) -> Standing:
    """Nobody who lives has its original. What the original's node said last is the truth all the same, and what orphans may
    become is the newest edition up to that one which is left among them."""
    record = view.records.get(copy.original)
    told = record.services[name].edition if record is not None and has_original(record, name) else None
    left = [each.services[name].edition for each in view.holders(name) if each.services[name].original == copy.original]
    had = [edition for edition in left if told is None or edition == told or edition.counter < told.counter]
    newest = max([copy.edition, *had])
    is_stale = newest != copy.edition or (told is not None and _is_behind(copy.edition, told))
    return Standing(copy.original, newest, is_stale, is_orphan=True)


def _heir(view: View, name: str, copy: Held) -> Record | None:
    """Of the nodes that have adopted it since, the one with the newest edition."""
    line = _line(view, name, copy.original)
    heirs = [
        record
        for record in view.holders(name)
        if record.name in line and record.services[name].edition.counter > copy.edition.counter
    ]
    return max(heirs, key=lambda record: (record.services[name].edition, record.name), default=None)


def _line(view: View, name: str, original: str) -> set[str]:
    """The nodes that have adopted it since, from there or from one of those: it may have been adopted again, when the node that
    had adopted it was gone too."""
    adopted = [(record.services[name].after, record.name) for record in view.having(name) if has_original(record, name)]
    found, last = set[str](), {original}
    while last:
        found |= last
        last = {node for after, node in adopted if after in last} - found
    return found - {original}


def is_stale(view: View, name: str, record: Record) -> bool:
    """Whether what that node offers is an old edition; an original never is."""
    service = record.services[name]
    return service.type == DYNAMIC and bool(service.original) and standing(view, name, service).is_stale


def holders_of(view: View, name: str, edition: Edition) -> list[Record]:
    """Who lives and has this edition."""
    return [record for record in view.holders(name) if record.services[name].edition == edition]


def current(view: View, name: str, holders: list[Record]) -> list[Record]:
    """These holders without those whose edition is old, as long as somebody who lives has the new one."""
    return [record for record in holders if may_serve(view, name, record.services[name])]


def may_serve(view: View, name: str, service: Held) -> bool:
    """Whether a call may go to what is offered here: never to an old edition while the new one can be had."""
    if service.type == STATIC or not service.original:
        return True
    found = standing(view, name, service)
    is_another = found.newest.digest != service.edition.digest  # else it is the same content, and has another number alone
    is_newer_to_be_had = found.is_stale and is_another and bool(holders_of(view, name, found.newest))
    return not found.is_withdrawn and not is_newer_to_be_had


def originals(view: View, name: str) -> list[Record]:
    """The living nodes that say that the service is their own, and what it is."""
    return [r for r in view.holders(name) if has_original(r, name) and r.services[name].edition.digest]


class Rivals(NamedTuple):
    """Originals of one name that differ: node -> digest of its edition; since when, epoch seconds."""

    digests: Mapping[str, str]
    since: int

    def words(self, me: str = "") -> str:
        """Which ones, but for our own, and since when: for a person."""
        others = sorted((node, digest[:DIGEST_SHOWN]) for node, digest in self.digests.items() if node != me)
        shown = ", ".join(f"{node} (edition {digest})" for node, digest in others)
        return f"{shown}, since {_when(self.since)}"


def _when(seconds: int) -> str:
    """An edition's counter is the epoch second of its change, as a rule."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):  # a counter that was raised beyond all times
        return f"edition {seconds}"


def rivals(view: View, name: str) -> Rivals | None:
    """The originals of this name, if they differ."""
    return differing({record.name: record.services[name].edition for record in originals(view, name)})


def differing(editions: Mapping[str, Edition]) -> Rivals | None:
    """Of originals, node -> edition: those whose edition is known, if they differ."""
    known = {node: edition for node, edition in editions.items() if edition.digest}
    if len({edition.digest for edition in known.values()}) < 2:
        return None
    return Rivals({node: edition.digest for node, edition in known.items()}, max(each.counter for each in known.values()))


def is_credible(view: View, name: str, giver: str, original: str, edition: Edition) -> bool:
    """Whether to believe a giver whose copy it has: the original's node itself, or one that says what that node says.

    An orphan is believed as long as nobody who lives has an original, nor what the dead one's node said last. What was
    withdrawn is nobody's to give."""
    record = view.records.get(original)
    if is_withdrawn(record, name, edition):
        return False
    if original == giver:
        return True
    if record is not None and has_original(record, name):
        told = record.services[name].edition
        if edition == told or record.is_there or holders_of(view, name, told):
            return edition == told
    return not originals(view, name)


def left_behind(view: View, name: str) -> str:
    """The node whose original is gone while others have copies of it; of several, that of the newest edition. "" for none."""
    copied = [record.services[name] for record in view.holders(name) if not has_original(record, name)]
    found = [standing(view, name, copy) for copy in copied if copy.original]
    newest = max((each for each in found if each.is_orphan), key=lambda each: (each.newest, each.original), default=None)
    return newest.original if newest is not None else ""


def next_edition(digest: str, now: float, *before: Edition) -> Edition:
    """The edition of what has changed: its counter is above those before."""
    counter = max(int(now), *(each.counter + 1 for each in before), 0)
    return Edition(min(counter, COUNTER_MAX), digest)


def numbered(view: View, name: str, digest: str, here: Held | None, after: str, now: float) -> Edition:
    """The edition of an original with this digest: that of what is `here`, if nothing differs, else one above it, above those
    of its copies, and above what was withdrawn."""
    before = _before(view, name, here)
    if not digest:  # what can't be copied is a new edition too, if what was here before could be
        return next_edition("", now, before) if before.digest else before
    last = last_withdrawn(view, name)
    is_same = here is not None and here.type == STATIC and before.digest == digest and before.counter > last.counter
    return above_copies(view, name, before if is_same else next_edition(digest, now, before, last), after)


def last_withdrawn(view: View, name: str) -> Edition:
    """What this node has withdrawn of a service last: up to which counter."""
    withdrawal = view.own.withdrawn.get(name)
    return Edition(withdrawal.counter) if withdrawal is not None else NO_EDITION


def _before(view: View, name: str, here: Held | None) -> Edition:
    """What is here, or was: whoever writes a .bdcert anew by hand leaves out which edition it is."""
    if here is None or here.edition != NO_EDITION or here.type != STATIC:
        return here.edition if here is not None else NO_EDITION
    told = view.own.services.get(name)
    return told.edition if told is not None and told.type == STATIC else NO_EDITION


def above_copies(view: View, name: str, edition: Edition, after: str) -> Edition:
    """Our original's edition, as its copies will take it: a node that has lost its clock or its files must not stay below what
    copies of its service have already; nor, where it was adopted from the node `after`, below those that were left behind."""
    ours = _newest_of(view, name, view.me)
    orphans = _newest_of(view, name, after) if after and not _lives(view.records.get(after), name) else NO_EDITION
    is_below_copies = ours != edition and ours.counter >= edition.counter
    is_below_orphans = orphans != NO_EDITION and orphans.counter >= edition.counter
    return next_edition(edition.digest, 0, ours, orphans) if is_below_copies or is_below_orphans else edition


def _newest_of(view: View, name: str, original: str) -> Edition:
    """Of the copies of that node's service on other nodes."""
    holders = [record for record in view.holders(name) if record.name != view.me]
    offered = [record.services[name] for record in holders if record.services[name].original == original]
    return max((service.edition for service in offered), default=NO_EDITION)


# --- what is to be done -------------------------------------------------------------------------------------------


class Renew(NamedTuple):
    """Our copy is to become this edition of that node's service."""

    name: str
    original: str
    edition: Edition


class Go(NamedTuple):
    """Our copy goes to the graveyard. `what`: withdrawn or retired."""

    name: str
    what: str
    why: str


class Raise(NamedTuple):
    """Our original is to be numbered anew: copies of it are above it."""

    name: str


def to_renew(view: View, name: str, service: Held | None) -> Renew | None:
    """What our copy is to become, if it is stale, or follows another node now, and the new edition is to be had."""
    if service is None or service.type == STATIC or not service.original:
        return None
    found = standing(view, name, service)
    if not found.is_stale or found.newest in (service.edition, NO_EDITION):
        return None
    givers = [record for record in holders_of(view, name, found.newest) if record.name != view.me]
    return Renew(name, found.original, found.newest) if givers and found.newest.digest else None


def to_withdraw(view: View, name: str, service: Held | None) -> Go | None:
    """Whether our copy goes by the word of its original."""
    if service is None or service.type == STATIC or not service.original:
        return None
    found = standing(view, name, service)
    return Go(name, "withdrawn", f"{found.original} has withdrawn it") if found.is_withdrawn else None


def to_raise(view: View, name: str, service: Held) -> Raise | None:
    """Whether our original is below its copies, as it is seen now; one that has no number yet will get one that is above."""
    is_below = service.edition.digest and above_copies(view, name, service.edition, service.after) != service.edition
    return Raise(name) if service.type == STATIC and is_below else None
