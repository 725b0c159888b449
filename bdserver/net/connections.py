"""Connections to other nodes that stay open from one request to the next (a pool).

A handshake and a fork cost ten times as much as a request on an open connection, so a process that speaks to the same nodes
again and again keeps them: the discoverer those to its watch and its fingers, a child those to the holders that it asked for
its caller. One that turns out broken is dialled anew, once. Whom to speak to, and when to let go, is for others to decide.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from bdserver.errors import NobodyThere
from bdserver.net.conversation import Conversation

Result = TypeVar("Result")
# call(address, deadline, name): a new conversation with that node.
Call = Callable[[str, float, str], Conversation]
# refusal(name, serial): why a certificate is not accepted any more, or None.
Refusal = Callable[[str, int], str | None]


class _Kept(NamedTuple):
    conversation: Conversation
    used_at: float


class Connections:
    """By the other node's name, `most` at once. A connection in use is taken out of the table, so no two threads can use
    the same one; the table itself has a lock."""

    def __init__(self, call: Call, refusal: Refusal, most: int) -> None:
        self._call, self._refusal, self._most = call, refusal, most
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def talk(self, name: str, address: str, deadline: float, say: Callable[[Conversation], Result]) -> Result:
        """What `say(conversation)` returns; the connection is kept then.

        Whatever `say` raises, the connection is closed; NobodyThere on one that was kept is followed by one on a new one."""
        conversation = self._take(name, address)
        if conversation is not None:
            try:
                return self._said(name, conversation, say)
            except NobodyThere:  # it had enough of us, or is gone: a new call will tell
                pass
        return self._said(name, self._call(address, deadline, name), say)

    def _said(self, name: str, conversation: Conversation, say: Callable[[Conversation], Result]) -> Result:
        try:
            result = say(conversation)
        except BaseException:
            conversation.close()
            raise
        self._keep(name, conversation)
        return result

    def _take(self, name: str, address: str) -> Conversation | None:
        kept = self._pop(name)
        if kept is None:
            return None
        conversation = kept.conversation
        identity = conversation.identity
        if conversation.where == address and identity is not None and not self._refusal(name, identity.serial):
            return conversation
        conversation.close()
        return None

    def _keep(self, name: str, conversation: Conversation) -> None:
        with self._lock:
            before, self._kept[name] = self._kept.get(name), _Kept(conversation, time.monotonic())
            oldest = min(self._kept, key=lambda each: self._kept[each].used_at) if len(self._kept) > self._most else None
        if before is not None:  # two threads spoke to it at once
            before.conversation.close()
        if oldest is not None:
            self.let_go(oldest)

    def _pop(self, name: str) -> _Kept | None:
        with self._lock:
            return self._kept.pop(name, None)

    def _all(self) -> list[tuple[str, _Kept]]:
        with self._lock:
            return list(self._kept.items())

    def let_go(self, name: str) -> None:
        """Close what is kept to it, if anything is."""
        kept = self._pop(name)
        if kept is not None:
            kept.conversation.close()

    def waiting(self) -> list[int]:
        """Descriptors of the connections that are not in use, for select. A node says nothing unasked: one that is readable
        has hung up."""
        descriptors = [kept.conversation.fileno() for _, kept in self._all()]
        return [each for each in descriptors if each >= 0]  # closed by another thread this very moment

    def close_hung_up(self, readable: list[int]) -> list[str]:
        """Close those of the readable connections that have hung up; the names of their nodes."""
        gone = []
        for name, kept in self._all():
            if kept.conversation.fileno() in readable and self._pop(name) is kept:
                if select.select([kept.conversation], [], [], 0)[0]:
                    kept.conversation.close()
                    gone.append(name)
                else:  # it was an answer, and another thread has read it
                    with self._lock:
                        self._kept.setdefault(name, kept)
        return gone

    def close_idle(self, seconds: float) -> None:
        """Let go of the connections that were not used for so long."""
        before = time.monotonic() - seconds
        for name, kept in self._all():
            if kept.used_at < before:
                self.let_go(name)

    def close(self) -> None:
        """Let go of all."""
        for name, _ in self._all():
            self.let_go(name)
