"""The terms of a conversation: what the caller's opening said, and whether the two policies meet.

The same for a child and for the discoverer, which hears other nodes.
"""

from __future__ import annotations

from typing import Any

from bdserver.core import messages
from bdserver.core.messages import Opening
from bdserver.core.policy import Policy
from bdserver.core.wire import OLDEST
from bdserver.errors import BadRequest, BDError, PolicyMismatch, PolicyUnknown, TooLarge
from bdserver.processes.node import Node

# Policies that a caller shows on one connection: it has one. An opening needs no answer, and a small one can cost a tenth of a
# second to parse: many would be work without end that no request's deadline counts.
POLICIES_MAX = 4


class Terms:
    """What the caller's last opening said: its policy, and how many seconds it gives each request. `parsed`: how many policies
    were parsed for it; the same one as before is not parsed anew."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._seconds: float | None = None
        self._policy: Policy | None = None
        self._text: str | None = None  # of that policy
        self._error: BDError | None = None
        self.parsed = 0

    @property
    def seconds(self) -> float:
        """How long a request may take: as the opening says, else as the settings do."""
        return self._node.settings.request_timeout if self._seconds is None else self._seconds

    def take(self, message: list[Any], caller: str) -> None:
        """An opening is never answered; what is wrong with it is the answer to each request behind it. TooLarge when the caller
        has shown too many policies: its connection is over. `caller`: as logs name it."""
        self._error = None
        try:
            opening = messages.opening_of(message)
            if opening.deadline is not None:
                self._seconds = float(opening.deadline)
            ours = self._node.settings.protocol
            if opening.oldest > ours:
                raise BadRequest(f"INVALID REQUEST: this node speaks versions {OLDEST} to {ours} of the protocol")
            self._take_policy(self._text_of(opening), caller)
        except BDError as error:
            self._error = error
        if self.parsed > POLICIES_MAX:
            raise TooLarge(f"more than {POLICIES_MAX} policies on one connection")

    def _text_of(self, opening: Opening) -> str | None:
        if opening.policy_text is not None or opening.policy is None:
            return opening.policy_text
        text = self._node.cache.view().policies.get(opening.policy)
        if text is None:
            raise PolicyUnknown("your policy is not known here by its digest: send policy_text")
        return text

    def _take_policy(self, text: str | None, caller: str) -> None:
        if text == self._text:
            return
        self._policy = self._text = None
        if text is not None:
            self.parsed += 1
            self._policy = self._node.read_policy(text, "the caller's policy", caller)
        self._text = text

    def check(self) -> None:
        """Before each request: nothing is wrong with the opening, and the two policies meet."""
        if self._error is not None:
            raise self._error
        if not self._node.policies.meets_ours(self._policy):
            raise PolicyMismatch(f"the caller's policy does not meet the policy of {self._node.name}")
