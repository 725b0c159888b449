"""Both ends of tickets, as a session has them: what a holder promises and takes back, and what an asker spends and tells.

What is promised is logged as hits at once, and what was not spent is taken back by BACK lines when the asker tells: so weight
and hit log are right at any time, in all processes. How many, and what an asker believes, is core.tickets'.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bdserver.core import tickets
from bdserver.core.membership import Record
from bdserver.core.messages import No, Yes
from bdserver.core.tickets import TICKET_SECONDS, Promises, Wallet
from bdserver.core.weight import BACK, HIT
from bdserver.errors import BDError
from bdserver.files.bdcert import Service
from bdserver.net.connections import Connections
from bdserver.processes.node import Node

# The setting `routing` under which there are no tickets: each call is asked for, as in 2006.
WITHOUT = "original"
# For telling what was spent, where nothing else is to be asked: meanwhile the caller may say something.
TELL_SECONDS = 0.05


class Giver:
    """The holder's end of one connection."""

    def __init__(self, node: Node, asker: str, host: str) -> None:
        self._node, self._asker, self._host = node, asker, host
        self._promises = Promises()

    def settle(self, service: str, spent: int, now: float) -> None:
        """The asker has spent so many of the last promise."""
        settled = self._promises.settle(service, spent, now)
        mine = self._node.services.all().get(service) if settled is not None else None
        if settled is None or mine is None:
            return
        with self._node.purse.opened(self._asker, now) as account:
            if account is not None and now < settled.at:  # else it has ended there by itself
                account.add(-(settled.spent + settled.left) * mine.cost, settled.at)
        # Where the web server's log tells of calls, those that were made are in there.
        taken_back = settled.left + (settled.spent if self._node.settings.access_log else 0)
        if taken_back:
            self._node.log_calls(service, BACK, self._host, settled.at, taken_back)

    def promise(self, service: Service, found: Mapping[str, Service], now: float) -> Mapping[str, Any]:
        """What stands behind a YES."""
        usable = self._promises.usable(service.name, now)
        if not usable or self._node.settings.routing == WITHOUT:
            return {}
        with self._node.purse.opened(self._asker, now) as account:
            if account is None:  # another child has it, and perhaps sleeps meanwhile: askers would begin at one ticket again
                self._promises.put_off(service.name)
                return {}
            total, threshold = self._node.load.total_weight(now, service.name, found), self._node.settings.receiver_threshold
            count = tickets.granted(usable, total, threshold, service.cost, account.held)
            until = now + TICKET_SECONDS
            if not count or not self._node.log_calls(service.name, HIT, self._host, until, count):
                return {}
            account.add(count * service.cost, until)
        self._promises.give(service.name, count, until)
        return {"tickets": count, "seconds": TICKET_SECONDS}

    def are_out(self) -> bool:
        """Whether anything is promised of which the asker has not told."""
        return self._promises.are_out()


class Taker:
    """The asker's end of the connections of one session."""

    def __init__(self, node: Node, connections: Connections) -> None:
        self._node, self._connections = node, connections
        self._wallet = Wallet()
        self.is_taking = False  # while a look-up is under way: what is asked for others gets no tickets

    def begin(self) -> None:
        """A look-up begins."""
        self.is_taking = self._node.settings.routing != WITHOUT

    def asking(self, name: str, request: list[Any]) -> list[Any]:
        """The question as it is put: whoever takes tickets says so, and how many of the last ones were spent."""
        if not self.is_taking or request[0] != "WILLYOUEXECUTE":
            return request
        return [*request, {"spent": self._wallet.told(name, request[1])}]

    def heard(self, record: Record | None, request: list[Any], answer: object, asked_at: float, talk: object) -> None:
        """An answer to it, on this connection."""
        if record is not None and len(request) == 3 and request[0] == "WILLYOUEXECUTE" and isinstance(answer, Yes | No):
            self._wallet.learn(record.name, request[1], answer, asked_at, _terms(record, request[1], talk))

    def spend(self, record: Record, service: str) -> Yes | None:
        """The holder's YES, if it has promised this call, its connection is open, and it still says of itself what it did."""
        if not self.is_taking or not self._wallet.has(record.name, service):
            return None
        talk = self._connections.alive(record.name, record.address)
        if talk is None:
            self._wallet.told_all(record.name)  # they have ended with it, and there is nobody to tell
            return None
        return self._wallet.spend(record.name, service, time.monotonic(), _terms(record, service, talk))

    def is_refused(self, name: str, service: str) -> bool:
        """Whether that holder has said that it has no room yet."""
        return self.is_taking and self._wallet.is_refused(name, service, time.monotonic())

    def farewell(self, name: str) -> list[Any] | None:
        """The last word to a holder."""
        calls = self._wallet.told_all(name)
        return ["SPENT", calls] if calls else None

    def ends_at(self) -> float | None:
        """When the holders are to be told, if nothing is asked before."""
        return self._wallet.ends_at()

    def tell(self) -> None:
        """Tell all of them now."""
        view = self._node.cache.view()
        for name in list(self._wallet.holders()):
            record, words = view.records.get(name), self.farewell(name)
            talk = self._connections.alive(name, record.address) if record is not None else None
            if talk is None or words is None:
                continue
            try:
                talk.ask(words, time.monotonic() + TELL_SECONDS)
            except BDError:
                self._connections.let_go(name)


def _terms(record: Record, service: str, talk: object) -> object:
    """What a ticket was given under, as far as the holder's record says; it drains no more than it does."""
    return id(talk), record.services.get(service), record.policy, record.draining
