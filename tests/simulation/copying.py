"""Copies and standing services of many nodes in memory: the very core that runs in the daemon, over a mesh of virtual time.

Assumed of what is not simulated: news reaches each node that can be reached within a second, or is lost and comes with the
next synchronisation; a death is known some seconds later; to fetch a copy takes up to some seconds, and may fail. A node's disk is
a table of what it offers, and what an errand does is what processes.answers does, with the same decisions of the core. `Net`
notes each removal that nobody may make, and for how long there were too many or too few holders.
"""

import heapq
import itertools
import math
from random import Random

from bdserver.core import copies, turns, weight
from bdserver.core.copies import Go, Raise, Renew
from bdserver.core.membership import DYNAMIC, NO_EDITION, STATIC, Copies, Record, Service, Withdrawal, standing
from bdserver.core.turns import Place
from bdserver.core.upkeep import Rules, Upkeep
from bdserver.core.view import TOMBSTONE_SECONDS, View

EPOCH = 1_700_000_000.0
# Until a death is known; within it a holder may go that counted on the dead one.
DETECTION_SECONDS = 6.0
# For so long the calls of a service weigh.
CALLED_SECONDS = 60.0


class Host:
    """One node: its disk, its view, its memory, whether it runs."""

    def __init__(self, net, name, slots=5):
        self.net, self.name, self.slots = net, name, slots
        self.address = f"{name}:9001"
        self.group, self.is_up, self.down_at = 0, False, -DETECTION_SECONDS
        self.disk, self.arrived, self.called = {}, {}, {}
        self.view, self.load, self.idle = View(name), 0, 600.0
        self.wall_offset, self.draining = 0.0, False

    def wall(self):
        return EPOCH + self.net.now + self.wall_offset

    # -- its life

    def start(self, forget=False, backup=None):
        """Start it; with `forget`, as it is after an installation from nothing, or from a backup of its disk."""
        self.is_up, self.life, self._is_woken = True, object(), False
        if forget:
            self.disk = {name: each for name, each in (backup or {}).items() if each.type == STATIC}
            self.arrived, self.called = {}, {}
        self.view = View(self.name) if forget else self.view.copy()
        self.upkeep = Upkeep(Random(self.net.rng.random()))
        self.view.start(self.view.records.get(self.name) or Record(self.name, self.address, (0, 0)), self.wall())
        self.describe()
        self.tell()
        rng, pace = self.net.rng, self.net.pace
        self.every(lambda: pace, self.tick)
        self.every(lambda: pace * rng.uniform(2, 4), self.probe)
        self.every(lambda: pace * rng.uniform(3, 12), self.synchronise)
        for _ in range(2):
            self.after(rng.uniform(0.1, 1), self.synchronise)

    def stop(self):
        self.is_up, self.down_at = False, self.net.now

    def after(self, seconds, do):
        """Do it then, if this life lasts as long."""
        life = self.life
        self.net.at(self.net.now + seconds, lambda: do() if self.is_up and self.life is life else None)

    def every(self, seconds, do):
        def again():
            do()
            self.after(seconds(), again)

        self.after(self.net.rng.uniform(0, seconds()), again)

    def reaches(self, other):
        return other.is_up and other.group == self.group

    # -- what it says and hears

    def describe(self):
        """True when what it says of itself has changed."""
        own, services = self.view.own, {}
        withdrawn = {
            name: each
            for name, each in own.withdrawn.items()
            if self.wall() - TOMBSTONE_SECONDS <= each.at and not self._is_anew(name, each.counter)
        }
        for name, each in self.disk.items():
            if each.type == DYNAMIC:
                services[name] = each._replace(idle_since=self.upkeep.idle.get(name, 0))
            elif name not in withdrawn or not each.replicable:
                services[name] = each
        free = max(self.slots - sum(each.type == DYNAMIC for each in self.disk.values()), 0)
        return self.view.describe(
            own._replace(services=services, withdrawn=withdrawn, free_dynamic=free, load=self.load, draining=self.draining),
            self.wall(),
        )

    def _is_anew(self, name, counter):
        return name in self.disk and self.disk[name].type == STATIC and self.disk[name].edition.counter > counter

    def changed(self):
        """Our disk or what we wish has changed."""
        if self.describe():
            self.tell()
            self.wake()

    def tell(self):
        record = self.view.own
        for other in self.net.hosts.values():
            if other is not self and self.reaches(other) and self.net.rng.random() >= self.net.loss:
                other.after(self.net.rng.uniform(0.01, 1.0) * self.net.slowness, lambda other=other: other.hear(self, record))

    def hear(self, teller, *records):
        if self.group != teller.group:
            return
        before = self.view.own
        if sum(self.view.merge(record, self.wall()) for record in records):
            if self.view.own is not before:
                self.tell()
            self.wake()

    def synchronise(self):
        """With one of those that can be reached, both ways."""
        others = [host for host in self.net.hosts.values() if host is not self and self.reaches(host)]
        if not others:
            return
        other = self.net.rng.choice(others)
        for one, two in ((self, other), (other, self)):
            if one.view.digest() != two.view.digest():
                known = one.view.records
                news = [r for r in two.view.records.values() if r.name not in known or standing(known[r.name]) < standing(r)]
                one.hear(two, *news)

    def probe(self):
        """Find the dead, or what seems so."""
        for record in list(self.view.others_there()):
            if not self.reaches(self.net.hosts[record.name]):
                self.view.bury(record.name, self.wall())
                self.wake()

    # -- what is due

    def tick(self):
        called = [name for name, at in self.called.items() if self.net.now - at < CALLED_SECONDS]
        arrived = {name: at for name, at in self.arrived.items() if name in self.disk and self.disk[name].type == DYNAMIC}
        self.upkeep.note(arrived, called, self.net.now, self.wall())
        self.act()

    def wake(self):
        """Look soon, once for all that comes until then."""
        if not self._is_woken:
            self._is_woken = True
            self.after(0.05, self.act)

    def act(self):
        self._is_woken = False
        told = self.upkeep.idle.keys()
        rules = Rules(self.idle, lambda name, record: turns.may_have(self.view, name, record, meets), are_apart=is_apart)
        for errand in self.upkeep.due(self.view, self.net.now, self.wall(), rules):
            self.net.begin(self, errand)
        if self.upkeep.idle.keys() != told:
            self.changed()

    # -- what an administrator does

    def publish(self, name, digest, after="", **more):
        here = self.disk.get(name)
        edition = copies.numbered(self.view, name, digest, here, after, self.wall())
        self.disk[name] = Service(STATIC, 1.0, "", True, edition, after=after, **more)
        self.arrived.pop(name, None)
        self.changed()
        return edition

    def publish_url(self, name):
        """The name stands for a URL from now on."""
        edition = copies.numbered(self.view, name, "", self.disk.get(name), "", self.wall())
        self.disk[name] = Service(STATIC, 1.0, "http://elsewhere/", False, edition)
        self.changed()

    def withdraw(self, name):
        mine = self.disk[name]
        edition = copies.above_copies(self.view, name, mine.edition, mine.after)
        if not mine.replicable and edition == NO_EDITION:
            self.drop(name)
            return
        said = {**self.view.own.withdrawn, name: Withdrawal(edition.counter, int(self.wall()))}
        self.view.describe(self.view.own._replace(withdrawn=said), self.wall())
        for known in (self.net.withdrawn, self.net.ever_withdrawn):
            known[self.name, name] = max(edition.counter, known.get((self.name, name), 0))
        del self.disk[name]
        self.changed()

    def drop(self, name):
        """rm."""
        del self.disk[name]
        self.arrived.pop(name, None)
        self.changed()

    def adopt(self, name):
        """True when the copy here is an orphan, and an original now."""
        mine = self.disk[name]
        if not copies.standing(self.view, name, mine).is_orphan:
            return False
        edition = copies.next_edition(mine.edition.digest, self.wall(), mine.edition)
        edition = copies.above_copies(self.view, name, edition, mine.original)
        self.disk[name] = mine._replace(type=STATIC, original="", after=mine.original, edition=edition)
        self.arrived.pop(name)
        self.changed()
        return True


class Net:
    """Virtual time and the errands; `made`: when which copy was made for the second time, as (seconds, host, service)."""

    def __init__(self, seed, count, slots=5, loss=0.02, failures=0.05, pace=1.0):
        self.rng, self.seed, self.pace = Random(seed), seed, pace
        self.now, self.loss, self.failures, self.slowness = 0.0, loss, failures, 1.0
        self.hosts = {f"n{number}": Host(self, f"n{number}", slots) for number in range(count)}
        self.made, self.faults, self.gone = [], [], []
        self.withdrawn, self.ever_withdrawn = {}, {}  # (owner, service) -> up to which count; and what owners have forgotten
        self._events, self._sequence = [], itertools.count()
        self.watched = {}  # service -> how many are wanted
        self.too_many = {}  # (service, group) -> since when
        self.too_few = {}
        self.longest = {"many": 0.0, "few": 0.0}

    def at(self, when, do):
        heapq.heappush(self._events, (when, next(self._sequence), do))

    def run(self, seconds):
        """Let so much virtual time pass."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = until

    def start(self):
        for host in self.hosts.values():
            host.start()
        for host in self.hosts.values():  # they know each other
            for other in self.hosts.values():
                host.hear(other, other.view.own)
        self.at(self.now + 1, self._watch)
        return list(self.hosts.values())

    def heal(self):
        for host in self.hosts.values():
            host.group = 0

    def holders(self, name, group=None):
        return [h for h in self.hosts.values() if h.is_up and name in h.disk and group in (None, h.group)]

    # -- errands

    def begin(self, host, errand):
        seconds = self.rng.uniform(0.02, 0.1) if isinstance(errand, Go | Raise) else self.rng.uniform(0.05, 3.0)
        do = {Renew: self._renew, Go: self._go, Raise: self._raise, Place: self._place}[type(errand)]

        def over():
            why = do(host, errand)
            host.upkeep.over(errand, {errand.name: why} if why else {}, self.now)
            host.changed()
            host.wake()

        host.after(seconds, over)

    def _renew(self, host, renewal):
        here = host.disk.get(renewal.name)
        if here is None or here.type == STATIC or copies.to_renew(host.view, renewal.name, here) != renewal:
            return ""
        line = self._line(host, renewal.name, here.original)
        if renewal.original != here.original and self.hosts[renewal.original] not in line:
            self.faults.append(f"{self.now:.1f} {host.name} turns from {here.original} to {renewal.original}, no heir of it")
        if here.edition.digest == renewal.edition.digest:
            host.disk[renewal.name] = here._replace(original=renewal.original, edition=renewal.edition)
            return ""
        givers = [r.name for r in copies.holders_of(host.view, renewal.name, renewal.edition) if r.name != host.name]
        for giver in map(self.hosts.get, givers):
            given = giver.disk.get(renewal.name) if host.reaches(giver) else None
            if given is not None and given.edition.digest == renewal.edition.digest and self.rng.random() >= self.failures:
                label = {"type": DYNAMIC, "original": renewal.original, "edition": renewal.edition, "after": ""}
                host.disk[renewal.name] = given._replace(**label)
                return ""
        return "nobody gives it"

    def _raise(self, host, errand):
        here = host.disk.get(errand.name)
        if here is not None and here.type == STATIC:
            edition = copies.numbered(host.view, errand.name, here.edition.digest, here, here.after, host.wall())
            host.disk[errand.name] = here._replace(edition=edition)
        return ""

    def _go(self, host, gone):
        here = host.disk.get(gone.name)
        if here is None or here.type == STATIC:
            return ""
        if gone.what == "withdrawn" and copies.to_withdraw(host.view, gone.name, here):
            if not self._was_withdrawn(gone.name, here):
                self.faults.append(f"{self.now:.1f} {host.name} takes {here.edition} as withdrawn, and nobody has withdrawn it")
            self._remove(host, gone.name, "withdrawn")
        elif gone.what == "retired" and turns.shut_out(host.view, gone.name, is_apart):
            record = host.view.records[here.original]
            if record.services[gone.name].copies == Copies.ANY:
                self.faults.append(f"{self.now:.1f} {host.name} sends {gone.name} away, which may be anywhere")
            self._remove(host, gone.name, gone.why)
        elif gone.what == "retired" and turns.can_spare(host.view, gone.name):
            self._remove(host, gone.name, gone.why)
        return ""

    def _remove(self, host, name, why):
        here = host.disk.pop(name)
        host.arrived.pop(name, None)
        self.gone.append((self.now, host.name, name, why))
        if not self._was_withdrawn(name, here) and not self._others(host, name, here.original):
            self.faults.append(f"{self.now:.1f} {host.name} removes the last {name} of {here.original}: {why}")

    def _was_withdrawn(self, name, offered):
        return self.ever_withdrawn.get((offered.original, name), -1) >= offered.edition.counter

    def _others(self, host, name, original):
        """Who else has it, that lives or was thought to."""
        for other in self.hosts.values():
            offered = other.disk.get(name) if other is not host else None
            is_kin = offered is not None and original == (offered.original or other.name)
            if is_kin and (other.is_up or self.now - other.down_at < DETECTION_SECONDS):
                return True
        return False

    def _place(self, host, place):
        node = self.hosts[place.node]
        return self.replicate(node, place.name) if host.reaches(node) else "it is silent"

    def replicate(self, host, name, is_call=False):
        """WILLYOUREPLICATE; why not, or nothing."""
        if name in host.disk:
            return ""
        if is_call and not turns.may_have(host.view, name, host.view.own, meets):
            return "it may not be here"
        dynamic = [each for each, offered in host.disk.items() if offered.type == DYNAMIC]
        giving_way = None
        if len(dynamic) >= host.slots:
            light = [(each, 0.0, host.arrived[each]) for each in dynamic if turns.can_spare(host.view, each)]
            giving_way = weight.to_retire(light, host.wall())
            if giving_way is None:
                return "it has no room"
        holders = copies.current(host.view, name, [r for r in host.view.holders(name) if r.name != host.name])
        self.rng.shuffle(holders)
        for giver in (self.hosts[record.name] for record in holders):
            given = giver.disk.get(name) if host.reaches(giver) else None
            if given is None or not given.edition.digest or self.rng.random() < self.failures or given.copies == Copies.NONE:
                continue
            original = given.original or giver.name
            if copies.is_credible(host.view, name, giver.name, original, given.edition):
                if giving_way is not None:
                    self._remove(host, giving_way, "its slot is needed")
                host.disk[name] = given._replace(type=DYNAMIC, original=original, after="")
                host.arrived[name] = host.wall()
                if is_call:
                    host.called[name] = self.now
                self.made.append((self.now, host.name, name))
                host.changed()
                return ""
        return "nobody gives it"

    # -- what must hold

    def watch(self, name, wanted):
        """From now on, note for how long there are more than one too many holders, or too few, where enough hosts have room."""
        self.watched[name] = wanted

    def _watch(self):
        for name, wanted in self.watched.items():
            for group in {host.group for host in self.hosts.values() if host.is_up}:
                count = len(self.holders(name, group))
                up = sum(host.is_up and host.group == group for host in self.hosts.values())
                self._time("many", self.too_many, (name, group), count > wanted + 1)
                self._time("few", self.too_few, (name, group), 0 < count < min(wanted, up))
        self.at(self.now + 1, self._watch)

    def _time(self, what, since, key, is_so):
        if not is_so:
            since.pop(key, None)
        self.longest[what] = max(self.longest[what], self.now - since.setdefault(key, self.now) if is_so else 0.0)

    def disagreements(self):
        """What is not as it should be once the mesh is quiet."""
        wrong = list(self.faults)
        kin = {}
        for host in self.hosts.values():
            for name, offered in host.disk.items() if host.is_up else ():
                if offered.type == STATIC:
                    continue
                if self._is_known_withdrawn(offered.original, name, offered.edition):
                    wrong.append(f"{host.name} has {name} {offered.edition} of {offered.original}, which is withdrawn")
                found = copies.standing(host.view, name, offered)
                owner = self.hosts.get(offered.original)
                theirs = owner.disk.get(name) if owner is not None and owner.is_up else None
                if theirs is not None and theirs.type == STATIC:
                    is_here_in_vain = not owner.draining and may_not_be(theirs.copies, owner.name, host.name)
                    if is_here_in_vain:
                        wrong.append(f"{host.name} has {name} of {owner.name}, which wants copies={theirs.copies}")
                    if theirs.replicable and (theirs.edition != offered.edition or found.is_orphan or found.is_stale):
                        wrong.append(
                            f"{host.name} has {name} {offered.edition}, its original at {owner.name} is {theirs.edition}"
                        )
                elif any(self._is_heir(each, name, offered) for each in self._line(host, name, offered.original)):
                    wrong.append(f"{host.name} has {name} {offered.edition} of {offered.original}, and follows no heir")
                elif not found.is_orphan:
                    wrong.append(f"{host.name} has {name} of {offered.original}, which is gone, and is {found}")
                if theirs is None or theirs.replicable:
                    kin.setdefault((name, offered.original), set()).add(offered.edition)
        wrong += [f"{name} of {original} has editions {each}" for (name, original), each in kin.items() if len(each) > 1]
        return wrong

    def _line(self, host, name, original):
        """Who has adopted it since, as far as this host knows."""
        known = {r.name: r.services[name] for r in host.view.records.values() if copies.has_original(r, name)}
        found, last = set(), {original}
        while last:
            found |= last
            last = {each for each, service in known.items() if service.after in last} - found
        return [self.hosts[each] for each in found - {original}]

    @staticmethod
    def _is_heir(host, name, copy):
        there = host.disk.get(name) if host.is_up else None
        return there is not None and there.type == STATIC and there.edition.counter > copy.edition.counter

    def _is_known_withdrawn(self, owner, name, edition):
        """Withdrawn, and somebody who lives has heard of it."""
        is_told = self.withdrawn.get((owner, name), -1) >= edition.counter
        records = [host.view.records.get(owner) for host in self.hosts.values() if host.is_up]
        return is_told and any(record is not None and name in record.withdrawn for record in records)


def meets(one, other):
    """The policies of nodes here: those of one half of the names meet."""
    return (int(one[1:]) + int(other[1:])) % 2 == 0


def is_apart(one, other):
    return not meets(one, other)


def may_not_be(wish, original, host):
    """Whether a copy may not be at this host, as its original's word is."""
    return wish == Copies.NONE or (wish == Copies.MEETING and not meets(original, host))


class Swing:
    """The calls of a service, from none to as many as so many holders can take, with this period; `busy`: the share of it in which
    there are calls. When all holders have enough, a node without it takes a copy."""

    def __init__(self, net, name, period, busy, peak):
        self.net, self.name, self.period, self.busy, self.peak = net, name, period, busy, peak
        self.step = max(min(period * min(busy, 1 - busy) / 2, 30.0), 1.0)
        self.share = 0.0  # of what each holder can take
        net.at(net.now + net.rng.uniform(0, period), self._swing)

    def _swing(self):
        net = self.net
        phase = (net.now / self.period) % 1.0
        calls = self.peak * (1.0 if phase < self.busy / 2 else 0.6) if phase < self.busy else 0.0
        holders = net.holders(self.name)
        for host in holders if calls else ():
            host.called[self.name] = net.now
        lacking = [host for host in net.hosts.values() if self.name not in host.disk]
        for host in net.rng.sample(lacking, min(max(math.ceil(calls) - len(holders), 0), len(lacking))):
            net.replicate(host, self.name, is_call=True)
        share = min(calls / len(holders), 2.0)
        if (share > 0.5) != (self.share > 0.5):  # the others hear of it
            for host in holders:
                host.load = round(10 * share)
                host.changed()
        self.share = share
        net.at(net.now + self.step, self._swing)


def digests():
    """Names for what is published, one after the other."""
    return (f"d{number}" for number in itertools.count(1))
