"""Copies follow their originals, with real daemons: updated, withdrawn, orphaned, adopted, placed."""

import os

from tests.hosts import until

COPIED = {"receiver_threshold": 3}


def write(host, name, text):
    path = os.path.join(host.folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def publish(host, name, text, *options):
    return host.run("bdctl", "publish", write(host, name, text), *options)


def content(host, name):
    """What this host's web server would serve, or None."""
    try:
        with open(os.path.join(host.folder, "var", "services", name)) as file:
            return file.read()
    except FileNotFoundError:
        return None


def test_a_new_edition_reaches_the_copies(mesh):
    hosts = mesh.start(4)
    mesh.wait_known()
    publish(hosts[0], "Echo", "#!/bin/sh\necho v1\n", "--replicas", "3")
    until(lambda: sum(content(host, "Echo") is not None for host in hosts) == 3, 20, "three hosts have Echo")
    publish(hosts[0], "Echo", "#!/bin/sh\necho v2\n", "--replicas", "3")
    until(lambda: not any("v1" in (content(host, "Echo") or "") for host in hosts), 10, "no host has v1")
    assert sum("v2" in (content(host, "Echo") or "") for host in hosts) == 3


def test_a_withdrawal_takes_the_copies_along(mesh):
    hosts = mesh.start(3)
    mesh.wait_known()
    publish(hosts[0], "Echo", "v1", "--replicas", "3")
    until(lambda: all(content(host, "Echo") for host in hosts), 20, "all hosts have Echo")
    done = hosts[0].run("bdctl", "withdraw", "Echo")
    assert done.stdout == "Echo: copies went from 2 nodes: n2, n3\n"
    assert [content(host, "Echo") for host in hosts] == [None] * 3
