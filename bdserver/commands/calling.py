"""How bdwhereis and bdctl reach a node: the local socket of --config, or each --node over TLS in turn.

Promises one conversation, or the one error that says why there is none. Imports TLS only under --node.
"""

from __future__ import annotations

import os
import sys
import time

from bdserver.errors import BadConfig, BDError, Deadline, NobodyThere, TooBusy
from bdserver.files.settings import default_path, load
from bdserver.net import client

# A lookup that replicates takes seconds; this is for all nodes together.
TIMEOUT_SECONDS = 10.0
# A node that does not answer must leave time for the next one.
SHARE = 0.5


def add_options(parser) -> None:
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


def conversation(options, then, policy_text=None):
    """Call `then(conversation, deadline)` with the first node that answers; its result.

    Raises NobodyThere naming every node that was tried when none does."""
    deadline = time.monotonic() + options.timeout
    if not options.node:
        path = options.socket or load(options.config or default_path()).socket
        with client.dial_local(path, deadline) as talk:
            return then(talk, deadline)
    credentials = load_credentials(options)
    silent = []
    for left, address in zip(range(len(options.node), 0, -1), options.node, strict=True):
        until = deadline if left == 1 else time.monotonic() + (deadline - time.monotonic()) * SHARE
        try:
            with client.dial(address, credentials, until, policy_text=policy_text) as talk:
                return then(talk, until)
        except (NobodyThere, Deadline, TooBusy) as error:
            silent.append(str(error))
    raise NobodyThere("no node answers: " + "; ".join(silent))


def load_credentials(options):
    """The certificate that we show to nodes: --keys DIR/NAME, else the local node's own."""
    from bdserver.net import tls

    if options.keys:
        return tls.load_named(options.keys)
    try:
        settings = load(options.config or default_path())
    except BadConfig as error:
        raise BadConfig(f"--node needs a certificate: give --keys DIR/NAME ({error})") from None
    return tls.load(settings.key_dir, settings.username)


def complain(program: str, error: BDError) -> int:
    """One line on stderr for each complaint; the exit status."""
    for line in str(error).splitlines():
        print(f"{program}: {line}", file=sys.stderr)
    return error.exit
