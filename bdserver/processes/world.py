"""The world as one look showed it: the view, the services that lie here, and what follows from both for whoever looks up.

A request looks once. As long as the next look shows the same, it is the same World, and what was worked out for one request
serves the next ones too (a memo). Nothing of it is about a caller, or about load, which changes with each call.
"""

from __future__ import annotations

from collections.abc import Collection

from bdserver.core import copies, membership
from bdserver.core.messages import Place, Yes
from bdserver.core.routing import Candidates
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View
from bdserver.files.bdcert import Service
from bdserver.files.settings import Settings
from bdserver.processes.rules import Rules


class Offer(NamedTuple):
    """What a call of a service that is offered here is answered. `is_current`: no newer edition of it is to be had."""

    yes: Yes
    is_current: bool


class World:
    """What a node knows after a look. `untrusted`: copies that are not offered; `is_told`: the services here are those of our
    record. `candidates`: of a client without a policy, by service; `places`: what it was answered, by service, the word of who
    was asked, and its milliseconds."""

    def __init__(
        self, settings: Settings, rules: Rules, view: View, services: dict[str, Service], untrusted: Collection[str]
    ) -> None:
        self.view, self.services = view, services
        self._settings, self._rules = settings, rules
        self._hidden = {*view.own.extra.get("unhealthy", ()), *untrusted}
        self.is_told = services.keys() - self._hidden == view.own.services.keys()
        self.candidates: dict[str, Candidates] = {}
        self.places: dict[tuple[str, str, float], Place] = {}
        self._offers: dict[str, Offer] = {}

    def is_still(self, settings: Settings, rules: Rules, view: View, services: dict[str, Service]) -> bool:
        """Whether a look that shows this finds nothing changed."""
        is_seen = self.view is view and self.services is services
        return is_seen and self._settings is settings and self._rules is rules

    def offer(self, name: str) -> Offer | None:
        """The service of this name, if it is offered here."""
        found = self._offers.get(name)
        if found is None and name in self.services and name not in self._hidden:
            view, mine = self.view, self.services[name]
            found = Offer(yes(self._settings, view, mine), copies.may_serve(view, name, mine))
            self._offers[name] = found
        return found


def yes(settings: Settings, view: View, mine: Service) -> Yes:
    """YES, and where: the answer comes from the named node itself."""
    return Yes(settings.axis_port, settings.axis_web_dir, membership.service_url(view.own, mine.name, mine.url))
