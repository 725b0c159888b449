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


def node(mesh, prefix, name, server, **config):
    """A node, started, whose services_dir `server` serves."""
    hints = {"hints": mesh.hosts[0].address} if mesh.hosts else {}
    user = {"user": USER, "within": ["sh", "-c", INSTALLED, prefix / "bin/python3"]} if os.getuid() == 0 else {}
    host = mesh.host(name, axis_port=server.port, services_dir=server.services, **hints, **user, **config)
    host.services = str(server.services)
    give(host.folder)
    give(server.services)
    return host.start()


def drop(host, name):
    """One of the demo's services, by hand, as its owner would."""
    shutil.copy(SAMPLES / name, host.services)
    shutil.copy(SAMPLES / f"{name}.bdcert", host.services)


class Jetty(Serves, servers.Server):
    """Jetty 9 with Apache Axis 1.4 for the .jws in its folder, by the shipped web.xml and compiler."""

    name = "jetty"
    HOME = "/usr/share/jetty9"
    JARS = (
        "axis",
        "axis-jaxrpc",
        "axis-saaj",
        "commons-discovery",
        "commons-logging",
        "javax.activation",
        "javax.mail",
        "wsdl4j",
    )
    CONTEXT = (
        '<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://www.eclipse.org/jetty/configure_9_3.dtd">\n'
        '<Configure class="org.eclipse.jetty.webapp.WebAppContext">'
        '<Set name="contextPath">/axis</Set><Set name="war">{}</Set></Configure>\n'
    )

    @classmethod
    def missing(cls):
        """What of it is not installed."""
        wanted = {
            f"{cls.HOME}/start.jar": "jetty9",
            "/usr/share/java/axis.jar": "libaxis-java",
            "/usr/bin/javac": "default-jdk-headless",
        }
        wanted |= {f"/usr/share/java/{jar}.jar": "libaxis-java" for jar in cls.JARS}
        return sorted({package for path, package in wanted.items() if not os.path.exists(path)})

    def config_text(self):
        """Lays out the servlet container's base folder; its own settings are arguments."""
        for name in ("webapps", "tmp", "bin", "logs"):
            (self.folder / name).mkdir()
        lib = self.services / "WEB-INF" / "lib"
        lib.mkdir(parents=True)
        for jar in self.JARS:
            (lib / f"{jar}.jar").symlink_to(f"/usr/share/java/{jar}.jar")
        shutil.copy(ETC / "bdserver-axis-web.xml", self.services / "WEB-INF" / "web.xml")
        shutil.copy(ETC / "bdserver-axis-jikes", self.folder / "bin" / "jikes")
        (self.folder / "webapps" / "axis.xml").write_text(self.CONTEXT.format(self.services))
        give(self.folder)
        return ""

    def command(self):
        program = ["java", f"-Djava.io.tmpdir={self.folder}/tmp", "-Daxis.Compiler=org.apache.axis.components.compiler.Jikes"]
        settings = [
            f"jetty.home={self.HOME}",
            f"jetty.base={self.folder}",
            "jetty.http.host=127.0.0.1",
            f"jetty.http.port={self.port}",
        ]
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.getuid() == 0 else []
        path = f"PATH={self.folder}/bin:/usr/bin:/bin"
        return [*user, "env", path, *program, "-jar", f"{self.HOME}/start.jar", *settings, "--module=server,http,deploy,webapp"]
