"""The embedded web server beside a node (`web=embedded`): a process of its own, under an account of its own.

Services come from the mesh, and a program among them must not be able to read this node's key: programs are run only where the
daemon is started as root, under `web_user`, for whom the server's memory is closed (PR_SET_DUMPABLE). Else files alone are
served. Its ports are had before the start, so that one that is taken is a line then. It ends when no process of
the node is left, and is started anew when it dies. What is called is counted by the mesh, as ever.
"""

from __future__ import annotations

import os
import pwd
import select
import signal
import socket
import threading
from collections.abc import Callable

import setproctitle
from daemon.daemon import close_all_open_files

from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig, BDError
from bdserver.files.settings import EMBEDDED, Settings
from bdserver.processes import startup
from bdserver.processes.sockets import addresses, tcp_socket

# One that dies at once is not started again at once.
PAUSE_SECONDS = 1.0
PR_SET_DUMPABLE = 4  # of <sys/prctl.h>


class Web(NamedTuple):
    """Its sockets, and uid and gid under which it runs; None: those of this process, which can become nobody else."""

    listening: list[socket.socket]
    owner: tuple[int, int] | None

    def close(self) -> None:
        """Let go of the ports."""
        for each in self.listening:
            each.close()


def prepared(settings: Settings, daemon: tuple[int, int], say: Callable[[str], None], is_check: bool = False) -> Web:
    """Its ports and its account; without `web=embedded` there are none. A port that is taken is waited for, unless this is a
    check."""
    web = Web([], None)
    if settings.web != EMBEDDED:
        return web
    web = Web([], _account(settings, daemon))

    def listen() -> None:
        try:
            for each in addresses(settings):
                web.listening.append(tcp_socket(settings, "axis_port", settings.axis_port, *each, is_check))
        except BDError:
            web.close()
            web.listening.clear()
            raise

    if is_check:
        listen()
    else:
        startup.patiently(listen, say)
    return web


def _account(settings: Settings, daemon: tuple[int, int]) -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(settings.web_user)
    except KeyError:
        raise BadConfig(f"{settings.path}: web_user={settings.web_user}: there is no such user on this host") from None
    if entry.pw_uid == 0 or entry.pw_uid == daemon[0]:
        raise BadConfig(
            f"{settings.path}: web_user={settings.web_user}: must be neither root nor the daemon's user, who can read its key"
        )
    return entry.pw_uid, entry.pw_gid


def begin(settings: Settings, web: Web) -> int | None:
    """Start it, and hand its sockets over. The descriptor that is returned is to stay open in all processes of the node: when
    none of them is left, the web server ends."""
    if not web.listening:
        return None
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                # Here, since no other process needs them; and before it has another account, which may not read our modules.
                import ctypes  # noqa: F401

                import bdserver.net.container  # noqa: F401

                _detach([read, *(each.fileno() for each in web.listening)], web.owner)
                _supervise(settings, web, read)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(read)
    web.close()
    return write


def _detach(needed: list[int], owner: tuple[int, int] | None) -> None:
    """Nothing of the daemon's is kept: no lock, no pipe, no right."""
    close_all_open_files(exclude=set(needed))
    for _ in range(3):  # 0, 1 and 2, since these are the lowest that are free
        os.open(os.devnull, os.O_RDWR)
    os.chdir("/")
    if owner is not None:
        startup.become(owner)
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # as the kernel does when a user changes


def _supervise(settings: Settings, web: Web, life: int) -> None:
    """Until the node is gone."""
    setproctitle.setproctitle(f"bdserverd: web server of {settings.username} at port {settings.axis_port}")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    child = 0
    while True:
        if child == 0:
            child = _forked(settings, web)
        if select.select([life], [], [], PAUSE_SECONDS)[0]:
            if child:
                os.kill(child, signal.SIGKILL)
            return
        if child and os.waitpid(child, os.WNOHANG)[0]:
            child = 0


def _forked(settings: Settings, web: Web) -> int:
    """The process that serves; 0 while there is no room for one."""
    try:
        child = os.fork()
    except OSError:
        return 0
    if child == 0:
        try:
            _serve(settings, web)
        finally:
            os._exit(1)
    return child


def _serve(settings: Settings, web: Web) -> None:
    """In the process that may die: serve on all sockets."""
    from bdserver.net.container import Container

    containers = []
    for each in web.listening:
        host, port = each.getsockname()[:2]
        runs_scripts = web.owner is not None
        containers.append(Container(host, port, settings.services_dir, settings.axis_web_dir, runs_scripts, each))
    for container in containers[1:]:
        threading.Thread(target=container.serve_forever, daemon=True).start()
    containers[0].serve_forever()
