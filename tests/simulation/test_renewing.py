"""400 days of certificates in the core alone: signers that go away, words that are lost, and a CA that is rolled."""

from random import Random

import pytest

from bdserver.core.renewal import Life, Renewal, order
from bdserver.core.rolling import Sight, stage

HOUR, DAY = 3600.0, 86400.0
LIFE, DAYS, ROLLED_AT = 90 * DAY, 400, 150 * DAY
NODES, SIGNERS = 16, 3
LOST, AWAY_HOURS_MAX = 1 / 20, 48
OLD, NEW = "old", "new"


class Machine:
    """One node: its certificate, what it believes, what it last heard of the others."""

    def __init__(self, name, is_signer, now, rng):
        self.name, self.trusts, self.signs = name, {OLD}, OLD if is_signer else None
        self.away_until, self.known, self.has_heard = 0.0, {}, False
        self.certify(OLD, now, rng)
        self.told = self.sight  # what the others hear of it: as it was after its last turn

    def certify(self, root, now, rng):
        self.root, self.renewal = root, Renewal(Life(now, now + LIFE, rng.random()))

    @property
    def sight(self):
        return Sight(self.name, NEW in self.trusts, self.root == NEW, self.signs and self.signs == NEW)


class World:
    def __init__(self, seed):
        self.rng, self.now = Random(seed), 0.0
        self.machines = [Machine(f"n{number}", number < SIGNERS, 0.0, self.rng) for number in range(NODES)]
        self.by_name = {each.name: each for each in self.machines}
        self.there, self.forgotten = self.machines, []
        self.renewed = self.failed = 0

    def comes_through(self):
        return self.rng.random() >= LOST

    def hour(self):
        self.now += HOUR
        for each in [each for each in self.machines if each.away_until <= self.now]:
            if self.rng.random() < 1 / 300:
                each.away_until = self.now + self.rng.uniform(1, AWAY_HOURS_MAX) * HOUR
        self.there = [each for each in self.machines if each.away_until <= self.now]
        self.forgotten = [each for each in self.machines if each.away_until > self.now + DAY]  # as a tombstone is
        for each in self.there:
            self.gossip(each)
            self.roll(each)
            self.renew(each)
            each.told = each.sight

    def gossip(self, machine):
        for other in self.there:
            if self.understand(machine, other) and self.comes_through():
                machine.known[other.name] = other.told
                machine.has_heard = machine.has_heard or other.has_heard
        machine.known[machine.name] = machine.sight
        for each in self.forgotten:
            machine.known.pop(each.name, None)

    def understand(self, one, other):
        return other.root in one.trusts and one.root in other.trusts

    def roll(self, machine):
        if not machine.has_heard:
            return
        if not machine.root == machine.signs == NEW:
            machine.trusts.add(NEW)
        machine.known[machine.name] = machine.sight
        step = stage(machine.known.values(), self.now - ROLLED_AT, LIFE)
        if step.may_sign and machine.signs:
            machine.signs = NEW
        if step.may_drop:
            machine.trusts.discard(OLD)

    def renew(self, machine):
        signing = {name for name, each in machine.known.items() if each.signs is not None}
        by_new = {name for name in signing if machine.known[name].signs}
        if by_new and machine.root == OLD:
            machine.renewal = machine.renewal.urged(self.now, self.rng)
        if not machine.renewal.is_due(self.now):
            return
        names = order(machine.name, sorted(signing), signing - by_new if by_new else (), self.rng)
        signer = self.by_name[names[0]] if names else None
        if signer in self.there and self.comes_through() and self.comes_through() and self.understand(machine, signer):
            machine.certify(signer.signs, self.now, self.rng)
            self.renewed += 1
        else:
            machine.renewal = machine.renewal.failed("nobody there", self.now, self.rng)
            self.failed += 1

    def check(self, seed):
        for each in self.machines:
            assert each.renewal.life.ends > self.now, f"seed {seed}, day {self.now / DAY:.1f}: {each.name}'s is over"
        for one in self.there:
            for other in self.there:
                assert other.root in one.trusts, (
                    f"seed {seed}, day {self.now / DAY:.1f}: {one.name} does not believe {other.name}"
                )


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 5))])
def test_in_400_days_no_certificate_ends_in_force_and_no_two_nodes_cease_to_believe_each_other(seed):
    world = World(seed)
    while world.now < DAYS * DAY:
        world.hour()
        if world.now == ROLLED_AT:
            world.machines[0].has_heard = True
        world.check(seed)
    assert all(each.root == NEW and each.trusts == {NEW} for each in world.machines), f"seed {seed}"
    assert all(each.signs in (None, NEW) for each in world.machines)
    assert NODES * 5 <= world.renewed <= NODES * 8 and world.failed, f"seed {seed}: {world.renewed}, {world.failed}"
