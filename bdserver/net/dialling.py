"""Reaching a node: over the local socket of its host, or over TLS at its HOST:PORT.

Promises a conversation within the deadline, or the one error that says what there is instead: Refused where the host
answers and nothing of ours listens, NobodyThere or Deadline for silence, Forbidden when one side does not accept the other's
certificate. A name server that does not answer costs the caller its deadline and no more. TLS is imported only where it is
used: `bdwhereis` would pay for it at each start.
"""

from __future__ import annotations

import socket
import time

from bdserver.core.wire import VERSION
from bdserver.errors import Deadline, NobodyThere, Refused
from bdserver.net.conversation import Conversation, LocalStream

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from typing import Any

    from bdserver.net.keys import Credentials

# Between two tries at a local socket whose backlog is full.
FULL_PAUSE = 0.005
# A name that stands for many addresses is tried at this many, each with its share of the time.
ADDRESSES_MAX = 4
# Names that one process looks up at once. Nobody can stop getaddrinfo, which may wait for a silent name server for minutes: a
# look-up that nobody waits for any more counts until it comes back, so that there is an end to threads that hang.
LOOK_UPS_MAX = 16


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

    sock = connect(address, deadline)
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


def connect(address: str, deadline: float) -> socket.socket:
    """A TCP connection to HOST:PORT; to the first of a name's addresses that takes it."""
    from bdserver.core.address import split_address

    host, port = split_address(address)
    if deadline <= time.monotonic():
        raise Deadline(f"no time left to call {address}")
    addresses = resolve(host, port, deadline)[:ADDRESSES_MAX]
    for left, (family, where) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        now = time.monotonic()
        seconds = (deadline - now) / left
        sock = None
        try:
            sock = socket.socket(
                family, socket.SOCK_STREAM
            )  # no descriptor left, or a host without IPv6: as if nobody were there
            sock.settimeout(max(seconds, 0.001))
            sock.connect(where)
            return sock
        except OSError as error:
            if sock is not None:
                sock.close()
            reason = _unreached(address, error, seconds)
    raise reason


def _unreached(address: str, error: OSError, seconds: float) -> NobodyThere:
    if isinstance(error, ConnectionRefusedError):
        return Refused(f"{address}: connection refused")
    if isinstance(error, TimeoutError):
        return NobodyThere(f"{address}: no answer in {seconds:.1f} s")
    return NobodyThere(f"{address}: {error.strerror or error}")


def resolve(host: str, port: int, deadline: float) -> list[tuple[int, Any]]:
    """(family, socket address) of a host, at least one; NobodyThere when its name is not known or nobody says so in time.

    An address is taken as it is. getaddrinfo knows no deadline, so a name is looked up beside us, and left behind when its
    time is over."""
    try:
        return found(host, port, is_numeric=True)
    except (OSError, UnicodeError):
        pass
    import queue

    answers: queue.SimpleQueue[list[tuple[int, Any]] | OSError | UnicodeError] = queue.SimpleQueue()
    if not look_up(host, port, answers.put):
        raise NobodyThere(f"{host}: {LOOK_UPS_MAX} names are being looked up already, and no name server answers")
    try:
        answer = answers.get(timeout=max(deadline - time.monotonic(), 0.0))
    except queue.Empty:
        raise NobodyThere(f"{host}: no name server said in time where that is") from None
    if isinstance(answer, OSError | UnicodeError):
        raise NobodyThere(f"{host}: {getattr(answer, 'strerror', None) or answer}")
    return answer


_looking: list[Thread] = []  # of a process from before a fork, none is alive


def look_up(host: str, port: int, done: Callable[[list[tuple[int, Any]] | OSError | UnicodeError], object]) -> bool:
    """Look a name up in a thread, from which `done` is called with what came of it; False when too many are under way."""
    import threading

    _looking[:] = [thread for thread in _looking if thread.is_alive()]
    if len(_looking) >= LOOK_UPS_MAX:
        return False

    def look() -> None:
        try:
            answer: list[tuple[int, Any]] | OSError | UnicodeError = found(host, port)
        except (OSError, UnicodeError) as error:
            answer = error
        done(answer)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    _looking.append(thread)
    return True


def found(host: str, port: int, is_numeric: bool = False) -> list[tuple[int, Any]]:
    """As `resolve`, without a deadline; OSError when there is none, or with `is_numeric` when it is a name."""
    flags = socket.AI_NUMERICHOST if is_numeric else 0
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, where) for family, _, _, _, where in rows]
