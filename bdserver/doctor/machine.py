"""Checks of what this machine allows: processes, descriptors, ports, the daemon, systemd's unit, the way to its socket."""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import stat
from collections.abc import Iterator

from bdserver import __version__
from bdserver.core.attention import Finding, Severity, few
from bdserver.doctor.host import Host
from bdserver.errors import BDError
from bdserver.files import settings as usual
from bdserver.files.settings import in_words
from bdserver.processes import startup, webserver
from bdserver.processes.answers.looking import SETTING_CHARACTERS_MAX
from bdserver.processes.sockets import Sockets

GRAVE, WARNING, NOTE = Severity.GRAVE, Severity.WARNING, Severity.NOTE
# The listener, the discoverer, and what a shell beside them needs.
PROCESSES_BESIDE = 16
UNIT_FOLDERS = ("/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/system", "/etc/systemd/system")
# Where systemd makes the folders that a unit asks for.
UNIT_DIRECTORIES = {"StateDirectory": "/var/lib", "RuntimeDirectory": "/run", "LogsDirectory": "/var/log"}


def daemon(host: Host) -> Iterator[Finding]:
    """It runs and answers; no other one works on its files; it is of the version that is installed, with the config of now."""
    pid_file, lock = startup.claims(host.given)
    if not host.is_running:
        if lock.is_held():
            words = f"another bdserverd works on {host.given.var_dir}, with another pid_file than {pid_file.path}"
            yield Finding(GRAVE, "second-daemon", words, f"end it, or give this one another var_dir ({_holder(lock.path)})")
        else:
            words = f"no bdserverd runs with {host.given.path}"
            yield Finding(NOTE, "not-running", words, "systemctl start bdserverd, or bdserverd " + shlex.quote(host.given.path))
        return
    if host.status is None:
        words = f"bdserverd runs as process {_holder(pid_file.path)}, and does not answer: {host.daemon_trouble}"
        yield Finding(GRAVE, "daemon-silent", words, "see its log; end it and start it anew")
        return
    software = host.status.own["software"]
    if software != __version__:
        yield Finding(
            WARNING, "old-daemon", f"the daemon is of version {software}, installed is {__version__}", "start it anew"
        )
    yield from _not_in_force(host)


def _not_in_force(host: Host) -> Iterator[Finding]:
    """An administrator is told the settings in force."""
    force = host.status.own.get("settings") if host.status is not None else None
    if not isinstance(force, dict):
        return
    now = in_words(host.given)
    changed = sorted(name for name, word in force.items() if name in now and now[name][:SETTING_CHARACTERS_MAX] != word)
    if changed:
        reload = all(usual.BY_NAME[name].reloadable for name in changed)
        words = f"{host.given.path} has other values than those in force: {few(changed)}"
        yield Finding(WARNING, "config-stale", words, "send it SIGHUP" if reload else "start it anew")


def _holder(path: str) -> str:
    try:
        with open(path) as file:
            return file.read(20).strip() or "unknown"
    except OSError:
        return "unknown"


def descriptors(host: Host) -> Iterator[Finding]:
    """As many as max_children needs: of a daemon that runs, its own limit."""
    try:
        startup.allow_descriptors(host.given)
    except BDError as error:
        yield Finding(GRAVE, "descriptors", str(error))


def processes(host: Host) -> Iterator[Finding]:
    """The kernel lets as many run as max_children needs."""
    needed = host.given.max_children + PROCESSES_BESIDE
    for path in ("/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max", *_cgroup_limits()):
        limit = _number(path)
        if limit is not None and limit < needed:
            words = f"max_children={host.given.max_children} takes {needed} processes, and {path} allows {limit}"
            yield Finding(WARNING, "processes", words, "raise it (systemd: TasksMax), or lower max_children")
    queue = _number("/proc/sys/net/core/somaxconn")
    if queue is not None and queue < host.given.backlog:
        words = f"backlog={host.given.backlog} is cut to {queue} by net.core.somaxconn"
        yield Finding(NOTE, "backlog", words, "sysctl net.core.somaxconn")


def _cgroup_limits() -> list[str]:
    """pids.max of the group that this process is in, and of those above it."""
    try:
        with open("/proc/self/cgroup") as file:
            group = next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), "/")
    except OSError:
        return []
    parts = [part for part in group.split("/") if part]
    return ["/".join(["/sys/fs/cgroup", *parts[:count], "pids.max"]) for count in range(len(parts), -1, -1)]


def _number(path: str) -> int | None:
    try:
        with open(path) as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def ports(host: Host) -> Iterator[Finding]:
    """A daemon that does not run yet could have its ports."""
    if host.is_running or startup.claims(host.given)[1].is_held():
        return
    sockets = Sockets(host.given, host.owner)
    try:
        sockets.open_tcp(is_check=True)
        webserver.prepared(host.given, host.owner, lambda said: None, is_check=True).close()
    except BDError as error:
        yield Finding(GRAVE, "ports", str(error), "end what has it, or choose another port")
    finally:
        sockets.close()
        sockets.close_ears()


def local_socket(host: Host) -> Iterator[Finding]:
    """Ordinary accounts can look up, where socket_mode lets them: each folder above the socket can be passed."""
    path = host.given.socket
    if not host.is_running or not host.given.socket_mode & 0o002:
        return
    folder = os.path.dirname(path)
    closed: list[str] = []
    while folder != os.path.dirname(folder):
        try:
            mode = os.stat(folder).st_mode
        except OSError:
            return
        if not mode & stat.S_IXOTH:
            closed.insert(0, folder)
        folder = os.path.dirname(folder)
    if closed:
        words = f"ordinary accounts can't look up: closed to them above {path}: {few(closed)}"
        yield Finding(NOTE, "socket-closed", words, f"chmod o+x {shlex.join(closed)}, or socket={usual.USUAL_SOCKET}")


def unit(host: Host) -> Iterator[Finding]:
    """systemd's unit lets the daemon write where its config says that it writes."""
    found = _unit_of(host.given.path)
    if found.get("ProtectSystem", [""])[-1] != "strict":
        return
    writable = _words_of(found, "ReadWritePaths")
    for key, above in UNIT_DIRECTORIES.items():
        writable += [os.path.join(above, name) for name in _words_of(found, key)]
    allowed = [os.path.realpath(path.lstrip("-+")) for path in writable]
    closed = [folder for folder in startup.folders(host.given) if not any(_is_below(folder, each) for each in allowed)]
    if closed:
        words = f"systemd's unit does not let the daemon write to {few(closed)} (ProtectSystem=strict)"
        yield Finding(GRAVE, "unit", words, f"systemctl edit bdserverd: [Service] ReadWritePaths={shlex.join(closed)}")


def _words_of(unit: dict[str, list[str]], key: str) -> list[str]:
    """A list of a unit, whose words are quoted as a shell's; systemd passes over a line that is not."""
    found = []
    for each in unit.get(key, []):
        with contextlib.suppress(ValueError):
            found += shlex.split(each)
    return found


def _is_below(folder: str, above: str) -> bool:
    real = os.path.realpath(folder)
    return real == above or real.startswith(above.rstrip("/") + "/")


def _unit_of(config: str) -> dict[str, list[str]]:
    """KEY -> values in order, of the unit that starts a daemon with this config, and of what is dropped in beside it."""
    for folder in reversed(UNIT_FOLDERS):
        path = os.path.join(folder, "bdserverd.service")
        if os.path.isfile(path):
            drops = [
                drop for each in UNIT_FOLDERS for drop in sorted(glob.glob(os.path.join(each, "bdserverd.service.d", "*.conf")))
            ]
            values: dict[str, list[str]] = {}
            for each in (path, *drops):
                _read_unit(each, values)
            return values if any(config in line.split() for line in values.get("ExecStart", [])) else {}
    return {}


def _read_unit(path: str, values: dict[str, list[str]]) -> None:
    """An empty value takes back those before."""
    try:
        with open(path, errors="replace") as file:
            lines = file.read().replace("\\\n", " ").splitlines()
    except OSError:
        return
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith(("#", ";")):
            values.setdefault(key.strip(), []).append(value.strip())
            if not value.strip():
                values[key.strip()] = []
