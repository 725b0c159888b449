"""What happened in the mesh lately, as far as a crawl was told: events of journals, who calls what, the last look-ups. Pure."""

from __future__ import annotations

from typing import Any

from bdserver.audit.crawl import Crawl, LookUp
from bdserver.core.tuples import NamedTuple

EVENTS_MAX = 30
# Of a table of who calls, or of look-ups.
ROWS_MAX = 30


class Asker(NamedTuple):
    """Who calls a service of a node ("" when that is not told), and how often within the last minute."""

    client: str
    service: str
    node: str
    calls: int


class Lately:
    """Of a crawl; each list in the order in which it is shown, and bounded."""

    def __init__(self, crawl: Crawl):
        self._statuses = crawl.statuses

    def events(self, service: str | None = None, most: int | None = EVENTS_MAX) -> list[dict[str, Any]]:
        """What nodes did to services lately, or to this one, newest first, each event with its "node"."""
        all_of_them = [
            {**event, "node": name}
            for name, status in self._statuses.items()
            for event in status.events
            if service in (None, event["service"])
        ]
        return sorted(all_of_them, key=lambda event: -event["at"])[:most]

    def events_of_node(self, name: str) -> list[dict[str, Any]]:
        """What it did to services, or others with it."""
        return [event for event in self.events(most=None) if name in [event[who] for who in ("node", "giver", "taker")]][
            :EVENTS_MAX
        ]

    def askers(self, node: str = "", service: str = "") -> list[Asker]:
        """Who called within the last minute, the most first, as far as the nodes were asked for it."""
        found = [
            Asker(client, name, holder, calls)
            for holder, status in self._statuses.items()
            for name, rows in status.askers.items()
            for client, calls in rows
            if node in ("", holder) and service in ("", name)
        ]
        return sorted(found, key=lambda each: (-each.calls, each))[:ROWS_MAX]

    def lookups(self, node: str = "", service: str = "") -> list[tuple[str, LookUp]]:
        """(who answered it, a look-up), the newest first, as far as the nodes were asked for them."""
        found = [
            (name, each)
            for name, status in self._statuses.items()
            for each in status.lookups
            if node in ("", name) and service in ("", each.service)
        ]
        return sorted(found, key=lambda each: -each[1].at)[:ROWS_MAX]
