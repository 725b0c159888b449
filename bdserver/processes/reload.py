"""SIGHUP, in each process that lives on: the listener, which passes it on to the discoverer and to the children that have a
caller.

All do the same, here; a child does before its next request. Children that wait for a caller are forked anew. Each part is read
for itself: one that is bad is told, and what was before stays in force. The listener waits until those files have rested for a
second, since what is being written is empty or cut. Nothing is written: that this node now says something
else of itself is the discoverer's to find, which looks at once.
"""

from __future__ import annotations

import logging
import os

from bdserver.errors import BadConfig, BDError
from bdserver.files import durable, policyfile, publishers
from bdserver.files.blacklist import BlackList
from bdserver.files.policyfile import PolicyFile
from bdserver.files.quarantine import Kind
from bdserver.files.settings import load
from bdserver.processes import logs
from bdserver.processes.node import Node

log = logging.getLogger("bdserver.reload")


def read_anew(node: Node) -> list[str]:
    """Read all that SIGHUP may change. Each thing that is bad is returned as a complaint, and the old one stays."""
    complaints = []
    node.services.read_anew()
    for read in (_settings, _policy, _black_list, _revoked, _publishers, Node.read_keys_anew):
        try:
            read(node)
        except BDError as error:
            complaints.append(str(error))
        except Exception as error:
            complaints.append(f"what SIGHUP reads anew can't be read: {error!r}")
            if os.getpid() == node.life.listener_pid:  # which speaks for the others: each does the same
                log.exception("reading anew met a bug")
    node.stale = complaints
    logs.set_level(node.settings.log_level)
    return complaints


def _settings(node: Node) -> None:
    fresh = load(node.settings.path)
    if node.settings.given and not fresh.given:
        raise BadConfig(
            f"{durable.shown(node.settings.path)}: nothing is set in it, as when a disk was full while it was written"
        )
    node.kept = node.settings.kept_against(fresh)
    node.settings = node.settings.with_reloadable(fresh)


def _policy(node: Node) -> None:
    mode = node.settings.policy_mode
    node.rules = node.rules._replace(policies=node.policies.with_own(node.policies.own, mode))
    path = node.sources.ws_policy or node.settings.ws_policy
    document = node.quarantine.read_elsewhere(None, lambda: _document(node, path)) if path else policyfile.NONE
    if document is None:
        raise BadConfig(f"{durable.shown(path)}: it can't be read now, or not in time")
    if isinstance(document, str):
        raise BadConfig(document)
    node.rules = node.rules._replace(document=document, policies=node.policies.with_own(document.policy, mode))


def _document(node: Node, path: str) -> PolicyFile | str:
    """Our policy's file, or what is wrong with it."""
    try:
        return policyfile.read(path, within=lambda digest: node.quarantine.guard(Kind.POLICY, digest, durable.shown(path)))
    except BDError as error:
        return str(error)


def _black_list(node: Node) -> None:
    node.rules = node.rules._replace(black_list=BlackList(node.sources.black_list or node.settings.black_list))


def _revoked(node: Node) -> None:
    node.rules.revoked.reload(node.settings.revoked)


def _publishers(node: Node) -> None:
    path = node.settings.publishers
    try:
        fresh = publishers.read(path)
    except BadConfig as error:
        node.rules = node.rules._replace(publishers=publishers.closed(path, str(error)))
        raise
    if fresh != node.rules.publishers:  # else what was judged by it stands
        node.rules = node.rules._replace(publishers=fresh)
