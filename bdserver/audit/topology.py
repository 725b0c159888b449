"""The topology as a picture: nodes on an oval, an edge for what A says of B, and the services they have.

Two views: `services`, as the original's, in which a service is one node with an edge from each holder; `hosts`, in which each
node has its own around it. Up to NODES_MAX nodes each is drawn; beyond that nobody could read it, and zones draws groups.
pydot makes the graph, layout says where things begin to stand, and Graphviz draws it under limits of time and memory, pushing
apart what would cover a label.
"""

from __future__ import annotations

import html
import math
import resource
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable

import pydot

from bdserver.audit import layout, shapes, zones
from bdserver.audit.colours import LIGHT, Theme, marks
from bdserver.audit.shapes import quoted
from bdserver.audit.snapshot import EDGES, GREEN, ORANGE, RED, YELLOW, Snapshot
from bdserver.core.membership import ALIVE, STATIC, SUSPECT, Status
from bdserver.core.tuples import NamedTuple
from bdserver.errors import Deadline, NotDrawn

SERVICES, HOSTS = VIEWS = ("services", "hosts")
NODES_MAX = 40
# Of one node's services, in the view of hosts, this many are drawn.
OWN_MAX = 4
# Above it, edges that say nothing new are pale.
DENSE_ABOVE = 7
MARKS = {GREEN: "—", YELLOW: "- -", ORANGE: "· · ·", RED: "—■"}
MEMORY_BYTES_MAX = 512 << 20
# Pixels of a PNG per pixel of a plain screen; above LARGE_ABOVE nodes the picture is large enough as it is.
SCALE, SCALE_LARGE = 2.0, 1.5
LARGE_ABOVE = 20


def dot(snapshot: Snapshot, theme: Theme = LIGHT, view: str = SERVICES, has_key: bool = True) -> str:
    """The graph in Graphviz's language, with positions: `dot` and `neato` both draw it as it is meant. A page has a key of its
    own, which is as wide as the page is."""
    graph = pydot.Dot(
        "mesh",
        graph_type="digraph",
        layout="neato",
        inputscale=72,
        overlap="prism",
        overlap_scaling=0,  # else all is drawn together first, and then pushed out of shape
        sep=quoted("+3"),
        bgcolor=quoted(theme.paper),
        outputorder="edgesfirst",
        pad=quoted("0.25"),
        splines="line",
        fontname=quoted(shapes.FONT),
        fontcolor=quoted(theme.ink),
        labelloc="b",
        fontsize=12,
    )
    graph.set_node_defaults(fontname=quoted(shapes.FONT), fontcolor=quoted(theme.ink), color=quoted(theme.ink))
    graph.set_edge_defaults(fontname=quoted(shapes.FONT), fontsize=11, fontcolor=quoted(theme.soft), arrowsize=0.7)
    if not is_summary(snapshot):
        _draw_nodes(graph, snapshot, theme, view)
    elif view == SERVICES:
        zones.draw_by_service(graph, snapshot, theme)
    else:
        zones.draw_by_zone(graph, snapshot, theme)
    if has_key:
        graph.set("label", _drawn_key(key(snapshot, view), theme))
    return graph.to_string()


def is_summary(snapshot: Snapshot) -> bool:
    """Whether there are too many nodes to draw each."""
    return len(snapshot.nodes) > NODES_MAX


def png(snapshot: Snapshot, theme: Theme, view: str, seconds: float, has_key: bool = True) -> bytes:
    """The picture as a PNG; NotDrawn or Deadline says why there is none."""
    from bdserver.audit import palette

    scale = SCALE if len(snapshot.nodes) <= LARGE_ABOVE else SCALE_LARGE
    return palette.packed(render(dot(snapshot, theme, view, has_key), "png", seconds, scale), theme)


def render(source: str, form: str, seconds: float, scale: float = SCALE) -> bytes:
    """The picture of a graph as `png` or `svg`, as Graphviz draws it; NotDrawn or Deadline says why there is none."""
    program = shutil.which("neato")
    if program is None:
        raise NotDrawn("Graphviz is not installed here: no picture of the topology (apt-get install graphviz)")
    dots = [f"-Gdpi={96 * scale:g}"] if form == "png" else []
    command = [program, "-n", f"-T{form}", *dots]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1))
        try:
            picture, complaint = process.communicate(source.encode(), seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Deadline(f"Graphviz did not draw the topology in {seconds:g} s") from None
    if process.returncode != 0 or not picture:
        lines = complaint.decode(errors="replace").strip().splitlines() or [f"status {process.returncode}"]
        raise NotDrawn(f"Graphviz could not draw the topology: {lines[0][:200]}")
    return picture


def description(snapshot: Snapshot) -> str:
    """The picture in words, for those who do not see it."""
    totals, counts = snapshot.totals(), snapshot.edge_counts
    edges = ", ".join(f"{counts[colour]:,} {colour} ({words})" for colour, words in EDGES.items() if counts[colour])
    states = ", ".join(f"{totals[state]} {state}" for state in Status if totals[state])
    return f"Topology of {snapshot.mesh}: {states or 'no nodes'}. Edges: {edges or 'none'}."


def _draw_nodes(graph: pydot.Dot, snapshot: Snapshot, theme: Theme, view: str) -> None:
    """Each node, in either view."""
    size = shapes.SMALL if len(snapshot.nodes) > DENSE_ABOVE else shapes.FONT_SIZE
    offered = _offered(snapshot) if view == SERVICES else _own(snapshot)
    opinions = _opinions(snapshot)
    places, at = layout.arrange(
        {node.name: shapes.node_size(node, size) for node in snapshot.nodes},
        {key: (shapes.service_size(name, notes), holders) for key, (name, notes, holders) in offered.items()},
        [(each.a, each.b) for each in opinions if not each.is_pale],
    )
    ids = {node.name: f"n{number}" for number, node in enumerate(snapshot.nodes)}
    marked = marks(snapshot.by_service)
    for a, b, colour, is_both, is_pale in opinions:
        graph.add_edge(shapes.opinion(ids[a], ids[b], colour, theme, is_both, is_pale))
    for node in snapshot.nodes:
        graph.add_node(shapes.node(ids[node.name], node, theme, places[node.name], size))
    for number, (key, (name, notes, holders)) in enumerate(offered.items()):
        if name:
            graph.add_node(shapes.service(f"s{number}", name, marked[name], theme, at[key], notes))
        else:
            graph.add_node(shapes.note(f"s{number}", notes[0], theme, at[key]))
        for holder in holders:
            given = snapshot.by_name[holder].services.get(name)
            kind, is_healthy = (given.type, given.is_healthy) if given else (STATIC, True)
            graph.add_edge(shapes.offer(ids[holder], f"s{number}", kind, is_healthy, theme))


# What is drawn as a service: key -> its name, or "" for a note on others; lesser lines; its holders.
Offered = dict[str, tuple[str, tuple[str, ...], list[str]]]


def _offered(snapshot: Snapshot) -> Offered:
    """Each service once, with all of its holders."""
    shown = zones.chosen(snapshot)
    offered: Offered = {each.name: (each.name, (), each.holders) for each in shown}
    if len(shown) < len(snapshot.services):
        offered[""] = ("", (f"and {len(snapshot.services) - len(shown)} services more",), [])
    return offered


def _own(snapshot: Snapshot) -> Offered:
    """Each node's services by themselves; a dead one offers nothing."""
    offered: Offered = {}
    for node in snapshot.nodes:
        names = sorted(node.services) if node.state in (ALIVE, SUSPECT) else []
        shown = names[: OWN_MAX - 1] if len(names) > OWN_MAX else names
        for name in shown:
            offered[f"{node.name} {name}"] = (name, () if node.services[name].is_healthy else ("not well",), [node.name])
        if len(shown) < len(names):
            offered[f"{node.name} "] = ("", (f"and {len(names) - len(shown)} more",), [node.name])
    return offered


# --- what A says of B ---------------------------------------------------------------------------------------------


class Opinion(NamedTuple):
    """What A says of B, or both of each other; pale where many edges are drawn, and most say so of B."""

    a: str
    b: str
    colour: str
    is_both: bool
    is_pale: bool


def _opinions(snapshot: Snapshot) -> list[Opinion]:
    edges = list(snapshot.edges())
    is_dense, votes = len(snapshot.nodes) > DENSE_ABOVE, Counter[str]()
    for _, b, colour in edges:
        votes[b] += 1 if colour in (GREEN, YELLOW) else -1
    return [
        Opinion(a, b, colour, is_both, is_dense and colour != RED and (colour != ORANGE) == (votes[b] > 0))
        for a, b, colour, is_both in _merged(edges)
    ]


def _merged(edges: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str, bool]]:
    """(A, B, colour, is_both): where both say the same of each other, one edge without a head stands for two."""
    colours = {(a, b): colour for a, b, colour in edges}
    merged = []
    for (a, b), colour in colours.items():
        is_both = colours.get((b, a)) == colour
        if not is_both or a < b:
            merged.append((a, b, colour, is_both))
    return merged


class Sign(NamedTuple):
    """A line of the key: a theme's colour by its name, how the edge looks in letters, what it means."""

    colour: str
    mark: str
    words: str


def key(snapshot: Snapshot, view: str) -> list[Sign]:
    """What the edges mean."""
    signs = [Sign(colour, MARKS[colour], f"{colour}: {words}") for colour, words in EDGES.items()]
    if not is_summary(snapshot):
        signs += [Sign("soft", "—", "original of a service"), Sign("blue", "- -", "replica (dynamic)")]
        is_sick = view == SERVICES and any(each.sick for each in snapshot.services)
        return [*signs, Sign("soft", "—|", "a service that is not well there")] if is_sick else signs
    if view == SERVICES:
        return [Sign("soft", "—", "originals, and replicas"), Sign("blue", "- -", "replicas (dynamic) alone")]
    return signs


def _drawn_key(signs: list[Sign], theme: Theme) -> str:
    """The key below the picture: an HTML-like label."""
    cells = [
        f'<TD ALIGN="LEFT"><FONT COLOR="{getattr(theme, sign.colour)}"><B>{sign.mark}</B></FONT> {html.escape(sign.words)}</TD>'
        for sign in signs
    ]
    lines = "".join(f"<TR>{''.join(cells[number : number + 2])}</TR>" for number in range(0, len(cells), 2))
    return f'<<TABLE BORDER="0" CELLSPACING="2">{lines}</TABLE>>'
