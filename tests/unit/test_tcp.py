"""TCP connections: to addresses that listen, refuse, or are silent, and with name servers that do or do not answer."""

import socket
import threading
import time

import pytest

from bdserver import errors
from bdserver.net import tcp
from bdserver.net.entrances import in_turn
from bdserver.net.tcp import connect, resolve
from tests.unit.sockets import address_of, soon


@pytest.fixture
def closed():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return address_of(sock)


@pytest.fixture
def silent():
    """An address that neither takes a connection nor refuses it: its backlog is full."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        callers = [socket.socket() for _ in range(3)]
        for each in callers:
            each.setblocking(False)
            each.connect_ex(sock.getsockname())
        yield address_of(sock)
        for each in callers:
            each.close()


def test_a_listening_address_is_reached(listening):
    with connect(address_of(listening), soon()) as sock:
        assert sock.getpeername() == listening.getsockname()


def test_nobody_listening_is_a_refusal(closed):
    with pytest.raises(errors.Refused, match=f"{closed}: connection refused"):
        connect(closed, soon())


def test_silence_costs_the_deadline_and_is_no_refusal(silent):
    started = time.monotonic()
    with pytest.raises(errors.NobodyThere, match=r"no answer in 0\.2 s") as caught:
        connect(silent, soon(0.2))
    assert time.monotonic() - started < 5 and type(caught.value) is errors.NobodyThere


def test_without_time_nobody_is_called(listening):
    with pytest.raises(errors.Deadline, match="no time left to call"):
        connect(address_of(listening), soon(0))


def test_no_address_is_a_bad_request():
    with pytest.raises(errors.BadRequest):
        connect("nonsense", soon())


def test_what_the_host_lacks_is_nobody(listening, monkeypatch):
    """A socket that can't even be made: no descriptor left, or no IPv6 in the kernel."""
    monkeypatch.setattr(socket, "socket", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    with pytest.raises(errors.NobodyThere, match="Too many open files"):
        connect(address_of(listening), soon())


# --- names --------------------------------------------------------------------------------------------------------


def a_name_of(monkeypatch, *addresses):
    """The name `many` stands for these addresses; every other is as it was."""
    real = socket.getaddrinfo

    def found(host, port, type=0, flags=0):
        if host != "many":
            return real(host, port, type=type, flags=flags)
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, type, 6, "", (*each.split(":")[:1], int(each.split(":")[1]))) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_of_several_addresses_the_first_that_takes_the_call_is_it(monkeypatch, listening, closed):
    a_name_of(monkeypatch, closed, address_of(listening), closed)
    with connect("many:1", soon()) as sock:
        assert sock.getpeername() == listening.getsockname()


def test_a_silent_address_leaves_time_for_those_behind_it(monkeypatch, listening, silent):
    a_name_of(monkeypatch, silent, address_of(listening))
    with connect("many:1", soon(1.0)) as sock:
        assert sock.getpeername() == listening.getsockname()


def test_when_none_takes_it_the_last_is_told(monkeypatch, silent, closed):
    a_name_of(monkeypatch, silent, closed)
    with pytest.raises(errors.Refused, match="many:1: connection refused"):
        connect("many:1", soon(0.4))


def test_so_many_addresses_are_tried_and_no_more(monkeypatch, listening, closed):
    a_name_of(monkeypatch, *[closed] * tcp.ADDRESSES_MAX, address_of(listening))
    with pytest.raises(errors.Refused):
        connect("many:1", soon())


def test_a_name_that_is_not_known_is_nobody(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(errors.NobodyThere, match="unknown.example: Name or service not known"):
        connect("unknown.example:1", soon())


def test_a_name_that_is_none_is_nobody():
    with pytest.raises(errors.NobodyThere, match="label"):
        resolve("a" * 64 + ".example", 1, soon())


@pytest.fixture
def silent_name_server(monkeypatch):
    """No name is answered for, until the test is over."""
    answers, real = threading.Event(), socket.getaddrinfo

    def slow(host, port, type=0, flags=0):
        if flags & socket.AI_NUMERICHOST:
            return real(host, port, type=type, flags=flags)
        answers.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(tcp, "_looking", [])
    yield
    answers.set()


def test_a_name_server_that_does_not_answer_costs_the_deadline_and_no_more(silent_name_server):
    started = time.monotonic()
    with pytest.raises(errors.NobodyThere, match="no name server said in time"):
        connect("slow.example:1", soon(0.2))
    assert time.monotonic() - started < 5


def test_a_name_server_that_never_answers_costs_so_many_threads_and_no_more(silent_name_server):
    for _ in range(tcp.LOOK_UPS_MAX):
        with pytest.raises(errors.NobodyThere, match="no name server said in time"):
            connect("slow.example:1", soon(0.01))
    for _ in range(5):
        with pytest.raises(errors.NobodyThere, match="names are being looked up already"):
            connect("slow.example:1", soon())
    assert [thread.is_alive() for thread in tcp._looking] == [True] * tcp.LOOK_UPS_MAX


def test_without_room_for_a_thread_a_name_is_not_known_now(silent_name_server, monkeypatch):
    def none_left(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(errors.NobodyThere, match="or there is no room for a thread"):
        connect("slow.example:1", soon())
    assert tcp._looking == []


def test_a_node_whose_name_nobody_says_leaves_time_for_the_one_behind_it(silent_name_server, listening):
    ways = [lambda until, where=where: connect(where, until) for where in ("slow.example:1", address_of(listening))]
    started = time.monotonic()
    reached, until = in_turn(ways, started + 2.0, lambda sock, until: (sock.getpeername(), until))
    assert reached == listening.getsockname() and until == started + 2.0 and time.monotonic() < until


def test_an_address_is_taken_as_it_is(monkeypatch):
    monkeypatch.setattr(threading, "Thread", None)  # none is needed
    assert resolve("127.0.0.1", 9, soon()) == [(socket.AF_INET, ("127.0.0.1", 9))]
    assert resolve("::1", 9, soon())[0][0] == socket.AF_INET6
