"""Whom a look-up asks, and who serves: orders of asking compared, under Poisson load on holders of unequal capacity.

The phases, the weight and the load steps are the daemon's own (core.routing, core.weight). Assumed: one service, a hit of
it costs 1; a holder looks at its weight once a second and tells its load step when that changed, which each asker hears
0.1 to 2 s later; asking takes no time; nobody has room for a copy, unless the experiment is about copies.
A holder's capacity is the rate that keeps its weight at its receiver_threshold.
"""

import heapq
import itertools
import math
from collections import deque
from random import Random

from bdserver.core import routing, tickets, weight
from bdserver.core.membership import Record, Service
from bdserver.core.messages import No, Yes
from bdserver.core.tickets import NOT_BEFORE_MAX, TICKET_SECONDS, Promises, Wallet
from bdserver.core.view import View
from bdserver.core.weight import FRESH, HORIZON

SERVICE = "Work"
# A rate of one call a second of cost 1 weighs, in the long run, so much: the fresh ones, and 10/age of the older.
WEIGHT_OF_RATE = FRESH + sum(FRESH / age for age in range(FRESH, HORIZON + 1))
EPOCH = 1_700_000_000
# What is older than this has been told.
TOLD_SECONDS = 3.0


class Holder:
    """A host with its hit log."""

    def __init__(self, name, capacity):
        self.name, self.threshold = name, capacity * WEIGHT_OF_RATE
        self.runs = []  # (kind, second, count), oldest first; calls that are promised among them
        self.step = 0
        self.promises = {}  # asker -> what is promised to it
        self.served = None  # without the promises: calls that came

    def weight(self, now, ahead=0.0):
        """As the daemon works it out of the log."""
        while self.runs and self.runs[0][1] < int(now) - HORIZON:
            self.runs.pop(0)
        return weight.weight(reversed(self.runs), 1.0, now + ahead)

    def is_overloaded(self, now):
        """Over its receiver_threshold."""
        return weight.is_overloaded(self.weight(now), self.threshold)

    def hit(self, now, count=1):
        """One call more, or so many."""
        place = next((i for i in range(len(self.runs) - 1, -1, -1) if self.runs[i][1] <= int(now)), -1)
        if place >= 0 and self.runs[place][:2] == (weight.HIT, int(now)):
            self.runs[place] = (weight.HIT, int(now), self.runs[place][2] + count)
        else:
            self.runs.insert(place + 1, (weight.HIT, int(now), count))

    def settle(self, asker, spent, now):
        """What it has not spent is taken back."""
        settled = self.promises.setdefault(asker, Promises()).settle(SERVICE, spent, now)
        if settled is not None and settled.left:
            self.hit(settled.at, -settled.left)

    def room_in(self, now):
        """As the daemon says with its NO."""
        ahead = (each for each in (1.0, 2.0, 3.0) if not weight.is_overloaded(self.weight(now, each), self.threshold))
        return next(ahead, NOT_BEFORE_MAX + now % 1) - now % 1

    def will_execute(self, asker, spent, now):
        """WILLYOUEXECUTE of an asker that takes tickets. What an asker has of the purse is left out: each has one connection."""
        self.settle(asker, spent, now)
        if self.is_overloaded(now):
            return No({"not_before": self.room_in(now)})
        self.hit(now)
        usable = self.promises[asker].usable(SERVICE, now)
        count = tickets.granted(usable, self.weight(now), self.threshold, 1.0, 0.0)
        if not count:
            return Yes(80, "", "")
        self.hit(now + TICKET_SECONDS, count)
        assert self.weight(now) <= self.threshold, "promises have overloaded a holder"
        self.promises[asker].give(SERVICE, count, now + TICKET_SECONDS)
        return Yes(80, "", "", {"tickets": count, "seconds": TICKET_SECONDS})


class Asker:
    """A node that is asked WHEREIS, with a view of its own, and when it sent whom a call."""

    def __init__(self, holders, name):
        self.name, self.view = name, View(name)
        self.view.start(Record(name, f"{name}:1", (0, 0)), EPOCH)
        for holder in holders:
            self.view.put(Record(holder.name, f"{holder.name}:1", (1, 0), services={SERVICE: Service("static", 1.0, "", True)},
                                 receiver_threshold=holder.threshold))  # fmt: skip
        self.now = 0.0
        self.sent = {holder.name: deque(maxlen=1000) for holder in holders}
        self.turn = itertools.cycle([holder.name for holder in holders])
        self.wallet = Wallet()

    def hear(self, name, step):
        """A load step."""
        self.view.put(self.view.records[name]._replace(load=step))


def least_loaded(asker):
    """The lowest step told, a random one of equals."""

    def order(records, rng):
        turn = list(records)
        rng.shuffle(turn)
        return sorted(turn, key=lambda record: record.load)

    return order


def round_robin(asker):
    """Each in turn, by each asker."""

    def order(records, rng):
        turn = sorted(records, key=lambda record: record.name)
        start = next((i for i, record in enumerate(turn) if record.name == first), 0)
        return turn[start:] + turn[:start]

    first = next(asker.turn)
    return order


def two_choices_and_sent(asker):
    """Of two random ones the less loaded, what this asker sent there in the last 3 s added: that was not told yet."""

    def order(records, rng):
        remaining, turn = list(records), []
        rng.shuffle(remaining)

        def load(record):
            untold = sum(at > asker.now - TOLD_SECONDS for at in asker.sent[record.name])
            return record.load + weight.FULL_LOAD * untold / record.receiver_threshold

        while remaining:
            a, b = len(remaining) - 1, rng.randrange(max(len(remaining) - 1, 1))
            turn.append(remaining.pop(a if load(remaining[a]) <= load(remaining[b]) else b))
        return turn

    return order


ORDERS = {
    "always the same (2006, routing=original)": lambda asker: routing.fixed,
    "blind (routing=random)": lambda asker: routing.blind,
    "round robin": round_robin,
    "least loaded": least_loaded,
    "of two the less loaded (ours)": lambda asker: routing.ordered,
    "the same, and what was sent in the last 3 s": two_choices_and_sent,
}


def shares(order, capacities, load, seed, asks=True, seconds=240.0, askers=4, takes=False):
    """Figures of one run, after a minute to warm up: how many were asked a look-up; the share of questions put to an
    overloaded holder while another had room; the share of calls served by one. Without `asks` nobody is asked, as with a
    registry that only tells: the first in the order serves. With `takes` the askers take tickets: the share of calls for which
    nobody was asked, and how far apart the loads of two holders were, in the mean, as a share of what they can take."""
    rng = Random(seed)
    holders = {f"h{i}": Holder(f"h{i}", capacity) for i, capacity in enumerate(capacities)}
    nodes = [Asker(holders.values(), f"a{i}") for i in range(askers)]
    events, number = [], itertools.count()

    def at(when, what):
        heapq.heappush(events, (when, next(number), what))

    counted = {"calls": 0, "questions": 0, "wasted": 0, "served over": 0, "by ticket": 0, "apart": 0.0}
    if takes:
        for holder in holders.values():
            holder.served = Holder(holder.name, holder.threshold / WEIGHT_OF_RATE)

    def look(holder, now):
        step = weight.load_step(holder.weight(now), holder.threshold, holder.step)
        if step != holder.step:
            holder.step = step
            for node in nodes:
                at(now + rng.uniform(0.1, 2.0), lambda node=node, holder=holder, step=step: node.hear(holder.name, step))
        at(now + 1.0, lambda: look(holder, now + 1.0))

    def call(now):
        node = rng.choice(nodes)
        has_room = {name for name, holder in holders.items() if not holder.is_overloaded(now)}
        asked = []

        def ask(name, request, patience):
            asked.append(name)
            if takes and request[0] == "WILLYOUEXECUTE":
                said = holders[name].will_execute(node.name, node.wallet.told(name, SERVICE), now)
                node.wallet.learn(name, SERVICE, said, now, "terms")
                return said
            if request[0] == "WILLYOUEXECUTE" and name not in has_room:
                return No()
            if request[0] == "WILLYOUREPLICATE":
                return No()
            return Yes(80, "", "")

        node.now = now
        rule = ORDERS[order](node)
        if asks:
            question = routing.Question(node.view, lambda r: True, lambda r: True, lambda a, b: True, ask, lambda: 5.0,
                                        lambda: now, rng, rule, lambda name, request, _, patience: ask(name, request, patience))  # fmt: skip
            if takes:
                question = question._replace(
                    spend=lambda name, service: node.wallet.spend(name, service, now, "terms"),
                    is_refused=lambda name, service: node.wallet.is_refused(name, service, now),
                )
            search = routing.Search(question, SERVICE)
            found = search.whereis()
            served = found.node
        else:
            served = rule(node.view.holders(SERVICE), rng)[0].name
        was_over = takes and holders[served].served.is_overloaded(now)
        if takes:
            if found.phase == 3:
                holders[served].hit(now)
            holders[served].served.hit(now)
        else:
            holders[served].hit(now)
        node.sent[served].append(now)
        if now > EPOCH + 60:
            counted["calls"] += 1
            counted["questions"] += len(asked)
            counted["wasted"] += sum(name not in has_room for name in asked) if has_room else 0
            if takes:
                counted["by ticket"] += search.asked[-1].answer == routing.TICKET
                counted["served over"] += was_over and bool(has_room - {served})
            else:
                counted["served over"] += bool(has_room) and served not in has_room
            if counted["calls"] % 100 == 0:
                loads = [(each.served or each).weight(now) / each.threshold for each in holders.values()]
                counted["apart"] += 100 * (max(loads) - min(loads))
        at_next = now + rng.expovariate(load * sum(capacities))
        at(at_next, lambda: call(at_next))

    for holder in holders.values():
        at(EPOCH + rng.random(), lambda holder=holder: look(holder, EPOCH + rng.random()))
    at(EPOCH, lambda: call(float(EPOCH)))
    while events[0][0] < EPOCH + 60 + seconds:
        heapq.heappop(events)[2]()
    return {
        "asked": counted["questions"] / counted["calls"],
        "wasted": counted["wasted"] / max(counted["questions"], 1),
        "served over": counted["served over"] / counted["calls"],
        "by ticket": counted["by ticket"] / counted["calls"],
        "apart": counted["apart"] / counted["calls"],
    }


def swing(period, seed, seconds=600.0, spares=2, capacity=5.0, peak=12.0):
    """Two services whose loads swing against each other, on a host each, and hosts with one slot for a copy each: copies made
    and retired a minute. Copying, retiring and the minute that a copy stays are the daemon's rules."""
    rng = Random(seed)
    homes = {"A": Holder("A", capacity), "B": Holder("B", capacity)}
    rooms = [Holder(f"room{i}", capacity) for i in range(spares)]
    held = {room.name: None for room in rooms}  # (service, arrived)
    made = retired = 0
    now = float(EPOCH)
    while now < EPOCH + seconds:
        swung = math.sin(2 * math.pi * (now - EPOCH) / period)
        rates = {"A": peak * max(swung, 0.0), "B": peak * max(-swung, 0.0)}
        now += rng.expovariate(peak)
        service = rng.choices(list(rates), [rate + 1e-9 for rate in rates.values()])[0]
        if rng.random() > sum(rates.values()) / peak:
            continue
        takers = [homes[service], *(room for room in rooms if held[room.name] and held[room.name][0] == service)]
        rng.shuffle(takers)
        free = next((each for each in takers if not each.is_overloaded(now)), None)
        if free is None:
            for room in (each for each in rooms if not (held[each.name] and held[each.name][0] == service)):
                if room.is_overloaded(now):
                    continue
                if held[room.name] is not None:
                    if weight.to_retire([(held[room.name][0], room.weight(now), held[room.name][1])], now) is None:
                        continue
                    retired += 1
                held[room.name], made, free = (service, now), made + 1, room
                homes[service].runs.append((weight.REPLICATE, int(now), 1))
                break
        (free or takers[0]).hit(now)
    minutes = seconds / 60
    return {"made": made / minutes, "retired": retired / minutes}


# Look-ups a second of each asker, with tickets.
RATES = (10, 30, 100)
MIXES = {"1:2:4": (1.0, 2.0, 4.0), "1:10": (1.0, 10.0), "1:1:1:1:1:1": (1.0,) * 6}
LOADS = (0.5, 0.8, 0.95, 1.1)
PERIODS = (10, 20, 40, 60, 120)


def with_tickets(capacities, rate, load, seeds=3, takes=True):
    """The mean figures of runs in which each of four askers looks up so many times a second."""
    scale = 4 * rate / (load * sum(capacities))
    scaled = [scale * each for each in capacities]
    runs = [shares("of two the less loaded (ours)", scaled, load, seed, seconds=60, takes=takes) for seed in range(seeds)]
    return {figure: sum(run[figure] for run in runs) / seeds for figure in runs[0]}


def tables_of_tickets(seeds=2):
    """What docs/ROUTING.md shows of tickets."""
    lines = []
    for mix, capacities in ({"1:1": (1.0, 1.0)} | MIXES).items():
        lines += [
            f"| capacities {mix} | {' | '.join(f'{100 * load:.0f} % load' for load in LOADS)} |",
            "| --- |" + " ---: |" * len(LOADS),
        ]
        for rate in (0, *RATES):
            runs = [with_tickets(capacities, rate or RATES[1], load, seeds, bool(rate)) for load in LOADS]
            cells = (
                f"{100 * run['by ticket']:.0f} % · {run['asked']:.2f} · {100 * run['served over']:.1f} % · {100 * run['apart']:.0f} %"
                for run in runs
            )
            lines.append(f"| {f'{rate} a second' if rate else f'{RATES[1]} a second, without tickets'} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def tables(seeds=3):
    """What docs/ROUTING.md shows."""
    lines = []
    for mix, capacities in MIXES.items():
        scale = [3 * each for each in capacities]
        lines += [
            f"Capacities {mix}:",
            "",
            f"| order | {' | '.join(f'{100 * load:.0f} % load' for load in LOADS)} |",
            "| --- |" + " ---: |" * len(LOADS),
        ]
        for order in ORDERS:
            for asks in (True, False):
                cells = []
                for load in LOADS:
                    runs = [shares(order, scale, load, seed, asks) for seed in range(seeds)]
                    mean = {figure: sum(run[figure] for run in runs) / seeds for figure in runs[0]}
                    cells.append(
                        f"{mean['asked']:.2f}, {100 * mean['wasted']:.1f} %, {100 * mean['served over']:.1f} %" if asks
                        else f"{100 * mean['served over']:.1f} %"
                    )  # fmt: skip
                lines.append(f"| {order}{'' if asks else ', nobody asked'} | {' | '.join(cells)} |")
        lines.append("")
    lines += [
        f"| load swings with a period of | {' | '.join(f'{period} s' for period in PERIODS)} |",
        "| --- |" + " ---: |" * len(PERIODS),
    ]
    runs = {period: [swing(period, seed) for seed in range(seeds)] for period in PERIODS}
    for figure in ("made", "retired"):
        cells = (f"{sum(run[figure] for run in runs[period]) / seeds:.2f}" for period in PERIODS)
        lines.append(f"| copies {figure}, a minute | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
    print(tables_of_tickets())
