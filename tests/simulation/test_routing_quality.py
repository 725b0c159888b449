"""What docs/ROUTING.md claims, in short and seeded runs."""

import pytest

from tests.simulation.routing_quality import MIXES, PERIODS, shares, swing, with_tickets

OURS, ROBIN = "of two the less loaded (ours)", "round robin"
ORIGINAL, BLIND = "always the same (2006, routing=original)", "blind (routing=random)"
UNEQUAL = (3.0, 30.0)
QUICK_MIX = "1:10"


def mean(order, figure, load=0.8, asks=True):
    return sum(shares(order, UNEQUAL, load, seed, asks, seconds=60)[figure] for seed in (1, 2)) / 2


def test_who_is_asked_first_has_room_far_more_often_than_by_the_originals_a_blind_or_a_fair_choice():
    ours = mean(OURS, "wasted")
    assert ours < 0.06
    for other in (ORIGINAL, BLIND, ROBIN):
        assert mean(other, "wasted") > 3 * ours


@pytest.mark.parametrize("order", [OURS, ORIGINAL, BLIND, ROBIN])
def test_whatever_the_order_a_holder_that_is_asked_never_serves_overloaded_while_another_has_room(order):
    assert mean(order, "served over", load=0.95) == 0


def test_a_registry_that_asks_nobody_sends_half_of_the_calls_to_an_overloaded_holder():
    assert mean(BLIND, "served over", asks=False) > 0.3
    assert mean(ORIGINAL, "served over", asks=False) > 0.9  # whom it always names first is always the same


@pytest.mark.parametrize("period", PERIODS)
def test_copies_do_not_flap_when_load_swings(period):
    found = swing(period, seed=1, seconds=300)
    assert found["made"] <= 1 and found["retired"] <= 0.5  # a minute, of two hosts with a slot each
    assert period < 120 or found["made"] > 0, "nothing was copied: then this shows nothing"


@pytest.mark.parametrize("mix", [mix if mix == QUICK_MIX else pytest.param(mix, marks=pytest.mark.long) for mix in MIXES])
def test_with_tickets_four_lookups_of_five_need_no_question_and_none_goes_to_an_overloaded_holder(mix):
    for load in (0.5, 0.8):
        found = with_tickets(MIXES[mix], 30, load, seeds=1)
        assert found["by ticket"] >= 0.8 and found["asked"] < 0.25
        assert found["served over"] < 0.0005


@pytest.mark.long
def test_near_the_limit_tickets_overload_nobody():
    found = with_tickets((1.0, 2.0, 4.0), 30, 0.95, seeds=1)
    assert found["by ticket"] > 0.5 and found["served over"] < 0.0005


@pytest.mark.long
def test_where_all_are_overloaded_a_lookup_asks_one_holder_and_not_each():
    with_them = with_tickets((1.0,) * 6, 30, 1.1, seeds=1)
    assert with_them["asked"] < 2.5 < with_tickets((1.0,) * 6, 30, 1.1, seeds=1, takes=False)["asked"]


@pytest.mark.long
def test_two_holders_share_load_as_evenly_as_without_tickets():
    for load in (0.5, 0.8):
        assert with_tickets((1.0, 1.0), 30, load)["apart"] <= with_tickets((1.0, 1.0), 30, load, takes=False)["apart"] + 0.02
