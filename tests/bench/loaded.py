"""A machine that has too much to do: does anybody take a node that lives for dead? Ours and Serf's agents, both at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time

from tests.bench.peers import Agent, Crowd, Node, missing

NODES = 30
BUSY_A_CORE = 2
BUSY = "while True: pass"
# What is said at the birth of so many on so few cores is not counted.
CALM_SECONDS = 10.0


def measure(minutes: float) -> str:
    """The table: how often a live node was suspected and taken for dead, while twice as many busy processes ran as cores."""
    cores = os.cpu_count() or 1
    sides = [Node] if missing("serf") else [Node, Agent]
    with tempfile.TemporaryDirectory(prefix="loaded") as folder, contextlib.ExitStack() as stack:
        crowds = [stack.enter_context(Crowd(side, os.path.join(folder, side.SIDE))) for side in sides]
        for crowd in crowds:
            crowd.start(NODES)
        time.sleep(CALM_SECONDS)
        before = [_counts(crowd) for crowd in crowds]
        for _ in range(BUSY_A_CORE * cores):
            stack.callback(_end, subprocess.Popen([sys.executable, "-c", BUSY]))
        time.sleep(minutes * 60)
        after = [_counts(crowd) for crowd in crowds]
    lines = [f"| {NODES} nodes, {BUSY_A_CORE * cores} busy processes on {cores} cores, {minutes:g} minutes | suspected | taken for dead | processor time, s |",
             "| --- | ---: | ---: | ---: |"]  # fmt: skip
    for crowd, a, b in zip(crowds, before, after, strict=True):
        lines.append(f"| {crowd.side.SIDE} | {b[0] - a[0]} | {b[1] - a[1]} | {b[2] - a[2]:.1f} |")
    return "\n".join(lines)


def _counts(crowd: Crowd) -> tuple[int, int, float]:
    return sum(each.suspicions() for each in crowd.all), sum(each.failures() for each in crowd.all), crowd.cpu_seconds()


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
