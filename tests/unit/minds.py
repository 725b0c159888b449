"""A mind for the tests of gossip, and somebody who answers each of its actions at once."""

from random import Random

from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip.actions import Probe, Push, Taken, There
from bdserver.core.gossip.discovery import Discovery
from bdserver.core.gossip.ring import arc
from bdserver.core.gossip.rounds import Rhythm
from bdserver.core.messages import Pong


def mind_at(me="me", clock=0.0, **keywords):
    """The mind of a node that starts at this instant."""
    return Discovery(me, Rhythm(), Random(1), clock, **keywords)


def follower(me, names):
    """The one that follows `me` in the ring, of these."""
    return arc(me, EVERYBODY, names)[0]


def of_kind(actions, kind):
    """Those of one type."""
    return [action for action in actions if isinstance(action, kind)]


def well(action, view):
    """What comes of an action when all is well: the other side has the same view, and took what was told as news."""
    if isinstance(action, Probe):
        return Pong(view.digest())
    return Taken(0) if isinstance(action, Push) else There()


def drained(mind, view, seconds, step=0.05, outcome=None, start=0.0):
    """(clock, action) of everything the mind wants, each answered at once, well or with this outcome."""
    said, clock = [], start
    while clock < seconds:
        for action in mind.due(view, clock, 0.0, 100.0):
            said.append((clock, action))
            mind.done(action, well(action, view) if outcome is None else outcome, view, clock)
        clock += step
    return said


def doubt(mind, view, outcome, clock=1.0):
    """Let a probe of n0 fail; the asks that follow."""
    mind.due(view, 0.0, 0.0, 100.0)
    mind.hurry("n0")
    probe = next(a for a in of_kind(mind.due(view, clock, 0.0, 100.0), Probe) if a.name == "n0")
    return mind.done(probe, outcome, view, clock)
