"""The discoverer's part in copies: what it has its own node do, by which requests, and what becomes of the answers."""

import os
import queue
import threading
from copy import copy as copy_of
from itertools import pairwise
from types import SimpleNamespace

import pytest

from bdserver.core.membership import Edition, Withdrawal
from bdserver.core.messages import No, NotGiven, Ok, Yes
from bdserver.core.stillness import Stillness
from bdserver.errors import NobodyThere
from bdserver.processes import copying as module
from bdserver.processes.copying import LOOK_AT_ONCE_SECONDS, LOOK_SECONDS, LOOK_SHARE, Copying
from bdserver.processes.describing import Told, update_own
from tests.unit.nodes import NOW, a_mesh, a_node, acquaint


class Socket:
    """The local socket of a node: which requests came, and who answers them."""

    def __init__(self, answer):
        self.answer, self.requests = answer, []

    def __call__(self, path, deadline):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def ask(self, request, deadline):
        self.requests.append(request)
        return self.answer(request)


class AtRest(Stillness):
    """Nobody writes to anything."""

    def has_rested(self, name):
        return True


class Loop:
    """A discoverer's loop around one Copying: time passes as the test says. `stillness`: when files are believed to rest."""

    def __init__(self, node, monkeypatch, answer=lambda request: Ok(), stillness=AtRest):
        self.node, self.calls, self.changes = node, queue.Queue(), 0
        self.socket = Socket(answer)
        monkeypatch.setattr(module.dialling, "dial_local", self.socket)
        monkeypatch.setattr(module, "Stillness", stillness)
        self.copying = Copying(node, self.calls.put, self.change)
        self.clock = 100.0
        self.weights = {}
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.clock))

    def change(self):
        self.changes += 1
        update_own(self.node, Told(idle=self.copying.idle))

    def pass_(self, seconds=1.0):
        """Let so much time pass; all that is begun ends within it. The requests that came."""
        self.clock += seconds
        before = len(self.socket.requests)
        self.copying.due(self.weights, self.clock, NOW + self.clock)
        self.end()
        return self.socket.requests[before:]

    def end(self):
        """Wait for the threads of errands, and do what they leave to the loop."""
        while threads := [each for each in threading.enumerate() if each.name in ("TEND", "RETIRE", "PLACE")]:
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive()
        while not self.calls.empty():
            self.calls.get()()


def with_setting(settings, **changes):
    """These settings, but for the changes, as after a SIGHUP."""
    twin = copy_of(settings)
    vars(twin).update(changes)
    return twin


def with_copy(tmp_path, **pairs):
    """(the node that has the original, and the one with a copy), who know each other."""
    origin, copy = a_mesh(tmp_path, "origin", "copy")
    origin.offer("Echo", b"1", **pairs)
    origin.ask("TEND", ["Echo"], role="admin")
    copy.knows(origin)
    assert isinstance(copy.ask("WILLYOUREPLICATE", "Echo", False), Yes)
    acquaint(origin, copy)
    return origin, copy


# --- files ----------------------------------------------------------------------------------------------------------


def test_what_lies_in_the_folder_is_hashed_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    node = a_node(tmp_path).offer("A", b"a").offer("B", b"b").offer("Url", None, url="http://h/")
    loop = Loop(node, monkeypatch)
    assert loop.pass_() == [["TEND", ["A", "B"]]] and loop.pass_(9) == loop.pass_(9) == []
    with open(os.path.join(node.settings.services_dir, "A"), "w") as file:
        file.write("another")
    assert loop.pass_(9) == [["TEND", ["A"]]] and loop.pass_(9) == []
    node.services.withdraw("B")
    loop.pass_(9)
    node.services.restore("B")
    assert loop.pass_(9) == [["TEND", ["B"]]]


def test_an_errand_for_which_there_is_no_thread_is_told_and_begun_again_after_its_pause(tmp_path, monkeypatch):
    loop = Loop(a_node(tmp_path).offer("A", b"a"), monkeypatch)

    def none_left(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        assert loop.pass_() == [] and loop.copying.failing() == ["A: there was no room for a thread"]
    assert [["TEND", ["A"]]] in [loop.pass_(30) for _ in range(4)] and loop.copying.failing() == []


def test_a_look_at_all_files_takes_its_share_of_our_time_and_no_more(tmp_path, monkeypatch):
    node = a_node(tmp_path).offer("A", b"a")
    loop, looks = Loop(node, monkeypatch), []

    def look(service, files_max):
        looks.append(loop.clock)
        loop.clock += 0.5
        return "same"

    monkeypatch.setattr(module.package, "look", look)
    for _ in range(80):
        loop.pass_()
    pauses = [after - before for before, after in pairwise(looks)]
    assert all(0.5 * LOOK_SHARE <= pause <= 0.5 * LOOK_SHARE + 2 for pause in pauses) and len(looks) > 2
    monkeypatch.setattr(module.package, "look", lambda service, files_max: looks.append(loop.clock) or "same")
    loop.pass_(30)
    looks.clear()
    for _ in range(20):
        loop.pass_()
    assert len(looks) == 20 / LOOK_SECONDS


def test_a_look_at_many_services_leaves_the_loop_its_time_and_finds_each_change(tmp_path, monkeypatch):
    names = [f"S{number}" for number in range(6)]
    node = a_node(tmp_path)
    for name in names:
        node.offer(name, b"a")
    loop, looks, now = Loop(node, monkeypatch), [], dict.fromkeys(names, "old")

    def look(service, files_max):
        looks.append(service.name)
        loop.clock += 0.4 * LOOK_AT_ONCE_SECONDS
        return now[service.name]

    monkeypatch.setattr(module.package, "look", look)
    tended = loop.pass_()
    assert looks == names[:3] and tended == [["TEND", names[:3]]]
    assert loop.pass_(0.5) == [] and looks == names[:3]
    assert loop.pass_() == [["TEND", names[3:]]] and looks == names
    now["S4"] = "new"
    asked = [request for _ in range(6) for request in loop.pass_()]
    assert asked == [["TEND", ["S4"]]] and looks.count("S0") <= 4


def test_what_could_not_be_hashed_is_tried_again_alone(tmp_path, monkeypatch):
    node = a_node(tmp_path).offer("A", b"a").offer("B", b"b")
    loop = Loop(node, monkeypatch, lambda request: Ok("", ["B: the disk is full"] if "B" in request[1] else []))
    assert loop.pass_() == [["TEND", ["A", "B"]]] and loop.copying.failing() == ["B: the disk is full"]
    assert loop.pass_(9) == [["TEND", ["B"]]]
    loop.socket.answer = lambda request: Ok()
    assert loop.pass_(9) == [["TEND", ["B"]]] and loop.copying.failing() == [] and loop.pass_(9) == []


def test_files_that_are_being_written_are_hashed_when_they_have_rested(tmp_path, monkeypatch):
    node = a_node(tmp_path).offer("A", b"a").offer("B", b"b")
    loop = Loop(node, monkeypatch, stillness=Stillness)
    assert [loop.pass_() for _ in range(4)] == [[], [], [["TEND", ["A", "B"]]], []]
    with open(os.path.join(node.settings.services_dir, "A"), "wb") as file:
        for _ in range(30):
            file.write(b"more")
            file.flush()
            assert loop.pass_() == []
        assert loop.copying.failing() == [module.RESTLESS % "A"]
    assert loop.pass_() == loop.pass_() == []  # as long as a pause of such an upload
    asked = [request for _ in range(4) for request in loop.pass_()]
    assert asked == [["TEND", ["A"]]] and loop.copying.failing() == []


def test_what_is_written_for_ever_holds_up_no_other_service_and_is_no_new_edition(tmp_path, monkeypatch):
    node = a_node(tmp_path).offer("A", b"a").offer("B", b"b")
    loop, asked = Loop(node, monkeypatch, stillness=Stillness), []
    for second in range(100):
        with open(os.path.join(node.settings.services_dir, "A"), "ab") as file:
            file.write(b"a line\n")
        if second == 50:
            with open(os.path.join(node.settings.services_dir, "B"), "wb") as file:
                file.write(b"new")
        asked += loop.pass_()
    assert asked == [["TEND", ["B"]]] * 2 and loop.copying.failing() == [module.RESTLESS % "A"]
    node.services.withdraw("A")
    loop.pass_(2)
    assert loop.copying.failing() == []


def test_what_was_changed_by_hand_is_hashed_once_more_since_its_times_may_not_show_the_end(tmp_path, monkeypatch):
    node = a_node(tmp_path).offer("A", b"a").offer("B", b"b")
    loop = Loop(node, monkeypatch)
    assert loop.pass_() == [["TEND", ["A", "B"]]] and loop.pass_(99) == []
    with open(os.path.join(node.settings.services_dir, "A"), "w") as file:
        file.write("half")
    assert loop.pass_(9) == [["TEND", ["A"]]]
    assert loop.pass_(module.ONCE_MORE_SECONDS - 1) == []
    assert loop.pass_(2) == [["TEND", ["A"]]] and loop.pass_(99) == loop.pass_(99) == []


# --- errands --------------------------------------------------------------------------------------------------------


def test_each_errand_is_a_request_of_its_own(tmp_path, monkeypatch):
    origin, copy = with_copy(tmp_path)
    loop = Loop(copy, monkeypatch)
    assert loop.pass_() == [["TEND", ["Echo"]]] and loop.pass_(9) == []
    update_own(origin, Told(withdrawn={"Echo": Withdrawal(origin.services.get("Echo").edition.counter, int(NOW))}))
    copy.knows(origin)
    assert loop.pass_() == [["TEND", ["Echo"]]]


def test_an_idle_copy_tells_the_mesh_first_and_then_retires(tmp_path, monkeypatch):
    _, copy = with_copy(tmp_path)
    loop = Loop(copy, monkeypatch)
    loop.weights = {"Echo": 1.0}
    loop.pass_()
    loop.weights = {"Echo": 0.0}
    loop.pass_(599)
    assert loop.copying.idle == {} and loop.changes == 0
    called_at = int(NOW + 101)
    assert loop.pass_(1) == [] and loop.copying.idle == {"Echo": called_at} and loop.changes == 1
    assert copy.cache.view().own.services["Echo"].idle_since == called_at
    assert loop.pass_(5) == [["RETIRE", "Echo", "nobody called it for 605 s"]]
    loop.weights = {"Echo": 1.0}
    loop.pass_()
    assert loop.copying.idle == {} and loop.changes == 2 and copy.cache.view().own.services["Echo"].idle_since == 0


def test_replica_idle_is_the_setting_of_now(tmp_path, monkeypatch):
    _, copy = with_copy(tmp_path)
    loop = Loop(copy, monkeypatch)
    loop.pass_()
    copy.settings = with_setting(copy.settings, replica_idle=0.0)
    loop.pass_(9999)
    assert loop.copying.idle == {}
    copy.settings = with_setting(copy.settings, replica_idle=60.0)
    loop.pass_(1)
    assert loop.copying.idle == {"Echo": int(NOW + 101)}


def test_a_standing_copy_is_placed_where_policies_and_the_bdcert_let_it_be(tmp_path, monkeypatch):
    origin, *others = a_mesh(tmp_path, "origin", "other")
    origin.offer("Echo", b"1", replicas=2)
    acquaint(origin, *others)
    loop = Loop(origin, monkeypatch)
    met = []
    monkeypatch.setattr(origin.policies, "talkable", lambda view, record: record.name in met)
    none = "Echo: 2 holders are wanted, and no node can take one more copy"
    assert ["PLACE", "Echo", "other"] not in loop.pass_() and loop.copying.failing() == [none]
    met.append("other")
    assert ["PLACE", "Echo", "other"] in loop.pass_() and loop.copying.failing() == []


def test_where_copies_may_go_to_nodes_that_meet_the_original_alone_policies_are_compared(tmp_path, monkeypatch):
    origin, other = a_mesh(tmp_path, "origin", "other")
    origin.offer("Echo", b"1", replicas=2, copies="meeting")
    acquaint(origin, other)
    loop, compared = Loop(origin, monkeypatch), []
    monkeypatch.setattr(origin.policies, "can_talk", lambda view, a, b: compared.append((a.name, b.name)) or True)
    assert ["PLACE", "Echo", "other"] in loop.pass_() and compared == [("origin", "other")]


@pytest.mark.parametrize("said", [No(), NotGiven()])
def test_a_node_that_takes_none_is_a_warning(tmp_path, monkeypatch, said):
    origin, other = a_mesh(tmp_path, "origin", "other")
    origin.offer("Echo", b"1", replicas=2)
    acquaint(origin, other)
    loop = Loop(origin, monkeypatch, lambda request: said if request[0] == "PLACE" else Ok())
    loop.pass_()
    assert loop.copying.failing() == ["Echo: the node that was asked has no room, or was given no copy"]


@pytest.mark.parametrize(
    ("error", "words"), [(NobodyThere("nobody is there"), "nobody is there"), (KeyError("x"), "a bug: KeyError('x')")]
)
def test_whatever_ends_an_errand_its_services_are_free_again(tmp_path, monkeypatch, error, words):
    def fail(request):
        raise error

    node = a_node(tmp_path).offer("A", b"a").offer("B", b"b")
    loop = Loop(node, monkeypatch, fail)
    loop.pass_()
    assert loop.copying.failing() == [f"A: {words}", f"B: {words}"]
    loop.socket.answer = lambda request: Ok()
    assert loop.pass_(9) == [["TEND", ["A", "B"]]] and loop.copying.failing() == []


# --- news -----------------------------------------------------------------------------------------------------------


def test_a_new_view_is_looked_at_once_and_again_when_an_errand_has_ended(tmp_path, monkeypatch):
    origin, copy = with_copy(tmp_path)
    loop = Loop(copy, monkeypatch)
    loop.pass_()
    origin.services.relabel("Echo", lambda now: now._replace(edition=Edition(int(NOW) + 9, "newer")))
    update_own(origin)
    copy.knows(origin)
    loop.socket.requests.clear()
    for _ in range(3):
        loop.copying.notice(copy.cache.view(), loop.clock, NOW)
    loop.end()
    assert loop.socket.requests == [["TEND", ["Echo"]]]
    loop.copying.notice(copy.cache.view(), loop.clock, NOW)
    loop.end()
    assert len(loop.socket.requests) == 2  # it is due still


def test_without_services_there_is_nothing_to_do(tmp_path, monkeypatch):
    node = a_node(tmp_path)
    loop = Loop(node, monkeypatch)
    loop.copying.notice(node.cache.view(), loop.clock, NOW)
    assert loop.pass_() == [] and loop.copying.failing() == []


def test_notes_of_other_services_than_those_that_were_asked_for_are_nobodys(tmp_path, monkeypatch):
    node = a_node(tmp_path).offer("A", b"a")
    loop = Loop(node, monkeypatch, lambda request: Ok("", ["Other: of no concern"]))
    loop.pass_()
    assert loop.copying.failing() == []
