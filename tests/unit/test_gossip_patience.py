"""How much time others are given, and what a node that is late itself leaves undone."""

import math

import pytest

from bdserver.core.gossip.actions import PUSH_SECONDS, Probe, Push, Silent, Synchronise, Taken
from bdserver.core.gossip.patience import (
    AWARENESS_MAX,
    FIRST_SECONDS,
    LAG_HALF_LIFE,
    LAG_STEP,
    PATIENCE_MAX,
    Awareness,
    Lag,
    Patience,
)
from bdserver.core.gossip.watch import PROBE_SECONDS
from bdserver.core.membership import Record
from bdserver.core.messages import Pong
from tests.unit.minds import doubt, drained, mind_at, of_kind
from tests.unit.views import NOW, a_view, changed


def late_mind(seconds=1.0, clock=10.0):
    """A mind whose loop comes so much later than it was to."""
    mind, view = mind_at(), a_view(*[f"n{i}" for i in range(9)])
    drained(mind, view, clock - 2)
    mind.next_at(view)
    mind._promised_at = clock - seconds
    return mind, view


def test_patience_has_an_end():
    awareness = Awareness()
    awareness.raised(AWARENESS_MAX + 5)
    assert awareness.value == AWARENESS_MAX
    awareness.lag.note(100.0, 0.0)
    assert awareness.value == AWARENESS_MAX


def test_a_lag_fades():
    lag = Lag()
    lag.note(0.8, 10.0)
    assert lag.seconds == 0.8
    lag.note(-5.0, 10.0 + LAG_HALF_LIFE)
    assert lag.seconds == pytest.approx(0.4)
    lag.note(0.1, 10.0 + 4 * LAG_HALF_LIFE)
    assert lag.seconds == pytest.approx(0.1)


def test_the_lag_is_how_much_later_the_mind_is_asked_than_it_wished():
    mind, view = mind_at(), a_view("a")
    mind.due(view, 0.0, 0.0, 100.0)
    wished = mind.next_at(view)
    mind.due(view, wished, 0.0, 100.0)
    assert mind.awareness.lag.seconds == 0.0 and mind.awareness.value == 0
    wished = mind.next_at(view)
    mind.due(view, wished + 3.5 * LAG_STEP, 0.0, 100.0)
    assert mind.awareness.lag.seconds == pytest.approx(3.5 * LAG_STEP) and mind.awareness.value == 3
    mind.hurry("a")
    mind.next_at(view)
    mind.due(view, 100.0, 0.0, 100.0)
    assert mind.awareness.value == 0, "what is wished for at once was wished for at no known time"


def test_who_took_long_is_waited_for_longer_and_forgotten_slowly():
    patience = Patience(Awareness())
    assert patience.seconds(0.5, "a") == FIRST_SECONDS and patience.of_others(0.5) == 0.5
    patience.asked("a", 10.0)
    patience.asked("a", 10.9)  # the first question is not answered yet
    patience.answered("a", 11.0)
    assert patience.seconds(0.5, "a") == 4.0
    for clock in range(20, 30):
        patience.asked("a", clock)
        patience.answered("a", clock + 0.001)
    assert patience.seconds(0.5, "a") == 0.5
    patience.asked("a", 40.0)
    patience.answered("a", 90.0)
    assert patience.seconds(0.5, "a") == PATIENCE_MAX and patience.seconds(10.0, "a") == 10.0
    patience.answered("a", 95.0)  # nobody had asked
    patience.forget({"b"})
    assert patience.seconds(0.5, "a") == FIRST_SECONDS


def test_a_node_whose_loop_is_late_waits_longer_and_does_less():
    mind, view = late_mind(seconds=0.3)
    mind.rounds._round_at = 0.0
    actions = mind.due(view, 10.0, 0.0, 100.0)
    assert mind.awareness.value == 3
    assert [probe.seconds for probe in of_kind(actions, Probe)] == [4 * PROBE_SECONDS]
    assert len(of_kind(actions, Synchronise)) == 1 and mind.rounds.next_at() > 10.0 + 4 * 8, "the next round is put off"
    assert 10.0 + 1.0 < mind.watch.next_at() <= 10.0 + 4.0


def test_a_node_whose_loop_is_late_tells_its_news_and_keeps_the_echoes_for_later():
    for seconds, echoes in ((0.0, 1), (0.3, 0)):
        mind, view = late_mind(seconds)
        mind.watch._probe_at = math.inf  # they would ride along
        view = changed(view, lambda twin: twin.describe(twin.own._replace(draining=True), NOW))
        pushes = of_kind(mind.due(view, 10.0, 0.0, 100.0), Push)
        assert {push.name for push in pushes} == set(mind.company.near)
        assert {push.seconds for push in pushes} == {PUSH_SECONDS * (1 + mind.awareness.value)}
        for push in pushes:
            mind.done(push, Taken(0), view, 10.0)
        mind.next_at(view)
        assert len(of_kind(mind.due(view, 10.31, 0.0, 100.0), Push)) == echoes
        mind._promised_at = math.inf
        assert of_kind(mind.due(view, 13.0, 0.0, 100.0), Push) or echoes


def test_an_answer_that_comes_late_ends_the_doubt_and_is_remembered():
    mind, view = mind_at(), a_view("n0", "n1", "n2", "n3", "n4")
    drained(mind, view, 10)
    mind.hurry("n0")
    probe = next(a for a in of_kind(mind.due(view, 10.0, 0.0, 100.0), Probe) if a.name == "n0")

    _, asks = mind.done(probe, Silent(), view, 10.5)
    assert len(asks) == 3
    mind.came_late("n0", 10.6)
    assert [mind.done(ask, Silent(), view, 11.0) for ask in asks] == [([], [])] * 3, "nobody is accused"
    mind.hurry("n0")
    again = next(a for a in of_kind(mind.due(view, 12.0, 0.0, 100.0), Probe) if a.name == "n0")
    assert again.seconds == pytest.approx(4 * 0.6)


def test_a_suspect_that_answers_late_is_not_buried():
    mind, view = mind_at(), a_view("n0")
    mind.due(view, 0.0, 0.0, 100.0)

    doubt(mind, view, Silent())
    view = changed(view, lambda twin: twin.accuse("n0", NOW))
    assert mind.verdicts(view, 1.0) == []
    mind.came_late("n0", 6.5)
    assert mind.verdicts(view, 7.2) == []


def test_nobody_waits_until_a_suspect_has_heard_us_out():
    mind, view = mind_at(), a_view("a", "b", "c")
    drained(mind, view, 10)
    view = changed(view, lambda twin: twin.describe(twin.own._replace(draining=True), NOW))
    pushes = {push.name: push for push in of_kind(mind.due(view, 10.0, 0.0, 100.0), Push)}
    silent = mind.company.near[0]
    for name, push in pushes.items():
        if name != silent:
            mind.done(push, Taken(0), view, 10.0)
    view = changed(view, lambda twin: twin.describe(twin.own._replace(draining=False), NOW))
    assert not of_kind(mind.due(view, 10.1, 0.0, 100.0), Push)
    view = changed(view, lambda twin: twin.merge(Record(silent, f"{silent}:1", (1, 0), "suspect", NOW), NOW))
    assert of_kind(mind.due(view, 10.2, 0.0, 100.0), Push)


def test_a_word_to_a_suspect_does_not_hold_up_the_news():
    mind, view = mind_at(), changed(a_view("n0", "n1", "n2"), lambda twin: twin.accuse("n0", NOW))
    drained(mind, view, 10)
    _, [word] = mind.done(Probe("n0", "n0:1", 1.0), Pong(), view, 60.0)
    mind.done(word, Taken(0), view, 60.1)
    view = changed(view, lambda twin: twin.describe(twin.own._replace(draining=True), NOW))
    assert of_kind(mind.due(view, 60.2, 0.0, 100.0), Push)
