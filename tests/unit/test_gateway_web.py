"""The HTTP server of a gateway: its limits, and what is left of a listener that went; its addresses in tests/unit/test_bdgateway.py."""

import socket
import threading

import pytest

from bdserver.gateway.web import WebServer
from tests.hosts import until

OK = b"HTTP/1.1 200 OK"


def hello(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"hi"]


class Served(WebServer):
    """One in a thread, with a list of what it counted."""

    def __init__(self, connections_max=50):
        self.counted, self.full = [], 0
        super().__init__(hello, 2, connections_max, self.counted.append, self.is_full)
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
    return connection.recv(9999)


def test_as_many_connections_as_may_be_are_told_once_and_the_next_one_waits(web):
    server = web(5)  # the trigger and the listener count too
    where = server.port().getsockname()
    open_ones = [socket.create_connection(where, 20) for _ in range(3)]
    assert all(ask(each).startswith(OK) for each in open_ones)
    with socket.create_connection(where, 20) as late:
        until(lambda: server.full == 1, 20, "it is told")
        late.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for each in open_ones:
            each.close()
        assert late.recv(9999).startswith(OK) and server.full == 1


def test_a_silent_connection_is_hung_up_on_though_its_own_listener_is_gone(web):
    server = web()
    server.adjustments.channel_timeout, server.adjustments.cleanup_interval = 3, 0.1
    sock = server.port()
    server.port()
    with socket.create_connection(sock.getsockname(), 20) as connection:
        assert ask(connection).startswith(OK)
        server.leave(sock)
        until(lambda: sock.fileno() < 0, 20, "the listener is gone")
        assert ask(connection).startswith(OK)
        assert connection.recv(9) == b"", "it hangs up"


def test_no_descriptor_is_left_of_a_listener_that_went(web):
    server = web()
    first = server.port()
    until(lambda: first.fileno() in server.map, 20, "it listens")
    before = len(server.map)
    for _ in range(20):
        sock = server.port()
        server.leave(sock)
        until(lambda sock=sock: sock.fileno() < 0, 20, "it is gone")
    assert len(server.map) == before


def test_what_is_no_http_is_counted_by_its_status(web):
    server = web()
    with socket.create_connection(server.port().getsockname(), 20) as connection:
        assert ask(connection, b"\x16\x03\x01 no request\r\n\r\n").startswith(b"HTTP/1.0 400")
    assert server.counted == ["400"]
