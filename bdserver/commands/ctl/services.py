"""What the mesh offers: list and find it, tell other programs of it; publish, sign and withdraw."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace

from bdserver.commands import calling, showing
from bdserver.commands.ctl.subcommand import SERVICE, Command, ask, option, plain, print_json, print_shown, status_of
from bdserver.core import holding
from bdserver.core.membership import COST_MAX, REPLICAS_MAX, Copies
from bdserver.core.messages import NotFound
from bdserver.errors import BadConfig, CantFind
from bdserver.files.lines import SHOWN_CHARACTERS_MAX

FIND_STEPS = 8


def services(options: Namespace) -> None:
    """All services and their holders, as the node knows them; or how the holders of one stand."""
    from bdserver.commands.ctl import holders

    if options.service:
        found = holders.one(options)
        return print_json(found) if options.json else print_shown(holders.shown(found), False)
    said = status_of(options)
    if options.json:
        return print_json(holding.services(said))
    rows, heads = holders.everything(said)
    if not rows:
        print("no services are known")
        return None
    return print_shown(showing.table(rows, heads), False)


def find(options: Namespace) -> None:
    """Search the mesh depth first, past every cache."""
    said = ask(options, ["FIND", options.service, [], FIND_STEPS])
    if isinstance(said, NotFound):
        raise CantFind(f"{options.service}: {len(said.visited)} nodes were asked, and none has it")
    if options.json:
        return print_json({"service": options.service, "node": said.giver})
    print(said.giver)
    return None


def export(options: Namespace) -> None:
    """Print what the mesh offers now, for another program."""
    from bdserver.commands.ctl import exporting

    found = exporting.offered(status_of(options), options.keep)
    for line in found.doubts if options.form != "hosts" else ():
        calling.warn("bdctl", line)
    text = exporting.FORMS[options.form](found)
    if options.to is None:
        if options.then is not None:
            raise BadConfig("export: --then is for what is written by --to FILE")
        print(text, end="")
        return
    from bdserver.commands.ctl import writing

    writing.write(options.to, text, options.then)


def publish(options: Namespace) -> None:
    """Offer a file or folder, or a URL, as a service; on stderr, why clients may not be able to call it yet."""
    from bdserver.commands.ctl import publishing

    name, said = publishing.publish(options, lambda request, package: ask(options, request, package))
    url = said.url
    for line in [*publishing.doubts(options, url), *said.notes]:
        calling.warn("bdctl", line)
    if options.json:
        return print_json({"service": name, "url": url})
    print(url)
    return None


def sign(options: Namespace) -> None:
    """Sign what is offered, or print what is to be signed by minisign, or take what was; or write down what is signed."""
    from bdserver.commands.ctl import publishing

    said = publishing.sign(options, lambda request: ask(options, request))
    for line in said.notes:
        calling.warn("bdctl", line)
    if options.json:
        return print_json({"service": options.service, "counter": said.counter, "signer": said.signer})
    print(said.text, end="")
    return None


def withdraw(options: Namespace) -> None:
    """Offer a service no longer: from how many other nodes it went too, and which were not reached."""
    said = ask(options, ["WITHDRAW", options.service, *([True] if options.here else [])])
    if options.json:
        return print_json({"service": options.service, "gone": said.gone, "left": said.left})
    if said.gone:
        nodes = f"{len(said.gone)} node{'s' * (len(said.gone) > 1)}"
        print(f"{options.service}: copies went from {nodes}: {', '.join(said.gone)}")
    if said.left:
        print(f"{options.service}: not reached, and obey when they hear of it: {', '.join(said.left)}")
    return None


def graveyard(options: Namespace) -> None:
    """List what lies in the graveyard, or restore one of it."""
    if options.action == "restore":
        if not options.service:
            raise BadConfig("graveyard restore needs the name of a SERVICE")
        ask(options, ["RESTORE", options.service])
        return None
    said = ask(options, ["GRAVEYARD"])
    if said.left_out:
        calling.warn("bdctl", f"and {said.left_out} more, which are restored by their names as well")
    if options.json:
        return print_json(said.names)
    for name in said.names:
        print(name)
    return None


def _weight(text: str) -> float:
    weight = calling.number(text)
    if not 0 <= weight <= COST_MAX:
        raise ArgumentTypeError(f"{text} is no weight from 0 to {COST_MAX:g}")
    return weight


def _replicas(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= REPLICAS_MAX):
        raise ArgumentTypeError(f"{text[:SHOWN_CHARACTERS_MAX]!r} is no whole number from 0 to {REPLICAS_MAX}")
    return int(text)


FORMS = ("haproxy", "nginx", "prometheus", "env", "hosts", "json")

COMMANDS = {
    "services": Command(
        services,
        "all services, and the nodes that have them; of one, how its holders stand",
        [option("service", metavar="SERVICE", nargs="?", type=calling.service_name)],
    ),
    "find": Command(find, "search the mesh for a service that no cache mentions", [SERVICE]),
    "export": Command(
        export,
        "print what the mesh offers now, for HAProxy, nginx, Prometheus, shells, /etc/hosts, or as JSON",
        [
            option("form", metavar="FORM", choices=FORMS, help=", ".join(FORMS)),
            option(
                "--keep",
                metavar="SERVICE",
                action="append",
                default=[],
                help="for haproxy and nginx: a backend for it in any case (may be repeated)",
            ),
            option("--to", metavar="FILE", help="write it there, whole, and only when it is another than before"),
            option(
                "--then", metavar="COMMAND", help="with --to: run this when it was written; if it fails, put the old file back"
            ),
        ],
    ),
    "publish": Command(
        publish,
        "offer a file or folder (or with --url something elsewhere) as a service",
        [
            option("file", metavar="FILE", help="the service; with --url alone: its name"),
            option("--name", help="its name, if not the file's"),
            option("--weight", type=_weight, help="the cost of one hit (default: as it was published before, else 1)"),
            option("--url", help="template of its URL, where it is not the node's usual one"),
            option(
                "--health", choices=("none", "tcp", "http"), help="how to see that it is well (default: as before, else none)"
            ),
            option(
                "--replicas",
                type=_replicas,
                metavar="N",
                help="how many living holders the mesh is to keep (default: as before, else 0: as calls need)",
            ),
            option(
                "--copies",
                choices=tuple(map(str, Copies)),
                help="where it may be copied to (default: as before, else the node's)",
            ),
            option("--sign", metavar="KEY", help="sign it with this publisher's key"),
            option(
                "--take-over",
                action="store_true",
                help="though it is a copy here; copies elsewhere whose original is gone follow it, too",
            ),
        ],
    ),
    "sign": Command(
        sign,
        "sign a service that is offered; without a key, print what minisign is to sign",
        [
            SERVICE,
            option("--key", metavar="KEY", help="a publisher's key, as bdkeys publisher makes it"),
            option("--signed", metavar="FILE", help="what was printed, with minisign's signature beside it in FILE.minisig"),
            option("--export", metavar="FILE", help="write what is signed now to FILE and FILE.minisig, for minisign -V"),
        ],
    ),
    "withdraw": Command(
        withdraw,
        "offer a service no longer, and take its copies along",
        [SERVICE, option("--here", action="store_true", help="on this node alone: copies stay, as orphans")],
    ),
    "adopt": Command(plain("ADOPT", "service"), "have the original of a service that is a copy without one", [SERVICE]),
    "graveyard": Command(
        graveyard,
        "list what was withdrawn or retired, or bring it back",
        [
            option("action", nargs="?", choices=("restore",), metavar="restore"),
            option("service", metavar="SERVICE", nargs="?", type=calling.service_name),
        ],
    ),
}
