"""What signatures cost: a copy taken by a host that asks for a signature, beside one that does not; signing, and checking alone.

Two nodes in memory with real files: what is measured is packing, unpacking, the disk, and what a signature adds to it.
"""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time

from bdserver.core.messages import Yes
from bdserver.files import publishers
from bdserver.files.publishers import Publishers, signed
from tests.unit.nodes import a_node
from tests.unit.signed import KEY, publish

SERVICE_BYTES = 20_000
SHA256 = "0123456789abcdef" * 4


def measure(times: int) -> str:
    """A line for each; copies are taken in turn, with a signature and without."""
    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder)
        (top / "publishers").write_text(KEY.public.line)
        giver, taker = (a_node(top, name) for name in ("giver", "taker"))
        listed, free = publishers.read(str(top / "publishers")), Publishers()
        took: dict[str, list[float]] = {"without": [], "with": []}
        for number in range(times):
            for word, rules in (("without", free), ("with", listed)):
                taker.rules = taker.rules._replace(publishers=rules)
                took[word].append(_copied(top, giver, taker, f"{word}{number}"))
        less, more = (1000 * statistics.median(took[word]) for word in ("without", "with"))
        signing = _milliseconds(lambda: signed(KEY, "Echo", 7, SHA256))
        text = signed(KEY, "Echo", 7, SHA256).text
        checking = _milliseconds(lambda: listed.doubt("Echo", SHA256, text))
    return (
        f"a copy of {SERVICE_BYTES} bytes taken: {less:.1f} ms unsigned, {more:.1f} ms signed, {more - less:.1f} ms more (budget 10)\n"
        f"to sign: {signing:.2f} ms; to check a signature: {checking:.2f} ms"
    )


def _copied(top, giver, taker, name: str) -> float:
    publish(top, giver, b"x" * SERVICE_BYTES, name=name)
    taker.knows(giver)
    began = time.perf_counter()
    said = taker.ask("WILLYOUREPLICATE", name)
    took = time.perf_counter() - began
    assert isinstance(said, Yes), said
    taker.services.withdraw(name)
    return took


def _milliseconds(do, times: int = 300) -> float:
    began = time.perf_counter()
    for _ in range(times):
        do()
    return 1000 * (time.perf_counter() - began) / times
