"""A mesh of real daemons with policies, services and web containers; real web servers before it; a real browser."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest
from selenium import webdriver

from tests.hosts import Mesh, free_port, until

from . import servers

SAMPLES = servers.ROOT / "bdserver" / "demo" / "services"
POLICY = """<wsp:Policy xmlns:wsp="http://schemas.xmlsoap.org/ws/2004/09/policy" xmlns:p="urn:example">
<wsp:ExactlyOne>{}</wsp:ExactlyOne></wsp:Policy>"""


def pytest_collection_modifyitems(items):
    missing = servers.missing()
    if missing:
        for item in items:
            if "web" in pathlib.Path(item.path).parts:
                item.add_marker(pytest.mark.skip(reason=f"needs Debian's {' '.join(missing)}"))


@pytest.fixture(scope="session")
def public():
    """A folder that every user can read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="bdserver-web-") as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


@pytest.fixture(scope="session")
def prefix(public):
    """An installation for every user."""
    path = public / "prefix"
    path.mkdir()
    servers.install(path)
    return path


def policy(folder, name, *alternatives):
    """A policy file."""
    path = folder / f"{name}.xml"
    path.write_text(POLICY.format("".join(f"<wsp:All><p:{each}/></wsp:All>" for each in alternatives)))
    return path


class World:
    """alpha (office), beta (both), gamma (datacentre), delta (both; killed). alpha has Primes, beta TimeOfDay."""

    def __init__(self, folder):
        self.folder = folder
        self.mesh = Mesh(str(folder / "mesh"), "web")
        self.containers = []
        office, both = policy(folder, "office", "office"), policy(folder, "both", "office", "datacentre")
        datacentre = policy(folder, "datacentre", "datacentre")
        for name, path in (("alpha", office), ("beta", both), ("gamma", datacentre), ("delta", both)):
            hints = {"hints": " ".join(host.address for host in self.mesh.hosts)} if self.mesh.hosts else {}
            host = self.mesh.host(name, ws_policy=path, receiver_threshold=40, axis_port=free_port(), **hints)
            self.contain(host)
            setattr(self, name, host)
        self.drop(self.alpha, "Primes")
        self.drop(self.beta, "TimeOfDay")
        for host in self.mesh.hosts:
            host.start()
        self.mesh.wait_known()
        self.delta.kill()
        until(lambda: self.beta.status_of("delta") == "dead", 30, "delta's death is known")
        until(lambda: {"Primes", "TimeOfDay"} <= set(self.beta.ctl("services")), 30, "the services are known")
        # Pytest runs as root; the servers' children do not: they reach the socket, and no key.
        for path in (
            folder / "mesh",
            folder / "mesh" / "beta",
            folder / "mesh" / "beta" / "var",
            folder / "mesh" / "beta" / "var" / "run",
        ):
            os.chmod(path, 0o755)
        self.audit_conf = folder / "audit.conf"
        self.audit_conf.write_text(f"socket={self.beta.socket}\nwhereis_seconds=3\ncrawl_seconds=5\n")

    def contain(self, host):
        """A web container for a host's services."""
        line = [sys.executable, "-m", "bdserver.net.container", "--services", host.services]
        line += ["--port", str(host.config["axis_port"]), "--host", host.ip]
        container = subprocess.Popen(
            line, env=os.environ | {"PYTHONPATH": str(servers.ROOT)}, stdout=subprocess.PIPE, text=True
        )
        self.containers.append(container)
        assert container.stdout.readline()

    def drop(self, host, name):
        """One of the demo's services into a host's folder."""
        shutil.copy(SAMPLES / name, host.services)
        shutil.copy(SAMPLES / f"{name}.bdcert", host.services)

    def stop(self):
        """End everything."""
        self.mesh.stop()
        for container in self.containers:
            container.terminate()
            container.wait()
            container.stdout.close()


@pytest.fixture(scope="session")
def world(public):
    """The mesh that all tests of a run look at."""
    made = World(public)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def apache(public, prefix, world):
    server = servers.Apache(public, prefix, world.audit_conf).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def lighttpd(public, prefix, world):
    server = servers.Lighttpd(public, prefix, world.audit_conf).start()
    yield server
    server.stop()


@pytest.fixture(params=["apache", "lighttpd"])
def server(request):
    """Each of the servers in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def configured(world):
    """Writes audit.conf anew for one test."""
    before = world.audit_conf.read_text()

    def write(text):
        world.audit_conf.write_text(text)

    yield write
    world.audit_conf.write_text(before)


def browser_with(*arguments, javascript=True):
    """A headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    quiet = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ]
    for argument in (*quiet, "--disable-component-update", "--disable-sync", "--window-size=1280,1000", *arguments):
        options.add_argument(argument)
    if not javascript:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    return webdriver.Chrome(options, service)


@pytest.fixture(scope="session")
def browser():
    """One for all tests that change nothing of it."""
    made = browser_with()
    yield made
    made.quit()
