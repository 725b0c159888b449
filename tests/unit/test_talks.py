"""What the discoverer says to other nodes, and what it makes of the answers: talks with peers in memory."""

import pytest

from bdserver.core.gossip.actions import Ask, Probe, Push, Refused, Silent, Synchronise, Taken, There
from bdserver.core.membership import Record
from bdserver.core.messages import Exchanged, No, NoPong, Pong
from bdserver.core.policy import digest
from bdserver.errors import BadRequest, Deadline, NobodyThere, PolicyMismatch, TooBusy
from bdserver.errors import Refused as RefusedError
from bdserver.processes import tellers
from bdserver.processes.lines import Ourselves
from bdserver.processes.talks import Talks
from tests.unit.peers import StandIn, Straight
from tests.unit.views import NOW

NEWS = "n0:9002"  # where n0 hears news


@pytest.fixture
def node(tmp_path):
    node = StandIn(tmp_path)
    yield node
    node.close()


@pytest.fixture
def lines(node):
    return Straight(node)


@pytest.fixture
def outcome(node, lines):
    """What comes of an action."""

    def carry_out(action):
        came = []
        Talks(node, lines, lambda about, outcome: came.append((about, outcome))).start(action)
        [(about, result)] = came
        assert about is action
        return result

    return carry_out


def same(came, wanted):
    return (type(came), came) == (type(wanted), wanted)


ACTIONS = [
    Probe("n0", "n0:9001", 1.0),
    Ask("n0", "n0:9001", "other", "other:9001", 1.0),
    Push("n0", "n0:9001", ("me",)),
    Synchronise("n0", "n0:9001"),
    Synchronise(None, "n0:9001"),
]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("error", "wanted", "of_helper"),
    [
        (PolicyMismatch("no"), There(), Silent(True, "no")),
        (TooBusy("full"), There(), Silent(True, "full")),
        (RefusedError("nobody listens"), Refused("nobody listens"), Silent(False, "nobody listens")),
        (NobodyThere("gone"), Silent(reason="gone"), Silent(reason="gone")),
        (Deadline("too late"), Silent(reason="too late"), Silent(reason="too late")),
        (BadRequest("what?"), Silent(reason="what?"), Silent(reason="what?")),
        (Ourselves("it is us"), Silent(), Silent()),
    ],
)
def test_what_an_error_says_of_the_node_and_that_one_of_a_helper_says_nothing(node, outcome, action, error, wanted, of_helper):
    node.peer("n0").instead = error
    assert same(outcome(action), of_helper if isinstance(action, Ask) else wanted)


@pytest.mark.parametrize("action", ACTIONS[:-1])
def test_a_node_that_is_forgotten_meanwhile_is_not_called(node, outcome, lines, action):
    assert same(outcome(action), Silent(reason="n0 is not known any more")) and not lines.started


def test_a_probe_brings_the_digest_of_the_others_view_and_takes_news_along(node, outcome, lines):
    peer = node.peer("n0")
    assert outcome(Probe("n0", "n0:9001", 1.0)) == Pong(peer.view.digest())
    assert peer.words() == ["PING"] and lines.started == [(NEWS, "n0", False)]
    outcome(Probe("n0", "n0:9001", 1.0, ("me",)))
    assert peer.told() == {"me"} and "me" in peer.view.records


def test_a_node_that_answers_lives_whatever_becomes_of_the_news(node, outcome):
    def instead(request):
        if request[0] == "SYNCHRONIZE":
            raise Deadline("too late")

    peer = node.peer("n0")
    peer.instead = instead
    assert outcome(Probe("n0", "n0:9001", 1.0, ("me",))) == Pong(peer.view.digest())


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (Pong(), There()),
        (NoPong("refused", "nobody listens"), Refused("n0 was refused too")),
        (NoPong("nobody-there", "x"), Silent(True, "n0 did not reach it either")),
    ],
)
def test_what_a_helper_says_of_the_other_on_a_line_of_its_own(node, outcome, lines, answer, wanted):
    peer = node.peer("n0")
    peer.instead = lambda request: answer
    assert same(outcome(Ask("n0", "n0:9001", "n1", "n1:9001", 1.0)), wanted)
    assert peer.asked == [["PROBE", "n1:9001"]] and lines.started == [(NEWS, "n0", True)]


def test_a_push_says_how_much_was_known_and_how_far_it_shall_go(node, outcome):
    peer = node.peer("n0")
    push = Push("n0", "n0:9001", ("me",), "n7")
    assert same(outcome(push), Taken(0)) and same(outcome(push), Taken(1))
    assert [request[1]["until"] for request in peer.asked] == ["n7", "n7"]


def test_a_policys_text_goes_behind_its_record_when_it_is_asked_for(node, outcome):
    text = "<Policy/>"
    with node.cache.locked() as view:
        view.learn_policy(digest(text), text)
        view.describe(view.own._replace(policy=digest(text)), NOW)
    peer = node.peer("n0")
    outcome(Push("n0", "n0:9001", ("me",)))
    assert peer.view.policies == {digest(text): text}


def test_after_a_round_both_know_the_same(node, outcome, lines):
    peer = node.peer("n0")
    peer.view.merge(Record("far", "far:9001", (1, 0)), NOW)
    assert same(outcome(Synchronise("n0", "n0:9001")), There()) and lines.started == [(NEWS, "n0", False)]
    assert node.cache.view().records == peer.view.records and "far" in peer.view.records


def test_at_a_hinted_address_the_way_to_the_port_for_news_is_asked_first(node, outcome, lines):
    peer = node.peer("n0", is_known=False)
    assert same(outcome(Synchronise(None, "n0:9001")), There()) and "n0" in node.cache.view().records
    assert lines.started == [("n0:9001", None, False), ("n0:9001", "is let go", False), (NEWS, None, False)]
    assert peer.words()[0] == "PING"


def test_a_hint_may_lead_to_the_port_for_news_itself(node, outcome, lines):
    node.peer("n0", is_known=False)
    assert same(outcome(Synchronise(None, NEWS)), There()) and "n0" in node.cache.view().records
    assert lines.started == [(NEWS, None, False)] * 2


def test_a_node_that_says_no_to_an_exchange_lives(node, outcome):
    node.peer("n0").instead = lambda request: No()
    assert same(outcome(Synchronise("n0", "n0:9001")), There())


def test_a_record_that_names_a_port_for_news_is_called_there(node, outcome, lines):
    peer = node.peer("n0", is_known=False)
    node.learn(peer.view.own._replace(gossip_port=7))
    outcome(Probe("n0", "n0:9001", 1.0))
    assert lines.started == [("n0:7", "n0", False)]


def test_what_comes_while_the_cache_is_locked_by_others_is_no_fault_of_theirs(node, outcome, monkeypatch):
    def locked(seconds):
        raise TooBusy("the lock was not to be had")

    node.peer("n0").view.merge(Record("far", "far:9001", (1, 0)), NOW)
    monkeypatch.setattr(node.cache, "locked", locked)
    assert same(outcome(Synchronise("n0", "n0:9001")), There())


def refusals(node):
    node.heard._written_at = 0.0
    node.heard.write(set(), 0.0, NOW)
    return node.heard.report().refusals


@pytest.mark.parametrize(
    "action",
    [
        Push("n0", "n0:9001", ("me",)),
        Probe("n0", "n0:9001", 1.0, ("me",)),
        Synchronise("n0", "n0:9001"),
        Synchronise(None, "n0:9001"),
    ],
)
def test_who_refuses_our_record_is_noted_until_it_takes_it_in(node, outcome, action):
    peer = node.peer("n0")
    with node.cache.locked() as view:
        view.start(view.own, NOW + 2 * 86400 + 5)
    outcome(action)
    assert refusals(node) == {"n0": "its version is 2.0 days ahead of our clock"} and "me" not in peer.view.records
    with node.cache.locked() as view:
        view.start(view.own, NOW)
    outcome(action)
    assert "me" in peer.view.records
    outcome(action)  # a round is sure of it when both say the same
    assert refusals(node) == {}


def test_of_others_news_nobody_refuses_ours(node, outcome):
    peer = node.peer("n0")
    peer.instead = lambda request: Exchanged({"refused": "no", "known": 0})
    outcome(Push("n0", "n0:9001", ("n0",)))
    assert refusals(node) == {}


def test_a_node_that_tells_too_much_is_not_heard_out_and_lives(node, outcome, monkeypatch):
    monkeypatch.setattr(tellers, "PROVED_MAX", 1)
    peer = node.peer("n0")
    peer.view.merge(Record("far", "far:9001", (1, 0)), NOW)
    talks = Talks(node, Straight(node), lambda *it: None)
    for _ in range(2):
        talks.start(Synchronise("n0", "n0:9001"))
        peer.view.merge(Record("farther", "farther:9001", (1, 0)), NOW)
    assert "far" in node.cache.view().records and "farther" not in node.cache.view().records
