"""Who holds a service, and how each copy stands: how STATUS tells it, and what follows from that for the service as a whole.

A node tells of each service on each node what is not usual about it (`told`), and judges each copy by what its own view says of
the original (core.copies). Whoever reads that, bdctl or the audit, has no rule of its own: it adds up the holders (`whole`).
Digests are told short, for people to compare: which edition a copy is to become, records alone say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bdserver.core import attention, copies
from bdserver.core.attention import Finding
from bdserver.core.copies import DIGEST_SHOWN, Rivals
from bdserver.core.membership import ALIVE, DYNAMIC, NO_EDITION, STATIC, SUSPECT, Copies, Edition, Record, ServiceType
from bdserver.core.messages import Status
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View


class Holder(NamedTuple):
    """How one node has a service: fields as a record's Service has them, and how a copy stands. Of a node that does not tell
    whether it is `checked`, that is not doubted."""

    type: ServiceType = STATIC
    edition: Edition = NO_EDITION
    original: str = ""
    after: str = ""
    replicas: int = 0
    copies: str = Copies.ANY
    signer: str = ""
    idle_since: int = 0
    checked: bool = True
    stale: bool = False
    orphan: bool = False
    withdrawn: bool = False

    @property
    def words(self) -> str:
        """What it is, for a person."""
        if self.type == STATIC:
            return f"original, after {self.after}" if self.after else "original"
        return f"copy of {self.original}" if self.original else "copy"

    @property
    def marks(self) -> list[str]:
        """What is not as it should be, or will not stay so, a word or two each."""
        found = [mark for mark in _STANDING if getattr(self, mark)]
        return [*found, "idle"] if self.idle_since else found


def holder(view: View, record: Record, name: str) -> Holder:
    """How that node has the service, as this view knows it."""
    return from_json(record.services[name].type, told(view, record, name))


def told(view: View, record: Record, name: str) -> dict[str, Any]:
    """The same for the wire: what is as usual stays at home, and the type is told beside it. STATUS has thousands of these."""
    service = record.services[name]
    said: dict[str, Any] = {}
    if service.edition != NO_EDITION:
        said["edition"] = [service.edition.counter, service.edition.digest[:DIGEST_SHOWN]]
    for key in _AS_RECORDED:
        if value := getattr(service, key):
            said[key] = value
    if service.copies != Copies.ANY:
        said["copies"] = service.copies
    if not service.checked:
        said["checked"] = False
    if service.type == DYNAMIC and service.original:
        stands = copies.standing(view, name, service)
        said |= {key: True for key in _STANDING if getattr(stands, f"is_{key}")}
    return said


_AS_RECORDED, _STANDING = ("original", "after", "replicas", "signer", "idle_since"), ("stale", "orphan", "withdrawn")


def as_json(held: Holder) -> dict[str, Any]:
    """Everything but the type, as `bdctl services` and the audit show it."""
    values = held._asdict()
    values.pop("type")
    return values | {"edition": list(held.edition)}


_USUAL_JSON = as_json(Holder())


def from_json(kind: ServiceType, said: Mapping[str, Any]) -> Holder:
    """What a node tells of a service of a type; core.messages has seen to the shapes, and of an older node there is nothing."""
    known = {key: said[key] for key in _USUAL_JSON if key in said}
    if "edition" in known:
        known["edition"] = Edition(*known["edition"])
    return Holder(kind, **known)


class Whole(NamedTuple):
    """A service in the mesh. `wanted`: so many living holders its originals want, or, while there is none, its copies; 0: as
    many as are called for. `newest`: the edition of its original."""

    living: int
    wanted: int
    newest: Edition
    stale: list[str]
    orphans: list[str]
    rivals: Rivals | None

    @property
    def living_of_wanted(self) -> str:
        """How many hold it, and of how many that are wanted."""
        return f"{self.living} of {self.wanted}" if self.wanted else str(self.living)

    def findings(self) -> list[Finding]:
        """What needs attention of the service as a whole."""
        rivals = self.rivals.words() if self.rivals is not None else ""
        return list(attention.of_service(self.living, self.wanted, self.stale, self.orphans, rivals))


def whole(holders: Mapping[str, Holder]) -> Whole:
    """Of the living nodes that have it."""
    originals = {node: held for node, held in holders.items() if held.type == STATIC}
    keepers = originals or holders
    return Whole(
        len(holders),
        max((held.replicas for held in keepers.values()), default=0),
        max((held.edition for held in keepers.values()), default=NO_EDITION),
        sorted(node for node, held in holders.items() if held.stale),
        sorted(node for node, held in holders.items() if held.orphan),
        copies.differing({node: held.edition for node, held in originals.items()}),
    )


def services(said: Status) -> dict[str, list[dict[str, Any]]]:
    """service -> its living holders, of the whole of a STATUS: the shape of `bdctl services --json`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for node in said.nodes:
        if node["status"] in (ALIVE, SUSPECT):
            offers = node.get("offers", {})
            for name in node["services"]:
                held = {"node": node["name"], "type": node["types"][name], "url": node["urls"][name]}
                found.setdefault(name, []).append({**held, **_USUAL_JSON, **offers.get(name, {})})
    return dict(sorted(found.items()))


def whole_of(holders: list[dict[str, Any]]) -> Whole:
    """Of the holders of one service, as `services` has them."""
    return whole({each["node"]: from_json(kind_of(each["type"]), each) for each in holders})


def kind_of(said: str) -> ServiceType:
    """What a node of any version tells."""
    return DYNAMIC if said == DYNAMIC else STATIC


def callers(said: object) -> list[tuple[str, int]]:
    """(client, calls within the last minute) of those who call a service, as a STATUS tells it, whatever came; "" is a client
    whose address is not told."""
    rows = [row for row in said if isinstance(row, list) and len(row) == 2] if isinstance(said, list) else []
    return [(client, calls) for client, calls in rows if isinstance(client, str) and type(calls) is int]
