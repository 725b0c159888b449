"""What a process of this node holds in memory: settings, keys, services, the view; and `refresh` when files changed.

Listener, discoverer and children each have one, inherited over fork with everything decoded. They share nothing but
files, and a pipe that nudges the discoverer ("probe NAME", "visit NAME", "tell UNTIL NAMES", "look"). Answering requests
is answers' business, deciding is core's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import socket
import time
from collections.abc import Collection

from bdserver.core import membership, policy, weight
from bdserver.core.address import join_address, split_address
from bdserver.core.membership import Record, View
from bdserver.errors import BadConfig, BDError, Forbidden, NoSpace
from bdserver.files.cache import Cache
from bdserver.files.heard import Heard
from bdserver.files.hitlog import HitLog
from bdserver.files.journal import Journal
from bdserver.files.revoked import Revoked
from bdserver.files.services import Service, Services
from bdserver.files.settings import Settings, load
from bdserver.net import client, tls

log = logging.getLogger("bdserver.node")

# The address that a route to anywhere would start from; nothing is sent to it (RFC 5737, RFC 3849: documentation).
FAR_AWAY = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


# When the end of our certificate is worth a warning, the nearest first.
CERTIFICATE_DAYS = (1, 7, 30)


class Node:
    """One node, as one of its processes sees it."""

    def __init__(self, settings: Settings, arguments_policy: str = "", arguments_black_list: str = ""):
        self.settings = settings
        self._policy_path = arguments_policy
        self._black_list_path = arguments_black_list
        self.started_at = time.time()
        self.rng = random.Random()
        self.credentials = tls.load(settings.key_dir, settings.username)
        if self.credentials.identity.role != "node":
            raise BadConfig(
                f"{os.path.join(settings.key_dir, settings.username)}.crt has the role "
                f"{self.credentials.identity.role}, and a node needs the role node: bdkeys issue DIR NAME --role node"
            )
        self.name = self.credentials.identity.name
        self.mesh = self.credentials.identity.mesh
        self.address = advertised(settings, self.credentials.identity.hosts)
        self.policy, self.policy_text, self.policy_digest = read_policy(self._policy_path or settings.ws_policy)
        self.black_list = read_black_list(self._black_list_path or settings.black_list)
        self.revoked = Revoked(settings.revoked)
        self.cache = Cache(os.path.join(settings.var_dir, f"{settings.username}.bdcache"), self.name)
        self.services = Services(settings.services_dir, settings.graveyard_dir, scratch_dir(settings))
        self.hitlog = HitLog(settings.service_log_dir)
        self.heard = Heard(os.path.join(settings.var_dir, f"{settings.username}.bdheard"))
        self.journal = Journal(os.path.join(settings.var_dir, f"{settings.username}.bdjournal"))
        self.wake_descriptor: int | None = None
        self._refreshed: View | None = None
        self.listener_pid = os.getpid()

    # -- files that may change while we run

    def refresh(self) -> None:
        """Before a fork: the view of now, its policies parsed, our services and their hits read, so that a child starts
        with everything."""
        self.revoked.refresh()
        self.weights(time.time())
        view = self.cache.view()
        if view is not self._refreshed:
            self._refreshed = view
            view.prepare()
            for digest, text in view.policies.items():
                _parsed(digest, text)

    def reload(self) -> list[str]:
        """SIGHUP: read config, policy, black list and keys anew. What is bad is reported, and the old one stays."""
        complaints = []
        for part in (
            self._reload_settings,
            self._reload_policy,
            self._reload_black_list,
            self._reload_revoked,
            self._reload_credentials,
        ):
            try:
                part()
            except BDError as error:
                complaints.append(str(error))
        return complaints

    def _reload_settings(self) -> None:
        self.settings = self.settings.with_reloadable(load(self.settings.path))

    def _reload_policy(self) -> None:
        self.policy, self.policy_text, self.policy_digest = read_policy(self._policy_path or self.settings.ws_policy)

    def _reload_black_list(self) -> None:
        self.black_list = read_black_list(self._black_list_path or self.settings.black_list)

    def _reload_revoked(self) -> None:
        self.revoked = Revoked(self.settings.revoked)

    def _reload_credentials(self) -> None:
        fresh = tls.load(self.settings.key_dir, self.settings.username)
        if (fresh.identity.name, fresh.identity.mesh, fresh.identity.role) != (self.name, self.mesh, "node"):
            raise BadConfig(f"{self.settings.username}.crt is now for another node: restart instead")
        self.credentials = fresh

    def heard_at(self, view: View, name: str) -> float:
        """When we last heard from or of a node, epoch seconds; 0 for never."""
        return max(view.heard_at.get(name, 0.0), self.heard.times().get(name, 0.0))

    # -- this node's own state

    def weights(self, now: float, services: dict[str, Service] | None = None) -> dict[str, float]:
        """service -> weight, of all services here (handed in by who has just looked)."""
        services = self.services.all() if services is None else services
        return {name: weight.weight(self.hitlog.runs(name, now), each.weight, now) for name, each in services.items()}

    def is_overloaded(self, now: float, services: dict[str, Service] | None = None) -> bool:
        """The original's test: the sum of weights exceeds receiver_threshold."""
        return weight.is_overloaded(sum(self.weights(now, services).values()), self.settings.receiver_threshold)

    def describe(self, view: View, now: float, draining: bool | None = None, unhealthy: Collection[str] | None = None) -> bool:
        """Bring this node's own record in `view` (held locked) up to date; True if it changed."""
        services = self.services.all()
        own = view.own
        sick = own.extra.get("unhealthy", []) if unhealthy is None else unhealthy
        if self.policy_digest is not None:
            view.learn_policy(self.policy_digest, self.policy_text)
        total = sum(self.weights(now).values())
        return view.describe(
            own._replace(
                address=self.address,
                services={
                    name: membership.Service(each.type, each.weight, each.url, each.path is not None)
                    for name, each in services.items()
                    if name not in sick
                },
                free_dynamic=max(self.settings.max_dynamic - self.dynamic_count(), 0),
                load=weight.load_step(total, self.settings.receiver_threshold),
                receiver_threshold=self.settings.receiver_threshold,
                web_port=self.settings.axis_port,
                web_dir=self.settings.axis_web_dir,
                service_url=self.settings.service_url,
                policy=self.policy_digest,
                draining=own.draining if draining is None else draining,
                extra={"unhealthy": sorted(set(sick) & services.keys())} if set(sick) & services.keys() else {},
            ),
            now,
        )

    def hit(self, service: str, caller: str, now: float, kind: str = "HIT") -> None:
        """Log a call (or a REPLICATE); a full disk costs us the count, not the client its answer. Where the web server's
        log tells of calls, agreeing to one is none."""
        if self.settings.access_log and kind == "HIT":
            return
        try:
            self.hitlog.append(service, kind, caller, now)
        except NoSpace as error:
            log.error("a hit on %s goes uncounted: %s", service, error)

    def dynamic_count(self) -> int:
        """How many replicas lie here."""
        return sum(service.type == "dynamic" for service in self.services.all().values())

    def own_record(self) -> Record:
        """Our record at the start."""
        return Record(self.name, self.address, (0, 0))

    def update_own(self, **changes) -> bool:
        """Describe ourselves anew under the cache's lock, and nudge the discoverer to spread it."""
        with self.cache.locked() as view:
            changed = self.describe(view, time.time(), **changes)
        if changed:
            self.nudge("look")
        return changed

    def warnings(self, view: View, now: float) -> list[str]:
        """What an operator should look at, a line each; empty when all is well."""
        found = list(self.services.complaints)
        ending = self.certificate_warning(now)
        if ending:
            found.insert(0, ending)
        if view.rival is not None:
            found.insert(0, f"two live nodes are named {self.name}: this one at {self.address}, and one at {view.rival[0]}")
        found += [f"the service {name} is not well, and not offered" for name in view.own.extra.get("unhealthy", [])]
        return found

    def certificate_warning(self, now: float) -> str | None:
        """From 30 days on, then 7, then 1; it stays the same between, so that it can be said once each."""
        left = self.credentials.days_left(now)
        limit = next((days for days in CERTIFICATE_DAYS if left < days), None)
        if limit is None:
            return None
        ends = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.credentials.not_after))
        word = "day" if limit == 1 else "days"
        return f"the certificate of {self.name} ends in less than {limit} {word}, on {ends}: bdkeys renew, then SIGHUP"

    # -- policies

    def policy_of(self, view: View, record: Record):
        """A record's policy; None when it has none; NOBODY_KNOWS when only its digest is known yet, or it is broken."""
        if record.policy is None:
            return None
        text = view.policies.get(record.policy)
        if text is None:
            return NOBODY_KNOWS
        return _parsed(record.policy, text)

    def can_talk(self, view: View, a: Record, b: Record) -> bool:
        """Whether the policies of these two nodes meet, as far as we know them."""
        mine, yours = self.policy_of(view, a), self.policy_of(view, b)
        if NOBODY_KNOWS in (mine, yours):
            return False
        return policy.can_talk(mine, yours, self.settings.policy_mode)

    def talkable(self, view: View, record: Record) -> bool:
        """Whether our own policy lets us call it; a policy not yet known is tried, its owner decides."""
        theirs = self.policy_of(view, record)
        return theirs is NOBODY_KNOWS or policy.can_talk(self.policy, theirs, self.settings.policy_mode)

    def suits(self, view: View, client_policy, record: Record) -> bool:
        """Whether a client with this policy may be named this node."""
        theirs = self.policy_of(view, record)
        return theirs is not NOBODY_KNOWS and policy.can_talk(client_policy, theirs, self.settings.policy_mode)

    # -- other processes, other nodes

    def nudge(self, words: str) -> None:
        """Wake the discoverer; if its pipe is full it is awake anyway. A line that would not go in as one is left out."""
        line = words.encode() + b"\n"
        if self.wake_descriptor is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self.wake_descriptor, line if len(line) <= select.PIPE_BUF else b"look\n")

    def is_black_listed(self, host: str) -> bool:
        """Black-listed addresses are closed unread, and never called."""
        return host in self.black_list

    def call(self, address: str, deadline: float, name: str | None = None) -> client.Conversation:
        """A conversation with another node, said to be `name`."""
        if self.black_list and self.is_black_listed(split_address(address)[0]):
            raise Forbidden(f"{address} is in our black list")
        conversation = client.dial(
            address, self.credentials, deadline, name, self.policy_digest, self.policy_text, self.settings.protocol
        )
        refusal = self.revoked.refusal(conversation.identity.name, conversation.identity.serial)
        if refusal:
            conversation.close()
            raise Forbidden(f"{address}: {refusal}")
        return conversation


class _NobodyKnows:
    def __repr__(self):
        return "NOBODY_KNOWS"


NOBODY_KNOWS = _NobodyKnows()

_parsed_policies: dict[str, object] = {}


def _parsed(digest: str, text: str):
    """Parsed once a process (children inherit what the listener has parsed); bounded by the view's own bound."""
    if digest not in _parsed_policies:
        if len(_parsed_policies) > membership.POLICIES_MAX:
            _parsed_policies.clear()
        try:
            _parsed_policies[digest] = policy.parse(text)
        except BDError:
            _parsed_policies[digest] = NOBODY_KNOWS
    return _parsed_policies[digest]


def read_policy(path: str):
    """(policy, text, digest) of a WS-Policy file; three times None without one."""
    if not path:
        return None, None, None
    try:
        with open(path, "rb") as file:
            data = file.read(policy.TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    parsed = policy.parse(data, path)
    text = policy.text_of(data)
    return parsed, text, policy.digest(text)


def read_black_list(path: str) -> frozenset[str]:
    """Addresses of hosts, one a line, `#` comments; BadConfig names the line that is no address."""
    if not path:
        return frozenset()
    hosts = set()
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                text = line.partition("#")[0].strip()
                if text:
                    hosts.add(_host(path, number, text))
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadConfig(f"{path}: not UTF-8 text") from None
    return frozenset(hosts)


def _host(path: str, number: int, text: str) -> str:
    try:
        return split_address(text, 1)[0]
    except BDError as error:
        raise BadConfig(f"{path}:{number}: {error}") from None


def scratch_dir(settings: Settings) -> str:
    """Where packages are spooled and unpacked before one rename puts them live."""
    return os.path.join(settings.graveyard_dir, ".incoming")


def advertised(settings: Settings, certified: tuple[str, ...]) -> str:
    """HOST:PORT by which the others know this node; it must stand in our certificate.

    Without `advertise`: the one address that is obvious, else BadConfig lists the candidates."""
    if settings.advertise:
        host, port = split_address(settings.advertise, settings.port)
        if host not in certified:
            raise BadConfig(
                f"{settings.path}: advertise={settings.advertise}, but the certificate is for {', '.join(certified)}: "
                f"issue one with --host {host}, or advertise one of those"
            )
        return join_address(host, port)
    bound = [host for host in settings.bind if host in certified]
    local = [host for host in _local_addresses() if host in certified]
    for candidates in (certified, bound, local):
        if len(candidates) == 1:
            return join_address(candidates[0], settings.port)
    raise BadConfig(
        f"{settings.path}: set advertise= to the address by which the others reach this node: "
        f"{', '.join(certified) or 'the certificate names none'}"
    )


def _local_addresses() -> list[str]:
    """The addresses that this host would speak from."""
    found = []
    for family, far_away in FAR_AWAY:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((far_away, 9))
            found.append(sock.getsockname()[0])
    return found
