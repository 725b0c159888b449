"""What each minute of this node comes to, for its time line: the discoverer looks once a second, and writes when it is over.

Nothing is counted twice: calls by the seconds of the hit logs, each once and when it is over; deaths and copies by how much
the node's counters have grown since the last look. The minute that runs is kept every SAVE_SECONDS, so that a kill costs no
more, and goes on after a restart.
"""

from __future__ import annotations

from bdserver.core.timeline import Span
from bdserver.core.tuples import NamedTuple
from bdserver.files.timeline import Timeline
from bdserver.processes.node import Node

# A hit is logged in the second that it names, or soon after it.
LATE_SECONDS = 2
MINUTE = 60
COPIES = ("replicated", "gave")
SAVE_SECONDS = 10


class Seen(NamedTuple):
    """Counters, as of one look."""

    deaths: int
    copies: int


class Past:
    """The minute that runs."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._minute: Span | None = None
        self._second = 0  # the last that was looked at
        self._counted = int(node.clock()) - LATE_SECONDS  # the last whose calls were counted; by the process before this one
        self._seen = self._look()

    @property
    def timeline(self) -> Timeline:
        """Where minutes are kept."""
        return self.node.files.timeline

    def turn(self, wall: float, weight: float) -> None:
        """A look, at most one a second; NoSpace when the minute before can't be kept."""
        second, start = int(wall), int(wall) // 60
        if not self.node.settings.timeline_hours:
            self._minute = None
            return
        over = self._minute if self._minute is not None and self._minute.start != start else None
        if self._minute is None or over is not None:
            kept = self.timeline.at(start)
            self._minute = kept or Span(start, 0, 0, 0, 0, 0.0, 0.0, self.node.settings.receiver_threshold)
        if second != self._second:
            self._second = second
            self._add(start, wall, weight)
            if second % SAVE_SECONDS == SAVE_SECONDS - 1:
                self._write(self._minute)
        if over is not None:
            self._write(over)

    def _add(self, start: int, wall: float, weight: float) -> None:
        assert self._minute is not None
        calls = self._calls(int(wall) - LATE_SECONDS, wall)
        before, self._seen = self._seen, self._look()
        deaths, copies = self._seen.deaths - before.deaths, self._seen.copies - before.copies
        threshold = self.node.settings.receiver_threshold
        self._minute = self._minute.with_next(Span(start, 1, calls, deaths, copies, weight, weight, threshold))

    def _calls(self, until: int, wall: float) -> int:
        """Those of the seconds since the last look, up to this one. What came before this process is the business of the one
        before it; after a step of the clock, the seconds between are nobody's."""
        passed = until - self._counted
        if -MINUTE < passed <= 0:
            return 0
        after, self._counted = self._counted if 0 < passed < MINUTE else until - 1, until
        return self.node.load.calls_between(after, until, wall)

    def _look(self) -> Seen:
        value = self.node.counters.value
        return Seen(int(value("deaths")), int(sum(value("events", what) for what in COPIES)))

    def _write(self, minute: Span) -> None:
        self.timeline.write(minute, self.node.settings.timeline_hours * 60)

    def end(self) -> None:
        """The discoverer ends: what the minute has come to so far is kept."""
        if self._minute is not None and self._minute.seconds:
            self._write(self._minute)
