"""The meaning of a crawl: states, edges, zones of policy, totals, disagreements, what needs attention. Pure.

Page, pictures, metrics and JSON all show this one thing, so they cannot differ from each other.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from bdserver.audit.crawl import UNVISITED, Crawl, Offer, Sight
from bdserver.audit.lately import Lately
from bdserver.core import attention, holding, policy
from bdserver.core.attention import Finding
from bdserver.core.holding import Whole
from bdserver.core.membership import ALIVE, DEAD, LEFT, RANK, STATIC, SUSPECT
from bdserver.core.tuples import NamedTuple
from bdserver.core.weight import FULL_LOAD
from bdserver.errors import BDError, CantFind

GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"
# The words of an edge from A to B; the colours are the original's.
EDGES = {
    GREEN: "A knows B, and their policies meet",
    YELLOW: "A knows B, and their policies do not meet",
    ORANGE: "A knows B, and B did not answer this audit",
    RED: "A does not know B, or takes it for dead though it answered",
}
UNKNOWN_POLICY = "not known here"


class Node(NamedTuple):
    """One node, by its own word where it answered, else by what others say."""

    name: str
    address: str
    state: str  # a Status
    has_answered: bool
    failure: str  # why it was asked in vain; "" when it was not
    is_overloaded: bool
    is_draining: bool
    weight: float | None
    receiver_threshold: float
    load: float  # share of the threshold; by the step that it tells others, where it did not answer
    free_dynamic: int | None
    uptime: float | None
    software: str
    days_left: float | None
    zone: int
    services: dict[str, Offer]
    complaints: list[str]
    findings: list[Finding]  # what needs attention: what it says itself, or what others see of it
    rival: str | None
    signer: str = ""  # who has signed its certificate, and renews it; "" when that is done by hand


class Zone(NamedTuple):
    """Nodes with one and the same policy."""

    shown: str
    names: list[str]
    policy: policy.Policy | None
    is_known: bool

    @property
    def key(self) -> str:
        """A short name for it, which stays as long as the policy does."""
        return hashlib.sha256(self.shown.encode()).hexdigest()[:8]


class ServiceTotal(NamedTuple):
    """A service in the whole mesh."""

    name: str
    weight: float
    share: float  # of the weight of the system
    static: int
    dynamic: int
    holders: list[str]
    sick: list[str]
    whole: Whole
    calls: int | None = None  # within the last minute, as far as its holders tell


class Snapshot:
    """The mesh as one crawl saw it."""

    def __init__(self, crawl: Crawl):
        self.crawl = crawl
        self.lately = Lately(crawl)
        self.taken_at, self.seconds, self.entry = crawl.taken_at, crawl.seconds, crawl.entry
        self.mesh = crawl.statuses[crawl.entry].mesh
        self.mode = crawl.statuses[crawl.entry].policy_mode
        self.zones: list[Zone] = []
        self._zone_of: dict[str | None, int] = {}
        self.nodes = [self._node(name) for name in sorted(self._names())]
        self.by_name = {node.name: node for node in self.nodes}
        self.services = self._services()
        self.by_service = {service.name: service for service in self.services}

    def _names(self) -> set[str]:
        return self.crawl.statuses.keys() | {name for sights in self.crawl.sights.values() for name in sights}

    # -- nodes

    def _node(self, name: str) -> Node:
        best = self._best_sight(name)
        own, heard = self.crawl.statuses.get(name), self.crawl.hearsay.get(name)
        zone = self._zone(name)
        if own is not None:
            return Node(
                name=name,
                address=own.address,
                state=ALIVE,
                has_answered=True,
                failure="",
                is_overloaded=own.is_overloaded,
                is_draining=own.is_draining,
                weight=own.weight,
                receiver_threshold=own.receiver_threshold,
                load=own.weight / own.receiver_threshold if own.receiver_threshold else 0.0,
                free_dynamic=own.free_dynamic,
                uptime=own.uptime,
                software=own.software,
                days_left=own.days_left,
                zone=zone,
                services=own.services,
                complaints=own.complaints,
                findings=own.findings,
                rival=own.rival,
                signer=own.signer,
            )
        state = best.status if best.status != UNVISITED else DEAD
        load = heard.load / FULL_LOAD if heard and state in (ALIVE, SUSPECT) else 0.0
        failure = self.crawl.failures.get(name, ("", ""))[1]
        return Node(
            name=name,
            address=best.address,
            state=state,
            has_answered=False,
            failure=failure,
            is_overloaded=load > 1,
            is_draining=heard.is_draining if heard else False,
            weight=None,
            receiver_threshold=heard.receiver_threshold if heard else 0.0,
            load=load,
            free_dynamic=None,
            uptime=None,
            software="",
            days_left=None,
            zone=zone,
            services=heard.services if heard else {},
            complaints=[],
            findings=list(attention.of_another(state, failure, load)),
            rival=None,
        )

    def _best_sight(self, name: str) -> Sight:
        """The newest word on a node; of words of the same age the gravest, as nodes themselves merge them."""
        sights = [sights[name] for sights in self.crawl.sights.values() if name in sights]
        return max(sights, key=lambda each: (each.version, RANK.get(each.status, -1)))

    def _zone(self, name: str) -> int:
        digest, text = self._policy_of(name)
        number = self._zone_of.get(digest)
        if number is None:
            number = self._zone_of[digest] = len(self.zones)
            self.zones.append(_zone(digest, text))
        self.zones[number].names.append(name)
        return number

    def _policy_of(self, name: str) -> tuple[str | None, str | None]:
        own, heard = self.crawl.statuses.get(name), self.crawl.hearsay.get(name)
        if own is not None:
            return (policy.digest(own.policy), own.policy) if own.policy is not None else (None, None)
        if heard is None:
            return UNKNOWN_POLICY, None
        return heard.policy, self.crawl.policies.get(heard.policy or "")

    # -- edges

    def edge(self, observer: str, observed: str) -> str:
        """The colour of the edge between two nodes; the observer must have answered."""
        sight = self.crawl.sights[observer].get(observed)
        if sight is None or sight.status in (LEFT, UNVISITED):
            return RED
        if observed not in self.crawl.statuses:
            return ORANGE
        if sight.status == DEAD:
            return RED
        return GREEN if sight.talkable else YELLOW

    def edges(self) -> Iterator[tuple[str, str, str]]:
        """(observer, observed, colour) of all pairs; a node that left has no edges, one that did not answer none of its own."""
        there = [node.name for node in self.nodes if node.state != LEFT]
        for observer in sorted(self.crawl.sights):
            for observed in there:
                if observed != observer:
                    yield observer, observed, self.edge(observer, observed)

    @cached_property
    def edge_counts(self) -> dict[str, int]:
        """colour -> how many edges."""
        counts = Counter(colour for *_, colour in self.edges())
        return {colour: counts[colour] for colour in EDGES}

    def heard_at(self, observer: str, observed: str) -> float | None:
        """The time at which one last heard of the other, epoch seconds by the observer's clock; None when never."""
        sight = self.crawl.sights[observer].get(observed)
        return sight.heard_at if sight and sight.heard_at > 0 else None

    @property
    def observers(self) -> list[str]:
        """The nodes that answered, and so told which nodes they know."""
        return sorted(self.crawl.sights)

    # -- policies

    def pair(self, a: int, b: int) -> str | None:
        """The policy that two zones have in common, `(a /\\ b) V (c)`; NULL when they do not meet, None when unknown."""
        one, two = self.zones[a], self.zones[b]
        if not (one.is_known and two.is_known):
            return None
        if one.policy is None or two.policy is None:
            return policy.show(one.policy if two.policy is None else two.policy)
        return policy.show(policy.intersect(one.policy, two.policy, self.mode))

    # -- services and totals

    def _services(self) -> list[ServiceTotal]:
        holders: dict[str, list[Node]] = {}
        for node in self.nodes:
            if node.state in (ALIVE, SUSPECT):
                for name in node.services:
                    holders.setdefault(name, []).append(node)
        whole = self.weight
        totals = []
        for name, nodes in sorted(holders.items()):
            offers = [node.services[name] for node in nodes]
            weight = sum(offer.weight or 0.0 for offer in offers)
            static = sum(offer.type == STATIC for offer in offers)
            sick = [node.name for node in nodes if not node.services[name].is_healthy]
            names = [node.name for node in nodes]
            share, seen = weight / whole if whole else 0.0, _whole(name, nodes)
            dynamic = len(offers) - static
            totals.append(ServiceTotal(name, weight, share, static, dynamic, names, sick, seen, together(offers)))
        return totals

    def dead_holders(self, service: str) -> list[Node]:
        """Those that had it when they were last heard of, and will have it when they come back."""
        return [node for node in self.nodes if node.state == DEAD and service in node.services]

    def service(self, name: str) -> ServiceTotal:
        """One service; CantFind when nobody who lives or is dead has it, and nothing happened to it lately."""
        found = self.by_service.get(name)
        if found is None:
            if not self.dead_holders(name) and not self.lately.events(name):
                raise CantFind(f"{name}: no node has a service of this name")
            found = ServiceTotal(name, 0.0, 0.0, 0, 0, [], [], holding.whole({}))
        return found

    def node(self, name: str) -> Node:
        """One node; CantFind when nobody knows it."""
        if name not in self.by_name:
            raise CantFind(f"{name}: no node of this name is known")
        return self.by_name[name]

    @property
    def heaviest(self) -> list[ServiceTotal]:
        """All services in the order of the original's table: the heaviest first, then those on most nodes."""
        return sorted(self.services, key=lambda each: (-each.weight, -each.static - each.dynamic, -each.dynamic, each.name))

    @property
    def weight(self) -> float:
        """Of the system: all nodes that answered."""
        return sum(node.weight or 0.0 for node in self.nodes)

    def totals(self) -> dict[str, Any]:
        """{"nodes", "answered", "alive", "suspect", "dead", "left", "overloaded", "draining", "services", "replicas", "static",
        "dynamic", "weight", "average_weight", "average_weight_of_replica"}: the weights are of nodes that answered, the
        averages a node and, as the original's, a replica."""
        states = Counter(node.state for node in self.nodes)
        answered = sum(node.has_answered for node in self.nodes)
        static = sum(service.static for service in self.services)
        dynamic = sum(service.dynamic for service in self.services)
        return {
            "nodes": len(self.nodes) - states[LEFT],
            "answered": answered,
            **{state: states[state] for state in (ALIVE, SUSPECT, DEAD, LEFT)},
            "overloaded": sum(node.is_overloaded for node in self.nodes),
            "draining": sum(node.is_draining for node in self.nodes),
            "services": len(self.services),
            "replicas": static + dynamic,
            "static": static,
            "dynamic": dynamic,
            "weight": self.weight,
            "average_weight": self.weight / answered if answered else 0.0,
            "average_weight_of_replica": self.weight / (static + dynamic) if static + dynamic else 0.0,
        }

    # -- what a person should look at

    @cached_property
    def disagreements(self) -> list[tuple[str, dict[str, list[str]]]]:
        """(name, {state: the observers that say so}) of each node on which they disagree; "unknown" is said by silence."""
        found = []
        for node in self.nodes:
            says: dict[str, list[str]] = {}
            for observer in self.observers:
                sight = self.crawl.sights[observer].get(node.name)
                says.setdefault(sight.status if sight else "unknown", []).append(observer)
            if len(says) > 1 and not says.keys() <= {LEFT, "unknown"}:  # a tombstone may be forgotten
                found.append((node.name, says))
        return found

    def findings(self) -> list[tuple[str, Finding]]:
        """(node, what needs attention there), the gravest first: core.attention's rule, and none beside it."""
        found = [(node.name, finding) for node in self.nodes for finding in node.findings]
        found += [(name, attention.of_disagreement(says)) for name, says in self.disagreements]
        return sorted(found, key=lambda each: attention.RANK[each[1].severity])

    def findings_of(self, name: str) -> list[Finding]:
        """What needs attention at one node."""
        return [finding for about, finding in self.findings() if about == name]

    def findings_of_service(self, service: ServiceTotal) -> list[tuple[str, Finding]]:
        """("", what needs attention of it as a whole), and (node, what keeps that holder from taking its calls)."""
        found = [("", finding) for finding in service.whole.findings()]
        for name in service.holders:
            if name in service.sick:
                found.append((name, attention.of_sick_service(service.name)))
            found += [(name, finding) for finding in self.by_name[name].findings if finding.key in attention.OF_HOLDERS]
        return found

    def warnings(self) -> list[tuple[str, str]]:
        """(node, what keeps it from being well), the gravest first; empty when all is well."""
        return [(name, line) for name, finding in self.findings() for line in attention.lines([finding])]


def _whole(service: str, nodes: list[Node]) -> Whole:
    """As the mesh counts: where it is not well it is not offered, and such a holder does not live."""
    held = {node.name: node.services[service].held for node in nodes}
    well = {node.name: held[node.name] for node in nodes if node.services[service].is_healthy}
    return holding.whole(well or held)._replace(living=len(well))


def _zone(digest: str | None, text: str | None) -> Zone:
    if digest is None:
        return Zone(policy.show(None), [], None, True)
    if text is None:
        return Zone(UNKNOWN_POLICY, [], None, False)
    try:
        parsed = policy.parse(text)
    except BDError as error:
        return Zone(f"not to be read: {error}"[:200], [], None, False)
    return Zone(policy.show(parsed), [], parsed, True)


def together(offers: Iterable[Offer]) -> int | None:
    """Calls a minute of all of these, None when nobody tells."""
    told = [offer.calls for offer in offers if offer.calls is not None]
    return sum(told) if told else None


def few(names: list[str], most: int) -> str:
    """The first of some names, and how many others there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def local_time(at: float) -> str:
    """An instant as the page shows it, with the zone's offset."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(at))
