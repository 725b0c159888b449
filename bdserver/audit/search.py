"""Which rows of the audit page are asked for: words, a state, a policy, a service. The page's script hides rows by this rule.

Each row says in attributes what it is found by, so that script and server cannot differ in it: the words in small letters, of
which each must occur somewhere; and what must be equal, from a list. Pure.
"""

from __future__ import annotations

from bdserver.audit.snapshot import Node, ServiceTotal, Snapshot
from bdserver.core.membership import Status
from bdserver.core.tuples import NamedTuple

ATTENTION, OVERLOADED, DRAINING, SILENT = "attention", "overloaded", "draining", "silent"
# What may be chosen of `state`, and the words for it.
STATES = {
    ATTENTION: "needs attention",
    **{str(state): str(state) for state in Status},
    OVERLOADED: OVERLOADED,
    DRAINING: DRAINING,
    SILENT: SILENT,
}
FIND_CHARACTERS_MAX = 100


class Row(NamedTuple):
    """What one row of a table is found by: lists are divided by blanks, as no name of a service or state has one. A row without
    a state or zone is not asked for it."""

    find: str
    state: str = ""
    zone: str = ""
    offers: str = ""


class Filter(NamedTuple):
    """A wish; what is "" leaves all."""

    find: str = ""
    state: str = ""
    zone: str = ""
    offers: str = ""

    def takes(self, row: Row) -> bool:
        """Whether a row is shown. (page.js: `takes`.)"""
        return (
            all(word in row.find for word in self.find.lower().split())
            and (not (self.state and row.state) or self.state in row.state.split())
            and (not (self.zone and row.zone) or self.zone == row.zone)
            and (not self.offers or self.offers in row.offers.split())
        )


def node_row(snapshot: Snapshot, node: Node) -> Row:
    """A node is found by its name, address, states, software, services and policy."""
    states, zone = states_of(node), snapshot.zones[node.zone]
    words = (node.name, node.address, node.software, zone.shown, *states, *node.services)
    return Row(" ".join(words).lower(), " ".join(states), zone.key, " ".join(node.services))


def service_row(snapshot: Snapshot, service: ServiceTotal) -> Row:
    """A service is found by its name and its holders."""
    return Row(" ".join((service.name, *service.holders)).lower(), offers=service.name)


def states_of(node: Node) -> list[str]:
    """All that `state` may ask for and that is so of a node."""
    marks = {
        ATTENTION: any(finding.severity != "note" for finding in node.findings),
        OVERLOADED: node.is_overloaded,
        DRAINING: node.is_draining,
        SILENT: bool(node.failure),
    }
    return [str(node.state), *(mark for mark, is_so in marks.items() if is_so)]
