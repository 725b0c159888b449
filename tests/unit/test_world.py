"""What one look serves: as long as nothing changes it is the same world, and a look-up looks at each file once."""

import collections
import fcntl
import os

import pytest

from bdserver.core.roles import CLIENT
from bdserver.files import publishers
from bdserver.files.policyfile import PolicyFile
from bdserver.files.settings import Settings
from bdserver.processes.describing import Told, update_own
from tests.unit.nodes import a_node, acquaint


def world(node):
    return node.world(node.cache.view(), node.services.all())


def whereis(node):
    return node.ask("WHEREIS", "Echo", None, role=CLIENT)


@pytest.fixture
def node(tmp_path):
    node = a_node(tmp_path).offer("Echo").settle()
    whereis(node)
    node.load.weigh(node.clock())
    whereis(node)
    return node


def now_with(node, **changes):
    node.settings = Settings(node.settings.path, {**node.settings.given, **changes})


def test_it_is_the_same_while_nothing_changes(node):
    before = world(node)
    whereis(node)
    assert world(node) is before and list(before.candidates) == ["Echo"]


@pytest.mark.parametrize("change", ["view", "services", "settings", "rules"])
def test_it_is_another_when_something_changes(node, change):
    before = world(node)
    if change == "view":
        update_own(node, Told(draining=True))
    elif change == "services":
        node.offer("Other")
    elif change == "settings":
        now_with(node, axis_port=1)
    else:
        node.rules = node.rules._replace(document=PolicyFile(None, None, None))
    assert world(node) is not before


def test_what_was_worked_out_before_is_of_no_use_after_a_change(node):
    whereis(node)
    now_with(node, axis_port=4711)
    assert whereis(node).axis_port == 4711
    node.services.withdraw("Echo")
    assert not hasattr(whereis(node), "axis_port")


def test_a_holder_that_becomes_known_is_asked(node, tmp_path):
    other = a_node(tmp_path, "other").offer("Echo")
    now_with(node, receiver_threshold=0.001)
    acquaint(node, other)
    assert whereis(node).details["node"] == "other"


def test_a_publishers_list_that_shuts_a_copy_out_is_heard(node, tmp_path):
    other = a_node(tmp_path, "other")
    acquaint(node, other)
    assert other.ask("WILLYOUREPLICATE", "Echo").url
    assert whereis(other)
    other.rules = other.rules._replace(publishers=publishers.closed("/list", "/list:1: no"))
    assert world(other).offer("Echo") is None


def test_a_look_up_looks_at_each_file_once_and_writes_one_line(node, monkeypatch):
    done = collections.Counter()

    def count(module, name):
        call = getattr(module, name)

        def counted(first, *rest, **named):
            done[name, os.path.basename(first) if isinstance(first, str) else ""] += 1
            return call(first, *rest, **named)

        monkeypatch.setattr(module, name, counted)

    for name in ("stat", "lstat", "fstat", "open", "write", "pread", "listdir", "scandir"):
        count(os, name)
    count(fcntl, "flock")
    for _ in range(3):
        done.clear()
        whereis(node)
        assert done == {
            ("stat", os.path.basename(node.cache.path)): 1,
            ("stat", os.path.basename(node.services.services_dir)): 1,
            ("stat", ".edited"): 1,
            ("stat", ".called"): 1,
            ("lstat", "Echo.bdlog"): 1,
            ("flock", ""): 2,
            ("write", ""): 1,
            ("fstat", ""): 1,
        }
