"""How the mesh is followed: what is known, and each change with a number."""

import threading

import pytest

from bdserver.core.messages import Status
from bdserver.errors import NobodyThere
from bdserver.gateway import follower as following
from bdserver.gateway.follower import Follower
from tests.unit.canned import own, seen, unvisited


class Mind:
    """A node's: `nodes` as it tells them, `digest`; an error instead when it is told so."""

    def __init__(self, *nodes):
        self.nodes, self.digest, self.looks, self.error = list(nodes), "d1", 0, None

    def ping(self):
        if self.error:
            raise self.error
        return self.digest

    def look(self):
        self.looks += 1
        return Status(own(), list(self.nodes))


@pytest.fixture
def mind():
    return Mind(seen("a"), unvisited("10.0.0.9:9001"))


@pytest.fixture
def follower(mind):
    return Follower(mind.ping, mind.look)


def facts(events):
    return [(event.number, event.facts["node"], event.facts["change"]) for event in events]


def test_before_the_first_look_nothing_is_known_and_that_is_said(follower):
    assert follower.nodes is None and follower.silence
    with pytest.raises(NobodyThere):
        follower.state()


def test_a_view_that_did_not_change_is_not_looked_at(follower, mind):
    for clock in (0.0, 1.0, 2.0):
        follower.turn(clock, clock)
    assert mind.looks == 1
    follower.turn(following.WHOLE_SECONDS, 31.0)
    assert mind.looks == 2, "but now and then"
    mind.digest = "d2"
    follower.turn(31.0, 31.0)
    assert mind.looks == 3
    mind.digest = ""  # of an older node
    follower.turn(32.0, 32.0)
    follower.turn(33.0, 33.0)
    assert mind.looks == 5


def test_changes_have_numbers_and_whoever_comes_back_hears_what_came_since(follower, mind):
    follower.turn(0.0, 0.0)
    assert follower.since(0, 0.0) == ([], 0) and list(follower.state()[0]) == ["a"]
    mind.nodes, mind.digest = [seen("a", services=()), seen("b")], "d2"
    follower.turn(1.0, 100.5)
    events, number = follower.since(0, 0.0)
    assert facts(events) == [(1, "b", "is new, alive, at 10.0.0.1:9001"), (2, "a", "offers Echo no longer")] and number == 2
    assert events[0].facts["at"] == 100.5 and events[0].facts["kind"] == "new"
    assert facts(follower.since(1, 0.0)[0]) == [(2, "a", "offers Echo no longer")]
    assert follower.state()[1] == 2


def test_whoever_missed_too_much_or_comes_from_elsewhere_looks_anew(follower, mind, monkeypatch):
    follower.turn(0.0, 0.0)
    for number in range(following.EVENTS_MAX + 2):
        mind.nodes, mind.digest = [seen("a", load=20 * (number % 2 == 0))], f"x{number}"
        follower.turn(1.0, 1.0)
    last = following.EVENTS_MAX + 2
    assert follower.since(None, 0.0) == follower.since(1, 0.0) == follower.since(last + 1, 0.0) == (None, last)
    assert len(follower.since(2, 0.0)[0]) == following.EVENTS_MAX


def test_a_node_that_does_not_answer_is_an_event_once_and_so_is_its_return(follower, mind):
    follower.turn(0.0, 0.0)
    mind.error = NobodyThere("it is not there")
    follower.turn(1.0, 1.0)
    follower.turn(2.0, 2.0)
    assert follower.silence == "it is not there" and follower.nodes, "what was known stays"
    mind.error = None
    follower.turn(3.0, 3.0)
    assert facts(follower.since(0, 0.0)[0]) == [
        (1, "this node", "does not answer: it is not there"),
        (2, "this node", "answers again"),
    ]


def test_services_are_known_by_any_capitals_and_by_what_stands_below(follower, mind):
    mind.nodes = [
        seen("a", services=("Echo", "a.B")), seen("d", services=("ECHO", "Lost"), status="dead"),
        seen("ill", services=(), unhealthy=["Sick"]),
    ]  # fmt: skip
    follower.turn(0.0, 0.0)
    assert follower.service("echo") == "Echo" and follower.service("Echo") == "Echo", "the living one before the dead one's"
    assert follower.has("lost") and follower.has("SICK") and not follower.has("b")
    assert follower.has_below("b") and not follower.has_below("Echo")
    assert follower.service("unknown") == "unknown"


def test_whoever_waits_is_woken_by_an_event(follower, mind):
    follower.turn(0.0, 0.0)
    heard = []
    waiting = threading.Thread(target=lambda: heard.append(follower.since(0, 30.0)))
    waiting.start()
    mind.nodes, mind.digest = [seen("a", draining=True)], "d2"
    follower.turn(1.0, 1.0)
    waiting.join(30.0)
    assert facts(heard[0][0]) == [(1, "a", "drains")]


def test_it_looks_until_it_is_stopped_and_survives_a_bug(follower, mind, monkeypatch, caplog):
    stop = threading.Event()
    monkeypatch.setattr(following, "POLL_SECONDS", 0.001)

    def look():
        if mind.looks == 0:
            mind.looks = 1
            raise RuntimeError("a bug")
        stop.set()
        return Status(own(), mind.nodes)

    follower._look = look
    follower.run(stop)
    assert list(follower.nodes) == ["a"] and "a bug" in caplog.text
