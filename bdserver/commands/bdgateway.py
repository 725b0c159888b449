"""bdgateway: answers DNS and HTTP for the programs of this host, by asking its node over the local socket.

bdgateway [--check] [CONFIG]

Runs in the foreground and logs to stderr, as systemd wants it. TERM and INT end it; HUP reads the config and the policy anew.
It needs no rights but to reach the socket.
"""

from __future__ import annotations

import argparse
import queue
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING

from bdserver import __version__
from bdserver.commands import calling
from bdserver.errors import NotYet

if TYPE_CHECKING:
    from bdserver.gateway.run import Faces

# As bdserverd: what may pass by itself is tried again by systemd, what only an editor mends (2) is not.
TRY_AGAIN = 1
ENDING = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*ENDING, signal.SIGHUP)


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when it was told to end, 2 wrong usage or configuration, 1 the host says no."""
    return calling.outcome("bdgateway", lambda: _until_told_to_end(_parser().parse_args(arguments)))


def _until_told_to_end(options: argparse.Namespace) -> int:
    try:
        return _run(options)
    except SystemExit:
        return 0


def _run(options: argparse.Namespace) -> int:
    from bdserver.gateway import config as gateway_config

    config = gateway_config.load(options.config)
    from bdserver.gateway import run
    from bdserver.gateway.sockets import Sockets

    # All threads that are begun from here on leave signals to this one, which takes none before it is ready.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for address in config.open_to_others:
        calling.warn("bdgateway", f"{address}: others than this host can look up, and see the mesh, there")
    try:
        sockets = Sockets(config)
    except NotYet as error:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        calling.complain("bdgateway", error)
        return TRY_AGAIN
    if options.check:
        sockets.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        print(f"{config.path}: ok" if config.is_there else f"{config.path} is not there: ok with all at its default")
        return 0
    from bdserver.processes import logs

    handler, _ = logs.to_stderr("bdgateway", config.log_format)
    logs.install(handler, config.log_level)

    run.run(config, sockets, _take_signals)
    return 0


def _take_signals(faces: Faces) -> None:
    """All is ready: from now on signals end or reload it."""
    from bdserver.processes import systemd

    def end(number: int, frame: FrameType | None) -> None:
        faces.quieten()
        sys.exit(0)

    # A handler may put into this queue whatever its thread was doing; and what is read anew keeps no request waiting.
    wanted: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(target=_reload_for_ever, args=(faces, wanted), name="reload", daemon=True).start()
    for number in ENDING:
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, lambda number, frame: wanted.put(number))
    systemd.notify(READY=1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _reload_for_ever(faces: Faces, wanted: queue.SimpleQueue[int]) -> None:
    from bdserver.processes import logs, systemd

    while True:
        wanted.get()
        systemd.reloading()
        logs.set_level(faces.reload().log_level)
        systemd.notify(READY=1)


def _parser() -> calling.Parser:
    parser = calling.Parser(
        prog="bdgateway", description="DNS and HTTP for the programs of this host, answered by its BDserver node."
    )
    parser.add_argument("--check", action="store_true", help="try everything up to the ports, start nothing")
    parser.add_argument("--version", action="version", version=f"bdgateway {__version__}")
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="default: /etc/bdserver/gateway.conf, if it is there")
    return parser
