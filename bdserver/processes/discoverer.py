"""The discoverer: asks core.gossip what to do, does it, and writes what came of it into the cache.

A process of its own beside the listener, which ends when its listener is gone. Its loop alone decides: the mind, the chores
and the states that were said belong to it, and so does writing verdicts. Conversations run in a few threads, with no lock held.
A thread may touch `Talker`, the node's cache, keys and settings (which are replaced, never changed), and hands everything else
to the loop through `Wakeup`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import select
import signal
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import assert_never

import setproctitle

from bdserver import errors
from bdserver.core import exchange, nudges
from bdserver.core.gossip.actions import (
    IDLE_SECONDS,
    Action,
    Ask,
    Outcome,
    Probe,
    Push,
    Refused,
    Silent,
    Synchronise,
    Taken,
    There,
    Verdict,
    is_there,
)
from bdserver.core.gossip.discovery import Discovery
from bdserver.core.gossip.rounds import Rhythm
from bdserver.core.membership import Record
from bdserver.core.messages import No, Pong
from bdserver.core.view import View
from bdserver.errors import BDError, PolicyMismatch, TooBusy
from bdserver.net.connections import Connections
from bdserver.net.conversation import Conversation
from bdserver.processes import reload
from bdserver.processes.chores import Chores, States
from bdserver.processes.node import Node
from bdserver.processes.wakeup import Wakeup

# A probe, its three helpers, a round and some pushes: what a node has to say at once.
THREADS = 12
# The watch and those that are told the news: log2 of the nodes of a mesh, and some that were before the last change.
KEPT_MAX = 32
SYNCHRONISE_SECONDS = 5.0
PUSH_SECONDS = 2.0

log = logging.getLogger("bdserver.discoverer")


def run(node: Node, wake_descriptor: int, life_descriptor: int) -> None:
    """Until the other end of the life descriptor is closed, that is until the listener is gone, whatever killed it."""
    setproctitle.setproctitle(f"bdserverd: discoverer of {node.name} at {node.address}")
    Discoverer(node, wake_descriptor, life_descriptor).run()


class Discoverer:
    """The loop."""

    def __init__(self, node: Node, wake_descriptor: int, life_descriptor: int):
        self.node = node
        self._wake, self._life = wake_descriptor, life_descriptor
        self._wakeup, self._states = Wakeup(), States()
        self._talker = Talker(node)
        self._pool = ThreadPoolExecutor(THREADS)  # a thread more is started when all of them talk
        self._chores = Chores(node, self._states, self._wakeup.call)
        self._is_reload_due = False
        self._view = node.cache.view()
        self._mind = Discovery(
            node.name,
            Rhythm(node.settings.probe_interval, node.settings.round_min, node.settings.round_max),
            node.rng,
            time.monotonic(),
            self._hints,
            self._forbids,
        )

    def _hints(self) -> Iterable[str]:
        """The settings' hints as they are now: SIGHUP may change them."""
        return (hint for hint in self.node.settings.hints if hint != self.node.address)

    def _forbids(self, record: Record) -> bool:
        return not self.node.policies.talkable(self._view, record)

    def run(self) -> None:
        """Turn until the listener is gone."""
        self._wakeup.catch_signals()
        signal.signal(signal.SIGHUP, self._note_reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])  # one that came since the fork comes now
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a group's SIGTERM is the listener's business
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while self.turn():
            pass
        log.info("the listener is gone: ending")

    def turn(self) -> bool:
        """Do what is due, and wait until something happens or is due; False when the listener is gone."""
        if self._is_reload_due:
            self._reload()
        self._chores.due(time.monotonic(), self.node.clock())
        self._talker.connections.close_idle(IDLE_SECONDS)
        view = self._look()
        for action in self._mind.due(view, time.monotonic(), self._chores.weight, self.node.settings.receiver_threshold):
            self._start(action)
        self._write(self._mind.verdicts(view, time.monotonic()))
        readable = self._wait(view)
        if self._life in readable:
            return False
        if self._wake in readable:
            self._take_nudges()
        for name in self._talker.connections.close_hung_up(readable):
            self._mind.hung_up(name)
        self._wakeup.drain()
        return True

    def _look(self) -> View:
        """The view as it is now."""
        self._view = self.node.cache.view()
        return self._view

    def _wait(self, view: View) -> list[int]:
        """The descriptors that became readable until something is due."""
        until = min(self._mind.next_at(view), self._chores.next_at())
        patience = max(until - time.monotonic(), 0.0)
        waited_for = [self._wake, self._life, self._wakeup.fileno(), *self._talker.connections.waiting()]
        try:
            return select.select(waited_for, [], [], patience)[0]
        except OSError:  # a thread has closed one of the connections
            return []

    def _take_nudges(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for nudge in nudges.decode(os.read(self._wake, 65536)):
                self._take_nudge(nudge, self._look())

    def _take_nudge(self, nudge: nudges.Nudge, view: View) -> None:
        match nudge:
            case nudges.Look():
                pass  # each turn looks
            case nudges.Hurry(name):
                self._mind.hurry(name)
            case nudges.Visit(name):
                if name in view.records:
                    self._start(Synchronise(name, view.records[name].address))
            case nudges.Tell(until, names):
                self._mind.pass_on(names, until, view, time.monotonic())
            case _:
                assert_never(nudge)

    # -- SIGHUP

    def _note_reload(self, number: int, frame: FrameType | None) -> None:
        self._is_reload_due = True

    def _reload(self) -> None:
        """What the node reads anew takes effect here too: hints at the next turn, the access log at the next look."""
        self._is_reload_due = False
        self._talker.connections.close()  # they were opened with the old keys
        for complaint in reload.read_anew(self.node):
            log.debug("reload: %s", complaint)  # the listener has said it
        self._chores.look_now()

    # -- actions, and what came of them

    def _start(self, action: Action) -> None:
        """Have a thread carry it out; its outcome comes back into the loop."""
        self._pool.submit(self._talk, action)

    def _talk(self, action: Action) -> None:
        outcome = self._talker.carry_out(action)
        self._wakeup.call(functools.partial(self._done, action, outcome))

    def _done(self, action: Action, outcome: Outcome) -> None:
        if is_there(outcome) and action.name and not isinstance(action, Ask):
            self.node.heard.note(action.name, self.node.clock())
        reason = outcome.reason if isinstance(outcome, Refused | Silent) else ""
        if isinstance(action, Synchronise):
            self._states.say(f"call to {action.name or action.address}", reason, logging.INFO)
        elif not is_there(outcome):
            log.debug("%s: %s", action, reason)
        verdicts, actions = self._mind.done(action, outcome, self._look(), time.monotonic())
        self._write(verdicts)
        for each in actions:
            self._start(each)

    def _write(self, verdicts: list[Verdict]) -> None:
        """Into the cache; if it is locked too long, this turn is skipped (as the original did)."""
        if not verdicts:
            return
        now = self.node.clock()
        try:
            with self.node.cache.locked() as view:
                for verdict in verdicts:
                    if verdict.name in view.records:
                        changed = (view.bury if verdict.is_death else view.accuse)(verdict.name, now)
                        if changed:
                            log.info("%s is %s", verdict.name, view.records[verdict.name].status)
        except BDError as error:
            log.warning("skipping a turn: %s", error)


class Talker:
    """Carries actions out, in whichever thread: talks to other nodes, and takes in what they say."""

    def __init__(self, node: Node):
        self.node = node
        self.connections = Connections(node.call, node.refusal, KEPT_MAX)

    def carry_out(self, action: Action) -> Outcome:
        """What came of it. Never raises."""
        try:
            match action:
                case Probe():
                    return self._probe(action)
                case Ask():
                    return self._ask(action)
                case Push():
                    return self._push(action)
                case Synchronise():
                    return self._synchronise(action)
                case _:
                    assert_never(action)
        except BDError as error:
            return _of_helper(error) if isinstance(action, Ask) else _of_node(error)
        except Exception:
            log.exception("a conversation met a bug: %s", action)
            return Silent(reason="a bug")

    def _probe(self, probe: Probe) -> Outcome:
        deadline = time.monotonic() + probe.seconds

        def ping(conversation: Conversation) -> Pong:
            pong: Pong = conversation.ask(["PING"], deadline)
            if probe.news:
                self._tell(conversation, probe.news, deadline)
            return pong

        if probe.stays:
            return self.connections.talk(probe.name, probe.address, deadline, ping)
        self.connections.let_go(probe.name)
        with self.node.call(probe.address, deadline, probe.name) as conversation:
            return ping(conversation)

    def _ask(self, ask: Ask) -> Outcome:
        deadline = time.monotonic() + 2 * ask.seconds
        with self.node.call(ask.helper_address, deadline, ask.helper) as conversation:
            said = conversation.ask(["PROBE", ask.address], time.monotonic() + ask.seconds)
        if isinstance(said, Pong):
            return There()
        if said.code == errors.Refused.code:
            return Refused(f"{ask.helper} was refused too")
        return Silent(is_nack=True, reason=f"{ask.helper} did not reach it either")

    def _push(self, push: Push) -> Outcome:
        deadline = time.monotonic() + PUSH_SECONDS

        def tell(conversation: Conversation) -> int:
            return self._tell(conversation, push.news, deadline, push.until)

        return Taken(self.connections.talk(push.name, push.address, deadline, tell))

    def _synchronise(self, wanted: Synchronise) -> Outcome:
        deadline = time.monotonic() + SYNCHRONISE_SECONDS
        with self.node.call(wanted.address, deadline, wanted.name) as conversation:
            talker = conversation.identity.name if conversation.identity is not None else ""

            def take(theirs: exchange.Exchange) -> exchange.Exchange:
                with self.node.cache.locked() as view:
                    return exchange.absorb(view, theirs, self.node.clock(), talker)

            exchange.synchronise(self.node.cache.view, take, lambda say: _turn(conversation, say, deadline))
        return There()

    def _tell(self, conversation: Conversation, names: tuple[str, ...], deadline: float, until: str | None = None) -> int:
        """The records of these names; how many of them were known there."""
        theirs = _turn(conversation, exchange.push(self.node.cache.view(), list(names), until), deadline)
        more = exchange.follow_up(self.node.cache.view(), {"unknown": theirs.get("unknown", [])})
        if more:
            _turn(conversation, more, deadline)
        known: int = theirs.get("known", 0)
        return known


def _of_node(error: BDError) -> Outcome:
    """What an error says of the node that was called."""
    if isinstance(error, PolicyMismatch | TooBusy):
        return There()
    return Refused(str(error)) if isinstance(error, errors.Refused) else Silent(reason=str(error))


def _of_helper(error: BDError) -> Outcome:
    """What an error of a helper says of the node in doubt: nothing, whatever it says of the helper."""
    return Silent(isinstance(error, PolicyMismatch | TooBusy), str(error))


def _turn(conversation: Conversation, say: exchange.Exchange, deadline: float) -> exchange.Exchange:
    said = conversation.ask(["SYNCHRONIZE", say], deadline)
    if isinstance(said, No):
        raise TooBusy(f"{conversation.where} has no time for an exchange")
    return exchange.checked(said.exchange)
