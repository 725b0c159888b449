"""How bdwhereis and bdctl reach a node: the local socket of --config, or each --node over TLS in turn.

Promises one conversation, or the one error that says why there is none. Imports TLS only under --node.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial

from bdserver.errors import BadConfig, BDError
from bdserver.files.settings import default_path, load
from bdserver.net import dialling, entrances

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable
    from typing import TypeVar

    from bdserver.net.conversation import Conversation
    from bdserver.net.entrances import Entrance
    from bdserver.net.keys import Credentials

    Result = TypeVar("Result")

# A lookup that replicates takes seconds; this is for all nodes together.
TIMEOUT_SECONDS = 10.0


def add_options(parser: ArgumentParser) -> None:
    """The options that choose the node."""
    parser.add_argument("--config", metavar="CONFIG", help=f"the local node's config (default: {default_path()})")
    parser.add_argument("--socket", metavar="PATH", help="the local node's socket, where its config can't be read")
    parser.add_argument("--node", metavar="HOST:PORT", action="append", help="ask this node over TLS (may be repeated)")
    parser.add_argument(
        "--keys",
        metavar="DIR/NAME",
        default=os.environ.get("BDSERVER_KEYS"),
        help="with --node: whose certificate to show (default: $BDSERVER_KEYS, else the local node's)",
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=TIMEOUT_SECONDS, help="default: 10")


def conversation(options: Namespace, say: Callable[[Conversation, float], Result], policy_text: str | None = None) -> Result:
    """What `say(conversation, deadline)` returns with the first node that answers."""
    return entrances.in_turn(_entrances(options, policy_text), time.monotonic() + options.timeout, say)


def _entrances(options: Namespace, policy_text: str | None) -> list[Entrance]:
    if not options.node:
        return [partial(dialling.dial_local, options.socket or load(options.config or default_path()).socket)]
    credentials = load_credentials(options)
    return [dialling.entrance(address, credentials, policy_text) for address in options.node]


def load_credentials(options: Namespace) -> Credentials:
    """The certificate that we show to nodes: --keys DIR/NAME, else the local node's own."""
    from bdserver.net import keys

    if options.keys:
        return keys.load_named(options.keys)
    try:
        settings = load(options.config or default_path())
    except BadConfig as error:
        raise BadConfig(f"--node needs a certificate: give --keys DIR/NAME ({error})") from None
    return keys.load(settings.key_dir, settings.username, settings.group)


def complain(program: str, error: BDError) -> int:
    """One line on stderr for each complaint; the exit status."""
    for line in str(error).splitlines():
        print(f"{program}: {line}", file=sys.stderr)
    return error.exit
