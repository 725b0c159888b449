"""The listener: accepts, forks a child for each connection, reaps, keeps the discoverer alive, leaves cleanly.

It reads nothing that a stranger sent: black list and caps come before the fork, everything else is the child's. It has
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
from typing import NamedTuple

log = logging.getLogger("bdserver.listener")

# A discoverer that dies at once is started again after this many seconds, doubled each time, up to the second number.
RESTART_PAUSE, RESTART_PAUSE_MAX = 0.25, 30.0
# One that lived this long was well: the pauses begin anew.
WELL_SECONDS = 60.0
# How long SIGTERM lets running requests go on before it ends their children.
DRAIN_SECONDS = 10.0
# A spare child that can't be forked, or that died, is tried again after this many seconds.
SPARE_PAUSE = 1.0
# accept() without descriptors would spin: wait for children to end instead.
OUT_OF_DESCRIPTORS_PAUSE = 0.1

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)


class Parts:
    """What the listener runs, all functions:

    serve_child(sock, address)  in a child: one connection (address None: the local socket)
    run_discoverer(wake_descriptor, life_descriptor)  in the discoverer, until the life descriptor ends
    refresh()                   before each fork, and in a spare child that gets its connection: read anew what changed, so
                                that the child starts with everything
    rehearse()                  in a spare child, before it has a connection
    reload() -> complaints      on SIGHUP
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
        self.on_leaving: Callable = functions.get("on_leaving", lambda: None)
        self.pulse: Callable = functions.get("pulse", lambda children: None)


class _Spare(NamedTuple):
    """A child forked ahead: it waits for its connection at the other end of the line, and ends when that does."""

    pid: int
    line: socket.socket


class Listener:
    """The parent of all processes of a node."""

    def __init__(self, sockets: list[socket.socket], parts: Parts, children_max: int, children_per_address_max: int):
        self.sockets, self.parts = sockets, parts
        self.children_max, self.children_per_address_max = children_max, children_per_address_max
        self._children: dict[int, str] = {}
        self._per_address: Counter[str] = Counter()
        self._discoverer = 0
        self._discoverer_born = 0.0
        self._spare: _Spare | None = None
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
        return max(min(instants) - time.monotonic(), 0.0) if instants else None

    def _on_time(self) -> None:
        now = time.monotonic()
        if self._restart_at is not None and now >= self._restart_at and self._leaving_until is None:
            self._start_discoverer()
        if self._pulse_at is not None and now >= self._pulse_at:
            seconds = self.parts.pulse(len(self._children))
            self._pulse_at = None if seconds is None else now + seconds
        if self._leaving_until is not None and (not self._children or now >= self._leaving_until):
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
            pid = self._give_to_spare(sock) or self._fork_child(sock, address if isinstance(address, tuple) else None)
            if pid > 0:
                self._children[pid] = host
                self._per_address[host] += 1
        sock.close()

    def _may_have_a_child(self, host: str) -> bool:
        """Black list and caps; said once a second, since a flood of connections must not be one of lines."""
        if host != "local" and self.parts.is_refused(host):
            return False
        if len(self._children) < self.children_max and (
            host == "local" or self._per_address[host] < self.children_per_address_max
        ):
            return True
        if time.monotonic() - self._busy_said_at > 1.0:
            self._busy_said_at = time.monotonic()
            log.warning("too busy for %s: %d children, %d for it", host, len(self._children), self._per_address[host])
        return False

    def _fork_child(self, sock: socket.socket, address: tuple | None) -> int:
        self.parts.refresh()
        pid = self._fork()
        if pid == 0:
            self._become_child(lambda: self.parts.serve_child(sock, address))
        return pid

    # -- the spare child: forked while there is nothing else to do, so that the next caller does not wait for the fork

    def _fork_spare(self) -> None:
        if self._spare_at is None or time.monotonic() < self._spare_at:
            return
        self._spare_at = None
        self.parts.refresh()
        ours, theirs = socket.socketpair()
        pid = self._fork()
        if pid == 0:
            ours.close()
            self._become_child(lambda: self._wait_for_connection(theirs))
        theirs.close()
        if pid > 0:
            self._spare = _Spare(pid, ours)
        else:
            ours.close()
            self._spare_at = time.monotonic() + SPARE_PAUSE

    def _give_to_spare(self, sock: socket.socket) -> int:
        """Its pid, if there is one."""
        spare = self._let_go_spare()
        if spare is None:
            return 0
        try:
            socket.send_fds(spare.line, [b"!"], [sock.fileno()])
        except OSError:
            return 0
        finally:
            spare.line.close()
        return spare.pid

    def _let_go_spare(self) -> _Spare | None:
        spare, self._spare = self._spare, None
        if spare is not None and self._leaving_until is None:
            self._spare_at = time.monotonic()
        return spare

    def _drop_spare(self) -> None:
        """It ends when its line does. What it was forked with is old, or nobody will call any more."""
        spare = self._let_go_spare()
        if spare is not None:
            spare.line.close()

    def _wait_for_connection(self, line: socket.socket) -> None:
        self.parts.rehearse()
        _, descriptors, _, _ = socket.recv_fds(line, 1, 1)
        line.close()
        if not descriptors:
            return
        sock = socket.socket(fileno=descriptors[0])
        try:
            address = sock.getpeername() if sock.family != socket.AF_UNIX else None
        except OSError:  # it went away while it waited
            return
        self.parts.refresh()
        self.parts.serve_child(sock, address)

    def _fork(self) -> int:
        """fork(), with signals held back until both sides know who they are; -1 when there is no room for a process."""
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
        if self._spare is not None:
            self._spare.line.close()
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
        self.parts.refresh()
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
            if self._spare is not None and pid == self._spare.pid:
                self._drop_spare()
                self._spare_at = time.monotonic() + SPARE_PAUSE
            host = self._children.pop(pid, None)
            if host is not None:
                self._per_address[host] -= 1
                if not self._per_address[host]:
                    del self._per_address[host]

    def _reload(self) -> None:
        self._drop_spare()
        for complaint in self.parts.reload():
            log.error("SIGHUP: the old one stays: %s", complaint)
        log.info("SIGHUP: config, policy, black list and certificates read anew")
        if self._discoverer:
            os.kill(self._discoverer, signal.SIGHUP)

    def _leave(self) -> None:
        """Stop accepting, let running requests end. Idle children are told to hang up."""
        if self._leaving_until is not None:
            return
        log.info("leaving: %d children to finish", len(self._children))
        self.parts.on_leaving()
        self._leaving_until = time.monotonic() + DRAIN_SECONDS
        self._drop_spare()
        self._spare_at = None
        for sock in self.sockets:
            self._selector.unregister(sock)
            sock.close()
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _quit(self) -> None:
        self._is_over = True

    def _end_everybody(self) -> None:
        """Women and children first: whoever is still there is ended, then the mesh hears our last word."""
        signal.set_wakeup_fd(-1)
        self._drop_spare()
        for pid in [*self._children, *([self._discoverer] if self._discoverer else [])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for sock in self.sockets:
            sock.close()
        self.parts.say_goodbye()


def _note(number, frame):
    """The wake-up descriptor has it already; the loop acts."""
