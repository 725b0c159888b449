"""A budget for each teller, and what is said of those who tell what is not believed."""

import logging

import pytest

from bdserver.core.exchange import Absorbed
from bdserver.core.membership import Record
from bdserver.errors import TooBusy
from bdserver.processes import tellers as module
from bdserver.processes.tellers import MINUTE, PROVED_MAX, REFUSED_MAX, Tellers
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
        self.tellers = Tellers(self.node, lambda: self.clock)

    def tell(self, name, good=0, bad=0, broken=0, lacking=0):
        """As absorb does it; how many were looked at."""
        prove, refused, count = self.tellers.prove_for(name), ["a record must be an object"] * broken, 0
        for number in [0] * good + [1] * bad:
            try:
                why = prove(RECORD._replace(version=(1, number)), "")
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


def test_many_tellers_do_not_fill_memory(telling, monkeypatch):
    monkeypatch.setattr(module, "TELLERS_MAX", 10)
    for number in range(40):
        telling.tell(f"n{number}", bad=REFUSED_MAX)
        telling.clock += MINUTE / 5
        assert len(telling.tellers._tellers) <= 10 and telling.tellers.is_spent(f"n{number}")


def test_who_suspects_this_node_is_noted(telling):
    telling.tellers.took("n1", Absorbed({}, [], [], 0, ("n1", "n2")))
    assert telling.node.heard.doubters == ["n1", "n2"]
