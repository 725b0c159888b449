"""When a certificate is renewed: two thirds, jitter, growing pauses, urgency; and 400 days of a mesh whose signers go away."""

from random import Random

import pytest

from bdserver.core.renewal import Life, Renewal, is_gain, order

DAY = 86400.0


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_a_certificate_is_due_from_two_thirds_of_its_life_on(draw):
    renewal = Renewal(Life(0, 90 * DAY, draw))
    assert not renewal.is_due(60 * DAY - 1)
    assert renewal.is_due(70 * DAY)
    assert renewal.due_at() == pytest.approx((60 + 10 * draw) * DAY)


def test_pauses_grow_from_minutes_to_hours_and_no_further():
    rng, renewal, now, pauses = Random(1), Renewal(Life(0, 90 * DAY)), 60 * DAY, []
    for _ in range(20):
        renewal = renewal.failed("nobody there", now, rng)
        pauses.append(renewal.due_at() - now)
        now = renewal.due_at()
    assert pauses[0] < 600 and max(pauses) <= 1.5 * 6 * 3600 and min(pauses[-5:]) >= 0.5 * 6 * 3600
    assert renewal.failures == 20 and renewal.why == "nobody there"


def test_a_clock_that_was_a_year_ahead_puts_nothing_off():
    rng, renewal = Random(1), Renewal(Life(0, 90 * DAY))
    ahead = renewal.failed("its certificate is over", 365 * DAY, rng)
    assert not ahead.is_due(59 * DAY) and ahead.is_due(60 * DAY)
    urged = renewal.urged(365 * DAY, rng)
    assert urged.is_due(DAY) and not renewal.urged(DAY, rng).is_due(DAY)


def test_a_certificate_of_a_minute_is_tried_each_second():
    rng, renewal = Random(1), Renewal(Life(0, 60))
    for _ in range(10):
        renewal = renewal.failed("no", 40, rng)
    assert 40 < renewal.due_at() <= 40 + 1.5


def test_what_fails_for_long_is_said_and_one_failure_is_not():
    rng, renewal = Random(1), Renewal(Life(0, 90 * DAY))
    renewal = renewal.failed("no", 60 * DAY, rng)
    assert not renewal.is_failing(60 * DAY + 3600) and renewal.is_failing(64 * DAY)
    assert not Renewal(Life(0, 90 * DAY)).is_failing(89 * DAY)


def test_urgency_makes_it_due_within_a_spread_and_once():
    rng, renewal = Random(1), Renewal(Life(0, 90 * DAY))
    urged = renewal.urged(DAY, rng)
    assert DAY <= urged.due_at() < DAY + 3 * 3600 and urged.urged(2 * DAY, rng) is urged
    assert urged.failed("no", DAY, rng).is_failing(DAY)


def test_before_a_signer_is_revoked_there_are_several_tries_however_short_the_time():
    for seed in range(50):
        rng, now, tries = Random(seed), DAY, 0
        renewal = Renewal(Life(0, 90 * DAY)).urged(now, rng, DAY + 600)
        while (now := renewal.due_at()) < DAY + 590:
            renewal, tries = renewal.failed("no", now, rng), tries + 1
        assert tries >= 8, f"seed {seed}"
    assert renewal.urged(now, rng, DAY + 9000) is renewal and renewal.urged(now, rng, now + 5).by == now + 5


def test_a_new_certificate_that_ends_with_the_old_one_is_none():
    assert is_gain(Life(0, 90 * DAY), Life(60 * DAY, 150 * DAY))
    assert not is_gain(Life(0, 90 * DAY), Life(60 * DAY, 90 * DAY))


def test_a_signer_asks_itself_first_and_nobody_asks_those_avoided():
    rng = Random(1)
    assert order("a", ["c", "b", "a"], (), rng)[0] == "a"
    assert order("a", ["c", "b", "a"], ("a", "b"), rng) == ["c"]
    assert {tuple(order("x", ["a", "b"], (), rng)) for _ in range(50)} == {("a", "b"), ("b", "a")}
    assert order("x", [], (), rng) == []
