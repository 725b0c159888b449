"""The journal, USERNAME.bdjournal: what this node did to services, and why; the audit shows the newest of it.

A JSON line an event, appended with one write, so children need no lock. A full file is renamed to `.1` (a process that is
writing just then writes there), so two files bound the disk. It informs: a full disk costs an entry, never the deed; a power
cut the newest entries, never the older ones nor those that follow.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from typing import Any

from bdserver.files import durable
from bdserver.files.values import value_in

FILE_BYTES_MAX = 64 << 10
# Of the newest events, so many are looked at for one that is told already.
REPEATS_LOOKED_AT = 50

log = logging.getLogger("bdserver.journal")


class Journal:
    """What happened here, for all processes of a node."""

    def __init__(self, path: str):
        self.path = path
        self.counted: Callable[[str], None] = _nothing  # is told the kind of each event

    def note(self, what: str, service: str, now: float, **details: str) -> None:
        """Append an event: {"at": epoch, "what", "service", …}. `what` is one of core.counting's EVENTS."""
        self.counted(what)
        line = json.dumps({"at": round(now, 3), "what": what, "service": service, **details}) + "\n"
        try:
            descriptor = self._open()
            try:
                durable.append_lines(descriptor, line.encode())
                is_full = os.fstat(descriptor).st_size > FILE_BYTES_MAX
            finally:
                os.close(descriptor)
            if is_full:
                os.replace(self.path, self.path + ".1")
        except OSError as error:
            log.warning("%s: %s", self.path, error.strerror)

    def note_once(self, what: str, service: str, now: float, **details: str) -> None:
        """The same, unless it is among the newest: what is tried again and again does not push out all else."""
        event = {"what": what, "service": service, **details}
        if not any(event.items() <= known.items() for known in self.recent(REPEATS_LOOKED_AT)):
            self.note(what, service, now, **details)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND
        try:
            return durable.open_regular(self.path, flags)
        except FileNotFoundError:
            # The full one has its new name on the disk before another one gets the old.
            durable.sync(os.path.dirname(self.path) or ".")
            return durable.open_regular(self.path, flags | os.O_CREAT)

    def recent(self, count: int) -> list[dict[str, Any]]:
        """The newest events, newest first; what is no event is passed over."""
        events: list[dict[str, Any]] = []
        for path in (self.path, self.path + ".1"):
            for line in reversed(_lines(path)):
                if len(events) == count:
                    return events
                event = _parsed(line)
                if event is not None:
                    events.append(event)
        return events


def _nothing(what: str) -> None:
    """Nobody counts."""


def _lines(path: str) -> list[bytes]:
    try:
        return durable.read(path, 2 * FILE_BYTES_MAX)[0].splitlines()
    except OSError:  # none yet, or none that is ours to read: no events
        return []


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = value_in(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"at", "what", "service"} <= event.keys() else None
