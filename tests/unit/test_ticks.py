"""A beat that is kept, however late something is done."""

import pytest

from bdserver.core.ticks import following


@pytest.mark.parametrize(("due_at", "seconds", "clock", "next_at"), [
    (10.0, 1.0, 10.0, 11.0), (10.0, 1.0, 10.4, 11.0), (10.0, 1.0, 12.9, 13.0), (10.0, 5.0, 10.1, 15.0), (10.0, 1.0, 9.5, 10.0), (3610.25, 1.0, 10.5, 11.25),
])  # fmt: skip
def test_the_next_one_is_in_the_beat_and_in_the_future(due_at, seconds, clock, next_at):
    assert following(due_at, seconds, clock) == next_at > clock
