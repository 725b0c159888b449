"""The discoverer: asks core.discovery what to do, does it, and writes what came of it into the cache.

A process of its own beside the listener: it probes, synchronises and spreads news, looks after its own services (what
is in the folder, their health, the size of their hit logs), and ends when its listener is gone. Conversations run in a
few threads, with no lock held; the main loop alone decides.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import queue
import select
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import setproctitle

from bdserver.core import discovery, exchange, membership, nudges
from bdserver.core.address import split_address
from bdserver.core.discovery import IDLE_SECONDS, REFUSED, SILENT, THERE, Ask, Discovery, Probe, Push, Rhythm, Synchronise
from bdserver.core.messages import No, Pong
from bdserver.core.nudges import Hurry, Tell, Visit
from bdserver.errors import BDError, NoSpace, PolicyMismatch, Refused, TooBusy
from bdserver.files import accesslog
from bdserver.files.accesslog import AccessLog
from bdserver.net.connections import Connections
from bdserver.net.conversation import Conversation
from bdserver.processes.health import Health
from bdserver.processes.node import Node

# A probe, its three helpers, a round and some pushes: what a node has to say at once.
THREADS = 12
# The watch and those that are told the news: log2 of the nodes of a mesh, and some that were before the last change.
KEPT_MAX = 32
SYNCHRONISE_SECONDS = 5.0
PUSH_SECONDS = 2.0
# How often we look at our own services folder, weight and complaints.
LOOK_SECONDS = 1.0
HEALTH_SECONDS = 5.0
TRIM_SECONDS = 20.0

log = logging.getLogger("bdserver.discoverer")


def run(node: Node, wake_descriptor: int, life_descriptor: int) -> None:
    """Until the other end of the life descriptor is closed, that is until the listener is gone, whatever killed it."""
    setproctitle.setproctitle(f"bdserverd: discoverer of {node.name} at {node.address}")
    Discoverer(node, wake_descriptor, life_descriptor).run()


class Discoverer:
    """The loop, and the threads that talk for it."""

    def __init__(self, node: Node, wake_descriptor: int, life_descriptor: int):
        self.node = node
        self._wake, self._life = wake_descriptor, life_descriptor
        self._done_read, self._done_write = os.pipe()
        os.set_blocking(self._done_read, False)
        os.set_blocking(self._done_write, False)
        self._pool = ThreadPoolExecutor(THREADS)  # a thread more is started when all of them talk
        self._results: queue.SimpleQueue = queue.SimpleQueue()
        self._look_at = self._health_at = self._trim_at = 0.0
        self._health = Health(self._say_health)
        self._looking_at_health: threading.Thread | None = None
        self._access_log: AccessLog | None = None
        self._access_settings = ("", "")
        self._said: dict[str, str] = {}
        self._connections = Connections(node.call, node.refusal, KEPT_MAX)
        self._is_reload_due = self._is_lonely = False
        self._view = node.cache.view()
        self._mind = Discovery(
            node.name,
            Rhythm(node.settings.probe_interval, node.settings.round_min, node.settings.round_max),
            node.rng,
            time.monotonic(),
            [hint for hint in node.settings.hints if hint != node.address],
            lambda record: not node.policies.talkable(self._view, record),
        )

    def run(self) -> None:
        """The main loop."""
        self.node.rng.seed()  # this process drew the same numbers as its parent until here
        signal.set_wakeup_fd(self._done_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, self._note_reload)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a group's SIGTERM is the listener's business
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            if self._is_reload_due:
                self._reload()
            self._look_after_ourselves()
            view = self._view = self.node.cache.view()
            total = self._weight
            for action in self._mind.due(view, time.monotonic(), total, self.node.settings.receiver_threshold):
                self._pool.submit(self._talk, action)
            self._write(self._mind.verdicts(view, time.monotonic()))
            if self._wait(view):
                log.info("the listener is gone: ending")
                return
            self._take_results()

    def _wait(self, view) -> bool:
        """Until something happens or is due; True when the listener is gone."""
        until = min(self._mind.next_at(view), self._look_at)
        patience = max(until - time.monotonic(), 0.0)
        waited_for = [self._wake, self._life, self._done_read, *self._connections.waiting()]
        try:
            readable, _, _ = select.select(waited_for, [], [], patience)
        except OSError:  # a thread has closed one of the connections
            return False
        if self._life in readable:
            return True
        if self._done_read in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(self._done_read, 65536)
        if self._wake in readable:
            with contextlib.suppress(BlockingIOError):
                self._take_nudges(os.read(self._wake, 65536))
        for name in self._connections.close_hung_up(readable):
            self._mind.hung_up(name)
        return False

    def _take_nudges(self, data: bytes) -> None:
        for nudge in nudges.decode(data):
            match nudge:
                case Hurry(name):
                    self._mind.hurry(name)
                case Tell(until, names):
                    self._mind.pass_on(names, until, self.node.cache.view(), time.monotonic())
                case Visit(name):
                    record = self.node.cache.view().records.get(name)
                    if record is not None:
                        self._pool.submit(self._talk, Synchronise(name, record.address))

    def _note_reload(self, number, frame) -> None:
        self._is_reload_due = True

    def _reload(self) -> None:
        self._is_reload_due = False
        self._connections.close()  # they were opened with the old keys
        for complaint in self.node.reload():
            log.debug("reload: %s", complaint)  # the listener has said it
        self._look_at = 0.0

    # -- our own services

    def _look_after_ourselves(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        self._connections.close_idle(IDLE_SECONDS)
        wall = time.time()
        self._count_accesses(wall)
        self._weight = sum(self.node.weights(wall).values())
        if now >= self._health_at:
            self._health_at = now + HEALTH_SECONDS
            self._look_at_health()
        if now >= self._trim_at:
            self._trim_at = now + TRIM_SECONDS
            self._trim(wall)
        self._describe(wall)
        self.node.heard.write(set(self.node.cache.view().records), wall)
        self._say_warnings()
        self._say_if_lonely()

    def _count_accesses(self, wall: float) -> None:
        """The web server's log, if it is to be counted, into our hit logs."""
        settings = self.node.settings
        if (settings.access_log, settings.access_log_format) != self._access_settings:
            self._access_settings = settings.access_log, settings.access_log_format
            self._access_log = AccessLog(*self._access_settings) if settings.access_log else None
        if self._access_log is None:
            return
        own, hits = self.node.cache.view().own, collections.defaultdict(list)
        urls = {name: membership.service_url(own, name, each.url) for name, each in self.node.services.all().items()}
        for service, caller, at in self._access_log.hits(accesslog.paths_of(urls), wall):
            hits[service].append((caller, at))
        self._say_change("access_log", self._access_log.complaint)
        for service, calls in hits.items():
            try:
                self.node.hitlog.extend(service, calls)
            except NoSpace as error:
                log.error("%d hits on %s go uncounted: %s", len(calls), service, error)

    def _describe(self, wall: float) -> None:
        """Our record, brought up to date only when it would differ: a quiet node writes nothing."""
        view = self.node.cache.view()
        needs_expiry = view.copy().expire(wall)
        if not needs_expiry and not self.node.describe(view.copy(), wall, unhealthy=self._health.sick):
            return
        with self._patiently(), self.node.cache.locked() as fresh:
            self.node.describe(fresh, wall, unhealthy=self._health.sick)
            fresh.expire(wall)

    @contextlib.contextmanager
    def _patiently(self):
        """If the cache is locked too long, skip this turn (as the original did)."""
        try:
            yield
        except BDError as error:
            log.warning("skipping a turn: %s", error)

    def _look_at_health(self) -> None:
        """In a thread, and not while the last look waits for somebody who hangs."""
        if self._looking_at_health is not None and self._looking_at_health.is_alive():
            return
        own = self.node.cache.view().own
        host, _ = split_address(own.address)
        checked = [each for each in self.node.services.all().values() if each.health != "none"]
        asked = [(each, membership.service_url(own, each.name, each.url)) for each in checked]
        look = threading.Thread(target=self._health.look, args=(asked, host, self.node.settings.axis_port), daemon=True)
        self._looking_at_health = look
        look.start()

    def _say_health(self, name: str, why: str) -> None:
        if self._say_change(f"health of {name}", why):
            self._look_at = 0.0
            self._nudge_main()

    def _trim(self, wall: float) -> None:
        for name in self.node.services.all():
            with contextlib.suppress(OSError, BDError):
                self.node.hitlog.trim(name, wall, self.node.settings.hit_log_bytes)

    def _say_warnings(self) -> None:
        """Each once; a certificate's end at 30, 7 and 1 days, and again after a restart."""
        for warning in self.node.warnings(self.node.cache.view(), time.time()):
            if not warning.startswith("the service "):  # its health is said with the reason where it is checked
                self._say_change(warning, warning)

    def _say_if_lonely(self) -> None:
        is_lonely = not self.node.cache.view().others_there()
        if is_lonely != self._is_lonely:
            log.info("lonely: nobody to synchronise with" if is_lonely else "no longer lonely")
        self._is_lonely = is_lonely

    def _say_change(self, what: str, state: str, level: int = logging.ERROR) -> bool:
        """Say a state when it changes, not each time it is seen; whether it has."""
        if self._said.get(what, "") == state:
            return False
        log.log(level if state else logging.INFO, "%s", state or f"{what}: well again")
        if len(self._said) > 1000:
            self._said.clear()
        self._said[what] = state
        return True

    # -- talking: in threads

    def _nudge_main(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._done_write, b"\0")

    def _talk(self, action: discovery.Action) -> None:
        try:
            result = self._carry_out(action)
        except (PolicyMismatch, TooBusy):
            result = (THERE, {})
        except Refused as error:
            result = (REFUSED, {"reason": str(error)})
        except BDError as error:
            result = (SILENT, {"reason": str(error)})
        except Exception:
            log.exception("a conversation met a bug: %s", action)
            result = (SILENT, {"reason": "a bug"})
        self._results.put((action, *result))
        self._nudge_main()

    def _carry_out(self, action: discovery.Action):
        if isinstance(action, Probe):
            return self._probe(action)
        if isinstance(action, Ask):
            deadline = time.monotonic() + 2 * action.seconds
            with self.node.call(action.helper_address, deadline, action.helper) as conversation:
                said = conversation.ask(["PROBE", action.address], time.monotonic() + action.seconds)
            if isinstance(said, Pong):
                return THERE, {}
            return (REFUSED if said.code == Refused.code else SILENT), {"is_nack": True}
        if isinstance(action, Push):
            deadline = time.monotonic() + PUSH_SECONDS
            known = self._connections.talk(
                action.name, action.address, deadline, lambda talk: self._push(talk, action.news, deadline, action.until)
            )
            return THERE, {"known": known}
        deadline = time.monotonic() + SYNCHRONISE_SECONDS
        with self.node.call(action.address, deadline, action.name) as conversation:
            self._synchronise(conversation, deadline)
        return THERE, {}

    def _probe(self, probe: Probe):
        deadline = time.monotonic() + probe.seconds

        def ping(conversation: Conversation) -> str | None:
            digest = conversation.ask(["PING"], deadline).digest
            if probe.news:
                self._push(conversation, probe.news, deadline)
            return digest or None

        if probe.stays:
            return THERE, {"digest": self._connections.talk(probe.name, probe.address, deadline, ping)}
        self._connections.let_go(probe.name)
        with self.node.call(probe.address, deadline, probe.name) as conversation:
            return THERE, {"digest": ping(conversation)}

    def _push(self, conversation: Conversation, names: tuple[str, ...], deadline: float, until: str | None = None) -> int:
        say = exchange.push(self.node.cache.view(), list(names), until)
        theirs = self._turn(conversation, say, deadline)
        more = exchange.follow_up(self.node.cache.view(), {"unknown": theirs.get("unknown", [])})
        if more:
            self._turn(conversation, more, deadline)
        return theirs.get("known", 0)

    def _synchronise(self, conversation: Conversation, deadline: float) -> None:
        talker = conversation.identity.name if conversation.identity else ""

        def take(theirs):
            with self.node.cache.locked() as view:
                return exchange.absorb(view, theirs, time.time(), talker)

        exchange.synchronise(self.node.cache.view, take, lambda say: self._turn(conversation, say, deadline))

    def _turn(self, conversation: Conversation, say: exchange.Exchange, deadline: float) -> exchange.Exchange:
        said = conversation.ask(["SYNCHRONIZE", say], deadline)
        if isinstance(said, No):
            raise TooBusy(f"{conversation.where} has no time for an exchange")
        return exchange.checked(said.exchange)

    # -- what came of it: in the main loop

    def _take_results(self) -> None:
        while not self._results.empty():
            action, outcome, details = self._results.get()
            if outcome == THERE and action.name and not isinstance(action, Ask):
                self.node.heard.note(action.name, time.time())
            reason = details.pop("reason", "")
            if isinstance(action, Synchronise):
                self._say_change(f"call to {action.name or action.address}", reason, logging.INFO)
            elif outcome != THERE:
                log.debug("%s: %s", action, reason)
            view = self._view = self.node.cache.view()
            verdicts, actions = self._mind.done(action, outcome, view, time.monotonic(), **details)
            self._write(verdicts)
            for each in actions:
                self._pool.submit(self._talk, each)

    def _write(self, verdicts: list[discovery.Verdict]) -> None:
        if not verdicts:
            return
        now = time.time()
        with self._patiently(), self.node.cache.locked() as view:
            for verdict in verdicts:
                if verdict.name in view.records:
                    changed = (view.bury if verdict.is_death else view.accuse)(verdict.name, now)
                    if changed:
                        log.info("%s is %s", verdict.name, view.records[verdict.name].status)
