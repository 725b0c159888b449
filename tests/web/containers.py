"""Nodes whose services_dir a real web server or servlet container serves, by the shipped snippets.

The mesh of these tests is as OPERATIONS has it: when we are root, nodes and servers are www-data, and the services lie
in a folder that everybody may read.
"""

import os
import pwd
import shutil
import urllib.error
import urllib.request

from . import servers

SAMPLES = servers.ROOT / "bdserver" / "demo" / "services"
ETC = servers.ROOT / "etc"
SERVICES_DIR = "/srv/www/services"
USER = "www-data" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
# In place of the Python that runs the tests, which www-data may not be able to read: the installed one.
INSTALLED = (
    'shift 3; exec "$0" -B -c "import sys; from importlib import import_module; '
    'sys.exit(import_module(\'bdserver.commands.\' + sys.argv.pop(1)).main())" "$@"'
)
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def give(path):
    """To the user of nodes and servers, with all that is in it."""
    if os.getuid() == 0:
        shutil.chown(path, USER, USER)
        for folder, names, files in os.walk(path):
            for name in (*names, *files):
                shutil.chown(os.path.join(folder, name), USER, USER)


class Serves:
    """What a server of services is beside a web server: a folder, and the shipped snippet for it."""

    def __init__(self, folder):
        folder.mkdir()
        super().__init__(folder, None, "/nowhere")
        self.services = folder / "services"
        self.services.mkdir()

    def snippet(self):
        """Changed as its first lines say."""
        text = (ETC / f"bdserver-services-{self.name}.conf").read_text()
        assert SERVICES_DIR in text
        return text.replace(SERVICES_DIR, str(self.services))

    def fetch(self, path):
        """(status, body) below /axis/; redirections are followed."""
        return fetch(f"http://127.0.0.1:{self.port}/axis/{path}")


class Apache(Serves, servers.Apache):
    """Apache 2.4, as Debian has it with mod_cgid enabled."""

    def config_text(self):
        return f"LoadModule dir_module {servers.MODULES_AT}/mod_dir.so\n" + super().config_text()


class Lighttpd(Serves, servers.Lighttpd):
    """lighttpd 1.4."""


def fetch(url):
    """(status, body)"""
    try:
        with _opener.open(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def node(mesh, name, server, **config):
    """A node, started, whose services_dir `server` serves."""
    hints = {"hints": mesh.hosts[0].address} if mesh.hosts else {}
    user = {"user": USER, "within": ["sh", "-c", INSTALLED, mesh.prefix / "bin/python3"]} if os.getuid() == 0 else {}
    host = mesh.host(name, axis_port=server.port, services_dir=server.services, **hints, **user, **config)
    host.services = str(server.services)
    give(host.folder)
    give(server.services)
    return host.start()


def drop(host, name):
    """One of the demo's services, by hand, as its owner would."""
    shutil.copy(SAMPLES / name, host.services)
    shutil.copy(SAMPLES / f"{name}.bdcert", host.services)
