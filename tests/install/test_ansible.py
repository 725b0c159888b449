"""The Ansible role: its tasks are done in a copy of this machine, twice, and change nothing the second time."""

import json
import pathlib
import shutil

import pytest

from tests.install import machine as machines
from tests.install.test_deb import install, package  # noqa: F401 (a fixture)

ROOT = pathlib.Path(__file__).resolve().parents[2]
INVENTORY = """[mesh]
alpha ansible_connection=local ansible_host=127.0.0.1
"""
SETTINGS = {"bdserver_settings": {"receiver_threshold": 50}}


def play(machine, **changes):
    """What Ansible counts for alpha."""
    words = [
        "ansible-playbook",
        "--inventory",
        "/tmp/hosts",
        "--extra-vars",
        json.dumps(SETTINGS | changes),
        "/tmp/ansible/site.yml",
    ]
    said = machine.do("env", "HOME=/tmp", "ANSIBLE_NOCOLOR=1", *words)
    [line] = [line for line in said.splitlines() if line.startswith("alpha") and "ok=" in line]
    return {key: int(value) for key, value in (pair.split("=") for pair in line.split(":", 1)[1].split())}


@pytest.fixture
def machine(package):  # noqa: F811
    """A copy of this machine on which Ansible runs, with the CA of a mesh."""
    if shutil.which("ansible-playbook") is None:
        pytest.skip("needs Debian's ansible-core")
    if reason := machines.missing():
        pytest.skip(reason)
    with machines.Machine() as machine:
        install(machine, package)
        shutil.copytree(ROOT / "packaging" / "ansible", machine.path("/tmp/ansible"))
        machine.do("mkdir", "-p", "/dist")
        shutil.copy(package, machine.path(f"/dist/{package.name}"))
        machine.write("/tmp/hosts", INVENTORY)
        machine.do("rm", "-f", "/sbin/init")  # the copy is started by init scripts, whatever this machine is started by
        machine.do("bdkeys", "init", "/root/mesh", "--mesh", "home")
        yield machine


def test_the_role_makes_a_node_that_is_well_and_a_second_run_changes_nothing(machine):
    first = play(machine)
    assert first["failed"] == first["unreachable"] == 0 and first["changed"] > 3
    assert "well: nothing needs attention" in machine.do("bdctl", "doctor")
    status = json.loads(machine.do("bdctl", "--json", "status"))
    assert (status["name"], status["receiver_threshold"]) == ("alpha", 50)
    assert "\nhints=127.0.0.1:9001\n" in machine.read("/etc/bdserver/bdserverd.conf"), (
        "what its certificate is for, not its name"
    )
    assert play(machine)["changed"] == 0
    changed = play(machine, bdserver_settings={"receiver_threshold": 70})
    assert changed["changed"] == 2, "the config, and the daemon is started anew"
    assert json.loads(machine.do("bdctl", "--json", "status"))["receiver_threshold"] == 70


def test_a_wrong_setting_is_refused_before_the_daemon_has_it(machine):
    play(machine)
    with pytest.raises(AssertionError, match="recever_threshold"):
        play(machine, bdserver_settings={"recever_threshold": 70})
    assert machine.run("bdctl", "ping").returncode == 0
