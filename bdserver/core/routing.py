"""The phases of WHEREIS: who serves this client's next call.

  1. ask the holders WILLYOUEXECUTE; this node takes its own turn first with probability 1/(holders+1), else last;
  2. all are overloaded, or the client's policy meets that of none: ask the non-holders WILLYOUREPLICATE; who says YES has the
     service now, and is the answer; where a new edition is on its way, those that have the old one come first;
  3. nobody can: tell a holder YOUWILLEXECUTE, overloaded or not: a client is served late rather than never; and if one that has
     the new edition did not answer, those that have the old one;
  4. nobody is left: ask a holder that is said to be dead. A liar can say so of a node that lives, until that hears of it and
     refutes it, and no client should notice; one that is dead indeed costs a short wait;
  5. CANTFIND.
Only nodes whose policy meets the client's may be named, and no old edition while the new one can be had. Of two random
candidates, the one with the lower load comes first (always the least loaded of all would be a herd's choice); the original had
a fixed order, and so has routing=original; routing=random draws blindly. docs/ROUTING.md has all in figures. Nodes that our
policy or a broken route keeps us from are reached through others by MASSMESSAGE.

Who does not answer within NEXT_SECONDS is waited for while the next one is asked (a hedged request), and the first YES counts:
so one that hangs, and of which nobody knows yet, costs a client a tenth of a second. A YES that comes later was for nobody; to
give it back is the business of whoever asks for us. `ask`, `put` and `hear` are the only ways out of here.

A holder is not asked in its turn when it has promised the call before, or has said how long it has no room, and that time is
not over (core.tickets): so tickets change how many are asked, and not who serves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random
from typing import Any

from bdserver.core import copies, messages, plan, turns
from bdserver.core.address import host_part
from bdserver.core.membership import ALIVE, Copies, Record
from bdserver.core.messages import DontHave, NetFault, No, RelayedYes, Yes
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View
from bdserver.core.weight import FULL_LOAD
from bdserver.errors import BDError, Deadline, NobodyThere, PolicyMismatch, Refused

# ask(name, request, seconds): that node's answer, one of the types in the request's row (this node's own name asks the node
# itself); raises BDError.
Ask = Callable[[str, list[Any], float], Any]
# put(name, request, seconds, patience): as ask; where nothing has come after so many seconds it raises Deadline, and up to
# `patience` seconds, all in all, an answer may still be heard.
Put = Callable[[str, list[Any], float, float], Any]
# hear(seconds): (name, answer) of somebody who has been waited for, as soon as there is one; None when none came in this time,
# or nobody is left who could answer.
Hear = Callable[[float], tuple[str, Any] | None]

# spend(name, service): the YES of a holder that has promised this call before (a ticket); None when it is to be asked.
Spend = Callable[[str, str], Yes | None]

# How --explain names that, where the others' words stand.
TICKET = "TICKET"
# A healthy holder answers in 10 ms. After so long the next one is asked too.
NEXT_SECONDS = 0.1
# Patience with one holder, in seconds: a healthy one answers in 10 ms, a hung one must not eat a client's 5 s.
HOLDER_SECONDS = 0.8
# In phase 3 there is nobody else to turn to: who has more patience than usual is served late rather than not.
LATE_SECONDS = 15.0
# In phase 4, of so many: a node that lives answers in 10 ms, and whoever looks up what nobody has any more waits no longer.
DEAD_SECONDS = 0.4
DEAD_TRIES = 2
# Copying a service takes its time.
REPLICATE_SECONDS = 10.0
REPLICA_TRIES = 3
# Each plan leaves out who the one before found dead.
PLANS_MAX = 3
# The share of the time left that one question may take, so that there is time for others after it.
SHARE = 0.5


class Asked(NamedTuple):
    """One line of --explain: whom, what was said, how many seconds it took."""

    node: str
    answer: str
    seconds: float


class Outcome(NamedTuple):
    """The outcome of a WHEREIS. `word`: YES, CANTFIND or POLICYMISMATCH; with YES, `node` serves at `url`; `why` nobody is
    named, where that is more than the word says."""

    word: str
    node: str = ""
    phase: int = 0
    host: str = ""
    port: int = 0
    web_dir: str = ""
    url: str = ""
    why: str = ""


class Candidates(NamedTuple):
    """Who has a service: all that live, and of these whom a client may be named, this node itself apart."""

    everybody: list[Record]
    own: Record | None
    others: list[Record]


def candidates(view: View, service: str, suits: Callable[[Record], bool]) -> Candidates:
    """As `view` has it; nobody with an old edition while the new one is to be had."""
    everybody = view.holders(service)
    suitable = [record for record in copies.current(view, service, everybody) if suits(record)]
    own = next((record for record in suitable if record.name == view.me), None)
    return Candidates(everybody, own, [record for record in suitable if record.name != view.me])


class Question(NamedTuple):
    """What a WHEREIS needs of the world, whatever service it is for: so one serves many.

    `suits(record)`: the client's policy meets that node's; `talkable(record)`: our own policy lets us call it;
    `can_talk(a, b)`: the policies of these two nodes meet; `left()`: seconds until the deadline; `clock()`: seconds;
    `order(records, rng)`: in which order candidates are asked, one of ORDERS."""

    view: View
    suits: Callable[[Record], bool]
    talkable: Callable[[Record], bool]
    can_talk: Callable[[str, str], bool]
    ask: Ask
    left: Callable[[], float]
    clock: Callable[[], float]
    rng: Random
    order: Callable[[Iterable[Record], Random], list[Record]]
    put: Put | None = None  # None: nobody answers later than in time
    hear: Hear = lambda seconds: None
    spend: Spend = lambda name, service: None
    is_refused: Callable[[str, str], bool] = lambda name, service: False  # has said a moment ago that it has no room yet
    doubted: Collection[str] = ()  # were silent a moment ago, and the view does not say so yet: they come last
    known: dict[str, Candidates] | None = None  # what was found in this very view with the same `suits`, by service


class Search:
    """One WHEREIS under way, and what was learnt on it."""

    def __init__(self, question: Question, service: str) -> None:
        self.q, self.service = question, service
        self.asked: list[Asked] = []
        self.unreached: set[str] = set()  # not to be had from here, perhaps through others
        self.gone: list[str] = []  # nobody there: they should be suspected
        self.silent: set[str] = set()  # of these, who did not even refuse: a busy host, perhaps
        self.mistaken: list[str] = []  # said DONTHAVE: our view of them is old
        self.is_overloaded = False  # somebody said NO
        self.takes_old = False  # an old edition is better than none
        self._waiting: dict[str, float] = {}  # who may still answer, and since when

    def whereis(self) -> Outcome:
        """Run through the phases until one says YES."""
        found = self._among_the_living()
        return found if found.word == "YES" else self._among_the_dead() or found

    def _among_the_dead(self) -> Outcome | None:
        dead = [record for record in self.q.view.dead_holders(self.service) if self.q.suits(record) and self.q.talkable(record)]
        self.q.rng.shuffle(dead)
        for record in dead[:DEAD_TRIES]:
            if self.q.left() > 0 and (found := self._ask(4, "YOUWILLEXECUTE", record, DEAD_SECONDS)):
                return found
        return None

    def _among_the_living(self) -> Outcome:
        view, service = self.q.view, self.service
        known = self.q.known
        found_before = known.get(service) if known is not None else None
        everybody, own, suitable = found_before or candidates(view, service, self.q.suits)
        if not everybody:
            return Outcome("CANTFIND")
        if known is not None and found_before is None:
            known[service] = Candidates(everybody, own, suitable)
        is_kept_from_all = own is None and not suitable
        self.is_overloaded = any(record.draining for record in suitable)
        found = self._phase(1, "WILLYOUEXECUTE", own, _undrained(suitable), HOLDER_SECONDS)
        if found is None and (self.is_overloaded or is_kept_from_all):
            found = self._replicate(everybody)
        if found is None:
            suitable = [record for record in suitable if record.name not in self.mistaken]
            self.unreached -= self.silent  # late rather than never: they get what time is left
            found = self._phase(3, "YOUWILLEXECUTE", own, suitable, LATE_SECONDS)
        if found is None and self.gone:
            found = self._among_the_old(everybody)
        if found is None and is_kept_from_all:
            return Outcome("POLICYMISMATCH", why=self._why_no_copy(everybody))
        return found or Outcome("CANTFIND")

    def _among_the_old(self, everybody: list[Record]) -> Outcome | None:
        """Who has the new edition is not to be had after all, though not all know yet: whoever has the old one."""
        view, service = self.q.view, self.service
        current = copies.current(view, service, everybody)
        old = [record for record in everybody if record not in current and self.q.suits(record)]
        own = next((record for record in old if record.name == view.me), None)
        self.takes_old = True
        return self._phase(3, "YOUWILLEXECUTE", own, [record for record in old if record is not own], HOLDER_SECONDS)

    def _replicate(self, holders: list[Record]) -> Outcome | None:
        """Whoever has not got the new edition yet needs no slot for it, and comes first."""
        if not any(record.services[self.service].replicable for record in holders):
            return None
        view = self.q.view
        takers = [record for record in [*_undrained(view.others_there()), view.own] if self._may_take(record)]
        own = view.own if view.own in takers else None
        others = [record for record in takers if record is not own]
        return self._phase(2, "WILLYOUREPLICATE", own, others, REPLICATE_SECONDS, REPLICA_TRIES)

    def _may_take(self, record: Record) -> bool:
        view, service = self.q.view, self.service
        has_it = service in record.services and copies.may_serve(view, service, record.services[service])
        return not has_it and self.q.suits(record) and turns.may_have(view, service, record, self.q.can_talk)

    def _why_no_copy(self, holders: list[Record]) -> str:
        """Why a client whose policy meets that of no holder was not served by a copy."""
        if not any(record.services[self.service].replicable for record in holders):
            return "it is registered by its url, and can't be copied"
        match turns.terms(self.q.view, self.service):
            case Copies.NONE:
                return "it may not be copied (copies=none)"
            case Copies.MEETING:
                return "no node that you may talk to may have a copy (copies=meeting)"
        return "no node that you may talk to has room for a copy"

    def _phase(
        self, phase: int, command: str, own: Record | None, others: list[Record], seconds: float, tries: int = 1000
    ) -> Outcome | None:
        """Ask one after the other, this node in its turn, then those that are out of our reach through others."""
        near = [record for record in others if self.q.talkable(record) and record.name not in self.unreached]
        turn = self.q.order(near, self.q.rng) if near else []
        if phase == 2:  # who has room comes first, who would have to retire a replica later
            has_old = self.service
            turn.sort(key=lambda r: (has_old not in r.services, r.load > FULL_LOAD, r.free_dynamic <= 0))
        if self.q.doubted:
            turn.sort(key=lambda record: record.name in self.q.doubted)
        if phase == 1:
            turn = self._unrefused(turn)
        turn = turn[:tries]
        if own is not None:
            turn.insert(0 if self.q.rng.random() * (len(others) + 1) < 1 else len(turn), own)
        in_turn = self._one_by_one if phase == 2 or self.q.put is None else self._hedged
        found = in_turn(phase, command, turn, seconds)
        if found or not others:
            return found
        far = [record for record in others if record.name in self.unreached or not self.q.talkable(record)]
        return self._ask_through_others(phase, command, far, seconds) if far else None

    def _unrefused(self, turn: list[Record]) -> list[Record]:
        """Without those whose NO still holds, as if they had said it now."""
        left = [record for record in turn if not self.q.is_refused(record.name, self.service)]
        self.is_overloaded |= len(left) < len(turn)
        return left

    def _one_by_one(self, phase: int, command: str, turn: list[Record], seconds: float) -> Outcome | None:
        for record in turn:
            if found := self._ask(phase, command, record, seconds):
                return found
        return None

    def _hedged(self, phase: int, command: str, turn: list[Record], seconds: float) -> Outcome | None:
        """Each has NEXT_SECONDS before the next one is asked, and `seconds` in the end."""
        unasked: list[Record] = []  # could not even be asked so quickly
        for record in turn:
            if phase == 1 and (ticket := self._spend(record)):
                return ticket
            if record is turn[-1] and not self._waiting:  # nobody comes after it: no call is to be broken off and made anew
                found = self._ask(phase, command, record, seconds)
            else:
                found = self._put(phase, command, record, seconds) or self._late(phase, self.q.clock())
                if record.name in self.silent and record.name not in self._waiting:
                    unasked.append(record)
            if found:
                return found
        patience = min(seconds, self.q.left() * SHARE) - NEXT_SECONDS
        return self._late(phase, self.q.clock() + patience) or self._one_by_one(phase, command, unasked, seconds)

    def _spend(self, record: Record) -> Outcome | None:
        promised = self.q.spend(record.name, self.service)
        if promised is None:
            return None
        self.asked.append(Asked(record.name, TICKET, 0.0))
        return found_at(record, 1, promised)

    def _put(self, phase: int, command: str, record: Record, seconds: float) -> Outcome | None:
        """Ask one that is waited for when its answer does not come at once."""
        put, started = self.q.put, self.q.clock()
        assert put is not None

        def ask(name: str, request: list[Any], patience: float) -> Any:
            try:
                return put(name, request, min(NEXT_SECONDS, patience), patience)
            except Deadline:
                self._waiting[name] = started
                raise

        return self._judged(phase, record, self._say(record.name, self._message(command), seconds, ask))

    def _late(self, phase: int, until: float) -> Outcome | None:
        """What those say who have been waited for, up to that time."""
        while self._waiting and (heard := self.q.hear(max(until - self.q.clock(), 0.0))) is not None:
            name, answer = heard
            self.unreached.discard(name)
            self.silent.discard(name)
            self.gone = [each for each in self.gone if each != name]
            self.asked.append(Asked(name, messages.word_of(answer), self.q.clock() - self._waiting.pop(name)))
            if found := self._judged(phase, self.q.view.records[name], answer):
                return found
        return None

    def _ask(self, phase: int, command: str, record: Record, seconds: float) -> Outcome | None:
        return self._judged(phase, record, self._say(record.name, self._message(command), seconds, self.q.ask))

    def _judged(self, phase: int, record: Record, answer: Any) -> Outcome | None:
        if isinstance(answer, Yes):
            return found_at(record, phase, answer)
        if isinstance(answer, No):
            self.is_overloaded = True
        elif isinstance(answer, DontHave):
            self.mistaken.append(record.name)
        return None

    def _ask_through_others(self, phase: int, command: str, far: list[Record], seconds: float) -> Outcome | None:
        """Plan a tree and ask along it; a node that turns out dead may have cut off others: plan again without it."""
        dead: set[str] = set()
        for _ in range(PLANS_MAX):
            known_dead = len(dead)
            far = [record for record in far if record.name not in dead]
            found = self._ask_along_a_plan(phase, command, far, dead, seconds) if far else None
            if found or len(dead) == known_dead:
                return found
        return None

    def _ask_along_a_plan(self, phase: int, command: str, far: list[Record], dead: set[str], seconds: float) -> Outcome | None:
        view = self.q.view
        far = far[: plan.RECIPIENTS_MAX]
        recipients = [record.name for record in far]
        cut_off = {record.name for record in far if self.q.talkable(record)}  # talkable, and yet not reached
        there = [r.name for r in view.others_there() if r.name not in dead and (r in far or r.name not in self.unreached)]

        def has_edge(a: str, b: str) -> bool:
            is_cut = view.me in (a, b) and (a in cut_off or b in cut_off)
            return not is_cut and self.q.can_talk(a, b)

        tree = plan.tree(view.me, there, recipients, has_edge, self.q.rng)
        message = self._message(command)
        for relay in tree[plan.SELF]:
            request = ["MASSMESSAGE", plan.branch(tree, relay), recipients, message]
            answer = self._say(relay, request, seconds * 2, self.q.ask)
            match answer:
                case RelayedYes(_, port, web_dir, url, name) if name in view.records:
                    return found_at(view.records[name], phase, Yes(port, web_dir, url))
                case No() | NetFault(_, "NO"):
                    self.is_overloaded = True
            if relay in self.unreached:
                dead.add(relay)
            elif isinstance(answer, NetFault):
                dead.update(name for name in answer.names if name in view.records)
        self.unreached |= dead
        return None

    def _message(self, command: str) -> list[Any]:
        return [command, self.service, *([True] if self.takes_old else [])]

    def _say(self, name: str, request: list[Any], seconds: float, ask: Ask) -> Any:
        """Ask, and note each node's word and its silence, for which None stands."""
        started = self.q.clock()
        left = self.q.left()
        if left <= 0:
            raise Deadline(f"no time left to ask {name}; asked before: {len(self.asked)}")
        answer = None
        try:
            answer = ask(name, request, min(seconds, left * SHARE))
            word = messages.word_of(answer)
        except BDError as error:
            word = error.code
            if isinstance(error, NobodyThere | Deadline | PolicyMismatch):
                self.unreached.add(name)
            if isinstance(error, NobodyThere | Deadline):
                self.gone.append(name)
                if not isinstance(error, Refused):
                    self.silent.add(name)
        self.asked.append(Asked(name, word, self.q.clock() - started))
        return answer


def fixed(candidates: Iterable[Record], rng: Random) -> list[Record]:
    """The original's order, always the same: fill one, then the next; suspects last."""
    return sorted(candidates, key=lambda record: (record.status != ALIVE, record.name))


def blind(candidates: Iterable[Record], rng: Random) -> list[Record]:
    """Drawn blindly; suspects last."""
    turn = list(candidates)
    rng.shuffle(turn)
    turn.sort(key=lambda record: record.status != ALIVE)
    return turn


def ordered(candidates: Iterable[Record], rng: Random) -> list[Record]:
    """Candidates in the order of asking: again and again the less loaded of two random ones; suspects last."""
    remaining = list(candidates)
    rng.shuffle(remaining)
    turn: list[Record] = []
    while remaining:
        a, b = len(remaining) - 1, rng.randrange(max(len(remaining) - 1, 1))
        turn.append(remaining.pop(a if remaining[a].load <= remaining[b].load else b))
    turn.sort(key=lambda record: record.status != ALIVE)
    return turn


# The values of the setting `routing`.
ORDERS = {"measured": ordered, "original": fixed, "random": blind}


def _undrained(records: list[Record]) -> list[Record]:
    return [record for record in records if not record.draining]


def found_at(record: Record, phase: int, said: Yes) -> Outcome:
    """This node serves, as it has said."""
    return Outcome("YES", record.name, phase, host_part(record.address), said.axis_port, said.web_dir, said.url)
