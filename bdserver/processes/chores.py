"""What the discoverer does for its own node beside gossip: it looks after the services here, and says what needs attention.

It counts the hits in the web server's log, weighs the services, has their health looked at, trims hit logs, keeps our own
record as it should be, drops records that are believed no longer, writes down whom we have heard from, says warnings, and has
the program of on_change told what changed. Each chore is behind a guard of its own: one that fails is said once, and the others
and the loop go on. How each is done is the business of the modules in files/, of health, doubts and hook.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable

from bdserver.core import membership
from bdserver.core.address import split_address
from bdserver.core.attention import LAG_SECONDS, Severity
from bdserver.core.membership import ALIVE, DEAD, SUSPECT, Status
from bdserver.core.ticks import following
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View
from bdserver.errors import BadConfig, BDError, NoSpace
from bdserver.files import accesslog
from bdserver.files.accesslog import AccessLog
from bdserver.files.bdcert import Service
from bdserver.processes import facts
from bdserver.processes.copying import Copying
from bdserver.processes.counters import STEP_SECONDS
from bdserver.processes.describing import Told, describe
from bdserver.processes.doubts import Doubts
from bdserver.processes.health import Health
from bdserver.processes.heartbeat import Heartbeat
from bdserver.processes.hook import Hook, Sights
from bdserver.processes.node import Node
from bdserver.processes.past import Past

# How often we look at our own services folder, weight and complaints.
LOOK_SECONDS = 1.0
HEALTH_SECONDS = 5.0
TRIM_SECONDS = 20.0
# Of what changes have left, that is what lies there for an hour.
SWEEP_SECONDS = 600.0
# More states than any node has; a thing that has a new name each time must not fill our memory.
STATES_MAX = 1000
# Of why a chore fails, STATUS tells this much.
WORDS_CHARACTERS_MAX = 300

log = logging.getLogger("bdserver.discoverer")


class States:
    """Says the state of a thing in the log when it changes, not each time that it is seen."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def say(self, what: str, state: str, level: int = logging.ERROR, error: BaseException | None = None) -> bool:
        """The thing `what` is in this state, "" when it is well; whether that is a change. `error`: show where it arose."""
        if self._said.get(what, "") == state:
            return False
        log.log(level if state else logging.INFO, "%s", state or f"{what}: well again", exc_info=error)
        if len(self._said) >= STATES_MAX:
            self._said.clear()
        self._said[what] = state
        return True


class Chore(NamedTuple):
    """Something to be done every so often, at this wall clock time."""

    what: str
    seconds: float
    do: Callable[[float], None]


class Chores:
    """All chores, and when each is due: from `tick_at` on, with whatever else the loop does every second, since each turn of it
    has its price. Only the discoverer's loop calls it; what the thread of `Health` has to say comes
    through `call`, which has the loop do something soon."""

    def __init__(
        self,
        node: Node,
        states: States,
        call: Callable[[Callable[[], None]], None],
        heartbeat: Heartbeat,
        tick_at: float = 0.0,
        renew: Callable[[float], None] = lambda wall: None,
    ) -> None:
        self.node, self.states, self.call = node, states, call
        self.heartbeat = heartbeat
        self.weight = 0.0
        self._weights: dict[str, float] = {}
        self._lag = 0.0  # the most since it was written down last
        self._health = Health(lambda name, why: call(lambda: self._say_health(name, why)))
        self._looking: threading.Thread | None = None
        self._looked_at: frozenset[tuple[str, str, str]] = frozenset()  # name, how, where
        self._doubts = Doubts(node)
        self.copying = Copying(node, call, self.look_now)
        self._access_log: AccessLog | None = None
        self._access_settings = ("", "")
        self._is_lonely = False
        self._sights, self._hook = Sights(), Hook()
        self._statuses: dict[str, Status] = {}
        self._hook_failing: tuple[str, ...] = ()
        self._past = Past(node)
        self._failing: dict[str, str] = {}  # chore: why, since it was tried last
        # In this order: what was counted is weighed, and what was weighed goes into our record.
        self._chores = (
            Chore("the access log", LOOK_SECONDS, self._count_accesses),
            Chore("the weight of our services", LOOK_SECONDS, self._weigh),
            Chore("the health of our services", HEALTH_SECONDS, self._look_at_health),
            Chore("the health of what is new here", LOOK_SECONDS, self._look_at_new_health),
            Chore("copies and their editions", LOOK_SECONDS, self._copy),
            Chore("trimming hit logs", TRIM_SECONDS, self._trim),
            Chore("what changes have left", SWEEP_SECONDS, self._sweep),
            Chore("our certificate", LOOK_SECONDS, renew),
            Chore("our own record", LOOK_SECONDS, self._describe),
            Chore("records whose certificates count no longer", LOOK_SECONDS, self._drop_doubted),
            Chore("whom we have heard from", LOOK_SECONDS, self._write_heard),
            Chore("warnings", LOOK_SECONDS, self._say_warnings),
            Chore("company", LOOK_SECONDS, self._say_if_lonely),
            Chore("on_change", LOOK_SECONDS, self._tell_changes),
            Chore("counting", LOOK_SECONDS, self._count),
            Chore("the time line", LOOK_SECONDS, lambda wall: self._past.turn(wall, self.weight)),
            Chore("rates", STEP_SECONDS, lambda wall: self.node.counters.step()),
        )
        self._due_at = dict.fromkeys(self._chores, tick_at)
        self._is_urgent = True  # all are done once at the start

    def due(self, clock: float, wall: float) -> None:
        """Do those whose time has come."""
        is_urgent, self._is_urgent = self._is_urgent, False
        for chore in self._chores:
            is_due = clock >= self._due_at[chore]
            if is_due:
                self._due_at[chore] = following(self._due_at[chore], chore.seconds, clock)
            if is_due or is_urgent:
                self._guarded(chore, wall)
        try:
            uncounted = (self._access_log.complaint,) if self._access_log and self._access_log.complaint else ()
            self.node.heard.tell((*uncounted, *self._failing.values(), *self.copying.failing(), *self._hook_failing))
        except Exception as error:
            self.states.say("what fails", f"telling what fails: a bug: {error!r}", error=error)

    def notice(self, view: View, clock: float, wall: float) -> None:
        """The view may be another one: what follows for our copies is not put off until their second has passed."""
        self._guarded(Chore("copies, by the news", 0.0, lambda wall: self.copying.notice(view, clock, wall)), wall)

    def late(self, seconds: float) -> None:
        """The loop was so late."""
        self._lag = max(self._lag, seconds)

    def next_at(self) -> float:
        """When the next one will be due."""
        return 0.0 if self._is_urgent else min(self._due_at.values())

    def look_now(self) -> None:
        """Something has changed: all are to be done once more, beside their time."""
        self._is_urgent = True

    def _guarded(self, chore: Chore, wall: float) -> None:
        try:
            chore.do(wall)
        except BadConfig as error:
            self._fails(chore, str(error), logging.WARNING)
        except BDError as error:  # the cache is locked too long: skip this turn (as the original did)
            self._fails(chore, f"skipping a turn: {error}", logging.WARNING)
        except Exception as error:
            self._fails(chore, f"a bug: {error!r}", logging.ERROR, error)
        else:
            self._failing.pop(chore.what, None)
            self.states.say(chore.what, "")

    def _fails(self, chore: Chore, why: str, level: int, error: BaseException | None = None) -> None:
        """To the log once, and to STATUS as long as it is so."""
        line = f"{chore.what}: {why}"
        self._failing[chore.what] = line[:WORDS_CHARACTERS_MAX]
        self.states.say(chore.what, line, level, error)

    # -- the chores

    def _count_accesses(self, wall: float) -> None:
        """The web server's log, if it is to be counted, into our hit logs."""
        settings = self.node.settings
        if (settings.access_log, settings.access_log_format) != self._access_settings:
            self._access_settings = settings.access_log, settings.access_log_format
            self._access_log = AccessLog(*self._access_settings) if settings.access_log else None
        if self._access_log is None:
            return
        hits = collections.defaultdict(list)
        paths = accesslog.paths_of(self._urls())
        for service, caller, at in self._access_log.hits(paths, wall):
            hits[service].append((caller, at))
        self.states.say("access_log", self._access_log.complaint)
        for service, calls in hits.items():
            try:
                self.node.hitlog.extend(service, calls)
            except NoSpace as error:
                log.error("%d hits on %s go uncounted: %s", len(calls), service, error)

    def _urls(self) -> dict[str, str]:
        """name -> URL of every service here."""
        own = self.node.cache.view().own
        return {name: membership.service_url(own, name, each.url) for name, each in self.node.services.all().items()}

    def _weigh(self, wall: float) -> None:
        self.node.services.look()
        self._weights = self.node.load.weigh(wall)
        self.weight = math.fsum(self._weights.values())

    def _copy(self, wall: float) -> None:
        self.copying.due(self._weights, time.monotonic(), wall)

    def _look_at_health(self, wall: float) -> None:
        """In a thread, and not while the last look waits for somebody who hangs."""
        if self._looking is not None and self._looking.is_alive():
            return
        host, _ = split_address(self.node.cache.view().own.address)
        asked = self._asked_for_health()
        self._looked_at = _ways(asked)
        if not asked and not self._health.sick:
            if self._health.sick is None:  # what the record says is of another life
                self._health.look([], host, self.node.settings.axis_port)
            return
        look = threading.Thread(target=self._health.look, args=(asked, host, self.node.settings.axis_port), daemon=True)
        self._looking = look
        look.start()

    def _look_at_new_health(self, wall: float) -> None:
        """What has just come is named as soon as it is here: it does not wait for its turn."""
        if not _ways(self._asked_for_health()) <= self._looked_at:
            self._look_at_health(wall)

    def _asked_for_health(self) -> list[tuple[Service, str]]:
        urls = self._urls()
        return [(each, urls[name]) for name, each in self.node.services.all().items() if each.health != "none"]

    def _say_health(self, name: str, why: str) -> None:
        if self.states.say(f"health of {name}", why):
            self.look_now()

    def _trim(self, wall: float) -> None:
        for name in self.node.services.all():
            with contextlib.suppress(OSError, BDError):  # a log that is not trimmed now is at the next turn
                self.node.hitlog.trim(name, wall, self.node.settings.hit_log_bytes)

    def _sweep(self, wall: float) -> None:
        """In a thread: an old edition may be a large tree."""
        threading.Thread(target=self.node.services.sweep, name="sweep", daemon=True).start()

    def _describe(self, wall: float) -> None:
        """Our record, brought up to date only when it would differ: a quiet node writes nothing."""
        view, sick = self.node.cache.view(), self._health.sick
        if self.heartbeat.is_hung:  # its services can't be had, whatever their web server says
            sick = frozenset(self.node.services.all())
        needs_expiry = view.copy().expire(wall)
        if not needs_expiry and not describe(self.node, view.copy(), wall, Told(unhealthy=sick, idle=self.copying.idle)):
            return
        with self.node.cache.locked() as fresh:
            describe(self.node, fresh, wall, Told(unhealthy=sick, idle=self.copying.idle))
            fresh.expire(wall)

    def _drop_doubted(self, wall: float) -> None:
        gone = self._doubts.gone(self.node.cache.view(), wall)
        if not gone:
            return
        try:
            with self.node.cache.locked() as view:
                for name, why in gone.items():
                    if view.forget(name):
                        log.warning("%s is known no longer: %s", name, why)
        except BDError:
            self._doubts.look_again()
            raise

    def _write_heard(self, wall: float) -> None:
        if self.node.heard.write(set(self.node.cache.view().records), self._lag, wall):
            self._lag = 0.0

    def _say_warnings(self, wall: float) -> None:
        """Each once; a certificate's end at 30, 7 and 1 days, and again after a restart."""
        for finding in facts.findings(self.node, self.node.cache.view(), wall):
            if finding.lasts:
                level = logging.INFO if finding.severity is Severity.NOTE else logging.ERROR
                self.states.say(finding.line, finding.line, level)
        is_late = self.node.heard.report().lag > LAG_SECONDS
        self.states.say("the loop", f"the discoverer's loop is more than {LAG_SECONDS} s late" * is_late, logging.WARNING)

    def _say_if_lonely(self, wall: float) -> None:
        is_lonely = not self.node.cache.view().others_there()
        if is_lonely != self._is_lonely:
            log.info("lonely: nobody to synchronise with" if is_lonely else "no longer lonely")
        self._is_lonely = is_lonely

    def _tell_changes(self, wall: float) -> None:
        """To the program of `on_change`; why its last run failed stays in STATUS until one does not."""
        settings, node = self.node.settings, self.node
        if settings.on_change:
            self._hook.tell(self._sights.changes(node, node.cache.view(), wall))
        else:
            self._sights = Sights()
        about = {"node": node.name, "mesh": node.mesh, "config": settings.path}
        self._hook.turn(settings.on_change, settings.on_change_seconds, about)
        complaint = self._hook.complaint if settings.on_change else ""
        self.states.say("the program of on_change", complaint)
        self._hook_failing = (complaint,) if complaint else ()

    def _count(self, wall: float) -> None:
        """Deaths and suspicions, as the view has them now; and what this process has counted since."""
        before, counters = self._statuses, self.node.counters
        self._statuses = {record.name: record.status for record in self.node.cache.view().records.values()}
        for name, status in self._statuses.items():
            self._count_change(before.get(name, status), status)
        counters.flush()

    def judged(self, name: str, status: Status) -> None:
        """Our own verdict on a node, counted at once: it may be refuted before the next look."""
        self._count_change(self._statuses.get(name, ALIVE), status)
        self._statuses[name] = status

    def _count_change(self, before: Status, after: Status) -> None:
        if before == after:
            return
        if after == DEAD:
            self.node.counters.add("deaths")
        elif after == SUSPECT:
            self.node.counters.add("suspicions", "raised")
        elif after == ALIVE and before == SUSPECT:
            self.node.counters.add("suspicions", "false")

    def end(self) -> None:
        """The node ends."""
        self._hook.end()
        with contextlib.suppress(BDError):  # nobody is there any more who could hear of it
            self._past.end()


def _ways(asked: list[tuple[Service, str]]) -> frozenset[tuple[str, str, str]]:
    """Of each, how it is asked and where."""
    return frozenset((each.name, each.health, url) for each, url in asked)
