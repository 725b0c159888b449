"""The weight graph, by its pixels."""

import io
import math

import pytest
from PIL import Image

from bdserver.audit import bars
from bdserver.audit.colours import DARK, LIGHT
from bdserver.audit.crawl import Offer
from bdserver.audit.snapshot import Snapshot

from . import crawls
from .crawls import rgb


def picture(snapshot, theme=LIGHT):
    return Image.open(io.BytesIO(bars.draw(snapshot, theme)))


def two_nodes():
    made = crawls.mesh(3, dead=[2])
    made.statuses["n000"] = crawls.status(
        "n000", 0, {"Heavy": Offer("static", 60.0, 1, True, ""), "Copy": Offer("dynamic", 20.0, 1, True, "")}, 80.0
    )
    made.statuses["n001"] = crawls.status("n001", 1, {"Heavy": Offer("static", 150.0, 1, True, "")}, 150.0)
    return Snapshot(made)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_bars_stand_where_they_must(theme):
    drawing = bars._Picture(two_nodes(), theme)
    image = Image.open(io.BytesIO(drawing.png()))
    assert image.size == (bars.WIDTH * bars.SCALE, image.height) and image.info["dpi"][0] == pytest.approx(192, abs=1)

    def at(weight, row):
        x = drawing._x(weight) * bars.SCALE
        return image.getpixel((round(x), round((bars.MARGIN + row * bars.ROW + 8) * bars.SCALE)))

    heavy, copy = rgb(theme.services[0]), rgb(theme.services[1])
    assert at(5, 0) == at(55, 0) == heavy and at(145, 1) == heavy
    assert at(90, 0) == rgb(theme.paper), "nothing behind the end of a bar"
    hatched = {at(60 + k / 10, 0) for k in range(5, 195, 5)}
    assert copy in hatched and rgb(theme.paper) in hatched, "a replica is hatched"
    assert at(100, 0) == at(100, 1) == rgb(theme.red), "RT is a vertical line in each row"
    names = {row: _colours_of_name(drawing, image, row) for row in range(3)}
    assert rgb(theme.ink) in names[0] and rgb(theme.red) in names[1] and rgb(theme.others) in names[2]


def _colours_of_name(drawing, image, row):
    top = (bars.MARGIN + row * bars.ROW) * bars.SCALE
    box = image.crop((0, top, round((drawing.left - 4) * bars.SCALE), top + bars.ROW * bars.SCALE))
    return {colour for _, colour in box.getcolors(1 << 20)}


def test_of_many_nodes_the_bars_show_those_nearest_to_their_threshold():
    snapshot = Snapshot(crawls.mesh(300, overloaded=[250]))
    drawing = bars._Picture(snapshot, LIGHT)
    assert len(drawing.rows) == bars.ROWS_MAX and "250 more" in drawing.note
    assert "n250" in [node.name for node in drawing.rows]
    assert min(node.load for node in drawing.rows) >= sorted(node.load for node in snapshot.nodes)[-bars.ROWS_MAX]
    assert picture(snapshot).height < 2000 * bars.SCALE


@pytest.mark.parametrize("step", [0.03, 0.99, 1, 1.01, 3, 7, 45, 1234])
def test_ticks_are_nice_numbers(step):
    nice = bars._nice(step)
    assert step <= nice <= 2.5 * step
    assert round(nice / 10 ** math.floor(math.log10(nice) + 1e-9), 6) in (1, 2, 5)


def test_a_mesh_without_services_and_weight_is_drawn_too():
    made = crawls.mesh(1)
    made.statuses["n000"] = crawls.status("n000", 0, {}, 0.0)
    assert picture(Snapshot(made)).width == bars.WIDTH * bars.SCALE
