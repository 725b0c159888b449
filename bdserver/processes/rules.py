"""With whom a node talks, and whom it refuses: what an administrator has written in its policy and its lists.

Rules are a value: who reads one of the files anew (`reload`) puts other ones in their place, and what is under way ends with
those with which it began. When policies meet is decided in `core.policies`, who a caller is by `net`.
"""

from __future__ import annotations

from collections.abc import Callable

from bdserver.core import policy
from bdserver.core.policies import Policies
from bdserver.core.policy import Policy
from bdserver.core.tuples import NamedTuple
from bdserver.files import policyfile, publishers
from bdserver.files.blacklist import BlackList
from bdserver.files.policyfile import PolicyFile
from bdserver.files.publishers import Publishers
from bdserver.files.quarantine import Kind, Quarantine
from bdserver.files.revoked import Revoked
from bdserver.files.settings import Settings


class Sources(NamedTuple):
    """Paths from the command line that go before those of the config."""

    ws_policy: str = ""
    black_list: str = ""


class Rules(NamedTuple):
    """With whom this node talks: its own policy's document, how policies meet, and whom it refuses; and whose signatures make
    a package fit to be a copy here."""

    document: PolicyFile
    policies: Policies
    black_list: BlackList
    revoked: Revoked
    publishers: Publishers = Publishers()


def open_rules(settings: Settings, sources: Sources, quarantine: Quarantine) -> Rules:
    """The rules that a config describes; BadConfig says which file is wrong."""
    document = policyfile.read(sources.ws_policy or settings.ws_policy)
    return Rules(
        document,
        Policies(document.policy, settings.policy_mode, guarded(quarantine)),
        BlackList(sources.black_list or settings.black_list),
        Revoked(settings.revoked),
        publishers.read(settings.publishers),
    )


def guarded(quarantine: Quarantine) -> Callable[[str, str], Policy]:
    """Reads a policy, unless it is in quarantine."""

    def read(digest: str, text: str) -> Policy:
        with quarantine.guard(Kind.POLICY, digest, ""):
            return policy.parse(text)

    return read
