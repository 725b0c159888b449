"""Where the nodes and services of a topology stand: geometry alone, in points, the same for the same mesh. Pure.

Nodes stand on an oval, clockwise from the top in the order of their names, so each is found again in the next picture. A
service stands outside of the one node that has it, or of two neighbours; one that more nodes have stands inside, on their side,
where no edge to it runs behind another node. The oval grows until nothing covers anything; Graphviz's own removal of overlaps
does the rest, as it knows the sizes of letters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from bdserver.core.tuples import NamedTuple

WIDER = 1.45
RADIUS_MIN = 105.0
GAP = 12.0
ROUND_MAX = 8
# Services of one node that stand side by side, or one below the other.
ROW_MAX, COLUMN_MAX = 5, 8
GROWTH = 1.12
# How often the oval may grow; so far, for services on lines.
TRIES, WIDENED = 12, 6
ROUNDS = 60
# Inside the oval, in shares of its radius: how far out a service stands at most, and those of nodes all around.
INNER, CENTRE = 0.68, 0.3
# By how much those are turned from where nodes stand, so that no line to one runs behind the next: two begin side by side.
BESIDE, ASKEW = math.pi / 2, 1.0
# Where a service inside looks for a place with no line behind it; how near to the oval, and to a line; of how many.
STEPS_X, STEPS_Y = 96, 72
STEPS = sorted(
    ((x, y) for x in range(-STEPS_X, STEPS_X + 1, 16) for y in range(-STEPS_Y, STEPS_Y + 1, 12)),
    key=lambda step: (math.hypot(*step), step),
)
INSIDE, CLEAR, LINES_MAX, LOOSE_MAX = 0.8, 5.0, 60, 24
# A line that is to be seen weighs as much as so many offers; and how often each service looks around, as others move.
GRAVE, LOOKS = 100, 2
# Meshes, and views of them, whose places are kept.
KEPT_MAX = 8
# Below it the holders' mean direction says nothing.
SPREAD = 0.2


class Size(NamedTuple):
    """Of a label's box."""

    width: float
    height: float


class Place(NamedTuple):
    """The middle of a box; y grows upward."""

    x: float
    y: float


class _Box:
    """A box that may be pushed away."""

    def __init__(self, place: Place, size: Size, is_fixed: bool):
        self.x, self.y = place
        self.size, self.is_fixed = size, is_fixed


def angle(number: int, count: int) -> float:
    """Of one of `count` on the oval, clockwise from the top: as far from each other, or many one a line, so that the oval is
    no larger than the lines of their names need."""
    if count <= ROUND_MAX:
        return math.pi / 2 - 2 * math.pi * number / count
    down = 4 * number / count
    return math.asin(1 - down) if down <= 2 else math.pi - math.asin(down - 3)


def arrange(
    nodes: Mapping[str, Size], services: Mapping[str, tuple[Size, Sequence[str]]], lines: Sequence[tuple[str, str]] = ()
) -> tuple[Mapping[str, Place], Mapping[str, Place]]:
    """The places of nodes, and of services, each with the names of its holders. `lines`: pairs of nodes with an edge that is to
    be seen; no service is laid on it if it can stand elsewhere."""
    offered = ((name, (size, tuple(holders))) for name, (size, holders) in services.items())
    return _arranged(tuple(nodes.items()), tuple(offered), tuple(lines[:LINES_MAX]))


@lru_cache(KEPT_MAX)
def _arranged(
    of_nodes: tuple[tuple[str, Size], ...],
    of_services: tuple[tuple[str, tuple[Size, tuple[str, ...]]], ...],
    lines: tuple[tuple[str, str], ...],
) -> tuple[Mapping[str, Place], Mapping[str, Place]]:
    """From one look to the next a mesh seldom changes in what counts here."""
    nodes, services = dict(of_nodes), dict(of_services)
    radius = max(RADIUS_MIN, 8.0 * len(nodes)) if len(nodes) > 1 else 0.0
    angles = {name: angle(number, len(nodes)) for number, name in enumerate(nodes)}
    for tried in range(TRIES):
        boxes = {name: _Box(_on_oval(at, radius), nodes[name], True) for name, at in angles.items()}
        loose = _services(services, angles, boxes, radius)
        offers = [(boxes[holder], loose[name]) for name, (_, holders) in services.items() for holder in holders]
        behind = _off_the_lines(list(loose.values()), [(boxes[a], boxes[b]) for a, b in lines], offers, radius)
        _push_apart(list(boxes.values()), list(loose.values()))
        if (not behind or tried >= WIDENED) and _is_apart(list(boxes.values()) + list(loose.values())):
            break
        radius = max(radius, RADIUS_MIN / 2) * GROWTH
    return _places(boxes), _places(loose)


def _places(boxes: Mapping[str, _Box]) -> dict[str, Place]:
    return {name: Place(box.x, box.y) for name, box in boxes.items()}


def _on_oval(at: float, radius: float) -> Place:
    return Place(WIDER * radius * math.cos(at), radius * math.sin(at))


def _services(
    services: Mapping[str, tuple[Size, Sequence[str]]], angles: Mapping[str, float], boxes: Mapping[str, _Box], radius: float
) -> dict[str, _Box]:
    order = {name: number for number, name in enumerate(angles)}
    outside: dict[float, list[str]] = {}
    found: dict[str, _Box] = {}
    everywhere: list[str] = []
    for name, (size, holders) in services.items():
        x = sum(math.cos(angles[holder]) for holder in holders) / max(len(holders), 1)
        y = sum(math.sin(angles[holder]) for holder in holders) / max(len(holders), 1)
        share, at = math.hypot(x, y), math.atan2(y, x)
        if not holders:  # a note on what is not drawn: below, where no edge runs
            outside.setdefault(round(-math.pi / 2, 3), []).append(name)
        elif len(holders) == 1 or (share > SPREAD and _is_pair([order[holder] for holder in holders], len(order))):
            outside.setdefault(round(at, 3), []).append(name)
        elif share < SPREAD:
            everywhere.append(name)
        else:
            found[name] = _Box(_on_oval(at, INNER * share * radius), size, False)
    for number, name in enumerate(everywhere):
        distance = CENTRE * radius if len(everywhere) > 1 or len(order) % 2 == 0 else 0.0
        beside = BESIDE if len(everywhere) == 2 else ASKEW
        found[name] = _Box(_on_oval(angle(number, len(everywhere)) + beside, distance), services[name][0], False)
    for at, names in outside.items():
        widest, highest = (max(services[name][0][side] for name in names) for side in (0, 1))
        for name, place in zip(names, _outside(at, radius, len(names), Size(widest, highest), boxes), strict=True):
            found[name] = _Box(place, services[name][0], False)
    return found


def _is_pair(places: list[int], count: int) -> bool:
    """Whether these are two neighbours."""
    return len(places) == 2 and (places[0] - places[1]) % count in (1, count - 1)


def _outside(at: float, radius: float, count: int, size: Size, boxes: Mapping[str, _Box]) -> list[Place]:
    """Outward of the oval, in rows above and below it, else in columns beside it."""
    x, y = _on_oval(at, radius)
    is_above, found = abs(math.cos(at)) < 0.3, []
    abreast = min(count, ROW_MAX if is_above else COLUMN_MAX)
    for number in range(count):
        along, away = number % abreast - (min(abreast, count - number // abreast * abreast) - 1) / 2, number // abreast
        if is_above:
            outward = size.height + 46 + away * (size.height + GAP)
            found.append(Place(x + (size.width + GAP) * along, y + math.copysign(outward, math.sin(at))))
        else:
            widest = max(box.size.width for box in boxes.values())
            outward = (widest + size.width) / 2 + 2 * GAP + away * (size.width + GAP)
            beside = y + 26 * math.sin(at) - (size.height + 5) * along
            found.append(Place(x + math.copysign(outward, math.cos(at)), beside))
    return found


# A line between the middles of two boxes.
Line = tuple[_Box, _Box]


def _off_the_lines(loose: list[_Box], lines: list[Line], offers: list[Line], radius: float) -> int:
    """Each service inside the oval to the nearest place near it where fewest lines run behind it, and nothing else stands. How
    many are still on lines.

    The lines from holders to services, `offers`, count less: of many, some must cross."""
    if not (lines or offers) or len(loose) > LOOSE_MAX:
        return 0
    for _ in range(LOOKS):
        left = sum(_move(box, loose, lines, offers, radius) >= GRAVE for box in loose if _is_inside(box.x, box.y, radius))
    return left


def _move(box: _Box, loose: list[_Box], lines: list[Line], offers: list[Line], radius: float) -> float:
    """One service to its best place; how much is wrong with that."""
    x, y = box.x, box.y
    around = _Box(Place(x, y), Size(box.size.width + 2 * STEPS_X, box.size.height + 2 * STEPS_Y), False)
    near = [line for line in lines if _crosses(around, *line)]
    foreign = [line for line in offers if line[1] is not box and _crosses(around, *line)]
    own, others = [holder for holder, service in offers if service is box], [other for other in loose if other is not box]
    fewest = math.inf
    for dx, dy in STEPS:
        if not _is_inside(x + dx, y + dy, radius):
            continue
        tried = _Box(Place(x + dx, y + dy), box.size, False)
        behind = 0
        for fault in _faults(tried, near, foreign, own, others):
            behind += fault
            if behind >= fewest:
                break
        else:
            fewest, box.x, box.y = behind, tried.x, tried.y
        if not fewest:
            break
    return fewest


def _faults(box: _Box, lines: list[Line], foreign: list[Line], own: list[_Box], others: list[_Box]) -> Iterator[int]:
    """What is wrong with a service's place, the gravest first."""
    for other in others:
        if min(_overlap(box, other)) > 0:
            yield 2 * GRAVE
    for line in lines:
        if _crosses(box, *line):
            yield GRAVE
    for line in foreign:
        if _crosses(box, *line):
            yield 1
    for holder in own:
        for other in others:
            if _crosses(other, holder, box):
                yield 1


def _is_inside(x: float, y: float, radius: float) -> bool:
    return bool(radius) and math.hypot(x / (WIDER * radius), y / radius) < INSIDE


def _crosses(box: _Box, one: _Box, two: _Box) -> bool:
    """Whether the line between two boxes' middles runs behind a third."""
    first, last = 0.0, 1.0
    for start, end, middle, half in (
        (one.x, two.x, box.x, box.size.width / 2 + CLEAR),
        (one.y, two.y, box.y, box.size.height / 2 + CLEAR),
    ):
        if abs(end - start) < 1e-9:
            if abs(start - middle) > half:
                return False
            continue
        enters, leaves = sorted(((middle - half - start) / (end - start), (middle + half - start) / (end - start)))
        first, last = max(first, enters), min(last, leaves)
    return first < last


def _push_apart(fixed: list[_Box], loose: list[_Box]) -> None:
    """Loose boxes out of each other and of the fixed ones, along the shorter way; a bounded number of rounds."""
    for _ in range(ROUNDS):
        is_moved = False
        for one, two in itertools.chain(itertools.combinations(loose, 2), itertools.product(loose, fixed)):
            x, y = _overlap(one, two)
            if x <= 0 or y <= 0:
                continue
            is_moved = True
            share = 1.0 if two.is_fixed else 0.5
            if x < y:
                push = math.copysign(x + 0.5, one.x - two.x)
                one.x += push * share
                two.x -= 0.0 if two.is_fixed else push * share
            else:
                push = math.copysign(y + 0.5, one.y - two.y)
                one.y += push * share
                two.y -= 0.0 if two.is_fixed else push * share
        if not is_moved:
            return


def _overlap(one: _Box, two: _Box) -> tuple[float, float]:
    """By how much two boxes are too near each other, on both axes; they are when both are above 0."""
    return (
        (one.size.width + two.size.width) / 2 + GAP / 2 - abs(one.x - two.x),
        (one.size.height + two.size.height) / 2 + GAP / 2 - abs(one.y - two.y),
    )


def _is_apart(boxes: list[_Box]) -> bool:
    return not any(min(_overlap(one, two)) > 0 for one, two in itertools.combinations(boxes, 2))
