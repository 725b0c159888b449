"""How long a node's start takes, beside a Python that imports pyOpenSSL and cryptography, which each start has to do as well."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

from bdserver.demo.hosts import ROOT
from bdserver.errors import BDError
from tests.bench.pairs import Row, measure, milliseconds
from tests.hosts import Host, until

FLOOR = "import OpenSSL.SSL, cryptography.x509"
# As bdserverd.main does it.
IMPORTS = (
    f"import sys; sys.path.insert(0, {ROOT!r}); import gc; gc.disable(); from bdserver.commands import bdserverd, daemonising"
)
POLL_SECONDS, PATIENCE = 0.0005, 20.0


def rows(host: Host, pairs: int) -> list[Row]:
    """Of imports alone; and until the node answers, to which come config, keys, sockets, its record and two forks."""
    host.end()
    return [
        measure("all imports of bdserverd, whole process", "ms", lambda: _python(IMPORTS), lambda: _python(FLOOR), pairs, 1.2),
        measure("bdserverd, from exec until it answers PING", "ms", lambda: _start(host), lambda: _python(FLOOR), pairs, 1.2),
    ]


def _python(text: str) -> float:
    return milliseconds(lambda: subprocess.run([sys.executable, "-c", text], check=True))


def _start(host: Host) -> float:
    began = time.perf_counter()
    host.launch()
    until(lambda: _answers(host), PATIENCE, f"{host.name} answers", POLL_SECONDS)
    took = time.perf_counter() - began
    host.end()
    return 1000 * took


def _answers(host: Host) -> bool:
    with contextlib.suppress(BDError):
        return bool(host.ask(["PING"]))
    return False
