"""The memory of a node's processes (PSS: what is shared counts by shares): at rest, beside two bare interpreters with pyOpenSSL;
and of children that serve, each an open connection."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time

from bdserver.net import dialling, keys
from tests.bench.pairs import Row, measure
from tests.hosts import Host, Mesh, until

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


def of_children(mesh: Mesh, times: int, counts: tuple[int, ...] = (1, 30)) -> str:
    """What a child has that serves an open TLS connection, where so many are open, each with a few look-ups made."""
    host = mesh.host("holder", log_level="info", max_children_per_address=max(counts), receiver_threshold=1e11)
    host.add_service("Echo")
    credentials = keys.load(mesh.issue("caller", role="client"), "caller")
    lines = ["| open connections | PSS of a child | shared with nobody |", "| ---: | ---: | ---: |"]
    for count in counts:
        found: list[tuple[float, float]] = []
        for _ in range(times):
            host.start()
            with contextlib.ExitStack() as talks:
                deadline = time.monotonic() + 60
                for _ in range(count):
                    talk = talks.enter_context(dialling.dial(host.address, credentials, deadline))
                    for _ in range(5):
                        talk.ask(["WHEREIS", "Echo", None], deadline)
                serving = [pid for pid, title in host.children().items() if "WHEREIS for client" in title]
                assert len(serving) == count, host.children()
                found += [(pss_mib(pid), _mib(pid, "Private_Dirty:")) for pid in serving]
            host.end()
        pss, own = (statistics.median(column) for column in zip(*found, strict=True))
        lines.append(f"| {count} | {pss:.2f} MiB | {own:.2f} MiB |")
    return "\n".join(lines)


def pss_mib(pid: int) -> float:
    """Of one process."""
    return _mib(pid, "Pss:")


def _mib(pid: int, what: str) -> float:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        [line] = (line for line in file if line.startswith(what))
    return int(line.split()[1]) / 1024
