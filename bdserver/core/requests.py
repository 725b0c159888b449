"""The table of requests: name, who may send it, what it carries, what it means.

What is not in the table does not exist. `check` is called before any answer is worked out; docs/PROTOCOL's
table and the tests' role matrix are made from the same rows. Working out answers is `answers`' business.
"""

from __future__ import annotations

from collections import namedtuple

from bdserver.core.names import valid_name
from bdserver.core.wire import OLDEST, VERSION
from bdserver.errors import BadRequest, Forbidden, NoSuchCommand

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from typing import Any

CLIENT, NODE, ADMIN = "client", "node", "admin"
EVERYONE = (CLIENT, NODE, ADMIN)

# A policy document is at most this long; the policy module refuses longer ones with its own words.
TEXT_MAX = 64 * 1024
LIST_MAX = 20_000
# How far a FIND may go, whatever its asker wishes: 16 steps pass through any mesh that a person can draw.
STEPS_MAX = 16

Request = namedtuple("Request", "name roles arguments meaning")
# `since`: the version of the protocol that brought it; only what may be left out can come later than 1.
Argument = namedtuple("Argument", "name is_right kind optional since", defaults=(False, 1))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_MAX


def _is_name(value: object) -> bool:
    return isinstance(value, str) and valid_name(value)


def _is_policy(value: object) -> bool:
    return value is None or _is_text(value)


def _is_steps(value: object) -> bool:
    return type(value) is int and 0 <= value <= STEPS_MAX


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and len(value) <= LIST_MAX and all(isinstance(each, str) for each in value)


def _is_plan(value: object) -> bool:
    return isinstance(value, dict) and len(value) <= LIST_MAX and all(map(_is_names, value.values()))


def _is_message(value: object) -> bool:
    return isinstance(value, list) and bool(value) and value[0] in RELAYED


SERVICE = Argument("service", _is_name, "a service's name")
ADDRESS = Argument("address", _is_text, "HOST:PORT")
PACKAGE = Argument("package", _is_object, '{"bytes", "sha256", …}, the stream follows')

# What may travel in a MASSMESSAGE: the requests that the phases of WHEREIS send to holders and non-holders.
RELAYED = ("WILLYOUEXECUTE", "YOUWILLEXECUTE", "WILLYOUREPLICATE", "GIVESERVICE")

_ROWS = (
    Request("PING", EVERYONE, (), "Answer PONG, and the digest of your view."),
    Request(
        "STATUS",
        EVERYONE,
        (Argument("wish", _is_object, '{"brief": true or false, "of": NAME}, for a crawl', True, 2),),
        "Tell how you are, and whom you know.",
    ),
    Request(
        "WHEREIS",
        EVERYONE,
        (SERVICE, Argument("policy", _is_policy, "the client's WS-Policy document or null")),
        "Name a host that has the service, may be talked to, is alive and has capacity left.",
    ),
    Request("GIVEYOURSERVICES", EVERYONE, (), "Tell your services and your free dynamic slots."),
    Request(
        "SYNCHRONIZE",
        (NODE,),
        (Argument("exchange", _is_object, "digest, buckets, versions, records, policies"),),
        "Take my news, give me yours.",
    ),
    Request("PROBE", (NODE, ADMIN), (ADDRESS,), "PING that node for me: I can't reach it."),
    Request("WILLYOUEXECUTE", (NODE,), (SERVICE,), "Take one more call, if you have it and are not overloaded."),
    Request("YOUWILLEXECUTE", (NODE,), (SERVICE,), "Take one more call, overloaded or not."),
    Request("WILLYOUREPLICATE", (NODE,), (SERVICE,), "Fetch a copy of the service and take one call."),
    Request("GIVESERVICE", (NODE,), (SERVICE,), "Give me the service's package."),
    Request(
        "FIND",
        (NODE, ADMIN),
        (
            SERVICE,
            Argument("visited", _is_names, "names of nodes that were asked"),
            Argument("steps", _is_steps, f"steps left, 0 to {STEPS_MAX}"),
        ),
        "Search depth first for a service that no cache mentions.",
    ),
    Request(
        "MASSMESSAGE",
        (NODE,),
        (
            Argument("plan", _is_plan, '{"self": children, NAME: children}'),
            Argument("recipients", _is_names, "names of nodes"),
            Argument("message", _is_message, "one of " + ", ".join(RELAYED)),
        ),
        "Ask the recipients among your children, then pass it down the branches.",
    ),
    Request("HINT", (ADMIN,), (ADDRESS,), "There is a node at this address: visit it."),
    Request("FORGET", (ADMIN,), (Argument("node", _is_text, "a node's name or HOST:PORT"),), "Drop this node."),
    Request("PUBLISH", (ADMIN,), (SERVICE, PACKAGE), "Offer this service from now on."),
    Request("WITHDRAW", (ADMIN,), (SERVICE,), "Offer it no longer; its files go to the graveyard."),
    Request("GRAVEYARD", (ADMIN,), (), "List what lies in the graveyard."),
    Request("RESTORE", (ADMIN,), (SERVICE,), "Bring a service back from the graveyard."),
    Request("DRAIN", (ADMIN,), (Argument("on", _is_flag, "true or false"),), "Take no new calls (or do again)."),
    Request("LEAVE", (ADMIN,), (), "Tell the mesh that you leave, and end."),
    Request(
        "KILL",
        EVERYONE,
        (Argument("password", _is_text, "the admin_password; an admin needs none", True),),
        "End at once.",
    ),
)

REQUESTS = {row.name: row for row in _ROWS}


def _known(row: Request, version: int) -> tuple[int, list[Argument]]:
    """(how many arguments it takes at least, all that it may take) in this version of the protocol."""
    known = [each for each in row.arguments if each.since <= version]
    return sum(not each.optional for each in known), known


_KNOWN = {version: {row.name: _known(row, version) for row in _ROWS} for version in range(OLDEST, VERSION + 1)}


def check(message: object, role: str, version: int = VERSION) -> tuple[Request, list[Any]]:
    """The row and the arguments of a decoded message, or BadRequest, NoSuchCommand, Forbidden.

    `message`: a list [COMMAND, argument…]. `role`: what the caller's certificate or socket says it is. `version`: what
    is spoken: arguments that came later are not known in it.
    """
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise BadRequest("INVALID FORMAT: a request is a list that begins with its command")
    row = REQUESTS.get(message[0])
    if row is None:
        raise NoSuchCommand(f"NO SUCH COMMAND: {message[0][:40]!r}")
    if role not in row.roles:
        raise Forbidden(f"{row.name} needs the role {' or '.join(row.roles)}, and the caller's is {role}")
    arguments = message[1:]
    required, known = _KNOWN[version][row.name]
    if not required <= len(arguments) <= len(known):
        raise BadRequest(f"INVALID REQUEST: {row.name} takes {len(known)} arguments, not {len(arguments)}")
    for argument, value in zip(row.arguments, arguments, strict=False):
        if not argument.is_right(value):
            raise BadRequest(f"INVALID REQUEST: {row.name}'s {argument.name} must be {argument.kind}")
    return row, arguments
