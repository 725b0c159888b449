"""A WS-Policy document in a file: the policy, the text as it travels, and the digest by which nodes name it.

What is in a policy, and when two of them meet, is the business of core.policy.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from bdserver.core import policy
from bdserver.core.policy import Policy
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig
from bdserver.files import durable, lines


class PolicyFile(NamedTuple):
    """What a policy's file holds; three times None where there is no policy, which means: talk to everyone."""

    policy: Policy | None
    text: str | None
    digest: str | None


NONE = PolicyFile(None, None, None)


def read(
    path: str,
    *,
    pipes: bool = False,
    within: Callable[[str], AbstractContextManager[object]] = lambda digest: nullcontext(),
) -> PolicyFile:
    """The policy in this file, NONE for ""; BadConfig, BadPolicy or TooLarge names the file, and the line.

    With `pipes`, for what a person hands to a command, `<(…)` and /dev/stdin are read too; a daemon would wait for ever.
    `within` stands around the parsing of what has this digest."""
    if not path:
        return NONE
    data = _from_anything(path) if pipes else lines.content(path)[0]
    with within(policy.digest(data)):
        parsed = policy.parse(data, path)
    text = policy.text_of(data)
    return PolicyFile(parsed, text, policy.digest(text))


def _from_anything(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(policy.TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise BadConfig(f"{durable.shown(path)}: {error.strerror}") from None
