"""The discoverer: all gossip of a node, in one process that speaks with many at once.

It asks core.gossip what to do, does it in talks on the switchboard, answers other nodes by its ears, and writes what came of it
into the cache. One loop does all of it, without a thread a conversation; it ends when its listener is gone. Once a second it
asks its own listener, the way callers go (heartbeat): a node whose listener hangs says so, and stops answering. What it does
for its own services stands in chores, each behind a guard.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, assert_never

import setproctitle

from bdserver.core import membership, nudges
from bdserver.core.gossip.actions import Action, Ask, Outcome, Refused, Silent, Synchronise, Verdict, is_there
from bdserver.core.gossip.discovery import Discovery
from bdserver.core.gossip.rounds import Rhythm
from bdserver.core.gossip.watch import PROBE_SECONDS
from bdserver.core.membership import Record
from bdserver.core.ticks import following
from bdserver.core.view import View
from bdserver.errors import BDError, NobodyThere
from bdserver.processes import reload
from bdserver.processes.chores import Chores, States
from bdserver.processes.ears import Ears
from bdserver.processes.heartbeat import Heartbeat
from bdserver.processes.lines import SHORTAGE_SECONDS, SHORTAGES
from bdserver.processes.names import Names
from bdserver.processes.node import Node
from bdserver.processes.renewing import Renewing
from bdserver.processes.switchboard import Switchboard
from bdserver.processes.talks import LOCK_SECONDS, Talks, ping
from bdserver.processes.tellers import Tellers
from bdserver.processes.wakeup import Wakeup

# A node whose listener hangs tells the mesh so, for so long.
LAST_WORDS_SECONDS = 2.0
# The loop looks around at least this often.
TURN_SECONDS = 1.0

log = logging.getLogger("bdserver.discoverer")


def run(node: Node, listening: list[socket.socket], wake_descriptor: int, life_descriptor: int) -> None:
    """Until the other end of the life descriptor is closed, that is until the listener is gone, whatever killed it.
    `listening`: the sockets on which other nodes tell their news."""
    node.quarantine.settle()  # this first: the discoverer before may have died of what it read
    node.quarantine.be_hasty()
    setproctitle.setproctitle(f"bdserverd: discoverer of {node.name} at {node.address}")
    Discoverer(node, wake_descriptor, life_descriptor, listening).run()


class Discoverer:
    """The loop."""

    def __init__(self, node: Node, wake_descriptor: int, life_descriptor: int, listening: list[socket.socket]):
        self.node = node
        self._wake, self._life = wake_descriptor, life_descriptor
        self._wakeup, self._states = Wakeup(), States()
        self._is_reload_due = False
        self._silent_at = float("inf")  # when we say nothing more
        self._wished_at = float("inf")  # when the next turn was to be
        self._rests_until = 0.0  # what is due again since it could not be written waits until then
        self._view = node.cache.view()
        rhythm = Rhythm(node.settings.probe_interval, node.settings.round_min, node.settings.round_max)
        self._mind = Discovery(node.name, rhythm, node.rng, time.monotonic(), self._hints, self._forbids)
        tellers = Tellers(node)
        self._ears = Ears(node, self._mind.pass_on, self._ping, tellers)
        names = Names(self._wakeup.call, lambda: self._board.lines.open_waiting())
        self._board = Switchboard(
            node, listening, names, self._ears.answer, self._mind.hung_up, self._came_late, self._mind.patience.of_others
        )
        self._talks = Talks(node, self._board.lines, self._done, tellers)
        tick_at = following(self._mind.watch.next_at(), TURN_SECONDS, time.monotonic())
        self._heartbeat = Heartbeat(
            node.settings.socket, self._board.selector, tick_at, self._mind.patience.of_others, node.accepted.at
        )
        renewing = Renewing(node, self._board.lines)
        self._chores = Chores(node, self._states, self._wakeup.call, self._heartbeat, tick_at, renewing.look)
        for descriptor in (self._wake, self._life, self._wakeup.fileno()):
            self._board.selector.register(descriptor, selectors.EVENT_READ, descriptor)

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
        while self._turned():
            pass
        log.info("the listener is gone: ending")
        self._chores.end()

    def _turned(self) -> bool:
        """A turn, also where something runs out: what was not done then is due again."""
        try:
            is_on = self.turn()
            self._states.say("room for the discoverer", "")
            return is_on
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            self.node.shortage.note(time.monotonic())
            self._states.say("room for the discoverer", f"the discoverer lacks something: {error.strerror}")
            time.sleep(SHORTAGE_SECONDS)
            return True

    def turn(self, patience: float = TURN_SECONDS) -> bool:
        """Do what is due, and wait until something happens or is due; False when the listener is gone."""
        if self._is_reload_due:
            self._reload()
        began = time.monotonic()
        self.node.beat.note(began)
        self._chores.due(began, self.node.clock())
        self._heartbeat.due(began)
        if self._heartbeat.is_short:
            self.node.shortage.note(began)
        self._note_hung(began)
        view = self._look()
        self._chores.notice(view, began, self.node.clock())
        if began < self._silent_at:
            for action in self._mind.due(view, began, self._chores.weight, self.node.settings.receiver_threshold):
                self._talks.start(action)
            self._board.lines.keep(self._mind.company.near)
            self._write(self._mind.verdicts(view, time.monotonic()))
        self._chores.late(max(began - self._wished_at, time.monotonic() - began))
        self._wished_at = self._until(patience)
        readable = self._board.turn(self._wished_at - time.monotonic())
        if self._life in readable:
            return False
        if self._wake in readable:
            self._take_nudges()
        if self._heartbeat in readable:
            self._heartbeat.ready()
        if self._wakeup.fileno() in readable:
            self._wakeup.drain()
        self._ears.flush()
        return True

    def _until(self, patience: float) -> float:
        """When something will be due, if nothing happens before."""
        clock = time.monotonic()
        instants = self._chores.next_at() or clock, self._heartbeat.next_at(), clock + patience
        soonest = min(*instants, self._mind.next_at(self._view)) if clock < self._silent_at else min(instants)
        return max(soonest, self._rests_until)

    def _note_hung(self, clock: float) -> None:
        """While our listener hangs we answer nobody. What we say of it goes out, and then we say nothing more: else we would
        hear that we are suspected, and object."""
        is_hung = self._heartbeat.is_hung
        if is_hung != self._board.callers.is_mute:
            self._board.callers.is_mute = is_hung
            self._silent_at = clock + LAST_WORDS_SECONDS if is_hung else float("inf")
            self._chores.look_now()

    def _look(self) -> View:
        self._view = self.node.cache.view()
        return self._view

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
                    self._talks.start(Synchronise(name, view.records[name].address))
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
        for complaint in reload.read_anew(self.node):
            log.debug("reload: %s", complaint)  # the listener has said it
        log.debug("the discoverer has read all anew, too")
        self._board.renew()  # they were opened with the old keys
        self._chores.look_now()

    # -- actions, and what came of them

    def _ping(self, name: str, done: Callable[[Any], None]) -> None:
        """PING a node in another one's place."""
        record = self._look().records.get(name)
        if record is None:
            done(NobodyThere(f"{name} is not known any more"))
            return
        seconds = self._mind.patience.of_others(PROBE_SECONDS)
        self._board.lines.start(ping(), membership.gossip_address(record), name, seconds, done)

    def _came_late(self, name: str) -> None:
        self._mind.came_late(name, time.monotonic())

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
            self._talks.start(each)

    def _write(self, verdicts: list[Verdict]) -> None:
        """Into the cache; if it is locked too long, or its folder is gone, this turn is skipped (as the original did)."""
        if not verdicts:
            return
        now = self.node.clock()
        try:
            with self.node.cache.locked(LOCK_SECONDS) as view:
                for verdict in verdicts:
                    if verdict.name in view.records:
                        changed = (view.bury if verdict.is_death else view.accuse)(verdict.name, now)
                        if changed:
                            self._chores.judged(verdict.name, view.records[verdict.name].status)
                            log.info("%s is %s", verdict.name, view.records[verdict.name].status)
        except BDError as error:
            log.warning("skipping a turn: %s", error)
            self._rests_until = time.monotonic() + SHORTAGE_SECONDS
