"""A node whose peers say what a test has them say: real files in a folder, no certificates, and talks in memory.

For the tests of the discoverer's parts; whoever needs nodes that really answer takes those of nodes.py."""

import os
import socket
from random import Random
from types import SimpleNamespace

from bdserver.core import exchange
from bdserver.core.membership import Record, from_json
from bdserver.core.messages import Exchanged, Pong
from bdserver.core.policies import Policies
from bdserver.core.roles import NODE
from bdserver.core.view import View
from bdserver.errors import BDError, NobodyThere, Refused
from bdserver.files import lines, policyfile
from bdserver.files.blacklist import BlackList
from bdserver.files.revoked import Revoked
from bdserver.files.settings import load
from bdserver.net.identity import Identity
from bdserver.processes.describing import own_record
from bdserver.processes.node import Node
from bdserver.processes.nodefiles import open_files
from bdserver.processes.rules import Rules
from tests.unit.seals import Believing, believe
from tests.unit.views import NOW


class Peer:
    """Another node, in the memory of the test: what it knows, what it was asked, and what it says instead of an answer."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.view = View(name)
        self.view.start(Record(name, address, (0, 0)), NOW)
        self.asked, self.called = [], 0
        self.instead = None  # an exception to raise, or a function of the request that may return an answer
        self.open = []

    def answer(self, request):
        self.asked.append(request)
        said = self.instead(request) if callable(self.instead) else None
        if said is not None:
            return said
        match request:
            case ["PING"]:
                return Pong(self.view.digest())
            case ["SYNCHRONIZE", theirs]:
                added = exchange.absorb(self.view, theirs, NOW, "me", believe).answer if exchange.has_news(theirs) else {}
                return Exchanged(exchange.respond(self.view, theirs) | added)
        raise AssertionError(request)

    def words(self):
        """The first word of each request."""
        return [request[0] for request in self.asked]

    def told(self):
        """The names of all records that it was told."""
        says = [request[1] for request in self.asked if request[0] == "SYNCHRONIZE"]
        return {from_json(record).name for say in says for record in say.get("records", [])}


class Straight:
    """Lines in memory: each talk runs to its end at once, with the peer of that name (or address, for callers)."""

    def __init__(self, node):
        self.node, self.started = node, []

    @staticmethod
    def patience(seconds):
        return seconds

    def start(self, talk, address, name, seconds, done, is_slow=False):
        self.started.append((address, name, is_slow))
        try:
            request = next(talk)
            while True:
                try:
                    said = self._said(address, request)
                except BDError as error:
                    request = talk.throw(error)
                else:
                    request = talk.send(said)
        except StopIteration as end:
            done(end.value)
        except BDError as error:
            done(error)

    def _said(self, address, request):
        host, _, port = address.rpartition(":")
        peer = self.node.peers.get(f"{host}:9001")
        if peer is None:
            raise NobodyThere(f"{address} does not answer")
        if isinstance(peer.instead, Exception):
            raise peer.instead
        answer = peer.answer(request)
        return answer._replace(gossip_port=9002) if port == "9001" and isinstance(answer, Pong) else answer

    def let_go(self, address):
        self.started.append((address, "is let go", False))


class Talk:
    """A conversation with a peer: no bytes, but a socket to wait on."""

    def __init__(self, peer):
        self.peer, self.where = peer, peer.address
        self.identity = SimpleNamespace(name=peer.name, serial=1, signer=None)
        self._sock, self._other_end = socket.socketpair()
        peer.open.append(self)

    def ask(self, request, deadline):
        return self.peer.answer(request)

    def fileno(self):
        return self._sock.fileno()

    def hang_up(self):
        """The other side ends it."""
        self._other_end.close()

    def close(self):
        self._sock.close()
        self._other_end.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class StandIn(Node):
    """A real Node of parts whose files lie in a folder; its `dial` reaches `peers`, by their address."""

    def __init__(self, folder, **settings):
        self.config = os.path.join(folder, "bdserverd.conf")
        self.configure(username="me", var_dir=str(folder), services_dir=str(folder / "services"), **settings)
        loaded = load(self.config)
        for each in (loaded.services_dir, loaded.graveyard_dir, loaded.service_log_dir):
            os.makedirs(each, exist_ok=True)
        identity = Identity("mesh", NODE, "me", ("127.0.0.1",), NOW, 1)
        credentials = SimpleNamespace(
            identity=identity, days_left=lambda now: 365.0, chain=SimpleNamespace(signer=None), not_after=4e9, authorities=()
        )
        rules = Rules(policyfile.read(""), Policies(None, "lax"), BlackList(""), Revoked(""))
        files = open_files(loaded, "me")
        super().__init__(loaded, credentials, "127.0.0.1:9001", rules, files, self._dial, rng=Random(1))
        self.proofs = Believing()
        self.peers = {}
        with self.cache.locked() as view:
            view.start(own_record(self), NOW)

    def configure(self, **settings):
        """Write the config; it counts at the next reload."""
        self.given = {**getattr(self, "given", {}), **settings}
        with open(self.config, "w") as file:
            file.writelines(f"{key}={value}\n" for key, value in self.given.items())

    def service(self, name, **pairs):
        """Put a service there, registered by its URL; whole at once, however long ago another one of its name was put there."""
        pairs = {"weight": 1, "type": "static", "url": f"http://127.0.0.1:1/{name}"} | pairs
        rows = "".join(f"{key}={value}\n" for key, value in pairs.items()).encode()
        with open(os.path.join(self.settings.services_dir, name + ".bdcert"), "wb") as file:
            file.write(rows + lines.ending(rows))

    def peer(self, name, is_known=True):
        """A node that can be called; known here, unless told."""
        peer = Peer(name, f"{name}:9001")
        self.peers[peer.address] = peer
        if is_known:
            self.learn(peer.view.own)
        return peer

    def learn(self, record):
        with self.cache.locked() as view:
            view.merge(record, NOW)

    def _dial(self, address, credentials, deadline, name, policy_digest, policy_text, version):
        peer = self.peers.get(address)
        if peer is None:
            raise NobodyThere(f"{address} does not answer")
        peer.called += 1
        if isinstance(peer.instead, Exception):
            raise peer.instead
        if name not in (None, peer.name):
            raise Refused(f"{address} is {peer.name}")
        return Talk(peer)

    def close(self):
        """End what is still open."""
        self.hitlog.close()
        for peer in self.peers.values():
            for talk in peer.open:
                talk.close()
