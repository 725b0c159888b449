"""The topology as a picture: nodes on a circle, an edge for what A says of B, services around their holders.

Up to NODES_MAX nodes each is drawn. Beyond that nobody could read it: nodes of one policy become one zone with counts, and
only those that need attention stand by themselves. pydot makes the graph, Graphviz draws it under limits of time and
memory. Names from the mesh are quoted here; positions are worked out here too, so drawing is quick at any size.
"""

from __future__ import annotations

import html
import itertools
import math
import resource
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable

import pydot

from bdserver.audit.colours import LIGHT, Theme
from bdserver.audit.snapshot import EDGES, GREEN, ORANGE, RED, YELLOW, Node, Snapshot
from bdserver.core.membership import ALIVE, DEAD, DYNAMIC, LEFT, SUSPECT, Status
from bdserver.errors import Deadline, NotDrawn

NODES_MAX = 40
# Of a node's services, and of a zone's nodes that need attention, this many are drawn.
SERVICES_MAX = 4
APART_MAX = 12
ZONES_MAX = 12
ZONES_WIDER = 1.6
# Above it, edges that say nothing new are pale.
DENSE_ABOVE = 10
PALE = "60"  # behind a colour: how little it covers
MEMORY_BYTES_MAX = 512 << 20
# Pixels of a PNG per pixel of a plain screen.
SCALE = 2
SHAPES: dict[str, str] = {DEAD: "octagon", SUSPECT: "hexagon", LEFT: "box"}
STYLES = {GREEN: "solid", YELLOW: "dashed", ORANGE: "dotted", RED: "solid"}
HEADS = {GREEN: "normal", YELLOW: "normal", ORANGE: "normal", RED: "box"}
WIDTHS = {GREEN: 1.2, YELLOW: 2.0, ORANGE: 2.6, RED: 2.2}
FONT = "Helvetica,Arial,DejaVu Sans,sans-serif"


def dot(snapshot: Snapshot, theme: Theme = LIGHT) -> str:
    """The graph in Graphviz's language, with positions."""
    graph = pydot.Dot(
        "mesh",
        graph_type="digraph",
        bgcolor=theme.paper,
        outputorder="edgesfirst",
        pad="0.25",
        splines="line",
        fontname=_quoted(FONT),
        fontcolor=theme.ink,
        labelloc="b",
        fontsize=12,
    )
    graph.set_node_defaults(fontname=_quoted(FONT), fontsize=13, fontcolor=theme.ink, color=theme.ink)
    graph.set_edge_defaults(fontname=_quoted(FONT), fontsize=11, fontcolor=theme.soft, arrowsize=0.7)
    if is_summary(snapshot):
        _draw_zones(graph, snapshot, theme)
    else:
        _draw_nodes(graph, snapshot, theme)
    graph.set("label", _key(snapshot, theme))
    return graph.to_string()


def is_summary(snapshot: Snapshot) -> bool:
    """Whether there are too many nodes to draw each."""
    return len(snapshot.nodes) > NODES_MAX


def render(source: str, form: str, seconds: float) -> bytes:
    """The picture of a graph as `png` or `svg`; NotDrawn or Deadline says why there is none."""
    program = shutil.which("neato")
    if program is None:
        raise NotDrawn("Graphviz is not installed here: no picture of the topology (apt-get install graphviz)")
    scale = [f"-Gdpi={96 * SCALE}"] if form == "png" else []
    command = [program, "-n", f"-T{form}", *scale]
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
    totals, counts = snapshot.totals(), snapshot.edge_counts()
    edges = ", ".join(f"{counts[colour]:,} {colour} ({words})" for colour, words in EDGES.items() if counts[colour])
    states = ", ".join(f"{totals[state]} {state}" for state in Status if totals[state])
    return f"Topology of {snapshot.mesh}: {states or 'no nodes'}. Edges: {edges or 'none'}."


# --- every node ---------------------------------------------------------------------------------------------------


def _draw_nodes(graph: pydot.Dot, snapshot: Snapshot, theme: Theme) -> None:
    nodes = snapshot.nodes
    is_dense = len(nodes) > DENSE_ABOVE
    if is_dense:
        graph.set_node_defaults(fontsize=11)
    radius = max(110.0, 42.0 * len(nodes) / math.pi)
    ids = {node.name: f"n{number}" for number, node in enumerate(nodes)}
    for number, node in enumerate(nodes):
        angle = _angle(number, len(nodes))
        graph.add_node(_node(ids[node.name], node, theme, radius * math.cos(angle), radius * math.sin(angle)))
        _draw_services(graph, ids[node.name], node, theme, angle, radius, is_dense)
    edges = list(snapshot.edges())
    opinions = _opinions(edges)
    for a, b, colour, is_both in _merged(edges):
        is_pale = is_dense and colour != RED and _is_there(colour) == opinions[b]
        graph.add_edge(
            pydot.Edge(
                ids[a],
                ids[b],
                color=_quoted(getattr(theme, colour) + (PALE if is_pale else "")),
                style=STYLES[colour],
                penwidth=0.6 if is_pale else WIDTHS[colour],
                dir="none" if is_both or is_pale else "forward",
                arrowhead=HEADS[colour],
            )
        )


def _is_there(colour: str) -> bool:
    return colour in (GREEN, YELLOW)


def _opinions(edges: list[tuple[str, str, str]]) -> dict[str, bool]:
    """Whether most observers take a node for alive: where many edges are drawn, those that say so too stay pale."""
    votes: Counter[str] = Counter()
    for _, observed, colour in edges:
        votes[observed] += 1 if _is_there(colour) else -1
    return {name: count > 0 for name, count in votes.items()}


def _node(identity: str, node: Node, theme: Theme, x: float, y: float) -> pydot.Node:
    """A node: state by fill and by shape; a dashed line is silence, a thick red one overload."""
    words = [node.name]
    if node.state != ALIVE:
        words.append(node.state)
    if node.is_draining:
        words.append("draining")
    if node.is_overloaded:
        words.append("overloaded")
    if node.state == ALIVE and not node.has_answered:
        words.append("silent")
    return pydot.Node(
        identity,
        label=_quoted(*words),
        pos=_position(x, y),
        shape=SHAPES.get(node.state, "ellipse"),
        style=_quoted("filled" if node.has_answered else "filled,dashed"),
        fillcolor=getattr(theme, node.state),
        color=theme.red if node.is_overloaded else theme.ink,
        penwidth=2.4 if node.is_overloaded else 1,
        fontcolor=theme.ink,
        margin="0.06,0.03",
    )


def _draw_services(
    graph: pydot.Dot, holder: str, node: Node, theme: Theme, angle: float, radius: float, is_dense: bool
) -> None:
    """The services of a node, outward of it: a plain edge to a static one, a blue dashed one to a replica."""
    names = sorted(node.services)
    shown = names[: SERVICES_MAX - 1] if len(names) > SERVICES_MAX else names
    labels = [(name, node.services[name]) for name in shown]
    texts = [name + ("" if offer.is_healthy else " (not well)") for name, offer in labels]
    blues = [offer.type == DYNAMIC for _, offer in labels]
    if len(shown) < len(names):
        texts.append(f"and {len(names) - len(shown)} more")
        blues.append(False)
    is_beside = abs(math.cos(angle)) < 0.35 and not is_dense
    for number, (text, is_dynamic) in enumerate(zip(texts, blues, strict=True)):
        offset = number - (len(texts) - 1) / 2
        if is_beside:
            x, y = radius * math.cos(angle) + 92 * offset, (radius + 66) * math.sin(angle)
        else:
            x = (radius + 95) * math.cos(angle) + 25 * math.copysign(1, math.cos(angle)) * (abs(math.cos(angle)) > 0.2)
            y = (radius + 62 + 12 * len(texts)) * math.sin(angle) - 24 * offset
        service = f"{holder}s{number}"
        colour = theme.blue if is_dynamic else theme.soft
        graph.add_node(
            pydot.Node(
                service,
                label=_quoted(text),
                pos=_position(x, y),
                shape="box",
                style=_quoted("rounded,filled"),
                fillcolor=theme.paper,
                color=colour,
                fontcolor=theme.ink,
                fontsize=11,
                height=0.22,
                margin="0.06,0.01",
            )
        )
        style = "dashed" if is_dynamic else "solid"
        graph.add_edge(pydot.Edge(holder, service, color=colour, style=style, arrowhead="none", penwidth=1.2))


def _merged(edges: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str, bool]]:
    """(A, B, colour, is_both): where both say the same of each other, one edge without a head stands for two."""
    colours = {(a, b): colour for a, b, colour in edges}
    merged = []
    for (a, b), colour in colours.items():
        is_both = colours.get((b, a)) == colour
        if not is_both or a < b:
            merged.append((a, b, colour, is_both))
    return merged


# --- zones --------------------------------------------------------------------------------------------------------


def _draw_zones(graph: pydot.Dot, snapshot: Snapshot, theme: Theme) -> None:
    zones = sorted(range(len(snapshot.zones)), key=lambda number: -len(snapshot.zones[number].names))[:ZONES_MAX]
    place = {number: index for index, number in enumerate(zones)}
    counts: Counter[tuple[int, int, str]] = Counter()
    for a, b, colour in snapshot.edges():
        one, two = place.get(snapshot.by_name[a].zone, -1), place.get(snapshot.by_name[b].zone, -1)
        counts[min(one, two), max(one, two), colour] += 1
    radius = 0.0 if len(zones) == 1 else max(230.0, 105.0 * len(zones) / math.pi)
    for index, number in enumerate(zones):
        angle = _angle(index, len(zones))
        x, y = ZONES_WIDER * radius * math.cos(angle), radius * math.sin(angle)
        inside = {colour: counts[index, index, colour] for colour in EDGES}
        _draw_zone(graph, snapshot, theme, number, f"z{index}", x, y, inside)
        _draw_apart(graph, snapshot, theme, number, f"z{index}", x, y, angle, len(zones))
    for one, two in itertools.combinations(range(len(zones)), 2):
        between = {colour: counts[one, two, colour] for colour in EDGES if counts[one, two, colour]}
        if between:
            main = RED if RED in between else max(between, key=lambda colour: between[colour])
            graph.add_edge(
                pydot.Edge(
                    f"z{one}",
                    f"z{two}",
                    color=_colour(theme, main),
                    style=STYLES[main],
                    dir="none",
                    penwidth=WIDTHS[main],
                    label=_counts(between, theme),
                )
            )


def _counts(between: dict[str, int], theme: Theme) -> str:
    """How many edges of which colour, on a ground of its own, so that it can be read on a line."""
    cells = "".join(
        f'<TR><TD><FONT COLOR="{getattr(theme, colour)}">{count:,} {colour}</FONT></TD></TR>'
        for colour, count in between.items()
    )
    return f'<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="0" BGCOLOR="{theme.paper}">{cells}</TABLE>>'


def _draw_zone(
    graph: pydot.Dot,
    snapshot: Snapshot,
    theme: Theme,
    number: int,
    identity: str,
    x: float,
    y: float,
    inside: dict[str, int],
) -> None:
    zone = snapshot.zones[number]
    states = Counter(snapshot.by_name[name].state for name in zone.names)
    shown = zone.shown if len(zone.shown) <= 40 else zone.shown[:39] + "…"
    lines = [
        f"{len(zone.names)} nodes, {shown}",
        ", ".join(f"{count} {state}" for state, count in states.most_common()),
        "inside: " + (", ".join(f"{count:,} {colour}" for colour, count in inside.items() if count) or "no edges"),
    ]
    graph.add_node(
        pydot.Node(
            identity,
            label=_quoted(*lines),
            pos=_position(x, y),
            shape="box",
            style=_quoted("rounded,filled"),
            fillcolor=theme.alive,
            color=theme.ink,
            penwidth=1.4,
            margin="0.16,0.1",
        )
    )


def _draw_apart(
    graph: pydot.Dot,
    snapshot: Snapshot,
    theme: Theme,
    number: int,
    identity: str,
    x: float,
    y: float,
    angle: float,
    zones: int,
) -> None:
    """The nodes of a zone that need attention, around it; the rest of them as a count."""
    members = [snapshot.by_name[name] for name in snapshot.zones[number].names]
    apart = [node for node in members if node.state != ALIVE or not node.has_answered or node.is_overloaded]
    apart.sort(key=lambda node: (node.state == LEFT, node.state == ALIVE, node.name))
    shown = apart[: APART_MAX - 1] if len(apart) > APART_MAX else apart
    count = len(shown) + (len(shown) < len(apart))
    spread = 2 * math.pi if zones == 1 else math.pi * 0.9
    for place in range(count):
        share = place / count if zones == 1 else ((place + 0.5) / count - 0.5)
        at = angle + spread * share
        distance = 150 if zones == 1 else 165 + 50 * (place % 2)
        px, py = x + ZONES_WIDER * distance * math.cos(at), y + distance * math.sin(at)
        leaf = f"{identity}n{place}"
        if place < len(shown):
            graph.add_node(_node(leaf, shown[place], theme, px, py))
        else:
            more = _quoted(f"and {len(apart) - len(shown)} more")
            graph.add_node(pydot.Node(leaf, label=more, pos=_position(px, py), shape="plaintext", fontcolor=theme.soft))
        graph.add_edge(pydot.Edge(identity, leaf, color=theme.line, arrowhead="none"))


# --- Graphviz's language ------------------------------------------------------------------------------------------


def _angle(number: int, count: int) -> float:
    """Clockwise from the top."""
    return math.pi / 2 - 2 * math.pi * number / count


def _position(x: float, y: float) -> str:
    return f'"{x:.1f},{y:.1f}!"'


def _colour(theme: Theme, colour: str) -> str:
    return _quoted(getattr(theme, colour))


def _quoted(*lines: str) -> str:
    """Lines as one string of the language: whatever stands in them, it stays text."""
    clean = ("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines)
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in clean) + '"'


def _key(snapshot: Snapshot, theme: Theme) -> str:
    """The key below the picture: an HTML-like label."""
    marks = {GREEN: "—", YELLOW: "- -", ORANGE: "· · ·", RED: "—■"}
    cells = "".join(
        f'<TD ALIGN="LEFT"><FONT COLOR="{getattr(theme, colour)}"><B>{marks[colour]}</B></FONT> {colour}: '
        f"{html.escape(words)}</TD>" + ("</TR><TR>" if colour == YELLOW else "")
        for colour, words in EDGES.items()
    )
    services = (
        ""
        if is_summary(snapshot)
        else (
            f'<TR><TD ALIGN="LEFT"><FONT COLOR="{theme.soft}"><B>—</B></FONT> original of a service</TD>'
            f'<TD ALIGN="LEFT"><FONT COLOR="{theme.blue}"><B>- -</B></FONT> replica (dynamic)</TD></TR>'
        )
    )
    return f'<<TABLE BORDER="0" CELLSPACING="2"><TR>{cells}</TR>{services}</TABLE>>'
