"""A picture that Graphviz drew, as a PNG of few bytes: by a palette of the colours of its theme, which mean something.

Edges of letters and lines are blends with the paper, so the palette has some of those. In true colours the picture of 40
nodes has eight times the bytes; and a palette made anew for each picture takes longer, and shifts the colours.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

from bdserver.audit.colours import Theme

COLOURS_MAX = 256
# From a colour to the paper; blends that differ by less than NEAR in all (of 3 x 255) are one.
STEPS = 6
NEAR = 30
# zlib's: what more would save takes as long as the drawing.
COMPRESSION = 4

Colour = tuple[int, ...]


def packed(png: bytes, theme: Theme) -> bytes:
    """The same picture with the theme's colours alone."""
    with Image.open(io.BytesIO(png)) as drawn:
        plain = drawn.convert("RGB")
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for colour in colours(theme) for channel in colour])
    out = io.BytesIO()
    plain.quantize(palette=palette, dither=Image.Dither.NONE).save(out, "PNG", compress_level=COMPRESSION)
    return out.getvalue()


def colours(theme: Theme) -> list[Colour]:
    """The theme's own, first; then blends with its paper, as many as there is room for."""
    own = dict.fromkeys(map(_channels, _named(theme)))
    found = list(own)
    paper = _channels(theme.paper)
    for step in range(1, STEPS):
        for colour in own:
            blend = tuple(round(a + (b - a) * step / STEPS) for a, b in zip(colour, paper, strict=True))
            if len(found) < COLOURS_MAX and all(_distance(blend, other) >= NEAR for other in found):
                found.append(blend)
    return found


def _named(theme: Theme) -> Iterator[str]:
    for value in theme:
        yield from (value,) if isinstance(value, str) else value


def _channels(colour: str) -> Colour:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def _distance(one: Colour, two: Colour) -> int:
    return sum(abs(a - b) for a, b in zip(one, two, strict=True))
