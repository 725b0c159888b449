"""bdserverd: a node. Starts the listener, which starts everything else.

bdserverd [--foreground | --check] CONFIG [WS_POLICY [BLACK_LIST]]

Everything that may fail (settings, keys, policy, folders, port) is tried before the process goes into the background,
so that a wrong start is one line on stderr and an exit status. The background process's parent returns 0 when the
listener answers. Signals: TERM leaves (running requests end first, the mesh is told), HUP reads files anew, QUIT ends
at once.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import gc
import grp
import logging
import logging.handlers
import os
import pwd
import socket
import sys
import time
from typing import Any

import daemon
import setproctitle

from bdserver import __version__
from bdserver.core import membership
from bdserver.errors import BadConfig, BDError
from bdserver.files.settings import load
from bdserver.processes import child, discoverer, systemd
from bdserver.processes.listener import Listener, Parts
from bdserver.processes.node import Life, Node, Sources, open_node

log = logging.getLogger("bdserver")

# How often the status line of systemd is brought up to date.
STATUS_SECONDS = 10.0
GOODBYE_SECONDS, GOODBYE_NODES = 1.0, 3


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 (in the background: the listener answers), 2 wrong usage or configuration, 1 the host says no."""
    options = _parser().parse_args(arguments)
    gc.disable()  # until the listener begins its work: what is read before that stays
    try:
        node, sockets, pid_file = _prepare(options)
        if options.check:
            print(f"{options.config}: ok: {node.name} of {node.mesh} at {node.address}")
            return 0
    except BDError as error:
        for line in str(error).splitlines():
            print(f"bdserverd: {line}", file=sys.stderr)
        return error.exit
    except OSError as error:
        print(f"bdserverd: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 1
    if options.foreground:
        _log_to(logging.StreamHandler(), node, _foreground_formatter())
        _drop_privileges(node)
        with pid_file:
            _run(node, sockets, pid_file, lambda: None)
        return 0
    return _run_in_background(node, sockets, pid_file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bdserverd", description="A node of the BDserver service mesh.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--foreground", action="store_true", help="stay in the foreground, log to stderr")
    how.add_argument("--check", action="store_true", help="try everything up to the port, start nothing")
    parser.add_argument("--version", action="version", version=f"bdserverd {__version__}")
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("ws_policy", metavar="WS_POLICY", nargs="?", default="")
    parser.add_argument("black_list", metavar="BLACK_LIST", nargs="?", default="")
    return parser


# --- before the start ---------------------------------------------------------------------------------------------


def _prepare(options) -> tuple[Node, list[socket.socket], PidFile]:
    settings = load(options.config)
    _user_ids(settings)
    node = open_node(settings, Sources(options.ws_policy, options.black_list))
    for folder in _folders(settings):
        _make_folder(folder, settings)
    pid_file = PidFile(settings.pid_file)
    if not options.check:
        pid_file.claim()
        node.cache.sweep()
    if options.check:  # a node that runs has its port already, and is asked about its files before a SIGHUP
        sockets = [] if pid_file.is_held() else _tcp_sockets(settings, is_check=True)
    else:
        try:
            sockets = [*_tcp_sockets(settings, is_check=False), _local_socket(settings)]
        except BDError:
            pid_file.remove()
            raise
    return node, sockets, pid_file


def _folders(settings) -> list[str]:
    files = (settings.socket, settings.pid_file)
    return list(
        dict.fromkeys(
            [
                settings.var_dir,
                settings.services_dir,
                settings.graveyard_dir,
                settings.service_log_dir,
                *(os.path.dirname(file) for file in files),
            ]
        )
    )


def _make_folder(folder: str, settings) -> None:
    """There, ours, and writable, or one line that says which is not."""
    try:
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o755)
            uid, gid = _user_ids(settings)
            if os.geteuid() == 0:
                os.chown(folder, uid, gid)
    except OSError as error:
        raise BadConfig(f"{settings.path}: can't make the folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadConfig(f"{settings.path}: the folder {folder} is not writable for user {os.geteuid()}")


def _user_ids(settings) -> tuple[int, int]:
    """Whom to become: (uid, gid) of `user` and `group`, or who we are."""
    try:
        uid = pwd.getpwnam(settings.user).pw_uid if settings.user else os.geteuid()
        gid = grp.getgrnam(settings.group).gr_gid if settings.group else os.getegid()
        if settings.user and not settings.group:
            gid = pwd.getpwnam(settings.user).pw_gid
    except KeyError as error:
        raise BadConfig(f"{settings.path}: {error.args[0]}") from None
    return uid, gid


def _tcp_sockets(settings, is_check: bool) -> list[socket.socket]:
    """One listening socket for each address of `bind`; for all addresses, one that takes IPv4 too."""
    if not settings.bind and socket.has_dualstack_ipv6():
        wanted = [(socket.AF_INET6, "::")]
    else:
        wanted = [(socket.AF_INET6 if ":" in h else socket.AF_INET, h) for h in settings.bind or ["0.0.0.0"]]
    return [_listening(settings, family, host, is_check) for family, host in wanted]


def _listening(settings, family: int, host: str, is_check: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" and not settings.bind else 1)
        sock.bind((host, settings.port))
        if not is_check:
            sock.listen(settings.backlog)
    except OSError as error:
        sock.close()
        raise BadConfig(
            f"{settings.path}: port={settings.port} can't be had on {host}: {error.strerror} (ss -ltnp tells by whom)"
        ) from None
    return sock


def _local_socket(settings) -> socket.socket:
    """The Unix socket; one that a crash left behind is replaced (the pid file's lock says that nobody else is here)."""
    sock = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(settings.socket)
    try:
        sock.bind(settings.socket)
        os.chmod(settings.socket, settings.socket_mode)
        if os.geteuid() == 0:
            os.chown(settings.socket, *_user_ids(settings))
    except OSError as error:
        sock.close()
        raise BadConfig(f"{settings.path}: socket={settings.socket}: {error.strerror or error}") from None
    sock.listen(settings.backlog)
    return sock


class PidFile:
    """A pid file that can't go stale: a flock is held on it as long as the listener lives, so kill -9 frees it."""

    def __init__(self, path: str):
        self.path = path
        self._file: Any = None

    def claim(self) -> None:
        """Take the lock, or BadConfig with the pid of who has it."""
        try:
            self._file = open(self.path, "a+")  # noqa: SIM115 (held open on purpose)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            raise BadConfig(f"{self.path}: bdserverd is running already, as process {self._file.read().strip()}") from None
        except OSError as error:
            raise BadConfig(f"{self.path}: {error.strerror}") from None

    def is_held(self) -> bool:
        """Whether a listener lives that has claimed it."""
        try:
            with open(self.path) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def fileno(self) -> int:
        """The descriptor that holds the lock."""
        return self._file.fileno()

    def release(self) -> None:
        """What a child does first: else one that outlives the listener would keep the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> PidFile:
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()
        return self

    def __exit__(self, *exception) -> None:
        self.remove()

    def remove(self) -> None:
        """While we have the lock, the file is ours."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self.release()


# --- running ------------------------------------------------------------------------------------------------------


def _run_in_background(node: Node, sockets: list[socket.socket], pid_file: PidFile) -> int:
    """Detach; the first process waits until the listener answers, or tells why it does not."""
    ready_read, ready_write = os.pipe()
    if os.fork() > 0:
        os.close(ready_write)
        with os.fdopen(ready_read) as ready:
            said = ready.readline()
        if said != "ready\n":
            print(f"bdserverd: {said.strip() or 'ended before it was ready; see the log'}", file=sys.stderr)
        os._exit(0 if said == "ready\n" else 1)
    os.close(ready_read)
    uid, gid = _user_ids(node.settings)
    context = daemon.DaemonContext(
        working_directory="/",
        umask=0o022,
        uid=uid,
        gid=gid,
        initgroups=os.geteuid() == 0,
        pidfile=pid_file,
        files_preserve=[*sockets, pid_file, ready_write],
        signal_map={},
        detach_process=True,
    )
    try:
        with context:
            _log_to(*_background_logging(node))
            _run(node, sockets, pid_file, lambda: _say_ready(ready_write))
    except Exception as error:
        with contextlib.suppress(OSError):
            os.write(ready_write, f"{error}\n".encode())
        raise
    return 0


def _say_ready(descriptor: int) -> None:
    os.write(descriptor, b"ready\n")
    os.close(descriptor)


def _drop_privileges(node: Node) -> None:
    uid, gid = _user_ids(node.settings)
    if os.geteuid() == 0 and uid != 0:
        os.initgroups(node.settings.user, gid)
        os.setgid(gid)
        os.setuid(uid)


def _foreground_formatter() -> logging.Formatter:
    """The journal knows the time, the process and the priority of a line; a terminal's reader wants to see what it is."""
    if systemd.is_journal(sys.stderr):
        return systemd.JournalFormatter("%(message)s")
    return logging.Formatter("bdserverd: %(levelname)s: %(message)s")


def _background_logging(node: Node) -> tuple[logging.Handler, Node, logging.Formatter]:
    """log_file, opened anew whenever its name means another file (logrotate); else syslog, which adds the time itself."""
    handler: logging.Handler
    if node.settings.log_file:
        handler = logging.handlers.WatchedFileHandler(node.settings.log_file)
        return handler, node, logging.Formatter("%(asctime)s bdserverd[%(process)d] %(levelname)s: %(message)s")
    where = "/dev/log" if os.path.exists("/dev/log") else ("localhost", 514)
    handler = logging.handlers.SysLogHandler(where, logging.handlers.SysLogHandler.LOG_DAEMON)
    return handler, node, logging.Formatter("bdserverd[%(process)d]: %(message)s")


def _log_to(handler: logging.Handler, node: Node, formatter: logging.Formatter) -> None:
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(node.settings.log_level.upper())
    for noisy in ("filelock", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _run(node: Node, sockets: list[socket.socket], pid_file: PidFile, on_ready) -> None:
    """Start the node's life: its record with a new generation on disk first, then the listener's loop until the end."""
    node.life = Life(os.getpid(), time.time())
    setproctitle.setproctitle(f"bdserverd: listener of {node.name} at {node.address}")
    with node.cache.locked() as view:
        previous = view.records.get(node.name)
        view.start((previous or node.own_record())._replace(address=node.address, draining=False), time.time())
        node.describe(view, time.time(), unhealthy=[])
        for hint in node.settings.hints:
            if hint != node.address:
                view.hint(hint)

    def ready() -> None:
        log.info("%s of %s answers at %s", node.name, node.mesh, node.address)
        systemd.notify(READY=1, STATUS="ready")
        on_ready()

    parts = Parts(
        serve_child=functools.partial(_serve_child, node, pid_file),
        run_discoverer=functools.partial(_run_discoverer, node, pid_file),
        refresh=node.refresh,
        rehearse=functools.partial(_rehearse, node, pid_file),
        reload=lambda: _reload(node),
        has_changed=lambda: node.rules.revoked.refresh(),
        say_goodbye=lambda: _say_goodbye(node),
        is_refused=node.is_black_listed,
        on_ready=ready,
        on_leaving=lambda: systemd.notify(STOPPING=1, STATUS="leaving: running requests end"),
        pulse=functools.partial(_pulse, node),
    )
    listener = Listener(sockets, parts, node.settings.max_children, node.settings.max_children_per_address)
    node.life = node.life._replace(wake_descriptor=listener.wake_write)
    listener.run()


def _pulse(node: Node, children: int) -> float | None:
    """Tell systemd that the loop turns, and in figures how we are; None when nobody wants to know."""
    if "NOTIFY_SOCKET" not in os.environ:
        return None
    watchdog = systemd.watchdog_seconds()
    view, now = node.cache.view(), time.time()
    weights = node.weights(now)
    warnings = node.warnings(view, now)
    state = (
        f"{1 + len(view.others_there())} nodes, {len(weights)} services here, weight {sum(weights.values()):.1f} of "
        f"{node.settings.receiver_threshold:g}{', draining' * view.own.draining}, {children} connections"
        + (f"; {len(warnings)} warnings: bdctl status" if warnings else "")
    )
    systemd.notify(STATUS=state, **({"WATCHDOG": 1} if watchdog else {}))
    return min(STATUS_SECONDS, watchdog / 3) if watchdog else STATUS_SECONDS


def _reload(node: Node) -> list[str]:
    systemd.reloading()
    complaints = node.reload()
    logging.getLogger().setLevel(node.settings.log_level.upper())
    with contextlib.suppress(BDError):
        node.update_own()
    systemd.notify(READY=1)
    return complaints


def _say_goodbye(node: Node) -> None:
    """The last word, to a few who pass it on; then nothing of us is left but the cache."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(node.settings.socket)
    try:
        own = node.mark_left()
    except BDError as error:
        log.error("leaving without a word: %s", error)
        return
    view = node.cache.view()
    others = [record for record in view.others_there() if node.policies.talkable(view, record)]
    node.rng.shuffle(others)
    told = 0
    for record in others:
        if told == GOODBYE_NODES:
            break
        with contextlib.suppress(BDError):
            deadline = time.monotonic() + GOODBYE_SECONDS
            with node.call(record.address, deadline, record.name) as conversation:
                conversation.ask(["SYNCHRONIZE", {"records": [membership.as_json(own)]}], deadline)
            told += 1
    log.info("%s left, %d nodes were told", node.name, told)


# --- a child ------------------------------------------------------------------------------------------------------


def _run_discoverer(node: Node, pid_file: PidFile, wake_descriptor: int, life_descriptor: int) -> None:
    pid_file.release()
    discoverer.run(node, wake_descriptor, life_descriptor)


def _rehearse(node: Node, pid_file: PidFile) -> None:
    pid_file.release()
    node.rng.seed()
    child.rehearse(node)


def _serve_child(node: Node, pid_file: PidFile, sock: socket.socket, address: tuple | None) -> None:
    pid_file.release()
    node.rng.seed()  # every child inherits the same dice
    child.serve_connection(node, sock, address)
