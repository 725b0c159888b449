"""The vocabulary of the wire, both directions: the opening, the requests and the answers, each a row with its shape.

What is not in these tables does not exist. A callee checks each request with `check` before it works on it; a caller gets
each answer from `decode` as a typed value, or BadFrame in one line. docs/PROTOCOL's tables, the tests' role matrix and the
fuzzer are made from the same rows. The requests are BDdaemon's of 2006, and some of ours. Bytes are wire's business, working
out answers that of processes.answers.
"""

from __future__ import annotations

from bdserver.core.names import valid_name
from bdserver.core.roles import ADMIN, EVERYONE, NODE
from bdserver.core.tuples import NamedTuple
from bdserver.core.wire import OLDEST, VERSION
from bdserver.errors import BadFrame, BadRequest, Forbidden, NoSuchCommand

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, BinaryIO

# A policy document is at most this long; the policy module refuses longer ones with its own words.
TEXT_MAX = 64 * 1024
LIST_MAX = 20_000
PORT_MAX = 65535
# How far a FIND may go, whatever its asker wishes: 16 steps pass through any mesh that a person can draw.
STEPS_MAX = 16
# A node has two ports: `port` for its callers, and `gossip_port` for other nodes' news.
CALLERS, NEWS = "port", "gossip_port"
# Of a message that makes no sense, this much is shown to a person.
SHOWN_CHARACTERS_MAX = 60


class Field(NamedTuple):
    """One place in a message. `since`: the version of the protocol that brought it; only what may be left out can come
    later than 1."""

    name: str
    is_right: Callable[[Any], bool]
    kind: str
    optional: bool = False
    since: int = 1


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


# --- shapes -------------------------------------------------------------------------------------------------------


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_MAX


def _is_name(value: object) -> bool:
    return isinstance(value, str) and valid_name(value)


def _is_text_or_none(value: object) -> bool:
    return value is None or _is_text(value)


def _is_name_or_none(value: object) -> bool:
    return value is None or _is_name(value)


def _is_whole(value: object) -> bool:
    return type(value) is int


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_port(value: object) -> bool:
    return type(value) is int and 0 <= value <= PORT_MAX


def _is_steps(value: object) -> bool:
    return type(value) is int and 0 <= value <= STEPS_MAX


def _is_version(value: object) -> bool:
    return type(value) is int and value >= OLDEST


def _is_seconds(value: object) -> bool:
    return type(value) in (int, float) and value >= 0  # type: ignore[operator]


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and len(value) <= LIST_MAX and all(isinstance(each, str) for each in value)


def _is_plan(value: object) -> bool:
    from bdserver.core import plan  # a relay needs it, bdwhereis does not

    return plan.is_tree(value, LIST_MAX)


def _is_message(value: object) -> bool:
    return isinstance(value, list) and bool(value) and value[0] in RELAYED


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))


def _is_edition(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_whole(value[0]) and _is_text(value[1])


def _object(*fields: Field) -> Callable[[object], bool]:
    """An object that has at least these fields; the optional ones may be missing."""

    def is_right(value: object) -> bool:
        return isinstance(value, dict) and all(
            each.is_right(value[each.name]) if each.name in value else each.optional for each in fields
        )

    return is_right


def _list_of(is_right: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(is_right, value))


def _named(is_right: Callable[[object], bool]) -> Callable[[object], bool]:
    """An object whose keys are names and whose values are all of one shape."""
    return lambda value: isinstance(value, dict) and all(_is_name(key) and is_right(each) for key, each in value.items())


def _is_package(value: object) -> bool:
    return isinstance(value, dict) and _is_whole(value.get("bytes")) and value["bytes"] >= 0 and _is_text(value.get("sha256"))


def _is_found(value: object) -> bool:
    """A package, or where a service is that is registered by its URL alone."""
    return _is_package(value) or (isinstance(value, dict) and _is_text(value.get("url")))


# How a service stands on a node: what is not said is as usual.
HELD = (
    Field("edition", _is_edition, "[counter, the first digits of its digest]", True),
    Field("original", _is_text, "of a copy: the node whose it is", True),
    Field("after", _is_text, "of an original: the node that had it before", True),
    Field("replicas", _is_whole, "how many living holders are wanted", True),
    Field("copies", _is_text, "where it may go, if not any", True),
    Field("signer", _is_text, "the key of who has signed it", True),
    Field("idle_since", _is_whole, "of a copy that will retire: epoch second of its last call", True),
    Field("checked", _is_flag, "whether its node looks if it is well", True),
    Field("stale", _is_flag, "true: its original has a newer edition", True),
    Field("orphan", _is_flag, "true: nobody who lives has its original", True),
    Field("withdrawn", _is_flag, "true: its original is withdrawn, and it is about to go", True),
)
_OFFER = (
    Field("type", _is_text, "static or dynamic"),
    Field("weight", _is_number, "of its recent hits"),
    Field("cost", _is_number, "of one hit"),
    Field("healthy", _is_flag, "true or false"),
    Field("url", _is_text, "where it is served"),
    Field("living", _is_whole, "how many living nodes have it", True),
    Field("wanted", _is_whole, "how many of them are wanted, 0: as many as are called for", True),
    *HELD,
)
# STATUS tells more than this; what is here is what our own commands rely on.
OWN_STATUS = (
    Field("address", _is_text, "HOST:PORT"),
    Field("name", _is_name, "the node's name"),
    Field("mesh", _is_text, "its mesh"),
    Field("version", _is_pair, "[generation, counter] of its record"),
    Field("software", _is_text, "BDserver's version"),
    Field("nodes", _is_whole, "how many it knows to live, itself too"),
    Field("weight", _is_number, "of all its hits"),
    Field("receiver_threshold", _is_number, "RT"),
    Field("overloaded", _is_flag, "true or false"),
    Field("draining", _is_flag, "true or false"),
    Field("free_dynamic", _is_whole, "free slots for replicas"),
    Field("uptime", _is_number, "seconds"),
    Field("certificate_days_left", _is_number, "days"),
    Field("lag", _is_number, "seconds that the discoverer's loop was late lately, at most", True),
    Field("policy", _is_text_or_none, "its WS-Policy document or null"),
    Field("complaints", _is_texts, "lines"),
    Field("warnings", _is_texts, "lines"),
    Field("services", _named(_object(*_OFFER)), "name: offer"),
    Field("certificate", _is_object, "of its serial, its signer (null: the CA itself), until when, whether it signs", True),
    Field("roll", _is_texts, "how far each roll of the CA is", True),
    Field("revoked", _list_of(_is_object), "what the mesh says to be revoked", True),
    Field("rival", _is_text_or_none, "address of another live node of its name", True),
    Field("policy_mode", _is_text, "lax or strict", True),
    Field("events", _list_of(_is_object), "of its journal", True),
    Field("counters", _is_object, "name: {labels: how often since the start}", True),
    Field("rates", _is_object, "name: how often a second, over the last minute", True),
    Field("policies", _is_object, "digest: document, of all nodes known", True),
    Field("certificate_serial", _is_text, "of the certificate in force, in hex", True),
    Field("findings", _list_of(_is_object), "severity, key, text, remedy", True),
)
NODE_SEEN = (
    Field("address", _is_text, "HOST:PORT"),
    Field("name", _is_name_or_none, "null while nobody has answered there"),
    Field("status", _is_text, "alive, suspect, dead, left or unvisited"),
    Field("version", _is_pair, "[generation, counter]"),
    Field("services", _list_of(_is_name), "names"),
    Field("types", _named(_is_text), "name: static or dynamic"),
    Field("urls", _named(_is_text), "name: url"),
    Field("free_dynamic", _is_whole, "free slots for replicas"),
    Field("talkable", _is_flag, "true or false"),
    Field("draining", _is_flag, "true or false"),
    Field("heard_at", _is_number, "epoch seconds"),
    Field("costs", _named(_is_number), "name: cost of a hit", True),
    Field("load", _is_whole, "tenths of its threshold", True),
    Field("receiver_threshold", _is_number, "RT", True),
    Field("policy", _is_text_or_none, "digest", True),
    Field("unhealthy", _list_of(_is_name), "services that are not well", True),
    Field("offers", _named(_object(*HELD)), "name: how it stands there, where that is not as usual", True),
    Field("signs", _is_flag, "true: it is a signer", True),
)
_BRIEF = (_is_name, _is_text, _is_text, _is_pair, _is_flag, _is_number)
_is_node_seen = _object(*NODE_SEEN)


def _is_sight(value: object) -> bool:
    """A node in a list of STATUS: an object with type and URL of each service, or the six fields of the brief form."""
    if isinstance(value, list):
        return len(value) >= len(_BRIEF) and all(is_right(each) for is_right, each in zip(_BRIEF, value, strict=False))
    return (
        isinstance(value, dict)
        and _is_node_seen(value)
        and all(name in value["types"] and name in value["urls"] for name in value["services"])
    )


DETAILS = (
    Field("url", _is_text, "of the service"),
    Field("node", _is_text, "who serves it"),
    Field("service", _is_text, "its name"),
    Field("phase", _is_whole, "1 to 4"),
    Field(
        "asked",
        _list_of(_object(Field("node", _is_text, "whom"), Field("answer", _is_text, "what"), Field("ms", _is_number, "time"))),
        "in order",
    ),
    Field("why", _is_text, "nobody is named, where that is more than the answer says", True),
)

# What may stand behind a YES and a NO, and what an asker says that takes tickets (core.tickets).
PROMISE = (
    Field("tickets", _is_count, "how many more calls it takes"),
    Field("seconds", _is_seconds, "within so many, counted from the question"),
)
HOLDS = (Field("not_before", _is_seconds, "it has no room within so many, counted from the question"),)
TAKES = (Field("spent", _is_count, "how many it has spent of those promised last"),)

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
    is none yet; and what was signed last, "" where nothing was."""

    counter: int
    sha256: str
    signature: str


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
    """What a host needs to join: a token, and where to bring it; it ends at that time."""

    token: str
    address: str
    until: float


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


_URL = Field("url", _is_text, "url")
_PLACE = (Field("axis_port", _is_whole, "port"), Field("web_dir", _is_text, "path"))
_DETAILS = Field("details", _object(*DETAILS), "details")
_ROWS_OF_ANSWERS = (
    Answer(Error, "ERROR", (Field("code", _is_text, "code"), Field("text", _is_text, "line"))),
    Answer(Pong, "PONG", (Field("digest", _is_text, "digest", True), Field("gossip_port", _is_port, "port", True))),
    Answer(NoPong, "NOPONG", (Field("code", _is_text, "code"), Field("text", _is_text, "line"))),
    Answer(
        Offers,
        "",
        (Field("now", _is_number, "now"), Field("services", _list_of(_is_name), "[service…]"), Field("free", _is_whole, "n")),
    ),
    Answer(
        Status,
        "STATUS",
        (
            Field("status", _object(*OWN_STATUS), "status"),
            Field("nodes", _list_of(_is_sight), "[node…]"),
            Field("next", _is_text, "next", True),
        ),
    ),
    Answer(Place, "", (Field("host", _is_text, "host"), *_PLACE, _DETAILS)),
    Answer(Nobody, "CANTFIND", (_DETAILS,)),
    Answer(Mismatch, "POLICYMISMATCH", (_DETAILS,)),
    Answer(RelayedYes, "YES", (Field("host", _is_text, "host"), *_PLACE, _URL, Field("name", _is_name, "name"))),
    Answer(Yes, "YES", (*_PLACE, _URL, Field("promise", _object(*PROMISE), '{"tickets", "seconds"}', True))),
    Answer(No, "NO", (Field("holds", _object(*HOLDS), '{"not_before"}', True),)),
    Answer(DontHave, "DONTHAVE", ()),
    Answer(NotGiven, "CANTFIND", ()),
    Answer(Package, "YES", (Field("package", _is_package, "package"),), True),
    Answer(Found, "YES", (Field("giver", _is_name, "giver"), Field("package", _is_found, "package")), True),
    Answer(NotFound, "NO", (Field("visited", _is_texts, "visited"),)),
    Answer(
        NetFault,
        "NETFAULT",
        (Field("names", _is_texts, "[name…]"), Field("others", lambda said: said in ("NO", "DONTHAVE"), "NO or DONTHAVE")),
    ),
    Answer(Exchanged, "SYNCHRONIZE", (Field("exchange", _is_object, "exchange"),)),
    Answer(Ok, "OK", (Field("url", _is_text, "url", True), Field("notes", _list_of(_is_text), "[line…]", True))),
    Answer(
        Stated,
        "STATEMENT",
        (
            Field("counter", _is_whole, "counter"),
            Field("sha256", _is_text, "sha256"),
            Field("signature", _is_text, "signature"),
        ),
    ),
    Answer(
        Withdrawn,
        "WITHDRAWN",
        (Field("gone", _list_of(_is_name), "[name…]"), Field("left", _list_of(_is_name), "[name…]")),
    ),
    Answer(
        Graveyard,
        "GRAVEYARD",
        (Field("names", _list_of(_is_name), "[name…]"), Field("left_out", _is_whole, "n", True)),
    ),
    Answer(
        Checkup,
        "DOCTOR",
        (
            Field("name", _is_name, "name"),
            Field("findings", _list_of(_is_object), "[finding…]"),
            Field("visits", _list_of(_is_object), "[visit…]"),
        ),
    ),
    Answer(
        Invited,
        "INVITED",
        (Field("token", _is_text, "token"), Field("address", _is_text, "HOST:PORT"), Field("until", _is_number, "until")),
    ),
    Answer(
        Invitations,
        "INVITATIONS",
        (Field("invitations", _list_of(_is_object), "[invitation…]"), Field("unknown", _is_whole, "n")),
    ),
    Answer(
        Certified,
        "CERTIFIED",
        (
            Field("certificate", _is_text, "certificate"),
            Field("authorities", _is_text, "authorities"),
            Field("rolls", _list_of(_is_object), "[statement…]", True),
        ),
    ),
    Answer(Goodbye, "PEACE OUT", ()),
)
ANSWER_ROWS = {row.type: row for row in _ROWS_OF_ANSWERS}

# --- requests -----------------------------------------------------------------------------------------------------

SERVICE = Field("service", _is_name, "a service's name")
ADDRESS = Field("address", _is_text, "HOST:PORT")
PACKAGE = Field("package", _is_object, '{"bytes", "sha256", …}, the stream follows')

# What may travel in a MASSMESSAGE: the requests that the phases of WHEREIS send to holders and non-holders.
RELAYED = ("WILLYOUEXECUTE", "YOUWILLEXECUTE", "WILLYOUREPLICATE", "GIVESERVICE")

_ROWS = (
    Request("PING", EVERYONE, (), (Pong,), "Answer PONG, and the digest of your view.", ports=(CALLERS, NEWS)),
    Request(
        "STATUS",
        EVERYONE,
        (
            Field(
                "wish",
                _is_object,
                '{"brief": true or false, "of": NAME, "from": NEXT, "detail": true or SERVICE, "timeline": HOURS}, for a crawl',
                True,
            ),
        ),
        (Status,),
        "Tell how you are, and whom you know.",
    ),
    Request(
        "WHEREIS",
        EVERYONE,
        (SERVICE, Field("policy", _is_text_or_none, "the client's WS-Policy document or null")),
        (Nobody, Mismatch, Place),
        "Name a host that has the service, may be talked to, is alive and has capacity left.",
    ),
    Request("GIVEYOURSERVICES", EVERYONE, (), (Offers,), "Tell your services and your free dynamic slots."),
    Request(
        "SYNCHRONIZE",
        (NODE,),
        (Field("exchange", _is_object, "digest, buckets, versions, records, certificates, policies"),),
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
        (SERVICE, Field("takes", _object(*TAKES), '{"spent"}, of an asker that takes tickets', True)),
        (Yes, No, DontHave),
        "Take one more call, if you are not overloaded.",
    ),
    Request(
        "SPENT",
        (NODE,),
        (Field("calls", _named(_is_count), "{service: how many tickets}"),),
        (Ok,),
        "Of the calls that you promised for these services I have made so many, and make no more.",
    ),
    Request(
        "YOUWILLEXECUTE",
        (NODE,),
        (SERVICE, Field("old", _is_flag, "true: an old edition too, since who has the new one does not answer", True)),
        (Yes, DontHave),
        "Take one more call, overloaded or not.",
    ),
    Request(
        "WILLYOUREPLICATE",
        (NODE,),
        (SERVICE, Field("call", _is_flag, "false: there is no call to take, the copy is to stand by", True)),
        (Yes, No, NotGiven),
        "Fetch a copy of the service and take one call.",
    ),
    Request("GIVESERVICE", (NODE,), (SERVICE,), (Package, No), "Give me the service's package."),
    Request(
        "FIND",
        (NODE, ADMIN),
        (
            SERVICE,
            Field("visited", _is_texts, "names of nodes that were asked"),
            Field("steps", _is_steps, f"steps left, 0 to {STEPS_MAX}"),
        ),
        (Found, NotFound),
        "Search depth first for a service that no cache mentions.",
    ),
    Request(
        "MASSMESSAGE",
        (NODE,),
        (
            Field("plan", _is_plan, '{"self": children, NAME: children}, a tree'),
            Field("recipients", _is_texts, "names of nodes"),
            Field("message", _is_message, "one of " + ", ".join(RELAYED)),
        ),
        (RelayedYes, Found, No, DontHave, NetFault),
        "Ask the recipients among your children, then pass it down the branches.",
    ),
    Request(
        "DOCTOR",
        (NODE, ADMIN),
        (Field("wish", _is_object, '{"of": NAME}', True),),
        (Checkup,),
        "Tell what needs attention at your host, and visit the others.",
    ),
    Request("HINT", (ADMIN,), (ADDRESS,), (Ok,), "There is a node at this address: visit it."),
    Request("FORGET", (ADMIN,), (Field("node", _is_text, "a node's name or HOST:PORT"),), (Ok,), "Drop this node."),
    Request("PUBLISH", (ADMIN,), (SERVICE, PACKAGE), (Ok,), "Offer this service from now on.", True),
    Request("STATEMENT", (ADMIN,), (SERVICE,), (Stated,), "Tell what is to be signed of this service, and what was."),
    Request(
        "SIGN",
        (ADMIN,),
        (SERVICE, Field("signature", _is_text, "COUNTER SHA256 SIGNATURE PROOF COMMENT")),
        (Ok,),
        "Offer what you offer as an edition that is signed so.",
    ),
    Request(
        "WITHDRAW",
        (ADMIN,),
        (SERVICE, Field("here", _is_flag, "true: leave the copies on other nodes", True)),
        (Withdrawn,),
        "Offer it no longer, nor any copy of it; files go to the graveyard.",
    ),
    Request("ADOPT", (ADMIN,), (SERVICE,), (Ok,), "Have the original from now on of what is a copy without one."),
    Request(
        "TEND",
        (ADMIN,),
        (Field("services", _list_of(_is_name), "[name…]"),),
        (Ok,),
        "See which editions these are, and have copies follow their originals: renewed, or gone.",
    ),
    Request("RETIRE", (ADMIN,), (SERVICE, Field("why", _is_text, "a line")), (Ok,), "Let your copy go: nobody needs it."),
    Request(
        "PLACE",
        (ADMIN,),
        (SERVICE, Field("node", _is_name, "a node's name")),
        (Ok, No, NotGiven),
        "Have that node take a copy.",
    ),
    Request("GRAVEYARD", (ADMIN,), (), (Graveyard,), "List what lies in the graveyard."),
    Request("RESTORE", (ADMIN,), (SERVICE,), (Ok,), "Bring a service back from the graveyard."),
    Request("DRAIN", (ADMIN,), (Field("on", _is_flag, "true or false"),), (Ok,), "Take no new calls (or do again)."),
    Request(
        "INVITE",
        (ADMIN,),
        (Field("wish", _is_object, '{"name", "role", "uses", "seconds"}, all of them optional'),),
        (Invited,),
        "Make a token by which a host may join (a signer alone does).",
    ),
    Request("INVITATIONS", (ADMIN,), (), (Invitations,), "List the tokens that you have made, without their secrets."),
    Request("UNINVITE", (ADMIN,), (Field("id", _is_text, "of a token"),), (Ok,), "Let nobody in by this token any more."),
    Request(
        "RENEW",
        EVERYONE,
        (Field("request", _is_text, "a signing request in PEM, for what the caller's certificate says"),),
        (Certified,),
        "Sign a new certificate over my old one (a signer alone does).",
    ),
    Request(
        "REVOKE",
        (ADMIN,),
        (Field("wish", _is_object, '{"what", "value", "at", "why"}, or {"statement"} that an admin has signed'),),
        (Ok,),
        "Tell the mesh that a certificate counts no longer.",
    ),
    Request(
        "ROLL",
        (ADMIN,),
        (Field("statement", _is_object, '{"said", "signature", "certificate"}, as bdkeys roll makes it'),),
        (Ok,),
        "Tell the mesh that another CA follows.",
    ),
    Request("LEAVE", (ADMIN,), (), (Ok,), "Tell the mesh that you leave, and end."),
    Request(
        "KILL",
        EVERYONE,
        (Field("password", _is_text, "the admin_password; an admin needs none", True),),
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
    Field("version", _is_version, "a version of the protocol"),
    Field("oldest", _is_version, "another, not above it", True),
    Field("deadline", _is_seconds, "seconds", True),
    Field("policy", _is_text, "digest", True),
    Field("policy_text", _is_text, "a WS-Policy document", True),
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
