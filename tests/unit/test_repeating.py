"""A look-up that comes again in the same words: it says and counts what each would that is worked out by itself, and no change is
missed between two of them."""

import os
import time

import pytest

from bdserver import errors
from bdserver.core.messages import Mismatch, Nobody, Place, encoded
from bdserver.core.roles import CLIENT
from bdserver.processes import child
from bdserver.processes.describing import Told, update_own
from tests.hosts import until
from tests.unit import test_child
from tests.unit.nodes import a_node, acquaint, document
from tests.unit.test_answers_routing import (
    alone,
    alone_and_draining,
    hits,
    one_elsewhere,
    one_elsewhere_without_room,
    settled,
    two,
)

WHEREIS = ["WHEREIS", "Echo", None]
own_signals = test_child.own_signals
SECONDS = 10.0

pytestmark = pytest.mark.usefixtures("own_signals")


@pytest.fixture
def worked_out(monkeypatch):
    """The requests that were worked out, in their order."""
    found, answer = [], child.answer
    monkeypatch.setattr(child, "answer", lambda session, message: found.append(message) or answer(session, message))
    return found


def served_to(node, talk, **options):
    test_child.be_its_listener(node)
    return test_child.served_to(node, lambda conversation: talk(lambda request=WHEREIS: ask(conversation, request)), **options)


def ask(conversation, request):
    return conversation.ask(request, time.monotonic() + SECONDS)


def a_holder(tmp_path, **settings):
    return settled(a_node(tmp_path, receiver_threshold=1000, **settings).offer("Echo"))


@pytest.mark.parametrize("mesh", [alone, alone_and_draining, one_elsewhere, one_elsewhere_without_room, two])
def test_the_answers_and_all_that_is_counted_are_those_of_look_ups_that_are_each_worked_out(tmp_path, monkeypatch, mesh):
    def told(folder):
        folder.mkdir()
        node = settled(mesh(folder))
        said = served_to(node, lambda asks: [asks() for _ in range(40)], role=CLIENT)
        answers = [(type(each), each.details["node"], each.details["phase"], each.details["url"]) for each in said]
        words = [[(asked["node"], asked["answer"]) for asked in each.details["asked"]] for each in said]
        kept = [(each["node"], each["phase"], each["why"], each["client"]) for each in node.lookups.recent()]
        buckets = node.counters.told()
        return answers, words, kept, buckets["requests"], buckets["lookups"], hits(node)

    again = told(tmp_path / "again")
    monkeypatch.setattr(child._Conversation, "_answered_again", lambda self: False)
    assert again == told(tmp_path / "each")


def test_only_the_first_is_worked_out_and_each_is_a_hit_that_is_noted(tmp_path, worked_out):
    node = a_holder(tmp_path)
    said = served_to(node, lambda asks: [asks() for _ in range(9)], role=CLIENT)
    assert {each.host for each in said} == {"ME"} and len(worked_out) <= 2  # the first search finds who has it
    assert hits(node) == 9 and len(node.lookups.recent()) == 9
    assert node.counters.value("requests", "WHEREIS", "place") == node.counters.value("lookups", "1", "question") == 9


def test_a_ticket_is_spent_for_each_and_no_more(tmp_path, worked_out):
    node = settled(one_elsewhere(tmp_path))
    served_to(node, lambda asks: [asks() for _ in range(40)], role=CLIENT)
    by_ticket, asked = (node.counters.value("lookups", "1", by) for by in ("ticket", "question"))
    assert by_ticket + asked == 40 and by_ticket > 20 and len(worked_out) < 20
    holder = next(each for each in node.network.nodes.values() if each is not node)
    assert hits(holder) == 40  # what was not spent was taken back at the end


def withdraw(node):
    for name in ("Echo.bdcert", "Echo"):
        os.unlink(os.path.join(node.settings.services_dir, name))


def edit(node):
    node.offer("Echo", url="https://elsewhere/Echo")
    node.services.look()  # as the discoverer does


def meet_another(node):
    other = a_node(node.network.folder, "other", receiver_threshold=1000).offer("Echo")
    acquaint(node, other)


@pytest.mark.parametrize(
    ("change", "is_so"),
    [
        (withdraw, lambda said: isinstance(said, Nobody)),
        (edit, lambda said: said.details["url"] == "https://elsewhere/Echo"),
        (lambda node: update_own(node, Told(draining=True)), lambda said: said.details["phase"] == 3),
        (meet_another, lambda said: isinstance(said, Place)),
    ],
)
def test_what_has_changed_between_two_of_them_counts_at_once(tmp_path, worked_out, change, is_so):
    node = a_holder(tmp_path)

    def talk(asks):
        before = [asks() for _ in range(5)]
        count = len(worked_out)
        change(node)
        return before, asks(), len(worked_out) - count

    before, after, anew = served_to(node, talk, role=CLIENT)
    assert all(encoded(each)[0] == "ME" for each in before) and is_so(after) and anew == 1


def test_who_is_revoked_between_two_of_them_is_refused(tmp_path):
    path = tmp_path / "revoked"
    path.write_text("# nobody\n")
    node = a_holder(tmp_path, revoked=str(path))

    def talk(asks):
        for _ in range(5):
            asks()
        path.write_text("joe\n")
        asks()

    said = served_to(node, talk, serial=7)
    assert isinstance(said, errors.Forbidden) and "revoked here" in str(said) and hits(node) == 5


def test_an_opening_between_two_of_them_counts(tmp_path):
    node = a_holder(tmp_path, policy=document("A"))

    def talk(conversation):
        opening = conversation._opening
        conversation._opening = opening._replace(policy_text=document("A"))
        said = [ask(conversation, WHEREIS) for _ in range(5)]
        conversation._opening, conversation._opened_for = opening._replace(policy_text=document("B")), None
        with pytest.raises(errors.PolicyMismatch):
            ask(conversation, WHEREIS)
        return said

    test_child.be_its_listener(node)
    assert not any(isinstance(each, Mismatch) for each in test_child.served_to(node, talk, role=CLIENT)) and hits(node) == 5


def test_a_request_between_two_of_them_makes_the_next_a_first_one(tmp_path, worked_out):
    node = a_holder(tmp_path)
    served_to(node, lambda asks: [asks(request) for request in [WHEREIS] * 4 + [["PING"]] * 3 + [WHEREIS] * 4], role=CLIENT)
    assert worked_out[-4:] == [["PING"]] * 3 + [WHEREIS] and hits(node) == 8


def test_what_fails_is_met_again_and_told(tmp_path, monkeypatch):
    node = a_holder(tmp_path)

    def broken(*arguments):
        raise RuntimeError("of the test")

    def talk(asks):
        for _ in range(5):
            asks()
        monkeypatch.setattr(node.load, "is_overloaded", broken)
        asks()

    said = served_to(node, talk, role=CLIENT)
    assert isinstance(said, errors.BDError) and "bug" in str(said) and hits(node) == 5


def test_while_the_caller_is_silent_the_others_see_what_it_asked(tmp_path):
    node = a_holder(tmp_path)

    def talk(asks):
        for _ in range(5):
            asks()
        until(lambda: node.counters.value("requests", "WHEREIS", "place") == 5, SECONDS, "all are counted")
        return len(node.lookups.recent())

    assert served_to(node, talk, role=CLIENT) == 5


def test_a_child_without_its_listener_answers_no_more(tmp_path):
    node = a_holder(tmp_path)

    def talk(asks):
        for _ in range(5):
            asks()
        node.life = node.life._replace(listener_pid=1 << 22)
        asks()

    assert isinstance(served_to(node, talk, role=CLIENT), errors.NobodyThere) and hits(node) == 5
