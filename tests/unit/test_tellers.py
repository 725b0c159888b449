"""A budget for each teller, and what is said of those who tell what is not believed."""

import contextlib
import itertools
import logging

import pytest

from bdserver.core.exchange import Absorbed, Later
from bdserver.core.membership import Record
from bdserver.errors import TooBusy
from bdserver.processes import tellers as module
from bdserver.processes.tellers import CHANGES_MAX, MINUTE, PROVED_MAX, REFUSED_MAX, Tellers
from tests.unit.seals import Believing

RECORD = Record("n0", "n0:1", (1, 0))


class Doubting(Believing):
    """Doubts every record of an odd version."""

    def doubt(self, record, certificate):
        return "it is odd" if record.version[1] % 2 else None


class Hearing:
    """Who suspects us, as they were noted."""

    def __init__(self):
        self.doubters = []

    def note_doubters(self, names, now):
        self.doubters += names


class Node:
    proofs = Doubting()

    def __init__(self):
        self.heard = Hearing()

    @staticmethod
    def clock():
        return 5.0


class Telling:
    """Tellers, at a time that the test says."""

    def __init__(self):
        self.clock = 1000.0
        self.node = Node()
        self.numbers = itertools.count()
        self.tellers = Tellers(self.node, lambda: self.clock)

    def tell(self, name, good=0, bad=0, broken=0, lacking=0):
        """As absorb does it; how many were looked at."""
        prove, refused, count = self.tellers.prove_for(name), ["a record must be an object"] * broken, 0
        for number in [0] * good + [1] * bad:
            about = RECORD if number else RECORD._replace(name=f"n0{next(self.numbers)}")
            try:
                why = prove(about._replace(version=(1, number)), "")
            except TooBusy:
                break
            count += 1
            if why:
                refused.append(f"the record of n0: {why}")
        self.tellers.took(name, Absorbed({}, [], refused, lacking))
        return count


@pytest.fixture
def telling():
    return Telling()


@pytest.mark.parametrize("field", ["good", "lacking"])
def test_so_many_are_proved_within_a_minute_and_no_more(telling, field):
    for _ in range(3):
        telling.tell("n1", **{field: PROVED_MAX // 2})
        assert not telling.tellers.is_spent("n1")
        telling.tell("n1", **{field: PROVED_MAX // 2})
        assert telling.tellers.is_spent("n1") and telling.tell("n1", good=1) == 0
        assert not telling.tellers.is_spent("n2") and telling.tell("n2", good=1) == 1
        telling.clock += MINUTE


@pytest.mark.parametrize("field", ["bad", "broken"])
def test_so_many_may_be_refused_and_no_more(telling, field):
    telling.tell("n1", good=5, **{field: REFUSED_MAX - 1})
    assert not telling.tellers.is_spent("n1")
    telling.tell("n1", **{field: 10})
    assert telling.tellers.is_spent("n1")
    telling.clock += MINUTE - 1
    assert telling.tellers.is_spent("n1")
    telling.clock += 1
    assert not telling.tellers.is_spent("n1")


def test_the_last_of_them_ends_the_exchange_in_which_it_comes(telling):
    assert telling.tell("n1", bad=10 * REFUSED_MAX) == REFUSED_MAX and telling.tellers.is_spent("n1")


def test_the_log_has_who_tells_it_and_how_much_without_a_line_each(telling, caplog):
    caplog.set_level(logging.WARNING)
    for _ in range(20):
        telling.tell("n1", good=3, bad=2)
    assert caplog.messages == ["left out of what n1 tells: the record of n0: it is odd"]
    telling.clock += MINUTE
    telling.tell("n1", bad=1)
    assert caplog.messages[1:] == ["40 records were left out of what n1 told within a minute"]
    caplog.clear()
    telling.tell("n1", bad=10 * REFUSED_MAX)
    assert len(caplog.messages) == 1 and "n1 told too much for a minute" in caplog.messages[0]


def test_a_node_that_changes_without_end_is_passed_over_whoever_tells_it_and_nobody_is_blamed(telling, caplog):
    """Else it would spend the budgets of all nodes that pass on what it says."""

    def news(teller, count, name="restless"):
        prove, taken = telling.tellers.prove_for(teller), 0
        for number in range(count):
            with contextlib.suppress(Later):
                taken += prove(RECORD._replace(name=name, version=(1, 2 * number)), "") is None
        telling.tellers.took(teller, Absorbed({}, [], [], 0))
        return taken

    assert news("n1", 1000) + news("n2", 1000) + news("restless", PROVED_MAX) == CHANGES_MAX
    assert not any(telling.tellers.is_spent(name) for name in ("n1", "n2", "restless"))
    assert news("n1", 1, "another") == 1
    assert caplog.messages == [f"restless changed what it says {CHANGES_MAX} times within a minute: the rest is passed over"]
    telling.clock += MINUTE
    assert news("n1", 5) == 5


def test_what_is_not_believed_spends_nothing_of_the_node_that_it_names(telling):
    prove = telling.tellers.prove_for("liar")
    with contextlib.suppress(TooBusy):
        for _ in range(CHANGES_MAX):
            assert prove(RECORD._replace(name="victim", version=(1, 1)), "") == "it is odd"
    assert telling.tellers.prove_for("n1")(RECORD._replace(name="victim"), "") is None


def test_many_tellers_do_not_fill_memory(telling, monkeypatch):
    monkeypatch.setattr(module, "TELLERS_MAX", 10)
    for number in range(40):
        telling.tell(f"n{number}", bad=REFUSED_MAX)
        telling.clock += MINUTE / 5
        assert len(telling.tellers._tellers) <= 10 and telling.tellers.is_spent(f"n{number}")


def test_who_suspects_this_node_is_noted(telling):
    telling.tellers.took("n1", Absorbed({}, [], [], 0, ("n1", "n2")))
    assert telling.node.heard.doubters == ["n1", "n2"]
