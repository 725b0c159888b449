"""What happened lately: in order, of one node or service when that is asked for, and never without end."""

from bdserver.audit.crawl import LookUp
from bdserver.audit.lately import EVENTS_MAX, ROWS_MAX, Asker, Lately

from . import crawls


def event(at, service="Echo", giver="", taker=""):
    return {"at": at, "what": "gave", "service": service, "giver": giver, "taker": taker}


def lately(**told):
    """Of a crawl in which each of these nodes tells so."""
    made = crawls.mesh(len(told))
    for (name, status), more in zip(list(made.statuses.items()), told.values(), strict=True):
        made.statuses[name] = status._replace(**more)
    return Lately(made)


def test_events_are_those_of_all_journals_newest_first():
    found = lately(a={"events": [event(3.0), event(1.0, "Maps")]}, b={"events": [event(2.0)]})
    assert [(each["at"], each["node"]) for each in found.events()] == [(3.0, "n000"), (2.0, "n001"), (1.0, "n000")]
    assert [each["at"] for each in found.events("Maps")] == [1.0]


def test_a_node_has_the_events_of_its_own_journal_and_those_it_had_a_part_in():
    found = lately(a={"events": [event(3.0, taker="n001"), event(1.0)]}, b={"events": [event(2.0)]})
    assert [each["at"] for each in found.events_of_node("n001")] == [3.0, 2.0]


def test_who_calls_most_comes_first():
    found = lately(a={"askers": {"Echo": [("x", 1), ("y", 9)]}}, b={"askers": {"Maps": [("z", 5)]}})
    most, *rest = found.askers()
    assert most == Asker("y", "Echo", "n000", 9) and [each.client for each in rest] == ["z", "x"]
    assert (
        [each.client for each in found.askers(node="n001")] == [each.client for each in found.askers(service="Maps")] == ["z"]
    )


def test_look_ups_are_newest_first_and_of_one_node_or_service():
    def looked(at, service):
        return LookUp(at, service, "client", "n001", 1, "", [])

    found = lately(a={"lookups": [looked(1.0, "Echo")]}, b={"lookups": [looked(2.0, "Maps")]})
    assert [(name, each.at) for name, each in found.lookups()] == [("n001", 2.0), ("n000", 1.0)]
    assert found.lookups(node="n000") == found.lookups(service="Echo") == [("n000", looked(1.0, "Echo"))]


def test_nothing_goes_on_without_end():
    told = {
        "events": [event(float(at), taker="n000") for at in range(99)],
        "askers": {"Echo": [(str(at), at) for at in range(99)]},
    }
    found = lately(a=told | {"lookups": [LookUp(float(at), "Echo", "", "", 1, "", []) for at in range(99)]})
    assert len(found.events()) == len(found.events_of_node("n000")) == EVENTS_MAX and len(found.events(most=None)) == 99
    assert len(found.askers()) == len(found.lookups()) == ROWS_MAX
