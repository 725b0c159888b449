"""The Debian package, really built, installed, run, upgraded, removed and purged, in copies of this machine."""

import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tarfile

import pytest

from bdserver import __version__
from tests.hosts import until

from . import machine as machines

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ("bdserver", "bin", "cgi-bin", "docs", "etc", "packaging", ".ci", "setup.py", "README.md", "CHANGELOG.md", "LICENSE")
COMMANDS = ("bdserverd", "bdwhereis", "bdctl", "bdkeys", "bddemo")
CONFIG = "/etc/bdserver/bdserverd.conf"
LOG = "/var/log/bdserver/bdserverd.log"
NEXT_VERSION = __version__ + "+next"
NEW_LINE = "# a remark that only the next version's config has\n"


def build(folder):
    """The package that a checkout makes."""
    done = subprocess.run([folder / ".ci" / "deb"], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.strip()


def checkout(folder):
    """A copy, so that building leaves nothing in ours."""
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """bdserver_VERSION_all.deb"""
    if shutil.which("dpkg-buildpackage") is None:
        pytest.skip("needs Debian's dpkg-dev")
    return build(checkout(tmp_path_factory.mktemp("this") / "bdserver"))


@pytest.fixture(scope="module")
def next_package(package, tmp_path_factory):
    """A later version, with another config."""
    folder = checkout(tmp_path_factory.mktemp("next") / "bdserver")
    for path, old, new in (
        ("bdserver/__init__.py", f'"{__version__}"', f'"{NEXT_VERSION}"'),
        ("packaging/debian/bdserverd.conf", "# What a new", NEW_LINE + "# What a new"),
    ):
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new))
    return build(folder)


@pytest.fixture(scope="session")
def can_copy():
    """Skips where no copy of the machine can be made."""
    if reason := machines.missing():
        pytest.skip(reason)


@pytest.fixture
def machine(can_copy, package):
    """A copy of this machine with the package just installed."""
    with machines.Machine() as machine:
        machine.said = install(machine, package)
        yield machine


@pytest.fixture
def node(machine):
    """The same with keys and a node that runs."""
    give_keys(machine)
    machine.do("service", "bdserverd", "start")
    return machine


def install(machine, package):
    """What dpkg says; edited configs stay, as they do when nobody can be asked."""
    with open(package, "rb") as file, open(machine.path(f"/tmp/{package.name}"), "wb") as copy:
        shutil.copyfileobj(file, copy)
    return machine.do("dpkg", "--force-confold", "--install", f"/tmp/{package.name}")


BY_HAND = """
bdkeys init /root/mesh --mesh home
bdkeys issue /root/mesh alpha --host 127.0.0.1 --out /etc/bdserver
chown bdserver /etc/bdserver/alpha.key
sed -i 's/^#username=.*/username=alpha/' /etc/bdserver/bdserverd.conf
bdserverd --check /etc/bdserver/bdserverd.conf
"""


def give_keys(machine):
    """As OPERATIONS has it by hand."""
    return machine.do("sh", "-ec", BY_HAND)


def status(machine):
    return json.loads(machine.do("bdctl", "--json", "status"))


def service(machine, action):
    return machine.run("service", "bdserverd", action).returncode


def listener(machine):
    return machine.read("/run/bdserver/bdserver.pid").strip()


# --- what is in it ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contents(package, tmp_path_factory):
    """path -> TarInfo, of the package's files."""
    archive = tmp_path_factory.mktemp("contents") / "files.tar"
    with open(archive, "wb") as file:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", package], stdout=file, check=True)
    with tarfile.open(archive) as files:
        return {member.name.removeprefix("."): member for member in files if not member.isdir()}


def test_lintian_finds_no_error(package):
    if shutil.which("lintian") is None:
        pytest.skip("needs Debian's lintian")
    done = subprocess.run(["lintian", "--allow-root", package], capture_output=True, text=True, timeout=120, check=False)
    assert not re.findall("^E: .*", done.stdout, re.MULTILINE) and done.returncode == 0, done.stdout + done.stderr


def test_each_file_is_in_its_place(contents):
    wanted = {f"/usr/bin/{command}" for command in COMMANDS}
    wanted |= {f"/usr/share/man/man{path.suffix[1:]}/{path.name}.gz" for path in (ROOT / "docs" / "man").iterdir()}
    wanted |= {f"/usr/share/bdserver/cgi-bin/{path.name}" for path in (ROOT / "cgi-bin").iterdir()}
    wanted |= {f"/usr/share/bdserver/etc/{path.name}" for path in (ROOT / "etc").glob("*.sample")}
    wanted |= {CONFIG, "/etc/init.d/bdserverd", "/lib/systemd/system/bdserverd.service", "/usr/lib/tmpfiles.d/bdserver.conf"}
    wanted |= {"/lib/systemd/system/bdserver-web.service"}
    wanted |= {"/etc/apache2/conf-available/bdserver.conf", "/etc/lighttpd/conf-available/50-bdserver.conf"}
    for sample, place in (
        ("bdserverd.logrotate", "/etc/logrotate.d/bdserverd"),
        ("bdserver.bash-completion", "/usr/share/bash-completion/completions/bdctl"),
    ):
        wanted |= {place} if (ROOT / "etc" / sample).exists() else set()
    assert wanted - contents.keys() == set()
    assert all(contents[path].mode & 0o111 for path in contents if "/bin/" in path or path.endswith(".cgi"))


@pytest.mark.parametrize("command", ["bdwhereis", "bdctl"])
def test_what_starts_quickly_is_started_by_debians_python_without_site(package, tmp_path, command):
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    path = tmp_path / "usr" / "bin" / command
    assert path.read_text().splitlines()[:2] == ["#!/usr/bin/python3 -S", "import sys"]
    assert f"usage: {command}" in subprocess.run([path, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_looks_through_the_metadata_of_all_packages(package, tmp_path, command):
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    assert "metadata" not in (tmp_path / "usr" / "bin" / command).read_text()


def test_no_file_says_where_else_it_could_be(package, contents, tmp_path):
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    for path in contents:
        if not path.startswith(("/usr/share/doc/", "/usr/lib/python3/")):
            assert b"/opt/bdserver" not in (tmp_path / path[1:]).read_bytes(), path


# --- a fresh installation -----------------------------------------------------------------------------------------


def test_a_fresh_installation_says_what_to_do_next_and_waits_for_it(machine):
    assert "README.Debian" in machine.said
    assert service(machine, "status") == 3
    assert not machine.processes("bdserverd: listener")
    checked = machine.run("bdserverd", "--check", CONFIG)
    assert checked.returncode == 1 and "bdkeys issue" in checked.stdout
    assert service(machine, "start") not in (0, 127)
    assert "ConditionPathExists=|/etc/bdserver/ca.crt" in machine.read("/usr/lib/systemd/system/bdserverd.service.d/keys.conf")
    assert machine.exists("/etc/systemd/system/multi-user.target.wants/bdserverd.service")
    assert machine.do("sh", "-c", "ls /etc/rc2.d").count("bdserverd") == 1


def test_the_node_has_a_user_and_folders_of_its_own(machine):
    _, _, uid, gid, *_, home, shell = machine.do("getent", "passwd", "bdserver").strip().split(":")
    assert home == "/var/lib/bdserver" and shell.endswith("nologin") and 100 <= int(uid) < 1000
    for folder, mode in (("/var/lib/bdserver", 0o755), ("/var/log/bdserver", 0o2750)):
        found = os.stat(machine.path(folder))
        assert (found.st_uid, found.st_mode & 0o7777) == (int(uid), mode), folder
    assert os.stat(machine.path("/var/lib/bdserver")).st_gid == int(gid)
    with pytest.raises(KeyError):
        pwd.getpwnam("bdserver")  # the copy is a copy: this machine has not got the package


def test_folders_of_another_owner_are_given_to_the_daemon_and_that_is_said(package):
    with machines.Machine() as machine:
        machine.do("sh", "-c", f"mkdir -p /var/log/bdserver && echo old > {LOG} && chown -R games: /var/log/bdserver")
        said = install(machine, package)
        for path in ("/var/log/bdserver", LOG):
            assert f"bdserver: {path} was owned by games, and is given to bdserver" in said
        assert "/var/lib/bdserver was owned" not in said
        give_keys(machine)
        machine.do("service", "bdserverd", "start")
        assert machine.processes("^bdserverd: listener") and machine.read(LOG).startswith("old")


# --- a node that runs ---------------------------------------------------------------------------------------------


def test_the_one_command_of_readme_debian_begins_a_mesh(machine):
    text = machine.read("/usr/share/doc/bdserver/README.Debian")
    begin = re.search(r"^    (bdkeys init .*)$", text, re.MULTILINE)[1]
    # Of this machine's addresses the copy has none.
    said = machine.do("sh", "-ec", f"{begin} --name alpha --host 127.0.0.1")
    assert re.search(r"^ *bdkeys join 127\.0\.0\.1:9001 ", said, re.MULTILINE), said
    assert status(machine)["name"] == "alpha" and service(machine, "status") == 0
    machine.do("sh", "-ec", "echo hello > /tmp/hello; bdctl publish /tmp/hello --health http")
    assert machine.do("sh", "-ec", 'curl -s "$(bdwhereis hello)"') == "hello\n", "nobody has to know of web servers"
    assert "bdctl roll" in machine.do("bdkeys", "roll", "/root/bdserver-ca"), "Debian's cryptography can do this too"
    machine.do("service", "bdserverd", "stop")


def test_a_node_lives_as_init_wants_it(machine):
    assert "ok: alpha of home" in give_keys(machine)
    assert [service(machine, action) for action in ("reload", "status", "stop")] == [7, 3, 0]
    assert [service(machine, action) for action in ("start", "status", "start", "reload", "status")] == [0] * 5
    before = listener(machine)
    assert machine.do("ps", "-o", "user=", "-p", before).strip() == "bdserver"
    assert service(machine, "restart") == 0 and listener(machine) != before
    machine.do("kill", "-KILL", listener(machine))
    until(lambda: service(machine, "status") == 1, 10, "the killed node is dead, and its pid file is there")
    assert [service(machine, action) for action in ("start", "status", "stop", "status")] == [0, 0, 0, 3]
    until(lambda: not machine.processes("^bdserverd: "), 10, "no process is left")
    assert service(machine, "nonsense") in (2, 3)


def test_a_node_serves_whoever_is_on_the_host(node):
    node.do("sh", "-c", "echo hello > /tmp/greeting")
    node.do("bdctl", "publish", "/tmp/greeting")
    assert node.do("bdwhereis", "greeting", user="nobody").startswith("http://127.0.0.1:8080/axis/greeting")
    refused = node.run("bdctl", "withdraw", "greeting", user="nobody")
    assert refused.returncode != 0 and "admin" in refused.stdout


def test_the_audit_page_is_two_commands_away(node):
    for program in ("a2enmod", "neato"):
        if node.run("which", program).returncode != 0:
            pytest.skip(f"needs Debian's {'apache2' if program == 'a2enmod' else 'graphviz'}")
    node.do("sh", "-c", "a2enmod cgid && a2enconf bdserver && echo ServerName localhost >> /etc/apache2/apache2.conf")
    node.do("apache2ctl", "start")
    page = "http://localhost/bdserver/audit.cgi"
    until(lambda: node.run("curl", "-sf", page).returncode == 0, 20, "Apache serves the page")
    assert "alpha" in node.do("curl", "-sf", page)
    assert "bdserver_" in node.do("curl", "-sf", page + "?format=prometheus")


def test_a_rotated_log_goes_on_in_a_new_file(node):
    if not node.exists("/etc/logrotate.d/bdserverd") or node.run("which", "logrotate").returncode != 0:
        pytest.skip("needs Debian's logrotate")
    assert "answers at" in node.read(LOG)
    node.do("logrotate", "--force", "/etc/logrotate.d/bdserverd")
    assert node.exists(LOG + ".1")
    assert service(node, "restart") == 0
    until(lambda: node.exists(LOG) and "answers at" in node.read(LOG), 10, "the new log has the new start")


# --- upgrade, remove, purge ---------------------------------------------------------------------------------------


def test_an_upgrade_keeps_config_and_data_and_runs_the_new_version(node, next_package):
    edited = node.read(CONFIG) + "receiver_threshold=77\n"
    node.write(CONFIG, edited)
    node.do("bdctl", "hint", "127.0.0.1:9999")
    before = listener(node)
    install(node, next_package)
    assert node.read(CONFIG) == edited and NEW_LINE in node.read(CONFIG + ".dpkg-dist")
    assert listener(node) != before and service(node, "status") == 0
    assert NEXT_VERSION in node.do("bdctl", "--version")
    assert status(node)["receiver_threshold"] == 77
    assert "127.0.0.1:9999" in node.do("bdctl", "--json", "nodes")


def test_removing_stops_the_node_and_keeps_what_is_its_own(node):
    node.do("dpkg", "--remove", "bdserver")
    assert not node.processes("^bdserverd: ")
    assert not node.exists("/usr/bin/bdserverd") and not node.exists("/usr/lib/python3/dist-packages/bdserver")
    for path in (CONFIG, "/etc/bdserver/alpha.key", "/var/lib/bdserver/alpha.bdcache", LOG):
        assert node.exists(path), path
    assert node.run("/etc/init.d/bdserverd", "start").returncode in (0, 5, 126), "it is there, and starts nothing"


def test_purging_leaves_nothing(node):
    node.do("a2enconf", "bdserver") if node.run("which", "a2enconf").returncode == 0 else None
    node.do("dpkg", "--purge", "bdserver")
    left = node.do("find", "/etc", "/usr", "/lib", "/var", "/run", "-xdev", "-iname", "*bdserver*", "-newer", "/proc/1/cmdline")
    assert left == ""
    assert node.run("getent", "passwd", "bdserver").returncode == 2
    assert not node.processes("^bdserverd: ")


def test_purging_spares_the_key_of_a_ca(machine):
    machine.do("bdkeys", "init", "/etc/bdserver", "--mesh", "home")
    assert "ca.key" in machine.do("dpkg", "--purge", "bdserver")
    assert machine.exists("/etc/bdserver/ca.key") and machine.exists("/etc/bdserver/ca.crt")
    assert not machine.exists("/var/lib/bdserver")
