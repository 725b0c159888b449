"""bdctl: look at a node and its mesh, and administer it.

bdctl [--config CONFIG | --node HOST[:PORT]] [--json] COMMAND …    (bdctl --help lists the commands)

The commands lie in the folder ctl, by topic: each is a function there, mostly one request, and a row of COMMANDS in the same
file. All rows together are the parser, the help and the dispatch. Exit codes are bdwhereis'. With --json stdout carries the
documented shapes.
"""

from __future__ import annotations

import argparse

from bdserver.commands import calling
from bdserver.commands.ctl import access, nodes, services
from bdserver.commands.ctl.subcommand import Command

COMMANDS: dict[str, Command] = {**nodes.COMMANDS, **services.COMMANDS, **access.COMMANDS}


def main(arguments: list[str] | None = None, spent: float = 0.0) -> int:
    """Run one command. `spent`: seconds of the time to wait that are over already."""
    return calling.outcome("bdctl", lambda: _run(_parser().parse_args(arguments), spent))


def _run(options: argparse.Namespace, spent: float) -> int | None:
    options.timeout = max(options.timeout - spent, 0.0)
    return COMMANDS[options.command].run(options)


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
