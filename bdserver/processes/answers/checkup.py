"""DOCTOR: how this node finds itself, and what comes of visits to the others, for `bdctl doctor`.

A visit costs both sides a handshake, so one request at a time makes them, whoever asks; and only nodes that are known to live
are visited, as many as core.checkup allows.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Any

from bdserver.core import attention, checkup, membership, pages
from bdserver.core.messages import Checkup
from bdserver.core.view import View
from bdserver.errors import TooBusy
from bdserver.files import durable
from bdserver.net.visiting import Whom, visit_all
from bdserver.processes import facts
from bdserver.processes.node import Node
from bdserver.processes.session import Session

# What is left for our own word when visits have taken their time.
ANSWER_SECONDS = 0.2


def answer_doctor(session: Session, wish: dict[str, Any] | None = None) -> Checkup:
    """Our own findings and visits; with {"of": NAME}, that node's, through us; with {"visit": NAME}, that visit alone."""
    node, view, asked = session.node, session.view(), wish or {}
    of = asked.get("of")
    if isinstance(of, str) and of != node.name:
        passed = {key: value for key, value in asked.items() if key == "visit"}
        said: Checkup = session.ask(of, ["DOCTOR", passed], session.left())
        return said
    found = facts.findings(node, view, node.clock())
    with _alone(node):
        visits = visit_all(node.call, _whom(node, view, asked.get("visit")), session.deadline - ANSWER_SECONDS)
    told = pages.within(map(checkup.as_json, visits), pages.PAGE_BYTES // 2)
    return Checkup(node.name, pages.within(map(attention.as_json, found)), told)


def _whom(node: Node, view: View, only: object) -> Iterator[Whom]:
    """The others that are said to live; of them `only` one, if that is a name."""
    there = [record.name for record in view.others_there()]
    for name in checkup.whom(node.name, [each for each in there if only in (None, each)]):
        record = view.records[name]
        yield Whom(name, record.address, membership.gossip_address(record))


@contextlib.contextmanager
def _alone(node: Node) -> Iterator[None]:
    """Not while another child visits; a lock that ends with this process."""
    path = os.path.join(node.settings.var_dir, f"{node.settings.username}.visiting")
    descriptor = durable.open_regular(path, os.O_RDWR | os.O_CREAT, mode=0o600)
    try:
        if not _is_had(descriptor):
            raise TooBusy("visits to the other nodes are under way already")
        yield
    finally:
        os.close(descriptor)


def _is_had(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
