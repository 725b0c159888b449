"""What may stand in a message: a field, the shape of a value, and the larger shapes that STATUS and WHEREIS tell.

A check looks at one value and says whether it is right; none of them raises, whatever a stranger has sent. Which fields a
request or an answer has is the business of messages.
"""

from __future__ import annotations

from bdserver.core.names import valid_name
from bdserver.core.tuples import NamedTuple
from bdserver.core.urls import URL_CHARACTERS_MAX, is_part
from bdserver.core.wire import OLDEST

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# A policy document is at most this long; the policy module refuses longer ones with its own words.
TEXT_MAX = 64 * 1024
LIST_MAX = 20_000
PORT_MAX = 65535
# How far a FIND may go, whatever its asker wishes: 16 steps pass through any mesh that a person can draw.
STEPS_MAX = 16


class Field(NamedTuple):
    """One place in a message. `since`: the version of the protocol that brought it; only what may be left out can come
    later than 1."""

    name: str
    is_right: Callable[[Any], bool]
    kind: str
    optional: bool = False
    since: int = 1


# --- values ---------------------------------------------------------------------------------------------------------


def is_text(value: object) -> bool:
    """A text, as long as a policy document may be."""
    return isinstance(value, str) and len(value) <= TEXT_MAX


def is_url_part(value: object) -> bool:
    """A URL, or what stands at its beginning or end."""
    return isinstance(value, str) and len(value) <= URL_CHARACTERS_MAX and is_part(value)


def is_name(value: object) -> bool:
    """The name of a service or a node."""
    return isinstance(value, str) and valid_name(value)


def is_text_or_none(value: object) -> bool:
    """A text, or null."""
    return value is None or is_text(value)


def is_name_or_none(value: object) -> bool:
    """A name, or null."""
    return value is None or is_name(value)


def is_whole(value: object) -> bool:
    """A whole number, of either sign."""
    return type(value) is int


def is_count(value: object) -> bool:
    """How many: a whole number from 0."""
    return type(value) is int and value >= 0


def is_number(value: object) -> bool:
    """A number, whole or not; wire lets in no other kind than finite ones."""
    return type(value) in (int, float)


def is_port(value: object) -> bool:
    """0, for none, or a port."""
    return type(value) is int and 0 <= value <= PORT_MAX


def is_steps(value: object) -> bool:
    """How far a FIND may go."""
    return type(value) is int and 0 <= value <= STEPS_MAX


def is_version(value: object) -> bool:
    """A version of the protocol that we speak, or a newer one."""
    return type(value) is int and value >= OLDEST


def is_seconds(value: object) -> bool:
    """A length of time."""
    return type(value) in (int, float) and value >= 0  # type: ignore[operator]


def is_object(value: object) -> bool:
    """An object, of any fields."""
    return isinstance(value, dict)


def is_flag(value: object) -> bool:
    """True or false."""
    return isinstance(value, bool)


def is_texts(value: object) -> bool:
    """A list of texts."""
    return isinstance(value, list) and len(value) <= LIST_MAX and all(isinstance(each, str) for each in value)


def is_plan(value: object) -> bool:
    """The tree of a multicast."""
    from bdserver.core import plan  # a relay needs it, bdwhereis does not

    return plan.is_tree(value, LIST_MAX)


def is_pair(value: object) -> bool:
    """Two whole numbers, as a record's version is."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_whole, value))


def is_edition(value: object) -> bool:
    """[counter, digest]."""
    return isinstance(value, list) and len(value) == 2 and is_whole(value[0]) and is_text(value[1])


def object_of(*fields: Field) -> Callable[[object], bool]:
    """An object that has at least these fields; the optional ones may be missing."""

    def is_right(value: object) -> bool:
        return isinstance(value, dict) and all(
            each.is_right(value[each.name]) if each.name in value else each.optional for each in fields
        )

    return is_right


def list_of(is_right: Callable[[object], bool]) -> Callable[[object], bool]:
    """A list whose items are all of one shape."""
    return lambda value: isinstance(value, list) and all(map(is_right, value))


def named(is_right: Callable[[object], bool]) -> Callable[[object], bool]:
    """An object whose keys are names and whose values are all of one shape."""
    return lambda value: isinstance(value, dict) and all(is_name(key) and is_right(each) for key, each in value.items())


def is_package(value: object) -> bool:
    """What is said of a package ahead of it: how many bytes, and their SHA-256."""
    return isinstance(value, dict) and is_whole(value.get("bytes")) and value["bytes"] >= 0 and is_text(value.get("sha256"))


def is_found(value: object) -> bool:
    """A package, or where a service is that is registered by its URL alone."""
    return is_package(value) or (isinstance(value, dict) and is_url_part(value.get("url")))


# --- what STATUS and WHEREIS tell -----------------------------------------------------------------------------------

# How a service stands on a node: what is not said is as usual.
HELD = (
    Field("edition", is_edition, "[counter, the first digits of its digest]", True),
    Field("original", is_text, "of a copy: the node whose it is", True),
    Field("after", is_text, "of an original: the node that had it before", True),
    Field("replicas", is_whole, "how many living holders are wanted", True),
    Field("copies", is_text, "where it may go, if not any", True),
    Field("signer", is_text, "the key of who has signed it", True),
    Field("idle_since", is_whole, "of a copy that will retire: epoch second of its last call", True),
    Field("checked", is_flag, "whether its node looks if it is well", True),
    Field("stale", is_flag, "true: its original has a newer edition", True),
    Field("orphan", is_flag, "true: nobody who lives has its original", True),
    Field("withdrawn", is_flag, "true: its original is withdrawn, and it is about to go", True),
)
_OFFER = (
    Field("type", is_text, "static or dynamic"),
    Field("weight", is_number, "of its recent hits"),
    Field("cost", is_number, "of one hit"),
    Field("healthy", is_flag, "true or false"),
    Field("url", is_text, "where it is served"),
    Field("living", is_whole, "how many living nodes have it", True),
    Field("wanted", is_whole, "how many of them are wanted, 0: as many as are called for", True),
    *HELD,
)
# STATUS tells more than this; what is here is what our own commands rely on.
OWN_STATUS = (
    Field("address", is_text, "HOST:PORT"),
    Field("name", is_name, "the node's name"),
    Field("mesh", is_text, "its mesh"),
    Field("version", is_pair, "[generation, counter] of its record"),
    Field("software", is_text, "BDserver's version"),
    Field("nodes", is_whole, "how many it knows to live, itself too"),
    Field("weight", is_number, "of all its hits"),
    Field("receiver_threshold", is_number, "RT"),
    Field("overloaded", is_flag, "true or false"),
    Field("draining", is_flag, "true or false"),
    Field("free_dynamic", is_whole, "free slots for replicas"),
    Field("uptime", is_number, "seconds"),
    Field("certificate_days_left", is_number, "days"),
    Field("lag", is_number, "seconds that the discoverer's loop was late lately, at most", True),
    Field("policy", is_text_or_none, "its WS-Policy document or null"),
    Field("complaints", is_texts, "lines"),
    Field("warnings", is_texts, "lines"),
    Field("services", named(object_of(*_OFFER)), "name: offer"),
    Field("certificate", is_object, "of its serial, its signer (null: the CA itself), until when, whether it signs", True),
    Field("roll", is_texts, "how far each roll of the CA is", True),
    Field("revoked", list_of(is_object), "what the mesh says to be revoked", True),
    Field("rival", is_text_or_none, "address of another live node of its name", True),
    Field("policy_mode", is_text, "lax or strict", True),
    Field("events", list_of(is_object), "of its journal", True),
    Field("counters", is_object, "name: {labels: how often since the start}", True),
    Field("rates", is_object, "name: how often a second, over the last minute", True),
    Field("policies", is_object, "digest: document, of all nodes known", True),
    Field("certificate_serial", is_text, "of the certificate in force, in hex", True),
    Field("findings", list_of(is_object), "severity, key, text, remedy", True),
)
NODE_SEEN = (
    Field("address", is_text, "HOST:PORT"),
    Field("name", is_name_or_none, "null while nobody has answered there"),
    Field("status", is_text, "alive, suspect, dead, left or unvisited"),
    Field("version", is_pair, "[generation, counter]"),
    Field("services", list_of(is_name), "names"),
    Field("types", named(is_text), "name: static or dynamic"),
    Field("urls", named(is_text), "name: url"),
    Field("free_dynamic", is_whole, "free slots for replicas"),
    Field("talkable", is_flag, "true or false"),
    Field("draining", is_flag, "true or false"),
    Field("heard_at", is_number, "epoch seconds"),
    Field("costs", named(is_number), "name: cost of a hit", True),
    Field("load", is_whole, "tenths of its threshold", True),
    Field("receiver_threshold", is_number, "RT", True),
    Field("policy", is_text_or_none, "digest", True),
    Field("unhealthy", list_of(is_name), "services that are not well", True),
    Field("offers", named(object_of(*HELD)), "name: how it stands there, where that is not as usual", True),
    Field("signs", is_flag, "true: it is a signer", True),
)
_BRIEF = (is_name, is_text, is_text, is_pair, is_flag, is_number)
_is_node_seen = object_of(*NODE_SEEN)


def is_sight(value: object) -> bool:
    """A node in a list of STATUS: an object with type and URL of each service, or the six fields of the brief form."""
    if isinstance(value, list):
        return len(value) >= len(_BRIEF) and all(is_right(each) for is_right, each in zip(_BRIEF, value, strict=False))
    return (
        isinstance(value, dict)
        and _is_node_seen(value)
        and all(name in value["types"] and name in value["urls"] for name in value["services"])
    )


DETAILS = (
    Field("url", is_url_part, "of the service"),
    Field("node", is_text, "who serves it"),
    Field("service", is_text, "its name"),
    Field("phase", is_whole, "1 to 4"),
    Field(
        "asked",
        list_of(object_of(Field("node", is_text, "whom"), Field("answer", is_text, "what"), Field("ms", is_number, "time"))),
        "in order",
    ),
    Field("why", is_text, "nobody is named, where that is more than the answer says", True),
)

# What may stand behind a YES and a NO, and what an asker says that takes tickets (core.tickets).
PROMISE = (
    Field("tickets", is_count, "how many more calls it takes"),
    Field("seconds", is_seconds, "within so many, counted from the question"),
)
HOLDS = (Field("not_before", is_seconds, "it has no room within so many, counted from the question"),)
TAKES = (Field("spent", is_count, "how many it has spent of those promised last"),)
