"""When this node last spoke with whom, USERNAME.bdheard: written by the discoverer, told by STATUS and the audit.

Beside the cache, not in it: a quiet mesh changes nothing in the cache, while every probe is a word heard. A report, so it
is renamed into place but not synced: after a crash it begins anew. Nothing decides by it.
"""

from __future__ import annotations

import json
import logging

from bdserver.errors import NoSpace
from bdserver.files import durable

WRITE_SECONDS = 5.0
# 20,000 names of a hundred characters, each with its time.
FILE_BYTES_MAX = 4 << 20

log = logging.getLogger("bdserver.heard")


class Heard:
    """The file, and what of it this process has read or is about to write."""

    def __init__(self, path: str):
        self.path = path
        self._times: dict[str, float] = {}
        self._stamp: durable.Stamp | None = None
        self._written_at = 0.0
        self._is_new = False

    def note(self, name: str, now: float) -> None:
        """The node of this name has answered us just now."""
        self._times[name] = now
        self._is_new = True

    def write(self, known: set[str], now: float) -> None:
        """Now and then, on disk; names that are known no longer are dropped."""
        if not self._is_new or now - self._written_at < WRITE_SECONDS:
            return
        self._written_at, self._is_new = now, False
        self._times = {name: at for name, at in self._times.items() if name in known}
        text = json.dumps({name: round(at, 1) for name, at in self._times.items()})
        try:
            self._stamp = durable.replace(self.path, [text.encode()], is_synced=False)
        except (OSError, NoSpace) as error:
            log.debug("%s: %s", self.path, error)

    def times(self) -> dict[str, float]:
        """name -> epoch seconds, as the discoverer wrote it last."""
        stamp = durable.stamp(self.path)
        if stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            try:
                said = json.loads(durable.read(self.path, FILE_BYTES_MAX)[0])
                self._times = {str(name): float(at) for name, at in said.items()}
            except (OSError, ValueError, TypeError, AttributeError, RecursionError):
                pass  # none that can be read: what we had
        return self._times
