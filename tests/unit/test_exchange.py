"""SYNCHRONIZE between two views: they end equal, and pay for the difference alone."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core import exchange
from bdserver.core.membership import Record, Service
from bdserver.core.policy import digest
from bdserver.core.view import View
from bdserver.errors import BadRequest

NOW = 1_700_000_000.0


def a_view(name, count=0, rng=None):
    view = View(name)
    view.start(Record(name, f"{name}:1", (0, 0)), NOW)
    for i in range(count):
        version = (1, rng.randrange(4) if rng else 0)
        view.merge(Record(f"n{i}", f"n{i}:1", version, services={"Echo": Service("static", 1.0, "", True)}), NOW)
    return view


def synchronised(caller, callee):
    """A whole conversation; the exchanges that were said."""
    said = []

    def turn(say):
        theirs = exchange.checked(json.loads(json.dumps(say)))
        added = exchange.absorb(callee, theirs, NOW, caller.me) if exchange.has_news(theirs) else {}
        answer = exchange.checked(json.loads(json.dumps(exchange.respond(callee, theirs) | added)))
        said.extend([say, answer])
        return answer

    exchange.synchronise(lambda: caller, lambda theirs: exchange.absorb(caller, theirs, NOW, callee.me), turn)
    return said


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 1000))
def test_two_views_end_equal(ours, theirs, seed):
    rng = Random(seed)
    a, b = a_view("a", ours, rng), a_view("b", theirs, rng)
    synchronised(a, b)
    assert a.records == b.records and a.digest() == b.digest()


@pytest.mark.parametrize("count", [10, 1000])
def test_equal_views_cost_the_same_few_bytes_whatever_their_size(count):
    a, b = a_view("a", count), a_view("b", count)
    synchronised(a, b)
    said = synchronised(a, b)
    assert len(said) == 2 and len(json.dumps(said)) < 120


def test_one_difference_among_a_thousand_costs_little():
    a, b = a_view("a", 1000), a_view("b", 1000)
    synchronised(a, b)
    a.describe(a.own._replace(draining=True), NOW)
    said = synchronised(a, b)
    assert a.digest() == b.digest()
    assert [len(each.get("records", [])) for each in said].count(1) == 1
    assert len(json.dumps(said)) < 4000


def test_a_large_difference_comes_in_pieces_within_the_budget(monkeypatch):
    monkeypatch.setattr(exchange, "RECORDS_BYTES_MAX", 10_000)
    a, b = a_view("a"), a_view("b", 100)
    rounds = 0
    while a.digest() != b.digest():
        said = synchronised(a, b)
        assert max(len(each.get("records", [])) for each in said) <= 10_000 // exchange.RECORD_BYTES_ABOUT
        rounds += 1
        assert rounds < 20
    assert rounds > 2


def test_a_policy_travels_once():
    text = "<Policy/>"
    a, b = a_view("a"), a_view("b")
    a.describe(a.own._replace(policy=digest(text)), NOW)
    a.learn_policy(digest(text), text)
    said = synchronised(a, b)
    assert b.policies == {digest(text): text}
    assert sum("policies" in each for each in said) == 1
    a.describe(a.own._replace(load=1), NOW)
    assert not any("policies" in each for each in synchronised(a, b))


@pytest.mark.parametrize("count", [1, 20])
def test_texts_that_did_not_come_with_their_records_come_with_a_later_round(count):
    a, b = a_view("a"), a_view("b")
    texts = {digest(text): text for text in (f"<Policy n='{i}'/>" for i in range(count))}
    for number, each in enumerate(texts):
        for view in (a, b):
            view.merge(Record(f"n{number}", f"n{number}:1", (1, 0), policy=each), NOW)
    synchronised(a, b)
    assert a.digest() == b.digest() and len(a.unknown_policies()) == count, "nobody has them yet"
    for each, text in texts.items():
        b.learn_policy(each, text)
    synchronised(a, b)
    assert a.policies == texts and a.unknown_policies() == []


def test_a_policy_under_a_wrong_digest_is_not_learnt():
    view = a_view("a")
    exchange.absorb(view, {"policies": {"ab": "<Policy/>"}}, NOW, "b")
    assert not view.policies


def test_a_broken_record_does_not_spoil_the_others():
    view = a_view("a")
    good = {"name": "x", "address": "x:1", "version": [1, 0]}
    added = exchange.absorb(view, {"records": [5, {"name": "y"}, good]}, NOW, "b")
    assert view.records["x"].address == "x:1" and added["known"] == 0


def test_a_gossiper_hears_how_much_was_known():
    view = a_view("a", 3)
    say = exchange.push(view, ["n0", "n1"])
    assert exchange.absorb(view, say, NOW, "b")["known"] == 2


@pytest.mark.parametrize(
    "bad",
    [
        None, [], 5, {"digest": 5}, {"buckets": "x"}, {"buckets": [1]}, {"of": [32]}, {"of": [-1]}, {"of": ["1"]},
        {"versions": []}, {"versions": {"a": [1, 2]}}, {"versions": {"a": [1, 2, "x"]}}, {"records": {}}, {"wanted": [[]]},
        {"unknown": [1]}, {"policies": {"a": 1}}, {"known": "x"},
    ],
)  # fmt: skip
def test_an_exchange_of_a_wrong_shape_is_refused(bad):
    with pytest.raises(BadRequest, match="INVALID REQUEST"):
        exchange.checked(bad)


def test_a_conversation_that_does_not_end_by_itself_ends_all_the_same():
    view, said = a_view("a"), []

    def turn(say):
        said.append(say)
        return {"wanted": ["a"]}  # for ever

    exchange.synchronise(lambda: view, lambda theirs: {}, turn)
    assert len(said) == exchange.TURNS_MAX


def test_a_node_passes_on_what_it_is_told_and_all_around_what_another_says_of_itself():
    view = a_view("me", 3)
    records = [{"name": "n0"}, {"name": "n1"}, {"name": "nobody"}, {"name": ["n2"]}, "n2"]
    assert exchange.to_pass_on(view, {"records": records, "until": "n9"}, "n1") == (["n0", "n1"], "n9")
    assert exchange.to_pass_on(view, {"records": records}, "n1") == (["n1"], exchange.EVERYBODY)
    assert exchange.push(view, ["n0", "nobody"], "n9")["until"] == "n9" and "until" not in exchange.push(view, ["n0"])
