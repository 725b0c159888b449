"""A real systemd as process 1 of namespaces made for it, with our unit and a few empty targets, nothing else.

Its /etc is a copy, /run and /var/lib are its own, so the machine's are not touched. When process 1 ends, everything in
its namespace does.
"""

import os
import shutil
import signal
import subprocess

from tests.hosts import until
from tests.web.servers import ROOT, install

TARGETS = ("sysinit", "basic", "shutdown", "network-online", "multi-user", "local-fs", "umount", "system-slice")
GATEWAY_DROP_IN = """[Service]
ExecStart=
ExecStart=/srv/mesh/prefix/bin/bdgateway /etc/bdserver/gateway.conf
StandardError=append:/srv/mesh/bdgateway.log
"""
START = """
mount --make-rprivate / && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mount --bind {folder}/etc /etc &&
mount -t tmpfs tmpfs /srv && mkdir /srv/mesh && mount --bind {folder} /srv/mesh &&
exec env -i container=bdserver-test SYSTEMD_UNIT_PATH={folder}/units SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=info \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=idle.target
"""
# The machine's own limits where a test's would be too slow, and a log that can be read without a journal.
DROP_IN = """[Service]
ExecStart=
ExecStart=/srv/mesh/prefix/bin/bdserverd --foreground /etc/bdserver/bdserverd.conf
User=www-data
WatchdogSec=3
RestartSec=0.1
StandardError=append:/srv/mesh/bdserverd.log
"""


def missing():
    """Why there can be no systemd here; None when there can."""
    if os.getuid() != 0:
        return "needs root"
    for path in ("/lib/systemd/systemd", "/usr/bin/unshare", "/usr/bin/nsenter"):
        if not os.path.exists(path):
            return f"needs {path} (apt-get install systemd util-linux)"
    tried = subprocess.run(["unshare", "-mpfui", "--mount-proc", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"namespaces can't be made: {tried.stderr.strip()}"


class Systemd:
    """Process 1, and systemctl in its namespaces."""

    def __init__(self, folder, mesh):
        self.folder = folder
        self.log = folder / "systemd.log"
        self.process = None
        (folder / "units").mkdir()
        for name in (*TARGETS, "idle"):
            (folder / "units" / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        for name, text in (("bdserverd", DROP_IN), ("bdgateway", GATEWAY_DROP_IN)):
            shutil.copy(ROOT / "etc" / f"{name}.service", folder / "units")
            (folder / "units" / f"{name}.service.d").mkdir()
            (folder / "units" / f"{name}.service.d" / "test.conf").write_text(text)
        shutil.copytree("/etc", folder / "etc", symlinks=True, ignore_dangling_symlinks=True)
        install(folder / "prefix")
        for name in ("bdserverd", "bdgateway"):
            program = folder / "prefix" / "bin" / name
            program.write_text(
                f'#!/bin/sh\nexec /srv/mesh/prefix/bin/python3 -c "import sys; from bdserver.commands.{name} import main; sys.exit(main())" "$@"\n'
            )
            program.chmod(0o755)
        self._relocate(folder / "prefix" / "bin" / "python3")
        self.keys = mesh.issue("bdserver", folder=str(folder / "etc" / "bdserver"))
        for path in (self.keys, *(os.path.join(self.keys, name) for name in os.listdir(self.keys))):
            shutil.chown(path, "www-data")
        os.chmod(self.keys, 0o755)

    def _relocate(self, program):
        """/tmp is private to the service: what lies there is at /srv/mesh too."""
        program.write_text(program.read_text().replace(str(self.folder), "/srv/mesh"))

    def configure(self, **config):
        """Write bdserverd.conf."""
        text = "".join(f"{key}={value}\n" for key, value in config.items())
        path = os.path.join(self.keys, "bdserverd.conf")
        with open(path, "w") as file:
            file.write(text)

    def start(self):
        """Until it answers systemctl."""
        with open(self.log, "ab") as log:
            command = ["unshare", "-mpfui", "--mount-proc", "sh", "-c", START.format(folder=self.folder)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: self.pid and self.ctl("is-active", "idle.target").stdout == "active\n", 30, "systemd is up")
        return self

    @property
    def pid(self):
        """Of process 1, as this side sees it."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(path) as file:
            children = file.read().split()
        return int(children[0]) if children else None

    def ctl(self, *arguments):
        """systemctl."""
        command = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts", "systemctl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def show(self, name, unit="bdserverd"):
        """A property of our unit."""
        return self.ctl("show", "--value", "-p", name, unit).stdout.strip()

    def signal(self, number, who="main"):
        """Send a signal to the service."""
        return self.ctl("kill", f"--kill-whom={who}", f"--signal={number}", "bdserverd")

    def stop(self):
        """End process 1, and all with it."""
        if self.process and self.process.poll() is None:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
            self.process.wait(20)
