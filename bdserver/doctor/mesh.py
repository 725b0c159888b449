"""Checks of the way to other nodes: names that resolve, hints that are met, and with --all each pair of nodes.

Before a start this host visits its hints itself, with its own certificate; when its daemon runs, that makes the visits, and is
asked to have every other node make theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from bdserver.core import attention, checkup
from bdserver.core.address import split_address
from bdserver.core.attention import Finding, Severity
from bdserver.core.checkup import Visit
from bdserver.core.messages import Checkup
from bdserver.doctor.host import Host
from bdserver.errors import BDError, NoSuchCommand
from bdserver.net import tcp, visiting
from bdserver.net.visiting import Whom

GRAVE, WARNING, NOTE = Severity.GRAVE, Severity.WARNING, Severity.NOTE
NAME_SECONDS = 2.0
# For the visits of one node; all nodes make theirs side by side.
VISITS_SECONDS = 4.0
AT_ONCE = 32

# ask(request, seconds): the answer of this host's node.
Ask = Callable[[list[object], float], Checkup]


def names(host: Host) -> Iterator[Finding]:
    """Names in hints and advertise resolve, and this host's own leads to an address that others can call."""
    own = split_address(host.given.advertise, host.given.port)[0] if host.given.advertise else ""
    hosts = dict.fromkeys(each for each in [own, *(split_address(hint)[0] for hint in host.given.hints)] if each)
    asked = [each for each in hosts if not _is_address(each)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, (found, why) in zip(asked, pool.map(_resolved, asked), strict=True):
            if why:
                yield Finding(GRAVE, "names", f"the name {name} does not resolve: {why}", "see /etc/hosts and the name server")
            elif name == own and all(ip_address(each).is_loopback for each in found):
                words = f"advertise={host.given.advertise} leads to {found[0]} on this host, where no other one can call"
                yield Finding(WARNING, "names-loopback", words, "take its name out of that line of /etc/hosts")


def _is_address(text: str) -> bool:
    try:
        ip_address(text.split("%")[0])
    except ValueError:
        return False
    return True


def _resolved(name: str) -> tuple[list[str], str]:
    try:
        rows = tcp.resolve(name, 1, time.monotonic() + NAME_SECONDS)
    except BDError as error:
        return [], str(error)
    return [str(where[0]).split("%")[0] for _, where in rows], ""


def hints(host: Host) -> Iterator[Finding]:
    """Before the start: whoever is named in the hints can be called, with the certificate of this node."""
    if host.status is not None or host.credentials is None or host.is_running:
        return
    wanted = [Whom("", hint) for hint in host.given.hints if hint != host.address]
    visits = visiting.visit_all(host.call, wanted, min(host.deadline, time.monotonic() + VISITS_SECONDS))
    others = [visit for visit in visits if visit.name != host.name]
    if len(others) < len(visits):
        words = f"a node named {host.name} answers at {next(v.address for v in visits if v.name == host.name)} already"
        yield Finding(GRAVE, "rival", words, "each host needs a name of its own, and a certificate for it")
    yield from checkup.findings({"this host": others})


def node(host: Host) -> Iterator[Finding]:
    """What the daemon says of itself, and who is dead for it."""
    if host.status is None:
        return
    own = host.status.own
    for finding in map(attention.from_json, own.get("findings", [])):
        if finding.key != "restart" or "settings" not in own:  # else machine.daemon tells of the same settings
            yield finding
    for other in host.status.nodes:
        for finding in attention.of_another(other["status"], "", 0.0) if other["name"] else ():
            yield finding._replace(
                severity=WARNING,
                words=f"{other['name']} at {other['address']} is {finding.words}",
                remedy="see to its host, or bdctl forget it",
            )


def visits(ask: Ask, me: str, others: list[str], is_all: bool) -> Iterator[Finding]:
    """What the visits of this node to all others come to; with `is_all` those of each of them too, and how each is."""
    wishes: dict[str, list[object]] = {me: ["DOCTOR"]}
    if is_all:
        wishes |= {name: ["DOCTOR", {"of": name}] for name in others}
    told: dict[str, list[Visit]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = dict(zip(wishes, pool.map(lambda wish: _said(ask, wish), wishes.values()), strict=True))
    for name, answer in said.items():
        if isinstance(answer, Checkup):
            told[name] = [checkup.from_json(each) for each in answer.visits]
            if name != me:
                yield from (_of(name, each) for each in map(attention.from_json, answer.findings))
        else:
            yield _silent(name, answer)
    yield from checkup.findings(told)


def _said(ask: Ask, wish: list[object]) -> Checkup | BDError:
    try:
        return ask(wish, VISITS_SECONDS)
    except BDError as error:
        return error


def _of(name: str, finding: Finding) -> Finding:
    return finding._replace(words=f"{name}: {finding.words}")


def _silent(name: str, error: BDError) -> Finding:
    if isinstance(error, NoSuchCommand):
        return Finding(NOTE, "no-visits", f"{name} is of an older version, and visits nobody", "install this one there")
    return Finding(WARNING, "no-visits", f"{name} did not tell of its visits: {error}")
