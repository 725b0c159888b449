"""Who has which edition of Echo, for the tests of what becomes of copies: records and views in a few words."""

from bdserver.core.membership import ALIVE, DYNAMIC, STATIC, Edition, Record, Service, Withdrawal
from tests.unit.views import NOW, a_view

NAME = "Echo"


def original(counter=1, digest=None, **more):
    """What the node says whose service it is; the digest follows the counter unless it is said."""
    return Service(STATIC, 1.0, "", True, Edition(counter, f"d{counter}" if digest is None else digest), **more)


def a_copy(of, counter=1, digest=None, **more):
    """What a holder of a copy says."""
    return original(counter, digest, **more)._replace(type=DYNAMIC, original=of)


def holds(node, service=None, status=ALIVE, **more):
    """The record of a node that offers it; None: that offers nothing."""
    services = {} if service is None else {NAME: service}
    return Record(node, f"10.0.0.{sum(node.encode()) % 256}:1", (1, 0), status, NOW, services, **more)


def withdrew(node, counter=1, service=None, **more):
    """The record of a node that has withdrawn it."""
    return holds(node, service, withdrawn={NAME: Withdrawal(counter, 1)}, **more)


def seen(*others, mine=None, **own):
    """The view of "me", who offers `mine`, on these other nodes."""
    view = a_view(*others)
    services = {} if mine is None else {NAME: mine}
    view.put(view.own._replace(services=services, **own))
    return view
