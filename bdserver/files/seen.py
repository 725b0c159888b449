"""What was seen, USERNAME.bdsigned: of each service that came here signed, the highest counter that a publisher has signed.

Older packages have good signatures too: whoever kept one could bring it back, with whatever was wrong with it. So what has been
seen is kept when the copy goes, and a counter below it is refused. One line a service, `COUNTER NAME`, and a last one with the
checksum of those before it; the file is there whole, or not at all, and one that can't be read, or of which a part is missing,
is refused with all that it might say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bdserver.core.membership import COUNTER_MAX
from bdserver.core.names import valid_name
from bdserver.errors import BadConfig, BadPackage
from bdserver.files import durable, lines

LOCK_SECONDS = 5.0
# Two hundred thousand services: more than any mesh has, and less than would be a burden to read.
FILE_BYTES_MAX = 16 << 20


class Seen:
    """For all processes of a node; there is none to begin with."""

    def __init__(self, path: str):
        self.path = path

    def newest(self, name: str) -> int:
        """The highest that was seen of this service, or 0. BadConfig when the file can't be read."""
        return self._read().get(name, 0)

    def check(self, name: str, counter: int) -> None:
        """BadPackage for a counter that is older than one that was seen."""
        newest = self.newest(name)
        if counter < newest:
            raise BadPackage(f"{name}: edition {counter} was signed, and {newest} has been here: no older one comes back")

    def raise_to(self, name: str, counter: int) -> None:
        """As `check`; from now on it is seen."""
        with self._locked():
            self.check(name, counter)
            known = self._read()
            if known.get(name, 0) < counter:
                known[name] = counter
                self._write("".join(f"{each} {of}\n" for of, each in sorted(known.items())).encode())

    def _write(self, rows: bytes) -> None:
        try:
            # The folder is not synced, which would be half of the cost: installing what was signed syncs its own right
            # behind this, and a power cut between the two, which is no attacker's to choose, costs this one counter.
            durable.replace(self.path, [rows, lines.ending(rows)], is_named=False)
        except OSError as error:
            raise BadConfig(f"{durable.shown(self.path)}: {error.strerror}") from None

    def _read(self) -> dict[str, int]:
        if not os.path.lexists(self.path):
            return {}
        try:
            data = durable.read(self.path, FILE_BYTES_MAX)[0]
        except OSError as error:
            raise BadConfig(f"{durable.shown(self.path)}: {error.strerror}") from None
        found = {}
        rows, is_whole = lines.split_ending(data)
        if not is_whole:
            raise BadConfig(f"{durable.shown(self.path)}: is damaged: nothing that is signed is taken in until it is removed")
        for number, line in lines.entries(self.path, rows):
            counter, _, name = line.partition(" ")
            is_counter = counter.isascii() and counter.isdecimal() and len(counter) <= len(str(COUNTER_MAX))
            if not is_counter or not valid_name(name):
                raise BadConfig(f"{durable.shown(self.path)}:{number}: not COUNTER NAME of a signed service")
            found[name] = int(counter)
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.path + ".lock"
        try:
            file = durable.open_lock(path)
        except OSError as error:
            raise BadConfig(f"{durable.shown(path)}: {error.strerror}") from None
        with file:
            durable.lock(file.fileno(), LOCK_SECONDS, path)
            yield
