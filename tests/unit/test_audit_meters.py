"""The bars of the page: as long as they must be, with links, and with nothing in them that a name could do."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from bdserver.audit import meters, weights
from bdserver.audit.colours import LIGHT, marks
from bdserver.audit.crawl import Offer
from bdserver.audit.snapshot import Snapshot

from . import crawls
from .crawls import HOSTILE


def parsed(made):
    return ElementTree.fromstring(str(meters.html(Snapshot(made))))


def row(made, name="n000"):
    [found] = [each for each in parsed(made).iter("li") if (link := each.find("a")) is not None and link.get("title") == name]
    return found


def with_weights(*kinds, **services):
    made = crawls.mesh(1)
    offers = {name: Offer(kind, weight, 1, True, "") for kind, (name, weight) in zip(kinds, services.items(), strict=True)}
    made.statuses["n000"] = crawls.status("n000", 0, offers, sum(services.values()))
    return made


def test_a_bar_is_a_share_of_the_threshold():
    bar = row(with_weights("static", "dynamic", Heavy=60.0, Light=15.0)).find("svg")
    rects = [rect for rect in bar.iter("rect") if rect.get("fill") != "url(#hatch)"]
    assert [(rect.get("x"), rect.get("width")) for rect in rects] == [("0.00%", "40.00%"), ("40.00%", "10.00%")]
    marked = marks(["Heavy", "Light"])
    assert [rect.get("fill") for rect in rects] == [LIGHT.services[marked[name].colour] for name in ("Heavy", "Light")]
    assert len([rect for rect in bar.iter("rect") if rect.get("fill") == "url(#hatch)"]) == 1, "a replica is hatched"
    assert bar.find("line").get("x1") == "66.67%", "the threshold, in each row, of each mesh"
    assert [text.text for text in bar.iter("text")] == ["H", "L"]
    assert bar.get("aria-label") == "n000: 75.0 of 100 (Heavy 60 %, Light 15 %)"


def test_names_lead_to_their_pages_and_states_are_said_in_words():
    html = str(meters.html(Snapshot(crawls.troubled())))
    assert 'href="?node=n001"' in html and 'href="?service=Search"' in html
    rows = [
        each for each in parsed(crawls.troubled()).iter("li") if each.find("span") is not None and each.find("a") is not None
    ]
    words = {each.find("a").get("title"): each.find("span").text for each in rows}
    assert words["n003"] == "dead" and words["n006"] == "silent, about 30 %" and words["n002"] == "130.0 of 100"


def test_what_is_over_the_end_has_an_arrow():
    bar = row(with_weights("static", Heavy=500.0)).find("svg")
    assert bar.find("g/rect").get("width") == "100.00%" and "▶" in [text.text for text in bar.iter("text")]


def test_many_nodes_and_services_are_cut_to_what_can_be_read():
    made = crawls.mesh(300)
    made.statuses["n000"] = crawls.status("n000", 0, {f"s{k}": Offer("static", 0.1, 1, True, "") for k in range(500)}, 50.0)
    html = str(meters.html(Snapshot(made)))
    assert html.count('class="bar"') == weights.ROWS_MAX + 1 and "250 more nodes" in html
    assert re.search(rf"and {510 - meters.KEY_MAX} services more", html)


@pytest.mark.parametrize("text", [*HOSTILE, "<script>alert(1)</script>", '" onload="alert(1)', "{0}{name}"])
def test_names_from_the_mesh_stay_text_in_the_bars(text):
    made = crawls.mesh(1)
    made.statuses["n000"] = crawls.status("n000", 0, {text: Offer("dynamic", 50.0, 1, True, text)}, 50.0)
    html = str(meters.html(Snapshot(made)))
    assert "<script" not in html and "<b>" not in html and 'onload="' not in html and "style=" not in html
