"""The listener: accepts, gives each connection to a child of its own, reaps, keeps the discoverer alive, leaves cleanly.

It reads nothing that a stranger sent, waits for no lock, and once it runs, only a signal ends it: without descriptors,
memory or processes it closes the caller, waits a little and says so. It has no threads.

Leaves to others: how the loop survives whatever it calls (`loop`), how signals become its events (`signals`), how many children
there are, for whom and how long (`children`), when the discoverer is started again (`supervised`), and how a process lives that
it has forked (`forked`). What children and the discoverer do is handed in as functions, so that this can be tested with a
function that echoes.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import select
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from bdserver.processes.children import Caller, Child, Kind, Limits, Pool, State
from bdserver.processes.forked import Address, live_and_die, serve_callers
from bdserver.processes.loop import NO_ROOM, SAY_SECONDS, Loop
from bdserver.processes.signals import SIGNALS, Signals, kill
from bdserver.processes.supervised import Supervised

log = logging.getLogger("bdserver.listener")

# How long SIGTERM lets running requests go on before it ends their children.
DRAIN_SECONDS = 10.0
# Without descriptors accept() would spin: so long the callers wait in the kernel's backlog, and children may end meanwhile.
NO_ROOM_PAUSE = 0.1
# SIGHUP may come while somebody writes what it reads, be it from logrotate: it waits for that, and so long at most.
REST_SECONDS_MAX = 5.0
# Whether each listening socket is still there is looked at this often: somebody may have deleted the local one's file.
SOCKETS_SECONDS = 2.0


def _nothing() -> None:
    """Stands for a function that is not handed in."""


def _no_complaints() -> Iterable[str]:
    return ()


class Runs(NamedTuple):
    """The functions that the listener runs, and in which process."""

    # In the listener, where nothing may wait: for a lock, for the network, for a slow parser.
    sockets: Callable[[], Sequence[socket.socket]]  # those that listen now; asked again and again
    close_sockets: Callable[[], None]
    is_refused: Callable[[str], bool] = lambda host: False  # the black list
    has_changed: Callable[[], bool] = lambda: False  # since when it was last asked: no child from before serves anybody more
    refresh: Callable[[], None] = _nothing  # before each fork: read anew what changed; a spare that gets a connection does, too
    rests_in: Callable[[], float] = lambda: 0.0  # seconds until what SIGHUP reads is believed whole
    reload: Callable[[], Iterable[str]] = _no_complaints  # on SIGHUP; what is wrong, a line each
    on_ready: Callable[[], None] = _nothing  # the listener answers
    on_leaving: Callable[[], None] = _nothing  # it does no longer; running requests end
    pulse: Callable[[int], float | None] = lambda busy: None  # now and then; the seconds until it wants to be called again
    say_goodbye: Callable[[], None] = _nothing  # once, when no other process is left
    # In a forked process.
    undo: Callable[[], None] = _nothing  # at first: let go of what is the parent's, beside what the listener knows of
    rehearse: Callable[[], None] = _nothing  # in a child forked ahead, before it is a spare
    serve: Callable[[socket.socket, Address | None], None] = lambda sock, address: None  # one connection; None: a local one
    close_ears: Callable[[], None] = _nothing  # in a child: what only the discoverer listens on
    discover: Callable[[int, int], None] = lambda wake, life: None  # in the discoverer, until the life descriptor ends
    beat: Callable[[], float | None] = lambda: None  # in the listener: when the discoverer's loop has turned last
    accepted: Callable[[float], None] = lambda clock: None  # in the listener: somebody was accepted, by the monotonic clock


class Listener:
    """The parent of all processes of a node."""

    def __init__(self, runs: Runs, limits: Limits):
        self._runs = runs
        self._pool = Pool(limits)
        self._discoverer = Supervised()
        self._signals = Signals()
        self._loop = Loop(self._wait_for_room)
        self._sockets: list[socket.socket] = []  # on which connections are accepted now
        self._ends_at = math.inf  # finite: it is leaving
        self._reloads_by = math.inf  # finite: SIGHUP has come, and waits for files that are being written
        self._actions: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._leave,
            signal.SIGINT: self._leave,
            signal.SIGQUIT: self._quit,
            signal.SIGHUP: self._reload,
            signal.SIGCHLD: self._reap,
        }

    @property
    def life_read(self) -> int:
        """What a forked process finds at its end when the listener is gone."""
        return self._discoverer.life_read

    @property
    def wake_write(self) -> int:
        """Where children nudge the discoverer."""
        return self._discoverer.wake_write

    # -- the loop

    def run(self) -> None:
        """Until SIGTERM (running requests end first) or SIGQUIT (at once)."""
        self._signals.open()
        self._loop.selector.register(self._signals.read, selectors.EVENT_READ, self._act_on_signals)
        self._look_at_sockets()
        gc.freeze()  # what is here now is never collected, so its pages stay shared with the children
        gc.enable()
        self._start_discoverer()
        self._look_at_discoverer()
        self._loop.call_later(SOCKETS_SECONDS, self._look_around)
        self._loop.guarded(self._runs.on_ready)
        self._pool.postpone(time.monotonic())  # a child forked ahead, while the discoverer makes us known
        self._loop.call_later(0.0, self._pulse)
        while not self._is_over():  # from here on we must not die: whatever fails is closed, said, and tried again
            self._loop.guarded(self._turn)
        self._end_everybody()

    def _turn(self) -> None:
        instants = (self._ends_at, self._pool.spare_at(), self._pool.expires_at())
        is_quiet = not self._loop.wait(min(at for at in instants if at is not None))
        for child in self._pool.expired(time.monotonic()):
            self._close_line(child)
        if is_quiet:  # nothing else to do: the next caller shall not wait for this fork
            self._fork_spare()

    def _is_over(self) -> bool:
        return time.monotonic() >= self._ends_at or (self._is_leaving and not self._pool.busy)

    @property
    def _is_leaving(self) -> bool:
        return self._ends_at < math.inf

    def _pulse(self) -> None:
        self._loop.call_later(SAY_SECONDS, self._pulse)  # this first: also if it fails now, it is called again
        seconds = self._runs.pulse(self._pool.busy)
        if seconds is None:
            self._loop.cancel(self._pulse)
        else:
            self._loop.call_later(seconds, self._pulse)

    # -- connections

    def _look_at_sockets(self) -> None:
        """Accept on the sockets that are there now; one of them may have been made anew."""
        self._loop.call_later(SOCKETS_SECONDS, self._look_at_sockets)
        wanted = self._runs.sockets()
        for sock in [each for each in self._sockets if each not in wanted]:
            self._stop_accepting(sock)
        for sock in [each for each in wanted if each not in self._sockets]:
            sock.setblocking(False)
            self._loop.selector.register(sock, selectors.EVENT_READ, self._accept)
            self._sockets.append(sock)

    def _stop_accepting(self, sock: socket.socket) -> None:
        self._sockets.remove(sock)
        with contextlib.suppress(KeyError, ValueError, OSError):  # it may be closed already
            self._loop.selector.unregister(sock)

    def _wait_for_room(self, error: OSError) -> None:
        """Leave the listening sockets alone for a moment: whoever calls now waits in the kernel."""
        self._loop.seldom(log.error, "no room for a connection: %s", error.strerror or error)
        for sock in list(self._sockets):
            self._stop_accepting(sock)
        if not self._is_leaving:
            self._loop.call_later(NO_ROOM_PAUSE, self._look_at_sockets)

    def _accept(self, listening: socket.socket) -> None:
        try:
            sock, address = listening.accept()
        except OSError as error:
            if error.errno in NO_ROOM and not isinstance(error, BlockingIOError):
                raise
            return  # the caller went away, or another process was quicker
        self._runs.accepted(time.monotonic())
        with sock:
            if _has_hung_up(sock):  # while it waited in the queue; so who comes and goes costs no fork
                return
            caller = _caller_of(sock, address)
            if self._may_come(caller):
                self._hand_over(sock, caller)

    def _may_come(self, caller: Caller) -> bool:
        """Black list and caps: before the fork, and before a byte is read."""
        if caller.kind is Kind.TLS and self._runs.is_refused(caller.name):
            return False
        if self._pool.has_room(caller):
            return True
        text = "too busy for %s: %d children, %d for it"
        self._loop.seldom(log.warning, text, caller.name, self._pool.busy, self._pool.count(caller))
        return False

    def _hand_over(self, sock: socket.socket, caller: Caller) -> None:
        """To a spare, if there is one that lives; else to a child that is forked now."""
        self._renew_if_changed()
        while (child := self._pool.next_spare()) is not None:
            try:
                socket.send_fds(child.line, [b"!"], [sock.fileno()])
            except OSError:  # it has died
                self._lose(child)
            else:
                self._pool.give(child, caller, time.monotonic())
                return
        self._fork_child(sock, caller)

    # -- children

    def _fork_spare(self) -> None:
        at, now = self._pool.spare_at(), time.monotonic()
        if at is None or now < at:
            return
        self._pool.postpone(now)  # this first: also if it fails, the next attempt comes later
        self._fork_child()

    def _fork_child(self, sock: socket.socket | None = None, caller: Caller | None = None) -> None:
        """A child for this connection, or ahead of one; OSError when there is no room for it."""
        ours, theirs = socket.socketpair()

        def live() -> None:
            ours.close()
            self._live(theirs, sock)

        with theirs:
            try:
                ours.setblocking(False)
                self._loop.selector.register(ours, selectors.EVENT_READ)  # before the fork, since it may fail
                pid = self._fork(live)
            except BaseException:
                self._forget_line(ours)
                raise
        child = self._pool.add(pid, ours, time.monotonic(), caller)
        self._loop.selector.modify(ours, selectors.EVENT_READ, lambda line: self._hear(child))

    def _hear(self, child: Child) -> None:
        """It is ready for its next caller; or its line has ended."""
        if child.state is State.DISMISSED:  # in this very turn of the loop
            return
        try:
            said = child.line.recv(1)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._lose(child)
        elif not self._pool.ready(child, time.monotonic()):
            self._close_line(child)

    def _lose(self, child: Child) -> None:
        self._pool.hung_up(child, time.monotonic())
        self._close_line(child)

    def _close_line(self, child: Child) -> None:
        """A child ends when its line does."""
        self._forget_line(child.line)

    def _forget_line(self, line: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):  # closed already
            self._loop.selector.unregister(line)
        line.close()

    def _look_around(self) -> None:
        """No child is kept long that has not seen the newest change, also while nobody calls."""
        self._loop.call_later(SOCKETS_SECONDS, self._look_around)
        self._renew_if_changed()

    def _renew_if_changed(self) -> None:
        """If the list of revoked certificates changes twice in a row, a child forked before may see only the second
        version; so all children are renewed at each change."""
        if self._runs.has_changed():
            self._renew_children()

    def _renew_children(self) -> None:
        for child in self._pool.renew(time.monotonic()):
            self._close_line(child)

    # -- in a forked process

    def _fork(self, live: Callable[[], None]) -> int:
        """Fork a process that lives so, after all has been read anew; OSError when there is no room for one."""
        self._loop.guarded(self._renew_if_changed)  # this first: reading anew makes the change our own
        self._loop.guarded(self._runs.refresh)  # what can't be read now, the process reads when it needs it
        # A signal that arrives in the new process before it has undone its parent would go down the parent's wake-up pipe.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                live_and_die(self._undo_parent, live)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return pid

    def _undo_parent(self) -> None:
        """All that a forked process must not have of its parent: handlers and wake-up pipe (its signals would be taken for
        the parent's), listening sockets (they would outlive it), the other children's lines and the discoverer's life line
        (whose ends say that the parent is gone); and by what was handed in, locks and dice of one's own (`random` itself is
        shaken by Python)."""
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._signals.close()
        self._loop.selector.close()
        self._runs.close_sockets()
        for child in self._pool.children():
            child.line.close()
        os.close(self._discoverer.life_write)
        self._runs.undo()
        # At last: now they are ours. SIGHUP waits until the process listens for it, which it must not miss, nor die of.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number for number in SIGNALS if number != signal.SIGHUP])

    def _live(self, line: socket.socket, sock: socket.socket | None) -> None:
        self._discoverer.forget()
        self._runs.close_ears()
        if sock is None:
            self._runs.rehearse()
        serve_callers(line, sock, self._pool.limits.connections, self._runs.refresh, self._runs.serve)

    # -- the discoverer

    def _start_discoverer(self) -> None:
        self._discoverer.born_at = time.monotonic()
        try:
            self._discoverer.pid = self._fork(self._discoverer.life_of(self._runs.discover))
        except OSError as error:
            log.error("can't fork: %s", error.strerror)
            self._restart_discoverer()

    def _restart_discoverer(self) -> None:
        pause = self._discoverer.pause_after_its_end(time.monotonic())
        log.error("the discoverer ended, starting it again in %.2f s", pause)
        self._loop.call_later(pause, self._start_discoverer)

    def _look_at_discoverer(self) -> None:
        self._loop.call_later(SOCKETS_SECONDS, self._look_at_discoverer)
        if self._discoverer.is_hung(self._runs.beat()):
            log.error("the discoverer hangs: ending it")
            kill(self._discoverer.pid, signal.SIGKILL)

    # -- signals

    def _act_on_signals(self, descriptor: int) -> None:
        for number in self._signals.noted():
            if number in self._actions:
                self._loop.guarded(self._actions[number])

    def _reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._discoverer.pid:
                self._discoverer.pid = 0
                if not self._is_leaving:
                    self._restart_discoverer()
            elif (child := self._pool.ended(pid, time.monotonic())) is not None:
                self._close_line(child)

    def _reload(self) -> None:
        now, seconds = time.monotonic(), self._runs.rests_in()
        self._reloads_by = min(self._reloads_by, now + REST_SECONDS_MAX)
        if seconds > 0 and now < self._reloads_by:
            self._loop.call_later(min(seconds, self._reloads_by - now), self._reload)
            return
        self._loop.cancel(self._reload)
        self._reloads_by = math.inf
        self._renew_children()
        self._loop.guarded(self._read_anew)
        for pid in [self._discoverer.pid, *(child.pid for child in self._pool.children(State.SERVING))]:
            if pid:
                kill(pid, signal.SIGHUP)
        if not self._is_leaving:
            self._look_at_sockets()

    def _read_anew(self) -> None:
        complaints = list(self._runs.reload())
        for complaint in complaints:
            log.error("SIGHUP: the old one stays: %s", complaint)
        but = f", but for {len(complaints)} that stay as they were" if complaints else ""
        log.info("SIGHUP: config, policy, black list and certificates read anew%s", but)

    def _leave(self) -> None:
        """Stop accepting, let running requests end. Idle children are told to hang up."""
        if self._is_leaving:
            return
        log.info("leaving: %d children to finish", self._pool.busy)
        self._ends_at = time.monotonic() + DRAIN_SECONDS  # this first: whatever fails below, we leave
        self._loop.cancel(self._start_discoverer)
        self._loop.cancel(self._look_at_discoverer)
        self._loop.cancel(self._look_around)
        self._loop.cancel(self._look_at_sockets)
        self._loop.guarded(self._runs.on_leaving)
        for sock in list(self._sockets):
            self._stop_accepting(sock)
        self._runs.close_sockets()
        for child in self._pool.close(time.monotonic()):
            self._close_line(child)
        for child in self._pool.children(State.SERVING):
            kill(child.pid, signal.SIGTERM)

    def _quit(self) -> None:
        self._ends_at = 0.0

    def _end_everybody(self) -> None:
        """Women and children first: whoever is still there is ended, then the mesh hears our last word."""
        signal.set_wakeup_fd(-1)
        for pid in [*(child.pid for child in self._pool.children()), self._discoverer.pid]:
            if pid:
                kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        self._runs.close_sockets()
        self._loop.guarded(self._runs.say_goodbye)


def _has_hung_up(sock: socket.socket) -> bool:
    """Whether nobody is there to read an answer: of TCP that is a reset, since whoever says no more may still read."""
    poll = select.poll()
    poll.register(sock, 0)  # what is told in any case: an error, a hang-up
    return bool(poll.poll(0))


def _caller_of(sock: socket.socket, address: Any) -> Caller:
    """The caller on this socket, as far as the kernel knows."""
    if sock.family != socket.AF_UNIX:
        return Caller(Kind.TLS, address[0].removeprefix("::ffff:"))  # an IPv4 address, as a socket for both shows it
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return Caller(Kind.OWN if uid in (0, os.geteuid()) else Kind.LOCAL, f"user {uid}")
