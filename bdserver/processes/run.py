"""Where a node is put together, and its life: the first record, the listener's loop, the pulse, reload, the last word.

The parts know each other by what is handed in here alone. Before it, `startup` has tried what may fail.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Sequence

import setproctitle

from bdserver.core import attention, exchange, membership
from bdserver.core.messages import Exchanged
from bdserver.core.policies import UNKNOWN
from bdserver.core.view import View
from bdserver.errors import BDError
from bdserver.net.conversation import Conversation
from bdserver.processes import child, discoverer, facts, reload, systemd
from bdserver.processes.children import Limits
from bdserver.processes.describing import Told, describe, finish_withdrawals, mark_left, own_record
from bdserver.processes.listener import Listener, Runs
from bdserver.processes.node import Life, Node
from bdserver.processes.pidfile import PidFile
from bdserver.processes.sockets import Sockets

log = logging.getLogger("bdserver.run")

# How often the status line of systemd is brought up to date.
STATUS_SECONDS = 10.0
GOODBYE_SECONDS, GOODBYE_NODES, GOODBYE_TRIES = 1.0, 3, 6


def run(node: Node, sockets: Sockets, claims: Sequence[PidFile], on_ready: Callable[[], None]) -> None:
    """Until the end of the node."""
    node.life = Life(os.getpid(), time.time())
    node.beat.note(time.monotonic())  # from now on it is waited for
    setproctitle.setproctitle(f"bdserverd: listener of {node.name} at {node.address}")
    try:
        begin(node)
        limits = Limits(node.settings.max_children, node.settings.max_children_per_address, node.settings.connections_per_child)
        listener = Listener(_parts(node, sockets, claims, on_ready), limits)
        node.life = node.life._replace(wake_descriptor=listener.wake_write, life_descriptor=listener.life_read)
        node.quarantine.be_hasty()
        listener.run()
    finally:
        sockets.remove()


def _parts(node: Node, sockets: Sockets, claims: Sequence[PidFile], on_ready: Callable[[], None]) -> Runs:
    return Runs(
        sockets=sockets.now,
        close_sockets=sockets.close,
        is_refused=node.is_black_listed,
        has_changed=functools.partial(_has_changed, node),
        refresh=node.refresh,
        rests_in=node.rests_in,
        reload=functools.partial(_reload, node),
        on_ready=functools.partial(_ready, node, on_ready),
        on_leaving=lambda: systemd.notify(STOPPING=1, STATUS="leaving: running requests end"),
        pulse=functools.partial(pulse, node),
        say_goodbye=functools.partial(say_goodbye, node, sockets),
        undo=functools.partial(_undo, node, claims),
        rehearse=functools.partial(child.rehearse, node),
        serve=functools.partial(child.serve_connection, node),
        close_ears=sockets.close_ears,
        discover=functools.partial(discoverer.run, node, sockets.ears),
        beat=node.beat.at,
        accepted=node.accepted.note,
    )


def _has_changed(node: Node) -> bool:
    """Whether what children know from before their fork is out of date; each is looked at."""
    found = node.rules.revoked.refresh(), node.look_at_keys(), node.look_at_services()
    return any(found)


def begin(node: Node) -> None:
    """This node's record with a new generation, on disk before anybody hears of it."""
    node.quarantine.settle()  # this first: the life before may have ended with what is read now
    node.heard.begin()
    with node.cache.locked() as view:
        previous = view.records.get(node.name)
        view.start((previous or own_record(node))._replace(address=node.address, draining=False), time.time())
        finish_withdrawals(node, view.own)
        describe(node, view, time.time(), Told(unhealthy=[]))
        for hint in node.settings.hints:
            if hint != node.address:
                view.hint(hint)


def _ready(node: Node, on_ready: Callable[[], None]) -> None:
    log.info("%s of %s answers at %s", node.name, node.mesh, node.address)
    systemd.notify(READY=1, STATUS="ready")
    on_ready()


def _undo(node: Node, claims: Sequence[PidFile]) -> None:
    """In each forked process: it must not keep the listener's locks, and every one inherits the same dice."""
    for claim in claims:
        claim.release()
    node.quarantine.begin_apart()
    node.rng.seed()


def pulse(node: Node, connections: int) -> float | None:
    """Tell systemd that the loop turns, and in figures how we are; None when nobody wants to know."""
    if "NOTIFY_SOCKET" not in os.environ:
        return None
    watchdog = systemd.watchdog_seconds()
    if watchdog is not None:
        systemd.notify(WATCHDOG=1)  # this first: the loop turns, even if the figures below can't be had
    systemd.notify(STATUS=figures(node, connections, time.time()))
    return min(STATUS_SECONDS, watchdog / 3) if watchdog is not None else STATUS_SECONDS


def figures(node: Node, connections: int, now: float) -> str:
    """The status line."""
    view = node.cache.view()
    services, weight = node.services.all(), node.load.total_weight(now)
    needs = attention.summary(facts.findings(node, view, now))
    return (
        f"{1 + len(view.others_there())} nodes, {len(services)} services here, weight {weight:.1f} of "
        f"{node.settings.receiver_threshold:g}{', draining' * view.own.draining}, {connections} connections"
        + (f"; {needs}" if needs else "")
    )


def _reload(node: Node) -> list[str]:
    systemd.reloading()
    try:
        return reload.read_anew(node)
    finally:
        systemd.notify(READY=1)


def say_goodbye(node: Node, sockets: Sockets) -> None:
    """The last word, to a few who pass it on; then nothing of us is left but the cache."""
    sockets.remove()
    sockets.close_ears()  # whoever says goodbye at the same time is refused here, instead of waiting for an answer
    try:
        mark_left(node)
    except BDError as error:
        log.error("leaving without a word: %s", error)
        return
    node.refresh()  # which has another process read their policies; nobody reads here what it has not
    view = node.cache.view()
    node.policies.take(dict.fromkeys(node.policies.unread(view), UNKNOWN))
    others = [record for record in view.others_there() if node.policies.talkable(view, record)]
    node.rng.shuffle(others)
    told = 0
    for record in others[:GOODBYE_TRIES]:
        if told == GOODBYE_NODES:
            break
        with contextlib.suppress(BDError):  # it is told by another one
            deadline = time.monotonic() + GOODBYE_SECONDS
            with node.call(membership.gossip_address(record), deadline, record.name) as conversation:
                _tell(conversation, view, node.name, deadline)
            told += 1
    log.info("%s left, %d nodes were told", node.name, told)


def _tell(conversation: Conversation, view: View, name: str, deadline: float) -> None:
    """That record, and behind it what the other side lacks of it."""
    telling = exchange.tell(lambda: view, [name], time.time())
    with contextlib.suppress(StopIteration):
        say = next(telling)
        while True:
            said = conversation.ask(["SYNCHRONIZE", say], deadline)
            say = telling.send(exchange.checked(said.exchange) if isinstance(said, Exchanged) else {})
