"""Hits to weight, exactly as in 2006 (BDdaemon.service_weight), and what follows from it: overloaded, what to retire.

A hit younger than 10 s counts the service's cost; from 10 s to 60 s cost x 10 / age; an older one ends the reading. Each
REPLICATE met on the way, newest first, multiplies by 0.9 what older hits count. One thing differs: a line from the
future, which a clock put right leaves behind, counted in full and now counts nothing, unless it is of the next second: a call
that is promised is logged with the time when it comes at the latest. Reading logs is hitlog's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

FRESH = 10
# 60 s: the original's horizon. An older hit counted less than a sixth of its cost, and its line may be trimmed.
HORIZON = 60
# How far ahead a line may be that counts.
AHEAD = 1
REPLICATE_FACTOR = 0.9
# A replica that was just paid for stays at least so long; otherwise two services could push each other out in turn.
RETIRE_AFTER = 60.0
# A load step is a twentieth of twice the threshold: coarse, since every change of it is told to the whole mesh.
LOAD_STEPS, FULL_LOAD = 20, 10

HIT, REPLICATE = "HIT", "REPLICATE"
# A HIT of that second is taken back: the asker had found another host meanwhile. It stands in logs, and in no run.
BACK = "BACK"

# (HIT or REPLICATE, second, how many in a row): the lines of a hit log, newest first, those of one second together.
Run = tuple[str, int, int]


def weight(runs: Iterable[Run], cost: float, now: float) -> float:
    """The weight of one service at `now` (epoch seconds). Lines from the future count nothing, but those of the next second."""
    total = 0.0
    for kind, second, count in runs:
        age = int(now) - second
        if age < -AHEAD:
            continue
        if kind == REPLICATE:
            cost *= REPLICATE_FACTOR**count
        elif age < FRESH:
            total += cost * count
        elif age <= HORIZON:
            total += cost * count * FRESH / age
        else:
            break
    return total


class Balance:
    """The weight of one service at one second, kept up as calls come: a minute of them is not added up anew for each one."""

    def __init__(self) -> None:
        self._cost, self._second, self._total = 0.0, -1, 0.0

    def weight(self, runs: Callable[[], Iterable[Run]], cost: float, now: float) -> float:
        """As `weight`; the runs are asked for where it is not known."""
        if (cost, int(now)) != (self._cost, self._second):
            self._cost, self._second, self._total = cost, int(now), weight(runs(), cost, now)
        return self._total

    def add(self, run: Run) -> None:
        """These lines have come behind all others."""
        kind, second, count = run
        if kind == HIT and -AHEAD <= self._second - second < FRESH:  # newer than any REPLICATE, so it counts in full
            self._total += self._cost * count
        else:
            self.forget()

    def forget(self) -> None:
        """What was there before is not what it was."""
        self._second = -1


def is_overloaded(total: float, receiver_threshold: float) -> bool:
    """A node is overloaded when its weight exceeds its receiver threshold."""
    return total > receiver_threshold


def load_step(total: float, receiver_threshold: float, before: int | None = None) -> int:
    """The load as it is told to others: 0 to 20, above 10 is overloaded.

    With `before`, the step told last, a load at the border of two steps does not swing between them: it is told anew
    only when it has left `before` by a whole step, or when it becomes or ceases to be overloaded."""
    share = min(total / receiver_threshold, 2.0) * FULL_LOAD
    low, high = (FULL_LOAD + 1, LOAD_STEPS) if is_overloaded(total, receiver_threshold) else (0, FULL_LOAD)
    if before is not None and low <= before <= high and abs(share - before) < 1:
        return before
    return min(max(round(share), low), high)


def to_retire(replicas: Iterable[tuple[str, float, float]], now: float) -> str | None:
    """Of (name, weight, arrived_at): the lightest replica that is not just paid for, or None.

    One that arrived far in the future by our clock did not: the clock was wrong then, and protects nothing."""
    old = [(total, name) for name, total, arrived_at in replicas if abs(now - arrived_at) > RETIRE_AFTER]
    return min(old)[1] if old else None
