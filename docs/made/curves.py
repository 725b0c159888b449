"""Draws the curves of docs/SCALE.md into docs/pictures, and writes their figures beside them (curves.json).

python -m docs.made.curves             run, and draw
python -m docs.made.curves --quick     small meshes, to see that it runs
python -m docs.made.curves --draw      anew from curves.json, nothing is run
"""

from __future__ import annotations

import json
import math
import os
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from tests.simulation import curves

PICTURES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pictures")
FIGURES = os.path.join(PICTURES, "curves.json")
BLUE, ORANGE, GREY, GREEN = "#1f5fa8", "#c05a00", "#777777", "#2a7a3b"
STYLE = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
         "svg.hashsalt": "bdserver", "legend.frameon": False}  # fmt: skip


def main() -> None:
    """Run all experiments, unless told not to, and draw."""
    is_quick = "--quick" in sys.argv
    if "--draw" not in sys.argv:
        found = curves.run(is_quick)
        if is_quick:
            return
        with open(FIGURES, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
            file.write("\n")
    with open(FIGURES, encoding="utf-8") as file:
        found = json.load(file)
    with pyplot.rc_context(STYLE):
        _rumour(found)
        _traffic(found)
        _alarms(found)
        _recovery(found)


def _points(rows: dict, figure: str) -> tuple[list[float], list[float], list[list[float]]]:
    """x, medians, and how far down and up the runs went."""
    rows = {key: row for key, row in rows.items() if figure in row}
    x = [float(key) for key in rows]
    medians = [rows[key][figure][0] for key in rows]
    spread = [
        [rows[key][figure][0] - rows[key][figure][1] for key in rows],
        [rows[key][figure][2] - rows[key][figure][0] for key in rows],
    ]
    return x, medians, spread


def _line(axes, rows: dict, figure: str, label: str, colour: str, **keywords) -> None:
    x, y, spread = _points(rows, figure)
    axes.errorbar(x, y, yerr=spread, label=label, color=colour, marker="o", capsize=3, **keywords)


def _sizes(axes, rows: dict) -> None:
    axes.set_xscale("log")
    axes.set_xticks([float(key) for key in rows], [f"{int(key):,}" for key in rows])
    axes.minorticks_off()
    axes.set_xlabel("nodes")


def _save(figure, name: str) -> None:
    figure.tight_layout()
    figure.savefig(os.path.join(PICTURES, name), dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _rumour(found: dict) -> None:
    rows = found["rumour"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    sizes = [int(key) for key in rows]
    _line(left, rows, "rounds", "BDserver", BLUE)
    left.plot(sizes, [math.log2(n) for n in sizes], color=GREY, linestyle="--", label="log2 N")
    left.set_title("One rumour: steps until all know")
    left.set_ylabel("steps from node to node")
    left.set_ylim(0)
    _line(right, rows, "messages", "until all know", BLUE)
    _line(right, rows, "in all", "in all", ORANGE)
    right.plot(sizes, [n - 1 for n in sizes], color=GREY, linestyle=":", label="N - 1, the least")
    right.plot(sizes, [n * math.log2(n) for n in sizes], color=GREY, linestyle="--", label="N log2 N")
    right.set_title("One rumour: messages")
    right.set_ylabel("messages")
    right.set_yscale("log")
    for axes in (left, right):
        _sizes(axes, rows)
        axes.legend()
    _save(figure, "scale-rumour.png")


def _traffic(found: dict) -> None:
    figure, axes = pyplot.subplots(figsize=(6.5, 4))
    _line(axes, found["rest"], "bytes", "at rest", BLUE)
    _line(axes, found["churn"], "bytes", "one change a second, somewhere", ORANGE)
    _sizes(axes, found["rest"])
    axes.set_ylim(0)
    axes.set_title("Traffic")
    axes.set_ylabel("bytes a node and second")
    axes.legend()
    _save(figure, "scale-traffic.png")


def _alarms(found: dict) -> None:
    rows = found["false alarms"]
    figure, axes = pyplot.subplots(figsize=(6.5, 4))
    places = range(len(rows))
    for shift, status, colour in ((-0.18, "suspect", ORANGE), (0.18, "dead", BLUE)):
        bars = axes.bar(
            [each + shift for each in places], [rows[key][status][0] for key in rows], 0.34, label=status, color=colour
        )
        axes.bar_label(bars, fmt="%.3g")
    axes.set_xticks(list(places), [f"{100 * float(key):g} %" for key in rows])
    axes.set_xlabel("conversations lost")
    axes.set_ylabel("a node and hour")
    axes.set_title("Nodes that live, and are suspected or taken for dead (100 nodes)")
    axes.grid(axis="x", visible=False)
    axes.legend()
    _save(figure, "scale-alarms.png")


def _recovery(found: dict) -> None:
    figure, axes = pyplot.subplots(figsize=(6.5, 4))
    _line(axes, found["healing"], "seconds", "two halves, from the end of the cut", BLUE)
    _line(axes, found["restart"], "seconds", "all restarted at once", ORANGE)
    _line(axes, found["liar"], "seconds", "a node called dead by a liar", GREEN)
    _sizes(axes, found["healing"] | found["liar"])
    axes.set_ylim(0, 6)
    axes.set_title("Until all know all again")
    axes.set_ylabel("seconds")
    axes.legend(loc="upper left")
    _save(figure, "scale-recovery.png")


if __name__ == "__main__":
    main()
