"""What the mesh does as it grows: the experiments behind docs/SCALE.md, in virtual time, with the very core of the daemon.

Each takes how many nodes and a seed and returns figures; `run` does all and returns what goes into docs/pictures/curves.json.
The model is that of `mesh`: a conversation happens at one instant, its outcome is known 5 to 10 ms later; processor time
costs nothing. A lost conversation is lost whole, as if the network were gone for as long as it takes.
"""

import statistics
import time

from bdserver.core.gossip.actions import Push
from bdserver.core.membership import ALIVE, DEAD, SUSPECT, Record, Service
from tests.simulation.mesh import EPOCH, Net
from tests.unit.seals import certificate_of, sealed

SIZES = (10, 100, 1000)
RUMOUR_SIZES = (*SIZES, 10_000)
# Where everybody has news of everybody, the simulation's work grows with the cube.
HEALING_SIZES = (10, 100, 300)
LOSSES = (0.0, 0.01, 0.05, 0.2)
HOUR = 3600.0


def calm(count, seed, **keywords):
    """A mesh that has been up for long: everybody knows everybody, nobody has news. Views share their records."""
    net = Net(seed, has_transcript=False, **keywords)
    hosts = net.add(count)
    records = {host.name: sealed(_record(host.name, host.address)) for host in hosts}
    certificates = {record.certificate: certificate_of(name) for name, record in records.items()}
    for host in hosts:
        host.start()
        host.view.records, host.view.certificates, host.view.generation = records, certificates, int(EPOCH)
        mind = host.mind
        mind._notice(host.view, net.now)
        mind.news._pieces.clear(), mind.news._arcs.clear()
        mind.rounds._count = 1000
        mind.rounds._round_at = net.now + net.rng.random() * mind.rounds.rhythm.round_min
    return net, hosts


def _record(name, address):
    services = {f"Service-{name}-{each}": Service("static", 1.0, "", True) for each in range(2)}
    return Record(name, address, (int(EPOCH), 1), services=services, receiver_threshold=100.0, web_port=8080)


def publish(net, host):
    """A service more, or one less."""
    own = host.view.own
    services = dict(own.services)
    services.pop("New") if "New" in services else services.update(New=Service("static", 1.0, "", True))
    host.change(lambda view: view.describe(own._replace(services=services), host.wall()))


def rumour(count, seed):
    """One service is published: how many hops and messages until all know, and how many messages until it is quiet again."""
    net, hosts = calm(count, seed)
    first = net.rng.choice(hosts)
    hops = {first.name: 0}
    version = first.view.own.version[1] + 1

    def note(caller, callee):
        record = callee.view.records[first.name]
        if callee.name not in hops and record.version[1] >= version:
            hops[callee.name] = hops.get(caller.name, 0) + 1

    net.on_change = note
    pushes = _count_pushes(net)
    publish(net, first)
    net.run_until(lambda: len(hops) == count, 60, 0.01)
    known = len(pushes)
    found = {"rounds": max(hops.values()), "messages": known}
    if count < RUMOUR_SIZES[-1]:  # what follows there is the same, and takes an hour
        net.run(5)
        found["in all"] = len(pushes)
    return found


def _count_pushes(net):
    pushes, carry_out = [], net.carry_out

    def counted(caller, action):
        if isinstance(action, Push):
            pushes.append(caller.name)
        carry_out(caller, action)

    net.carry_out = counted
    return pushes


def traffic(count, seed, seconds, changes_per_second=0.0):
    """Bytes a node and second, sent and received by all its peers counted once: at rest, or with changes somewhere."""
    net, hosts = calm(count, seed)
    net.run(5)
    net.bytes, net.messages = 0, 0

    def change():
        publish(net, net.rng.choice(hosts))
        net.at(net.now + 1 / changes_per_second, change)

    if changes_per_second:
        change()
    net.run(seconds)
    return {"bytes": net.bytes / count / seconds, "conversations": net.messages / count / seconds}


def false_alarms(count, seed, loss, seconds):
    """How often a node that lives is suspected by somebody, and taken for dead, per node and hour."""
    net, hosts = calm(count, seed, loss=loss)
    seen = {SUSPECT: set(), DEAD: set()}

    def note(record):
        if record.status in seen:
            seen[record.status].add((record.name, record.version))

    for host in hosts:
        _watch_writes(host, note)
    net.run(seconds)
    return {status: len(found) * HOUR / seconds / count for status, found in seen.items()}


def _watch_writes(host, note):
    write = host.write

    def noted(verdicts):
        write(verdicts)
        for verdict in verdicts:
            if verdict.name in host.view.records:
                note(host.view.records[verdict.name])

    host.write = noted


def healing(count, seed):
    """Two halves that took each other for dead: seconds from the end of the cut until all know all as alive."""
    net, hosts = calm(count, seed)
    net.rng.shuffle(hosts)
    one, other = hosts[: count // 2], hosts[count // 2 :]
    net.partition(one, other)
    names = {host.name for host in other}
    cut = net.run_until(lambda: all(_are(host, names, DEAD) for host in one), 900, 1.0)
    net.run(30)
    net.cut.clear()
    return {"until dead": cut, "seconds": net.run_until(net.is_converged, 900, 0.5)}


def _are(host, names, status):
    records = host.view.records
    return all(records[name].status == status for name in names)


def restart(count, seed):
    """All hosts come back at once, as after a power cut, each with its cache: until all hold the same view of all."""
    net, hosts = calm(count, seed)
    net.run(1)
    for host in hosts:
        host.stop()
    net.run(2)
    net.messages = 0
    for host in hosts:
        host.start()

    def all_know():
        want = hosts[0].view.digest()
        return all(host.view.digest() == want for host in hosts) and all(
            record.version[0] > EPOCH + 1 for record in hosts[0].view.records.values()
        )

    seconds = net.run_until(all_know, 900, 0.25)
    return {"seconds": seconds, "messages": net.messages / count}


def liar(count, seed):
    """One node says of another, at the version that this has signed, that it is dead: who believed it, and for how long."""
    net, hosts = calm(count, seed)
    net.run(1)
    teller, victim = net.rng.sample(hosts, 2)
    record = victim.view.own
    lie = record._replace(status=DEAD, since=teller.wall())
    believed = set()
    net.on_change = lambda caller, callee: (
        believed.add(callee.name) if callee.view.records[victim.name].status == DEAD else None
    )
    started = net.now
    teller.change(lambda view: view.merge(lie, teller.wall()))
    net.run(0.05)

    def is_refuted():
        return all(
            host.view.records[victim.name].status == ALIVE and host.view.records[victim.name].version > lie.version
            for host in hosts
        )

    net.run_until(is_refuted, 60, 0.02)
    return {"seconds": net.now - started, "believed": len(believed), "others harmed": sum(
        record.status != ALIVE for host in hosts for record in host.view.records.values())}  # fmt: skip


def run(is_quick=False, say=print):
    """All experiments: {name: {size or loss: {figure: [median, least, most]}}}."""
    sizes = SIZES[:2] if is_quick else SIZES
    found = {}

    def note(name, key, experiment, seeds):
        started = time.perf_counter()
        runs = [experiment(seed) for seed in range(1, seeds + 1)]
        found.setdefault(name, {})[str(key)] = {
            figure: [round(fold([each[figure] for each in runs]), 4) for fold in (statistics.median, min, max)]
            for figure in runs[0]
        }
        say(f"{name:14} {key!s:>6}: {found[name][str(key)]}  ({time.perf_counter() - started:.0f} s)")

    for size in sizes if is_quick else RUMOUR_SIZES:
        note("rumour", size, lambda seed, n=size: rumour(n, seed), {10_000: 1, 1000: 3}.get(size, 10))
    for size in sizes:
        few = 1 if size == SIZES[-1] else 3
        note("rest", size, lambda seed, n=size: traffic(n, seed, 60), few)
        note("churn", size, lambda seed, n=size: traffic(n, seed, 20 if n == SIZES[-1] else 60, 1.0), few)
        note("liar", size, lambda seed, n=size: liar(n, seed), few)
    for size in HEALING_SIZES[:-1] if is_quick else HEALING_SIZES:
        note("restart", size, lambda seed, n=size: restart(n, seed), 1 if size == HEALING_SIZES[-1] else 3)
        note("healing", size, lambda seed, n=size: healing(n, seed), 1 if size == HEALING_SIZES[-1] else 3)
    for loss in LOSSES:
        note("false alarms", loss, lambda seed, p=loss: false_alarms(100, seed, p, 120 if is_quick else 600), 1)
    return found


_ROWS = (
    ("steps until all know of a change", "rumour", "rounds"),
    ("messages until all know of a change", "rumour", "messages"),
    ("messages for a change in all", "rumour", "in all"),
    ("bytes a node and second, at rest", "rest", "bytes"),
    ("bytes a node and second, one change a second", "churn", "bytes"),
    ("conversations a node and second, at rest", "rest", "conversations"),
    ("conversations a node and second, one change a second", "churn", "conversations"),
    ("seconds from a heal of two halves until all know all", "healing", "seconds"),
    ("seconds from a restart of all until all know all", "restart", "seconds"),
    ("conversations a node for that restart", "restart", "messages"),
    ("seconds until a lie is refuted everywhere", "liar", "seconds"),
    ("nodes that believed it meanwhile", "liar", "believed"),
)


def table(found):
    """The page's table, of medians."""
    sizes = [str(size) for size in sorted({*RUMOUR_SIZES, *HEALING_SIZES})]
    lines = [f"| | {' | '.join(f'{int(size):,} nodes' for size in sizes)} |", "| --- |" + " ---: |" * len(sizes)]
    for what, name, figure in _ROWS:
        rows = found[name]
        cells = (f"{rows[size][figure][0]:,.4g}" if figure in rows.get(size, {}) else "" for size in sizes)
        lines.append(f"| {what} | {' | '.join(cells)} |")
    losses = found["false alarms"]
    lines += [
        "",
        f"| conversations lost | {' | '.join(f'{100 * float(p):g} %' for p in losses)} |",
        "| --- |" + " ---: |" * len(losses),
    ]
    for status in (SUSPECT, DEAD):
        cells = (f"{row[status][0]:.3g}" for row in losses.values())
        lines.append(
            f"| live nodes {'suspected' if status == SUSPECT else 'taken for dead'}, a node and hour | {' | '.join(cells)} |"
        )
    return "\n".join(lines)
