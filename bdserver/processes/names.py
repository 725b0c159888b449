"""Names of hosts, looked up beside the loop: a name server that does not answer holds up that name, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from bdserver.errors import NobodyThere
from bdserver.net import dialling

# An answer is good for so long, and so is the lack of one; a look-up that takes longer is given up.
FOUND_SECONDS, LOST_SECONDS, PATIENCE = 60.0, 5.0, 5.0
# Look-ups at once: of more, each waits for its turn.
AT_ONCE = 4
NAMES_MAX = 1000


class _Known(NamedTuple):
    until: float
    found: list[tuple[int, Any]] | None  # None: nobody knows


class Names:
    """`call(function)` has the loop call it soon; `changed()` hears that an answer has come."""

    def __init__(self, call: Callable[[Callable[[], None]], None], changed: Callable[[], None] = lambda: None) -> None:
        self._call, self._changed = call, changed
        self._known: dict[tuple[str, int], _Known] = {}
        self._asked: set[tuple[str, int]] = set()

    def addresses(self, host: str, port: int) -> list[tuple[int, Any]] | None:
        """(family, socket address) of a host; None while it is looked up; NobodyThere when it can't be found now."""
        try:
            return dialling.found(host, port, is_numeric=True)
        except (OSError, UnicodeError):
            pass
        known = self._known.get((host, port))
        if known is None or known.until < time.monotonic():
            self._look_up(host, port)
            return known.found if known is not None else None
        if known.found is None:
            raise NobodyThere(f"{host}: its name is not known, or no name server says so")
        return known.found

    def _look_up(self, host: str, port: int) -> None:
        if (host, port) in self._asked or len(self._asked) >= AT_ONCE:
            return
        self._asked.add((host, port))

        def look() -> None:
            try:
                found: list[tuple[int, Any]] | None = dialling.resolve(host, port, time.monotonic() + PATIENCE)
            except NobodyThere:
                found = None
            self._call(lambda: self._take(host, port, found))

        threading.Thread(target=look, daemon=True).start()

    def _take(self, host: str, port: int, found: list[tuple[int, Any]] | None) -> None:
        self._asked.discard((host, port))
        if len(self._known) >= NAMES_MAX:
            self._known.clear()
        seconds = FOUND_SECONDS if found else LOST_SECONDS
        self._known[host, port] = _Known(time.monotonic() + seconds, found or None)
        self._changed()
