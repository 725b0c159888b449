"""What is done every so often keeps its beat: what shares one is done in one turn of a loop, and each turn has its price."""

from __future__ import annotations

import math


def following(due_at: float, seconds: float, clock: float) -> float:
    """The next instant after `clock` of those that are `due_at` and every so many seconds from there on."""
    return due_at + seconds * (math.floor((clock - due_at) / seconds) + 1)
