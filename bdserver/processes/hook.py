"""on_change: a program of the operator's that is told what changed in the mesh, as JSON on its standard input.

One run at a time; what changes meanwhile is told together at the next. A run has a time limit, the daemon's user, an
environment of four words, and nothing of the wire's but what it reads. One that fails is said in the log and by STATUS, and
what it was told is told again with the next change, or after a while. Nothing here waits: the discoverer's loop looks at it
once a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from bdserver.core.changes import changes
from bdserver.core.membership import Record
from bdserver.core.view import View
from bdserver.processes.answers.looking import node_seen
from bdserver.processes.node import Node

# A run that failed is tried again after so long, if nothing happens before.
RETRY_SECONDS = 30.0
# Changes that wait for a run; of more, how many.
CHANGES_MAX = 1000
# Of what a run says, its last words are shown.
SAID_BYTES, SAID_CHARACTERS_MAX = 2000, 200
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Sights:
    """The nodes as they were seen last, told anew only where a record is another."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Record, dict[str, Any]]] | None = None

    def changes(self, node: Node, view: View, wall: float) -> list[dict[str, Any]]:
        """What happened since the last look. At the first: that it begins, since something may have been missed."""
        before = self._seen
        self._seen = {name: self._sight(node, view, record) for name, record in view.records.items()}
        if before is None:
            return [{"at": round(wall, 3), "node": node.name, "kind": "began", "change": "begins to look at the mesh"}]
        others = {name for name in before.keys() | self._seen.keys() if before.get(name) is not self._seen.get(name)}
        old = {name: before[name][1] for name in others & before.keys()}
        new = {name: self._seen[name][1] for name in others & self._seen.keys()}
        return [{"at": round(wall, 3), **each.facts()} for each in changes(old, new)]

    def _sight(self, node: Node, view: View, record: Record) -> tuple[Record, dict[str, Any]]:
        known = (self._seen or {}).get(record.name)
        if known is not None and known[0] is record:
            return known
        return record, node_seen(node, view, record, node.heard_at(view)(record.name))


class Hook:
    """The program, its run, and what waits to be told. `complaint`: why the last run failed, "" when it did not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: list[dict[str, Any]] = []
        self._left_out = self._told_left_out = 0
        self._told: list[dict[str, Any]] = []
        self._not_before = float("-inf")
        self._pid, self._until, self._program = 0, 0.0, ""
        self._output, self._said = -1, b""
        self._is_late = False
        self.complaint = ""

    def tell(self, facts: list[dict[str, Any]]) -> None:
        """These are to be told."""
        self._waiting += facts
        more = len(self._waiting) - CHANGES_MAX
        if more > 0:
            self._left_out += more
            del self._waiting[:more]
        if facts:
            self._not_before = float("-inf")

    def turn(self, program: str, seconds: float, about: Mapping[str, Any]) -> None:
        """See to the run; begin one when there is something to tell. `program`: "" for none any more."""
        if self._pid and not self._has_ended():
            return
        if program and self._waiting and self._clock() >= self._not_before:
            self._begin(program, seconds, about)

    def end(self) -> None:
        """The node ends, and what runs for it."""
        if self._pid:
            self._kill(signal.SIGTERM)

    # -- a run

    def _begin(self, program: str, seconds: float, about: Mapping[str, Any]) -> None:
        self._told, self._waiting = self._waiting, []
        left_out = {"left_out": self._left_out} if self._left_out else {}
        environment = {"PATH": PATH, "LANG": "C.UTF-8", "BDSERVER_CONFIG": str(about["config"]), "HOME": "/"}
        facts = {**about, "changes": self._told, **left_out}
        self._program, self._said, self._is_late, self._told_left_out = program, b"", False, self._left_out
        try:
            self._spawn(program, json.dumps(facts).encode() + b"\n", environment)
        except OSError as error:
            self._failed(error.strerror or str(error))
            return
        self._until = self._clock() + seconds

    def _spawn(self, program: str, told: bytes, environment: dict[str, str]) -> None:
        """By posix_spawn: no code of ours runs between fork and exec, in a process that has threads and ignores signals."""
        given = os.memfd_create("changes")  # a file: whoever does not read it keeps nobody waiting
        output, output_end = os.pipe()
        try:
            os.set_blocking(output, False)
            os.write(given, told)
            os.lseek(given, 0, os.SEEK_SET)
            self._pid = os.posix_spawn(
                program,
                [program],
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, given, 0), *((os.POSIX_SPAWN_DUP2, output_end, fd) for fd in (1, 2))],
                setpgroup=0,
                setsigmask=(),
                setsigdef=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE),
            )
            self._output = output
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(given)
            os.close(output_end)

    def _has_ended(self) -> bool:
        self._listen()
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            if self._clock() > self._until:
                self._is_late = True
                self._kill(signal.SIGKILL)
            return False
        self._listen()
        os.close(self._output)
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        if code == 0 and not self._is_late:
            self.complaint, self._told = "", []
            self._left_out -= self._told_left_out
        else:
            self._failed("it took too long" if self._is_late else _how(code))
        return True

    def _failed(self, why: str) -> None:
        words = self._said.decode(errors="replace").strip().splitlines()[-1:]
        shown = "".join(each if each.isprintable() else "?" for each in "".join(words))[:SAID_CHARACTERS_MAX]
        self.complaint = f"on_change={self._program}: {why}" + (f": {shown}" if shown else "")
        self._waiting, self._told = [*self._told, *self._waiting], []
        self._not_before = self._clock() + RETRY_SECONDS

    def _listen(self) -> None:
        """What it says, so that it does not wait for us."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._output, 65536):
                self._said = (self._said + data)[-SAID_BYTES:]

    def _kill(self, number: int) -> None:
        """It, and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, number)


def _how(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"ended by signal {-code}"
