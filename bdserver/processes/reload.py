"""SIGHUP, in each process that lives on: the listener, which passes it on to the discoverer and to the children that have a
caller.

All do the same, here; a child does before its next request. Children that wait for a caller are forked anew. Nothing is
written: that this node now says something else of itself is the discoverer's to find, which looks at once.
"""

from __future__ import annotations

from bdserver.processes import logs
from bdserver.processes.node import Node


def read_anew(node: Node) -> list[str]:
    """Read all that SIGHUP may change. Each thing that is bad is returned as a complaint, and the old one stays."""
    complaints = node.reload()
    logs.set_level(node.settings.log_level)
    return complaints
