"""A WS-Policy document in a file: the one reader of them."""

from __future__ import annotations

from typing import NamedTuple

from bdserver.core import policy
from bdserver.core.policy import Policy
from bdserver.errors import BadConfig


class PolicyFile(NamedTuple):
    """What stands in it; three times None without one."""

    policy: Policy | None
    text: str | None
    digest: str | None


NONE = PolicyFile(None, None, None)


def read(path: str) -> PolicyFile:
    """The document at `path`, NONE for ""; BadConfig, BadPolicy or TooLarge names file and line."""
    if not path:
        return NONE
    try:
        with open(path, "rb") as file:
            data = file.read(policy.TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    parsed = policy.parse(data, path)
    text = policy.text_of(data)
    return PolicyFile(parsed, text, policy.digest(text))
