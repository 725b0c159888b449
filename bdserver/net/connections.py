"""Connections to other nodes that stay open from one request to the next (a pool).

A handshake and a fork cost ten times as much as a request on an open connection, so a child keeps those to the holders that
it asked for its caller. One that turns out broken is dialled anew, once. Whom to speak to, and when to let go, is for others
to decide. (The discoverer's stay open too, but in its loop: processes.lines.)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

from bdserver.core.tuples import NamedTuple
from bdserver.errors import BDError, NobodyThere
from bdserver.net.conversation import Conversation
from bdserver.net.identity import Identity

Result = TypeVar("Result")
# call(address, deadline, name): a new conversation with that node.
Call = Callable[[str, float, str], Conversation]
# refusal(identity): why a certificate is not accepted any more, or None.
Refusal = Callable[[Identity], str | None]
# farewell(name): the request that a node is told last, unless it is None; nobody waits for the answer.
Farewell = Callable[[str], list[Any] | None]

# For telling it: it is small, and there is room for it.
FAREWELL_SECONDS = 0.05


class _Kept(NamedTuple):
    conversation: Conversation
    used_at: float


class Connections:
    """By the other node's name, `most` at once. A connection in use is taken out of the table. For one thread alone."""

    def __init__(self, call: Call, refusal: Refusal, most: int, farewell: Farewell = lambda name: None) -> None:
        self._call, self._refusal, self._most, self._farewell = call, refusal, most, farewell
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
        return self._said(name, self._call(address, deadline, name), say)

    def _said(self, name: str, conversation: Conversation, say: Callable[[Conversation], Result]) -> Result:
        try:
            result = say(conversation)
        except BaseException:
            conversation.break_off()  # what it may still answer is for nobody
            raise
        self.keep(name, conversation)
        return result

    def _take(self, name: str, address: str) -> Conversation | None:
        kept = self._kept.pop(name, None)
        if kept is None:
            return None
        conversation = kept.conversation
        identity = conversation.identity
        if conversation.where == address and identity is not None and not self._refusal(identity):
            return conversation
        conversation.close()
        return None

    def alive(self, name: str, address: str) -> Conversation | None:
        """The connection that is kept to it, if there is one and it is open this very moment; to look does not block."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        talk = kept.conversation
        is_good = talk.where == address and talk.identity is not None and not self._refusal(talk.identity)
        if is_good and not talk.is_readable(0.0):  # between two questions, only an end is to be read
            return talk
        self._kept.pop(name).conversation.close()
        return None

    def taken_out(self, name: str) -> Conversation:
        """The one that was kept last, for somebody who waits for an answer on it."""
        return self._kept.pop(name).conversation

    def keep(self, name: str, conversation: Conversation) -> None:
        """One on which nothing is left to be answered."""
        self.let_go(name)  # to say something on one may have led to another one
        self._kept[name] = _Kept(conversation, time.monotonic())
        if len(self._kept) > self._most:
            self.let_go(min(self._kept, key=lambda each: self._kept[each].used_at))

    def let_go(self, name: str) -> None:
        """Close what is kept to it, if anything is."""
        kept = self._kept.pop(name, None)
        if kept is None:
            return
        if (words := self._farewell(name)) is not None:
            with contextlib.suppress(BDError):
                kept.conversation.begin(words, time.monotonic() + FAREWELL_SECONDS)
        kept.conversation.close()

    def close(self) -> None:
        """Let go of all."""
        for name in list(self._kept):
            self.let_go(name)
