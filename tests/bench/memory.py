"""The memory of a node's processes at rest (PSS: what is shared counts by shares), beside two bare interpreters with pyOpenSSL."""

from __future__ import annotations

import subprocess
import sys

from tests.bench.pairs import Row, measure
from tests.hosts import Host, until

BARE = "import sys; from OpenSSL import SSL; print('ready', flush=True); sys.stdin.read()"


def rows(host: Host, pairs: int) -> list[Row]:
    """One row. Neither side runs while the other is measured, as they would share libraries; the node is started anew."""
    return [
        measure(
            "memory of listener, discoverer and spare child (PSS)",
            "MiB",
            lambda: _of_node(host),
            _of_two_interpreters,
            pairs,
            1.5,
        )
    ]


def _of_node(host: Host) -> float:
    host.start()
    try:
        for _ in range(20):
            host.lookup("Echo")
        assert host.process is not None
        until(
            lambda: len(host.children()) == 2 and "spare of" in "".join(host.children().values()),
            30,
            "rest: one spare child",
        )
        return sum(map(pss_mib, (host.process.pid, *host.children())))
    finally:
        host.end()


def _of_two_interpreters() -> float:
    command = [sys.executable, "-c", BARE]
    two = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for each in two:
            assert each.stdout is not None and each.stdout.readline() == b"ready\n"
        return sum(pss_mib(each.pid) for each in two)
    finally:
        for each in two:
            each.communicate()


def pss_mib(pid: int) -> float:
    """Of one process."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        [line] = (line for line in file if line.startswith("Pss:"))
    return int(line.split()[1]) / 1024
