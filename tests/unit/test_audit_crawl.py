"""What a crawl asks, and what it makes of answers."""

import threading
import time

import pytest

from bdserver.audit import crawl
from bdserver.audit.config import AuditConfig
from bdserver.core import messages
from bdserver.core.holding import Holder
from bdserver.core.messages import Status
from bdserver.errors import BadFrame, NobodyThere
from bdserver.net import dialling
from tests.unit.canned import OFFER, Node, own, seen, unvisited

STATUS = {
    "name": "n1", "address": "10.0.0.1:1", "mesh": "m", "version": [1, 1], "software": "1", "nodes": 1, "weight": 1.5,
    "receiver_threshold": 10, "overloaded": False, "draining": False, "free_dynamic": 1, "uptime": 1.0,
    "certificate_days_left": 1.0, "policy": None, "rival": None, "complaints": [], "warnings": [], "events": [], "services": {},
}  # fmt: skip


def heard(own, *rows):
    """What the crawl makes of an answer to STATUS, as it comes from the network."""
    said = messages.decode("STATUS", ["STATUS", own, list(rows)])
    return crawl._status(said.own), [crawl._sight(row) for row in said.nodes]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a/b"}, {"name": None}, {"weight": "1"}, {"weight": True}, {"uptime": None}, {"services": {"..": {}}},
        {"services": {"S": []}}, {"services": {"S": {"weight": None, "cost": 1}}}, {"services": None}, {"services": []},
        {"free_dynamic": [], "x": 1}, {"events": "no"}, {"complaints": {"a": 1}}, {"policy": 7}, {"rival": 7},
    ],
)  # fmt: skip
def test_a_status_that_makes_no_sense_is_refused(change):
    with pytest.raises(BadFrame):
        heard(STATUS | change)


@pytest.mark.parametrize("missing", ["events", "rival", "policies", "policy_mode"])
def test_a_status_that_lacks_what_came_later_is_read_without_it(missing):
    assert heard({key: value for key, value in STATUS.items() if key != missing})[0].name == "n1"


def test_an_event_without_a_time_is_as_old_as_can_be():
    assert heard(STATUS | {"events": [{"at": "now", "what": "gave"}]})[0].events[0]["at"] == 0.0


@pytest.mark.parametrize(
    "row",
    [[], ["n1"], ["a b", "x", "alive", [1, 1], True, 0], ["n1", "x", "great", [1, 1], True, 0], ["n1", "x", "alive", [1], True, 0],
     ["n1", "x", "alive", ["1", 1], True, 0], {"name": "n1"}, None],
)  # fmt: skip
def test_a_sight_that_makes_no_sense_is_refused(row):
    with pytest.raises(BadFrame):
        heard(STATUS, row)


def test_texts_from_the_mesh_are_printable_and_short():
    status = crawl._status(STATUS | {"address": "a\x1b[31m\n" + "x" * 10000})
    assert status.address.isprintable() and len(status.address) == crawl.TEXT_CHARACTERS_MAX


def test_whether_a_service_is_checked_is_told_and_of_older_nodes_not_doubted():
    services = {"New": OFFER | {"checked": False}, "Old": OFFER, "Sick": OFFER | {"checked": True, "healthy": False}}
    status, _ = heard(STATUS | {"services": services})
    assert {name: (offer.is_checked, offer.is_healthy) for name, offer in status.services.items()} == {
        "New": (False, True),
        "Old": (True, True),
        "Sick": (True, False),
    }
    seen = {"urls": {}, "types": {"New": "static", "Old": "static"}, "draining": False, "offers": {"New": {"checked": False}}}
    assert {name: each.is_checked for name, each in crawl._hearsay(seen).services.items()} == {"New": False, "Old": True}


def test_how_a_service_stands_is_told_cut_and_of_older_nodes_not_known():
    long = "x\x1b" + "y" * 1000
    copy = {"type": "dynamic", "edition": [7, long], "original": long, "stale": True, "replicas": 3}
    status, _ = heard(STATUS | {"services": {"New": OFFER | copy, "Old": OFFER}})
    new, old = (status.services[name].held for name in ("New", "Old"))
    assert old == Holder() and new.stale and (new.replicas, new.edition.counter) == (3, 7)
    assert all(text.isprintable() and len(text) == crawl.TEXT_CHARACTERS_MAX for text in (new.original, new.edition.digest))
    seen = {"types": {"Echo": "dynamic", "Old": "static"}, "urls": {}, "draining": False}
    services = crawl._hearsay(seen | {"offers": {"Echo": {"orphan": True}}}).services
    assert services["Echo"].held == Holder("dynamic", orphan=True) and services["Old"].held == Holder()


# --- asking -------------------------------------------------------------------------------------------------------


def brief(name, number, status="alive"):
    """As STATUS tells of a node to a crawl."""
    return [name, f"10.0.0.{number}:9001", status, [1, 1], True, 5.0]


@pytest.fixture
def mesh(monkeypatch):
    """The local node alpha, which answers for beta and gamma too; only beta knows gamma."""
    told = {
        "alpha": Status(own(policies={"d": "<x/>"}), [seen("alpha"), seen("beta", 2), seen("dead", 9, status="dead"), unvisited("10.0.0.7:9001")]),
        "beta": Status(own("beta"), [brief("beta", 2), brief("gamma", 3)]),
        "gamma": Status(own("gamma"), [brief("gamma", 3)]),
    }  # fmt: skip
    node = Node(STATUS=lambda wish=None: told[(wish or {}).get("of", "alpha")])
    node.told = told
    monkeypatch.setattr(dialling, "dial_local", lambda path, deadline: node.dial())
    return node


def crawled(seconds=20.0):
    return crawl.crawl(AuditConfig("/x/audit.conf", {"crawl_seconds": seconds}))


def test_all_that_can_be_found_are_asked_through_the_node_of_this_host(mesh):
    found = crawled()
    assert found.entry == "alpha" and sorted(found.statuses) == ["alpha", "beta", "gamma"] and found.failures == {}
    assert found.sights["beta"]["gamma"].address == "10.0.0.3:9001" and found.sights["alpha"]["dead"].status == "dead"
    assert found.hints == ["10.0.0.7:9001"] and found.policies == {"d": "<x/>"}
    assert found.hearsay["beta"].services["Echo"].url == "http://10.0.0.2:8080/axis/Echo?wsdl"
    wishes = [request[1] for request in mesh.asked]
    assert wishes == [{"brief": False}, {"of": "beta", "brief": True}, {"of": "gamma", "brief": True}]
    assert time.time() - 60 < found.taken_at <= time.time() and found.seconds < 20


def test_who_can_not_be_asked_is_told_with_the_reason(mesh):
    mesh.told["beta"] = NobodyThere("10.0.0.2:9001: nobody\nthere")
    found = crawled()
    assert found.failures == {"beta": ("nobody-there", "10.0.0.2:9001: nobody\ufffdthere")} and "beta" not in found.statuses


def test_an_answer_in_anothers_name_counts_for_nobody(mesh):
    mesh.told["beta"] = mesh.told["gamma"]
    assert crawled().failures["beta"] == ("bad-frame", "beta says that it is gamma")


def test_an_entry_that_speaks_briefly_unasked_is_no_entry(mesh):
    mesh.told["alpha"] = Status(own(), [brief("beta", 2)])
    with pytest.raises(BadFrame, match="is no answer to STATUS"):
        crawled()


def test_an_entry_that_does_not_know_itself_is_none(mesh):
    mesh.told["alpha"] = Status(own("alpha"), [seen("beta")])
    with pytest.raises(BadFrame, match="alpha does not tell of itself"):
        crawled()


def test_a_state_that_nobody_knows_is_nonsense(mesh):
    mesh.told["beta"] = Status(own("beta"), [brief("gamma", 3, "tired")])
    assert crawled().failures["beta"] == ("bad-frame", "'tired' is no state of a node")


def test_with_keys_of_its_own_it_calls_each_node_itself(mesh, monkeypatch):
    called = []

    def dial(address, credentials, deadline, name):
        called.append((address, credentials, name))
        return Node(STATUS=mesh.told[name]).dial()

    monkeypatch.setattr(dialling, "dial", dial)
    found = crawl.crawl_from([mesh.dial], 20.0, "keys")
    assert called == [("10.0.0.2:9001", "keys", "beta"), ("10.0.0.3:9001", "keys", "gamma")]
    assert sorted(found.statuses) == ["alpha", "beta", "gamma"]


def test_without_an_entrance_there_is_no_crawl():
    with pytest.raises(NobodyThere, match="no entrance"):
        crawl.crawl_from([], 1.0)


class _Counting:
    """Nodes of which the first `silent` answer only when as many are asked at once; and the most that were."""

    def __init__(self, silent):
        self.silent, self.now, self.most, self.lock = silent, 0, 0, threading.Lock()
        self.all_there = threading.Barrier(silent) if silent else None

    def ask(self, name, address):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        if int(name) < self.silent:
            self.all_there.wait(20)
        with self.lock:
            self.now -= 1

    def close(self):
        pass


class _All:
    """Forty nodes, told at once."""

    def __init__(self):
        self.left, self.taken, self.failures = [(str(number), "") for number in reversed(range(40))], [], {}

    def next_ones(self):
        left, self.left = self.left, []
        return left

    def take(self, name, said):
        self.taken.append(name)


@pytest.mark.parametrize(("silent", "least", "most"), [(0, 1, crawl.AT_ONCE), (10, 10, crawl.WORKERS)])
def test_few_are_asked_at_once_and_more_while_nobody_answers(silent, least, most):
    answers, askers = _All(), _Counting(silent)
    crawl._spread(answers, askers)
    assert sorted(map(int, answers.taken)) == list(range(40)) and least <= askers.most <= most


def test_who_a_page_is_about_is_asked_for_more(mesh):
    crawl.crawl(AuditConfig("/x/audit.conf", {}), crawl.About(node="beta", hours=6))
    wishes = [request[1] for request in mesh.asked]
    more = {"detail": True, "timeline": 6}
    assert wishes == [{"brief": False, **more}, {"of": "beta", "brief": True, **more}, {"of": "gamma", "brief": True}]
    mesh.asked.clear()
    crawl.crawl(AuditConfig("/x/audit.conf", {}), crawl.About("Echo"))
    assert all(request[1]["detail"] == "Echo" and "timeline" not in request[1] for request in mesh.asked)
    mesh.asked.clear()
    crawl.crawl(AuditConfig("/x/audit.conf", {}), crawl.About(hours=6))
    assert [request[1].get("timeline") for request in mesh.asked] == [6, None, None]


def test_what_is_told_beside_is_taken_as_far_as_it_makes_sense(mesh):
    lookup = {
        "at": 5.0,
        "service": "Echo",
        "client": "x\n",
        "node": "beta",
        "phase": 1,
        "why": "",
        "asked": [["beta", "YES", 1.5], 7, ["a"]],
    }
    mesh.told["alpha"].own.update(
        {
            "askers": {"Echo": [["192.0.2.1", 5], ["x"], [7, 7], "x", ["y", "z"]], "Maps": 7},
            "lookups": [lookup, 7, {}, lookup | {"at": "x"}, lookup | {"phase": float("nan")}, lookup | {"asked": 7}],
            "timeline": {"now": "x"},
        }
    )
    mesh.told["beta"].own.update({"askers": 7, "lookups": 7, "timeline": {"now": 100, "hours": 1, "spans": []}})
    found = crawled().statuses
    assert found["alpha"].askers == {"Echo": [("192.0.2.1", 5)], "Maps": []} and found["alpha"].line is None
    taken = crawl.LookUp(5.0, "Echo", "x\ufffd", "beta", 1, "", [("beta", "YES", 1.5)])
    assert found["alpha"].lookups == [taken, taken._replace(asked=[])]
    assert (found["beta"].askers, found["beta"].lookups, found["beta"].line.hours) == ({}, [], 1)
