"""What gossip wants done, what may come of it, and what is to be written into the view.

The discoverer (or a simulation) carries an action out and reports one outcome; which type it has says all that matters. They
are values: whoever carries them out needs nothing else, and nothing of theirs changes.
"""

from __future__ import annotations

from typing import assert_never

from bdserver.core.messages import Pong
from bdserver.core.tuples import NamedTuple

# A node takes a piece of news in milliseconds; one that takes longer is perhaps on a machine that is short of time.
PUSH_SECONDS = 2.0


class Probe(NamedTuple):
    """PING this node, and tell it the records of these names on the way."""

    name: str
    address: str
    seconds: float
    news: tuple[str, ...] = ()


class Ask(NamedTuple):
    """Ask `helper` to PING a node that did not answer us: SWIM's indirect probe, its ping-req."""

    helper: str
    helper_address: str
    name: str
    address: str
    seconds: float


class Push(NamedTuple):
    """Tell this node the records of these names; with `until`, it shall pass them on around the ring as far as that node."""

    name: str
    address: str
    news: tuple[str, ...]
    until: str | None = None
    seconds: float = PUSH_SECONDS


class Synchronise(NamedTuple):
    """Synchronise with the node at this address; `name` is None when nobody knows which one that is."""

    name: str | None
    address: str


Action = Probe | Ask | Push | Synchronise


# What may come of them. Of a Probe that went well it is the answer itself: Pong, with the digest of the other's view.
class There(NamedTuple):
    """It lives, and that is all we know: it refused for policy, or is too busy; of an Ask, the helper has reached it; of a
    Synchronise, it is done."""


class Taken(NamedTuple):
    """Of a Push: it has taken the news, and knew so many of the records before."""

    known: int = 0


class Refused(NamedTuple):
    """The host answers, and no such node listens there: evidence of death; of an Ask, the helper was told so. `reason` is for
    the log."""

    reason: str = ""


class Silent(NamedTuple):
    """No answer in time. `is_nack`, of an Ask: the helper lives, and could not tell or did not reach the other one."""

    is_nack: bool = False
    reason: str = ""


Outcome = There | Pong | Taken | Refused | Silent


def is_there(outcome: Outcome) -> bool:
    """Whether the node that was called lives (of an Ask: the one that was asked for)."""
    match outcome:
        case There() | Pong() | Taken():
            return True
        case Refused() | Silent():
            return False
        case _:
            assert_never(outcome)


class Verdict(NamedTuple):
    """What to write into the view: an accusation, or a death."""

    is_death: bool
    name: str
