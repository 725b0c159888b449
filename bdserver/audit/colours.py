"""The colours of page and pictures, in the light and in the dark; nothing is told by colour alone.

A service has its colour and its letter by its name, so they are the same in each picture and on each page, whatever else the
mesh offers. The colours are those of Okabe and Ito, which people with any colour vision tell apart.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable

from bdserver.core.tuples import NamedTuple


class Theme(NamedTuple):
    """One set of colours, `#rrggbb`."""

    paper: str
    ink: str
    soft: str  # lesser text
    line: str
    alive: str  # fills behind ink
    suspect: str
    dead: str
    left: str
    green: str  # edges and words
    yellow: str
    orange: str
    red: str
    blue: str
    services: tuple[str, ...]
    others: str  # of nothing in particular: names of the dead, rests


LIGHT = Theme(
    paper="#ffffff", ink="#1b2027", soft="#5a6270", line="#c9ced6",
    alive="#cdeccf", suspect="#ffe7b3", dead="#ffc9c6", left="#e3e6ea",
    green="#1a7f37", yellow="#a37b00", orange="#cf5b00", red="#c1121f", blue="#0b5fcc",
    services=("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800"), others="#8a919c",
)  # fmt: skip
DARK = Theme(
    paper="#14181d", ink="#e8ebef", soft="#a2abb8", line="#3d444e",
    alive="#1d4a2a", suspect="#5c4610", dead="#6b2026", left="#343a42",
    green="#57c878", yellow="#e3c04a", orange="#ff9a52", red="#ff7b84", blue="#7fb2ff",
    services=("#4aa3df", "#f0b429", "#2cc295", "#e39bc6", "#8fd0f5", "#f0803c", "#e0d34a"), others="#868e99",
)  # fmt: skip
THEMES = {"light": LIGHT, "dark": DARK}
LETTERS = string.ascii_uppercase + string.digits


class Mark(NamedTuple):
    """How a service is known in pictures: the number of its colour among a theme's `services`, and its letter."""

    colour: int
    letter: str


def marks(names: Iterable[str]) -> dict[str, Mark]:
    """The mark of each service, by names alone.

    A name's colour never changes. Its letter is its first; of names that have both in common one keeps it, and each other
    takes a letter that is free in an order of its own. So a service that comes or goes changes a letter only where it collides,
    and no two are alike as long as there are letters.
    """
    digests = {name: hashlib.blake2b(name.encode(errors="replace"), digest_size=16).digest() for name in names}
    waiting = sorted(digests, key=lambda name: (digests[name], name))
    found: dict[str, Mark] = {}
    taken: set[Mark] = set()
    for place in range(len(LETTERS) + 1):
        for name in waiting:
            mark = Mark(digests[name][4] % len(LIGHT.services), _letter(name, digests[name], place))
            if mark not in taken or place == len(LETTERS):
                found[name] = mark
                taken.add(mark)
        waiting = [name for name in waiting if name not in found]
    return found


def on(colour: str) -> str:
    """Black or white, whichever is read more easily on this ground."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"  # where both contrasts of WCAG are the same


def _letter(name: str, digest: bytes, place: int) -> str:
    """The letter that a name would have in this place of its order: its first one, then as its digest says."""
    if place == 0:
        return next((letter for letter in name.upper() if letter in LETTERS), LETTERS[0])
    step = (5, 7, 11, 13, 17, 19, 23, 25)[digest[2] % 8]  # each prime to 36, so that all letters are met
    return LETTERS[(digest[1] + step * place) % len(LETTERS)]
