"""Pictures inside a page: SVG whose links work, whose colours follow the page's theme, and which holds shapes and words alone.

What Graphviz drew is taken apart, and only elements and attributes that are listed here are put together again; a link leads to
a page of the audit or nowhere. Colours are attributes, as in the light, and classes, by which the page's style darkens them.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from functools import cache

from markupsafe import Markup

from bdserver.audit.colours import DARK, LIGHT, Theme
from bdserver.errors import NotDrawn

ELEMENTS = frozenset({"svg", "g", "a", "polygon", "polyline", "ellipse", "path", "text"})
ATTRIBUTES = frozenset({
    "cx", "cy", "d", "fill", "fill-opacity", "font-family", "font-size", "font-weight", "points", "rx", "ry", "stroke",
    "stroke-dasharray", "stroke-opacity", "stroke-width", "text-anchor", "transform", "viewBox", "x", "y",
})  # fmt: skip
LINK = re.compile(r"\?(?:node|service)=[A-Za-z0-9%._~-]+")
XLINK = "{http://www.w3.org/1999/xlink}"
PIXELS_PER_POINT = 96 / 72
ENDS = {
    "■": Markup('<rect x="18" y="2" width="8" height="8" {}/>'),
    "|": Markup('<rect x="25" y="1" width="3" height="10" {}/>'),
}
DASHES = {"--": "6 4", "··": "2 4"}
# Pixels: how far the page makes a picture smaller, before it scrolls, goes by its own width.
TINY, SMALL, LARGE = 440, 900, 1300


def inline(drawn: bytes, described: str) -> Markup:
    """Graphviz's picture as an element of a page; `described`: in words. NotDrawn when it is none."""
    try:
        root = ElementTree.fromstring(drawn)
        width, height = (round(float(root.attrib[side].removesuffix("pt")) * PIXELS_PER_POINT) for side in ("width", "height"))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise NotDrawn(f"Graphviz's picture can't be read: {error}") from error
    kept = _kept(root)
    if kept is None or kept.tag != "svg":
        raise NotDrawn("Graphviz drew no SVG")
    kept.attrib |= {
        "width": str(width),
        "height": str(height),
        "class": f"picture {_size_of(width)}",
        "role": "group",
        "aria-label": described,
    }
    return Markup(ElementTree.tostring(kept, encoding="unicode"))  # of listed elements alone, and escaped


def _size_of(width: int) -> str:
    """As the style of the page knows it: a tiny one fits a telephone, and stays legible."""
    return next((size for limit, size in ((TINY, "tiny"), (SMALL, "small"), (LARGE, "medium")) if width < limit), "large")


def _kept(element: ElementTree.Element) -> ElementTree.Element | None:
    """What is let through of an element."""
    name = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    if name not in ELEMENTS:
        return None
    kept = ElementTree.Element(name, {key: value for key, value in element.attrib.items() if key in ATTRIBUTES})
    classes = [named for key in ("fill", "stroke") if (named := class_of(key, kept.get(key, "")))]
    if classes:
        kept.set("class", " ".join(classes))
    if name == "a":
        _link(element, kept)
    kept.text = element.text if name == "text" else None
    kept.extend(child for each in element if (child := _kept(each)) is not None)
    return kept


def _link(element: ElementTree.Element, kept: ElementTree.Element) -> None:
    """Where it leads, and what is said of it while a pointer is over it."""
    address, words = element.get(XLINK + "href", ""), element.get(XLINK + "title")
    if LINK.fullmatch(address):
        kept.set("href", address)
    else:
        kept.tag = "g"
    if words:
        ElementTree.SubElement(kept, "title").text = words


def sample(colour: str, mark: str) -> Markup:
    """For a key: how an edge looks, by a theme's colour and the letters that stand for it in Graphviz's own."""
    value = getattr(LIGHT, colour)
    end = ENDS.get(mark[-1], Markup("")).format(Markup(paint("fill", value)))
    return Markup(
        '<svg class="sample" width="28" height="12" aria-hidden="true">'
        '<line x1="0" x2="28" y1="6" y2="6" stroke-width="2" stroke-dasharray="{}" {}/>{}</svg>'
    ).format(DASHES.get(mark[0] + mark[-1], "none"), Markup(paint("stroke", value)), end)


# --- colours ------------------------------------------------------------------------------------------------------

PREFIX = {"fill": "f-", "stroke": "k-"}


@cache
def _names() -> dict[str, tuple[str, str]]:
    """A colour of the light -> its name, and what it is in the dark."""

    def flat(theme: Theme) -> dict[str, str]:
        single = {name: value for name, value in theme._asdict().items() if isinstance(value, str)}
        return single | {f"s{number}": value for number, value in enumerate(theme.services)}

    dark = flat(DARK)
    return {colour: (name, dark[name]) for name, colour in flat(LIGHT).items()}


def class_of(what: str, colour: str) -> str:
    """The class of a `fill` or `stroke` of this colour; "" for what is the same in the dark."""
    return PREFIX[what] + _names()[colour][0] if colour in _names() else ""


def paint(what: str, colour: str) -> str:
    """The attribute for an element with one colour: `fill="…" class="…"`."""
    return f'{what}="{colour}" class="{class_of(what, colour)}"'


@cache
def style() -> str:
    """The rules that the pictures need in a page: the colours of the dark."""
    rules = "".join(f".{PREFIX[what]}{name}{{{what}:{dark}}}" for name, dark in _names().values() for what in PREFIX)
    return f"@media screen and (prefers-color-scheme: dark){{{rules}}}\n"
