"""How many nodes are to have a service, and which: who may go, who is to take one more copy, who sees to it.

Who it is follows from a view, and from the *turn* of those that have the service, which is the same on every node: originals,
then the others around the ring from the service's name. Those with the first turns stay, as many as the original wants, one at
least; so holders that go at the same time leave those. Whether there are enough, the first of all sees to: the node that has
the original or, while that is gone, the holder with the first turn. What a copy is a copy of is the business of copies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random

from bdserver.core.address import host_part
from bdserver.core.copies import Go, Raise, Renew, has_original, rivals, standing, to_withdraw
from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip import ring
from bdserver.core.membership import ALIVE, DYNAMIC, STATIC, Copies, Record, Service
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View
from bdserver.core.weight import FULL_LOAD, RETIRE_AFTER

# A copy that is about to retire has told the mesh so for this long: of those that wish to, the one that was called longest
# ago goes, and the others hear of it.
IDLE_TOLD_SECONDS = 5.0
# For how long nobody has joined the holders before those that are too many go: the last in turn first, the others spread over
# the time after it, so that whoever sees another turn has heard better by then; and a minute is not over.
SURPLUS_SECONDS, SURPLUS_SPREAD_SECONDS = 15.0, 30.0


class Lately(NamedTuple):
    """A copy of ours, all by one clock: when it came, when it was called last, since when the same nodes hold the service, when
    the last of them joined; and whether it came on demand, while there were as many holders as are wanted."""

    arrived_at: float
    called_at: float
    steady_since: float
    joined_at: float
    is_on_demand: bool = False


class Place(NamedTuple):
    """That node is to take a copy."""

    name: str
    node: str
    why: str


Errand = Renew | Go | Raise | Place


# --- who has it, and in which turn ---------------------------------------------------------------------------------


def kin(view: View, name: str, service: Service) -> list[Record]:
    """The living holders of that very service: whose original it is, and all that have copies of that. Another original of the
    same name is another service, and holds no place for this one."""
    return [record for record in view.holders(name) if service.original in ("", record.services[name].original or record.name)]


def _in_turn(name: str, holders: Iterable[Record]) -> list[str]:
    """Names of holders in the order in which they count: originals, then the others around the ring from the service's name."""
    first = sorted(record.name for record in holders if has_original(record, name))
    rest = [record.name for record in holders if record.name not in first]
    return first + ring.arc(f"the service {name}", EVERYBODY, rest)  # no node is named so, and an arc begins behind its start


def _sure(view: View, name: str, service: Service) -> list[str]:
    """Those that are sure to be there, and we, in turn."""
    return _in_turn(name, [r for r in kin(view, name, service) if r.name == view.me or (r.status == ALIVE and not r.draining)])


def wanted_by(view: View, name: str, service: Service) -> int:
    """How many holders the original wants, as it said last; where nobody knows, as many as one of its copies says."""
    if service.type == STATIC:
        return service.replicas
    record = view.records.get(service.original)
    if record is not None and has_original(record, name):
        return record.services[name].replicas
    return max((record.services[name].replicas for record in kin(view, name, service)), default=service.replicas)


def wanted(view: View, name: str) -> int:
    """How many living holders of a service the mesh is to keep, as its originals say; 0: as many as are called for."""
    families = {record.services[name].original or record.name: record.services[name] for record in view.holders(name)}
    return max((wanted_by(view, name, service) for service in families.values()), default=0)


# --- too many -----------------------------------------------------------------------------------------------------


def can_spare(view: View, name: str) -> bool:
    """Whether our copy may go, as far as others are concerned: as many holders of its original's service as that wants, one at
    least, are sure to be there and have their turn before it. So holders that go at the same time leave those."""
    service = view.own.services.get(name)
    if service is None or service.type == STATIC:
        return False
    return view.me in _sure(view, name, service)[max(wanted_by(view, name, service), 1) :]


def shut_out(view: View, name: str, are_apart: Callable[[str, str], bool]) -> str:
    """Why our copy may not be here any more, as its original's .bdcert says now; "" while it may, and while its original is not
    sure to be there to serve in its place. `are_apart(a, b)`: it is known that the policies of these two nodes don't meet."""
    service = view.own.services.get(name)
    record = view.records.get(service.original) if service is not None and service.type == DYNAMIC else None
    if record is None or not has_original(record, name) or record.status != ALIVE or record.draining:
        return ""
    match record.services[name].copies:
        case Copies.NONE:
            return f"{record.name} wants no copies of it any more"
        case Copies.MEETING if are_apart(record.name, view.me):
            return f"our policy does not meet that of {record.name}, which wants copies where it does"
    return ""


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


# --- too few ------------------------------------------------------------------------------------------------------


def is_decider(view: View, name: str) -> bool:
    """Whether this node sees to it that there are enough holders: it has the original, of several the one that wants most, or,
    when nobody who lives has that, is the first of those that are left."""
    holders = view.holders(name)
    owners = [(-record.services[name].replicas, record.name) for record in holders if has_original(record, name)]
    decider = min(owners)[1] if owners else next(iter(_in_turn(name, holders)), "")
    return decider == view.me


def missing(view: View, name: str) -> int:
    """How many holders there are too few that another node could become, for the node that sees to it; else 0. What nobody has
    numbered yet may be half there."""
    service = view.own.services.get(name)
    if service is None or not service.replicable or not service.edition.digest or service.copies == Copies.NONE:
        return 0
    return lacking(view, name, service)


def lacking(view: View, name: str, service: Service) -> int:
    """How many holders of what we have there are too few, for the node that sees to it, whether there can be more or not."""
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


# --- in words -----------------------------------------------------------------------------------------------------


class Condition(NamedTuple):
    """How the services of a node stand, for whoever asks whether it is well; each a text for a person."""

    stale: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    for_others: tuple[str, ...] = ()


def is_for_others(view: View, name: str, service: Service) -> bool:
    """Whether more nodes than ours, which has its original, are to have it, or have it still."""
    if service.type == DYNAMIC or service.copies == Copies.NONE:
        return False
    return service.replicas > 1 or any(record.services[name].original == view.me for record in view.holders(name))


def condition(view: View) -> Condition:
    """Of our own services: old editions, copies without an original, originals that differ, too few holders; and those that
    others are to have."""
    stale, orphans, differing, short, for_others = [], [], [], [], []
    for name, service in sorted(view.own.services.items()):
        if service.type == DYNAMIC and service.original:
            found = standing(view, name, service)
            if found.is_stale:
                stale.append(f"{name} (of {found.original})")
            if found.is_orphan:
                orphans.append(f"{name} (of {found.original})")
        elif found_rivals := rivals(view, name):
            differing.append(f"{name}, at {found_rivals.words(view.me)}")
        if too_few := lacking(view, name, service):
            many = wanted(view, name)
            short.append(f"{name} ({many - too_few} of {many})")
        if is_for_others(view, name, service):
            for_others.append(name)
    return Condition(tuple(stale), tuple(orphans), tuple(differing), tuple(short), tuple(for_others))
