"""What a crawl means, and how it is drawn and told: checked by content, on meshes made up for it."""

import io
import json
import math
import re
import shutil
import time

import pydot
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from bdserver.audit import app, bars, crawl, metrics, page, topology
from bdserver.audit.colours import DARK, LIGHT
from bdserver.audit.crawl import Offer
from bdserver.audit.snapshot import Snapshot
from bdserver.core import messages
from bdserver.errors import BadFrame, BadRequest, Deadline, Forbidden, NobodyThere

from . import crawls

needs_graphviz = pytest.mark.skipif(shutil.which("neato") is None, reason="needs Debian's graphviz")
AB, BC, X = crawls.document("a", "b"), crawls.document("b", "c"), crawls.document("x")


@pytest.fixture
def troubled():
    """Eight nodes: one dead, one suspect, one silent, one overloaded, one left, one that another does not know."""
    return Snapshot(crawls.mesh(8, dead=[3], suspect=[4], left=[7], silent=[6], overloaded=[2], unknown=[(0, 5)]))


# --- meaning ------------------------------------------------------------------------------------------------------


def test_states_and_totals(troubled):
    totals = troubled.totals()
    assert (totals["nodes"], totals["answered"]) == (7, 4)
    assert (totals["alive"], totals["suspect"], totals["dead"], totals["left"], totals["overloaded"]) == (5, 1, 1, 1, 1)
    assert totals["weight"] == 0 + 37 + 130 + 185 % 90
    assert totals["average_weight"] == totals["weight"] / 4
    assert (
        totals["static"] + totals["dynamic"]
        == totals["replicas"]
        == sum(len(node.services) for node in troubled.nodes if node.state in ("alive", "suspect"))
    )


def test_edges_have_the_originals_colours(troubled):
    edges = {(a, b): colour for a, b, colour in troubled.edges()}
    assert edges["n000", "n001"] == "green"
    assert edges["n000", "n003"] == edges["n001", "n004"] == "orange"
    assert edges["n000", "n005"] == "red" and edges["n001", "n005"] == "green"
    assert not any("n007" in pair for pair in edges), "who has left has no edges"
    assert not any(a in ("n003", "n004", "n006") for a, _ in edges), "who did not answer has none of its own"


def test_policies_that_do_not_meet_are_yellow_and_null():
    snapshot = Snapshot(crawls.mesh(4, policies=[AB, BC, None]))
    edges = {(a, b): colour for a, b, colour in snapshot.edges()}
    assert edges["n000", "n001"] == "yellow" and edges["n000", "n002"] == edges["n000", "n003"] == "green"
    by_name = {name: number for number, zone in enumerate(snapshot.zones) for name in zone.names}
    assert snapshot.zones[by_name["n000"]].names == ["n000", "n003"]
    assert snapshot.pair(by_name["n000"], by_name["n001"]) == "NULL"
    assert snapshot.pair(by_name["n000"], by_name["n002"]) == "(a /\\ b)"
    assert snapshot.zones[by_name["n002"]].shown == "no policy"


def test_a_policy_that_nobody_told_or_that_is_broken_is_not_guessed():
    made = crawls.mesh(3, silent=[1], policies=[AB])
    made.hearsay["n001"] = made.hearsay["n001"]._replace(policy="unheard of")
    made.statuses["n002"] = made.statuses["n002"]._replace(policy="<no policy")
    snapshot = Snapshot(made)
    shown = {name: zone for zone in snapshot.zones for name in zone.names}
    assert shown["n001"].shown == "not known here" and shown["n002"].shown.startswith("not to be read")
    numbers = {zone.shown: number for number, zone in enumerate(snapshot.zones)}
    assert snapshot.pair(numbers["(a /\\ b)"], numbers["not known here"]) is None


def test_who_disagrees_is_named():
    made = crawls.mesh(4)
    made.sights["n003"]["n001"] = crawls.sight("n001", 1, "dead")
    [(name, says)] = Snapshot(made).disagreements()
    assert name == "n001" and says == {"alive": ["n000", "n001", "n002"], "dead": ["n003"]}
    assert Snapshot(crawls.mesh(4)).disagreements() == []


def test_of_two_words_on_a_silent_node_the_newer_counts():
    made = crawls.mesh(3, silent=[1])
    made.sights["n000"]["n001"] = crawls.sight("n001", 1, "dead")
    assert Snapshot(made).by_name["n001"].state == "dead", "of the same age: the graver"
    made.sights["n002"]["n001"] = crawls.sight("n001", 1)._replace(version=(1, 9))
    assert Snapshot(made).by_name["n001"].state == "alive"


def test_what_needs_attention(troubled):
    said = dict(troubled.warnings())
    assert said["n003"] == "dead" and said["n004"].startswith("suspected") and "time is over" in said["n006"]
    assert "130 %" in said["n002"]
    made = crawls.mesh(2)
    made.statuses["n000"] = made.statuses["n000"]._replace(days_left=6.0, rival="10.9.9.9:1", complaints=["x.bdcert:1: bad"])
    warnings = [text for _, text in Snapshot(made).warnings()]
    assert warnings == ["another live node has this name, at 10.9.9.9:1", "certificate ends in 6 days", "x.bdcert:1: bad"]
    assert Snapshot(crawls.mesh(3)).warnings() == []


def test_events_of_all_nodes_newest_first():
    made = crawls.mesh(2)
    for name, at in (("n000", 5.0), ("n001", 9.0)):
        made.statuses[name] = made.statuses[name]._replace(events=[{"at": at, "what": "replicated", "service": "S"}])
    assert [(event["node"], event["at"]) for event in Snapshot(made).events()] == [("n001", 9.0), ("n000", 5.0)]


def test_the_json_form_is_json_and_whole(troubled):
    said = json.loads(json.dumps(troubled.as_json()))
    assert said["format"] == 1 and [node["name"] for node in said["nodes"]] == [f"n00{k}" for k in range(8)]
    assert said["nodes"][3]["state"] == "dead" and said["nodes"][6]["weight"] is None
    assert said["views"]["n000"]["n003"]["edge"] == "orange" and said["edges"]["red"] == 1
    assert sum(said["edges"].values()) == len(list(troubled.edges()))


# --- pictures -----------------------------------------------------------------------------------------------------


def parsed(snapshot, theme=LIGHT):
    """label -> node and (A, B) -> edges of the dot, by pydot's own parser."""
    [graph] = pydot.graph_from_dot_data(topology.dot(snapshot, theme))
    labels = {node.get_name(): str(node.get("label")).strip('"') for node in graph.get_nodes()}
    nodes = {label.split("\\n")[0]: node for node, label in ((n, labels[n.get_name()]) for n in graph.get_nodes())}
    edges = {}
    for edge in graph.get_edges():
        ends = tuple(labels[end].split("\\n")[0] for end in (edge.get_source(), edge.get_destination()))
        edges.setdefault(ends, []).append(edge)
    return nodes, edges


def test_the_dot_has_each_node_and_each_colour(troubled):
    nodes, edges = parsed(troubled)
    assert {f"n00{k}" for k in range(8)} <= nodes.keys()
    shapes = {name: nodes[name].get("shape") for name in ("n000", "n003", "n004", "n007")}
    assert shapes == {"n000": "ellipse", "n003": "octagon", "n004": "hexagon", "n007": "box"}
    assert LIGHT.alive in nodes["n000"].get("fillcolor") and LIGHT.dead in nodes["n003"].get("fillcolor")
    assert "dashed" in nodes["n006"].get("style") and LIGHT.red in nodes["n002"].get("color")
    [both] = edges["n000", "n001"]
    assert LIGHT.green in both.get("color") and both.get("dir") == "none" and ("n001", "n000") not in edges
    [dead] = edges["n000", "n003"]
    assert LIGHT.orange in dead.get("color") and dead.get("style") == "dotted" and dead.get("dir") == "forward"
    [unknown] = edges["n000", "n005"]
    assert LIGHT.red in unknown.get("color") and LIGHT.green in edges["n005", "n000"][0].get("color")


def test_the_dot_has_yellow_edges_and_services_plain_and_blue():
    made = crawls.mesh(3, policies=[AB, BC, None])
    made.statuses["n000"] = made.statuses["n000"]._replace(
        services={"Own": Offer("static", 1.0, 1.0, True, ""), "Copy": Offer("dynamic", 1.0, 1.0, True, "")}
    )
    _, edges = parsed(Snapshot(made))
    assert LIGHT.yellow in edges["n000", "n001"][0].get("color") and edges["n000", "n001"][0].get("style") == "dashed"
    assert LIGHT.blue not in edges["n000", "Own"][0].get("color") and LIGHT.blue in edges["n000", "Copy"][0].get("color")


def test_many_nodes_are_drawn_as_zones_with_those_that_need_attention():
    snapshot = Snapshot(crawls.mesh(300, dead=range(30), overloaded=[77], policies=[AB, None]))
    nodes, edges = parsed(snapshot)
    assert topology.is_summary(snapshot) and len(nodes) < 40
    assert "150 nodes, (a /\\\\ b)" in nodes and "150 nodes, no policy" in nodes
    assert {"n000", "n001", "and 4 more", "and 5 more"} <= nodes.keys() and "n040" not in nodes
    assert "n077" in parsed(Snapshot(crawls.mesh(300, dead=range(9), overloaded=[77], policies=[AB, None])))[0]
    assert any("green" in str(edge.get("label")) for edge in edges["150 nodes, (a /\\\\ b)", "150 nodes, no policy"])


HOSTILE = ['"];evil[label="', "<b>&amp;</b>", "back\\", "line\nfeed", "\x00\x1b[31m", "💥" * 400]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_from_the_mesh_stay_text_in_the_dot(text):
    made = crawls.mesh(2)
    offers = {text: Offer("static", 1.0, 1.0, True, "javascript:alert(1)")}
    made.statuses["n000"] = made.statuses["n000"]._replace(services=offers, complaints=[text])
    snapshot = Snapshot(made)
    nodes, _ = parsed(snapshot)
    assert "evil" not in nodes and len(nodes) == 3 + 2, "two nodes, a service of each, and the defaults of nodes and edges"
    if shutil.which("neato"):
        assert topology.render(topology.dot(snapshot), "svg", 20).lstrip().startswith(b"<?xml")


@needs_graphviz
def test_graphviz_draws_both_forms_crisply(troubled):
    svg = topology.render(topology.dot(troubled), "svg", 20)
    assert b"n003" in svg and LIGHT.orange.encode() in svg
    png = Image.open(io.BytesIO(topology.render(topology.dot(troubled), "png", 20)))
    width = float(re.search(rb'<svg width="(\d+)pt"', svg)[1]) * 96 / 72
    assert png.width == pytest.approx(topology.SCALE * width, rel=0.02)
    assert _has_colour(png.convert("RGB"), LIGHT.dead)


def test_graphviz_is_given_up_in_time_and_missed_in_words(troubled, monkeypatch, tmp_path):
    slow = tmp_path / "neato"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    started = time.monotonic()
    with pytest.raises(Deadline, match="did not draw"):
        topology.render("digraph {}", "svg", 0.2)
    assert time.monotonic() - started < 30
    slow.write_text("#!/bin/sh\necho 'Error: out of memory' >&2\nexit 1\n")
    with pytest.raises(topology.NotDrawn, match="out of memory"):
        topology.render("digraph {}", "svg", 5)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(topology.NotDrawn, match="not installed"):
        topology.render("digraph {}", "svg", 5)
    assert "not installed" in page.render(troubled, 0, 5), "the page says so, and shows the rest"


def rgb(colour):
    return tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))


def _has_colour(image, colour):
    return any(pixel == rgb(colour) for _, pixel in image.getcolors(1 << 24))


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


# --- page and metrics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE + ["<script>alert(1)</script>", '" onload="alert(1)', "{{ 7*7 }}"])
def test_nothing_from_the_mesh_becomes_markup(text):
    text = crawl._text(text)  # as everything that a crawl brings
    made = crawls.mesh(3, silent=[2], policies=[X])
    offers = {text: Offer("static", 1.0, 1.0, False, "javascript:alert(1)//" + text)}
    event = {"at": 1.0, "what": text, "service": text, "giver": text, "taker": "", "asker": text, "why": text}
    made.statuses["n000"] = made.statuses["n000"]._replace(
        services=offers, complaints=[text], address=text, software=text, rival=text, events=[event], mesh=text
    )
    made.failures["n002"] = ("deadline", text)
    html = page.render(Snapshot(made), 0, 20)
    for tag in ("<script>alert", "<b>", 'onload="alert(1)"'):
        assert tag not in html
    assert not re.search(r'href="(?!\?|#|https?:)', html), "only our own forms and http are linked"
    assert html.count("<script") == 1 and "49" not in re.findall(r"<h1>(.*)</h1>", html)[0]


def test_metrics_are_what_prometheus_reads(troubled):
    families = {family.name: family for family in text_string_to_metric_families(metrics.text(troubled).decode())}
    states = {sample.labels["state"]: sample.value for sample in families["bdserver_nodes"].samples}
    assert states == {"alive": 5, "suspect": 1, "dead": 1, "left": 1}
    weights = {sample.labels["node"]: sample.value for sample in families["bdserver_node_weight"].samples}
    assert weights == {"n000": 0, "n001": 37, "n002": 130, "n005": 5}
    [info] = families["bdserver_mesh_info"].samples
    assert info.labels == {"mesh": "demo", "entry": "n000"} and all(family.documentation for family in families.values())
    edges = {sample.labels["colour"]: sample.value for sample in families["bdserver_edges"].samples}
    assert edges == troubled.edge_counts()


# --- the application ----------------------------------------------------------------------------------------------


def answer(application, query="", path="", method="GET", **environ):
    said = {}

    def start_response(status, headers):
        said.update(status=status, headers=dict(headers))

    environ = {"REQUEST_METHOD": method, "QUERY_STRING": query, "PATH_INFO": path} | environ
    said["body"] = b"".join(application(environ, start_response))
    return said


@pytest.mark.parametrize(
    ("form", "kind", "start"),
    [
        ("html", "text/html; charset=utf-8", b"<!DOCTYPE html>"),
        ("json", "application/json", b"{"),
        ("dot", "text/vnd.graphviz; charset=utf-8", b"digraph"),
        pytest.param("png", "image/png", b"\x89PNG", marks=needs_graphviz),
        pytest.param("svg", "image/svg+xml", b"<?xml", marks=needs_graphviz),
        ("weight.png", "image/png", b"\x89PNG"),
        ("prometheus", "text/plain; version=0.0.4; charset=utf-8", b"# HELP"),
    ],
)
def test_each_form_has_its_type_and_says_when_it_was_taken(form, kind, start):
    said = answer(app.application(lambda: crawls.mesh(3)), f"format={form}&theme=dark&refresh=5")
    assert said["status"] == "200 OK" and said["headers"]["Content-Type"] == kind
    assert said["body"].lstrip().startswith(start) and int(said["headers"]["Content-Length"]) == len(said["body"])
    assert said["headers"]["Cache-Control"] == "no-store" and said["headers"]["X-Taken-At"].startswith("20")
    assert answer(app.application(lambda: crawls.mesh(3)), f"format={form}", method="HEAD")["body"] == b""


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("format=exe", "format"),
        ("theme=pink", "theme"),
        ("refresh=0.1", "refresh"),
        ("refresh=-1", "refresh"),
        ("refresh=²", "refresh"),
        ("refresh=99999", "refresh"),
    ],
)
def test_a_wrong_query_is_one_clear_line(query, word):
    said = answer(app.application(lambda: pytest.fail("nothing is asked for a bad query")), query)
    assert said["status"].startswith("400") and said["body"].startswith(word.encode()) and said["body"].count(b"\n") == 1


def test_only_reading_and_only_this_page():
    taking = app.application(lambda: crawls.mesh(1))
    assert answer(taking, method="POST")["status"].startswith("400")
    assert answer(taking, path="/etc/passwd")["status"].startswith("400")


@pytest.mark.parametrize(
    ("error", "status"), [(NobodyThere, "503"), (Deadline, "504"), (Forbidden, "403"), (BadFrame, "502"), (BadRequest, "400")]
)
def test_why_there_is_no_page_is_plain_text(error, status):
    def take():
        raise error("because\N{BELL}")

    said = answer(app.application(take), "refresh=5")
    assert said["status"].startswith(status) and b"because" in said["body"]
    assert said["headers"]["Content-Type"].startswith("text/plain") and said["headers"]["Refresh"] == "5"


# --- what comes over the network ----------------------------------------------------------------------------------

STATUS = {
    "name": "n1", "address": "10.0.0.1:1", "mesh": "m", "version": [1, 1], "software": "1", "nodes": 1, "weight": 1.5,
    "receiver_threshold": 10, "overloaded": False, "draining": False, "free_dynamic": 1, "uptime": 1.0,
    "certificate_days_left": 1.0, "policy": None, "rival": None, "complaints": [], "warnings": [], "events": [], "services": {},
}  # fmt: skip


def heard(own, *rows):
    """What the crawl makes of an answer to STATUS, as it comes from the network."""
    said = messages.decode("STATUS", ["STATUS", own, list(rows)])
    return crawl._status(said.own), [crawl._sight(row) for row in said.nodes]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a/b"}, {"name": None}, {"weight": "1"}, {"weight": True}, {"uptime": None}, {"services": {"..": {}}},
        {"services": {"S": []}}, {"services": {"S": {"weight": None, "cost": 1}}}, {"services": None}, {"services": []},
        {"free_dynamic": [], "x": 1}, {"events": "no"}, {"complaints": {"a": 1}}, {"policy": 7}, {"rival": 7},
    ],
)  # fmt: skip
def test_a_status_that_makes_no_sense_is_refused(change):
    with pytest.raises(BadFrame):
        heard(STATUS | change)


@pytest.mark.parametrize("missing", ["events", "rival", "policies", "policy_mode"])
def test_a_status_that_lacks_what_came_later_is_read_without_it(missing):
    assert heard({key: value for key, value in STATUS.items() if key != missing})[0].name == "n1"


def test_an_event_without_a_time_is_as_old_as_can_be():
    assert heard(STATUS | {"events": [{"at": "now", "what": "gave"}]})[0].events[0]["at"] == 0.0


@pytest.mark.parametrize(
    "row",
    [[], ["n1"], ["a b", "x", "alive", [1, 1], True, 0], ["n1", "x", "great", [1, 1], True, 0], ["n1", "x", "alive", [1], True, 0],
     ["n1", "x", "alive", ["1", 1], True, 0], {"name": "n1"}, None],
)  # fmt: skip
def test_a_sight_that_makes_no_sense_is_refused(row):
    with pytest.raises(BadFrame):
        heard(STATUS, row)


def test_texts_from_the_mesh_are_printable_and_short():
    status = crawl._status(STATUS | {"address": "a\x1b[31m\n" + "x" * 10000})
    assert status.address.isprintable() and len(status.address) == crawl.TEXT_CHARACTERS_MAX
