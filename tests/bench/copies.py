"""Copies with real daemons: how long until the last of them serves a new edition, and until a dead standing copy is replaced.

Each is held against what nobody can be faster than in the same run: until the mesh has heard of a change, or of the death."""

from __future__ import annotations

import statistics
import tempfile
import time

from tests.hosts import Host, Mesh, until

COPIES = (1, 5, 20)
TIMES = 5
PACKAGE_BYTES = 100_000
# A question to a daemon costs its host a fork: all are asked in turn, without a pause.
POLL_SECONDS = 0.002
SECONDS = 60.0


def table(share: float) -> str:
    """A row for each number of copies, then the deaths."""
    times = max(round(TIMES * share), 2)
    lines = [
        "| copies | heard by all: a service without files published | published until the last copy serves the new edition | ratio |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for copies in COPIES:
        with tempfile.TemporaryDirectory() as folder, Mesh(folder, "copies") as mesh:
            lines.append(_updated(mesh, copies, times))
    with tempfile.TemporaryDirectory() as folder, Mesh(folder, "standing") as mesh:
        return "\n".join([*lines, "", _replaced(mesh, times)])


def _content(edition: int) -> str:
    return f"#!/bin/sh\n# edition {edition}\n" + "#" * PACKAGE_BYTES + "\n"


def _publish(host: Host, edition: int, replicas: int) -> None:
    path = f"{host.folder}/Echo"
    with open(path, "w") as file:
        file.write(_content(edition))
    done = host.run("bdctl", "publish", path, "--replicas", str(replicas))
    assert done.returncode == 0, done.stderr


def _has(host: Host, edition: int) -> bool:
    try:
        with open(f"{host.services}/Echo") as file:
            return f"edition {edition}\n" in file.read(100)
    except FileNotFoundError:
        return False


def _serves(host: Host, edition: int) -> bool:
    """The file is there, and the node says YES to a call."""
    return _has(host, edition) and host.ask(["WHEREIS", "Echo", None])[-1]["asked"][0]["answer"] == "YES"


def _holders(host: Host, service: str = "Echo") -> set[str]:
    return {node["name"] for node in host.nodes() if service in node["services"] and node["status"] == "alive"}


def _updated(mesh: Mesh, copies: int, times: int) -> str:
    hosts = mesh.start(copies + 1, log_level="info", receiver_threshold=1e9)
    mesh.wait_known()
    _publish(hosts[0], 0, len(hosts))
    until(lambda: all(_serves(host, 0) for host in hosts), SECONDS, "all have it")
    heard, served = [], []
    for number in range(1, times + 1):
        done = hosts[0].run("bdctl", "publish", f"Known{number}", "--url", "http://127.0.0.1/")
        started = time.monotonic()
        assert done.returncode == 0, done.stderr
        until(
            lambda number=number: all(f"Known{number}" in str(host.nodes()) for host in hosts), SECONDS, "heard", POLL_SECONDS
        )  # type: ignore[misc]
        heard.append(time.monotonic() - started)
        _publish(hosts[0], number, len(hosts))
        started = time.monotonic()
        until(lambda number=number: all(_serves(host, number) for host in hosts), SECONDS, "serves", POLL_SECONDS)  # type: ignore[misc]
        served.append(time.monotonic() - started)
    least, last = statistics.median(heard), statistics.median(served)
    return f"| {copies} | {least:.2f} s | {last:.2f} s ({min(served):.2f} to {max(served):.2f}) | {last / least:.1f} × |"


def _replaced(mesh: Mesh, times: int) -> str:
    """Kill -9 of a holder: until another host, which is asked all the while, takes it for dead, and until three live again."""
    hosts = mesh.start(4 + times, log_level="info", receiver_threshold=1e9)
    mesh.wait_known()
    _publish(hosts[0], 0, 3)
    asker = hosts[0]
    until(lambda: len(_holders(asker)) == 3, SECONDS, "three holders")
    known, whole = [], []
    for _ in range(times):
        victim = next(host for host in hosts[1:] if host.is_running and host.name in _holders(asker))
        started = time.monotonic()
        victim.kill()
        until(lambda victim=victim: asker.status_of(victim.name) == "dead", SECONDS, "known to be dead", POLL_SECONDS)  # type: ignore[misc]
        known.append(time.monotonic() - started)
        until(lambda: len(_holders(asker)) == 3, SECONDS, "three again", POLL_SECONDS)
        whole.append(time.monotonic() - started)
    after = [late - early for late, early in zip(whole, known, strict=True)]
    return (
        f"A holder of three killed -9: known to be dead after {statistics.median(known):.2f} s, and another one holds it "
        f"{statistics.median(after):.2f} s ({min(after):.2f} to {max(after):.2f}) later; {times} times, {len(hosts)} hosts."
    )
