"""A child and its caller: over the local socket and over TLS, and what a stranger's failure is worth in the log."""

import logging
import os
import signal
import socket
import threading
import time

import pytest

from bdserver.core import messages
from bdserver.demo.hosts import Mesh
from bdserver.errors import Forbidden
from bdserver.files.settings import load
from bdserver.net import dialling, keys
from bdserver.processes import child, run
from bdserver.processes.node import open_node


@pytest.fixture
def mesh(tmp_path):
    return Mesh(str(tmp_path))


@pytest.fixture
def node(mesh):
    """A node that nobody runs; its child is this process, as the listener's would be."""
    host = mesh.host("alpha")
    node = open_node(load(host.config_path))
    run.begin(node)
    node.life = node.life._replace(listener_pid=os.getppid())
    yield node
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def title():
    with open("/proc/self/cmdline") as file:
        return file.read()


def said_to(node, talk, host=None):
    """What the caller gets from a child that serves it; `talk(path or address)` runs beside it."""
    family = socket.AF_UNIX if host is None else socket.AF_INET
    with socket.socket(family) as listening:
        name = os.path.join(node.settings.var_dir, "sock") if host is None else ("127.0.0.1", 0)
        listening.bind(name)
        listening.listen()
        found = []

        def call():
            try:
                found.append(talk(listening.getsockname()))
            except Exception as error:
                found.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        sock, _ = listening.accept()
        with sock:
            child.serve_connection(node, sock, None if host is None else (host, 1))
        caller.join(10)
    return found[0]


def test_a_local_caller_of_this_user_administers(node):
    def talk(path):
        deadline = time.monotonic() + 10
        with dialling.dial_local(path, deadline) as conversation:
            return conversation.ask(["PING"], deadline), conversation.ask(["HINT", "192.0.2.9:9001"], deadline)

    pong, ok = said_to(node, talk)
    assert isinstance(pong, messages.Pong) and isinstance(ok, messages.Ok)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and "spare of alpha, for the next caller" in title()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user")
def test_a_local_caller_of_another_user_looks_up_and_does_no_more(node):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0bdserver-test-{os.getpid()}")  # a name that is in no folder
        listening.listen()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setuid(12345)
                deadline = time.monotonic() + 10
                with dialling.dial_local(listening.getsockname().decode(), deadline) as conversation:
                    os.write(write, messages.word_of(conversation.ask(["PING"], deadline)).encode())
                    conversation.ask(["HINT", "192.0.2.9:9001"], deadline)
            except Forbidden as error:
                os.write(write, f" {error}".encode())
            finally:
                os._exit(0)
        os.close(write)
        sock, _ = listening.accept()
        with sock:
            child.serve_connection(node, sock, None)
        os.waitpid(pid, 0)
    with os.fdopen(read) as file:
        assert file.read().startswith("PONG ") and "192.0.2.9:9001" not in node.cache.view().hints


@pytest.mark.parametrize(("role", "is_allowed"), [("client", False), ("admin", True)])
def test_over_tls_a_caller_is_who_its_certificate_says(node, mesh, role, is_allowed):
    joes = keys.load(mesh.issue("joe", role=role), "joe")

    def talk(address):
        deadline = time.monotonic() + 10
        with dialling.dial(f"{address[0]}:{address[1]}", joes, deadline, "alpha", None, None) as conversation:
            return conversation.ask(["HINT", "192.0.2.9:9001"], deadline)

    said = said_to(node, talk, "127.0.0.1")
    assert isinstance(said, messages.Ok if is_allowed else Forbidden)


@pytest.mark.parametrize(
    ("data", "words", "level"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "speaks plain HTTP", logging.INFO),
        (b"\0" * 64, "", logging.INFO),
        (b"", "", logging.DEBUG),
    ],
)
def test_a_stranger_costs_a_handshake_and_a_line_of_its_worth(node, caplog, data, words, level):
    def talk(address):
        with socket.create_connection(address) as sock:
            sock.sendall(data)

    with caplog.at_level(logging.DEBUG, "bdserver.child"):
        said_to(node, talk, "::ffff:127.0.0.1")
    [record] = [record for record in caplog.records if record.name == "bdserver.child"]
    assert record.getMessage().startswith("127.0.0.1: ") and words in record.getMessage() and record.levelno == level


def test_a_certificate_that_is_not_of_the_mesh_is_worth_a_warning(node, tmp_path, caplog):
    strangers = keys.load(Mesh(str(tmp_path / "other"), "other").issue("mallory"), "mallory")

    def talk(address):
        with dialling.dial(f"{address[0]}:{address[1]}", strangers, time.monotonic() + 10, None, None, None):
            pass

    with caplog.at_level(logging.DEBUG, "bdserver.child"):
        said_to(node, talk, "127.0.0.1")
    assert [record.levelno for record in caplog.records if record.name == "bdserver.child"] == [logging.WARNING]


def test_after_a_rehearsal_it_is_a_spare(node):
    child.rehearse(node)
    assert "spare of alpha" in title()
