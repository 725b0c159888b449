"""Signed statements about certificates, which travel with the mesh: whose are revoked, and which CA follows the one before.

A statement is a text, as its author said and signed it; it is passed on as it is, and forgotten when its time is over. Views
merge them as sets, so any order of messages ends in the same. Each has its size, and all together have theirs.

A certificate is revoked by its holder's name (all that were signed until then), by its serial number, or with all that a signer
has signed. Whether the author may say so is `net.proofs`' business, on disk they are the cache's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from bdserver.core.names import valid_name
from bdserver.core.tuples import NamedTuple
from bdserver.core.wire import read_text
from bdserver.errors import BadFrame, BadRequest, TooLarge

# Before what is signed, so that no other text that a key may ever sign can be taken for a statement.
PREFIX = b"BDserver statement 1\0"
# A revocation is 200 bytes; a roll has a certificate for each signer, and a mesh has a handful.
SAID_CHARACTERS_MAX, CERTIFICATE_CHARACTERS_MAX, SIGNATURE_CHARACTERS_MAX = 16 << 10, 4096, 100
STATEMENTS_MAX, ALL_CHARACTERS_MAX = 500, 1 << 20
SIGNERS_MAX = 16
AHEAD_MAX, UNTIL_MAX = 86400.0, 40 * 366 * 86400.0
WHY_CHARACTERS_MAX = 200
SERIAL_MAX = 1 << 160
ID_CHARACTERS = 32
# They ride on news for so long; later, rounds tell those who were away.
YOUNG_SECONDS = 60.0

NAME, SERIAL, SIGNER = "name", "serial", "signer"


class Revocation(NamedTuple):
    """`what`: NAME, SERIAL or SIGNER; certificates of that which began until `at` count no longer from `at` on."""

    what: str
    value: str
    at: float
    until: float
    why: str = ""

    def text(self) -> str:
        """As it is signed."""
        return json.dumps({"kind": "revoke", **self._asdict()}, separators=(",", ":"))


class Roll(NamedTuple):
    """A new CA in the place of one before: its certificate, and those of the signers by it, each in DER and base64."""

    authority: str
    signers: tuple[str, ...]
    at: float
    until: float

    def text(self) -> str:
        """As it is signed, by the CA before."""
        return json.dumps({"kind": "roll", **self._asdict(), "signers": list(self.signers)}, separators=(",", ":"))


class Statement(NamedTuple):
    """The text, its author's signature in base64, and the author's certificate (with its signer's) in DER and base64."""

    said: str
    signature: str
    certificate: str

    @property
    def id(self) -> str:
        """What tells it from others: what it says, whoever has signed it."""
        return sha256(self.said.encode()).hexdigest()[:ID_CHARACTERS]

    @property
    def characters(self) -> int:
        """What it takes."""
        return len(self.said) + len(self.signature) + len(self.certificate)

    def as_json(self) -> dict[str, str]:
        """As it travels and lies in the cache."""
        return self._asdict()


def from_json(value: object) -> Statement:
    """The statement that somebody sent; BadRequest when it is none. What it says, `meaning` tells."""
    limits = SAID_CHARACTERS_MAX, SIGNATURE_CHARACTERS_MAX, CERTIFICATE_CHARACTERS_MAX
    fields = [value.get(each) for each in Statement._fields] if isinstance(value, dict) else []
    if not fields or not all(isinstance(each, str) and len(each) <= most for each, most in zip(fields, limits, strict=True)):
        raise BadRequest("a statement must be an object of three texts")
    return Statement(*map(str, fields))


def meaning(statement: Statement) -> Revocation | Roll:
    """What it says; BadRequest when that makes no sense."""
    try:
        said = read_text(statement.said.encode())
        if not isinstance(said, dict):
            raise ValueError("it is no object")
        at, until = _number(said, "at"), _number(said, "until")
        if not at <= until <= at + UNTIL_MAX:
            raise ValueError("its time makes no sense")
        match said.get("kind"):
            case "revoke":
                return _revocation(said, at, until)
            case "roll":
                return _roll(said, at, until)
            case other:
                raise ValueError(f"its kind is {str(other)[:20]!r}")
    except (BadFrame, TooLarge, ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"a statement that cannot be read: {error}") from None


def _revocation(said: dict[str, Any], at: float, until: float) -> Revocation:
    what, value, why = said["what"], said["value"], said.get("why", "")
    if not isinstance(value, str) or not isinstance(why, str) or len(why) > WHY_CHARACTERS_MAX:
        raise ValueError("its texts are none")
    if what in (NAME, SIGNER) and valid_name(value):
        return Revocation(what, value, at, until, why)
    if what == SERIAL and 0 < int(value, 16) < SERIAL_MAX:
        return Revocation(SERIAL, f"{int(value, 16):x}", at, until, why)
    raise ValueError(f"it is about {str(what)[:20]!r} {value[:60]!r}")


def _roll(said: dict[str, Any], at: float, until: float) -> Roll:
    authority, signers = said["authority"], said["signers"]
    if not isinstance(signers, list) or len(signers) > SIGNERS_MAX:
        raise ValueError(f"more than {SIGNERS_MAX} signers")
    texts = [authority, *signers]
    if not all(isinstance(each, str) and len(each) <= CERTIFICATE_CHARACTERS_MAX for each in texts):
        raise ValueError("its certificates are none")
    return Roll(authority, tuple(signers), at, until)


def _number(said: dict[str, Any], field: str) -> float:
    value = said[field]
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{field} {str(value)[:40]}")
    return float(value)


def untimely(statement: Statement, now: float) -> str | None:
    """Why it is not taken in now; None when it may be."""
    said = meaning(statement)
    if said.until < now:
        return "its time is over"
    return "it is of the day after tomorrow" if said.at > now + AHEAD_MAX else None


def has_room(statements: Mapping[str, Statement], more: Statement) -> bool:
    """Whether one more may be kept."""
    used = sum(each.characters for each in statements.values())
    return len(statements) < STATEMENTS_MAX and used + more.characters <= ALL_CHARACTERS_MAX


def digest(statements: Iterable[str]) -> str:
    """One text that two views share when they hold the same."""
    return sha256(" ".join(sorted(statements)).encode()).hexdigest()[:16]


# --- who is revoked -----------------------------------------------------------------------------------------------


class Holder(NamedTuple):
    """A certificate, as far as it matters here; the signer's part is empty when the CA has signed it itself."""

    name: str
    serial: int
    begins: float
    signer: str = ""
    signer_serial: int = 0
    signer_begins: float = 0.0


class Revocations:
    """All that is revoked by these statements."""

    def __init__(self, statements: Iterable[Statement]) -> None:
        self._by: dict[tuple[str, str], list[Revocation]] = {}  # of each the newest first; one may be told in advance
        self.rolls: list[Roll] = []
        for statement in statements:
            said = meaning(statement)
            if isinstance(said, Roll):
                self.rolls.append(said)
            else:
                self._by.setdefault((said.what, said.value), []).append(said)
        for each in self._by.values():
            each.sort(key=lambda said: -said.at)
        self.rolls.sort(key=lambda roll: roll.at)

    def __bool__(self) -> bool:
        """Whether anybody is revoked."""
        return bool(self._by)

    def of(self, holder: Holder, now: float) -> Revocation | None:
        """The revocation that this certificate falls under now."""
        questions = (
            (NAME, holder.name, holder.begins),
            (SERIAL, f"{holder.serial:x}", 0.0),
            (SIGNER, holder.signer, holder.signer_begins),
            (SERIAL, f"{holder.signer_serial:x}", 0.0),
        )
        for what, value, begins in questions:
            for found in self._by.get((what, value), ()):
                if begins <= found.at <= now:
                    return found
        return None

    def ends_at(self, holder: Holder) -> float:
        """When it will be revoked, as far as that is said; inf for never. A signer may be told in advance."""
        by_signer, by_name = self._by.get((SIGNER, holder.signer), ()), self._by.get((NAME, holder.name), ())
        coming = [(each.at, holder.signer_begins) for each in by_signer] + [(each.at, holder.begins) for each in by_name]
        return min((at for at, begins in coming if begins <= at), default=math.inf)

    def name_at(self, name: str) -> float:
        """Until when certificates of this name were revoked; 0 for never."""
        return max((each.at for each in self._by.get((NAME, name), ())), default=0.0)

    def all(self, now: float) -> list[Revocation]:
        """The newest first: of each certificate, signer or name those that are to come, and the last that counts already."""
        found = []
        for each in self._by.values():
            past = [said for said in each if said.at <= now]
            found += [said for said in each if said.at > now] + past[:1]
        return sorted(found, key=lambda said: -said.at)
