"""The discoverer: what it does with each action, nudge and signal, among other nodes in memory and with real files."""

import logging
import os
import signal
import time

import pytest

from bdserver.core import nudges
from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip.actions import Ask, Probe, Push, Refused, Silent, Synchronise, Taken, There
from bdserver.core.membership import Record
from bdserver.core.messages import No, NoPong, Pong
from bdserver.errors import BadRequest, Deadline, NobodyThere, PolicyMismatch, TooBusy
from bdserver.errors import Refused as RefusedError
from bdserver.processes import discoverer as module
from bdserver.processes.discoverer import Discoverer, Talker
from tests.unit.standin import StandIn
from tests.unit.views import NOW

PATIENCE = 20.0  # of a test; each waits for what it wants, and none as long


@pytest.fixture
def node(tmp_path):
    node = StandIn(tmp_path, probe_interval=0.05)
    yield node
    node.close()


class Running:
    """A discoverer whose turns are those that a test takes."""

    def __init__(self, node):
        self.node = node
        wake, self.wake_write = os.pipe()
        life, self.life_write = os.pipe()
        os.set_blocking(wake, False)
        self.discoverer = Discoverer(node, wake, life)

    def until(self, is_so):
        """Turn until it is so."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < deadline, "it never came to that"
            assert self.discoverer.turn()

    def nudge(self, *said):
        os.write(self.wake_write, b"".join(map(nudges.encode, said)))

    @property
    def records(self):
        return self.node.cache.view().records

    def close(self):
        self.discoverer._pool.shutdown()
        self.discoverer._talker.connections.close()


@pytest.fixture
def running(node):
    running = Running(node)
    yield running
    running.close()


# --- talking ------------------------------------------------------------------------------------------------------

ACTIONS = [
    Probe("n0", "n0:9001", 1.0),
    Probe("n0", "n0:9001", 1.0, stays=True),
    Ask("n0", "n0:9001", "other", "other:9001", 1.0),
    Push("n0", "n0:9001", ("me",)),
    Synchronise("n0", "n0:9001"),
]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("error", "outcome", "of_helper"),
    [
        (PolicyMismatch("no"), There(), Silent(True, "no")),
        (TooBusy("full"), There(), Silent(True, "full")),
        (RefusedError("nobody listens"), Refused("nobody listens"), Silent(False, "nobody listens")),
        (NobodyThere("gone"), Silent(reason="gone"), Silent(reason="gone")),
        (Deadline("too late"), Silent(reason="too late"), Silent(reason="too late")),
        (BadRequest("what?"), Silent(reason="what?"), Silent(reason="what?")),
        (RuntimeError("oh"), Silent(reason="a bug"), Silent(reason="a bug")),
    ],
)
def test_what_an_error_says_of_the_node_and_that_one_of_a_helper_says_nothing(node, action, error, outcome, of_helper, caplog):
    node.peer("n0").instead = error
    came, wanted = Talker(node).carry_out(action), of_helper if isinstance(action, Ask) else outcome
    assert (type(came), came) == (type(wanted), wanted)
    assert ("met a bug" in caplog.text) == (came == Silent(reason="a bug"))


def test_a_probe_brings_the_digest_of_the_others_view_and_takes_news_along(node):
    peer = node.peer("n0")
    assert Talker(node).carry_out(Probe("n0", "n0:9001", 1.0)) == Pong(peer.view.digest())
    assert peer.words() == ["PING"]
    Talker(node).carry_out(Probe("n0", "n0:9001", 1.0, ("me",)))
    assert peer.told() == {"me"} and "me" in peer.view.records


def test_a_node_of_version_1_answers_without_a_digest(node):
    node.peer("n0").instead = lambda request: Pong()
    assert Talker(node).carry_out(Probe("n0", "n0:9001", 1.0)) == Pong()


def test_a_probe_that_stays_uses_one_connection_and_another_one_a_new_one(node):
    peer, talker = node.peer("n0"), Talker(node)
    for _ in range(3):
        talker.carry_out(Probe("n0", "n0:9001", 1.0, stays=True))
    assert peer.called == 1
    talker.carry_out(Probe("n0", "n0:9001", 1.0))
    assert peer.called == 2 and talker.connections.waiting() == []


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Pong(), There()),
        (NoPong("refused", "nobody listens"), Refused("n0 was refused too")),
        (NoPong("nobody-there", "x"), Silent(True, "n0 did not reach it either")),
    ],
)
def test_what_a_helper_says_of_the_other(node, answer, outcome):
    peer = node.peer("n0")
    peer.instead = lambda request: answer
    came = Talker(node).carry_out(Ask("n0", "n0:9001", "n1", "n1:9001", 1.0))
    assert (type(came), came) == (type(outcome), outcome)
    assert peer.asked == [["PROBE", "n1:9001"]]


def test_a_push_says_how_much_was_known_and_how_far_it_shall_go(node):
    peer = node.peer("n0")
    push = Push("n0", "n0:9001", ("me",), "n7")
    assert Talker(node).carry_out(push) == Taken(0)
    assert Talker(node).carry_out(push) == Taken(1)
    assert [request[1]["until"] for request in peer.asked] == ["n7", "n7"]


def test_a_policys_text_goes_behind_its_record_when_it_is_asked_for(node):
    text = "<Policy/>"
    from bdserver.core.policy import digest

    with node.cache.locked() as view:
        view.learn_policy(digest(text), text)
        view.describe(view.own._replace(policy=digest(text)), NOW)
    peer = node.peer("n0")
    Talker(node).carry_out(Push("n0", "n0:9001", ("me",)))
    assert peer.view.policies == {digest(text): text}


def test_after_a_round_both_know_the_same(node):
    peer = node.peer("n0", is_known=False)
    peer.view.merge(Record("far", "far:9001", (1, 0)), NOW)
    assert Talker(node).carry_out(Synchronise(None, "n0:9001")) == There()
    assert node.cache.view().records == peer.view.records and "far" in peer.view.records


def test_a_node_that_says_no_to_an_exchange_lives(node):
    node.peer("n0").instead = lambda request: No()
    assert Talker(node).carry_out(Synchronise("n0", "n0:9001")) == There()


def test_an_action_that_nobody_knows_is_a_bug_and_it_goes_on(node, caplog):
    assert Talker(node).carry_out(("PING",)) == Silent(reason="a bug") and "met a bug" in caplog.text


# --- the loop -----------------------------------------------------------------------------------------------------


def test_a_node_that_is_hinted_at_is_met(tmp_path):
    node = StandIn(tmp_path, hints="127.0.0.1:9001 n0:9001")
    peer = node.peer("n0", is_known=False)
    running = Running(node)
    running.until(lambda: "n0" in running.records)
    assert "me" in peer.view.records and node.heard.times().keys() <= {"n0"}
    running.close()
    node.close()


def test_news_of_ours_is_told(running):
    peer = running.node.peer("n0")
    running.until(lambda: "me" in peer.told())
    running.node.service("Echo")
    running.until(lambda: "Echo" in peer.view.records["me"].services)


def test_a_node_that_is_refused_is_suspected_and_dead_soon(running, caplog):
    caplog.set_level(logging.INFO)
    peer = running.node.peer("n0")
    running.until(lambda: "PING" in peer.words())
    peer.instead = RefusedError("nobody listens")
    peer.open[-1].hang_up()
    running.until(lambda: running.records["n0"].status == "dead")
    lines = [record.getMessage() for record in caplog.records]
    assert lines.index("n0 is suspect") < lines.index("n0 is dead")


def test_a_watched_node_that_hangs_up_is_probed_on_a_new_connection(running):
    running.discoverer._mind.watch.probe_interval = 1000.0  # its turn comes but once
    peer = running.node.peer("n0")
    running.until(lambda: running.discoverer._talker.connections.waiting())
    called = peer.called
    peer.open[-1].hang_up()
    running.until(lambda: peer.called > called)


def test_when_the_cache_is_locked_too_long_a_verdict_waits(running, caplog, monkeypatch):
    def locked():
        raise TooBusy("the lock was not to be had")

    peer = running.node.peer("n0")
    running.until(lambda: "PING" in peer.words())
    peer.instead = RefusedError("nobody listens")
    with monkeypatch.context() as patch:
        patch.setattr(running.node.cache, "locked", locked)
        running.until(lambda: "skipping a turn: the lock was not to be had" in caplog.messages)
        assert running.records["n0"].status == "alive"
    running.until(lambda: running.records["n0"].status == "dead")


def test_a_verdict_about_a_node_that_is_forgotten_meanwhile_is_none(running):
    running.discoverer._write([module.Verdict(False, "nobody"), module.Verdict(True, "nobody")])
    assert running.records.keys() == {"me"}


def test_a_connection_that_a_thread_closes_while_the_loop_waits_on_it_is_no_matter(running, monkeypatch):
    read, write = os.pipe()
    os.close(write)
    os.close(read)
    monkeypatch.setattr(running.discoverer._talker.connections, "waiting", lambda: [read])
    assert running.discoverer.turn()


def test_helpers_are_asked_before_anybody_is_accused(running):
    peer, helper = running.node.peer("n0"), running.node.peer("n1")
    helper.instead = lambda request: Pong() if request[0] == "PROBE" else None
    running.until(lambda: "PING" in peer.words() and "PING" in helper.words())
    peer.instead = NobodyThere("no answer")
    running.nudge(nudges.Hurry("n0"))
    running.until(lambda: ["PROBE", "n0:9001"] in helper.asked)
    assert running.records["n0"].status == "alive"


def test_it_ends_with_its_listener(running):
    os.close(running.life_write)
    deadline = time.monotonic() + PATIENCE
    while running.discoverer.turn():
        assert time.monotonic() < deadline


# --- nudges -------------------------------------------------------------------------------------------------------


@pytest.fixture
def calm(running):
    """A discoverer that has nothing to do of its own for long, and knows n0."""
    peer = running.node.peer("n0")
    mind = running.discoverer._mind
    running.until(lambda: "me" in peer.told() and not mind.news.is_any)
    mind.watch._probe_at = mind.rounds._round_at = time.monotonic() + 1000.0
    running.until(lambda: not running.discoverer._mind.news._pushing)
    peer.asked.clear()
    return running


def test_a_node_that_somebody_could_not_reach_is_probed_at_once(calm):
    peer = calm.node.peers["n0:9001"]
    called = peer.called
    calm.nudge(nudges.Hurry("n0"), nudges.Hurry("n0"), nudges.Hurry("nobody"))
    calm.until(lambda: "PING" in peer.words())
    assert peer.called == called + 1


def test_a_node_with_something_unexpected_is_visited(calm):
    peer = calm.node.peers["n0:9001"]
    peer.view.merge(Record("far", "far:9001", (1, 0)), NOW)
    calm.nudge(nudges.Visit("nobody"), nudges.Visit("n0"))
    calm.until(lambda: "far" in calm.records)
    assert set(peer.words()) == {"SYNCHRONIZE"}


def test_what_a_child_was_told_is_passed_on_around_the_ring(calm):
    peer = calm.node.peers["n0:9001"]
    calm.node.learn(Record("far", "127.0.0.1:1", (1, 0)))
    calm.nudge(nudges.Tell(EVERYBODY, ("far",)))
    calm.until(lambda: "far" in peer.view.records)
    assert "until" in next(request[1] for request in peer.asked if request[0] == "SYNCHRONIZE")


def test_a_look_finds_what_has_changed(calm):
    peer = calm.node.peers["n0:9001"]
    calm.node.learn(Record("far", "127.0.0.1:1", (1, 0)))
    calm.nudge(nudges.Look())
    calm.until(lambda: "far" in peer.view.records)


def test_a_nudge_that_another_reader_has_taken_is_no_nudge(calm):
    calm.discoverer._take_nudges()


# --- SIGHUP -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_signals():
    numbers = signal.SIGHUP, signal.SIGTERM, signal.SIGINT
    before, level = [signal.getsignal(each) for each in numbers], logging.getLogger().level
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    logging.getLogger().setLevel(level)


def test_what_sighup_changes_takes_effect_here_too(tmp_path, own_signals, monkeypatch):
    """The whole of it: `run`, a signal, and a node that is met because the new config has a hint at it."""
    monkeypatch.setattr(module.setproctitle, "setproctitle", lambda title: None)
    (tmp_path / "access.log").write_text("")
    node = StandIn(tmp_path, hints="first:9001", log_level="warning")
    logging.getLogger().setLevel(logging.WARNING)
    first, second = node.peer("first", is_known=False), node.peer("second", is_known=False)
    wake, wake_write = os.pipe()
    life, life_write = os.pipe()
    seen = []

    def hup(request):
        node.configure(hints="second:9001", log_level="debug", access_log=tmp_path / "access.log")
        os.kill(os.getpid(), signal.SIGHUP)
        first.instead = RefusedError("nobody listens")
        raise NobodyThere("gone")

    def end(request):
        seen.append(logging.getLogger().level)
        os.close(life_write)
        second.instead = None
        return second.answer(request)

    first.instead, second.instead = hup, end
    module.run(node, wake, life)
    assert seen == [logging.DEBUG]
    assert node.settings.hints == ("second:9001",) and node.settings.access_log == str(tmp_path / "access.log")
    for each in (wake, wake_write, life):
        os.close(each)
    node.close()


def test_connections_that_were_opened_with_the_old_keys_are_closed(running):
    peer = running.node.peer("n0")
    running.until(lambda: running.discoverer._talker.connections.waiting())
    running.discoverer._note_reload(signal.SIGHUP, None)
    called = peer.called
    running.until(lambda: peer.called > called)
