"""Node records: what is known of one node, how it travels, and how two records of the same node become one.

`join` is commutative, associative and idempotent, so any order of gossip ends in the same records. Only the owner raises its
record's version (generation, counter: SWIM's incarnation); others may only say, at the same version, that the node is
suspect or dead. A node that hears such a word of itself jumps above that version. All records together are view's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from bdserver.core.address import PORT_MAX, host_part, join_address, split_address
from bdserver.core.names import valid_name
from bdserver.errors import BadRequest


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

VERSION_MAX = 2**53  # beyond it a JSON reader may round
AHEAD_MAX = 86400.0  # a generation is a time of start: one from more than a day ahead is a lie or a broken clock
RECORDS_MAX = 20_000
POLICIES_MAX = 1000
SERVICES_MAX = 10_000
# Lifeguard counts independent accusers up to 3 (gossip.suspicion.CONFIRMATIONS); one more tells "enough".
ACCUSERS_MAX = 4
# Shared by all records that have none: it can't be changed.
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Service(NamedTuple):
    """What the mesh knows of a service on one node."""

    type: ServiceType
    cost: float  # the weight of one hit
    url: str  # a template of its own, or "" for the node's
    replicable: bool  # False when it is registered by URL alone


class Record(NamedTuple):
    """What is known of one node. `since`: when it became what `status` says, by the clock of who said so."""

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
    extra: Mapping[str, Any] = _NOTHING

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
    status = _STATUSES.get(value.get("status", ALIVE))
    if status is None:
        raise ValueError(f"status {str(value['status'])[:20]!r}")
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
        _port(value, "web_port"),
        _port(value, "gossip_port"),
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


def _port(value: dict[str, Any], key: str) -> int:
    port: int = _typed(value, key, int, 0)
    if not 0 <= port <= PORT_MAX:
        raise ValueError(f"{key} {port}")
    return port


def _service(name: str, fields: Any) -> Service:
    if not valid_name(name):
        raise ValueError(f"a service named {name[:60]!r}")
    said, cost, url, replicable = fields[:4]
    kind = _SERVICE_TYPES.get(said)
    if kind is None or not isinstance(url, str) or type(cost) not in (int, float):
        raise ValueError(f"service {name}")
    return Service(kind, float(cost), url, bool(replicable))


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
    winner = max(a, b, key=lambda record: (record.since, _content(record)))
    accusers = tuple(sorted({*a.accusers, *b.accusers}))[:ACCUSERS_MAX]
    return winner._replace(accusers=accusers)


def _content(record: Record) -> str:
    return json.dumps(as_json(record._replace(accusers=())), sort_keys=True)
