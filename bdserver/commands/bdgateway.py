"""bdgateway: answers DNS and HTTP for the programs of this host, by asking its node over the local socket.

bdgateway [--check] [CONFIG]

Runs in the foreground and logs to stderr, as systemd wants it. TERM and INT end it. It needs no rights but to reach the socket.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType

from bdserver import __version__
from bdserver.commands import calling
from bdserver.errors import NotYet

# As bdserverd: what may pass by itself is tried again by systemd, what only an editor mends (2) is not.
TRY_AGAIN = 1
ENDING = (signal.SIGTERM, signal.SIGINT)


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when it was told to end, 2 wrong usage or configuration, 1 the host says no."""
    options = _parser().parse_args(arguments)
    try:
        return calling.outcome("bdgateway", lambda: _run(options))
    except SystemExit:
        return 0


def _run(options: argparse.Namespace) -> int:
    from bdserver.gateway import config as gateway_config

    config = gateway_config.load(options.config)
    from bdserver.gateway import run

    # All threads that are begun from here on leave signals to this one, which takes none before it is ready.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    for address in config.open_to_others:
        calling.warn("bdgateway", f"{address}: others than this host can look up, and see the mesh, there")
    try:
        sockets = run.Sockets(config)
    except NotYet as error:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        calling.complain("bdgateway", error)
        return TRY_AGAIN
    if options.check:
        sockets.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        print(f"{config.path}: ok")
        return 0
    from bdserver.processes import logs, systemd

    handler, _ = logs.to_stderr("bdgateway", config.log_format)
    logs.install(handler, config.log_level)

    def ready(quieten: Callable[[], None]) -> None:
        def end(number: int, frame: FrameType | None) -> None:
            quieten()
            sys.exit(0)

        for number in ENDING:
            signal.signal(number, end)
        systemd.notify(READY=1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    run.run(config, sockets, ready)
    return 0


def _parser() -> calling.Parser:
    parser = calling.Parser(
        prog="bdgateway", description="DNS and HTTP for the programs of this host, answered by its BDserver node."
    )
    parser.add_argument("--check", action="store_true", help="try everything up to the ports, start nothing")
    parser.add_argument("--version", action="version", version=f"bdgateway {__version__}")
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="default: /etc/bdserver/gateway.conf, if it is there")
    return parser
