"""README's first chapter, line by line, on two hosts with root file systems of their own: it ends with hello."""

import contextlib
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile

import pytest

from tests.hosts import RUN, until
from tests.netns.network import Network

ROOT = pathlib.Path(__file__).parents[2]
COMMANDS = ("bdserverd", "bdwhereis", "bdctl", "bdkeys")
ADDRESSES = {"alpha": "10.0.0.1", "beta": "10.0.0.2"}
# What the chapter writes to, each an overlay of the machine's own: nothing of it is left.
CHANGED = ("etc", "root", "run", "var")
# An empty root of one's own, and a process that holds it until its input ends.
HOLD = """
set -e
mount -t tmpfs none {scratch}
for each in {changed}; do
    mkdir {scratch}/$each {scratch}/$each.work
    mount -t overlay -o lowerdir=/$each,upperdir={scratch}/$each,workdir={scratch}/$each.work overlay /$each
done
rm -rf /etc/bdserver /var/lib/bdserver /run/bdserver /root/mesh
echo ready
read until_the_end
"""


def blocks():
    """The indented blocks of the chapter that begins a mesh by hand, each as its lines."""
    chapter = re.search(r"^## Two hosts.*?\n(.*?)^## ", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    return [re.findall(r"^    (.*)$", block, re.MULTILINE) for block in re.findall(r"(?:^    .*\n)+", chapter, re.MULTILINE)]


class Machine:
    """A host: a network namespace, a root of its own."""

    def __init__(self, network, name, folder):
        self.name, self.network = name, network
        network.add(name, ADDRESSES[name])
        scratch = folder / name
        scratch.mkdir()
        words = [
            *network.within(name),
            "unshare",
            "--mount",
            "sh",
            "-c",
            HOLD.format(scratch=scratch, changed=" ".join(CHANGED)),
        ]
        self.holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "ready\n"

    def run(self, line, path, *as_user):
        """A line, as a person at a terminal; its output."""
        words = ["nsenter", "--target", str(self.holder.pid), "--mount", "--net", *as_user, "sh", "-ec", f"cd /tmp; {line}"]
        environment = {"PATH": f"{path}:{os.environ['PATH']}", "HOME": "/root", "LANG": "C.UTF-8", "BETA": self.beta}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{self.name}: {line}: {done.stderr}"
        return done.stdout

    beta = ""

    def end(self):
        for pid in self.network.pids(self.name):
            with contextlib.suppress(ProcessLookupError):
                if pid != self.holder.pid:
                    os.kill(pid, signal.SIGTERM)
        until(lambda: set(self.network.pids(self.name)) <= {self.holder.pid}, 20, f"nothing runs on {self.name}")
        self.holder.communicate("the end\n", timeout=20)


def shims(folder, python):
    """The commands as README installs them, and an scp to the other host."""
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).write_text(f'#!/bin/sh\nexec {python} -c {shlex.quote(RUN)} {name} "$@"\n')
    (folder / "scp").write_text('#!/bin/sh\nto="/proc/$BETA/root${3#*:}"; mkdir -p "${to%/*}"; exec cp -r "$2" "$to"\n')
    for each in folder.iterdir():
        each.chmod(0o755)
    return folder


@pytest.fixture
def machines(has_network, tmp_path):
    with Network() as network:
        made = {name: Machine(network, name, tmp_path) for name in ADDRESSES}
        for each in made.values():
            each.beta = str(made["beta"].holder.pid)
        yield made
        for each in made.values():
            each.end()


def everybodys_python():
    """One that every account may run: for the look-up, which needs nothing but the library."""
    for python in (sys.executable, "/usr/bin/python3"):
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", "import json"]
        if subprocess.run(words, capture_output=True, check=False).returncode == 0:
            return python
    raise AssertionError("no Python that an ordinary account may run")


@pytest.fixture
def everybodys_folder():
    """Which every account may pass, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


def test_the_first_chapter_ends_with_hello_on_both_hosts_and_for_every_user(machines, everybodys_folder):
    path = shims(everybodys_folder / "bin", sys.executable)
    install, [begin], [join], offer = blocks()
    assert "pip install ." in install[0] and "bdkeys init" in begin and join.startswith("bdkeys join 10.0.0.1:9001 TOKEN")
    assert offer[-1].startswith("curl ")
    alpha, beta = machines["alpha"], machines["beta"]
    for machine in (alpha, beta):
        machine.network.on(machine.name, "route", "add", "default", "dev", "eth0")
    printed = alpha.run(f"{begin} --name alpha", path).splitlines()[-1].strip()
    assert printed.startswith("bdkeys join 10.0.0.1:9001 "), printed
    beta.run(f"{printed} --name beta", path)
    *publishing, curl = offer
    for line in publishing:
        alpha.run(line, path)
    assert alpha.run(curl, path) == "hello\n"
    until(lambda: "hello" in beta.run("bdctl services", path), 20, "beta has heard of it")
    assert beta.run(curl, path) == "hello\n"
    ordinary = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    everybodys = shims(everybodys_folder / "everybodys", everybodys_python())
    for machine in (alpha, beta):
        assert machine.run(curl, everybodys, *ordinary) == "hello\n"
        until(lambda m=machine: "well: nothing needs" in m.run("bdctl doctor --all || true", path), 30, "all is well", 0.5)
