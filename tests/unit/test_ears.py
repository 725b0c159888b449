"""What the discoverer answers other nodes: PING, PROBE, SYNCHRONIZE, and that what came together is taken in together."""

import os
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from bdserver.core import exchange, membership, messages
from bdserver.core.exchange import EVERYBODY
from bdserver.core.membership import Record
from bdserver.core.messages import Exchanged, No, NoPong, Pong
from bdserver.core.policy import digest
from bdserver.core.view import View
from bdserver.errors import BadRequest, Deadline, NoSuchCommand, PolicyMismatch, Refused, TooBusy
from bdserver.processes import tellers
from bdserver.processes.callers import Slot
from bdserver.processes.ears import Ears
from tests.exchanges import synchronise
from tests.unit.peers import StandIn
from tests.unit.seals import Believing, believe
from tests.unit.views import NOW


class Hearing:
    """A node's ears, and what they do."""

    def __init__(self, folder):
        self.node = StandIn(folder)
        self.passed_on, self.pinged, self.charged = [], [], []
        self.ears = Ears(self.node, lambda *said: self.passed_on.append(said[:2]), lambda *said: self.pinged.append(said))

    def hear(self, request, name="n0"):
        """The slot of a request."""
        slot = Slot(lambda: None)
        caller = SimpleNamespace(link=SimpleNamespace(name=name), at_work=lambda: self.charged.append(name) or nullcontext())
        self.ears.answer(caller, request, slot)
        return slot

    def answer(self, request):
        slot = self.hear(request)
        self.ears.flush()
        return slot.said

    @property
    def view(self):
        return self.node.cache.view()


@pytest.fixture
def hearing(tmp_path):
    hearing = Hearing(tmp_path)
    yield hearing
    hearing.node.close()


def news_of(*names, until=None):
    view = View("n0")
    view.start(Record("n0", "n0:9001", (0, 0)), NOW)
    for name in names:
        view.merge(Record(name, f"{name}:9001", (1, 0)), NOW)
    return ["SYNCHRONIZE", exchange.push(view, list(names), until)]


def test_taking_in_and_answering_is_work_for_the_caller_alone(hearing):
    hearing.hear(news_of("n1"), "n0")
    hearing.hear(["SYNCHRONIZE", {"digest": "x"}], "n5")
    hearing.ears.flush()
    assert hearing.charged == ["n0", "n5", "n0", "n5"]


def test_a_ping_tells_the_digest_of_our_view(hearing):
    assert hearing.hear(["PING"]).said == Pong(hearing.view.digest())


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (Pong("x"), Pong()),
        (PolicyMismatch("no"), Pong()),
        (TooBusy("full"), Pong()),
        (Refused("nobody"), NoPong("refused", "it does not answer here either")),
        (Deadline("late"), NoPong("nobody-there", "it does not answer here either")),
    ],
)
def test_a_probe_pings_that_node_in_the_callers_place(hearing, result, answer):
    hearing.node.peer("n1")
    slot = hearing.hear(["PROBE", "n1:9001"])
    [(name, done)] = hearing.pinged
    assert name == "n1" and slot.said is None
    done(result)
    assert (type(slot.said), slot.said) == (type(answer), answer)


def test_a_probe_of_who_is_not_known_asks_nobody(hearing):
    assert hearing.hear(["PROBE", "192.0.2.1:22"]).said.code == "nobody-there" and hearing.pinged == []


@pytest.mark.parametrize("name", [name for name, row in messages.REQUESTS.items() if messages.NEWS not in row.ports])
def test_all_else_is_answered_at_the_callers_port_or_not_to_nodes(hearing, name):
    bodies = {"WHEREIS": ["x", None], "SPENT": [{"x": 1}], "FIND": ["x", [], 0], "MASSMESSAGE": [{}, [], ["GIVESERVICE", "x"]]}
    one = ["WILLYOUEXECUTE", "YOUWILLEXECUTE", "WILLYOUREPLICATE", "GIVESERVICE", "RENEW"]
    row = messages.REQUESTS[name]
    body = bodies.get(name, ["x"] if name in one else [])
    if "node" not in row.roles:
        with pytest.raises(messages.Forbidden):
            hearing.hear([name, *body])
    else:
        with pytest.raises(NoSuchCommand, match=f"{name} is answered at 127.0.0.1:9001"):
            hearing.hear([name, *body])


@pytest.mark.parametrize("request_", [["SYNCHRONIZE", {"records": 5}], ["SYNCHRONIZE", 3], ["SYNCHRONIZE"], "x"])
def test_nonsense_is_refused_at_once(hearing, request_):
    with pytest.raises(BadRequest):
        hearing.hear(request_)
    hearing.ears.flush()


def test_a_digest_alone_is_answered_without_a_lock(hearing, monkeypatch):
    monkeypatch.setattr(hearing.node.cache, "locked", None)
    said = hearing.answer(["SYNCHRONIZE", {"digest": hearing.view.digest()}])
    assert isinstance(said, Exchanged) and hearing.passed_on == []


def test_what_came_together_is_taken_in_with_one_lock_and_answered_each(hearing, monkeypatch):
    locks, real = [], hearing.node.cache.locked
    monkeypatch.setattr(hearing.node.cache, "locked", lambda *a: locks.append(1) or real(*a))
    slots = [hearing.hear(news_of(name), name) for name in ("a", "b", "a")]
    assert [slot.said for slot in slots] == [None] * 3
    hearing.ears.flush()
    assert len(locks) == 1 and {"a", "b"} <= hearing.view.records.keys()
    assert [slot.said.exchange.get("known", 0) for slot in slots] == [0, 0, 1]
    hearing.ears.flush()
    assert len(locks) == 1


def test_news_is_passed_on_as_far_as_was_asked_and_old_news_is_not(hearing):
    hearing.answer(news_of("a", until="n7"))
    assert hearing.passed_on == [(["a"], "n7")]
    hearing.answer(news_of("a", until="n7"))
    hearing.answer(news_of("b"))
    assert hearing.passed_on[1:] in ([], [([], EVERYBODY)]), "of others it is told by others"
    hearing.answer(news_of("n0"))
    assert hearing.passed_on[-1] == (["n0"], EVERYBODY), "what a node says of itself is for all"


def test_a_policy_that_is_lacking_is_asked_for_and_taken(hearing):
    record = membership.as_json(Record("n0", "n0:9001", (1, 0), policy=digest("<Policy/>")))
    said = hearing.answer(["SYNCHRONIZE", {"records": [record]}]).exchange
    assert said["unknown"] == [digest("<Policy/>")]
    hearing.answer(["SYNCHRONIZE", {"policies": {digest("<Policy/>"): "<Policy/>"}}])
    assert hearing.view.policies == {digest("<Policy/>"): "<Policy/>"}


def test_two_views_become_one_in_a_conversation(hearing):
    view = View("n0")
    view.start(Record("n0", "n0:9001", (0, 0)), NOW)
    for name in ("a", "b"):
        view.merge(Record(name, f"{name}:9001", (1, 0)), NOW)
    hearing.node.learn(Record("c", "c:9001", (1, 0)))
    synchronise(
        lambda: view,
        lambda theirs: exchange.absorb(view, theirs, NOW, "me", believe).answer,
        lambda say: exchange.checked(hearing.answer(["SYNCHRONIZE", say]).exchange),
    )
    assert view.digest() == hearing.view.digest() and {"a", "b", "c"} <= view.records.keys()


def test_with_no_time_for_it_the_answer_is_no(hearing):
    with hearing.node.cache.locked():
        began = time.monotonic()
        assert hearing.answer(news_of("a")) == No() and time.monotonic() - began < 2


def test_without_room_for_the_lock_the_answer_is_no_and_no_bug(hearing, caplog):
    path = hearing.node.cache.path + ".lock"
    os.unlink(path)
    os.mkdir(path)
    assert hearing.answer(news_of("a")) == No()
    assert "nothing is taken in" in caplog.text and "Traceback" not in caplog.text
    os.rmdir(path)
    assert isinstance(hearing.answer(news_of("a")), Exchanged)


def test_a_bug_is_told_and_the_loop_goes_on(hearing, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(exchange, "absorb", lambda *arguments: 1 / 0)
        said = hearing.answer(news_of("a"))
    assert isinstance(said, messages.Error) and "bug" in said.text and "ZeroDivisionError" in caplog.text
    assert isinstance(hearing.answer(news_of("a")), Exchanged) and "a" in hearing.view.records


class Doubting(Believing):
    """Believes nobody."""

    def doubt(self, record, certificate):
        return "its signature does not fit"


def test_a_caller_that_tells_too_much_is_answered_no_and_others_are_heard(hearing, monkeypatch):
    monkeypatch.setattr(tellers, "REFUSED_MAX", 3)
    hearing.node.proofs = Doubting()
    before = hearing.view
    said = hearing.answer(news_of("a", "b", "c", "d"))
    assert said.exchange == {"known": 0} and hearing.view is before and hearing.passed_on == []
    assert hearing.hear(news_of("a")).said == No() and hearing.hear(["PING"]).said == Pong(hearing.view.digest())
    assert isinstance(hearing.answer(["SYNCHRONIZE", {"digest": "x"}]), Exchanged), "what tells nothing is answered"
    hearing.node.proofs = Believing()
    slot = hearing.hear(news_of("a"), "n1")
    hearing.ears.flush()
    assert isinstance(slot.said, Exchanged) and "a" in hearing.view.records


def test_a_caller_whose_own_record_is_not_believed_is_told_so(hearing):
    hearing.node.proofs = Doubting()
    assert hearing.answer(news_of("n0")).exchange == {"known": 0, "refused": "its signature does not fit"}


def test_a_caller_may_say_that_it_refuses_ours(hearing):
    hearing.answer(["SYNCHRONIZE", {"refused": "it is not signed"}])
    hearing.node.heard.write(set(), 0.0, NOW)
    assert hearing.node.heard.report().refusals == {"n0": "it is not signed"}
    hearing.answer(["SYNCHRONIZE", {"digest": "another"}])
    hearing.answer(["SYNCHRONIZE", {"digest": hearing.view.digest()}])
    hearing.node.heard.write(set(), 0.0, NOW + 60)
    assert hearing.node.heard.report().refusals == {}, "it has the same records"
