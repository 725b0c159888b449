"""Nodes that sign, in this process: real keys and files in a folder, and a port at which one lets strangers join."""

import contextlib
import os
import socket
import threading
import time

import pytest

from bdserver.commands import bdkeys
from bdserver.core.roles import ADMIN
from bdserver.errors import BDError
from bdserver.files.settings import load
from bdserver.net import tls
from bdserver.processes import joining
from bdserver.processes.answers import answer, ask_ourselves
from bdserver.processes.node import open_node
from bdserver.processes.run import begin
from bdserver.processes.session import Caller, Session
from tests.hosts import free_port


def place(folder, name, **settings):
    """The options of bdkeys that say where that host is."""
    given = {"var_dir": f"{folder}/{name}/var", "port": free_port(), "bind": "127.0.0.1"} | settings
    pairs = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    return ["--name", name, "--host", "127.0.0.1", "--config", f"{folder}/{name}/bdserverd.conf", "--no-start", *pairs]


def begun(folder, name="alpha", mesh="home", **settings):
    """The first node of a mesh, as its processes have it."""
    assert bdkeys.main(["init", f"{folder}/ca", "--mesh", mesh, "--here", *place(folder, name, **settings)]) == 0
    return opened(folder, name)


def opened(folder, name):
    node = open_node(load(f"{folder}/{name}/bdserverd.conf"))
    os.makedirs(node.settings.var_dir, exist_ok=True)
    begin(node)
    return node


# A test file has these under their names: `made, alpha = signers.made, signers.alpha`.


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a mesh whose first node, alpha, was begun."""
    folder = str(tmp_path_factory.mktemp("mesh"))
    begun(folder)
    return folder


@pytest.fixture
def alpha(made):
    """That node, which has invited nobody and heard no statement."""
    node = opened(made, "alpha")
    with node.cache.locked() as view:
        for each in list(view.statements):
            view.unstate(each)
    for path in (node.invitations.path, node.invitations.path + ".signed"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return node


def session(node, caller=None):
    """Somebody asks the node; by default its administrator."""
    return Session(node, caller or Caller(ADMIN, "ann", "127.0.0.1"), lambda *_: None, ask_ourselves)


def asked(node, *request, caller=None):
    """The node's answer."""
    return answer(session(node, caller), list(request))


class Door:
    """A port at which a node lets strangers join, and serves nothing else. `errors`: why handshakes failed."""

    def __init__(self, node):
        self.node, self.errors = node, []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            deadline = time.monotonic() + 5
            try:
                stream = tls.accept(sock, self.node.credentials, deadline, lambda: joining.may_join(self.node))
            except BDError as error:
                self.errors.append(error)
                continue
            joining.serve(self.node, stream, "192.0.2.7", deadline)

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
