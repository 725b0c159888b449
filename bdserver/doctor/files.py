"""Checks of what lies on this host: config, accounts, keys, folders, lists, disks, services, logs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from bdserver.core import attention, holding
from bdserver.core.address import split_address
from bdserver.core.attention import Facts, Finding, Severity, few
from bdserver.core.membership import ALIVE, STATIC, SUSPECT
from bdserver.core.messages import Status
from bdserver.doctor.host import Host
from bdserver.errors import BDError
from bdserver.files import accesslog, disks, durable, policyfile, publishers
from bdserver.files.bdcert import Service
from bdserver.files.blacklist import BlackList
from bdserver.files.revoked import Revoked
from bdserver.processes import facts, startup
from bdserver.processes.advertised import is_elsewhere

GRAVE, WARNING, NOTE = Severity.GRAVE, Severity.WARNING, Severity.NOTE
# Of the end of an access log, this much is held against its format.
LOG_TAIL_BYTES = 8192


def config(host: Host) -> Iterator[Finding]:
    """The config is there, may be read, and each line is right."""
    if host.settings is None:
        remedy = "mend it, then bdserverd --check"
        if not os.path.exists(host.config):
            remedy = "begin a mesh (bdkeys init --mesh NAME --here), join one (bdkeys join), or say where it is by --config"
        elif not os.access(host.config, os.R_OK):
            remedy = "run bdctl doctor as root"
        for line in host.settings_trouble.splitlines():
            yield Finding(GRAVE, "config", line, remedy)


def account(host: Host) -> Iterator[Finding]:
    """`user` and `group` are there."""
    if host.owner and host.account_trouble:
        yield Finding(GRAVE, "account", host.account_trouble, "useradd --system, or another user=")


def keys(host: Host) -> Iterator[Finding]:
    """Key, certificate and CA are there, secret, in date, and belong together."""
    if host.credentials is None:
        says_itself = host.keys_trouble.endswith(")")
        yield Finding(GRAVE, "keys", host.keys_trouble, "" if says_itself else "bdkeys show tells what they are")
    elif host.credentials.identity.role != "node":
        words = f"the certificate in {host.given.key_dir} has the role {host.credentials.identity.role}, and a node needs node"
        yield Finding(GRAVE, "keys", words, f"bdkeys issue DIR {host.given.username} --role node")


def certificate(host: Host) -> Iterator[Finding]:
    """It does not end soon, and the daemon has the one that lies on the disk."""
    if host.credentials is None:
        return
    ends_at, seconds = host.credentials.not_after, facts.renewed_seconds(host.credentials)
    ends = Facts(host.name, host.address, time.time(), certificate_ends_at=ends_at, certificate_seconds=seconds)
    yield from attention.findings(ends)
    serial = host.status.own.get("certificate_serial") if host.status is not None else None
    if serial is not None and serial != f"{host.credentials.identity.serial:x}":
        words = f"the daemon has another certificate in memory than {host.given.username}.crt in {host.given.key_dir}"
        yield Finding(WARNING, "certificate-stale", words, "send it SIGHUP (systemctl reload bdserverd)")


def address(host: Host) -> Iterator[Finding]:
    """The address by which others know this node is known, and stands in its certificate."""
    if host.credentials is not None and not host.address:
        yield Finding(GRAVE, "address", host.address_trouble)
    if host.address and is_elsewhere(own := split_address(host.address)[0]):
        words = f"{own}, by which the others call this node, is no address of this host"
        remedy = "if nothing translates it on the way, join again with the one that it has (OPERATIONS, Another address)"
        yield Finding(NOTE, "address-elsewhere", words, remedy)


def rights(host: Host) -> Iterator[Finding]:
    """The daemon's user may read what it must read, and write where it must write. What is not there yet the start makes, or
    whoever reads it misses it."""
    settings = host.given
    folders = [each for each in startup.folders(settings) if not os.path.isdir(each)]
    for folder in folders:
        if os.path.lexists(folder):
            yield Finding(GRAVE, "rights", f"{settings.path}: {startup.no_folder(folder)}", "remove it, or set another folder")
        elif host.is_running:
            words = f"the folder {folder} is gone while the daemon runs"
            yield Finding(GRAVE, "rights", words, "start it anew, which makes it")
    for line in startup.in_the_way(settings):
        yield Finding(GRAVE, "rights", line, "move what is there, or set another path")
    missing = [f"the folder {each} is " for each in folders]
    for line in startup.asked_as(host.owner, lambda: startup.not_allowed(settings, [], settings.log_file)):
        if not line.endswith(": No such file or directory") and not any(each in line for each in missing):
            yield Finding(GRAVE, "rights", line, "chown or chmod it")


def lists(host: Host) -> Iterator[Finding]:
    """Policy, black list and the lists of revoked certificates and of publishers can be read."""
    settings = host.given
    for key, path, read in (
        ("policy", settings.ws_policy, policyfile.read),
        ("black-list", settings.black_list, BlackList),
        ("revocations", settings.revoked, Revoked),
        ("publishers", settings.publishers, publishers.read),
    ):
        try:
            read(path)
        except BDError as error:
            yield Finding(GRAVE, key, str(error), "mend it, or leave the setting empty")


def room(host: Host) -> Iterator[Finding]:
    """There is room on the disks, and inodes."""
    settings = host.given
    seen = disks.look(each for each in startup.folders(settings) if os.path.isdir(each))
    yield from attention.findings(Facts(host.name, host.address, time.time(), disks=seen))


def services(host: Host) -> Iterator[Finding]:
    """Each .bdcert is right, and programs are executable."""
    found, complaints = host.services, host.folder.complaints
    yield from attention.findings(Facts(host.name, host.address, time.time(), complaints=tuple(complaints)))
    for each in found.values():
        yield from not_executable(each)
    unchecked = tuple(sorted(name for name, each in found.items() if each.health == "none"))
    yield from attention.findings(Facts(host.name, host.address, time.time(), unchecked=unchecked))


def not_executable(service: Service) -> Iterator[Finding]:
    """A program that is not executable. A file that has a suffix and no #! is none: a page, or a class for a container."""
    if service.path is None:
        return
    program = os.path.join(service.path, "index.cgi") if os.path.isdir(service.path) else service.path
    if not os.path.isfile(program) or os.stat(program).st_mode & 0o111:
        return
    with open(program, "rb") as file:
        if file.read(2) == b"#!":
            yield Finding(WARNING, "not-executable", f"{program} is a script, and not executable", f"chmod 755 {program}")


def hit_logs(host: Host) -> Iterator[Finding]:
    """The daemon can write each hit log."""
    folder = host.given.service_log_dir

    def closed() -> list[str]:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        paths = [os.path.join(folder, name) for name in names if name.endswith(".bdlog")]
        return [path for path in paths if os.path.islink(path) or not os.access(path, os.W_OK, effective_ids=True)]

    paths = startup.asked_as(host.owner, closed)
    if paths:
        words = f"hits can't be written to {few(paths)}"
        yield Finding(WARNING, "hit-log", words, "chown it to the daemon's user, or remove it")


def access_log(host: Host) -> Iterator[Finding]:
    """The web server's log is there, may be read, and is of the format that is said."""
    path = host.given.access_log
    if not path:
        return

    def trouble() -> list[str]:
        try:
            os.close(durable.open_regular(path))
        except OSError as error:
            return [error.strerror or str(error)]
        return []

    for why in startup.asked_as(host.owner, trouble):
        remedy = "give the daemon's group (adm) the right to read it"
        if not os.path.lexists(path):
            remedy = "set access_log to the web server's, or leave it empty: agreed calls are counted then"
        yield Finding(WARNING, "access-log", f"access_log={path}: {why}", remedy)
        return
    with open(path, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES, 0))
        lines = [line for line in file.read().decode(errors="replace").splitlines()[1:] if line]
    form = accesslog.pattern(host.given.access_log_format)
    if lines and not any(form.fullmatch(line) for line in lines):
        words = f"none of the last {len(lines)} lines of {path} is of the format {host.given.access_log_format!r}"
        yield Finding(WARNING, "access-log", words, "set access_log_format to the web server's")


def originals(host: Host) -> Iterator[Finding]:
    """No two hosts have a service of their own under one name that are not alike."""
    if host.status is None:
        return
    for name, holders in holding.services(host.status).items():
        differing = holding.whole_of(holders).rivals
        words = differing.words() if differing is not None else _weights_that_differ(host.status, name)
        if words:
            words = f"the service {name} has originals that differ: {words}"
            yield Finding(WARNING, "originals", words, "withdraw all but one, or name them apart")


def _weights_that_differ(status: Status, name: str) -> str:
    """Of originals that have no edition, since they are elsewhere and only named here; "" when they are alike."""
    by_weight: dict[float, list[str]] = {}
    for node in status.nodes:
        if node.get("types", {}).get(name) == STATIC and node["status"] in (ALIVE, SUSPECT):
            by_weight.setdefault(node.get("costs", {}).get(name, 1.0), []).append(node["name"])
    said = (f"weight {weight:g} at {few(nodes)}" for weight, nodes in sorted(by_weight.items()))
    return "; ".join(said) if len(by_weight) > 1 else ""
