"""A copy of this machine to install into: its files under an overlay in memory, processes and network of its own.

Nothing that is done in it reaches the machine itself, and all of it is gone when its process 1 ends.
"""

import os
import shutil
import subprocess
import tempfile

from tests.hosts import until

# A runlevel, without which invoke-rc.d does nothing. Process 1 ignores SIGCHLD, so that whoever is orphaned is reaped; it ends with our end of the pipe. Services may start
# in the copy, even where the machine's own policy-rc.d says no. Of a node that this machine has itself the copy knows nothing.
START = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs {folder}
mkdir {folder}/upper {folder}/work {folder}/root
mount -t overlay overlay -o lowerdir=/,upperdir={folder}/upper,workdir={folder}/work {folder}/root
cd {folder}/root
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p run/lock
rm -f usr/sbin/policy-rc.d sbin/runlevel
printf '#!/bin/sh\\necho N 2\\n' > sbin/runlevel && chmod 755 sbin/runlevel
chroot . dpkg --purge bdserver > /dev/null 2>&1 || true
rm -rf etc/bdserver var/lib/bdserver var/log/bdserver root/mesh
sed -i /^bdserver:/d etc/passwd etc/group etc/shadow etc/gshadow
ip link set lo up
trap '' CHLD
exec chroot . sh -c 'echo ready; read ended'
"""
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}
PROGRAMS = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "dpkg": "dpkg", "runuser": "util-linux"}


def missing():
    """Why there can be no copy here; None when there can."""
    if os.getuid() != 0:
        return "needs root"
    for program, package in PROGRAMS.items():
        if shutil.which(program, path=ENVIRONMENT["PATH"]) is None:
            return f"needs {program} (apt-get install {package})"
    with tempfile.TemporaryDirectory() as folder:
        tried = _unshared(START.format(folder=folder), stdin=subprocess.DEVNULL)
        said = tried.communicate(timeout=60)[0]
    return None if said == "ready\n" else f"needs namespaces and overlayfs: {said.strip()}"


def _unshared(script, stdin):
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "sh", "-c", script]
    return subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, cwd="/"
    )


class Machine:
    """Root of the copy, from outside: `run` a command there, look at its files by `path`."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="bdserver-machine-")
        self.process = _unshared(START.format(folder=self.folder), stdin=subprocess.PIPE)
        said = self.process.stdout.readline()
        assert said == "ready\n", said + self.process.stdout.read()
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            [self.pid] = file.read().split()

    def run(self, *command, user=None, data=None):
        """The CompletedProcess of a command as root or `user`; its stderr is with its stdout."""
        words = ["runuser", "-u", user, "--", *command] if user else command
        inside = ["nsenter", "--target", self.pid, "--mount", "--pid", "--net", "--ipc", "--uts", "--root", "--wd"]
        # To a file: a daemon that keeps the descriptor must not keep us.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [*inside, *words], input=data, stdin=None if data else subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, text=True, timeout=120, check=False, env=ENVIRONMENT,
            )  # fmt: skip
            output.seek(0)
            done.stdout = output.read()
        return done

    def do(self, *command, **keywords):
        """What a command said that must succeed."""
        done = self.run(*command, **keywords)
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}: {done.stdout}"
        return done.stdout

    def path(self, path):
        """Where a file of the copy is for this side."""
        return f"/proc/{self.pid}/root{path}"

    def read(self, path):
        """A file's text."""
        with open(self.path(path)) as file:
            return file.read()

    def write(self, path, text):
        """Make or replace a file."""
        with open(self.path(path), "w") as file:
            file.write(text)

    def exists(self, path):
        """Whether there is such a file or folder."""
        return os.path.lexists(self.path(path))

    def processes(self, pattern):
        """Their ids, in the copy."""
        return self.run("pgrep", "-f", pattern).stdout.split()

    def close(self):
        """End everything in it."""
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()
        until(lambda: not os.path.exists(f"/proc/{self.pid}"), 10, "process 1 has ended")
        os.rmdir(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
