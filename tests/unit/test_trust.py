"""Trust: which services here are signed, judged once for each change and never in a look-up."""

import pytest

from bdserver.core.roles import ADMIN
from bdserver.errors import BadConfig, BadPackage
from bdserver.files import minisign, publishers
from bdserver.processes import facts
from tests.unit.nodes import NOW, a_mesh, a_node
from tests.unit.signed import KEY, STRANGER, a_list, a_signing_mesh, publish


def test_services_are_judged_once_for_each_change_of_theirs_or_of_the_list(tmp_path, monkeypatch):
    judged = []
    is_good = minisign.is_good
    monkeypatch.setattr(minisign, "is_good", lambda *arguments: judged.append(1) or is_good(*arguments))
    (node,) = a_signing_mesh(tmp_path, "me")
    publish(tmp_path, node)
    node.refresh()
    judged.clear()
    for _ in range(3):
        assert node.trust.judged().doubts == {} and node.trust.untrusted() == frozenset()
        node.ask("WILLYOUEXECUTE", "Echo")
    assert not judged
    publish(tmp_path, node, b"v2", name="Other")
    judged.clear()
    node.settle()
    assert node.trust.judged().doubts == {} and len(judged) <= 1
    publish(tmp_path, node, b"v2")
    assert node.trust.judged().doubts == {}
    node.rules = node.rules._replace(publishers=publishers.read(a_list(tmp_path, STRANGER)))
    assert "none of our publishers'" in node.trust.judged().doubts["Echo"]


def test_where_nobody_is_asked_for_all_is_given_and_taken(tmp_path):
    node = a_node(tmp_path).offer("Echo")
    assert node.trust.judged().doubts == {} and node.trust.judged().may_give(node.services.get("Echo"))
    node.trust.take("Echo", "f" * 64, "", NOW)
    assert node.trust.newest("Echo") == 0


def test_a_service_that_is_no_file_needs_no_signature(tmp_path):
    (node,) = a_signing_mesh(tmp_path, "me")
    node.offer("Wiki", None, url="http://h/")
    assert node.trust.judged().doubts == {} and not node.trust.judged().may_give(node.services.get("Wiki"))


def test_what_was_seen_is_kept_for_the_next_life(tmp_path):
    (node,) = a_signing_mesh(tmp_path, "me")
    publish(tmp_path, node)
    assert node.trust.newest("Echo") == int(NOW)
    node.ask("WITHDRAW", "Echo", role=ADMIN)
    with open(node.files.seen.path) as file:
        assert file.readline() == f"{int(NOW)} Echo\n"


def test_counters_that_can_not_be_read_let_nothing_in(tmp_path):
    (node,) = a_signing_mesh(tmp_path, "me")
    with open(node.files.seen.path, "w") as file:
        file.write("nonsense\n")
    with pytest.raises(BadConfig, match="bdsigned: is damaged"):
        publish(tmp_path, node)
    assert node.services.get("Echo") is None


def test_a_list_that_is_broken_lets_nothing_in(tmp_path):
    (node,) = a_signing_mesh(tmp_path, "me")
    publish(tmp_path, node)
    signature = node.services.get("Echo").signature
    node.rules = node.rules._replace(publishers=publishers.closed("/list", "/list:1: no"))
    with pytest.raises(BadPackage, match="can't be read"):
        node.trust.check("Echo", node.services.get("Echo").edition.digest, signature, NOW)
    assert [each.key for each in facts.findings(node, node.cache.view(), NOW) if each.key == "publishers"]


def test_what_is_not_signed_is_told_a_copy_as_a_warning_and_an_original_as_a_note(tmp_path):
    one, two = a_mesh(tmp_path, "one", "two")
    publish(tmp_path, one, key=None)
    two.knows(one)
    two.ask("WILLYOUREPLICATE", "Echo")
    for node in (one, two):
        node.rules = node.rules._replace(publishers=publishers.read(a_list(tmp_path, KEY)))
    said = {node.name: {each.key: each for each in facts.findings(node, node.cache.view(), NOW)} for node in (one, two)}
    assert "unsigned" in said["one"] and "untrusted" not in said["one"]
    assert "untrusted" in said["two"] and "unsigned" not in said["two"]
    assert "Echo (nobody has signed it)" in said["two"]["untrusted"].words
