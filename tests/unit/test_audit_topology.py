"""The topology as Graphviz gets it, read back by pydot's own parser; and what there is instead of a picture."""

import io
import re
import shutil
import time

import pydot
import pytest
from PIL import Image

from bdserver.audit import page, topology
from bdserver.audit.colours import LIGHT
from bdserver.audit.crawl import Offer
from bdserver.audit.snapshot import Snapshot
from bdserver.errors import Deadline, NotDrawn

from . import crawls
from .crawls import HOSTILE, has_colour, needs_graphviz

AB, BC = crawls.document("a", "b"), crawls.document("b", "c")


@pytest.fixture
def troubled():
    return Snapshot(crawls.troubled())


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
    assert has_colour(png.convert("RGB"), LIGHT.dead)


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
    with pytest.raises(NotDrawn, match="out of memory"):
        topology.render("digraph {}", "svg", 5)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(NotDrawn, match="not installed"):
        topology.render("digraph {}", "svg", 5)
    assert "not installed" in page.render(troubled, 0, 5), "the page says so, and shows the rest"
