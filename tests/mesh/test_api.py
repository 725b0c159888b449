"""The Python API against real nodes: what it returns, what it raises, and a connection that stays open."""

import os
import signal
import threading

import pytest

import bdserver
from bdserver import errors
from tests.hosts import until


@pytest.fixture
def hosts(mesh):
    alpha, beta = mesh.start(2)
    beta.add_service("Echo")
    until(lambda: "Echo" in beta.run("bdctl", "services").stdout, 20, "it is offered")
    until(lambda: "Echo" in alpha.run("bdctl", "services").stdout, 20, "alpha knows of Echo")
    return alpha, beta


def test_a_location_says_where_and_whom_it_took_to_ask(hosts):
    alpha, _ = hosts
    location = bdserver.whereis("Echo", config=alpha.config_path)
    assert (location.node, location.phase, location.host, location.port) == ("n2", 1, "127.0.0.1", 8080)
    assert location.url == "http://127.0.0.1:8080/axis/Echo?wsdl" and [each.node for each in location.asked] == ["n2"]
    assert location.asked[0].answer == "YES" and 0 < location.asked[0].seconds < 10


def test_over_tls_the_next_node_is_asked_when_one_is_silent(hosts, mesh):
    alpha, beta = hosts
    keys = os.path.join(mesh.issue("app", role="client"), "app")
    dead = "127.0.0.1:1"
    assert bdserver.get_wsdl(alpha.address, "Echo", keys=keys) == "http://127.0.0.1:8080/axis/Echo?wsdl"
    assert bdserver.whereis("Echo", node=[dead, alpha.address], keys=keys).node == "n2"
    with pytest.raises(errors.Refused, match="127.0.0.1:1"):
        bdserver.whereis("Echo", node=dead, keys=keys)
    with pytest.raises(errors.NobodyThere, match="no node answers: .*127.0.0.1:1.*127.0.0.1:2"):
        bdserver.whereis("Echo", node=[dead, "127.0.0.1:2"], keys=keys)
    assert bdserver.get_audit_info(beta.address, keys).own["name"] == "n2"


def test_why_there_is_no_location_is_an_exception_of_its_own(hosts, tmp_path):
    alpha, _ = hosts
    with pytest.raises(errors.CantFind, match="Nothing: nobody in the mesh has it"):
        bdserver.whereis("Nothing", config=alpha.config_path)
    with pytest.raises(errors.NobodyThere, match="is bdserverd running"):
        bdserver.whereis("Echo", socket=str(tmp_path / "none.sock"))
    with pytest.raises(errors.BadConfig, match=r"none\.xml"):
        bdserver.whereis("Echo", config=alpha.config_path, policy=str(tmp_path / "none.xml"))
    with pytest.raises(AttributeError, match="no attribute 'whereas'"):
        bdserver.whereas  # noqa: B018


def test_a_mesh_keeps_one_connection_for_all_threads_and_opens_another_when_it_broke(hosts):
    alpha, _ = hosts
    found, failures = [], []

    def look_up(mesh):
        try:
            found.extend(mesh.whereis("Echo").node for _ in range(20))
        except errors.BDError as error:
            failures.append(error)

    with bdserver.Mesh(config=alpha.config_path) as mesh:
        threads = [threading.Thread(target=look_up, args=(mesh,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (found, failures) == (["n2"] * 100, [])
        assert sum("uid 0" in title for title in alpha.children().values()) == 1
        for pid, title in alpha.children().items():
            if "uid 0" in title:
                os.kill(pid, signal.SIGKILL)
        until(lambda: not any("uid 0" in title for title in alpha.children().values()), 20, "its child is gone")
        assert mesh.whereis("Echo").node == "n2"


def test_a_process_that_was_forked_speaks_on_a_connection_of_its_own(hosts):
    alpha, _ = hosts
    with bdserver.Mesh(config=alpha.config_path) as mesh:
        assert mesh.whereis("Echo").node == "n2"
        pid = os.fork()
        if pid == 0:
            os._exit(0 if all(mesh.whereis("Echo").node == "n2" for _ in range(20)) else 1)
        assert all(mesh.whereis("Echo").node == "n2" for _ in range(20))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_kill_all_goes_on_past_a_node_that_hangs(hosts, mesh):
    alpha, beta = hosts
    keys = os.path.join(mesh.issue("boss", role="admin"), "boss")
    with beta.frozen():
        killed, silent = bdserver.kill_all(alpha.address, keys=keys)
        assert (killed, silent) == ([alpha.address], [beta.address])
    assert alpha.process.wait(20) == 0
