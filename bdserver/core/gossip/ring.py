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
    return [around[(1 << power) - 1] for power in reversed(range(len(around).bit_length()))]


class Company:
    """Who is there beside this node, around the ring from the one that follows it on.

    Looked up when that has changed, which `notice` is told, and not at each piece of news: it costs a look at every record."""

    def __init__(self, me: str, forbids: Callable[[Record], bool]) -> None:
        self._me, self._forbids = me, forbids
        self.there: list[str] = []  # alive or suspect
        self.listeners: list[str] = []  # those that we may tell our news: alive, and not forbidden by our policy
        self.follower: str | None = None  # the first one that is alive
        self.near: list[str] = []  # those to whom we speak again and again: 1, 2, 4, 8 … steps ahead, the farthest first

    def notice(self, view: View) -> None:
        """Somebody has come or gone, is suspect or is so no longer, has moved, or has another policy."""
        records = view.records
        self.there = arc(self._me, EVERYBODY, (record.name for record in view.others_there()))
        alive = [name for name in self.there if records[name].status != SUSPECT]
        self.listeners = [name for name in alive if not self._forbids(records[name])]
        self.follower = alive[0] if alive else None
        self.near = fingers(self.there)

    def arc(self, start: str, until: str) -> list[str]:
        """Of the listeners, those behind `start` as far as `until`."""
        if start == self._me and until == EVERYBODY:
            return self.listeners
        return arc(start, until, self.listeners)
