"""The mesh after chaos: it always converges after the last fault. A failure prints its seed.

Invariants: all live nodes know all live nodes as alive; those that are down as dead, left or forgotten; all hold the same
view. Chaos: loss, delay, duplicates, partitions, one-way links, kill -9, restarts with and without their disk, stepped clocks.
"""

import math
import os
from random import Random

import pytest

from tests.simulation.mesh import Net

SEEDS = range(200 if os.environ.get("BD_LONG") else 6)
# Large meshes, and hours of their time: what a check before a commit does not wait for.
LONG_SEEDS = [seed if seed < 2 else pytest.param(seed, marks=pytest.mark.long) for seed in SEEDS]


def long(count):
    return pytest.param(count, marks=pytest.mark.long)


def started(net, count):
    hosts = net.add(count)
    for host in hosts:
        host.start([hosts[0].address])
    return hosts


@pytest.mark.parametrize("count", [3, 10, 50, long(200)])
def test_a_mesh_that_is_born_at_once_knows_itself(count):
    net = Net(seed=count)
    started(net, count)
    assert net.run_until(net.is_converged, 60) < 15


@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_nodes_started_in_any_order_along_a_chain_of_hints(seed):
    net = Net(seed)
    hosts = net.add(12)
    order = list(range(12))
    Random(seed).shuffle(order)
    for number in order:
        hosts[number].start([hosts[(number + 1) % 12].address])
        net.run(net.rng.random())
    net.run_until(net.is_converged, 120)


@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_the_mesh_converges_after_the_last_fault(seed):
    rng = Random(1000 + seed)
    net = Net(seed, loss=rng.choice([0.0, 0.05, 0.2]), delay=rng.choice([0.001, 0.05, 0.2]))
    net.duplicates = 0.2
    hosts = started(net, rng.choice([4, 8, 16]))
    for _ in range(12):
        net.run(rng.random() * 10)
        victim = rng.choice(hosts)
        fault = rng.randrange(6)
        if fault == 0 and victim.is_up:
            victim.stop()
        elif fault == 1 and not victim.is_up:
            victim.start([hosts[0].address, hosts[-1].address], forget=rng.random() < 0.3)
        elif fault == 2:
            rng.shuffle(hosts)
            net.partition(hosts[: len(hosts) // 2], hosts[len(hosts) // 2 :])
        elif fault == 3:
            net.cut.add((victim.name, rng.choice(hosts).name))
        elif fault == 4:
            net.cut.clear()
        else:
            victim.wall_offset += rng.choice([-7200.0, 3600.0])
    net.cut.clear()
    net.loss = 0.0
    for host in hosts:
        if not host.is_up and rng.random() < 0.5:
            host.start([hosts[0].address, hosts[-1].address])
    if sum(host.is_up for host in hosts) < 2:
        hosts[0].is_up or hosts[0].start([hosts[1].address])
    net.run_until(net.is_converged, 400)


@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_two_halves_find_each_other_again_without_a_restart(seed):
    net = Net(seed)
    hosts = started(net, 16)
    net.run_until(net.is_converged, 60)
    net.partition(hosts[:8], hosts[8:])
    net.run_until(lambda: all(hosts[0].statuses()[h.name] == "dead" for h in hosts[8:]), 300)
    net.run(600)
    net.cut.clear()
    assert net.run_until(net.is_converged, 120) < 90


@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_a_killed_process_is_known_dead_everywhere_within_seconds(seed):
    net = Net(seed)
    hosts = started(net, 30)
    net.run_until(net.is_converged, 60)
    net.run(5)
    hosts[7].stop()
    rest = [host for host in hosts if host is not hosts[7]]
    assert net.run_until(lambda: all(host.statuses()["n7"] == "dead" for host in rest), 60, step=0.05) < 5


@pytest.mark.parametrize("loss", [long(0.01), 0.05])
def test_loss_alone_kills_nobody(loss):
    net = Net(seed=5, loss=loss)
    hosts = started(net, 20)
    net.run(30)
    deaths = 0
    for _ in range(300):
        net.run(1)
        deaths += sum(status == "dead" for host in hosts for status in host.statuses().values())
    assert deaths == 0


def test_a_link_that_is_cut_one_way_between_two_kills_nobody():
    net = Net(seed=9)
    hosts = started(net, 6)
    net.run_until(net.is_converged, 60)
    net.cut.add(("n0", "n1"))
    for _ in range(200):
        net.run(1)
        assert {status for host in hosts for status in host.statuses().values()} <= {"alive", "suspect"}


@pytest.mark.parametrize("count", [10, long(100)])
def test_a_quiet_mesh_is_quiet(count):
    net = Net(seed=3)
    started(net, count)
    net.run_until(net.is_converged, 60)
    net.run(30)
    before = net.messages
    net.run(60)
    per_node_and_second = (net.messages - before) / count / 60
    assert 0.9 < per_node_and_second < 1.3  # a probe a second, a round now and then, and nothing else


@pytest.mark.parametrize("count", [10, 50, long(200)])
def test_news_is_everywhere_in_a_few_hops(count):
    net = Net(seed=2)
    hosts = started(net, count)
    net.run_until(net.is_converged, 60)
    net.run(10)
    hosts[1].change(lambda view: view.describe(view.own._replace(draining=True), hosts[1].wall()))
    seconds = net.run_until(lambda: all(host.view.records["n1"].draining for host in hosts), 20, step=0.01)
    assert seconds < 0.35 * math.log2(count)


def test_policies_that_do_not_meet_are_no_deaths():
    net = Net(seed=4)
    hosts = net.add(9)
    for number, host in enumerate(hosts):
        host.policy = ("a", "b", "ab")[number % 3]
        host.start([hosts[2].address])
    net.run_until(net.is_converged, 60)
    for _ in range(100):
        net.run(1)
        assert net.is_converged()
