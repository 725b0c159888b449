"""The table of checks, and how they are done: causes before what follows from them, what waits for others side by side.

A check that fails itself is a finding, and stops no other one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from bdserver.core.attention import Finding, Severity, gravest_first
from bdserver.core.tuples import NamedTuple
from bdserver.doctor import files, machine, mesh, web
from bdserver.doctor.host import Host
from bdserver.errors import BDError
from bdserver.processes import startup


class Check(NamedTuple):
    """`waits`: it asks others, who may take their time."""

    key: str
    look: Callable[[Host], Iterator[Finding]]
    waits: bool = False


# In this order: of what is as grave, the cause stands first.
CHECKS = (
    Check("account", files.account),
    Check("keys", files.keys),
    Check("certificate", files.certificate),
    Check("address", files.address),
    Check("rights", files.rights),
    Check("lists", files.lists),
    Check("disk", files.room),
    Check("daemon", machine.daemon),
    Check("ports", machine.ports),
    Check("descriptors", machine.descriptors),
    Check("processes", machine.processes),
    Check("unit", machine.unit),
    Check("socket", machine.local_socket),
    Check("names", mesh.names, waits=True),
    Check("node", mesh.node),
    Check("hints", mesh.hints, waits=True),
    Check("services", files.services),
    Check("web", web.web_server, waits=True),
    Check("hit-log", files.hit_logs),
    Check("access-log", files.access_log),
    Check("originals", files.originals),
)


def findings(host: Host, visits: Callable[[], Iterator[Finding]] | None = None) -> list[Finding]:
    """All findings of this host, the gravest first, each once. `visits`: one more check, which comes last."""
    if host.settings is None:
        return gravest_first(files.config(host))
    checks = [*_possible(host), *([Check("visits", lambda _host: visits(), waits=True)] if visits is not None else [])]
    with ThreadPoolExecutor(len(checks)) as pool:
        done = {check.key: _done(host, check) for check in checks if not check.waits}  # these fork: before there are threads
        asked = {check.key: pool.submit(_done, host, check) for check in checks if check.waits}
        done |= {key: future.result() for key, future in asked.items()}
    return gravest_first(_each_once(finding for check in checks for finding in done[check.key]))


# What only root and the daemon's own user can tell: what another account may not read says nothing of what the daemon may.
OWNERS = ("keys", "rights", "lists", "ports", "descriptors", "hit-log", "access-log")


def _possible(host: Host) -> Iterable[Check]:
    """The checks that this account can do, and a note of those that it can't."""
    daemon = host.stranger_to
    if daemon is None:
        return CHECKS
    words = f"{startup.name_of(os.geteuid())} is neither root nor {startup.name_of(daemon)}, as whom the daemon runs"
    note = Finding(
        Severity.NOTE, "not-looked-at", f"{words}: not looked at were {', '.join(OWNERS)}", "run bdctl doctor as root"
    )
    return *(check for check in CHECKS if check.key not in OWNERS), Check("not-looked-at", lambda _host: iter([note]))


def _done(host: Host, check: Check) -> list[Finding]:
    try:
        return list(check.look(host))
    except BDError as error:
        return [Finding(Severity.WARNING, check.key, str(error))]
    except Exception as error:
        return [Finding(Severity.WARNING, f"bug-{check.key}", f"the check of {check.key} met a bug: {error!r}")]


# The node and the doctor look at the same things: one of them is enough.
_TWICE = frozenset(("certificate-ends", "disk", "inodes", "unchecked"))


def _each_once(found: Iterator[Finding]) -> Iterator[Finding]:
    seen = set()
    for finding in found:
        what = finding.key if finding.key in _TWICE and ": " not in finding.words[:20] else finding.words
        if what not in seen:
            seen.add(what)
            yield finding
