"""The documented JSON shape of nodes, which `bdctl nodes --json` and the gateway print alike; more fields may follow.

Imports nothing: the short way of bdctl has no time to.
"""

TYPE_CHECKING = False  # as typing's, whose import would cost bdctl two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

NODE_SHAPE = ("address", "name", "status", "version", "services", "free_dynamic", "talkable", "draining", "heard_at")


def nodes(known: "Iterable[dict[str, Any]]") -> "list[dict[str, Any]]":
    """All nodes that STATUS tells of, those without a name first; what was promised stands at the head of each."""
    known = sorted(known, key=lambda node: (node["name"] or "", node["address"]))
    return [{key: node[key] for key in NODE_SHAPE} | node for node in known]
