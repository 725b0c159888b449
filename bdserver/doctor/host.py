"""This host as the doctor sees it: its config, its keys, and its daemon, if one answers. Each is found out once, and what could
not be read is a text that says why, and no exception: the doctor goes on with the rest.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from bdserver.core import pages
from bdserver.core.address import split_address
from bdserver.core.messages import Status
from bdserver.errors import BDError, Forbidden
from bdserver.files import policyfile
from bdserver.files.bdcert import Service
from bdserver.files.blacklist import BlackList
from bdserver.files.services import Services
from bdserver.files.settings import Settings, load
from bdserver.net import dialling, keys
from bdserver.net.conversation import Conversation
from bdserver.net.keys import Credentials
from bdserver.processes import startup
from bdserver.processes.advertised import advertised

# What the daemon is asked is answered in milliseconds; a second more is for machines that swap.
ASK_SECONDS = 2.0

Result = TypeVar("Result")


class Host:
    """One config, and what belongs to it."""

    def __init__(self, config: str, seconds: float) -> None:
        self.config, self.deadline = config, time.monotonic() + seconds
        self.settings_trouble = self.account_trouble = self.keys_trouble = self.address_trouble = self.daemon_trouble = ""

    @cached_property
    def settings(self) -> Settings | None:
        """None, and `settings_trouble`, when the config is not right."""
        try:
            return load(self.config)
        except BDError as error:
            self.settings_trouble = str(error)
            return None

    @property
    def given(self) -> Settings:
        """The settings, for checks that are done only where there are some."""
        assert self.settings is not None
        return self.settings

    @cached_property
    def owner(self) -> tuple[int, int]:
        """Whom the daemon becomes; whoever asks, and `account_trouble`, where that account is not there."""
        try:
            return startup.user_ids(self.given)
        except BDError as error:
            self.account_trouble = str(error)
            return os.geteuid(), os.getegid()

    @cached_property
    def stranger_to(self) -> int | None:
        """The uid of the daemon, where this account is neither that one nor root: it may not read what the daemon reads. None
        where it may, or nobody can say."""
        try:
            uid = pwd.getpwnam(self.given.user).pw_uid if self.given.user else os.stat(self.given.var_dir).st_uid
        except (KeyError, OSError):
            return None
        return uid if os.geteuid() not in (0, uid) else None

    @cached_property
    def credentials(self) -> Credentials | None:
        """None, and `keys_trouble`, when they can't be used."""
        try:
            return keys.load(self.given.key_dir, self.given.username, self.given.group)
        except BDError as error:
            self.keys_trouble = str(error)
            return None

    @cached_property
    def address(self) -> str:
        """HOST:PORT by which others know this node; "", and `address_trouble`, when nobody can say."""
        if self.credentials is None:
            return ""
        try:
            return advertised(self.given, self.credentials.identity.hosts)
        except BDError as error:
            self.address_trouble = str(error)
            return ""

    @property
    def name(self) -> str:
        """The node's, as far as it is known."""
        return self.credentials.identity.name if self.credentials is not None else self.given.username

    # -- the daemon

    @cached_property
    def is_running(self) -> bool:
        """Whether a daemon of this config lives: it holds the lock of its pid file."""
        return startup.claims(self.given)[0].is_held()

    @cached_property
    def status(self) -> Status | None:
        """The daemon's word; None, and `daemon_trouble`, when it says none."""
        try:
            return self.asked(pages.status_of, ASK_SECONDS)
        except BDError as error:
            self.daemon_trouble = str(error)
            return None

    def asked(self, say: Callable[[Conversation, float], Result], seconds: float) -> Result:
        """What `say(conversation, deadline)` returns on the local socket."""
        deadline = min(self.deadline, time.monotonic() + seconds)
        with dialling.dial_local(self.given.socket, deadline) as talk:
            return say(talk, deadline)

    def call(self, address: str, deadline: float, name: str | None) -> Conversation:
        """Another node, as this one calls it."""
        assert self.credentials is not None
        if split_address(address)[0] in BlackList(self.given.black_list):
            raise Forbidden(f"{address} is in our black list")
        document = policyfile.read(self.given.ws_policy)
        return dialling.dial(address, self.credentials, deadline, name, document.digest, document.text, self.given.protocol)

    # -- services

    @cached_property
    def folder(self) -> Services:
        """The services folder, as the daemon reads it."""
        settings = self.given
        return Services(settings.services_dir, settings.graveyard_dir, os.path.join(settings.graveyard_dir, ".incoming"))

    @property
    def services(self) -> dict[str, Service]:
        """By name."""
        return self.folder.all() if os.path.isdir(self.given.services_dir) else {}
