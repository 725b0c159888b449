"""Real web servers on loopback with the shipped snippets, and an installation that their user can read.

Apache does not run programs as root, so its children are www-data; what they need lies in a folder that everybody may
read, laid out as an installation is: bin/python3 and share/bdserver/cgi-bin.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request

from tests.hosts import free_port, until

ROOT = pathlib.Path(__file__).parents[2]
APACHE_MODULES = ("mpm_event", "authz_core", "authz_host", "alias", "env", "cgid", "headers", "remoteip")
MODULES_AT = pathlib.Path("/usr/lib/apache2/modules")
# Only for tests: an address that is not this host's, without a second host.
PRETENDED = "X-Pretend-To-Be"


def missing():
    """Debian packages that are not here."""
    programs = {
        "apache2": "apache2",
        "lighttpd": "lighttpd",
        "chromium": "chromium",
        "chromedriver": "chromium-driver",
        "curl": "curl",
    }
    return [
        package
        for program, package in programs.items()
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin") is None
    ]


def install(prefix):
    """PREFIX/bin/python3 and PREFIX/share/bdserver, for any user."""
    lib = prefix / "lib"
    shutil.copytree(ROOT / "bdserver", lib / "bdserver", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("cgi-bin", "etc"):
        shutil.copytree(ROOT / folder, prefix / "share" / "bdserver" / folder)
    site = pathlib.Path(sysconfig.get_path("purelib"))
    if not readable_by_all(site):
        shutil.copytree(site, prefix / "site", ignore=shutil.ignore_patterns("__pycache__"))
        site = prefix / "site"
    python = sys.executable if readable_by_all(pathlib.Path(sys.executable)) else "/usr/bin/python3"
    program = prefix / "bin" / "python3"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{lib}:{site}" PYTHONPYCACHEPREFIX=/nowhere exec {python} "$@"\n')
    program.chmod(0o755)
    subprocess.run(["chmod", "-R", "a+rX", prefix], check=True)


def readable_by_all(path):
    """Whether every user may reach it."""
    resolved = path.resolve()
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (*path.absolute().parents, resolved, *resolved.parents))


class Server:
    """A web server in the foreground, and requests to it."""

    def __init__(self, folder, prefix, audit_conf):
        self.folder, self.prefix, self.audit_conf = folder, prefix, audit_conf
        self.port = free_port()
        self.config = folder / f"{self.name}.conf"
        self.log = folder / f"{self.name}.log"
        self.process = None

    def start(self):
        """Write the config, launch, wait until it listens."""
        self.config.write_text(self.config_text())
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def listens():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", self.port)) == 0

        until(listens, 30, f"{self.name} listens")
        return self

    def stop(self):
        """End it."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)

    def url(self, path):
        """Of a path below /bdserver/."""
        return f"http://127.0.0.1:{self.port}/bdserver/{path}"

    def get(self, path, method="GET", **headers):
        """(status, headers, body); redirections are not followed."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        request = urllib.request.Request(self.url(path), method=method, headers=named)
        try:
            with _opener.open(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def snippet(self):
        """The shipped one, its one path changed as its first lines say."""
        text = (self.prefix / "share/bdserver/etc" / f"bdserver-{self.name}.conf").read_text()
        assert "/opt/bdserver/share/bdserver/cgi-bin" in text
        return text.replace("/opt/bdserver/share/bdserver/cgi-bin", str(self.prefix / "share/bdserver/cgi-bin"))


class Apache(Server):
    """Apache 2.4 with mod_cgid, its children www-data when we are root."""

    name = "apache2"

    def command(self):
        return [
            shutil.which("apache2", path="/usr/sbin:" + os.environ["PATH"]),
            "-d",
            self.folder,
            "-f",
            self.config,
            "-DFOREGROUND",
        ]

    def config_text(self):
        lines = [f"LoadModule {name}_module {MODULES_AT}/mod_{name}.so" for name in APACHE_MODULES]
        if os.getuid() == 0:
            lines += ["User www-data", "Group www-data"]
        return "\n".join([
            *lines, f"Listen 127.0.0.1:{self.port}", "ServerName localhost", f"PidFile {self.folder}/apache2.pid",
            f"ScriptSock {self.folder}/cgid.sock", f"DefaultRuntimeDir {self.folder}", f"ErrorLog {self.folder}/error.log",
            f"RemoteIPHeader {PRETENDED}", "RemoteIPTrustedProxy 127.0.0.1", "<Directory />", "Require all denied", "</Directory>",
            f"DocumentRoot {self.folder}", f"SetEnv BDSERVER_AUDIT_CONFIG {self.audit_conf}", self.snippet(),
        ])  # fmt: skip


class Lighttpd(Server):
    """lighttpd 1.4 with mod_cgi, as www-data when we are root."""

    name = "lighttpd"

    def command(self):
        return [shutil.which("lighttpd", path="/usr/sbin:" + os.environ["PATH"]), "-D", "-f", self.config]

    def config_text(self):
        root = ['server.username = "www-data"', 'server.groupname = "www-data"'] if os.getuid() == 0 else []
        return "\n".join([
            *root, f"server.port = {self.port}", 'server.bind = "127.0.0.1"', f'server.document-root = "{self.folder}"',
            'server.modules = ( "mod_setenv", "mod_extforward", "mod_access" )',
            'extforward.forwarder = ( "127.0.0.1" => "trust" )', f'extforward.headers = ( "{PRETENDED}" )',
            f'setenv.add-environment = ( "BDSERVER_AUDIT_CONFIG" => "{self.audit_conf}", "PATH" => "/usr/bin:/bin" )', self.snippet(),
        ])  # fmt: skip


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None


_opener = urllib.request.build_opener(_Stay, urllib.request.ProxyHandler({}))
