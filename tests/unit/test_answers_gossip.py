"""SYNCHRONIZE, of nodes in memory: what the answer carries, what is told on, and what happens while the cache is locked."""

import threading
import time

import pytest

from bdserver import errors
from bdserver.core import exchange, membership
from bdserver.core.messages import Exchanged, No
from bdserver.core.nudges import Look, Tell
from tests.unit.nodes import NOW, a_mesh, a_node, document


def record(name, version=1, **fields):
    return membership.as_json(membership.Record(name, f"{name}:9001", (version, 0), **fields))


def test_equal_views_say_their_digest_and_no_more(tmp_path):
    node = a_node(tmp_path)
    digest = node.cache.view().digest()
    assert node.ask("SYNCHRONIZE", {"digest": digest}) == Exchanged({"digest": digest}) and node.nudged() == []


def test_news_is_taken_and_counted_and_passed_on_as_far_as_it_should(tmp_path):
    node = a_node(tmp_path)
    said = node.ask("SYNCHRONIZE", {"records": [record("a"), record("b"), {"name": "broken"}], "until": "z"})
    assert said.exchange == {"known": 0} and {"a", "b"} <= node.cache.view().records.keys()
    assert node.nudged() == [Tell("z", ("a", "b"))]
    assert node.ask("SYNCHRONIZE", {"records": [record("a")], "until": "z"}).exchange == {"known": 1}
    assert node.nudged() == []


def test_what_a_newcomer_says_of_itself_goes_all_around_and_the_rest_is_only_looked_at(tmp_path):
    node = a_node(tmp_path)
    node.ask("SYNCHRONIZE", {"records": [record("caller"), record("b")]})
    assert node.nudged() == [Tell(exchange.EVERYBODY, ("caller",))]
    node.ask("SYNCHRONIZE", {"records": [record("c")]})
    assert node.nudged() == [Look()] and node.cache.view().heard_at["caller"] == NOW


def test_a_policy_that_is_lacking_is_asked_for_and_taken(tmp_path):
    node, other = a_node(tmp_path), a_node(tmp_path, "other", policy=document("A"))
    digest = other.rules.document.digest
    assert node.ask("SYNCHRONIZE", {"records": [record("other", policy=digest)]}).exchange["unknown"] == [digest]
    texts = other.ask("SYNCHRONIZE", {"unknown": [digest]}).exchange["policies"]
    node.ask("SYNCHRONIZE", {"policies": texts})
    assert node.cache.view().policies == {digest: document("A")}


def test_two_views_become_one_in_a_conversation(tmp_path):
    node, other, *_ = a_mesh(tmp_path, "me", "other", "third")
    other.offer("Echo")

    def take(theirs):
        with node.cache.locked() as view:
            return exchange.absorb(view, theirs, NOW, "other")

    with other.call_me(name="me") as talk:
        exchange.synchronise(node.cache.view, take, lambda say: talk.ask(["SYNCHRONIZE", say]).exchange)
    assert node.cache.view().digest() == other.cache.view().digest()


def test_an_exchange_of_a_wrong_shape_is_refused(tmp_path):
    with pytest.raises(errors.BadRequest, match="records has a wrong shape"):
        a_node(tmp_path).ask("SYNCHRONIZE", {"records": 5})


def test_while_the_cache_is_locked_news_is_refused_in_time_and_a_digest_answered(tmp_path):
    node = a_node(tmp_path)
    is_locked, may_end = threading.Event(), threading.Event()

    def hold():
        with node.cache.locked():
            is_locked.set()
            may_end.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert is_locked.wait(10)
        with node.call_me() as talk:
            assert talk.ask(["SYNCHRONIZE", {"records": [record("a")]}], time.monotonic() + 0.2) == No()
            assert isinstance(talk.ask(["SYNCHRONIZE", {"digest": "x"}]), Exchanged)
    finally:
        may_end.set()
        holder.join(10)
