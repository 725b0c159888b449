"""What other processes of a node say to its discoverer through a pipe: one line each, written and read here alone.

A line is written as a whole or not at all (POSIX promises that up to PIPE_BUF bytes), and it is a hint, never the news itself:
that is in the cache. So what cannot be said in one line, and what nobody understands, is Look, which costs one look.
"""

from __future__ import annotations

from typing import assert_never

from bdserver.core.exchange import EVERYBODY
from bdserver.core.names import valid_name
from bdserver.core.tuples import NamedTuple

# PIPE_BUF of Linux: a longer line might be mixed with another process's.
LINE_BYTES_MAX = 4096


class Look(NamedTuple):
    """Look into the cache: something has changed there."""


class Hurry(NamedTuple):
    """Probe this node now: somebody could not reach it."""

    name: str


class Visit(NamedTuple):
    """Synchronise with this node now: it has what we did not expect, or lacks what we did."""

    name: str


class Tell(NamedTuple):
    """Pass the records of these nodes on around the ring, as far as the node `until`, or to EVERYBODY."""

    until: str
    names: tuple[str, ...]


Nudge = Look | Hurry | Visit | Tell


def encode(nudge: Nudge) -> bytes:
    """One line; Look's, when it would be too long, or a name in it is none."""
    line = _words(nudge).encode(errors="replace") + b"\n"
    return line if len(line) <= LINE_BYTES_MAX and decode(line) == [nudge] else b"look\n"


def decode(data: bytes) -> list[Nudge]:
    """The nudges in what was read from the pipe, each once, in the order in which they came first. Never raises."""
    nudges = (_read(line) for line in data.split(b"\n") if line)
    return list({_words(nudge): nudge for nudge in nudges}.values())


def _words(nudge: Nudge) -> str:
    match nudge:
        case Look():
            return "look"
        case Hurry(name):
            return f"hurry {name}"
        case Visit(name):
            return f"visit {name}"
        case Tell(until, names):
            return " ".join(("tell", until, *names))
        case _:
            assert_never(nudge)


def _read(line: bytes) -> Nudge:
    match line.decode(errors="replace").split(" "):
        case ["hurry", name] if valid_name(name):
            return Hurry(name)
        case ["visit", name] if valid_name(name):
            return Visit(name)
        case ["tell", until, *names] if names and all(map(valid_name, names)) and (until == EVERYBODY or valid_name(until)):
            return Tell(until, tuple(names))
        case _:
            return Look()
