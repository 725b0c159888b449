"""The colours of page and pictures, in the light and in the dark; nothing is told by colour alone.

Services take the colours of Okabe and Ito, which people with any colour vision tell apart, in the order of their weight.
"""

from __future__ import annotations

from typing import NamedTuple


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
    others: str  # all services that have no colour of their own


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


def service_order(weights: dict[str, float]) -> list[str]:
    """The services that have a colour of their own, in its order: the heaviest, then by name."""
    return sorted(weights, key=lambda name: (-weights[name], name))[: len(LIGHT.services)]
