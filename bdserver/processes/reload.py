"""SIGHUP, in each process that lives on: the listener, and the discoverer, to which the listener passes it on.

Both do the same, here. Children that wait are forked anew, and those with a caller serve it as they began. Nothing is
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
