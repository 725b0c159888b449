"""Copies and standing services under chaos, and for a week. A failure prints its seed.

Whatever the order of gossip, crashes and returns: all living copies end at the newest edition of their original, or are marked;
nobody removes the last holder of a service that was not withdrawn; what was withdrawn does not come back.
"""

import os
from random import Random

import pytest

from bdserver.core.membership import STATIC
from tests.simulation.copying import Net, digests

SEEDS = range(400 if os.environ.get("BD_LONG") else 40)
NAME = "Echo"


def long(*values):
    return pytest.param(*values, marks=pytest.mark.long)


class Chaos:
    """What happens to a mesh, drawn by its dice; each method is one event."""

    def __init__(self, net):
        self.net, self.rng, self.hosts = net, net.rng, list(net.hosts.values())
        self.digests = digests()
        self.story = []
        self.backups = {}

    def happen(self):
        if self.rng.random() < 0.3:
            self.back_up()
        event = self.rng.choice((
            self.publish, self.publish, self.publish, self.publish, self.withdraw, self.drop, self.adopt, self.kill, self.kill,
            self.come_back, self.come_back, self.reinstall, self.restore, self.partition, self.heal, self.demand, self.demand,
            self.step_clock, self.take_over,
        ))  # fmt: skip
        self.story.append(f"{self.net.now:.1f} {event.__name__} {event()}")

    def _one(self, fits):
        found = [host for host in self.hosts if fits(host)]
        return self.rng.choice(found) if found else None

    def _of(self, name, is_original):
        return self._one(lambda host: host.is_up and name in host.disk and (host.disk[name].type == STATIC) == is_original)

    def publish(self):
        name = self.rng.choice([NAME, "Other"])
        host = self._of(name, True)
        if host is None and not any(name in each.disk for each in self.hosts):
            host = self._one(lambda host: host.is_up)
        return host and (host.name, host.publish(name, next(self.digests), replicas=self.rng.choice([0, 2, 3, 5])))

    def withdraw(self):
        host = self._of(NAME, True)
        return host and (host.name, host.withdraw(NAME))

    def drop(self):
        name = self.rng.choice([NAME, "Other"])
        host = self._one(lambda host: host.is_up and name in host.disk)
        return host and (host.name, name, host.drop(name))

    def adopt(self):
        host = self._of(NAME, False)
        return host and (host.name, host.adopt(NAME))

    def take_over(self):
        host = self._of("Other", False)
        after = host and host.disk["Other"].original
        return host and (host.name, host.publish("Other", next(self.digests), after))

    def kill(self):
        host = self._one(lambda host: host.is_up)
        return host and (host.name, host.stop())

    def come_back(self):
        host = self._one(lambda host: not host.is_up)
        return host and (host.name, host.start())

    def back_up(self):
        host = self.rng.choice(self.hosts)
        self.backups[host.name] = dict(host.disk)

    def reinstall(self):
        host = self._one(lambda host: not host.is_up)
        return host and self._forgotten(host, {})

    def restore(self):
        host = self._one(lambda host: not host.is_up and host.name in self.backups)
        return host and self._forgotten(host, self.backups[host.name])

    def _forgotten(self, host, backup):
        for each in [each for each in self.net.withdrawn if each[0] == host.name]:
            del self.net.withdrawn[each]  # nobody remembers
        return host.name, [*backup], host.start(forget=True, backup=backup)

    def partition(self):
        for host in self.hosts:
            host.group = self.rng.randrange(2)
            if not host.group:
                host.down_at = self.net.now
        return sorted(host.name for host in self.hosts if host.group)

    def heal(self):
        self.net.heal()

    def demand(self):
        host = self._one(lambda host: host.is_up)
        return host and (host.name, self.net.replicate(host, self.rng.choice([NAME, "Other"]), is_call=True))

    def step_clock(self):
        host = self.rng.choice(self.hosts)
        host.wall_offset += self.rng.choice([-7200.0, 3600.0])
        return host.name, host.wall_offset


def after_chaos(seed):
    """(the net, what happened) a while after the last fault."""
    rng = Random(seed)
    net = Net(seed, rng.choice([3, 4, 6, 10, 20]), slots=rng.choice([1, 2, 5]), loss=rng.choice([0.0, 0.1, 0.5]))
    net.slowness = rng.choice([0.1, 1.0, 5.0])
    for host in net.start():
        host.idle = rng.choice([0.0, 30.0, 120.0])
    chaos = Chaos(net)
    for _ in range(60):
        net.run(rng.random() * rng.choice([1, 10, 40]))
        chaos.happen()
    net.heal()
    net.loss = net.failures = 0.0
    for host in chaos.hosts:
        if not host.is_up and rng.random() < 0.7:
            host.start()
    net.run(240)
    return net, chaos.story


@pytest.mark.parametrize("seed", SEEDS)
def test_after_the_last_fault_all_copies_are_what_their_originals_are_or_marked(seed):
    net, story = after_chaos(seed)
    assert net.disagreements() == [], f"seed {seed}\n" + "\n".join(story)
