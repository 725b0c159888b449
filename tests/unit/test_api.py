"""The Python API: what a look-up returns and raises, and the life of a connection that stays open. No node runs here."""

import os
import threading

import pytest

import bdserver
from bdserver import api, errors
from bdserver.core.messages import Goodbye, Nobody, Place, Status
from tests.unit.canned import Node, let_dial, let_in, own, seen


def place(url="http://10.0.0.2:8080/axis/Echo?wsdl"):
    details = {
        "url": url,
        "node": "beta",
        "service": "Echo",
        "phase": 1,
        "asked": [{"node": "beta", "answer": "YES", "ms": 1.5}],
    }
    return Place("10.0.0.2", 8080, "axis", details)


class Counted(Node):
    """A node that counts the connections to it, open ones and all."""

    def __init__(self, **answers):
        super().__init__(**answers)
        self.dialled, self.open = 0, 0

    def dial(self, deadline=None):
        self.dialled += 1
        self.open += 1
        talk = super().dial()

        def close():
            self.open -= 1

        talk.close = close
        return talk


@pytest.fixture
def node(monkeypatch):
    node = Counted(WHEREIS=place())
    let_in(monkeypatch, node)
    return node


def test_a_location_says_where_and_which_nodes_were_asked(node):
    location = bdserver.whereis("Echo")
    assert location == ("http://10.0.0.2:8080/axis/Echo?wsdl", "10.0.0.2", 8080, "beta", 1, (("beta", "YES", 0.0015),))
    assert bdserver.get_wsdl(None, "Echo") == location.url and node.open == 0


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [("https://h/x", "h", 443), ("http://h/x", "h", 80), ("http://[fe80::1]:7/x", "fe80::1", 7)],
)
def test_a_port_that_a_url_leaves_open_is_its_schemes(node, url, host, port):
    node.answers["WHEREIS"] = place(url)
    location = bdserver.whereis("Echo")
    assert (location.host, location.port) == (host, port)


@pytest.mark.parametrize("url", ["http://h:99999/x", "http://[x/"])
def test_a_url_that_can_not_be_taken_apart_is_the_peers_fault(node, url):
    node.answers["WHEREIS"] = place(url)
    with pytest.raises(errors.BadFrame, match="beta names a URL that can't be called"):
        bdserver.whereis("Echo")


@pytest.mark.parametrize("service", ["a b", "", None])
def test_what_is_no_service_s_name_is_not_asked_for(node, service):
    with pytest.raises(errors.BadRequest, match=f"^{str(service)!r} is no service's name: 1 to 100 of letters"):
        bdserver.Mesh().whereis(service)
    assert node.asked == []


def test_that_nobody_has_it_leaves_the_connection_as_it_is(node):
    details = {"url": "", "node": "", "service": "Echo", "phase": 3, "asked": []}
    node.answers["WHEREIS"] = [Nobody(details), place()]
    with bdserver.Mesh() as mesh:
        with pytest.raises(errors.CantFind):
            mesh.whereis("Echo")
        assert mesh.whereis("Echo").node == "beta" and node.dialled == 1
    assert node.open == 0


def test_a_connection_that_broke_is_opened_anew_and_not_left_open(node):
    node.answers["WHEREIS"] = [place(), errors.NobodyThere("it hung up"), place(), errors.Deadline("over"), place()]
    with bdserver.Mesh() as mesh:
        assert [mesh.whereis("Echo").node for _ in range(2)] == ["beta", "beta"] and node.dialled == 2
        with pytest.raises(errors.Deadline):
            mesh.whereis("Echo")
        assert node.open == 0, "nobody knows what would come next on it"
        assert mesh.whereis("Echo").node == "beta"
        mesh.close()
        assert node.open == 0 and mesh.whereis("Echo").node == "beta", "it may be used again"
    assert node.open == 0


def test_threads_are_served_one_after_the_other_on_one_connection(node):
    inside = []

    def whereis(*arguments):
        inside.append(1)
        assert len(inside) == 1
        inside.pop()
        return place()

    node.answers["WHEREIS"] = whereis
    found = []
    with bdserver.Mesh() as mesh:
        threads = [threading.Thread(target=lambda: found.append(mesh.whereis("Echo").node)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["beta"] * 20 and node.dialled == 1


def test_who_waits_for_other_threads_waits_no_longer_than_its_time(node):
    asking, go_on = threading.Event(), threading.Event()

    def answer(*request):
        asking.set()
        go_on.wait(20)
        return place()

    node.answers["WHEREIS"] = answer
    with bdserver.Mesh() as mesh:
        thread = threading.Thread(target=mesh.whereis, args=("Echo",))
        thread.start()
        asking.wait(20)
        mesh.timeout = 0.05
        with pytest.raises(errors.Deadline, match="other threads have asked"):
            mesh.whereis("Echo")
        go_on.set()
        thread.join()
        mesh.timeout = 10.0
        assert mesh.whereis("Echo").node == "beta"


def test_a_child_that_was_forked_while_a_thread_was_asking_opens_a_connection_of_its_own(node):
    asking, go_on = threading.Event(), threading.Event()

    def whereis(*arguments):
        if threading.current_thread() is not threading.main_thread():
            asking.set()
            assert go_on.wait(60)
        return place()

    node.answers["WHEREIS"] = whereis
    mesh = bdserver.Mesh()
    thread = threading.Thread(target=mesh.whereis, args=("Echo",))
    thread.start()
    assert asking.wait(60)
    pid = os.fork()
    if pid == 0:  # the lock is held by a thread that is not in here
        os._exit(0 if mesh.whereis("Echo").node == "beta" and node.dialled == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    go_on.set()
    thread.join()
    assert mesh.whereis("Echo").node == "beta" and node.dialled == 1
    mesh.close()


def test_status_of_a_node(node):
    assert bdserver.get_audit_info(None) == Status(own(), [seen("alpha")])


def test_kill_all_ends_the_local_node_and_raises_when_others_want_other_keys(monkeypatch):
    alpha, beta = Node(KILL=Goodbye()), Node(KILL=Goodbye())
    alpha.answers["STATUS"] = Status(own(), [seen("alpha"), seen("beta", 2)])
    let_in(monkeypatch, alpha)
    let_dial(monkeypatch, {"10.0.0.2:9001": beta})
    assert bdserver.kill_all(None) == (["10.0.0.2:9001", "10.0.0.1:9001"], [])
    beta.answers["KILL"] = errors.Forbidden("KILL needs the role admin")
    reasons = []
    with pytest.raises(errors.Forbidden, match=r"10\.0\.0\.2:9001: only the keys of an admin"):
        bdserver.kill_all(None, on_silence=reasons.append)
    assert alpha.requests() == [["KILL"]] * 2 and reasons == ["KILL needs the role admin"]


def test_addresses_without_a_port_get_the_usual_one_and_wrong_ones_are_refused(monkeypatch):
    called = []

    def entrance(address, credentials, policy_text):
        called.append(address)
        return Node(WHEREIS=place()).dial

    monkeypatch.setattr(api, "credentials_of", lambda *options: "keys")
    monkeypatch.setattr(api.dialling, "entrance", entrance)
    for node in ("10.0.0.1", "10.0.0.1:77", "fe80::1", ["beta.example", "10.0.0.2"]):
        bdserver.whereis("Echo", node=node)
    assert called == ["10.0.0.1:9001", "10.0.0.1:77", "[fe80::1]:9001", "beta.example:9001", "10.0.0.2:9001"]
    with pytest.raises(errors.BadRequest, match=r"is no HOST:PORT"):
        bdserver.whereis("Echo", node="10.0.0.1:port")


def test_what_the_package_offers_is_what_it_says():
    assert all(callable(getattr(bdserver, name)) for name in bdserver.API)
    with pytest.raises(AttributeError, match="no attribute 'whereas'"):
        bdserver.whereas  # noqa: B018
