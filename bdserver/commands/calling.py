"""How bdwhereis and bdctl reach a node: the local socket of --config, or each --node over TLS in turn.

Promises one conversation, or the one error that says why there is none. Imports TLS only under --node.
"""

from __future__ import annotations

import sys
import time

from bdserver import api
from bdserver.errors import BDError
from bdserver.files.settings import default_path
from bdserver.net.entrances import in_turn

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable
    from typing import TypeVar

    from bdserver.net.conversation import Conversation

    Result = TypeVar("Result")


def add_options(parser: ArgumentParser) -> None:
    """The options that choose the node."""
    parser.add_argument("--config", metavar="CONFIG", help=f"the local node's config (default: {default_path()})")
    parser.add_argument("--socket", metavar="PATH", help="the local node's socket, where its config can't be read")
    parser.add_argument("--node", metavar="HOST:PORT", action="append", help="ask this node over TLS (may be repeated)")
    parser.add_argument(
        "--keys",
        metavar="DIR/NAME",
        help="with --node: whose certificate to show (default: $BDSERVER_KEYS, else the local node's)",
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=api.TIMEOUT_SECONDS, help="default: 10")


def conversation(options: Namespace, say: Callable[[Conversation, float], Result], policy_text: str | None = None) -> Result:
    """What `say(conversation, deadline)` returns with the first node that answers."""
    ways = api.entrances(options.node or [], options.keys, options.socket, options.config, policy_text)
    return in_turn(ways, time.monotonic() + options.timeout, say)


def complain(program: str, error: BDError) -> int:
    """One line on stderr for each complaint; the exit status."""
    for line in str(error).splitlines():
        print(f"{program}: {line}", file=sys.stderr)
    return error.exit
