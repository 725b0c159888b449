"""The weights as bars, before they are drawn: which rows, which segments, on which scale. Pure.

The scale is the same in each picture: shares of the node's threshold (RT), which is FULL; the picture ends at TOP. So two
pictures can be compared, of one mesh at two times or of two nodes with other thresholds. What is over the end is cut there, and
said in words.
"""

from __future__ import annotations

from bdserver.audit.snapshot import Node, Snapshot
from bdserver.core.membership import ALIVE, DEAD, DYNAMIC, SUSPECT
from bdserver.core.tuples import NamedTuple

FULL, TOP = 1.0, 1.5
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
ROWS_MAX = 50
# A share of the threshold that would be seen.
SEEN = 0.005


class Segment(NamedTuple):
    """A service's part of a bar, from `start` to `end` in shares of the threshold; "": what no service of it accounts for."""

    service: str
    start: float
    end: float
    is_dynamic: bool


def rows(snapshot: Snapshot) -> list[Node]:
    """The nodes that have a bar, by name; of more than ROWS_MAX those nearest to their thresholds."""
    if len(snapshot.nodes) <= ROWS_MAX:
        return snapshot.nodes
    return sorted(sorted(snapshot.nodes, key=lambda node: -node.load)[:ROWS_MAX], key=lambda node: node.name)


def hidden(snapshot: Snapshot) -> str:
    """What is said of the others."""
    count = len(snapshot.nodes) - len(rows(snapshot))
    return f"{count} more nodes, farther from their thresholds" if count else ""


def segments(node: Node) -> list[Segment]:
    """Of a bar, in the order of names, as far as TOP; none of a node that did not answer."""
    found, start = [], 0.0
    for name, offer in sorted(node.services.items()):
        share = (offer.weight or 0.0) / node.receiver_threshold if node.receiver_threshold else 0.0
        end = min(start + share, TOP)
        if end > start:
            found.append(Segment(name, start, end, offer.type == DYNAMIC))
        start = end
    rest = min(node.load, TOP) if node.weight is not None else 0.0
    return [*found, Segment("", start, rest, False)] if rest - start > SEEN else found


def is_cut(node: Node) -> bool:
    """Whether a bar would go on beyond the picture."""
    return node.load > TOP and node.weight is not None


def words(node: Node) -> str:
    """What stands beside a bar, or instead of one."""
    if node.weight is not None:
        return f"{node.weight:.1f} of {node.receiver_threshold:g}"
    if node.state != ALIVE:
        return node.state
    return f"silent, about {100 * node.load:.0f} %" if node.load else "silent"


def is_there(node: Node) -> bool:
    """Whether its name is in black: it is alive, or suspected."""
    return node.state in (ALIVE, SUSPECT)


def services(snapshot: Snapshot) -> list[str]:
    """The services that a bar may show, by name."""
    return sorted({name for node in snapshot.nodes if node.state != DEAD for name in node.services})


def description(snapshot: Snapshot) -> str:
    """The picture in words, for those who do not see it."""
    said = [f"{node.name} {words(node)}" for node in rows(snapshot) if node.weight is not None]
    return f"Weight of each node of its threshold: {', '.join(said) or 'nobody answered'}."
