"""Whom to probe, suspect, ask to probe for us, tell the news and synchronise with, and when.

State in, actions out: the discoverer (or a simulation) carries the actions out and reports each outcome to
`done`. Two clocks come as arguments: `clock` is monotonic and paces everything, wall time is the view's.
 - each node watches the one that follows it in a ring: a PING a second, on a connection that is kept. When there is news, or
   somebody was found silent lately, a probe a second of its fingers too (below), in shuffled turn: each node is the finger of
   log2 N others, so that none is missed for long, and a mesh at rest costs next to nothing;
 - whom somebody did not reach is probed on a new connection, and so is a suspect: on an old one a child may still answer
   when its listener no longer does;
 - no answer: three others are asked to probe; none reaches it: it is suspect, and dead when nobody refutes that in
   time, sooner the more accuse it, later when our own probes fail all around (Lifeguard); where the connection was
   refused, very soon, since the host itself says that nobody listens;
 - news goes around the ring at once: whoever has it tells those at 1, 2, 4, 8 … steps, its fingers, and hands over to each
   the arc as far as the next one, so that each node is told once, in log2 N steps. A node tells its own few fingers alone,
   so connections to them stay open while there is news, and a step costs no handshake. Some time later each tells one
   finger more, for those who were missed, and each PING of the watch or of a finger carries news along. What came some
   other way is pushed on to a few fingers, until they say that they know;
 - the original's rounds (never visited first, else mostly the least recent) make it certain;
 - dead nodes and hints are dialled for ever, with pauses up to a minute: two halves find each other again.
How to merge is membership's business.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from hashlib import blake2b
from random import Random
from typing import NamedTuple

from bdserver.core.exchange import EVERYBODY
from bdserver.core.membership import ALIVE, DEAD, RECORDS_MAX, SUSPECT, Record, standing
from bdserver.core.view import View


class Rhythm(NamedTuple):
    """The pace, in seconds; the rounds' numbers are the original's."""

    probe_interval: float = 1.0
    round_min: float = 10.0
    round_max: float = 30.0


PROBE_SECONDS = 0.6  # for the whole of connect, handshake, PING, PONG; an idle machine takes a hundredth of it
HELPERS = 3
# Lifeguard's suspicion (as memberlist: SuspicionMaxTimeoutMult 6, k = 4 - 2 + 1 confirmations; its SuspicionMult of 4 is for
# datagrams, one of which may be lost: our probes are connections, and TCP has repeated what was lost before they fail).
SUSPICION_MULTIPLIER = 3.0
SUSPICION_MAX_MULTIPLIER = 6.0
CONFIRMATIONS = 3
AWARENESS_MAX = 8
# Long enough for the word to reach an accused that lives and its answer to come back: some 10 round trips.
REFUSED_SECONDS = 0.5
# When a suspicion is heard, about this many nodes of the mesh probe out of turn.
DOUBLE_CHECKERS = 4.0
FANOUT = 3
# The first push of a piece of news goes out at once, and its listeners pass it on at once: that is what makes it fast. The
# repetitions are for those who were missed, and may take their time: each costs two hosts a handshake and one a fork
# (with 0.1 s, 20 nodes that were born together kept two cores busy telling each other, and took each other for dead).
PUSH_PAUSE = 0.3
# Where listeners take long to hear us out, machines are busy: then pause so many times as long as they took.
BUSY_FACTOR = 5.0
NEWS_PER_PUSH = 100
# What was told around the ring is told so often again by each, to one at random.
ECHOES = 2
# So long after its last use the connection is let go on which news was told, or a PING of the watch.
IDLE_SECONDS = 30.0
# Around the ring, each piece of news costs its N messages. Where so many parts of it wait at once that have not the same
# end (all hosts come back after a power cut), the news is gossiped instead, much in a message.
ARCS_MAX = 8
# So long after a node was found silent, suspected or dead, all look around.
TROUBLE_SECONDS = 10.0
# A mesh that has told us nothing new for so long, and yet differs from us, is synchronised with out of turn; and so is one
# that has told us of a node whose policy's text did not come.
QUIET_SECONDS = 2.0
STARTUP_ROUNDS, STARTUP_PAUSE = 3, 0.25
LEAST_RECENT_SHARE = 0.9
DIAL_PAUSE, DIAL_PAUSE_MAX = 0.5, 60.0
DIALS_AT_ONCE = 8


class Probe(NamedTuple):
    """PING this node, and tell it the records of these names on the way. `stays`: on a connection that is kept; else
    on a new one, since who was not to be reached may have a child left that answers on an old one."""

    name: str
    address: str
    seconds: float
    news: tuple[str, ...] = ()
    stays: bool = False


class Ask(NamedTuple):
    """Ask `helper` to PING a node that did not answer us."""

    helper: str
    helper_address: str
    name: str
    address: str
    seconds: float


class Push(NamedTuple):
    """Tell this node the records of these names; with `until`, it shall pass them on around the ring as far as that node."""

    name: str
    address: str
    news: tuple[str, ...]
    until: str | None = None


class Synchronise(NamedTuple):
    """Synchronise with whoever is at this address; `name` is None when that is not known."""

    name: str | None
    address: str


Action = Probe | Ask | Push | Synchronise

# Outcomes. A node that refuses for policy, or for being too busy, lives.
THERE, REFUSED, SILENT = "there", "refused", "silent"


class Verdict(NamedTuple):
    """What to write into the view: accuse, or bury."""

    is_death: bool
    name: str


def next_partner(candidates: list[Record], visited_at: dict[str, float], rng: Random) -> Record | None:
    """The node to synchronise with in this round: one never visited, else the least recently visited with
    probability 0.9, else a random one; None when there is nobody. (BDdaemon.discoverer, 2006)"""
    if not candidates:
        return None
    never = [record for record in candidates if record.name not in visited_at]
    if never:
        return rng.choice(never)
    if rng.random() < LEAST_RECENT_SHARE:
        return min(candidates, key=lambda record: visited_at[record.name])
    return rng.choice(candidates)


def round_delay(weight: float, threshold: float, rhythm: Rhythm, rng: Random) -> float:
    """Seconds until the next round: 30 / RT x weight, at least about 10; when overloaded 30 to 35."""
    if weight > threshold:
        return rhythm.round_max + rng.random() * rhythm.round_max / 6
    delay = rhythm.round_max / threshold * weight
    return delay if delay >= rhythm.round_min else rhythm.round_min * (1 - rng.random() / 5)


def suspicion_seconds(accusers: int, nodes: int, awareness: int, probe_interval: float) -> float:
    """How long a suspect may take to refute: from 6 x down to 1 x the least, the log of confirmations between.

    Lifeguard (arXiv 1707.00788), with memberlist's constants; `accusers` counts the first one too."""
    least = SUSPICION_MULTIPLIER * max(1.0, math.log10(max(nodes, 1))) * probe_interval * (1 + awareness)
    expected = min(CONFIRMATIONS, nodes - 2)
    if expected < 1:
        return least
    most = SUSPICION_MAX_MULTIPLIER * least
    confirmations = min(max(accusers - 1, 0), expected)
    return max(least, most - (most - least) * math.log(confirmations + 1) / math.log(expected + 1))


def transmissions(nodes: int) -> int:
    """How often one node tells one piece of news at most."""
    return FANOUT + math.ceil(math.log2(nodes + 1))


def arc(start: str, until: str, names: Iterable[str]) -> list[str]:
    """Of these names, those behind `start` as far as `until`, in the order of the ring; with EVERYBODY, all around."""
    begin = _place(start)
    length = _PLACES if until == EVERYBODY else (_place(until) - begin) % _PLACES
    steps = sorted(((_place(name) - begin) % _PLACES, name) for name in names)
    return [name for step, name in steps if 0 < step <= length]


def pieces(around: list[str]) -> list[list[str]]:
    """Cut names in the order of the ring into 1, 2, 4, 8 … of them, the last piece first: who tells the first of each tells
    those at 1, 2, 4, 8 … steps from himself, the same few whatever the news and however far it is his to tell."""
    return [around[(1 << power) - 1 : (2 << power) - 1] for power in reversed(range(len(around).bit_length()))]


def follower(me: str, names: Iterable[str]) -> str | None:
    """Who comes next in the ring of all nodes: in the order of a hash, so that hosts of one rack are not neighbours."""
    place = _place(me)
    return min(names, key=lambda name: ((_place(name) - place) % _PLACES, name), default=None)


_PLACES = 1 << 64


@functools.lru_cache(maxsize=RECORDS_MAX)
def _place(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8, person=b"ring").digest(), "big")


class _Doubt:
    """A probe that failed, while the helpers are out."""

    def __init__(self, record: Record, is_refused: bool, waiting: int) -> None:
        self.record, self.is_refused, self.waiting = record, is_refused, waiting
        self.deaf = 0 if is_refused or waiting else 1  # helpers that did not answer us either


class Discovery:
    """The discoverer's mind. `forbids(record)` tells whom our own policy keeps us from calling."""

    def __init__(
        self,
        me: str,
        rhythm: Rhythm,
        rng: Random,
        clock: float,
        hints: Iterable[str] = (),
        forbids: Callable[[Record], bool] = lambda record: False,
    ) -> None:
        self.me, self.rhythm, self.rng, self.forbids = me, rhythm, rng, forbids
        self.hints = tuple(hints)
        self.awareness = 0
        self.visited_at: dict[str, float] = {}
        self._rounds = 0
        self._round_at = clock
        self._lacking: set[str] = set()
        self._lacking_at = math.inf
        self._probe_at = clock + rhythm.probe_interval * rng.random()
        self._turn: list[str] = []
        self._trouble_at = -math.inf
        self._watched: str | None = None
        self._hurry: list[str] = []
        self._doubts: dict[str, _Doubt] = {}
        self._probing: set[str] = set()
        self._refused: dict[str, tuple[int, int]] = {}
        self._suspected_at: dict[str, tuple[tuple[int, int], float]] = {}
        self._news: dict[str, int] = {}
        self._arcs: dict[tuple[str, str], list[str]] = {}
        self._echoed: set[str] = set()
        self._found: set[str] = set()  # whose state we have found out ourselves
        self._lazy: set[str] = set()
        self._pushed_at = self._push_at = self._arcs_at = clock
        self._pushing = 0
        self._news_at = clock
        self._dials: dict[str, tuple[float, float]] = {}
        self._dialling: set[str] = set()
        self._dials_view: View | None = None
        self._view: View | None = None
        self._listeners_of: View | None = None
        self._all_around: list[str] = []
        self._seen: dict[str, Record] = {}

    # -- what to do now

    def due(self, view: View, clock: float, weight: float, threshold: float) -> list[Action]:
        """Everything that is due at this instant, in the order of its urgency."""
        self._notice(view, clock)
        return [
            *self._told_around(view, clock),
            *self._pushes(view, clock),
            *self._probes(view, clock),
            *self._due_dials(view, clock),
            *self._due_round(view, clock, weight, threshold),
        ]

    def verdicts(self, view: View, clock: float) -> list[Verdict]:
        """Suspects whose time to refute has run out."""
        self._notice(view, clock)
        buried = [name for name in self._suspected_at if clock >= self._buried_at(name, view)]
        self._found.update(buried)
        return [Verdict(True, name) for name in buried]

    def next_at(self, view: View) -> float:
        """The instant at which something will be due, if nothing happens before."""
        if self._hurry:
            return -math.inf
        instants = [self._round_at, self._lacking_at, self._probe_at]
        if self._arcs and not self._pushing:
            instants.append(self._arcs_at)
        if self._urgent() and not self._pushing:
            instants.append(self._push_at)
        if len(self._dialling) < DIALS_AT_ONCE:
            instants += [next_at for address, (next_at, _) in self._dials.items() if address not in self._dialling]
        instants += [self._buried_at(name, view) for name in self._suspected_at]
        return min(instants)

    # -- noticing what changed

    def _notice(self, view: View, clock: float) -> None:
        if view is self._view:
            return
        is_first, self._view = self._view is None, view
        old, self._seen = self._seen, view.records
        for name, record in view.records.items():
            before = old.get(name)
            if before is record or (is_first and name != self.me):
                continue
            if before is None or standing(before) != standing(record) or len(before.accusers) < len(record.accusers):
                if record.status in (SUSPECT, DEAD):
                    self._trouble_at = clock
                self._news_at = clock
                is_lazy = before is not None and _differs_in_load_alone(before, record)
                (self._lazy.add if is_lazy else self._lazy.discard)(name)
                self._echoed.discard(name)
                self._news[name] = transmissions(len(view.records))
                if not is_lazy and (name == self.me or name in self._found):
                    self._tell_around(name, EVERYBODY)
        self._found.clear()
        for name in [name for name in self._news if name not in view.records]:
            del self._news[name]
        self._watched = follower(self.me, [r.name for r in view.others() if r.status == ALIVE])
        self._notice_suspects(view, clock)
        self._notice_policies(view, clock)

    def _notice_policies(self, view: View, clock: float) -> None:
        """The text comes right behind a record; but who told us the record may not have had it yet."""
        before, self._lacking = self._lacking, set(view.unknown_policies())
        if not self._lacking:
            self._lacking_at = math.inf
        elif self._lacking - before:
            self._lacking_at = min(self._lacking_at, clock + QUIET_SECONDS)

    def _notice_suspects(self, view: View, clock: float) -> None:
        suspects = {r.name: r for r in view.others() if r.status == SUSPECT}
        for name, record in suspects.items():
            if self._suspected_at.get(name, (None, 0))[0] != record.version:
                self._suspected_at[name] = (record.version, clock)
                if self.me not in record.accusers and self.rng.random() < DOUBLE_CHECKERS / len(view.records):
                    self._hurry.append(name)
        for name in [name for name in self._suspected_at if name not in suspects]:
            del self._suspected_at[name]

    def _buried_at(self, name: str, view: View) -> float:
        version, started = self._suspected_at[name]
        if self._refused.get(name) == version:
            return started + REFUSED_SECONDS
        record = view.records.get(name)
        accusers = len(record.accusers) if record else 1
        nodes = 1 + len(view.others_there())
        return started + suspicion_seconds(accusers, nodes, self.awareness, self.rhythm.probe_interval)

    # -- news

    def pass_on(self, names: Iterable[str], until: str, view: View, clock: float) -> None:
        """Somebody has told us these, and wants us to pass them on around the ring as far as `until`, or EVERYBODY."""
        self._notice(view, clock)
        for name in names:
            if name in self._news and name not in self._echoed | self._lazy:
                self._tell_around(name, until)

    def _tell_around(self, name: str, until: str) -> None:
        self._news[name] = ECHOES
        self._echoed.add(name)
        self._arcs.setdefault((self.me, until), []).append(name)

    def _told_around(self, view: View, clock: float) -> list[Action]:
        if not self._arcs or self._pushing or clock < self._arcs_at:
            return []
        arcs, self._arcs = self._arcs, {}
        if len(arcs) > ARCS_MAX or max(map(len, arcs.values())) > NEWS_PER_PUSH:
            self._gossip({name for names in arcs.values() for name in names}, view)
            return []
        self._push_at = max(self._push_at, clock + PUSH_PAUSE)
        self._pushed_at = clock
        pushes: list[Action] = []
        for (start, until), names in arcs.items():
            told = tuple(name for name in dict.fromkeys(names) if name in view.records)
            around = [name for name in arc(start, until, self._listeners(view)) if name not in told]
            for piece in pieces(around) if told else ():
                record = view.records[piece[0]]
                pushes += [Push(record.name, record.address, told, piece[-1])]
        self._pushing += len(pushes)
        return pushes

    def _listeners(self, view: View) -> list[str]:
        """Whom we may tell the news, in the order of the ring; looked through once a view."""
        if self._listeners_of is not view:
            names = (r.name for r in view.others_there() if r.status != SUSPECT and not self.forbids(r))
            self._listeners_of, self._all_around = view, arc(self.me, EVERYBODY, names)
        return self._all_around

    def _fingers(self, view: View) -> list[str]:
        """The few of them to whom connections are kept while there is news."""
        return [piece[0] for piece in pieces(self._listeners(view))]

    def _gossip(self, names: set[str], view: View) -> None:
        """Push these on to some at random, until they say that they know."""
        for name in names & self._news.keys():
            self._news[name] = transmissions(len(view.records))
        self._echoed -= names

    def _urgent(self) -> bool:
        return any(name not in self._lazy for name in self._news)

    def _pushes(self, view: View, clock: float) -> list[Action]:
        if not self._may_push(clock):
            return []
        fingers = self._fingers(view)
        count = 1 if self._echoed.issuperset(self._news.keys() - self._lazy) else FANOUT
        chosen = [view.records[name] for name in self.rng.sample(fingers, min(count, len(fingers)))]
        self._pushed_at, self._push_at = clock, clock + PUSH_PAUSE
        told = list(self._news)[:NEWS_PER_PUSH] if fingers else list(self._news)
        pushes = [Push(each.name, each.address, _for(each, told)) for each in chosen]
        for name in told:
            self._spend(name, max(len(chosen), 1))
        pushes = [push for push in pushes if push.news]
        self._pushing += len(pushes)
        return [*pushes]

    def _may_push(self, clock: float) -> bool:
        """Not before those told last have heard us out: a mesh that is busy gossips less, not more."""
        return self._urgent() and not self._pushing and clock >= self._push_at

    def _spend(self, name: str, transmissions_spent: int) -> None:
        left = self._news.get(name, 0) - transmissions_spent
        if left > 0:
            self._news[name] = left
        elif self._news.pop(name, None) is not None:
            self._lazy.discard(name)
            self._echoed.discard(name)

    # -- probes

    def hung_up(self, name: str) -> None:
        """A connection that was kept has ended: its watcher looks why."""
        if name == self._watched:
            self.hurry(name)

    def hurry(self, name: str) -> None:
        """Probe this node now: somebody could not reach it."""
        self._hurry.append(name)

    def _probes(self, view: View, clock: float) -> list[Action]:
        regular: list[str] = []
        if clock >= self._probe_at:
            # Lifeguard: who sees probes fail all around probes less, and does not add to what is wrong.
            self._probe_at = clock + self.rhythm.probe_interval * (1 + self.awareness)
            is_calm = not self._news and clock - self._trouble_at > TROUBLE_SECONDS
            in_turn = None if is_calm else self._next_in_turn(view)
            regular = [name for name in (self._watched, in_turn) if name is not None]
        probes: list[Action] = []
        for name in (*self._hurry, *regular):
            record = view.records.get(name)
            if record is not None and record.is_there and name not in self._probing:
                self._probing.add(name)
                news = _for(record, list(self._news)[:NEWS_PER_PUSH]) if not self.forbids(record) else ()
                for each in news:
                    self._spend(each, 1)
                stays = record.status == ALIVE and name not in self._hurry
                probes.append(Probe(name, record.address, self._probe_seconds(), news, stays))
        self._hurry = []
        return probes

    def _probe_seconds(self) -> float:
        return PROBE_SECONDS * (1 + self.awareness)

    def _next_in_turn(self, view: View) -> str | None:
        """Of all fingers, those that our policy forbids as well, in shuffled turn."""
        for _ in range(2):
            while self._turn:
                name = self._turn.pop()
                if name in view.records and view.records[name].is_there:
                    return name
            self._turn = [piece[0] for piece in pieces(arc(self.me, EVERYBODY, (r.name for r in view.others_there())))]
            self.rng.shuffle(self._turn)
        return None

    # -- dials and rounds

    def _due_dials(self, view: View, clock: float) -> list[Action]:
        if view is not self._dials_view:
            self._note_dials(view, clock)
        due = [a for a, (next_at, _) in self._dials.items() if clock >= next_at and a not in self._dialling]
        due = due[: max(DIALS_AT_ONCE - len(self._dialling), 0)]
        for address in due:
            pause = self._dials[address][1]
            self._dials[address] = (clock + pause * (1 + self.rng.random() / 2), min(pause * 2, DIAL_PAUSE_MAX))
            self._dialling.add(address)
        return [Synchronise(None, address) for address in due]

    def _note_dials(self, view: View, clock: float) -> None:
        """Who is to be dialled: it changes only with the view, and to look through it takes its time."""
        self._dials_view = view
        occupied = {record.address for record in view.records.values() if record.is_there}
        wanted = {record.address for record in view.others() if record.status == DEAD}
        wanted = (wanted | view.hints | set(self.hints)) - occupied
        for address in sorted(wanted - self._dials.keys()):
            self._dials[address] = (clock if address in view.hints or address in self.hints else clock + 1, DIAL_PAUSE)
        for address in self._dials.keys() - wanted:
            del self._dials[address]

    def _due_round(self, view: View, clock: float, weight: float, threshold: float) -> list[Action]:
        if clock >= self._lacking_at:  # as at the start: some quick rounds, with one after the other
            self._lacking_at, self._rounds, self._round_at = math.inf, 0, clock
        if clock < self._round_at:
            return []
        self._rounds += 1
        is_startup = self._rounds <= STARTUP_ROUNDS
        delay = STARTUP_PAUSE if is_startup else round_delay(weight, threshold, self.rhythm, self.rng)
        self._round_at = clock + delay
        partner = next_partner([r for r in view.others_there() if not self.forbids(r)], self.visited_at, self.rng)
        return [self._visit(partner, clock)] if partner else []

    def _visit(self, partner: Record, clock: float) -> Synchronise:
        self.visited_at[partner.name] = clock
        return Synchronise(partner.name, partner.address)

    # -- what came of it

    def done(
        self,
        action: Action,
        outcome: str,
        view: View,
        clock: float,
        *,
        known: int = 0,
        digest: str | None = None,
        is_nack: bool = False,
    ) -> tuple[list[Verdict], list[Action]]:
        """Report an action's outcome; returns what to write into the view and what to do next.

        `known`: of a Push, how many records the listener knew. `digest`: of a Probe, the view's at the other end.
        `is_nack`: of an Ask that is SILENT, the helper answered, and it is the other one whom it did not reach."""
        if isinstance(action, Probe):
            return self._probed(action, outcome, view, clock, digest)
        if isinstance(action, Ask):
            return self._helped(action, outcome, is_nack)
        if isinstance(action, Push):
            self._pushing = max(self._pushing - 1, 0)
            self._arcs_at = clock + BUSY_FACTOR * (clock - self._pushed_at)
            self._push_at = max(self._push_at, self._arcs_at)
            if action.until is not None and outcome != THERE:  # then we do his part
                self._arcs.setdefault((action.name, action.until), []).extend(action.news)
            if known == len(action.news):  # it comes too late: others tell it as well
                for name in action.news:
                    self._spend(name, FANOUT)
            return [], []
        self._dialling.discard(action.address)
        if outcome == THERE:
            self._dials.pop(action.address, None)
            self._dials_view = None
        elif action.name is not None:  # a round that failed is as good as a probe that failed
            self.hurry(action.name)
        return [], []

    def _probed(
        self, probe: Probe, outcome: str, view: View, clock: float, digest: str | None
    ) -> tuple[list[Verdict], list[Action]]:
        record = view.records.get(probe.name)
        self._probing.discard(probe.name)
        if record is None:
            return [], []
        if outcome == THERE:
            self.awareness = max(self.awareness - 1, 0)
            self._refused.pop(probe.name, None)
            return [], self._after_pong(record, view, clock, digest)
        if not record.is_there or record.address != probe.address:
            return [], []
        self._trouble_at = clock
        helpers = [r for r in view.others_there() if r.name != probe.name and not self.forbids(r)]
        helpers = self.rng.sample(helpers, min(HELPERS, len(helpers)))
        self._doubts[probe.name] = _Doubt(record, outcome == REFUSED, len(helpers))
        if not helpers:
            return self._accuse(probe.name), []
        self._probing.add(probe.name)
        return [], [Ask(h.name, h.address, probe.name, probe.address, probe.seconds) for h in helpers]

    def _after_pong(self, record: Record, view: View, clock: float, digest: str | None) -> list[Action]:
        if record.status != "alive":  # it lives, and should hear what is said of it
            self._pushing += 1
            return [Push(record.name, record.address, (record.name,))]
        is_behind = digest is not None and digest != view.digest() and clock - self._news_at > QUIET_SECONDS
        if is_behind and not self.forbids(record):
            self._news_at = clock
            return [self._visit(record, clock)]
        return []

    def _helped(self, ask: Ask, outcome: str, is_nack: bool) -> tuple[list[Verdict], list[Action]]:
        doubt = self._doubts.get(ask.name)
        if doubt is None:
            return [], []
        if outcome == THERE:  # others reach it, we did not
            del self._doubts[ask.name]
            self._probing.discard(ask.name)
            self._be_patient(1)
            return [], []
        doubt.is_refused = doubt.is_refused or outcome == REFUSED
        doubt.deaf += outcome == SILENT and not is_nack
        doubt.waiting -= 1
        return (self._accuse(ask.name), []) if doubt.waiting == 0 else ([], [])

    def _accuse(self, name: str) -> list[Verdict]:
        doubt = self._doubts.pop(name)
        self._probing.discard(name)
        if doubt.is_refused:
            self._refused[name] = doubt.record.version
        self._be_patient(doubt.deaf)
        self._found.add(name)
        return [Verdict(False, name)]

    def _be_patient(self, by: int) -> None:
        """Lifeguard: when others are silent that should not be, the fault is perhaps ours, until a probe succeeds."""
        self.awareness = min(self.awareness + by, AWARENESS_MAX)


def _for(listener: Record, news: list[str]) -> tuple[str, ...]:
    """What of the news to tell this listener: of itself, only that it is suspected."""
    return tuple(name for name in news if name != listener.name or listener.status == SUSPECT)


def _differs_in_load_alone(a: Record, b: Record) -> bool:
    """A raised version without any difference is a refutation, and urgent."""
    is_loaded_otherwise = (a.load, a.free_dynamic) != (b.load, b.free_dynamic)
    return is_loaded_otherwise and a._replace(version=b.version, load=b.load, free_dynamic=b.free_dynamic) == b
