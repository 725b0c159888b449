"""The list of certificates that are refused before their end: `NAME`, or `serial HEX` as `bdkeys show` prints it.

One a line, `#` comments. Looked at by stat before each request, so a line added shuts its owner out at once, on
connections that are open as well. It never fails open: without a list that can be read a node does not start, and a list
that becomes unreadable or wrong while it runs leaves the old one in force, and a complaint until it is well again. A line that
goes away lets its owner in a second later, since a list that an editor writes in place is empty or cut for a moment.
"""

from __future__ import annotations

import logging
import re
import time

from bdserver.core.names import valid_name
from bdserver.errors import BadConfig
from bdserver.files import durable, lines

log = logging.getLogger("bdserver.revoked")

_SERIAL = re.compile(r"serial[: ]\s*((?:[0-9a-f]{1,40}:)*[0-9a-f]{1,40})", re.IGNORECASE)
# RFC 5280 ends serial numbers at 20 octets, here with a colon behind each.
SERIAL_CHARACTERS_MAX = 60
# How long a list is to be as it is, until those who stand in it no more are let in.
SETTLED_SECONDS = 1.0


class Revoked:
    """The list in a file, as it is now; none without a path. BadConfig when it can't be read to begin with.

    `complaint`: why the list in force is not the one in the file, for status; "" when it is."""

    def __init__(self, path: str):
        self.path = path
        self.complaint = ""
        self._stamp: durable.Stamp | None = None
        self._names: frozenset[str] = frozenset()
        self._serials: frozenset[int] = frozenset()
        self._settled_at = float("inf")  # when those in force are the ones in the file alone; infinite: they are
        self._take()

    @property
    def entries(self) -> tuple[frozenset[str], frozenset[int]]:
        """The names and the serial numbers in force."""
        return self._names, self._serials

    def refusal(self, name: str, serial: int) -> str | None:
        """Why this certificate is refused, or None."""
        self.refresh()
        if name in self._names or serial in self._serials:
            return f"the certificate of {name} (serial {serial:x}) is revoked here"
        return None

    def is_serial(self, serial: int) -> bool:
        """Whether a signer's certificate is in the list; by its name a node is meant, not what it signs."""
        return serial in self._serials

    def refresh(self) -> bool:
        """Read the list anew if it changed, and could be read: then True. Before a fork, so that a child begins with the newest
        that could be read."""
        is_still = not self.complaint and (not self.path or durable.is_still(self.path, self._stamp))
        if is_still and time.monotonic() < self._settled_at:
            return False
        before, (names, serials) = self.complaint, self.entries
        try:
            self.reload(self.path)
        except BadConfig:
            if self.complaint != before:  # said once, tried at each look: what failed may pass without a change of the file
                log.error("%s", self.complaint)
            return False
        if not is_still and not (names <= self._names and serials <= self._serials):
            self._names |= names
            self._serials |= serials
            self._settled_at = time.monotonic() + SETTLED_SECONDS
        if before:
            log.info("%s is read again", self.path)
        return True

    def reload(self, path: str) -> None:
        """From now on the list at this path. BadConfig while that can't be read: the one before stays in force."""
        self.path = path
        try:
            self._take()
        except BadConfig as error:
            self.complaint = f"the list of revoked certificates stays as it was: {error}"
            raise
        self.complaint = ""

    def _take(self) -> None:
        stamp = self._stamp_now()  # before reading: what changes meanwhile is seen at the next look
        self._names, self._serials = _read(self.path) if self.path else (frozenset(), frozenset())
        self._stamp, self._settled_at = stamp, float("inf")

    def _stamp_now(self) -> durable.Stamp | None:
        return durable.stamp(self.path) if self.path else None


def _read(path: str) -> tuple[frozenset[str], frozenset[int]]:
    """(names, serial numbers); BadConfig names the line that is neither."""
    names, serials = set(), set()
    for number, entry in lines.entries(path, lines.content(path)[0]):
        match = _SERIAL.fullmatch(entry)
        if match and len(match[1]) <= SERIAL_CHARACTERS_MAX:
            serials.add(int(match[1].replace(":", ""), 16))
        elif valid_name(entry):
            names.add(entry)
        else:
            shown = entry[: lines.SHOWN_CHARACTERS_MAX]
            raise BadConfig(f"{durable.shown(path)}:{number}: neither a name nor a serial number: {shown!r}")
    return frozenset(names), frozenset(serials)
