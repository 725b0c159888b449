"""The weight graph, by its pixels."""

import io

import pytest
from PIL import Image

from bdserver.audit import bars, weights
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
        x = drawing._x(weight / 100) * bars.SCALE
        return image.getpixel((round(x), round((bars.MARGIN + row * bars.ROW + 8) * bars.SCALE)))

    heavy, copy = (rgb(theme.services[drawing.marks[name].colour]) for name in ("Heavy", "Copy"))
    assert at(25, 0) == at(75, 0) == heavy and at(145, 1) == heavy
    assert at(90, 0) == rgb(theme.paper), "nothing behind the end of a bar"
    hatched = {at(k / 10, 0) for k in range(5, 195, 5)}
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
    assert len(drawing.rows) == weights.ROWS_MAX and "250 more" in drawing.note
    assert "n250" in [node.name for node in drawing.rows]
    assert min(node.load for node in drawing.rows) >= sorted(node.load for node in snapshot.nodes)[-weights.ROWS_MAX]
    assert picture(snapshot).height < 2000 * bars.SCALE


def test_the_scale_is_the_same_in_each_picture():
    """Two pictures can be compared: where the threshold is, and half of it, does not depend on what is drawn."""
    calm, wild = crawls.mesh(3), crawls.mesh(3)
    wild.statuses["n000"] = crawls.status("n000", 0, {"Heavy": Offer("static", 9000.0, 1, True, "")}, 9000.0)
    shares = [[drawing._x(share) / drawing._x(1.0) for share in (0.5, 1.5)] for drawing in map(of, (calm, wild))]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert of(calm)._x(weights.TOP) == of(calm).right and of(wild)._x(weights.TOP) == of(wild).right


def of(made):
    return bars._Picture(Snapshot(made), LIGHT)


def test_what_is_over_the_end_is_cut_and_pointed_at():
    made = crawls.mesh(2)
    made.statuses["n001"] = crawls.status("n001", 1, {"Heavy": Offer("static", 400.0, 1, True, "")}, 400.0)
    drawing = of(made)
    image = Image.open(io.BytesIO(drawing.png())).convert("RGB")
    y = round((bars.MARGIN + 1.5 * bars.ROW) * bars.SCALE)
    assert image.getpixel((round((drawing.right + 4) * bars.SCALE), y)) == rgb(LIGHT.red), "an arrow beyond the end"
    assert image.getpixel((round((drawing.right + 10) * bars.SCALE), y)) == rgb(LIGHT.paper)
    assert "n001 400.0 of 100" in weights.description(Snapshot(made))


def test_a_service_has_the_same_colour_in_the_next_picture():
    before = crawls.mesh(1)
    before.statuses["n000"] = crawls.status("n000", 0, {"Stock": Offer("static", 60.0, 1, True, "")}, 60.0)
    after = crawls.mesh(1)
    more = {name: Offer("static", 20.0, 1, True, "") for name in ("Apples", "Bananas", "Stock")}
    after.statuses["n000"] = crawls.status("n000", 0, more, 60.0)
    assert of(before).marks["Stock"] == of(after).marks["Stock"]


def test_a_dead_node_has_no_bar_and_its_services_no_key():
    made = crawls.mesh(2, dead=[1])
    made.hearsay["n001"].services["Gone"] = Offer("static", None, None, True, "")
    assert "Gone" not in of(made).marks and weights.segments(Snapshot(made).by_name["n001"]) == []


def test_weight_that_no_service_accounts_for_is_grey():
    made = crawls.mesh(1)
    made.statuses["n000"] = crawls.status("n000", 0, {"Heavy": Offer("static", 30.0, 1, True, "")}, 50.0)
    assert [tuple(each) for each in weights.segments(Snapshot(made).nodes[0])] == [
        ("Heavy", 0.0, 0.3, False),
        ("", 0.3, 0.5, False),
    ]


def test_a_mesh_without_services_and_weight_is_drawn_too():
    made = crawls.mesh(1)
    made.statuses["n000"] = crawls.status("n000", 0, {}, 0.0)
    assert picture(Snapshot(made)).width == bars.WIDTH * bars.SCALE


def test_names_that_are_too_long_are_cut_and_services_that_are_too_many_are_counted():
    made = crawls.mesh(1)
    many = {f"service-{number:02}" * 5: Offer("static", 1.0, 1, True, "") for number in range(60)}
    made.statuses["n000"] = crawls.status("n000", 0, many, 60.0)
    drawing = of(made)
    assert drawing._cut("x" * 200, 100).endswith("…") and drawing._width(drawing._cut("x" * 200, 100)) <= 100
    words = [words for row in drawing.key for _, words in row]
    assert f"and {60 - bars.KEY_MAX} services more" in words and len(drawing.key) > 1
    assert all(drawing._width(each) <= bars.WIDTH for each in words) and picture(Snapshot(made)).height > 500


def test_without_a_font_on_the_host_pillows_own_is_taken(monkeypatch):
    find = bars.ImageFont.truetype

    def missing(font, *arguments, **settings):
        if font == "DejaVuSans.ttf":
            raise OSError("cannot open resource")
        return find(font, *arguments, **settings)

    monkeypatch.setattr(bars.ImageFont, "truetype", missing)
    assert picture(Snapshot(crawls.mesh(2))).width == bars.WIDTH * bars.SCALE
