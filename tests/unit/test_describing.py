"""What a node says of itself to the mesh: its own record."""

import os

from bdserver.core.membership import DEAD, LEFT, Record, as_json, from_json, raised
from bdserver.core.nudges import Look
from bdserver.core.roles import NODE
from bdserver.core.weight import BACK, HIT
from bdserver.files.settings import load
from bdserver.net.authority import Authority, general_names
from bdserver.processes.describing import Told, mark_left, update_own
from bdserver.processes.node import open_node
from bdserver.processes.reload import read_anew
from bdserver.processes.run import begin
from tests.unit.configs import config, folder  # noqa: F401 (fixtures)
from tests.unit.nodes import NOW, a_node, document, warnings


def test_a_node_describes_itself(tmp_path):
    node = a_node(
        tmp_path,
        policy=document("A"),
        max_dynamic=3,
        receiver_threshold=2.0,
        axis_port=80,
        axis_web_dir="w",
        service_url="http://{host}/",
    )
    node.offer("Echo", weight=1.5).offer("Url", None, url="http://u/").offer("Copy", type="dynamic")
    update_own(node.overload("Echo"))
    own = node.cache.view().own
    assert own.services["Echo"][:4] == ("static", 1.5, "", True) and own.services["Url"][:4] == (
        "static",
        1.0,
        "http://u/",
        False,
    )
    assert (own.free_dynamic, own.load, own.receiver_threshold, own.web_port, own.web_dir) == (2, 15, 2.0, 80, "w")
    assert own.service_url == "http://{host}/" and own.policy == node.rules.document.digest
    assert node.cache.view().policies == {own.policy: document("A")} and own.address == node.address


def test_a_load_that_swings_about_the_border_of_two_steps_is_told_once(tmp_path):
    node = a_node(tmp_path, receiver_threshold=100).offer("Echo", weight=1)
    told = []
    for calls in (14, 2, -2, 2, 5, 60):  # weights of 14, 16, 14, 16, 21, 81
        node.hitlog.append("Echo", HIT if calls > 0 else BACK, "10.0.0.9", node.clock(), abs(calls))
        told.append((update_own(node), node.cache.view().own.load))
    assert told == [(True, 1), (False, 1), (False, 1), (False, 1), (True, 2), (True, 8)]


def test_its_record_is_signed_and_with_new_keys_signed_anew(config, folder):  # noqa: F811
    node = open_node(load(config()))
    begin(node)
    view = node.cache.view()
    assert node.proofs.doubt(view.own, view.certificates[view.own.certificate]) is None
    before = view.own
    assert not update_own(node) and node.cache.view().own is before, "each version is signed once"
    for each in ("me.key", "me.crt"):
        os.unlink(f"{folder}/me/{each}")
    Authority.load(f"{folder}/ca").issue(f"{folder}/me", "me", NODE, general_names(["10.0.0.1"]), 100)
    assert read_anew(node) == [] and update_own(node)
    view = node.cache.view()
    assert view.own.version == raised(before.version) and view.own.certificate != before.certificate
    assert node.proofs.doubt(view.own, view.certificates[view.own.certificate]) is None
    assert node.proofs.doubt(before, view.certificates[before.certificate]) is None, "the old one counts until it ends"
    with node.cache.locked() as view:  # signed anew by another process, before it was described anew
        del view.certificates[view.own.certificate]
        view.changes += 1
    assert update_own(node) and node.cache.view().own.certificate in node.cache.view().certificates


def test_services_that_have_no_room_in_its_record_are_left_out_and_said(tmp_path):
    node = a_node(tmp_path, max_dynamic=10**12)
    for number in range(150):
        with open(f"{node.services.services_dir}/S{number:03}.bdcert", "w") as file:
            file.write(f"weight=1\nurl=http://u/{'x' * 1900}\n")
    assert update_own(node) and not update_own(node)
    own = node.cache.view().own
    assert 100 < len(own.services) < 150 and own.free_dynamic == 1_000_000 and from_json(as_json(own)) == own
    [warning] = warnings(node)
    assert (
        warning.startswith(f"{150 - len(own.services)} services are not told to the mesh, which has no room")
        and "S149" not in own.services
    )


def test_a_start_with_a_wrong_clock_is_said_by_the_node_and_by_those_who_refuse_it(tmp_path):
    node = a_node(tmp_path)
    node.heard.note_refusal("N2", "its version is 2.0 days ahead of our clock")
    node.heard.note_refusal("gone", "and refuses nobody any more")
    node.heard.write(set(), 0.0, NOW)
    with node.cache.locked() as view:
        view.merge(Record("gone", "10.0.0.9:1", (1, 0), DEAD, NOW), NOW)
        view.hints.clear()
    refused = "N2 refuses our record: its version is 2.0 days ahead of our clock"
    assert warnings(node) == [refused]
    ahead = "this node started 2.0 days ahead of its clock, so others refuse its record: restart it"
    assert warnings(node, NOW - 2 * 86400) == [ahead, refused]


def test_what_has_not_changed_is_told_to_nobody(tmp_path):
    node = a_node(tmp_path)
    version = node.cache.view().own.version
    assert not update_own(node) and node.nudged() == [] and node.cache.view().own.version == version
    assert update_own(node, Told(draining=True)) and node.nudged() == [Look()] and node.cache.view().own.version > version
    assert not update_own(node) and node.cache.view().own.draining


def test_what_is_not_well_is_not_offered_until_it_is(tmp_path):
    node = a_node(tmp_path).offer("Echo").offer("Sick")
    update_own(node, Told(unhealthy=["Sick", "Gone"]))
    own = node.cache.view().own
    assert list(own.services) == ["Echo"] and own.extra == {"unhealthy": ["Sick"]}
    assert not update_own(node) and warnings(node) == ["the service Sick is not well, and not offered"]
    update_own(node, Told(unhealthy=[]))
    assert sorted(node.cache.view().own.services) == ["Echo", "Sick"] and node.cache.view().own.extra == {}


def test_more_replicas_than_slots_are_no_free_slots_below_zero(tmp_path):
    node = a_node(tmp_path, max_dynamic=0).offer("Copy", type="dynamic")
    assert node.cache.view().own.free_dynamic == 0 and node.dynamic_count() == 1


def test_the_last_word_is_that_it_has_left(tmp_path):
    node = a_node(tmp_path)
    assert mark_left(node).status == LEFT and node.cache.view().own.status == LEFT
