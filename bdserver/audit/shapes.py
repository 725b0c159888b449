"""What a topology is drawn with: nodes, services, edges, as elements of Graphviz's graph, with their sizes and links.

Texts from the mesh are quoted here, or escaped where a label is HTML-like; whatever stands in them, they stay text.
"""

from __future__ import annotations

import html
import urllib.parse

import pydot

from bdserver.audit.colours import Mark, Theme, on
from bdserver.audit.layout import Place, Size
from bdserver.audit.snapshot import GREEN, ORANGE, RED, YELLOW, Node
from bdserver.core.membership import ALIVE, DEAD, DYNAMIC, LEFT, SUSPECT, ServiceType

FONT = "Helvetica,Arial,DejaVu Sans,sans-serif"
FONT_SIZE, SMALL = 13, 11
# A name is wrapped where it has a mark between words, else anywhere; of what is longer than these lines the middle is left out.
LINE_CHARACTERS, LINES_MAX = 21, 4
# The width of a letter, in shares of the font's size: an ample guess, so that what is laid out by it has room.
LETTER = 0.62
LINE = 1.25
PALE = "60"  # behind a colour: how little it covers
SHAPES: dict[str, str] = {DEAD: "octagon", SUSPECT: "hexagon", LEFT: "box"}
STYLES = {GREEN: "solid", YELLOW: "dashed", ORANGE: "dotted", RED: "solid"}
HEADS = {GREEN: "normal", YELLOW: "normal", ORANGE: "normal", RED: "box"}
WIDTHS = {GREEN: 1.2, YELLOW: 2.0, ORANGE: 2.6, RED: 2.2}


def node(identity: str, node: Node, theme: Theme, place: Place, size: int = FONT_SIZE) -> pydot.Node:
    """A node: state by fill and by shape; a dashed line is silence, a thick red one overload."""
    return pydot.Node(
        identity,
        label=quoted(*_words(node)),
        pos=position(place),
        shape=SHAPES.get(node.state, "ellipse"),
        style=quoted("filled" if node.has_answered else "filled,dashed"),
        fillcolor=quoted(getattr(theme, node.state)),
        color=quoted(theme.red if node.is_overloaded else theme.ink),
        penwidth=2.4 if node.is_overloaded else 1,
        fontcolor=quoted(theme.ink),
        fontsize=size,
        width=0.4,
        height=0.3,
        margin=quoted("0.06,0.03"),
        URL=quoted(link("node", node.name)),
        tooltip=quoted(node.name),
    )


def node_size(node: Node, size: int = FONT_SIZE) -> Size:
    """How much room it takes, about."""
    words = _words(node)
    width, height = max(map(len, words)) * size * LETTER + 9, len(words) * size * LINE + 5
    return Size(width * 1.42, height * 1.42)  # an ellipse around it


def _words(node: Node) -> list[str]:
    words = wrapped(node.name)
    if node.state != ALIVE:
        words.append(node.state)
    if node.is_draining:
        words.append("draining")
    if node.is_overloaded:
        words.append("overloaded")
    if node.state == ALIVE and not node.has_answered:
        words.append("silent")
    return words


def service(identity: str, name: str, mark: Mark, theme: Theme, place: Place, notes: tuple[str, ...] = ()) -> pydot.Node:
    """A service: its letter on its colour, its name, and lines of lesser text."""
    ground = theme.services[mark.colour]
    lines = "<BR/>".join(escaped(line) for line in wrapped(name))
    for note in notes:
        lines += f'<BR/><FONT COLOR="{theme.soft}" POINT-SIZE="10">{escaped(note)}</FONT>'
    label = (
        '<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="3"><TR>'
        f'<TD BGCOLOR="{ground}"><FONT COLOR="{on(ground)}"><B>{mark.letter}</B></FONT></TD><TD>{lines}</TD></TR></TABLE>>'
    )
    return pydot.Node(
        identity,
        label=label,
        pos=position(place),
        shape="box",
        style=quoted("rounded,filled"),
        fillcolor=quoted(theme.paper),
        color=quoted(theme.soft),
        fontcolor=quoted(theme.ink),
        fontsize=SMALL,
        height=0.22,
        margin=quoted("0.03,0.01"),
        URL=quoted(link("service", name)),
        tooltip=quoted(name),
    )


def service_size(name: str, notes: tuple[str, ...] = ()) -> Size:
    """How much room it takes, about."""
    lines = wrapped(name)
    width = max(max(map(len, lines)) * SMALL * LETTER, max(map(len, notes), default=0) * 10 * LETTER)
    return Size(width + 32, len(lines) * SMALL * LINE + len(notes) * 13 + 9)


def note(identity: str, text: str, theme: Theme, place: Place) -> pydot.Node:
    """Words without a box."""
    return pydot.Node(
        identity,
        label=quoted(text),
        pos=position(place),
        shape="plaintext",
        fontcolor=quoted(theme.soft),
        fontsize=SMALL,
        height=0.2,
        margin=quoted("0.03,0.01"),
    )


def offer(node: str, service: str, kind: ServiceType, is_healthy: bool, theme: Theme) -> pydot.Edge:
    """The edge from a holder to a service: plain to an original, blue and dashed to a replica, barred where it is not well."""
    is_dynamic = kind == DYNAMIC
    return pydot.Edge(
        node,
        service,
        color=quoted(theme.blue if is_dynamic else theme.soft),
        style="dashed" if is_dynamic else "solid",
        arrowhead="none" if is_healthy else "tee",
        penwidth=1.3 if is_healthy else 2.4,
    )


def opinion(a: str, b: str, colour: str, theme: Theme, is_both: bool, is_pale: bool) -> pydot.Edge:
    """What A says of B, or both of each other."""
    return pydot.Edge(
        a,
        b,
        color=quoted(getattr(theme, colour) + (PALE if is_pale else "")),
        style=STYLES[colour],
        penwidth=0.6 if is_pale else WIDTHS[colour],
        dir="none" if is_both or is_pale else "forward",
        arrowhead=HEADS[colour],
    )


# --- Graphviz's language ------------------------------------------------------------------------------------------


def position(place: Place) -> str:
    """Where it begins; overlaps are removed from there."""
    return f'"{place.x:.1f},{place.y:.1f}!"'


def quoted(*lines: str) -> str:
    """Lines as one string of the language."""
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in map(clean, lines)) + '"'


def clean(text: str) -> str:
    """Without what can't be printed."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def escaped(text: str) -> str:
    """Text in an HTML-like label."""
    return html.escape(clean(text))


def link(kind: str, name: str) -> str:
    """To the page of a node or service, from the audit's own address."""
    return f"?{kind}={urllib.parse.quote(name, safe='', errors='replace')}"


def wrapped(name: str) -> list[str]:
    """A name in lines, whole if it can be."""
    most = LINE_CHARACTERS * LINES_MAX
    if len(name) > most:
        name = name[: most // 2 - 4] + "…" + name[-(most // 2 - 4) :]
    lines: list[str] = []
    while len(name) > LINE_CHARACTERS:
        cut = 1 + max(name.rfind(mark, LINE_CHARACTERS // 2, LINE_CHARACTERS) for mark in ".-_ ")
        cut = cut if cut > 0 and len(lines) + -(-(len(name) - cut) // LINE_CHARACTERS) < LINES_MAX else LINE_CHARACTERS
        lines.append(name[:cut])
        name = name[cut:]
    return [*lines, name]
