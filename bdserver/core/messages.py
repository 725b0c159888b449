"""The vocabulary of the wire, both directions: the opening, the requests and the answers, each a row with its shape.

What is not in these tables does not exist. A callee checks each request with `check` before it works on it; a caller gets
each answer from `decode` as a typed value, or BadFrame in one line. docs/PROTOCOL's tables, the tests' role matrix and the
fuzzer are made from the same rows. The requests are BDdaemon's of 2006, and some of ours. Bytes are wire's business, working
out answers that of processes.answers.
"""

from __future__ import annotations

from bdserver.core.fields import (
    DETAILS,
    HOLDS,
    OWN_STATUS,
    PROMISE,
    STEPS_MAX,
    TAKES,
    Field,
    is_count,
    is_flag,
    is_found,
    is_name,
    is_number,
    is_object,
    is_package,
    is_plan,
    is_port,
    is_seconds,
    is_sight,
    is_steps,
    is_text,
    is_text_or_none,
    is_texts,
    is_url_part,
    is_version,
    is_whole,
    list_of,
    named,
    object_of,
)
from bdserver.core.roles import ADMIN, EVERYONE, NODE
from bdserver.core.tuples import NamedTuple
from bdserver.core.wire import OLDEST, VERSION
from bdserver.errors import BadFrame, BadRequest, Forbidden, NoSuchCommand

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, BinaryIO

# A node has two ports: `port` for its callers, and `gossip_port` for other nodes' news.
CALLERS, NEWS = "port", "gossip_port"
# Of a message that makes no sense, this much is shown to a person.
SHOWN_CHARACTERS_MAX = 60


class Request(NamedTuple):
    """What may be asked: by which roles, with which arguments, and which types of answer there are to it. `stream`: the raw
    bytes of a package follow the request. `ports`: those where it is answered."""

    name: str
    roles: tuple[str, ...]
    arguments: tuple[Field, ...]
    answers: tuple[type[Any], ...]
    meaning: str
    stream: bool = False
    ports: tuple[str, ...] = (CALLERS,)


class Answer(NamedTuple):
    """How a type of answer travels: as [word, field…], or as its fields alone where the word is "". `stream`: the raw bytes
    of a package follow the answer, if it declares one."""

    type: type[Any]
    word: str
    fields: tuple[Field, ...]
    stream: bool = False


# --- answers ------------------------------------------------------------------------------------------------------


class Pong(NamedTuple):
    """The node is there; the digest of its view, "" where it tells none; the port where it hears other nodes' news, 0 from
    that port itself."""

    digest: str = ""
    gossip_port: int = 0


class NoPong(NamedTuple):
    """What a PING in the asker's place led to: the code and the text of an error."""

    code: str
    reason: str


class Offers(NamedTuple):
    """The callee's clock in epoch seconds, the names of its services, how many replicas it would still take."""

    at: float
    services: list[str]
    free_dynamic: int


class Status(NamedTuple):
    """How a node is (fields OWN_STATUS), and whom it knows (each NODE_SEEN, or the list of the brief form). `next`: where
    it goes on, "" when that was all."""

    own: dict[str, Any]
    nodes: list[Any]
    next: str = ""


class Place(NamedTuple):
    """A host that serves the service now, "ME" for the node asked; `details` as `bdwhereis --json` prints them."""

    host: str
    axis_port: int
    web_dir: str
    details: dict[str, Any]


class Nobody(NamedTuple):
    """Nobody has the service, or nobody that has it answers."""

    details: dict[str, Any]


class Mismatch(NamedTuple):
    """Nobody that has the service may be named to this client."""

    details: dict[str, Any]


class Yes(NamedTuple):
    """The callee serves the call, here; and, by its `promise` (PROMISE), more of them that it need not be asked for."""

    axis_port: int
    web_dir: str
    url: str
    promise: Mapping[str, Any] = {}


class No(NamedTuple):
    """The callee is overloaded, drains, or takes no replica; or had no time for an exchange. `holds` (HOLDS): until when it is
    not to be asked again."""

    holds: Mapping[str, Any] = {}


class DontHave(NamedTuple):
    """The callee does not have the service, or it is not well there."""


class NotGiven(NamedTuple):
    """Nobody gives the callee a copy."""


class Package(NamedTuple):
    """{"bytes", "sha256"} of a package; `file` is what follows, open at its beginning, once it has come."""

    described: dict[str, Any]
    file: BinaryIO | None = None


class Found(NamedTuple):
    """Where a search ended: at `giver`, with a package as above or {"url"} of a service that is no file."""

    giver: str
    described: dict[str, Any]
    file: BinaryIO | None = None


class NotFound(NamedTuple):
    """The names of all who were asked in vain."""

    visited: list[str]


class RelayedYes(NamedTuple):
    """A recipient's Yes, as it comes back along a plan; `name`: whose it is."""

    host: str
    axis_port: int
    web_dir: str
    url: str
    name: str


class NetFault(NamedTuple):
    """Names of nodes on the plan that were not there, and what the others said: NO or DONTHAVE."""

    names: list[str]
    others: str


class Exchanged(NamedTuple):
    """The callee's part of an exchange (core.exchange checks its fields)."""

    exchange: dict[str, Any]


class Ok(NamedTuple):
    """It is done; `url` of what was published, and what there is to say about it, a line each."""

    url: str = ""
    notes: Sequence[str] = ()


class Stated(NamedTuple):
    """What a publisher is to sign of a service: the counter of its next edition, and the SHA-256 of its package, "" where there
    is none yet; what was signed last, "" where nothing was; and what was wished for when it was published last, which a new
    edition keeps where nothing else is wished."""

    counter: int
    sha256: str
    signature: str
    wished: Mapping[str, Any] = {}


class Withdrawn(NamedTuple):
    """It is offered no longer here; whose copies have gone with it, and who has one still: they were not reached."""

    gone: list[str]
    left: list[str]


class Graveyard(NamedTuple):
    """Names of the services that lie there; how many more there are than can be told."""

    names: list[str]
    left_out: int = 0


class Checkup(NamedTuple):
    """Who was asked; its findings (as core.attention tells them), and its visits to others (as core.checkup)."""

    name: str
    findings: list[dict[str, Any]]
    visits: list[dict[str, Any]]


class Invited(NamedTuple):
    """What a host needs to join: a token, and where to bring it; it ends at that time. `note`: what a person should know."""

    token: str
    address: str
    until: float
    note: str = ""


class Invitations(NamedTuple):
    """The invitations of a node, as core.joining tells of them; how many tokens were tried that do not exist."""

    invitations: list[dict[str, Any]]
    unknown: int


class Certified(NamedTuple):
    """A new certificate with its signer's, and the mesh's CAs, in PEM; and the statements by which a CA among them follows
    another: a client hears of those from nobody else."""

    certificate: str
    authorities: str
    rolls: Sequence[dict[str, Any]] = ()


class Goodbye(NamedTuple):
    """The node's processes end."""


class Error(NamedTuple):
    """The code and the one line of an error."""

    code: str
    text: str


_URL = Field("url", is_url_part, "url")
_PLACE = (Field("axis_port", is_whole, "port"), Field("web_dir", is_url_part, "path"))
_DETAILS = Field("details", object_of(*DETAILS), "details")
_ROWS_OF_ANSWERS = (
    Answer(Error, "ERROR", (Field("code", is_text, "code"), Field("text", is_text, "line"))),
    Answer(Pong, "PONG", (Field("digest", is_text, "digest", True), Field("gossip_port", is_port, "port", True))),
    Answer(NoPong, "NOPONG", (Field("code", is_text, "code"), Field("text", is_text, "line"))),
    Answer(
        Offers,
        "",
        (Field("now", is_number, "now"), Field("services", list_of(is_name), "[service…]"), Field("free", is_whole, "n")),
    ),
    Answer(
        Status,
        "STATUS",
        (
            Field("status", object_of(*OWN_STATUS), "status"),
            Field("nodes", list_of(is_sight), "[node…]"),
            Field("next", is_text, "next", True),
        ),
    ),
    Answer(Place, "", (Field("host", is_text, "host"), *_PLACE, _DETAILS)),
    Answer(Nobody, "CANTFIND", (_DETAILS,)),
    Answer(Mismatch, "POLICYMISMATCH", (_DETAILS,)),
    Answer(RelayedYes, "YES", (Field("host", is_text, "host"), *_PLACE, _URL, Field("name", is_name, "name"))),
    Answer(Yes, "YES", (*_PLACE, _URL, Field("promise", object_of(*PROMISE), '{"tickets", "seconds"}', True))),
    Answer(No, "NO", (Field("holds", object_of(*HOLDS), '{"not_before"}', True),)),
    Answer(DontHave, "DONTHAVE", ()),
    Answer(NotGiven, "CANTFIND", ()),
    Answer(Package, "YES", (Field("package", is_package, "package"),), True),
    Answer(Found, "YES", (Field("giver", is_name, "giver"), Field("package", is_found, "package")), True),
    Answer(NotFound, "NO", (Field("visited", is_texts, "visited"),)),
    Answer(
        NetFault,
        "NETFAULT",
        (Field("names", is_texts, "[name…]"), Field("others", lambda said: said in ("NO", "DONTHAVE"), "NO or DONTHAVE")),
    ),
    Answer(Exchanged, "SYNCHRONIZE", (Field("exchange", is_object, "exchange"),)),
    Answer(Ok, "OK", (Field("url", is_text, "url", True), Field("notes", list_of(is_text), "[line…]", True))),
    Answer(
        Stated,
        "STATEMENT",
        (
            Field("counter", is_whole, "counter"),
            Field("sha256", is_text, "sha256"),
            Field("signature", is_text, "signature"),
            Field("wished", is_object, "wished", True),
        ),
    ),
    Answer(
        Withdrawn,
        "WITHDRAWN",
        (Field("gone", list_of(is_name), "[name…]"), Field("left", list_of(is_name), "[name…]")),
    ),
    Answer(
        Graveyard,
        "GRAVEYARD",
        (Field("names", list_of(is_name), "[name…]"), Field("left_out", is_whole, "n", True)),
    ),
    Answer(
        Checkup,
        "DOCTOR",
        (
            Field("name", is_name, "name"),
            Field("findings", list_of(is_object), "[finding…]"),
            Field("visits", list_of(is_object), "[visit…]"),
        ),
    ),
    Answer(
        Invited,
        "INVITED",
        (
            Field("token", is_text, "token"),
            Field("address", is_text, "HOST:PORT"),
            Field("until", is_number, "until"),
            Field("note", is_text, "note", True),
        ),
    ),
    Answer(
        Invitations,
        "INVITATIONS",
        (Field("invitations", list_of(is_object), "[invitation…]"), Field("unknown", is_whole, "n")),
    ),
    Answer(
        Certified,
        "CERTIFIED",
        (
            Field("certificate", is_text, "certificate"),
            Field("authorities", is_text, "authorities"),
            Field("rolls", list_of(is_object), "[statement…]", True),
        ),
    ),
    Answer(Goodbye, "PEACE OUT", ()),
)
ANSWER_ROWS = {row.type: row for row in _ROWS_OF_ANSWERS}

# --- requests -----------------------------------------------------------------------------------------------------

SERVICE = Field("service", is_name, "a service's name")
ADDRESS = Field("address", is_text, "HOST:PORT")
PACKAGE = Field("package", is_object, '{"bytes", "sha256", …}, the stream follows')

# What may travel in a MASSMESSAGE: the requests that the phases of WHEREIS send to holders and non-holders.
RELAYED = ("WILLYOUEXECUTE", "YOUWILLEXECUTE", "WILLYOUREPLICATE", "GIVESERVICE")


def _is_message(value: object) -> bool:
    return isinstance(value, list) and bool(value) and value[0] in RELAYED


_ROWS = (
    Request("PING", EVERYONE, (), (Pong,), "Answer PONG, and the digest of your view.", ports=(CALLERS, NEWS)),
    Request(
        "STATUS",
        EVERYONE,
        (
            Field(
                "wish",
                is_object,
                '{"brief": true or false, "of": NAME, "from": NEXT, "detail": true or SERVICE, "callers": true, '
                '"timeline": HOURS}, for a crawl',
                True,
            ),
        ),
        (Status,),
        "Tell how you are, and whom you know.",
    ),
    Request(
        "WHEREIS",
        EVERYONE,
        (SERVICE, Field("policy", is_text_or_none, "the client's WS-Policy document or null")),
        (Nobody, Mismatch, Place),
        "Name a host that has the service, may be talked to, is alive and has capacity left.",
    ),
    Request("GIVEYOURSERVICES", EVERYONE, (), (Offers,), "Tell your services and your free dynamic slots."),
    Request(
        "SYNCHRONIZE",
        (NODE,),
        (Field("exchange", is_object, "digest, buckets, versions, records, certificates, policies"),),
        (Exchanged, No),
        "Take my news, give me yours (push-pull).",
        ports=(NEWS,),
    ),
    Request(
        "PROBE",
        (NODE, ADMIN),
        (ADDRESS,),
        (Pong, NoPong),
        "PING that node for me: I can't reach it (SWIM's ping-req).",
        ports=(CALLERS, NEWS),
    ),
    Request(
        "WILLYOUEXECUTE",
        (NODE,),
        (SERVICE, Field("takes", object_of(*TAKES), '{"spent"}, of an asker that takes tickets', True)),
        (Yes, No, DontHave),
        "Take one more call, if you are not overloaded.",
    ),
    Request(
        "SPENT",
        (NODE,),
        (Field("calls", named(is_count), "{service: how many tickets}"),),
        (Ok,),
        "Of the calls that you promised for these services I have made so many, and make no more.",
    ),
    Request(
        "YOUWILLEXECUTE",
        (NODE,),
        (SERVICE, Field("old", is_flag, "true: an old edition too, since who has the new one does not answer", True)),
        (Yes, DontHave),
        "Take one more call, overloaded or not.",
    ),
    Request(
        "WILLYOUREPLICATE",
        (NODE,),
        (SERVICE, Field("call", is_flag, "false: there is no call to take, the copy is to stand by", True)),
        (Yes, No, NotGiven),
        "Fetch a copy of the service and take one call.",
    ),
    Request("GIVESERVICE", (NODE,), (SERVICE,), (Package, No), "Give me the service's package."),
    Request(
        "FIND",
        (NODE, ADMIN),
        (
            SERVICE,
            Field("visited", is_texts, "names of nodes that were asked"),
            Field("steps", is_steps, f"steps left, 0 to {STEPS_MAX}"),
        ),
        (Found, NotFound),
        "Search depth first for a service that no cache mentions.",
    ),
    Request(
        "MASSMESSAGE",
        (NODE,),
        (
            Field("plan", is_plan, '{"self": children, NAME: children}, a tree'),
            Field("recipients", is_texts, "names of nodes"),
            Field("message", _is_message, "one of " + ", ".join(RELAYED)),
        ),
        (RelayedYes, Found, No, DontHave, NetFault),
        "Ask the recipients among your children, then pass it down the branches.",
    ),
    Request(
        "DOCTOR",
        (NODE, ADMIN),
        (Field("wish", is_object, '{"of": NAME, "visit": NAME}', True),),
        (Checkup,),
        "Tell what needs attention at your host, and visit the others.",
    ),
    Request("HINT", (ADMIN,), (ADDRESS,), (Ok,), "There is a node at this address: visit it."),
    Request("FORGET", (ADMIN,), (Field("node", is_text, "a node's name or HOST:PORT"),), (Ok,), "Drop this node."),
    Request("PUBLISH", (ADMIN,), (SERVICE, PACKAGE), (Ok,), "Offer this service from now on.", True),
    Request(
        "STATEMENT",
        (ADMIN,),
        (SERVICE, Field("take_over", is_flag, "true: though it is a copy", True)),
        (Stated,),
        "Tell what is to be signed of this service, and what was.",
    ),
    Request(
        "SIGN",
        (ADMIN,),
        (SERVICE, Field("signature", is_text, "COUNTER SHA256 SIGNATURE PROOF COMMENT")),
        (Ok,),
        "Offer what you offer as an edition that is signed so.",
    ),
    Request(
        "WITHDRAW",
        (ADMIN,),
        (SERVICE, Field("here", is_flag, "true: leave the copies on other nodes", True)),
        (Withdrawn,),
        "Offer it no longer, nor any copy of it; files go to the graveyard.",
    ),
    Request("ADOPT", (ADMIN,), (SERVICE,), (Ok,), "Have the original from now on of what is a copy without one."),
    Request(
        "TEND",
        (ADMIN,),
        (Field("services", list_of(is_name), "[name…]"),),
        (Ok,),
        "See which editions these are, and have copies follow their originals: renewed, or gone.",
    ),
    Request("RETIRE", (ADMIN,), (SERVICE, Field("why", is_text, "a line")), (Ok,), "Let your copy go: nobody needs it."),
    Request(
        "PLACE",
        (ADMIN,),
        (SERVICE, Field("node", is_name, "a node's name")),
        (Ok, No, NotGiven),
        "Have that node take a copy.",
    ),
    Request("GRAVEYARD", (ADMIN,), (), (Graveyard,), "List what lies in the graveyard."),
    Request("RESTORE", (ADMIN,), (SERVICE,), (Ok,), "Bring a service back from the graveyard."),
    Request("DRAIN", (ADMIN,), (Field("on", is_flag, "true or false"),), (Ok,), "Take no new calls (or do again)."),
    Request(
        "INVITE",
        (ADMIN,),
        (Field("wish", is_object, '{"name", "role", "uses", "seconds"}, all of them optional'),),
        (Invited,),
        "Make a token by which a host may join (a signer alone does).",
    ),
    Request("INVITATIONS", (ADMIN,), (), (Invitations,), "List the tokens that you have made, without their secrets."),
    Request("UNINVITE", (ADMIN,), (Field("id", is_text, "of a token"),), (Ok,), "Let nobody in by this token any more."),
    Request(
        "RENEW",
        EVERYONE,
        (Field("request", is_text, "a signing request in PEM, for what the caller's certificate says"),),
        (Certified,),
        "Sign a new certificate over my old one (a signer alone does).",
    ),
    Request(
        "REVOKE",
        (ADMIN,),
        (Field("wish", is_object, '{"what", "value", "at", "why"}, or {"statement"} that an admin has signed'),),
        (Ok,),
        "Tell the mesh that a certificate counts no longer.",
    ),
    Request(
        "ROLL",
        (ADMIN,),
        (Field("statement", is_object, '{"said", "signature", "certificate"}, as bdkeys roll makes it'),),
        (Ok,),
        "Tell the mesh that another CA follows.",
    ),
    Request("LEAVE", (ADMIN,), (), (Ok,), "Tell the mesh that you leave, and end."),
    Request(
        "KILL",
        EVERYONE,
        (Field("password", is_text, "the admin_password; an admin needs none", True),),
        (Goodbye,),
        "End at once.",
    ),
)

REQUESTS = {row.name: row for row in _ROWS}


def _known(row: Request, version: int) -> tuple[int, int, list[Callable[[Any], bool]]]:
    """(how many arguments it takes at least, at most, the shape of each) in this version of the protocol."""
    known = [each for each in row.arguments if each.since <= version]
    return sum(not each.optional for each in known), len(known), [each.is_right for each in known]


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
    least, most, shapes = _KNOWN[version][message[0]]
    if not least <= len(arguments) <= most:
        raise BadRequest(f"INVALID REQUEST: {row.name} takes {most} arguments, not {len(arguments)}")
    for is_right, value in zip(shapes, arguments, strict=False):
        if not is_right(value):
            wrong = next(each for each, shape, said in zip(row.arguments, shapes, arguments, strict=False) if not shape(said))
            raise BadRequest(f"INVALID REQUEST: {row.name}'s {wrong.name} must be {wrong.kind}")
    return row, arguments


# --- both ends of an answer ---------------------------------------------------------------------------------------


def encoded(answer: Any) -> list[Any]:
    """A typed answer as the list that travels; fields at the end that are optional and empty stay at home."""
    row = ANSWER_ROWS[type(answer)]
    fields = list(answer[: len(row.fields)])
    while fields and row.fields[len(fields) - 1].optional and not fields[-1]:
        fields.pop()
    return [row.word, *fields] if row.word else fields


def word_of(answer: Any) -> str:
    """The first word of an answer, for logs and --explain."""
    return ANSWER_ROWS[type(answer)].word or type(answer).__name__.upper()


def decode(command: str, said: object, arguments: Sequence[Any] = ()) -> Any:
    """The typed answer to `command` that came as `said`; BadFrame when it is none of those in its row.

    What a newer node adds behind the fields that are known here is passed over. `arguments`: what was asked with, where that
    decides the form of the answer: STATUS tells of nodes in the brief form only to a caller that wished so."""
    if isinstance(said, list) and said:
        for row in _POSSIBLE[command]:
            if (fields := _fitting(row, said)) is not None and (row.type is not Status or _is_wished(fields[1], arguments)):
                return row.type(*fields)
    raise BadFrame(f"{str(said)[:SHOWN_CHARACTERS_MAX]!r} is no answer to {command}")


def _is_wished(nodes: list[Any], arguments: Sequence[Any]) -> bool:
    return bool(arguments and arguments[0].get("brief") is True) or all(isinstance(each, dict) for each in nodes)


def _fitting(row: Answer, said: list[Any]) -> list[Any] | None:
    if row.word and said[0] != row.word:
        return None
    fields = said[1 : 1 + len(row.fields)] if row.word else said[: len(row.fields)]
    for number, field in enumerate(row.fields):
        if number >= len(fields):
            return fields if field.optional else None
        if not field.is_right(fields[number]):
            return None
    return fields


# An error may answer anything. Of answers with the same word, those with more fields come first.
_POSSIBLE = {
    row.name: [
        *sorted((ANSWER_ROWS[each] for each in row.answers), key=lambda answer: -len(answer.fields)),
        ANSWER_ROWS[Error],
    ]
    for row in _ROWS
}


# --- the opening --------------------------------------------------------------------------------------------------

OPEN = "OPEN"


class Opening(NamedTuple):
    """What a caller says before its first request, and again when it likes: the newest and the oldest version of the protocol
    that it speaks, how many seconds each request may take, and its policy by digest or as a document."""

    version: int = VERSION
    oldest: int = OLDEST
    deadline: float | None = None
    policy: str | None = None
    policy_text: str | None = None


OPENING = (
    Field("version", is_version, "a version of the protocol"),
    Field("oldest", is_version, "another, not above it", True),
    Field("deadline", is_seconds, "seconds", True),
    Field("policy", is_text, "digest", True),
    Field("policy_text", is_text, "a WS-Policy document", True),
)


def is_opening(message: object) -> bool:
    """Whether this is one, well-formed or not: it is never answered."""
    return isinstance(message, list) and message[:1] == [OPEN]


def opened(opening: Opening) -> list[Any]:
    """The opening as it travels."""
    return [OPEN, {field: value for field, value in zip(Opening._fields, opening, strict=True) if value is not None}]


def opening_of(message: list[Any]) -> Opening:
    """What a caller's opening says; BadRequest names the field that is wrong. Fields that are not known are passed over."""
    said = message[1] if len(message) == 2 else None
    if not isinstance(said, dict):
        raise BadRequest("INVALID FORMAT: an opening is OPEN and an object")
    for field in OPENING:
        if field.name not in said and not field.optional:
            raise BadRequest(f"INVALID REQUEST: an opening needs its {field.name}, {field.kind}")
        if field.name in said and not field.is_right(said[field.name]):
            raise BadRequest(f"INVALID REQUEST: an opening's {field.name} must be {field.kind}")
    known = {field.name: said[field.name] for field in OPENING if field.name in said}
    return Opening(**{"oldest": said["version"], **known})
