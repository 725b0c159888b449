"""The daemon's log: to stderr, to a file, or to syslog. It neither ends nor delays the process that has something to say.

A line that can't be written at once is lost and counted: nobody reads the pipe or /dev/log, the file's folder is gone, the
disk is full. When lines can be written again, the first one says how many were lost. A line that comes again and again is said
a few times, and then how many times more; one of a kind that comes too often, in ever other words, is left out and counted
(`lograte`); of a traceback, so much is said as helps. So whoever makes a process say something fills no disk. Whether something
is worth a line, and how loud, is everybody else's business.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import select
import socket
import stat
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Protocol

from bdserver.files import durable
from bdserver.processes.lograte import RATE, Rates
from bdserver.processes.systemd import JournalFormatter, is_journal

# One write to a pipe carries so much whole, or not at all.
ATOMIC_BYTES = select.PIPE_BUF
# A datagram larger than this may not go in at all; a traceback is some kilobytes.
DATAGRAM_BYTES_MAX = 32 << 10
DAEMON_FACILITY = 3 << 3
# When it is not this, syslog takes datagrams at the old port.
DEV_LOG = "/dev/log"
SYSLOG_PORT = 514
# When the same line has come so often within so many seconds, it is counted; as long as it goes on coming, how often is said
# after twice the time of before. Of what a person does, each deserves its line; and so does all that is said to who debugs.
SAID_MAX, REPEAT_SECONDS, REPEAT_SECONDS_MAX = 3, 1.0, 60.0
# Lines that are remembered for that. A flood is of a few.
REMEMBERED_MAX = 64
# Of a traceback, the innermost frames of each error, and the last lines of all: what a stranger sent may be in them, nested as
# deep as Python goes, and as long as a message.
FRAMES_MAX, TRACEBACK_LINES_MAX, TRACEBACK_LINE_CHARACTERS_MAX = 20, 60, 500
# `log_format`; a line of JSON must go into one write.
TEXT, JSON = "text", "json"
JSON_CHARACTERS_MAX = ATOMIC_BYTES - 16
# Of these libraries, only warnings are for an operator.
NOISY = ("filelock", "asyncio")


class Sink(Protocol):
    """Where lines go."""

    def write(self, text: str, level: int) -> None:
        """All of it at once, without waiting; else OSError."""


class Handler(logging.Handler):
    """Lines into a sink; what does not go in is counted."""

    def __init__(self, sink: Sink, formatter: logging.Formatter):
        super().__init__()
        self.sink = sink
        self.setFormatter(formatter)
        self._lost, self._why = 0, ""
        self._repeats, self._rates = _Repeats(), Rates()

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises."""
        try:
            now = time.monotonic()
            record.msg, record.args = _harmless(record.getMessage()), ()
            for each in self._repeats.ended(now):
                self._say_if_seldom(each, now)
            if not self._repeats.is_one(record, now):
                self._say_if_seldom(record, now)
        except Exception as error:  # a line whose values do not fit its text: a bug, but not of the one who logs
            self._lose(f"{record.name}: {error}")

    def flush(self) -> None:
        """At the end of a process: how often lines came again."""
        for each in self._repeats.ended(float("inf")):
            self._say_if_seldom(each, time.monotonic())

    def _say_if_seldom(self, record: logging.LogRecord, now: float) -> None:
        """Who debugs sees each."""
        if record.levelno > logging.DEBUG:
            if left_out := self._rates.left_out(now):
                text = f"{_lines(left_out)} left out: the like came more often than {RATE:g} a second"
                self._say(_line(__name__, logging.WARNING, text))
            if not self._rates.has_room(f"{record.pathname}:{record.lineno}", now):
                return
        self._say(record)

    def _say(self, record: logging.LogRecord) -> None:
        if record.exc_info and not record.exc_text:
            record.exc_text = _traceback(record)
        text = self.format(record)
        try:
            if self._lost:
                self.sink.write(self.format(self._confession()), logging.WARNING)
                self._lost = 0
            self.sink.write(text, record.levelno)
        except OSError as error:
            self._lose(error.strerror or str(error))

    def _lose(self, why: str) -> None:
        self._lost += 1
        self._why = why
        self._repeats.clear()  # it was not said

    def _confession(self) -> logging.LogRecord:
        return _line(__name__, logging.WARNING, f"{_lines(self._lost)} lost: {self._why}")


def _lines(count: int) -> str:
    return "1 line of this log was" if count == 1 else f"{count} lines of this log were"


def _line(name: str, level: int, text: str, **place: object) -> logging.LogRecord:
    values = {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": text}
    return logging.makeLogRecord(values | place)


def _harmless(text: str) -> str:
    """What strangers sent may be in it: nothing in it moves a terminal, and its second line is not taken for a line of ours."""
    return text if text.isprintable() else "\n  ".join(map(_visible, text.split("\n")))


def _visible(line: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)


def _traceback(record: logging.LogRecord) -> str:
    """As much of it as is said."""
    assert isinstance(record.exc_info, tuple)
    lines = "".join(traceback.format_exception(*record.exc_info, limit=-FRAMES_MAX)).splitlines()
    left_out = [f"… {len(lines) - TRACEBACK_LINES_MAX} lines more"] if len(lines) > TRACEBACK_LINES_MAX else []
    return "\n".join(left_out + [_visible(line[:TRACEBACK_LINE_CHARACTERS_MAX]) for line in lines[-TRACEBACK_LINES_MAX:]])


class _Said:
    """A line, until when the same again is counted, and how often it was. `seconds`: how long that is at a time."""

    def __init__(self, record: logging.LogRecord, now: float) -> None:
        self.name, self.level, self.text = record.name, record.levelno, record.getMessage()
        self.place = {"pathname": record.pathname, "lineno": record.lineno}
        self.seconds, self.until, self.more = REPEAT_SECONDS, now + REPEAT_SECONDS, 0
        self.said_left = SAID_MAX


class _Repeats:
    """The lines that this process said a moment ago."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._said: dict[tuple[int, str, object], _Said] = {}

    def is_one(self, record: logging.LogRecord, now: float) -> bool:
        """Whether it was said a moment ago, more often than is of use; then it is counted."""
        if record.levelno <= logging.DEBUG:
            return False
        key = record.levelno, record.getMessage(), record.exc_info and record.exc_info[0]
        said = self._said.get(key)
        if said is None:
            if len(self._said) >= REMEMBERED_MAX:
                return False
            said = self._said[key] = _Said(record, now)
        if said.said_left:
            said.said_left -= 1
            return False
        said.more += 1
        return True

    def clear(self) -> None:
        """Remember none."""
        self._said.clear()

    def ended(self, now: float) -> Iterator[logging.LogRecord]:
        """What is to be said of those whose time is over."""
        if self._process != os.getpid():  # forked: these are the parent's to say
            self._process = os.getpid()
            self.clear()
        for key, said in list(self._said.items()):
            if now < said.until:
                continue
            if not said.more:
                del self._said[key]
                continue
            times = "once" if said.more == 1 else f"{said.more} times"
            yield _line(said.name, said.level, f"{said.text} … {times} more", **said.place)
            said.seconds, said.more = min(2 * said.seconds, REPEAT_SECONDS_MAX), 0
            said.until = now + said.seconds


# --- where lines go -----------------------------------------------------------------------------------------------


class Stream:
    """A descriptor that somebody else opened: a terminal, a pipe, a file, the journal's socket."""

    def __init__(self, descriptor: int):
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        self._sock = socket.socket(fileno=os.dup(descriptor)) if is_socket else None
        self._descriptor = descriptor if is_socket else _not_waiting(descriptor)

    def files(self) -> list[int]:
        """The descriptors that it needs."""
        return [self._sock.fileno() if self._sock is not None else self._descriptor]

    def write(self, text: str, level: int) -> None:
        """In pieces that go in whole or not at all: a line is never half there."""
        data = _encoded(text)
        pieces = [data] if len(data) <= ATOMIC_BYTES else [line[: ATOMIC_BYTES - 1] + b"\n" for line in data.splitlines()]
        for piece in pieces:
            if self._sock is not None:
                self._sock.send(piece, socket.MSG_DONTWAIT)
            else:
                _write_whole(self._descriptor, piece)


class File:
    """`log_file`: opened anew whenever its name means another file, or none (logrotate)."""

    def __init__(self, path: str):
        self.path = path
        self._descriptor = _opened(path)

    def write(self, text: str, level: int) -> None:
        """One write."""
        if not durable.has_name(self._descriptor, self.path):
            descriptor = _opened(self.path)
            os.close(self._descriptor)
            self._descriptor = descriptor
        _write_whole(self._descriptor, _encoded(text))


class Syslog:
    """Datagrams to the host's syslog, which may be started anew at any time."""

    def __init__(self, path: str = DEV_LOG):
        self.path = path
        self._sock: socket.socket | None = None

    def write(self, text: str, level: int) -> None:
        """One datagram; the connection is made anew if there was another syslog when it was made."""
        priority = DAEMON_FACILITY | JournalFormatter.PRIORITIES.get(level, 6)
        data = f"<{priority}>{text}".encode(errors="backslashreplace")[:DATAGRAM_BYTES_MAX]
        is_new = self._sock is None
        self._sock = sock = self._sock or self._connected()
        try:
            sock.send(data)
        except BlockingIOError:  # nobody reads: another connection would not help
            raise
        except OSError:
            self._sock = None
            sock.close()
            if is_new:
                raise
            self.write(text, level)

    def _connected(self) -> socket.socket:
        is_local = os.path.exists(self.path)
        sock = socket.socket(socket.AF_UNIX if is_local else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(self.path if is_local else ("127.0.0.1", SYSLOG_PORT))
        except OSError:
            sock.close()
            raise
        return sock


def _not_waiting(descriptor: int) -> int:
    """A descriptor of our own for a pipe or a terminal, since whether one waits belongs to the open file, which others
    share: a shell whose terminal does not wait would read nothing. Other files never wait for long."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or os.isatty(descriptor):
        how = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with contextlib.suppress(OSError):  # without /proc, or opened by another user: then it waits, as it always did
            return os.open(f"/proc/self/fd/{descriptor}", how)
    return descriptor


def _opened(path: str) -> int:
    """For appending; a pipe of that name that nobody reads is an error, instead of a wait."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o644)


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace") + b"\n"


def _write_whole(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- in JSON ------------------------------------------------------------------------------------------------------


class JsonFormatter(logging.Formatter):
    """A line of JSON each (RFC 8259), which one write carries whole: at, level, process, logger, message; `trace` behind an
    error. `has_priority`: the journal sorts by what stands before it."""

    def __init__(self, has_priority: bool = False) -> None:
        super().__init__()
        self._has_priority = has_priority

    def format(self, record: logging.LogRecord) -> str:
        """Of what is too long for a line the end of the trace is kept, and the beginning of the message."""
        said: dict[str, object] = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            said["trace"] = record.exc_text
        text = json.dumps(said)
        if len(text) > JSON_CHARACTERS_MAX:
            for key in ("message", "trace"):
                words = str(said.get(key, ""))
                # A character is six in JSON at most.
                said[key] = words[: JSON_CHARACTERS_MAX // 14] if key == "message" else words[-JSON_CHARACTERS_MAX // 14 :]
            text = json.dumps(said)
        prefix = f"<{JournalFormatter.PRIORITIES.get(record.levelno, 6)}>" if self._has_priority else ""
        return prefix + text


# --- which one ----------------------------------------------------------------------------------------------------


def to_stderr(program: str = "bdserverd", log_format: str = TEXT) -> tuple[Handler, list[int]]:
    """In the foreground; and the descriptors that it needs. The journal knows time, process and priority of a line; the
    reader of a terminal wants to see what it is."""
    sink = Stream(sys.stderr.fileno())
    if log_format == JSON:
        return Handler(sink, JsonFormatter(has_priority=is_journal(sys.stderr))), sink.files()
    formatter = JournalFormatter("%(message)s") if is_journal(sys.stderr) else None
    return Handler(sink, formatter or logging.Formatter(program + ": %(levelname)s: %(message)s")), sink.files()


def to_background(log_file: str, log_format: str = TEXT) -> Handler:
    """To `log_file`; without one to syslog, which adds the time itself. OSError when the file can't be opened."""
    if log_format == JSON:
        return Handler(File(log_file) if log_file else Syslog(), JsonFormatter())
    if log_file:
        formatter = logging.Formatter("%(asctime)s bdserverd[%(process)d] %(levelname)s: %(message)s")
        return Handler(File(log_file), formatter)
    return Handler(Syslog(), logging.Formatter("bdserverd[%(process)d]: %(message)s"))


def install(handler: logging.Handler, level: str) -> None:
    """From now on, all of this process's log goes there; a forked process inherits it."""
    logging.getLogger().handlers[:] = [handler]
    set_level(level)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """`log_level`, at the start and whenever it changes: in each process that lives on."""
    logging.getLogger().setLevel(level.upper())
