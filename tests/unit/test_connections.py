"""Connections that are kept: used again, dialled anew when they broke, let go."""

import select
import socket
from types import SimpleNamespace

import pytest

from bdserver.errors import BadRequest, Deadline, NobodyThere
from bdserver.files.revoked import Revoked
from bdserver.net.connections import Connections


class Talk:
    """A conversation, as far as keeping one goes: a socket, and whether it is closed."""

    def __init__(self, where):
        self.where, self.identity = where, SimpleNamespace(name="a", serial=1)
        self.sock, self.other_end = socket.socketpair()
        self.begun, self.is_broken = [], False

    def is_readable(self, deadline):
        return bool(select.select([self.sock], [], [], 0)[0])

    def begin(self, request, deadline):
        if self.is_broken:
            raise NobodyThere("it hung up")
        self.begun.append(request)

    def fileno(self):
        return self.sock.fileno()

    def close(self):
        self.sock.close()
        self.other_end.close()

    break_off = close

    @property
    def is_open(self):
        return self.sock.fileno() >= 0


class Node:
    def __init__(self):
        self.called, self.revoked = [], Revoked("")

    def refusal(self, identity):
        return self.revoked.refusal(identity.name, identity.serial)

    def call(self, address, deadline, name):
        self.called.append(Talk(address))
        return self.called[-1]


@pytest.fixture
def node():
    node = Node()
    yield node
    for talk in node.called:
        talk.close()


def said(talk):
    return talk


def test_a_connection_is_kept_and_used_again(node):
    connections = Connections(node.call, node.refusal, 8)
    assert connections.talk("a", "a:1", 0, said) is connections.talk("a", "a:1", 0, said)
    assert len(node.called) == 1 and node.called[0].is_open


def test_one_that_broke_is_dialled_anew_once(node):
    connections, failures = Connections(node.call, node.refusal, 8), [NobodyThere("it hung up")]

    def say(talk):
        if failures:
            raise failures.pop()
        return talk

    with pytest.raises(NobodyThere):  # a new one that breaks is the end of it
        connections.talk("a", "a:1", 0, say)
    kept = connections.talk("a", "a:1", 0, say)
    failures.append(NobodyThere("it hung up"))
    assert connections.talk("a", "a:1", 0, say) is not kept and not kept.is_open
    assert len(node.called) == 3


@pytest.mark.parametrize("error", [Deadline, BadRequest, KeyboardInterrupt])
def test_after_any_other_error_it_is_closed_and_nobody_is_dialled(node, error):
    connections = Connections(node.call, node.refusal, 8)
    connections.talk("a", "a:1", 0, said)

    def fail(talk):
        raise error("no")

    with pytest.raises(error):
        connections.talk("a", "a:1", 0, fail)
    assert len(node.called) == 1 and not node.called[0].is_open


def test_a_node_that_moved_or_was_revoked_is_dialled_anew(node, tmp_path):
    connections = Connections(node.call, node.refusal, 8)
    first = connections.talk("a", "a:1", 0, said)
    second = connections.talk("a", "a:2", 0, said)
    assert second is not first and not first.is_open
    node.revoked = Revoked(str(tmp_path / "revoked")) if (tmp_path / "revoked").write_text("a\n") else None
    assert connections.talk("a", "a:2", 0, said) is not second and not second.is_open


def test_a_talk_within_a_talk_leaves_one_connection(node):
    connections = Connections(node.call, node.refusal, 8)
    outer = connections.talk("a", "a:1", 0, lambda talk: connections.talk("a", "a:1", 0, said) and talk)
    assert [talk.is_open for talk in node.called] == [talk is outer for talk in node.called]


def test_the_longest_unused_is_let_go_when_there_are_too_many(node):
    connections = Connections(node.call, node.refusal, 2)
    for name in ("a", "b", "a", "c"):
        connections.talk(name, f"{name}:1", 0, said)
    assert {talk.where: talk.is_open for talk in node.called} == {"a:1": True, "b:1": False, "c:1": True}


def test_one_is_let_go_by_name_and_nobody_else(node):
    connections = Connections(node.call, node.refusal, 8)
    for name in "ab":
        connections.talk(name, f"{name}:1", 0, said)
    connections.let_go("a")
    connections.let_go("nobody")
    assert [talk.is_open for talk in node.called] == [False, True]


def test_at_last_all_are_let_go(node):
    connections = Connections(node.call, node.refusal, 8)
    for name in "ab":
        connections.talk(name, f"{name}:1", 0, said)
    connections.close()
    assert [talk.is_open for talk in node.called] == [False, False]


# --- whether one is open, and the last word on it -----------------------------------------------------------------


def test_one_that_is_kept_is_alive_until_the_other_end_hangs_up(node):
    connections = Connections(node.call, node.refusal, 8)
    assert connections.alive("a", "a:1") is None
    talk = connections.talk("a", "a:1", 0, said)
    assert connections.alive("a", "a:1") is talk and connections.alive("a", "a:1") is talk
    talk.other_end.close()
    assert connections.alive("a", "a:1") is None and not talk.is_open


def test_one_to_a_node_that_moved_or_was_revoked_is_not_alive(node, tmp_path):
    connections = Connections(node.call, node.refusal, 8)
    connections.talk("a", "a:1", 0, said)
    assert connections.alive("a", "a:2") is None
    connections.talk("a", "a:2", 0, said)
    (tmp_path / "revoked").write_text("a\n")
    node.revoked = Revoked(str(tmp_path / "revoked"))
    assert connections.alive("a", "a:2") is None


def test_whoever_is_let_go_hears_the_last_word_if_there_is_one(node):
    words = {"a": ["SPENT", {}], "c": ["SPENT", {}]}
    connections = Connections(node.call, node.refusal, 8, words.get)
    for name in "abc":
        connections.talk(name, f"{name}:1", 0, said)
    node.called[2].is_broken = True
    connections.close()
    assert [talk.begun for talk in node.called] == [[["SPENT", {}]], [], []]
    assert not any(talk.is_open for talk in node.called)
