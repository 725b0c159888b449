"""The ring of all nodes, in the order of a hash, so that the hosts of one rack are not neighbours.

A node watches the one that follows it. It tells news to those at 1, 2, 4, 8 … steps (Chord's fingers), each with the arc as
far as the next of them to pass it on in: so each node is told once, in log2 N steps, and a node always speaks to the same few.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from hashlib import blake2b

from bdserver.core.exchange import EVERYBODY
from bdserver.core.membership import RECORDS_MAX, SUSPECT, Record
from bdserver.core.view import View

_PLACES = 1 << 64


@functools.lru_cache(maxsize=RECORDS_MAX)
def _place(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8, person=b"ring").digest(), "big")


def follower(me: str, names: Iterable[str]) -> str | None:
    """The next of these behind `me` in the ring; None when there is nobody."""
    place = _place(me)
    return min(names, key=lambda name: ((_place(name) - place) % _PLACES, name), default=None)


def arc(start: str, until: str, names: Iterable[str]) -> list[str]:
    """Of these names, those behind `start` as far as `until`, in the order of the ring; with EVERYBODY, all around."""
    begin = _place(start)
    length = _PLACES if until == EVERYBODY else (_place(until) - begin) % _PLACES
    steps = sorted(((_place(name) - begin) % _PLACES, name) for name in names)
    return [name for step, name in steps if 0 < step <= length]


def pieces(around: list[str]) -> list[list[str]]:
    """Cut an arc into pieces of 1, 2, 4, 8 … names, the last piece first.

    A node that tells the first of each piece tells the nodes 1, 2, 4, 8 … steps ahead: the same few for every piece of news,
    whatever the length of the arc."""
    return [around[(1 << power) - 1 : (2 << power) - 1] for power in reversed(range(len(around).bit_length()))]


def fingers(around: list[str]) -> list[str]:
    """The nodes 1, 2, 4, 8 … steps ahead, the farthest first."""
    return [piece[0] for piece in pieces(around)]


class Listeners:
    """The nodes that we may tell the news: alive, and not forbidden by our policy. Each view is looked through once."""

    def __init__(self, me: str, forbids: Callable[[Record], bool]) -> None:
        self._me, self._forbids = me, forbids
        self._view: View | None = None
        self._around: list[str] = []

    def around(self, view: View) -> list[str]:
        """All of them, in the order of the ring, from the one that follows us on."""
        if view is not self._view:
            names = (r.name for r in view.others_there() if r.status != SUSPECT and not self._forbids(r))
            self._view, self._around = view, arc(self._me, EVERYBODY, names)
        return self._around
