"""Which records are believed no longer: what passes with time, and what a change of the revoked or of our keys makes so."""

import pytest

from bdserver.core.membership import DEAD, Record
from bdserver.processes import doubts as module
from bdserver.processes.doubts import MINUTE, Doubts
from tests.unit.peers import StandIn
from tests.unit.seals import Believing
from tests.unit.views import NOW


class Doubting(Believing):
    """Doubts the certificates of these."""

    def __init__(self):
        self.names, self.asked = set(), []

    def doubt_certificate(self, record, certificate):
        self.asked.append((record.name, certificate))
        return "it is over" if record.name in self.names else None


@pytest.fixture
def node(tmp_path):
    (tmp_path / "revoked").write_text("")
    node = StandIn(tmp_path, revoked=str(tmp_path / "revoked"))
    node.rules.revoked.reload(str(tmp_path / "revoked"))
    node.proofs = Doubting()
    for number in range(5):
        node.learn(Record(f"n{number}", f"n{number}:1", (int(NOW), 0), certificate=f"c{number}"))
    with node.cache.locked() as view:
        for number in range(5):
            view.learn_certificate(f"c{number}", f"text {number}")
    yield node
    node.close()


def gone(node, doubts, wall):
    return doubts.gone(node.cache.view(), wall)


def test_each_minute_all_are_looked_at_once(node):
    doubts = Doubts(node)
    for second in range(int(MINUTE)):
        assert gone(node, doubts, NOW + second) == {}
    assert sorted(node.proofs.asked) == [(f"n{number}", f"text {number}") for number in range(5)]
    node.proofs.names = {"n3", "me"}
    assert gone(node, doubts, NOW + MINUTE) == {"n3": "it is over"}, "and never this node itself"


def test_a_clock_that_is_put_back_delays_nothing(node):
    doubts = Doubts(node)
    gone(node, doubts, NOW + 9_000_000)
    node.proofs.names = {"n3"}
    assert gone(node, doubts, NOW) == {"n3": "it is over"}


def test_of_many_a_part_each_second(node, monkeypatch):
    monkeypatch.setattr(module, "RECORDS_AT_ONCE", 2)
    doubts = Doubts(node)
    counts = []
    for second in range(4):
        gone(node, doubts, NOW + second)
        counts.append(len(node.proofs.asked))
    assert counts[-1] == 5 and max(b - a for a, b in zip([0, *counts], counts, strict=False)) == 2


@pytest.mark.parametrize("what", ["revoked", "keys", "not done"])
def test_what_changes_for_all_is_looked_at_at_once(node, tmp_path, monkeypatch, what):
    monkeypatch.setattr(module, "RECORDS_AT_ONCE", 2)
    doubts = Doubts(node)
    for second in range(4):
        gone(node, doubts, NOW + second)
    if what == "revoked":
        (tmp_path / "revoked").write_text("n1\n")
        node.proofs.names = {"n1", "n4"}
    elif what == "keys":
        node.proofs = Doubting()
        node.proofs.names = {"n1", "n4"}
    else:
        node.proofs.names = {"n1", "n4"}
        doubts.look_again()
    assert gone(node, doubts, NOW + 4) == {"n1": "it is over", "n4": "it is over"}


def test_a_record_of_a_time_to_come_is_not_kept_when_the_clock_is_right_again(node):
    node.learn(Record("early", "early:1", (int(NOW) + 3 * 86400, 0)))
    node.learn(Record("late", "late:1", (1, 0), DEAD, NOW + 2 * 86400))
    found = gone(node, Doubts(node), NOW)
    assert found == {
        "early": "its version is 3.0 days ahead of our clock",
        "late": "that it is dead is dated 2.0 days ahead of our clock",
    }
