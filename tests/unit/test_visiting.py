"""Visits to other nodes: what is found at each step, and that they end in time, whatever is there."""

import contextlib
import errno
import os
import socket
import time

from bdserver.core.messages import Offers, Pong, Status
from bdserver.errors import Deadline, Forbidden, NobodyThere, PolicyMismatch
from bdserver.net import visiting
from bdserver.net.visiting import Whom, reach, visit_all
from tests.unit.canned import own


class Talk:
    """A conversation whose answers are in a table; an exception in it is raised."""

    def __init__(self, **answers):
        self.answers = {
            "PING": Pong(),
            "GIVEYOURSERVICES": Offers(time.time() + 30, [], 0),
            "STATUS": Status(own(), []),
        } | answers
        self.identity = None
        self.asked = []

    def ask(self, request, deadline):
        self.asked.append(request)
        answer = self.answers[request[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class Named(Talk):
    """Whose certificate says who it is."""

    def __init__(self, name, **answers):
        super().__init__(**answers)
        self.identity = type("Identity", (), {"name": name})


@contextlib.contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def nowhere():
    with listening() as address:
        return address


def visited(talk, whom=None, seconds=5.0):
    def call(address, deadline, name):
        if isinstance(talk, Exception):
            raise talk
        return talk

    with listening() as address:
        wanted = whom(address) if whom else Whom("b", address, address)
        return visit_all(call, [wanted], time.monotonic() + seconds)[0]


def test_a_node_that_is_well_tells_its_clock_and_takes_a_large_message():
    talk = Named("b")
    visit = visited(talk)
    assert visit.is_well and visit.name == "b" and 29 < visit.clock_off < 31 and visit.seconds < 1
    [padded] = [request for request in talk.asked if request[0] == "STATUS"]
    assert len(padded[1]["padding"]) == visiting.LARGE_BYTES


def test_of_an_address_alone_name_and_port_for_news_are_found_out():
    port = int(nowhere().rpartition(":")[2])
    visit = visited(Named("c", PING=Pong("", port)), lambda address: Whom("", address))
    assert visit.name == "c" and visit.news == f"127.0.0.1:{port}: connection refused"
    assert visited(Named("c", PING=Deadline("late")), lambda address: Whom("", address)).is_well
    assert visited(Talk(), lambda address: Whom("", address)).is_well


def test_each_step_that_fails_is_told():
    assert visited(Forbidden("revoked")).step == "call" and visited(Forbidden("revoked")).code == "forbidden"
    assert visited(Talk(GIVEYOURSERVICES=Deadline("late"))).step == "ask"
    assert visited(Talk(GIVEYOURSERVICES=PolicyMismatch("no"))).step == "call"
    assert visited(Talk(STATUS=Deadline("late"))).step == "large"
    visit = visited(Talk(), lambda address: Whom("b", nowhere(), nowhere()))
    assert (visit.code, visit.step) == ("refused", "call") and "connection refused" in visit.news


def test_when_there_is_no_time_the_ports_are_all_that_is_tried(monkeypatch):
    monkeypatch.setattr(visiting, "BEGIN_SHARE", -1.0)
    talk = Talk()
    clock = iter([0.0, *[1000.0] * 100])
    monkeypatch.setattr(visiting.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(visiting, "reach", lambda addresses, deadline: {})
    monkeypatch.setattr(visiting, "visit", lambda *arguments: talk.ask(["PING"], 0.0))
    clock = iter([0.0, 0.0, 0.0, 1.0, 2.0])
    [visit] = visit_all(lambda *arguments: talk, [Whom("b", "127.0.0.1:1", "127.0.0.1:2")], 10.0)
    assert visit.is_well and talk.asked == []


def test_ports_are_reached_all_at_once_and_those_that_are_not_say_why():
    began = time.monotonic()
    with listening() as address:
        closed = nowhere()
        failed = reach([address, address, closed, "no-such-host.invalid:1"], began + 2)
    assert failed.keys() == {closed, "no-such-host.invalid:1"} and "refused" in str(failed[closed])
    assert time.monotonic() - began < 5


def test_whoever_says_nothing_is_given_up_in_time(monkeypatch):
    class Never(socket.socket):
        def connect_ex(self, address):
            return 115  # EINPROGRESS: on its way for ever

    monkeypatch.setattr(visiting.socket, "socket", Never)
    monkeypatch.setattr(visiting.selectors.DefaultSelector, "select", lambda self, left: [])
    failed = reach(["127.0.0.1:1"], time.monotonic() + 0.05)
    assert str(failed["127.0.0.1:1"]) == "127.0.0.1:1: no answer"


def test_where_the_kernel_says_at_once_that_nobody_can_be_reached_that_is_told():
    broadcast = "255.255.255.255:9"  # to which no TCP connection leads
    [(address, error)] = reach([broadcast], time.monotonic() + 2).items()
    assert address == broadcast and type(error) is NobodyThere
    assert str(error).startswith(f"{broadcast}: ") and "no answer" not in str(error)


def test_without_a_descriptor_for_one_the_others_are_reached(monkeypatch):
    class Scarce(socket.socket):
        left = 1

        def __init__(self, *arguments):
            if Scarce.left == 0:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            Scarce.left -= 1
            super().__init__(*arguments)

    with listening() as address, listening() as other:
        monkeypatch.setattr(visiting.socket, "socket", Scarce)
        failed = reach([address, other], time.monotonic() + 2)
    assert {where: str(error) for where, error in failed.items()} == {other: f"{other}: Too many open files"}


def test_a_network_card_that_is_gone_since_its_address_was_looked_up_is_nobody_there(monkeypatch):
    monkeypatch.setattr(visiting.tcp, "resolve", lambda *_: [(socket.AF_INET6, ("fe80::1%no-such-card", 1, 0, 0))])
    [error] = reach(["[fe80::1]:1"], time.monotonic() + 2).values()
    assert type(error) is NobodyThere and str(error).startswith("[fe80::1]:1: ")
