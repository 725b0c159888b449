"""Node records, and their merge: what a node knows of the mesh, and how two such views become one.

`join` is commutative, associative and idempotent, so any order of gossip ends in the same view. Only the owner
raises its record's version (generation, counter); others may only say, at the same version, that it is suspect
or dead. A node that hears such a word of itself jumps above that version. Dead and left nodes stay as
tombstones for a day. Whom to tell what and when is discovery's business, keeping it on disk is cache's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, NamedTuple

from bdserver.core.address import host_part, split_address
from bdserver.core.names import valid_name
from bdserver.errors import BadRequest

ALIVE, SUSPECT, DEAD, LEFT = "alive", "suspect", "dead", "left"
RANK = {ALIVE: 0, SUSPECT: 1, DEAD: 2, LEFT: 3}

VERSION_MAX = 2**53  # beyond it a JSON reader may round
AHEAD_MAX = 86400.0  # a generation is a time of start: one from more than a day ahead is a lie or a broken clock
TOMBSTONE_SECONDS = 86400.0
TOMBSTONES_MAX = 2000
RECORDS_MAX = 20_000
POLICIES_MAX = 1000
SERVICES_MAX = 10_000
# Lifeguard counts independent accusers up to 3 (discovery.CONFIRMATIONS); one more tells "enough".
ACCUSERS_MAX = 4
BUCKETS = 32
# Two live nodes of one name would outbid each other for ever; this long each lets the other's word stand.
CONFLICT_PAUSE = 10.0


class Service(NamedTuple):
    """What the mesh knows of a service on one node."""

    type: str  # static or dynamic
    cost: float  # the weight of one hit
    url: str  # a template of its own, or "" for the node's
    replicable: bool  # False when it is registered by URL alone


class Record(NamedTuple):
    """What is known of one node. `since`: when it became what `status` says, by the clock of who said so."""

    name: str
    address: str
    version: tuple[int, int]
    status: str = ALIVE
    since: float = 0.0
    services: dict[str, Service] = {}
    free_dynamic: int = 0
    load: int = 0
    receiver_threshold: float = 0.0
    web_port: int = 0
    web_dir: str = ""
    service_url: str = ""
    policy: str | None = None
    draining: bool = False
    accusers: tuple[str, ...] = ()
    extra: dict[str, Any] = {}

    @property
    def is_there(self) -> bool:
        """Alive as far as anybody knows; a suspect is still asked, last."""
        return self.status in (ALIVE, SUSPECT)


def service_url(record: Record, service: str, template: str = "") -> str:
    """The URL of a service on that node, as the original's get_wsdl formed it.

    `template`: the service's own, else the node's. It comes from the mesh: only these names are filled in."""
    filled = template or record.service_url or DEFAULT_URL
    web_dir = record.web_dir.strip("/")
    if not web_dir:
        filled = filled.replace("{axis_web_dir}/", "")
    values = {
        "{host}": host_part(record.address),
        "{axis_port}": str(record.web_port),
        "{axis_web_dir}": web_dir,
        "{service}": service,
    }
    for name, value in values.items():
        filled = filled.replace(name, value)
    return filled


DEFAULT_URL = "http://{host}:{axis_port}/{axis_web_dir}/{service}?wsdl"

_KNOWN = frozenset(Record._fields) - {"extra"}


def as_json(record: Record) -> dict[str, Any]:
    """The record as it travels and lies in the cache; fields at their defaults stay at home."""
    fields = {key: getattr(record, key) for key, default in _DEFAULTS if getattr(record, key) != default}
    if record.services:
        fields["services"] = {name: list(service) for name, service in record.services.items()}
    return {**record.extra, "name": record.name, "address": record.address, "version": list(record.version), **fields}


_DEFAULTS = [(key, Record._field_defaults[key]) for key in Record._fields[3:] if key not in ("extra", "services")]


def from_json(value: object, now: float | None = None) -> Record:
    """The record that somebody sent; BadRequest names what is wrong. With `now`, absurd versions are refused."""
    if not isinstance(value, dict):
        raise BadRequest("a record must be an object")
    name = value.get("name")
    if not isinstance(name, str) or not valid_name(name):
        raise BadRequest(f"a record with the name {str(name)[:60]!r}")
    try:
        record = _parsed(name, value)
    except (TypeError, ValueError, KeyError, BadRequest) as error:
        raise BadRequest(f"the record of {name}: {error}") from None
    if now is not None and record.version[0] > now + AHEAD_MAX:
        raise BadRequest(f"the record of {name} has a version more than a day ahead: {record.version[0]}")
    return record


def _parsed(name: str, value: dict[str, Any]) -> Record:
    address = _typed(value, "address", str)
    split_address(address)
    generation, counter = _typed(value, "version", list)
    if not all(type(each) is int and 0 <= each <= VERSION_MAX for each in (generation, counter)):
        raise ValueError(f"version {generation!r}, {counter!r}"[:80])
    services = value.get("services", {})
    if not isinstance(services, dict) or len(services) > SERVICES_MAX:
        raise ValueError("services must be an object, and not too large")
    status = value.get("status", ALIVE)
    if status not in RANK:
        raise ValueError(f"status {str(status)[:20]!r}")
    accusers = value.get("accusers", ())
    if not all(isinstance(each, str) and valid_name(each) for each in accusers):
        raise ValueError("accusers must be names of nodes")
    policy = value.get("policy")
    if policy is not None and not isinstance(policy, str):
        raise ValueError("policy must be a digest")
    return Record(
        name,
        address,
        (generation, counter),
        status,
        float(_typed(value, "since", (int, float), 0.0)),
        {each: _service(each, fields) for each, fields in services.items()},
        _typed(value, "free_dynamic", int, 0),
        _typed(value, "load", int, 0),
        float(_typed(value, "receiver_threshold", (int, float), 0.0)),
        _typed(value, "web_port", int, 0),
        _typed(value, "web_dir", str, ""),
        _typed(value, "service_url", str, ""),
        policy,
        _typed(value, "draining", bool, False),
        tuple(sorted(set(accusers)))[:ACCUSERS_MAX] if status == SUSPECT else (),
        {key: each for key, each in value.items() if key not in _KNOWN},
    )


_REQUIRED: Any = object()


def _typed(value: dict[str, Any], key: str, kind: Any, default: Any = _REQUIRED) -> Any:
    found = value[key] if default is _REQUIRED else value.get(key, default)
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise ValueError(f"{key} {str(found)[:40]!r}")
    return found


def _service(name: str, fields: Any) -> Service:
    if not valid_name(name):
        raise ValueError(f"a service named {name[:60]!r}")
    kind, cost, url, replicable = fields[:4]
    if kind not in ("static", "dynamic") or not isinstance(url, str) or type(cost) not in (int, float):
        raise ValueError(f"service {name}")
    return Service(kind, float(cost), url, bool(replicable))


# --- the merge ----------------------------------------------------------------------------------------------------


def standing(record: Record) -> tuple[tuple[int, int], int]:
    """What decides first between two records of one name: the owner's version, then how bad the news is."""
    return record.version, RANK[record.status]


def join(a: Record, b: Record) -> Record:
    """The one record that two records of the same name become: a least upper bound.

    Records of equal standing differ only if two observers date a suspicion differently (or a node lies): then
    the later, then the greater text wins, everywhere the same; of a suspect, the accusers are united."""
    if standing(a) != standing(b):
        return max(a, b, key=standing)
    if a == b:
        return a
    winner = max(a, b, key=lambda record: (record.since, _content(record)))
    accusers = tuple(sorted({*a.accusers, *b.accusers}))[:ACCUSERS_MAX]
    return winner._replace(accusers=accusers)


def _content(record: Record) -> str:
    return json.dumps(as_json(record._replace(accusers=())), sort_keys=True)


def fingerprint(record: Record) -> int:
    """64 bits that differ when version or status differ: views are compared by the XOR of them."""
    text = f"{record.name} {record.version[0]} {record.version[1]} {RANK[record.status]}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def bucket(name: str) -> int:
    """Which of the BUCKETS a name falls into, the same on every node."""
    return blake2b(name.encode(), digest_size=1).digest()[0] % BUCKETS


class View:
    """All that a node knows: records by name (its own too), hints, texts of policies, when it heard of whom.

    A view is changed by one process at a time (cache's lock) and handed on as a copy; `changes` counts what
    was changed since it was read, so that nothing is saved for nothing."""

    def __init__(self, me: str, generation: int = 0) -> None:
        self.me = me
        self.generation = generation  # the last one used by this node, kept on disk before it is used
        self.records: dict[str, Record] = {}
        self.hints: set[str] = set()  # addresses that somebody told us, without a name yet
        self.policies: dict[str, str] = {}  # digest -> document
        self.heard_at: dict[str, float] = {}
        self.rival: tuple[str, float] | None = None  # another live node with our name: its address, and when
        self.changes = 0
        self._buckets: list[int] | None = None
        self._holders: dict[str, tuple[str, ...]] | None = None  # service -> names

    def copy(self) -> View:
        """A view that can be changed while others go on reading this one."""
        twin = View(self.me, self.generation)
        twin.records, twin.hints = dict(self.records), set(self.hints)
        twin.policies, twin.heard_at = dict(self.policies), dict(self.heard_at)
        twin.rival = self.rival
        twin._buckets = list(self._buckets) if self._buckets else None
        twin._holders = self._holders
        return twin

    @property
    def own(self) -> Record:
        """This node's own record."""
        return self.records[self.me]

    def others(self) -> Iterable[Record]:
        """Everybody but this node, whatever their status."""
        return (record for name, record in self.records.items() if name != self.me)

    def others_there(self) -> list[Record]:
        """Everybody but this node who is alive or suspect."""
        return [record for record in self.others() if record.is_there]

    def at_address(self, address: str) -> Record | None:
        """Who lives there, the living before the dead."""
        found = [record for record in self.records.values() if record.address == address]
        return max(found, key=lambda record: (record.is_there, record.version), default=None)

    # -- changes by the owner

    def start(self, own: Record, now: float) -> None:
        """This node's (new) start: its record with a generation above all before."""
        previous = self.records.get(self.me)
        self.generation = max(int(now), self.generation + 1, previous.version[0] + 1 if previous else 0)
        self.hints.discard(own.address)
        # Two nodes of one name that start in the same second must not have the same version, or nobody would notice.
        counter = int.from_bytes(blake2b(own.address.encode(), digest_size=2).digest(), "big")
        self._put(own._replace(name=self.me, version=(self.generation, counter), status=ALIVE), now)

    def describe(self, own: Record, now: float) -> bool:
        """Take over what this node now says of itself; True, and a raised version, if that differs."""
        previous = self.own
        if own._replace(version=previous.version, since=previous.since) == previous:
            return False
        generation, counter = previous.version
        since = now if own.status != previous.status else previous.since
        self._put(own._replace(version=(generation, counter + 1), since=since), now)
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
        if record.status in (DEAD, LEFT) and record.since < now - TOMBSTONE_SECONDS:
            return False
        known = self.records.get(record.name)
        if known is None and len(self.records) >= RECORDS_MAX:
            return False
        joined = record if known is None else join(known, record)
        if joined == known:
            return False
        self.hints.discard(joined.address)
        self._put(joined, now)
        return True

    def _refute(self, claim: Record, now: float) -> bool:
        """Somebody spreads a record of our name that is not our last word: jump above it."""
        own = self.records.get(self.me)
        if own is None or standing(claim) <= standing(own) or own.status == LEFT:
            return False
        if claim.address != own.address and claim.is_there:
            if self.rival and now - self.rival[1] < CONFLICT_PAUSE:
                return False
            self.rival = (claim.address, now)
            self.changes += 1
        generation, counter = max(claim.version, own.version)
        self.generation = max(self.generation, generation)
        self._put(own._replace(version=(generation, counter + 1)), now)
        return True

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
        return bool(gone)

    def hint(self, address: str) -> bool:
        """An address where somebody says a node is; True if nobody is known there yet."""
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
        self.policies[digest] = text
        self.changes += 1
        return True

    def unknown_policies(self) -> list[str]:
        """Digests that records mention and whose text we lack."""
        mentioned = {record.policy for record in self.records.values() if record.policy}
        return sorted(mentioned - self.policies.keys())

    def _put(self, record: Record, now: float) -> None:
        self.put(record)
        self.heard_at[record.name] = now
        self.changes += 1

    def _drop(self, name: str) -> None:
        self.remove(name)
        self.heard_at.pop(name, None)
        self.changes += 1

    # -- from the cache file: no news, just what is known

    def put(self, record: Record) -> None:
        """Hold this record, in place of another of its name."""
        before = self.records.get(record.name)
        self._fold(before)
        self._fold(record)
        self._index(before.services if before else {}, record.services, record.name)
        self.records[record.name] = record

    def remove(self, name: str) -> None:
        """Hold no record of this name; KeyError when there is none."""
        record = self.records.pop(name)
        self._fold(record)
        self._index(record.services, {}, name)

    def prepare(self) -> None:
        """Work out once what copies of this view keep up to date: each costs a look at every record."""
        self.buckets()
        self.holders("")

    # -- who has what

    def holders(self, service: str) -> list[Record]:
        """Who has a service, alive or suspect; this node too. Found without a look at every record."""
        if self._holders is None:
            found: dict[str, list[str]] = {}
            for name, record in self.records.items():
                for each in record.services:
                    found.setdefault(each, []).append(name)
            self._holders = {each: tuple(names) for each, names in found.items()}
        return [record for name in self._holders.get(service, ()) if (record := self.records[name]).is_there]

    def _index(self, before: dict[str, Service], after: dict[str, Service], name: str) -> None:
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

    def versions(self, buckets: Iterable[int]) -> dict[str, list[int]]:
        """name -> [generation, counter, rank] of all records in these buckets."""
        wanted = set(buckets)
        return {name: [*record.version, RANK[record.status]] for name, record in self.records.items() if bucket(name) in wanted}

    def newer_than(self, theirs: dict[str, list[int]], buckets: Iterable[int]) -> tuple[list[Record], list[str]]:
        """Against somebody's `versions` of these buckets: our records that stand above theirs, oldest change
        first, and the names of which theirs stand above ours."""
        ours = self.versions(buckets)
        news = [name for name, version in ours.items() if name not in theirs or version > theirs[name]]
        wanted = [name for name, version in theirs.items() if name not in ours or version > ours[name]]
        news.sort(key=lambda name: (self.heard_at.get(name, 0.0), name))
        return [self.records[name] for name in news], wanted
