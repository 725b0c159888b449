"""The listener: accepts, gives each connection to a child of its own, reaps, keeps the discoverer alive, leaves cleanly.

A child is forked for its connection or ahead of it, and is a spare for the next one when its caller has hung up. The listener
reads nothing that a stranger sent: black list and caps come before the fork, everything else is the child's. It has
no threads. Signal handlers only note; the loop acts. What a child and the discoverer do is handed in as functions, so
that this can be tested with a function that echoes.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import random
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable

log = logging.getLogger("bdserver.listener")

# A discoverer that dies at once is started again after this many seconds, doubled each time, up to the second number.
RESTART_PAUSE, RESTART_PAUSE_MAX = 0.25, 30.0
# One that lived this long was well: the pauses begin anew.
WELL_SECONDS = 60.0
# How long SIGTERM lets running requests go on before it ends their children.
DRAIN_SECONDS = 10.0
# A spare child that can't be forked, or that died, is tried again after this many seconds.
SPARE_PAUSE = 1.0
# A fork and its copied pages are most of what a connection costs, so a child whose caller has hung up is a spare again: so many
# at most, all but one for so many seconds, and each for so many connections, lest it grow.
SPARES_MAX, SPARE_SECONDS, CONNECTIONS_MAX = 8, 10.0, 200
# accept() without descriptors would spin: wait for children to end instead.
OUT_OF_DESCRIPTORS_PAUSE = 0.1

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)


class Parts:
    """What the listener runs, all functions:

    serve_child(sock, address)  in a child: one connection (address None: the local socket)
    run_discoverer(wake_descriptor, life_descriptor)  in the discoverer, until the life descriptor ends
    refresh()                   before each fork, and in a spare child that gets a connection: read anew what changed, so
                                that the child starts with everything
    rehearse()                  in a spare child, before it has a connection
    reload() -> complaints      on SIGHUP
    has_changed() -> bool       before each connection and fork: whether no child that was forked before may get another one
    say_goodbye()               once, when no request is running any more
    is_refused(host) -> bool    the black list
    on_ready()                  when the listener answers
    on_leaving()                when it stops answering
    pulse(children) -> seconds  from the loop, now and then: how long until it wants to be called again; None: never
    """

    def __init__(self, **functions: Callable):
        self.serve_child: Callable = functions["serve_child"]
        self.run_discoverer: Callable = functions["run_discoverer"]
        self.refresh: Callable = functions["refresh"]
        self.reload: Callable = functions["reload"]
        self.say_goodbye: Callable = functions["say_goodbye"]
        self.is_refused: Callable = functions["is_refused"]
        self.on_ready: Callable = functions["on_ready"]
        self.rehearse: Callable = functions.get("rehearse", lambda: None)
        self.has_changed: Callable = functions.get("has_changed", lambda: False)
        self.on_leaving: Callable = functions.get("on_leaving", lambda: None)
        self.pulse: Callable = functions.get("pulse", lambda children: None)


class _Child:
    """A child of ours, and our end of the line on which it gets connections and says that it has served one.

    `host`: its caller's, None while it is a spare; `generation`: how often all had been renewed when it was forked."""

    __slots__ = ("free_at", "generation", "host", "line", "pid")

    def __init__(self, pid: int, line: socket.socket, generation: int):
        self.pid, self.line, self.generation = pid, line, generation
        self.host: str | None = None
        self.free_at = time.monotonic()


class Listener:
    """The parent of all processes of a node."""

    def __init__(self, sockets: list[socket.socket], parts: Parts, children_max: int, children_per_address_max: int):
        self.sockets, self.parts = sockets, parts
        self.children_max, self.children_per_address_max = children_max, children_per_address_max
        self._children: dict[int, _Child] = {}
        self._spares: list[_Child] = []  # who became one last comes last, and is the first to get a connection
        self._per_address: Counter[str] = Counter()
        self._generation = 0
        self._discoverer = 0
        self._discoverer_born = 0.0
        self._spare_at: float | None = None
        self._restart_at: float | None = None
        self._restart_pause = RESTART_PAUSE
        self._leaving_until: float | None = None
        self._pulse_at: float | None = None
        self._is_over = False
        self._busy_said_at = 0.0
        # The discoverer's two pipes: children nudge it through the first, the second ends when this process does.
        self._wake_read, self.wake_write = os.pipe()
        self._life_read, self._life_write = os.pipe()
        os.set_blocking(self.wake_write, False)
        os.set_blocking(self._wake_read, False)
        self._selector = selectors.DefaultSelector()
        self._actions: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._leave,
            signal.SIGINT: self._leave,
            signal.SIGQUIT: self._quit,
            signal.SIGHUP: self._reload,
            signal.SIGCHLD: self._reap,
        }

    # -- the loop

    def run(self) -> None:
        """Until SIGTERM (running requests end first) or SIGQUIT (at once)."""
        signal_read, signal_write = os.pipe()
        os.set_blocking(signal_read, False)
        os.set_blocking(signal_write, False)
        signal.set_wakeup_fd(signal_write, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _note)
        for sock in self.sockets:
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ, self._accept)
        self._selector.register(signal_read, selectors.EVENT_READ, None)
        self._signal_descriptors = (signal_read, signal_write)
        gc.freeze()  # what is here now is never collected, so its pages stay shared with the children
        gc.enable()
        self._start_discoverer()
        self.parts.on_ready()
        self._pulse_at = self._spare_at = time.monotonic()
        while not self._is_over:
            events = self._selector.select(self._patience())
            for key, _ in events:
                if key.data is None:
                    self._act_on_signals(signal_read)
                else:
                    key.data(key.fileobj)
            self._on_time()
            if not events:
                self._fork_spare()
        self._end_everybody()

    def _patience(self) -> float | None:
        instants = [at for at in (self._restart_at, self._leaving_until, self._pulse_at, self._spare_at) if at is not None]
        instants += [self._spares[0].free_at + SPARE_SECONDS] if len(self._spares) > 1 else []
        return max(min(instants) - time.monotonic(), 0.0) if instants else None

    def _on_time(self) -> None:
        now = time.monotonic()
        if self._restart_at is not None and now >= self._restart_at and self._leaving_until is None:
            self._start_discoverer()
        if self._pulse_at is not None and now >= self._pulse_at:
            seconds = self.parts.pulse(self._busy())
            self._pulse_at = None if seconds is None else now + seconds
        if len(self._spares) > 1 and now >= self._spares[0].free_at + SPARE_SECONDS:
            self._dismiss(self._spares.pop(0))
        if self._leaving_until is not None and (not self._busy() or now >= self._leaving_until):
            self._is_over = True

    def _act_on_signals(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in dict.fromkeys(os.read(descriptor, 4096)):
                action = self._actions.get(number)
                if action is not None:
                    action()

    # -- connections

    def _accept(self, listening: socket.socket) -> None:
        try:
            sock, address = listening.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                log.error("can't accept: %s", error.strerror)
                time.sleep(OUT_OF_DESCRIPTORS_PAUSE)
            return
        host = address[0].removeprefix("::ffff:") if isinstance(address, tuple) else "local"
        if self._may_have_a_child(host):
            self._refresh_children()
            child = self._give_to_spare(sock) or self._fork_child(sock)
            if child is not None:
                child.host = host
                self._per_address[host] += 1
        sock.close()

    def _busy(self) -> int:
        """How many children have a connection."""
        return self._per_address.total()

    def _may_have_a_child(self, host: str) -> bool:
        """Black list and caps; said once a second, since a flood of connections must not be one of lines."""
        if host != "local" and self.parts.is_refused(host):
            return False
        if self._busy() < self.children_max and (host == "local" or self._per_address[host] < self.children_per_address_max):
            return True
        if time.monotonic() - self._busy_said_at > 1.0:
            self._busy_said_at = time.monotonic()
            log.warning("too busy for %s: %d children, %d for it", host, self._busy(), self._per_address[host])
        return False

    # -- children: one is forked while there is nothing else to do, so that the next caller does not wait for the fork

    def _fork_child(self, sock: socket.socket | None = None) -> _Child | None:
        """A child with this connection, or a spare one; None when there is no room for a process."""
        ours, theirs = socket.socketpair()
        pid = self._fork()
        if pid == 0:
            ours.close()
            self._become_child(lambda: self._live(theirs, sock))
        theirs.close()
        if pid < 0:
            ours.close()
            return None
        child = self._children[pid] = _Child(pid, ours, self._generation)
        self._selector.register(ours, selectors.EVENT_READ, lambda line: self._hear(child))
        return child

    def _fork_spare(self) -> None:
        if self._spare_at is None or time.monotonic() < self._spare_at:
            return
        self._spare_at = None
        if not self._spares:
            child = self._fork_child()
            if child is not None:
                self._spares.append(child)
            else:
                self._spare_at = time.monotonic() + SPARE_PAUSE

    def _give_to_spare(self, sock: socket.socket) -> _Child | None:
        """The spare that has the connection now, if there was one."""
        while self._spares:
            child = self._spares.pop()
            if not self._spares:
                self._want_spare(0.0)
            try:
                socket.send_fds(child.line, [b"!"], [sock.fileno()])
                return child
            except OSError:  # it has died
                self._dismiss(child)
        return None

    def _want_spare(self, pause: float) -> None:
        if self._leaving_until is None:
            self._spare_at = time.monotonic() + pause

    def _hear(self, child: _Child) -> None:
        """It has served its caller; or it ends, and the reaping will tell."""
        try:
            is_free = bool(child.line.recv(1))
        except OSError:
            is_free = False
        self._release(child)
        if is_free and len(self._spares) < SPARES_MAX and child.generation == self._generation and self._leaving_until is None:
            child.free_at = time.monotonic()
            self._spares.append(child)
        else:
            self._dismiss(child)

    def _release(self, child: _Child) -> None:
        if child.host is not None:
            self._per_address[child.host] -= 1
            if not self._per_address[child.host]:
                del self._per_address[child.host]
            child.host = None

    def _dismiss(self, child: _Child) -> None:
        """It ends when its line does."""
        if child.line.fileno() >= 0:
            self._selector.unregister(child.line)
            child.line.close()

    def _refresh_children(self) -> None:
        """What a child was forked with may be all that it ever learns: of two lists in a row it may find but the second."""
        if self.parts.has_changed():
            self._renew_children()

    def _renew_children(self) -> None:
        """Spares end, and whoever has a connection ends after it."""
        self._generation += 1
        self._dismiss_spares()

    def _dismiss_spares(self) -> None:
        while self._spares:
            self._dismiss(self._spares.pop())
        self._want_spare(0.0)

    def _live(self, line: socket.socket, sock: socket.socket | None) -> None:
        """A child's life: one connection after the other, as long as the listener wants it."""
        if sock is None:
            self.parts.rehearse()
        for left in reversed(range(CONNECTIONS_MAX)):
            if sock is None:
                sock = _connection_from(line)
                if sock is None:
                    return
                self.parts.refresh()
            with sock:
                self._serve(sock)
            sock = None
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if left:  # else no word of being free again: it ends, and what is sent to it would be lost
                try:
                    line.sendall(b"!")
                except OSError:  # the listener is gone
                    return

    def _serve(self, sock: socket.socket) -> None:
        try:
            address = sock.getpeername() if sock.family != socket.AF_UNIX else None
        except OSError:  # it went away while it waited
            return
        self.parts.serve_child(sock, address)

    def _fork(self) -> int:
        """fork(), after all has been read anew, and with signals held back until both sides know who they are; -1 when there
        is no room for a process."""
        self._refresh_children()
        self.parts.refresh()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError as error:
            log.error("can't fork: %s", error.strerror)
            pid = -1
        if pid == 0:
            self._undo_parent()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return pid

    def _undo_parent(self) -> None:
        """All that a child must not have of its parent: signals, wake-up pipe, listening sockets, life line, dice."""
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        for sock in self.sockets:
            sock.close()
        for descriptor in (*self._signal_descriptors, self._life_write):
            os.close(descriptor)
        for child in self._children.values():
            child.line.close()
        random.seed()

    def _become_child(self, live: Callable[[], None]) -> None:
        os.close(self._life_read)
        os.close(self._wake_read)
        status = 1
        try:
            live()
            status = 0
        except BaseException:
            log.exception("a child met a bug")
        finally:
            os._exit(status)

    # -- the discoverer

    def _start_discoverer(self) -> None:
        self._restart_at = None
        self._discoverer_born = time.monotonic()
        pid = self._fork()
        if pid == 0:
            status = 1
            try:
                self.parts.run_discoverer(self._wake_read, self._life_read)
                status = 0
            except BaseException:
                log.exception("the discoverer met a bug")
            finally:
                os._exit(status)
        elif pid > 0:
            self._discoverer = pid
        else:
            self._restart_later()

    def _restart_later(self) -> None:
        if time.monotonic() - self._discoverer_born > WELL_SECONDS:
            self._restart_pause = RESTART_PAUSE
        log.error("the discoverer ended, starting it again in %.2f s", self._restart_pause)
        self._restart_at = time.monotonic() + self._restart_pause
        self._restart_pause = min(2 * self._restart_pause, RESTART_PAUSE_MAX)

    # -- signals

    def _reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._discoverer:
                self._discoverer = 0
                if self._leaving_until is None and not self._is_over:
                    self._restart_later()
            child = self._children.pop(pid, None)
            if child is not None:
                self._bury(child)

    def _bury(self, child: _Child) -> None:
        self._release(child)
        self._dismiss(child)
        if child in self._spares:
            self._spares.remove(child)
        if not self._spares and self._spare_at is None:
            self._want_spare(SPARE_PAUSE)

    def _reload(self) -> None:
        self._renew_children()
        for complaint in self.parts.reload():
            log.error("SIGHUP: the old one stays: %s", complaint)
        log.info("SIGHUP: config, policy, black list and certificates read anew")
        if self._discoverer:
            os.kill(self._discoverer, signal.SIGHUP)

    def _leave(self) -> None:
        """Stop accepting, let running requests end. Idle children are told to hang up."""
        if self._leaving_until is not None:
            return
        log.info("leaving: %d children to finish", self._busy())
        self.parts.on_leaving()
        self._leaving_until = time.monotonic() + DRAIN_SECONDS
        self._dismiss_spares()
        self._spare_at = None
        for sock in self.sockets:
            self._selector.unregister(sock)
            sock.close()
        for pid, child in self._children.items():
            if child.host is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def _quit(self) -> None:
        self._is_over = True

    def _end_everybody(self) -> None:
        """Women and children first: whoever is still there is ended, then the mesh hears our last word."""
        signal.set_wakeup_fd(-1)
        for pid in [*self._children, *([self._discoverer] if self._discoverer else [])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for sock in self.sockets:
            sock.close()
        self.parts.say_goodbye()


def _connection_from(line: socket.socket) -> socket.socket | None:
    """The next connection; None at the end of the line."""
    try:
        _, descriptors, _, _ = socket.recv_fds(line, 1, 1)
    except ConnectionResetError:  # a last word of ours was never heard
        return None
    return socket.socket(fileno=descriptors[0]) if descriptors else None


def _note(number, frame):
    """The wake-up descriptor has it already; the loop acts."""
