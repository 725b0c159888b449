"""A node as one of its processes sees it: opened from a config, read anew before a fork, hits, warnings, whom it may call."""

import logging
import os
import time
from random import Random

import pytest

from bdserver import errors
from bdserver.core.messages import Pong
from bdserver.core.nudges import Look
from bdserver.core.policies import Policies
from bdserver.core.roles import CLIENT
from bdserver.core.view import Rival
from bdserver.files import policyfile
from bdserver.files.revoked import SETTLED_SECONDS
from bdserver.files.settings import Settings, load
from bdserver.net import dialling
from bdserver.net.identity import Identity
from bdserver.processes.describing import own_record
from bdserver.processes.node import Life, Node, open_node
from bdserver.processes.reload import read_anew
from bdserver.processes.rules import Rules, Sources
from tests.unit.configs import config, folder  # noqa: F401 (fixtures)
from tests.unit.nodes import NOW, a_mesh, a_node, acquaint, document, warnings


def whose(name):
    return Identity("mesh", CLIENT, name, (), NOW, 1)


def soon():
    return time.monotonic() + 5


# --- reading anew -------------------------------------------------------------------------------------------------


def test_a_config_is_opened_as_a_node(config, tmp_path):  # noqa: F811
    node = open_node(load(config()))
    assert (node.name, node.mesh, node.address) == ("me", "mesh", "10.0.0.1:9001")
    assert node.cache.path == str(tmp_path / "me.bdcache") and node.rules.document == policyfile.NONE
    assert (node.dial, node.life.listener_pid) == (dialling.dial, os.getpid())


def test_only_a_node_s_certificate_makes_a_node(config, folder):  # noqa: F811
    with pytest.raises(errors.BadConfig, match="joe.crt has the role client, and a node needs the role node"):
        open_node(load(config(username="joe", key_dir=f"{folder}/joe")))


def test_what_the_command_line_names_goes_before_the_config(config, tmp_path):  # noqa: F811
    (tmp_path / "mine.xml").write_text(document("A"))
    (tmp_path / "mine.txt").write_text("192.0.2.1\n")
    (tmp_path / "confs.xml").write_text(document("B"))
    node = open_node(
        load(config(ws_policy=tmp_path / "confs.xml")), Sources(str(tmp_path / "mine.xml"), str(tmp_path / "mine.txt"))
    )
    assert node.rules.document.text == document("A") and node.is_black_listed("192.0.2.1")
    assert read_anew(node) == [] and node.rules.document.text == document("A") and node.is_black_listed("192.0.2.1")


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


# --- what it knows ------------------------------------------------------------------------------------------------


def test_heard_is_the_later_of_what_the_cache_and_the_discoverer_know(tmp_path):
    node, _other = a_mesh(tmp_path, "me", "other")
    assert node.heard_at(node.cache.view())("other") == NOW and node.heard_at(node.cache.view())("stranger") == 0.0
    node.heard.note("other", NOW + 9)
    node.heard.write({"other"}, 0.0, NOW + 9)
    assert node.heard_at(node.cache.view())("other") == NOW + 9


# --- hits ---------------------------------------------------------------------------------------------------------


def test_a_hit_that_the_disk_does_not_take_costs_the_count_and_not_the_answer(tmp_path, caplog):
    node = a_node(tmp_path).offer("Echo")
    os.rmdir(node.settings.service_log_dir)
    open(node.settings.service_log_dir, "w").close()  # so that it does not come back
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


def test_a_list_of_the_revoked_that_can_not_be_read_is_warned_of_until_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    (tmp_path / "revoked").write_text("joe\n")
    node = a_node(tmp_path, revoked=str(tmp_path / "revoked"))
    (tmp_path / "revoked").write_text("no name!\n")
    assert node.refusal(whose("joe"))
    [warning] = warnings(node)
    assert "revoked:1" in warning
    (tmp_path / "revoked").write_text("jim\n")
    assert node.refusal(whose("jim")) and warnings(node) == []
    monkeypatch.setattr("time.monotonic", lambda: 1000.0 + SETTLED_SECONDS)
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


def test_a_change_of_the_services_here_is_seen_once_by_who_looks_for_it(tmp_path):
    node = a_node(tmp_path)
    assert not node.look_at_services(), "the first look"
    for change in (lambda: node.offer("Echo"), lambda: node.services.withdraw("Echo")):
        change()
        assert node.look_at_services()
        node.settle()
        node.look_at_services()
        assert not node.look_at_services()
