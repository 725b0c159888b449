"""How busy a node is: weights by the hits, and which services are looked at."""

import copy
import math
import os

from bdserver.processes.load import Load
from bdserver.processes.nodefiles import open_files
from tests.unit.nodes import a_node


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
