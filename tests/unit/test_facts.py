"""The facts of a node's condition: what a person would look for is gathered, each from where it is known."""

from bdserver.core import attention
from bdserver.core.attention import Severity, Unmet
from bdserver.processes import facts
from tests.unit.nodes import NOW, a_mesh, a_node, warnings


def gathered(node):
    return facts.gather(node, node.cache.view(), NOW)


def test_a_node_that_is_alone_says_what_came_of_its_visits(tmp_path):
    node = a_node(tmp_path, hints=("10.9.9.9:1",))
    node.heard.note_visit("10.9.9.9:1", "policy-mismatch", "10.9.9.9:1: the policies do not meet")
    node.heard.write(set(), 0.0, NOW)
    [warning] = warnings(node)
    assert warning.startswith("alone: none of the nodes at its hints (10.9.9.9:1) is met: 10.9.9.9:1: the policies do not meet")
    assert "bdctl policy compare" in warning


def test_a_node_whose_certificate_is_revoked_says_so_though_it_is_not_alone(tmp_path):
    node, _other = a_mesh(tmp_path, "me", "other")
    node.heard.note_visit("other", "forbidden", "10.0.0.2:9001: the certificate of me (serial 7) is revoked here")
    node.heard.note_visit("10.0.0.2:9001", "forbidden", "10.0.0.2:9001: the certificate of me (serial 7) is revoked here")
    node.heard.note_visit("third", "nobody-there", "no answer")
    node.heard.write({"other"}, 0.0, NOW)
    assert gathered(node).revoked_at == ("other",)
    [warning] = warnings(node)
    assert (
        warning.startswith("other say that the certificate of me is revoked") and attention.REMEDIES[Unmet.REVOKED] in warning
    )


def test_one_clock_that_differs_is_believed_where_there_is_no_other_one_to_ask(tmp_path):
    node, _ = a_mesh(tmp_path, "me", "other")
    node.heard.note_clock("other", 60.0)
    assert gathered(node).clock_off == 60.0
    (tmp_path / "three").mkdir()
    node, *_ = a_mesh(tmp_path / "three", "me", "other", "third")
    node.heard.note_clock("other", 60.0)
    assert gathered(node).clock_off is None
    node.heard.note_clock("third", 60.4)
    assert gathered(node).clock_off == 60.0


def test_services_that_nobody_checks_are_a_note(tmp_path):
    node = a_node(tmp_path).offer("Echo").offer("Watched", health="tcp")
    [note] = facts.findings(node, node.cache.view(), NOW)
    assert note.severity is Severity.NOTE and note.words.endswith(": Echo") and warnings(node) == []


def test_the_disks_that_a_node_writes_to_are_looked_at(tmp_path):
    node = a_node(tmp_path)
    [disk] = gathered(node).disks
    assert disk.folder == node.settings.var_dir
