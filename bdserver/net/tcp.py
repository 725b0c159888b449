"""A TCP connection to a host, by address or by name, within a deadline.

Promises a connected socket, Refused where the host answers and nothing listens, NobodyThere or Deadline for silence. A name
server that does not answer costs the caller its deadline and no more. What is said on the connection is for others.
"""

from __future__ import annotations

import socket
import time

from bdserver.errors import Deadline, NobodyThere, Refused

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from typing import Any

# A name that stands for many addresses is tried at this many, each with its share of the time.
ADDRESSES_MAX = 4
# Names that one process looks up at once. Nobody can stop getaddrinfo, which may wait for a silent name server for minutes: a
# look-up that nobody waits for any more counts until it comes back, so that there is an end to threads that hang.
LOOK_UPS_MAX = 16


def connect(address: str, deadline: float) -> socket.socket:
    """A TCP connection to HOST:PORT; to the first of a name's addresses that takes it."""
    from bdserver.core.address import split_address

    return reach(*split_address(address), address, deadline)


def reach(host: str, port: int, address: str, deadline: float) -> socket.socket:
    """As `connect`, for a host and port that are known to be well-formed: `address` in the words of a complaint."""
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
            reason = unreached(address, error, seconds)
    raise reason


def unreached(address: str, error: OSError, seconds: float) -> NobodyThere:
    """What a connection that was not made in so many seconds means."""
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
        raise NobodyThere(f"{host}: {LOOK_UPS_MAX} names are being looked up already, or there is no room for a thread")
    try:
        answer = answers.get(timeout=max(deadline - time.monotonic(), 0.0))
    except queue.Empty:
        raise NobodyThere(f"{host}: no name server said in time where that is") from None
    if isinstance(answer, OSError | UnicodeError):
        raise NobodyThere(f"{host}: {getattr(answer, 'strerror', None) or answer}")
    return answer


_looking: list[Thread] = []  # of a process from before a fork, none is alive


def look_up(host: str, port: int, done: Callable[[list[tuple[int, Any]] | OSError | UnicodeError], object]) -> bool:
    """Look a name up in a thread, from which `done` is called with what came of it; False when too many are under way, or there
    is no room for one more."""
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
    try:
        thread.start()
    except RuntimeError:
        return False
    _looking.append(thread)
    return True


def found(host: str, port: int, is_numeric: bool = False) -> list[tuple[int, Any]]:
    """As `resolve`, without a deadline; OSError when there is none, or with `is_numeric` when it is a name."""
    flags = socket.AI_NUMERICHOST if is_numeric else 0
    # An address in bytes: for a text Python imports what names beyond ASCII need, which takes a millisecond.
    rows = socket.getaddrinfo(host.encode() if is_numeric else host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, where) for family, _, _, _, where in rows]
