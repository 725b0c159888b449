"""The documented JSON shapes of what STATUS tells, which `bdctl --json` and the gateway print alike; more fields may follow."""

from __future__ import annotations

from typing import Any

from bdserver.core.messages import Status

NODE_SHAPE = ("address", "name", "status", "version", "services", "free_dynamic", "talkable", "draining", "heard_at")


def nodes(status: Status) -> list[dict[str, Any]]:
    """All nodes that are known, those without a name first; what was promised stands at the head of each."""
    known = sorted(status.nodes, key=lambda node: (node["name"] or "", node["address"]))
    return [{key: node[key] for key in NODE_SHAPE} | node for node in known]
