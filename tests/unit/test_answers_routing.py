"""WHEREIS in all its phases, WILLYOUEXECUTE, YOUWILLEXECUTE, of nodes in memory that really ask each other."""

import pytest

from bdserver import errors
from bdserver.core.messages import DontHave, Mismatch, No, Nobody, Place, Yes
from bdserver.core.nudges import Hurry, Visit
from bdserver.core.roles import CLIENT
from bdserver.processes.answers import routing
from bdserver.processes.describing import Told, update_own
from tests.unit.nodes import a_node, acquaint, document


def whereis(node, service="Echo", policy=None):
    return node.ask("WHEREIS", service, policy, role=CLIENT)


def words(answer):
    return [(each["node"], each["answer"]) for each in answer.details["asked"]]


def hits(node, service="Echo"):
    return sum(count for kind, _, count in node.hitlog.runs(service, node.clock()) if kind == "HIT")


# --- phase 1 ------------------------------------------------------------------------------------------------------


def test_the_node_asked_names_itself(tmp_path):
    node = a_node(tmp_path).offer("Echo")
    said = whereis(node)
    assert isinstance(said, Place) and (said.host, said.axis_port, said.web_dir) == ("ME", 8080, "axis")
    assert said.details["url"] == "http://10.0.0.1:8080/axis/Echo?wsdl" and said.details["phase"] == 1
    assert hits(node) == 1


def test_a_holder_elsewhere_says_so_itself_and_counts_the_hit(tmp_path):
    node, holder = a_node(tmp_path), a_node(tmp_path, "holder").offer("Echo", url="https://{host}/{service}")
    acquaint(node, holder)
    said = whereis(node)
    assert (said.host, said.details["node"], said.details["url"]) == ("10.0.0.2", "holder", "https://10.0.0.2/Echo")
    assert words(said) == [("holder", "YES")] and hits(holder) == 1


def alone(tmp_path):
    """Nobody but the node asked has it."""
    return a_node(tmp_path, receiver_threshold=20).offer("Echo")


def alone_and_draining(tmp_path):
    """Nobody else has it, and the node asked takes no calls any more."""
    node = alone(tmp_path)
    update_own(node, Told(draining=True))
    return node


def one_elsewhere(tmp_path):
    """Another node has it, and promises calls."""
    node, holder = a_node(tmp_path), a_node(tmp_path, "holder", receiver_threshold=300).offer("Echo")
    acquaint(node, holder)
    return node


def one_elsewhere_without_room(tmp_path):
    """Another node has it, and is soon overloaded."""
    node, holder = a_node(tmp_path, max_dynamic=0), a_node(tmp_path, "holder", receiver_threshold=20).offer("Echo")
    acquaint(node, holder)
    return node


def two(tmp_path):
    """The node asked, and another."""
    node = alone(tmp_path)
    acquaint(node, a_node(tmp_path, "holder", receiver_threshold=20).offer("Echo"))
    return node


def settled(node):
    """What has just changed is looked at again and again."""
    return node.settle()


@pytest.mark.parametrize("mesh", [alone, alone_and_draining, one_elsewhere, one_elsewhere_without_room, two])
def test_where_only_one_node_may_be_named_the_answers_are_those_of_a_search(tmp_path, monkeypatch, mesh):
    def told(folder):
        folder.mkdir()
        node, said = settled(mesh(folder)), []
        with node.call_me(CLIENT) as talk:
            for _ in range(40):
                answer = talk.ask(["WHEREIS", "Echo", None])
                said.append(
                    (type(answer), answer.details["node"], answer.details["phase"], answer.details["url"], words(answer))
                )
        return said

    at_once = told(tmp_path / "at once")
    monkeypatch.setattr(routing, "_of_the_only_one", lambda session, world, service: None)
    assert at_once == told(tmp_path / "searched")


def test_where_only_one_node_may_be_named_there_is_no_search_but_the_first(tmp_path, monkeypatch):
    searched, search = [], routing._searched
    monkeypatch.setattr(routing, "_searched", lambda *arguments: searched.append(True) or search(*arguments))
    node = settled(alone(tmp_path))
    with node.call_me(CLIENT) as talk:
        assert {talk.ask(["WHEREIS", "Echo", None]).host for _ in range(10)} == {"ME"}
    assert len(searched) == 1 and hits(node) == 10


def test_an_answer_that_says_the_same_as_one_before_is_that_one_and_another_where_a_holder_says_another(tmp_path, monkeypatch):
    node, holder = a_node(tmp_path), a_node(tmp_path, "holder", receiver_threshold=300).offer("Echo")
    acquaint(node, holder)
    settled(node)
    with node.call_me(CLIENT) as talk:

        def ports():
            return {talk.ask(["WHEREIS", "Echo", None]).axis_port for _ in range(20)}

        assert ports() == {8080} and len(node._world.places) == 1
        wallet = talk.session.taker._wallet
        spend = wallet.spend
        monkeypatch.setattr(wallet, "spend", lambda *asked: spend(*asked) and Yes(4711, "axis", "http://x/"))
        assert 4711 in ports()


def a_hung_one_and_another(tmp_path):
    """A node that knows two holders, and asks the one that hangs first."""
    node, hung, well = a_node(tmp_path), a_node(tmp_path, "hung").offer("Echo"), a_node(tmp_path, "well").offer("Echo")
    acquaint(node, hung, well)
    update_own(well)
    node.network.hang(hung.address)
    return node, hung, well


def test_a_holder_that_hangs_is_passed_by_and_what_it_agrees_to_later_weighs_nothing(tmp_path):
    for _ in range(20):
        node, hung, well = a_hung_one_and_another(tmp_path)
        said = whereis(node)
        assert said.details["node"] == "well" and said.details["phase"] == 1
        if ("hung", "deadline") in words(said):
            break
        node.network.wake(hung.address)
    assert ("hung", "deadline") in words(said)
    before = hits(hung)
    hung.network.wake(hung.address)
    assert hits(hung) == before and hits(well) >= 1
    with open(hung.hitlog.path("Echo")) as file:
        assert [line.split()[0] for line in file] == ["HIT", "BACK"]


def test_what_was_dropped_in_this_moment_is_found_and_told(tmp_path):
    node = a_node(tmp_path)
    with open(f"{node.settings.services_dir}/Echo.bdcert", "w") as file:
        file.write("url=http://here/\n")
    assert whereis(node).details["url"] == "http://here/" and "Echo" in node.cache.view().own.services


def test_a_service_that_is_not_well_is_not_offered(tmp_path):
    node = a_node(tmp_path).offer("Echo")
    update_own(node, Told(unhealthy=["Echo"]))
    assert isinstance(whereis(node), Nobody)
    assert node.ask("WILLYOUEXECUTE", "Echo") == node.ask("YOUWILLEXECUTE", "Echo") == DontHave()


def test_of_what_nobody_has_there_are_details_and_nobody_was_asked(tmp_path):
    said = whereis(a_node(tmp_path))
    assert isinstance(said, Nobody) and said.details == {"url": "", "node": "", "service": "Echo", "phase": 0, "asked": []}


def test_a_holder_that_is_silent_is_passed_over_and_the_discoverer_told(tmp_path):
    node, silent, holder = a_node(tmp_path), a_node(tmp_path, "silent").offer("Echo"), a_node(tmp_path, "holder").offer("Echo")
    acquaint(node, silent, holder)
    node.network.trouble[silent.address] = errors.Deadline("late")
    with node.call_me(CLIENT) as talk:
        while True:  # whose turn comes first, the dice say
            said = talk.ask(["WHEREIS", "Echo", None])
            assert said.details["node"] == "holder"
            if ("silent", "nobody-there") in words(said):
                break
    assert Hurry("silent") in node.nudged()


def test_a_holder_that_has_it_no_longer_is_visited(tmp_path):
    node, holder = a_node(tmp_path), a_node(tmp_path, "holder").offer("Echo")
    acquaint(node, holder)
    holder.services.withdraw("Echo")
    assert isinstance(whereis(node), Nobody)
    assert node.nudged() == [Visit("holder")]


# --- policies -----------------------------------------------------------------------------------------------------


def test_a_holder_whose_policy_does_not_meet_the_clients_is_never_named(tmp_path):
    node = a_node(tmp_path)
    holder = a_node(tmp_path, "holder", policy=document("Signed"), copies="none").offer("Echo")
    acquaint(node, holder)
    said = whereis(node, policy=document("Encrypted"))
    assert isinstance(said, Mismatch) and said.details["why"] == "it may not be copied (copies=none)"
    assert whereis(node, policy=document("Signed")).details["node"] == "holder"
    assert whereis(node).details["node"] == "holder"


def test_a_client_policy_that_is_none_is_refused(tmp_path):
    with pytest.raises(errors.BadPolicy, match="the client's policy:1"):
        whereis(a_node(tmp_path), policy="<Policy")


def test_who_may_not_be_called_is_reached_through_a_relay(tmp_path):
    node, holder = a_node(tmp_path, policy=document("A")), a_node(tmp_path, "holder", policy=document("B")).offer("Echo")
    relay = a_node(tmp_path, "relay")
    acquaint(node, holder, relay)
    said = whereis(node)
    assert (said.details["node"], said.host, said.details["phase"]) == ("holder", "10.0.0.2", 1)
    assert words(said) == [("relay", "YES")] and hits(holder) == 1


def test_without_a_relay_nobody_is_found(tmp_path):
    node, holder = a_node(tmp_path, policy=document("A")), a_node(tmp_path, "holder", policy=document("B")).offer("Echo")
    acquaint(node, holder)
    assert isinstance(whereis(node), Nobody)


# --- phases 2 and 3 -----------------------------------------------------------------------------------------------


def overloaded_holder(tmp_path, **settings):
    holder = a_node(tmp_path, "holder", receiver_threshold=1.0).offer("Echo", b"print(1)")
    node = a_node(tmp_path, **settings)
    acquaint(node, holder)
    holder.overload("Echo")
    return node, holder


def test_when_the_holders_are_overloaded_a_copy_comes_here(tmp_path):
    node, _holder = overloaded_holder(tmp_path)
    said = whereis(node)
    assert (said.host, said.details["phase"], said.details["node"]) == ("ME", 2, "me")
    assert words(said) == [("holder", "NO"), ("me", "YES")]
    here = node.services.get("Echo")
    with open(here.path, "rb") as file:
        assert file.read() == b"print(1)"
    assert here.type == "dynamic" and hits(node) == 1 and Visit("me") in node.nudged()


def test_without_room_for_a_copy_a_holder_is_told_to_serve_late(tmp_path):
    node, holder = overloaded_holder(tmp_path, max_dynamic=0)
    before = hits(holder)
    said = whereis(node)
    assert (said.details["phase"], said.details["node"]) == (3, "holder") and hits(holder) == before + 1
    assert words(said) == [("holder", "NO"), ("me", "NO"), ("holder", "YES")]


def test_a_draining_holder_serves_late_and_its_service_is_copied(tmp_path):
    node, holder = a_node(tmp_path), a_node(tmp_path, "holder").offer("Echo", None, url="http://h/")
    update_own(holder, Told(draining=True))
    acquaint(node, holder)
    assert holder.ask("WILLYOUEXECUTE", "Echo") == No()
    assert whereis(node).details["phase"] == 3  # what is registered by its URL can't be copied


# --- one call -----------------------------------------------------------------------------------------------------


def test_one_more_call_is_taken_until_the_node_is_overloaded_and_late_calls_after_that(tmp_path):
    node = a_node(tmp_path, receiver_threshold=1.5).offer("Echo")
    yes = Yes(8080, "axis", "http://10.0.0.1:8080/axis/Echo?wsdl")
    assert [node.ask("WILLYOUEXECUTE", "Echo") for _ in range(3)] == [yes, yes, No()]
    assert node.ask("YOUWILLEXECUTE", "Echo") == yes and hits(node) == 3
    node.clock.now += 60
    assert node.ask("WILLYOUEXECUTE", "Echo") == yes


def test_an_overloaded_node_with_the_setting_of_2006_is_asked_in_drawn_order(tmp_path):
    node, _holder = overloaded_holder(tmp_path, routing="original")
    assert whereis(node).details["phase"] == 2


def test_what_is_not_here_is_not_taken(tmp_path):
    assert a_node(tmp_path).ask("WILLYOUEXECUTE", "Echo") == DontHave()


def test_a_deadline_that_is_over_is_said(tmp_path):
    with a_node(tmp_path).call_me() as talk, pytest.raises(errors.Deadline, match="no time left for PING"):
        talk.ask(["PING"], 0.0)
