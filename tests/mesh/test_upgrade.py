"""A mesh is upgraded node by node, to the protocol's next version, under a load of real bdwhereis: no lookup is lost.

As long as there is one version alone, a stand-in is the next one: nodes that say its number, and understand this one."""

import os
import subprocess
import sys
import threading

from bdserver.core.wire import VERSION
from tests.hosts import RUN, until

CLIENTS = 2


class Script(threading.Thread):
    """A client script: bdwhereis over TLS, one after the other, given three nodes as OPERATIONS says; what failed is kept."""

    def __init__(self, mesh, number):
        super().__init__(daemon=True)
        name = f"script{number}"
        keys = os.path.join(mesh.issue(name, role="client"), name)
        hosts = mesh.hosts[number:] + mesh.hosts[:number]
        nodes = [word for host in hosts[:3] for word in ("--node", host.address)]
        self.line = [sys.executable, "-c", RUN, "bdwhereis", *nodes, "--keys", keys, "Echo"]
        self.answered, self.failed, self.is_over = 0, [], False

    def run(self):
        while not self.is_over:
            done = subprocess.run(self.line, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode == 0 and done.stdout.startswith("http://127.0.0.1"):
                self.answered += 1
            else:
                self.failed.append((done.returncode, done.stdout, done.stderr))


def upgrade(host):
    """What an upgrade does to a node: drain, end, start the new one."""
    assert host.run("bdctl", "drain").returncode == 0
    host.end()
    assert host.process.returncode == 0
    start_next(host)


def start_next(host):
    """A node that did not speak that version would refuse its config."""
    host.is_next = True
    host.write_config(protocol=VERSION + 1)
    host.start()


def test_an_upgrade_node_by_node_loses_no_lookup(mesh):
    hosts = mesh.start(5, protocol=VERSION, receiver_threshold=100000)
    for host in hosts[:3]:
        host.add_service("Echo")
    mesh.wait_known()
    until(lambda: all(len(host.ctl("services").get("Echo", [])) == 3 for host in hosts), 30, "all know the three holders")
    scripts = [Script(mesh, number) for number in range(CLIENTS)]
    for script in scripts:
        script.start()
    until(lambda: all(script.answered >= 2 for script in scripts), 60, "the load has begun")
    for host in hosts:
        before = [script.answered for script in scripts]
        upgrade(host)
        mesh.wait_known()
        until(lambda before=before: all(s.answered > n for s, n in zip(scripts, before, strict=True)), 60, "lookups go on")
    for script in scripts:
        script.is_over = True
        script.join(60)
    assert [script.failed for script in scripts] == [[]] * CLIENTS
    assert sum(script.answered for script in scripts) >= 5 * CLIENTS
    assert not any("bad-request" in host.log or "Traceback" in host.log for host in hosts)


def test_two_versions_in_one_mesh_understand_each_other(mesh):
    (old,) = mesh.start(1, protocol=VERSION)
    new = mesh.host("new", hints=old.address)
    start_next(new)
    mesh.wait_known()
    for holder, asker in ((old, new), (new, old)):
        holder.add_service(f"At-{holder.name}")
        until(lambda holder=holder, asker=asker: f"At-{holder.name}" in asker.ctl("services"), 30, "services are told")
        assert asker.lookup(f"At-{holder.name}")[-1]["node"] == holder.name
    for asked, other in ((old, new), (new, old)):
        said = asked.ask(["STATUS", {"of": other.name}])
        assert said[1]["name"] == other.name and {node["name"] for node in said[2]} == {old.name, new.name}
