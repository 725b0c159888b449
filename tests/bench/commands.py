"""How long commands take, whole processes, beside a Python that does nothing: started as pip installs them, by a shell's head that
finds the Python of bdserverd's first line."""

from __future__ import annotations

import os
import shutil
import sys

from tests.bench.floor import HERE
from tests.bench.pairs import Row, measure, milliseconds
from tests.hosts import Host, Mesh

SERVICE = "Echo"
ROOT = os.path.dirname(os.path.dirname(HERE))
BDWHEREIS = f"{ROOT}/bin/bdwhereis"
FLOOR = [sys.executable, "-I", "-S", "-c", "pass"]


def rows(mesh: Mesh, host: Host, pairs: int) -> list[Row]:
    """The budgets of the commands, and what they take where more is asked for than the plain case."""
    folder = _installed(mesh.folder)
    keys = mesh.issue("caller", role="client")
    local, tls = ["--config", host.config_path], ["--node", host.address, "--keys", f"{keys}/caller"]
    cases = [
        ("bdwhereis by the local socket", ["bdwhereis", *local, SERVICE], 1.3),
        ("bdwhereis over TLS", ["bdwhereis", *tls, SERVICE], 4.0),
        ("bdctl status", ["bdctl", *local, "status"], 2.5),
        ("bdctl nodes", ["bdctl", *local, "nodes"], 2.5),
        ("bdctl ping", ["bdctl", *local, "ping"], 2.5),
        ("bdwhereis --json by the local socket", ["bdwhereis", *local, "--json", SERVICE], None),
        ("bdwhereis --explain by the local socket (the long way)", ["bdwhereis", *local, "--explain", SERVICE], None),
    ]
    return [_row(what, [f"{folder}/bin/{command[0]}", *command[1:]], pairs, budget) for what, command, budget in cases]


def _row(what: str, command: list[str], pairs: int, budget: float | None) -> Row:
    return measure(
        f"{what}, whole process", "ms", lambda: milliseconds(lambda: _run(command)), lambda: milliseconds(lambda: _run(FLOOR)),
        pairs, budget,
    )  # fmt: skip


def _installed(folder: str) -> str:
    """The commands in a bin/, the package beside it."""
    where = os.path.join(folder, "installed")
    os.makedirs(f"{where}/bin")
    os.symlink(f"{ROOT}/bdserver", f"{where}/bdserver")
    for command in ("bdwhereis", "bdctl"):
        shutil.copy(f"{ROOT}/bin/{command}", f"{where}/bin")
    with open(f"{where}/bin/bdserverd", "w") as file:
        file.write(f"#!{sys.executable}\n")
    return where


def _run(command: list[str]) -> None:
    """A process, what it says thrown away."""
    away = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    _, status = os.waitpid(os.posix_spawn(command[0], command, os.environ, file_actions=away), 0)
    assert status == 0, f"{command} ended with {os.waitstatus_to_exitcode(status)}"
