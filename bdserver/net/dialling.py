"""Reaching a node: over the local socket of its host, or over TLS at its HOST:PORT.

Promises a conversation within the deadline, or the one error that says what there is instead: Refused where the host
answers and nothing of ours listens, NobodyThere or Deadline for silence, Forbidden when one side does not accept the other's
certificate. TLS is imported only where it is used: `bdwhereis` would pay for it at each start.
"""

from __future__ import annotations

import socket
import time

from bdserver.core.wire import VERSION
from bdserver.errors import NobodyThere, Refused
from bdserver.net import tcp
from bdserver.net.conversation import Conversation, LocalStream

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

    from bdserver.net.keys import Credentials

# Between two tries at a local socket whose backlog is full.
FULL_PAUSE = 0.005


def dial_local(path: str, deadline: float) -> Conversation:
    """A conversation over the local socket of this host's node."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(max(deadline - time.monotonic(), 0.001))
    while True:
        try:
            sock.connect(path)
            return Conversation(LocalStream(sock), path)
        except BlockingIOError:  # its backlog is full: unlike TCP, a local socket says so at once
            if time.monotonic() < deadline:
                time.sleep(FULL_PAUSE)
                continue
            reason = "the node is too busy to answer"
        except OSError as error:
            reason = f"{error.strerror or error} (is bdserverd running?)"
        sock.close()
        raise NobodyThere(f"{path}: {reason}")


def dial(
    address: str,
    credentials: Credentials,
    deadline: float,
    name: str | None = None,
    policy_digest: str | None = None,
    policy_text: str | None = None,
    version: int = VERSION,
) -> Conversation:
    """A conversation over TLS with the node at HOST:PORT, which must prove to be `name` if that is given."""
    from bdserver.net import tls

    sock = tcp.connect(address, deadline)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = tls.connect(sock, credentials, address, deadline)
    except BaseException:
        sock.close()
        raise
    if name is not None and stream.identity.name != name:
        stream.close()
        raise Refused(f"{address}: {stream.identity.name} is there, not {name}")
    return Conversation(stream, address, policy_digest, policy_text, version)


def entrance(address: str, credentials: Credentials, policy_text: str | None = None) -> Callable[[float], Conversation]:
    """A way into the mesh, for net.entrances: dials that node, whatever its name, within a deadline."""
    return lambda deadline: dial(address, credentials, deadline, policy_text=policy_text)
