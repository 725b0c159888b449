"""Both ends of tickets, of nodes in memory that really ask each other: what they spend, tell, log, and when a ticket ends."""

import contextlib
import time

import pytest

from bdserver.core.messages import No, Yes
from bdserver.core.roles import CLIENT
from bdserver.core.tickets import ASKER_SHARE, TICKET_SECONDS
from bdserver.core.weight import is_overloaded
from bdserver.errors import NobodyThere
from bdserver.files.revoked import Revoked
from bdserver.processes.describing import Told, update_own
from tests.unit.clocks import Clock
from tests.unit.nodes import a_node, acquaint

TAKES = {"spent": 0}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The monotonic one: a ticket lasts a second, and a machine that is busy stops for as long."""
    clock = Clock(time.monotonic())
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def pair(tmp_path):
    """(a node with a caller, the holder, a function that looks up on the caller's one connection)."""
    return a_pair(tmp_path)


def a_pair(tmp_path, **settings):
    node, holder = a_node(tmp_path, **settings), a_node(tmp_path, "holder", receiver_threshold=1000, **settings).offer("Echo")
    acquaint(node, holder)
    talk = node.call_me(CLIENT)
    return node, holder, talk


def look(talk):
    return talk.ask(["WHEREIS", "Echo", None]).details["asked"][-1]["answer"]


def with_tickets(talk, count=5):
    """Look up until so many were spent; how many look-ups that took."""
    said = []
    while said.count("TICKET") < count:
        said.append(look(talk))
        assert len(said) < 100
    return len(said)


def calls(holder):
    """HIT and BACK lines of its log."""
    with open(holder.hitlog.path("Echo")) as file:
        kinds = [line.split()[0] for line in file]
    return kinds.count("HIT") - kinds.count("BACK")


def weight(holder):
    return holder.load.total_weight(holder.clock())


# --- what is spent, told, logged ----------------------------------------------------------------------------------


def test_after_some_questions_lookups_need_none_and_the_log_has_each_call_once(pair):
    _, holder, talk = pair
    said = [look(talk) for _ in range(100)]
    assert said[:3] == ["YES", "YES", "TICKET"] and said.count("TICKET") > 90
    assert calls(holder) >= 100
    talk.close()
    assert calls(holder) == 100 and weight(holder) == 100.0


def test_what_has_ended_is_told_while_the_caller_says_nothing(pair, clock):
    _, holder, talk = pair
    count = with_tickets(talk)
    taker = talk.session.taker
    assert taker.ends_at() == clock.now + TICKET_SECONDS and calls(holder) > count
    taker.tell()
    assert calls(holder) == count and taker.ends_at() is None
    assert look(talk) == "YES"


def test_a_holder_that_can_not_be_told_is_let_go(pair):
    node, holder, talk = pair
    count = with_tickets(talk)
    node.network.trouble[holder.address] = NobodyThere("gone")
    talk.session.taker.tell()
    assert talk.session.taker.ends_at() is None and calls(holder) >= count


def test_where_the_web_servers_log_tells_of_calls_a_promise_weighs_only_while_it_lasts(tmp_path):
    log = tmp_path / "access"
    log.write_text("")
    _, holder, talk = a_pair(tmp_path, access_log=str(log))
    with_tickets(talk)
    assert weight(holder) > 0
    talk.close()
    assert calls(holder) == 0


def test_with_routing_original_neither_end_has_tickets(tmp_path):
    _, holder, talk = a_pair(tmp_path, routing="original")
    assert {look(talk) for _ in range(20)} == {"YES"} and calls(holder) == 20
    with holder.call_me() as asker:
        assert [asker.ask(["WILLYOUEXECUTE", "Echo", TAKES]).promise for _ in range(3)] == [{}, {}, {}]


def test_an_asker_that_says_nothing_of_tickets_gets_none(pair):
    _, holder, _ = pair
    with holder.call_me() as asker:
        assert [asker.ask(["WILLYOUEXECUTE", "Echo"]).promise for _ in range(3)] == [{}, {}, {}]


# --- when a ticket ends -------------------------------------------------------------------------------------------


def hung_up(node, holder, talk):
    for kept in talk.session._connections._kept.values():
        kept.conversation.has_hung_up = True


def drained(node, holder, talk):
    update_own(holder, Told(draining=True))
    node.knows(holder)


def a_new_policy(node, holder, talk):
    with holder.cache.locked() as view:
        view.describe(view.own._replace(policy="another"), holder.clock())
    node.knows(holder)


def a_new_edition(node, holder, talk):
    with holder.cache.locked() as view:
        own = view.own
        service = own.services["Echo"]
        edition = service.edition._replace(counter=service.edition.counter + 1)
        view.describe(own._replace(services={"Echo": service._replace(edition=edition)}), holder.clock())
    node.knows(holder)


def revoked(node, holder, talk):
    (path := node.network.folder / "revoked").write_text(f"{holder.name}\n")
    node.rules = node.rules._replace(revoked=Revoked(str(path)))


def the_askers_sighup(node, holder, talk):
    talk.session.look_anew()


def its_address(node, holder, talk):
    with holder.cache.locked() as view:
        view.describe(view.own._replace(address="10.0.0.9:9001"), holder.clock())
    node.knows(holder)


ENDS = [hung_up, drained, a_new_policy, a_new_edition, revoked, the_askers_sighup, its_address]


@pytest.mark.parametrize("end", ENDS)
def test_a_ticket_ends_with(end, pair):
    node, holder, talk = pair
    with_tickets(talk)
    assert look(talk) == "TICKET"
    end(node, holder, talk)
    said = talk.ask(["WHEREIS", "Echo", None])
    assert "TICKET" not in [each["answer"] for each in said.details["asked"]]


def test_a_ticket_ends_with_its_time(pair, clock):
    _, _, talk = pair
    with_tickets(talk)
    clock.now += TICKET_SECONDS - 0.001
    assert look(talk) == "TICKET"
    clock.now += 0.001
    assert look(talk) == "YES"


def test_what_is_broken_off_is_given_back_with_its_promise(pair):
    _, holder, _ = pair
    asker = holder.call_me()
    given = [asker.ask(["WILLYOUEXECUTE", "Echo", TAKES]), asker.ask(["WILLYOUEXECUTE", "Echo", TAKES])]
    assert [each.promise.get("tickets", 0) for each in given] == [0, 1] and calls(holder) == 3
    asker.break_off()
    assert calls(holder) == 1


# --- how much one may have ----------------------------------------------------------------------------------------


def test_one_asker_has_its_share_on_however_many_connections_and_others_have_theirs(pair):
    _, holder, _ = pair

    def greedy(name):
        outstanding = 0
        for _ in range(20):  # connections, each of which says that it has spent all but the last
            talk, spent = holder.call_me(name=name), 0
            for _ in range(6):
                said = talk.ask(["WILLYOUEXECUTE", "Echo", {"spent": spent}])
                spent = said.promise.get("tickets", 0) if isinstance(said, Yes) else 0
            outstanding += spent
        return outstanding

    share = ASKER_SHARE * holder.settings.receiver_threshold
    assert share - 1 <= greedy("greedy") <= share
    assert greedy("another") > 20


def test_an_overloaded_holder_says_until_when_and_is_not_asked_before(tmp_path):
    node, busy, well = a_node(tmp_path), a_node(tmp_path, "busy").offer("Echo"), a_node(tmp_path, "well").offer("Echo")
    acquaint(node, busy, well)
    busy.overload("Echo")
    with busy.call_me() as asker:
        said = asker.ask(["WILLYOUEXECUTE", "Echo", TAKES])
        assert isinstance(said, No) and said.holds == {"not_before": 3.0}
        assert asker.ask(["WILLYOUEXECUTE", "Echo"]) == No()
    talk = node.call_me(CLIENT)
    asked = [each for _ in range(50) for each in talk.ask(["WHEREIS", "Echo", None]).details["asked"] if each["node"] == "busy"]
    assert [each["answer"] for each in asked] == ["NO"]


def test_where_all_have_said_no_a_call_is_served_late_without_asking_them_anew(tmp_path):
    node, busy = a_node(tmp_path, max_dynamic=0), a_node(tmp_path, "busy").offer("Echo")
    acquaint(node, busy)
    busy.overload("Echo")
    talk = node.call_me(CLIENT)
    found = [talk.ask(["WHEREIS", "Echo", None]).details for _ in range(3)]
    assert [details["phase"] for details in found] == [3, 3, 3]
    assert [sum(each["node"] == "busy" for each in details["asked"]) for details in found] == [2, 1, 1]


def test_room_comes_when_the_hits_have_become_old_enough(tmp_path):
    holder = a_node(tmp_path, receiver_threshold=10).offer("Echo", weight=1)
    now = holder.clock()
    holder.hitlog.extend("Echo", [("-", now - 9.0)] * 11)
    services = holder.services.all()
    assert is_overloaded(weight(holder), 10) and holder.load.room_in(now + 0.25, "Echo", services) == 1.75
    assert not is_overloaded(holder.load.total_weight(now + 2), 10)


def test_a_node_whose_disk_is_full_promises_nothing(pair, monkeypatch):
    _, holder, _ = pair
    with holder.call_me() as asker:
        asker.ask(["WILLYOUEXECUTE", "Echo", TAKES])
        monkeypatch.setattr(holder, "log_calls", lambda *_: False)
        assert asker.ask(["WILLYOUEXECUTE", "Echo", TAKES]).promise == {}


def test_an_asker_that_comes_while_another_child_has_the_purse_goes_on_where_it_was(pair, monkeypatch):
    _, holder, _ = pair
    with holder.call_me() as asker:
        given = 0
        for _ in range(4):
            given = asker.ask(["WILLYOUEXECUTE", "Echo", {"spent": given}]).promise.get("tickets", 0)
        assert given == 4
        with monkeypatch.context() as patched:
            patched.setattr(holder.purse, "opened", lambda *_: contextlib.nullcontext())
            assert asker.ask(["WILLYOUEXECUTE", "Echo", {"spent": given}]).promise == {}
        assert asker.ask(["WILLYOUEXECUTE", "Echo", {"spent": 0}]).promise["tickets"] == 8


def test_what_was_promised_of_a_service_that_is_gone_is_nobodys(pair):
    _, holder, _ = pair
    with holder.call_me() as asker:
        for _ in range(3):
            asker.ask(["WILLYOUEXECUTE", "Echo", TAKES])
        holder.services.withdraw("Echo")
        assert asker.ask(["SPENT", {"Echo": 0, "Other": 7}]).notes == ()
