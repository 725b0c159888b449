"""A session: one look a request, deadlines, whom it asks, and packages on their way."""

import io
import time

import pytest

from bdserver import errors
from bdserver.core import messages
from bdserver.core.messages import Found, Package, Pong
from bdserver.core.roles import CLIENT, NODE
from bdserver.core.wire import VERSION
from bdserver.files.settings import Settings
from bdserver.processes.answers import ANSWERS, answer, ask_ourselves
from bdserver.processes.session import DOUBTED_SECONDS, KEPT_MAX, REQUEST_SECONDS_MAX, Caller, Session
from tests.unit.descriptors import none_left
from tests.unit.nodes import a_mesh, a_node


def nothing(length, file, deadline):
    """No package follows."""


def a_session(node, receive=nothing):
    return Session(node, Caller(CLIENT, "joe", "192.0.2.7"), receive, ask_ourselves)


def test_a_caller_is_named_in_logs_by_its_role_and_host():
    assert str(Caller(CLIENT, "joe", "192.0.2.7")) == "client joe from 192.0.2.7"


# --- time ---------------------------------------------------------------------------------------------------------


def test_a_request_has_its_own_time_and_never_more_than_a_child_gives(tmp_path):
    session = a_session(a_node(tmp_path, request_timeout=7.0))
    assert 6 < session.left() <= 7
    session.begin(3.0)
    assert 2 < session.left() <= 3
    session.begin(1e9)
    assert REQUEST_SECONDS_MAX - 1 < session.left() <= REQUEST_SECONDS_MAX


def test_without_time_nothing_is_begun(tmp_path):
    session = a_session(a_node(tmp_path))
    session.begin(0.0)
    with pytest.raises(errors.Deadline, match="no time left for PING"):
        answer(session, ["PING"])


def test_the_very_message_that_was_the_last_one_is_checked_once_under_the_settings_in_force(tmp_path, monkeypatch):
    node = a_node(tmp_path)
    session, seen = a_session(node), []

    def check(message, role, version):
        seen.append((message, role, version))
        return messages.REQUESTS[message[0]], message[1:]

    monkeypatch.setattr("bdserver.processes.session.messages.check", check)
    first, second = ["PING"], ["GIVEYOURSERVICES"]
    for message in (first, first, second, second, first, ["PING"]):
        assert session.checked(message)[0].name == message[0]
    assert [message for message, _, _ in seen] == [first, second, first, ["PING"]]
    node.settings, last = Settings(node.settings.path, node.settings.given), seen[-1][0]
    session.checked(last)
    assert seen[4:] == [(last, CLIENT, VERSION)]


def test_what_is_no_request_is_refused_each_time(tmp_path):
    session, message = a_session(a_node(tmp_path)), ["WHEREIS", 5, None]
    for _ in range(2):
        with pytest.raises(errors.BadRequest):
            session.checked(message)


# --- one look -----------------------------------------------------------------------------------------------------


def test_what_a_request_has_seen_stays_until_it_looks_again_or_the_next_begins(tmp_path):
    node = a_node(tmp_path)
    session = a_session(node)
    session.begin(5.0)
    assert session.services() == {} and session.view().own.services == {}
    node.offer("Echo")
    assert session.services() == {} and session.view().own.services == {}
    assert list(session.look_again().own.services) == list(session.services()) == ["Echo"]
    node.services.withdraw("Echo")
    assert "Echo" in session.services()
    session.begin(5.0)
    assert session.services() == {}


def test_what_is_owed_is_done_once_after_the_answer(tmp_path):
    session, done = a_session(a_node(tmp_path)), []
    session.later.append(lambda: done.append(1))
    session.end()
    session.end()
    assert done == [1]


# --- asking -------------------------------------------------------------------------------------------------------


def test_another_node_is_asked_on_one_connection_until_the_caller_hangs_up(tmp_path):
    node, other = a_mesh(tmp_path, "me", "other")
    session = a_session(node)
    for _ in range(3):
        assert isinstance(session.ask("other", ["PING"], 1.0), Pong)
    assert node.network.called == [other.address]
    session.close()
    session.ask("other", ["PING"], 1.0)
    assert len(node.network.called) == 2


def test_as_many_connections_are_kept_as_a_child_may(tmp_path):
    node, *others = a_mesh(tmp_path, *(f"n{number:02}" for number in range(KEPT_MAX + 2)))
    session = a_session(node)
    for _ in range(2):
        for other in others[: KEPT_MAX + 1]:
            session.ask(other.name, ["PING"], 1.0)
    assert len(node.network.called) == 2 * (KEPT_MAX + 1)  # each of the second turn had been let go for another
    session.ask(others[KEPT_MAX].name, ["PING"], 1.0)
    assert len(node.network.called) == 2 * (KEPT_MAX + 1)


def test_itself_a_node_asks_as_the_node_that_it_is(tmp_path):
    session = a_session(a_node(tmp_path).offer("Echo"))
    assert session.ask("me", ["WILLYOUEXECUTE", "Echo"], 1.0).url and session.node.network.called == []
    with pytest.raises(errors.Forbidden):
        answer(session, ["WILLYOUEXECUTE", "Echo"])  # what its caller, a client, may not
    with pytest.raises(errors.BadRequest):
        session.ask("me", ["WILLYOUEXECUTE", "../x"], 1.0)


def test_a_question_stands_while_others_are_asked_and_its_answer_is_heard(tmp_path):
    node, slow, other = a_mesh(tmp_path, "me", "slow", "other")
    session = a_session(node)
    node.network.hang(slow.address)
    with pytest.raises(errors.Deadline, match="slow has not answered yet"):
        session.put("slow", ["PING"], 0.1, 1.0)
    assert isinstance(session.put("other", ["PING"], 0.1, 1.0), Pong) and session.hear(0.0) is None
    node.network.wake(slow.address)
    name, said = session.hear(1.0)
    assert name == "slow" and isinstance(said, Pong) and session.hear(1.0) is None
    session.ask("slow", ["PING"], 1.0)
    assert node.network.called == [slow.address, other.address]


def test_whoever_is_waited_for_when_the_answer_is_there_is_hung_up_on_and_gives_back(tmp_path):
    node, slow = a_mesh(tmp_path, "me", "slow")
    slow.offer("Echo")
    session = a_session(node)
    node.network.hang(slow.address)
    with pytest.raises(errors.Deadline):
        session.put("slow", ["WILLYOUEXECUTE", "Echo"], 0.1, 1.0)
    session.end()
    node.network.wake(slow.address)
    with open(slow.hitlog.path("Echo")) as log:
        assert [line.split()[0] for line in log] == ["HIT", "BACK"]
    assert session.hear(1.0) is None


def test_whoever_is_asked_once_more_is_waited_for_once(tmp_path):
    node, slow = a_mesh(tmp_path, "me", "slow")
    slow.offer("Echo")
    session = a_session(node)
    node.network.hang(slow.address)
    for command in ("WILLYOUEXECUTE", "YOUWILLEXECUTE"):
        with pytest.raises(errors.Deadline):
            session.put("slow", [command, "Echo"], 0.1, 1.0)
    node.network.wake(slow.address)
    assert session.hear(1.0)[0] == "slow" and session.hear(1.0) is None
    with open(slow.hitlog.path("Echo")) as log:
        assert [line.split()[0] for line in log] == ["HIT", "BACK", "HIT"]


def test_whoever_breaks_off_while_it_is_waited_for_is_passed_over(tmp_path):
    node, slow = a_mesh(tmp_path, "me", "slow")
    session = a_session(node)
    node.network.hang(slow.address)
    with pytest.raises(errors.Deadline):
        session.put("slow", ["PING"], 0.1, 1.0)
    node.network.trouble[slow.address] = errors.NobodyThere("broke off")
    node.network.wake(slow.address)
    assert session.hear(1.0) is None


@pytest.mark.parametrize(("role", "kinds"), [(NODE, ["HIT", "BACK"]), (CLIENT, ["HIT"])])
def test_only_what_a_node_asked_for_itself_is_given_back_and_once(tmp_path, role, kinds):
    node = a_node(tmp_path).offer("Echo")
    session = Session(node, Caller(role, "joe", "192.0.2.7"), nothing, ask_ourselves)
    session.begin(5.0)
    answer(session, ["WILLYOUEXECUTE", "Echo"] if role == NODE else ["WHEREIS", "Echo", None])
    session.take_back(), session.take_back()
    with open(node.hitlog.path("Echo")) as log:
        assert [line.split()[0] for line in log] == kinds


def test_what_was_agreed_to_before_the_last_request_is_not_given_back(tmp_path):
    node = a_node(tmp_path).offer("Echo")
    session = Session(node, Caller(NODE, "joe", "192.0.2.7"), nothing, ask_ourselves)
    session.begin(5.0)
    answer(session, ["WILLYOUEXECUTE", "Echo"])
    session.begin(5.0)
    answer(session, ["WHEREIS", "Echo", None])  # which this node takes itself: the asker's own business
    session.take_back()
    with open(node.hitlog.path("Echo")) as log:
        assert [line.split()[0] for line in log] == ["HIT", "HIT"]


def test_who_was_silent_is_doubted_for_two_seconds(tmp_path, monkeypatch):
    session = a_session(a_node(tmp_path))
    session.doubt(["slow"])
    session.begin(5.0)
    assert list(session.doubted) == ["slow"]
    now = time.monotonic() + DOUBTED_SECONDS + 0.1
    monkeypatch.setattr(time, "monotonic", lambda: now)
    session.begin(5.0)
    assert list(session.doubted) == []


def test_who_is_not_known_or_not_in_time_or_not_there_is_silent(tmp_path):
    node, other = a_mesh(tmp_path, "me", "other")
    session = a_session(node)
    with pytest.raises(errors.NobodyThere, match="nobody of that name is known here"):
        session.ask("stranger", ["PING"], 1.0)
    node.network.trouble[other.address] = errors.Deadline("late")
    with pytest.raises(errors.NobodyThere, match="other did not answer in time"):
        session.ask("other", ["PING"], 1.0)
    session.begin(0.0)
    with pytest.raises(errors.Deadline, match="late"):
        session.ask("other", ["PING"], 1.0)


def test_a_connection_that_broke_is_dialled_anew(tmp_path):
    node, _other = a_mesh(tmp_path, "me", "other")
    session, talks = a_session(node), []
    dial = node.network.dial
    node.dial = lambda *arguments: talks.append(dial(*arguments)) or talks[-1]
    session.ask("other", ["PING"], 1.0)
    talks[0].close()
    assert isinstance(session.ask("other", ["PING"], 1.0), Pong) and len(talks) == 2


# --- packages -----------------------------------------------------------------------------------------------------


def test_a_package_behind_an_answer_is_in_its_file(tmp_path):
    node, other = a_mesh(tmp_path, "me", "other")
    other.offer("Echo", b"x" * 70_000)
    session = a_session(node)
    for request, kind in ((["GIVESERVICE", "Echo"], Package), (["FIND", "Echo", [], 0], Found)):
        said = session.ask("other", request, 5.0)
        with said.file as file:
            assert isinstance(said, kind) and len(file.read()) == said.described["bytes"] > 70_000
    other.offer("Url", None, url="http://h/")
    assert session.ask("other", ["FIND", "Url", [], 0], 5.0).file is None
    assert node.scratch == []


def test_a_package_that_follows_a_request_is_taken_whole(tmp_path):
    def receive(length, file, deadline):
        file.write(b"a" * length)
        assert deadline == session.deadline

    session = a_session(a_node(tmp_path), receive)
    with session.receive({"bytes": 3, "sha256": ""}) as file:
        assert file.read() == b"aaa"


@pytest.mark.parametrize(
    ("described", "error"),
    [
        ({"bytes": 11, "sha256": ""}, errors.TooLarge),
        ({"bytes": -1, "sha256": ""}, errors.BadRequest),
        ({"bytes": 1}, errors.BadRequest),
    ],
)
def test_a_package_that_is_too_large_or_not_declared_is_not_begun(tmp_path, described, error):
    with pytest.raises(error):
        a_session(a_node(tmp_path, package_bytes_max=10)).receive(described)


def test_as_large_as_a_package_may_be_it_is_taken(tmp_path):
    assert a_session(a_node(tmp_path, package_bytes_max=10)).checked_length({"bytes": 10, "sha256": ""}) == 10


def test_of_a_package_that_does_not_come_nothing_is_left(tmp_path):
    def receive(length, file, deadline):
        raise errors.NobodyThere("cut")

    node = a_node(tmp_path)
    with none_left(), pytest.raises(errors.NobodyThere):
        a_session(node, receive).receive({"bytes": 3, "sha256": ""})
    assert node.scratch == []


def test_a_giver_that_declares_too_much_is_hung_up_on(tmp_path, monkeypatch):
    node, _other = a_mesh(tmp_path, "me", "other", package_bytes_max=10)
    monkeypatch.setitem(ANSWERS, "GIVESERVICE", lambda *_: Package({"bytes": 11, "sha256": ""}, io.BytesIO(b"x" * 11)))
    session = a_session(node)
    with pytest.raises(errors.TooLarge):
        session.ask("other", ["GIVESERVICE", "Echo"], 5.0)
    session.ask("other", ["PING"], 5.0)
    assert len(node.network.called) == 2


def test_a_question_has_at_most_the_time_that_its_caller_gave(tmp_path, monkeypatch):
    node, _ = a_mesh(tmp_path, "me", "other")
    left = []
    monkeypatch.setitem(ANSWERS, "PING", lambda session: left.append(session.left()) or Pong())
    session = a_session(node)
    session.begin(20.0)
    session.ask("other", ["PING"], 60.0)
    session.ask("other", ["PING"], 0.5)
    assert 1 < left[0] <= 20 and left[1] <= 0.5 and session.deadline > time.monotonic()
