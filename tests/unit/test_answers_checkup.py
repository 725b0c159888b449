"""DOCTOR: what a node tells of itself and of its visits; who may have it visit whom, and how often."""

import pytest

from bdserver.core import checkup
from bdserver.core.messages import Checkup
from bdserver.core.roles import CLIENT
from bdserver.errors import Forbidden, TooBusy
from bdserver.net.visiting import Whom
from bdserver.processes.answers import checkup as module
from tests.unit.nodes import a_mesh, a_node


@pytest.fixture
def visited(monkeypatch):
    """Whom was visited; nobody is dialled."""
    found = []

    def visit_all(call, whom, deadline):
        found.extend(whom)
        return [checkup.Visit(each.name, each.address) for each in found]

    monkeypatch.setattr(module, "visit_all", visit_all)
    return found


def test_those_that_live_are_visited_at_both_ports_and_findings_are_told(tmp_path, visited):
    node, other = a_mesh(tmp_path, "me", "other")
    node.offer("Echo")
    said = node.ask("DOCTOR")
    assert visited == [Whom("other", other.address, "10.0.0.2:9002")]
    assert said.name == "me" and [each["key"] for each in said.findings] == ["unchecked"]
    assert [checkup.from_json(each).name for each in said.visits] == ["other"]


def test_another_node_is_asked_through_this_one(tmp_path, visited):
    node, other = a_mesh(tmp_path, "me", "other")
    said = node.ask("DOCTOR", {"of": "other"})
    assert isinstance(said, Checkup) and said.name == "other" and [each.name for each in visited] == ["me"]
    assert node.ask("DOCTOR", {"of": "me"}).name == "me" and other.name == "other"


def test_one_node_alone_is_visited_if_that_is_the_wish(tmp_path, visited):
    node, *_ = a_mesh(tmp_path, "me", "other", "third")
    node.ask("DOCTOR", {"visit": "third"})
    assert [each.name for each in visited] == ["third"]
    visited.clear()
    node.ask("DOCTOR", {"of": "third", "visit": "me"})
    assert [each.name for each in visited] == ["me"]
    visited.clear()
    node.ask("DOCTOR", {"visit": ["third"]})
    assert visited == []


def test_one_request_at_a_time_makes_visits_and_clients_have_none_made(tmp_path, visited):
    node = a_node(tmp_path)
    with module._alone(node), pytest.raises(TooBusy, match="under way already"):
        node.ask("DOCTOR")
    assert node.ask("DOCTOR").visits == []
    with pytest.raises(Forbidden):
        node.ask("DOCTOR", role=CLIENT)
