"""Which services a publisher that counts has signed: what may be offered here, given away, and taken in.

Where publishers are listed, a node's certificate brings no code to this host: a package is taken in only with a publisher's
signature that fits it, and no older than what was seen. A copy without one is not offered; an original is served, since its
administrator put it there, and never copied. What a signature is, files.publishers knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadPackage
from bdserver.files.bdcert import Service
from bdserver.files.publishers import Publishers, Signed, is_ahead
from bdserver.files.seen import Seen
from bdserver.files.services import Services


class Judged(NamedTuple):
    """The services here, and what is to be said of them. `doubts`: service -> why no publisher that counts has signed it, where
    that is so; `untrusted`: the copies among those, which are not offered."""

    services: Mapping[str, Service]
    publishers: Publishers
    doubts: Mapping[str, str]
    untrusted: frozenset[str]

    def may_give(self, service: Service) -> bool:
        """Whether others may have a copy of it."""
        return service.is_here and service.name not in self.doubts

    def signer(self, service: Service) -> str:
        """The key of who has signed it; where signatures are not asked for, of who is said to have."""
        return service.signer if service.name not in self.doubts else ""


class Trust:
    """As one process of a node sees it; `publishers()`: those in force."""

    def __init__(self, services: Services, seen: Seen, publishers: Callable[[], Publishers]) -> None:
        self._services, self._seen, self._publishers = services, seen, publishers
        self._judged = Judged({}, Publishers(), {}, frozenset())

    def judged(self, found: Mapping[str, Service] | None = None) -> Judged:
        """As it is now, or as somebody has `found` the services just now. A signature is checked once, when its service or the
        list has changed: never in a look-up."""
        services, publishers = self._services.all() if found is None else found, self._publishers()
        if self._judged.services is not services or self._judged.publishers is not publishers:
            doubts = self._doubts(services, publishers)
            untrusted = frozenset(name for name in doubts if services[name].is_copy)
            self._judged = Judged(services, publishers, doubts, untrusted)
        return self._judged

    def _doubts(self, services: Mapping[str, Service], publishers: Publishers) -> dict[str, str]:
        if not publishers.are_asked_for:
            return {}
        before = self._judged.services if self._judged.publishers is publishers else {}
        found = {}
        for name, each in services.items():
            if each.is_here and name in before and _signed(before[name]) == _signed(each):
                found[name] = self._judged.doubts.get(name, "")
            elif each.is_here:
                found[name] = publishers.doubt(name, each.edition.digest, each.signature)
        return {name: why for name, why in found.items() if why}

    def untrusted(self, found: Mapping[str, Service] | None = None) -> frozenset[str]:
        """The copies here that are not offered."""
        return self.judged(found).untrusted

    def check(self, name: str, sha256: str, signature: str, now: float) -> None:
        """BadPackage for a package that must not be installed here as a copy: `sha256` is its own."""
        publishers = self._publishers()
        if not publishers.are_asked_for:
            return
        if why := publishers.doubt(name, sha256, signature):
            raise BadPackage(f"{name}: {why}")
        counter = Signed.of_text(signature).counter
        if is_ahead(counter, now):
            raise BadPackage(f"{name}: the edition that was signed, {counter}, is a time to come")
        self._seen.check(name, counter)

    def take(self, name: str, sha256: str, signature: str, now: float) -> None:
        """As `check`, and from now on nothing older is taken in."""
        self.check(name, sha256, signature, now)
        if self._publishers().are_asked_for:
            self._seen.raise_to(name, Signed.of_text(signature).counter)

    def newest(self, name: str) -> int:
        """The highest counter that was seen here, or 0."""
        return self._seen.newest(name)


def said_of_original(name: str, why: str) -> str:
    """What becomes of an original that is not signed."""
    return f"{name} is served here and never copied: {why}"


def _signed(service: Service) -> tuple[bool, str, str]:
    """What a doubt depends on."""
    return service.is_here, service.edition.digest, service.signature
