"""How far a mesh is on its way from one CA to the next, and what a node may do by that.

First every node takes the new CA beside the old one; only when all that are known have it do signers sign by it; then each
node has its certificate renewed; and when nobody's hangs under the old one any more the old CA is dropped. Neither happens
before some days are over: a node that was switched off meanwhile would believe nobody, and nobody it. No step waits for a node
that is gone for good: those are forgotten after a day.
"""

from __future__ import annotations

from collections.abc import Iterable

from bdserver.core.tuples import NamedTuple

# After the roll was told, so much of a certificate's life (three days of ninety) nobody signs by the new CA, and so much (a
# week) the old one is not dropped.
SIGN_SHARE, DROP_SHARE = 1 / 30, 1 / 12
WAITED_FOR_SHOWN = 5


class Sight(NamedTuple):
    """One node, as its record and its certificate show it. `signs`: whether it does so by the new CA; None: it is no signer."""

    name: str
    trusts: bool
    is_under: bool
    signs: bool | None = None


class Stage(NamedTuple):
    """So many of `all` nodes trust the new CA, and have a certificate by it; so many of `signers` sign by it. `waits_for`:
    names of those that the next step waits for; `seconds`: how long it waits for time to pass, and for nobody."""

    all: int
    trusting: int
    renewed: int
    signers: int
    signing: int
    waits_for: tuple[str, ...]
    seconds: float
    may_sign: bool
    may_drop: bool

    def words(self) -> str:
        """For a person."""
        step = f"{self.trusting} of {self.all} nodes trust it, {self.signing} of {self.signers} signers sign by it"
        waits = f"; waits for {', '.join(self.waits_for)}" if self.waits_for else ""
        if self.seconds:
            waits = f"; the next step is in {_in_words(self.seconds)}, since hosts that are switched off may come back"
        return f"{step}, {self.renewed} of {self.all} certificates are by it{waits}"


def _in_words(seconds: float) -> str:
    unit, length = next((each for each in (("d", 86400), ("h", 3600), ("min", 60)) if seconds >= each[1]), ("s", 1))
    return f"{seconds / length:.1f} {unit}"


def stage(nodes: Iterable[Sight], age: float, life: float) -> Stage:
    """How far it is, `age` seconds after it was told, with certificates of that life."""
    known = sorted(nodes)
    trusting = [each for each in known if each.trusts or each.is_under]
    renewed = [each for each in known if each.is_under]
    signers = [each for each in known if each.signs is not None]
    may_sign = len(trusting) == len(known) and age >= SIGN_SHARE * life
    signing = sum(bool(each.signs) for each in signers)
    is_done = len(renewed) == len(known) and signing == len(signers)
    may_drop = is_done and age >= DROP_SHARE * life
    waits, pause = [each.name for each in known if not each.is_under or each.signs is False], 0.0
    if len(trusting) < len(known):
        waits = [each.name for each in known if each not in trusting]
    elif not signing and not renewed:
        pause = SIGN_SHARE * life - age
    elif is_done:
        pause = DROP_SHARE * life - age
    shown = () if pause > 0 else tuple(waits[:WAITED_FOR_SHOWN])
    return Stage(len(known), len(trusting), len(renewed), len(signers), signing, shown, max(pause, 0.0), may_sign, may_drop)
