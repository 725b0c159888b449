"""What a process of this node holds in memory: settings in force, keys, rules, files; and `refresh` when files changed.

A Node is made of parts, so a test makes one without a certificate; `open_node` makes them from a config. The listener, the
discoverer and each child have one, inherited over fork with everything decoded; they share nothing but the files, and a pipe
that nudges the discoverer. What SIGHUP reads anew is `reload`'s, what the node says of itself `describing`'s; answering
requests is the business of `answers`, deciding that of core.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Callable

from bdserver.core import nudges, policy, statements
from bdserver.core.address import join_address, split_address, without_zone
from bdserver.core.nudges import Nudge
from bdserver.core.policies import Policies, Unknown
from bdserver.core.policy import Policy
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View
from bdserver.errors import BadConfig, BDError, Forbidden, NoSpace
from bdserver.files import durable
from bdserver.files.bdcert import Service
from bdserver.files.cache import Cache
from bdserver.files.heard import Heard
from bdserver.files.hitlog import HitLog
from bdserver.files.invitations import Invitations
from bdserver.files.journal import Journal
from bdserver.files.parcels import Parcels
from bdserver.files.quarantine import Kind, Quarantine
from bdserver.files.services import Services
from bdserver.files.settings import Settings
from bdserver.net import dialling, keys
from bdserver.net.conversation import Conversation
from bdserver.net.identity import Identity
from bdserver.net.keys import Credentials
from bdserver.net.proofs import Proofs, holder
from bdserver.net.signing import Signer
from bdserver.processes import counters
from bdserver.processes.advertised import advertised
from bdserver.processes.beat import Beat
from bdserver.processes.load import Load
from bdserver.processes.lookups import LookUps
from bdserver.processes.nodefiles import Files, open_files
from bdserver.processes.purse import Purse
from bdserver.processes.rules import Rules, Sources, open_rules
from bdserver.processes.trust import Trust
from bdserver.processes.world import World

log = logging.getLogger("bdserver.node")

# Policies that another process reads before what it found is taken over: one of them in normal form may take 7 ms.
POLICIES_READ_AT_ONCE = 8
# How often a process looks whether our certificate has been renewed by another one.
KEYS_SECONDS = 1.0

# dial(address, credentials, deadline, name, policy digest, policy text, version): as net.dialling.dial.
Dial = Callable[..., Conversation]


class Life(NamedTuple):
    """This run of the node: the listener's pid, when it began, and, if there are, the way to the discoverer's ear and what ends
    when the listener does, whatever killed it."""

    listener_pid: int
    started_at: float
    wake_descriptor: int | None = None
    life_descriptor: int | None = None


class Node:
    """One node, as one of its processes sees it."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        address: str,
        rules: Rules,
        files: Files,
        dial: Dial = dialling.dial,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        sources: Sources = Sources(),  # noqa: B008 (a value that nobody can change)
        signer: Signer | None = None,
    ) -> None:
        self.settings, self.credentials, self.address = settings, credentials, address
        self.name = credentials.identity.name  # another one in a certificate that is read anew is refused
        self.rules, self.files = rules, files
        self.proofs = Proofs(credentials, self.refusal, clock)
        self.trust = Trust(files.services, files.seen, lambda: self.rules.publishers)
        files.cache.seal = lambda record: self.proofs.seal(record)  # by the key that is in force then
        self.load = Load(files.services, files.hitlog, lambda: self.settings.receiver_threshold)
        self.dial, self.clock, self.rng = dial, clock, rng or random.Random()
        self.sources, self.signer = sources, signer
        self.life = Life(os.getpid(), clock())
        # When the discoverer's loop turned last, when it lacked descriptors or memory, when the listener accepted somebody.
        self.beat, self.shortage, self.accepted = Beat(), Beat(), Beat()
        self.counters, self.purse, self.lookups = counters.Counters(), Purse(), LookUps()
        files.journal.counted = lambda what: self.counters.add("events", what)
        self.stale: list[str] = []  # what the last SIGHUP could not read, so that what was before stays in force
        self.kept: list[str] = []  # settings whose values in the config count after a restart
        self._refreshed: View | None = None
        self._unread: dict[str, str] = {}  # of its policies
        self._world: World | None = None
        self._services_seen: dict[str, Service] | None = None
        self._keys_again_at = 0.0
        self._keys_seen = self._key_stamps()

    @property
    def mesh(self) -> str:
        """As the certificate has it."""
        return self.credentials.identity.mesh

    @property
    def gossip_port(self) -> int:
        """Where this node hears other nodes' news."""
        return self.settings.gossip_port or self.settings.port + 1

    @property
    def gossip_address(self) -> str:
        """HOST:PORT of that."""
        return join_address(split_address(self.address)[0], self.gossip_port)

    @property
    def cache(self) -> Cache:
        """What this node knows of the mesh."""
        return self.files.cache

    @property
    def services(self) -> Services:
        """What this node offers."""
        return self.files.services

    @property
    def hitlog(self) -> HitLog:
        """How often each service was called lately."""
        return self.files.hitlog

    @property
    def heard(self) -> Heard:
        """When each node was heard last."""
        return self.files.heard

    @property
    def journal(self) -> Journal:
        """What this node did to services, and why."""
        return self.files.journal

    @property
    def parcels(self) -> Parcels:
        """Packages on their way to others."""
        return self.files.parcels

    @property
    def quarantine(self) -> Quarantine:
        """What made its reader crash, and is left out."""
        return self.files.quarantine

    @property
    def invitations(self) -> Invitations:
        """Whom this node lets into the mesh, if it is a signer."""
        return self.files.invitations

    @property
    def policies(self) -> Policies:
        """Whose policies meet."""
        return self.rules.policies

    # -- files that may change while we run

    def refresh(self) -> None:
        """Before a fork: the view of now, its policies in normal form, our services and their hits read, so that a child starts
        with everything. What strangers wrote another process parses: the listener must not die of it."""
        self.rules.revoked.refresh()
        self.look_at_keys()
        self.load.total_weight(self.clock())
        self.trust.judged()
        view = self.cache.view()
        if view is not self._refreshed:
            self._refreshed = view
            view.prepare()
            self._unread = self.policies.unread(view)
        if self._unread:
            self._read_policies()

    def look_at_services(self) -> bool:
        """Whether the services here are others than at the last look. A process that has not seen what a .bdcert said before
        would take one that is being written for new: so none from before a change is kept for callers to come."""
        before, self._services_seen = self._services_seen, self.services.all()
        return before is not None and before is not self._services_seen

    def _read_policies(self) -> None:
        """Some of those that are new; what can't be read now, each process parses when it needs it."""
        policies, some = self.policies, dict(list(self._unread.items())[:POLICIES_READ_AT_ONCE])

        def read() -> dict[str, Policy | Unknown]:
            return {digest: policies.parsed(digest, text) for digest, text in some.items()}

        found = self.quarantine.read_elsewhere("policies", read) or {}
        policies.take(found)
        self._unread = {digest: text for digest, text in self._unread.items() if digest not in found}

    def read_policy(self, text: str, whose: str, caller: str) -> Policy:
        """The policy in a text that a caller has sent; `whose` for complaints, of which others than the caller hear too."""
        with self.quarantine.guard(Kind.POLICY, policy.digest(text), f"{whose} ({caller})"):
            return policy.parse(text, whose)

    def look_at_keys(self) -> bool:
        """Read our certificate and the CAs anew if another process of ours has put others in their place: then True. A node
        whose certificate was made by hand waits for SIGHUP: what a person copies, file by file, is not whole before."""
        clock = time.monotonic()
        if self.credentials.chain.signer is None or clock < self._keys_again_at:
            return False
        self._keys_again_at = clock + KEYS_SECONDS
        stamps = self._key_stamps()
        if stamps == self._keys_seen:
            return False
        self._keys_seen = stamps
        try:
            self.read_keys_anew()
        except BDError as error:
            log.error("the old certificate stays in force: %s", error)
            return False
        return True

    def read_keys_anew(self) -> None:
        """Our certificate and the CAs, as they lie there now, are in force. BadConfig when they are no good."""
        stamps = self._key_stamps()  # this first: what is put in their place meanwhile is found at the next look
        fresh = keys.load(self.settings.key_dir, self.settings.username, self.settings.group)
        if (fresh.identity.name, fresh.identity.mesh, fresh.identity.role) != (self.name, self.mesh, "node"):
            raise BadConfig(f"{self.settings.username}.crt is now for another node: restart instead")
        host = without_zone(split_address(self.address)[0])
        if host not in fresh.identity.hosts:  # by it this node would be refused by all that know it there
            words = f"and the others know this node at {host} until a restart"
            raise BadConfig(f"{self.settings.username}.crt is now for {fresh.identity.places}, {words}")
        self.signer = signer_of(self.settings, fresh)
        self.credentials = fresh
        self.proofs = Proofs(fresh, self.refusal, self.clock)
        self.heard.forgive()
        self._keys_seen = stamps

    def rests_in(self) -> float:
        """In how many seconds all that SIGHUP reads is believed whole, if nobody writes to it meanwhile."""
        settings, sources = self.settings, self.sources
        paths = settings.path, sources.ws_policy or settings.ws_policy, sources.black_list or settings.black_list
        stamps = [durable.stamp(path) for path in (*paths, settings.publishers) if path]
        return max(map(durable.rests_in, [*stamps, *self._key_stamps()]))

    def _key_stamps(self) -> tuple[durable.Stamp | None, ...]:
        names = f"{self.settings.username}.crt", "ca.crt", f"{self.settings.username}.signer.crt"
        return tuple(durable.stamp(os.path.join(self.settings.key_dir, name)) for name in names)

    # -- this node's own state

    def world(self, view: View, services: dict[str, Service]) -> World:
        """What follows from what a look has shown; the one of the look before, if nothing has changed."""
        if self._world is None or not self._world.is_still(self.settings, self.rules, view, services):
            self._world = World(self.settings, self.rules, view, services, self.trust.untrusted(services))
        return self._world

    def heard_at(self, view: View) -> Callable[[str], float]:
        """name -> when we last heard from or of that node, epoch seconds; 0 for never."""
        times = self.heard.report().times
        return lambda name: max(view.heard_at.get(name, 0.0), times.get(name, 0.0))

    def hit(self, service: str, caller: str, now: float, kind: str = "HIT") -> bool:
        """Log a call (or a REPLICATE, or a call of that time as taken BACK), and whether it is logged: a full disk costs us the
        count, not the client its answer. Where the web server's log tells of calls, agreeing to one is none."""
        if self.settings.access_log and kind == "HIT":
            return False
        return self.log_calls(service, kind, caller, now, 1)

    def log_calls(self, service: str, kind: str, caller: str, now: float, count: int) -> bool:
        """Log so many of one kind and time at once, whoever else tells of calls, and whether they are logged."""
        try:
            self.hitlog.append(service, kind, caller, now, count)
        except NoSpace as error:
            log.error("a hit on %s goes uncounted: %s", service, error)
            return False
        return True

    def dynamic_count(self) -> int:
        """How many replicas lie here."""
        return sum(service.type == "dynamic" for service in self.services.all().values())

    # -- other processes, other nodes

    def nudge(self, nudge: Nudge) -> None:
        """Wake the discoverer; if its pipe is full it is awake anyway."""
        if self.life.wake_descriptor is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self.life.wake_descriptor, nudges.encode(nudge))

    def is_black_listed(self, host: str) -> bool:
        """Black-listed addresses are closed unread, and never called."""
        return host in self.rules.black_list

    def refusal(self, identity: Identity, view: View | None = None) -> str | None:
        """Why a certificate is not accepted any more, or None. `view`: by whoever has just looked."""
        revoked, signer = self.rules.revoked, identity.signer
        why = revoked.refusal(identity.name, identity.serial)
        if why is None and signer is not None and revoked.is_serial(signer.serial):
            signed = f"is signed by {signer.name} (serial {signer.serial:x})"
            why = f"the certificate of {identity.name} {signed}, which is revoked here"
        revocations = (view or self.cache.view()).revocations
        if why is None and revocations and (said := revocations.of(holder(identity), self.clock())) is not None:
            signed = f", as all that {said.value} has signed" if said.what == statements.SIGNER else ""
            why = f"the certificate of {identity.name} (serial {identity.serial:x}) is revoked{signed}"
        return why

    def call(self, address: str, deadline: float, name: str | None = None) -> Conversation:
        """A conversation with another node, said to be `name`."""
        if self.rules.black_list and self.is_black_listed(split_address(address)[0]):
            raise Forbidden(f"{address} is in our black list")
        document = self.rules.document
        conversation = self.dial(
            address, self.credentials, deadline, name, document.digest, document.text, self.settings.protocol
        )
        identity = conversation.identity
        refusal = self.refusal(identity) if identity is not None else None
        if refusal:
            conversation.close()
            raise Forbidden(f"{address}: {refusal}")
        return conversation


def open_node(settings: Settings, sources: Sources = Sources()) -> Node:  # noqa: B008 (a value that nobody can change)
    """The node that a config describes; BadConfig says which file is wrong."""
    credentials = keys.load(settings.key_dir, settings.username, settings.group)
    identity = credentials.identity
    if identity.role != "node":
        raise BadConfig(
            f"{os.path.join(settings.key_dir, settings.username)}.crt has the role "
            f"{identity.role}, and a node needs the role node: bdkeys issue DIR NAME --role node"
        )
    files = open_files(settings, identity.name)
    rules = open_rules(settings, sources, files.quarantine)
    address = advertised(settings, identity.hosts)
    signer = signer_of(settings, credentials)
    return Node(settings, credentials, address, rules, files, sources=sources, signer=signer)


def signer_of(settings: Settings, credentials: Credentials) -> Signer | None:
    """What a node signs with for others, if it does; BadConfig when it should, and can't."""
    if settings.signer != "yes":
        return None
    mesh, authorities = credentials.identity.mesh, credentials.authorities
    return Signer.load(settings.key_dir, settings.username, mesh, authorities, settings.group)
