"""Three empty machines become a mesh by three commands, over IPv4, IPv6, and through an address that is translated."""

import contextlib
import json
import os
import shutil
import time

import pytest

from tests.hosts import until
from tests.netns.machines import Machine, why_no_machines
from tests.netns.network import Network

README = os.path.join(os.path.dirname(__file__), "..", "..", "README.md")


@pytest.fixture(scope="session")
def has_machines(has_network, tmp_path_factory):
    if reason := why_no_machines(tmp_path_factory.mktemp("try")):
        pytest.skip(reason)


@pytest.fixture
def machines(has_machines, tmp_path):
    """Makes machines with these addresses, named alpha, beta, …"""
    made = []

    def start(*addresses):
        names = ["alpha", "beta", "gamma", "delta"]
        for name, address in zip(names, addresses, strict=False):
            made.append(Machine(tmp_path, network, name, address))
        return made

    with Network() as network:
        yield start
        for each in made:
            with contextlib.suppress(ProcessLookupError):
                each.end()


def ok(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "addresses", [("10.77.0.1", "10.77.0.2", "10.77.0.3"), ("fd00::1", "fd00::2", "fd00::3")], ids=["IPv4", "IPv6 alone"]
)
def test_three_empty_machines_are_a_mesh_by_three_commands(machines, addresses):
    alpha, beta, gamma = machines(*addresses)
    began = time.monotonic()
    is_v6 = ":" in addresses[0]
    begin = "bdkeys init --mesh home --here"
    assert f"    {begin}\n" in open(README).read() and "    bdkeys join 10.0.0.1:9001 TOKEN\n" in open(README).read()
    for each in (alpha, beta, gamma):
        each.network.on(each.name, *(["-6"] if is_v6 else []), "route", "add", "default", "dev", "eth0")
    said = ok(alpha.type(begin))
    line = said.splitlines()[-1].strip()
    assert line.startswith("bdkeys join '[" if is_v6 else "bdkeys join 10."), said
    ok(beta.type(line))
    again = ok(alpha.run("bdctl", "invite")).strip()
    ok(gamma.type(again))
    took = time.monotonic() - began
    assert took < 30, f"{took:.1f} s"
    print(f"three commands: {took:.1f} s")
    for machine in (alpha, beta, gamma):
        names = {line.split()[0] for line in ok(machine.type("bdctl nodes")).splitlines()[1:] if " alive " in line}
        until(lambda m=machine: ok(m.type("bdctl nodes")).count(" alive ") == 3, 10, f"{machine.name} sees three: {names}")
    service = os.path.join(alpha.root, "merged", "root", "hello")
    with open(service, "w") as file:
        file.write("#!/bin/sh\necho\necho hello\n")
    os.chmod(service, 0o755)
    ok(alpha.type("bdctl publish /root/hello"))
    for machine in (alpha, beta, gamma):
        until(lambda m=machine: m.type("bdwhereis hello").returncode == 0, 10, f"{machine.name} finds hello")
        assert "/hello" in ok(machine.type("bdwhereis hello"))
    assert os.stat(os.path.join(beta.root, "merged/var/lib/bdserver/keys/beta.key")).st_mode & 0o077 == 0


def test_a_joiner_whose_firewall_lets_nobody_in_is_told_so_and_joins_when_it_is_open(machines):
    """What goes out of it gets there, so that others know it; without a look the other way all would seem to be well."""
    alpha, beta = machines("10.77.0.1", "10.77.0.2")
    line = ok(alpha.type("bdkeys init --mesh home --here --host 10.77.0.1")).splitlines()[-1].strip()
    beta.network.filter("beta", 9001)
    refused = beta.type(line)
    assert refused.returncode == 4 and refused.stderr.count("\n") == 1, refused.stderr
    assert "beta runs, and the others can't call it: alpha does not reach beta: 10.77.0.2:9001: no answer" in refused.stderr
    assert "firewall" in refused.stderr


def test_a_joiner_behind_a_translated_address_says_by_which_it_is_reached(machines):
    """What it dials is an address that leads to alpha, and is in no certificate."""
    alpha, beta = machines("10.77.0.1", "10.77.0.2")
    ok(alpha.type("bdkeys init --mesh home --here --host 10.77.0.1"))
    token = ok(alpha.run("bdctl", "invite")).split()[3]
    alpha.network.on("alpha", "address", "add", "10.77.0.99/24", "dev", "eth0")
    done = beta.type(f"bdkeys join 10.77.0.99 {token} --host 10.77.0.2 --no-start")
    assert "ready; start it" in ok(done)


def test_a_signer_that_is_away_keeps_nobody_else_waiting(machines):
    """Two signers; the first one's cable is out when the third machine comes."""
    alpha, beta, gamma = machines("10.77.0.1", "10.77.0.2", "10.77.0.3")
    line = ok(alpha.type("bdkeys init --mesh home --here --host 10.77.0.1")).splitlines()[-1].strip()
    ok(beta.type(line))
    late = ok(alpha.run("bdctl", "invite")).split()
    ok(alpha.type("bdkeys signer /root/bdserver-ca beta --out /tmp/beta"))
    keys = os.path.join(beta.root, "merged/var/lib/bdserver/keys")
    for name in ("beta.signer.key", "beta.signer.crt"):
        shutil.move(os.path.join(alpha.root, "merged/tmp/beta", name), os.path.join(keys, name))
    with open(os.path.join(beta.root, "merged/etc/bdserver/bdserverd.conf"), "a") as file:
        file.write("signer=yes\n")
    pid_file = os.path.join(beta.root, "merged", json.loads(ok(beta.type("bdctl --json status")))["settings"]["pid_file"][1:])
    assert os.path.exists(pid_file)
    ok(beta.type("bdctl leave"))
    until(lambda: not os.path.exists(pid_file), 30, "beta has left")  # it answers no more long before it has said goodbye
    ok(beta.type("bdserverd /etc/bdserver/bdserverd.conf"))
    alpha.network.cut("alpha")
    began = time.monotonic()
    refused = gamma.run("bdkeys", "join", *late[2:])
    assert refused.returncode == 4 and refused.stderr.count("\n") == 1, refused.stderr
    assert time.monotonic() - began < 20
    ok(gamma.type(ok(beta.run("bdctl", "invite")).strip()))
