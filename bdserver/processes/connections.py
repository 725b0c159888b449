"""Connections to other nodes that stay open from one request to the next, each one a child of the other node's.

A handshake and a fork cost ten times as much as a request on an open connection, so whoever speaks to the same nodes
again and again keeps them: the discoverer its watch and those that it tells the news, a child the holders that it asked for
its caller. One that turns out broken is dialled anew, once. Whom to speak to, and when to let go, is for others to decide.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from bdserver.errors import NobodyThere
from bdserver.net.client import Conversation
from bdserver.processes.node import Node

Result = TypeVar("Result")


class _Kept(NamedTuple):
    conversation: Conversation
    used_at: float


class Connections:
    """By the other node's name, `most` at once. While one is spoken on it is not in here, so several threads may share this."""

    def __init__(self, node: Node, most: int):
        self.node, self.most = node, most
        self._kept: dict[str, _Kept] = {}

    def talk(self, name: str, address: str, deadline: float, say: Callable[[Conversation], Result]) -> Result:
        """What `say(conversation)` returns; the connection is kept then.

        Whatever `say` raises, the connection is closed; NobodyThere on one that was kept is followed by one on a new one."""
        conversation = self._take(name, address)
        if conversation is not None:
            try:
                return self._said(name, conversation, say)
            except NobodyThere:  # it had enough of us, or is gone: a new call will tell
                pass
        return self._said(name, self.node.call(address, deadline, name), say)

    def _said(self, name: str, conversation: Conversation, say: Callable[[Conversation], Result]) -> Result:
        try:
            result = say(conversation)
        except BaseException:
            conversation.close()
            raise
        self._keep(name, conversation)
        return result

    def _take(self, name: str, address: str) -> Conversation | None:
        kept = self._kept.pop(name, None)
        if kept is None:
            return None
        conversation = kept.conversation
        if conversation.where == address and not self.node.revoked.refusal(name, conversation.identity.serial):
            return conversation
        conversation.close()
        return None

    def _keep(self, name: str, conversation: Conversation) -> None:
        before, self._kept[name] = self._kept.get(name), _Kept(conversation, time.monotonic())
        if before is not None:  # two threads spoke to it at once
            before.conversation.close()
        if len(self._kept) > self.most:
            self.let_go(min(list(self._kept.items()), key=lambda item: item[1].used_at)[0])

    def let_go(self, name: str) -> None:
        """Close what is kept to it, if anything is."""
        kept = self._kept.pop(name, None)
        if kept is not None:
            kept.conversation.close()

    def waiting(self) -> list[int]:
        """Descriptors of those that nobody speaks on, for select. A node says nothing unasked: who is readable has hung up."""
        descriptors = [kept.conversation.fileno() for kept in list(self._kept.values())]
        return [each for each in descriptors if each >= 0]  # closed by another thread this very moment

    def close_hung_up(self, readable: list[int]) -> list[str]:
        """Of those that were found readable, close whoever is it still; their names."""
        gone = []
        for name, kept in list(self._kept.items()):
            if kept.conversation.fileno() in readable and self._kept.pop(name, None) is kept:
                if select.select([kept.conversation], [], [], 0)[0]:
                    kept.conversation.close()
                    gone.append(name)
                else:  # it was an answer, and somebody has read it
                    self._kept.setdefault(name, kept)
        return gone

    def close_idle(self, seconds: float) -> None:
        """Let go of those that nobody has spoken on for so long."""
        before = time.monotonic() - seconds
        for name, kept in list(self._kept.items()):
            if kept.used_at < before:
                self.let_go(name)

    def close(self) -> None:
        """Let go of all."""
        for name in list(self._kept):
            self.let_go(name)
