"""bdctl doctor: what is wrong with this host, and with --all between each pair of nodes, a line a finding.

With --node, of the mesh as that node sees it, and nothing of a host. Exit status 0 when nothing keeps the host from being well.
"""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from bdserver.commands import calling
from bdserver.core import attention, pages
from bdserver.core.attention import Finding, Severity, gravest_first
from bdserver.core.messages import Checkup, Status
from bdserver.doctor import checks, mesh
from bdserver.doctor.host import Host
from bdserver.files.settings import default_path
from bdserver.processes import startup

# A host whose name server, web server and other nodes are all silent is done within this.
SECONDS = 10.0


def doctor(options: Namespace) -> int:
    """Print what was found; 0 when nobody needs to do anything."""
    began = time.monotonic()
    found = _of_node(options) if options.node else _of_host(options)
    is_well = not attention.lines(found)
    if options.json:
        print(json.dumps({"well": is_well, "findings": [attention.as_json(each) for each in found]}, indent=2))
        return 0 if is_well else 1
    for finding in found:
        print(f"{finding.severity}: {finding.line}")
    count = len(attention.lines(found))
    notes = len(found) - count
    beside = f", {notes} note{'s' * (notes > 1)}" if notes else ""
    said = (
        "well: nothing needs attention"
        if is_well
        else f"{count} findings need attention"
        if count > 1
        else "1 finding needs attention"
    )
    print(f"{said}{beside} ({time.monotonic() - began:.1f} s)")
    return 0 if is_well else 1


def _of_host(options: Namespace) -> list[Finding]:
    host = Host(options.config or default_path(), SECONDS)
    if host.settings is None or host.status is None:
        found = checks.findings(host)
        if options.all and host.settings is not None:
            found.append(
                Finding(Severity.NOTE, "no-pairs", "--all: nobody can be asked to visit others while no daemon answers here")
            )
        return found
    own, others = host.status.own["name"], _others(host.status)

    def ask(request: list[Any], seconds: float) -> Any:
        return host.asked(lambda talk, deadline: talk.ask(request, deadline), seconds)

    may_visit = "settings" in host.status.own  # told to administrators alone
    found = checks.findings(host, (lambda: mesh.visits(ask, own, others, options.all)) if may_visit else None)
    if not may_visit:
        words = f"{startup.name_of(os.geteuid())} is no administrator of this node, who alone may have others visited"
        found.append(Finding(Severity.NOTE, "no-visits", words, "run bdctl doctor as root"))
    return found


def _of_node(options: Namespace) -> list[Finding]:
    status: Status = calling.conversation(options, pages.status_of)

    def ask(request: list[Any], seconds: float) -> Checkup:
        said: Checkup = calling.conversation(options, lambda talk, deadline: talk.ask(request, deadline))
        return said

    def found() -> Iterator[Finding]:
        yield from map(attention.from_json, status.own.get("findings", []))
        yield from mesh.visits(ask, status.own["name"], _others(status), options.all)

    return gravest_first(found())


def _others(status: Status) -> list[str]:
    """The names of the other nodes that live."""
    return [
        node["name"] for node in status.nodes if node["status"] in ("alive", "suspect") and node["name"] != status.own["name"]
    ]
