"""The DNS server on real sockets, before a look-up that a test makes up."""

import contextlib
import dataclasses
import socket
import struct
import threading
import time

import dns.message
import dns.query
import dns.rcode
import pytest

from bdserver.core.messages import Status
from bdserver.errors import BadFrame, CantFind, Forbidden, NobodyThere, PolicyMismatch
from bdserver.gateway import calls
from bdserver.gateway import dns as serving
from bdserver.gateway.dns import Budget, DnsServer, place_of
from bdserver.gateway.follower import Follower
from tests.hosts import free_port, until
from tests.unit.canned import own, seen

SECONDS = 20.0


@dataclasses.dataclass
class Server:
    """What a test sets and sees: `answer`, a URL or an error; which services were looked up; what was counted."""

    port: int
    answer: object = "http://10.0.0.2:8080/axis/Echo"
    looked_up: list = dataclasses.field(default_factory=list)
    counted: list = dataclasses.field(default_factory=list)
    refused: list = dataclasses.field(default_factory=list)
    server: DnsServer = None
    gate: threading.Event = dataclasses.field(default_factory=threading.Event)

    def look_up(self, service, deadline):
        self.looked_up.append(service)
        assert self.gate.wait(SECONDS)
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"url": self.answer}

    def ask(self, name, kind="A", how=dns.query.udp, **options):
        message = dns.message.make_query(name, kind, **options)
        return how(message, "127.0.0.1", timeout=SECONDS, port=self.port)


@pytest.fixture
def follower():
    follower = Follower(lambda: "", lambda: Status(own(), [seen("a", services=("Echo", "a.Deep"))]))
    follower.turn(0.0, 0.0)
    return follower


@pytest.fixture
def make(follower):
    with contextlib.ExitStack() as ended:

        def made(threads=2, queries_per_second=1000):
            udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
            port = free_port()
            udp.bind(("127.0.0.1", port))
            tcp.bind(("127.0.0.1", port))
            tcp.listen()
            for sock in (udp, tcp):
                sock.setblocking(False)
            server = Server(port)
            server.gate.set()
            dns_server = DnsServer(
                "bd.internal",
                server.look_up,
                follower,
                SECONDS,
                threads,
                queries_per_second,
                lambda *each: server.counted.append(each),
                server.refused.append,
            )
            server.server = dns_server
            ended.callback(dns_server.stop)
            ended.callback(server.gate.set)
            dns_server.start([udp, tcp])
            return server

        yield made


@pytest.fixture
def patiently(monkeypatch):
    """However long this machine takes from one question to the next, they are of one call: how long is a test of calls alone."""
    monkeypatch.setattr(calls, "SECONDS", SECONDS)


def code(said):
    return dns.rcode.to_text(said.rcode())


@pytest.mark.parametrize("how", [dns.query.udp, dns.query.tcp])
def test_address_and_port_are_one_look_up(make, how, patiently):
    server = make()
    said = [server.ask("echo.bd.internal", kind, how) for kind in ("A", "AAAA", "SRV")]
    assert said[0].answer[0][0].to_text() == "10.0.0.2" and not said[1].answer and said[2].answer[0][0].port == 8080
    assert server.looked_up == ["Echo"]
    server.ask("echo.bd.internal", "A", how)
    assert server.looked_up == ["Echo", "Echo"], "the next call"
    assert {outcome for _, outcome in server.counted} == {"noerror"}


def test_questions_that_come_while_the_answer_is_looked_for_wait_for_it(make, patiently):
    server = make()
    server.gate.clear()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(SECONDS)
        messages = [dns.message.make_query("Echo.bd.internal", kind) for kind in ("A", "AAAA")]
        for message in [*messages, messages[0]]:  # the last one is the same packet again
            sock.send(message.to_wire())
        while not server.looked_up:
            time.sleep(0.001)
        server.gate.set()
        answers = sorted(dns.message.from_wire(sock.recv(4096)).id for _ in range(3))
    assert answers == sorted([messages[0].id, messages[0].id, messages[1].id]) and server.looked_up == ["Echo"]


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        ("Nothing", CantFind("nobody has it"), "NXDOMAIN"),
        ("Echo", CantFind("those who have it do not answer"), "SERVFAIL"),
        ("deep", CantFind("nobody has it"), "NOERROR"),  # a.Deep is there
        ("Echo", NobodyThere("the node does not answer"), "SERVFAIL"),
        ("Echo", PolicyMismatch("no policy meets"), "REFUSED"),
        ("Echo", Forbidden("not you"), "REFUSED"),
        ("Echo", RuntimeError("a bug"), "SERVFAIL"),
    ],
)
def test_what_goes_wrong_is_said_as_dns_says_it(make, name, error, expected):
    server = make()
    server.answer = error
    said = server.ask(f"{name}.bd.internal", use_edns=0)
    assert code(said) == expected
    assert expected in ("NXDOMAIN", "NOERROR") or str(error) in said.options[0].text


def test_what_no_service_has_costs_no_look_up(make, follower):
    server = make()
    assert code(server.ask("Echo.bd.internal", "MX")) == code(server.ask("deep.bd.internal", "MX")) == "NOERROR"
    assert code(server.ask("Nothing.bd.internal", "MX")) == "NXDOMAIN"
    assert server.looked_up == []
    follower._nodes = None  # it has not answered yet
    assert code(server.ask("Echo.bd.internal", "MX")) == "SERVFAIL"


def test_a_url_that_leads_nowhere_is_no_answer(make):
    server = make()
    server.answer = "http:///x"
    assert code(server.ask("Echo.bd.internal")) == "SERVFAIL"


def test_no_more_than_some_questions_wait(make, monkeypatch):
    monkeypatch.setattr(serving, "WAITING_MAX", 3)
    server = make(threads=1)
    server.gate.clear()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(SECONDS)
        for number in range(5):
            sock.send(dns.message.make_query(f"Echo{number}.bd.internal", "A").to_wire())
        busy = [dns.message.from_wire(sock.recv(4096)) for _ in range(2)]
        assert [code(each) for each in busy] == ["SERVFAIL"] * 2
        server.gate.set()
        assert [code(dns.message.from_wire(sock.recv(4096))) for _ in range(3)] == ["NOERROR"] * 3
    assert len(server.looked_up) == 3 and server.refused == ["waiting"] * 2


def test_what_comes_beyond_the_budget_is_dropped_and_counted(make):
    server = make(queries_per_second=3)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server.port))
        for _ in range(50):
            sock.send(dns.message.make_query("example.org", "A").to_wire())
    deadline = time.monotonic() + SECONDS
    while len(server.counted) < 50:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert ("udp", "dropped") in server.counted and server.counted.count(("udp", "refused")) < 50
    assert server.refused == ["queries_per_second"] * server.counted.count(("udp", "dropped"))


def test_a_budget_begins_anew_each_second():
    budget = Budget(2)
    assert [budget.takes_one(now) for now in (0.0, 0.1, 0.2, 1.2, 1.3, 1.4)] == [True, True, False, True, True, False]


def send_udp(server):
    """A query that nobody waits for."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(dns.message.make_query("example.org", "A").to_wire(), ("127.0.0.1", server.port))


def send_tcp(server, data):
    """What comes back on a connection, to its end."""
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_connection_has_many_queries_and_ends_at_what_is_none(make):
    server = make()
    query = dns.message.make_query("Echo.bd.internal", "A").to_wire()
    framed = struct.pack("!H", len(query)) + query
    assert send_tcp(server, framed * 3).count(b"\x04Echo") == 3
    for bad in (b"\0\1x", b"\xff\xff", b"\0\x0c" + b"\0\0\x80" + bytes(9)):
        assert send_tcp(server, bad + framed) == b""
    assert send_tcp(server, framed[:-1]) == send_tcp(server, b"") == b""
    assert server.ask("Echo.bd.internal", how=dns.query.tcp).answer


def test_connections_are_bounded(make, monkeypatch):
    monkeypatch.setattr(serving, "CONNECTIONS_MAX", 1)
    server = make()
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as sock:
        query = dns.message.make_query("Echo.bd.internal", "A").to_wire()
        sock.sendall(struct.pack("!H", len(query)) + query)
        assert sock.recv(2)
        assert send_tcp(server, b"") == b"" and ("tcp", "dropped") in server.counted
        assert server.refused == ["connections"]
    monkeypatch.setattr(serving, "PLACE_SECONDS", 0.0)
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as slow:
        slow.sendall(b"\0")
        until(lambda: server.ask("Echo.bd.internal", how=dns.query.tcp).answer, SECONDS, "the slow one gives way")
        slow.settimeout(SECONDS)
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(1) == b""


def test_a_connection_over_budget_is_closed(make):
    server = make(queries_per_second=1)
    query = dns.message.make_query("example.org", "A").to_wire()
    assert len(send_tcp(server, (struct.pack("!H", len(query)) + query) * 3)) <= 2 * (len(query) + 2)
    assert server.refused == ["queries_per_second"] and ("tcp", "dropped") in server.counted


def test_other_settings_count_from_now_on_and_what_is_under_way_is_answered(make):
    server = make()
    server.gate.clear()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(SECONDS)
        sock.send(dns.message.make_query("Echo.bd.internal", "A").to_wire())
        until(lambda: server.looked_up, SECONDS, "it is looked up")
        server.server.change("other.internal", SECONDS, 1000)
        until(lambda: code(server.ask("Nothing.bd.internal")) == "REFUSED", SECONDS, "the domain is another one")
        server.gate.set()
        assert code(dns.message.from_wire(sock.recv(4096))) == "NOERROR"
    assert server.ask("Echo.other.internal").answer
    server.server.change("other.internal", SECONDS, 1)
    until(lambda: "queries_per_second" in server.refused or not send_udp(server), SECONDS, "there is less room")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["UDP", "TCP"])
def test_an_address_that_is_left_before_it_is_answered_at_is_left(make, kind):
    """Two SIGHUPs, one after the other, on a machine that has no processor left between them."""
    server, sock = make().server, socket.socket(type=kind)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    server.listen(sock)
    server.leave(sock)
    until(lambda: sock.fileno() < 0, SECONDS, "it is closed")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://10.0.0.2/x", (("10.0.0.2",), 80, "")),
        ("https://[fe80::1]/x", (("fe80::1",), 443, "")),
        ("http://10.0.0.2:81", (("10.0.0.2",), 81, "")),
    ],
)
def test_where_a_url_leads(url, place):
    assert place_of(url, time.monotonic() + 5) == place


def test_a_name_in_a_url_is_resolved():
    found = place_of("http://localhost:81/", time.monotonic() + 5)
    assert "127.0.0.1" in found.addresses and found.name == "localhost"


@pytest.mark.parametrize(
    "url", ["x", "http://", "soap://10.0.0.1/", "http://[/", "http://10.0.0.1:99999/", "http://256.1.1.1/"]
)
def test_a_url_that_can_not_be_called_is_said(url):
    with pytest.raises(BadFrame, match="can't be called"):
        place_of(url, time.monotonic() + 5)
