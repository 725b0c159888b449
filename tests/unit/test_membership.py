"""Records and their merge: a join, whatever the order of gossip; refutation, twins, tombstones."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core import membership
from bdserver.core.membership import (
    ACCUSERS_MAX,
    ALIVE,
    DEAD,
    LEFT,
    SUSPECT,
    TOMBSTONE_SECONDS,
    Record,
    Service,
    View,
    as_json,
    from_json,
    join,
    service_url,
    standing,
)
from bdserver.errors import BadRequest

NOW = 1_700_000_000.0


def records(names=("a",)):
    """Records as the mesh may see them; few different values, so that they meet."""
    status = st.sampled_from([ALIVE, SUSPECT, DEAD, LEFT])
    return st.builds(
        lambda name, g, c, status, since, load, accusers: Record(
            name,
            "10.0.0.1:1",
            (g, c),
            status,
            NOW - since,
            {"Echo": Service("static", 1.0, "", True)} if load else {},
            load=load,
            accusers=tuple(sorted(accusers))[:ACCUSERS_MAX] if status == SUSPECT else (),
        ),
        st.sampled_from(names),
        st.integers(1, 2),
        st.integers(0, 2),
        status,
        st.integers(0, 2).map(float),
        st.integers(0, 1),
        st.sets(st.sampled_from("pqrstuv"), max_size=5),
    )


@given(records(), records())
def test_join_commutes(a, b):
    assert join(a, b) == join(b, a)


@given(records(), records(), records())
def test_join_is_associative(a, b, c):
    assert join(join(a, b), c) == join(a, join(b, c))


@given(records())
def test_join_with_oneself_changes_nothing(a):
    assert join(a, a) == a


@given(records(), records())
def test_the_version_never_falls(a, b):
    assert standing(join(a, b)) == max(standing(a), standing(b))


@given(st.lists(records(("a", "b", "c")), max_size=12), st.randoms(use_true_random=False))
def test_any_order_of_gossip_ends_in_the_same_view(gossip, rng):
    views = []
    for _ in range(2):
        view = View("me")
        view.start(Record("me", "10.0.0.9:1", (0, 0)), NOW)
        for record in gossip:
            view.merge(record, NOW)
        views.append(view)
        gossip = [*gossip, *rng.sample(gossip, len(gossip) // 2)]
        rng.shuffle(gossip)
    assert views[0].records == views[1].records
    assert views[0].digest() == views[1].digest()


@given(st.lists(records(("a", "b", "c", "me")), max_size=12))
def test_the_digest_kept_on_the_way_is_that_of_the_whole(gossip):
    view = View("me")
    view.start(Record("me", "10.0.0.9:1", (0, 0)), NOW)
    view.buckets()
    for record in gossip:
        view.merge(record, NOW)
    kept = view.buckets()
    view._buckets = None
    assert kept == view.buckets()


@given(records())
def test_a_record_survives_the_wire(record):
    assert from_json(json.loads(json.dumps(as_json(record)))) == record


def test_unknown_fields_are_kept_and_forwarded():
    value = as_json(Record("a", "10.0.0.1:1", (1, 0))) | {"rack": [1, {"x": 2}]}
    assert as_json(from_json(value))["rack"] == [1, {"x": 2}]


@pytest.mark.parametrize(
    "change",
    [
        {"name": 5}, {"name": "../x"}, {"address": "nowhere"}, {"address": 5}, {"version": [1]}, {"version": [1, -1]},
        {"version": [1.5, 1]}, {"version": [2**53 + 1, 0]}, {"version": "x"}, {"status": "undead"}, {"services": []},
        {"services": {"..": ["static", 1, "", True]}}, {"services": {"a": ["odd", 1, "", True]}}, {"services": {"a": 1}},
        {"services": {"a": ["static", "1", "", True]}}, {"since": "x"}, {"load": True}, {"draining": 1}, {"policy": 5},
        {"accusers": ["../x"]}, {"accusers": 5}, {"version": [int(NOW) + 86402, 0]},
    ],
)  # fmt: skip
def test_a_broken_record_is_a_bad_request_that_names_it(change):
    with pytest.raises(BadRequest, match="record"):
        from_json(as_json(Record("a", "10.0.0.1:1", (1, 0))) | change, NOW)


def test_a_generation_of_up_to_a_day_ahead_is_taken():
    assert from_json(as_json(Record("a", "10.0.0.1:1", (int(NOW) + 86400, 0))), NOW).version[0] == int(NOW) + 86400


def a_view(*others, me="me"):
    view = View(me)
    view.start(Record(me, "10.0.0.9:1", (0, 0)), NOW)
    for record in others:
        view.merge(record, NOW)
    return view


@pytest.mark.parametrize("status", [SUSPECT, DEAD, LEFT])
def test_a_node_that_hears_it_is_dead_lives_again(status):
    view = a_view()
    before = view.own.version
    assert view.merge(view.own._replace(status=status, since=NOW), NOW)
    assert view.own.status == ALIVE and view.own.version > before
    claim = view.own._replace(version=(view.generation + 5, 7), status=status)
    view.merge(claim, NOW)
    assert view.own.version > claim.version and view.own.status == ALIVE
    assert view.generation == view.own.version[0]


def test_a_node_that_left_does_not_come_back_by_hearsay():
    view = a_view()
    view.describe(view.own._replace(status=LEFT), NOW)
    assert not view.merge(view.own._replace(version=(view.generation, 99999), status=ALIVE), NOW)
    assert view.own.status == LEFT


def test_a_restart_is_a_higher_generation_even_when_the_clock_fell_back():
    view = a_view()
    first = view.generation
    view.start(view.own, NOW - 1000)
    assert view.generation == first + 1 == view.own.version[0]


def test_a_rival_of_the_same_name_is_noted_and_outbid_but_not_all_the_time():
    view = a_view()
    rival = Record("me", "10.0.0.8:1", (view.generation + 1, 0))
    assert view.merge(rival, NOW)
    assert view.rival == ("10.0.0.8:1", NOW) and view.own.version > rival.version
    again = rival._replace(version=(view.generation + 1, 0))
    assert not view.merge(again, NOW + membership.CONFLICT_PAUSE - 1)
    assert view.merge(again, NOW + membership.CONFLICT_PAUSE)


def test_the_same_name_at_a_new_address_replaces_the_old():
    view = a_view(Record("a", "10.0.0.1:1", (1, 0)))
    view.merge(Record("a", "10.0.0.2:1", (2, 0)), NOW)
    assert view.records["a"].address == "10.0.0.2:1"


def test_accusers_are_counted_once_each():
    view = a_view(Record("a", "10.0.0.1:1", (1, 0)))
    assert view.accuse("a", NOW) and not view.accuse("a", NOW)
    view.merge(view.records["a"]._replace(accusers=("x",)), NOW)
    assert view.records["a"].accusers == ("me", "x")
    view.bury("a", NOW)
    assert view.records["a"].status == DEAD and not view.accuse("a", NOW)


def test_tombstones_last_a_day_and_are_not_taken_when_older():
    view = a_view(Record("a", "10.0.0.1:1", (1, 0), DEAD, NOW))
    assert not view.expire(NOW + TOMBSTONE_SECONDS - 1) and "a" in view.records
    assert view.expire(NOW + TOMBSTONE_SECONDS + 1) and "a" not in view.records
    assert not view.merge(Record("a", "10.0.0.1:1", (1, 0), DEAD, NOW), NOW + TOMBSTONE_SECONDS + 1)


def test_tombstones_are_capped_oldest_first(monkeypatch):
    monkeypatch.setattr(membership, "TOMBSTONES_MAX", 3)
    view = a_view(*[Record(f"n{i}", f"10.0.0.{i}:1", (1, 0), DEAD, NOW + i) for i in range(5)])
    view.expire(NOW)
    assert sorted(view.records) == ["me", "n2", "n3", "n4"]


def test_a_hint_lives_until_somebody_is_known_there():
    view = a_view()
    assert view.hint("10.0.0.1:1") and not view.hint("10.0.0.1:1")
    view.merge(Record("a", "10.0.0.1:1", (1, 0)), NOW)
    assert not view.hints and not view.hint("10.0.0.1:1")


def test_describe_raises_the_version_only_for_a_difference():
    view = a_view()
    before = view.own.version
    assert not view.describe(view.own, NOW)
    assert view.describe(view.own._replace(load=3), NOW) and view.own.version == (before[0], before[1] + 1)


def test_policies_nobody_uses_are_dropped():
    view = a_view(Record("a", "10.0.0.1:1", (1, 0), policy="used"))
    view.learn_policy("used", "x")
    view.learn_policy("unused", "y")
    view.expire(NOW)
    assert list(view.policies) == ["used"] and view.unknown_policies() == []


def test_newer_than_finds_exactly_the_differences():
    rng = random.Random(7)
    ours, theirs = a_view(), a_view(me="you")
    for i in range(200):
        record = Record(f"n{i}", f"10.0.{i}.1:1", (1, 0))
        ours.merge(record._replace(version=(1, rng.randrange(3))), NOW + i)
        theirs.merge(record._replace(version=(1, rng.randrange(3))), NOW + i)
    news, wanted = ours.newer_than(theirs.versions(range(32)), range(32))
    expected = {n for n, r in ours.records.items() if n not in theirs.records or standing(r) > standing(theirs.records[n])}
    assert {record.name for record in news} == expected
    assert set(wanted) == {
        n for n, r in theirs.records.items() if n not in ours.records or standing(r) > standing(ours.records[n])
    }
    heard = [ours.heard_at[record.name] for record in news]
    assert heard == sorted(heard)  # oldest change first


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("", "http://10.0.0.1:8080/axis/Echo?wsdl"),
        ("https://{host}/{service}", "https://10.0.0.1/Echo"),
        ("http://{host.__class__}/{service!r}", "http://{host.__class__}/{service!r}"),
    ],
)
def test_the_url_of_a_service(template, url):
    assert service_url(Record("a", "10.0.0.1:1", (1, 0), web_port=8080, web_dir="/axis/"), "Echo", template) == url


def test_the_url_at_an_ipv6_address_and_without_a_web_dir():
    assert service_url(Record("a", "[::1]:1", (1, 0), web_port=80), "Echo") == "http://[::1]:80/Echo?wsdl"
