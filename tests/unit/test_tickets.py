"""Tickets: what a holder promises, what an asker believes and spends."""

import math
from collections import Counter
from random import Random

import pytest

from bdserver.core import tickets, weight
from bdserver.core.messages import DontHave, No, Yes
from bdserver.core.tickets import (
    ASKER_SHARE,
    NOT_BEFORE_MAX,
    REFUSED_MAX,
    ROOM_SHARE,
    TICKETS_MAX,
    Promises,
    Settled,
    Wallet,
    granted,
)

NOW = 1_700_000_000.0
SECONDS = tickets.TICKET_SECONDS


def yes(count, seconds=SECONDS):
    return Yes(80, "axis", "http://h/x", {"tickets": count, "seconds": seconds})


# --- the holder ---------------------------------------------------------------------------------------------------


def ask(promises, now, spent=0, room=math.inf):
    """A question of an asker that has spent so many; what it is given."""
    promises.settle("Echo", spent, now)
    count = int(min(promises.usable("Echo", now), room))
    if count:
        promises.give("Echo", count, now)
    return count


def test_who_asks_once_gets_no_tickets_and_who_asks_on_gets_twice_as_many_each_time():
    promises, given, spent = Promises(), [], 0
    for _ in range(5):
        given.append(ask(promises, NOW, spent))
        spent = given[-1]
    assert given == [0, 1, 2, 4, 8]


def test_who_does_not_spend_all_gets_a_few_more_than_it_has_spent():
    promises = Promises()
    for spent in (0, 0, 1, 2, 4, 8, 16):
        given = ask(promises, NOW, spent)
    assert given == 32 and ask(promises, NOW + 1, 20) == 26


def test_who_asks_too_seldom_gets_none():
    promises = Promises()
    assert [ask(promises, NOW + 2 * number) for number in range(4)] == [0, 0, 0, 0]
    assert [ask(promises, NOW + 8 + number / 2) for number in range(3)] == [0, 1, 1]


def test_who_is_put_off_can_use_as_many_at_its_next_question():
    promises, spent = Promises(), 0
    for _ in range(5):
        spent = ask(promises, NOW, spent)
    assert spent == 8
    promises.settle("Echo", spent, NOW)
    assert promises.usable("Echo", NOW) == 16
    promises.put_off("Echo")
    promises.settle("Echo", 0, NOW)
    assert promises.usable("Echo", NOW) == 16
    promises.settle("Echo", 0, NOW)  # there was no room: begin anew
    assert promises.usable("Echo", NOW) == 1


def test_there_is_an_end_to_what_one_asker_can_use():
    promises, spent = Promises(), 0
    for _ in range(30):
        spent = ask(promises, NOW, spent)
    assert spent == TICKETS_MAX


def test_what_was_not_spent_is_told_with_the_time_of_its_promise_and_once():
    promises = Promises()
    assert promises.settle("Echo", 3, NOW) is None  # nothing was promised
    promises.usable("Echo", NOW)
    promises.give("Echo", 5, NOW)
    assert promises.are_out()
    assert promises.settle("Echo", 3, NOW + 1) == Settled(3, 2, NOW) and not promises.are_out()
    assert promises.settle("Echo", 3, NOW + 1) is None


@pytest.mark.parametrize(("spent", "left"), [(-4, 5), (0, 5), (5, 0), (10**18, 0)])
def test_whatever_an_asker_tells_it_has_spent_between_none_and_all(spent, left):
    promises = Promises()
    promises.usable("Echo", NOW)
    promises.give("Echo", 5, NOW)
    assert promises.settle("Echo", spent, NOW) == Settled(5 - left, left, NOW)


def test_a_promise_leaves_half_of_the_room_and_an_asker_has_its_share_of_the_whole():
    assert granted(1000, 90.0, 100.0, 1.0, 0.0) == int(ROOM_SHARE * 10)
    assert granted(1000, 0.0, 100.0, 1.0, 0.0) == int(ASKER_SHARE * 100)
    assert granted(1000, 0.0, 100.0, 1.0, 10.0) == int(ASKER_SHARE * 100) - 10
    assert granted(1000, 0.0, 100.0, 1.0, 100.0) == granted(1000, 100.0, 100.0, 1.0, 0.0) == 0
    assert granted(3, 0.0, 100.0, 1.0, 0.0) == 3
    assert granted(1000, 0.0, 100.0, 0.0, 0.0) == 1000  # what costs nothing needs no room


@pytest.mark.parametrize("seed", range(20))
def test_promises_and_weight_never_pass_the_threshold(seed):
    """Many connections of some askers, any costs and thresholds, lies about what was spent, connections that end, time that goes."""
    rng = Random(seed)
    threshold, cost = rng.uniform(0.5, 500), rng.choice([0.1, 0.7, 1.0, 3.0, 40.0])
    hits, held, now = Counter(), {}, NOW
    connections = [(f"a{number % 3}", Promises()) for number in range(8)]

    def total():
        return weight.weight([(weight.HIT, second, hits[second]) for second in sorted(hits, reverse=True)], cost, now)

    for _ in range(400):
        now += rng.choice([0.0, 0.01, 0.3, 2.0])
        number = rng.randrange(len(connections))
        asker, promises = connections[number]
        if rng.random() < 0.02:
            connections[number] = asker, Promises()  # all that was promised there stays counted as spent
        settled = promises.settle("Echo", rng.randrange(-1, 40), now)
        if settled is not None:
            hits[int(settled.at)] -= settled.left
            held[asker] = max(held.get(asker, 0.0) - (settled.spent + settled.left) * cost, 0.0)
        if weight.is_overloaded(total(), threshold):
            continue
        hits[int(now)] += 1
        before = held.get(asker, 0.0)
        count = granted(promises.usable("Echo", now), total(), threshold, cost, before)
        assert 0 <= count <= TICKETS_MAX
        if count:
            promises.give("Echo", count, now + SECONDS)
            hits[int(now + SECONDS)] += count
            held[asker] = before + count * cost
            assert total() <= threshold + 1e-9, f"seed {seed}"
            assert held[asker] <= ASKER_SHARE * threshold + 1e-9, f"seed {seed}"


# --- the asker ----------------------------------------------------------------------------------------------------


def spend_all(wallet, now, terms="terms", node="h"):
    count = 0
    while wallet.spend(node, "Echo", now, terms) is not None:
        count += 1
        assert count < 10**4
    return count


def test_each_ticket_is_spent_once_and_told_of():
    wallet = Wallet()
    assert wallet.spend("h", "Echo", 0.0, "terms") is None and wallet.told("h", "Echo") == 0
    wallet.learn("h", "Echo", yes(3), 0.0, "terms")
    assert wallet.has("h", "Echo") and not wallet.has("h", "Other")
    assert wallet.spend("h", "Echo", 0.5, "terms") == Yes(80, "axis", "http://h/x")
    assert spend_all(wallet, 0.5) == 2
    assert wallet.told("h", "Echo") == 3 and wallet.told("h", "Echo") == 0
    assert spend_all(wallet, 0.5) == 0


def test_a_ticket_ends_with_its_time_and_its_terms():
    wallet = Wallet()
    wallet.learn("h", "Echo", yes(3), 10.0, "terms")
    assert wallet.spend("h", "Echo", 10.5, "others") is None  # another connection, edition, policy; draining
    assert wallet.spend("h", "Echo", 10.0 + SECONDS, "terms") is None
    assert wallet.told("h", "Echo") == 0


def test_neither_a_million_tickets_nor_a_year_is_believed():
    wallet = Wallet()
    wallet.learn("h", "Echo", yes(1_000_000, 31_536_000.0), 0.0, "terms")
    assert wallet.spend("h", "Echo", SECONDS, "terms") is None
    assert spend_all(wallet, 0.5) == TICKETS_MAX
    wallet.learn("h", "Echo", No({"not_before": 1e9}), 0.0, "terms")
    assert wallet.is_refused("h", "Echo", NOT_BEFORE_MAX - 0.1) and not wallet.is_refused("h", "Echo", NOT_BEFORE_MAX)


@pytest.mark.parametrize("said", [Yes(80, "axis", "u"), Yes(80, "axis", "u", {}), No(), DontHave(), None])
def test_an_answer_that_promises_nothing_is_no_ticket(said):
    wallet = Wallet()
    wallet.learn("h", "Echo", said, 0.0, "terms")
    assert spend_all(wallet, 0.0) == 0 and not wallet.is_refused("h", "Echo", 0.0) and wallet.ends_at() is None


def test_a_no_holds_until_its_time_and_for_that_service():
    wallet = Wallet()
    wallet.learn("h", "Echo", No({"not_before": 0.8}), 10.0, "terms")
    assert wallet.is_refused("h", "Echo", 10.7)
    assert not wallet.is_refused("h", "Other", 10.7) and not wallet.is_refused("i", "Echo", 10.7)
    assert not wallet.is_refused("h", "Echo", 10.8) and not wallet.is_refused("h", "Echo", 10.7)


def test_there_is_an_end_to_the_noes_that_are_remembered():
    wallet = Wallet()
    for number in range(3 * REFUSED_MAX):
        wallet.learn("h", f"s{number}", No({"not_before": 1.0}), 0.0, "terms")
    assert len(wallet._refused) <= REFUSED_MAX


def test_the_last_word_to_a_holder_tells_of_all_its_services():
    wallet = Wallet()
    assert wallet.told_all("h") == {} and wallet.ends_at() is None
    wallet.learn("h", "Echo", yes(2), 3.0, "terms")
    wallet.learn("h", "Other", yes(2), 2.0, "terms")
    wallet.learn("i", "Echo", yes(2), 1.0, "terms")
    wallet.spend("h", "Echo", 3.0, "terms")
    assert sorted(wallet.holders()) == ["h", "i"] and wallet.ends_at() == 3.0 + SECONDS
    assert wallet.told_all("h") == {"Echo": 1, "Other": 0}
    assert list(wallet.holders()) == ["i"] and not tickets.Wallet().has("h", "Echo")
