"""What somebody writes has rested when it looked the same for a moment, a longer one the longer it has been changing."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core.stillness import (
    CALM_SECONDS,
    REST_SECONDS,
    REST_SECONDS_MAX,
    REST_SHARE,
    RESTLESS_SECONDS,
    Stillness,
)


def noted(looks, every=1.0):
    """Whether it had rested at each look, a second after the other; and the memory."""
    stillness, found = Stillness(), []
    for number, look in enumerate(looks):
        stillness.note("Echo", look, 100.0 + every * number)
        found.append(stillness.has_rested("Echo"))
    return found, stillness


def test_what_is_seen_for_the_first_time_rests_when_it_still_looks_so():
    assert noted("aaaa")[0] == [False, False, True, True]
    assert not Stillness().has_rested("Echo") and Stillness().restless() == []


def test_a_look_that_is_long_ago_tells_of_no_rest_since():
    _, stillness = noted("a")
    assert not stillness.has_rested("Echo")
    stillness.note("Echo", "a", 100.0 + REST_SECONDS - 0.01)
    assert not stillness.has_rested("Echo")
    stillness.note("Echo", "a", 100.0 + REST_SECONDS)
    assert stillness.has_rested("Echo")


def test_an_upload_that_falters_is_not_taken_for_whole():
    """One of five minutes, which makes a pause of up to a tenth of what it has taken so far, again and again."""
    rng, stillness, clock, look, begun = Random(1), Stillness(), 0.0, 0, 0.0
    stillness.note("Echo", "0", clock)
    while clock - begun < 300:
        look += 1
        for _ in range(max(1, int(rng.uniform(0, REST_SHARE) * (clock - begun)))):
            clock += 1.0
            stillness.note("Echo", str(look), clock)
            assert not stillness.has_rested("Echo"), clock
    assert stillness.restless() == ["Echo"]
    for _ in range(int(REST_SECONDS_MAX) + 2):
        clock += 1.0
        stillness.note("Echo", str(look), clock)
    assert stillness.has_rested("Echo") and stillness.restless() == []


@pytest.mark.parametrize("every", [1, 3, 5, 10, 20, 30, 59])
def test_a_log_makes_a_few_editions_and_then_none(every):
    """A day of a line each so many seconds."""
    stillness, rested, editions = Stillness(), False, 0
    for second in range(86400):
        stillness.note("Echo", str(second // every), float(second))
        if stillness.has_rested("Echo") and not rested:
            editions += 1
        rested = stillness.has_rested("Echo")
    assert editions <= 12
    assert stillness.restless() == ["Echo"]


def test_what_was_calm_for_long_is_believed_soon_again():
    _, stillness = noted([str(number) for number in range(1000)])
    at = 100.0 + 999
    for second in range(int(CALM_SECONDS)):
        stillness.note("Echo", "999", at + second)
    clock = at + CALM_SECONDS
    for second in range(3):
        stillness.note("Echo", "new", clock + second)
    assert stillness.has_rested("Echo")


def test_what_changes_for_long_is_told_and_what_is_gone_is_forgotten():
    assert noted("ab" * 5)[1].restless() == []
    _, stillness = noted("ab" * 6)
    assert RESTLESS_SECONDS <= 11 and stillness.restless() == ["Echo"]
    stillness.keep(frozenset(["Echo"]))
    assert stillness.restless() == ["Echo"]
    stillness.keep(frozenset())
    assert stillness.restless() == [] and not stillness.has_rested("Echo")


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=30))
def test_it_has_never_rested_when_it_has_just_changed(looks):
    found, _ = noted(looks)
    for number, has_rested in enumerate(found):
        assert not has_rested or looks[max(number - 2, 0) : number + 1] == [looks[number]] * 3
    rests, _ = noted([*looks, *["c"] * 70])
    assert rests[-1]
