"""The sockets of a node: opened, told apart when they can't be, the local one made again."""

import logging
import os
import socket
import stat

import pytest

from bdserver.errors import BadConfig, NotYet
from bdserver.files import settings
from bdserver.files.settings import load
from bdserver.processes.sockets import PATH_BYTES_MAX, Sockets
from bdserver.processes.startup import asked_as
from tests.hosts import free_port

ME = (os.getuid(), os.getgid())


@pytest.fixture
def sockets(tmp_path):
    """Made of settings; closed afterwards."""
    made = []

    def make(**config):
        path = tmp_path / "config"
        values = {"port": free_port(), "bind": "127.0.0.1", "socket": tmp_path / "local"} | config
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        made.append(Sockets(load(str(path)), ME))
        return made[-1], values["port"]

    yield make
    for each in made:
        each.close()
        each.close_ears()


def test_all_of_them_listen(sockets, tmp_path):
    ours, port = sockets(bind="127.0.0.1 127.0.0.2", socket_mode="0600")
    ours.open()
    assert len(ours.now()) == 3 and len(ours.files()) == 5
    for host in ("127.0.0.1", "127.0.0.2"):
        socket.create_connection((host, port)).close()
        socket.create_connection((host, port + 1)).close()
    assert stat.S_IMODE(os.stat(tmp_path / "local").st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "local"))


def test_without_bind_ipv4_is_heard_on_the_socket_for_ipv6(sockets):
    ours, port = sockets(bind="")
    ours.open()
    assert len(ours.now()) == 2
    socket.create_connection(("127.0.0.1", port)).close()


def test_news_has_a_port_of_its_own_that_stays_when_callers_are_heard_no_longer(sockets):
    news = free_port()
    ours, port = sockets(gossip_port=news)
    ours.open()
    ours.close()
    socket.create_connection(("127.0.0.1", news)).close()
    ours.close_ears()
    for closed in (news, port, port + 1):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", closed))


def test_a_port_for_news_that_is_taken_is_named(sockets):
    with socket.create_server(("127.0.0.1", 0)) as other:
        ours, _ = sockets(gossip_port=other.getsockname()[1])
        with pytest.raises(NotYet, match="gossip_port=[0-9]+ can't be had on 127.0.0.1: Address already in use"):
            ours.open()


def test_a_port_that_is_taken_may_become_free(sockets):
    ours, port = sockets()
    taken = pytest.raises(NotYet, match=f"port={port} can't be had on 127.0.0.1: Address already in use .ss -ltnp tells by")
    with socket.create_server(("127.0.0.1", port)), taken:
        ours.open()
    ours.open()
    assert len(ours.now()) == 2


def test_an_address_that_is_not_there_may_come(sockets):
    ours, _ = sockets(bind="192.0.2.1")
    with pytest.raises(NotYet, match="on 192.0.2.1: Cannot assign requested address .no interface of this host has that"):
        ours.open()


def test_of_two_addresses_none_is_kept_if_one_is_not_there(sockets):
    ours, port = sockets(bind="127.0.0.1 192.0.2.1")
    with pytest.raises(NotYet):
        ours.open()
    assert list(ours.now()) == []
    socket.create_server(("127.0.0.1", port)).close()


def test_a_socket_that_cannot_be_made_is_for_a_person(sockets, tmp_path):
    ours, _ = sockets(socket=tmp_path / "nowhere" / "local")
    with pytest.raises(BadConfig, match="nowhere/local: No such file or directory") as caught:
        ours.open()
    assert not isinstance(caught.value, NotYet)


def test_a_file_of_somebody_that_socket_names_by_mistake_is_not_removed(sockets, tmp_path):
    (tmp_path / "passwd").write_text("root")
    ours, _ = sockets(socket=tmp_path / "passwd")
    with pytest.raises(BadConfig, match="socket=.*/passwd: is there, and is no socket: it is not removed$"):
        ours.open()
    assert (tmp_path / "passwd").read_text() == "root" and ours.files() == []


def test_what_a_crash_left_is_replaced(sockets, tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "local"))
    ours, _ = sockets()
    ours.open()
    assert len(ours.now()) == 2


def test_a_path_is_as_long_as_that_of_a_socket_may_be(sockets, tmp_path):
    longest = f"{tmp_path}/{'x' * 200}"[:PATH_BYTES_MAX]
    ours, _ = sockets(socket=longest)
    ours.open()
    ours, _ = sockets(socket=longest + "x")
    with pytest.raises(BadConfig, match="x: has 108 bytes, and the path of a socket has 107 at most$"):
        ours.open()


def test_a_check_takes_the_port_and_does_not_listen(sockets):
    ours, port = sockets()
    ours.open_tcp(is_check=True)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_local_socket_whose_file_is_deleted_is_made_again_and_said_once(sockets, tmp_path, caplog):
    ours, _ = sockets()
    ours.open()
    before = ours.now()
    assert ours.now() == before
    os.unlink(tmp_path / "local")
    with caplog.at_level(logging.INFO):
        after = ours.now()
        assert ours.now() == after
    assert before[0] is after[0] and before[1] is not after[1] and before[1].fileno() == -1
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "local"))
    assert [record.getMessage() for record in caplog.records] == [f"socket={tmp_path}/local was deleted: made again"]


@pytest.mark.parametrize("instead", [os.mkfifo, lambda path: open(path, "w").close(), lambda path: os.symlink(path, path)])
def test_what_took_the_place_of_its_file_gives_way_but_another_socket_does_not(sockets, tmp_path, instead):
    ours, _ = sockets()
    ours.open()
    os.unlink(tmp_path / "local")
    instead(tmp_path / "local")
    ours.now()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "local"))
    os.unlink(tmp_path / "local")
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(tmp_path / "local"))
        before = os.stat(tmp_path / "local").st_ino
        assert len(ours.now()) == 2 and os.stat(tmp_path / "local").st_ino == before


def test_while_it_cannot_be_made_again_the_others_listen_and_it_is_said_once(sockets, tmp_path, caplog):
    folder = tmp_path / "run"
    folder.mkdir()
    ours, port = sockets(socket=folder / "local")
    ours.open()
    os.unlink(folder / "local")
    folder.rmdir()
    for _ in range(3):
        assert len(ours.now()) == 2
    socket.create_connection(("127.0.0.1", port)).close()
    assert len(caplog.records) == 1 and "No such file or directory" in caplog.text
    folder.mkdir()
    ours.now()
    assert len(caplog.records) == 2 and os.path.exists(folder / "local")


def test_the_file_is_removed_if_it_is_ours(sockets, tmp_path):
    ours, _ = sockets()
    ours.open()
    ours.close()
    ours.close_ears()
    ours.remove()
    assert not os.path.exists(tmp_path / "local")
    ours.open()
    os.unlink(tmp_path / "local")
    (tmp_path / "local").write_text("another's")
    ours.remove()
    assert os.path.exists(tmp_path / "local")


# --- the usual place ----------------------------------------------------------------------------------------------


@pytest.fixture
def usual(tmp_path, monkeypatch):
    """Where accounts that may not read the usual config look; that config is the one that `sockets` writes."""
    path = tmp_path / "run" / "bdserver.sock"
    monkeypatch.setattr(settings, "USUAL_SOCKET", str(path))
    monkeypatch.setattr(settings, "DEFAULT_PATH", str(tmp_path / "config"))
    monkeypatch.delenv("BDSERVER_CONFIG", raising=False)
    return path


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
def test_an_account_that_may_not_read_the_config_finds_the_local_node(sockets, usual, tmp_path):
    ours, _ = sockets()
    os.chmod(tmp_path / "config", 0o600)
    for folder in [tmp_path, *tmp_path.parents][:4]:
        folder.chmod(0o755)

    def found():
        try:
            return settings.local_socket(None)
        except BadConfig as error:
            return str(error)

    nobody = 65534, 65534
    assert "Permission denied" in asked_as(nobody, lambda: [found()])[0]
    ours.open()
    assert asked_as(nobody, lambda: [found()]) == [str(usual)]
    assert found() == str(tmp_path / "local"), "who may read it believes it"
    assert asked_as(nobody, lambda: [str(os.stat(usual).st_ino)]) == [str(os.stat(tmp_path / "local").st_ino)]
    ours.remove()
    assert not os.path.lexists(usual)


def test_only_the_node_of_the_usual_config_is_found_there_and_takes_nobody_s_place(sockets, usual, tmp_path, monkeypatch):
    usual.parent.mkdir()
    usual.write_text("another node's")
    ours, _ = sockets()
    ours.open()
    ours.remove()
    assert usual.read_text() == "another node's"
    usual.unlink()
    usual.symlink_to(tmp_path / "of a node that was killed")
    ours, _ = sockets()
    ours.open()
    assert os.readlink(usual) == str(tmp_path / "local")
    ours.remove()
    monkeypatch.setattr(settings, "DEFAULT_PATH", str(tmp_path / "another"))
    ours, _ = sockets()
    ours.open()
    assert not os.path.lexists(usual)


def test_where_nothing_may_be_put_at_the_usual_place_the_node_listens_all_the_same(sockets, usual):
    usual.parent.write_text("in the way")
    ours, _ = sockets()
    ours.open()
    assert len(ours.now()) == 2
    ours.remove()
