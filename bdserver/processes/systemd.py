"""Telling systemd how we are (sd_notify(3), sd_watchdog_enabled(3)): datagrams to $NOTIFY_SOCKET.

Where nobody listens nothing happens, and nothing here can fail: a node that can't tell goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from typing import TextIO


def notify(**fields: object) -> None:
    """Send `KEY=value` lines, as in notify(READY=1, STATUS="well")."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    text = "\n".join(f"{key}={' '.join(str(value).split())}" for key, value in fields.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        sock.connect(path.replace("@", "\0", 1) if path.startswith("@") else path)
        sock.send(text.encode())


def reloading() -> None:
    """Begin a reload; READY=1 ends it."""
    notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)


def watchdog_seconds() -> float | None:
    """How long systemd waits for a WATCHDOG=1 before it ends us; None when it does not wait."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) > 0 else None


def is_journal(stream: TextIO) -> bool:
    """Whether the stream leads to the journal (systemd.exec(5), $JOURNAL_STREAM): then lines begin with a priority."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournalFormatter(logging.Formatter):
    """`<3>text`: the priority by which the journal sorts (sd-daemon(3))."""

    PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

    def format(self, record: logging.LogRecord) -> str:
        """Each line of a traceback too has its priority."""
        prefix = f"<{self.PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())
