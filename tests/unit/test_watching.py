"""bdctl watch: the mesh as it is, and each change."""

import pytest

from bdserver.commands.ctl import watching
from bdserver.commands.ctl.watching import Watch
from bdserver.errors import NobodyThere
from tests.unit.canned import seen


class Mesh:
    def __init__(self, *nodes):
        self.nodes, self.digest, self.looks, self.silence, self.said = list(nodes), "d1", 0, None, []
        self.watch = Watch(
            self.ping, self.look, lambda at, facts: self.said.append((facts["node"], facts["kind"], facts["change"]))
        )

    def ping(self):
        if self.silence:
            raise self.silence
        return self.digest

    def look(self):
        self.looks += 1
        return self.nodes

    def turn(self, *nodes, digest=None, clock=0.0):
        """What is said at the next look."""
        if nodes:
            self.nodes = list(nodes)
        self.digest = digest or self.digest
        self.said.clear()
        self.watch.turn(clock, clock)
        return list(self.said)


def test_it_begins_with_the_state():
    mesh = Mesh(seen("b", 2, draining=True, status="suspect"), seen("a", services=()))
    assert mesh.turn() == [
        ("a", "state", "is alive, at 10.0.0.1:9001"),
        ("b", "state", "is suspect, at 10.0.0.2:9001, drains, offers Echo (static)"),
    ]


def test_a_mesh_at_rest_is_asked_for_its_digest_alone():
    mesh = Mesh(seen("a"))
    for clock in (0.0, 1.0, 2.0):
        mesh.turn(clock=clock)
    assert mesh.looks == 1
    mesh.turn(clock=watching.WHOLE_SECONDS)
    assert mesh.looks == 2
    assert mesh.turn(seen("a", draining=True), digest="d2") == [("a", "draining", "drains")]


def test_what_happened_during_a_silence_is_told_after_it_though_the_digest_be_the_same():
    mesh = Mesh(seen("a"))
    mesh.turn()
    mesh.silence = NobodyThere("it is gone")
    assert mesh.turn() == [("this node", "silent", "does not answer: it is gone")] and mesh.turn() == []
    mesh.silence = None
    assert mesh.turn(seen("a", services=("Echo", "New"))) == [
        ("this node", "answers", "answers again"),
        ("a", "offered", "offers New (static)"),
    ]


def test_a_node_that_was_never_there_is_an_error():
    mesh = Mesh()
    mesh.silence = NobodyThere("it is not there")
    with pytest.raises(NobodyThere):
        mesh.turn()


def test_lines_for_people_and_for_programs(capsys):
    watching._in_words(0.0, {"node": "a", "change": "drains"})
    watching._in_json(1.23456, {"node": "a", "kind": "draining", "change": "drains"})
    words, line = capsys.readouterr().out.splitlines()
    assert words.endswith("  a drains") and line == '{"at": 1.235, "node": "a", "kind": "draining", "change": "drains"}'
