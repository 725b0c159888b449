"""What the discoverer says to other nodes: each action of core.gossip as a talk on one of its lines, and what came of it.

A talk is a generator (see lines): it reads top to bottom as if it waited. What it hears it takes into the view at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, assert_never

from bdserver import errors
from bdserver.core import exchange, membership
from bdserver.core.address import host_part
from bdserver.core.gossip.actions import Action, Ask, Outcome, Probe, Push, Refused, Silent, Synchronise, Taken, There
from bdserver.core.membership import SUSPECT
from bdserver.core.messages import No, Pong
from bdserver.core.view import View
from bdserver.errors import BDError, PolicyMismatch, TooBusy
from bdserver.processes.line import Talk
from bdserver.processes.lines import Lines, Ourselves
from bdserver.processes.node import Node
from bdserver.processes.tellers import Tellers

SYNCHRONISE_SECONDS = 5.0
# For a PING at a hinted address, which tells where that node hears news.
ENTRANCE_SECONDS = 3.0
# The lock of the cache is held for milliseconds; the loop has no more patience than this.
LOCK_SECONDS = 0.2

# done(action, outcome)
Done = Callable[[Action, Outcome], None]


class Talks:
    """`done(action, outcome)` hears what came of each action that was started."""

    def __init__(self, node: Node, lines: Lines, done: Done, tellers: Tellers | None = None) -> None:
        self.node, self.lines, self.done = node, lines, done
        self._tellers = tellers or Tellers(node)

    def start(self, action: Action) -> None:
        """Carry it out; its outcome comes later, or at once."""
        match action:
            case Probe():
                self._begin(action, self._probe(action), action.name, action.seconds, is_slow=self._is_suspect(action.name))
            case Ask():
                self._begin(action, self._ask(action), action.helper, 2 * action.seconds, is_slow=True)
            case Push():
                self._begin(action, self._push(action), action.name, action.seconds)
            case Synchronise(name, address):
                if name is None:
                    self._enter(action, address)
                else:
                    self._begin(action, self._synchronise(name), name, self.lines.patience(SYNCHRONISE_SECONDS))
            case _:
                assert_never(action)

    def _begin(self, action: Action, talk: Talk, name: str, seconds: float, is_slow: bool = False) -> None:
        record = self._view().records.get(name)
        if record is None:
            self.done(action, Silent(reason=f"{name} is not known any more"))
            return

        def done(result: Any) -> None:
            if not isinstance(action, Ask):
                self._note(name, result)
            self.done(action, _outcome(action, result))

        self.lines.start(talk, membership.gossip_address(record), name, seconds, done, is_slow)

    def _enter(self, action: Synchronise, address: str) -> None:
        """A hinted address is that of callers: the node there says in its PONG where it hears news. From the port for news
        itself it says nothing of it."""

        def done(result: Any) -> None:
            self._note(address, result)
            self.done(action, _outcome(action, result))

        def entered(result: Any) -> None:
            if not isinstance(result, Pong):
                done(result)
                return
            ears = address
            if result.gossip_port:
                self.lines.let_go(address)
                ears = f"{host_part(address)}:{result.gossip_port}"
            self.lines.start(self._synchronise(address), ears, None, self.lines.patience(SYNCHRONISE_SECONDS), done)

        self.lines.start(ping(), address, None, self.lines.patience(ENTRANCE_SECONDS), entered)

    def _note(self, whom: str, result: Any) -> None:
        """What came of a visit, for a person who wonders why nobody is met."""
        is_met = not isinstance(result, BDError) or isinstance(result, TooBusy | Ourselves)
        self.node.heard.note_visit(whom, *(("", "") if is_met else (result.code, str(result))))

    def _is_suspect(self, name: str) -> bool:
        """A suspect is asked on another line than the usual one, which may be broken without a word."""
        record = self._view().records.get(name)
        return record is not None and record.status == SUSPECT

    def _view(self) -> View:
        return self.node.cache.view()

    # -- the talks

    def _probe(self, probe: Probe) -> Talk:
        pong = yield ["PING"]
        if probe.news:
            with contextlib.suppress(BDError):  # it lives, whatever becomes of the news: others tell it too
                yield from self._tell(probe.name, probe.news)
        return pong

    def _ask(self, ask: Ask) -> Talk:
        said = yield ["PROBE", ask.address]
        if isinstance(said, Pong):
            return There()
        if said.code == errors.Refused.code:
            return Refused(f"{ask.helper} was refused too")
        return Silent(is_nack=True, reason=f"{ask.helper} did not reach it either")

    def _push(self, push: Push) -> Talk:
        return Taken((yield from self._tell(push.name, push.news, push.until)))

    def _tell(self, whom: str, names: tuple[str, ...], until: str | None = None) -> Generator[list[Any], Any, int]:
        """The records of these names; how many of them were known there."""
        telling = exchange.tell(self._view, list(names), self.node.clock(), until)
        say = next(telling)
        while True:
            theirs = _heard((yield ["SYNCHRONIZE", say]))
            try:
                say = telling.send(theirs)
            except StopIteration as end:
                if self.node.name in names:
                    self.node.heard.note_refusal(whom, end.value.get("refused", ""))
                known: int = end.value["known"]
                return known

    def _synchronise(self, whom: str) -> Talk:
        """`whom`: the node's name, or its address while we know no more."""
        turns = exchange.turns(self._view, lambda theirs: self._take(whom, theirs))
        say, refused, ahead = next(turns), "", None
        while True:
            theirs = _heard((yield ["SYNCHRONIZE", say]))
            if "now" in theirs:  # a round trip later than it was said, which is much less than what is worth a word
                ahead = self.node.clock() - theirs["now"]
            refused = theirs.get("refused", refused)
            is_alike = theirs.get("digest") == say.get("digest", "")
            try:
                say = turns.send(theirs)
            except StopIteration:
                name = self._name_at(whom)
                if ahead is not None:
                    self.node.heard.note_clock(name, ahead)
                if refused or is_alike:
                    self.node.heard.note_refusal(name, refused)
                return There()

    def _name_at(self, whom: str) -> str:
        """Of whom we only knew the address we may know the name by now."""
        record = self._view().at_address(whom)
        return record.name if record is not None else whom

    def _take(self, whom: str, theirs: exchange.Exchange) -> exchange.Exchange:
        if theirs.get("records") and self._tellers.is_spent(whom):
            raise TooBusy(f"{whom} has told too much for a minute")
        with self.node.cache.locked(LOCK_SECONDS) as view:
            prove = self._tellers.prove_for(whom)
            guard, vouch = self._tellers.guard_for(whom), self.node.proofs.vouch
            absorbed = exchange.absorb(view, theirs, self.node.clock(), whom, prove, guard, vouch)
        self._tellers.took(whom, absorbed)
        return absorbed.answer


def ping() -> Talk:
    """One PING; its Pong."""
    return (yield ["PING"])


def _heard(said: Any) -> exchange.Exchange:
    if isinstance(said, No):
        raise TooBusy("it has no time for an exchange")
    return exchange.checked(said.exchange)


def _outcome(action: Action, result: Any) -> Outcome:
    """What a talk's result, or the error that ended it, says of the node that the action is about."""
    if not isinstance(result, BDError):
        outcome: Outcome = result
        return outcome
    if isinstance(result, Ourselves):  # a hint at this node: it is asked again after a long while, and that is all
        return Silent()
    is_alive = isinstance(result, PolicyMismatch | TooBusy)
    if isinstance(action, Ask):  # whatever it says of the helper, it says nothing of the node in doubt
        return Silent(is_alive, str(result))
    if is_alive:
        return There()
    return Refused(str(result)) if isinstance(result, errors.Refused) else Silent(reason=str(result))
