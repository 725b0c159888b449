"""The pool of children: what state each is in, who may have one, how many wait for a caller, and how long.

A child is forked ahead of its connection (a pre-forked worker) or for it. It serves one connection at a time, and is a
spare again when its caller has hung up. Here stands policy alone: it forks nothing, reads no clock, and touches no
socket. `now` comes in; what comes out is which child gets a connection, and which are to be dismissed. Forking, handing
over, closing lines and reaping are the listener's.

    forked ahead              forked for a caller
         |                            |
         v         READY              v
      STARTING ----------> SPARE <--READY-- SERVING
         |                   |  ---GIVE--->    |
         |                   |                 |
         +------- DISMISS, or HANG_UP ---------+
                             v
                         DISMISSED ----reaped----> forgotten
"""

from __future__ import annotations

import socket
from collections import Counter
from enum import StrEnum
from typing import NamedTuple

# A spare that could not be forked, or that died before it had a caller, is replaced after this many seconds: what kills one
# at once would kill the next as well. A node that has just started waits as long with its first one, which takes a processor a
# while to rehearse: it makes itself known first.
SPARE_PAUSE = 1.0
# The daemon's own user, or root, mostly asks one thing (the discoverer a PING each second): its child is a spare again before
# another one were forked: so long that is waited for.
OWN_SECONDS = 0.02
# A fork and its copied pages are most of what a connection costs, so some children are kept for the next callers: this
# many at most, and all but one of them for this many seconds.
SPARES_MAX, SPARE_SECONDS = 8, 10.0
# Of max_children, a 16th is kept for root and the daemon's own user, so that a flood can always be looked at and ended; a
# quarter is never given to other local users, so that they can't shut out the mesh. (Few children have no 16th.)
KEPT_FOR_OWN, KEPT_FOR_TLS = 1 / 16, 1 / 4


class Kind(StrEnum):
    """Where a caller comes from; what may be known of it before a byte is read."""

    TLS = "TLS"
    LOCAL = "local"
    OWN = "own"  # root or the daemon's own user, on the local socket


class Caller(NamedTuple):
    """One that may have so many children at once: a host, or a user of this one."""

    kind: Kind
    name: str


class Limits(NamedTuple):
    """How many children there may be, and how long each is used."""

    children: int
    per_caller: int
    connections: int = 200
    spares: int = SPARES_MAX
    spare_seconds: float = SPARE_SECONDS


class State(StrEnum):
    """Where a child is in its life."""

    STARTING = "starting"  # forked ahead; it rehearses
    SPARE = "spare"  # it waits for a caller
    SERVING = "serving"  # it has one
    DISMISSED = "dismissed"  # its line is closed: it ends by itself, and is reaped


class Event(StrEnum):
    """Something happens to a child."""

    READY = "ready"  # it says that it is ready for a caller: the first one, or the next
    GIVE = "give"  # the listener gives it a connection
    DISMISS = "dismiss"  # the listener closes its line
    HANG_UP = "hang up"  # it closed the line itself, or died


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.STARTING: {Event.READY: State.SPARE, Event.DISMISS: State.DISMISSED, Event.HANG_UP: State.DISMISSED},
    State.SPARE: {Event.GIVE: State.SERVING, Event.DISMISS: State.DISMISSED, Event.HANG_UP: State.DISMISSED},
    State.SERVING: {Event.READY: State.SPARE, Event.DISMISS: State.DISMISSED, Event.HANG_UP: State.DISMISSED},
    State.DISMISSED: {},
}


class Impossible(Exception):
    """An event that the table does not have for this state: a bug of ours."""


class Child:
    """One child: its state, since when, the listener's end of the line to it, and its caller while it serves one.

    `generation`: how often all children had been renewed when this one was forked."""

    __slots__ = ("caller", "generation", "line", "pid", "since", "state")

    def __init__(self, pid: int, line: socket.socket, generation: int, caller: Caller | None, now: float):
        self.pid, self.line, self.generation = pid, line, generation
        self.state = State.STARTING if caller is None else State.SERVING
        self.caller = caller
        self.since = now

    def after(self, event: Event) -> State:
        """The state that follows, by the table."""
        try:
            return TRANSITIONS[self.state][event]
        except KeyError:
            raise Impossible(f"child {self.pid} is {self.state}, and then: {event}") from None


class Pool:
    """All children by their pid, and the answers to every question about them."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.generation = 0
        self._children: dict[int, Child] = {}
        # The three counts below are kept by `_count` alone, at each change of a state: they can't disagree with the states.
        self._states: Counter[State] = Counter()
        self._callers: Counter[Caller | Kind] = Counter()
        self._spares: dict[int, Child] = {}  # the one that became one last comes last, and is the first to get a caller
        self._spare_not_before = 0.0
        self._is_closed = False

    # -- questions

    @property
    def busy(self) -> int:
        """How many children have a caller."""
        return self._states[State.SERVING]

    def children(self, *states: State) -> list[Child]:
        """Those in one of these states, or all."""
        return [child for child in self._children.values() if not states or child.state in states]

    def count(self, caller: Caller) -> int:
        """How many children this caller has."""
        return self._callers[caller]

    def has_room(self, caller: Caller) -> bool:
        """Whether this caller may have a child more. Those who could end a flood are not shut out by it."""
        most = self.limits.children
        if caller.kind is Kind.OWN:
            return self.busy < most
        if caller.kind is Kind.LOCAL and self._callers[Kind.LOCAL] >= most - int(most * KEPT_FOR_TLS):
            return False
        return self.busy < most - int(most * KEPT_FOR_OWN) and self._callers[caller] < self.limits.per_caller

    def next_spare(self) -> Child | None:
        """The one that is given the next connection: its memory was touched last."""
        return next(reversed(self._spares.values()), None)

    def spare_at(self) -> float | None:
        """When a child is to be forked ahead; None while one waits or starts."""
        if self._is_closed or self._states[State.STARTING] or self._states[State.SPARE]:
            return None
        return self._spare_not_before

    def expires_at(self) -> float | None:
        """When the spare that has waited longest is one too many."""
        if len(self._spares) < 2:
            return None
        return next(iter(self._spares.values())).since + self.limits.spare_seconds

    # -- events

    def add(self, pid: int, line: socket.socket, now: float, caller: Caller | None = None) -> Child:
        """A child was forked: for this caller, or ahead of one."""
        child = self._children[pid] = Child(pid, line, self.generation, caller, now)
        self._count(child, 1)
        return child

    def give(self, child: Child, caller: Caller, now: float) -> None:
        """A spare got a connection."""
        self._on(Event.GIVE, child, now, caller)
        if caller.kind is Kind.OWN and not self._spares:
            self._spare_not_before = max(self._spare_not_before, now + OWN_SECONDS)

    def ready(self, child: Child, now: float) -> bool:
        """It is ready for a caller; False when it is not wanted any more: then it is dismissed."""
        self._on(Event.READY, child, now)
        is_wanted = child.generation == self.generation and len(self._spares) <= self.limits.spares and not self._is_closed
        if not is_wanted:
            self._on(Event.DISMISS, child, now)
        return is_wanted

    def hung_up(self, child: Child, now: float) -> None:
        """Its line has ended, or the process has: whichever is noticed first."""
        if child.state is State.DISMISSED:
            return
        if child.state is not State.SERVING:
            self.postpone(now)
        self._on(Event.HANG_UP, child, now)

    def ended(self, pid: int, now: float) -> Child | None:
        """The process was reaped; its child, forgotten now, if it was one of ours."""
        child = self._children.pop(pid, None)
        if child is not None:
            self.hung_up(child, now)
            self._count(child, -1)
        return child

    def postpone(self, now: float) -> None:
        """Fork no child ahead for a while: the last attempt came to nothing, or there is more urgent work."""
        self._spare_not_before = now + SPARE_PAUSE

    def renew(self, now: float) -> list[Child]:
        """All children are out of date: those that wait are dismissed now, the others after their caller."""
        self.generation += 1
        return self._dismiss_waiting(now)

    def close(self, now: float) -> list[Child]:
        """No child is needed for a further caller: those that wait are dismissed."""
        self._is_closed = True
        return self._dismiss_waiting(now)

    def expired(self, now: float) -> list[Child]:
        """The spares that have waited too long, dismissed; one always stays."""
        found = []
        while (at := self.expires_at()) is not None and now >= at:
            child = next(iter(self._spares.values()))
            self._on(Event.DISMISS, child, now)
            found.append(child)
        return found

    def _dismiss_waiting(self, now: float) -> list[Child]:
        waiting = self.children(State.STARTING, State.SPARE)
        for child in waiting:
            self._on(Event.DISMISS, child, now)
        return waiting

    def _on(self, event: Event, child: Child, now: float, caller: Caller | None = None) -> None:
        after = child.after(event)  # this first: what is impossible must not be counted
        self._count(child, -1)
        child.state, child.caller, child.since = after, caller, now
        self._count(child, 1)

    def _count(self, child: Child, one: int) -> None:
        self._states[child.state] += one
        if child.caller is not None:
            for each in (child.caller, child.caller.kind):
                self._callers[each] += one
                if not self._callers[each]:
                    del self._callers[each]  # else a flood from many addresses would stay in memory
        if child.state is State.SPARE:
            if one > 0:
                self._spares[child.pid] = child
            else:
                del self._spares[child.pid]
