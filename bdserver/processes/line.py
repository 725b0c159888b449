"""A line: the way to one address, and the talks whose turn it is on it, in the order of their requests.

Here stands who waits for which answer, and until when. Nothing is sent here, and no clock is read: to open a line, to say what
is asked on it, and to tell those who waited when it is over is the business of `lines`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any

from bdserver.core.tuples import NamedTuple
from bdserver.net.links import Link, State

# A talk: yields requests, is sent answers; returns what came of it.
Talk = Generator[list[Any], Any, Any]
# done(result): what a talk returned, or the BDError that ended it.
Done = Callable[[Any], None]

# A late answer on a line is still an answer: the line stays. One whose answer is late by so much is given up.
MUTE_SECONDS = 4.0


class Turn(NamedTuple):
    """A talk that waits for the answer to this request."""

    talk: Talk
    request: list[Any]
    deadline: float
    done: Done
    is_given_up: bool = False  # nobody waits for it any more, but it is still to come
    has_been_lost: bool = False  # on a line that ended: it is asked once more, and not for ever
    has_told_policy: bool = False  # by its text: whoever does not know it then never will


class Line:
    """The way to one address (`key`: it, and whether what is asked takes long): its link while there is one, and who waits."""

    def __init__(self, key: tuple[str, bool], name: str | None, clock: float) -> None:
        self.key, self.name = key, name
        self.link: Link | None = None
        self.waiting: deque[Turn] = deque()
        self.used_at = self.opened_at = clock
        self.untried: list[tuple[int, Any]] = []  # addresses of its host, beside the one that is dialled
        self.next_address_at = float("inf")

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return self.key[0]

    @property
    def is_open(self) -> bool:
        """Whether the other end is proved."""
        return self.link is not None and self.link.state is State.OPEN

    @property
    def wants_link(self) -> bool:
        """Whether it is to be dialled."""
        return self.link is None and bool(self.waiting)

    @property
    def wanted(self) -> list[Turn]:
        """What somebody waits for."""
        return [turn for turn in self.waiting if not turn.is_given_up]

    def mute_at(self) -> float:
        """When the answer that comes next is late by too much."""
        return self.waiting[0].deadline + MUTE_SECONDS if self.is_open and self.waiting else float("inf")

    def next_at(self) -> float:
        """When the next patience ends: that of a talk, or with the line itself."""
        instants = [turn.deadline for turn in self.waiting if not turn.is_given_up]
        if self.link is not None:
            instants += [self.mute_at(), self.link.late_at(), self.next_address_at]
        return min(instants, default=float("inf"))

    def give_up(self, clock: float) -> list[Turn]:
        """The turns whose time is over: nobody waits for these any more. What was asked on an open line is still to come and
        keeps its place; on another one it never was."""
        late = [turn for turn in self.waiting if turn.deadline <= clock and not turn.is_given_up]
        if late and self.is_open:
            self.waiting = deque(turn._replace(is_given_up=turn.is_given_up or turn in late) for turn in self.waiting)
        elif late:
            self.waiting = deque(turn for turn in self.waiting if turn not in late)
        return late
