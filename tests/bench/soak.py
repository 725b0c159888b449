"""Does anything grow? Real daemons under load and churn for some minutes, and the slope of all that could.

Compressed in time: probes four times a second, rounds every 1 to 2 s, hit logs trimmed from 64 kB on; each second a service
comes or goes, every 10 s a node is killed and started again, every 15 s all read their files anew. Two nodes live all
through; what their processes hold is sampled every 2 s. The slope is that of the second half, by least squares.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from random import Random

from bdserver.core.messages import Place
from bdserver.errors import BDError
from bdserver.net import dialling, keys
from tests.hosts import Host, Mesh

NODES, LASTING = 6, 2
SERVICE = "Soaked"
SETTINGS = {"log_level": "warning", "receiver_threshold": 1e9, "probe_interval": 0.25, "round_min": 1, "round_max": 2,
            "hit_log_bytes": 65536}  # fmt: skip
SAMPLE_SECONDS = 2.0
# What level means: over the second half it grew by less than this share of itself, or by less than its own noise.
LEVEL_SHARE = 0.02


def measure(minutes: float) -> str:
    """The table: at half time, at the end, slope an hour, verdict; and how the look-ups fared."""
    with tempfile.TemporaryDirectory() as folder, Mesh(folder, "soak") as mesh:
        hosts = mesh.start(NODES, **SETTINGS)
        for host in hosts[:LASTING]:
            host.add_service(SERVICE)
        mesh.wait_known()
        return _Soak(mesh, hosts, minutes * 60).run()


class _Soak:
    def __init__(self, mesh: Mesh, hosts: list[Host], seconds: float):
        self.mesh, self.lasting, self.others = mesh, hosts[:LASTING], hosts[LASTING:]
        self.seconds, self.rng = seconds, Random(7)
        self.is_over = threading.Event()
        self.answers: dict[str, int] = defaultdict(int)
        self.samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.counts: dict[str, int] = defaultdict(int)

    def run(self) -> str:
        """Load in threads; churn and samples here."""
        credentials = keys.load(self.mesh.issue("soaker", role="client"), "soaker")
        callers = [threading.Thread(target=self._call, args=(credentials, number)) for number in range(3)]
        for caller in callers:
            caller.start()
        started, due = time.monotonic(), {"sample": 0.0, "publish": 0.0, "kill": 5.0, "reload": 7.0}
        try:
            while (now := time.monotonic() - started) < self.seconds:
                for what, pause in (("sample", SAMPLE_SECONDS), ("publish", 1.0), ("kill", 10.0), ("reload", 15.0)):
                    if now >= due[what]:
                        due[what] = now + pause
                        getattr(self, "_" + what)(now)
                time.sleep(0.05)
        finally:
            self.is_over.set()
            for caller in callers:
                caller.join()
        return self._told()

    def _call(self, credentials: keys.Credentials, number: int) -> None:
        """Look-ups over the local socket and over TLS, on connections that last and on new ones, of the nodes that last."""
        rng = Random(number)
        while not self.is_over.is_set():
            host, deadline = rng.choice(self.lasting), time.monotonic() + 10
            dial = (lambda h=host, d=deadline: dialling.dial_local(h.socket, d)) if rng.random() < 0.5 else (
                lambda h=host, d=deadline: dialling.dial(h.address, credentials, d))  # fmt: skip
            try:
                with dial() as talk:
                    for _ in range(rng.choice((1, 50))):
                        said = talk.ask(["WHEREIS", SERVICE, None], time.monotonic() + 10)
                        self.answers["found" if isinstance(said, Place) else type(said).__name__] += 1
            except BDError as error:
                self.answers[type(error).__name__] += 1
            self.is_over.wait(0.02)

    # -- churn

    def _publish(self, now: float) -> None:
        host, name = self.rng.choice(self.lasting), f"Coming-{self.rng.randrange(20)}"
        described = {"bytes": 0, "sha256": "", "url": "http://127.0.0.1/"}
        with contextlib.suppress(BDError):  # withdrawn already
            host.ask(["PUBLISH", name, described] if self.rng.random() < 0.5 else ["WITHDRAW", name])
        self.counts["services published or withdrawn"] += 1

    def _kill(self, now: float) -> None:
        victim = self.rng.choice(self.others)
        if self.rng.random() < 0.5:
            victim.kill()
        else:
            victim.end()
        victim.launch()
        self.counts["nodes killed or ended, and started again"] += 1

    def _reload(self, now: float) -> None:
        for host in self.lasting:
            assert host.process is not None
            host.process.send_signal(signal.SIGHUP)
        self.counts["times all files were read anew"] += 1

    # -- samples

    def _sample(self, now: float) -> None:
        for host in self.lasting:
            assert host.process is not None
            for what, pid in (("listener", host.process.pid), ("discoverer", host.discoverer_pid())):
                with contextlib.suppress(OSError):
                    self._note(host, f"{what}: anonymous memory, MiB", now, _anonymous_mib(pid))
                    self._note(host, f"{what}: descriptors", now, len(os.listdir(f"/proc/{pid}/fd")))
                    self._note(host, f"{what}: threads", now, len(os.listdir(f"/proc/{pid}/task")))
            sizes = _sizes(os.path.join(host.folder, "var"))
            self._note(host, "files of the node", now, len(sizes))
            self._note(host, "their size, KiB", now, sum(sizes) / 1024)
            cache = os.path.join(host.folder, "var", f"{host.name}.bdcache")
            self._note(host, "the cache file, KiB", now, os.path.getsize(cache) / 1024)

    def _note(self, host: Host, what: str, now: float, value: float) -> None:
        self.samples[f"{host.name} {what}"].append((now, value))

    def _told(self) -> str:
        lines = ["| what | at half time | at the end | slope an hour | |", "| --- | ---: | ---: | ---: | --- |"]
        for what, samples in sorted(self.samples.items()):
            half = [(at, value) for at, value in samples if at >= self.seconds / 2]
            slope, first, last, is_level = _level(half)
            lines.append(f"| {what} | {first:.4g} | {last:.4g} | {3600 * slope:+.3g} | {'level' if is_level else 'GROWS'} |")
        said = ", ".join(f"{word} {count:,}" for word, count in sorted(self.answers.items()))
        done = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        return "\n".join([*lines, "", f"{self.seconds / 60:.1f} minutes; look-ups: {said}; {done}."])


def _anonymous_mib(pid: int) -> float:
    """Of it, what a fork shares counts whole: by shares it would grow whenever a child ends, or writes, that had one."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:")) / 1024


def _sizes(folder: str) -> list[int]:
    """Of all files below it; one that goes meanwhile is none."""
    found = []
    for entry in _files(folder):
        with contextlib.suppress(FileNotFoundError):
            if entry.is_file():
                found.append(entry.stat().st_size)
    return found


def _files(folder: str) -> list[os.DirEntry]:
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            found += _files(entry.path) if entry.is_dir() else [entry]
    return found


def _level(samples: list[tuple[float, float]]) -> tuple[float, float, float, bool]:
    """(slope a second, value at the begin and at the end of the line through the samples, whether that is level)."""
    times, values = zip(*samples, strict=True)
    slope, at_zero = statistics.linear_regression(times, values)
    first, last = at_zero + slope * times[0], at_zero + slope * times[-1]
    noise = statistics.pstdev(value - at_zero - slope * at for at, value in samples)
    return slope, first, last, last - first <= max(LEVEL_SHARE * abs(first), 2 * noise)
