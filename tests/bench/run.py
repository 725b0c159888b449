"""All measurements in one run, and the table: what, floor, ours, ratio, budget, met. Exit 0 whether met or not.

make bench, or: .venv/bin/python tests/bench [--quick] [lookups] [rates] [memory] [audit]
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import sys
import tempfile

import bdserver
from bdserver.demo.hosts import Mesh
from tests.bench import audit, lookups, memory, policies, rates
from tests.bench.pairs import table

PARTS = ("lookups", "rates", "memory", "audit")
# Over this every holder would be overloaded by the measurement itself.
NEVER_OVERLOADED = 1e11


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for, all if nothing is."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the pairs: to see that it runs")
    parser.add_argument("part", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    options = parser.parse_args(arguments)
    if wrong := set(options.part) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(wrong))}")
    share = 0.1 if options.quick else 1.0
    found = []
    compileall.compile_dir(os.path.dirname(bdserver.__file__), quiet=1)  # as an installation has it
    with tempfile.TemporaryDirectory() as folder, Mesh(folder, "bench") as mesh:
        [host] = mesh.start(1, log_level="info", receiver_threshold=NEVER_OVERLOADED)
        host.add_service(lookups.SERVICE)
        for part in options.part or PARTS:
            if part == "lookups":
                found += lookups.rows(mesh, host, max(int(60 * share), 3))
            elif part == "rates":
                found += rates.rows(host, max(int(40 * share), 3))
            elif part == "audit":
                found += audit.rows(max(int(20 * share), 3))
            else:
                host.end()
                found += memory.rows(host, max(int(5 * share), 2))
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(table(found))
    without, with_one = policies.measure()
    print(
        f"WHEREIS over 1,000 holders of 20 policies, with a client's policy: {with_one / without:.2f} x one without (budget 2.0)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
