"""A mesh in memory: the very core that runs in the daemon, over a network of virtual time, seeded.

Assumed: a conversation is atomic at the instant it begins, its outcome is known a delay later (or, when nothing comes
back, at its time-out); a process that is down refuses, a host that is cut off is silent. Every node has its own wall clock.
What a test may do: lose, delay, duplicate, cut and heal links, kill and restart (keeping the generation or losing
it), step clocks. `transcript` notes who said what to whom.
"""

import heapq
import itertools
from random import Random

from bdserver.core import exchange
from bdserver.core.gossip.actions import (
    Ask,
    Probe,
    Push,
    Refused,
    Silent,
    Taken,
    There,
)
from bdserver.core.gossip.discovery import Discovery
from bdserver.core.gossip.rounds import Rhythm
from bdserver.core.membership import DEAD, LEFT, Record
from bdserver.core.messages import Pong
from bdserver.core.view import View
from bdserver.core.wire import encode
from tests.exchanges import synchronise
from tests.unit.seals import prove, seal_own, sealed

EPOCH = 1_700_000_000.0
# Of TLS: what a handshake takes in both directions with the opening and both goodbyes, certificates of the mesh's size, and
# what a record adds to a frame. Measured with our own TLS (`test_curves`); IP and TCP come on top.
CONNECTION_BYTES, FRAME_BYTES = 2136, 22
SYNCHRONISE_SECONDS = 5.0
# A connection that nobody uses is let go after so long; those to the watched node and the fingers stay.
IDLE_SECONDS = 60.0


class Host:
    """One node: its view, its mind, whether its process runs."""

    def __init__(self, net, name):
        self.net, self.name = net, name
        self.address = f"{name}:9001"
        self.is_up = False
        self.wall_offset = 0.0
        self.view = View(name)
        self.policy = None
        self.kept = {}  # (name, whether for answers that take long) -> (its life, when it was used last)
        self._wake_at = None

    def wall(self):
        """This node's own wall clock."""
        return EPOCH + self.net.now + self.wall_offset

    def start(self, hints=(), forget=False):
        """Start the process; with `forget` its disk was lost too."""
        self.is_up, self.kept = True, {}
        self.view = View(self.name) if forget else self.view.copy()
        own = self.view.records.get(self.name) or Record(self.name, self.address, (0, 0))
        self.view.start(own._replace(policy=self.policy), self.wall())
        seal_own(self.view)
        for hint in hints:
            self.view.hint(hint)
        self.mind = Discovery(self.name, Rhythm(), Random(self.net.rng.random()), self.net.now, lambda: hints, self._forbids)
        self.life = object()
        self.wake()

    def _forbids(self, record):
        return not self.net.can_talk(self.policy, record.policy)

    def stop(self):
        """kill -9."""
        self.is_up = False

    def change(self, do):
        """Change a copy of the view, as the cache's lock does; look at what follows if it changed."""
        view = self.view.copy()
        result = do(view)
        view.seal(sealed)
        if view.changes:
            self.view = view
            self.wake()
        return result

    def wake(self):
        """Do what is due, now."""
        self.net.at(self.net.now, self._act, self.life)

    def _act(self, life):
        if not self.is_up or life is not self.life:
            return
        for action in self.mind.due(self.view, self.net.now, 0.0, 100.0):
            self.net.carry_out(self, action)
        self.write(self.mind.verdicts(self.view, self.net.now))
        next_at = max(self.mind.next_at(self.view), self.net.now + 0.001)
        if self._wake_at is None or next_at < self._wake_at or self._wake_at <= self.net.now:
            self._wake_at = next_at
            self.net.at(next_at, self._act, life)

    def write(self, verdicts):
        """Verdicts into the view."""
        if not verdicts:
            return

        def do(view):
            for verdict in verdicts:
                if verdict.name in view.records:
                    (view.bury if verdict.is_death else view.accuse)(verdict.name, self.wall())

        self.change(do)

    def done(self, life, action, outcome):
        """The outcome of an action arrives."""
        if not self.is_up or life is not self.life:
            return
        verdicts, actions = self.mind.done(action, outcome, self.view, self.net.now)
        self.write(verdicts)
        for each in actions:
            self.net.carry_out(self, each)
        self.wake()

    def statuses(self):
        """name -> status of everybody it knows."""
        return {name: str(record.status) for name, record in self.view.records.items()}


class Net:
    """Virtual time, links, and the conversations on them."""

    def __init__(self, seed, loss=0.0, delay=0.005, has_transcript=True):
        self.rng = Random(seed)
        self.seed, self.loss, self.delay = seed, loss, delay
        self.now = 0.0
        self.hosts = {}
        self.cut = set()  # (caller, callee) names that do not reach each other
        self.duplicates = 0.0
        self.messages = self.connections = 0
        self.bytes = None  # set to 0 to have them counted
        self.on_change = lambda caller, callee: None  # the callee's view, by what the caller said; or the other way round
        self.has_transcript = has_transcript
        self.transcript = []
        self._by_address = {}
        self._events = []
        self._sequence = itertools.count()

    def add(self, count):
        """`count` hosts, not started."""
        first = len(self.hosts)
        for number in range(first, first + count):
            host = Host(self, f"n{number}")
            self.hosts[host.name] = self._by_address[host.address] = host
        return list(self.hosts.values())[first:]

    @staticmethod
    def can_talk(a, b):
        """Policies here are texts of letters that meet when they share one; None meets everyone."""
        return a is None or b is None or bool(set(a) & set(b))

    def at(self, when, do, *arguments):
        """Schedule."""
        heapq.heappush(self._events, (when, next(self._sequence), do, arguments))

    def run(self, seconds):
        """Let this much virtual time pass."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, do, arguments = heapq.heappop(self._events)
            do(*arguments)
        self.now = until

    def run_until(self, is_so, seconds, step=0.25):
        """Virtual seconds until it is so; AssertionError with the seed when it never is."""
        started = self.now
        while not is_so():
            assert self.now - started < seconds, (
                f"seed {self.seed}: not within {seconds} virtual seconds: {self.disagreements()}"
            )
            self.run(step)
        return self.now - started

    def partition(self, *groups):
        """Cut every link between groups of hosts."""
        for one, other in itertools.permutations(groups, 2):
            self.cut |= {(a.name, b.name) for a in one for b in other}

    # -- conversations

    def _reach(self, caller, address):
        """(outcome, callee) of trying to call somebody."""
        callee = self._by_address.get(address)
        if callee is None or (caller.name, callee.name) in self.cut or self.rng.random() < self.loss:
            return Silent(), None
        if not callee.is_up:
            return Refused(), None
        return There(), callee

    def carry_out(self, caller, action):
        """Do what the mind wants; its outcome comes later."""
        address = action.helper_address if isinstance(action, Ask) else action.address
        outcome, callee = self._reach(caller, address)
        wanted = action.helper if isinstance(action, Ask) else action.name
        if callee is not None and wanted not in (None, callee.name):
            outcome, callee = Refused(), None
        self.messages += 1
        if self.has_transcript:
            self._note(caller, action, outcome)
        if callee is not None:
            self._connect(caller, callee, action)
            if not self.can_talk(caller.policy, callee.policy):
                outcome = There() if not isinstance(action, Ask) else Silent(is_nack=True)
            else:
                outcome = self._converse(caller, callee, action)
        elif isinstance(action, Ask):  # that the helper is gone says nothing of the other one
            outcome = Silent()
        wait, life = self.delay * (1 + self.rng.random()), caller.life
        if isinstance(outcome, Silent):
            wait = getattr(action, "seconds", SYNCHRONISE_SECONDS)
        for _ in range(2 if self.rng.random() < self.duplicates and isinstance(action, Push) else 1):
            self.at(self.now + wait, lambda: caller.done(life, action, outcome))

    def _connect(self, caller, callee, action):
        """A new connection, unless one is kept since the same process of that host was spoken to. An answer that takes long
        comes on a connection of its own."""
        key = callee.name, isinstance(action, Ask)
        life, used_at = caller.kept.get(key, (None, 0.0))
        if life is not callee.life or self.now - used_at > IDLE_SECONDS:
            self.connections += 1
            self._count(CONNECTION_BYTES)
        caller.kept[key] = callee.life, self.now

    def _converse(self, caller, callee, action):
        if isinstance(action, Ask):
            self._count(FRAME_BYTES, ["PROBE", action.address], ["PONG"])
            outcome, _ = self._reach(callee, action.address)
            return Silent(is_nack=True) if isinstance(outcome, Silent) else outcome
        if isinstance(action, Probe):
            digest = callee.view.digest()
            self._count(FRAME_BYTES, ["PING"], ["PONG", digest])
            if action.news:
                self._tell(caller, callee, list(action.news))
            return Pong(digest)
        if isinstance(action, Push):
            return Taken(self._tell(caller, callee, list(action.news), action.until))
        synchronise(
            lambda: caller.view,
            lambda theirs: self._absorbed(caller, callee, theirs).answer,
            lambda say: self._turn(caller, callee, say),
        )
        return There()

    def _tell(self, caller, callee, names, until=None):
        """How much of the news was known."""
        telling = exchange.tell(lambda: caller.view, names, caller.wall(), until)
        say = next(telling)
        while True:
            try:
                say = telling.send(self._turn(caller, callee, say))
            except StopIteration as end:
                return end.value["known"]

    def _turn(self, caller, callee, say):
        theirs = exchange.checked(say)
        added = {}
        if exchange.has_news(theirs):
            before = callee.view
            absorbed = self._absorbed(callee, caller, theirs)
            added = absorbed.answer
            if callee.view is not before:
                callee.mind.pass_on(*exchange.to_pass_on(absorbed.names, theirs, caller.name), callee.view, self.now)
        answer = exchange.respond(callee.view, theirs) | added
        self._count(FRAME_BYTES, ["SYNCHRONIZE", say], ["SYNCHRONIZE", answer])
        return exchange.checked(answer)

    def _absorbed(self, listener, talker, theirs):
        before = listener.view
        added = listener.change(lambda view: exchange.absorb(view, theirs, listener.wall(), talker.name, prove))
        if listener.view is not before:
            self.on_change(talker, listener)
        return added

    def _count(self, more, *messages):
        """What goes over the wire: each message in a frame in a record of TLS, `more` for each (or in all)."""
        if self.bytes is not None:
            self.bytes += sum(len(encode(message)) + more for message in messages) if messages else more

    def _note(self, caller, action, outcome):
        words = {"Probe": "PING", "Ask": "PROBE", "Push": "news", "Synchronise": "SYNCHRONIZE"}[type(action).__name__]
        whom = action.helper if isinstance(action, Ask) else action.name or action.address
        about = ""
        if isinstance(action, Ask):
            about = f" {action.name}"
        elif getattr(action, "news", ()):
            view = caller.view
            about = " " + ", ".join(f"{n} {view.records[n].status}" for n in action.news if n in view.records)
        came = type(outcome).__name__.lower()
        self.transcript.append(f"{self.now:7.3f}  {caller.name} -> {whom}: {words}{about}  ({came})")

    # -- what must hold

    def disagreements(self):
        """What is not as it should be once the mesh is quiet: who thinks what of whom."""
        wrong = []
        live = [host for host in self.hosts.values() if host.is_up]
        for host in live:
            statuses = host.statuses()
            for other in self.hosts.values():
                status = statuses.get(other.name)
                if other.is_up and status != "alive":
                    wrong.append(f"{host.name} thinks {other.name} {status}")
                if not other.is_up and status not in (DEAD, LEFT, None):
                    wrong.append(f"{host.name} thinks {other.name} {status}, and it is down")
        if not wrong and len({host.view.digest() for host in live}) > 1:
            wrong.append("digests differ")
        return wrong[:8]

    def is_converged(self):
        """All live nodes know all live nodes as alive, the others as gone, and hold the same view."""
        return not self.disagreements()
