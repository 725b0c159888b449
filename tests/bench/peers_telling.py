"""How long until all know, and what rest costs: BDserver's nodes and Serf's agents, one side after the other, in rounds.

Each round starts a crowd of one side, asks everything of it, ends it, and then does the same with the other side.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from random import Random

from tests.bench.peers import ALIVE, DEAD, Agent, Crowd, Knower, Node, missing, seconds_until_all, send

SIZES = (10, 30)
# Long enough for what was just told to have been repeated: both sides tell news several times over.
CALM_SECONDS = 3.0
PATIENCE = 120.0
# So many processes that start at once have much to tell, on either side, and few cores to do it.
COLD_SECONDS = 20.0
# 300 s at rest are 300 probes by each node of each side.
REST_SECONDS = 30.0

JOINED, STARTED, COLD = "a lone node joins", "one more process is started", "all are started at once"
PUBLISHED, WITHDRAWN = "a service published (a tag set)", "a service withdrawn (a tag deleted)"
KILLED, BACK = "kill -9", "the killed one is started again"
STOPPED, THAWED = "SIGSTOP", "SIGCONT of one taken for dead"
REST = "processor time at rest, a minute, all"

Found = dict[tuple[str, str], list[float]]


def measure(sizes: tuple[int, ...] = SIZES, rounds: int = 3, times: int = 3, say: Callable[[str], None] = print) -> str:
    """The table, for all sizes."""
    if absent := missing("serf"):
        return f"telling: left out, for want of {', '.join(absent)}"
    lines = []
    for size in sizes:
        found: Found = defaultdict(list)
        for turn in range(rounds):
            for side in (Node, Agent) if turn % 2 else (Agent, Node):
                folder = tempfile.mkdtemp(prefix="telling")
                with Crowd(side, os.path.join(folder, "crowd")) as crowd:
                    _Round(crowd, found, Random(turn), say).all(size, times)
                shutil.rmtree(folder, ignore_errors=True)
        lines += [_line(what, size, found) for what in dict.fromkeys(what for what, _ in found)]
    return "\n".join([HEAD, *lines])


class _Round:
    """Everything asked of one crowd."""

    def __init__(self, crowd: Crowd, found: Found, rng: Random, say: Callable[[str], None]):
        self.crowd, self.found, self.rng, self.say = crowd, found, rng, say

    def all(self, size: int, times: int) -> None:
        """In an order in which nothing disturbs what follows."""
        self._note(COLD, self.crowd.start(size - 1))
        time.sleep(COLD_SECONDS)
        self._join_started()
        self._rest()
        for _ in range(times):
            self._offer()
        for _ in range(times):
            self._kill()
        for _ in range(max(times // 2, 1)):
            self._stop()
        self._join_lone()

    def _note(self, what: str, seconds: float) -> None:
        self.found[what, self.crowd.side.SIDE].append(seconds)
        self.say(f"{self.crowd.side.SIDE:9} {len(self.crowd.all):3}  {what:45} {seconds:8.3f} s")

    def _calm(self) -> None:
        time.sleep(CALM_SECONDS)
        for each in self.crowd.all:
            each.look()

    def _join_started(self) -> None:
        self._calm()
        last = self.crowd.new()
        started = time.monotonic()
        last.launch(self.crowd.all[0].address)
        self._note(STARTED, self.crowd.settle(started))

    def _join_lone(self) -> None:
        last = self.crowd.new()
        last.launch()
        last.wait_ready()
        self._calm()
        started = time.monotonic()
        last.join(self.crowd.all[0].address)
        self._note(JOINED, self.crowd.settle(started))

    def _rest(self) -> None:
        self._calm()
        started, used = time.monotonic(), self.crowd.cpu_seconds()
        time.sleep(REST_SECONDS)
        used = self.crowd.cpu_seconds() - used
        self._note(REST, used * 60 / (time.monotonic() - started))

    def _offer(self) -> None:
        owner = self.rng.choice(self.crowd.all)
        for is_offered in (True, False):
            self._calm()
            knows = owner.offer(is_offered)
            started = time.monotonic()
            knows.tell(self.crowd.all)
            seconds = seconds_until_all(self.crowd.all, knows, PATIENCE, f"all know of {owner.name}'s service", started)
            self._note(PUBLISHED if is_offered else WITHDRAWN, seconds)

    def _victim(self) -> Knower:
        """Not the first, whom all would join again."""
        return self.rng.choice(self.crowd.all[1:])

    def _kill(self) -> None:
        victim = self._victim()
        self._calm()
        started = time.monotonic()
        victim.end()
        self._note(KILLED, self._until_all_say(victim, DEAD, started))
        self._calm()
        started = time.monotonic()
        victim.launch(self.crowd.all[0].address)
        self._note(BACK, self.crowd.settle(started))

    def _stop(self) -> None:
        victim = self._victim()
        self._calm()
        started = time.monotonic()
        send(victim, signal.SIGSTOP)
        try:
            self._note(STOPPED, self._until_all_say(victim, DEAD, started))
        finally:
            self._calm()
            started = time.monotonic()
            send(victim, signal.SIGCONT)
        self._note(THAWED, self._until_all_say(victim, ALIVE, started))
        self.crowd.settle()

    def _until_all_say(self, victim: Knower, status: str, started: float) -> float:
        return seconds_until_all(
            self.crowd.others(victim),
            lambda knower: knower.statuses.get(victim.name) == status,
            PATIENCE,
            f"all of {self.crowd.side.SIDE} know {victim.name} as {status}",
            started,
        )


HEAD = """| until all know | nodes | Serf: median (least to most) | BDserver | BDserver / Serf |
| --- | ---: | ---: | ---: | ---: |"""


def _line(what: str, size: int, found: Found) -> str:
    theirs, ours = found[what, Agent.SIDE], found[what, Node.SIDE]
    ratio = statistics.median(ours) / statistics.median(theirs)
    return f"| {what} | {size} | {_spread(theirs)} | {_spread(ours)} | {ratio:.2f} × |"


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3g} s ({min(seconds):.3g} to {max(seconds):.3g}, {len(seconds)} times)"
