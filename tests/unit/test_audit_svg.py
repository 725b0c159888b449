"""SVG in the page: links that lead into the audit alone, shapes and words alone, and a class for each colour of a theme."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from bdserver.audit import svg, topology
from bdserver.audit.colours import DARK, LIGHT
from bdserver.audit.crawl import Offer
from bdserver.audit.snapshot import Snapshot
from bdserver.errors import NotDrawn

from . import crawls
from .crawls import HOSTILE, needs_graphviz

DRAWN = (
    '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="75pt"'
    ' height="150pt" viewBox="0 0 75 150">{}</svg>'
)


def inline(inside):
    return str(svg.inline(DRAWN.format(inside).encode(), 'what "it" shows'))


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        '<image xlink:href="http://evil/x.png"/>',
        "<style>*{display:none}</style>",
        "<foreignObject><b>bold</b></foreignObject>",
        '<g onclick="alert(1)" style="color:red" id="totals"/>',
        '<use href="#totals"/>',
        "<!-- a comment -->",
        "<?php echo 1 ?>",
    ],
)
def test_what_is_not_listed_is_left_out(inside):
    said = inline(inside)
    assert not re.search(r"alert|evil|display|bold|color:|totals|comment|php", said)


@pytest.mark.parametrize(
    ("address", "is_kept"),
    [
        ("?node=n1", True),
        ("?service=a%22b", True),
        ("?node=", False),
        ("?kill=n1", False),
        ("javascript:alert(1)", False),
        ("http://evil/?node=n1", False),
        ("?node=a&amp;b=c", False),
        ("?node=a\n", False),
    ],
)
def test_a_link_leads_to_a_page_of_the_audit_or_nowhere(address, is_kept):
    said = inline(f'<a xlink:href="{address}" xlink:title="it"><text fill="#1b2027">word</text></a>')
    assert ("href=" in said) == is_kept == ("<a " in said)
    assert "word" in said and "<title>it</title>" in said


def test_a_picture_has_its_size_its_words_and_colours_for_the_dark():
    said = inline(f'<polygon fill="{LIGHT.alive}" stroke="{LIGHT.ink}" points="1,1 2,2"/><path stroke="#000000" d="M0,0"/>')
    root = ElementTree.fromstring(said)
    assert root.tag == "svg" and (root.get("width"), root.get("height")) == ("100", "200")
    assert root.get("aria-label") == 'what "it" shows' and root.get("viewBox") == "0 0 75 150"
    assert root[0].get("class") == "f-alive k-ink" and root[1].get("class") is None
    assert f".f-alive{{fill:{DARK.alive}}}" in svg.style() and f".k-s3{{stroke:{DARK.services[3]}}}" in svg.style()
    assert svg.style().startswith("@media screen and (prefers-color-scheme: dark)"), "and paper is light"


@pytest.mark.parametrize(("points", "kind"), [(300, "tiny"), (600, "small"), (700, "medium"), (1000, "large")])
def test_a_picture_says_how_large_it_is(points, kind):
    drawn = DRAWN.format("").replace("75pt", f"{points}pt").encode()
    assert ElementTree.fromstring(str(svg.inline(drawn, ""))).get("class") == f"picture {kind}"


def test_each_colour_of_the_light_has_one_in_the_dark():
    colours = [*LIGHT.services, *(value for value in LIGHT if isinstance(value, str))]
    assert len(set(colours)) == len(colours), "or a class would mean two things"
    assert all(svg.class_of("fill", colour) for colour in colours)


@pytest.mark.parametrize(
    "drawn", [b"", b"<svg", b"<html/>", b"<svg/>", b'<g width="1pt" height="1pt"/>', b'<svg width="x" height="1pt"/>']
)
def test_what_is_no_picture_is_said(drawn):
    with pytest.raises(NotDrawn):
        svg.inline(drawn, "")


@needs_graphviz
@pytest.mark.parametrize("text", [*HOSTILE, "<script>alert(1)</script>", '" onload="alert(1)', "javascript:alert(1)"])
def test_names_from_the_mesh_stay_text_in_the_svg(text):
    made = crawls.mesh(2)
    made.statuses["n000"] = made.statuses["n000"]._replace(services={text: Offer("static", 1.0, 1.0, True, text)})
    for view in topology.VIEWS:
        said = str(svg.inline(topology.render(topology.dot(Snapshot(made), LIGHT, view), "svg", 20), "what it shows"))
        root = ElementTree.fromstring(said)
        assert {each.tag for each in root.iter()} <= svg.ELEMENTS | {"title"}
        allowed = svg.ATTRIBUTES | {"class", "href", "width", "height", "role", "aria-label"}
        assert all(set(each.attrib) <= allowed for each in root.iter())
        assert all(svg.LINK.fullmatch(each.get("href")) for each in root.iter("a"))
