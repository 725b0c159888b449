"""The invitations that a signer has given and not forgotten yet, and the certificates that it has signed: two files of JSON.

Whoever changes them holds their lock, so what is checked and then done by one process is not undone by another: two joiners of
one name, or of a token for one, are told apart. Of tokens the hashes alone are kept. Forgotten is what ended a day ago; of what
was signed, what has ended. What an invitation allows is core.joining's business.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

from bdserver.core.joining import TOLD_SECONDS, Invitation, invitation_of
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig, CantFind, TooBusy
from bdserver.files import durable
from bdserver.files.values import value_in

log = logging.getLogger("bdserver.invitations")

FILE_BYTES_MAX = 8 << 20
INVITATIONS_MAX = 1000
# Of the certificates of one name.
SIGNED_KEPT = 8
# The holder signs meanwhile, which takes milliseconds.
LOCK_SECONDS = 2.0


class Signed(NamedTuple):
    """A certificate that this node has signed: whose, for the key of which digest, and by which token or wish."""

    name: str
    role: str
    key: str
    serial: str
    at: float
    until: float
    why: str


class Book:
    """Both files as they are while the lock is held; what is changed is saved at the end."""

    def __init__(self, invitations: list[Invitation], signed: list[Signed], unknown: int) -> None:
        self.invitations = {each.id: each for each in invitations}
        self.signed = signed
        self.unknown = unknown  # tokens that were tried, and do not exist

    def keys_of(self, name: str) -> set[str]:
        """Digests of the keys that have a certificate of this name from us."""
        return {each.key for each in self.signed if each.name == name}

    def note(self, signed: Signed) -> None:
        """One more is signed. Of each name and role the last few are kept: a certificate may be renewed without end, and a
        client of a node's name takes nothing from it."""
        whose = signed.name, signed.role
        same = [each for each in self.signed if (each.name, each.role) == whose][-(SIGNED_KEPT - 1) :]
        self.signed = [*(each for each in self.signed if (each.name, each.role) != whose), *same, signed]

    def has_many(self, name: str, role: str, since: float) -> bool:
        """Whether as many as are kept were signed for this name and role since then."""
        signed = [each for each in self.signed if (each.name, each.role) == (name, role) and each.at > since]
        return len(signed) >= SIGNED_KEPT

    def given_at(self, name: str, key: str) -> float:
        """When another key than this one got that name from us last; 0 for never."""
        return max((each.at for each in self.signed if each.name == name and each.key != key), default=0.0)


class Invitations:
    """The files at PATH and PATH with "signed" behind it."""

    def __init__(self, path: str) -> None:
        self.path, self._signed_path, self._lock_path = path, path + ".signed", path + ".lock"

    def are_there(self, now: float) -> bool:
        """Whether there is any for which a stranger may knock."""
        try:
            return any(now <= each.until + TOLD_SECONDS for each in self._read()[0])
        except BadConfig as error:
            log.error("nobody is let in: %s", error)
            return False

    def book(self) -> Book:
        """What is in the files, to look at."""
        invitations, unknown = self._read()
        return Book(invitations, self._read_signed(), unknown)

    @contextlib.contextmanager
    def locked(self, now: float) -> Iterator[Book]:
        """What is in the files, to change; saved on the way out, whatever ends the work. TooBusy when others take long."""
        try:
            descriptor = durable.open_regular(self._lock_path, os.O_RDWR | os.O_CREAT, mode=0o600)
        except OSError as error:
            raise BadConfig(f"{durable.shown(self._lock_path)}: {error.strerror}") from None
        try:
            durable.lock(descriptor, LOCK_SECONDS, self._lock_path)
            book = self.book()
            before = dict(book.invitations), list(book.signed), book.unknown
            try:
                yield book
            finally:
                if book.signed != before[1] or any(now > each.until for each in book.signed):
                    self._save_signed(book, now)
                if (book.invitations, book.unknown) != (before[0], before[2]):
                    # What strangers have tried is counted, and waits for no disk.
                    self._save(book, now, is_synced=_without_counts(book.invitations) != _without_counts(before[0]))
        finally:
            os.close(descriptor)

    def add(self, invitation: Invitation, now: float) -> None:
        """One more."""
        with self.locked(now) as book:
            over = sorted((each for each in book.invitations.values() if each.is_over(now)), key=lambda each: each.until)
            for each in over[: max(len(book.invitations) - INVITATIONS_MAX + 1, 0)]:  # those that are told of make room
                del book.invitations[each.id]
            if len(book.invitations) >= INVITATIONS_MAX:
                raise TooBusy(f"{INVITATIONS_MAX} invitations are open already: bdctl invite --revoke")
            book.invitations[invitation.id] = invitation

    def revoke(self, id_: str, now: float) -> None:
        """It lets nobody in any more."""
        with self.locked(now) as book:
            if book.invitations.pop(id_, None) is None:
                raise CantFind(f"{id_}: there is no such invitation here (bdctl invite --list)")

    def _save(self, book: Book, now: float, is_synced: bool) -> None:
        kept = [each.as_json() for each in book.invitations.values() if now <= each.until + TOLD_SECONDS]
        content = json.dumps({"invitations": kept, "unknown": book.unknown}).encode()
        _replace(self.path, content, is_synced)

    def _save_signed(self, book: Book, now: float) -> None:
        signed = [each for each in book.signed if now <= each.until]
        content = json.dumps([list(each) for each in signed]).encode()
        if len(content) > FILE_BYTES_MAX:
            newest = {(each.name, each.role): list(each) for each in signed}  # those before are worth less than the next name
            content = json.dumps(list(newest.values())).encode()
        _replace(self._signed_path, content, is_synced=True)

    def _read(self) -> tuple[list[Invitation], int]:
        value = _content(self.path)
        try:
            return [invitation_of(each) for each in value["invitations"]], int(value["unknown"])
        except (KeyError, TypeError, ValueError):
            if value:
                raise BadConfig(f"{self.path}: is damaged: remove it, and invite again") from None
            return [], 0

    def _read_signed(self) -> list[Signed]:
        try:
            return [_signed_of(*each) for each in _content(self._signed_path) or ()]
        except (TypeError, ValueError):
            raise BadConfig(f"{self._signed_path}: is damaged: remove it") from None


def _replace(path: str, content: bytes, is_synced: bool) -> None:
    """TooBusy when nobody could read it any more."""
    if len(content) > FILE_BYTES_MAX:
        raise TooBusy(f"{durable.shown(path)}: has no room for more, until some of it has ended")
    try:
        durable.replace(path, [content], mode=0o600, is_synced=is_synced)
    except OSError as error:
        raise BadConfig(f"{durable.shown(path)}: {error.strerror}") from None


def _signed_of(name: str, role: str, key: str, serial: str, at: float, until: float, why: str) -> Signed:
    return Signed(str(name), str(role), str(key), str(serial), float(at), float(until), str(why))


def _without_counts(invitations: dict[str, Invitation]) -> list[Invitation]:
    return [each._replace(wrong=0) for each in invitations.values()]


def _content(path: str) -> Any:
    try:
        return value_in(durable.read(path, FILE_BYTES_MAX)[0])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadConfig(f"{path}: can't be read: {getattr(error, 'strerror', None) or 'it is damaged'}") from None
