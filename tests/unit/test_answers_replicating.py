"""WILLYOUREPLICATE, GIVESERVICE, FIND, MASSMESSAGE, of nodes in memory that give each other real packages."""

import contextlib
import fcntl
import io
import itertools
import os
import threading
import time

import pytest

from bdserver import errors
from bdserver.core import plan, turns
from bdserver.core.membership import Withdrawal
from bdserver.core.messages import (
    DontHave,
    Found,
    NetFault,
    No,
    NotFound,
    NotGiven,
    Package,
    RelayedYes,
    Yes,
)
from bdserver.core.nudges import Hurry
from bdserver.core.roles import ADMIN
from bdserver.files import durable, package
from bdserver.processes.answers import ANSWERS, replicating
from bdserver.processes.describing import Told, update_own
from tests.unit.nodes import NOW, a_mesh, a_node, acquaint, document

ECHO = b"print('echo')"


def a_copier(tmp_path, *more, **settings):
    """(a node without Echo, one that has it, and more)."""
    node, holder = a_node(tmp_path, **settings), a_node(tmp_path, "holder").offer("Echo", ECHO, rack="joe")
    rest = [a_node(tmp_path, name) for name in more]
    acquaint(node, holder, *rest)
    return node, holder, *rest


def content(node, service="Echo"):
    with open(node.services.get(service).path, "rb") as file:
        return file.read()


def is_clean(node):
    """Nothing of a copy is left in scratch."""
    return [each for each in node.scratch if each != ".lock"] == []


def events(node):
    return [(each["what"], each["service"]) for each in node.journal.recent(9)]


# --- WILLYOUREPLICATE ---------------------------------------------------------------------------------------------


def test_a_copy_is_fetched_goes_live_and_takes_the_call(tmp_path):
    node, holder = a_copier(tmp_path)
    assert node.ask("WILLYOUREPLICATE", "Echo") == Yes(8080, "axis", "http://10.0.0.1:8080/axis/Echo?wsdl")
    here = node.services.get("Echo")
    assert (content(node), here.type, here.arrived_at, here.extra) == (ECHO, "dynamic", NOW, (("rack", "joe"),))
    assert here.original == "holder" and here.edition == holder.services.get("Echo").edition
    assert node.hitlog.runs("Echo", NOW) == [("HIT", int(NOW), 1)]
    assert holder.hitlog.runs("Echo", NOW) == [("REPLICATE", int(NOW), 1)]
    assert node.cache.view().own.free_dynamic == 4 and "Echo" in node.cache.view().own.services
    assert events(node) == [("replicated", "Echo")] and events(holder) == [("gave", "Echo")] and is_clean(node)


def test_what_is_here_already_is_not_fetched_again(tmp_path):
    node, _holder = a_copier(tmp_path)
    for _ in range(2):
        assert isinstance(node.ask("WILLYOUREPLICATE", "Echo"), Yes)
    assert len(node.network.called) == 1


@pytest.mark.parametrize("reason", ["no slots", "draining", "overloaded"])
def test_without_room_nothing_is_fetched(tmp_path, reason):
    node, _ = a_copier(tmp_path, max_dynamic=0 if reason == "no slots" else 1, receiver_threshold=1.0)
    if reason == "draining":
        update_own(node, Told(draining=True))
    if reason == "overloaded":
        node.offer("Other").overload("Other")
    assert node.ask("WILLYOUREPLICATE", "Echo") == No() and node.network.called == []


def test_a_full_node_sends_its_lightest_replica_to_the_graveyard_unless_all_have_just_come(tmp_path):
    node, holder = a_copier(tmp_path, max_dynamic=1)
    holder.offer("Other", b"o")
    node.knows(holder)
    node.ask("WILLYOUREPLICATE", "Echo")
    assert node.ask("WILLYOUREPLICATE", "Other") == No()
    node.clock.now += 61
    assert isinstance(node.ask("WILLYOUREPLICATE", "Other"), Yes)
    assert node.services.buried() == ["Echo"] and ("retired", "Echo") in events(node)


def test_of_a_service_that_nobody_has_there_is_no_copy_and_no_trace(tmp_path):
    node, *_ = a_mesh(tmp_path, "me", "other", "third")
    for service in ("Nothing", "Made.up", "x" * 100):
        assert node.ask("WILLYOUREPLICATE", service) == NotGiven()
    assert node.scratch == []


def test_one_that_is_registered_by_its_url_is_not_given(tmp_path):
    node, holder = a_node(tmp_path), a_node(tmp_path, "holder").offer("Echo", None, url="http://h/")
    acquaint(node, holder)
    assert node.ask("WILLYOUREPLICATE", "Echo") == NotGiven() and holder.ask("GIVESERVICE", "Echo") == No()
    assert is_clean(node)


@pytest.mark.parametrize("is_by_config", [False, True])
def test_what_is_not_to_be_copied_is_given_to_nobody_who_asks_for_it(tmp_path, is_by_config):
    node, holder = a_node(tmp_path), a_node(tmp_path, "holder", **({"copies": "none"} if is_by_config else {}))
    holder.offer("Echo", ECHO, **({} if is_by_config else {"copies": "none"}))
    acquaint(node, holder)
    assert holder.ask("GIVESERVICE", "Echo") == No() and node.ask("WILLYOUREPLICATE", "Echo") == NotGiven() and is_clean(node)
    assert holder.ask("FIND", "Echo", [], 1).file is None


def test_a_holder_whom_no_cache_mentions_is_searched(tmp_path):
    node, between = a_mesh(tmp_path, "me", "between")
    between.knows(a_node(tmp_path, "holder").offer("Echo", ECHO))
    assert isinstance(node.ask("WILLYOUREPLICATE", "Echo"), Yes) and content(node) == ECHO and is_clean(node)
    assert node.journal.recent(1)[0]["giver"] == "holder" and "not known here" in node.journal.recent(1)[0]["why"]


def test_a_holder_that_we_may_not_call_gives_through_a_relay(tmp_path):
    node = a_node(tmp_path, policy=document("A"))
    holder, relay = a_node(tmp_path, "holder", policy=document("B")).offer("Echo", ECHO), a_node(tmp_path, "relay")
    acquaint(node, holder, relay)
    assert isinstance(node.ask("WILLYOUREPLICATE", "Echo"), Yes) and content(node) == ECHO
    assert node.journal.recent(1)[0]["giver"] == "holder" and node.network.called[0] == relay.address


def test_a_holder_that_is_silent_is_followed_by_the_search(tmp_path):
    node, holder, other = a_copier(tmp_path, "other")
    other.offer("Echo", ECHO)  # which `node` has not heard of yet
    node.network.trouble[holder.address] = errors.NobodyThere("silent")
    assert isinstance(node.ask("WILLYOUREPLICATE", "Echo"), Yes)
    assert node.journal.recent(1)[0]["giver"] == "other"


def test_when_nobody_gives_it_there_is_none_and_the_next_try_is_free(tmp_path):
    node, holder = a_copier(tmp_path)
    node.network.trouble[holder.address] = errors.NobodyThere("silent")
    assert node.ask("WILLYOUREPLICATE", "Echo") == NotGiven() and is_clean(node)
    del node.network.trouble[holder.address]
    assert isinstance(node.ask("WILLYOUREPLICATE", "Echo"), Yes)


def test_a_package_that_is_not_what_was_declared_is_not_installed(tmp_path, monkeypatch):
    node, _holder = a_copier(tmp_path)

    def lie(session, service):
        data = io.BytesIO()
        length, _ = package.pack(session.node.services.get(service), data)
        data.seek(0)
        return Package({"bytes": length, "sha256": "0" * 64}, data)

    monkeypatch.setitem(ANSWERS, "GIVESERVICE", lie)
    with pytest.raises(errors.BadPackage, match="SHA-256"):
        node.ask("WILLYOUREPLICATE", "Echo")
    assert node.services.get("Echo") is None and is_clean(node)


def test_what_is_withdrawn_while_it_comes_does_not_go_live(tmp_path, monkeypatch):
    node, holder = a_copier(tmp_path)
    give = ANSWERS["GIVESERVICE"]

    def give_and_withdraw(session, service):
        package = give(session, service)
        holder.services.withdraw(service)
        update_own(holder, Told(withdrawn={service: Withdrawal(int(NOW), int(NOW))}))
        acquaint(node, holder)
        return package

    monkeypatch.setitem(ANSWERS, "GIVESERVICE", give_and_withdraw)
    with pytest.raises(errors.CantFind, match="Echo was withdrawn while it came from holder"):
        node.ask("WILLYOUREPLICATE", "Echo")
    assert node.services.get("Echo") is None and is_clean(node)


def test_a_package_over_our_limit_is_not_taken(tmp_path):
    node, _holder = a_copier(tmp_path, package_bytes_max=1000)
    assert node.ask("WILLYOUREPLICATE", "Echo") == NotGiven() and node.services.get("Echo") is None


def test_two_callers_at_once_get_one_copy(tmp_path, monkeypatch):
    node, holder = a_copier(tmp_path)
    said = []
    is_given, may_go_on = threading.Event(), threading.Event()
    give = ANSWERS["GIVESERVICE"]

    def slowly(session, service):
        is_given.set()
        assert may_go_on.wait(10)
        return give(session, service)

    monkeypatch.setitem(ANSWERS, "GIVESERVICE", slowly)
    first = threading.Thread(target=lambda: said.append(node.ask("WILLYOUREPLICATE", "Echo")))
    first.start()
    assert is_given.wait(10) and node.scratch == ["Echo.lock"]
    with node.call_me() as talk, pytest.raises(errors.Deadline, match="another copy of Echo is still on its way"):
        talk.ask(["WILLYOUREPLICATE", "Echo"], time.monotonic() + 0.25)
    second = threading.Thread(target=lambda: said.append(node.ask("WILLYOUREPLICATE", "Echo")))
    second.start()
    may_go_on.set()
    first.join(10), second.join(10)
    assert [type(each) for each in said] == [Yes, Yes] and is_clean(node)
    assert holder.hitlog.runs("Echo", NOW) == [("REPLICATE", int(NOW), 1)]


def test_a_lock_file_that_its_owner_has_just_removed_locks_nobody_out(tmp_path, monkeypatch):
    path = str(tmp_path / "Echo.lock")
    lock = fcntl.flock

    def just_too_late(file, kind):
        os.unlink(path)
        monkeypatch.setattr(fcntl, "flock", lock)
        return lock(file, kind)

    monkeypatch.setattr(fcntl, "flock", just_too_late)
    assert replicating._locked(path) is None
    with replicating._locked(path), contextlib.suppress(AssertionError):
        assert replicating._locked(path) is None


def test_a_copy_that_is_withdrawn_at_once_takes_no_call(tmp_path, monkeypatch):
    node, _ = a_copier(tmp_path)
    monkeypatch.setattr(node.services, "install", lambda *_: None)
    assert node.ask("WILLYOUREPLICATE", "Echo") == No()


# --- GIVESERVICE --------------------------------------------------------------------------------------------------


def test_a_service_is_given_as_the_package_that_was_declared(tmp_path):
    node = a_node(tmp_path).offer("Echo", ECHO)
    with node.call_me() as talk:
        given, out = talk.ask(["GIVESERVICE", "Echo"]).described, io.BytesIO()
        talk.receive_package(given["bytes"], out, time.monotonic() + 5)
    out.seek(0)
    folder = package.unpack(out, given["sha256"], "Echo", str(tmp_path / "out"), 1 << 20, 10)
    assert sorted(os.listdir(folder)) == ["Echo", "Echo.bdcert"] and is_clean(node)


def test_what_is_not_here_is_not_given(tmp_path):
    assert a_node(tmp_path).ask("GIVESERVICE", "Echo") == No()


def test_what_can_not_be_packed_is_said_and_leaves_nothing(tmp_path):
    node = a_node(tmp_path).offer("Echo", None, url="http://h/")
    os.mkfifo(os.path.join(node.settings.services_dir, "folder-pipe"))
    os.makedirs(os.path.join(node.settings.services_dir, "Folder"))
    node.offer("Folder", None)
    os.symlink("/etc/passwd", os.path.join(node.settings.services_dir, "Folder", "link"))
    with pytest.raises(errors.BadPackage, match="only files and folders"):
        node.ask("GIVESERVICE", "Folder")
    assert is_clean(node)


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_nobody_has_numbered_yet_is_not_given_while_somebody_writes_it(tmp_path, monkeypatch, is_folder):
    node, holder = a_mesh(tmp_path, "me", "holder")
    if is_folder:
        os.makedirs(os.path.join(holder.settings.services_dir, "Echo", "within"))
    holder.offer("Echo", None if is_folder else b"hal", is_seen=False, replicas=2)
    acquaint(node, holder)
    slept = []
    monkeypatch.setattr(replicating.time, "sleep", slept.append)  # and it is written on meanwhile
    assert holder.ask("GIVESERVICE", "Echo") == No() and node.ask("WILLYOUREPLICATE", "Echo") == NotGiven()
    assert found(holder).described == {"url": "http://10.0.0.2:8080/axis/Echo?wsdl"}
    count = len(slept)
    assert count >= 3 and all(0 < seconds <= 1 for seconds in slept)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "REST_NS", 3_600_000_000_000)  # longer than whoever asks can wait
        assert holder.ask("GIVESERVICE", "Echo") == No() and len(slept) == count
    assert not turns.missing(holder.cache.view(), "Echo")
    with monkeypatch.context() as patch:
        patch.setattr(replicating.time, "sleep", lambda seconds: patch.setattr(durable, "REST_NS", 0))  # it has rested
        assert isinstance(node.ask("WILLYOUREPLICATE", "Echo"), Yes)
    assert node.services.get("Echo").edition.counter == 0
    assert turns.missing(holder.offer("Echo", None, replicas=2).cache.view(), "Echo") == 1


def test_what_is_no_more_the_edition_that_is_told_is_not_given(tmp_path):
    node, holder = a_copier(tmp_path)
    with open(os.path.join(holder.settings.services_dir, "Echo"), "ab") as file:
        file.write(b"more to come")
    assert holder.ask("GIVESERVICE", "Echo") == No() and found(holder).file is None
    assert node.ask("WILLYOUREPLICATE", "Echo") == NotGiven() and node.services.get("Echo") is None
    assert (
        is_clean(node)
        and os.listdir(holder.parcels.folder)
        and not [name for name in os.listdir(holder.parcels.folder) if not name.startswith(".")]
    )


# --- FIND ---------------------------------------------------------------------------------------------------------


def found(node, service="Echo", visited=(), steps=4):
    return node.ask("FIND", service, list(visited), steps, role=ADMIN)


def test_what_is_here_is_found_here(tmp_path):
    node = a_node(tmp_path).offer("Echo", ECHO).offer("Url", None, url="http://{host}/u")
    assert found(node).giver == "me" and found(node).described["bytes"] > len(ECHO)
    assert found(node, "Url") == Found("me", {"url": "http://10.0.0.1/u"})


def a_chain(tmp_path, length):
    """n0 knows n1 alone, n1 knows n2 alone, and so on."""
    nodes = [a_node(tmp_path, f"n{number}") for number in range(length)]
    for node, following in itertools.pairwise(nodes):
        node.knows(following)
    return nodes


@pytest.mark.parametrize(("steps", "is_found"), [(3, True), (2, False)])
def test_a_search_goes_as_many_steps_as_it_may(tmp_path, steps, is_found):
    first, *_, last = a_chain(tmp_path, 4)
    last.offer("Echo", ECHO)
    said = found(first, steps=steps)
    assert said.giver == "n3" if is_found else said == NotFound(["n0", "n1", "n2"])


def test_nobody_is_asked_twice(tmp_path):
    nodes = a_mesh(tmp_path, *(f"n{number}" for number in range(5)))
    assert sorted(found(nodes[0]).visited) == [node.name for node in nodes]
    assert len(nodes[0].network.called) == 4
    assert found(nodes[0], visited=["n1", "n2", "n3", "n4"]) == NotFound(["n1", "n2", "n3", "n4", "n0"])


def test_a_node_that_is_silent_or_may_not_be_called_is_passed_over(tmp_path):
    node, silent, apart = (
        a_node(tmp_path, policy=document("A")),
        a_node(tmp_path, "silent"),
        a_node(tmp_path, "apart", policy=document("B")),
    )
    holder = a_node(tmp_path, "zholder").offer("Echo", ECHO)
    acquaint(node, silent, apart, holder)
    node.network.trouble[silent.address] = errors.NobodyThere("silent")
    assert found(node).giver == "zholder" and apart.address not in node.network.called


# --- MASSMESSAGE --------------------------------------------------------------------------------------------------


def mass(node, tree, recipients, message=("WILLYOUEXECUTE", "Echo"), **options):
    return node.ask("MASSMESSAGE", tree, list(recipients), list(message), **options)


def test_a_child_that_says_yes_is_named(tmp_path):
    node, _holder = a_copier(tmp_path)
    said = mass(node, {"self": ["holder"]}, ["holder"])
    assert said == RelayedYes("10.0.0.2", 8080, "axis", "http://10.0.0.2:8080/axis/Echo?wsdl", "holder")


def test_a_message_goes_down_the_branches_and_the_answer_up(tmp_path):
    nodes = a_chain(tmp_path, 4)
    nodes[3].offer("Echo", ECHO)
    nodes[2].knows(nodes[3])
    tree = {"self": ["n1"], "n1": ["n2"], "n2": ["n3"], "n3": []}
    assert mass(nodes[0], tree, ["n3"]).name == "n3"
    given = mass(nodes[0], tree, ["n3"], ["GIVESERVICE", "Echo"])
    assert isinstance(given, Found) and given.giver == "n3"
    assert mass(nodes[3], {"self": []}, ["n3"]) == DontHave()  # it is not its own child


def test_only_recipients_are_asked(tmp_path):
    node, _holder = a_copier(tmp_path)
    assert mass(node, {"self": ["holder"]}, ["somebody"]) == DontHave() and node.network.called == []


def test_no_from_one_is_no_and_nothing_from_all_is_donthave(tmp_path):
    node, holder, _other = a_copier(tmp_path, "other")
    update_own(holder, Told(draining=True))
    assert mass(node, {"self": ["holder", "other"]}, ["holder", "other"]) == No()
    assert mass(node, {"self": ["other"]}, ["other"]) == DontHave()


def test_who_was_not_there_is_named_and_the_discoverer_told_and_the_others_still_asked(tmp_path):
    node, holder, other = a_copier(tmp_path, "other")
    node.network.trouble[other.address] = errors.NobodyThere("silent")
    tree = {"self": ["other", "holder"], "other": ["far"]}
    assert mass(node, tree, ["other", "holder", "far"]).name == "holder"
    update_own(holder, Told(draining=True))
    assert mass(node, tree, ["other", "holder", "far"]) == NetFault(["other"], "NO")
    assert Hurry("other") in node.nudged()
    assert mass(node, {"self": ["other"]}, ["other"]) == NetFault(["other"], "DONTHAVE")


def test_the_faults_of_a_branch_come_back(tmp_path):
    node, _relay, far, overloaded = a_mesh(tmp_path, "me", "relay", "far", "overloaded")
    update_own(overloaded.offer("Echo"), Told(draining=True))
    node.network.trouble[far.address] = errors.NobodyThere("silent")
    tree = {"self": ["relay"], "relay": ["far", "overloaded"]}
    assert mass(node, tree, ["far", "overloaded"]) == NetFault(["far"], "NO")


def test_who_is_not_known_here_is_a_fault_without_a_word_to_anybody(tmp_path):
    node = a_node(tmp_path)
    strangers = [f"s{number}" for number in range(20_000)]
    started = time.process_time()
    assert mass(node, {"self": strangers}, strangers) == NetFault(strangers, "DONTHAVE")
    assert time.process_time() - started < 2 and node.nudged() == []  # it was 4.7 s, of which no machine's noise is a part


def test_a_child_that_refuses_is_passed_over(tmp_path):
    node, apart, holder = (
        a_node(tmp_path, policy=document("A")),
        a_node(tmp_path, "apart", policy=document("B")),
        a_node(tmp_path, "holder"),
    )
    holder.offer("Echo")
    acquaint(node, apart, holder)
    with node.call_me(policy_text=document("A")) as talk:
        assert (
            talk.ask(["MASSMESSAGE", {"self": ["apart", "holder"]}, ["apart", "holder"], ["WILLYOUEXECUTE", "Echo"]]).name
            == "holder"
        )
        holder.services.withdraw("Echo")
        assert (
            talk.ask(["MASSMESSAGE", {"self": ["apart", "holder"]}, ["apart", "holder"], ["WILLYOUEXECUTE", "Echo"]])
            == DontHave()
        )


ALL = ["N1", "N2", "N3"]


@pytest.mark.parametrize(
    "tree",
    [
        {"self": ALL, "N1": ALL, "N2": ALL, "N3": ALL},
        {"self": ["N2", "N2"]},
        {"self": ["N2"], "N2": ["N3"], "N3": ["N2"]},
        {"self": ["self"]},
        {"self": ["N2"], "N7": ["N3"]},
        {"self": ["N2"], "N8": ["N9"], "N9": ["N8"]},
        {"self": ["n0"]} | {f"n{number}": [f"n{number + 1}"] for number in range(plan.DEPTH_MAX)},
        {"self": [f"n{number}" for number in range(20_001)]},
    ],
    ids=["everybody to everybody", "twice", "a loop", "self", "a loose end", "a loose loop", "too deep", "too many"],
)
def test_a_plan_that_is_no_tree_is_refused_and_nobody_asked(tmp_path, tree):
    nodes = a_mesh(tmp_path, *ALL)
    with pytest.raises(errors.BadRequest, match="MASSMESSAGE's plan must be"):
        mass(nodes[0], tree, ALL)
    assert nodes[0].network.called == []


@pytest.mark.parametrize("tree", [{"self": ["N1"]}, {"self": ["N2"], "N2": ["N1"]}])
def test_a_plan_that_leads_back_to_the_callee_is_refused(tmp_path, tree):
    nodes = a_mesh(tmp_path, *ALL)
    with pytest.raises(errors.BadRequest, match="plan leads back to N1"):
        mass(nodes[0], tree, ALL)
    assert nodes[0].network.called == []


def test_as_deep_as_a_plan_may_be_it_is_relayed(tmp_path):
    node = a_node(tmp_path)
    tree = {"self": ["n0"]} | {f"n{number}": [f"n{number + 1}"] for number in range(plan.DEPTH_MAX - 1)}
    assert mass(node, tree, ["n0"]) == NetFault(["n0"], "DONTHAVE")
