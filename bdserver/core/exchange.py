"""SYNCHRONIZE: how two views become one with few bytes.

An exchange is an object with optional fields, the same in request and answer:
    digest    of the sender's whole view; equal digests end it: a quiet mesh pays a constant number of bytes
    buckets   digests of its parts, sent when the whole differs
    versions  {name: [generation, counter, rank]} of the parts in `of` (numbers of buckets)
    records   the sender's news, oldest change first, within a budget of bytes
    wanted    names of which the sender lacks the newer record
    policies  {digest: text}; unknown: digests whose text the sender lacks
    known     how many of the records just received were no news (tells a gossiper when to stop)
    until     with records: pass them on around the ring as far as this node (`gossip.ring.arc`)
The caller drives: digest -> buckets -> versions -> records. Both sides work on copies that they hold; taking over is
`absorb`, under the cache's lock. Talking is client's and answers' business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

from bdserver.core import membership
from bdserver.core.names import valid_name
from bdserver.core.policy import digest as policy_digest
from bdserver.core.view import BUCKETS, View
from bdserver.errors import BadRequest

# What one message carries of records; a frame takes 8 times as much, and a slow link is not blocked for seconds.
RECORDS_BYTES_MAX = 256 * 1024
RECORD_BYTES_ABOUT = 400
SERVICE_BYTES_ABOUT = 60
# A policy is up to 64 KiB, and a frame takes 1 MiB.
POLICIES_ASKED_MAX = 8
# Rounds within one conversation; a budget that was too small is continued in the next round.
TURNS_MAX = 4

# In place of a node's name (and none): all around the ring.
EVERYBODY = "*"

Exchange = dict[str, Any]


def checked(value: object) -> Exchange:
    """An exchange as it came from the network, its shape made sure of; BadRequest says what is wrong."""
    if isinstance(value, dict):
        for field, is_right in _SHAPES.items():
            if field in value and not is_right(value[field]):
                raise BadRequest(f"INVALID REQUEST: an exchange's {field} has a wrong shape")
        return value
    raise BadRequest("INVALID REQUEST: an exchange must be an object")


def opening(view: View) -> Exchange:
    """What the caller says first. The digest is of records alone, so policies' texts that are lacking are asked for."""
    return {"digest": view.digest()} | _lacking(view)


def respond(view: View, theirs: Exchange) -> Exchange:
    """The callee's answer to an exchange, after it has absorbed it into `view`."""
    answer: Exchange = {}
    if "digest" in theirs:
        answer["digest"] = view.digest()
        if answer["digest"] != theirs["digest"]:
            answer["buckets"] = [format(each, "x") for each in view.buckets()]
    if "versions" in theirs:
        news, answer["wanted"] = view.newer_than(theirs["versions"], theirs.get("of", []))
        answer |= _carrying(view, news)
    return answer | _what_they_lack(view, theirs)


def follow_up(view: View, theirs: Exchange) -> Exchange:
    """What the caller says next, after it has absorbed the callee's answer; empty: there is no more to say."""
    say: Exchange = {}
    if "buckets" in theirs:
        ours = [format(each, "x") for each in view.buckets()]
        differing = [i for i in range(BUCKETS) if theirs["buckets"][i : i + 1] != [ours[i]]]
        say = {"of": differing, "versions": view.versions(differing)} if differing else {}
    return say | _what_they_lack(view, theirs)


def push(view: View, names: list[str], until: str | None = None) -> Exchange:
    """News told unasked."""
    say = _carrying(view, [view.records[name] for name in names if name in view.records])
    return say if until is None else {**say, "until": until}


def to_pass_on(view: View, theirs: Exchange, talker: str) -> tuple[list[str], str]:
    """(names, until): what of an exchange, absorbed into `view`, the listener is to pass on around the ring, and how far.

    What somebody says of itself unasked (a node that has just come) is passed on all around."""
    names = [value.get("name") for value in theirs.get("records", []) if isinstance(value, dict)]
    known = [name for name in names if isinstance(name, str) and name in view.records]
    if "until" in theirs:
        return known, theirs["until"]
    return [name for name in known if name == talker], EVERYBODY


def absorb(view: View, theirs: Exchange, now: float, talker: str) -> Exchange:
    """Merge what an exchange carries into the view (which the caller of this holds locked).

    Returns what it adds to the answer: `known`, and `unknown` digests. `talker`: the name in the certificate
    of who says so. A broken record is left out, it does not spoil the others."""
    for digest, text in theirs.get("policies", {}).items():
        if policy_digest(text) == digest:
            view.learn_policy(digest, text)
    records, known = theirs.get("records", []), 0
    for value in records:
        try:
            known += not view.merge(membership.from_json(value, now), now)
        except BadRequest:
            continue
    answer: Exchange = ({"known": known} if records else {}) | _lacking(view)
    if talker in view.records:
        view.heard(talker, now)
    return answer


def has_news(exchange: Exchange) -> bool:
    """Whether absorbing it could change a view: only then is the cache's lock worth taking."""
    return bool(exchange.get("records") or exchange.get("policies"))


def turns(read: Callable[[], View], take: Callable[[Exchange], Exchange]) -> Generator[Exchange, Exchange, None]:
    """A whole conversation as the caller (push-pull): yields what to say, is sent the (checked) answer. `read` gives the view
    of now, `take` absorbs an answer and returns what `absorb` does."""
    say = opening(read())
    for _ in range(TURNS_MAX):
        theirs = yield say
        added = take(theirs) if has_news(theirs) else {}
        say = follow_up(read(), theirs)
        if "unknown" in added:
            say["unknown"] = added["unknown"]
        if not say:
            return


def synchronise(read: Callable[[], View], take: Callable[[Exchange], Exchange], turn: Callable[[Exchange], Exchange]) -> None:
    """Drive `turns`: `turn` sends an exchange and returns the (checked) answer."""
    conversation = turns(read, take)
    say = next(conversation)
    with contextlib.suppress(StopIteration):
        while True:
            say = conversation.send(turn(say))


def _lacking(view: View) -> Exchange:
    unknown = view.unknown_policies()[:POLICIES_ASKED_MAX]
    return {"unknown": unknown} if unknown else {}


def _what_they_lack(view: View, theirs: Exchange) -> Exchange:
    wanted = [view.records[name] for name in theirs.get("wanted", []) if name in view.records]
    asked = theirs.get("unknown", [])[:POLICIES_ASKED_MAX]
    texts = {digest: view.policies[digest] for digest in asked if digest in view.policies}
    return (_carrying(view, wanted) if wanted else {}) | ({"policies": texts} if texts else {})


def _carrying(view: View, news: list[membership.Record]) -> Exchange:
    records: list[dict[str, Any]] = []
    room = RECORDS_BYTES_MAX
    for record in news:
        room -= RECORD_BYTES_ABOUT + SERVICE_BYTES_ABOUT * len(record.services)
        if room < 0 and records:
            break
        records.append(membership.as_json(record))
    return {"records": records} if records else {}


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_versions(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= membership.RECORDS_MAX
        and all(isinstance(row, list) and len(row) == 3 and all(type(n) is int for n in row) for row in value.values())
    )


def _is_bucket_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < BUCKETS for n in value)


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "digest": lambda value: isinstance(value, str),
    "buckets": _is_texts,
    "of": _is_bucket_numbers,
    "versions": _is_versions,
    "records": lambda value: isinstance(value, list) and len(value) <= membership.RECORDS_MAX,
    "wanted": _is_texts,
    "unknown": _is_texts,
    "policies": lambda value: isinstance(value, dict) and all(isinstance(text, str) for text in value.values()),
    "known": lambda value: type(value) is int,
    "until": lambda value: isinstance(value, str) and valid_name(value),
}
