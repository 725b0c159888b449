"""Answers that grow with the mesh, in pages, so that no message of ours is ever too large for a peer.

What is counted is bytes, as they would travel without zlib: a page of PAGE_BYTES, and a head of half as much beside it, is
within all limits of wire, however it is compressed. A page ends where the next item would be too much, and says with which it
goes on; the items are in the order of their keys, so what comes and goes between two pages moves no other. What can't be told
in pages is cut (`within`), and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from bdserver.core import wire
from bdserver.core.messages import Status
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadRequest

PAGE_BYTES = 512 * 1024
# Of one item, or of one list in the head: eight of them are a page.
PART_BYTES = PAGE_BYTES // 8
# 32 MiB: 20,000 nodes of a kilobyte and a half; in brief, a tenth of it. Whoever goes on and on, or whose pages are larger than
# ours can be, is not listened to any longer: a message may be 8 MiB, and 64 of those are no answer but an attack.
PAGES_MAX, BRIEF_PAGES_MAX = 64, 8

# So many items are weighed at once: that takes half as long as one by one.
BATCH = 50

_T = TypeVar("_T")


class Section(NamedTuple):
    """A part of an answer: the keys of its items, sorted, and what is told of each."""

    name: str
    keys: list[str]
    tell: Callable[[str], Any]


def size(value: object) -> int:
    """How many bytes this is in a message."""
    return len(wire.payload(value))


def within(items: Iterable[_T], room: int = PART_BYTES) -> list[_T]:
    """The first of these, as many as take no more than so many bytes together."""
    taken = []
    for item in items:
        room -= size(item) + 1
        if room < 0:
            break
        taken.append(item)
    return taken


def lines_within(lines: list[str], room: int = PART_BYTES) -> list[str]:
    """As many of these lines as there is room for; a last one says how many there are beside."""
    taken = within(lines, room)
    return [*taken, f"and {len(lines) - len(taken)} more"] if len(taken) < len(lines) else taken


def page(sections: Iterable[Section], start: str = "") -> tuple[dict[str, dict[str, Any]], str]:
    """({section: {key: item}}, where it goes on), from where the page before went on; "" at the beginning, and at the end.

    BadRequest when no page goes on there."""
    sections = list(sections)
    name, _, first = start.partition(" ")
    if start and name not in [section.name for section in sections]:
        raise BadRequest("INVALID REQUEST: from is where no page of this answer goes on")
    told: dict[str, dict[str, Any]] = {section.name: {} for section in sections}
    room, is_reached = PAGE_BYTES, not start
    for section in sections:
        is_reached = is_reached or section.name == name
        if not is_reached:
            continue
        keys = [key for key in section.keys if section.name != name or key >= first]
        for number in range(0, len(keys), BATCH):
            batch = {key: section.tell(key) for key in keys[number : number + BATCH]}
            together = size(batch)
            if together <= room:
                room -= together
                told[section.name] |= batch
                continue
            for key, item in batch.items():
                room -= size({key: item})
                if room < 0 and any(told.values()):
                    return told, f"{section.name} {key}"
                told[section.name][key] = item
    return told, ""


# --- the other end ------------------------------------------------------------------------------------------------


class Talk(Protocol):
    """A conversation with a node."""

    def ask(self, request: list[Any], deadline: float) -> Any:
        """The answer, or an exception."""


def status_of(talk: Talk, deadline: float, wish: dict[str, Any] | None = None) -> Status:
    """The whole of STATUS of the node at the other end, page after page."""
    return status(lambda request: talk.ask(request, deadline), wish)


def status(ask: Callable[[list[Any]], Any], wish: dict[str, Any] | None = None) -> Status:
    """The whole of STATUS, by `ask(request)`, page after page."""
    said: Status = ask(["STATUS"] if wish is None else ["STATUS", wish])
    whole = Status({**said.own}, list(said.nodes))
    for _ in range(BRIEF_PAGES_MAX if wish and wish.get("brief") is True else PAGES_MAX):
        if not said.next:
            return whole
        if size(said) > wire.FRAME_BYTES_MAX:
            break
        said = ask(["STATUS", {**(wish or {}), "from": said.next}])
        for part in ("services", "policies"):
            if part in said.own:
                whole.own[part] = {**whole.own.get(part, {}), **said.own[part]}
        whole.nodes.extend(said.nodes)
    whole.own["warnings"] = [*whole.own["warnings"], f"{whole.own['name']} has more to tell than was asked for"]
    return whole
