"""PING, PROBE, GIVEYOURSERVICES, STATUS, of nodes in memory."""

import os

import pytest

from bdserver import errors
from bdserver.core import policy
from bdserver.core.messages import NoPong, Offers, Pong
from bdserver.core.roles import ADMIN, CLIENT, NODE
from bdserver.core.timeline import Span
from bdserver.processes.describing import Told, update_own
from tests.unit.nodes import COSTLY, NOW, a_mesh, a_node, acquaint, document


def test_a_pong_has_the_digest_of_the_view_and_the_way_to_the_port_for_news(tmp_path):
    node = a_node(tmp_path)
    assert node.ask("PING", role=CLIENT) == Pong(node.cache.view().digest(), node.gossip_port)


def test_news_is_answered_at_its_own_port(tmp_path):
    node = a_node(tmp_path)
    with pytest.raises(errors.NoSuchCommand, match=f"SYNCHRONIZE is answered at {node.gossip_address}$"):
        node.ask("SYNCHRONIZE", {"digest": "x"})


def test_what_is_offered_is_told_with_the_clock_and_the_free_slots(tmp_path):
    node = a_node(tmp_path, max_dynamic=3).offer("b").offer("a")
    assert node.ask("GIVEYOURSERVICES", role=CLIENT) == Offers(NOW, ["a", "b"], 3)


# --- PROBE --------------------------------------------------------------------------------------------------------


def test_a_node_is_pinged_for_a_caller_that_cannot_reach_it(tmp_path):
    node, other = a_mesh(tmp_path, "me", "other")
    assert node.ask("PROBE", other.address) == Pong() and node.network.called == [other.address]


def test_a_node_whose_policy_does_not_meet_ours_lives(tmp_path):
    node, other = a_node(tmp_path, policy=document("A")), a_node(tmp_path, "other", policy=document("B"))
    acquaint(node, other)
    assert node.ask("PROBE", other.address) == Pong()


def test_of_an_address_where_no_node_is_known_nothing_is_told_and_nobody_is_dialled(tmp_path):
    node, other = a_node(tmp_path), a_node(tmp_path, "other")
    node.network.trouble["192.0.2.1:22"] = errors.Refused("connection refused")
    for address in (other.address, "192.0.2.1:22", "192.0.2.1:23", "nonsense"):
        assert node.ask("PROBE", address) == NoPong("nobody-there", f"{address}: no answer")
    assert node.network.called == []


def test_an_administrator_may_ask_for_any_address_and_hears_why_there_is_no_answer(tmp_path):
    node, other = a_node(tmp_path), a_node(tmp_path, "other")
    node.network.trouble["192.0.2.1:22"] = errors.Refused("192.0.2.1:22: connection refused")
    node.network.trouble["192.0.2.1:23"] = errors.BadFrame("192.0.2.1:23: speaks plain HTTP")
    assert node.ask("PROBE", "192.0.2.1:22", role=ADMIN) == NoPong("refused", "192.0.2.1:22: connection refused")
    assert node.ask("PROBE", "192.0.2.1:23", role=ADMIN) == NoPong("bad-frame", "192.0.2.1:23: speaks plain HTTP")
    node.network.nodes[other.address] = other
    assert node.ask("PROBE", other.address, role=ADMIN) == Pong()


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (errors.Refused("connection refused, 12 ms"), "refused"),
        (errors.NobodyThere("the connection broke: reset"), "nobody-there"),
        (errors.Deadline("late"), "nobody-there"),
        (errors.BadFrame("HTTP/1.0 400"), "nobody-there"),
        (errors.Forbidden("its certificate"), "nobody-there"),
        (errors.TooBusy("busy"), "nobody-there"),
    ],
)
def test_every_silence_of_a_known_node_is_told_in_the_same_words_and_a_refusal_apart(tmp_path, trouble, code):
    node, other = a_mesh(tmp_path, "me", "other")
    node.network.trouble[other.address] = trouble
    said = node.ask("PROBE", other.address)
    assert said.code == code
    assert said.reason == f"{other.address}: " + ("connection refused" if code == "refused" else "no answer")


def test_a_node_of_another_name_at_the_address_is_a_refusal(tmp_path):
    node, other, third = a_mesh(tmp_path, "me", "other", "third")
    node.network.nodes[other.address] = third
    assert node.ask("PROBE", other.address).code == "refused"


# --- STATUS -------------------------------------------------------------------------------------------------------


def test_a_node_tells_how_it_is(tmp_path):
    node = a_node(tmp_path, receiver_threshold=2.0, days=3.0).offer("Echo", weight=1.5, url="http://{host}/e", is_seen=False)
    node.clock.now += 7
    node.overload("Echo")
    own = node.ask("STATUS", role=CLIENT).own
    assert (own["name"], own["address"], own["mesh"]) == ("me", node.address, "mesh")
    assert (own["nodes"], own["weight"], own["receiver_threshold"], own["overloaded"]) == (1, 3.0, 2.0, True)
    assert (own["uptime"], own["draining"], own["free_dynamic"], own["rival"]) == (7.0, False, 5, None)
    assert (
        round(own["certificate_days_left"], 1) == 3.0 and "the certificate of me ends in less than 7 days" in own["warnings"][0]
    )
    assert own["policy"] is None and own["policy_mode"] == "lax" and "policies" not in own
    assert own["services"] == {
        "Echo": {
            "type": "static", "weight": 3.0, "cost": 1.5, "calls": 2, "healthy": True, "checked": False, "url": "http://10.0.0.1/e",
            "living": 1, "wanted": 0,
        }
    }  # fmt: skip


def test_what_is_wrong_is_told(tmp_path):
    node = a_node(tmp_path).offer("Broken", weight="heavy").offer("Sick")
    update_own(node, Told(unhealthy=["Sick"]))
    own = node.ask("STATUS").own
    assert not own["services"]["Sick"]["healthy"] and "Broken" not in own["services"]
    assert any("Broken.bdcert:1: " in line and "heavy" not in line for line in own["complaints"]) and set(
        own["complaints"]
    ) < set(own["warnings"])


def test_a_file_whose_name_is_no_text_is_shown_escaped(tmp_path):
    node = a_node(tmp_path)
    with open(os.path.join(os.fsencode(node.settings.services_dir), b"caf\xe9.bdcert"), "wb"):
        pass
    assert any("caf\\xe9" in line for line in node.ask("STATUS").own["complaints"])


def test_a_node_tells_whom_it_knows_and_what_is_only_hinted(tmp_path):
    node, other = a_node(tmp_path, policy=document("A")), a_node(tmp_path, "other", policy=document("B"))
    other.offer("Echo")
    acquaint(node, other)
    node.ask("HINT", "10.9.9.9:1", role=ADMIN)
    seen = {each["name"]: each for each in node.ask("STATUS").nodes}
    assert seen["me"]["talkable"] and not seen["other"]["talkable"]
    assert seen["other"]["services"] == ["Echo"] and seen["other"]["types"] == {"Echo": "static"}
    assert seen["other"]["urls"] == {"Echo": "http://10.0.0.2:8080/axis/Echo?wsdl"}
    assert seen["other"]["heard_at"] == NOW and seen["other"]["policy"] == other.rules.document.digest
    assert seen[None]["address"] == "10.9.9.9:1" and seen[None]["status"] == "unvisited"


def test_a_node_tells_how_the_services_stand(tmp_path):
    node, other = a_node(tmp_path), a_node(tmp_path, "other")
    other.offer("Echo", replicas=3, edition="5:" + "a" * 32, health="http").offer("Plain", is_seen=False)
    node.offer("Echo", health="tcp", type="dynamic", original="other", edition="4:" + "b" * 32)
    acquaint(node, other)
    status = node.ask("STATUS")
    seen = {each["name"]: each["offers"] for each in status.nodes}
    assert seen["other"] == {"Echo": {"edition": [5, "aaaaaaaa"], "replicas": 3}, "Plain": {"checked": False}}
    assert seen["me"]["Echo"] == {"edition": [4, "bbbbbbbb"], "original": "other", "stale": True}
    told = status.own["services"]["Echo"]
    assert (told["living"], told["wanted"], told["stale"], told["original"]) == (2, 3, True, "other")


def test_a_crawl_gets_others_in_brief_and_the_policies_when_it_wishes_them(tmp_path):
    node, other = a_node(tmp_path), a_node(tmp_path, "other", policy=document("B"))
    acquaint(node, other)
    brief = node.ask("STATUS", {"brief": True})
    assert sorted(row[0] for row in brief.nodes) == ["me", "other"] and "policies" not in brief.own
    assert [row[1:3] for row in brief.nodes if row[0] == "other"] == [[other.address, "alive"]]
    full = node.ask("STATUS", {"brief": False})
    assert full.own["policies"] == {other.rules.document.digest: document("B")}


def test_the_status_of_another_node_comes_through_this_one(tmp_path):
    node, _other = a_mesh(tmp_path, "me", "other")
    assert node.ask("STATUS", {"of": "other"}).own["name"] == "other"
    assert node.ask("STATUS", {"of": "me"}).own["name"] == "me"
    assert node.ask("STATUS", {"of": "other", "brief": True}).nodes[0][0] in ("me", "other")
    with pytest.raises(errors.NobodyThere, match="nobody of that name"):
        node.ask("STATUS", {"of": "stranger"})


def test_a_policy_that_takes_too_long_to_compare_costs_no_answer_about_others(tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "STEPS_MAX", 80_000)
    node, other = a_node(tmp_path, policy=COSTLY[0]), a_node(tmp_path, "other", policy=COSTLY[1])
    acquaint(node, other)
    with node.call_me(policy_text=COSTLY[0]) as talk:
        seen = {each["name"]: each["talkable"] for each in talk.ask(["STATUS"]).nodes}
    assert seen == {"me": True, "other": False}


# --- STATUS: what a page about one node or service wishes to see --------------------------------------------------


def test_calls_of_the_last_minute_are_told_of_each_service(tmp_path):
    node = a_node(tmp_path).offer("Echo").offer("Maps")
    for second in (NOW - 61, NOW - 59, NOW - 1, NOW):
        node.hitlog.append("Echo", "HIT", "192.0.2.1", second)
    node.load.weigh(NOW)
    services = node.ask("STATUS", role=CLIENT).own["services"]
    assert (services["Echo"]["calls"], services["Maps"]["calls"]) == (3, 0)


def test_who_calls_and_where_look_ups_went_is_told_to_who_wants_to_know(tmp_path):
    node = a_node(tmp_path).offer("Echo").offer("Maps")
    for service in ("Echo", "Echo", "Maps", "Nothing"):
        node.ask("WHEREIS", service, None, role=CLIENT)
    plain = node.ask("STATUS", role=CLIENT).own
    assert not {"askers", "lookups", "timeline"} & plain.keys()
    own = node.ask("STATUS", {"brief": True, "detail": True}, role=CLIENT).own
    assert {name: [calls for _, calls in rows] for name, rows in own["askers"].items()} == {"Echo": [2], "Maps": [1]}
    assert [each["service"] for each in own["lookups"]] == ["Nothing", "Maps", "Echo", "Echo"]
    assert [each["node"] for each in own["lookups"]] == ["", node.name, node.name, node.name]
    one = node.ask("STATUS", {"brief": True, "detail": "Maps"}, role=CLIENT).own
    assert one["askers"].keys() == {"Maps"} and {each["service"] for each in one["lookups"]} == {"Maps"}


ADDRESS = "192.0.2.7"  # of who asks a node in memory


def callers_told(node, role, **wish):
    """Those of a STATUS."""
    own = node.ask("STATUS", {"brief": True, "detail": True, **wish}, role=role).own
    return {client for rows in own["askers"].values() for client, _ in rows} | {each["client"] for each in own["lookups"]}


def test_a_callers_address_may_be_told_to_administrators_alone_and_is_counted_for_all(tmp_path):
    node = a_node(tmp_path, callers_seen_by="admin").offer("Echo")
    node.ask("WHEREIS", "Echo", None, role=CLIENT)
    assert callers_told(node, ADMIN) == {ADDRESS}
    assert callers_told(node, CLIENT) == callers_told(node, CLIENT, callers=True) == callers_told(node, NODE) == {""}
    own = node.ask("STATUS", {"detail": "Echo"}, role=CLIENT).own
    assert own["askers"] == {"Echo": [["", 1]]} and own["lookups"][0]["node"] == "me"
    assert callers_told(a_node(tmp_path, "other").offer("Echo"), CLIENT) == set()
    node.settings = node.settings.__class__(node.settings.path, {**node.settings.given, "callers_seen_by": "client"})
    assert callers_told(node, CLIENT) == {ADDRESS}


@pytest.mark.parametrize(("role", "told"), [(ADMIN, ADDRESS), (CLIENT, "")])
def test_through_another_node_callers_are_told_to_administrators_alone(tmp_path, role, told):
    node, other = a_mesh(tmp_path, "me", "other", callers_seen_by="admin")
    other.offer("Echo").ask("WHEREIS", "Echo", None, role=CLIENT)
    assert callers_told(node, role, of="other") == {told}


def test_a_child_that_rehearses_notes_no_look_up(tmp_path):
    node = a_node(tmp_path)
    node.counters.is_paused = True
    node.ask("WHEREIS", "Nothing", None, role=CLIENT)
    assert node.lookups.recent() == []


def test_the_time_line_is_told_as_far_as_it_is_kept(tmp_path):
    node = a_node(tmp_path, timeline_hours=2)
    now = int(NOW) // 60
    for back in (0, 1, 100):
        node.files.timeline.write(Span(now - back, 60, back, 0, 0, 1.0, 2.0, 100.0), 120)
    line = node.ask("STATUS", {"brief": True, "timeline": 24}, role=CLIENT).own["timeline"]
    assert (line["now"], line["hours"], [row[2] for row in line["spans"]]) == (now, 2, [100, 1, 0])
    short = node.ask("STATUS", {"brief": True, "timeline": 1}, role=CLIENT).own["timeline"]
    assert [row[2] for row in short["spans"]] == [1, 0]
    for wish in ({"timeline": 0}, {"timeline": 169}, {"timeline": "x"}, {"timeline": True}):
        assert "timeline" not in node.ask("STATUS", {"brief": True, **wish}, role=CLIENT).own or wish["timeline"] is True
    assert "timeline" not in a_node(tmp_path, "other", timeline_hours=0).ask("STATUS", {"timeline": 1}, role=CLIENT).own


def test_another_node_is_asked_for_the_same(tmp_path):
    node, other = a_mesh(tmp_path, "me", "other")
    other.offer("Echo")
    other.ask("WHEREIS", "Echo", None, role=CLIENT)
    own = node.ask("STATUS", {"of": "other", "brief": True, "detail": True, "timeline": 1}, role=CLIENT).own
    assert [each["service"] for each in own["lookups"]] == ["Echo"] and own["timeline"]["hours"] == 1
