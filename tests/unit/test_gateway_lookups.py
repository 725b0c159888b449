"""The gateway's connections to its node."""

import threading

import pytest

from bdserver import api
from bdserver.core.messages import Mismatch, Nobody, Place, Pong
from bdserver.errors import CantFind, Deadline, PolicyMismatch, TooBusy
from bdserver.gateway.lookups import Lookups
from bdserver.net import dialling
from tests.unit.canned import Node

DETAILS = {"url": "http://10.0.0.2/", "node": "b", "service": "Echo", "phase": 1, "asked": []}


@pytest.fixture
def node(monkeypatch):
    node = Node(WHEREIS=Place("10.0.0.2", 8080, "axis", DETAILS), PING=Pong("d1"))
    monkeypatch.setattr(dialling, "dial_local", lambda path, deadline: node.dial(deadline))
    return node


def test_the_answer_is_that_of_bdwhereis_and_a_policy_goes_along(node):
    lookups = Lookups("/x.sock", 1, 5.0)
    assert lookups.whereis("Echo", "<Policy/>") == DETAILS and node.requests()[-1] == ["WHEREIS", "Echo", "<Policy/>"]
    assert lookups.ping() == "d1" and lookups.status().own["name"] == "alpha"
    lookups.close()


def test_nobody_and_mismatch_are_errors(node):
    lookups = Lookups("/x.sock", 1, 5.0)
    nothing = DETAILS | {"url": "", "node": "", "phase": 1}
    for answer, error in ((Nobody(nothing), CantFind), (Mismatch(nothing), PolicyMismatch), (Deadline("late"), Deadline)):
        node.answers["WHEREIS"] = answer
        with pytest.raises(error):
            lookups.whereis("Echo")


def test_connections_are_bounded_and_whoever_finds_none_is_told_so(node, monkeypatch):
    inside, go_on = threading.Semaphore(0), threading.Event()

    def slow(mesh, say):
        inside.release()
        assert go_on.wait(30)
        return DETAILS

    refused = []
    lookups = Lookups("/x.sock", 2, 0.02, lambda: refused.append("lookups_max"))
    monkeypatch.setattr(api.Mesh, "ask", slow)
    monkeypatch.setattr("bdserver.gateway.lookups.located", lambda service, answer: answer)
    busy = [threading.Thread(target=lookups.whereis, args=("Echo",)) for _ in range(2)]
    for thread in busy:
        thread.start()
        assert inside.acquire(timeout=30)
    with pytest.raises(TooBusy):
        lookups.whereis("Echo")
    assert refused == ["lookups_max"]
    go_on.set()
    for thread in busy:
        thread.join(30)
    assert lookups.whereis("Echo") == DETAILS


def test_an_earlier_deadline_counts(node):
    heard = []
    lookups = Lookups("/x.sock", 1, 5.0)
    lookups._free.queue[0].ask = lambda say: heard.append(say) or say(Talk(), 100.0)

    class Talk:
        def ask(self, request, deadline):
            heard.append(deadline)
            return Place("", 1, "", DETAILS)

    lookups.whereis("Echo", None, 3.0)
    assert heard[-1] == 3.0
