"""What other processes say to the discoverer through its pipe, so that it looks, probes, visits or tells at once.

A nudge is a value on both ends and one line on its way; a line is written in one piece or not at all. Nothing depends on
its arrival: the discoverer finds all of it by itself, later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

# What a pipe takes in one piece (PIPE_BUF of Linux): two processes' lines are never mixed.
LINE_BYTES_MAX = 4096


class Look(NamedTuple):
    """Something of our own, or in the view, has changed."""


class Hurry(NamedTuple):
    """Probe that node now: somebody could not reach it."""

    name: str


class Visit(NamedTuple):
    """Synchronise with that node now: our record of it is not what it says."""

    name: str


class Tell(NamedTuple):
    """Pass these nodes' records on around the ring as far as `until`."""

    until: str
    names: tuple[str, ...]


Nudge = Look | Hurry | Visit | Tell


def encode(nudge: Nudge) -> bytes:
    """One line; that of Look() when it would be too long."""
    match nudge:
        case Look():
            words = ["look"]
        case Hurry(name):
            words = ["hurry", name]
        case Visit(name):
            words = ["visit", name]
        case Tell(until, names):
            words = ["tell", until, *names]
    line = " ".join(words).encode() + b"\n"
    return line if len(line) <= LINE_BYTES_MAX else encode(Look())


def decode(data: bytes) -> list[Nudge]:
    """The nudges in some lines, each once; what is none is Look()."""
    return list(dict.fromkeys(_nudges(data.decode(errors="replace"))))


def _nudges(text: str) -> Iterator[Nudge]:
    for line in text.splitlines():
        match line.split(" "):
            case ["hurry", name]:
                yield Hurry(name)
            case ["visit", name]:
                yield Visit(name)
            case ["tell", until, *names] if names:
                yield Tell(until, tuple(names))
            case _:
                yield Look()
