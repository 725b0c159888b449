"""Copies of services: whose each one is, which edition of it counts, and what becomes of it.

A service has its *original* on the node whose administrator published it, or put it there; others have copies, each of which
says whose it is and which edition. What the original's node says of it, last and signed, is the truth: a newer edition makes
copies stale until they have renewed themselves, a withdrawal makes them go. An original that is gone in any other way (its
host is dead, or came back empty) takes no copy along: they are orphans, until somebody adopts the service and the others
follow it.

All of it follows from a view, so each node finds the same by itself, whatever the order of gossip: a copy decides for itself
whether it serves, renews or retires; that one more is needed the original's node decides, or, when that is gone, the holder
that comes first in the ring. Fetching and moving files is the business of processes and files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from random import Random
from typing import NamedTuple, Protocol

from bdserver.core.address import host_part
from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip import ring
from bdserver.core.membership import (
    ALIVE,
    COUNTER_MAX,
    DYNAMIC,
    NO_EDITION,
    STATIC,
    Copies,
    Edition,
    Record,
    Service,
    ServiceType,
)
from bdserver.core.view import View
from bdserver.core.weight import FULL_LOAD, RETIRE_AFTER

# A copy that is about to retire has told the mesh so for this long: of those that wish to, the one that was called longest
# ago goes, and the others hear of it.
IDLE_TOLD_SECONDS = 5.0
# For how long nobody has joined the holders before those that are too many go: the last in turn first, the others spread over
# the time after it, so that whoever sees another turn has heard better by then; and a minute is not over.
SURPLUS_SECONDS, SURPLUS_SPREAD_SECONDS = 15.0, 30.0


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
    """Whether the owner of this record has withdrawn this edition, or a later one."""
    withdrawal = record.withdrawn.get(name) if record is not None else None
    return withdrawal is not None and withdrawal.counter >= edition.counter


def has_original(record: Record | None, name: str) -> bool:
    """Whether that node says that the service is its own."""
    service = record.services.get(name) if record is not None else None
    return service is not None and service.type == STATIC


def _lives(record: Record | None, name: str) -> bool:
    return record is not None and record.is_there and has_original(record, name)


def standing(view: View, name: str, copy: Held) -> Standing:
    """How a copy stands, by what this view knows of its original."""
    record = view.records.get(copy.original)
    if record is not None and _lives(record, name):
        return _followed(record, name, copy)
    if is_withdrawn(record, name, copy.edition) and not has_original(record, name):
        return Standing(copy.original, copy.edition, is_withdrawn=True)
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
    heirs = [
        record
        for record in view.holders(name)
        if has_original(record, name)
        and record.services[name].after == copy.original
        and record.services[name].edition.counter > copy.edition.counter
    ]
    return max(heirs, key=lambda record: (record.services[name].edition, record.name), default=None)


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


def rivals(view: View, name: str) -> Rivals | None:
    """The originals of this name, if they differ."""
    found = originals(view, name)
    digests = {record.name: record.services[name].edition.digest for record in found}
    if len(set(digests.values())) < 2:
        return None
    return Rivals(digests, max(record.services[name].edition.counter for record in found))


def is_credible(view: View, name: str, giver: str, original: str, edition: Edition) -> bool:
    """Whether to believe a giver whose copy it has: the original's node itself, or one that says what that node says.

    An orphan is believed as long as nobody who lives has an original, nor what the dead one's node said last. What was
    withdrawn is nobody's to give."""
    record = view.records.get(original)
    if is_withdrawn(record, name, edition) and not has_original(record, name):
        return False
    if original == giver:
        return True
    if record is not None and has_original(record, name):
        told = record.services[name].edition
        if edition == told or record.is_there or holders_of(view, name, told):
            return edition == told
    return not originals(view, name)


def next_edition(digest: str, now: float, *before: Edition) -> Edition:
    """The edition of what has changed: its counter is above those before."""
    counter = max(int(now), *(each.counter + 1 for each in before), 0)
    return Edition(min(counter, COUNTER_MAX), digest)


def numbered(view: View, name: str, digest: str, here: Held | None, after: str, now: float) -> Edition:
    """The edition of an original with this digest: that of what is `here`, if nothing differs, else one above it, above those
    of its copies, and above what was withdrawn."""
    if not digest:  # what can't be copied is a new edition too, if what was here before could be
        before = here.edition if here is not None else NO_EDITION
        return next_edition("", now, before) if before.digest else before
    withdrawal = view.own.withdrawn.get(name)
    last = Edition(withdrawal.counter) if withdrawal is not None else NO_EDITION
    before = here.edition if here is not None else NO_EDITION
    is_same = here is not None and here.type == STATIC and before.digest == digest and before.counter > last.counter
    return above_copies(view, name, before if is_same else next_edition(digest, now, before, last), after)


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


class Condition(NamedTuple):
    """How the services of a node stand, for whoever asks whether it is well; each a text for a person."""

    stale: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    short: tuple[str, ...] = ()


def condition(view: View) -> Condition:
    """Of our own services: old editions, copies without an original, originals that differ, and too few holders."""
    stale, orphans, differing, short = [], [], [], []
    for name, service in sorted(view.own.services.items()):
        if service.type == DYNAMIC and service.original:
            found = standing(view, name, service)
            if found.is_stale:
                stale.append(f"{name} (of {found.original})")
            if found.is_orphan:
                orphans.append(f"{name} (of {found.original})")
        elif found_rivals := rivals(view, name):
            others = ", ".join(sorted(found_rivals.digests.keys() - {view.me}))
            differing.append(f"{name} (at {others})")
        if too_few := missing(view, name):
            many = wanted(view, name)
            short.append(f"{name} ({many - too_few} of {many})")
    return Condition(tuple(stale), tuple(orphans), tuple(differing), tuple(short))


# --- what is to be done -------------------------------------------------------------------------------------------


class Lately(NamedTuple):
    """A copy of ours, all by one clock: when it came, when it was called last, since when the same nodes hold the service, when
    the last of them joined; and whether it came on demand, while there were as many holders as are wanted."""

    arrived_at: float
    called_at: float
    steady_since: float
    joined_at: float
    is_on_demand: bool = False


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


class Place(NamedTuple):
    """That node is to take a copy."""

    name: str
    node: str
    why: str


class Raise(NamedTuple):
    """Our original is to be numbered anew: copies of it are above it."""

    name: str


Errand = Renew | Go | Raise | Place


def to_renew(view: View, name: str, service: Held | None) -> Renew | None:
    """What our copy is to become, if it is stale, or follows another node now, and the new edition is to be had."""
    if service is None or service.type == STATIC or not service.original:
        return None
    found = standing(view, name, service)
    if not found.is_stale or found.newest in (service.edition, NO_EDITION):
        return None
    givers = [record for record in holders_of(view, name, found.newest) if record.name != view.me]
    return Renew(name, found.original, found.newest) if givers else None


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


def can_spare(view: View, name: str) -> bool:
    """Whether our copy may go, as far as others are concerned: as many holders of its original's service as that wants, one at
    least, are sure to be there and have their turn before it. So holders that go at the same time leave those."""
    service = view.own.services.get(name)
    if service is None or service.type == STATIC:
        return False
    return view.me in _sure(view, name, service)[max(wanted_by(view, name, service), 1) :]


def _sure(view: View, name: str, service: Service) -> list[str]:
    """Those that are sure to be there, and we, in turn."""
    return _in_turn(name, [r for r in kin(view, name, service) if r.name == view.me or (r.status == ALIVE and not r.draining)])


def kin(view: View, name: str, service: Service) -> list[Record]:
    """The living holders of that very service: whose original it is, and all that have copies of that. Another original of the
    same name is another service, and holds no place for this one."""
    return [record for record in view.holders(name) if service.original in ("", record.services[name].original or record.name)]


def wishes_to_retire(held: Lately, now: float, replica_idle: float) -> bool:
    """Whether a copy was without calls for so long, and the mesh without a change in who holds it: 0: never. Since each change
    begins that time anew, a mesh loses one idle copy of a service in `replica_idle` seconds, however its load swings."""
    quiet_since = max(held.called_at, held.steady_since, held.arrived_at)
    return replica_idle > 0 and now - quiet_since >= replica_idle and now - held.arrived_at >= RETIRE_AFTER


def to_retire(view: View, name: str, held: Lately, now: float, replica_idle: float) -> Go | None:
    """Whether our copy of this name goes, since nobody needs it.

    Never the last holder, nor one of those that its original wants; of all that are idle, one at a time, and no orphan. A copy
    that came on demand stays as long as it is called: else a load that swings would bring it again and again."""
    service = view.own.services.get(name)
    if service is None or now - held.arrived_at < RETIRE_AFTER or not service.original or not can_spare(view, name):
        return None
    holders = kin(view, name, service)
    if not held.is_on_demand and (why := _is_surplus(view, name, holders, now - held.joined_at)):
        return Go(name, "retired", why)
    if not wishes_to_retire(held, now - IDLE_TOLD_SECONDS, replica_idle):
        return None
    idle = [(r.services[name].idle_since, r.name) for r in holders if r.services[name].idle_since and _may_idle(view, name, r)]
    if not idle or min(idle)[1] != view.me:
        return None
    return Go(name, "retired", f"nobody called it for {now - held.called_at:.0f} s")


def _may_idle(view: View, name: str, record: Record) -> bool:
    return not standing(view, name, record.services[name]).is_orphan


def wanted_by(view: View, name: str, service: Service) -> int:
    """How many holders the original wants, as it said last; where nobody knows, as many as one of its copies says."""
    if service.type == STATIC:
        return service.replicas
    record = view.records.get(service.original)
    if record is not None and has_original(record, name):
        return record.services[name].replicas
    return max((record.services[name].replicas for record in kin(view, name, service)), default=service.replicas)


def _is_surplus(view: View, name: str, holders: list[Record], quiet_seconds: float) -> str:
    """Why there are too many, when ours can be spared: more are there than are wanted, and all have little to do."""
    service = view.own.services[name]
    order, wanted = _sure(view, name, service), wanted_by(view, name, service)
    is_light = all(record.load <= FULL_LOAD // 2 for record in holders)
    if wanted < 2 or not is_light:
        return ""
    behind, surplus = len(order) - 1 - order.index(view.me), len(order) - wanted
    if quiet_seconds < SURPLUS_SECONDS + SURPLUS_SPREAD_SECONDS * behind / surplus:
        return ""
    return f"{len(order)} nodes have it, and {wanted} are wanted"


def _in_turn(name: str, holders: Iterable[Record]) -> list[str]:
    """Names of holders in the order in which they count: originals, then the others around the ring from the service's name."""
    first = sorted(record.name for record in holders if has_original(record, name))
    rest = [record.name for record in holders if record.name not in first]
    return first + ring.arc(f"the service {name}", EVERYBODY, rest)  # no node is named so, and an arc begins behind its start


def is_decider(view: View, name: str) -> bool:
    """Whether this node sees to it that there are enough holders: it has the original, or, when nobody who lives has that, is
    the first of those that are left."""
    holders = view.holders(name)
    owners = [record.name for record in holders if has_original(record, name)]
    return min(owners or _in_turn(name, holders)[:1], default="") == view.me


def missing(view: View, name: str) -> int:
    """How many holders there are too few, for the node that sees to it; else 0."""
    service = view.own.services.get(name)
    if service is None or not service.replicable or service.copies == Copies.NONE:
        return 0
    too_few = wanted_by(view, name, service) - len([record for record in view.holders(name) if not record.draining])
    return too_few if too_few > 0 and is_decider(view, name) and not to_withdraw(view, name, service) else 0


def to_place(
    view: View,
    name: str,
    may_have: Callable[[Record], bool],
    busy: Collection[str],
    rng: Random,
) -> Place | None:
    """The node that is to take one more copy; None when nobody can.

    `may_have(record)`: policies let it have the service; `busy`: nodes that are at it, or have refused lately. Where there is a
    choice, on another host, in another zone of policy, where most room and least load is."""
    holders = view.holders(name)
    taken = {record.name for record in holders} | set(busy)
    open_to = [
        record
        for record in view.others_there()
        if record.status == ALIVE
        and record.name not in taken
        and not record.draining
        and record.load <= FULL_LOAD
        and may_have(record)
    ]
    hosts = [host_part(record.address) for record in holders]
    zones = [record.policy for record in holders]
    rng.shuffle(open_to)
    best = min(
        open_to,
        key=lambda r: (r.free_dynamic <= 0, hosts.count(host_part(r.address)), zones.count(r.policy), r.load),
        default=None,
    )
    if best is None:
        return None
    return Place(name, best.name, f"{len(holders)} of {wanted(view, name)} holders live")


def wanted(view: View, name: str) -> int:
    """How many living holders of a service the mesh is to keep, as its originals say; 0: as many as are called for."""
    families = {record.services[name].original or record.name: record.services[name] for record in view.holders(name)}
    return max((wanted_by(view, name, service) for service in families.values()), default=0)


# --- where it may go ----------------------------------------------------------------------------------------------


def may_have(view: View, name: str, record: Record, can_talk: Callable[[str, str], bool]) -> bool:
    """Whether a node may have a copy, by what the original's .bdcert says of that."""
    match terms(view, name):
        case Copies.NONE:
            return False
        case Copies.MEETING:
            return any(can_talk(each.name, record.name) for each in _keepers(view, name))
    return True


def terms(view: View, name: str) -> Copies:
    """The narrowest of what the originals say; those of the copies while there is no original."""
    said = {record.services[name].copies for record in _keepers(view, name)}
    return next((each for each in (Copies.NONE, Copies.MEETING) if each in said), Copies.ANY)


def _keepers(view: View, name: str) -> list[Record]:
    holders = view.holders(name)
    return [record for record in holders if has_original(record, name)] or holders
