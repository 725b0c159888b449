"""A theme's palette, and pictures drawn by it."""

import io

import pytest
from PIL import Image

from bdserver.audit import palette, topology
from bdserver.audit.colours import DARK, LIGHT, THEMES
from bdserver.audit.snapshot import Snapshot
from tests.unit import crawls

BYTES_MAX = 2 << 20


def channels(colour):
    return tuple(bytes.fromhex(colour[1:]))


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_it_begins_with_the_themes_colours_and_goes_on_with_what_differs_from_them(theme):
    found = palette.colours(theme)
    own = {channels(each) for value in theme for each in ((value,) if isinstance(value, str) else value)}
    assert set(found[: len(own)]) == own and len(own) < len(found) <= palette.COLOURS_MAX
    assert len(set(found)) == len(found)


def test_without_room_the_themes_own_come_first(monkeypatch):
    monkeypatch.setattr(palette, "COLOURS_MAX", 25)
    assert channels(LIGHT.paper) in palette.colours(LIGHT) and len(palette.colours(LIGHT)) <= 25


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_a_picture_keeps_its_colours_to_the_letter(theme):
    drawn = Image.new("RGB", (40, 30), theme.paper)
    for number, colour in enumerate((theme.ink, theme.dead, theme.orange, *theme.services)):
        drawn.paste(colour, (number, 0, number + 1, 30))
    out = io.BytesIO()
    drawn.save(out, "PNG")
    with Image.open(io.BytesIO(palette.packed(out.getvalue(), theme))) as read:
        assert read.mode == "P" and read.convert("RGB").tobytes() == drawn.tobytes()


@crawls.needs_graphviz
def test_the_picture_of_many_nodes_is_small_enough_for_a_mail():
    png = topology.png(Snapshot(crawls.mesh(topology.NODES_MAX, dead=[3])), LIGHT, topology.SERVICES, 60)
    assert len(png) < BYTES_MAX
    with Image.open(io.BytesIO(png)) as read:
        assert crawls.has_colour(read.convert("RGB"), LIGHT.dead) and read.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
