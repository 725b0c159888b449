"""Names of hosts, looked up beside the loop: a name server that does not answer holds up that name, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bdserver.core.tuples import NamedTuple
from bdserver.errors import NobodyThere
from bdserver.net import tcp

# An answer is good for so long, and so is the lack of one; a name that takes longer is not known.
FOUND_SECONDS, LOST_SECONDS, PATIENCE = 60.0, 5.0, 5.0
NAMES_MAX = 1000


class _Known(NamedTuple):
    until: float
    found: list[tuple[int, Any]] | None  # None: nobody knows


class Names:
    """`call(function)` has the loop call it soon; `changed()` hears that an answer has come."""

    def __init__(self, call: Callable[[Callable[[], None]], None], changed: Callable[[], None] = lambda: None) -> None:
        self._call, self._changed = call, changed
        self._known: dict[tuple[str, int], _Known] = {}
        self._asked_at: dict[tuple[str, int], float] = {}  # those under way

    def addresses(self, host: str, port: int) -> list[tuple[int, Any]] | None:
        """(family, socket address) of a host; None while it is looked up, or waits for that; NobodyThere when it can't be found
        now."""
        try:
            return tcp.found(host, port, is_numeric=True)
        except (OSError, UnicodeError):
            pass
        known, now = self._known.get((host, port)), time.monotonic()
        began_at = self._look_up(host, port) if known is None or known.until < now else None
        if known is not None and known.found is not None:  # it may be old, and is used until there is another one
            return known.found
        if began_at is not None and now - began_at <= PATIENCE:
            return None
        raise NobodyThere(f"{host}: its name is not known, or no name server says so")

    def _look_up(self, host: str, port: int) -> float:
        """When it began; the future, when it must wait."""
        key = host, port
        if key in self._asked_at:
            return self._asked_at[key]
        if not tcp.look_up(host, port, lambda answer: self._call(lambda: self._take(host, port, answer))):
            return float("inf")
        self._asked_at[key] = time.monotonic()
        return self._asked_at[key]

    def _take(self, host: str, port: int, answer: list[tuple[int, Any]] | Exception) -> None:
        del self._asked_at[host, port]
        found = None if isinstance(answer, Exception) else answer
        if len(self._known) >= NAMES_MAX:
            self._known.clear()
        seconds = FOUND_SECONDS if found else LOST_SECONDS
        self._known[host, port] = _Known(time.monotonic() + seconds, found or None)
        self._changed()
