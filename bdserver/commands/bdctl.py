"""bdctl: look at a node and its mesh, and administer it.

bdctl [--config CONFIG | --node HOST[:PORT]] [--json] COMMAND …    (bdctl --help lists the commands)

Each command is one function here, mostly one request; the table COMMANDS is the parser, the help and the dispatch.
Exit codes are bdwhereis'. With --json stdout carries the documented shapes.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any, BinaryIO

from bdserver import api
from bdserver.commands import calling, showing
from bdserver.core import holding, messages, pages
from bdserver.core.address import join_address, split_address
from bdserver.core.membership import ALIVE, LEFT, Copies
from bdserver.core.messages import NoPong, NotFound, Status
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig, CantFind, Deadline, Forbidden, NobodyThere
from bdserver.net.conversation import Conversation

FIND_STEPS = 8
DRAIN_POLL_SECONDS = 1.0
# A node that is there is visited within a round trip of its hint; after so long the person is told how it stands.
HINT_SECONDS = 3.0
HINT_POLL_SECONDS = 0.1


class Option(NamedTuple):
    """The arguments of argparse's add_argument."""

    flags: tuple[str, ...]
    keywords: dict[str, Any]


class Command(NamedTuple):
    """`run(options)` returns the exit status; None is 0."""

    run: Callable[[Namespace], int | None]
    help: str
    arguments: list[Option]


def _option(*flags: str, **keywords: Any) -> Option:
    return Option(flags, keywords)


def main(arguments: list[str] | None = None, spent: float = 0.0) -> int:
    """Run one command. `spent`: seconds of the time to wait that are over already."""
    options = _parser().parse_args(arguments)
    options.timeout = max(options.timeout - spent, 0.0)
    return calling.outcome("bdctl", lambda: COMMANDS[options.command].run(options))


def _parser() -> calling.Parser:
    description = "Look at a BDserver node and its mesh, and administer it."
    parser = calling.Parser(prog="bdctl", description=description, commands=COMMANDS)
    calling.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
        for option in command.arguments:
            sub.add_argument(*option.flags, **option.keywords)
    return parser


def _ask(options: Namespace, request: list[Any], package: BinaryIO | None = None) -> Any:
    return calling.conversation(options, lambda talk, deadline: talk.ask(request, deadline, package))


def _status(options: Namespace) -> Status:
    """How the node is, and all nodes that it knows, itself too."""
    return calling.conversation(options, lambda talk, deadline: pages.status(lambda request: talk.ask(request, deadline)))


def _address(text: str) -> str:
    """HOST:PORT of an address as a person writes it: the usual port may be left out."""
    return join_address(*split_address(text, api.PORT))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _print_shown(shown: list[str] | Any, is_json: bool) -> None:
    """What `showing` made of an answer."""
    if is_json:
        return _print_json(shown)
    for line in shown:
        print(line)
    return None


# --- looking ------------------------------------------------------------------------------------------------------


def ping(options: Namespace) -> int:
    """PONG of the node, or of others as it sees them; exit 4 if one is silent."""
    if options.nodes or options.all:
        results = [_ping_one(options, address) for address in _pinged(options)]
    else:
        started = time.monotonic()
        _ask(options, ["PING"])
        results = [("this node", "PONG", time.monotonic() - started)]
    _print_shown(showing.pings(results, options.json), options.json)
    return 0 if all(word == "PONG" for _, word, _ in results) else NobodyThere.exit


def _pinged(options: Namespace) -> list[str]:
    """The addresses of the nodes that are named, by name or address; with --all of all that are known."""
    if not options.all and all(":" in each for each in options.nodes):
        return [_address(each) for each in options.nodes]
    known = _status(options).nodes
    if options.all:
        return [node["address"] for node in known if node["status"] != LEFT]
    by_name = {node["name"]: node["address"] for node in known if node["name"]}
    return [by_name.get(each) or _address(each) for each in options.nodes]


def _ping_one(options: Namespace, address: str) -> tuple[str, str, float]:
    started = time.monotonic()
    said = _ask(options, ["PROBE", address])
    return address, said.reason if isinstance(said, NoPong) else "PONG", time.monotonic() - started


def status(options: Namespace) -> None:
    """How the node is, at a glance."""
    _print_shown(showing.status(_status(options).own, options.json), options.json)


def doctor(options: Namespace) -> int:
    """What is wrong with this host and its mesh, and what to do about it."""
    from bdserver.commands import doctoring

    return doctoring.doctor(options)


def nodes(options: Namespace) -> None:
    """All nodes that the node knows."""
    said = _status(options)
    _print_shown(showing.nodes(said.own, said.nodes, time.time(), options.json), options.json)


def services(options: Namespace) -> None:
    """All services and their holders, as the node knows them; or how the holders of one stand."""
    from bdserver.commands import holders

    if options.service:
        found = holders.one(options)
        return _print_json(found) if options.json else _print_shown(holders.shown(found), False)
    said = _status(options)
    if options.json:
        return _print_json(holding.services(said))
    rows, heads = holders.everything(said)
    if not rows:
        print("no services are known")
        return None
    return _print_shown(showing.table(rows, heads), False)


def find(options: Namespace) -> None:
    """Search the mesh depth first, past every cache."""
    said = _ask(options, ["FIND", options.service, [], FIND_STEPS])
    if isinstance(said, NotFound):
        raise CantFind(f"{options.service}: {len(said.visited)} nodes were asked, and none has it")
    if options.json:
        return _print_json({"service": options.service, "node": said.giver})
    print(said.giver)
    return None


def watch(options: Namespace) -> None:
    """Tell of each change in the mesh, as the node sees it, until interrupted."""
    from bdserver.commands import watching

    where = {"node": options.node or (), "keys": options.keys, "socket": options.socket, "config": options.config}
    with api.Mesh(timeout=options.timeout, **where) as mesh:

        def digest() -> str:
            return str(mesh.ask(lambda talk, deadline: talk.ask(["PING"], deadline)).digest)

        watching.watch(digest, lambda: mesh.status().nodes, options.json)


def export(options: Namespace) -> None:
    """Print what the mesh offers now, for another program."""
    from bdserver.commands import exporting

    found = exporting.offered(_status(options), options.keep)
    for line in found.doubts if options.form != "hosts" else ():
        calling.warn("bdctl", line)
    text = exporting.FORMS[options.form](found)
    if options.to is None:
        if options.then is not None:
            raise BadConfig("export: --then is for what is written by --to FILE")
        print(text, end="")
        return
    from bdserver.commands import writing

    writing.write(options.to, text, options.then)


# --- changing -----------------------------------------------------------------------------------------------------


def _plain(*words: str) -> Callable[[Namespace], None]:
    """A command that is one request and has nothing to say but that it went well."""

    def run(options: Namespace) -> None:
        said = _ask(options, [words[0], *(getattr(options, word) for word in words[1:])])
        if options.json:
            _print_json(messages.encoded(said))

    return run


def hint(options: Namespace) -> None:
    """Tell the node of another one, and what came of its first visit there."""
    address = _address(options.address)
    name, reason = calling.conversation(options, lambda talk, deadline: _first_visit(talk, address, deadline))
    if options.json:
        return _print_json({"address": address, "node": name, "reason": reason})
    print(f"{address}: known as {name}" if name else f"{address}: not yet reached, and visited again and again: {reason}")
    return None


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
    return pages.status(lambda request: talk.ask(request, deadline)).nodes


def _found(known: list[dict[str, Any]], address: str, before: set[str | None]) -> str | None:
    """The name of the living node at an address; else of one that was not known before: it goes by another address."""
    alive = {node["address"]: str(node["name"]) for node in known if node["status"] == ALIVE}
    if address in alive or any(node["address"] == address for node in known):
        return alive.get(address)
    return next((name for name in alive.values() if name not in before), None)


def publish(options: Namespace) -> None:
    """Offer a file or folder, or a URL, as a service; on stderr, why clients may not be able to call it yet."""
    from bdserver.commands import publishing

    name, said = publishing.publish(options, lambda request, package: _ask(options, request, package))
    url = said.url
    for line in [*publishing.doubts(options, url), *said.notes]:
        calling.warn("bdctl", line)
    if options.json:
        return _print_json({"service": name, "url": url})
    print(url)
    return None


def sign(options: Namespace) -> None:
    """Sign what is offered, or print what is to be signed by minisign, or take what was; or write down what is signed."""
    from bdserver.commands import publishing

    said = publishing.sign(options, lambda request: _ask(options, request))
    for line in said.notes:
        calling.warn("bdctl", line)
    if options.json:
        return _print_json({"service": options.service, "counter": said.counter, "signer": said.signer})
    print(said.text, end="")
    return None


def withdraw(options: Namespace) -> None:
    """Offer a service no longer: from how many other nodes it went too, and which were not reached."""
    said = _ask(options, ["WITHDRAW", options.service, *([True] if options.here else [])])
    if options.json:
        return _print_json({"service": options.service, "gone": said.gone, "left": said.left})
    if said.gone:
        print(f"{options.service}: copies went from {len(said.gone)} nodes: {', '.join(said.gone)}")
    if said.left:
        print(f"{options.service}: not reached, and obey when they hear of it: {', '.join(said.left)}")
    return None


def graveyard(options: Namespace) -> None:
    """List what lies in the graveyard, or restore one of it."""
    if options.action == "restore":
        if not options.service:
            raise BadConfig("graveyard restore needs the name of a SERVICE")
        _ask(options, ["RESTORE", options.service])
        return None
    said = _ask(options, ["GRAVEYARD"])
    if said.left_out:
        calling.warn("bdctl", f"and {said.left_out} more, which are restored by their names as well")
    if options.json:
        return _print_json(said.names)
    for name in said.names:
        print(name)
    return None


def drain(options: Namespace) -> None:
    """Take no new calls; with --wait until the calls of the last minute have faded; --off: take calls again."""
    if options.wait and options.off:
        raise BadConfig("drain: --wait is for the beginning of a drain, and --off ends one: give one of the two")
    _ask(options, ["DRAIN", not options.off])
    while options.wait:
        if _status(options).own["weight"] == 0:
            return
        time.sleep(DRAIN_POLL_SECONDS)


def invite(options: Namespace) -> None:
    """Print the line by which a host joins; with --list the invitations, with --revoke end one."""
    from bdserver.commands import inviting

    inviting.invite(options, lambda request: _ask(options, request))


def revoke(options: Namespace) -> None:
    """Tell the mesh that a certificate counts no longer; with --list what it was told."""
    from bdserver.commands import revoking

    if options.list:
        return revoking.show(_status(options).own.get("revoked", []), options.json)
    wish = revoking.wish(options)
    _ask(options, ["REVOKE", wish])
    return _print_json(wish) if options.json else None


def roll(options: Namespace) -> None:
    """Tell the mesh that another CA follows, as bdkeys roll has it."""
    from bdserver.commands import revoking

    _ask(options, ["ROLL", revoking.statement_in(options.file)])


def kill(options: Namespace) -> int:
    """End the node at once; with --all every node that can be found from it."""
    from bdserver.net.killing import kill_request

    password = _password() if options.password else None
    if options.all:
        return _kill_all(options, password)
    _ask(options, kill_request(password))
    return 0


def _password() -> str:
    """From the terminal, or the first line of standard input."""
    return getpass.getpass("admin_password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def _kill_all(options: Namespace, password: str | None) -> int:
    """The node of this host is ended over its socket, as `kill` alone does it; the others want keys."""
    from bdserver.net.killing import kill_outward, kill_request

    ended = kill_outward(
        _status(options),
        lambda: api.credentials_of(options.keys, options.config),
        password,
        lambda reason: calling.warn("bdctl", reason),
        None if options.node else lambda: _ask(options, kill_request(password)),
    )
    if options.json:
        _print_json({field: sorted(addresses) for field, addresses in ended._asdict().items()})
    else:
        refused = f", {len(ended.refused)} refused" if ended.refused else ""
        print(f"killed {len(ended.killed)} nodes, {len(ended.silent)} were not there{refused}")
    if ended.refused:
        calling.warn("bdctl", ended.refusal())
    return Forbidden.exit if ended.refused else 0


def password(options: Namespace) -> None:
    """Print the hash of a password, for admin_password."""
    from bdserver.files.password import hash_password

    first = _password()
    if sys.stdin.isatty() and getpass.getpass("again: ") != first:
        raise BadConfig("the two passwords differ")
    if not first:
        raise BadConfig("an empty password")
    print(hash_password(first))


def policy(options: Namespace) -> int:
    """Show a WS-Policy in the original's form, or compare two."""
    from bdserver.commands import policy as policies

    if options.action == "show" and len(options.files) == 1:
        return policies.show_command(options.files[0], options.json)
    if options.action == "compare" and len(options.files) == 2:
        return policies.compare_command(options.files[0], options.files[1], options.mode, options.json)
    raise BadConfig("policy show FILE, or policy compare FILE FILE")


_SERVICE = _option("service", metavar="SERVICE")

COMMANDS = {
    "ping": Command(
        ping,
        "is the node there? with names or addresses of others: are they, as it sees them?",
        [_option("nodes", metavar="NAME|ADDR", nargs="*"), _option("--all", action="store_true", help="all it knows")],
    ),
    "status": Command(status, "how the node is", []),
    "doctor": Command(
        doctor,
        "what is wrong with this host, its daemon running or not, and what to do; exit 1 if anything is",
        [_option("--all", action="store_true", help="each pair of nodes, too")],
    ),
    "nodes": Command(nodes, "all nodes that the node knows", []),
    "services": Command(
        services,
        "all services, and the nodes that have them; of one, how its holders stand",
        [_option("service", metavar="SERVICE", nargs="?")],
    ),
    "hint": Command(
        hint,
        "tell the node of another one: how a mesh is joined; says what came of the first visit",
        [_option("address", metavar="ADDR")],
    ),
    "forget": Command(_plain("FORGET", "node_"), "drop a node", [_option("node_", metavar="NAME|ADDR")]),
    "find": Command(find, "search the mesh for a service that no cache mentions", [_SERVICE]),
    "publish": Command(
        publish,
        "offer a file or folder (or with --url something elsewhere) as a service",
        [
            _option("file", metavar="FILE", help="the service; with --url alone: its name"),
            _option("--name", help="its name, if not the file's"),
            _option("--weight", type=calling.number, default=1.0, help="the cost of one hit (default 1)"),
            _option("--url", help="template of its URL, where it is not the node's usual one"),
            _option("--health", choices=("none", "tcp", "http"), default="none", help="how to see that it is well"),
            _option("--replicas", type=int, default=0, metavar="N", help="how many living holders the mesh is to keep"),
            _option("--copies", choices=tuple(Copies), default="", help="where it may be copied to (default: the node's)"),
            _option("--sign", metavar="KEY", help="sign it with this publisher's key"),
            _option("--take-over", action="store_true", help="though it is a copy here, and its original is elsewhere"),
        ],
    ),
    "sign": Command(
        sign,
        "sign a service that is offered; without a key, print what minisign is to sign",
        [
            _SERVICE,
            _option("--key", metavar="KEY", help="a publisher's key, as bdkeys publisher makes it"),
            _option("--signed", metavar="FILE", help="what was printed, with minisign's signature beside it in FILE.minisig"),
            _option("--export", metavar="FILE", help="write what is signed now to FILE and FILE.minisig, for minisign -V"),
        ],
    ),
    "watch": Command(watch, "tell of each change in the mesh, until interrupted", []),
    "export": Command(
        export,
        "print what the mesh offers now, for HAProxy, nginx, Prometheus, shells, /etc/hosts, or as JSON",
        [
            _option("form", choices=("haproxy", "nginx", "prometheus", "env", "hosts", "json")),
            _option(
                "--keep",
                metavar="SERVICE",
                action="append",
                default=[],
                help="for haproxy and nginx: a backend for it in any case (may be repeated)",
            ),
            _option("--to", metavar="FILE", help="write it there, whole, and only when it is another than before"),
            _option(
                "--then", metavar="COMMAND", help="with --to: run this when it was written; if it fails, put the old file back"
            ),
        ],
    ),
    "withdraw": Command(
        withdraw,
        "offer a service no longer, and take its copies along",
        [_SERVICE, _option("--here", action="store_true", help="on this node alone: copies stay, as orphans")],
    ),
    "adopt": Command(_plain("ADOPT", "service"), "have the original of a service that is a copy without one", [_SERVICE]),
    "graveyard": Command(
        graveyard,
        "list what was withdrawn or retired, or bring it back",
        [
            _option("action", nargs="?", choices=("restore",), metavar="restore"),
            _option("service", metavar="SERVICE", nargs="?"),
        ],
    ),
    "drain": Command(
        drain,
        "take no new calls",
        [
            _option("--wait", action="store_true", help="until the calls of the last minute have faded"),
            _option("--off", action="store_true", help="take calls again"),
        ],
    ),
    "invite": Command(
        invite,
        "print the line by which a host joins the mesh",
        [
            _option("name", metavar="NAME", nargs="?", default="", help="the only name that it may have"),
            _option("--hosts", metavar="N", type=int, default=1, help="for so many hosts (default 1)"),
            _option("--role", choices=("node", "client", "admin"), default="node", help="default: node"),
            _option("--valid", metavar="TIME", type=calling.duration, default=600.0, help="90s, 10m, 2h, 7d (default 10m)"),
            _option("--list", action="store_true", help="list the invitations of this node"),
            _option("--revoke", metavar="ID", help="let nobody in any more by this one"),
        ],
    ),
    "revoke": Command(
        revoke,
        "tell the mesh that the certificates of a node, client or admin count no longer",
        [
            _option("value", metavar="NAME", nargs="?", help="whose; with --serial, of which number"),
            _option("--serial", action="store_true", help="NAME is a serial number, as bdkeys show prints it"),
            _option("--signer", action="store_true", help="all that the signer of this name has signed"),
            _option("--in", dest="within", metavar="TIME", type=calling.duration, help="only then: 10m, 2h (--signer: 10m)"),
            _option("--why", metavar="TEXT", default="", help="a reason, for whoever lists them"),
            _option("--list", action="store_true", help="list what is revoked"),
        ],
    ),
    "roll": Command(
        roll,
        "tell the mesh that another CA follows: bdkeys roll makes the file; status shows how far it is",
        [_option("file", metavar="FILE")],
    ),
    "leave": Command(_plain("LEAVE"), "tell the mesh, and end the node", []),
    "kill": Command(
        kill,
        "end the node at once",
        [
            _option("--all", action="store_true", help="every node of the mesh"),
            _option("--password", action="store_true", help="ask for the admin_password"),
        ],
    ),
    "password": Command(password, "make a hash for admin_password", []),
    "policy": Command(
        policy,
        "show a WS-Policy, or compare two",
        [
            _option("action", choices=("show", "compare")),
            _option("files", metavar="FILE", nargs="+"),
            _option("--mode", choices=("strict", "lax"), default="lax"),
        ],
    ),
}
