"""Which news to tell whom: around the ring at once, then by echoes, gossip, and on PINGs that go out anyway.

A node that has found something out (its own change, a silence, the record of a newcomer), or was asked to pass it on, tells
its fingers, and hands over to each the arc as far as the next one: each node is told once, in log2 N steps, on connections
that stay open. Some time later each tells one more at random (an echo), for those who were missed. News that came some
other way is pushed on to a few at random, until they say that they know: rumour mongering, SWIM's dissemination. A change of
load alone is no hurry: it rides on probes.

Nothing more is told before those told last have heard us out, and what came meanwhile is told together; who takes long is told
less often; a node whose own loop is late keeps its echoes until it is in time again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from random import Random

from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip.actions import Outcome, Push, Taken, is_there
from bdserver.core.gossip.patience import Awareness
from bdserver.core.gossip.ring import Company, fingers, pieces
from bdserver.core.membership import SUSPECT, Record, unsealed
from bdserver.core.view import View

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
# Around the ring, each piece of news costs its N messages. Where so many parts of it wait at once that have not the same
# end (all hosts come back after a power cut), the news is gossiped instead, much in a message.
ARCS_MAX = 8


def transmissions(nodes: int) -> int:
    """How often one node tells one piece of news at most."""
    return FANOUT + math.ceil(math.log2(nodes + 1))


class Way(StrEnum):
    """How a piece of news travels from here."""

    RING = "ring"  # told around the ring; what is left are its echoes
    GOSSIP = "gossip"  # pushed to a few at random, until they know
    RIDE = "ride"  # no hurry: along with probes


class _Piece:
    """One piece of news: how it travels, and how often it will still be told at most."""

    __slots__ = ("left", "way")

    def __init__(self, way: Way, left: int) -> None:
        self.way, self.left = way, left


class News:
    """All that is still to be told, by the name of the node that it is about; and the parts of the ring that are ours."""

    def __init__(self, me: str, rng: Random, clock: float, awareness: Awareness, company: Company) -> None:
        self.me, self.rng, self.awareness, self.company = me, rng, awareness, company
        self._pieces: dict[str, _Piece] = {}
        self._arcs: dict[tuple[str, str], list[str]] = {}  # (start, until) -> what to tell those between
        self._push_at = self._arcs_at = clock
        self._pushing: dict[str, float] = {}  # who is being told something now, and since when

    @property
    def is_any(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._pieces)

    # -- what we hear

    def heard(self, before: Record | None, record: Record, is_ours: bool, view: View) -> None:
        """The view says something new of a node. `is_ours`: it is about us, or we have found it out."""
        is_lazy = before is not None and _differs_in_load_alone(before, record)
        self._pieces[record.name] = _Piece(Way.RIDE if is_lazy else Way.GOSSIP, transmissions(len(view.records)))
        if is_ours and not is_lazy:
            self._tell_around(record.name, EVERYBODY)

    def forget(self, name: str) -> None:
        """There is nothing to tell of a node without a record, nor to it."""
        self._pieces.pop(name, None)
        self.doubted(name)

    def doubted(self, name: str) -> None:
        """A node is not known to be well: nobody waits until it has heard us out."""
        self._pushing.pop(name, None)

    def pass_on(self, names: Iterable[str], until: str) -> None:
        """Somebody has told us these, and wants us to pass them on around the ring as far as `until`, or EVERYBODY."""
        for name in names:
            if name in self._pieces and self._pieces[name].way is Way.GOSSIP:
                self._tell_around(name, until)

    def _tell_around(self, name: str, until: str) -> None:
        self._pieces[name] = _Piece(Way.RING, ECHOES)
        self._arcs.setdefault((self.me, until), []).append(name)

    # -- what to do now

    def due(self, view: View, clock: float) -> list[Push]:
        """What is to be told now."""
        return [*self._told_around(view, clock), *self._pushed(view, clock)]

    def next_at(self) -> float:
        """When something will be to be told: not before those told last have heard us out."""
        if self._pushing:
            return math.inf
        return min(self._arcs_at if self._arcs else math.inf, self._push_at if self._is_urgent() else math.inf)

    def riding(self, listener: Record) -> tuple[str, ...]:
        """What goes along with a PING to this node."""
        news = _for(listener, list(self._pieces)[:NEWS_PER_PUSH])
        for name in news:
            self._spend(name, 1)
        return news

    def told_of_itself(self, record: Record) -> Push:
        """A node that lives should hear what is said of it."""
        return Push(record.name, record.address, (record.name,))

    def _told_around(self, view: View, clock: float) -> list[Push]:
        if not self._arcs or self._pushing or clock < self._arcs_at:
            return []
        arcs, self._arcs = self._arcs, {}
        if len(arcs) > ARCS_MAX or max(map(len, arcs.values())) > NEWS_PER_PUSH:
            self._gossip({name for names in arcs.values() for name in names}, view)
            return []
        self._push_at = max(self._push_at, clock + PUSH_PAUSE)
        pushes = []
        for (start, until), names in arcs.items():
            told = tuple(name for name in dict.fromkeys(names) if name in view.records)
            known = set(told)
            around = [name for name in self.company.arc(start, until) if name not in known]
            for piece in pieces(around) if told else ():
                record = view.records[piece[0]]
                pushes.append(Push(record.name, record.address, told, piece[-1]))
        self._pushing.update((push.name, clock) for push in pushes)
        return pushes

    def _gossip(self, names: set[str], view: View) -> None:
        """Push these on to some at random instead, until they say that they know."""
        for name in names & self._pieces.keys():
            piece = self._pieces[name]
            piece.left = transmissions(len(view.records))
            piece.way = Way.GOSSIP if piece.way is Way.RING else piece.way

    def _pushed(self, view: View, clock: float) -> list[Push]:
        """To a few fingers at random: not before those told last have heard us out, so a mesh that is busy gossips less."""
        if not self._is_urgent() or self._pushing or clock < self._push_at:
            return []
        is_gossip = any(piece.way is Way.GOSSIP for piece in self._pieces.values())
        if self.awareness.is_late and not is_gossip:  # echoes can wait, and go together then
            self._push_at = clock + PUSH_PAUSE
            return []
        listeners = fingers(self.company.listeners)
        count = FANOUT if is_gossip else 1
        chosen = [view.records[name] for name in self.rng.sample(listeners, min(count, len(listeners)))]
        self._push_at = clock + PUSH_PAUSE
        told = list(self._pieces)[:NEWS_PER_PUSH] if listeners else list(self._pieces)
        pushes = [Push(each.name, each.address, _for(each, told)) for each in chosen]
        for name in told:
            self._spend(name, max(len(chosen), 1))
        pushes = [push for push in pushes if push.news]
        self._pushing.update((push.name, clock) for push in pushes)
        return pushes

    def _is_urgent(self) -> bool:
        return any(piece.way is not Way.RIDE for piece in self._pieces.values())

    def _spend(self, name: str, times: int) -> None:
        piece = self._pieces.get(name)
        if piece is not None:
            piece.left -= times
            if piece.left <= 0:
                del self._pieces[name]

    # -- what came of it

    def done(self, push: Push, outcome: Outcome, clock: float) -> None:
        """A listener has heard us out, or not."""
        began = self._pushing.pop(push.name, clock)
        if is_there(outcome):
            took = clock - began
            self._arcs_at = max(self._arcs_at, clock + took * (BUSY_FACTOR if self.awareness.is_late else 1.0))
            self._push_at = max(self._push_at, clock + BUSY_FACTOR * took)
        elif push.until is not None:  # then its part of the ring is ours
            self._arcs.setdefault((push.name, push.until), []).extend(push.news)
        if isinstance(outcome, Taken) and outcome.known == len(push.news):  # it comes too late: others tell it as well
            for name in push.news:
                self._spend(name, FANOUT)


def _for(listener: Record, news: list[str]) -> tuple[str, ...]:
    """What of the news to tell this listener: of itself, only that it is suspected."""
    return tuple(name for name in news if name != listener.name or listener.status == SUSPECT)


def _differs_in_load_alone(a: Record, b: Record) -> bool:
    """A raised version without any difference is a refutation, and urgent."""
    is_loaded_otherwise = (a.load, a.free_dynamic) != (b.load, b.free_dynamic)
    alike = a._replace(version=b.version, load=b.load, free_dynamic=b.free_dynamic)
    return is_loaded_otherwise and unsealed(alike) == unsealed(b)
