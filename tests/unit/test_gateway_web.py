"""The HTTP server of a gateway: its limits, and what is left of a listener that went; its addresses in tests/unit/test_bdgateway.py."""

import contextlib
import http.client
import socket
import threading

import pytest

from bdserver.gateway.web import WebServer
from tests.hosts import until


def hello(environ, start_response):
    """At once; /slow when the gate opens, /watch when its caller is gone."""
    if environ["PATH_INFO"] == "/slow":
        server = environ["served"]
        server.asked.set()
        assert server.gate.wait(20)
    if environ["PATH_INFO"] == "/watch":
        server = environ["served"]
        server.asked.set()
        until(environ["waitress.client_disconnected"], 20, "the caller is seen to be gone")
        server.gate.set()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"hi"]


class Served(WebServer):
    """One in a thread, with a list of what it counted."""

    def __init__(self, connections_max=50):
        self.counted, self.full = [], 0
        self.asked, self.gate = threading.Event(), threading.Event()
        super().__init__(
            lambda environ, start: hello(environ | {"served": self}, start),
            2,
            connections_max,
            self.counted.append,
            self.is_full,
        )
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def is_full(self):
        self.full += 1

    def port(self):
        """One more, that it listens on."""
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.listen(sock)
        return sock

    def end(self):
        def act():
            raise SystemExit

        self.trigger.act(act)
        self.thread.join(20)
        assert not self.thread.is_alive(), "SystemExit in its loop ends it"


@pytest.fixture
def web():
    made = []

    def serve(*arguments):
        made.append(Served(*arguments))
        return made[-1]

    yield serve
    for each in made:
        each.end()


def ask(connection, request=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
    connection.sendall(request)
    return heard(connection)


def heard(connection):
    """The status of the whole answer, which may come in pieces."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def test_who_asks_nothing_for_longest_gives_way_and_who_is_being_answered_does_not(web):
    server = web(3)
    where = server.port().getsockname()
    with contextlib.ExitStack() as open_ones:
        answered = open_ones.enter_context(socket.create_connection(where, 20))
        answered.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert server.asked.wait(20), "it is being answered"
        slow = [open_ones.enter_context(socket.create_connection(where, 20)) for _ in range(10)]
        for each in slow[-2:]:
            each.sendall(b"GET / HT")
        late = open_ones.enter_context(socket.create_connection(where, 20))
        assert ask(late) == 200
        with contextlib.suppress(ConnectionResetError):
            assert slow[0].recv(10) == b"", "it gave way"
        assert server.full == 9
        server.gate.set()
        assert heard(answered) == 200


def test_where_all_are_being_answered_who_comes_is_hung_up_on(web):
    server = web(1)
    where = server.port().getsockname()
    with socket.create_connection(where, 20) as answered:
        answered.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert server.asked.wait(20)
        with socket.create_connection(where, 20) as later, contextlib.suppress(ConnectionResetError):
            assert later.recv(10) == b""
        server.gate.set()
        assert heard(answered) == 200


def test_a_silent_connection_is_hung_up_on_though_its_own_listener_is_gone(web):
    server = web()
    server.adjustments.cleanup_interval = 0.1
    sock = server.port()
    server.port()
    with socket.create_connection(sock.getsockname(), 20) as connection:
        assert ask(connection) == 200
        server.leave(sock)
        until(lambda: sock.fileno() < 0, 20, "the listener is gone")
        assert ask(connection) == 200
        server.adjustments.channel_timeout = 1
        assert connection.recv(9) == b"", "it hangs up"


def test_no_descriptor_is_left_of_a_listener_that_went(web):
    server = web()
    first = server.port()
    until(lambda: first.fileno() in server._listeners, 20, "it listens")
    before = len(server.map)
    assert before == 2, "the listener, and what wakes the loop"
    for _ in range(20):
        sock = server.port()
        server.leave(sock)
        until(lambda sock=sock: sock.fileno() < 0, 20, "it is gone")
    assert len(server.map) == before


def test_what_is_no_http_is_counted_by_its_status(web):
    server = web()
    with socket.create_connection(server.port().getsockname(), 20) as connection:
        assert ask(connection, b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n") == 400
    assert server.counted == ["400"]


def test_an_application_sees_that_its_caller_has_hung_up(web):
    server = web()
    with socket.create_connection(server.port().getsockname(), 20) as connection:
        connection.sendall(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")
        assert server.asked.wait(20)
        assert not server.gate.wait(0.1), "it is there"
    assert server.gate.wait(20)


def test_who_has_said_all_and_closes_that_half_is_answered(web):
    with socket.create_connection(web().port().getsockname(), 20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert heard(connection) == 200
