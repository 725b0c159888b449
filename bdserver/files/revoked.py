"""The list of certificates that are refused before their end: `NAME`, or `serial HEX` as `bdkeys show` prints it.

One a line, `#` comments. Looked at by stat before each request, so a line added shuts its owner out at once, on
connections that are open as well. A list that becomes unreadable or wrong is complained of, and the old one stays.
"""

from __future__ import annotations

import logging
import os
import re

from bdserver.core.names import valid_name
from bdserver.errors import BadConfig

log = logging.getLogger("bdserver.revoked")

_SERIAL = re.compile(r"serial[: ]\s*([0-9a-f:]{1,60})", re.IGNORECASE)


class Revoked:
    """The list in a file, as it is now; none without a path."""

    def __init__(self, path: str):
        self.path = path
        self._stamp: tuple | None = None
        self._names: frozenset[str] = frozenset()
        self._serials: frozenset[int] = frozenset()
        if path:
            self._stamp = _stamp(path)
            self._names, self._serials = _read(path)

    def refusal(self, name: str, serial: int) -> str | None:
        """Why this certificate is refused, or None."""
        self.refresh()
        if name in self._names or serial in self._serials:
            return f"the certificate of {name} (serial {serial:x}) is revoked here"
        return None

    def refresh(self) -> bool:
        """Read the list anew if it changed, and could be read: then True. Before a fork, so that a child begins with the newest
        that could be read."""
        stamp = _stamp(self.path) if self.path else None
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._names, self._serials = _read(self.path)
        except BadConfig as error:
            log.error("the list of revoked certificates stays as it was: %s", error)
            return False
        return True


def _stamp(path: str) -> tuple | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: str) -> tuple[frozenset[str], frozenset[int]]:
    """(names, serial numbers); BadConfig names the line that is neither."""
    names, serials = set(), set()
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadConfig(f"{path}: not UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        match = _SERIAL.fullmatch(text)
        if match:
            serials.add(int(match[1].replace(":", ""), 16))
        elif valid_name(text):
            names.add(text)
        elif text:
            raise BadConfig(f"{path}:{number}: neither a name nor a serial number: {text[:60]!r}")
    return frozenset(names), frozenset(serials)
