"""What a node counts since its start: a table of counters, the histogram of look-ups, and how both are told in STATUS.

Each counter has labels with a fixed vocabulary, so that no stranger's word makes a counter, and each has its slot in a row of
numbers, which processes share. To add up and to keep them is processes.counters' business; to show them that of the faces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, pairwise, product
from typing import Any, TypeGuard

from bdserver.core import messages
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BY_CODE


class Row(NamedTuple):
    """A counter: its name here, its name for Prometheus, its labels with the values that each may have, and what it counts."""

    name: str
    metric: str
    labels: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    meaning: str


class Counted(NamedTuple):
    """What one counter, with these values of its labels, has come to."""

    row: Row
    labels: tuple[str, ...]
    value: float


OTHER = "?"
# What may happen to a service of a node: the kinds of events in its journal, which are counted too.
EVENTS = (
    "published", "signed", "updated", "adopted", "replicated", "gave", "placed", "refused", "retired", "withdrawn", "restored",
)  # fmt: skip
_WORDS = {row.word or kind.__name__.upper() for kind, row in messages.ANSWER_ROWS.items()}
KINDS = (*messages.REQUESTS, OTHER)
OUTCOMES = tuple(dict.fromkeys((*sorted(word.lower() for word in _WORDS), *BY_CODE)))
# Phases of a WHEREIS that found a host; else what it ended with.
FOUND, NOT_FOUND = ("1", "2", "3", "4"), ("cantfind", "policymismatch")

COUNTERS = (
    Row("requests", "requests", ("kind", "outcome"), (KINDS, OUTCOMES), "Requests of callers, and what was answered."),
    Row(
        "lookups",
        "lookups",
        ("phase", "by"),
        ((*FOUND, *NOT_FOUND), ("question", "ticket")),
        "Look-ups, by the phase that found a host or what they ended with, and whether a host was asked or had said so before.",
    ),
    Row("connections", "connections", ("kind",), (("local", "tls"),), "Connections of callers."),
    Row("received", "received_bytes", ("of",), (("callers", "nodes"),), "What came, by callers' connections and as news."),
    Row("sent", "sent_bytes", ("to",), (("callers", "nodes"),), "What went out."),
    Row(
        "events",
        "service_events",
        ("what",),
        ((*EVENTS, OTHER),),
        "What happened to services of this node.",
    ),
    Row("deaths", "deaths", (), (), "Nodes that this one saw die."),
    Row(
        "suspicions",
        "suspicions",
        ("outcome",),
        (("raised", "false"),),
        "Nodes under suspicion here, and those that were alive.",
    ),
)
BY_NAME = {row.name: row for row in COUNTERS}
# Upper limits in seconds: from a look-up on an open connection to one that copies a service.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, math.inf)
HISTOGRAM, HISTOGRAM_MEANING = "lookup_seconds", "How long look-ups took."

KEYS = [(row.name, *values) for row in COUNTERS for values in product(*row.values)]
SLOTS = {key: number for number, key in enumerate(KEYS)}
FIRST_BUCKET = len(KEYS)
SUM_SLOT = FIRST_BUCKET + len(BUCKETS)
COUNT = SUM_SLOT + 1


def slot(name: str, *labels: str) -> int:
    """Of a counter; a word that is no value of its label counts as the odd one, where there is such."""
    found = SLOTS.get((name, *labels))
    if found is None:
        values = BY_NAME[name].values
        found = SLOTS[(name, *(each if each in known else OTHER for each, known in zip(labels, values, strict=True)))]
    return found


def bucket(seconds: float) -> int:
    """The slot of the histogram's bucket that a look-up of so many seconds falls into."""
    return FIRST_BUCKET + next(number for number, limit in enumerate(BUCKETS) if seconds <= limit)


# --- in STATUS ----------------------------------------------------------------------------------------------------


def told(slots: Sequence[float]) -> dict[str, Any]:
    """The counters that are not 0: {name: {"label label": value}}; of the histogram {limit: count} and the sum."""
    counters: dict[str, Any] = {row.name: {} for row in COUNTERS}
    for (name, *labels), value in zip(compress(KEYS, slots), compress(slots, slots), strict=False):
        counters[name][" ".join(labels)] = value
    buckets = {_limit(limit): slots[FIRST_BUCKET + number] for number, limit in enumerate(BUCKETS)}
    return {**counters, HISTOGRAM: {"buckets": buckets, "sum": round(slots[SUM_SLOT], 6)}}


def _limit(limit: float) -> str:
    return "+Inf" if limit == math.inf else f"{limit:g}"


def counted(said: object) -> Iterator[Counted]:
    """The counters in what a node told, as far as they are such: it may be newer, or lie."""
    for row in COUNTERS:
        for words, value in _mapping(said, row.name).items():
            labels = tuple(words.split(" ")) if words else ()
            if (row.name, *labels) in SLOTS and _is_count(value):
                yield Counted(row, labels, value)


def histogram(said: object) -> tuple[list[tuple[str, float]], float] | None:
    """([(limit, how many took no longer)], the sum of seconds) in what a node told; None when it is no whole one."""
    inside = _mapping(said, HISTOGRAM)
    buckets, total = inside.get("buckets"), inside.get("sum")
    if not isinstance(buckets, dict) or not _is_count(total):
        return None
    found, together = [], 0.0
    for limit in map(_limit, BUCKETS):
        count = buckets.get(limit)
        if not _is_count(count):
            return None
        together += count
        found.append((limit, together))
    return found, total


def _mapping(said: object, name: str) -> Mapping[str, Any]:
    value = said.get(name) if isinstance(said, dict) else None
    return value if isinstance(value, dict) else {}


def _is_count(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


# --- rates --------------------------------------------------------------------------------------------------------

RATES = ("requests", "lookups", "connections", "received", "sent")
# The slots of each counter stand together.
_FIRST = [(row.name, next(number for number, key in enumerate(KEYS) if key[0] == row.name)) for row in COUNTERS]
_SLOTS_OF = {name: slice(first, past) for (name, first), (_, past) in pairwise([*_FIRST, ("", FIRST_BUCKET)])}


def rates(now: Sequence[float], then: Sequence[float], seconds: float) -> dict[str, float]:
    """name -> how many a second, between two looks at the slots; and the mean of a look-up's seconds, where there was any."""
    found = {}
    for name in RATES:
        slots = _SLOTS_OF[name]
        found[name] = round((sum(now[slots]) - sum(then[slots])) / seconds, 3)
    looked_up = sum(now[FIRST_BUCKET:SUM_SLOT]) - sum(then[FIRST_BUCKET:SUM_SLOT])
    mean = {HISTOGRAM: round((now[SUM_SLOT] - then[SUM_SLOT]) / looked_up, 6)} if looked_up else {}
    return {**found, **mean}
