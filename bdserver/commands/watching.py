"""bdctl watch: what changes in the mesh, as it changes.

Works on what STATUS tells of nodes, asked once a second; core.changes says what counts as a change.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from bdserver.core.changes import Node, changes, named
from bdserver.errors import BDError

POLL_SECONDS = 1.0


def watch(ask: Callable[[], list[Node]], as_json: bool) -> None:
    """Print a line for each change until interrupted; silence of the node itself is a change too."""
    before: dict[str, Node] | None = None
    is_silent = False
    while True:
        try:
            nodes = named(ask())
            if is_silent:
                _say(time.time(), "this node", "answers again", as_json)
            is_silent = False
            for each in changes(nodes if before is None else before, nodes):
                _say(time.time(), each.node, each.words, as_json)
            before = nodes
        except BDError as error:
            if before is None:
                raise
            if not is_silent:
                _say(time.time(), "this node", f"does not answer: {error}", as_json)
            is_silent = True
        time.sleep(POLL_SECONDS)


def _say(at: float, name: str, words: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"at": round(at, 3), "node": name, "change": words}), flush=True)
    else:
        print(f"{time.strftime('%H:%M:%S', time.localtime(at))}  {name} {words}", flush=True)
