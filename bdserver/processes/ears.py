"""What the discoverer answers other nodes, on the socket for news: PING, PROBE, SYNCHRONIZE.

Exchanges that came together are taken into the view together: one lock and one line in the cache file for all of them. What
they tell is proved first, within the budget of each caller (tellers).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from bdserver import errors
from bdserver.core import exchange, messages
from bdserver.core.messages import Exchanged, No, NoPong, Pong
from bdserver.core.roles import NODE
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View
from bdserver.errors import BDError, NoSuchCommand, PolicyMismatch, TooBusy
from bdserver.processes.callers import Caller, Slot
from bdserver.processes.node import Node
from bdserver.processes.talks import LOCK_SECONDS
from bdserver.processes.tellers import Tellers

# pass_on(names, until, view, clock): as core.gossip's Discovery.
PassOn = Callable[[list[str], str, View, float], None]
# ping(name, done): PING that node; done(Pong or BDError).
Ping = Callable[[str, Callable[[Any], None]], None]

log = logging.getLogger("bdserver.ears")


class _Heard(NamedTuple):
    """An exchange that came; once it is taken in: what became of it, and whether it was news."""

    caller: Caller
    theirs: exchange.Exchange
    slot: Slot
    absorbed: exchange.Absorbed = exchange.Absorbed({})
    is_news: bool = False


class Ears:
    """`pass_on` hears what is to be told on around the ring, `ping` asks a node in another one's place."""

    def __init__(self, node: Node, pass_on: PassOn, ping: Ping, tellers: Tellers | None = None) -> None:
        self.node, self._pass_on, self._ping = node, pass_on, ping
        self._tellers = tellers or Tellers(node)
        self._inbox: list[_Heard] = []

    def answer(self, caller: Caller, message: Any, slot: Slot) -> None:
        """Fill the slot, now or later. BDError is an answer too."""
        row, arguments = messages.check(message, NODE, self.node.settings.protocol)
        if messages.NEWS not in row.ports:
            raise NoSuchCommand(f"{row.name} is answered at {self.node.address}")
        match row.name:
            case "PING":
                slot.fill(Pong(self.node.cache.view().digest()))
            case "PROBE":
                self._probe(arguments[0], slot)
            case "SYNCHRONIZE":
                self._hear(_Heard(caller, exchange.checked(arguments[0]), slot))
            case name:
                raise AssertionError(f"{name} should be answered here")

    def _hear(self, heard: _Heard) -> None:
        name, theirs = heard.caller.link.name, heard.theirs
        if theirs.get("records") and self._tellers.is_spent(name):
            heard.slot.fill(No())
            return
        if "refused" in theirs:
            self.node.heard.note_refusal(name, theirs["refused"])
        self._inbox.append(heard)

    def _probe(self, address: str, slot: Slot) -> None:
        """PING a node that the caller could not reach: one that is known, lest we be anybody's port scanner."""
        record = self.node.cache.view().at_address(address)
        if record is None:
            slot.fill(NoPong(errors.NobodyThere.code, "no node of this mesh is known at that address"))
            return

        def done(result: Any) -> None:
            if isinstance(result, BDError) and not isinstance(result, PolicyMismatch | TooBusy):
                code = errors.Refused.code if isinstance(result, errors.Refused) else errors.NobodyThere.code
                slot.fill(NoPong(code, "it does not answer here either"))
            else:
                slot.fill(Pong())

        self._ping(record.name, done)

    def flush(self) -> None:
        """At the end of a turn: take in what came, and answer."""
        inbox, self._inbox = self._inbox, []
        if not inbox:
            return
        try:
            inbox = self._taken_in(inbox)
        except BDError as error:  # the lock is not to be had, or there is no room for one
            log.log(logging.DEBUG if isinstance(error, TooBusy) else logging.WARNING, "%s: nothing is taken in", error)
            for heard in inbox:
                heard.slot.fill(No())
            return
        except Exception:
            log.exception("taking in %d exchanges", len(inbox))
            for heard in inbox:
                heard.slot.fill(messages.Error(BDError.code, f"that met a bug of {self.node.name}: see its log"))
            return
        view = self.node.cache.view()
        for heard in inbox:
            with heard.caller.at_work():
                heard.slot.fill(Exchanged(self._answer(view, heard)))
            if heard.is_news:
                names, until = exchange.to_pass_on(heard.absorbed.names, heard.theirs, heard.caller.link.name)
                if names:
                    self._pass_on(names, until, view, time.monotonic())

    def _taken_in(self, inbox: list[_Heard]) -> list[_Heard]:
        if not any(exchange.has_news(heard.theirs) for heard in inbox):
            return inbox
        now, taken = self.node.clock(), []
        with self.node.cache.locked(LOCK_SECONDS) as view:
            for heard in inbox:
                before, name = view.changes, heard.caller.link.name
                prove, guard = self._tellers.prove_for(name), self._tellers.guard_for(name)
                with heard.caller.at_work():
                    vouch = self.node.proofs.vouch
                    absorbed = exchange.absorb(view, heard.theirs, now, name, prove, guard, vouch)
                self._tellers.took(name, absorbed)
                taken.append(heard._replace(absorbed=absorbed, is_news=view.changes > before))
        return taken

    def _answer(self, view: View, heard: _Heard) -> exchange.Exchange:
        answer = exchange.respond(view, heard.theirs)
        if "digest" in answer and answer["digest"] == heard.theirs["digest"]:  # it has our record as we have it
            self.node.heard.note_refusal(heard.caller.link.name, "")
        is_round = "digest" in heard.theirs
        return answer | heard.absorbed.answer | ({"now": round(self.node.clock(), 1)} if is_round else {})
