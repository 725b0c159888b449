"""What a crawl means: states, edges, zones of policy, totals, and what needs attention, on meshes made up for it."""

import json

import pytest

from bdserver.audit import jsonform
from bdserver.audit.crawl import Offer
from bdserver.audit.snapshot import Snapshot
from bdserver.core import attention
from bdserver.core.attention import Facts
from bdserver.core.holding import Holder
from bdserver.core.membership import Edition

from . import crawls

AB, BC = crawls.document("a", "b"), crawls.document("b", "c")


@pytest.fixture
def troubled():
    return Snapshot(crawls.troubled())


def test_states_and_totals(troubled):
    totals = troubled.totals()
    assert (totals["nodes"], totals["answered"]) == (7, 4)
    assert (totals["alive"], totals["suspect"], totals["dead"], totals["left"], totals["overloaded"]) == (5, 1, 1, 1, 1)
    assert totals["weight"] == 0 + 37 + 130 + 185 % 90
    assert totals["average_weight"] == totals["weight"] / 4
    assert totals["average_weight_of_replica"] == totals["weight"] / totals["replicas"], "as the original has it"
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


def test_orange_is_silence_at_this_audit_and_red_a_death_that_is_none():
    made = crawls.mesh(4, silent=[1])
    made.sights["n000"]["n002"] = crawls.sight("n002", 2, "dead")
    made.sights["n000"]["n003"] = crawls.sight("n003", 3, "suspect")
    snapshot = Snapshot(made)
    assert snapshot.edge("n000", "n001") == "orange", "it is taken for alive, and did not answer"
    assert snapshot.edge("n000", "n002") == "red", "it answered, and is taken for dead"
    assert snapshot.edge("n000", "n003") == "green", "it answered, though it is suspected: the table of disagreements says so"


def test_a_holder_where_it_is_not_well_does_not_live_as_the_mesh_counts():
    made = crawls.mesh(2)
    new, old = Holder(edition=Edition(9, "a" * 8), replicas=2), Holder(edition=Edition(5, "b" * 8), replicas=2)
    for name, held, is_healthy in (("n000", new, False), ("n001", old, True)):
        offer = Offer("static", 1.0, 1.0, is_healthy, "", held=held)
        made.statuses[name] = made.statuses[name]._replace(services={"Echo": offer})
    one = Snapshot(made).service("Echo")
    assert (one.holders, one.sick, one.whole.living_of_wanted) == (["n000", "n001"], ["n000"], "1 of 2")
    assert one.whole.newest == old.edition and jsonform.of_service(Snapshot(made), "Echo")["service"]["living"] == 1
    made.statuses["n001"] = made.statuses["n001"]._replace(services={})
    alone = Snapshot(made).service("Echo").whole
    assert alone.living_of_wanted == "0 of 2" and alone.newest == new.edition


def test_services_stand_in_the_order_of_2006():
    snapshot = Snapshot(crawls.mesh(12))
    order = [(service.weight, service.static + service.dynamic) for service in snapshot.heaviest]
    assert order == sorted(order, reverse=True) and len(order) == len(snapshot.services) > 5
    assert [service.name for service in snapshot.services] == sorted(service.name for service in snapshot.services)


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
    [(name, says)] = Snapshot(made).disagreements
    assert name == "n001" and says == {"alive": ["n000", "n001", "n002"], "dead": ["n003"]}
    assert Snapshot(crawls.mesh(4)).disagreements == []


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
    facts = Facts("n000", "h:1", 0.0, complaints=("x.bdcert:1: bad",), unchecked=("Echo",), is_alone=True, hints=("h:2",))
    made.statuses["n000"] = made.statuses["n000"]._replace(findings=attention.findings(facts))
    warnings = [text for _, text in Snapshot(made).warnings()]
    alone = "alone: none of the nodes at its hints (h:2) is met yet"
    assert warnings == [alone, "x.bdcert:1: bad"], "what it says itself: no rule is made up here"
    told = jsonform.whole(Snapshot(made))
    assert [each["key"] for each in told["findings"]] == ["alone", "complaint", "unchecked"]
    assert [each["severity"] for each in told["nodes"][0]["findings"]] == ["grave", "warning", "note"]
    assert told["nodes"][0]["warnings"] == warnings
    assert Snapshot(crawls.mesh(3)).warnings() == []


def test_the_json_form_is_json_and_whole(troubled):
    said = json.loads(json.dumps(jsonform.whole(troubled)))
    assert said["format"] == 1 and [node["name"] for node in said["nodes"]] == [f"n00{k}" for k in range(8)]
    assert said["nodes"][3]["state"] == "dead" and said["nodes"][6]["weight"] is None
    assert said["views"]["n000"]["n003"]["edge"] == "orange" and said["edges"]["red"] == 1
    assert sum(said["edges"].values()) == len(list(troubled.edges()))
