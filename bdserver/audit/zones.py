"""The topology of more nodes than can be drawn each: nodes of one policy are a zone with counts.

By service, each service has an edge from each zone, as thick as many of its nodes have it. By zone, edges are what zones say of
each other, and only those nodes stand by themselves that need attention.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pydot

from bdserver.audit import shapes
from bdserver.audit.colours import Theme, marks
from bdserver.audit.layout import WIDER, Place, angle
from bdserver.audit.shapes import quoted
from bdserver.audit.snapshot import EDGES, RED, Node, ServiceTotal, Snapshot
from bdserver.core.membership import ALIVE, LEFT, STATIC

ZONES_MAX = 12
# Of all services, and of a zone's nodes that need attention, this many are drawn.
SERVICES_MAX, APART_MAX = 48, 12
POLICY_CHARACTERS = 40
# Of the picture by service, in points: the room between services and zones, and from one service to the next.
BETWEEN, ROW = 90.0, 46.0
WIDTH_MIN, WIDTH_MAX = 0.8, 7.0


def chosen(snapshot: Snapshot) -> list[ServiceTotal]:
    """The services that are drawn where there are too many: those on most nodes, then by name; in the order of names."""
    by_holders = sorted(snapshot.services, key=lambda each: (-len(each.holders), each.name))
    return sorted(by_holders[:SERVICES_MAX], key=lambda each: each.name)


def draw_by_service(graph: pydot.Dot, snapshot: Snapshot, theme: Theme) -> None:
    """Zones in the middle, services on both sides."""
    places, inside = _largest(snapshot), _inside(snapshot, _between(snapshot))
    services = chosen(snapshot)
    half = (len(services) + 1) // 2
    height = max(half * ROW, len(places) * 2.0 * ROW)
    lines = {number: _lines(snapshot, number, inside[number]) for number in places}
    widest = max(len(line) for each in lines.values() for line in each) * shapes.FONT_SIZE * shapes.LETTER
    for index, number in enumerate(places):
        place = Place(0.0, height * (0.5 - (index + 0.5) / len(places)))
        graph.add_node(_zone(theme, number, place, lines[number]))
    marked = marks(snapshot.by_service)
    for position, each in enumerate(services):
        side, row = (-1, position) if position < half else (1, position - half)
        rows = half if side < 0 else len(services) - half
        notes = (_held(each),)
        away = BETWEEN + (widest + shapes.service_size(each.name, notes).width) / 2
        place = Place(side * away, height * (0.5 - (row + 0.5) / rows))
        graph.add_node(shapes.service(f"s{position}", each.name, marked[each.name], theme, place, notes))
        for number, (count, originals) in sorted(_holders(snapshot, each).items()):
            if number in places:
                share = count / len(snapshot.zones[number].names)
                graph.add_edge(
                    pydot.Edge(
                        f"z{number}",
                        f"s{position}",
                        color=quoted(theme.soft if originals else theme.blue),
                        style="solid" if originals else "dashed",
                        arrowhead="none",
                        penwidth=f"{WIDTH_MIN + (WIDTH_MAX - WIDTH_MIN) * share:.1f}",
                    )
                )
    hidden = len(snapshot.services) - len(services)
    if hidden:
        graph.add_node(shapes.note("more", f"and {hidden} services more", theme, Place(0.0, -height / 2 - ROW)))


def _held(each: ServiceTotal) -> str:
    """How many have a service."""
    words = [f"{each.static} originals" if each.static != 1 else "1 original"] if each.static else []
    words += [f"{each.dynamic} replicas" if each.dynamic != 1 else "1 replica"] if each.dynamic else []
    return ", ".join(words + ([f"{len(each.sick)} not well"] if each.sick else []))


def _holders(snapshot: Snapshot, each: ServiceTotal) -> dict[int, tuple[int, int]]:
    """zone -> how many of its nodes have a service, and how many of them its original."""
    counts: Counter[int] = Counter()
    originals: Counter[int] = Counter()
    for name in each.holders:
        node = snapshot.by_name[name]
        counts[node.zone] += 1
        originals[node.zone] += node.services[each.name].type == STATIC
    return {number: (counts[number], originals[number]) for number in counts}


def draw_by_zone(graph: pydot.Dot, snapshot: Snapshot, theme: Theme) -> None:
    """Zones on an oval, with what they say of each other, each with its nodes that need attention."""
    numbers, counts = _largest(snapshot), _between(snapshot)
    inside = _inside(snapshot, counts)
    radius = 0.0 if len(numbers) == 1 else max(230.0, 105.0 * len(numbers) / math.pi)
    places = {}
    for index, number in enumerate(numbers):
        at = angle(index, len(numbers))
        places[number] = Place(WIDER * radius * math.cos(at), radius * math.sin(at))
        graph.add_node(_zone(theme, number, places[number], _lines(snapshot, number, inside[number])))
        _draw_apart(graph, snapshot, theme, number, places[number], at, len(numbers))
    for one, two in itertools.combinations(numbers, 2):
        between = {colour: count for colour in EDGES if (count := counts[min(one, two), max(one, two), colour])}
        if between:
            _draw_between(graph, theme, one, two, between, places)


def _largest(snapshot: Snapshot) -> list[int]:
    return sorted(range(len(snapshot.zones)), key=lambda number: -len(snapshot.zones[number].names))[:ZONES_MAX]


def _between(snapshot: Snapshot) -> Counter[tuple[int, int, str]]:
    """(zone, zone, colour) -> how many edges, in both directions."""
    counts: Counter[tuple[int, int, str]] = Counter()
    for a, b, colour in snapshot.edges():
        one, two = snapshot.by_name[a].zone, snapshot.by_name[b].zone
        counts[min(one, two), max(one, two), colour] += 1
    return counts


def _inside(snapshot: Snapshot, counts: Counter[tuple[int, int, str]]) -> dict[int, str]:
    """zone -> what its nodes say of each other, in words."""
    return {
        number: ", ".join(f"{counts[number, number, colour]:,} {colour}" for colour in EDGES if counts[number, number, colour])
        for number in range(len(snapshot.zones))
    }


def _draw_between(
    graph: pydot.Dot, theme: Theme, one: int, two: int, between: dict[str, int], places: dict[int, Place]
) -> None:
    """What two zones say of each other. The counts are a node on the way, so that nothing is laid over them."""
    main = RED if RED in between else max(between, key=lambda colour: between[colour])
    cells = "".join(
        f'<TR><TD><FONT COLOR="{getattr(theme, colour)}">{count:,} {colour}</FONT></TD></TR>'
        for colour, count in between.items()
    )
    middle = Place((places[one].x + places[two].x) / 2, (places[one].y + places[two].y) / 2)
    label = f"e{one}x{two}"
    graph.add_node(
        pydot.Node(
            label,
            label=f'<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="0" BGCOLOR="{theme.paper}">{cells}</TABLE>>',
            pos=shapes.position(middle),
            shape="plaintext",
            fontsize=shapes.SMALL,
            height=0.1,
            width=0.1,
            margin=quoted("0.02,0.01"),
        )
    )
    for end in (one, two):
        graph.add_edge(
            pydot.Edge(
                f"z{end}",
                label,
                color=quoted(getattr(theme, main)),
                style=shapes.STYLES[main],
                dir="none",
                penwidth=shapes.WIDTHS[main],
            )
        )


def _lines(snapshot: Snapshot, number: int, inside: str) -> list[str]:
    """What is said of a zone."""
    zone = snapshot.zones[number]
    nodes = [snapshot.by_name[name] for name in zone.names]
    states = Counter(node.state for node in nodes)
    shown = zone.shown if len(zone.shown) <= POLICY_CHARACTERS else zone.shown[: POLICY_CHARACTERS - 1] + "…"
    others = {"overloaded": sum(node.is_overloaded for node in nodes), "silent": sum(_is_silent(node) for node in nodes)}
    return [
        f"{len(zone.names)} nodes, {shown}",
        ", ".join(f"{count} {state}" for state, count in [*states.most_common(), *others.items()] if count),
        "inside: " + (inside or "no edges"),
    ]


def _zone(theme: Theme, number: int, place: Place, lines: list[str]) -> pydot.Node:
    return pydot.Node(
        f"z{number}",
        label=quoted(*lines),
        pos=shapes.position(place),
        shape="box",
        style=quoted("rounded,filled"),
        fillcolor=quoted(theme.alive),
        color=quoted(theme.ink),
        fontsize=shapes.FONT_SIZE,
        penwidth=1.4,
        margin=quoted("0.16,0.1"),
    )


def _is_silent(node: Node) -> bool:
    return node.state == ALIVE and not node.has_answered


def _draw_apart(graph: pydot.Dot, snapshot: Snapshot, theme: Theme, number: int, place: Place, at: float, zones: int) -> None:
    """The nodes of a zone that need attention, around it; the rest of them as a count."""
    members = [snapshot.by_name[name] for name in snapshot.zones[number].names]
    apart = [node for node in members if node.state != ALIVE or not node.has_answered or node.is_overloaded]
    apart.sort(key=lambda node: (node.state == LEFT, node.state == ALIVE, node.name))
    shown = apart[: APART_MAX - 1] if len(apart) > APART_MAX else apart
    count = len(shown) + (len(shown) < len(apart))
    spread = 2 * math.pi if zones == 1 else math.pi * 0.9
    for index in range(count):
        share = index / count if zones == 1 else ((index + 0.5) / count - 0.5)
        distance = 150 if zones == 1 else 165 + 50 * (index % 2)
        towards = at + spread * share
        where = Place(place.x + WIDER * distance * math.cos(towards), place.y + distance * math.sin(towards))
        leaf = f"z{number}n{index}"
        if index < len(shown):
            graph.add_node(shapes.node(leaf, shown[index], theme, where, shapes.SMALL))
        else:
            graph.add_node(shapes.note(leaf, f"and {len(apart) - len(shown)} more", theme, where))
        graph.add_edge(pydot.Edge(f"z{number}", leaf, color=quoted(theme.line), arrowhead="none"))
