"""Joining by invitation: the token that a person carries, the invitation that a signer keeps of it, who is let in by which.

A token names the mesh by the fingerprint of its CA, so whoever has one knows the mesh before anything is sent to it; and the
node that has invited, so that no other node of the mesh is told its secret. A signer keeps the hash of the secret alone. What
is wrong with a token is told only to somebody who knows its secret: to everybody else it does not exist.

Decides, and does nothing: files are `files.invitations`', talking is `processes.joining`'s and `net.welcome`'s.
"""

from __future__ import annotations

import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest
from typing import Any
from zlib import crc32

from bdserver.core.names import valid_name
from bdserver.core.roles import Role
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadRequest, Forbidden

# The first byte of a token; it makes that none begins with a hyphen, which a shell's command takes for an option.
TOKEN_VERSION = 1
ROOT_BYTES, INVITER_BYTES, ID_BYTES, SECRET_BYTES = 16, 6, 5, 16
TOKEN_BYTES = 1 + ROOT_BYTES + INVITER_BYTES + ID_BYTES + SECRET_BYTES + 1
# Somebody who knows the id of a token, and guesses: 128 bits take more, but a person should see it.
WRONG_MAX = 10
USES_MAX, SECONDS_MAX = 1000, 30 * 86400.0
# How long it is told that an invitation has ended, instead of that there is none.
TOLD_SECONDS = 86400.0
ANEW = "bdctl invite prints another line"
# What a stranger says: a token, and a signing request for dozens of hosts.
MESSAGE_BYTES_MAX = 32 << 10
REQUEST_CHARACTERS_MAX = 16 << 10


class Token(NamedTuple):
    """What a person carries from one host to the next, in one word."""

    root: bytes  # the first bytes of the SHA-256 of the CA's certificate
    inviter: bytes  # the same of the name of the node that invites
    id: bytes
    secret: bytes

    def text(self) -> str:
        """As it is printed."""
        data = bytes([TOKEN_VERSION]) + self.root + self.inviter + self.id + self.secret
        return urlsafe_b64encode(data + _check(data)).decode()

    def is_of(self, root_der: bytes) -> bool:
        """Whether this is the mesh's CA."""
        return compare_digest(fingerprint(root_der), self.root)

    def is_by(self, name: str) -> bool:
        """Whether the node of this name has invited."""
        return compare_digest(inviter_digest(name), self.inviter)


def read_token(text: str) -> Token:
    """The token that somebody has pasted; BadRequest when it is none, or not whole."""
    try:
        data = urlsafe_b64decode(text.encode("ascii"))
    except ValueError:
        data = b""
    if len(data) != TOKEN_BYTES or data[0] != TOKEN_VERSION or data[-1:] != _check(data[:-1]):
        raise BadRequest("that is no token, or not all of it: it is one word of 60 letters, as bdctl invite prints it")
    parts, at = [], 1
    for length in (ROOT_BYTES, INVITER_BYTES, ID_BYTES, SECRET_BYTES):
        parts.append(data[at : at + length])
        at += length
    return Token(*parts)


def make_token(root_der: bytes, inviter: str, random_bytes: Callable[[int], bytes]) -> Token:
    """A new one."""
    secret = random_bytes(ID_BYTES + SECRET_BYTES)
    return Token(fingerprint(root_der), inviter_digest(inviter), secret[:ID_BYTES], secret[ID_BYTES:])


def fingerprint(root_der: bytes) -> bytes:
    """Of a CA's certificate."""
    return sha256(root_der).digest()[:ROOT_BYTES]


def inviter_digest(name: str) -> bytes:
    """Of a node's name."""
    return sha256(name.encode()).digest()[:INVITER_BYTES]


def hash_of(secret: bytes) -> str:
    """What is kept of a secret. It has 128 bits, so nothing slow is needed."""
    return sha256(b"BDserver token\0" + secret).hexdigest()


def _check(data: bytes) -> bytes:
    return bytes([crc32(data) & 0xFF])


# --- what a signer keeps ------------------------------------------------------------------------------------------


class Joined(NamedTuple):
    """Who came by an invitation: by that name, with the key of that digest."""

    name: str
    key: str
    at: float


class Invitation(NamedTuple):
    """`name`: the only one that it lets in, "" for any; `wrong`: secrets that did not fit."""

    id: str
    hash: str
    name: str
    role: Role
    uses: int
    made_at: float
    until: float
    by: str
    wrong: int = 0
    joined: tuple[Joined, ...] = ()

    def is_over(self, now: float) -> bool:
        """Whether nobody new is let in by it."""
        return now > self.until or len(self.joined) >= self.uses or self.wrong >= WRONG_MAX

    def as_json(self) -> dict[str, Any]:
        """As it lies in the file."""
        return {**self._asdict(), "joined": [list(each) for each in self.joined]}

    def told(self, now: float) -> dict[str, Any]:
        """As a person sees it: without the hash."""
        shown = {key: value for key, value in self.as_json().items() if key != "hash"}
        return {**shown, "joined": [each.name for each in self.joined], "state": self.state(now)}

    def state(self, now: float) -> str:
        """In a word or two."""
        if self.wrong >= WRONG_MAX:
            return "closed: guessed at"
        if len(self.joined) >= self.uses:
            return "used"
        return "ended" if now > self.until else "open"


def invitation_of(value: dict[str, Any]) -> Invitation:
    """The one that `as_json` wrote; ValueError, KeyError or TypeError when it is none."""
    joined = tuple(Joined(str(name), str(key), float(at)) for name, key, at in value["joined"])
    texts = {field: str(value[field]) for field in ("id", "hash", "name", "by")}
    made_at, until, uses, wrong = (_kept_number(value.get(field, 0)) for field in ("made_at", "until", "uses", "wrong"))
    return Invitation(
        **texts, role=Role(value["role"]), uses=int(uses), made_at=made_at, until=until, wrong=int(wrong), joined=joined
    )


def _kept_number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("what should be a number is none")
    return float(value)


def refusal(invitation: Invitation, name: str, key: str, now: float) -> str | None:
    """Why somebody who knows the secret is not let in as `name`, with the key of this digest; None when it is. A joiner whose
    certificate was lost on the way comes again with the same key, and is no new one."""
    if Joined(name, key, 0.0)[:2] in [each[:2] for each in invitation.joined]:
        return None
    if invitation.name and name != invitation.name:
        return f"the token is for {invitation.name}, not for {name}"
    if invitation.wrong >= WRONG_MAX:
        return f"the token is closed, since {invitation.wrong} wrong secrets were tried for it"
    if len(invitation.joined) >= invitation.uses:
        by = ", ".join(each.name for each in invitation.joined[:3])
        return f"the token was used already (by {by})"
    if now > invitation.until:
        return f"the token has ended {_ago(now - invitation.until)} ago"
    return None


def name_refusal(
    invitation: Invitation, name: str, key: str, keys_of_name: set[str], is_alive: bool, given_at: float, mesh_says: str
) -> str | None:
    """Why nobody new gets this name; None when it may be had. `keys_of_name`: digests of the keys for which the mesh or this
    signer knows a certificate of that name; `given_at`: when this signer signed the last one for another key. A host that has
    lost its keys gets its name again by an invitation that says it, and was made after the name was given last."""
    if not keys_of_name - {key}:
        return None
    if is_alive or given_at >= invitation.made_at:
        return f"the name {name} is taken, by {mesh_says}: choose another one with --name"
    if invitation.name == name:
        return None
    return f"the name {name} was had before, by {mesh_says}: if this is that host, invite it by its name (bdctl invite {name})"


def _ago(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


# --- the conversation ---------------------------------------------------------------------------------------------


class Welcome(NamedTuple):
    """What a node says first: who it is, the CAs of its mesh in PEM, and what time it is there."""

    name: str
    mesh: str
    authorities: str
    now: float
    seen_at: str  # the address from which the joiner's connection comes


class Wish(NamedTuple):
    """What a joiner says, once it knows the mesh: the token's id and secret in hex, and a signing request in PEM."""

    id: str
    secret: str
    request: str


class Admission(NamedTuple):
    """The last word: the certificate with its signer's, and the CAs, in PEM; nodes to begin with."""

    certificate: str
    authorities: str
    hints: list[str]


_WORDS: dict[type[Any], str] = {Welcome: "WELCOME", Wish: "JOIN", Admission: "JOINED"}


def said(message: Welcome | Wish | Admission) -> list[Any]:
    """The message as it travels."""
    return [_WORDS[type(message)], message._asdict()]


def heard_wish(message: object) -> Wish:
    """What a joiner said; BadRequest when it is none."""
    id_, secret, request = _fields(message, Wish, str, str, str)
    if len(request) > REQUEST_CHARACTERS_MAX or len(id_) != 2 * ID_BYTES or len(secret) != 2 * SECRET_BYTES:
        raise BadRequest("INVALID REQUEST: JOIN has a wrong shape")
    return Wish(id_, secret, request)


def heard_welcome(message: object) -> Welcome:
    """What a node said first; BadRequest when it is none."""
    name, mesh, authorities, now, seen_at = _fields(message, Welcome, str, str, str, (int, float), str)
    if not valid_name(name) or not valid_name(mesh):
        raise BadRequest("INVALID REQUEST: WELCOME has a wrong shape")
    return Welcome(name, mesh, authorities, float(now), seen_at)


def heard_admission(message: object) -> Admission:
    """What a node said last; BadRequest when it is none."""
    certificate, authorities, hints = _fields(message, Admission, str, str, list)
    if not all(isinstance(each, str) for each in hints):
        raise BadRequest("INVALID REQUEST: JOINED has a wrong shape")
    return Admission(certificate, authorities, hints)


def _fields(message: object, kind: type[Any], *types: Any) -> list[Any]:
    word = _WORDS[kind]
    fields = message[1] if isinstance(message, list) and len(message) == 2 and message[0] == word else None
    values = [fields.get(each) for each in kind._fields] if isinstance(fields, dict) else []
    if not values or not all(isinstance(value, kinds) for value, kinds in zip(values, types, strict=True)):
        raise BadRequest(f"INVALID REQUEST: {word} has a wrong shape")
    return values


def wished(fields: dict[str, Any]) -> tuple[str, Role, int, float]:
    """(name, role, uses, seconds) of a wish for an invitation; BadRequest says what is wrong with it."""
    name, uses, seconds = fields.get("name", ""), fields.get("uses", 1), fields.get("seconds", 600)
    if not isinstance(name, str) or (name and not valid_name(name)):
        raise BadRequest(f"INVALID REQUEST: {str(name)[:60]!r} is no name")
    try:
        role = Role(fields.get("role", Role.NODE))
    except ValueError:
        raise BadRequest("INVALID REQUEST: an invitation is for a node, a client or an admin") from None
    if type(uses) is not int or not 1 <= uses <= USES_MAX:
        raise BadRequest(f"INVALID REQUEST: an invitation is for 1 to {USES_MAX} hosts")
    if name and uses != 1:
        raise BadRequest("INVALID REQUEST: an invitation for a name is for one host")
    if type(seconds) not in (int, float) or not 0 < seconds <= SECONDS_MAX:
        raise BadRequest(f"INVALID REQUEST: an invitation is for {SECONDS_MAX / 86400:.0f} days at most")
    return name, role, uses, float(seconds)


UNKNOWN = f"the token is not known here: it was revoked, or is of another node: {ANEW}"


def checked(invitation: Invitation | None, secret: bytes, name: str, key: str, now: float) -> Invitation:
    """The invitation, if this secret is that of it, and it lets this joiner in; Forbidden says in one line why not."""
    if invitation is None or not compare_digest(invitation.hash, hash_of(secret)):
        raise Forbidden(UNKNOWN)
    why = refusal(invitation, name, key, now)
    if why is not None:
        raise Forbidden(f"{why}: {ANEW}")
    return invitation
