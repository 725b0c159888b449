"""Hits to weight, against the original's own loop over lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core.weight import (
    FULL_LOAD,
    HIT,
    LOAD_STEPS,
    REPLICATE,
    RETIRE_AFTER,
    Balance,
    is_overloaded,
    load_step,
    to_retire,
    weight,
)

NOW = 1_700_000_000


def obvious_weight(lines, cost, now):
    """The 2006 loop: one line after the other, newest last in the log. Lines from beyond the next second are left out."""
    total = 0.0
    for kind, second in reversed(lines):
        seconds = int(now) - second
        if seconds < -1:
            continue
        if kind == "REPLICATE":
            cost *= 0.9
        elif seconds < 10:
            total += cost
        elif seconds > 60:
            break
        else:
            total += cost * 10.0 / seconds
    return total


def runs_of(lines):
    """Newest first, neighbours of one kind and second together."""
    runs: list[tuple[str, int, int]] = []
    for kind, second in reversed(lines):
        if runs and runs[-1][:2] == (kind, second):
            runs[-1] = (kind, second, runs[-1][2] + 1)
        else:
            runs.append((kind, second, 1))
    return runs


LINES = st.lists(
    st.tuples(st.sampled_from([HIT, HIT, HIT, REPLICATE]), st.integers(NOW - 80, NOW + 20)).flatmap(
        lambda line: st.lists(st.just(line), min_size=1, max_size=3)
    ),
    max_size=25,
).map(lambda blocks: [line for block in blocks for line in block])


@given(LINES, st.booleans(), st.floats(0, 1000), st.floats(0, 0.999))
def test_the_weight_is_what_the_originals_loop_makes_of_the_lines(lines, is_in_order, cost, part):
    lines = sorted(lines, key=lambda line: line[1]) if is_in_order else lines
    assert weight(runs_of(lines), cost, NOW + part) == pytest.approx(obvious_weight(lines, cost, NOW + part))


@pytest.mark.parametrize(
    ("age", "counts"),
    [(0, 6.0), (9, 6.0), (10, 6.0), (11, 60 / 11), (20, 3.0), (60, 1.0), (61, 0.0), (3600, 0.0), (-1, 6.0), (-2, 0.0)],
)
def test_a_hit_counts_in_full_for_ten_seconds_then_less_and_after_a_minute_nothing(age, counts):
    assert weight([(HIT, NOW - age, 1)], 6.0, NOW) == pytest.approx(counts)
    assert weight([(HIT, NOW - age, 7)], 6.0, NOW) == pytest.approx(7 * counts)


def test_fractions_of_a_second_do_not_age_a_hit():
    assert weight([(HIT, NOW - 60, 1)], 6.0, NOW + 0.999) == 1.0


def test_an_old_hit_ends_the_reading():
    assert weight([(HIT, NOW, 1), (HIT, NOW - 61, 1), (HIT, NOW, 5)], 1.0, NOW) == 1.0


def test_each_replicate_makes_older_hits_count_a_tenth_less():
    assert weight([(HIT, NOW, 1), (REPLICATE, NOW, 2), (HIT, NOW, 1)], 1.0, NOW) == pytest.approx(1.81)
    assert weight([(REPLICATE, NOW - 90, 1), (HIT, NOW, 1)], 1.0, NOW) == pytest.approx(0.9)


def test_lines_from_the_future_count_nothing_and_end_nothing():
    assert weight([(REPLICATE, NOW + 9, 5), (HIT, NOW + 100, 1), (HIT, NOW, 1)], 2.0, NOW) == 2.0


def test_no_hit_no_weight():
    assert weight([], 5.0, NOW) == 0.0


def test_a_node_is_overloaded_above_its_threshold_and_not_at_it():
    assert not is_overloaded(100.0, 100.0)
    assert is_overloaded(100.0001, 100.0)


# --- the load as it is told ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "step"), [(0, 0), (0.04, 0), (0.06, 1), (0.94, 9), (1, 10), (1.0001, 11), (1.5, 15), (2, 20), (9, 20)]
)
def test_load_is_told_in_twenty_steps_of_which_the_upper_ten_are_overloaded(share, step):
    assert load_step(100.0 * share, 100.0) == step


@given(st.floats(0, 1e300), st.floats(1e-300, 1e12), st.none() | st.integers(0, 30))
def test_a_load_step_tells_overloaded_nodes_from_others_whatever_was_told_before(total, threshold, before):
    step = load_step(total, threshold, before)
    assert 0 <= step <= LOAD_STEPS
    assert (step > FULL_LOAD) == is_overloaded(total, threshold)


@given(st.lists(st.floats(0, 100), max_size=20), st.integers(0, 10))
def test_a_load_that_swings_within_a_step_is_told_once(totals, start):
    """From any step below the threshold: loads within less than a step of it change nothing."""
    step = start
    for total in totals:
        moved = load_step(total, 100.0, step)
        assert (moved == step) if abs(total / 100.0 * FULL_LOAD - step) < 1 else (moved == load_step(total, 100.0))
        step = moved


@given(st.floats(0, 300), st.floats(0, 300))
def test_more_load_is_never_a_lower_step(one, other):
    low, high = sorted([one, other])
    assert load_step(low, 100.0) <= load_step(high, 100.0)


# --- what to retire -----------------------------------------------------------------------------------------------


def test_the_lightest_replica_is_retired_and_the_name_decides_between_equals():
    assert to_retire([("a", 5.0, 0.0), ("b", 1.0, 0.0), ("c", 2.0, 0.0)], NOW) == "b"
    assert to_retire([("b", 0.0, 0.0), ("a", 0.0, 0.0)], NOW) == "a"
    assert to_retire([], NOW) is None


@pytest.mark.parametrize(
    ("age", "is_retired"),
    [(0.0, False), (RETIRE_AFTER, False), (RETIRE_AFTER + 0.001, True), (-0.5, False), (-3600.0, True)],
)
def test_a_replica_that_was_just_paid_for_stays(age, is_retired):
    """A little in the future is another process' clock reading; far in the future, a clock that was wrong."""
    assert to_retire([("a", 0.0, NOW - age)], NOW) == ("a" if is_retired else None)
    assert to_retire([("a", 0.0, NOW - age), ("b", 9.0, 0.0)], NOW) == ("a" if is_retired else "b")


def test_a_balance_is_kept_up_with_fresh_calls_and_made_anew_for_whatever_else_changes():
    runs, asked = [(HIT, NOW - 20, 2)], []
    balance = Balance()

    def kept_up(now=NOW, cost=3.0):
        total = balance.weight(lambda: asked.append(now) or list(reversed(runs)), cost, now)
        assert total == weight(list(reversed(runs)), cost, now)

    def come(*run):
        runs.append(run)
        balance.add(run)

    kept_up(), come(HIT, NOW, 1), kept_up(), come(HIT, NOW + 1, 4), kept_up(NOW + 0.9)
    assert len(asked) == 1
    kept_up(NOW + 1), kept_up(NOW + 1, 2.0)
    assert len(asked) == 3
    for change in (lambda: come(REPLICATE, NOW, 1), lambda: come(HIT, NOW - 30, 1), balance.forget):
        asked.clear()
        change()
        kept_up(NOW + 1, 2.0)
        assert len(asked) == 1
