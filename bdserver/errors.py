"""One class for each outcome that a caller treats differently.

`code` is what goes over the wire and comes back as the same class; `exit` is the exit status of a
command that ends with it (0 found, 1 nobody has it, 2 wrong usage or configuration, 3 policy mismatch,
4 no node reachable, 5 refused). An exception that is not a BDError is a bug of ours.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class BDError(Exception):
    """Anything that BDserver says instead of an answer; its text is one line for a person."""

    code = "error"
    exit = 1


class BadFrame(BDError):
    """The other side's bytes are no message: the conversation ends."""

    code, exit = "bad-frame", 4


class TooLarge(BDError):
    """Something is beyond a limit: a frame, a package, a policy."""

    code, exit = "too-large", 2


class BadRequest(BDError):
    """A message that is no request: not a list, or a body of the wrong shape."""

    code, exit = "bad-request", 2


class NoSuchCommand(BDError):
    """A well-formed request that this version does not know."""

    code, exit = "no-such-command", 2


class Forbidden(BDError):
    """The caller's role, certificate or address does not allow it."""

    code, exit = "forbidden", 5


class PolicyMismatch(BDError):
    """Both sides are well, and their policies do not meet."""

    code, exit = "policy-mismatch", 3


class PolicyUnknown(BDError):
    """The caller named its policy by a digest that the callee has not seen: send the text."""

    code, exit = "policy-unknown", 3


class TooBusy(BDError):
    """The node is alive, and has no room for this now."""

    code, exit = "too-busy", 4


class Deadline(BDError):
    """The time that the caller gave is over."""

    code, exit = "deadline", 4


class CantFind(BDError):
    """Nobody has it."""

    code, exit = "cant-find", 1


class NobodyThere(BDError):
    """No connection, or one that ended without an answer: silence, not a refusal."""

    code, exit = "nobody-there", 4


class Refused(NobodyThere):
    """The host answers, and nothing listens there (or it is somebody else): evidence of death."""

    code = "refused"


class BadConfig(BDError):
    """Wrong usage, or a file of ours that cannot be used; one `FILE:LINE: …` a line."""

    code, exit = "bad-config", 2


class NotYet(BadConfig):
    """An obstacle that may pass by itself: a port that is taken, a key that is not there yet, a clock that is behind."""

    code = "not-yet"


class BadPolicy(BDError):
    """A document that is not the WS-Policy it should be: `FILE:LINE: …`."""

    code, exit = "bad-policy", 2


class BadPackage(BDError):
    """A service package that must not be installed."""

    code, exit = "bad-package", 2


class BadService(BDError):
    """A service name, file or .bdcert that cannot be served."""

    code, exit = "bad-service", 2


class Quarantined(BDError):
    """Reading this has met a bug of ours, or ended its reader: it is left out."""

    code, exit = "quarantined", 1


class NoSpace(BDError):
    """The disk does not take it."""

    code, exit = "no-space", 1


class NotDrawn(BDError):
    """There is no picture, and why."""

    code, exit = "not-drawn", 1


class CommandFailed(BDError):
    """A command that was to be run has ended badly."""

    code, exit = "command-failed", 1


def cant_find(service: str, asked: list[dict[str, object]]) -> CantFind:
    """Of a look-up that ended with nobody, when these had been asked."""
    reason = "the nodes that have it do not answer" if asked else "nobody in the mesh has it"
    if asked and all(row.get("answer") == Forbidden.code for row in asked):
        reason = "the nodes that have it refuse the one that asks for you (forbidden): its bdctl status says why"
    return CantFind(f"{service}: {reason}")


def _classes(base: type[BDError]) -> Iterator[type[BDError]]:
    for each in base.__subclasses__():
        yield each
        yield from _classes(each)


BY_CODE = {BDError.code: BDError} | {each.code: each for each in _classes(BDError)}


def from_wire(code: str, text: str) -> BDError:
    """The exception that another node's ["ERROR", code, text] stands for; an unknown code is a plain BDError."""
    return BY_CODE.get(code, BDError)(one_line(text))


def one_line(text: str, characters_max: int = 1000) -> str:
    """What somebody else has written, fit for a line of ours: bounded, and whatever would move a terminal shown as "?"."""
    text = text[:characters_max]
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)
