"""All that a node knows: any order of gossip, refutation, twins, tombstones, hints, and what two views differ in."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core import view as module
from bdserver.core.membership import (
    ALIVE,
    DEAD,
    LEFT,
    STATIC,
    SUSPECT,
    VERSION_MAX,
    Record,
    Service,
    as_json,
    from_json,
    standing,
    untimely,
)
from bdserver.core.view import TOMBSTONE_SECONDS, View
from tests.unit.seals import sealed
from tests.unit.views import NOW, a_view, records


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


@pytest.mark.parametrize(("days", "is_taken_back"), [(0.9, False), (1.1, True), (3650, True)])
def test_a_start_takes_back_what_a_wrong_clock_has_made_and_nobody_takes(days, is_taken_back):
    view = a_view()
    view.start(view.own, NOW + days * 86400)
    view.describe(view.own._replace(status=LEFT), NOW + days * 86400)
    ahead = view.generation
    view.start(view.own, NOW + 10)
    assert view.generation == view.own.version[0] == (int(NOW) + 10 if is_taken_back else ahead + 1)
    assert untimely(view.own, NOW + 20) is None


@pytest.mark.parametrize("status", [ALIVE, SUSPECT, DEAD])
def test_whatever_is_claimed_of_us_our_answer_can_be_read_by_everybody(status):
    for counter in (VERSION_MAX - 1, VERSION_MAX):
        view = a_view()
        assert view.merge(view.own._replace(version=(view.generation, counter), status=status, address="x:1"), NOW)
        for _ in range(3):
            assert view.describe(view.own._replace(load=1 - view.own.load), NOW)
            assert from_json(as_json(view.own)) == view.own and untimely(view.own, NOW) is None


def test_what_changes_of_our_own_record_is_to_be_signed_anew_and_only_that():
    view, asked = a_view("n0"), []

    def seal(record):
        asked.append(record.version)
        return sealed(record)

    for change, is_one in (
        (lambda: None, True),
        (lambda: None, False),
        (lambda: view.describe(view.own._replace(load=1), NOW), True),
        (lambda: view.describe(view.own, NOW), False),
        (lambda: view.merge(view.own._replace(status=DEAD), NOW), True),
        (lambda: view.accuse("n0", NOW), False),
        (lambda: view.start(view.own, NOW), True),
        (lambda: view.describe(view.own._replace(certificate="ab"), NOW), True),
        (lambda: view.describe(view.own._replace(status=LEFT), NOW), True),
    ):
        change()
        before = view.changes
        view.seal(seal)
        assert (view.changes > before) is is_one and view.own.said
        assert asked[-1] == view.own.version and len(asked) == len(set(asked))
    other = View("x")
    other.seal(seal)
    assert not other.records


def test_certificates_are_kept_as_long_as_records_name_them():
    view = a_view(Record("a", "10.0.0.1:1", (1, 0), certificate="one"))
    assert view.learn_certificate("one", "text") and not view.learn_certificate("one", "text")
    view.learn_certificate("two", "text")
    view.changes = 0
    view.expire(NOW)
    assert view.certificates == {"one": "text"} == view.copy().certificates and view.changes == 1
    view.forget("a")
    view.expire(NOW)
    assert view.certificates == {}


def test_what_is_news_is_known_before_it_is_taken():
    view = a_view(Record("a", "10.0.0.1:1", (1, 5)))
    for record, is_news in (
        (Record("a", "10.0.0.1:1", (1, 5)), False),
        (Record("a", "10.0.0.1:1", (1, 4), DEAD, NOW), False),
        (Record("a", "10.0.0.1:1", (1, 6)), True),
        (Record("b", "10.0.0.1:1", (1, 6)), True),
        (Record("b", "10.0.0.1:1", (1, 6), DEAD, NOW - 2 * TOMBSTONE_SECONDS), False),
        (view.own, False),
        (view.own._replace(status=DEAD), True),
        (view.own._replace(version=(1, 1), status=DEAD), False),
    ):
        assert view.is_news(record, NOW) is is_news
        assert view.copy().merge(record, NOW) is is_news


def test_a_rival_of_the_same_name_is_noted_and_outbid_but_not_all_the_time():
    view = a_view()
    rival = Record("me", "10.0.0.8:1", (view.generation + 1, 0), certificate="digest")
    assert view.living_rival(NOW) is None and view.merge(rival, NOW)
    assert view.rival == ("10.0.0.8:1", NOW, "digest") and view.own.version > rival.version
    assert view.living_rival(NOW + 60) == view.rival
    assert view.living_rival(NOW + module.RIVAL_SECONDS) is None, "it is there no longer"
    view.learn_certificate("digest", "text")
    view.expire(NOW)
    assert view.certificates["digest"] == "text", "whose it is can still be told"
    again = rival._replace(version=(view.generation + 1, 0))
    assert not view.merge(again, NOW + module.CONFLICT_PAUSE - 1)
    assert view.merge(again, NOW + module.CONFLICT_PAUSE)
    third = rival._replace(version=(view.generation + 1, 0))
    assert view.living_rival(NOW - 86400) is None and view.merge(third, NOW - 86400), "the clock was put back"


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
    monkeypatch.setattr(module, "TOMBSTONES_MAX", 3)
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
    news, wanted = ours.newer_than(
        {name: row for rows in theirs.versions(range(32)).values() for name, row in rows.items()}, range(32)
    )
    expected = {n for n, r in ours.records.items() if n not in theirs.records or standing(r) > standing(theirs.records[n])}
    assert {record.name for record in news} == expected
    assert set(wanted) == {
        n for n, r in theirs.records.items() if n not in ours.records or standing(r) > standing(ours.records[n])
    }
    heard = [ours.heard_at[record.name] for record in news]
    assert heard == sorted(heard)  # oldest change first


def test_a_view_takes_so_many_nodes_and_hints_and_no_more(monkeypatch):
    monkeypatch.setattr(module, "RECORDS_MAX", 2)
    view = a_view("a")
    assert not view.merge(Record("b", "b:1", (1, 0)), NOW) and view.records.keys() == {"me", "a"}
    assert view.merge(Record("a", "a:1", (1, 1)), NOW), "what is known goes on changing"
    assert view.hint("x:1") and view.hint("y:1") and not view.hint("z:1")


def test_an_administrator_makes_forget_a_node_or_a_hint_but_not_itself():
    view = a_view("a")
    view.hint("x:1")
    assert view.forget("a") and not view.forget("a") and not view.forget("me")
    assert view.unhint("x:1") and not view.unhint("x:1")
    assert view.records.keys() == {"me"} and not view.hints and view.own.status == ALIVE


def test_a_policys_text_is_learnt_once_and_there_is_a_limit(monkeypatch):
    monkeypatch.setattr(module, "POLICIES_MAX", 1)
    view = a_view()
    assert view.learn_policy("a", "<Policy/>") and not view.learn_policy("a", "<Policy/>")
    assert not view.learn_policy("b", "<Policy/>") and view.policies == {"a": "<Policy/>"}


def test_all_policies_together_have_a_size(monkeypatch):
    view = a_view("n0")
    monkeypatch.setattr(module, "POLICIES_CHARACTERS_MAX", 15)
    assert view.learn_policy("a", "x" * 10) and not view.learn_policy("b", "x" * 6) and view.learn_policy("c", "x" * 5)


def test_the_living_are_found_at_an_address_before_the_dead():
    view = a_view(Record("old", "10.0.0.1:1", (9, 0), DEAD, NOW), Record("new", "10.0.0.1:1", (1, 0)))
    assert view.at_address("10.0.0.1:1").name == "new" and view.at_address("10.0.0.2:1") is None


SERVICES = st.dictionaries(st.sampled_from(["Echo", "Primes", "Maps"]), st.just(Service(STATIC, 1.0, "", True)))
STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([ALIVE, SUSPECT, DEAD, None]), SERVICES), max_size=15)


@given(STEPS, STEPS)
def test_the_holders_kept_on_the_way_are_those_of_a_look_at_every_record(before, after):
    def play(view, steps):
        for number, (name, status, services) in enumerate(steps):
            if status is not None:
                view.put(Record(name, f"{name}:1", (1, number), status, services=services))
            elif name in view.records:
                view.remove(name)

    def holders(view):
        return {each: {record.name for record in view.holders(each)} for each in ("Echo", "Primes", "Maps")}

    def looked_up(view):
        there = [record for record in view.records.values() if record.is_there]
        return {each: {record.name for record in there if each in record.services} for each in ("Echo", "Primes", "Maps")}

    view = a_view()
    play(view, before)
    view.prepare()
    twin = view.copy()
    play(twin, after)
    assert holders(view) == looked_up(view), "copies share the index, and a change of one is none of the other"
    assert holders(twin) == looked_up(twin)
    assert set(twin._holders) == {each for record in twin.records.values() for each in record.services}
