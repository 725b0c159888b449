"""The mesh in memory, with processor time: hosts that share machines of so many cores, and messages that cost what they cost.

Each step of a node (a turn of its loop, a message told, heard, answered, a handshake) takes processor time of its machine, in
the order in which it became due; a node does one thing at a time, and of the nodes of a machine as many run at once as it has
cores. So what is late here is late for want of time, as on a real machine that runs too much.

`heedless` is how a mesh behaves without `core.gossip.patience`, and with connections that are given up when an answer is late,
as ours were once: a test shows that it collapses where the other one does not.
"""

from collections import deque

from bdserver.core.gossip.actions import Ask, Probe, Push, Refused, Silent, Synchronise, There
from bdserver.core.gossip.patience import Lag, Patience
from tests.simulation.mesh import SYNCHRONISE_SECONDS, Host, Net

# Seconds of a core, as `tests.bench` measured them (change_cost, and a node's profile at rest) on two cores of 2026.
TURN, TOLD, ANSWERED, PINGED, HEARD, RECORD = 0.00015, 0.00015, 0.0001, 0.0002, 0.0005, 0.00005
HANDSHAKE = 0.0015  # at either end
START = 0.25  # of a process: Python and what it imports
NETWORK_SECONDS = 0.0002
# After so long it is another one's turn on this core, as the kernel has it.
SLICE = 0.004


class Machine:
    """So many cores, and the hosts that wait for one."""

    def __init__(self, net, cores):
        self.net, self.free = net, cores
        self._ready = deque()

    def ready(self, host):
        """A host has something to do."""
        self._ready.append(host)
        self._run()

    def _run(self):
        while self.free and self._ready:
            self.free -= 1
            host = self._ready.popleft()
            seconds, do = host.work.popleft()
            self.net.at(self.net.now + seconds, self._ran, host, do)

    def _ran(self, host, do):
        self.free += 1
        do()
        if host.work:
            self._ready.append(host)
        else:
            host.is_busy = False
        self._run()


class BusyHost(Host):
    """A node whose steps take processor time."""

    def __init__(self, net, name, machine):
        super().__init__(net, name)
        self.machine, self.work, self.is_busy = machine, deque(), False
        self._is_turning = False

    def spend(self, seconds, do, *arguments):
        """Have this done after so much processor time, unless the process has ended by then."""
        life = self.life

        def alive():
            if self.is_up and self.life is life:
                do(*arguments)

        seconds *= self.net.slowness
        for _ in range(int(seconds / SLICE)):
            self.work.append((SLICE, lambda: None))
        self.work.append((seconds % SLICE, alive))
        if not self.is_busy:
            self.is_busy = True
            self.machine.ready(self)

    def start(self, hints=(), forget=False):
        super().start(hints, forget)
        if self.net.is_heedless:
            self.mind = _heedless(self.mind)

    def begin(self, hints):
        """Start the process as on a real machine: that takes processor time first."""
        self.is_up, self.life = True, object()
        self.spend(START, self.start, hints)

    def _act(self, life):
        if self.is_up and life is self.life and not self._is_turning:
            self._is_turning = True
            self.spend(TURN, self._turned, life)

    def _turned(self, life):
        self._is_turning = False
        super()._act(life)

    def stop(self):
        super().stop()
        self._is_turning = False


class BusyNet(Net):
    """`machines` machines of `cores` cores, the hosts spread over them in turn; `slowness`: how much longer all takes there."""

    def __init__(self, seed, machines=1, cores=2, slowness=1.0, is_heedless=False):
        super().__init__(seed, has_transcript=False)
        self.is_heedless, self.slowness = is_heedless, slowness
        self.machines = [Machine(self, cores) for _ in range(machines)]
        self.given_up = 0  # answers that came when nobody waited any more

    def add(self, count):
        first = len(self.hosts)
        for number in range(first, first + count):
            host = BusyHost(self, f"n{number}", self.machines[number % len(self.machines)])
            self.hosts[host.name] = self._by_address[host.address] = host
        return list(self.hosts.values())[first:]

    def carry_out(self, caller, action):
        self.messages += 1
        caller.spend(TOLD, self._say, caller, action)

    def _say(self, caller, action):
        address = action.helper_address if isinstance(action, Ask) else action.address
        outcome, callee = self._reach(caller, address)
        wanted = action.helper if isinstance(action, Ask) else action.name
        talk = _Talk(self, caller, action)
        if callee is not None and wanted not in (None, callee.name):
            outcome, callee = Refused(), None
        if callee is None:
            if isinstance(outcome, Refused):
                talk.over(Silent() if isinstance(action, Ask) else outcome)
            return
        handshake = self._handshake(caller, callee, action)
        if handshake:
            caller.spend(handshake, lambda: None)
        self.at(self.now + NETWORK_SECONDS, callee.spend, handshake + _cost(caller, action), self._heard, talk, callee)

    def _handshake(self, caller, callee, action):
        before = self.connections
        self._connect(caller, callee, action)
        return HANDSHAKE if self.connections > before else 0.0

    def _heard(self, talk, callee):
        """The callee has come to it: what it does to both views is done at this instant, as in `Net`."""
        if not talk.caller.is_up or talk.caller.life is not talk.life:
            return
        action = talk.action
        if isinstance(action, Ask):  # the helper tries it in its turn
            target = self._by_address.get(action.address)
            if target is None or not target.is_up:
                talk.over(Refused())
            else:
                self.at(self.now + NETWORK_SECONDS, target.spend, PINGED, talk.over, There())
            return
        talk.over(self._converse(talk.caller, callee, action))


class _Talk:
    """One action that is under way: its outcome, or that it is late, reaches the caller when that has time for it."""

    def __init__(self, net, caller, action):
        self.net, self.caller, self.action, self.life = net, caller, action, caller.life
        self._is_told = False
        seconds = 2 * action.seconds if isinstance(action, Ask) else getattr(action, "seconds", SYNCHRONISE_SECONDS)
        net.at(net.now + seconds, self._late)

    def over(self, outcome):
        """It was answered, or refused."""
        self.net.at(self.net.now + NETWORK_SECONDS, self.caller.spend, ANSWERED, self._tell, outcome)

    def _late(self):
        if not self._is_told and self.caller.is_up and self.caller.life is self.life:
            self.caller.spend(0.0, self._tell, Silent(), True)

    def _tell(self, outcome, is_late=False):
        caller, name = self.caller, getattr(self.action, "name", None)
        if not self._is_told:
            self._is_told = True
            caller.done(self.life, self.action, outcome)
            if is_late and self.net.is_heedless:  # the connection is given up
                caller.kept.pop((name, isinstance(self.action, Ask)), None)
        elif not is_late:
            self.net.given_up += 1
            if name is not None and not isinstance(self.action, Ask) and not self.net.is_heedless:
                caller.mind.came_late(name, self.net.now)


def _cost(caller, action):
    match action:
        case Push() | Probe():
            return (PINGED if isinstance(action, Probe) else 0.0) + (HEARD + RECORD * len(action.news) if action.news else 0.0)
        case Synchronise():
            return 2 * HEARD + RECORD * len(caller.view.records)
        case _:
            return PINGED


class _NoLag(Lag):
    def note(self, late, clock):
        pass


class _NoPatience(Patience):
    of_others = seconds = lambda self, least, name="": least


def _heedless(mind):
    """The same mind, which does not notice that anything is late."""
    mind.awareness.lag = _NoLag()
    mind.patience = mind.watch.patience = _NoPatience(mind.awareness)
    return mind
