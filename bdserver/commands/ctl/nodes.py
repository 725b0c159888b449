"""The nodes of the mesh: look at them, watch them, tell one of another, and end them."""

from __future__ import annotations

import contextlib
import time
from argparse import Namespace
from typing import Any

from bdserver import api
from bdserver.commands import calling, showing
from bdserver.commands.ctl.subcommand import (
    Command,
    ask,
    conversation,
    full_address,
    option,
    plain,
    print_json,
    print_shown,
    status_of,
    typed_password,
)
from bdserver.core import pages
from bdserver.core.membership import ALIVE, LEFT
from bdserver.core.messages import NoPong
from bdserver.errors import BadConfig, Deadline, Forbidden, NobodyThere
from bdserver.files.settings import Settings, default_path, load
from bdserver.net.conversation import Conversation

DRAIN_POLL_SECONDS = 1.0
# A node that is there is visited within a round trip of its hint; after so long the person is told how it stands.
HINT_SECONDS = 3.0
HINT_POLL_SECONDS = 0.1
# A node that leaves gives its callers 10 s to end, and tells up to six others, each a second long.
END_SECONDS = 20.0
END_POLL_SECONDS = 0.05


def ping(options: Namespace) -> int:
    """PONG of the node, or of others as it sees them; exit 4 if one is silent."""
    if options.nodes or options.all:
        results = [_ping_one(options, address) for address in _pinged(options)]
    else:
        started = time.monotonic()
        ask(options, ["PING"])
        results = [("this node", "PONG", time.monotonic() - started)]
    print_shown(showing.pings(results, options.json), options.json)
    return 0 if all(word == "PONG" for _, word, _ in results) else NobodyThere.exit


def _pinged(options: Namespace) -> list[str]:
    """The addresses of the nodes that are named; with --all of all that are known."""
    if not options.all:
        return _addresses(options, options.nodes)
    if options.nodes:
        raise BadConfig("ping: --all is all that are known: name none beside it")
    return [node["address"] for node in status_of(options).nodes if node["status"] != LEFT]


def _addresses(options: Namespace, nodes: list[str]) -> list[str]:
    """Of nodes that are named by name or address. Where all are addresses, nobody is asked for the names."""
    if all(":" in each for each in nodes):
        return [full_address(each) for each in nodes]
    by_name = {node["name"]: node["address"] for node in status_of(options).nodes if node["name"]}
    return [by_name.get(each) or full_address(each) for each in nodes]


def _ping_one(options: Namespace, address: str) -> tuple[str, str, float]:
    started = time.monotonic()
    said = ask(options, ["PROBE", address])
    return address, said.reason if isinstance(said, NoPong) else "PONG", time.monotonic() - started


def status(options: Namespace) -> None:
    """How the node is, at a glance."""
    print_shown(showing.status(status_of(options).own, options.json), options.json)


def doctor(options: Namespace) -> int:
    """What is wrong with this host and its mesh, and what to do about it."""
    from bdserver.commands.ctl import doctoring

    return doctoring.doctor(options)


def nodes(options: Namespace) -> None:
    """All nodes that the node knows."""
    said = status_of(options)
    print_shown(showing.nodes(said.own, said.nodes, time.time(), options.json), options.json)


def watch(options: Namespace) -> None:
    """Tell of each change in the mesh, as the node sees it, until interrupted."""
    from bdserver.commands.ctl import watching

    where = {"node": options.node or (), "keys": options.keys, "socket": options.socket, "config": options.config}
    with api.Mesh(timeout=options.timeout, **where) as mesh:

        def digest() -> str:
            return str(mesh.ask(lambda talk, deadline: talk.ask(["PING"], deadline)).digest)

        watching.watch(digest, lambda: mesh.status().nodes, options.json)


def hint(options: Namespace) -> None:
    """Tell the node of another one, and what came of its first visit there."""
    address = _address_to_hint(options, options.address)
    name, reason = conversation(options, lambda talk, deadline: _first_visit(talk, address, deadline))
    if options.json:
        return print_json({"address": address, "node": name, "reason": reason})
    reason = reason.removeprefix(f"{address}: ")
    print(f"{address}: known as {name}" if name else f"{address}: not yet reached, and visited again and again: {reason}")
    return None


def _address_to_hint(options: Namespace, text: str) -> str:
    """Of a node that lives and is known by this name, where it is; else a name is a host's, since a dead one may have moved."""
    address = full_address(text)
    if ":" in text:
        return address
    alive = {node["name"]: str(node["address"]) for node in status_of(options).nodes if node["status"] == ALIVE}
    return alive.get(text, address)


def _first_visit(talk: Conversation, address: str, deadline: float) -> tuple[str | None, str]:
    """(the name of the node there, ""), or (None, why it was not reached yet)."""
    before = {node["name"] for node in _known(talk, deadline)}
    talk.ask(["HINT", address], deadline)
    until = min(time.monotonic() + HINT_SECONDS, deadline)
    try:
        said = talk.ask(["PROBE", address], until)
    except Deadline:
        return None, "no answer yet"
    if isinstance(said, NoPong):
        return None, said.reason
    while True:
        there = _found(_known(talk, deadline), address, before)
        if there is not None:
            return there, ""
        if time.monotonic() + HINT_POLL_SECONDS >= until:
            return None, "it answers, and its record has not come yet"
        time.sleep(HINT_POLL_SECONDS)


def _known(talk: Conversation, deadline: float) -> list[dict[str, Any]]:
    return pages.status_of(talk, deadline).nodes


def _found(known: list[dict[str, Any]], address: str, before: set[str | None]) -> str | None:
    """The name of the living node at an address; else of one that was not known before: it goes by another address."""
    alive = {node["address"]: str(node["name"]) for node in known if node["status"] == ALIVE}
    if address in alive or any(node["address"] == address for node in known):
        return alive.get(address)
    return next((name for name in alive.values() if name not in before), None)


def drain(options: Namespace) -> None:
    """Take no new calls; with --wait until the calls of the last minute have faded; --off: take calls again."""
    if options.wait and options.off:
        raise BadConfig("drain: --wait is for the beginning of a drain, and --off ends one: give one of the two")
    ask(options, ["DRAIN", not options.off])
    while options.wait:
        if status_of(options).own["weight"] == 0:
            return
        time.sleep(DRAIN_POLL_SECONDS)


def leave(options: Namespace) -> None:
    """Tell the mesh, and end the node; the one of this host has ended then, so that it can be started anew at once."""
    plain("LEAVE")(options)
    if not (options.node or options.socket):
        with contextlib.suppress(BadConfig):  # the node has read a better one
            _wait_ended(load(options.config or default_path()), time.monotonic() + max(options.timeout, END_SECONDS))


def _wait_ended(settings: Settings, until: float) -> None:
    """Until no daemon of this config lives; Deadline when its end takes longer."""
    from bdserver.processes.pidfile import PidFile

    pid_file = PidFile(settings.pid_file)
    while pid_file.is_held():
        if time.monotonic() > until:
            raise Deadline(f"{pid_file.path}: the node leaves, and has not ended yet")
        time.sleep(END_POLL_SECONDS)


def kill(options: Namespace) -> int:
    """End the node at once; with --all every node that can be found from it."""
    from bdserver.net.killing import kill_request

    password = typed_password() if options.password else None
    if password == "":
        raise BadConfig("an empty password: nobody is ended")
    if options.all:
        return _kill_all(options, password)
    ask(options, kill_request(password))
    return 0


def _kill_all(options: Namespace, password: str | None) -> int:
    """The node of this host is ended over its socket, as `kill` alone does it; the others want keys."""
    from bdserver.net.killing import kill_outward, kill_request

    ended = kill_outward(
        status_of(options),
        lambda: api.credentials_of(options.keys, options.config),
        password,
        lambda reason: calling.warn("bdctl", reason),
        None if options.node else lambda: ask(options, kill_request(password)),
    )
    if options.json:
        print_json({field: sorted(addresses) for field, addresses in ended._asdict().items()})
    else:
        refused = f", {len(ended.refused)} refused" if ended.refused else ""
        print(f"killed {len(ended.killed)} nodes, {len(ended.silent)} were not there{refused}")
    if ended.refused:
        calling.warn("bdctl", ended.refusal())
    return Forbidden.exit if ended.refused else 0


COMMANDS = {
    "ping": Command(
        ping,
        "is the node there? with names or addresses of others: are they, as it sees them?",
        [option("nodes", metavar="NAME|ADDR", nargs="*"), option("--all", action="store_true", help="all it knows")],
    ),
    "status": Command(status, "how the node is", []),
    "doctor": Command(
        doctor,
        "what is wrong with this host, its daemon running or not, and what to do; exit 1 if anything is",
        [option("--all", action="store_true", help="each pair of nodes, too")],
    ),
    "nodes": Command(nodes, "all nodes that the node knows", []),
    "watch": Command(watch, "tell of each change in the mesh, until interrupted", []),
    "hint": Command(
        hint,
        "tell the node of another one: how a mesh is joined; says what came of the first visit",
        [option("address", metavar="ADDR")],
    ),
    "forget": Command(plain("FORGET", "node_"), "drop a node", [option("node_", metavar="NAME|ADDR")]),
    "drain": Command(
        drain,
        "take no new calls",
        [
            option("--wait", action="store_true", help="until the calls of the last minute have faded"),
            option("--off", action="store_true", help="take calls again"),
        ],
    ),
    "leave": Command(leave, "tell the mesh, and end the node; back when the one of this host has ended", []),
    "kill": Command(
        kill,
        "end the node at once",
        [
            option("--all", action="store_true", help="every node of the mesh"),
            option("--password", action="store_true", help="ask for the admin_password"),
        ],
    ),
}
