"""The weight graph by Pillow, as the original's: a row a node, a colour a service, replicas hatched, the axis in units of
weight, the node's threshold (RT) as a vertical line, an overloaded node's name in red, a dead one's in grey, a key.

Segments have their service's letter too, for those who do not tell the colours apart. More than ROWS_MAX nodes are not
drawn: those nearest to their threshold are, and a line says how many others there are.
"""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from bdserver.audit.colours import LIGHT, Theme, service_order
from bdserver.audit.snapshot import Node, Snapshot
from bdserver.core.membership import ALIVE, DYNAMIC, SUSPECT

ROWS_MAX = 50
# Pixels of the picture per pixel of a plain screen; every length below is in those.
SCALE = 2
WIDTH, MARGIN, ROW, BAR, KEY_ROW = 900, 16, 26, 16, 24
NAME_MIN, NAME_MAX = 60, 240
TICKS = 10
FONT_SIZE, LETTER_SIZE = 13, 11
HATCH = 6
OTHERS = "others"


class Segment(NamedTuple):
    """A service's part of a bar."""

    service: str
    weight: float
    is_dynamic: bool


def draw(snapshot: Snapshot, theme: Theme = LIGHT) -> bytes:
    """The PNG."""
    return _Picture(snapshot, theme).png()


def description(snapshot: Snapshot) -> str:
    """The picture in words, for those who do not see it."""
    said = [
        f"{node.name} {node.weight:.1f} of {node.receiver_threshold:g}" for node in _rows(snapshot) if node.weight is not None
    ]
    return f"Weight of each node of its threshold: {', '.join(said) or 'nobody answered'}."


def _rows(snapshot: Snapshot) -> list[Node]:
    if len(snapshot.nodes) <= ROWS_MAX:
        return snapshot.nodes
    return sorted(sorted(snapshot.nodes, key=lambda node: -node.load)[:ROWS_MAX], key=lambda node: node.name)


def _nice(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 1.0
    while power * 10 <= step:
        power *= 10
    while power > step:
        power /= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step)


class _Picture:
    """One drawing; lengths are multiplied by SCALE as late as can be."""

    def __init__(self, snapshot: Snapshot, theme: Theme):
        self.snapshot, self.theme = snapshot, theme
        self.rows = _rows(snapshot)
        self.font, self.small = _font(FONT_SIZE), _font(LETTER_SIZE)
        self.letters = {
            name: chr(ord("A") + number)
            for number, name in enumerate(service_order({each.name: each.weight for each in snapshot.services}))
        }
        self.colours = dict(zip(self.letters, theme.services, strict=False))
        widest = max((self._width(node.name) for node in self.rows), default=0)
        self.left = MARGIN + min(max(widest, NAME_MIN), NAME_MAX) + 10
        heaviest = max((max(node.weight or 0.0, node.receiver_threshold) for node in self.rows), default=1.0)
        self.step = _nice(max(heaviest * 1.05, 1e-9) / TICKS)
        self.top_weight = heaviest * 1.05
        self.key = self._key_rows()
        self.bottom = MARGIN + max(len(self.rows), 1) * ROW
        hidden = len(snapshot.nodes) - len(self.rows)
        self.note = f"{hidden} more nodes, farther from their thresholds" if hidden else ""
        height = self.bottom + 34 + KEY_ROW * (len(self.key) + bool(self.note)) + MARGIN
        self.image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), theme.paper)
        self.pen = ImageDraw.Draw(self.image)

    def png(self) -> bytes:
        """Everything drawn, and packed."""
        self._axis()
        for number, node in enumerate(self.rows):
            self._row(node, MARGIN + number * ROW)
        y = self.bottom + 34
        for row in self.key:
            self._key_row(row, y)
            y += KEY_ROW
        if self.note:
            self._text(self.left, y + KEY_ROW / 2, self.note, self.theme.soft)
        file = io.BytesIO()
        self.image.save(file, "PNG", optimize=True, dpi=(96 * SCALE, 96 * SCALE))
        return file.getvalue()

    # -- parts

    def _x(self, weight: float) -> float:
        return self.left + (WIDTH - MARGIN - self.left) * weight / self.top_weight

    def _axis(self) -> None:
        tick = 0.0
        while tick <= self.top_weight:
            self._line(self._x(tick), MARGIN, self._x(tick), self.bottom + 4, self.theme.line)
            self._text(self._x(tick), self.bottom + 12, f"{tick:g}", self.theme.soft, "mm")
            tick = round(tick + self.step, 9)
        self._line(self.left, self.bottom, WIDTH - MARGIN, self.bottom, self.theme.soft)
        self._text(MARGIN, self.bottom + 12, "weight", self.theme.soft)

    def _row(self, node: Node, y: float) -> None:
        is_there = node.state in (ALIVE, SUSPECT)
        colour = self.theme.red if node.is_overloaded else self.theme.ink if is_there else self.theme.others
        self._text(self.left - 10, y + ROW / 2, self._cut(node.name, self.left - 10 - MARGIN), colour, "rm")
        if node.weight is None:
            words = node.state if node.state != ALIVE else "did not answer"
            self._text(self.left + 6, y + ROW / 2, words, self.theme.soft)
            return
        x, weight = self._x(0), 0.0
        for segment in self._segments(node):
            weight += segment.weight
            self._segment(segment, x, self._x(weight), y + (ROW - BAR) / 2)
            x = self._x(weight)
        at = self._x(node.receiver_threshold)
        self._line(at, y + 1, at, y + ROW - 1, self.theme.red, 2)

    def _segments(self, node: Node) -> list[Segment]:
        """Of a bar, from its left: the services that have a colour, then all others as one."""
        own, rest = [], {False: 0.0, True: 0.0}
        for name, offer in node.services.items():
            if name in self.letters:
                own.append(Segment(name, offer.weight or 0.0, offer.type == DYNAMIC))
            else:
                rest[offer.type == DYNAMIC] += offer.weight or 0.0
        own.sort(key=lambda segment: self.letters[segment.service])
        return own + [Segment(OTHERS, weight, is_dynamic) for is_dynamic, weight in rest.items() if weight]

    def _segment(self, segment: Segment, x: float, right: float, y: float) -> None:
        if right - x < 1 / SCALE:
            return
        colour = self.colours.get(segment.service, self.theme.others)
        box = (round(x * SCALE), round(y * SCALE), round(right * SCALE), round((y + BAR) * SCALE))
        tile = Image.new("RGB", (max(box[2] - box[0], 1), box[3] - box[1]), colour)
        pen = ImageDraw.Draw(tile)
        if segment.is_dynamic:
            for start in range(-tile.height, tile.width, HATCH * SCALE):
                pen.line((start, tile.height, start + tile.height, 0), self.theme.paper, 2 * SCALE)
        pen.line((tile.width - 1, 0, tile.width - 1, tile.height), self.theme.paper, SCALE)
        self.image.paste(tile, box[:2])
        letter = self.letters.get(segment.service, "")
        if letter and right - x > 18:
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            ground = LETTER_SIZE * SCALE * 0.62
            self.pen.ellipse((middle[0] - ground, middle[1] - ground, middle[0] + ground, middle[1] + ground), self.theme.paper)
            self.pen.text(middle, letter, self.theme.ink, self.small, "mm")

    def _key_rows(self) -> list[list[tuple[str, str]]]:
        """(kind or service, words) in rows that fit the width."""
        entries = [(name, f"{letter}  {name}") for name, letter in self.letters.items()]
        if len(self.snapshot.services) > len(self.letters):
            entries.append((OTHERS, f"{len(self.snapshot.services) - len(self.letters)} other services"))
        entries += [("\0dynamic", "replica (dynamic)"), ("\0threshold", "RT, the node's threshold")]
        rows: list[list[tuple[str, str]]] = [[]]
        x = self.left
        for name, words in entries:
            width = 40 + self._width(words)
            if rows[-1] and x + width > WIDTH - MARGIN:
                rows.append([])
                x = self.left
            rows[-1].append((name, words))
            x += width
        return rows

    def _key_row(self, row: list[tuple[str, str]], y: float) -> None:
        x = self.left
        for name, words in row:
            if name == "\0threshold":
                self._line(x + 7, y + 3, x + 7, y + KEY_ROW - 3, self.theme.red, 2)
            else:
                self._segment(Segment(name, 0.0, name == "\0dynamic"), x, x + 15, y + (KEY_ROW - BAR) / 2)
            self._text(x + 20, y + KEY_ROW / 2, words, self.theme.ink)
            x += 40 + self._width(words)

    # -- lengths in pixels of a plain screen

    def _width(self, text: str) -> float:
        return self.font.getlength(text) / SCALE

    def _cut(self, text: str, width: float) -> str:
        if self._width(text) <= width:
            return text
        while text and self._width(text + "…") > width:
            text = text[:-1]
        return text + "…"

    def _text(self, x: float, y: float, text: str, colour: str, anchor: str = "lm") -> None:
        self.pen.text((x * SCALE, y * SCALE), text, colour, self.font, anchor)

    def _line(self, x: float, y: float, x2: float, y2: float, colour: str, width: float = 1) -> None:
        self.pen.line((x * SCALE, y * SCALE, x2 * SCALE, y2 * SCALE), colour, round(width * SCALE))


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu where the host has it (its letters reach farther), else Pillow's own."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size * SCALE)
    except OSError:
        return ImageFont.load_default(size * SCALE)  # type: ignore[return-value]
