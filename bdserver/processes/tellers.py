"""Who told how much that had to be proved: a budget for each teller, and what was left out said in the log.

To prove a record costs a tenth of a millisecond of the one loop that hears news, so a node that tells thousands that are made
up would keep it from all else. Within a minute a teller may have so many proved, and so many of them may be refused, which is
more than a mesh of thousands that comes back after a power cut has to tell; a teller that has spent that is answered NO until
the minute is over. A node that changes its own record without end is passed over for the rest of the minute, whoever tells of
it: else it would spend the budgets of all that pass it on.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b

from bdserver.core import membership
from bdserver.core.exchange import Absorbed, Guard, Later, Prove
from bdserver.core.membership import Record
from bdserver.errors import TooBusy
from bdserver.files.quarantine import Kind
from bdserver.processes.node import Node

MINUTE = 60.0
PROVED_MAX, REFUSED_MAX = 6000, 600
# So often may one node's own word be news within a minute: a person or a script that publishes changes it a few times a second.
CHANGES_MAX = 1500
# Tellers have certificates, so there are as many as nodes; those whose minute is over are forgotten beyond this.
TELLERS_MAX = 1000
SHOWN_CHARACTERS_MAX = 300

log = logging.getLogger("bdserver.tellers")


class _Teller:
    """What one told in its minute; `line`: what was said of it in the log last."""

    __slots__ = ("began", "line", "proved", "refused", "was_refused")

    def __init__(self, clock: float) -> None:
        self.began, self.proved, self.refused, self.was_refused, self.line = clock, 0, 0, 0, ""

    @property
    def is_spent(self) -> bool:
        return self.proved >= PROVED_MAX or self.refused >= REFUSED_MAX


class Tellers:
    """All tellers, by name."""

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._clock = node, clock
        self._tellers: dict[str, _Teller] = {}
        self._changes: Counter[str] = Counter()  # of each node: how often its own word was news in the minute of all of them
        self._changes_began = 0.0

    def is_spent(self, name: str) -> bool:
        """Whether this one must wait until its minute is over."""
        return self._of(name).is_spent

    def prove_for(self, name: str) -> Prove:
        """How records that this one tells are proved, for one exchange, of which `took` then hears."""
        teller = self._of(name)
        teller.was_refused = teller.refused

        def prove(record: Record, certificate: str) -> str | None:
            if self._has_changed_enough(record.name):
                raise Later
            if teller.is_spent:
                raise TooBusy(f"{name} has told too much for a minute")
            teller.proved += 1
            why = self._node.proofs.doubt(record, certificate)
            teller.refused += why is not None
            if why is None:
                self._changes[record.name] += 1
            return why

        return prove

    def _has_changed_enough(self, name: str) -> bool:
        clock = self._clock()
        if clock >= self._changes_began + MINUTE:
            self._changes.clear()
            self._changes_began = clock
        if self._changes[name] == CHANGES_MAX:
            log.warning("%s changed what it says %d times within a minute: the rest is passed over", name, CHANGES_MAX)
            self._changes[name] += 1  # it is said once
        return self._changes[name] > CHANGES_MAX

    def guard_for(self, name: str) -> Guard:
        """What stands around the reading of each record that this one tells."""

        def guard(value: object) -> contextlib.AbstractContextManager[None]:
            said = value.get("said") if isinstance(value, dict) else None
            digest = blake2b(repr(said).encode(errors="replace"), digest_size=16).hexdigest()
            about = membership.named_in(value)
            of = f" of {about}" if about else ""
            return self._node.quarantine.guard(Kind.RECORD, digest, f"a record{of} that {name} told", about)

        return guard

    def took(self, name: str, absorbed: Absorbed) -> None:
        """An exchange of this one was taken in, but for what it says."""
        teller = self._of(name)
        teller.proved += absorbed.lacking
        self._node.heard.note_doubters(absorbed.doubters, self._node.clock())
        teller.refused = teller.was_refused + len(absorbed.refused)
        if not absorbed.refused:
            return
        line = absorbed.refused[-1][:SHOWN_CHARACTERS_MAX]
        if not teller.was_refused and line != teller.line:
            log.warning("left out of what %s tells: %s", name, line)
            teller.line = line
        if teller.is_spent:
            log.warning("%s told too much for a minute, and is not heard for the rest of it (the last: %s)", name, line)

    def _of(self, name: str) -> _Teller:
        clock = self._clock()
        teller = self._tellers.get(name)
        if teller is None:
            if len(self._tellers) >= TELLERS_MAX:
                self._tellers = {each: it for each, it in self._tellers.items() if clock < it.began + MINUTE}
            teller = self._tellers[name] = _Teller(clock)
        elif clock >= teller.began + MINUTE:
            if teller.refused > 1:
                log.warning("%d records were left out of what %s told within a minute", teller.refused, name)
            teller.began, teller.proved, teller.refused, teller.was_refused = clock, 0, 0, 0
        return teller
