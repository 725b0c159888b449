"""The black list: addresses of hosts that are closed unread and never called, one a line, `#` comments."""

from __future__ import annotations

from bdserver.core.address import split_address
from bdserver.errors import BadConfig, BDError


class BlackList:
    """The addresses in a file; none without a path. BadConfig names the line that is no address."""

    def __init__(self, path: str = "") -> None:
        self._hosts = _read(path) if path else frozenset()

    def __contains__(self, host: str) -> bool:
        return host in self._hosts

    def __bool__(self) -> bool:
        return bool(self._hosts)


def _read(path: str) -> frozenset[str]:
    hosts = set()
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                text = line.partition("#")[0].strip()
                if text:
                    hosts.add(_host(path, number, text))
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadConfig(f"{path}: not UTF-8 text") from None
    return frozenset(hosts)


def _host(path: str, number: int, text: str) -> str:
    try:
        return split_address(text, 1)[0]
    except BDError as error:
        raise BadConfig(f"{path}:{number}: {error}") from None
