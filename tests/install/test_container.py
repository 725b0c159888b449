"""packaging/docker/Dockerfile: its steps are done in a copy of this machine, which is a Debian 12, and the node in it answers.

A container engine is not needed: the file is read by a parser of the few instructions that it has; what apt-get would fetch must
be installed here, as for the Debian package."""

import pathlib
import re
import shlex
import shutil

import pytest

from tests.hosts import until

from . import machine as machines

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "packaging" / "docker" / "Dockerfile"
KNOWN = {"FROM", "RUN", "COPY", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT"}


def instructions():
    """[(instruction, its words)] in order."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def listed(words):
    """The words of a JSON list in an instruction."""
    return re.findall(r'"([^"]*)"', words)


def test_it_has_only_what_this_test_knows_and_copies_what_is_there():
    assert {name for name, _ in instructions()} <= KNOWN and instructions()[0] == ("FROM", "debian:12-slim")
    for name, words in instructions():
        if name == "COPY":
            *sources, _target = words.split()
            assert all((ROOT / each).exists() for each in sources), words


def test_it_installs_what_debians_package_depends_on():
    wanted = {
        line.split()[0]
        for line in (ROOT / ".ci" / "debian-packages").read_text().split("# What the package depends on.")[1].splitlines()
        if line
    }
    [fetched] = [words for name, words in instructions() if "apt-get install" in words]
    assert wanted - {"adduser"} <= set(fetched.split())


def test_its_steps_make_a_node_that_answers():
    if reason := machines.missing():
        pytest.skip(reason)
    with machines.Machine() as machine:
        environment = {}
        for name, words in instructions():
            match name:
                case "RUN" if "apt-get install" in words:
                    packages = re.findall(r"\bpython3[\w-]*|fonts-[\w-]+|graphviz", words)
                    machine.do("dpkg-query", "--show", *packages)
                case "RUN":
                    machine.do("sh", "-ec", words)
                case "COPY":
                    *sources, target = words.split()
                    for each in sources:
                        copy(machine, ROOT / each, target)
                case "ENV":
                    environment |= dict(pair.split("=", 1) for pair in shlex.split(words))
        [entry] = [listed(words) for name, words in instructions() if name == "ENTRYPOINT"]
        [health] = [listed(words) for name, words in instructions() if name == "HEALTHCHECK"]
        [user] = [words for name, words in instructions() if name == "USER"]
        given = [f"{key}={value}" for key, value in environment.items()]
        machine.do("env", *given, "sh", "-ec", SETUP)
        machine.do("sh", "-c", f"exec runuser -u {user} -- env {shlex.join([*given, *entry])} > /tmp/log 2>&1 &")
        try:
            until(lambda: machine.run("env", *given, *health, user=user).returncode == 0, 30, "it is healthy")
            assert "well: nothing needs attention" in machine.do("env", *given, "bdctl", "doctor")
        finally:
            machine.do("sh", "-c", "kill $(cat /run/bdserver/bdserver.pid)")
        until(lambda: not machine.processes("bdserverd: listener"), 20, "it ends when it is told to")


SETUP = """
bdkeys init /root/mesh --mesh home
bdkeys issue /root/mesh alpha --host 127.0.0.1 --out /etc/bdserver
printf 'username=alpha\\nvar_dir=/var/lib/bdserver\\nsocket=/run/bdserver/bdserver.sock\\npid_file=/run/bdserver/bdserver.pid\\n' \
    > /etc/bdserver/bdserverd.conf
chown -R bdserver: /etc/bdserver
"""


def copy(machine, source, target):
    """As COPY does it: a folder's content into the target, files into it by their names."""
    into = pathlib.Path(machine.path(target))
    if source.is_dir():
        shutil.copytree(source, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        into.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, into / source.name)
