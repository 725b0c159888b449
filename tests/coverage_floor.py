"""What part of each folder of bdserver the quick tests run, and the floor below which it must not fall.

`make coverage` measures (simulations do not count) and writes .cache/coverage/report.json; this prints a line a folder from it,
and exits with 1 if a folder is below its floor or has none. A floor is a promise that only grows: who adds tests raises it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

REPORT = Path(__file__).parents[1] / ".cache" / "coverage" / "report.json"


class Share(NamedTuple):
    """Of lines and of branches, in percent."""

    lines: float
    branches: float


# What holds today, rounded down. Where they are to come: core all branches; processes, net, files and commands 90 and 80.
FLOORS = {
    ".": Share(99, 90),
    "audit": Share(97, 94),
    "commands": Share(97, 95),
    "core": Share(100, 99),
    "demo": Share(98, 98),
    "doctor": Share(90, 80),
    "files": Share(99, 98),
    "gateway": Share(95, 90),
    "net": Share(99, 98),
    "processes": Share(97, 94),
}


def shares(report: dict) -> dict[str, Share]:
    """folder below bdserver -> what was run of it, from the report of `coverage json`; "." are the modules at the top."""
    sums: dict[str, Counter[str]] = {}
    for path, file in report["files"].items():
        parts = Path(path).parts
        sums.setdefault(parts[1] if len(parts) > 2 else ".", Counter()).update(
            {key: count for key, count in file["summary"].items() if isinstance(count, int)}
        )
    return {
        folder: Share(
            _percent(each["covered_lines"], each["num_statements"]), _percent(each["covered_branches"], each["num_branches"])
        )
        for folder, each in sorted(sums.items())
    }


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 100.0


def complaints(found: dict[str, Share], floors: dict[str, Share]) -> list[str]:
    """One line for each floor that is broken, for a folder without a floor, and for a floor without a folder."""
    said = [f"{folder} has no floor: give it one in {Path(__file__).name}" for folder in found if folder not in floors]
    said += [f"{folder} has a floor, and nothing was measured of it" for folder in floors if folder not in found]
    for folder, floor in floors.items():
        share = found.get(folder, floor)
        said += [
            f"{folder} fell below its floor: {getattr(share, what):.2f} % of its {what} were run, and {limit:g} % must be"
            for what, limit in floor._asdict().items()
            if getattr(share, what) < limit
        ]
    return said


def main() -> int:
    """Print a line a folder; 1 if a floor is broken."""
    found = shares(json.loads(REPORT.read_text()))
    for folder, share in found.items():
        floor = FLOORS.get(folder, Share(0, 0))
        print(
            f"coverage of {folder:9}  lines {share.lines:5.1f} % (floor {floor.lines:3})"
            f"  branches {share.branches:5.1f} % (floor {floor.branches:3})"
        )
    said = complaints(found, FLOORS)
    for complaint in said:
        print(f"coverage: {complaint}", file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
