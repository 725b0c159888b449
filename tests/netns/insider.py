"""An insider: one node's keys, a client's and an account on one host, and all that can be done with them at once.

Each method of Insider that stands in ACTS does one thing to one node, and never waits long; `attack` does that thing to all of
them in turn, for so many seconds, in a process of its own.
"""

import contextlib
import itertools
import os
import random
import select
import socket
import time

from bdserver.core import membership
from bdserver.core.exchange import RECORDS_TOLD_MAX
from bdserver.core.membership import DEAD, Record, Service, as_json, certificate_digest
from bdserver.core.plan import DEPTH_MAX
from bdserver.core.wire import encode
from bdserver.errors import BDError
from bdserver.net.conversation import Conversation
from tests.hostile import attacks

NOBODY = 65534  # the account: it has no rights
KEPT = 6  # connections of one act that are open at once at each port of a node
ACT_SECONDS = 3.0


class Insider:
    """`node` and `client` are its credentials, `targets` the hosts, `package` a service that all of them have or can get."""

    def __init__(self, node, client, targets, package):
        self.node, self.client, self.targets, self.package = node, client, targets, package
        self.kept = {}  # (address, kind): what is open there
        self.records = {}  # by name: the record and certificate of a node as they stood at the beginning
        self.sent = 0

    # --- connections

    def silent(self, target):
        """Connected, and no word."""
        self._crowd(target, b"")

    def half_open(self, target):
        """Connected, and half a ClientHello."""
        self._crowd(target, attacks.HELLO[:60])

    def _crowd(self, target, word):
        for address in (target.address, target.gossip_address):
            crowd = self.kept.setdefault(address, [])
            crowd[:] = [sock for sock in crowd if not _is_over(sock)]
            while len(crowd) < KEPT:
                crowd.append(attacks.raw(address))
                crowd[-1].sendall(word)

    def drip(self, target):
        """A byte of a ClientHello on some connections, a byte of a frame on others that have shaken hands."""
        for address, keys in ((target.address, self.client), (target.gossip_address, self.node)):
            drips = self.kept.setdefault(address, [])
            drips[:] = [sock for sock in drips if not _is_over(sock)]
            if not drips:
                drips.extend([attacks.raw(address), attacks.raw(address), attacks.stream(address, keys)])
            self.sent += 1
            for each in drips:
                if isinstance(each, socket.socket):
                    each.sendall(attacks.HELLO[self.sent % 500 : self.sent % 500 + 1])
                else:
                    each.send(b"\0", _soon())

    def resets(self, target):
        """What is no ClientHello, and a RST behind it."""
        for address, data in itertools.product((target.address, target.gossip_address), attacks.NO_HELLO):
            sock = attacks.raw(address)
            sock.sendall(data)
            attacks.reset(sock)

    # --- frames

    def garbage(self, target):
        """Frames that are none."""
        data, _ = random.choice(list(attacks.BAD.values()))
        with contextlib.closing(attacks.stream(target.address, self.client)) as stream:
            stream.send(data, _soon())
            stream.recv(1000, _soon())
        with contextlib.closing(attacks.stream(target.gossip_address, self.node)) as stream:
            stream.send(random.choice((*attacks.GARBAGE, attacks.BOMB * 5)), _soon())

    def openings(self, target):
        """Ever other policies, and one that is much work."""
        with contextlib.closing(attacks.stream(target.address, self.client)) as stream:
            for _ in range(6):
                self.sent += 1
                text = attacks.EXPENSIVE if self.sent % 2 else attacks.policy(f"<a:x{os.getpid()}.{self.sent}/>")
                stream.send(attacks.opening(text) + encode(["PING"]), _soon())
                stream.recv(1000, _soon())

    def unread(self, target):
        """Asked for much, and never read."""
        streams = self.kept.setdefault(target.address, [])
        while len(streams) >= 4:
            streams.pop(0).close()
        streams.append(attacks.stream(target.address, self.node))
        streams[-1].send(encode(["GIVESERVICE", self.package]), _soon())
        streams.append(attacks.stream(target.gossip_address, self.node))
        streams[-1].send(encode(["PING"]) * 1000, time.monotonic() + 0.2)

    # --- requests

    def statuses(self, target):
        """The longest answer that a client gets."""
        self._ask(target.address, self.client, [["STATUS"]] * 10)

    def passwords(self, target):
        """Guesses."""
        self._ask(target.address, self.client, [["KILL", f"guess {number}"] for number in range(5)])

    def probes(self, target):
        """Of nodes that are known, of others, and of what is no node."""
        others = [each.address for each in self.targets if each is not target]
        asked = [random.choice([*others, "127.0.0.1:22", "10.77.0.250:9001", "nowhere.invalid:1"]) for _ in range(20)]
        self._ask(target.gossip_address, self.node, [["PROBE", address] for address in asked])
        self._ask(target.address, self.node, [["PROBE", address] for address in asked])

    def plans(self, target):
        """Plans in a circle, as deep as may be, and as wide as may be."""
        names = [each.name for each in self.targets]
        loop = {"self": names} | dict.fromkeys(names, names)
        chain = [*(name for name in names if name != target.name), *(f"x{number}" for number in range(DEPTH_MAX - len(names)))]
        deep = dict(zip(["self", *chain], ([name] for name in chain), strict=False))
        wide = {"self": [f"y{number}" for number in range(19_000)]}
        for plan in (loop, deep, wide):
            recipients = [chain[0], "nobody"] if plan is deep else plan["self"]
            self._ask(target.address, self.node, [["MASSMESSAGE", plan, recipients, ["WILLYOUREPLICATE", "Nothing"]]])

    def _ask(self, address, keys, requests):
        with contextlib.closing(attacks.stream(address, keys)) as stream:
            talk = Conversation(stream, address)
            for request in requests:
                try:
                    talk.ask(request, _soon())
                except BDError as error:
                    if error.code in ("nobody-there", "deadline", "bad-frame"):
                        return  # hung up on

    # --- records

    def forgeries(self, target):
        """Two thousand at once: of nodes made up, forged ones, ones too large, ones of the day after tomorrow."""
        liar = attacks.Liar(target, self.node)
        now = int(time.time())
        echo = {"Echo": Service("static", 1.0, "http://evil.example/", True)}
        value, text = liar.says(Record("made-up", "10.77.0.250:9001", (now, 1), services=echo))
        phantoms = [value | {"said": value["said"].replace("made-up", f"made-up-{number}")} for number in range(1000)]
        forged = [
            liar.says(Record(each.name, "10.77.0.250:9001", (now + 80_000, 1), status=status, since=now, services=echo))
            for each in self.targets
            for status in (membership.ALIVE, DEAD, membership.LEFT)
        ]
        large = [liar.says(Record("n10", "10.77.0.10:9001", (now, 9), extra={"x": "y" * (256 << 10)}))]
        late = [liar.says(Record("n10", "10.77.0.10:9001", (now + 3 * 86400, 1)))]
        told = [*phantoms, *(record for record, _ in (*forged, *late)), *phantoms]
        said = {"records": told[:RECORDS_TOLD_MAX], "certificates": {certificate_digest(text): text}}
        liar.exchange(said)
        liar.exchange({"records": [record for record, _ in large], "certificates": {certificate_digest(text): text}})

    def replays(self, target):
        """What a node has said, once more; and that it is dead."""
        liar = attacks.Liar(target, self.node)
        for victim in self.targets:
            if victim.name not in self.records:
                self.records[victim.name] = liar.record_of(victim.name)
        for told, certificate in self.records.values():
            liar.tell((as_json(told), certificate), (as_json(told) | {"status": "dead", "since": time.time()}, certificate))
        victim = random.choice([each for each in self.targets if each is not target])
        record, certificate = liar.record_of(victim.name)
        liar.tell((as_json(record) | {"status": "dead", "since": time.time()}, certificate))

    # --- the account

    def account(self, target):
        """Of `target` alone, by its local socket."""
        crowd = self.kept.setdefault(target.socket, [])
        crowd[:] = [sock for sock in crowd if not _is_over(sock)][-200:]
        for word in (
            b"",
            encode(["STATUS"])[:-1],
            encode(["STATUS"]) * 50,
            attacks.BAD["a zlib bomb"][0],
            encode(["KILL", "x"]),
        ):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(0.2)
            crowd.append(sock)
            sock.connect(target.socket)
            with contextlib.suppress(OSError):  # hung up on, or nobody reads it
                sock.sendall(word)


def _soon():
    return time.monotonic() + ACT_SECONDS


def _is_over(end):
    """The other side has hung up; if so it is closed here too."""
    if not select.select([end], [], [], 0)[0]:
        return False
    if isinstance(end, socket.socket):
        with contextlib.suppress(OSError):
            if end.recv(65536):
                return False
    end.close()
    return True


# To see where it ends: so many times more of it.
RATE = float(os.environ.get("BDSERVER_SOAK_RATE", "1"))
# How often a second each is done to some node; the account has one node alone. All hosts share the
# processors of one machine here: more of it would leave ten nodes nothing to run on, which says nothing about a node on a host of its own.
ACTS = {
    "silent": 4, "half_open": 4, "drip": 9, "resets": 2, "garbage": 3, "openings": 0.5, "unread": 1, "statuses": 1,
    "passwords": 0.5, "probes": 1, "plans": 0.5, "forgeries": 0.5, "replays": 1, "account": 4,
}  # fmt: skip


def attack(insider, act, seconds):
    """How often it was done, and how often it ended in an error, which is the other side's right."""
    counts = {"done": 0, "refused": 0}
    if act == "account":
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    started = time.monotonic()
    number = 0
    while (began := time.monotonic()) < started + seconds:
        targets = _targets(insider, act, began > started + seconds / 2)
        number += 1
        try:
            getattr(insider, act)(targets[number % len(targets)])
            counts["done"] += 1
        except (BDError, OSError, AssertionError):
            counts["refused"] += 1
        time.sleep(max(began + 1 / (RATE * ACTS[act]) - time.monotonic(), 0))
    return counts


def _targets(insider, act, is_second_half):
    """Whoever was told forgeries does not listen to the insider for a minute: replays go to the others meanwhile."""
    if act == "account":
        return insider.targets[:1]
    if act in ("forgeries", "replays"):
        return insider.targets[(act == "forgeries") ^ is_second_half :: 2]
    return insider.targets
