"""Names of hosts, looked up beside a loop: here a queue, emptied by the test."""

import queue
import socket
import threading

import pytest

from bdserver.errors import NobodyThere
from bdserver.net import tcp
from bdserver.net.tcp import LOOK_UPS_MAX, found
from bdserver.processes import names as module
from bdserver.processes.names import Names
from tests.hosts import until

FOUND = [(socket.AF_INET, ("192.0.2.1", 9))]


class Server:
    """What a name server says, and when: a host answers once it is released."""

    def __init__(self):
        self.asked, self.released, self.lost = [], {}, set()

    def found(self, host, port, is_numeric=False):
        if is_numeric:
            return found(host, port, is_numeric)
        self.asked.append(host)
        assert self.released.setdefault(host, threading.Event()).wait(20)
        if host in self.lost:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return FOUND

    def release(self, *hosts):
        for host in hosts:
            self.released.setdefault(host, threading.Event()).set()


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setattr(tcp, "found", server.found)
    monkeypatch.setattr(tcp, "_looking", [])
    yield server
    server.release(*server.asked)


@pytest.fixture
def calls():
    return queue.SimpleQueue()


@pytest.fixture
def names(calls):
    names = Names(calls.put, lambda: names.changes.append(1))
    names.changes = []
    return names


def test_an_address_needs_nobody(names, server):
    assert names.addresses("192.0.2.1", 9) == FOUND and server.asked == []
    assert names.addresses("::1", 9)[0][0] == socket.AF_INET6


def test_a_name_is_looked_up_once_beside_the_loop_which_hears_when_it_is_found(names, server, calls):
    assert names.addresses("a", 9) is None and names.addresses("a", 9) is None
    server.release("a")
    calls.get(timeout=20)()
    assert names.changes == [1] and names.addresses("a", 9) == FOUND and server.asked == ["a"]


def test_a_name_that_nobody_knows_is_not_asked_for_again_at_once(names, server, calls, monkeypatch):
    server.lost.add("a")
    server.release("a")
    assert names.addresses("a", 9) is None
    calls.get(timeout=20)()
    for _ in range(3):
        with pytest.raises(NobodyThere, match="a: its name"):
            names.addresses("a", 9)
    assert server.asked == ["a"]


def test_what_was_found_is_used_while_it_is_looked_up_anew_and_what_was_lost_is_not(names, server, calls, monkeypatch):
    monkeypatch.setattr(module, "FOUND_SECONDS", -1.0)
    monkeypatch.setattr(module, "LOST_SECONDS", -1.0)
    server.lost.add("b")
    server.release("a", "b")
    for host in ("a", "b"):
        assert names.addresses(host, 9) is None
        calls.get(timeout=20)()
    assert names.addresses("a", 9) == FOUND and names.addresses("b", 9) is None
    for _ in range(2):
        calls.get(timeout=20)()
    assert sorted(server.asked) == ["a", "a", "b", "b"]


def test_a_few_at_once_and_one_that_hangs_holds_up_no_other(names, server, calls):
    hosts = [f"h{number}" for number in range(LOOK_UPS_MAX + 1)]
    for host in hosts:
        assert names.addresses(host, 9) is None
    server.release(hosts[1])
    calls.get(timeout=20)()
    until(lambda: len(server.asked) >= LOOK_UPS_MAX, 20, "the threads have begun")
    assert sorted(server.asked) == sorted(hosts[:-1])
    tcp._looking[1].join(20)
    assert names.addresses(hosts[1], 9) == FOUND and names.addresses(hosts[-1], 9) is None
    server.release(hosts[-1])
    calls.get(timeout=20)()
    assert names.addresses(hosts[-1], 9) == FOUND


def test_a_name_server_that_is_silent_for_ever_costs_so_many_threads_and_no_more(names, server, monkeypatch):
    hosts = [f"h{number}" for number in range(3 * LOOK_UPS_MAX)]
    for host in hosts:
        names.addresses(host, 9)
    monkeypatch.setattr(module, "PATIENCE", -1.0)  # they are given up
    for host in hosts[:LOOK_UPS_MAX]:
        with pytest.raises(NobodyThere, match="no name server says so"):
            names.addresses(host, 9)
    for host in hosts[LOOK_UPS_MAX:]:
        assert names.addresses(host, 9) is None
    until(lambda: len(server.asked) >= LOOK_UPS_MAX, 20, "the threads have begun")
    assert len(server.asked) == len(tcp._looking) == LOOK_UPS_MAX


def test_what_is_known_has_a_bound(names, server, calls, monkeypatch):
    monkeypatch.setattr(module, "NAMES_MAX", 2)
    for host in "abc":
        server.release(host)
        names.addresses(host, 9)
        calls.get(timeout=20)()
    assert len(names._known) == 1
