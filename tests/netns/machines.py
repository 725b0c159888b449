"""Empty machines: each a network namespace with a root file system of its own, over this one's, in which nothing of ours is yet.

What is changed there is in a folder of the test alone. The checkout and the interpreter are bound into it, as if installed.
"""

import contextlib
import os
import shlex
import subprocess
import sys

from tests.hosts import until
from tests.netns.network import Network

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def why_no_machines(folder) -> str:
    """What this machine lacks for it; "" when it has everything."""
    machine = Machine.__new__(Machine)
    machine.root, machine.mounts = os.path.join(str(folder), "try"), []
    try:
        machine.mount()
    except AssertionError as error:
        return f"no overlay file systems: {error}"
    finally:
        machine.unmount()
    return ""


class Machine:
    """One of that name, plugged into the network with this address."""

    def __init__(self, folder, network: Network, name: str, address: str):
        self.name, self.address, self.network = name, address, network
        self.root, self.mounts = os.path.join(str(folder), f"machine-{name}"), []
        network.add(name, address)
        self.mount()

    def mount(self) -> None:
        upper, work, merged = (os.path.join(self.root, each) for each in ("upper", "work", "merged"))
        for each in (upper, work, merged):
            os.makedirs(each, exist_ok=True)
        self._mount("-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", merged)
        paths = {_ROOT, os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix), "/proc", "/dev"}
        for path in sorted(paths):
            os.makedirs(merged + path, exist_ok=True)
            self._mount("--bind", path, merged + path)
        venv = os.path.join(_ROOT, ".venv")
        if os.path.islink(venv) and not os.path.exists(os.path.realpath(merged + venv)):
            os.makedirs(merged + os.path.realpath(venv), exist_ok=True)
        self._mount("-t", "tmpfs", "tmpfs", merged + "/run")

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.mounts.append(arguments[-1])

    def unmount(self) -> None:
        for path in reversed(self.mounts):
            subprocess.run(["umount", "-l", path], check=False, capture_output=True)
        self.mounts = []

    def words(self, *arguments: str) -> list[str]:
        """The words that run this on the machine, as one types them there."""
        inside = ["chroot", os.path.join(self.root, "merged"), *arguments]
        return [*self.network.within(self.name), "unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.name, *inside]

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess:
        """One of our commands, from the checkout."""
        words = self.words(sys.executable, os.path.join(_ROOT, "bin", command), *arguments)
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    def type(self, line: str) -> subprocess.CompletedProcess:
        """A line as a person types it."""
        return self.run(*shlex.split(line))

    def end(self) -> None:
        """Everything that runs there."""
        for pid in self.network.pids(self.name):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[1] != "0":
                    os.kill(pid, 9)
        until(lambda: not self.network.pids(self.name), 10, f"nothing runs on {self.name}")
        self.unmount()
