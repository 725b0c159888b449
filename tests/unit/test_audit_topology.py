"""The topology as Graphviz gets it, read back by pydot's own parser; and what there is instead of a picture."""

import functools
import io
import itertools
import json
import re
import shutil
import time

import pydot
import pytest
from PIL import Image

from bdserver.audit import layout, page, shapes, topology, zones
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


def parsed(snapshot, view="services"):
    """label -> node and (A, B) -> edges of the dot, by pydot's own parser."""
    [graph] = pydot.graph_from_dot_data(topology.dot(snapshot, LIGHT, view))
    labels = {node.get_name(): name_of(node) for node in graph.get_nodes()}
    nodes = {label.split("\\n")[0]: node for node, label in ((n, labels[n.get_name()]) for n in graph.get_nodes())}
    edges = {}
    for edge in graph.get_edges():
        ends = tuple(labels[end].split("\\n")[0] for end in (edge.get_source(), edge.get_destination()))
        edges.setdefault(ends, []).append(edge)
    return nodes, edges


def name_of(node):
    """Of a service, of which the label is HTML-like, the tooltip."""
    label = str(node.get("label"))
    return str(node.get("tooltip") if "BGCOLOR" in label and node.get("tooltip") else label).strip('"')


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
    assert LIGHT.orange in dead.get("color") and dead.get("style") == "dotted" and dead.get("dir") == "none", "all say so: pale"
    [dead] = parsed(Snapshot(crawls.mesh(topology.DENSE_ABOVE, dead=[3])))[1]["n000", "n003"]
    assert dead.get("color") == f'"{LIGHT.orange}"' and dead.get("style") == "dotted" and dead.get("dir") == "forward"
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
    nodes, edges = parsed(snapshot, "hosts")
    assert topology.is_summary(snapshot) and len(nodes) < 40
    assert "150 nodes, (a /\\\\ b)" in nodes and "150 nodes, no policy" in nodes
    assert {"n000", "n001", "and 4 more", "and 5 more"} <= nodes.keys() and "n040" not in nodes
    assert "n077" in parsed(Snapshot(crawls.mesh(300, dead=range(9), overloaded=[77], policies=[AB, None])), "hosts")[0]
    [between] = [other for zone, other in edges if zone == "150 nodes, no policy" and "green" in other]
    assert "150 nodes, (a /\\\\ b)" in {zone for zone, other in edges if other == between}, "its counts are on the way"


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


def test_a_service_is_one_node_with_an_edge_from_each_holder():
    made = crawls.mesh(4)
    for number in range(3):
        offer = Offer("dynamic" if number else "static", 1.0, 1.0, number != 2, "")
        made.statuses[f"n00{number}"] = crawls.status(f"n00{number}", number, {"Shared": offer})
    source = topology.dot(Snapshot(made))
    assert source.count("tooltip=Shared") + source.count('tooltip="Shared"') == 1
    _, edges = parsed(Snapshot(made))
    assert {a for a, b in edges if b == "Shared"} == {"n000", "n001", "n002"}
    assert edges["n000", "Shared"][0].get("style") == "solid" and edges["n001", "Shared"][0].get("style") == "dashed"
    assert edges["n002", "Shared"][0].get("arrowhead") == "tee", "it is not well there"
    assert "not well there" in source and "not well there" not in topology.dot(Snapshot(crawls.mesh(4))), "the key tells of it"
    assert topology.dot(Snapshot(made), LIGHT, "hosts").count('tooltip="Shared"') == 3, "and in the other view each has its own"


def test_a_dead_node_offers_nothing():
    made = crawls.mesh(3, dead=[2])
    made.hearsay["n002"].services["Gone"] = Offer("static", None, None, True, "")
    for view in topology.VIEWS:
        nodes, edges = parsed(Snapshot(made), view)
        assert "n002" in nodes and "Gone" not in nodes
        assert not any(a == "n002" for a, _ in edges)


def test_many_nodes_are_drawn_by_service_with_how_many_have_it():
    snapshot = Snapshot(crawls.mesh(300, dead=[3], policies=[AB, None]))
    nodes, edges = parsed(snapshot)
    total = snapshot.by_service["Orders"]
    assert f"{total.static} originals, {total.dynamic} replicas" in str(nodes["Orders"].get("label"))
    assert {a for a, b in edges if b == "Orders"} == {"150 nodes, (a /\\\\ b)", "150 nodes, no policy"}
    assert len(nodes) == len(snapshot.services) + 2 + 1, "and the defaults"


def test_of_very_many_services_the_commonest_are_drawn_and_the_rest_is_counted():
    made = crawls.mesh(3)
    offers = {f"s{number:04}": Offer("static", 1.0, 1.0, True, "") for number in range(1000)}
    made.statuses["n000"] = crawls.status("n000", 0, offers)
    made.statuses["n001"] = crawls.status("n001", 1, {"s0777": offers["s0777"]})
    made.statuses["n002"] = crawls.status("n002", 2, {})
    started = time.monotonic()
    nodes, _ = parsed(Snapshot(made))
    assert "s0777" in nodes and f"and {1000 - zones.SERVICES_MAX} services more" in nodes
    assert time.monotonic() - started < 30
    assert "and 997 more" in parsed(Snapshot(made), "hosts")[0]


def test_each_node_and_service_leads_to_its_page():
    nodes, _ = parsed(Snapshot(crawls.mesh(3)))
    assert nodes["n001"].get("URL") == '"?node=n001"' and nodes["Stock"].get("URL") == '"?service=Stock"'
    assert shapes.link("service", 'a"&b c') == "?service=a%22%26b%20c"


@pytest.mark.parametrize("length", [1, 21, 22, 63, 84, 100, 300])
@pytest.mark.parametrize("letters", ["x", "rack-7.", "."])
def test_a_long_name_is_wrapped_and_whole_where_it_can_be(length, letters):
    name = (letters * length)[:length]
    lines = shapes.wrapped(name)
    assert len(lines) <= shapes.LINES_MAX and all(0 < len(line) <= shapes.LINE_CHARACTERS for line in lines)
    assert "".join(lines) == name or (length > 84 and "…" in "".join(lines))


# --- what Graphviz makes of it ------------------------------------------------------------------------------------


def boxes(snapshot, view):
    """(what, label's box) of each label, nodes' and edges', as Graphviz places the letters."""
    drawn = json.loads(topology.render(topology.dot(snapshot, LIGHT, view), "json", 60))
    found = []
    for each in [*drawn["objects"], *drawn.get("edges", [])]:
        size, xs, ys = 14.0, [], []
        for op in [op for key in ("_ldraw_", "_hldraw_", "_tldraw_") for op in each.get(key, [])]:
            if op["op"] == "F":
                size = op["size"]
            elif op["op"] == "T" and op["text"].strip():
                (x, y), width = op["pt"], op["width"]
                left = {"l": x, "c": x - width / 2, "r": x - width}[op["align"]]
                xs += [left, left + width]
                ys += [y - 0.2 * size, y + 0.8 * size]
        if xs:
            found.append((each.get("name", "edge"), (min(xs), min(ys), max(xs), max(ys))))
    return found


def renamed(made, length):
    """The same crawl with names of so many letters."""
    new = {name: (name + "-machine.of.some.rack.in.some.hall.of.a.datacentre.example.net")[:length] for name in made.hearsay}
    named = {
        field: {new[name]: value for name, value in getattr(made, field).items()} for field in ("statuses", "sights", "hearsay")
    }
    named["statuses"] = {name: each._replace(name=name) for name, each in named["statuses"].items()}
    anew = functools.cache(lambda sight: sight._replace(name=new[sight.name]))
    named["sights"] = {a: {new[b]: anew(sight) for b, sight in sights.items()} for a, sights in named["sights"].items()}
    failures = {new[name]: value for name, value in made.failures.items()}
    return made._replace(entry=new[made.entry], failures=failures, **named)


@needs_graphviz
@pytest.mark.parametrize("view", topology.VIEWS)
@pytest.mark.parametrize(
    ("count", "length"), [(1, 12), (3, 63), (7, 12), (12, 12), (12, 63), (30, 12), (40, 24), (60, 12), (300, 63)]
)
def test_no_label_covers_another(count, length, view):
    some = {"dead": [3], "suspect": [4], "silent": [6], "overloaded": [2], "unknown": [(0, 5)]} if count > 7 else {}
    policies = [AB, BC, None, crawls.document("c")] if count > 40 else []
    found = boxes(Snapshot(renamed(crawls.mesh(count, policies=policies, **some), length)), view)
    assert len(found) >= min(count, 4)
    for (one, a), (two, b) in itertools.combinations(found, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], f"{one} {a} covers {two} {b}"


def test_no_service_is_laid_on_an_edge_between_nodes_if_it_can_stand_elsewhere():
    """Else the edge seems to lead to the service."""
    for count in range(3, 9):
        nodes = {f"n{number}": layout.Size(70, 28) for number in range(count)}
        lines = list(itertools.combinations(nodes, 2))
        for holders in ({"n0", "n2"}, {"n0", "n1", "n2"}, set(nodes)):
            size = layout.Size(60, 22)
            places, at = layout.arrange(nodes, {"Stock": (size, sorted(holders))}, lines)
            box = layout._Box(at["Stock"], size, False)
            ends = [tuple(layout._Box(places[name], nodes[name], True) for name in pair) for pair in lines]
            assert sum(layout._crosses(box, *pair) for pair in ends) <= (0 if count < 7 else 1), (count, holders)


@needs_graphviz
def test_a_picture_stays_as_it_is_when_a_service_comes():
    """Nodes are found where they were: what moves them is their number alone."""
    before, after = crawls.mesh(8), crawls.mesh(8)
    after.statuses["n000"].services["Zoo"] = Offer("static", 1.0, 1.0, True, "")
    places = []
    for made in (before, after):
        drawn = json.loads(topology.render(topology.dot(Snapshot(made)), "json", 60))
        at = {each["tooltip"]: [float(n) for n in each["pos"].split(",")] for each in drawn["objects"]}
        places.append({name: (x - at["n000"][0], y - at["n000"][1]) for name, (x, y) in at.items() if name.startswith("n0")})
    for name, (x, y) in places[0].items():
        assert places[1][name] == pytest.approx((x, y), abs=30), name


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


def test_what_is_not_drawn_is_noted_below_where_no_edge_runs():
    note = layout.Size(120, 20)
    services = {f"s{number}": (layout.Size(60, 20), [f"n{number}"]) for number in range(6)}
    places, at = layout.arrange({f"n{number}": layout.Size(50, 30) for number in range(6)}, {**services, "": (note, [])})
    assert at[""].y < min(place.y for place in places.values())
    assert len(set(at.values())) == 7


@pytest.fixture
def arranged(monkeypatch):
    """What `layout.arrange` was given and found, of each picture."""
    found, arrange = [], layout.arrange

    def keep(nodes, services, lines):
        found.append((nodes, services, lines, *arrange(nodes, services, lines)))
        return found[-1][3:]

    monkeypatch.setattr(topology.layout, "arrange", keep)
    return found


@pytest.mark.parametrize("count", range(2, 13))
@pytest.mark.parametrize("trouble", [{}, {"dead": [1]}, {"overloaded": [0]}, {"suspect": [0], "silent": [1]}], ids=str)
def test_no_edge_that_says_something_runs_behind_a_services_label(monkeypatch, arranged, count, trouble):
    topology.dot(Snapshot(crawls.mesh(count + len(trouble), **trouble)))
    [(nodes, services, lines, places, at)] = arranged
    monkeypatch.setattr(layout, "CLEAR", 0.0)
    boxes = {name: layout._Box(place, nodes[name], True) for name, place in places.items()}
    for key, (size, _) in services.items():
        label = layout._Box(at[key], size, False)
        assert not [(key, a, b) for a, b in lines if layout._crosses(label, boxes[a], boxes[b])]


@pytest.mark.parametrize(("nodes", "services"), [(3, 2), (4, 2)])
def test_services_that_all_of_few_nodes_have_are_on_nobody_elses_lines(monkeypatch, arranged, nodes, services):
    made = crawls.mesh(nodes)
    offered = {f"Service{number}": Offer("static", 1.0, 1.0, True, "") for number in range(services)}
    made.statuses.update({name: each._replace(services=offered) for name, each in made.statuses.items()})
    topology.dot(Snapshot(made))
    assert on_foreign_lines(monkeypatch, *arranged) == []


def on_foreign_lines(monkeypatch, one):
    """(service, holder, other service): the line of the other runs behind the label."""
    nodes, services, _, places, at = one
    monkeypatch.setattr(layout, "CLEAR", 0.0)
    boxes = {name: layout._Box(place, nodes[name], True) for name, place in places.items()}
    labels = {key: layout._Box(at[key], size, False) for key, (size, _) in services.items()}
    lines = [(holder, key) for key, (_, holders) in services.items() for holder in holders]
    return [
        (key, holder, other)
        for key, label in labels.items()
        for holder, other in lines
        if other != key and layout._crosses(label, boxes[holder], labels[other])
    ]


@pytest.mark.parametrize(("count", "most"), [(12, 1), (16, 1), (20, 1), (25, 1), (30, 1), (40, 6)])
@pytest.mark.parametrize("trouble", [{}, {"dead": [1, 9], "overloaded": [2], "unknown": [(0, 5), (3, 5)]}], ids=str)
def test_hardly_a_line_to_another_service_runs_behind_a_services_label(monkeypatch, arranged, count, most, trouble):
    """Else nobody sees which of the two a node has."""
    topology.dot(Snapshot(crawls.mesh(count, **trouble)))
    behind = on_foreign_lines(monkeypatch, *arranged)
    assert len(behind) <= most, behind
