"""Everything that may fail is tried before the start: limits, ids, keys, folders, addresses, locks.

So a wrong start is one line on stderr and an exit status, and what runs afterwards has all that it needs. An obstacle that
passes by itself at boot (a port that another program is about to leave, an address that is not there yet) is waited
for. Nothing runs here: `run` does.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import resource
import time
from collections.abc import Callable

from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig, NotYet
from bdserver.files import durable
from bdserver.files.settings import Settings, load, place_of
from bdserver.processes.callers import CALLERS_MAX
from bdserver.processes.children import SPARES_MAX
from bdserver.processes.lines import LINES_MAX
from bdserver.processes.node import Node, open_node
from bdserver.processes.pidfile import PidFile
from bdserver.processes.rules import Sources
from bdserver.processes.sockets import Sockets, local_trouble

# Every 2 s, as in 2006; longer than any interface takes to come up, and shorter than systemd waits for a start (90 s).
RETRY_SECONDS, WAIT_SECONDS = 2.0, 60.0
# The listener's descriptors beside one line to each child, and the discoverer's beside its connections: sockets, pipes, locks,
# logs, and what a connection needs while it is handed over. (Of the lines that the discoverer opens itself, as many again may
# wait for somebody who is silent.)
DESCRIPTORS_BESIDE = 64
# What a node makes others may read, but for what is secret: that has a mode of its own. The umask of whoever starts it says how
# they like their own files: a services folder of 0700 is served by nobody.
UMASK = 0o022
# The settings that name a file which must be there.
LISTS = ("ws_policy", "black_list", "revoked", "publishers")


class Start(NamedTuple):
    """All that a start has in hand: nothing is missing any more."""

    node: Node
    sockets: Sockets
    claims: tuple[PidFile, ...]
    owner: tuple[int, int]  # uid and gid of the daemon


def check(config: str, ws_policy: str = "", black_list: str = "") -> Node:
    """Try everything up to the port, and let go of it again. A node that runs has its port already: it is asked about its
    files, as before a SIGHUP."""
    node, owner = _read(config, ws_policy, black_list, has_log_file=True)
    pid_file, cache_lock = claims(node.settings)
    if pid_file.is_held():
        return node
    if cache_lock.is_held():
        cache_lock.claim()  # which says by whom
    sockets = Sockets(node.settings, owner)
    try:
        sockets.open_tcp(is_check=True)
    finally:
        sockets.close()
        sockets.close_ears()
    return node


def prepare(config: str, ws_policy: str, black_list: str, say: Callable[[str], None], is_background: bool = False) -> Start:
    """All that a start needs (`log_file` in the background alone); `say` is told once if something must be waited for."""
    node, owner = _read(config, ws_policy, black_list, has_log_file=is_background)
    both = claims(node.settings)
    sockets = Sockets(node.settings, owner)
    with contextlib.ExitStack() as undone:
        for claim in both:
            claim.claim()
            undone.callback(claim.remove)
        node.cache.sweep()
        patiently(sockets.open, say)
        undone.pop_all()
    return Start(node, sockets, both, owner)


def _read(config: str, ws_policy: str, black_list: str, has_log_file: bool) -> tuple[Node, tuple[int, int]]:
    settings = load(config)
    owner = user_ids(settings)
    allow_descriptors(settings)
    _refuse_missing_lists(settings)
    node = open_node(settings, Sources(_absolute(ws_policy), _absolute(black_list)))  # absolute: a daemon's own folder is /
    for folder in folders(settings):
        _make_folder(folder, settings, owner)
    files = [path for path in (_absolute(ws_policy), _absolute(black_list)) if path]
    log_file = settings.log_file if has_log_file else ""
    complaints = [*in_the_way(settings), *asked_as(owner, lambda: not_allowed(settings, files, log_file))]
    if complaints:
        raise BadConfig("\n".join(complaints))
    return node, owner


def _refuse_missing_lists(settings: Settings) -> None:
    """A file that can't be opened is told with the line that names it: the slip is as often there as on the disk."""
    complaints = []
    for setting in LISTS:
        path = getattr(settings, setting)
        try:
            if path:
                os.close(durable.open_regular(path))
        except OSError as error:
            complaints.append(f"{place_of(settings, setting)}: {setting}={durable.shown(path)}: {error.strerror}")
    if complaints:
        raise BadConfig("\n".join(complaints))


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else path


def claims(settings: Settings) -> tuple[PidFile, PidFile]:
    """The pid file for people; and one beside the cache, lest a second daemon with another pid file writes into it."""
    lock = os.path.join(settings.var_dir, f"{settings.username}.lock")
    return PidFile(settings.pid_file), PidFile(lock, "this cache is used already by a bdserverd with another pid_file")


def patiently(attempt: Callable[[], None], say: Callable[[str], None]) -> None:
    """Wait for an obstacle that passes by itself, and say so once."""
    until, has_said = time.monotonic() + WAIT_SECONDS, False
    while True:
        try:
            return attempt()
        except NotYet as error:
            if time.monotonic() + RETRY_SECONDS > until:
                raise
            if not has_said:
                say(f"{error}: waiting for it, {WAIT_SECONDS:g} s at most")
            has_said = True
        time.sleep(RETRY_SECONDS)


# --- limits and ids -----------------------------------------------------------------------------------------------


def allow_descriptors(settings: Settings) -> None:
    """A line to each child is a descriptor of the listener's, a connection with another node one of the discoverer's: raise the
    soft limit, or say that it is too low."""
    children, nodes = settings.max_children + SPARES_MAX, CALLERS_MAX + 2 * LINES_MAX
    needed = max(children, nodes) + DESCRIPTORS_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard if hard == resource.RLIM_INFINITY else max(hard, needed)))
    except (OSError, ValueError):
        what, less = f"talking with up to {CALLERS_MAX} other nodes", ""
        if children > nodes:
            what, less = f"max_children={settings.max_children}", ", or lower max_children"
        raise BadConfig(
            f"{settings.path}: {what} takes {needed} open files, and {min(soft, hard)} are allowed: raise the limit "
            f"(ulimit -n, systemd's LimitNOFILE){less}"
        ) from None


def user_ids(settings: Settings) -> tuple[int, int]:
    """The uid and gid to become, of `user` and `group`; a process that is not root stays what it is."""
    try:
        account = pwd.getpwnam(settings.user) if settings.user else None
    except KeyError:
        raise BadConfig(f"{settings.path}: user={settings.user}: there is no such user on this host") from None
    try:
        group = grp.getgrnam(settings.group) if settings.group else None
    except KeyError:
        raise BadConfig(f"{settings.path}: group={settings.group}: there is no such group on this host") from None
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        return uid, gid
    if account is not None:
        uid, gid = account.pw_uid, account.pw_gid
    return uid, group.gr_gid if group is not None else gid


# --- files and folders --------------------------------------------------------------------------------------------


def folders(settings: Settings) -> list[str]:
    """The folders that the daemon writes into; each once."""
    kept = [settings.var_dir, settings.services_dir, settings.graveyard_dir, settings.service_log_dir]
    return list(dict.fromkeys([*kept, os.path.dirname(settings.socket), os.path.dirname(settings.pid_file)]))


def _make_folder(folder: str, settings: Settings, owner: tuple[int, int]) -> None:
    """There, and the daemon's if it is new."""
    try:
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o755)
            if os.geteuid() == 0:
                os.chown(folder, *owner)
    except OSError as error:
        why = no_folder(folder) if os.path.lexists(folder) else f"can't make the folder {folder}: {error.strerror}"
        raise BadConfig(f"{settings.path}: {why}") from None


def no_folder(path: str) -> str:
    """What is there in the place of a folder, for a person."""
    is_dangling = os.path.islink(path) and not os.path.exists(path)
    what = f"a link to {os.readlink(path)}, which is not there" if is_dangling else "a file"
    return f"{path} is to be a folder, and is {what}"


def not_allowed(settings: Settings, files: list[str], log_file: str) -> list[str]:
    """The things that this process may not do, and the daemon must, a line each: at the start, or at the next SIGHUP."""
    who, found = name_of(os.geteuid()), []
    suffixes = ("key", "crt", "signer.key", "signer.crt") if settings.signer == "yes" else ("key", "crt")
    names = [*(f"{settings.username}.{suffix}" for suffix in suffixes), "ca.crt"]
    keys = [os.path.join(settings.key_dir, name) for name in names]
    named = [getattr(settings, each) for each in LISTS]
    for path in dict.fromkeys([settings.path, *keys, *filter(None, named), *files]):
        try:
            os.close(durable.open_regular(path))
        except OSError as error:
            found.append(f"{path}: {who} must be able to read it: {error.strerror}")
    for folder in folders(settings):
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            found.append(f"{settings.path}: the folder {folder} is not writable for {who}")
    if settings.on_change and not (
        os.path.isfile(settings.on_change) and os.access(settings.on_change, os.X_OK, effective_ids=True)
    ):
        found.append(f"{settings.path}: on_change={settings.on_change} is no program that {who} may run")
    if log_file and os.path.isdir(log_file):
        found.append(f"{settings.path}: log_file={log_file} is a folder")
    elif log_file and not _may_log(log_file):
        found.append(f"{settings.path}: log_file={log_file} is not writable for {who}")
    return found


def in_the_way(settings: Settings) -> list[str]:
    """What lies where the socket and the pid file are to be, and is somebody's, a line each."""
    pid_file = claims(settings)[0].trouble()
    troubles = [local_trouble(settings.socket), f"pid_file={pid_file}" if pid_file else ""]
    return [f"{settings.path}: {each}" for each in troubles if each]


def _may_log(path: str) -> bool:
    """Without making it."""
    if os.path.lexists(path):
        return os.access(path, os.W_OK, effective_ids=True)
    return os.access(os.path.dirname(path), os.W_OK | os.X_OK, effective_ids=True)


def name_of(uid: int) -> str:
    """As a complaint names an account."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def asked_as(owner: tuple[int, int], question: Callable[[], list[str]]) -> list[str]:
    """The answer of a process that has become this user: root may read everything, and so can't tell."""
    if owner == (os.geteuid(), os.getegid()):
        return question()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            become(owner)
            with os.fdopen(write, "w", errors="surrogateescape") as file:
                file.write("\n".join(question()))
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, errors="surrogateescape") as file:
        said = file.read()
    _, status = os.waitpid(pid, 0)
    return said.splitlines() if status == 0 else [f"can't become user {owner[0]} and group {owner[1]}"]


def become(owner: tuple[int, int]) -> None:
    """For good: groups first, since who is no longer root may not change them."""
    uid, gid = owner
    with contextlib.suppress(KeyError):  # a uid without a name is in no other groups
        os.initgroups(pwd.getpwuid(uid).pw_name, gid)
    os.setgid(gid)
    os.setuid(uid)
