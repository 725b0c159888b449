"""What the discoverer alone knows and others tell, USERNAME.bdheard: when this node last spoke with whom, who refuses its
record, who was not met and why, who suspected this node, how late its loop was, and which of its chores fail; told by STATUS
and the audit.

Beside the cache, not in it: a quiet mesh changes nothing in the cache, while every probe is a word heard. A report, so it
is renamed into place but not synced: killed, the old or the new one is there; after a power cut it may begin anew. Nothing
decides by it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from bdserver.core.tuples import NamedTuple
from bdserver.errors import NoSpace
from bdserver.files import durable
from bdserver.files.values import value_in

WRITE_SECONDS = 5.0
# So late is worth a word, though nobody was heard.
LATE_SECONDS = 0.1
# More than anybody reads; they have one cause as a rule.
REFUSALS_MAX = 20
# 20,000 names of a hundred characters, each with its time.
FILE_BYTES_MAX = 4 << 20
# Of so many nodes, the ones asked last, we remember what time it is there; less than this is no other time.
CLOCKS_MAX, CLOCK_CHANGE_SECONDS = 25, 1.0
# Of what came of a visit.
WORDS_CHARACTERS_MAX = 300

log = logging.getLogger("bdserver.heard")


class Report(NamedTuple):
    """`times`: name -> epoch seconds. `lag`: the most seconds that the loop was late, of the last WRITE_SECONDS or more.
    `failing`: a line for each thing that the discoverer could not do when it last tried. `refusals`: who does not take in our
    record -> why. `unmet`: name or address of a node that was called in vain -> code and text of why. `doubted`: who said that
    this node is suspect or dead, and when. `clock_off`: by how many seconds our clock is ahead of most others', of the `clocks`
    that were asked."""

    times: dict[str, float]
    lag: float = 0.0
    failing: tuple[str, ...] = ()
    refusals: Mapping[str, str] = MappingProxyType({})
    unmet: Mapping[str, tuple[str, str]] = MappingProxyType({})
    doubted: tuple[tuple[str, ...], float] = ((), 0.0)
    clock_off: float | None = None
    clocks: int = 0


class Heard:
    """The file, and what of it this process has read or is about to write."""

    def __init__(self, path: str):
        self.path = path
        self._report = Report({})
        self._refusals: dict[str, str] = {}
        self._unmet: dict[str, tuple[str, str]] = {}
        self._clocks: dict[str, float] = {}
        self._stamp: durable.Stamp | None = None
        self._written_at = 0.0
        self._is_new = False

    def note(self, name: str, now: float) -> None:
        """The node of this name has answered us just now."""
        self._report.times[name] = now
        self._is_new = True

    def note_refusal(self, name: str, why: str) -> None:
        """The node of this name does not take in our record; "": it does (again)."""
        if why == self._refusals.get(name, ""):
            return
        if not why:
            del self._refusals[name]
        elif len(self._refusals) < REFUSALS_MAX or name in self._refusals:
            self._refusals[name] = why
        self._is_new = True

    def note_visit(self, whom: str, code: str, text: str) -> None:
        """What came of calling the node of this name, or at this address; no code: it was met."""
        if (code, text) == self._unmet.get(whom, ("", text)):
            return
        if not code:
            del self._unmet[whom]
        elif len(self._unmet) < REFUSALS_MAX or whom in self._unmet:
            self._unmet[whom] = code, text[:WORDS_CHARACTERS_MAX]
        self._is_new = True

    def forgive(self) -> None:
        """This node has another certificate or other CAs: what somebody had against those of before is no word on these."""
        if self._refusals or self._unmet:
            self._refusals.clear()
            self._unmet.clear()
            self._is_new = True

    def note_clock(self, name: str, ahead: float) -> None:
        """Our clock is so many seconds ahead of that node's. Where most others agree with us it is theirs that is off."""
        self._clocks.pop(name, None)
        self._clocks[name] = ahead
        if len(self._clocks) > CLOCKS_MAX:
            del self._clocks[next(iter(self._clocks))]
        found = sorted(self._clocks.values())
        low, high = found[(len(found) - 1) // 2], found[len(found) // 2]
        off, before = round(low if abs(low) < abs(high) else high, 1), self._report.clock_off
        is_second = self._report.clocks < 2 <= len(found)
        self._report = self._report._replace(clock_off=off, clocks=len(found))
        self._is_new |= before is None or abs(off - before) >= CLOCK_CHANGE_SECONDS or is_second

    def note_doubters(self, names: Sequence[str], now: float) -> None:
        """These say that this node is suspect or dead."""
        if names:
            self._report = self._report._replace(doubted=(tuple(names[:REFUSALS_MAX]), now))
            self._is_new = True

    def write(self, known: set[str], lag: float, now: float) -> bool:
        """Now and then, on disk; names that are known no longer are dropped. Whether it was written, or tried to be."""
        is_worth_it = self._is_new or max(lag, self._report.lag) > LATE_SECONDS  # late now, or said to be, and so no longer
        if not is_worth_it or 0 <= now - self._written_at < WRITE_SECONDS:  # a clock may be put back
            return False
        self._written_at, self._is_new = now, False
        times = {name: at for name, at in self._report.times.items() if name in known}
        self._write(self._report._replace(times=times, lag=lag, refusals=dict(self._refusals), unmet=dict(self._unmet)))
        return True

    def tell(self, failing: tuple[str, ...]) -> None:
        """What fails now; on disk at once, if that is another than before."""
        if failing != self.report().failing:
            self._write(self._report._replace(failing=failing))

    def _write(self, report: Report) -> None:
        self._report = report
        said = {
            "heard": {name: round(at, 1) for name, at in report.times.items()},
            "lag": round(report.lag, 3),
            "failing": report.failing,
            "refusals": dict(report.refusals),
            "unmet": dict(report.unmet),
            "doubted": report.doubted,
            "clock_off": report.clock_off,
            "clocks": report.clocks,
        }
        try:
            self._stamp = durable.replace(self.path, [json.dumps(said).encode()], is_synced=False)
        except (OSError, NoSpace) as error:
            log.debug("%s: %s", self.path, error)

    def begin(self) -> None:
        """At a start of the node: who refused its record before has a new one to judge."""
        report = self.report()
        if report.refusals or report.unmet or report.doubted[0] or report.clock_off is not None:
            self._write(report._replace(refusals={}, unmet={}, doubted=((), 0.0), clock_off=None, clocks=0))

    def report(self) -> Report:
        """As the discoverer wrote it last."""
        stamp = durable.stamp(self.path)
        if stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            try:
                said = value_in(durable.read(self.path, FILE_BYTES_MAX)[0])
                times = {str(name): float(at) for name, at in said["heard"].items()}
                refusals = {str(name): str(why) for name, why in said.get("refusals", {}).items()}
                failing = tuple(map(str, said.get("failing", ())))
                unmet = {str(whom): (str(code), str(text)) for whom, (code, text) in said.get("unmet", {}).items()}
                names, at = said.get("doubted", ((), 0.0))
                doubted = tuple(map(str, names)), float(at)
                off = said.get("clock_off")
                clock_off = float(off) if off is not None else None
                clocks = min(max(int(said.get("clocks", 0)), 0), CLOCKS_MAX)
                self._report = Report(times, float(said["lag"]), failing, refusals, unmet, doubted, clock_off, clocks)
            except (OSError, ValueError, TypeError, AttributeError, KeyError):
                pass  # none that can be read: what we had
        return self._report
