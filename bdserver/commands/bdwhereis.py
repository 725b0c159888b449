"""bdwhereis: the URL of a host that has the service, may be talked to, is alive, and has capacity left.

bdwhereis [--config CONFIG | --node HOST[:PORT] …] [--policy FILE] [--json] [--explain] SERVICE

stdout carries the answer alone. Exit 0 found, 1 nobody has it, 2 wrong usage or config, 3 policy mismatch, 4 no node
reachable, 5 refused. Client scripts call it for each lookup, so what it imports is counted in milliseconds.
"""

from __future__ import annotations

from bdserver import api
from bdserver.commands import calling
from bdserver.net.entrances import located

TYPE_CHECKING = False  # as typing's, whose import would cost two milliseconds
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any


def main(arguments: list[str] | None = None, spent: float = 0.0) -> int:
    """Look up, print, and say by the exit status how it went. `spent`: seconds of the time to wait that are over already."""
    return calling.outcome("bdwhereis", lambda: _look_up(_parser().parse_args(arguments), spent))


def _look_up(options: Namespace, spent: float) -> None:
    options.timeout = max(options.timeout - spent, 0.0)
    policy_text = api.policy_text(options.policy)
    request = ["WHEREIS", options.service, policy_text]
    answer = calling.conversation(options, lambda talk, deadline: talk.ask(request, deadline), policy_text)
    if options.explain:
        _explain(answer.details)
    details = located(options.service, answer)
    print(_as_json(details) if options.json else details["url"])


def _parser() -> calling.Parser:
    parser = calling.Parser(prog="bdwhereis", description="Ask the mesh for a host that serves SERVICE now.")
    calling.add_options(parser)
    parser.add_argument(
        "--policy", metavar="FILE", type=calling.path, help="the client's WS-Policy: only hosts that it meets are named"
    )
    parser.add_argument("--json", action="store_true", help="print the whole answer as JSON")
    parser.add_argument("--explain", action="store_true", help="tell on stderr which nodes were asked, and what they said")
    parser.add_argument("service", metavar="SERVICE", type=calling.service_name)
    return parser


def _explain(details: dict[str, Any]) -> None:
    for asked in details["asked"]:
        calling.warn("bdwhereis", f"{asked['node']}: {asked['answer']} in {asked['ms']} ms")
    found = f"{details['node']} in phase {details['phase']}" if details["node"] else "nobody"
    calling.warn("bdwhereis", f"{details['service']}: {found}")


def _as_json(details: dict[str, Any]) -> str:
    import json

    return json.dumps(details)
