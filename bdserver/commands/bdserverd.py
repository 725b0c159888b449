"""bdserverd: a node. Starts the listener, which starts everything else.

bdserverd [--foreground | --check] CONFIG [WS_POLICY [BLACK_LIST]]

Everything that may fail (settings, keys, policy, folders, port) is tried before the process goes into the background,
so that a wrong start is one line on stderr and an exit status. The background process's parent returns 0 when the
listener answers. Signals: TERM leaves (running requests end first, the mesh is told), HUP reads files anew, QUIT ends
at once.
"""

from __future__ import annotations

import argparse
import gc
import sys
from typing import NoReturn

from bdserver import __version__
from bdserver.commands.output import written


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 (in the background: the listener answers), 2 wrong usage or configuration, 1 the host says no."""
    try:
        return written(lambda: _begin(_parser().parse_args(arguments)))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"bdserverd: {where}{error.strerror or error}", file=sys.stderr)
        return 1


def _begin(options: argparse.Namespace) -> int:
    gc.disable()  # until the listener begins its work: what is imported and read before that stays
    # Here, since collections are a twelfth of what importing it costs, and a wrong usage needs none of it.
    from bdserver.commands import daemonising

    return daemonising.begin(options)


class _Parser(argparse.ArgumentParser):
    """As calling.Parser, which costs a daemon that starts more imports."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help tells more)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bdserverd", description="A node of the BDserver service mesh.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--foreground", action="store_true", help="stay in the foreground, log to stderr")
    how.add_argument("--check", action="store_true", help="try everything up to the port, start nothing")
    parser.add_argument("--version", action="version", version=f"bdserverd {__version__}")
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("ws_policy", metavar="WS_POLICY", nargs="?", default="")
    parser.add_argument("black_list", metavar="BLACK_LIST", nargs="?", default="")
    return parser
