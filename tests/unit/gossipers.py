"""Nodes that gossip in one process, on loopback with real certificates: discoverers that turn when they are told to, and
peers that say what a test has them say."""

import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from random import Random

from bdserver.core.membership import Record
from bdserver.core.policies import Policies
from bdserver.core.roles import NODE
from bdserver.core.wire import Decoder, encode
from bdserver.errors import BDError, Deadline
from bdserver.files import policyfile
from bdserver.files.blacklist import BlackList
from bdserver.files.revoked import Revoked
from bdserver.files.settings import load
from bdserver.net import keys, tls
from bdserver.net.authority import Authority, general_names
from bdserver.net.proofs import Proofs
from bdserver.processes.describing import Told, describe, own_record
from bdserver.processes.discoverer import Discoverer
from bdserver.processes.node import Node
from bdserver.processes.nodefiles import open_files
from bdserver.processes.rules import Rules

PATIENCE = 20.0  # of a test; each waits for what it wants, and none as long


def make_authority(folder):
    """The folder of a CA."""
    Authority.make(f"{folder}/ca", "prod")
    return f"{folder}/ca"


def credentials_of(folder, authority, name, role=NODE):
    """Fresh keys of that name."""
    Authority.load(authority).issue(folder, name, role, general_names(["127.0.0.1"]) if role == NODE else [], 30)
    return keys.load(folder, name)


def make_node(folder, authority, name, port=1, **settings):
    """A node whose files lie below the folder; port + 1 is for its news. Nothing of it runs."""
    home = os.path.join(folder, name)
    credentials = credentials_of(home, authority, name)
    given = {"port": port, "gossip_port": port + 1, "username": name, "var_dir": home, "round_min": 0.5, "round_max": 1.0}
    config = os.path.join(home, "bdserverd.conf")
    with open(config, "w") as file:
        file.writelines(f"{key}={value}\n" for key, value in (given | settings).items())
    made = load(config)
    for each in (made.services_dir, made.graveyard_dir, made.service_log_dir, os.path.dirname(made.socket)):
        os.makedirs(each, exist_ok=True)
    document = policyfile.read(made.ws_policy)
    rules = Rules(document, Policies(document.policy, "lax"), BlackList(made.black_list), Revoked(made.revoked))
    node = Node(made, credentials, f"127.0.0.1:{port}", rules, open_files(made, name), rng=Random(name))
    with node.cache.locked() as view:
        view.start(own_record(node), time.time())
        describe(node, view, time.time(), Told(unhealthy=[]))
    return node


def signed(folder, authority, record):
    """(record, certificate): as a node of that name says it, which has a certificate of this mesh."""
    proofs = Proofs(credentials_of(os.path.join(folder, f"keys of {record.name}"), authority, record.name), lambda *it: None)
    return proofs.seal(record), proofs.certificate


class Gossiper:
    """A node with a discoverer that turns when it is told to; no listener, no children."""

    def __init__(self, folder, authority, name, **settings):
        self.folder, self.authority = folder, authority
        self.listening = socket.create_server(("127.0.0.1", 0))
        port = self.listening.getsockname()[1]
        self.node = make_node(folder, authority, name, port - 1, **settings)
        self.life_read, self.life_write = os.pipe()
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_read, False)
        self.node.life = self.node.life._replace(wake_descriptor=self.wake_write)
        self.discoverer = Discoverer(self.node, self.wake_read, self.life_read, [self.listening])
        self._has_ended = False

    @property
    def view(self):
        return self.node.cache.view()

    @property
    def lines(self):
        """Its lines to other nodes, by address."""
        return {address: line for (address, _), line in self.discoverer._board.lines._lines.items()}

    def status_of(self, name):
        return self.view.records[name].status

    def meet(self, other):
        """Know that node, as from gossip long ago."""
        own, certificates = other.view.own, other.view.certificates
        with self.node.cache.locked() as view:
            view.merge(own, time.time())
            view.learn_certificate(own.certificate, certificates[own.certificate])

    def hears_of(self, name):
        """Know the record of a node that nobody can reach; it and its certificate are good."""
        record = Record(name, "127.0.0.1:1", (1, 0))
        sealed, certificate = signed(self.folder, self.authority, record)
        with self.node.cache.locked() as view:
            view.merge(sealed, time.time())
            view.learn_certificate(sealed.certificate, certificate)

    def nudge(self, *said):
        from bdserver.core import nudges

        os.write(self.wake_write, b"".join(map(nudges.encode, said)))

    def end(self):
        """As kill -9 of its discoverer and listener: every socket is closed by the kernel."""
        if self._has_ended:
            return
        self._has_ended = True
        for key in list(self.discoverer._board.selector.get_map().values()):
            with contextlib.suppress(OSError, AttributeError):
                if isinstance(key.fileobj, int):
                    continue
                sock = key.fileobj if isinstance(key.fileobj, socket.socket) else key.fileobj.channel.sock
                sock.close()
        self.listening.close()
        self.discoverer._board.selector.close()
        self.discoverer._wakeup.close()
        for descriptor in (self.life_read, self.life_write, self.wake_read, self.wake_write):
            with contextlib.suppress(OSError):  # a test has closed it
                os.close(descriptor)


def turn_until(gossipers, is_so, seconds=PATIENCE, what="it"):
    """Let each turn a little until it is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        for each in gossipers:
            assert each.discoverer.turn(0.002)


class Said:
    """One end of a conversation whose steps are a test's: blocking, with a deadline each."""

    def __init__(self, stream):
        self.stream, self.decoder = stream, Decoder()

    @classmethod
    def dial(cls, port, credentials, role=NODE):
        sock = socket.create_connection(("127.0.0.1", port))
        return cls(tls.connect(sock, credentials, f"127.0.0.1:{port}", time.monotonic() + PATIENCE, role))

    def say(self, *sent):
        self.stream.send(b"".join(map(encode, sent)), time.monotonic() + PATIENCE)

    def hear(self):
        """The next message; None when the other side has closed."""
        while (message := self.decoder.next_message()) is None:
            data = self.stream.recv(65536, time.monotonic() + PATIENCE)
            if not data:
                return None
            self.decoder.feed(data)
        return message

    def ask(self, request):
        self.say(request)
        return self.hear()

    def is_hung_up(self):
        """Wait for the end; whether it came."""
        try:
            while self.hear() is not None:
                pass
        except Deadline:
            return False
        except BDError:
            pass
        return True

    def close(self):
        self.stream.close()


class Peer:
    """A node that a test scripts: `behave(said)` is called in a thread for each connection, after the handshake."""

    def __init__(self, credentials, behave):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.credentials, self.behave, self.called = credentials, behave, 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.sock.accept()
                self.called += 1
                threading.Thread(target=self._live, args=(sock,), daemon=True).start()

    def _live(self, sock):
        try:
            said = Said(tls.accept(sock, self.credentials, time.monotonic() + PATIENCE))
            self.behave(said)
            said.close()
        except (BDError, OSError) as error:
            logging.getLogger("peer").debug("%s", error)

    def close(self):
        self.sock.close()


class Turning:
    """A switchboard in a thread of its own."""

    def __init__(self, board):
        self.board, self._is_over = board, False
        self.read, self.write = os.pipe()
        board.selector.register(self.read, selectors.EVENT_READ, self.read)
        self.turns = 0
        self.thread = threading.Thread(target=self._turn)
        self.thread.start()

    def _turn(self):
        while not self._is_over:
            self.board.turn(min(self.board.next_at() - time.monotonic(), 0.05))
            self.turns += 1

    def end(self):
        self._is_over = True
        os.write(self.write, b"x")
        self.thread.join(PATIENCE)
        for each in (self.read, self.write):
            os.close(each)
