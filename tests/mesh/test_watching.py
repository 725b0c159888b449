"""bdctl watch and /v1/watch through changes and restarts: at the end they know what the mesh knows."""

import contextlib
import json
import os
import random
import subprocess
import threading

import pytest

from tests.gateways import Gateway, running
from tests.hosts import until

CHANGES, RESTARTS = 100, 5


class Mind:
    """What a watcher knows from what it was told: node -> its services; `status`: node -> how it is."""

    def __init__(self):
        self.services, self.status, self.kinds = {}, {}, []

    def begin(self, node, status, services):
        self.services[node], self.status[node] = set(services), status

    def take(self, facts):
        node, kind, service = facts["node"], facts["kind"], facts.get("service")
        self.kinds.append(kind)
        offered = self.services.setdefault(node, set())
        if kind == "state":
            self.begin(node, facts["status"], facts["services"])
        elif kind in ("new", "status"):
            self.status[node] = facts["change"].split()[1 if kind == "status" else 2].strip(",")
        elif kind in ("offered", "copied", "well"):
            offered.add(service)
        elif kind in ("withdrawn", "ill"):
            offered.discard(service)
        elif kind == "forgotten":
            self.services.pop(node)
            self.status.pop(node)

    def view(self):
        return {node: (self.status[node], services) for node, services in self.services.items() if node in self.status}


def truth(host):
    return {node["name"]: (node["status"], set(node["services"])) for node in host.ctl("nodes") if node["name"]}


def follow_command(host, mind):
    """A bdctl watch; the process."""
    process = subprocess.Popen(host.command_line("bdctl", "--json", "watch"), stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"BDSERVER_CONFIG": host.config_path})  # fmt: skip
    threading.Thread(target=lambda: [mind.take(json.loads(line)) for line in process.stdout], daemon=True).start()
    return process


def follow_gateway(gateway: Gateway, mind):
    """The stream of a gateway; its thread ends with it."""

    def run():
        with contextlib.suppress(OSError, ValueError):
            for _, event, data in gateway.events():
                if event == "state":
                    for node in data["nodes"]:
                        mind.begin(node["name"], node["status"], node["services"])
                else:
                    mind.take(data)

    threading.Thread(target=run, daemon=True).start()


@pytest.mark.long(seconds=400)
def test_watchers_through_changes_and_restarts_know_what_the_mesh_knows(mesh):
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    alpha, *others = mesh.start(3)
    mesh.wait_known()
    command, stream = Mind(), Mind()
    offered = {host.name: set() for host in others}
    with running(alpha) as gateway:
        until(
            lambda: gateway.get("/v1/nodes")[0] == 200 and b'alive"} 3.0' in gateway.get("/metrics")[2],
            30,
            "the gateway follows",
        )
        process = follow_command(alpha, command)
        follow_gateway(gateway, stream)
        try:
            until(lambda: len(command.view()) == len(stream.view()) == 3, 30, "both begin with the state")
            for number in range(CHANGES):
                host = rng.choice(others)
                if offered[host.name] and rng.random() < 0.4:
                    name = rng.choice(sorted(offered[host.name]))
                    offered[host.name].remove(name)
                    os.unlink(os.path.join(host.services, name))
                else:
                    name = f"Service{number}"
                    offered[host.name].add(name)
                    host.add_service(name)
                if number % (CHANGES // RESTARTS) == CHANGES // RESTARTS // 2:
                    alpha.end()
                    alpha.start()
                elif number % 10 == 9:
                    host.ctl("drain", *(["--off"] if number % 20 == 9 else []))
                if number % 4 == 3:
                    until(lambda host=host: set(truth(alpha)[host.name][1]) == offered[host.name], 60, "alpha knows")
            until(lambda: {n: s for n, (_, s) in truth(alpha).items() if n in offered} == offered, 60, "alpha knows all")
            until(lambda: command.view() == truth(alpha), 30, "bdctl watch knows it too")
            until(lambda: stream.view() == truth(alpha), 30, "and so does /v1/watch")
            assert command.kinds.count("silent") <= RESTARTS and {"offered", "withdrawn", "draining"} <= set(command.kinds)
            others[0].kill()
            until(lambda: command.view()["n2"][0] == stream.view()["n2"][0] == "dead", 60, "both hear of a death")
        finally:
            process.terminate()
            process.wait()


def test_a_copy_an_illness_and_an_overload_are_told(mesh):
    alpha = mesh.start(1, receiver_threshold=3)[0]
    beta = mesh.start(1)[0]
    mesh.wait_known()
    mind = Mind()
    alpha.add_service("Echo", weight=2)
    beta.add_service("Sick", url="http://127.0.0.1:9/", health="none")
    until(lambda: {"Echo", "Sick"} <= beta.ctl("services").keys(), 20, "both are offered")
    process = follow_command(beta, mind)
    try:
        until(lambda: len(mind.view()) == 2, 30, "it begins")
        for _ in range(4):
            beta.run("bdwhereis", "Echo")
        until(
            lambda: "Echo" in mind.services["n2"] and "copied" in mind.kinds and "overloaded" in mind.kinds, 30, "it is copied"
        )
        alpha.add_service("Echo", "#!/bin/sh\necho another\n", weight=2)
        until(lambda: "edition" in mind.kinds, 30, "there is a new edition")
        beta.add_service("Sick", url="http://127.0.0.1:9/", health="tcp")
        until(lambda: "ill" in mind.kinds, 30, "it is ill")
        beta.add_service("Sick", url="http://127.0.0.1:9/", health="none")
        until(lambda: "well" in mind.kinds, 30, "it is well")
    finally:
        process.terminate()
        process.wait()
