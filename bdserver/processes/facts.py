"""The facts of a node's own condition, gathered for core.attention, which alone judges them.

Each is in memory or a small file: to gather them asks nobody, and takes a fraction of a millisecond.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from bdserver.core import attention, namesakes, turns
from bdserver.core.attention import Facts, Finding, Unmet
from bdserver.core.view import View
from bdserver.files import disks
from bdserver.files.heard import Report
from bdserver.files.quarantine import Entry, Kind
from bdserver.net.keys import Credentials
from bdserver.processes.describing import left_out, namesakes_of
from bdserver.processes.node import Node

# Of the nodes that have a policy that can't be read, a warning shows so many.
OWNERS_SHOWN = 3


def findings(node: Node, view: View, now: float) -> list[Finding]:
    """What needs attention at this node, the gravest first."""
    return attention.findings(gather(node, view, now))


def _clock_off(report: Report, view: View) -> float | None:
    """One clock that differs may be its own fault, unless there is but one other node: then nobody knows whose it is."""
    return report.clock_off if report.clocks > 1 or len(view.others_there()) < 2 else None


def gather(node: Node, view: View, now: float) -> Facts:
    """As this process of the node knows them now."""
    _, _, doubts, untrusted = node.trust.judged()
    report, settings, services = node.heard.report(), node.settings, node.services.all()
    return Facts(
        name=node.name,
        address=node.address,
        now=now,
        namesakes=_namesakes(node, view, now),
        generation=view.own.version[0],
        certificate_ends_at=node.credentials.not_after,
        certificate_seconds=renewed_seconds(node.credentials),
        revocations=node.rules.revoked.complaint or "",
        revoked_at=_revoked_at(view, report.unmet),
        clock_off=_clock_off(report, view),
        is_alone=not view.others_there(),
        hints=tuple(sorted((view.hints | set(settings.hints)) - {node.address})),
        unmet=report.unmet,
        refusals={name: why for name, why in report.refusals.items() if _is_there(view, name)},
        doubted=report.doubted,
        load=node.load.total_weight(now) / settings.receiver_threshold,
        hung=time.monotonic() - node.beat.at() if node.beat.at() else 0.0,
        lag=report.lag,
        is_short=bool(node.shortage.at()) and time.monotonic() - node.shortage.at() < attention.SHORT_SECONDS,
        failing=report.failing,
        disks=disks.look((settings.var_dir, settings.service_log_dir, settings.services_dir, settings.graveyard_dir)),
        stale_files=_stale_files(node),
        kept_settings=tuple(node.kept),
        complaints=tuple(node.services.complaints),
        quarantine=tuple(_in_quarantine(entry, view) for entry in node.quarantine.entries() if entry.kind is not Kind.SERVICE),
        left_out=tuple(left_out(node, view.own, now)),
        unhealthy=tuple(view.own.extra.get("unhealthy", [])),
        publishers=node.rules.publishers.complaint,
        untrusted={name: why for name, why in doubts.items() if name in untrusted},
        unsigned={name: why for name, why in doubts.items() if name not in untrusted},
        **turns.condition(view)._asdict(),
        unchecked=tuple(sorted(name for name, each in services.items() if each.health == "none")),
    )


def renewed_seconds(credentials: Credentials) -> float | None:
    """How long a certificate that a signer renews is good; None for one that was made by hand."""
    return credentials.not_after - credentials.identity.not_before if credentials.chain.signer is not None else None


def _revoked_at(view: View, unmet: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """Who says that our certificate is revoked; a node that was called by its name and as a hint is one."""
    names = {record.address: record.name for record in view.records.values()}
    return tuple(sorted({names.get(whom, whom) for whom, said in unmet.items() if attention.why_unmet(*said) is Unmet.REVOKED}))


def _namesakes(node: Node, view: View, now: float) -> dict[str, str]:
    """Names that two live nodes have, ours among them: which two."""
    found = {record.name: namesakes.told(record) for record in view.others_there()}
    found[node.name] = namesakes_of(node, view, now)
    return {name: two.words for name, two in sorted(found.items()) if two is not None}


def _stale_files(node: Node) -> tuple[str, ...]:
    """What SIGHUP could not read, but for the lists that have a complaint of their own, until they can be read."""
    own = node.rules.revoked.complaint, node.rules.publishers.complaint
    lines = (line for complaint in node.stale for line in complaint.splitlines())
    return tuple(line for line in lines if not any(line in complaint for complaint in own))


def _is_there(view: View, name: str) -> bool:
    """Unless it is known to be gone."""
    record = view.records.get(name)
    return record is None or record.is_there


def _in_quarantine(entry: Entry, view: View) -> str:
    """The warning. A policy is told by its digest alone: whose it is, the records say."""
    owners = sorted(record.name for record in view.records.values() if record.policy == entry.digest)
    if owners:
        entry = entry._replace(origin=f"the policy of {', '.join(owners[:OWNERS_SHOWN])}")
    return entry.words()
