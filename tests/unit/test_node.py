"""A node as one of its processes sees it: files read anew, its own record, hits, warnings, whom it may call."""

import copy
import logging
import math
import os
import time
from random import Random

import pytest

from bdserver import errors
from bdserver.core.membership import DEAD, LEFT, Record, as_json, from_json, raised
from bdserver.core.messages import Pong
from bdserver.core.nudges import Look
from bdserver.core.policies import Policies
from bdserver.core.roles import CLIENT, NODE
from bdserver.core.view import Rival
from bdserver.files import policyfile
from bdserver.files.settings import Settings, load
from bdserver.net import dialling
from bdserver.net.authority import Authority, general_names
from bdserver.net.identity import Identity
from bdserver.processes import reload
from bdserver.processes.describing import Told, mark_left, own_record, update_own
from bdserver.processes.load import Load
from bdserver.processes.node import Life, Node, open_node
from bdserver.processes.nodefiles import open_files
from bdserver.processes.reload import read_anew
from bdserver.processes.rules import Rules, Sources
from bdserver.processes.run import begin
from tests.unit.certificates import make_keys
from tests.unit.nodes import NOW, a_mesh, a_node, acquaint, document, warnings
from tests.unit.signed import KEY, SIGNER


def whose(name):
    return Identity("mesh", CLIENT, name, (), NOW, 1)


def soon():
    return time.monotonic() + 5


# --- reading anew -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A node's folder as bdkeys and an administrator leave it."""
    folder = str(tmp_path_factory.mktemp("node"))
    Authority.make(f"{folder}/ca", "mesh")
    make_keys(folder, f"{folder}/ca", "me", "10.0.0.1")
    make_keys(folder, f"{folder}/ca", "joe", role="client")
    make_keys(folder, f"{folder}/ca", "other", "10.0.0.2")
    return folder


@pytest.fixture
def config(tmp_path, folder):
    """Writes the config, and returns its path."""

    def write(**settings):
        given = {"username": "me", "key_dir": f"{folder}/me", "var_dir": str(tmp_path), "receiver_threshold": 7} | settings
        (tmp_path / "conf").write_text("".join(f"{key}={value}\n" for key, value in given.items()))
        return str(tmp_path / "conf")

    return write


def test_a_config_is_opened_as_a_node(config, tmp_path):
    node = open_node(load(config()))
    assert (node.name, node.mesh, node.address) == ("me", "mesh", "10.0.0.1:9001")
    assert node.cache.path == str(tmp_path / "me.bdcache") and node.rules.document == policyfile.NONE
    assert (node.dial, node.life.listener_pid) == (dialling.dial, os.getpid())


def test_only_a_node_s_certificate_makes_a_node(config, folder):
    with pytest.raises(errors.BadConfig, match="joe.crt has the role client, and a node needs the role node"):
        open_node(load(config(username="joe", key_dir=f"{folder}/joe")))


def test_what_the_command_line_names_goes_before_the_config(config, tmp_path):
    (tmp_path / "mine.xml").write_text(document("A"))
    (tmp_path / "mine.txt").write_text("192.0.2.1\n")
    (tmp_path / "confs.xml").write_text(document("B"))
    node = open_node(
        load(config(ws_policy=tmp_path / "confs.xml")), Sources(str(tmp_path / "mine.xml"), str(tmp_path / "mine.txt"))
    )
    assert node.rules.document.text == document("A") and node.is_black_listed("192.0.2.1")
    assert read_anew(node) == [] and node.rules.document.text == document("A") and node.is_black_listed("192.0.2.1")


def test_a_reload_takes_all_that_may_change(config, tmp_path):
    node = open_node(load(config()))
    (tmp_path / "p.xml").write_text(document("A"))
    (tmp_path / "b").write_text("192.0.2.1\n")
    (tmp_path / "r").write_text("joe\n")
    (tmp_path / "k").write_text(KEY.public.line)
    before = node.credentials
    config(
        receiver_threshold=8,
        ws_policy=tmp_path / "p.xml",
        black_list=tmp_path / "b",
        revoked=tmp_path / "r",
        publishers=tmp_path / "k",
        policy_mode="strict",
        port=1,
    )
    assert read_anew(node) == []
    assert (node.settings.receiver_threshold, node.settings.port) == (8, 9001)
    assert node.rules.document.text == document("A") and node.policies.own == node.rules.document.policy
    assert node.policies.mode == "strict" and node.is_black_listed("192.0.2.1")
    assert node.refusal(whose("joe")) and node.credentials is not before
    assert set(node.rules.publishers.keys) == {SIGNER}
    config()
    assert read_anew(node) == [] and node.rules.document == policyfile.NONE and not node.refusal(whose("joe"))
    assert not node.rules.publishers.are_asked_for


def test_a_list_of_publishers_that_is_broken_shuts_out_all_until_it_is_mended(config, tmp_path):
    (tmp_path / "k").write_text(KEY.public.line)
    node = open_node(load(config(publishers=tmp_path / "k")))
    for content in ("no key!", None):
        (tmp_path / "k").unlink() if content is None else (tmp_path / "k").write_text(content)
        [said] = read_anew(node)
        assert node.rules.publishers.are_asked_for and node.rules.publishers.keys == {}
        assert node.rules.publishers.complaint == said and str(tmp_path / "k") in said
        with pytest.raises(errors.BadPackage, match="can't be read"):
            node.trust.check("Echo", "f" * 64, "", NOW)
    with pytest.raises(errors.BadConfig, match="No such file"):
        open_node(load(config(publishers=tmp_path / "k")))
    (tmp_path / "k").write_text(KEY.public.line)
    assert read_anew(node) == [] and set(node.rules.publishers.keys) == {SIGNER} and not node.rules.publishers.complaint
    before = node.rules.publishers
    assert read_anew(node) == [] and node.rules.publishers is before


@pytest.mark.parametrize(
    ("setting", "content", "complaint"),
    [
        ("ws_policy", "<Policy", "f:1"),
        ("black_list", "not a host!", "f:1"),
        ("revoked", "no name!", "f:1"),
        ("ws_policy", None, "No such file"),
    ],
)
def test_what_is_bad_is_told_and_the_old_one_stays_and_all_else_is_taken(config, tmp_path, setting, content, complaint):
    (tmp_path / "f").write_text({"ws_policy": document("A"), "black_list": "192.0.2.1", "revoked": "joe"}[setting])
    node = open_node(load(config(**{setting: tmp_path / "f"})))
    (tmp_path / "f").unlink() if content is None else (tmp_path / "f").write_text(content)
    config(**{setting: tmp_path / "f"}, receiver_threshold=9)
    [said] = read_anew(node)
    assert complaint in said and node.settings.receiver_threshold == 9
    begin(node)
    [warning] = [line for line in warnings(node, time.time()) if "SIGHUP" in line or "list of revoked" in line]
    assert complaint in warning and warning.startswith(
        "the list of revoked" if setting == "revoked" else "what was before SIGHUP is in force: "
    )
    if setting == "ws_policy":
        assert node.rules.document.text == document("A") and node.policies.own == node.rules.document.policy
    elif setting == "black_list":
        assert node.is_black_listed("192.0.2.1")
    else:
        assert node.refusal(whose("joe")) and complaint in node.rules.revoked.complaint


def test_a_bug_in_reading_anew_is_a_complaint_and_its_traceback_is_said_by_one_process(config, monkeypatch, caplog):
    node = open_node(load(config()))

    def oops(path):
        raise KeyError("planted")

    monkeypatch.setattr(reload, "BlackList", oops)
    config(receiver_threshold=9)
    assert read_anew(node) == ["what SIGHUP reads anew can't be read: KeyError('planted')"]
    assert node.settings.receiver_threshold == 9
    [line] = [record for record in caplog.records if record.exc_info]
    assert line.levelno == logging.ERROR and 'in oops\n    raise KeyError("planted")' in caplog.text
    caplog.clear()
    node.life = node.life._replace(listener_pid=os.getppid())
    assert len(read_anew(node)) == 1 and not caplog.records


def test_a_bad_config_leaves_the_settings_and_a_bad_policy_its_new_mode(config, tmp_path):
    node = open_node(load(config()))
    config(receiver_threshold="many")
    [complaint] = read_anew(node)
    assert "receiver_threshold='many'" in complaint and node.settings.receiver_threshold == 7
    config(policy_mode="strict", ws_policy=tmp_path / "none.xml")
    assert len(read_anew(node)) == 1 and node.policies.mode == "strict"


@pytest.mark.parametrize("as_", ["other", "joe", "nobody"])
def test_keys_of_another_are_refused_and_the_old_ones_stay(config, tmp_path, folder, as_):
    os.mkdir(tmp_path / "keys")

    def put(name):
        for file in ("ca.crt", f"{name}.key", f"{name}.crt"):
            target = tmp_path / "keys" / file.replace(name, "me")
            target.unlink(missing_ok=True)
            with open(f"{folder}/{name}/{file}", "rb") as source:
                target.write_bytes(source.read())
            target.chmod(0o600)

    put("me")
    node = open_node(load(config(key_dir=tmp_path / "keys")))
    before = node.credentials
    if as_ == "nobody":
        (tmp_path / "keys" / "me.crt").write_text("")
    else:
        put(as_)
    [complaint] = read_anew(node)
    assert "me.crt" in complaint and node.credentials is before
    assert ("is now for another node: restart instead" in complaint) == (as_ != "nobody")


def test_before_a_fork_all_is_read_and_parsed_and_once_is_enough(tmp_path):
    node, other = a_node(tmp_path).offer("Echo"), a_node(tmp_path, "other", policy=document("A"))
    node.knows(other)
    (tmp_path / "revoked").write_text("joe\n")
    node.refresh()
    view = node.cache.view()
    assert view._buckets is not None and node.policies._parsed.keys() == {other.rules.document.digest}
    node.policies._parsed.clear()
    node.refresh()
    assert node.cache.view() is view and not node.policies._parsed
    node.offer("More")
    node.refresh()
    assert node.policies._parsed.keys() == {other.rules.document.digest}


# --- its own record -----------------------------------------------------------------------------------------------


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


def test_its_record_is_signed_and_with_new_keys_signed_anew(config, folder):
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


def test_heard_is_the_later_of_what_the_cache_and_the_discoverer_know(tmp_path):
    node, _other = a_mesh(tmp_path, "me", "other")
    assert node.heard_at(node.cache.view())("other") == NOW and node.heard_at(node.cache.view())("stranger") == 0.0
    node.heard.note("other", NOW + 9)
    node.heard.write({"other"}, 0.0, NOW + 9)
    assert node.heard_at(node.cache.view())("other") == NOW + 9


# --- hits ---------------------------------------------------------------------------------------------------------


def test_hits_weigh_by_their_cost_and_age(tmp_path):
    node = a_node(tmp_path, receiver_threshold=3.0).offer("Echo", weight=2).offer("Other")
    node.hit("Echo", "-", node.clock())
    assert node.load.weights(node.clock()) == {"Echo": 2.0, "Other": 0.0} and not node.load.is_overloaded(node.clock())
    node.hit("Echo", "-", node.clock())
    assert node.load.is_overloaded(node.clock()) and node.load.total_weight(node.clock()) == 4.0
    assert not node.load.is_overloaded(node.clock() + 40)


def another_process(node):
    """Which has files of its own in memory, and shares with the node what lies on disk."""
    other = copy.copy(node)
    other.files = open_files(node.settings, node.name)
    other.load = Load(other.services, other.hitlog, lambda: node.settings.receiver_threshold)
    return other


def test_a_look_at_the_weight_is_one_at_the_services_that_were_called(tmp_path, monkeypatch):
    """Which ones these are the discoverer lists, and whoever counts the first call of one adds it."""
    node = a_node(tmp_path)
    for number in range(30):
        node.offer(f"s{number}")
    child = another_process(node)
    node.hit("s1", "-", node.clock())
    assert child.load.total_weight(node.clock()) == 1.0, "at once: the next caller's process is another one"
    assert math.fsum(node.load.weigh(node.clock()).values()) == 1.0 and child.load.total_weight(node.clock()) == 1.0
    child.hit("s2", "-", node.clock())
    looked_at, weigh = [], child.hitlog.weight
    monkeypatch.setattr(child.hitlog, "weight", lambda name, *more: looked_at.append(name) or weigh(name, *more))
    assert child.load.total_weight(node.clock(), "s3") == 2.0 and sorted(looked_at) == ["s1", "s2", "s3"]
    node.clock.now += 61
    assert not any(node.load.weigh(node.clock()).values()) and child.load.total_weight(node.clock()) == 0.0
    looked_at.clear()
    assert child.load.total_weight(node.clock()) == 0.0 and looked_at == []


def test_a_list_of_called_services_that_is_lost_or_can_not_be_written_stops_nobody(tmp_path):
    node = a_node(tmp_path).offer("Echo")
    node.hit("Echo", "-", node.clock())
    node.load.weigh(node.clock())
    child = another_process(node)
    path = os.path.join(node.settings.service_log_dir, ".called")
    for spoil in ("printf '\\377' > {}", "rm {}", "rm {0} && mkdir {0}"):
        assert os.system(spoil.format(path)) == 0
        assert child.load.total_weight(node.clock()) == 0.0 and node.load.weigh(node.clock())["Echo"] == 1.0


def test_a_hit_that_the_disk_does_not_take_costs_the_count_and_not_the_answer(tmp_path, caplog):
    node = a_node(tmp_path).offer("Echo")
    os.rmdir(node.settings.service_log_dir)
    assert node.ask("WILLYOUEXECUTE", "Echo").url
    assert [record.levelno for record in caplog.records] == [logging.ERROR] and "a hit on Echo goes uncounted" in caplog.text


def test_where_the_web_servers_log_tells_of_calls_agreeing_to_one_is_none(tmp_path):
    node = a_node(tmp_path, access_log=str(tmp_path / "access.log")).offer("Echo")
    node.hit("Echo", "-", NOW)
    assert node.hitlog.runs("Echo", NOW) == []
    node.hit("Echo", "-", NOW, "REPLICATE")
    assert node.hitlog.runs("Echo", NOW) == [("REPLICATE", int(NOW), 1)]


# --- warnings -----------------------------------------------------------------------------------------------------


def test_all_that_needs_attention_is_told_the_gravest_first(tmp_path):
    node = a_node(tmp_path, days=3).offer("Broken", health="magic")
    assert warnings(a_node(tmp_path, "well")) == []
    with node.cache.locked() as view:
        view.rival, view.changes = Rival("10.9.9.9:1", NOW), 1
    rival, ending, broken = warnings(node)
    assert rival.startswith("two live nodes are named me: at 10.") and "and at 10.9.9.9:1: each host needs a name" in rival
    assert node.ask("STATUS").own["rival"] == "10.9.9.9:1" and "the certificate" in ending and "Broken" in broken


def test_a_node_that_is_alone_although_it_has_hints_is_not_well(tmp_path):
    node, other = a_node(tmp_path, hints=("10.9.9.9:1", "10.0.0.1:9001")), a_node(tmp_path, "other", hints=("10.0.0.2:9001",))
    assert warnings(node) == ["alone: none of the nodes at its hints (10.9.9.9:1) is met yet"]
    assert warnings(other) == [], "its own address is no hint"
    assert warnings(node.knows(other)) == []
    with other.cache.locked() as view:
        view.hint("10.9.9.8:1")
    assert "10.9.9.8:1" in warnings(other)[0]


def test_an_overloaded_node_is_not_well(tmp_path):
    node = a_node(tmp_path, receiver_threshold=10.0).offer("Echo").overload("Echo")
    assert warnings(node) == ["overloaded: 110 % of its threshold"]
    status = node.ask("STATUS", role=CLIENT).own
    assert status["overloaded"] and status["warnings"] == ["overloaded: 110 % of its threshold"]


def test_a_list_of_the_revoked_that_can_not_be_read_is_warned_of_until_it_can(tmp_path):
    (tmp_path / "revoked").write_text("joe\n")
    node = a_node(tmp_path, revoked=str(tmp_path / "revoked"))
    (tmp_path / "revoked").write_text("no name!\n")
    assert node.refusal(whose("joe"))
    [warning] = warnings(node)
    assert "revoked:1" in warning
    (tmp_path / "revoked").write_text("jim\n")
    assert node.refusal(whose("jim")) and not node.refusal(whose("joe")) and warnings(node) == []


# --- others -------------------------------------------------------------------------------------------------------


def test_another_node_is_called_with_our_policy_and_version(tmp_path):
    node, other = a_node(tmp_path, policy=document("A"), protocol=1), a_node(tmp_path, "other", policy=document("A"))
    acquaint(node, other)
    with node.call(other.address, soon(), "other") as conversation:
        assert isinstance(conversation.ask(["PING"]), Pong)
    with pytest.raises(errors.Refused, match="other is there, not third"):
        node.call(other.address, soon(), "third")


def test_a_black_listed_host_is_not_called(tmp_path):
    (tmp_path / "black").write_text("10.0.0.2 # other\n")
    node, other = a_mesh(tmp_path, "me", "other", black_list=str(tmp_path / "black"))
    with pytest.raises(errors.Forbidden, match="10.0.0.2:9001 is in our black list"):
        node.call(other.address, soon())
    assert node.network.called == [] and node.is_black_listed("10.0.0.2") and not node.is_black_listed("10.0.0.1")
    third = a_node(tmp_path, "third")
    with node.call(third.address, soon()) as conversation:
        assert conversation.is_open


def test_a_node_whose_certificate_is_revoked_is_hung_up_on(tmp_path):
    (tmp_path / "revoked").write_text("other\n")
    node, other = a_mesh(tmp_path, "me", "other", revoked=str(tmp_path / "revoked"))
    talks, dial = [], node.dial
    node.dial = lambda *arguments: talks.append(dial(*arguments)) or talks[-1]
    with pytest.raises(errors.Forbidden, match=f"{other.address}: the certificate of other .* is revoked here"):
        node.call(other.address, soon())
    assert not talks[0].is_open


def test_over_the_local_socket_there_is_no_certificate_to_refuse(tmp_path):
    class Local:
        identity = None

    node = a_node(tmp_path)
    node.dial = lambda *arguments: Local()
    assert isinstance(node.call("10.0.0.9:1", soon()), Local)


def test_a_nudge_to_a_discoverer_that_is_gone_or_full_of_nudges_costs_nothing(tmp_path):
    node = a_node(tmp_path)
    read, write = os.pipe()
    os.set_blocking(write, False)
    node.life = Life(1, NOW, write)
    for _ in range(20_000):
        node.nudge(Look())
    os.close(read)
    node.nudge(Look())
    os.close(write)
    node.life = Life(1, NOW)
    node.nudge(Look())


def test_without_dice_of_its_own_a_node_has_some(tmp_path):
    node = a_node(tmp_path)
    rules = Rules(policyfile.NONE, Policies(None, "lax"), node.rules.black_list, node.rules.revoked)
    bare = Node(Settings(str(tmp_path / "x"), {}), node.credentials, "h:1", rules, node.files)
    assert isinstance(bare.rng, Random) and own_record(bare).version == (0, 0)


def test_whatever_goes_wrong_at_sighup_ends_nobody_and_the_old_one_stays(tmp_path, monkeypatch):
    node, *_ = a_mesh(tmp_path, "me")
    before = node.credentials

    def damaged(*arguments):
        raise KeyError("an algorithm that nobody knows")

    monkeypatch.setattr("bdserver.processes.node.keys.load", damaged)
    assert any("an algorithm that nobody knows" in each for each in read_anew(node))
    assert node.credentials is before
