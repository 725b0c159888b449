"""Tickets: calls that a holder agrees to before they are looked up, and a NO that holds for a while.

With its YES a holder may promise that it takes `tickets` more calls within `seconds`; the asker then names it again without a
question (it *spends* a ticket), and tells at its next question how many it has spent. A ticket counts at the holder as a call
from the promise on, and what was not spent is taken back when the asker tells: so promises never overload a holder, whatever
becomes of the asker. With a NO a holder may say for how many seconds it is sure to have no room.

`Promises` is the holder's side of one connection, `granted` what all its connections together leave for one, `Wallet` the
asker's side of all its connections. What is promised ends with the connection, so it is theirs who keep that: one process at
either end. Writing hits, locks and whether a connection is open are the business of processes.
"""

from __future__ import annotations

from collections.abc import Iterator

from bdserver.core.messages import No, Yes
from bdserver.core.tuples import NamedTuple

# So long a ticket may be spent, whatever a holder says. So a call goes to a host that hangs for no longer.
TICKET_SECONDS = 1.0
# Of one service, for one asker: at 5,000 look-ups a second, every hundredth question is one more than there need be.
TICKETS_MAX = 1000
# What one promise takes of the room that is left, so that something is left for whoever asks next.
ROOM_SHARE = 0.5
# What one asker has of all that a holder can take, on however many connections. A second's calls at full load are a 28th.
ASKER_SHARE = 0.125
# Whom a process remembers to have said NO: a caller may look up any number of services.
REFUSED_MAX = 1000
# A NO is not believed for longer: the holder's load may change otherwise than it thought.
NOT_BEFORE_MAX = 3.0


# --- the holder ---------------------------------------------------------------------------------------------------


class Given(NamedTuple):
    """So many calls of a service were promised, and counted as of this time."""

    calls: int
    at: float


class Settled(NamedTuple):
    """Of what was given, how many calls the asker has spent, and how many are left; as of which time they count."""

    spent: int
    left: int
    at: float


class _Course(NamedTuple):
    """How the tickets of a service are spent on this connection: of what was given last, whether all were; how many the asker
    can use; when it asked last; whether it was left without any for a reason that says nothing of its needs."""

    given: Given
    usable: int
    asked_at: float
    is_put_off: bool = False


class Promises:
    """What a holder has promised on one connection."""

    def __init__(self) -> None:
        self._courses: dict[str, _Course] = {}

    def settle(self, service: str, spent: int, now: float) -> Settled | None:
        """The asker tells how many it has spent of what it was given; None when that was nothing.

        It can use twice as many when these were too few, else as many as it has spent and a few more: it adapts to its caller,
        and a connection on which one question is asked gets none."""
        course = self._courses.get(service)
        if course is None:
            return None
        given = course.given
        spent = min(max(spent, 0), given.calls)
        usable = 2 * given.calls if given.calls and spent == given.calls else spent + spent // 4 + 1
        if course.is_put_off:
            usable = course.usable
        if not spent and now - course.asked_at > TICKET_SECONDS:
            usable = 0  # it asks too seldom
        self._courses[service] = _Course(Given(0, 0.0), usable, course.asked_at)
        return Settled(spent, given.calls - spent, given.at) if given.calls else None

    def usable(self, service: str, now: float) -> int:
        """How many the asker that asks now can use."""
        course = self._courses.get(service)
        self._courses[service] = (
            _Course(Given(0, 0.0), 0, now) if course is None else course._replace(asked_at=now, is_put_off=False)
        )
        return min(course.usable, TICKETS_MAX) if course is not None else 0

    def give(self, service: str, count: int, now: float) -> None:
        """So many are promised, of what was found usable."""
        self._courses[service] = self._courses[service]._replace(given=Given(count, now))

    def put_off(self, service: str) -> None:
        """What was found usable could not be given this very moment: at its next question the asker can use as many as now."""
        self._courses[service] = self._courses[service]._replace(is_put_off=True)

    def are_out(self) -> bool:
        """Whether anything is promised of which the asker has not told."""
        return any(course.given.calls for course in self._courses.values())


def granted(usable: int, total: float, threshold: float, cost: float, held: float) -> int:
    """How many tickets a holder of this weight gives, promises included; `held`: what those weigh that this asker has."""
    room = min(ROOM_SHARE * (threshold - total), ASKER_SHARE * threshold - held)
    if room <= 0:
        return 0
    return usable if usable * cost <= room else int(room / cost)


# --- the asker ----------------------------------------------------------------------------------------------------


class _Tickets:
    """Of one holder and service."""

    __slots__ = ("answer", "left", "spent", "terms", "until")

    def __init__(self, answer: Yes, left: int, until: float, terms: object) -> None:
        self.answer, self.left, self.until, self.terms = answer, left, until, terms
        self.spent = 0


class Wallet:
    """The tickets of one process, by holder and service, and the NOs that still hold.

    `terms`: what a ticket was given under (the connection, what the holder's record says): under others it does not count."""

    def __init__(self) -> None:
        self._tickets: dict[tuple[str, str], _Tickets] = {}
        self._refused: dict[tuple[str, str], float] = {}
        self._ends_at = 0.0

    def learn(self, node: str, service: str, said: object, asked_at: float, terms: object) -> None:
        """A holder's answer to a question that was asked then. Neither many tickets nor long times are believed."""
        if isinstance(said, Yes) and said.promise:
            count, seconds = said.promise.get("tickets", 0), said.promise.get("seconds", 0.0)
            until = asked_at + min(seconds, TICKET_SECONDS)
            self._tickets[node, service] = _Tickets(said._replace(promise={}), min(count, TICKETS_MAX), until, terms)
            self._ends_at = max(self._ends_at, until)
        elif isinstance(said, No) and said.holds:
            if len(self._refused) >= REFUSED_MAX:  # most of them have ended; the others are asked once more
                self._refused.clear()
            self._refused[node, service] = asked_at + min(said.holds.get("not_before", 0.0), NOT_BEFORE_MAX)

    def has(self, node: str, service: str) -> bool:
        """Whether there may be a ticket."""
        return (node, service) in self._tickets

    def spend(self, node: str, service: str, now: float, terms: object) -> Yes | None:
        """The holder's YES, for one ticket; None when there is none that counts."""
        tickets = self._tickets.get((node, service))
        if tickets is None or not tickets.left or now >= tickets.until or terms != tickets.terms:
            return None
        tickets.left -= 1
        tickets.spent += 1
        return tickets.answer

    def told(self, node: str, service: str) -> int:
        """How many were spent, for the next question; those that are left are the holder's again."""
        tickets = self._tickets.pop((node, service), None)
        return tickets.spent if tickets is not None else 0

    def told_all(self, node: str) -> dict[str, int]:
        """The same of all services of a holder, for the last word to it."""
        services = [service for name, service in self._tickets if name == node]
        return {service: self.told(node, service) for service in services}

    def holders(self) -> Iterator[str]:
        """Who is still to be told."""
        yield from {node for node, _ in self._tickets}

    def ends_at(self) -> float | None:
        """When the last ticket ends; None when there is nothing to tell."""
        return self._ends_at if self._tickets else None

    def is_refused(self, node: str, service: str, now: float) -> bool:
        """Whether that holder has said that it will have no room before some later time."""
        until = self._refused.get((node, service))
        if until is None:
            return False
        if now < until:
            return True
        del self._refused[node, service]
        return False
