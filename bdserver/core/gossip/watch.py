"""Whom to probe and when, and whom to ask for help when a probe fails: SWIM's failure detector, on a ring.

 - Each node watches the one that follows it in the ring: a PING a second. When there is news,
   or some node was found silent lately, it probes one of its fingers a second too, in shuffled turn: each node is the
   finger of log2 N others, so none is missed for long, and a mesh at rest costs next to nothing.
 - A node that somebody did not reach is probed at once, and so is a suspect. Any connection will do: a node whose listener
   hangs knows that itself, and does not answer.
 - A probe that fails is followed by an indirect one: three others are asked to PING the node (SWIM's ping-req); but of a
   suspect they were asked before.
 - An answer that comes late is an answer: it ends the doubt, and the next one is waited for longer.
What a doubt becomes is suspicion's business.
"""

from __future__ import annotations

import math
from enum import StrEnum
from random import Random
from typing import assert_never

from bdserver.core.gossip.actions import Ask, Outcome, Probe, Refused, Silent, Taken, There
from bdserver.core.gossip.patience import Patience
from bdserver.core.gossip.ring import Company, fingers
from bdserver.core.gossip.suspicion import Doubt
from bdserver.core.membership import SUSPECT, Record
from bdserver.core.messages import Pong
from bdserver.core.ticks import following
from bdserver.core.view import View

PROBE_SECONDS = 0.5  # for the whole of connect, handshake, PING, PONG; an idle machine takes a hundredth of it
HELPERS = 3
# So long after a node was found silent, suspected or dead, all look around.
TROUBLE_SECONDS = 10.0


class Stage(StrEnum):
    """How far the probe of a node has come."""

    DIRECT = "direct"  # our own PING is under way
    INDIRECT = "indirect"  # ours failed: helpers PING it for us
    ANSWERED = "answered"  # it lives
    DOUBTED = "doubted"  # nobody reached it


class _Life:
    """The life of one probe; each method is an event, in the order in which they may come."""

    __slots__ = ("deaf", "is_refused", "record", "stage", "waiting")

    def __init__(self, record: Record) -> None:
        self.stage, self.record = Stage.DIRECT, record
        self.is_refused = False
        self.waiting = 0  # helpers that are still out
        self.deaf = 0  # helpers that did not answer us

    def failed(self, record: Record, is_refused: bool, helpers: int) -> None:
        """Our own PING failed, and so many helpers are asked. With none, nobody can tell whether the fault is ours, unless
        others accuse it as well."""
        self.record, self.is_refused, self.waiting = record, is_refused, helpers
        self.deaf = 0 if is_refused or helpers or record.status == SUSPECT else 1
        self.stage = Stage.INDIRECT if helpers else Stage.DOUBTED

    def helped(self, outcome: Outcome) -> None:
        """A helper is back."""
        self.waiting -= 1
        match outcome:
            case There() | Pong() | Taken():
                self.stage = Stage.ANSWERED
                return
            case Refused():
                self.is_refused = True
            case Silent(is_nack=is_nack):
                self.deaf += not is_nack
            case _:
                assert_never(outcome)
        if self.waiting == 0:
            self.stage = Stage.DOUBTED


class Watch:
    """The watched node, the fingers in turn, those in a hurry; and all probes under way, by the name of the probed."""

    def __init__(self, probe_interval: float, rng: Random, clock: float, patience: Patience, company: Company) -> None:
        self.probe_interval, self.rng = probe_interval, rng
        self.patience, self.awareness, self.company = patience, patience.awareness, company
        self._probe_at = clock + probe_interval * rng.random()
        self._trouble_at = -math.inf
        self._turn: list[str] = []
        self._hurry: list[str] = []
        self._lives: dict[str, _Life] = {}

    # -- what we hear

    def trouble(self, clock: float) -> None:
        """Some node was found silent, suspected or dead."""
        self._trouble_at = clock

    def hurry(self, name: str) -> None:
        """Probe this node now: somebody could not reach it."""
        self._hurry.append(name)

    def hung_up(self, name: str) -> None:
        """A connection that was kept has ended: its watcher looks why."""
        if name == self.company.follower:
            self.hurry(name)

    # -- what to do now

    def due(self, view: View, clock: float, has_news: bool) -> list[Probe]:
        """The probes that are due; news that is to ride along is for others to add."""
        probes = []
        for name in (*self._hurry, *self._regular(view, clock, has_news)):
            record = view.records.get(name)
            if record is not None and record.is_there and name not in self._lives:
                self._lives[name] = _Life(record)
                probes.append(Probe(name, record.address, self._patience(record)))
        self._hurry = []
        return probes

    def _patience(self, record: Record) -> float:
        if record.status == SUSPECT:
            return self.patience.of_others(PROBE_SECONDS)
        return self.patience.seconds(PROBE_SECONDS, record.name)

    def next_at(self) -> float:
        """When a probe will be due."""
        return -math.inf if self._hurry else self._probe_at

    def _regular(self, view: View, clock: float, has_news: bool) -> list[str]:
        if clock < self._probe_at:
            return []
        # Lifeguard: a node that sees probes fail all around probes less, and does not add to what is wrong.
        self._probe_at = following(self._probe_at, self.probe_interval * (1 + self.awareness.value), clock)
        is_calm = not has_news and clock - self._trouble_at > TROUBLE_SECONDS
        in_turn = None if is_calm else self._next_in_turn(view)
        return [name for name in (self.company.follower, in_turn) if name is not None]

    def _next_in_turn(self, view: View) -> str | None:
        """Of all fingers, those that our policy forbids as well, in shuffled turn."""
        for _ in range(2):
            while self._turn:
                name = self._turn.pop()
                if name in view.records and view.records[name].is_there:
                    return name
            self._turn = list(self.company.near)
            self.rng.shuffle(self._turn)
        return None

    # -- what came of it

    def answered(self, name: str) -> None:
        """Our own PING was answered, in time or late."""
        self._lives.pop(name, None)

    def failed(self, probe: Probe, is_refused: bool, view: View, clock: float) -> tuple[Doubt | None, list[Ask]]:
        """Our own PING was not answered: a doubt when there is nobody to help, else whom to ask."""
        life, record = self._lives.pop(probe.name, None), view.records.get(probe.name)
        if record is None or not record.is_there or record.address != probe.address:
            return None, []  # it is another story by now
        self.trouble(clock)
        helpers = [] if record.status == SUSPECT else [view.records[name] for name in self._helpers(probe.name)]
        life = self._lives[probe.name] = life or _Life(record)
        life.failed(record, is_refused, len(helpers))
        return self._end_of(probe.name), [Ask(h.name, h.address, probe.name, probe.address, probe.seconds) for h in helpers]

    def _helpers(self, name: str) -> list[str]:
        """Some of our fingers, to whom connections are open; where they are too few, any others."""
        others = [each for each in self.company.listeners if each != name]
        near = fingers(others)
        far = [each for each in others if each not in near] if len(near) < HELPERS else []
        helpers = self.rng.sample(near, min(HELPERS, len(near)))
        return helpers + self.rng.sample(far, min(HELPERS - len(helpers), len(far)))

    def helped(self, ask: Ask, outcome: Outcome) -> Doubt | None:
        """A helper is back: a doubt when it was the last one, and nobody has reached the node."""
        life = self._lives.get(ask.name)
        if life is None or life.stage is not Stage.INDIRECT:  # the probe is over, and this a helper that took its time
            return None
        life.helped(outcome)
        return self._end_of(ask.name)

    def _end_of(self, name: str) -> Doubt | None:
        """The doubt, if that is where a probe has ended; None also when it goes on."""
        life = self._lives[name]
        if life.stage is Stage.INDIRECT:
            return None
        del self._lives[name]
        if life.stage is Stage.DOUBTED:
            return Doubt(life.record, life.is_refused, life.deaf)
        self.awareness.raised(1)  # others reach it, we did not
        return None
