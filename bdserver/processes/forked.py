"""What a forked process does: a child serves one connection after the other, and none ever comes back into its parent's loop.

What was its parent's it has let go of before, which is the listener's business; how a connection is served is handed in.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any, NoReturn

log = logging.getLogger("bdserver.listener")

Address = tuple[Any, ...]


def live_and_die(*acts: Callable[[], None]) -> NoReturn:
    """In a forked process: these, one after the other, and never back into what was the parent's loop."""
    status = 1
    try:
        for act in acts:
            act()
        status = 0
    except BaseException:
        log.exception("a child met a bug")
    finally:
        logging.shutdown()  # a line that came again and again may still want to be told how often
        os._exit(status)


def serve_callers(
    line: socket.socket,
    sock: socket.socket | None,
    count: int,
    refresh: Callable[[], None],
    serve: Callable[[socket.socket, Address | None], None],
) -> None:
    """In a child: one connection after the other, so many at most, as long as the listener wants it. `sock`: the first one, if
    it was forked for it."""
    for _ in range(count):
        if sock is None:
            sock = _next_connection(line)
            if sock is None:
                return
            _refresh(refresh)
        with sock:
            _serve(serve, sock)
        sock = None


def _next_connection(line: socket.socket) -> socket.socket | None:
    """In a child: say that it is ready, and wait for a connection; None at the end of the line."""
    try:
        line.sendall(b"!")
        _, descriptors, _, _ = socket.recv_fds(line, 1, 1)
    except OSError:  # the listener is gone, or did not hear a last word of ours
        return None
    return socket.socket(fileno=descriptors[0]) if descriptors else None


def _refresh(refresh: Callable[[], None]) -> None:
    try:
        refresh()
    except Exception:  # what could not be read is read again when it is needed; perhaps it is not
        log.exception("a child could not read anew what changed")


def _serve(serve: Callable[[socket.socket, Address | None], None], sock: socket.socket) -> None:
    try:
        address = sock.getpeername() if sock.family != socket.AF_UNIX else None
    except OSError:  # it went away while it waited
        return
    serve(sock, address)
