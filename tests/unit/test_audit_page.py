"""The audit page: what comes from the mesh stays text, and each table says what it should."""

import re

import pytest

from bdserver.audit import crawl, page
from bdserver.audit.crawl import Offer
from bdserver.audit.snapshot import Snapshot
from bdserver.core import attention

from . import crawls
from .crawls import HOSTILE

X = crawls.document("x")


@pytest.mark.parametrize("text", HOSTILE + ["<script>alert(1)</script>", '" onload="alert(1)', "{{ 7*7 }}"])
def test_nothing_from_the_mesh_becomes_markup(text):
    text = crawl._text(text)  # as everything that a crawl brings
    made = crawls.mesh(3, silent=[2], policies=[X])
    offers = {text: Offer("static", 1.0, 1.0, False, "javascript:alert(1)//" + text)}
    event = {"at": 1.0, "what": text, "service": text, "giver": text, "taker": "", "asker": text, "why": text}
    made.statuses["n000"] = made.statuses["n000"]._replace(
        services=offers,
        complaints=[text],
        findings=[attention.from_json({"text": text, "remedy": text, "key": text})],
        address=text,
        software=text,
        rival=text,
        events=[event],
        mesh=text,
    )
    made.failures["n002"] = ("deadline", text)
    html = page.render(Snapshot(made), 0, 20)
    for tag in ("<script>alert", "<b>", 'onload="alert(1)"'):
        assert tag not in html
    assert not re.search(r'href="(?!\?|#|https?:)', html), "only our own forms and http are linked"
    assert html.count("<script") == 1 and "49" not in re.findall(r"<h1>(.*)</h1>", html)[0]


def rendered(made):
    return page.render(Snapshot(made), 0, 20)


def with_services(**offers):
    made = crawls.mesh(1)
    made.statuses["n000"] = crawls.status("n000", 0, offers, 5.0)
    return made


def test_a_service_that_nobody_checks_is_not_called_well():
    html = rendered(with_services(Wiki=Offer("static", 1.0, 1.0, True, "", is_checked=False)))
    assert html.count(">not checked<") == 1 and "not well" not in html
    assert "not checked" not in rendered(with_services(Wiki=Offer("static", 1.0, 1.0, True, "")))
    sick = rendered(with_services(Wiki=Offer("static", 1.0, 1.0, False, "", is_checked=True)))
    assert "not checked" not in sick and ">not well<" in sick


@pytest.mark.parametrize(
    ("url", "is_linked"),
    [
        ("http://h/x", True),
        ("https://h/x", True),
        ("javascript:alert(1)", False),
        ("http:///x", False),
        ("http://[x/", False),
        ("", False),
    ],
)
def test_only_what_a_browser_fetches_is_linked(url, is_linked):
    html = rendered(with_services(Wiki=Offer("static", 1.0, 1.0, True, url)))
    assert (f'<a href="{url}">Wiki</a>' in html) == is_linked


def test_of_many_nodes_a_row_each_tells_who_heard_of_it():
    made = crawls.mesh(page.MATRIX_MAX + 1)
    for observer in made.sights:
        made.sights[observer]["n001"] = crawls.sight("n001", 1, heard_at=0.0)
    made.sights["n003"]["n001"] = crawls.sight("n001", 1, heard_at=1.0)
    rows = {row["name"]: row for row in [page._heard(Snapshot(made), name) for name in ("n001", "n002")]}
    assert rows["n001"]["last"] == rows["n001"]["first"] == (1.0, "n003")
    assert rows["n001"]["never"] == page.MATRIX_MAX - 1 and rows["n002"]["never"] == 0
    assert "never heard of by" in rendered(made) and "row of column" not in rendered(made)


def test_well_is_said_and_what_is_wrong_with_many_is_one_line():
    assert "All is well." in rendered(crawls.mesh(2))
    html = rendered(crawls.mesh(16, dead=range(15)))
    assert "All is well." not in html and html.count("</strong>: dead</li>") == 1 and "and 3 more" in html


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (86400 * 2, "2 d")]
)
def test_how_long(seconds, words):
    assert page._duration(seconds) == words


def test_a_refresh_is_marked_where_it_stands():
    assert "<strong>every 5 s</strong>" in page.render(Snapshot(crawls.mesh(1)), 5, 20)
