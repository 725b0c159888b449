"""The black list: addresses of hosts whose connections are closed unread, and that are never called.

One a line, `#` comments. It is read once, and again by SIGHUP, as a new one that takes the old one's place. Only addresses
stand in it: a caller shows its address and no name, so a name would look well and keep nobody out.
"""

from __future__ import annotations

from ipaddress import ip_address

from bdserver.core.address import split_address
from bdserver.errors import BadConfig, BDError
from bdserver.files import durable, lines


class BlackList:
    """The list in a file as it was when this was made; an empty one without a path. BadConfig names what is wrong."""

    def __init__(self, path: str = ""):
        self.path = path
        self._hosts: frozenset[str] = frozenset()
        if path:
            entries = lines.entries(path, lines.content(path)[0])
            self._hosts = frozenset(_host(path, number, entry) for number, entry in entries)

    def __contains__(self, host: object) -> bool:
        return host in self._hosts

    def __len__(self) -> int:
        return len(self._hosts)


def _host(path: str, number: int, entry: str) -> str:
    try:
        host = split_address(entry, 1)[0]
        ip_address(host)
    except BDError as error:
        raise BadConfig(f"{durable.shown(path)}:{number}: {error}") from None
    except ValueError:
        raise BadConfig(
            f"{durable.shown(path)}:{number}: {entry[: lines.SHOWN_CHARACTERS_MAX]!r} is a name: "
            "only addresses can be kept out, write those that it has"
        ) from None
    return host
