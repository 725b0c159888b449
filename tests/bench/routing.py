"""Routing with real daemons: holders of unequal capacity under Poisson look-ups, `routing=measured` beside `original`; and how long
it takes until an overloaded holder's service has a copy that serves."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from random import Random

from bdserver.net import dialling
from tests.hosts import Host, Mesh, until

SERVICE = "Work"
# receiver_thresholds; a call a second weighs 28 in the long run, so they take 10, 20 and 80 calls a second.
CAPACITIES = (10.0, 20.0, 80.0)
WEIGHT_OF_RATE = 28.0
LOAD = 0.8
WARM_SECONDS = 45.0
COPIES = 8


def table(seconds: float) -> str:
    """Both rules one after the other, then the copies."""
    lines = ["| rule | look-ups | without a question | asked a look-up | questions to an overloaded holder while another had room | served late (phase 3) |",
             "| --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for rule in ("measured", "original"):
        with tempfile.TemporaryDirectory() as folder, Mesh(folder, "routing") as mesh:
            lines.append(_line(rule, mesh, seconds))
    with tempfile.TemporaryDirectory() as folder, Mesh(folder, "copies") as mesh:
        return "\n".join([*lines, "", _copies(mesh)])


def _line(rule: str, mesh: Mesh, seconds: float) -> str:
    askers = mesh.start(2, max_dynamic=0, routing=rule, log_level="info")
    for capacity in CAPACITIES:
        [holder] = mesh.start(1, max_dynamic=0, receiver_threshold=capacity * WEIGHT_OF_RATE, log_level="info")
        holder.add_service(SERVICE)
    mesh.wait_known()
    until(lambda: all(_holders(asker) == len(CAPACITIES) for asker in askers), 30, "all holders are known")
    rng, counted = Random(11), Counter()  # type: ignore[var-annotated]
    talks = [dialling.dial_local(asker.socket, time.monotonic() + 3600) for asker in askers]
    started = due = time.monotonic()
    while (now := time.monotonic()) < started + WARM_SECONDS + seconds:
        if now < due:
            time.sleep(due - now)
        due += rng.expovariate(LOAD * sum(CAPACITIES))
        details = rng.choice(talks).ask(["WHEREIS", SERVICE, None], time.monotonic() + 10).details
        if now > started + WARM_SECONDS:
            counted["calls"] += 1
            asked = [each["answer"] for each in details["asked"] if each["answer"] != "TICKET"]
            counted["questions"] += len(asked)
            counted["by ticket"] += not asked
            counted["late"] += details["phase"] == 3
            counted["wasted"] += asked.count("NO") if details["phase"] == 1 else 0
    for talk in talks:
        talk.close()
    calls, questions = counted["calls"], counted["questions"]
    return (f"| routing={rule} | {calls} | {100 * counted['by ticket'] / calls:.1f} % | {questions / calls:.2f} | {100 * counted['wasted'] / questions:.1f} % "
            f"| {100 * counted['late'] / calls:.1f} % |")  # fmt: skip


def _copies(mesh: Mesh) -> str:
    """Each time another service of a holder that is overloaded is looked up, and a host with room takes a copy."""
    asker, holder = mesh.start(2, max_dynamic=0, log_level="info", receiver_threshold=0.5)
    names = [f"Copied{number}" for number in range(COPIES + 1)]
    for name in names:
        holder.add_service(name, "#!/bin/sh\n" + "#" * 100_000 + "\n")
    [roomy] = mesh.start(1, max_dynamic=COPIES, log_level="info", receiver_threshold=1e9)
    mesh.wait_known()
    until(lambda: all(_holders(asker, name) == 1 for name in names), 30, "the services are known")
    asker.lookup(names.pop())  # the first call: from now on the holder is overloaded
    spans = []
    for name in names:
        started = time.perf_counter()
        details = asker.lookup(name)[-1]
        spans.append(1000 * (time.perf_counter() - started))
        assert (details["phase"], details["node"]) == (2, roomy.name), details
    return (f"From the first call that its overloaded holder refuses until a copy (100 kB) on another host is the answer: median "
            f"{statistics.median(spans):.0f} ms, {min(spans):.0f} to {max(spans):.0f} ms, {len(spans)} times.")  # fmt: skip


def _holders(host: Host, service: str = SERVICE) -> int:
    return sum(service in node["services"] and node["status"] == "alive" for node in host.nodes())
