"""Who last heard of whom, for as many nodes as there is room for cells: a row an observer, a column a node.

A cell has the edge's colour, the paler the longer ago, a sign where it is not green, and its words for whoever points at it.
"""

from __future__ import annotations

from markupsafe import Markup

from bdserver.audit.snapshot import GREEN, ORANGE, RED, YELLOW, Node, Snapshot
from bdserver.core.membership import LEFT
from bdserver.core.tuples import NamedTuple

CELLS_MAX = 60
SIGNS = {GREEN: "", YELLOW: "~", ORANGE: "o", RED: "x"}
# Seconds, each with its words: what was heard of later than that is one step paler.
STEPS = ((15.0, "15 s"), (60.0, "a minute"), (600.0, "10 minutes"))


class Cell(NamedTuple):
    """`kind`: the edge's colour, "" of a node to itself; `step`: how long ago, from 0 (just now) to len(STEPS)."""

    kind: str
    step: int
    sign: str
    words: str


class Row(NamedTuple):
    """One observer's cells, a node each."""

    name: str
    cells: list[Cell]


def columns(snapshot: Snapshot) -> list[Node]:
    """The nodes that may be heard of: all but those that left."""
    return [node for node in snapshot.nodes if node.state != LEFT]


def rows(snapshot: Snapshot, now: float) -> list[Row]:
    """A row for each node that answered."""
    names = [node.name for node in columns(snapshot)]
    return [Row(observer, [_cell(snapshot, observer, name, now) for name in names]) for observer in snapshot.observers]


def legend() -> Markup:
    """What the cells mean."""
    known = [f"heard of within {words}" for _, words in STEPS] + ["longer ago, or never"]
    samples = [(GREEN, step, words) for step, words in enumerate(known)]
    samples += [(kind, 0, kind) for kind in (YELLOW, ORANGE, RED)]
    return Markup('<div class="legend">{}</div>').format(
        Markup("").join(
            Markup(
                '<span><table class="matrix" role="presentation"><tr><td class="{} h{}">{}</td></tr></table>{}</span>'
            ).format(kind, step, SIGNS[kind], words)
            for kind, step, words in samples
        )
    )


def _cell(snapshot: Snapshot, observer: str, observed: str, now: float) -> Cell:
    if observer == observed:
        return Cell("", 0, "", "")
    kind, at = snapshot.edge(observer, observed), snapshot.heard_at(observer, observed)
    if at is None:
        return Cell(kind, len(STEPS), SIGNS[kind], f"{observer} never heard of {observed}: {kind}")
    ago = max(now - at, 0.0)
    step = sum(ago > seconds for seconds, _ in STEPS)
    return Cell(kind, step, SIGNS[kind], f"{observer} heard of {observed} {ago:.0f} s ago: {kind}")
