"""Which DNS queries are one call: A, AAAA and SRV of one client within a second are for one connection, so for one host.

A host that is named has counted the call; a client that asks for both addresses and the port has made one call, not three. The
same type a second time is the next call, unless it is the same packet once more. Touches no clock and no socket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

# How long after its answer a call may still be asked for what is missing.
SECONDS = 1.0

Outcome = TypeVar("Outcome")


class Call(Generic[Outcome]):
    """One look-up: which types it was asked for, by which packets, and its `outcome`. `until`: when it ends; None while
    its look-up is under way."""

    __slots__ = ("outcome", "packets", "types", "until")

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.types: frozenset[Hashable] = frozenset()
        self.packets: set[Hashable] = set()
        self.until: float | None = None

    def takes(self, types: frozenset[Hashable], packet: Hashable, now: float) -> bool:
        """Whether it answers that question too."""
        if self.until is not None and now > self.until:
            return False
        return packet in self.packets or not self.types & types


class Calls(Generic[Outcome]):
    """The calls of the last second, and those under way: no more than their owner begins in that time."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, deque[Call[Outcome]]] = {}
        self._ended: deque[tuple[float, Hashable, Call[Outcome]]] = deque()

    def __len__(self) -> int:
        return sum(map(len, self._calls.values()))

    def joined(self, whose: Hashable, types: frozenset[Hashable], packet: Hashable, now: float) -> Call[Outcome] | None:
        """The call that this question belongs to; None: it is a new one. `whose`: the client and the service."""
        self._forget(now)
        for call in self._calls.get(whose, ()):
            if call.takes(types, packet, now):
                call.types |= types
                call.packets.add(packet)
                return call
        return None

    def begin(self, whose: Hashable, types: frozenset[Hashable], packet: Hashable, outcome: Outcome) -> Call[Outcome]:
        """A new call."""
        call = Call(outcome)
        call.types, call.packets = types, {packet}
        self._calls.setdefault(whose, deque()).append(call)
        return call

    def end(self, whose: Hashable, call: Call[Outcome], now: float) -> None:
        """Its look-up has come back."""
        call.until = now + SECONDS
        self._ended.append((call.until, whose, call))

    def _forget(self, now: float) -> None:
        while self._ended and self._ended[0][0] < now:
            _, whose, call = self._ended.popleft()
            calls = self._calls[whose]
            calls.remove(call)
            if not calls:
                del self._calls[whose]
