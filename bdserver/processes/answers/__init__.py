"""What this node answers to its callers: the table ANSWERS, one function a request, in modules by what the request is about.

An answer is worked out within the caller's deadline, and holds no lock while it talks. What may be asked by which role, and
with what it may be answered, is core.messages' table; `answer` checks each request against it first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bdserver.core import messages
from bdserver.core.roles import NODE
from bdserver.errors import Deadline, NoSuchCommand
from bdserver.processes.answers import admin, certifying, checkup, inviting, looking, replicating, routing, signing, tending
from bdserver.processes.session import Session

ANSWERS: dict[str, Callable[..., Any]] = {
    "PING": looking.answer_ping,
    "PROBE": looking.answer_probe,
    "STATUS": looking.answer_status,
    "GIVEYOURSERVICES": looking.answer_giveyourservices,
    "WHEREIS": routing.answer_whereis,
    "WILLYOUEXECUTE": routing.answer_willyouexecute,
    "SPENT": routing.answer_spent,
    "YOUWILLEXECUTE": routing.answer_youwillexecute,
    "WILLYOUREPLICATE": replicating.answer_willyoureplicate,
    "GIVESERVICE": replicating.answer_giveservice,
    "FIND": replicating.find,
    "MASSMESSAGE": replicating.answer_massmessage,
    "TEND": tending.answer_tend,
    "RETIRE": tending.answer_retire,
    "PLACE": tending.answer_place,
    "ADOPT": admin.answer_adopt,
    "DOCTOR": checkup.answer_doctor,
    "HINT": admin.answer_hint,
    "FORGET": admin.answer_forget,
    "PUBLISH": admin.answer_publish,
    "STATEMENT": signing.answer_statement,
    "SIGN": signing.answer_sign,
    "WITHDRAW": admin.answer_withdraw,
    "GRAVEYARD": admin.answer_graveyard,
    "RESTORE": admin.answer_restore,
    "DRAIN": admin.answer_drain,
    "INVITE": inviting.answer_invite,
    "INVITATIONS": inviting.answer_invitations,
    "UNINVITE": inviting.answer_uninvite,
    "RENEW": certifying.answer_renew,
    "REVOKE": certifying.answer_revoke,
    "ROLL": certifying.answer_roll,
    "LEAVE": admin.answer_leave,
    "KILL": admin.answer_kill,
}


def answer(session: Session, message: object, role: str | None = None) -> Any:
    """The answer to one request of a caller with this role, its own unless told; BDError says why there is none."""
    row, arguments = session.checked(message) if role is None else messages.check(message, role, session.node.settings.protocol)
    if messages.CALLERS not in row.ports:
        raise NoSuchCommand(f"{row.name} is answered at {session.node.gossip_address}")
    if session.left() <= 0:
        raise Deadline(f"no time left for {row.name}")
    return ANSWERS[row.name](session, *arguments)


def ask_ourselves(session: Session, request: list[Any]) -> Any:
    """A question that this node asks itself on behalf of a caller: it asks as the node that it is."""
    return answer(session, request, NODE)
