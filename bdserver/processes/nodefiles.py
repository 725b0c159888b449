"""The files that a node's processes share, and where its config has them.

What each holds, under which lock it is written and what a damaged one costs is the business of its own module in `files`.
"""

from __future__ import annotations

import os

from bdserver.core.tuples import NamedTuple
from bdserver.files.cache import Cache
from bdserver.files.heard import Heard
from bdserver.files.hitlog import HitLog
from bdserver.files.invitations import Invitations
from bdserver.files.journal import Journal
from bdserver.files.parcels import Parcels
from bdserver.files.quarantine import Quarantine
from bdserver.files.seen import Seen
from bdserver.files.services import Services
from bdserver.files.settings import Settings
from bdserver.files.timeline import Timeline


class Files(NamedTuple):
    """What the processes of a node share, all on disk."""

    cache: Cache
    services: Services
    hitlog: HitLog
    heard: Heard
    journal: Journal
    parcels: Parcels
    quarantine: Quarantine
    seen: Seen
    invitations: Invitations
    timeline: Timeline


def open_files(settings: Settings, name: str) -> Files:
    """The files of the node of this name, where its config has them."""

    def beside_the_cache(suffix: str) -> str:
        return os.path.join(settings.var_dir, settings.username + suffix)

    quarantine = Quarantine(beside_the_cache(".bdquarantine"))
    return Files(
        Cache(beside_the_cache(".bdcache"), name),
        Services(settings.services_dir, settings.graveyard_dir, os.path.join(settings.graveyard_dir, ".incoming"), quarantine),
        HitLog(settings.service_log_dir),
        Heard(beside_the_cache(".bdheard")),
        Journal(beside_the_cache(".bdjournal")),
        Parcels(os.path.join(settings.graveyard_dir, ".outgoing")),
        quarantine,
        Seen(beside_the_cache(".bdsigned")),
        Invitations(beside_the_cache(".bdinvitations")),
        Timeline(beside_the_cache(".bdtimeline")),
    )
