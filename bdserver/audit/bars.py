"""The weight graph by Pillow, as the original's: a row a node, a colour a service, replicas hatched, the node's threshold (RT)
as a vertical line, an overloaded node's name in red, a dead one's in grey, a key.

What is drawn, and on which scale, is weights'. Segments have their service's letter too, for those who do not tell the colours
apart; colour and letter go by the service's name.
"""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont

from bdserver.audit import weights
from bdserver.audit.colours import LIGHT, Theme, marks
from bdserver.audit.snapshot import Node, Snapshot
from bdserver.audit.weights import FULL, TICKS, TOP

# Pixels of the picture per pixel of a plain screen; every length below is in those.
SCALE = 2
WIDTH, MARGIN, ROW, BAR, KEY_ROW = 900, 16, 26, 16, 24
NAME_MIN, NAME_MAX, WORDS_MIN = 60, 240, 80
FONT_SIZE, LETTER_SIZE = 13, 11
HATCH = 6
# The key has this many services; a thousand would be all that one sees.
KEY_MAX = 40
DYNAMIC, THRESHOLD, OTHERS = "\0dynamic", "\0threshold", "\0others"


def draw(snapshot: Snapshot, theme: Theme = LIGHT) -> bytes:
    """The PNG."""
    return _Picture(snapshot, theme).png()


class _Picture:
    """One drawing; lengths are multiplied by SCALE as late as can be."""

    def __init__(self, snapshot: Snapshot, theme: Theme):
        self.theme = theme
        self.rows = weights.rows(snapshot)
        self.font, self.small = _font(FONT_SIZE), _font(LETTER_SIZE)
        names = weights.services(snapshot)
        self.marks = marks(names)
        widest = max((self._width(node.name) for node in self.rows), default=0)
        self.left = MARGIN + min(max(widest, NAME_MIN), NAME_MAX) + 10
        said = max((self._width(weights.words(node)) for node in self.rows if node.weight is not None), default=0)
        self.right = WIDTH - MARGIN - max(said, WORDS_MIN) - 10
        self.key = self._key_rows(names)
        self.bottom = MARGIN + max(len(self.rows), 1) * ROW
        self.note = weights.hidden(snapshot)
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

    def _x(self, share: float) -> float:
        return self.left + (self.right - self.left) * share / TOP

    def _axis(self) -> None:
        for tick in TICKS:
            self._line(self._x(tick), MARGIN, self._x(tick), self.bottom + 4, self.theme.line)
            words = "RT" if tick == FULL else f"{100 * tick:g} %"
            self._text(self._x(tick), self.bottom + 12, words, self.theme.red if tick == FULL else self.theme.soft, "mm")
        self._line(self.left, self.bottom, self.right, self.bottom, self.theme.soft)

    def _row(self, node: Node, y: float) -> None:
        colour = self.theme.red if node.is_overloaded else self.theme.ink if weights.is_there(node) else self.theme.others
        self._text(self.left - 10, y + ROW / 2, self._cut(node.name, self.left - 10 - MARGIN), colour, "rm")
        if node.weight is None:
            self._text(self.left + 6, y + ROW / 2, weights.words(node), self.theme.soft)
            return
        for segment in weights.segments(node):
            self._segment(
                segment.service, self._x(segment.start), self._x(segment.end), y + (ROW - BAR) / 2, segment.is_dynamic
            )
        if weights.is_cut(node):
            tip = [(self.right + x, y + ROW / 2 + dy) for x, dy in ((2, -6), (8, 0), (2, 6))]
            self.pen.polygon([(x * SCALE, y * SCALE) for x, y in tip], self.theme.red)
        self._line(self._x(FULL), y + 1, self._x(FULL), y + ROW - 1, self.theme.red, 2)
        self._text(self.right + 12, y + ROW / 2, weights.words(node), colour)

    def _segment(self, name: str, x: float, right: float, y: float, is_dynamic: bool) -> None:
        if right - x < 1 / SCALE:
            return
        mark = self.marks.get(name)
        colour = self.theme.services[mark.colour] if mark else self.theme.others
        box = (round(x * SCALE), round(y * SCALE), round(right * SCALE), round((y + BAR) * SCALE))
        tile = Image.new("RGB", (max(box[2] - box[0], 1), box[3] - box[1]), colour)
        pen = ImageDraw.Draw(tile)
        if is_dynamic:
            for start in range(-tile.height, tile.width, HATCH * SCALE):
                pen.line((start, tile.height, start + tile.height, 0), self.theme.paper, 2 * SCALE)
        pen.line((tile.width - 1, 0, tile.width - 1, tile.height), self.theme.paper, SCALE)
        self.image.paste(tile, box[:2])
        if mark and right - x > 18:
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            ground = LETTER_SIZE * SCALE * 0.62
            self.pen.ellipse((middle[0] - ground, middle[1] - ground, middle[0] + ground, middle[1] + ground), self.theme.paper)
            self.pen.text(middle, mark.letter, self.theme.ink, self.small, "mm")

    def _key_rows(self, names: list[str]) -> list[list[tuple[str, str]]]:
        """(kind or service, words) in rows that fit the width."""
        entries = [(name, f"{self.marks[name].letter}  {name}") for name in names[:KEY_MAX]]
        if len(names) > KEY_MAX:
            entries.append((OTHERS, f"and {len(names) - KEY_MAX} services more"))
        entries += [(DYNAMIC, "replica (dynamic)"), (THRESHOLD, "RT, the node's threshold")]
        rows: list[list[tuple[str, str]]] = [[]]
        x = self.left
        for name, words in entries:
            words = self._cut(words, WIDTH - MARGIN - self.left - 40)
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
            if name == THRESHOLD:
                self._line(x + 7, y + 3, x + 7, y + KEY_ROW - 3, self.theme.red, 2)
            elif name != OTHERS:
                self._segment(name, x, x + 15, y + (KEY_ROW - BAR) / 2, name == DYNAMIC)
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
