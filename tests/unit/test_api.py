"""The Python API without daemons: its entrances lead to nodes in memory, or to whatever an entrance may meet."""

import os
import threading

import pytest

import bdserver
from bdserver import api, errors
from bdserver.core.messages import Goodbye, Pong
from bdserver.core.roles import ADMIN, CLIENT
from bdserver.net import dialling
from bdserver.net.authority import Authority
from bdserver.processes.answers import ANSWERS
from tests.unit.certificates import make_keys
from tests.unit.nodes import a_mesh, a_node, acquaint, document
from tests.unit.test_entrances import DETAILS


@pytest.fixture
def local(tmp_path, monkeypatch):
    """A node that has Echo; the local socket leads to it. `talks`: the conversations that were opened."""
    node, holder = a_node(tmp_path), a_node(tmp_path, "holder").offer("Echo", url="https://{host}/{service}")
    acquaint(node, holder)
    node.talks = []

    def dial_local(path, deadline):
        node.path = path
        node.talks.append(node.call_me(CLIENT))
        return node.talks[-1]

    monkeypatch.setattr(dialling, "dial_local", dial_local)
    return node


# --- looking up ---------------------------------------------------------------------------------------------------


def test_a_location_says_where_and_whom_it_took_to_ask(local):
    location = bdserver.whereis("Echo", socket="/run/s")
    assert location[:5] == ("https://10.0.0.2/Echo", "10.0.0.2", 443, "holder", 1)
    assert [(each.node, each.answer) for each in location.asked] == [("holder", "YES")] and location.asked[0].seconds < 5
    assert local.path == "/run/s" and not local.talks[0].is_open


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [("http://h/x", "h", 80), ("http://h:8080/x", "h", 8080), ("https://[2001:db8::1]/x", "2001:db8::1", 443), ("h/x", "", 80)],
)
def test_a_url_has_the_port_that_it_means(url, host, port):
    assert api._location(DETAILS | {"url": url})[1:3] == (host, port)


@pytest.mark.parametrize("url", ["http://h:99999/x", "http://[x/", "http://h:port/"])
def test_a_url_that_is_none_is_a_broken_peer_and_no_traceback(url):
    with pytest.raises(errors.BadFrame, match="a serves x at no URL"):
        api._location(DETAILS | {"url": url})


def test_what_is_not_found_is_an_exception_that_says_why(local, tmp_path):
    with pytest.raises(errors.CantFind, match="Nothing: nobody in the mesh has it"):
        bdserver.whereis("Nothing", socket="/run/s")
    (tmp_path / "p.xml").write_text(document("A"))
    holder = local.network.nodes["10.0.0.2:9001"]
    holder.rules = holder.rules._replace(document=a_node(tmp_path, "b", policy=document("B")).rules.document)
    holder.update_own()
    local.knows(holder)
    with pytest.raises(errors.PolicyMismatch, match="Echo: no holder's policy meets yours"):
        bdserver.whereis("Echo", socket="/run/s", policy=str(tmp_path / "p.xml"))
    with pytest.raises(errors.BadConfig, match="none.xml"):
        bdserver.whereis("Echo", socket="/run/s", policy=str(tmp_path / "none.xml"))


def test_without_a_socket_the_config_names_it(local, tmp_path, monkeypatch):
    (tmp_path / "conf").write_text("socket=/run/of/conf\n")
    assert bdserver.whereis("Echo", config=str(tmp_path / "conf")).node == "holder" and local.path == "/run/of/conf"
    monkeypatch.setenv("BDSERVER_CONFIG", str(tmp_path / "conf"))
    assert bdserver.get_wsdl(None, "Echo") == "https://10.0.0.2/Echo"
    assert bdserver.get_audit_info(None).own["name"] == "me"
    monkeypatch.setenv("BDSERVER_CONFIG", str(tmp_path / "none"))
    with pytest.raises(errors.BadConfig, match="none"):
        bdserver.whereis("Echo")


# --- a connection that stays open ---------------------------------------------------------------------------------


def test_a_mesh_keeps_its_connection_until_it_is_closed(local):
    with bdserver.Mesh(socket="/run/s") as mesh:
        assert mesh.whereis("Echo").node == mesh.whereis("Echo").node == "holder" and len(local.talks) == 1
        assert mesh.status().own["name"] == "me" and local.talks[0].is_open
    assert not local.talks[0].is_open
    mesh.close()


def test_a_connection_that_broke_is_opened_anew(local):
    with bdserver.Mesh(socket="/run/s") as mesh:
        mesh.whereis("Echo")
        local.talks[0].close()
        assert mesh.whereis("Echo").node == "holder" and len(local.talks) == 2


def test_after_any_other_error_it_is_closed_and_the_next_opens_another(local, monkeypatch):
    with bdserver.Mesh(socket="/run/s") as mesh:
        mesh.whereis("Echo")
        with monkeypatch.context() as patch:
            patch.setitem(ANSWERS, "PING", lambda session: (_ for _ in ()).throw(errors.Deadline("late")))
            with pytest.raises(errors.Deadline, match="late"):
                mesh.ask(lambda talk, deadline: talk.ask(["PING"], deadline))
        assert not local.talks[0].is_open
        assert isinstance(mesh.ask(lambda talk, deadline: talk.ask(["PING"], deadline)), Pong) and len(local.talks) == 2


def test_a_forked_process_uses_a_connection_of_its_own(local, monkeypatch):
    mesh = bdserver.Mesh(socket="/run/s")
    mesh.whereis("Echo")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    mesh.close()
    assert local.talks[0].is_open  # it is our parent's
    mesh.whereis("Echo")
    assert len(local.talks) == 2


def test_threads_take_turns(local):
    found = []
    with bdserver.Mesh(socket="/run/s") as mesh:
        threads = [threading.Thread(target=lambda: found.append(mesh.whereis("Echo").node)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(10)
    assert found == ["holder"] * 8 and len(local.talks) == 1


# --- over TLS -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("keys"))
    Authority.make(f"{folder}/ca", "mesh")
    for name, role in (("app", "client"), ("root", "admin"), ("me", "node")):
        make_keys(folder, f"{folder}/ca", name, role=role)
    return folder


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """Three nodes that know each other; `dial` leads to them, and `dialled` are the addresses and the keys shown."""
    nodes = a_mesh(tmp_path, "a", "b", "c")
    nodes[0].offer("Echo")
    dialled = []

    def dial(address, credentials, deadline, name=None, policy_digest=None, policy_text=None, version=2):
        dialled.append((address, credentials.identity.name))
        nodes[0].network.check(address)
        return nodes[0].network.nodes[address].call_me(credentials.identity.role, policy_text=policy_text)

    monkeypatch.setattr(dialling, "dial", dial)
    return nodes, dialled


def test_a_node_is_asked_with_the_keys_that_were_named_or_else_the_nodes_own(remote, folder, tmp_path, monkeypatch):
    nodes, dialled = remote
    address = nodes[0].address
    bdserver.whereis("Echo", node=address, keys=f"{folder}/app/app")
    monkeypatch.setenv("BDSERVER_KEYS", f"{folder}/root/root")
    bdserver.get_wsdl(address, "Echo")
    monkeypatch.delenv("BDSERVER_KEYS")
    (tmp_path / "conf").write_text(f"username=me\nkey_dir={folder}/me\n")
    bdserver.whereis("Echo", node=[address], config=str(tmp_path / "conf"))
    assert dialled == [(address, "app"), (address, "root"), (address, "me")]
    with pytest.raises(errors.BadConfig, match=r"--node needs a certificate: .*\$BDSERVER_KEYS"):
        bdserver.whereis("Echo", node=address, config=str(tmp_path / "none"))


def test_the_next_node_is_asked_when_one_is_silent(remote, folder):
    nodes, dialled = remote
    nodes[0].network.trouble[nodes[1].address] = errors.Deadline("late")
    assert bdserver.whereis("Echo", node=[nodes[1].address, nodes[0].address], keys=f"{folder}/app/app").node == "a"
    assert [address for address, _ in dialled] == [nodes[1].address, nodes[0].address]


# --- ending all ---------------------------------------------------------------------------------------------------


@pytest.fixture
def killed(monkeypatch):
    """The names of the nodes that were told to end."""
    names = []

    def answer(session, password=None):
        if session.caller.role != ADMIN and password != "secret":
            raise errors.Forbidden("no")
        names.append(session.node.name)
        return Goodbye()

    monkeypatch.setitem(ANSWERS, "KILL", answer)
    return names


@pytest.mark.parametrize(
    "trouble", [errors.Deadline("late"), errors.NobodyThere("silent"), errors.TooBusy("full"), errors.BadFrame("HTTP")]
)
def test_all_are_ended_but_those_that_do_not_answer_who_are_told(remote, folder, killed, trouble):
    nodes, _ = remote
    nodes[0].network.trouble[nodes[2].address] = trouble
    silences = []
    ended = bdserver.kill_all(nodes[0].address, keys=f"{folder}/root/root", on_silence=silences.append)
    assert sorted(killed) == ["a", "b"] and silences == [str(trouble)]
    assert (sorted(ended[0]), ended[1]) == ([nodes[0].address, nodes[1].address], [nodes[2].address])


def test_a_client_ends_them_by_the_password_and_finds_those_that_only_one_knows(remote, folder, killed, tmp_path):
    nodes, _ = remote
    nodes[1].knows(a_node(tmp_path, "far"))
    assert len(bdserver.kill_all(nodes[0].address, "secret", keys=f"{folder}/app/app")[0]) == 4 and "far" in killed
    with pytest.raises(errors.Forbidden):
        bdserver.kill_all(nodes[0].address, keys=f"{folder}/app/app")
