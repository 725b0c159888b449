"""Node records: what is known of one node, how it travels, and how two records of the same node become one.

A record's *statement* is the text that its owner said of itself, and signed; it is passed on as it is, never written anew by
others. They may only say beside it that the node is suspect or dead at that version (generation, counter: SWIM's incarnation),
which its owner alone raises. A node that hears such a word of itself jumps above that version. `join` is commutative,
associative and idempotent, so any order of gossip ends in the same records.

Every number, text and size has its range here, made sure of when a record is read. Whether the signature fits is `net.proofs`'
business, all records together are view's.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from types import MappingProxyType
from typing import Any, Final

from bdserver.core.address import PORT_MAX, host_part, join_address, split_address
from bdserver.core.names import valid_name
from bdserver.core.tuples import NamedTuple
from bdserver.core.urls import URL_CHARACTERS_MAX, is_part, is_url
from bdserver.core.wire import read_text
from bdserver.errors import BadFrame, BadRequest, TooLarge


class Status(StrEnum):
    """What is said of a node: suspect and dead by others, alive and left by itself. A text, as in JSON."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


class ServiceType(StrEnum):
    """Whether a service was put there by somebody, or is a replica that the mesh has made."""

    STATIC = "static"
    DYNAMIC = "dynamic"


ALIVE, SUSPECT, DEAD, LEFT = Status.ALIVE, Status.SUSPECT, Status.DEAD, Status.LEFT
STATIC, DYNAMIC = ServiceType.STATIC, ServiceType.DYNAMIC
# At the same version the worse news stands; the numbers travel.
RANK: Final[Mapping[str, int]] = {ALIVE: 0, SUSPECT: 1, DEAD: 2, LEFT: 3}

VERSION_MAX = COUNTER_MAX = 2**53  # beyond it a JSON reader may round
AHEAD_MAX = 86400.0  # a generation is a time of start: one from more than a day ahead is a lie or a broken clock
RECORDS_MAX = 20_000
# Of all policies' texts together: a mesh has a few, of some kilobytes each.
POLICIES_MAX, POLICIES_CHARACTERS_MAX = 1000, 8 << 20
SERVICES_MAX = 1000
# A statement as it travels, with its quotes escaped: 1000 services with names of 40 characters and URLs of 100.
RECORD_BYTES_MAX = 256 << 10
ADDRESS_CHARACTERS_MAX, WEB_DIR_CHARACTERS_MAX = 300, 500
# As many living holders of one service as a mesh is asked to keep.
REPLICAS_MAX = 1000
# Withdrawals that a node remembers at once; the newest.
WITHDRAWN_MAX = 500
LOAD_MAX, FREE_DYNAMIC_MAX, THRESHOLD_MAX, COST_MAX = 20, 1_000_000, 1e12, 1e9
# P-256 signatures are 72 bytes at most, 96 in base64.
SIGNATURE_CHARACTERS_MAX = 100
# A certificate by bdkeys is 600 bytes, 800 in base64; one for dozens of hosts fits.
CERTIFICATE_CHARACTERS_MAX = 4096
DIGEST_CHARACTERS = 32
# Lifeguard counts independent accusers up to 3 (gossip.suspicion.CONFIRMATIONS); one more tells "enough".
ACCUSERS_MAX = 4
# Fields of records beside those that all have: of nodes that sign for others, by which CA; of all, while there are two, in
# which CAs they believe.
SIGNER, ROOTS = "signer", "roots"
# Shared by all records that have none: it can't be changed.
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Copies(StrEnum):
    """Where a service may be copied to: anywhere, to nodes whose policy meets that of its original, nowhere."""

    ANY = "any"
    MEETING = "meeting"
    NONE = "none"


class Edition(NamedTuple):
    """One state of a service: `digest` is that of its package, and `counter` is raised by the node that has the original, to
    the epoch second of the change or above the one before. Without a digest it is not known (yet), or there is nothing to
    copy."""

    counter: int = 0
    digest: str = ""


NO_EDITION = Edition()


class Service(NamedTuple):
    """What the mesh knows of a service on one node.

    `original`: of a copy, the node whose service it is; `after`: of an original, the node that had it before, where it was
    adopted or taken over; `replicas`: so many living holders its original wants; `signer`: the key of who signed this edition;
    `idle_since`: of a copy that will retire, the epoch second of its last call; `checked`: its node looks if it is well."""

    type: ServiceType
    cost: float  # the weight of one hit
    url: str  # a template of its own, or "" for the node's
    replicable: bool  # False when it is registered by URL alone
    edition: Edition = NO_EDITION
    original: str = ""
    after: str = ""
    replicas: int = 0
    copies: Copies = Copies.ANY
    signer: str = ""
    idle_since: int = 0
    checked: bool = False


class Withdrawal(NamedTuple):
    """The owner's word that a service is offered no longer, at epoch second `at`: copies of it up to this edition go."""

    counter: int
    at: int


class Record(NamedTuple):
    """What is known of one node. `since`: when it became what `status` says, by the clock of who said so.

    `said` is the text of its owner's statement, `signature` that of it in base64, `certificate` the digest of the owner's. A
    record that is not signed (yet) has no text either: its fields are the statement."""

    name: str
    address: str
    version: tuple[int, int]
    status: Status = ALIVE
    since: float = 0.0
    services: Mapping[str, Service] = _NOTHING
    free_dynamic: int = 0
    load: int = 0
    receiver_threshold: float = 0.0
    web_port: int = 0
    gossip_port: int = 0  # 0: the one behind its port
    web_dir: str = ""
    service_url: str = ""
    policy: str | None = None
    draining: bool = False
    accusers: tuple[str, ...] = ()
    withdrawn: Mapping[str, Withdrawal] = _NOTHING
    extra: Mapping[str, Any] = _NOTHING
    said: str = ""
    signature: str = ""
    certificate: str = ""

    @property
    def is_there(self) -> bool:
        """Alive as far as anybody knows; a suspect is still asked, last."""
        return self.status in (ALIVE, SUSPECT)


def gossip_address(record: Record) -> str:
    """HOST:PORT at which a node hears other nodes' news: a socket beside that of its callers."""
    host, port = split_address(record.address)
    return join_address(host, record.gossip_port or port + 1)


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

# Fields of a statement that are there only when they are not at their defaults.
_SAID = [
    (key, Record._field_defaults[key])
    for key in (
        "free_dynamic", "load", "receiver_threshold", "web_port", "gossip_port", "web_dir", "service_url", "policy", "draining",
    )
]  # fmt: skip
_KNOWN = frozenset(("name", "address", "version", "services", "withdrawn", "since", "left", *(key for key, _ in _SAID)))
# Of a service on the wire: four fields in order, then an object of those that are not at their defaults.
_ALWAYS = Service._fields[:4]
_MORE = [(key, Service._field_defaults[key]) for key in Service._fields[4:]]


def statement(record: Record) -> str:
    """What the owner says of itself, as a text to be signed; fields at their defaults stay at home."""
    fields = {key: getattr(record, key) for key, default in _SAID if getattr(record, key) != default}
    if record.status not in (SUSPECT, DEAD) and record.since:
        fields["since"] = record.since
    if record.status == LEFT:
        fields["left"] = True
    if record.services:
        fields["services"] = {name: _said_of(service) for name, service in record.services.items()}
    if record.withdrawn:
        fields["withdrawn"] = {name: list(each) for name, each in record.withdrawn.items()}
    said = {**record.extra, "name": record.name, "address": record.address, "version": list(record.version), **fields}
    return json.dumps(said, separators=(",", ":"))


def _said_of(service: Service) -> list[Any]:
    more = {key: getattr(service, key) for key, default in _MORE if getattr(service, key) != default}
    return [*service[: len(_ALWAYS)], more] if more else list(service[: len(_ALWAYS)])


def unsealed(record: Record) -> Record:
    """The record as it is before its owner has signed it: what has changed must be said anew."""
    return record._replace(said="", signature="")


def as_json(record: Record) -> dict[str, Any]:
    """The record as it travels and lies in the cache: its owner's statement, and what others say beside it."""
    value: dict[str, Any] = {"said": record.said or statement(record)}
    if record.signature:
        value["signature"] = record.signature
    if record.certificate:
        value["certificate"] = record.certificate
    if record.status in (SUSPECT, DEAD):
        value["status"], value["since"] = record.status, record.since
        if record.accusers:
            value["accusers"] = list(record.accusers)
    return value


def travelling_bytes(said: str) -> int:
    """How many bytes of a frame such a statement takes at most: within a text, quotes are escaped."""
    return len(encode_basestring_ascii(said))


def certificate_digest(text: str) -> str:
    """How nodes name a certificate to each other: the first 32 hex digits of the SHA-256 of its DER, whose base64 this is;
    "" when it is none."""
    try:
        return sha256(b64decode(text, validate=True)).hexdigest()[:DIGEST_CHARACTERS]
    except ValueError:
        return ""


def from_json(value: object) -> Record:
    """The record that somebody sent; BadRequest names what is wrong. Whether it is of our time, `untimely` tells."""
    said = value.get("said") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(said, str):
        raise BadRequest("a record must be an object with what its owner said")
    size = len(said) if len(said) > RECORD_BYTES_MAX else travelling_bytes(said)
    if size > RECORD_BYTES_MAX:
        raise BadRequest(f"a record of {size} bytes, where {RECORD_BYTES_MAX} are allowed")
    try:
        fields = read_text(said.encode())
    except (BadFrame, TooLarge, ValueError) as error:
        raise BadRequest(f"a record whose statement cannot be read: {error}") from None
    name = fields.get("name") if isinstance(fields, dict) else None
    if not isinstance(fields, dict) or not isinstance(name, str) or not valid_name(name):
        raise BadRequest(f"a record with the name {str(name)[:60]!r}")
    try:
        return _with_others_word(_parsed(name, fields), value, said)
    except (TypeError, ValueError, KeyError, BadRequest) as error:
        raise BadRequest(f"the record of {name}: {error}") from None


# Where a statement has its name: a guess, which is looked at, of what need not be read.
_NAME_IN = re.compile(r'"name":"([A-Za-z0-9._-]{1,100})"')


def named_in(value: object) -> str:
    """The name in a record that somebody sent, found without reading it; "" where none is to be seen."""
    said = value.get("said") if isinstance(value, dict) else None
    found = _NAME_IN.search(said) if isinstance(said, str) and len(said) <= RECORD_BYTES_MAX else None
    return found[1] if found is not None else ""


def restated(value: object, known: Mapping[str, Record]) -> str:
    """The name in a record that somebody sent, when it is told again in its owner's very words, with nobody else's beside them:
    it is known, and need not be read. Else ""."""
    if not isinstance(value, dict) or "status" in value:
        return ""
    record = known.get(named_in(value))
    return record.name if record is not None and record.said == value.get("said") else ""


def untimely(record: Record, now: float) -> str | None:
    """Why its times make no sense by our clock, or None."""
    ahead = record.version[0] - now
    if ahead > AHEAD_MAX:
        return f"its version is {ahead / 86400:.1f} days ahead of our clock"
    if record.since > now + AHEAD_MAX:
        return f"that it is {record.status} is dated {(record.since - now) / 86400:.1f} days ahead of our clock"
    return None


def _with_others_word(record: Record, value: dict[str, Any], said: str) -> Record:
    """What stands beside the statement. Whoever has left said so itself, and nobody knows better."""
    signature, certificate = _text(value, "signature", SIGNATURE_CHARACTERS_MAX), _text(value, "certificate", DIGEST_CHARACTERS)
    status = value.get("status", ALIVE)
    if status not in (ALIVE, SUSPECT, DEAD):
        raise ValueError(f"status {str(status)[:20]!r} is not for others to say")
    accusers = value.get("accusers", ())
    if not all(isinstance(each, str) and valid_name(each) for each in accusers):
        raise ValueError("accusers must be names of nodes")
    since = _number(value, "since", VERSION_MAX)
    if record.status != LEFT and status != ALIVE:
        known = tuple(sorted(set(accusers)))[:ACCUSERS_MAX] if status == SUSPECT else ()
        record = record._replace(status=_STATUSES[status], since=since, accusers=known)
    return record._replace(said=said if signature else "", signature=signature, certificate=certificate)


def _parsed(name: str, value: dict[str, Any]) -> Record:
    address = _typed(value, "address", str)
    if len(address) > ADDRESS_CHARACTERS_MAX:
        raise ValueError(f"an address of {len(address)} characters")
    if join_address(*split_address(address)) != address:  # else one host has many, and blanks get into URLs and logs
        raise ValueError(f"address {address[:60]!r} is not in its normal form")
    generation, counter = _typed(value, "version", list)
    if not _is_count(generation) or not _is_count(counter):
        raise ValueError(f"version {generation!r}, {counter!r}"[:80])
    services = value.get("services", {})
    if not isinstance(services, dict) or len(services) > SERVICES_MAX:
        raise ValueError(f"services must be an object of {SERVICES_MAX} at most")
    policy = value.get("policy")
    if policy is not None and (not isinstance(policy, str) or len(policy) > DIGEST_CHARACTERS):
        raise ValueError("policy must be a digest")
    return Record(
        name,
        address,
        (generation, counter),
        LEFT if _typed(value, "left", bool, False) else ALIVE,
        _number(value, "since", VERSION_MAX),
        {each: _service(each, fields) for each, fields in services.items()},
        _whole(value, "free_dynamic", FREE_DYNAMIC_MAX),
        _whole(value, "load", LOAD_MAX),
        _number(value, "receiver_threshold", THRESHOLD_MAX),
        _whole(value, "web_port", PORT_MAX),
        _whole(value, "gossip_port", PORT_MAX),
        _url_part(value, "web_dir"),
        _url_or_none("service_url", _typed(value, "service_url", str, "")),
        policy,
        _typed(value, "draining", bool, False),
        (),
        _withdrawn(value.get("withdrawn", _NOTHING)),
        _beside(value),
    )


def _beside(value: dict[str, Any]) -> Mapping[str, Any]:
    """What not all records have. What this version knows of it has its shape, since who reads it looks no further; what it does
    not know is kept as it is."""
    said = {key: each for key, each in value.items() if key not in _KNOWN}
    for key, is_right in _BESIDE.items():
        if key in said and not is_right(said[key]):
            raise ValueError(f"{key} {str(said[key])[:40]!r}")
    return said or _NOTHING


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) <= DIGEST_CHARACTERS


_BESIDE: Mapping[str, Callable[[Any], bool]] = {
    SIGNER: _is_digest,
    ROOTS: lambda value: isinstance(value, list) and all(map(_is_digest, value)),
    "unhealthy": lambda value: isinstance(value, list) and all(isinstance(each, str) and valid_name(each) for each in value),
}


_REQUIRED: Any = object()


def _typed(value: dict[str, Any], key: str, kind: Any, default: Any = _REQUIRED) -> Any:
    found = value[key] if default is _REQUIRED else value.get(key, default)
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise ValueError(f"{key} {str(found)[:40]!r}")
    return found


def _text(value: dict[str, Any], key: str, characters_max: int) -> str:
    text: str = _typed(value, key, str, "")
    if len(text) > characters_max:
        raise ValueError(f"{key} of {len(text)} characters")
    return text


def _url_part(value: dict[str, Any], key: str) -> str:
    text = _text(value, key, WEB_DIR_CHARACTERS_MAX)
    if not is_part(text):
        raise ValueError(f"{key} {text[:40]!r}")
    return text


def _url_or_none(what: str, text: str) -> str:
    if text and (len(text) > URL_CHARACTERS_MAX or not _is_url(text)):
        raise ValueError(f"{what}: {text[:60]!r}")
    return text


# A node says the same of its services with each change of its load.
_is_url = lru_cache(maxsize=1024)(is_url)


def _whole(value: dict[str, Any], key: str, most: int) -> int:
    number: int = _typed(value, key, int, 0)
    if not 0 <= number <= most:
        raise ValueError(f"{key} {number}")
    return number


def _number(value: dict[str, Any], key: str, most: float) -> float:
    return _in_range(key, _typed(value, key, (int, float), 0.0), most)


def _in_range(what: str, number: float, most: float) -> float:
    """A float from 0 to the most; a whole number may be too large to become one, and NaN is not within any range."""
    if not 0 <= number <= most or not math.isfinite(number):
        raise ValueError(f"{what} {str(number)[:40]}")
    return float(number)


def _service(name: str, fields: Any) -> Service:
    if not valid_name(name):
        raise ValueError(f"a service named {name[:60]!r}")
    said, cost, url, replicable = fields[:4]
    more = fields[4] if len(fields) > 4 else {}
    kind = _SERVICE_TYPES.get(said)
    if kind is None or not isinstance(url, str) or type(cost) not in (int, float):
        raise ValueError(f"service {name}")
    if not isinstance(more, dict):
        raise ValueError(f"service {name}: {str(more)[:40]!r} behind its four fields")
    url = _url_or_none(f"the URL of {name}", url)
    service = Service(kind, _in_range(f"the cost of {name}", cost, COST_MAX), url, bool(replicable))
    return _with_more(service, more) if more else service


def _with_more(service: Service, said: dict[str, Any]) -> Service:
    counter, digest = _typed(said, "edition", (list, tuple), NO_EDITION)
    if not _is_count(counter) or not isinstance(digest, str) or len(digest) > DIGEST_CHARACTERS:
        raise ValueError(f"edition {counter!r}, {digest!r}"[:80])
    return service._replace(
        edition=Edition(counter, digest),
        original=_node_or_none(said, "original"),
        after=_node_or_none(said, "after"),
        replicas=_whole(said, "replicas", REPLICAS_MAX),
        copies=Copies(said.get("copies", Copies.ANY)),
        signer=_text(said, "signer", DIGEST_CHARACTERS),
        idle_since=_whole(said, "idle_since", VERSION_MAX),
        checked=_typed(said, "checked", bool, False),
    )


def _node_or_none(said: dict[str, Any], key: str) -> str:
    name = _text(said, key, ADDRESS_CHARACTERS_MAX)
    if name and not valid_name(name):
        raise ValueError(f"{key} {name[:60]!r}")
    return name


def _withdrawn(said: Any) -> Mapping[str, Withdrawal]:
    if not isinstance(said, Mapping) or len(said) > WITHDRAWN_MAX:
        raise ValueError(f"withdrawn must be an object of {WITHDRAWN_MAX} at most")
    found = {}
    for name, (counter, at) in said.items():
        if not valid_name(name) or not _is_count(counter) or not _is_count(at):
            raise ValueError(f"withdrawn {name[:60]!r}")
        found[name] = Withdrawal(counter, at)
    return found or _NOTHING


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= VERSION_MAX


# --- our own record -----------------------------------------------------------------------------------------------


def raised(version: tuple[int, int]) -> tuple[int, int]:
    """The version above this one; a counter that has reached its end begins anew in the next generation, so that whatever a
    node hears, what it says itself stays within the range."""
    generation, counter = version
    return (generation, counter + 1) if counter < VERSION_MAX else (generation + 1, 0)


def fitting(record: Record) -> tuple[Record, list[str]]:
    """Our own record as others will take it, and the services that had to be left out: beyond a limit, or those last by name
    that there is no room for."""
    names = sorted(name for name, each in record.services.items() if _is_sayable(name, each))[:SERVICES_MAX]
    room = RECORD_BYTES_MAX - travelling_bytes(statement(record._replace(services=_NOTHING))) - GROWTH_BYTES
    for number, name in enumerate(names):
        room -= len(name) + SERVICE_BYTES_BESIDE + travelling_bytes(json.dumps(_said_of(record.services[name])))
        if room < 0:
            names = names[:number]
            break
    if len(names) == len(record.services):
        return record, []
    kept = {name: record.services[name] for name in names}
    return record._replace(services=kept), sorted(record.services.keys() - kept.keys())


# Of a service beside its name and what is said of it: quotes and commas. What the rest may grow by (a version, a load).
SERVICE_BYTES_BESIDE, GROWTH_BYTES = 8, 1000


def _is_sayable(name: str, service: Service) -> bool:
    try:
        return bool(_service(name, _said_of(service)))
    except ValueError:
        return False


_STATUSES = {status.value: status for status in Status}
_SERVICE_TYPES = {kind.value: kind for kind in ServiceType}


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
    winner = max(a, b, key=lambda record: (record.since, _content(record), record.signature))
    accusers = tuple(sorted({*a.accusers, *b.accusers}))[:ACCUSERS_MAX]
    return winner._replace(accusers=accusers)


def _content(record: Record) -> str:
    return record.said or statement(record)
