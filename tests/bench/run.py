"""All measurements, each part's table as soon as it is there: what, floor or peer, ours, ratio. Exit 0 whether budgets are met or not.

make bench, or: .venv/bin/python tests/bench [--quick] [--all] [PART…]
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import bdserver
from tests.bench import (
    audit,
    commands,
    copies,
    gateway,
    loaded,
    lookups,
    memory,
    peers_lookups,
    peers_telling,
    policies,
    rates,
    routing,
    scale,
    signing,
    soak,
    start,
)
from tests.bench.pairs import Row, table
from tests.hosts import Host, Mesh

# Over this every holder would be overloaded by the measurement itself.
NEVER_OVERLOADED = 1e11


class Part(NamedTuple):
    """`measure(share)`: the part's tables, with this share of its pairs or minutes; `is_long`: only by its name or --all."""

    measure: Callable[[float], str]
    is_long: bool = False


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for; if nothing is, all that takes a few minutes."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the pairs: to see that it runs")
    parser.add_argument(
        "--all", action="store_true", help=f"the long ones too: {', '.join(n for n, p in PARTS.items() if p.is_long)}"
    )
    parser.add_argument("part", nargs="*", help=f"of {', '.join(PARTS)}")
    options = parser.parse_args(arguments)
    if wrong := set(options.part) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(wrong))}")
    compileall.compile_dir(os.path.dirname(bdserver.__file__), quiet=1)  # as an installation has it
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, part in PARTS.items():
        if name in options.part or (not options.part and (options.all or not part.is_long)):
            print(f"\n{name}\n{part.measure(0.1 if options.quick else 1.0)}", flush=True)
    return 0


def _pairs(most: int, share: float) -> int:
    return max(int(most * share), 3)


def _of_one_host(rows: Callable[[Mesh, Host, float], list[Row]]) -> Callable[[float], str]:
    """A part that measures one host, which holds the service."""

    def run(share: float) -> str:
        with tempfile.TemporaryDirectory() as folder, Mesh(folder, "bench") as mesh:
            [host] = mesh.start(1, log_level="info", receiver_threshold=NEVER_OVERLOADED)
            host.add_service(lookups.SERVICE)
            return table(rows(mesh, host, share))

    return run


def _memory(mesh: Mesh, host: Host, share: float) -> list[Row]:
    host.end()
    return memory.rows(host, max(int(5 * share), 2))


def _children(share: float) -> str:
    with tempfile.TemporaryDirectory() as folder, Mesh(folder, "bench") as mesh:
        return memory.of_children(mesh, max(int(5 * share), 1))


def _scale(share: float) -> str:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        return f"{table(scale.rows(one, _pairs(40, share)))}\n\n{scale.change_cost(other)}"


def _policies(share: float) -> str:
    without, with_one = policies.measure()
    return f"WHEREIS over 1,000 holders of 20 policies, with a client's policy: {with_one / without:.2f} x one without (budget 2.0)"


def _telling(share: float) -> str:
    return peers_telling.measure(rounds=max(int(3 * share), 1), times=max(int(3 * share), 1))


def _peers(share: float) -> str:
    return f"{table(peers_lookups.rows(_pairs(30, share)))}\n\n{peers_lookups.trials(_pairs(10, share))}"


PARTS = {
    "lookups": Part(_of_one_host(lambda mesh, host, share: lookups.rows(mesh, host, _pairs(60, share)))),
    "commands": Part(_of_one_host(lambda mesh, host, share: commands.rows(mesh, host, _pairs(60, share)))),
    "rates": Part(_of_one_host(lambda mesh, host, share: rates.rows(host, _pairs(40, share)))),
    "gateway": Part(_of_one_host(lambda mesh, host, share: gateway.rows(host, _pairs(40, share)))),
    "memory": Part(_of_one_host(_memory)),
    "children": Part(_children),
    "start": Part(_of_one_host(lambda mesh, host, share: start.rows(host, _pairs(20, share)))),
    "policies": Part(_policies),
    "audit": Part(lambda share: table(audit.rows(_pairs(20, share)))),
    "scale": Part(_scale),
    "signing": Part(lambda share: signing.measure(max(int(60 * share), 5))),
    "peers": Part(_peers),
    "routing": Part(lambda share: routing.table(60 * share)),
    "copies": Part(copies.table),
    "telling": Part(_telling, is_long=True),
    "loaded": Part(lambda share: loaded.measure(10 * share), is_long=True),
    "soak": Part(lambda share: soak.measure(10 * share), is_long=True),
}


if __name__ == "__main__":
    sys.exit(main())
