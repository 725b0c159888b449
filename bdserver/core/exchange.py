"""SYNCHRONIZE: how two views become one with few bytes.

An exchange is an object with optional fields, the same in request and answer:
    digest    of the sender's whole view; equal digests end it: a quiet mesh pays a constant number of bytes
    buckets   digests of its parts, sent when the whole differs, and with records when there are more of them
    versions  {name: [generation, counter, rank]} of the parts in `of` (numbers of buckets)
    records   the sender's news, oldest change first, within a budget of bytes
    wanted    names of which the sender lacks the newer record; unmet: those of them of which it has no record at all
    policies  {digest: text}, certificates {digest: DER in base64}; unknown: digests whose text the sender lacks
    known     how many of the records just received were no news (tells a gossiper when to stop)
    stated    digest of the sender's statements about certificates; where it differs, both say theirs
    statements  some or all of them, with news for a minute
    refused   why the receiver's own record is not taken in
    until     with records: pass them on around the ring as far as this node (`gossip.ring.arc`)
The caller drives: digest -> buckets -> versions -> records. Each part has its share of what one frame takes, in bytes as they
travel without zlib; what is left over comes in the next exchange. Both sides work on copies that they hold; taking over is
`absorb`, under the cache's lock. A record is taken in when `prove` has nothing against it, which takes its owner's certificate:
that comes along where the other side does not know the node at all, else when it is asked for. Talking is the business of talks
and ears, proving that of net.proofs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Generator, Iterable
from typing import Any, TypeVar

from bdserver.core import membership, statements
from bdserver.core.fields import TEXT_MAX
from bdserver.core.membership import (
    CERTIFICATE_CHARACTERS_MAX,
    DEAD,
    DIGEST_CHARACTERS,
    SUSPECT,
    Record,
    certificate_digest,
    untimely,
)
from bdserver.core.names import valid_name
from bdserver.core.policy import digest as policy_digest
from bdserver.core.statements import Statement
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import BUCKETS, View
from bdserver.core.wire import payload
from bdserver.errors import BadRequest, Quarantined, TooBusy

# The shares of one frame, which takes a megabyte: of records with their certificates, of which the largest fits; of policies,
# likewise; of versions; of names that are wanted, and once more of those that are unmet.
RECORDS_BYTES_MAX, POLICIES_BYTES_MAX, VERSIONS_BYTES_MAX, WANTED_BYTES_MAX = 512 << 10, 256 << 10, 200 << 10, 100 << 10
# Of a record beside its statement: signature, digest of the certificate, names of fields.
RECORD_BYTES_BESIDE = 200
# Records in one message; so many of the smallest have room in it.
RECORDS_TOLD_MAX = 2000
# Of statements, so much in one message, and so many with news.
STATEMENTS_BYTES_MAX, STATEMENTS_TOLD_MAX = 128 * 1024, 16
# A policy is up to 64 KiB, and a frame takes 1 MiB.
POLICIES_ASKED_MAX = 8
CERTIFICATES_ASKED_MAX = 500
# Rounds within one conversation; a budget that was too small is continued in the next round.
TURNS_MAX = 4
# A newcomer to a large mesh takes in all of it at once: while news comes and there is more, or while there are buckets left to
# compare, so many turns.
TURNS_WITH_MORE_MAX = 20
REFUSED_CHARACTERS_MAX = 300
# A newcomer's certificate is told with its record for so long: else each node on the way around the ring would have to ask.
YOUNG_SECONDS = 60.0

# In place of a node's name (and none): all around the ring.
EVERYBODY = "*"

Exchange = dict[str, Any]
_T = TypeVar("_T")
# Why a record is not believed, of which the certificate is this text; None when it is. TooBusy: its teller has told too many.
Prove = Callable[[Record, str], str | None]


class Later(Exception):
    """Raised by `Prove`: nothing is against the record, and it is passed over for now, which is not its teller's fault."""


# Why a statement about certificates is not believed; None when it is.
Vouch = Callable[[Statement], str | None]
# Stands around the reading of one record that is not known word for word; Quarantined when it is left out.
Guard = Callable[[object], contextlib.AbstractContextManager[object]]


class Absorbed(NamedTuple):
    """What became of an exchange: what it adds to the answer; the names of those whom it told of, and who are known now; why
    records were left out, and how many lack their certificate; who takes this node for suspect or dead, which it is not."""

    answer: Exchange
    names: list[str] = []
    refused: list[str] = []
    lacking: int = 0
    doubters: tuple[str, ...] = ()


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
    return {"digest": view.digest(), "stated": statements.digest(view.statements)} | _lacking(view)


def respond(view: View, theirs: Exchange) -> Exchange:
    """The callee's answer to an exchange, after it has absorbed it into `view`."""
    answer: Exchange = {}
    if "digest" in theirs:
        answer["digest"] = view.digest()
        if answer["digest"] != theirs["digest"]:
            answer["buckets"] = [format(each, "x") for each in view.buckets()]
    if "versions" in theirs:
        news, lacking = view.newer_than(theirs["versions"], theirs.get("of", []))
        answer["wanted"] = wanted = _names_within(lacking)
        if unmet := [name for name in wanted if name not in view.records]:
            answer["unmet"] = unmet
        answer |= _carrying(view, news, {record.name for record in news} - theirs["versions"].keys())
        if len(answer.get("records", ())) < len(news) or len(wanted) < len(lacking):
            answer["buckets"] = [format(each, "x") for each in view.buckets()]
    return answer | _stating(view, theirs) | _what_they_lack(view, theirs)


def follow_up(view: View, theirs: Exchange, compared: Collection[int] = ()) -> Exchange:
    """What the caller says next, after it has absorbed the callee's answer; empty: there is no more to say. Buckets that were
    `compared` in this conversation come last; while there is no room for others, the answer is to say again how all stand."""
    say: Exchange = {}
    if "buckets" in theirs:
        ours = [format(each, "x") for each in view.buckets()]
        differing = [i for i in range(BUCKETS) if theirs["buckets"][i : i + 1] != [ours[i]]]
        if differing:
            say = _versions(view, sorted(differing, key=lambda number: (number in compared, number)))
            if not set(differing) <= {*say["of"], *compared}:
                say["digest"] = view.digest()
    if "statements" in theirs and "stated" in theirs and theirs["stated"] != statements.digest(view.statements):
        say["statements"] = _all_statements(view)
    return say | _what_they_lack(view, theirs)


def _stating(view: View, theirs: Exchange) -> Exchange:
    """To a caller whose statements differ: all of ours, and their digest, so that it says its own."""
    ours = statements.digest(view.statements)
    if theirs.get("stated", ours) == ours:
        return {}
    return {"stated": ours, "statements": _all_statements(view)}


def _all_statements(view: View) -> list[dict[str, str]]:
    """As many as there is room for."""
    told: list[dict[str, str]] = []
    room = STATEMENTS_BYTES_MAX
    for statement in view.statements.values():
        room -= statement.characters
        if room < 0 and told:
            break
        told.append(statement.as_json())
    return told


def _versions(view: View, buckets: list[int]) -> Exchange:
    """Of the first of these buckets, as many as there is room for; of one that is larger than that, a part."""
    told: dict[str, list[int]] = {}
    of: list[int] = []
    room = VERSIONS_BYTES_MAX
    for number, rows in view.versions(buckets).items():
        size = sum(_row_bytes(*item) for item in rows.items())
        if of and size > room:
            break
        of.append(number)
        told.update(rows if size <= room else _within(rows.items(), lambda item: _row_bytes(*item), room))
        room -= size
    return {"of": of, "versions": told}


def _row_bytes(name: str, version: list[int]) -> int:
    return len(name) + len(str(version)) + 4


def _name_bytes(name: str) -> int:
    return len(name) + 3


def _names_within(names: list[str]) -> list[str]:
    return _within(names, _name_bytes, WANTED_BYTES_MAX)[:RECORDS_TOLD_MAX]


def _within(items: Iterable[_T], size: Callable[[_T], int], room: int) -> list[_T]:
    """The first of these, and as many more as there is room for."""
    taken: list[_T] = []
    for item in items:
        room -= size(item)
        if room < 0 and taken:
            break
        taken.append(item)
    return taken


def push(view: View, names: list[str], until: str | None = None, now: float = math.inf) -> Exchange:
    """News told unasked. A node that has just started, by its generation, may be a newcomer, whose certificate nobody has."""
    news = [view.records[name] for name in dict.fromkeys(names) if name in view.records]
    say = _carrying(view, news, {record.name for record in news if record.version[0] > now - YOUNG_SECONDS})
    young = [each for each in view.statements.values() if statements.meaning(each).at > now - statements.YOUNG_SECONDS]
    if young:
        say["statements"] = [each.as_json() for each in young[:STATEMENTS_TOLD_MAX]]
    return say if until is None else {**say, "until": until}


def tell(
    read: Callable[[], View], names: list[str], now: float, until: str | None = None
) -> Generator[Exchange, Exchange, Exchange]:
    """News told to a listener: yields what to say, is sent the (checked) answers, and returns what they say together: how much
    was `known`, and whether our own record was `refused`. Texts that the listener lacks are told behind the news."""
    theirs = yield push(read(), names, until, now)
    more = follow_up(read(), {"unknown": theirs.get("unknown", [])})
    again: Exchange = {}
    if more:
        again = yield more if until is None or "records" not in more else {**more, "until": until}
    refused = again.get("refused", theirs.get("refused"))
    return {"known": theirs.get("known", 0) + again.get("known", 0)} | ({} if refused is None else {"refused": refused})


def to_pass_on(names: list[str], theirs: Exchange, talker: str) -> tuple[list[str], str]:
    """(names, until): what of an exchange the listener is to pass on around the ring, and how far. `names`: whom it told of, as
    `absorb` has found.

    What somebody says of itself unasked (a node that has just come) is passed on all around."""
    if "until" in theirs:
        return names, theirs["until"]
    return [name for name in names if name == talker], EVERYBODY


def absorb(
    view: View,
    theirs: Exchange,
    now: float,
    talker: str,
    prove: Prove,
    guard: Guard = contextlib.nullcontext,
    vouch: Vouch = lambda statement: "nobody looks at statements here",
) -> Absorbed:
    """Merge what an exchange carries into the view (which the caller of this holds locked).

    `talker`: the name in the certificate of who says so. A record that is broken or not believed, or that its readers crash of,
    is left out, it does not spoil the others; when its teller has told too many, the rest is."""
    refused = _take_statements(view, theirs.get("statements", ()), now, vouch)  # this first: it says whom not to believe
    taking = _Taking(view, theirs.get("certificates", {}), now, talker, prove)
    with contextlib.suppress(TooBusy):
        for value in theirs.get("records", ()):
            if name := membership.restated(value, view.records):
                taking.knows(name)
                continue
            try:
                with guard(value):
                    taking.take(value)
            except Quarantined as error:
                taking.refused.append(str(error))
            except Later:
                continue
    if "policies" in theirs:
        _take_policies(view, theirs["policies"])
    answer = _lacking(view, taking.lacking)
    if theirs.get("records"):
        answer["known"] = taking.known
    if taking.own_refused:
        answer["refused"] = taking.own_refused[:REFUSED_CHARACTERS_MAX]
    if talker in view.records:
        view.heard(talker, now)
    names = [name for name in taking.names if name in view.records]
    return Absorbed(answer, names, [*refused, *taking.refused], taking.lacking_count, taking.doubters)


def _take_statements(view: View, values: Iterable[object], now: float, vouch: Vouch) -> list[str]:
    """Those that are new and proved; why others are left out."""
    refused = []
    for value in values:
        try:
            statement = statements.from_json(value)
            if statement.id in view.statements:
                continue
            why = statements.untimely(statement, now) or vouch(statement)
        except BadRequest as error:
            why = str(error)
        if why is None:
            view.state(statement, now)
        else:
            refused.append(f"a statement about certificates: {why}")
    return refused


class _Taking:
    """The records of one exchange, taken in one by one."""

    def __init__(self, view: View, certificates: dict[str, str], now: float, talker: str, prove: Prove) -> None:
        self.view, self.now, self.talker, self.prove = view, now, talker, prove
        self.certificates = certificates
        self.known = self.lacking_count = 0
        self.names: list[str] = []
        self.refused: list[str] = []
        self.own_refused = ""
        self.doubters: tuple[str, ...] = ()
        self.lacking: dict[str, None] = {}  # digests of certificates, in order

    def take(self, value: object) -> None:
        try:
            record = membership.from_json(value)
        except BadRequest as error:
            self.refused.append(str(error))
            return
        why = untimely(record, self.now)
        if why is None:
            record = self._as_known(record)
            if not self.view.is_news(record, self.now):
                self.knows(record.name)
                return
            why = self._doubt(record)
        if why is not None:
            self._refuse(record, why)

    def knows(self, name: str) -> None:
        """That one is no news."""
        self.known += 1
        self.names.append(name)

    def _as_known(self, record: Record) -> Record:
        """With the signature that was found to fit, where the owner's words are the same: it can have others."""
        known = self.view.records.get(record.name)
        if known is None or not known.said or record.said != known.said:
            return record
        return record._replace(signature=known.signature, certificate=known.certificate)

    def _doubt(self, record: Record) -> str | None:
        """Take it in, unless there is something against it, or its certificate is lacking."""
        view, digest = self.view, record.certificate
        known = view.records.get(record.name)
        if known is not None and known.said and known.said == record.said:  # proved when it came
            self._merge(record)
            return None
        text = view.certificates.get(digest)
        if text is None and digest:
            text = self.certificates.get(digest)
            if text is None:
                self.lacking[digest] = None
                self.lacking_count += 1
                return None
            if certificate_digest(text) != digest:
                return "its certificate came under a wrong digest"
        why = self.prove(record, text or "")
        if why is None and self._merge(record) and digest and (record.name != view.me or self._is_rivals(record)):
            view.learn_certificate(digest, text or "")
        return why

    def _is_rivals(self, record: Record) -> bool:
        return self.view.rival is not None and self.view.rival.certificate == record.certificate

    def _merge(self, record: Record) -> bool:
        self.names.append(record.name)
        is_news = self.view.merge(record, self.now)
        if is_news and record.name == self.view.me and record.status in (SUSPECT, DEAD):
            self.doubters = record.accusers or (self.talker,)
        return is_news

    def _refuse(self, record: Record, why: str) -> None:
        self.refused.append(f"the record of {record.name}: {why}")
        if record.name == self.talker:
            self.own_refused = why


def _take_policies(view: View, texts: dict[str, str]) -> None:
    """Those that somebody has, whose text we lack: nobody fills our memory with others."""
    for digest in view.unknown_policies():
        text = texts.get(digest, "")
        if text and len(text) <= TEXT_MAX and policy_digest(text) == digest:
            view.learn_policy(digest, text)


def has_news(exchange: Exchange) -> bool:
    """Whether absorbing it could change a view: only then is the cache's lock worth taking."""
    return bool(exchange.get("records") or exchange.get("policies") or exchange.get("statements"))


def turns(read: Callable[[], View], take: Callable[[Exchange], Exchange]) -> Generator[Exchange, Exchange, None]:
    """A whole conversation as the caller (push-pull): yields what to say, is sent the (checked) answer. `read` gives the view
    of now, `take` absorbs an answer and returns what that adds to ours."""
    say, left = opening(read()), TURNS_MAX
    compared: set[int] = set()
    for _ in range(TURNS_WITH_MORE_MAX):
        theirs = yield say
        before = read().digest()
        added = take(theirs) if has_news(theirs) else {}
        has_more = "versions" in say and "buckets" in theirs and read().digest() != before
        left = TURNS_MAX if has_more or (compared and "digest" in say) else left - 1
        say = follow_up(read(), theirs, compared)
        compared.update(say.get("of", ()))
        say |= {field: added[field] for field in ("unknown", "refused") if field in added}
        if not say or not left:
            return


def _lacking(view: View, certificates: Collection[str] = ()) -> Exchange:
    unknown = [*view.unknown_policies()[:POLICIES_ASKED_MAX], *list(certificates)[:CERTIFICATES_ASKED_MAX]]
    return {"unknown": unknown} if unknown else {}


def _what_they_lack(view: View, theirs: Exchange) -> Exchange:
    """Records that are wanted, texts that are unknown, and once more the records that were not taken in for want of one."""
    asked = dict.fromkeys(theirs.get("unknown", [])[: POLICIES_ASKED_MAX + CERTIFICATES_ASKED_MAX])
    known = [digest for digest in asked if digest in view.policies][:POLICIES_ASKED_MAX]
    told = _within(known, lambda digest: len(payload(view.policies[digest])) + len(digest) + 4, POLICIES_BYTES_MAX)
    texts = {digest: view.policies[digest] for digest in told}
    wanted = [name for name in theirs.get("wanted", []) if name in view.records]
    certified = set(theirs.get("unmet", ()))
    if any(digest in view.certificates for digest in asked):
        told_again = [name for name, record in view.records.items() if record.certificate in asked]
        wanted += told_again
        certified.update(told_again)
    records = [view.records[name] for name in dict.fromkeys(wanted)]
    return _carrying(view, records, certified) | ({"policies": texts} if texts else {})


def _carrying(view: View, news: list[Record], certified: Collection[str] = ()) -> Exchange:
    """As many of these records as there is room for, and the certificates of those `certified`."""
    records: list[dict[str, Any]] = []
    certificates: dict[str, str] = {}
    room = RECORDS_BYTES_MAX
    for record in news[:RECORDS_TOLD_MAX]:
        value = membership.as_json(record)
        text = view.certificates.get(record.certificate, "") if record.name in certified else ""
        room -= RECORD_BYTES_BESIDE + membership.travelling_bytes(value["said"]) + len(text)
        if room < 0 and records:
            break
        records.append(value)
        if text:
            certificates[record.certificate] = text
    return ({"records": records} if records else {}) | ({"certificates": certificates} if certificates else {})


# What is read is weighed as what is told is, in bytes of what travels: the number of names says little of their lengths.


def _is_name(value: object) -> bool:
    return isinstance(value, str) and valid_name(value)


def _is_names(value: object) -> bool:
    """Names for which there is room."""
    if not isinstance(value, list) or len(value) > WANTED_BYTES_MAX:
        return False
    return all(map(_is_name, value)) and sum(map(_name_bytes, value)) <= WANTED_BYTES_MAX


def _is_versions(value: object) -> bool:
    """Rows for which there is room."""
    if not isinstance(value, dict) or len(value) > membership.RECORDS_MAX:
        return False
    is_right = all(_is_name(name) and _is_row(row) for name, row in value.items())
    return is_right and sum(_row_bytes(*item) for item in value.items()) <= VERSIONS_BYTES_MAX


def _is_row(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(number) is int for number in value)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) <= DIGEST_CHARACTERS


def _are_digests(most: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(_is_digest, value))


def _is_certificate(value: object) -> bool:
    return isinstance(value, str) and len(value) <= CERTIFICATE_CHARACTERS_MAX


def _is_bucket_numbers(value: object) -> bool:
    return isinstance(value, list) and len(value) <= BUCKETS and all(type(n) is int and 0 <= n < BUCKETS for n in value)


def _by_digest(is_right: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(_is_digest(key) and is_right(each) for key, each in value.items())


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "digest": _is_digest,
    "buckets": _are_digests(BUCKETS),
    "of": _is_bucket_numbers,
    "versions": _is_versions,
    "records": lambda value: isinstance(value, list) and len(value) <= RECORDS_TOLD_MAX,
    "wanted": _is_names,
    "unmet": _is_names,
    "unknown": _are_digests(POLICIES_ASKED_MAX + CERTIFICATES_ASKED_MAX),
    "stated": _is_digest,
    "statements": lambda value: isinstance(value, list) and len(value) <= statements.STATEMENTS_MAX,
    "policies": _by_digest(lambda text: isinstance(text, str)),
    "certificates": _by_digest(_is_certificate),
    "refused": lambda value: isinstance(value, str) and len(value) <= REFUSED_CHARACTERS_MAX,
    "known": lambda value: type(value) is int,
    "now": lambda value: type(value) in (int, float) and 0 <= value <= membership.VERSION_MAX,
    "until": _is_name,
}
