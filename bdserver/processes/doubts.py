"""Which records are believed no longer: their node's certificate is revoked or over, its CA is gone, or a clock was wrong.

Signatures were proved when the records came. What passes with time is looked at each minute, a part of the records each second,
and of all records at once when the list of revoked certificates or our own keys have changed. To drop the records is chores'
business; that they do not come back is ears' and talks', which ask `net.proofs` the same.
"""

from __future__ import annotations

from bdserver.core.membership import Record, untimely
from bdserver.core.view import View
from bdserver.processes.node import Node

MINUTE = 60.0
# After a start each record costs 0.2 ms once, for its certificate to be worked out; later a hundredth of that.
RECORDS_AT_ONCE = 200


class Doubts:
    """`gone` is to be asked every second or so."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._left: list[str] = []  # names that are still to be looked at
        self._again_at = 0.0
        self._seen: object = None  # what the last look at all went by

    def gone(self, view: View, wall: float) -> dict[str, str]:
        """name -> why its record is to be dropped; never our own."""
        self._node.rules.revoked.refresh()
        rules = self._node.proofs, self._node.rules.revoked.entries, frozenset(view.statements)
        has_changed = self._seen is not None and rules != self._seen
        if has_changed or self._seen is None or wall >= self._again_at or self._again_at > wall + MINUTE:
            self._left, self._again_at, self._seen = list(view.records), wall + MINUTE, rules
        count = len(self._left) if has_changed else RECORDS_AT_ONCE
        looked_at, self._left = self._left[:count], self._left[count:]
        records = [view.records[name] for name in looked_at if name in view.records and name != view.me]
        return {record.name: why for record in records if (why := self._doubt(view, record, wall)) is not None}

    def look_again(self) -> None:
        """What was gone could not be dropped."""
        self._seen = ()

    def _doubt(self, view: View, record: Record, wall: float) -> str | None:
        why = untimely(record, wall)
        if why is not None:
            return why
        certificate = view.certificates.get(record.certificate, "")
        return self._node.proofs.doubt_certificate(record, certificate)
