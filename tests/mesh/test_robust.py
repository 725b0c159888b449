"""Bad files, a full disk, kill -9 at any instant, many at once."""

import concurrent.futures
import errno
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from tests.hosts import Mesh, until


def cache_of(host):
    return os.path.join(host.folder, "var", f"{host.name}.bdcache")


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 4096, b'{"format": 1, "generation": 5, "rec', b'{"format": 99}', b"[]", b'{"format": 1}'],
    ids=["empty", "zeros", "cut", "newer", "list", "fields missing"],
)
def test_a_cache_that_cannot_be_read_is_set_aside_said_and_rebuilt_from_hints(mesh, content):
    _, two = mesh.start(2)
    mesh.wait_known()
    two.kill()
    with open(cache_of(two), "wb") as file:
        file.write(content)
    two.start()
    mesh.wait_known()
    with open(cache_of(two) + ".corrupt", "rb") as file:
        assert file.read() == content
    assert "can't be read" in two.log and "Traceback" not in two.log


def test_what_was_saved_survives_kill_9(mesh):
    one, _ = mesh.start(2)
    mesh.wait_known()
    for number in range(5):
        one.ctl("hint", f"127.0.0.1:{9 + number}")
        one.kill()
        one.start()
        assert f"127.0.0.1:{9 + number}" in [node["address"] for node in one.nodes()]


def test_half_written_files_of_a_crash_are_swept(mesh):
    (host,) = mesh.start(1)
    host.kill()
    remains = os.path.join(os.path.dirname(cache_of(host)), f".{os.path.basename(cache_of(host))}.new.4711")
    with open(remains, "w") as file:
        file.write("half")
    host.start()
    assert not os.path.exists(remains)


@pytest.mark.parametrize("loss", [os.unlink, lambda path: os.truncate(path, 100)], ids=["removed", "cut"])
def test_the_cache_of_a_running_node_is_made_anew_and_nobody_notices_but_its_log(mesh, loss):
    one, _ = mesh.start(2)
    mesh.wait_known()
    before = sorted((node["name"], node["address"]) for node in one.nodes())
    loss(cache_of(one))
    mesh.wait_known()  # the first process to look may have known less than the discoverer, which puts that right
    one.kill()
    one.start()
    assert sorted((node["name"], node["address"]) for node in one.nodes()) == before
    assert "made anew from " in one.log and "bug" not in one.log and "Traceback" not in one.log


def test_kill_9_of_the_listener_while_it_is_busy_leaves_a_readable_cache(mesh):
    one, _ = mesh.start(2)
    mesh.wait_known()
    for _ in range(5):
        stop = threading.Event()

        def trouble(stop=stop):
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    one.ask(["HINT", f"127.0.0.2:{number % 60000 + 1}"], 2)
                except Exception:
                    return

        threads = [threading.Thread(target=trouble) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(one.nodes()) > 5, 10, "hints are taken")
        one.kill()
        stop.set()
        for thread in threads:
            thread.join()
        with open(cache_of(one), "rb") as file:
            assert all(json.loads(line[9:]) for line in file.read().splitlines())
        one.start()
        for node in one.nodes():
            if node["status"] == "unvisited":
                one.ask(["FORGET", node["address"]])


def test_two_hundred_concurrent_bdwhereis(mesh):
    one, two = mesh.start(2, max_children_per_address=512)
    two.add_service("Echo", weight=0.001)
    until(lambda: "Echo" in one.ctl("services"), 20, "n1 knows Echo")
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        done = list(pool.map(lambda _: one.whereis("Echo", "--timeout", "30"), range(200)))
    assert [each.returncode for each in done] == [0] * 200, {each.stderr for each in done}
    assert {each.stdout for each in done} == {"http://127.0.0.1:8080/axis/Echo?wsdl\n"}
    until(lambda: not [t for t in one.children().values() if "child" in t and "for node n2" not in t], 20, "no child is left")


def test_more_callers_than_the_backlog_holds_wait_their_turn(mesh):
    (host,) = mesh.start(1, backlog=2)
    host.add_service("Echo", weight=0)
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        said = list(pool.map(lambda _: host.lookup("Echo", seconds=30)[0], range(300)))
    assert said == ["ME"] * 300


def test_a_flood_of_idle_connections_fills_the_caps_and_then_drains(mesh):
    (host,) = mesh.start(1, max_children=20)
    held = []
    for _ in range(60):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(host.socket)
        held.append(sock)
    until(lambda: len(host.children()) == 22, 20, "as many children as may be, a spare and the discoverer")
    for sock in held:
        sock.close()
    until(lambda: len(host.children()) == 2, 20, "they end with their callers")
    assert host.ask(["PING"])[0] == "PONG"


def test_many_who_want_the_same_replica_at_once_get_one(mesh):
    one, two = mesh.start(2)
    one.add_service("Echo")
    until(lambda: "Echo" in two.ctl("services"), 20, "n2 knows Echo")
    path = os.path.join(one.folder, "var", "log", "Echo.bdlog")
    with open(path, "a") as file:
        file.write(f"HIT ~ {int(time.time())} ~ now ~ 127.0.0.1\n" * 200)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda _: two.lookup("Echo"), range(16)))
    assert {each[-1]["node"] for each in said} <= {"n1", "n2"} and "n2" in {each[-1]["node"] for each in said}
    with open(path) as file:
        assert sum(line.startswith("REPLICATE") for line in file) == 1


def fill(path):
    """A file as large as the disk lets it be."""
    try:
        with open(path, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@pytest.fixture
def small_disk():
    """A mesh's folder on a file system of 2 MiB, where this machine lets us make one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    folder = tempfile.mkdtemp(prefix="bdserver-small-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        os.rmdir(folder)


def test_a_full_disk_costs_no_answer_and_heals(small_disk, tmp_path):
    with Mesh(str(tmp_path)) as mesh:
        var = os.path.join(small_disk, "var")
        os.makedirs(os.path.join(var, "services"))
        one = mesh.host("n1", var_dir=var, socket=tmp_path / "n1.sock")
        one.services = os.path.join(var, "services")
        one.write_config(socket=one.socket)  # its folder is not on the small disk
        one.start()
        one.add_service("Echo")
        two = mesh.host("n2", hints=one.address).start()
        mesh.wait_known()
        until(lambda: two.lookup("Echo")[0] != "CANTFIND", 20, "n2 knows Echo")
        fill(os.path.join(small_disk, "filler"))
        for _ in range(5):
            assert two.lookup("Echo")[-1]["node"] == "n1"
            assert one.lookup("Echo")[0] == "ME"
        two.ctl("drain")
        for number in range(400):  # more than what is left of the file's last block
            one.ask(["HINT", f"127.0.0.2:{number + 1}"])
        until(lambda: "can't be saved" in one.log or "goes uncounted" in one.log, 20, "n1 says that its disk is full")
        assert one.is_running and "Traceback" not in one.log
        os.unlink(os.path.join(small_disk, "filler"))
        two.ctl("drain", "--off")
        until(lambda: [n["draining"] for n in one.nodes() if n["name"] == "n2"] == [False], 30, "n1 follows the mesh again")
        shutil.rmtree(os.path.join(var, "log"))
