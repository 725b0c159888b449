"""All that a node knows of the mesh, and what is asked of it: who is there, who has a service, where two views differ.

A view changes by the owner's word (`start`, `describe`), by what this node observes (`accuse`, `bury`) and by what it hears
(`merge`, with a refutation of whatever is said of ourselves). Its digests and its index of holders are kept up to date by
each change, so that neither costs a look at every record. What a record is, and how two of them become one, is
membership's business; whom to tell what and when is gossip's; keeping a view on disk is cache's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from operator import attrgetter

from bdserver.core import statements
from bdserver.core.membership import (
    ACCUSERS_MAX,
    AHEAD_MAX,
    ALIVE,
    DEAD,
    LEFT,
    POLICIES_CHARACTERS_MAX,
    POLICIES_MAX,
    RANK,
    RECORDS_MAX,
    SUSPECT,
    Record,
    Service,
    join,
    raised,
    standing,
    unsealed,
)
from bdserver.core.statements import Revocations, Statement
from bdserver.core.tuples import NamedTuple

NO_REVOCATIONS = Revocations(())
TOMBSTONE_SECONDS = 86400.0
TOMBSTONES_MAX = 2000
BUCKETS = 32
# Two live nodes of one name would outbid each other for ever; this long each lets the other's word stand.
CONFLICT_PAUSE = 10.0
# One that is not heard of for so long, where each outbids the other at least with every round, is there no longer.
RIVAL_SECONDS = 120.0


def fingerprint(record: Record) -> int:
    """64 bits that differ when version or status differ: views are compared by the XOR of them."""
    text = f"{record.name} {record.version[0]} {record.version[1]} {RANK[record.status]}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def bucket(name: str) -> int:
    """Which of the BUCKETS a name falls into, the same on every node."""
    return blake2b(name.encode(), digest_size=1).digest()[0] % BUCKETS


class Change(NamedTuple):
    """What a view says of one node, and what another one said before; None: nothing."""

    before: Record | None
    now: Record | None

    @property
    def name(self) -> str:
        """Of the node."""
        return (self.now or self.before or _NOBODY).name

    @property
    def is_of_company(self) -> bool:
        """Whether it is about who is there, where, or on which terms, and not about what a node offers or carries."""
        return self.before is None or self.now is None or _TERMS(self.before) != _TERMS(self.now)


_NOBODY = Record("nobody", "nowhere:0", (0, 0))
_TERMS = attrgetter("status", "address", "gossip_port", "policy")


def changes(seen: Mapping[str, Record], now: Mapping[str, Record]) -> list[Change]:
    """What the records of a later view say that those of an earlier one did not. One look at every record."""
    found = [Change(seen.get(name), record) for name, record in now.items() if seen.get(name) is not record]
    return found + [Change(seen[name], None) for name in seen.keys() - now.keys()]


class Rival(NamedTuple):
    """Another live node of our name: where, when it was heard of last, and the digest of its certificate (its text is kept)."""

    address: str
    at: float
    certificate: str = ""


class View:
    """All that a node knows: records by name (its own too), hints, texts of policies, when it heard of whom.

    A view is changed by one process at a time (cache's lock) and handed on as a copy; `changes` counts what
    was changed since it was read, so that nothing is saved for nothing, and `touched` names the nodes that are to be saved."""

    def __init__(self, me: str, generation: int = 0) -> None:
        self.me = me
        self.generation = generation  # the last one used by this node, kept on disk before it is used
        self.records: dict[str, Record] = {}
        self.hints: set[str] = set()  # addresses that somebody told us, without a name yet
        self.policies: dict[str, str] = {}  # digest -> document
        self.certificates: dict[str, str] = {}  # digest -> DER in base64, of the nodes whose records are here
        self.statements: dict[str, Statement] = {}  # id -> what is said of certificates: revoked, rolled
        self.heard_at: dict[str, float] = {}
        self.rival: Rival | None = None
        self.changes = 0
        self.touched: set[str] = set()  # of which nodes, since this copy was made
        self._buckets: list[int] | None = None
        self._holders: dict[str, tuple[str, ...]] | None = None  # service -> names
        self._revocations: tuple[tuple[int, str], Revocations] = (0, ""), NO_REVOCATIONS

    def copy(self) -> View:
        """A view that can be changed while others go on reading this one."""
        twin = View(self.me, self.generation)
        twin.records, twin.hints = dict(self.records), set(self.hints)
        twin.policies, twin.heard_at = dict(self.policies), dict(self.heard_at)
        twin.certificates, twin.statements = dict(self.certificates), dict(self.statements)
        twin.rival = self.rival
        twin._buckets = list(self._buckets) if self._buckets else None
        twin._holders, twin._revocations = self._holders, self._revocations
        return twin

    @property
    def own(self) -> Record:
        """This node's own record."""
        return self.records[self.me]

    def others(self) -> Iterable[Record]:
        """Everybody but this node, whatever their status."""
        return (record for name, record in self.records.items() if name != self.me)

    def others_there(self) -> list[Record]:
        """Every other node that is alive or suspect."""
        return [record for record in self.others() if record.is_there]

    def at_address(self, address: str) -> Record | None:
        """The record of the node at this address, the living before the dead; None when there is none."""
        found = [record for record in self.records.values() if record.address == address]
        return max(found, key=lambda record: (record.is_there, record.version), default=None)

    # -- changes by the owner

    def start(self, own: Record, now: float) -> None:
        """This node's (new) start: its record with a generation above all before, but for those that a wrong clock has made: no
        node takes what lies more than a day ahead."""
        previous = self.records.get(self.me)
        used = self.generation, previous.version[0] if previous else 0
        self.generation = max([int(now), *(each + 1 for each in used if each < now + AHEAD_MAX)])
        self.hints.discard(own.address)
        # Two nodes of one name that start in the same second must not have the same version, or nobody would notice.
        counter = int.from_bytes(blake2b(own.address.encode(), digest_size=2).digest(), "big")
        since = min(own.since, now)  # what a wrong clock has dated is not believed, either
        fresh = own._replace(name=self.me, version=(self.generation, counter), status=ALIVE, since=since)
        self._put(unsealed(fresh), now)

    def describe(self, own: Record, now: float) -> bool:
        """Take over what this node now says of itself; True, and a raised version, if that differs."""
        previous = self.own
        if unsealed(own._replace(version=previous.version, since=previous.since)) == unsealed(previous):
            return False
        since = now if own.status != previous.status else previous.since
        self._put(unsealed(own._replace(version=raised(previous.version), since=since)), now)
        return True

    # -- changes by observers

    def accuse(self, name: str, now: float) -> bool:
        """This node found that one silent or gone: it is suspect, and this node an accuser, if there are not enough."""
        record = self.records[name]
        if not record.is_there or self.me in record.accusers or len(record.accusers) >= ACCUSERS_MAX:
            return False
        since = record.since if record.status == SUSPECT else now
        accusers = (*record.accusers, self.me)
        return self.merge(record._replace(status=SUSPECT, since=since, accusers=accusers), now)

    def bury(self, name: str, now: float) -> bool:
        """The suspicion ran out: it is dead, at the version that it last had."""
        record = self.records[name]
        return self.merge(record._replace(status=DEAD, since=now, accusers=()), now)

    def merge(self, record: Record, now: float) -> bool:
        """Join a record into the view; True if that was news. Our own name's is refuted, not taken."""
        if record.name == self.me:
            return self._refute(record, now)
        joined = self._joined(record, now)
        if joined is None:
            return False
        self.hints.discard(joined.address)
        self._put(joined, now)
        return True

    def is_news(self, record: Record, now: float) -> bool:
        """Whether a record, if it is believed, changes anything here."""
        if record.name == self.me:
            return self._is_above_ours(record)
        return self._joined(record, now) is not None

    def _joined(self, record: Record, now: float) -> Record | None:
        """What is known with this record; None when that is nothing new, or there is no room for it."""
        if record.status in (DEAD, LEFT) and record.since < now - TOMBSTONE_SECONDS:
            return None
        known = self.records.get(record.name)
        if known is None:
            return record if len(self.records) < RECORDS_MAX else None
        joined = join(known, record)
        return joined if joined != known else None

    def _is_above_ours(self, claim: Record) -> bool:
        own = self.records.get(self.me)
        return own is not None and standing(claim) > standing(own) and own.status != LEFT

    def _refute(self, claim: Record, now: float) -> bool:
        """Somebody spreads a record of our name that is not our last word: jump above it. That we are suspect or dead anybody
        may say; a newer version only somebody with our name in a certificate."""
        if not self._is_above_ours(claim):
            return False
        own = self.own
        if claim.address != own.address and claim.is_there:
            if self.rival and 0 <= now - self.rival.at < CONFLICT_PAUSE:  # a clock may be put back
                return False
            self.rival = Rival(claim.address, now, claim.certificate)
            self.changes += 1
        version = raised(max(claim.version, own.version))
        self.generation = max(self.generation, version[0])
        self._put(unsealed(own._replace(version=version)), now)
        return True

    def living_rival(self, now: float) -> Rival | None:
        """Another live node of our name, as far as is known now."""
        return self.rival if self.rival is not None and 0 <= now - self.rival.at < RIVAL_SECONDS else None

    def forget(self, name: str) -> bool:
        """Drop a record altogether (an administrator's wish; gossip may bring it back)."""
        if name == self.me or name not in self.records:
            return False
        self._drop(name)
        return True

    def expire(self, now: float) -> bool:
        """Drop tombstones that are over a day old, and the oldest ones beyond their number."""
        tombs = sorted((r.since, r.name) for r in self.others() if r.status in (DEAD, LEFT))
        beyond = max(len(tombs) - TOMBSTONES_MAX, 0)
        gone = [name for i, (since, name) in enumerate(tombs) if i < beyond or since < now - TOMBSTONE_SECONDS]
        for name in gone:
            self._drop(name)
        used = {record.policy for record in self.records.values()}
        for digest in [digest for digest in self.policies if digest not in used]:
            del self.policies[digest]
            self.changes += 1
        self._drop_certificates()
        over = [each for each, statement in self.statements.items() if statements.untimely(statement, now) is not None]
        for each in over:
            del self.statements[each]
            self.changes += 1
        return bool(gone or over)

    def _drop_certificates(self) -> None:
        """Of nodes that are known no more, or have a newer one."""
        used = {record.certificate for record in self.records.values()}
        used.add(self.rival.certificate if self.rival is not None else "")
        for digest in [digest for digest in self.certificates if digest not in used]:
            del self.certificates[digest]
            self.changes += 1

    def hint(self, address: str) -> bool:
        """Note an address where somebody says a node is; True if none is known there yet."""
        known = self.at_address(address)
        if address in self.hints or (known is not None and known.is_there) or len(self.hints) >= RECORDS_MAX:
            return False
        self.hints.add(address)
        self.changes += 1
        return True

    def unhint(self, address: str) -> bool:
        """Forget a hinted address."""
        if address not in self.hints:
            return False
        self.hints.discard(address)
        self.changes += 1
        return True

    def learn_policy(self, digest: str, text: str) -> bool:
        """Keep a policy's text (whose digest the caller has checked)."""
        if digest in self.policies or len(self.policies) >= POLICIES_MAX:
            return False
        if sum(map(len, self.policies.values())) + len(text) > POLICIES_CHARACTERS_MAX:
            return False
        self.policies[digest] = text
        self.changes += 1
        return True

    def learn_certificate(self, digest: str, text: str) -> bool:
        """Keep the certificate of a node whose record is here (the caller has checked digest and size)."""
        if digest in self.certificates:
            return False
        self.certificates[digest] = text
        self.changes += 1
        return True

    # -- what is said of certificates

    def state(self, statement: Statement, now: float) -> bool:
        """Take a statement in, which the caller has proved; True if that is news."""
        is_known = statement.id in self.statements
        if is_known or statements.untimely(statement, now) is not None or not statements.has_room(self.statements, statement):
            return False
        self.statements[statement.id] = statement
        self.changes += 1
        return True

    def unstate(self, id_: str) -> None:
        """Forget a statement that has done its work."""
        if self.statements.pop(id_, None) is not None:
            self.changes += 1

    @property
    def revocations(self) -> Revocations:
        """Who is revoked, and how the CA was rolled: worked out once for the statements that are here."""
        if not self.statements:
            return NO_REVOCATIONS
        known = len(self.statements), next(reversed(self.statements))  # what is taken out, or put in, changes one of the two
        if known != self._revocations[0]:
            self._revocations = known, Revocations(self.statements.values())
        return self._revocations[1]

    def repeat(self, now: float) -> None:
        """Say our own record once more, at a higher version: it carries young statements to everybody."""
        own = self.own
        self._put(unsealed(own._replace(version=raised(own.version))), now)

    def seal(self, seal: Callable[[Record], Record]) -> None:
        """Have our own record signed, if it has changed since it was."""
        own = self.records.get(self.me)
        if own is not None and not own.said and (sealed := seal(own)) is not own:
            self.put(sealed)
            self.changes += 1

    def unknown_policies(self) -> list[str]:
        """Digests that records mention and whose text we lack."""
        mentioned = {record.policy for record in self.records.values() if record.policy}
        return sorted(mentioned - self.policies.keys())

    def _put(self, record: Record, now: float) -> None:
        self.put(record)
        self.heard(record.name, now)
        self.changes += 1

    def _drop(self, name: str) -> None:
        self.remove(name)
        self.heard_at.pop(name, None)
        self.changes += 1

    def heard(self, name: str, now: float) -> None:
        """This node has spoken, or somebody of it; noted, and saved with the next change."""
        self.heard_at[name] = now
        self.touched.add(name)

    # -- from the cache file: no news, just what is known

    def put(self, record: Record) -> None:
        """Hold this record, in place of another of its name."""
        before = self.records.get(record.name)
        self._fold(before)
        self._fold(record)
        self._index(before.services if before else {}, record.services, record.name)
        self.records[record.name] = record
        self.touched.add(record.name)

    def remove(self, name: str) -> None:
        """Hold no record of this name; KeyError when there is none."""
        record = self.records.pop(name)
        self.touched.add(name)
        self._fold(record)
        self._index(record.services, {}, name)

    def prepare(self) -> None:
        """Work out once what copies of this view keep up to date: each costs a look at every record."""
        self.buckets()
        self.holders("")

    # -- who has what

    def holders(self, service: str) -> list[Record]:
        """The nodes that have a service, alive or suspect, this node too: found without a look at every record."""
        return [record for record in self.having(service) if record.is_there]

    def dead_holders(self, service: str) -> list[Record]:
        """Those that had it when they were last heard of."""
        return [record for record in self.having(service) if record.status == DEAD]

    def having(self, service: str) -> list[Record]:
        """The nodes that have it, or had it when they were last heard of."""
        if self._holders is None:
            found: dict[str, list[str]] = {}
            for name, record in self.records.items():
                for each in record.services:
                    found.setdefault(each, []).append(name)
            self._holders = {each: tuple(names) for each, names in found.items()}
        return [self.records[name] for name in self._holders.get(service, ())]

    def _index(self, before: Mapping[str, Service], after: Mapping[str, Service], name: str) -> None:
        """Copies of this view share the index: it is replaced, never changed."""
        if self._holders is None or before.keys() == after.keys():
            return
        self._holders = dict(self._holders)
        for service in before.keys() - after.keys():
            self._holders[service] = tuple(each for each in self._holders[service] if each != name)
            if not self._holders[service]:
                del self._holders[service]
        for service in after.keys() - before.keys():
            self._holders[service] = (*self._holders.get(service, ()), name)

    # -- comparing views

    def _fold(self, record: Record | None) -> None:
        if record is not None and self._buckets is not None:
            self._buckets[bucket(record.name)] ^= fingerprint(record)

    def buckets(self) -> list[int]:
        """An order-free digest of each bucket of names."""
        if self._buckets is None:
            self._buckets = [0] * BUCKETS
            for record in self.records.values():
                self._fold(record)
        return list(self._buckets)

    def digest(self) -> str:
        """One text that two views share when, as good as certainly, they hold the same versions and states."""
        return blake2b(repr(self.buckets()).encode(), digest_size=8).hexdigest()

    def versions(self, buckets: Iterable[int]) -> dict[int, dict[str, list[int]]]:
        """Of each of these buckets name -> [generation, counter, rank] of all records in it."""
        found: dict[int, dict[str, list[int]]] = {number: {} for number in buckets}
        for name, record in self.records.items():
            if (rows := found.get(bucket(name))) is not None:
                rows[name] = [*record.version, RANK[record.status]]
        return found

    def newer_than(self, theirs: dict[str, list[int]], buckets: Iterable[int]) -> tuple[list[Record], list[str]]:
        """Against somebody's `versions` of these buckets: our records that stand above theirs, oldest change
        first, and the names of which theirs stand above ours."""
        ours = {name: version for rows in self.versions(buckets).values() for name, version in rows.items()}
        news = [name for name, version in ours.items() if name not in theirs or version > theirs[name]]
        wanted = [name for name, version in theirs.items() if name not in ours or version > ours[name]]
        news.sort(key=lambda name: (self.heard_at.get(name, 0.0), name))
        return [self.records[name] for name in news], wanted
