"""The weights inside a page: the same bars as the picture's, each a row with a link, which is as wide as the page lets it be.

Lengths are shares of the row, so bars stay legible on a telephone; the name and the figure then stand above the bar.
"""

from __future__ import annotations

from markupsafe import Markup, escape

from bdserver.audit import weights
from bdserver.audit.colours import LIGHT, Mark, marks
from bdserver.audit.shapes import link
from bdserver.audit.snapshot import Node, Snapshot
from bdserver.audit.svg import paint
from bdserver.audit.weights import FULL, TOP, Segment

HEIGHT = 18
# Of the whole scale: below it there is no room for a letter.
LETTER_SHARE = 0.055
KEY_MAX = 40
HATCH = Markup(
    '<svg width="0" height="0" aria-hidden="true"><defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse"'
    ' patternTransform="rotate(45)"><rect width="2.5" height="6" {paper}/></pattern></defs></svg>'
).format(paper=Markup(paint("fill", LIGHT.paper)))


def html(snapshot: Snapshot) -> Markup:
    """The list of bars, its axis and its key."""
    names = weights.services(snapshot)
    marked = marks(names)
    rows = Markup("").join(_row(node, marked) for node in weights.rows(snapshot))
    note, others = weights.hidden(snapshot), len(names) - KEY_MAX
    key = Markup("").join(_key(name, marked[name]) for name in names[:KEY_MAX])
    more = Markup('<li class="soft">and {} services more</li>').format(others) if others > 0 else Markup("")
    dynamic = Markup("<li>{} replica</li>").format(_box(Segment("", 0.0, TOP, True), LIGHT.others))
    return Markup('<div class="weights">{}<ul class="rows">{}{}</ul>{}<ul class="key">{}{}{}</ul></div>').format(
        HATCH, rows, _axis(), Markup('<p class="note">{}</p>').format(note) if note else "", key, more, dynamic
    )


def _row(node: Node, marked: dict[str, Mark]) -> Markup:
    tone = "bad" if node.is_overloaded else "" if weights.is_there(node) else "soft"
    drawn = Markup("").join(_segment(segment, marked) for segment in weights.segments(node))
    if node.weight is not None:
        drawn += Markup('<line x1="{0}" x2="{0}" y1="0" y2="{1}" stroke-width="2" {2}/>').format(
            _percent(FULL), HEIGHT, Markup(paint("stroke", LIGHT.red))
        )
    if weights.is_cut(node):
        drawn += Markup('<text x="100%" y="14" text-anchor="end" font-size="14" {}>▶</text>').format(
            Markup(paint("fill", LIGHT.red))
        )
    words = weights.words(node)
    return Markup(
        '<li data-key="{name}"><a class="name {tone}" href="{href}" title="{name}">{name}</a>'
        '<svg class="bar" width="100%" height="{height}" role="img" aria-label="{said}">{drawn}</svg>'
        '<span class="words {tone}">{words}</span></li>'
    ).format(
        tone=tone,
        href=link("node", node.name),
        name=node.name,
        height=HEIGHT,
        said=_said(node),
        drawn=drawn,
        words=words,
    )


def _said(node: Node) -> str:
    shares = [f"{each.service or 'others'} {100 * (each.end - each.start):.0f} %" for each in weights.segments(node)]
    return f"{node.name}: {weights.words(node)}" + (f" ({', '.join(shares)})" if shares else "")


def _segment(segment: Segment, marked: dict[str, Mark]) -> Markup:
    mark = marked.get(segment.service)
    drawn = _rects(segment, LIGHT.services[mark.colour] if mark else LIGHT.others)
    words = f"{segment.service or 'others'}{' (replica)' if segment.is_dynamic else ''}"
    letter = Markup("")
    if mark and (segment.end - segment.start) / TOP >= LETTER_SHARE:
        middle = _percent((segment.start + segment.end) / 2)
        letter = Markup(
            '<circle cx="{0}" cy="9" r="7" {1}/><text x="{0}" y="13" text-anchor="middle" font-size="11" {2}>{3}</text>'
        ).format(middle, Markup(paint("fill", LIGHT.paper)), Markup(paint("fill", LIGHT.ink)), mark.letter)
    share = f"{100 * (segment.end - segment.start):.0f} % of RT"
    return Markup("<g><title>{}, {}</title>{}{}</g>").format(words, share, drawn, letter)


def _rects(segment: Segment, colour: str) -> Markup:
    at = Markup('x="{}" width="{}" y="1" height="{}"').format(
        _percent(segment.start), _percent(segment.end - segment.start), HEIGHT - 2
    )
    plain = Markup("<rect {} {}/>").format(at, Markup(paint("fill", colour)))
    return plain + (Markup('<rect {} fill="url(#hatch)"/>').format(at) if segment.is_dynamic else "")


def _box(segment: Segment, colour: str) -> Markup:
    return Markup('<svg width="14" height="{}" aria-hidden="true">{}</svg>').format(HEIGHT, _rects(segment, colour))


def _key(name: str, mark: Mark) -> Markup:
    return Markup('<li>{} {} <a href="{}">{}</a></li>').format(
        _box(Segment(name, 0.0, TOP, False), LIGHT.services[mark.colour]), mark.letter, link("service", name), name
    )


def _axis() -> Markup:
    """The scale below the bars."""
    ticks = Markup("").join(
        Markup('<text x="{}" y="12" text-anchor="{}" font-size="11" {}>{}</text>').format(
            _percent(tick),
            "start" if tick == 0 else "end" if tick == TOP else "middle",
            Markup(paint("fill", LIGHT.red if tick == FULL else LIGHT.soft)),
            "RT" if tick == FULL else f"{100 * tick:g} %",
        )
        for tick in (0.0, FULL / 2, FULL, TOP)
    )
    return Markup(
        '<li class="axis" aria-hidden="true"><span></span><svg class="bar" width="100%" height="16">{}</svg><span></span></li>'
    ).format(ticks)


def _percent(share: float) -> Markup:
    return escape(f"{100 * share / TOP:.2f}%")
