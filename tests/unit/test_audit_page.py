"""The audit page: what comes from the mesh stays text, and each table says what it should."""

import base64
import re
import time

import pytest

from bdserver.audit import crawl, matrix, page
from bdserver.audit.crawl import Offer
from bdserver.audit.snapshot import Snapshot
from bdserver.core import attention
from bdserver.core.holding import Holder
from bdserver.core.membership import NO_EDITION, Edition
from bdserver.errors import CantFind, NotDrawn

from . import crawls
from .crawls import HOSTILE, needs_graphviz

X = crawls.document("x")


@pytest.mark.parametrize("text", HOSTILE + ["<script>alert(1)</script>", '" onload="alert(1)', "{{ 7*7 }}"])
def test_nothing_from_the_mesh_becomes_markup(text):
    text = crawl._text(text)  # as everything that a crawl brings
    made = crawls.mesh(3, silent=[2], policies=[X])
    held = Holder("dynamic", Edition(5, text), text, text, 3, "any", text, 7, True, True)
    offers = {text: Offer("static", 1.0, 1.0, False, "javascript:alert(1)//" + text, held=held)}
    event = {"at": 1.0, "what": text, "service": text, "giver": text, "taker": "", "asker": text, "why": text, "edition": text}
    made.statuses["n000"] = made.statuses["n000"]._replace(
        services=offers,
        complaints=[text],
        findings=[attention.from_json({"text": text, "remedy": text, "key": text})],
        address=text,
        software=text,
        rival=text,
        events=[event],
        mesh=text,
        askers={text: [(text, 5)]},
        lookups=[crawl.LookUp(1.0, text, text, text, 1, text, [(text, text, 1.0)])],
    )
    made.failures["n002"] = ("deadline", text)
    for html in (
        page.render(Snapshot(made), 0, 20),
        page.render_service(Snapshot(made), text, page.Frame(5)),
        page.render_node(Snapshot(made), "n000"),
    ):
        check_that_all_is_text(html)


ICON = re.search(r'<link rel="icon" href="data:image/svg\+xml,[^"]*">', page._part("base.html"))[0]


def check_that_all_is_text(html):
    for tag in ("<script>alert", "<b>", 'onload="alert(1)"'):
        assert tag not in html
    assert not re.search(r'href="(?!\?|#|https?:)', html.replace(ICON, "")), "only our own forms and http are linked"
    assert html.count("<script") == 1 and "49" not in re.findall(r"<h1[^>]*>(.*)</h1>", html)[0]


def rendered(made):
    return page.render(Snapshot(made), 0, 20)


def with_services(**offers):
    made = crawls.mesh(1)
    made.statuses["n000"] = crawls.status("n000", 0, offers, 5.0)
    return made


NOW = int(time.time())
NEW, OLD = Edition(NOW - 3 * 3600, "ab12cd34"), Edition(NOW - 9 * 86400, "00000000")
ORIGINAL = Offer("static", 1.0, 1.0, True, "http://10.0.0.0:80/Echo", held=Holder(edition=NEW, replicas=3, signer="RWQkey"))
COPY = ORIGINAL._replace(type="dynamic", held=Holder("dynamic", NEW, "n000", replicas=3))


def service_page(*offers, events=(), **mesh):
    """The page of Echo, which the first nodes have so."""
    made = crawls.mesh(len(offers), **mesh)
    for number, offer in enumerate(offers):
        name, there = f"n{number:03}", {"Echo": offer} if offer is not None else {}
        if name in made.statuses:
            made.statuses[name] = crawls.status(name, number, there, 5.0, events=list(events) if number == 0 else [])
        made.hearsay[name] = made.hearsay[name]._replace(services=there)
    return page.render_service(Snapshot(made), "Echo")


def rows(html, table):
    """The texts of a table's cells."""
    body = re.search(rf'id="{table}">.*?<tbody[^>]*>(.*?)</tbody>', html, re.DOTALL)[1]
    return [
        [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
    ]


def test_the_page_of_a_service_shows_each_holder():
    stale = COPY._replace(held=COPY.held._replace(edition=OLD, stale=True, idle_since=int(time.time()) - 590))
    html = service_page(stale, ORIGINAL, COPY._replace(held=Holder("dynamic", NEW, "gone", orphan=True, replicas=3)))
    original, first, second = rows(html, "holders-table")
    assert original[:5] == ["n001 10.0.0.1:9001", "original", "alive", "ab12cd34", "3 h ago"] and original[7] == "RWQkey"
    assert first[1:5] == ["copy of n000", "alive stale idle not called for 10 min", "00000000", "9 d ago"]
    assert second[1] == "copy of gone" and second[2] == "alive orphan" and second[7] == "nobody"
    assert "<h1" in html and "The service Echo" in html and "3 of 3" in html and "All is well" not in html
    assert "copies that are older than their original: n000" in html and "bdctl adopt" in html
    assert 'href="?service=Echo&amp;format=json"' in html and 'href="?service=Echo&amp;refresh=5"' in html


def attention_lines(html):
    """The texts below what needs attention."""
    return [
        " ".join(re.sub(r"<[^>]+>", " ", line).split()) for line in re.findall(r'<li class="break">(.*?)</li>', html, re.DOTALL)
    ]


def test_the_page_of_a_service_says_what_keeps_a_holder_from_calls():
    sick = COPY._replace(is_healthy=False)
    html = service_page(ORIGINAL, sick, COPY)
    assert "2 of 3" in html and "All is well" not in html and rows(html, "holders-table")[1][2] == "alive not well"
    assert attention_lines(html) == [
        "2 of 3 holders live: do enough hosts have a free slot, and may they have it?",
        "n001 : the service Echo is not well, and not offered",
    ]
    made = crawls.mesh(3)
    for number, weight in enumerate((101.0, 150.5, 5.0)):
        made.statuses[f"n{number:03}"] = crawls.status(f"n{number:03}", number, {"Echo": ORIGINAL}, weight)
    html = page.render_service(Snapshot(made), "Echo")
    assert attention_lines(html) == ["n000, n001 : overloaded: 101 to 150 % of its threshold"] and "All is well" not in html


@pytest.mark.parametrize(
    ("days", "signer", "ends", "shown"),
    [
        (4.0, "beta", False, "<span>4 days"),
        (9.0, "", True, 'bad">9 days'),
        (0.5, "beta", True, 'bad">12 h'),
        (-1, "", True, "0 s"),
    ],
)
def test_a_certificate_stands_out_where_it_needs_attention(days, signer, ends, shown):
    """As the node itself says: one for five days that renews itself is well."""
    made = crawls.mesh(1)
    found = [attention.from_json({"key": "certificate-ends", "text": "x"})] if ends else []
    made.statuses["n000"] = made.statuses["n000"]._replace(days_left=days, signer=signer, findings=found)
    html = re.sub(' title="[^"]*"', "", rendered(made))
    assert shown in html


def test_an_edition_stands_out_where_its_content_is_another():
    def marked(edition):
        html = service_page(ORIGINAL, ORIGINAL._replace(held=ORIGINAL.held._replace(edition=edition)))
        return re.findall(r'data-label="edition"[^>]* class="warn">', html)

    assert marked(Edition(NEW.counter - 5, NEW.digest)) == [] and len(marked(OLD)) == 1


def test_complaints_that_differ_in_a_measure_are_one_line_with_its_range():
    def grouped(*said):
        return page._grouped([(f"n{number}", each) for number, each in enumerate(said)])

    assert grouped("overloaded: 99.5 % of it", "dead", "overloaded: 101 % of it", "dead") == {
        "overloaded: 99.5 to 101 % of it": "n0, n2",
        "dead": "n1, n3",
    }
    assert grouped("the disk of /a is nearly full: 31 MiB are left", "the disk of /a is nearly full: 9 MiB are left") == {
        "the disk of /a is nearly full: 9 to 31 MiB are left": "n0, n1"
    }
    addresses = ["did not answer: 10.0.0.4:9001: refused", "did not answer: 10.0.0.5:9001: refused"]
    assert list(grouped(*addresses)) == addresses and grouped() == {}


def test_the_page_of_a_service_says_when_all_is_well_and_when_too_few_have_it():
    html = service_page(ORIGINAL, COPY, COPY)
    assert "All is well" in html and "As many nodes hold it as are wanted" in html and "3 of 3" in html
    few = service_page(ORIGINAL, COPY, COPY, dead=[2])
    assert "2 of 3 holders live: do enough hosts" in few and "All is well" not in few
    assert [row[:3] for row in rows(few, "dead-table")] == [["n002 10.0.0.2:9001", "copy of n000", "ab12cd34"]]
    alone = service_page(Offer("static", 1.0, 1.0, True, "", held=Holder(edition=NO_EDITION, copies="none")))
    assert "it has no copies that could be old" in alone and "it stays where it is" in alone and "not numbered yet" in alone


def test_originals_that_differ_stand_on_both_pages():
    other = ORIGINAL._replace(held=ORIGINAL.held._replace(edition=Edition(NOW, "ffff0000"), replicas=0))
    assert "differ: n000 (edition ab12cd34), n001 (edition ffff0000), since " in service_page(ORIGINAL, other, COPY)
    html = rendered(with_services(Echo=ORIGINAL))
    assert '<a href="?service=Echo">Echo</a>' in html and '<span class="warn">1 of 3</span>' in html


def test_a_service_that_is_gone_has_a_page_as_long_as_something_is_known_of_it():
    event = dict.fromkeys(crawl.EVENT_TEXTS, "") | {"at": NOW - 60.0, "service": "Echo"}
    gone = event | {"what": "withdrawn", "asker": "joe"}
    refused = event | {"what": "refused", "taker": "n001", "why": "it has no room for a copy", "edition": "ab12cd34" * 4}
    html = service_page(None, None, events=[gone, refused, {**gone, "service": "Other"}])
    assert "No living node has it" in html and "nobody who lives has it" in html
    assert [row[1:] for row in rows(html, "events-table")] == [
        ["n000", "withdrawn", "", "asked by joe"],
        ["n000", "refused", "ab12cd34", "it has no room for a copy; by n001"],
    ]
    with pytest.raises(CantFind, match="Echo: no node has a service of this name"):
        service_page(None, None)


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
    made = crawls.mesh(matrix.CELLS_MAX + 1)
    for observer in made.sights:
        made.sights[observer]["n001"] = crawls.sight("n001", 1, heard_at=0.0)
    made.sights["n003"]["n001"] = crawls.sight("n001", 1, heard_at=1.0)
    rows = {row["name"]: row for row in [page._heard(Snapshot(made), name) for name in ("n001", "n002")]}
    assert rows["n001"]["last"] == rows["n001"]["first"] == (1.0, "n003")
    assert rows["n001"]["never"] == matrix.CELLS_MAX - 1 and rows["n002"]["never"] == 0
    assert "never heard of by" in rendered(made) and "row of column" not in rendered(made)


def test_up_to_sixty_nodes_who_heard_of_whom_is_a_cell_each():
    made = crawls.mesh(matrix.CELLS_MAX, silent=[3], unknown=[(0, 5)])
    made.sights["n001"]["n002"] = crawls.sight("n002", 2, heard_at=time.time() - 90)
    html = rendered(made)
    assert html.count('<th scope="col" role="columnheader" title=') == 60 and "never heard of by" not in html
    assert len(re.findall(r'<td role="cell" class="(?:green|orange|red) h\d" title=', html)) == 59 * 59, (
        "a row each that answered"
    )
    assert (
        'title="n001 heard of n002 90 s ago: green"' in html
        and 'class="red h3" title="n000 never heard of n005: red">x<' in html
    )
    assert len(html) < 1_000_000
    assert "row of column" in rendered(crawls.mesh(page.MATRIX_MAX)), "of few nodes the times are written out"


@needs_graphviz
def test_the_page_draws_the_topology_with_links_in_both_views():
    by_service = rendered(crawls.troubled())
    assert '<a href="?node=n001"' in by_service and '<a href="?service=Search"' in by_service
    assert "data:image" not in by_service.replace(ICON, ""), "nothing is drawn twice, for the light and for the dark"
    assert 'stroke-dasharray="2 4" stroke="#cf5b00" class="k-orange"/></svg> orange: A knows B, and B did not' in by_service
    assert (
        "svg viewBox" in by_service and "orange:" not in by_service[by_service.index("<svg viewBox") :].partition("</svg>")[0]
    )
    by_host = page.render(Snapshot(crawls.troubled()), 0, 20, view="hosts")
    assert '<a href="?view=services#topology">by services</a>' in by_host and "<strong>by hosts</strong>" in by_host


def test_where_graphviz_draws_no_svg_the_page_shows_its_png(monkeypatch):
    def no_svg(source, form, seconds):
        raise NotDrawn("no svg here")

    monkeypatch.setattr(page.topology, "render", no_svg)
    monkeypatch.setattr(page.topology, "png", lambda *arguments, has_key: b"the png")
    assert f'<img class="picture" src="data:image/png;base64,{base64.b64encode(b"the png").decode()}"' in rendered(
        crawls.mesh(2)
    )


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


def test_the_page_of_a_node_shows_what_is_known_of_it():
    html = page.render_node(Snapshot(crawls.troubled()), "n002")
    assert "The node n002" in html and "overloaded: 130 % of its threshold" in html and "10.0.0.2:9001" in html
    [seen] = rows(html, "seen-table")
    assert seen[0] == "alive" and seen[1] == "n000, n001, n005" and seen[2].endswith("ago")
    offered = {row[0]: row for row in rows(html, "services-table")}
    assert offered.keys() == set(crawls.offers(2, 130)) and all(row[5] == "65.0" for row in offered.values())
    assert 'href="?node=n002&amp;format=json"' in html and 'href="?node=n002&amp;refresh=5"' in html
    assert "All is well" in page.render_node(Snapshot(crawls.mesh(2)), "n001")


def test_the_page_of_a_node_that_says_nothing_shows_what_others_say():
    html = page.render_node(Snapshot(crawls.troubled()), "n003")
    assert '<span class="bad">dead</span>' in html and "unknown" in html and '<li class="break">dead</li>' in html
    assert html.count("Not known: it did not answer.") == 2 and "Nobody, within" not in html and "None since" not in html
    disputed = page.render_node(Snapshot(crawls.mesh(3, unknown=[(0, 2)])), "n002")
    assert {row[0]: row[1] for row in rows(disputed, "seen-table")} == {"alive": "n001", "unknown": "n000"}
    assert "No other node answered" in page.render_node(Snapshot(crawls.mesh(1)), "n000")
    with pytest.raises(CantFind, match="x: no node of this name is known"):
        page.render_node(Snapshot(crawls.mesh(1)), "x")


def test_the_page_of_a_node_tells_what_it_did_and_what_was_done_with_it():
    made = crawls.mesh(3)
    event = dict.fromkeys(crawl.EVENT_TEXTS, "") | {"at": NOW - 60.0, "service": "Echo", "what": "replicated"}
    made.statuses["n000"] = made.statuses["n000"]._replace(
        events=[event | {"giver": "n001"}, event | {"giver": "n002", "at": NOW}]
    )
    shown = rows(page.render_node(Snapshot(made), "n001"), "events-table")
    assert [row[-1] for row in shown] == ["from n001"]
    assert len(rows(page.render_node(Snapshot(made), "n000"), "events-table")) == 2


@pytest.mark.parametrize("name", ["page", "service", "node"])
def test_a_part_is_what_is_inside_of_the_whole_page(name, monkeypatch):
    monkeypatch.setattr(page.time, "time", lambda: NOW)  # what was so many seconds ago stays so
    snapshot = Snapshot(crawls.troubled())

    def render(frame):
        if name == "page":
            return page.render(snapshot, 0, 20, frame=frame)
        return (
            page.render_service(snapshot, "Search", frame) if name == "service" else page.render_node(snapshot, "n002", frame)
        )

    whole, part = render(page.Frame(watch="v1/watch")), render(page.Frame(is_part=True))
    assert part.strip() in whole and part.strip().startswith('<div id="live"') and "<script" not in part
    assert '<body data-watch="v1/watch">' in whole


def test_a_table_says_what_its_parts_are_as_a_style_may_take_that_from_them():
    html = rendered(crawls.mesh(3))
    for part, roles in (
        ("table", "table"),
        ("thead|tbody", "rowgroup"),
        ("tr", "row"),
        ("t[dh]", "cell|columnheader|rowheader"),
    ):
        found = re.findall(rf"<(?:{part})(?=[ >])[^>]*>", html)
        assert found and all(re.search(rf' role="(?:{roles})"', each) for each in found), part


def test_of_many_services_the_table_of_nodes_names_a_few_and_leads_to_the_rest():
    made = crawls.mesh(3)
    many = {f"S{number:03}": ORIGINAL for number in range(300)}
    made.statuses["n001"] = crawls.status("n001", 1, many, 5.0)
    html = rendered(made)
    cells = next(row for row in rows(html, "nodes-table") if row[0].startswith("n001"))
    assert "S007" in cells[4] and "S008" not in cells[4] and cells[4].endswith("and 292 more")
    assert '<a href="?node=n001#services">and 292 more</a>' in html
    assert "s299" in re.search(r'data-key="n001" data-find="([^"]*)"', html)[1], "all of them are found"
    made.statuses["n001"] = crawls.status("n001", 1, dict(list(many.items())[:9]), 5.0)
    assert "S008" in next(row for row in rows(rendered(made), "nodes-table") if row[0].startswith("n001"))[4]


def test_a_dead_node_had_its_services_and_no_link_leads_there():
    html = rendered(crawls.mesh(4, dead=[3]))
    cells = next(row for row in rows(html, "nodes-table") if row[0].startswith("n003"))
    assert cells[4].startswith("had, when it was last heard of: ")
    offered = crawls.offers(3, 1.0)
    assert offered and all(name in cells[4] and offer.url not in html for name, offer in offered.items())


@pytest.mark.parametrize(("count", "is_tall"), [(page.TALL_ABOVE, False), (page.TALL_ABOVE + 1, True)])
def test_a_long_table_scrolls_by_itself(count, is_tall):
    html = rendered(crawls.mesh(count))
    assert is_tall == (re.search(r'class="scroll tall"[^>]*aria-label="Table of nodes"', html) is not None)


def test_who_left_is_not_counted_among_the_nodes():
    html = " ".join(rendered(crawls.mesh(4, left=[3])).split())
    assert "<dd>3<small>3 alive; beside them 1 left</small></dd>" in html


def test_a_browser_asks_for_no_icon_which_would_be_a_look_up_of_a_service_of_that_name():
    assert rendered(crawls.mesh(1)).count(ICON) == 1
