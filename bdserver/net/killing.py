"""Ending every node that can be found from one, as the kill_all of 2006 did: for `bdctl kill --all` and the Python API.

The crawl goes outward: a node is ended once its own list of nodes is known. A node that refuses, or does not
answer, keeps nobody from ending the others. Each node decides itself whether the caller may end it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bdserver.core import pages
from bdserver.core.messages import Status
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig, BDError, Forbidden
from bdserver.net import dialling
from bdserver.net.conversation import Conversation
from bdserver.net.keys import Credentials

# For each node: one that is there answers at once.
NODE_SECONDS = 3.0


class Ended(NamedTuple):
    """Addresses of the nodes that ended, of those that were not there or did not answer, and of those that want other keys."""

    killed: list[str]
    silent: list[str]
    refused: list[str]

    def refusal(self) -> str:
        """One line that names the nodes that refused, and the keys that they want."""
        return (
            f"{', '.join(self.refused)}: only the keys of an admin end the nodes of other hosts: --keys DIR/NAME "
            "(bdkeys issue CA NAME --role admin makes them), or --password and their admin_password"
        )


def kill_request(password: str | None) -> list[str]:
    """The request that ends a node; an admin needs no password."""
    return ["KILL", password] if password else ["KILL"]


def _asked(talk: Conversation, deadline: float, request: list[Any]) -> Any:
    return talk.ask(request, deadline)


def kill_outward(
    first: Status,
    credentials: Callable[[], Credentials],
    password: str | None,
    on_silence: Callable[[str], None],
    kill_local: Callable[[], object] | None = None,
) -> Ended:
    """End the node that told `first`, and all that can be found from it; `on_silence(reason)` hears of each that goes on.

    `credentials()`: what is shown to nodes that are called over TLS. `kill_local()`: ends the node that told `first`, where it
    was reached by the socket of this host; it comes last, and needs no credentials."""
    crawl = _Crawl(password, on_silence)
    addresses = [str(node["address"]) for node in first.nodes]
    if kill_local is None:
        crawl.go(addresses, credentials())
        return crawl.ended
    own = str(first.own["address"])
    crawl.seen.add(own)
    others = [address for address in addresses if address != own]
    try:
        if others:
            crawl.go(others, credentials())
    except BadConfig as error:
        on_silence(str(error))
        crawl.ended.refused.extend(others)
    crawl.end(own, kill_local)
    return crawl.ended


class _Crawl:
    """A crawl under way. `seen`: addresses that are not called any more."""

    def __init__(self, password: str | None, on_silence: Callable[[str], None]) -> None:
        self._request = kill_request(password)
        self._on_silence = on_silence
        self.ended = Ended([], [], [])
        self.seen: set[str] = set()

    def go(self, addresses: list[str], shown: Credentials) -> None:
        """End the nodes at these addresses, and those that they know."""
        to_get = list(addresses)

        def kill(address: str) -> None:
            deadline = time.monotonic() + NODE_SECONDS
            with dialling.dial(address, shown, deadline) as talk:
                to_get.extend(str(node["address"]) for node in pages.status(partial(_asked, talk, deadline)).nodes)
                talk.ask(self._request, deadline)

        while to_get:
            address = to_get.pop()
            if address not in self.seen:
                self.seen.add(address)
                self.end(address, partial(kill, address))

    def end(self, address: str, kill: Callable[[], object]) -> None:
        """Note what came of ending one node."""
        try:
            kill()
            self.ended.killed.append(address)
        except Forbidden as error:
            self.ended.refused.append(address)
            self._on_silence(str(error))
        except BDError as error:
            self.ended.silent.append(address)
            self._on_silence(str(error))
