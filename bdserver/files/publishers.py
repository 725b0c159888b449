"""Publishers: whose signatures make a package fit to be installed as a copy, and what it is that they sign.

A publisher signs a *statement* of three lines: the service's name, a counter, and the SHA-256 of its package, which is the same
on every holder. The signature lies in the .bdcert and travels beside the package, so a copy of a copy has it too, and whoever
gives it is not believed in anything. A counter below one that a host has seen is refused there (files.seen).

The list is a file of minisign's public keys, one a line. It never fails open: without a list that can be read a node does not
start, and while one that was read anew is broken nobody's signature counts. The form of keys and signatures is minisign's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bdserver.core.membership import AHEAD_MAX, COUNTER_MAX, DIGEST_CHARACTERS
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig
from bdserver.files import durable, lines, minisign
from bdserver.files.minisign import PublicKey, SecretKey, Signature

SHA256_CHARACTERS = 64
# A comment that minisign itself puts before a key: a whole .pub file may be appended to the list.
_COMMENT = "untrusted comment:"


def statement(name: str, counter: int, sha256: str) -> bytes:
    """What a publisher signs of a service, byte for byte."""
    return f"BDserver service {name}\nedition {counter}\nsha256 {sha256}\n".encode()


class Signed(NamedTuple):
    """A signature with what is needed to check it: the counter, and the SHA-256 of the package that was signed."""

    counter: int
    sha256: str
    signature: Signature

    @property
    def signer(self) -> str:
        """The id of the key that it says it is by."""
        return self.signature.signer

    @property
    def text(self) -> str:
        """As it lies in a .bdcert and travels: COUNTER SHA256 SIGNATURE PROOF COMMENT, on one line."""
        return " ".join((str(self.counter), self.sha256, *self.signature.texts)).rstrip(" ")

    def is_of(self, digest: str) -> bool:
        """Whether it is a package's of this digest, be that the whole SHA-256 or an edition's."""
        return len(digest) >= DIGEST_CHARACTERS and self.sha256.startswith(digest)

    @classmethod
    def of_text(cls, text: str) -> Signed:
        """The reverse of `text`; ValueError in one line."""
        counter, sha256, signature, proof, comment = (*text.split(" ", 4), "", "", "", "", "")[:5]
        return cls(*_counted(counter, sha256), Signature.of_texts(signature, proof, comment))

    @classmethod
    def of_files(cls, name: str, said: bytes, signature: bytes) -> Signed:
        """A statement on this service, as it was signed, and minisign's file beside it; ValueError in one line."""
        words = said.decode("ascii", "replace").split()
        if len(words) == 7:
            counter, sha256 = _counted(words[4], words[6])
            if said == statement(name, counter, sha256):
                return cls(counter, sha256, Signature.of_file(signature))
        raise ValueError(f"not a statement on {name}")


def _counted(counter: str, sha256: str) -> tuple[int, str]:
    is_counter = (
        counter.isascii() and counter.isdecimal() and len(counter) <= len(str(COUNTER_MAX)) and counter == str(int(counter))
    )
    if not is_counter or int(counter) > COUNTER_MAX:
        raise ValueError("a signature without the counter of an edition")
    if len(sha256) != SHA256_CHARACTERS or sha256.strip("0123456789abcdef"):
        raise ValueError("a signature without a package's SHA-256")
    return int(counter), sha256


def signed(key: SecretKey, name: str, counter: int, sha256: str) -> Signed:
    """The signature of this edition of a service."""
    comment = f"BDserver service {name} edition {counter}"
    return Signed(counter, sha256, minisign.sign(key, statement(name, counter, sha256), comment))


def counter_of(text: str, digest: str) -> int:
    """The counter that was signed, as the signature of a package of this digest says; 0 when it is none."""
    try:
        found = Signed.of_text(text)
    except ValueError:
        return 0
    return found.counter if found.is_of(digest) else 0


class Publishers(NamedTuple):
    """Those whose signatures count, by the ids of their keys. Without a `path` nobody's is asked for. `complaint`: why none
    counts though there is a list, for status."""

    path: str = ""
    keys: Mapping[str, tuple[PublicKey, ...]] = MappingProxyType({})
    complaint: str = ""

    @property
    def are_asked_for(self) -> bool:
        """Whether a copy needs a signature here."""
        return bool(self.path)

    def doubt(self, name: str, digest: str, text: str) -> str:
        """Why this signature does not make it the service of that name, with a package of that digest; "" when it does."""
        if self.complaint:
            return "the list of publishers can't be read"
        if not text:
            return "nobody has signed it"
        try:
            found = Signed.of_text(text)
        except ValueError as error:
            return str(error)
        if not found.is_of(digest):
            return "what was signed is another package"
        if found.signer not in self.keys:
            return f"the key {found.signer}, which is said to have signed it, is none of our publishers'"
        said = statement(name, found.counter, found.sha256)
        if not any(minisign.is_good(key, found.signature, said) for key in self.keys[found.signer]):
            return f"the key {found.signer} has not signed this"
        return ""


def closed(path: str, complaint: str) -> Publishers:
    """Nobody's signature counts, since the list is broken."""
    return Publishers(path, complaint=complaint)


def read(path: str) -> Publishers:
    """The list in a file; without a path nobody is asked for. BadConfig names the line that is no key."""
    if not path:
        return Publishers()
    found: dict[str, tuple[PublicKey, ...]] = {}
    for number, entry in lines.entries(path, lines.content(path)[0]):
        if entry.startswith(_COMMENT):
            continue
        try:
            key = PublicKey.of_line(entry)
        except ValueError as error:
            shown = entry[: lines.SHOWN_CHARACTERS_MAX]
            raise BadConfig(f"{durable.shown(path)}:{number}: {error}: {shown!r}") from None
        found[key.name] = tuple(dict.fromkeys((*found.get(key.name, ()), key)))
    return Publishers(path, MappingProxyType(found))


def is_ahead(counter: int, now: float) -> bool:
    """Whether a counter is no time that has been: it would shut out all that come after it."""
    return counter > now + AHEAD_MAX
