"""Which nodes may talk, by the texts of their policies in a view; each text is parsed once.

A node without a policy talks to everyone. A policy of which only the digest is known yet, or whose text is broken, meets none:
its owner decides. What a policy means is core.policy's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bdserver.core import policy
from bdserver.core.membership import POLICIES_MAX, Record
from bdserver.core.policy import Policy
from bdserver.core.view import View
from bdserver.errors import BDError, TooLarge


class Unknown:
    """Stands for a policy that is not known by its text."""

    def __reduce__(self) -> str:
        return "UNKNOWN"  # there is one alone, in copies from another process too


UNKNOWN = Unknown()
Known = Policy | Unknown | None


def _parse(digest: str, text: str) -> Policy:
    return policy.parse(text)


class Policies:
    """A node's own policy and mode, and what it has parsed of others'; processes that are forked inherit that.

    `read(digest, text)`: the policy in a text; BDError when there is none to be had."""

    def __init__(self, own: Policy | None, mode: str, read: Callable[[str, str], Policy] = _parse) -> None:
        self.own, self.mode, self.read = own, mode, read
        self._parsed: dict[str, Policy | Unknown] = {}

    def parse(self, digest: str, text: str) -> Policy | Unknown:
        """The policy of this digest; parsed at most once as long as there are not more of them than a view holds."""
        if digest not in self._parsed:
            if len(self._parsed) > POLICIES_MAX:
                self._parsed.clear()
            self._parsed[digest] = self.parsed(digest, text)
        return self._parsed[digest]

    def parsed(self, digest: str, text: str) -> Policy | Unknown:
        """The same, parsed now, and not kept."""
        try:
            return self.read(digest, text)
        except BDError:
            return UNKNOWN

    def unread(self, view: View) -> dict[str, str]:
        """Of a view's policies those that were not parsed here yet, by their digests."""
        return {digest: text for digest, text in view.policies.items() if digest not in self._parsed}

    def with_own(self, own: Policy | None, mode: str) -> Policies:
        """The same with another policy or mode of this node's own: what was parsed of others' stays."""
        fresh = Policies(own, mode, self.read)
        fresh._parsed = self._parsed
        return fresh

    def take(self, parsed: Mapping[str, Policy | Unknown]) -> None:
        """Keep what another process has parsed, by digests."""
        if len(self._parsed) > POLICIES_MAX:
            self._parsed.clear()
        self._parsed |= parsed

    def of(self, view: View, record: Record) -> Known:
        """A record's policy; None when it has none."""
        if record.policy is None:
            return None
        text = view.policies.get(record.policy)
        return UNKNOWN if text is None else self.parse(record.policy, text)

    def meets_ours(self, theirs: Policy | None) -> bool:
        """Whether a caller with this policy may talk to this node."""
        return policy.can_talk(theirs, self.own, self.mode)

    def can_talk(self, view: View, a: Record, b: Record) -> bool:
        """Whether the policies of these two nodes meet, as far as they are known here."""
        return self._meet(self.of(view, a), self.of(view, b))

    def are_apart(self, view: View, a: str, b: str) -> bool:
        """Whether the policies of both nodes are known here, and don't meet; false where that takes too long to find out."""
        ones, others = self.of(view, view.records[a]), self.of(view, view.records[b])
        if isinstance(ones, Unknown) or isinstance(others, Unknown):
            return False
        try:
            return not policy.can_talk(ones, others, self.mode)
        except TooLarge:
            return False

    def talkable(self, view: View, record: Record) -> bool:
        """Whether our own policy lets us call that node; one whose policy is not known yet is tried."""
        if record.policy is None:
            return True
        theirs = self.of(view, record)
        return isinstance(theirs, Unknown) or self._meet(self.own, theirs)

    def suits(self, view: View, client: Policy | None, record: Record) -> bool:
        """Whether a client with this policy may be named that node."""
        return record.policy is None or self._meet(client, self.of(view, record))

    def _meet(self, a: Known, b: Known) -> bool:
        try:
            return not isinstance(a, Unknown) and not isinstance(b, Unknown) and policy.can_talk(a, b, self.mode)
        except TooLarge:  # too much work to find out: one such policy must not cost the answer about all other nodes
            return False
