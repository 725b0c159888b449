"""Reaching a node: over a local socket that is there or not, and over TLS, whoever answers."""

import socket
import threading
import time

import pytest

from bdserver import errors
from bdserver.net import keys, tls
from bdserver.net.authority import Authority
from bdserver.net.dialling import dial, dial_local, entrance
from tests.unit.certificates import make_keys
from tests.unit.sockets import address_of, soon

# --- the local socket ---------------------------------------------------------------------------------------------


def test_the_local_socket_is_reached(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        with dial_local(str(tmp_path / "s"), soon()) as conversation:
            assert conversation.where == str(tmp_path / "s") and conversation.identity is None


@pytest.mark.parametrize(("name", "words"), [("none", "No such file"), ("file", "Connection refused"), ("x" * 200, "too long")])
def test_without_a_node_behind_the_local_socket_that_is_said(tmp_path, name, words):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.NobodyThere, match=f"{words}.*is bdserverd running"):
        dial_local(str(tmp_path / name), soon())


def test_a_local_socket_whose_backlog_is_full_is_tried_until_there_is_room(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen(0)
        waiting = dial_local(path, soon())
        started = time.monotonic()
        with pytest.raises(errors.NobodyThere, match="too busy to answer"):
            dial_local(path, soon(0.1))
        assert 0.05 < time.monotonic() - started < 5
        accepting = threading.Timer(0.05, sock.accept)
        accepting.start()
        dial_local(path, soon()).close()
        accepting.join()
        waiting.close()


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def credentials(tmp_path_factory):
    """(a node's, a client's)."""
    folder = str(tmp_path_factory.mktemp("keys"))
    Authority.make(f"{folder}/ca", "mesh")
    make_keys(folder, f"{folder}/ca", "web1")
    make_keys(folder, f"{folder}/ca", "joe", role="client")
    return keys.load(f"{folder}/web1", "web1"), keys.load(f"{folder}/joe", "joe")


@pytest.fixture
def web1(credentials, listening):
    """The address of the node web1, which takes one connection, and says nothing."""
    ended = []

    def serve():
        sock, _ = listening.accept()
        with sock:
            try:
                stream = tls.accept(sock, credentials[0], soon())
                while stream.recv(1000, soon()):
                    pass
            except errors.BDError as error:
                ended.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield address_of(listening)
    thread.join(10)


def test_a_node_is_reached_under_its_name_or_any(credentials, web1):
    with dial(web1, credentials[1], soon(), "web1") as conversation:
        assert conversation.identity.name == "web1" and conversation.where == web1


def test_an_entrance_takes_any_name(credentials, web1):
    with entrance(web1, credentials[1], "<P/>")(soon()) as conversation:
        assert conversation.identity.name == "web1"


def test_another_node_at_the_address_is_evidence_that_ours_is_gone(credentials, web1):
    with pytest.raises(errors.Refused, match=f"{web1}: web1 is there, not web2"):
        dial(web1, credentials[1], soon(), "web2")


def test_a_stranger_at_the_address_is_hung_up_on(credentials, listening):
    ends = []

    def serve():
        sock, _ = listening.accept()
        with sock:
            sock.recv(1000)
            sock.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            try:
                while sock.recv(1000):
                    pass
            except ConnectionResetError:
                pass
            ends.append("hung up")

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(errors.BDError, match=address_of(listening)):
        dial(address_of(listening), credentials[1], soon())
    thread.join(10)
    assert ends == ["hung up"]
