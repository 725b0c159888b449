"""Nodes in memory, for the tests of what a node answers: real files in a folder, no certificates, no sockets, no daemons.

`a_node` makes one, `a_mesh` some that know each other. Their `dial` leads to the other nodes of the same folder, in this process:
requests and answers are encoded and decoded as on the wire, openings count, packages follow. `Network.trouble` says what a call
leads to instead. The clock stands still until a test moves it, the dice are seeded.
"""

from __future__ import annotations

import os
import random
import socket
import time
from types import SimpleNamespace
from typing import ClassVar, NamedTuple

from bdserver.core import attention, messages, nudges
from bdserver.core.membership import NO_EDITION
from bdserver.core.messages import Error, Found, Package
from bdserver.core.policies import Policies
from bdserver.core.roles import NODE
from bdserver.core.wire import VERSION, Decoder, encode
from bdserver.errors import BDError, NobodyThere, Refused, from_wire
from bdserver.files import lines, policyfile, publishers
from bdserver.files.blacklist import BlackList
from bdserver.files.revoked import Revoked
from bdserver.files.settings import Settings
from bdserver.net.identity import Identity
from bdserver.processes import editions, facts
from bdserver.processes.answers import answer, ask_ourselves
from bdserver.processes.describing import Told, describe, own_record, update_own
from bdserver.processes.node import Life, Node
from bdserver.processes.nodefiles import open_files
from bdserver.processes.rules import Rules
from bdserver.processes.session import Caller, Session
from bdserver.processes.terms import Terms
from tests.hosts import until
from tests.unit.clocks import Clock
from tests.unit.seals import Believing

NOW = 1_700_000_000.0
# Above what Linux gives out: whom nobody has said to be the listener must not be hit by a KILL.
NOBODYS_PID = (1 << 22) + 1
DOCUMENT = '<Policy xmlns="http://schemas.xmlsoap.org/ws/2004/09/policy" xmlns:t="urn:t"><All>{}</All></Policy>'


def warnings(node, now=NOW):
    """What keeps a node from being well, as `bdctl status` tells it."""
    return attention.lines(facts.findings(node, node.cache.view(), now))


def document(*assertions):
    """A policy that asks for these."""
    return DOCUMENT.format("".join(f"<t:{name}/>" for name in assertions))


def _alternatives(*tails):
    alike = "".join(f"<t:a{number:02}/>" for number in range(25))
    texts = "".join(f"<All>{alike}{tail}</All>" for tail in tails)
    return DOCUMENT.replace("<All>{}</All>", f"<ExactlyOne>{texts}</ExactlyOne>")


_BITS = [f"<t:z{bit}/>" for bit in range(6)]
# Two policies that are fine each for itself, and take more steps to compare than anybody allows.
COSTLY = (
    _alternatives(*("".join(tag for bit, tag in enumerate(_BITS) if number >> bit & 1) for number in range(64))),
    _alternatives(*("".join(_BITS) + f"<t:zz{number}/>" for number in range(64))),
)


class Credentials(NamedTuple):
    """As far as a node looks at its own certificate."""

    identity: Identity
    not_after: float
    chain: SimpleNamespace = SimpleNamespace(signer=None)  # it was made by hand
    authorities: tuple[()] = ()

    def days_left(self, now):
        return (self.not_after - now) / 86400


class Network:
    """The nodes of one folder, by address. `trouble`: address -> the exception that a call there, or a question on a connection
    that is open, leads to. `called`: the addresses that were dialled, in order. `hung`: addresses of nodes that take a question and do
    not answer it before `wake`."""

    newest: ClassVar[Network | None] = None

    def __init__(self, folder):
        self.folder = folder
        self.nodes = {}
        self.trouble = {}
        self.called = []
        self.hung = {}

    def hang(self, address):
        """The node there is stopped."""
        self.hung[address] = []

    def wake(self, address):
        """It goes on, and does what it was asked meanwhile."""
        for talk in self.hung.pop(address):
            talk.wake()

    @classmethod
    def of(cls, folder):
        """The network of this folder. A test has one, and the next test begins another: what is open of it is closed then."""
        newest = cls.newest
        if newest is None or newest.folder != folder:
            for node in newest.nodes.values() if newest is not None else ():
                node.hitlog.close()
            newest = cls.newest = cls(folder)
        return newest

    def dial(self, address, credentials, deadline, name=None, policy_digest=None, policy_text=None, version=VERSION):
        """As net.dialling.dial."""
        self.called.append(address)
        self.check(address)
        node = self.nodes[address]
        if name is not None and node.name != name:
            raise Refused(f"{address}: {node.name} is there, not {name}")
        identity = credentials.identity
        caller = Caller(identity.role, identity.name, identity.hosts[0], identity)
        return Talk(node, caller, address, messages.Opening(version, 1, None, policy_digest, policy_text), self)

    def check(self, address):
        if address in self.trouble:
            raise self.trouble[address]
        if address not in self.nodes:
            raise NobodyThere(f"{address}: no answer")


class Talk:
    """A conversation with a node of this process."""

    def __init__(self, node, caller, where, opening=messages.Opening(), network=None):  # noqa: B008 (nobody can change it)
        self.node, self.where, self.network = node, where, network
        self.identity = node.credentials.identity
        self.is_open, self.has_hung_up = True, False
        self._begun = self._here = self._there = None
        self._package = self._file = None
        self.session = Session(node, caller, self._receive, ask_ourselves)
        self._terms = Terms(node)
        said = messages.opened(opening._replace(policy=None if opening.policy_text else opening.policy))
        self._terms.take(_travelled(said), str(caller))

    def ask(self, request, deadline=None, package=None):
        """The typed answer, or the exception of its code."""
        if not self.is_open:
            raise NobodyThere(f"{self.where} has hung up")
        if self.network is not None:
            self.network.check(self.where)
        self._package = package
        self.session.begin(5.0 if deadline is None else deadline - time.monotonic())
        said = messages.decode(request[0], _travelled(self._said(_travelled(request))), request[1:])
        self.session.end()
        if isinstance(said, Error):
            raise from_wire(said.code, f"{self.where}: {said.text}")
        return said

    def _said(self, request):
        try:
            self._terms.check()
            said = answer(self.session, request)
        except BDError as error:
            said = Error(error.code, str(error))
        self._file = said.file if isinstance(said, Package | Found) else None
        return messages.encoded(said)

    def _receive(self, length, file, deadline):
        file.write(self._package.read(length))

    def receive_package(self, length, out_file, deadline):
        """As net.conversation.Conversation's."""
        with self._file as file:
            out_file.write(file.read(length))

    def begin(self, request, deadline):
        """As net.conversation.Conversation's; whoever hangs does not even read it."""
        if self.network is not None:
            self.network.check(self.where)
        self._begun = request
        self._here, self._there = socket.socketpair()
        if self.network is not None and self.where in self.network.hung:
            self.network.hung[self.where].append(self)
        else:
            self._there.send(b"answered")

    def wake(self):
        """What was begun is done."""
        if self.is_open:
            self._there.send(b"answered")
        else:  # broken off: nobody hears the answer
            self.session.begin(5.0)
            self._said(_travelled(self._begun))
            self.session.take_back()

    def is_readable(self, deadline):
        """At once or never; between two questions, only when the other end has hung up."""
        return self.has_hung_up or (self._begun is not None and self.where not in self.network.hung)

    def finish(self, request, deadline):
        """The answer to what was begun."""
        self._here.recv(100)
        self._begun = None
        return self.ask(request, deadline)

    def fileno(self):
        return self._here.fileno() if self._here else -1

    def close(self):
        if self._begun is not None and self.is_open and self.where not in self.network.hung:
            self.session.begin(5.0)  # it was said, and nobody waits for the answer
            self._said(_travelled(self._begun))
        self.is_open = False
        for sock in (self._here, self._there):
            if sock is not None:
                sock.close()
        self.session.close()

    def break_off(self):
        """Without a goodbye."""
        self.session.take_back()
        self.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def _travelled(message):
    decoder = Decoder()
    decoder.feed(encode(message))
    return decoder.next_message()


class InMemory(Node):
    """A Node, and what the tests want to know of it."""

    network: Network
    _nudges: list[nudges.Nudge]

    def nudge(self, nudge):
        self._nudges.append(nudge)
        super().nudge(nudge)

    def call_me(self, role=NODE, name="caller", **opening):
        """A conversation with this node, of a caller with this role."""
        return Talk(self, Caller(role, name, "192.0.2.7"), self.address, messages.Opening(**opening))

    def ask(self, *request, role=NODE, package=None):
        """This node's answer to a caller with this role."""
        with self.call_me(role) as talk:
            return talk.ask(list(request), package=package)

    def offer(self, service, content=b"hello", *, is_seen=True, **pairs):
        """A service dropped into the folder, whole at once; without content, registered by its url. `is_seen`: and somebody has
        seen which edition it is."""
        path = os.path.join(self.settings.services_dir, service)
        if content is not None:
            with open(path, "wb") as file:
                file.write(content)
        rows = "".join(f"{key}={value}\n" for key, value in pairs.items()).encode()
        with open(path + ".bdcert", "wb") as file:
            file.write(rows + lines.ending(rows))
        self.services.look()  # as the discoverer does: one that is written anew does not change the folder's time
        mine = self.services.get(service)
        if is_seen and mine is not None and mine.is_here and not mine.is_copy and mine.edition == NO_EDITION:
            edition = editions.of_original(self, self.cache.view(), mine)
            self.services.relabel(service, lambda now: now._replace(edition=edition))
        update_own(self)
        return self

    def settle(self):
        """Look at the services until nothing can change any more within the same tick of the file system's clock."""
        until(lambda: self.services.look() or self.services._seen is not None, 10, "it settles", pause=0.001)
        return self

    def overload(self, service):
        """Hits on a service here until this node is overloaded."""
        hits = int(self.settings.receiver_threshold / self.services.all()[service].cost) + 1
        self.hitlog.extend(service, [("-", self.clock())] * hits)
        return self

    def nudged(self):
        """What the discoverer was told since the last look."""
        told, self._nudges = self._nudges, []
        return nudges.decode(b"".join(map(nudges.encode, told)))

    def knows(self, *others):
        """Take over what the other nodes say of themselves now."""
        for other in others:
            theirs = other.cache.view()
            with self.cache.locked() as view:
                view.merge(theirs.own, self.clock())
                for digest, text in theirs.policies.items():
                    view.learn_policy(digest, text)
        return self

    @property
    def scratch(self):
        """What lies in the folder for packages on their way."""
        folder = self.services.scratch_dir
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def a_node(tmp_path, name="me", policy="", days=365.0, **settings):
    """A node that has just started, alone. `policy`: its document. Of one `tmp_path`, nodes can call each other."""
    folder = tmp_path / name
    folder.mkdir()
    if policy:
        (folder / "policy.xml").write_text(policy)
    given = {"var_dir": str(folder), "username": name, "ws_policy": str(folder / "policy.xml") if policy else "", **settings}
    inner = Settings(str(folder / "bdserverd.conf"), given)
    for each in (inner.services_dir, inner.graveyard_dir, inner.service_log_dir):
        os.makedirs(each)
    network = Network.of(tmp_path)
    number = len(network.nodes) + 1
    address, clock = f"10.0.0.{number}:9001", Clock(NOW)
    identity = Identity("mesh", NODE, name, (f"10.0.0.{number}",), NOW + days * 86400, number)
    read = policyfile.read(inner.ws_policy)
    lists = BlackList(inner.black_list), Revoked(inner.revoked), publishers.read(inner.publishers)
    rules = Rules(read, Policies(read.policy, inner.policy_mode), *lists)
    node = InMemory(
        inner,
        Credentials(identity, NOW + days * 86400),
        address,
        rules,
        open_files(inner, name),
        network.dial,
        clock,
        random.Random(number),
    )
    node.network, node._nudges = network, []
    node.proofs = Believing()
    node.life = Life(NOBODYS_PID, NOW)
    network.nodes[address] = node
    with node.cache.locked() as view:
        view.start(own_record(node), NOW)
        describe(node, view, NOW, Told(unhealthy=[]))
    return node


def a_mesh(tmp_path, *names, **settings):
    """Nodes of these names that know each other; a setting counts for all."""
    nodes = [a_node(tmp_path, name, **settings) for name in names]
    acquaint(*nodes)
    return nodes


def acquaint(*nodes):
    """Everybody knows what each of the others says of itself now."""
    for node in nodes:
        node.knows(*(other for other in nodes if other is not node))
        node.nudged()
