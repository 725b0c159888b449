"""Who holds a service: what a node tells of each holder, and what those who read it make of all of them."""

import json

import pytest

from bdserver.core import copies, holding, messages, turns
from bdserver.core.holding import Holder, Whole
from bdserver.core.membership import DEAD, DYNAMIC, NO_EDITION, STATIC, Copies, Edition, Record, Service, Withdrawal
from bdserver.core.messages import Status
from bdserver.core.view import View
from tests.unit.canned import own, seen

NAME = "Echo"
OLD, NEW, OTHER = Edition(100, "a" * 32), Edition(200, "b" * 32), Edition(150, "c" * 32)


def offer(kind=STATIC, edition=NEW, checked=True, **more):
    return Service(kind, 1.0, "", True, edition, checked=checked, **more)


def copy(edition=NEW, original="n1", **more):
    return offer(DYNAMIC, edition, original=original, **more)


def view_of(me="me", **services):
    """A view in which each of these nodes has the service so; None: it has not."""
    view = View(me)
    for name in {me: None} | services:
        there = {NAME: services[name]} if services.get(name) else {}
        view.put(Record(name, f"{name}:1", (1, 0), services=there))
    return view


def told(view, node):
    return holding.told(view, view.records[node], NAME)


def test_what_is_as_usual_stays_at_home():
    assert told(view_of(n1=offer(edition=NO_EDITION)), "n1") == {} and holding.from_json(STATIC, {}) == Holder()
    assert told(view_of(n1=offer()), "n1") == {"edition": [200, "bbbbbbbb"]}
    assert told(view_of(n1=offer(), n2=copy(replicas=3, copies=Copies.NONE, signer="K", idle_since=7)), "n2") == {
        "edition": [200, "bbbbbbbb"], "original": "n1", "replicas": 3, "copies": "none", "signer": "K", "idle_since": 7,
    }  # fmt: skip


def test_a_service_whose_health_nobody_looks_at_is_told_so():
    assert told(view_of(n1=offer(edition=NO_EDITION, checked=False)), "n1") == {"checked": False}
    assert not holding.from_json(STATIC, {"checked": False}).checked and holding.from_json(STATIC, {}).checked


def test_a_copy_is_told_to_be_stale_orphaned_or_about_to_go():
    view = view_of(n1=offer(), n2=copy(OLD), n3=copy(OLD, "gone"))
    assert told(view, "n2")["stale"] is True and "orphan" not in told(view, "n2")
    assert told(view, "n3")["orphan"] is True and "stale" not in told(view, "n3")
    gone = View("me")
    gone.put(Record("n1", "n1:1", (1, 0), withdrawn={NAME: Withdrawal(200, 300)}))
    gone.put(Record("n2", "n2:1", (1, 0), services={NAME: copy()}))
    assert told(gone, "n2")["withdrawn"] is True
    assert told(view_of(n2=copy(original="")), "n2") == {"edition": [200, "bbbbbbbb"]}  # of an older time: nobody knows


@pytest.mark.parametrize("node", ["n1", "n2", "n3"])
def test_it_is_the_same_at_the_other_end(node):
    view = view_of(n1=offer(after="n0"), n2=copy(OLD, idle_since=7), n3=copy(OLD, "gone"))
    record = view.records[node]
    said = json.loads(json.dumps(told(view, node)))
    row = {**seen(node), "offers": {NAME: said}}
    assert messages.decode("STATUS", ["STATUS", own(), [row]], [])
    held = holding.from_json(record.services[NAME].type, said)
    assert held == holding.holder(view, record, NAME)
    assert holding.from_json(held.type, holding.as_json(held)) == held


@pytest.mark.parametrize(
    "said", [{"edition": [1]}, {"edition": ["1", ""]}, {"edition": [1, 2]}, {"stale": 1}, {"replicas": "3"}, {"original": None}]
)
def test_another_shape_is_no_answer(said):
    row = {**seen("n1"), "offers": {NAME: said}}
    with pytest.raises(messages.BadFrame):
        messages.decode("STATUS", ["STATUS", own(), [row]], [])


@pytest.mark.parametrize(
    ("held", "words", "marks"),
    [
        (Holder(), "original", []),
        (Holder(after="n0"), "original, after n0", []),
        (Holder(DYNAMIC), "copy", []),
        (Holder(DYNAMIC, original="n1", stale=True, orphan=True), "copy of n1", ["stale", "orphan"]),
        (Holder(DYNAMIC, original="n1", withdrawn=True, idle_since=7), "copy of n1", ["withdrawn", "idle"]),
    ],
)
def test_in_words(held, words, marks):
    assert (held.words, held.marks) == (words, marks)


# --- as a whole -----------------------------------------------------------------------------------------------------


def test_what_its_original_wants_counts_and_while_there_is_none_what_its_copies_want():
    original, one = Holder(edition=NEW, replicas=3), Holder(DYNAMIC, OLD, "n1", replicas=2)
    found = holding.whole({"n1": original, "n2": one._replace(stale=True)})
    assert found == Whole(2, 3, NEW, ["n2"], [], None) and found.living_of_wanted == "2 of 3"
    assert [each.words for each in found.findings()] == ["copies that are older than their original: n2", "2 of 3 holders live"]
    left = holding.whole({"n2": one._replace(orphan=True)})
    assert left == Whole(1, 2, OLD, [], ["n2"], None)
    assert [each.key for each in left.findings()] == ["orphan", "short"]
    assert holding.whole({"n1": Holder()}).living_of_wanted == "1" and holding.whole({"n1": Holder()}).findings() == []
    assert holding.whole({}) == Whole(0, 0, NO_EDITION, [], [], None)


def test_originals_that_differ_are_named_with_their_editions_and_since_when():
    found = holding.whole({"n1": Holder(edition=NEW), "n2": Holder(edition=OTHER), "n3": Holder(DYNAMIC, OLD, "n1")})
    assert found.rivals == copies.Rivals({"n1": NEW.digest, "n2": OTHER.digest}, 200)
    [finding] = found.findings()
    assert (
        finding.key == "rivals" and "n1 (edition bbbbbbbb), n2 (edition cccccccc), since 1970-01-01 00:03 UTC" in finding.words
    )
    assert found.rivals.words("n1") == "n2 (edition cccccccc), since 1970-01-01 00:03 UTC"
    assert copies.Rivals({}, 2**53).words() == f", since edition {2**53}"
    for same in (Holder(edition=Edition(7, NEW.digest)), Holder(), Holder(DYNAMIC, OLD, "n1")):
        assert holding.whole({"n1": Holder(edition=NEW), "n2": same}).rivals is None


def test_a_node_says_of_its_own_original_that_another_differs():
    view = view_of("n1", n1=offer(), n2=offer(edition=OTHER))
    assert turns.condition(view).rivals == ("Echo, at n2 (edition cccccccc), since 1970-01-01 00:03 UTC",)
    assert copies.rivals(view, NAME) == copies.Rivals({"n1": NEW.digest, "n2": OTHER.digest}, 200)


def test_the_services_of_a_status_are_those_of_the_living():
    offers = {NAME: {"edition": [200, "bbbbbbbb"], "original": "n1", "stale": True}}
    nodes = [
        seen("n2", 2, types={NAME: "dynamic"}, offers=offers),
        seen("n1", services=("Echo", "Alone")),
        seen("n3", 3, status=DEAD),
    ]
    found = holding.services(Status(own(), nodes))
    assert list(found) == ["Alone", "Echo"] and [each["node"] for each in found["Echo"]] == ["n2", "n1"]
    assert found["Echo"][0]["stale"] and found["Echo"][0]["url"].startswith("http://10.0.0.2")
    assert found["Echo"][1] == {
        "node": "n1", "type": "static", "url": "http://10.0.0.1:8080/axis/Echo?wsdl", "edition": [0, ""], "original": "",
        "after": "", "replicas": 0, "copies": "any", "signer": "", "idle_since": 0, "checked": True, "stale": False, "orphan": False,
        "withdrawn": False,
    }  # fmt: skip
    assert holding.whole_of(found["Echo"]) == Whole(2, 0, NO_EDITION, ["n2"], [], None)
    assert holding.kind_of("something new") == STATIC


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ([["192.0.2.1", 5], ["", 2]], [("192.0.2.1", 5), ("", 2)]),
        ([["x"], [7, 7], "xy", ["y", "z"], ["a", True], ["a", 1.5], None], []),
        ({"a": 1}, []),
        (None, []),
    ],
)
def test_of_who_calls_what_makes_sense_is_taken(said, taken):
    assert holding.callers(said) == taken
