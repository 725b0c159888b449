"""Entrances to the mesh: several ways to reach some node, tried in turn, each with its share of the time that is left.

One rule for bdwhereis, bdctl, whereis.cgi, the audit's crawl and the Python API: an entrance that is silent, busy, over time
or talks nonsense is passed over, half of the time that is left is kept for those behind it, and who was tried in vain is told
when none lets the caller in. What a node says of the request itself (nobody has it, policy, role) is the answer, and ends it.
"""

from __future__ import annotations

import time

from bdserver.core.messages import Mismatch, Nobody
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadFrame, Deadline, NobodyThere, PolicyMismatch, TooBusy, cant_find

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from bdserver.net.conversation import Conversation

    Result = TypeVar("Result")
    # Opens a conversation within a deadline, an instant of the monotonic clock.
    Entrance = Callable[[float], Conversation]

# A node that does not answer must leave time for the next one.
SHARE = 0.5
PASSED_OVER = (NobodyThere, Deadline, TooBusy, BadFrame)


class Entered(NamedTuple):
    """What was said at the first entrance that let us in: the result, the conversation, still open, and the entrance."""

    result: Any
    conversation: Conversation
    entrance: Entrance


def in_turn(entrances: Sequence[Entrance], deadline: float, say: Callable[[Conversation, float], Result]) -> Result:
    """What `say(conversation, deadline)` returns at the first entrance where it does; the conversation is closed.

    When there is none: the one error of the only entrance, else NobodyThere that names each."""
    entered = enter(entrances, deadline, say)
    entered.conversation.close()
    result: Result = entered.result
    return result


def enter(entrances: Sequence[Entrance], deadline: float, say: Callable[[Conversation, float], Any]) -> Entered:
    """As in_turn, but the conversation stays open."""
    failures: list[Exception] = []
    for left, dial in zip(range(len(entrances), 0, -1), entrances, strict=True):
        now = time.monotonic()
        until = deadline if left == 1 else now + (deadline - now) * SHARE
        try:
            conversation = dial(until)
            try:
                return Entered(say(conversation, until), conversation, dial)
            except BaseException:
                conversation.close()
                raise
        except PASSED_OVER as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    raise NobodyThere("no node answers: " + ("; ".join(map(str, failures)) or "no entrance to the mesh is configured"))


def located(service: str, answer: Any) -> dict[str, Any]:
    """The details in an answer to WHEREIS; CantFind or PolicyMismatch when it names nobody."""
    details: dict[str, Any] = answer.details
    if isinstance(answer, Nobody):
        raise cant_find(service, details["asked"])
    if isinstance(answer, Mismatch):
        raise PolicyMismatch(
            f"{service}: no holder's policy meets yours" + (f", and {details['why']}" if details.get("why") else "")
        )
    return details
