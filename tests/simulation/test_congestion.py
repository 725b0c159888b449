"""What becomes of a mesh whose machines have too little processor time: it tells less and later, and takes nobody for dead."""

import pytest

from bdserver.core.membership import DEAD, SUSPECT
from tests.simulation.curves import publish
from tests.simulation.processors import BusyNet


class Crowd:
    """So many nodes that are started at once, all with the first for their hint."""

    def __init__(self, count, seed, **machine):
        self.net = BusyNet(seed, **machine)
        self.hosts = self.net.add(count)
        self.verdicts = {SUSPECT: 0, DEAD: 0}
        for host in self.hosts:
            self._watch(host)
            host.begin([self.hosts[0].address] if host is not self.hosts[0] else [])

    def _watch(self, host):
        write = host.write

        def noted(verdicts):
            write(verdicts)
            for verdict in verdicts:
                self.verdicts[DEAD if verdict.is_death else SUSPECT] += 1

        host.write = noted

    def all_know_all(self):
        return all(list(host.statuses().values()) == ["alive"] * len(self.hosts) for host in self.hosts)

    def until_all(self, say_so, seconds):
        return self.net.run_until(lambda: all(map(say_so, self.hosts)), seconds, 0.02)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3))])
def test_thirty_nodes_that_start_on_one_slow_core_find_each_other_and_accuse_nobody(seed):
    crowd = Crowd(30, seed, cores=1, slowness=5.0)
    assert crowd.net.run_until(crowd.all_know_all, 120) < 60
    assert crowd.verdicts == {SUSPECT: 0, DEAD: 0}
    assert crowd.net.messages < 30 * 20


@pytest.mark.long
def test_and_without_patience_they_never_do():
    """Fifteen times the messages, a thousand accusations, and no end: what is late makes more that is late."""
    crowd = Crowd(30, 1, cores=1, slowness=5.0, is_heedless=True)
    with pytest.raises(AssertionError, match="not within 120"):
        crowd.net.run_until(crowd.all_know_all, 120)
    assert crowd.verdicts[DEAD] > 50 and crowd.net.messages > 30 * 150


@pytest.mark.long
def test_a_hundred_nodes_on_two_cores_hear_of_a_change_and_of_a_death_in_time():
    crowd = Crowd(100, 1, cores=2)
    assert crowd.net.run_until(crowd.all_know_all, 120) < 40
    crowd.net.run(20)
    assert crowd.verdicts == {SUSPECT: 0, DEAD: 0}
    owner, victim = crowd.hosts[3], crowd.hosts[5]
    publish(crowd.net, owner)
    version = owner.view.own.version
    assert crowd.until_all(lambda host: host.view.records[owner.name].version >= version, 20) < 1.0
    victim.stop()
    assert crowd.until_all(lambda host: host is victim or host.view.records[victim.name].status == DEAD, 60) < 4.0
    assert crowd.net.messages < 100 * 100
