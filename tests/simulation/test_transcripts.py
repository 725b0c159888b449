"""The main conversations of a small mesh, whole, as files to read.

A change of behaviour shows as a diff. BD_REWRITE=1 writes them anew: commit that only if you understand what caused it."""

import os
import pathlib

import pytest

from tests.simulation.mesh import Net

FOLDER = pathlib.Path(__file__).parent


def mesh_of(count, seed=1):
    net = Net(seed)
    hosts = net.add(count)
    for host in hosts:
        host.start([hosts[0].address])
    return net, hosts


def join(say):
    """Two nodes are there; a third is hinted at one of them."""
    net, _ = mesh_of(2)
    net.run_until(net.is_converged, 20)
    net.run(3)
    say(net, "n0 and n1 know each other. n2 starts with a hint at n1:", clear=True)
    (newcomer,) = net.add(1)
    newcomer.start(["n1:9001"])
    net.run(1.5)
    say(net, f"n2 knows {sorted(newcomer.statuses().items())}")


def killed(say):
    """kill -9: the host refuses, which is evidence."""
    net, hosts = mesh_of(4)
    net.run_until(net.is_converged, 20)
    net.run(3)
    say(net, "Four nodes. kill -9 of n3:", clear=True)
    hosts[3].stop()
    net.run_until(lambda: all(h.statuses()["n3"] == "dead" for h in hosts[:3]), 20)
    say(net, "n0, n1 and n2 know that n3 is dead")


def refuted(say):
    """A node that cannot reach another suspects it; others can, and it refutes."""
    net, hosts = mesh_of(3)
    net.run_until(net.is_converged, 20)
    net.run(3)
    say(net, "Three nodes. n0 hears nothing from n2, and n1 cannot help, for a moment:", clear=True)
    net.cut |= {("n0", "n2"), ("n1", "n2")}
    net.run_until(lambda: hosts[0].statuses()["n2"] == "suspect", 20, step=0.01)
    say(net, "n0 suspects n2; the links heal:")
    before = hosts[2].view.own.version[1]
    net.cut.clear()
    net.run_until(lambda: hosts[0].statuses()["n2"] == "alive", 20, step=0.01)
    say(net, f"n2 raised its counter by {hosts[2].view.own.version[1] - before}; n0 thinks it {hosts[0].statuses()['n2']}")


def healed(say):
    """Two halves take each other for dead, and find each other again without a restart."""
    net, hosts = mesh_of(4)
    net.run_until(net.is_converged, 20)
    net.run(3)
    net.partition(hosts[:2], hosts[2:])
    net.run_until(lambda: all(hosts[0].statuses()[n] == "dead" for n in ("n2", "n3")), 120)
    net.run(30)
    say(net, "n0, n1 | n2, n3 take each other for dead. The cut heals:", clear=True)
    net.cut.clear()
    net.run_until(net.is_converged, 120)
    say(net, "all know all as alive")


SCENES = {"join": join, "killed": killed, "refuted": refuted, "healed": healed}


@pytest.mark.parametrize("name", SCENES)
def test_the_conversation_is_as_written(name):
    lines = [SCENES[name].__doc__, ""]

    def say(net, text, clear=False):
        if not clear:
            lines.extend(net.transcript)
        net.transcript.clear()
        lines.append(text)

    SCENES[name](say)
    told = "\n".join(lines) + "\n"
    path = FOLDER / f"{name}.txt"
    if os.environ.get("BD_REWRITE"):
        path.write_text(told)
    assert told == path.read_text()
