"""The shipped unit under a real systemd: readiness, status, reload, watchdog, restart, a wrong config, the end."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request

import pytest

from tests.hosts import Mesh, free_port, until

from . import systemd

UNITS = systemd.ROOT / "etc"
# systemd-analyze's figure for the whole unit: 0 is shut off from everything, 10 from nothing; most daemons have 9.
EXPOSURE_MAX = 1.5

needs_systemd = pytest.mark.skipif(systemd.missing() is not None, reason=str(systemd.missing()))


@pytest.fixture(scope="module")
def world():
    """(systemd, a host of the same mesh outside of it); our unit has started once."""
    with tempfile.TemporaryDirectory(prefix="bdserver-systemd-") as name, tempfile.TemporaryDirectory() as outside:
        folder = pathlib.Path(name)
        os.chmod(folder, 0o755)
        with Mesh(outside) as mesh:
            other = mesh.host("other").start()
            manager = systemd.Systemd(folder, mesh)
            manager.config = {
                "port": free_port(), "bind": "127.0.0.1", "hints": other.address, "var_dir": "/var/lib/bdserver",
                "socket": "/run/bdserver/bdserver.sock", "pid_file": "/run/bdserver/bdserver.pid",
            }  # fmt: skip
            manager.configure(**manager.config)
            try:
                manager.start()
                yield manager, other
            finally:
                manager.stop()


@pytest.fixture
def started(world):
    """The unit runs, and the other host knows it."""
    manager, other = world
    manager.ctl("reset-failed", "bdserverd")
    done = manager.ctl("start", "bdserverd")
    assert done.returncode == 0, done.stderr + manager.log.read_text()[-2000:] + log_of(manager)
    until(lambda: "bdserver" in other.alive_names(), 30, "the mesh knows the node")
    return manager, other


def log_of(manager):
    path = manager.folder / "bdserverd.log"
    return path.read_text() if path.exists() else ""


@needs_systemd
def test_start_returns_when_the_node_answers_and_status_has_figures(started):
    manager, _ = started
    assert manager.show("ActiveState") == "active" and manager.show("Type") == "notify"
    until(
        lambda: re.match(r"2 nodes, 0 services here, weight 0.0 of 100, \d+ connections", manager.show("StatusText")),
        30,
        "a status line",
    )


@needs_systemd
def test_reload_reads_the_config_and_keeps_the_process(started):
    manager, other = started
    before = manager.show("MainPID")
    manager.configure(**manager.config, receiver_threshold=77)
    assert manager.ctl("reload", "bdserverd").returncode == 0
    until(
        lambda: (
            other.ctl("nodes") and next(n for n in other.ctl("nodes") if n["name"] == "bdserver")["receiver_threshold"] == 77
        ),
        30,
        "77",
    )
    assert manager.show("MainPID") == before and manager.show("ActiveState") == "active"
    manager.configure(**manager.config)


@needs_systemd
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_listener_that_is_killed_or_hangs_is_started_again(started, number):
    manager, other = started
    before, restarts = manager.show("MainPID"), int(manager.show("NRestarts"))
    assert manager.signal(int(number)).returncode == 0
    until(lambda: int(manager.show("NRestarts")) > restarts and manager.show("ActiveState") == "active", 60, "a restart")
    assert manager.show("MainPID") != before
    until(lambda: "bdserver" in other.alive_names(), 60, "the mesh knows the node again")


@needs_systemd
def test_a_wrong_config_is_one_line_and_is_not_tried_again(started):
    manager, _ = started
    manager.ctl("stop", "bdserverd")
    manager.configure(**manager.config, recever_threshold=1)
    try:
        assert manager.ctl("start", "bdserverd").returncode != 0
        assert manager.show("ActiveState") == "failed" and manager.show("ExecMainStatus") == "2"
        said = log_of(manager).splitlines()[-1]
        assert (
            said
            == f"bdserverd: /etc/bdserver/bdserverd.conf:{len(manager.config) + 1}: unknown key 'recever_threshold' (did you mean receiver_threshold?)"
        )
    finally:
        manager.configure(**manager.config)


@needs_systemd
def test_the_gateway_reloads_its_config_and_keeps_its_process(started):
    manager, _ = started
    port = free_port()
    path = os.path.join(manager.keys, "gateway.conf")
    text = f"dns=\nhttp=127.0.0.1:{port}\n"
    log = manager.folder / "bdgateway.log"

    def write(more=""):
        with open(path, "w") as file:
            file.write(text + more)

    def status():
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/status", headers={"Host": "web.example"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    write()
    done = manager.ctl("start", "bdgateway")
    assert done.returncode == 0, done.stderr + manager.log.read_text()[-2000:] + (log.read_text() if log.exists() else "")
    try:
        before = manager.show("MainPID", "bdgateway")
        assert status() == 421, "it is asked for as a host that it does not know"
        write("http_hosts=web.example\n")
        assert manager.ctl("reload", "bdgateway").returncode == 0
        until(lambda: status() == 200, 20, "it has read its config")
        write("http_host=web.example\n")
        assert manager.ctl("reload", "bdgateway").returncode == 0
        until(lambda: "unknown key 'http_host'" in log.read_text(), 20, "it says what is wrong")
        assert status() == 200 and manager.show("MainPID", "bdgateway") == before
        until(lambda: manager.show("ActiveState", "bdgateway") == "active", 20, "it is not reloading any more")
    finally:
        assert manager.ctl("stop", "bdgateway").returncode == 0
    assert manager.show("Result", "bdgateway") == "success"


@needs_systemd
def test_stop_tells_the_mesh_and_leaves_nothing(started):
    manager, other = started
    assert manager.ctl("stop", "bdserverd").returncode == 0
    assert manager.show("ActiveState") == "inactive" and manager.show("Result") == "success"
    assert other.status_of("bdserver") == "left"
    root = f"/proc/{manager.pid}/root"
    assert not os.path.exists(f"{root}/run/bdserver/bdserver.sock") and os.path.exists(
        f"{root}/var/lib/bdserver/bdserver.bdcache"
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs Debian's systemd")
@pytest.mark.parametrize("name", ["bdserverd", "bdgateway"])
def test_the_unit_is_right_and_shut_off(tmp_path, name):
    shutil.copy(UNITS / "bdserverd.service", tmp_path)  # the other one wants it
    unit = tmp_path / f"{name}.service"
    program = tmp_path / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = re.sub(
        r"^Documentation=.*\n", "", (UNITS / unit.name).read_text(), flags=re.MULTILINE
    )  # it would look for installed man pages
    unit.write_text(text.replace(f"/opt/bdserver/bin/{name}", str(program)))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", UNITS / unit.name],
        capture_output=True,
        text=True,
        check=False,
    )
    figure = float(re.search(rf"Overall exposure level for {name}.service: ([0-9.]+)", done.stdout)[1])
    assert figure <= EXPOSURE_MAX
