"""What a node does for itself: each chore, and that none can stop the others."""

import logging
import os
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from bdserver.core.attention import HUNG_SECONDS, Finding, Severity
from bdserver.core.membership import DEAD, Record
from bdserver.core.view import TOMBSTONE_SECONDS
from bdserver.core.weight import HIT
from bdserver.errors import NoSpace, TooBusy
from bdserver.files.heard import Heard
from bdserver.processes import chores as module
from bdserver.processes.chores import Chores, States
from bdserver.processes.reload import read_anew
from bdserver.processes.wakeup import Wakeup
from tests.unit import nodes
from tests.unit.peers import StandIn
from tests.unit.seals import Believing
from tests.unit.views import NOW


class Looking:
    """A node's chores, and a clock to do them by."""

    def __init__(self, folder, **settings):
        self.node = StandIn(folder, **settings)
        self.wakeup, self.states = Wakeup(), States()
        self.heartbeat = SimpleNamespace(is_hung=False)
        self.chores = Chores(self.node, self.states, self.wakeup.call, self.heartbeat)
        self.clock = 100.0

    def look(self, seconds=1.0):
        """Let so much time pass, and do what is due then."""
        self.clock += seconds
        self.chores.due(self.clock, time.time())

    def health(self):
        """Wait until the look at the health of services is over, and take what it says."""
        self.chores._looking.join()
        self.wakeup.drain()

    @property
    def own(self):
        return self.node.cache.view().own

    def end(self):
        self.wakeup.close()
        self.node.close()


@pytest.fixture
def looking(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    looking = Looking(tmp_path)
    yield looking
    looking.end()


def said(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def request(path):
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    return f'10.0.0.9 - - [{stamp}] "POST {path} HTTP/1.1" 200 512 "-" "curl/8"\n'


def test_what_lies_in_the_services_folder_stands_in_our_record(looking):
    looking.node.service("Echo", weight=3)
    looking.look()
    assert looking.own.services["Echo"].cost == 3.0
    before = looking.own.version
    with open(looking.node.cache.path, "rb") as file:
        content = file.read()
    looking.look()
    assert looking.own.version == before
    with open(looking.node.cache.path, "rb") as file:
        assert file.read() == content, "a quiet node writes nothing"


def test_hits_are_weighed(looking):
    looking.node.service("Echo", weight=3)
    looking.node.hitlog.append("Echo", HIT, "10.0.0.9", time.time())
    looking.look()
    assert looking.chores.weight == pytest.approx(3.0)


def test_the_web_servers_log_is_counted_and_another_one_as_soon_as_the_settings_name_it(looking, tmp_path):
    looking.node.service("Echo")
    for name in ("first.log", "second.log"):
        (tmp_path / name).write_text("")
        looking.node.configure(access_log=tmp_path / name)
        read_anew(looking.node)
        looking.look()  # from its end on
        (tmp_path / name).write_text(request("/Echo") * 2)
        looking.look()
    assert looking.chores.weight == pytest.approx(4.0, abs=0.5)
    looking.node.configure(access_log="")
    read_anew(looking.node)
    looking.look()
    (tmp_path / "second.log").write_text(request("/Echo") * 9)
    looking.look()
    assert looking.chores.weight == pytest.approx(4.0, abs=0.5)


def test_a_web_servers_log_that_is_not_there_is_said_once_and_when_it_is_there_again(looking, tmp_path, caplog):
    looking.node.configure(access_log=tmp_path / "none.log")
    read_anew(looking.node)
    for _ in range(3):
        looking.look()
    assert len([line for line in said(caplog, logging.ERROR) if "no hit is counted" in line]) == 1
    assert "no hit is counted" in Heard(looking.node.heard.path).report().failing[0], "else this node is never overloaded"
    (tmp_path / "none.log").write_text("")
    looking.look()
    assert Heard(looking.node.heard.path).report().failing == ()
    assert "access_log: well again" in said(caplog, logging.INFO)


def test_hits_that_the_disk_does_not_take_go_uncounted(looking, tmp_path, caplog, monkeypatch):
    looking.node.service("Echo")
    (tmp_path / "access.log").write_text("")
    looking.node.configure(access_log=tmp_path / "access.log")
    read_anew(looking.node)
    looking.look()

    def full(service, calls):
        raise NoSpace("the disk is full")

    monkeypatch.setattr(looking.node.hitlog, "extend", full)
    (tmp_path / "access.log").write_text(request("/Echo") * 2)
    looking.look()
    assert [line for line in said(caplog, logging.ERROR) if "hits on" in line] == [
        "2 hits on Echo go uncounted: the disk is full"
    ]


def test_a_service_that_is_not_well_is_not_offered_until_it_is(looking, caplog):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        looking.node.service("Echo", url=f"http://127.0.0.1:{port}/", health="tcp")
        looking.look()
        looking.health()
        assert looking.chores.next_at() < looking.clock + module.LOOK_SECONDS + 0.01
        looking.look()
        assert "Echo" in looking.own.services
    looking.look(module.HEALTH_SECONDS)
    looking.health()
    assert looking.chores.next_at() == 0.0, "what it says is for our record, at once"
    looking.look(0.0)
    assert "Echo" not in looking.own.services and looking.own.extra == {"unhealthy": ["Echo"]}
    looking.health()  # that look began one of its own
    assert [line for line in said(caplog, logging.ERROR) if line.startswith("Echo is not well")]
    with socket.create_server(("127.0.0.1", port)):
        looking.look(module.HEALTH_SECONDS)
        looking.health()
        looking.look(0.0)
        assert "Echo" in looking.own.services and "health of Echo: well again" in said(caplog, logging.INFO)


def test_the_health_of_a_service_that_has_just_come_is_looked_at_at_once(looking):
    looking.node.service("Old", health="none")
    looking.look()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    looking.node.service("Echo", url=f"http://127.0.0.1:{port}/", health="tcp")
    looking.look()
    looking.health()
    looking.look()
    assert looking.own.extra == {"unhealthy": ["Echo"]} and list(looking.own.services) == ["Old"]
    with socket.create_server(("127.0.0.1", 0)) as listening:  # and of one that is asked elsewhere
        looking.node.service("Echo", url=f"http://127.0.0.1:{listening.getsockname()[1]}/", health="tcp")
        looking.look()
        looking.health()
        looking.look()
        assert "Echo" in looking.own.services


def test_what_changes_have_left_goes_in_time_though_nothing_changes_any_more(looking):
    left = os.path.join(looking.node.services.scratch_dir, ".Echo.old.1.2")
    os.makedirs(os.path.join(left, "folder"))
    os.utime(left, (1.0, 1.0))
    looking.look(module.SWEEP_SECONDS)
    for thread in [each for each in threading.enumerate() if each.name == "sweep"]:
        thread.join()
    assert not os.path.lexists(left)


def test_while_our_listener_hangs_no_service_is_offered(looking):
    looking.node.service("Echo", health="none")
    looking.look()
    looking.heartbeat.is_hung = True
    looking.look()
    assert "Echo" not in looking.own.services
    looking.heartbeat.is_hung = False
    looking.look()
    assert "Echo" in looking.own.services


def test_one_look_at_the_health_of_services_at_a_time(looking):
    with socket.create_server(("127.0.0.1", 0)) as listening:  # it takes the connection, and never answers
        looking.node.service("Echo", url=f"http://127.0.0.1:{listening.getsockname()[1]}/", health="http")
        looking.look()
        first = looking.chores._looking
        looking.look(module.HEALTH_SECONDS)
        assert looking.chores._looking is first and first.is_alive()
    looking.health()


def test_a_large_hit_log_is_trimmed_now_and_then(looking, monkeypatch):
    looking.node.service("Echo")
    looking.node.configure(hit_log_bytes=1000)
    read_anew(looking.node)
    path = looking.node.hitlog.path("Echo")

    def fill():
        with open(path, "ab") as file:
            file.write(f"HIT ~ 1700000000 ~ {time.ctime(NOW)} ~ 10.0.0.9\n".encode() * 100)

    def size():
        with open(path, "rb") as file:
            return len(file.read())

    fill()
    looking.look()
    assert size() == 0
    looking.look(looking.chores._due_at[next(each for each in looking.chores._chores if "trim" in each.what)] - looking.clock)
    fill()
    looking.look(module.TRIM_SECONDS - 1)
    assert size() > 1000
    looking.look(1.0)
    assert size() == 0


def test_tombstones_of_more_than_a_day_are_dropped(looking):
    with looking.node.cache.locked() as view:
        view.put(Record("old", "old:1", (1, 0), DEAD, time.time() - TOMBSTONE_SECONDS - 1))
        view.put(Record("young", "young:1", (1, 0), DEAD, time.time()))
        view.changes += 1
    looking.look()
    assert looking.node.cache.view().records.keys() == {"me", "young"}


def test_a_node_whose_certificate_counts_no_longer_is_dropped_with_a_line(looking, caplog, monkeypatch):
    class Doubting(Believing):
        def doubt_certificate(self, record, certificate):
            return "it is revoked here" if record.name == "n0" else None

    for name in ("n0", "n1"):
        looking.node.peer(name)
    looking.look()
    looking.node.proofs = Doubting()
    real = looking.node.cache.locked

    def busy():
        raise TooBusy("locked")

    monkeypatch.setattr(looking.node.cache, "locked", busy)
    looking.look()
    monkeypatch.setattr(looking.node.cache, "locked", real)
    assert "n0" in looking.node.cache.view().records
    for _ in range(2):
        looking.look()
    assert looking.node.cache.view().records.keys() == {"me", "n1"}
    assert caplog.messages.count("n0 is known no longer: it is revoked here") == 1


def test_whom_we_have_heard_from_is_written_down(looking):
    looking.node.peer("n0")
    looking.node.heard.note("n0", 1234.0)
    looking.look()
    assert type(looking.node.heard)(looking.node.heard.path).report().times == {"n0": 1234.0}


def test_what_somebody_must_mend_is_said_once_and_what_passes_by_itself_is_not(looking, caplog, monkeypatch):
    ending = Finding(Severity.WARNING, "ending", "the certificate ends", lasts=True)
    overloaded = Finding(Severity.WARNING, "overloaded", "overloaded: 130 %")
    monkeypatch.setattr(module.facts, "findings", lambda node, view, now: [ending, overloaded])
    for _ in range(3):
        looking.look()
    assert said(caplog, logging.ERROR) == ["the certificate ends"]


def test_it_says_when_it_is_alone_and_when_it_is_no_longer(looking, caplog):
    for _ in range(2):
        looking.look()
    looking.node.peer("n0")
    for _ in range(2):
        looking.look()
    assert [line for line in said(caplog, logging.INFO) if "lonely" in line] == [
        "lonely: nobody to synchronise with",
        "no longer lonely",
    ]


def test_a_chore_that_fails_is_said_once_and_the_others_go_on(looking, caplog, monkeypatch):
    def broken(now, asked=None):
        raise ValueError("a list of weights that nobody has seen before")

    with monkeypatch.context() as patch:
        patch.setattr(looking.node.load, "weigh", broken)
        patch.setattr(looking.node.load, "total_weight", broken)
        broken_file = Finding(Severity.WARNING, "complaint", "x is broken", lasts=True)
        patch.setattr(module.facts, "findings", lambda node, view, now: [broken_file])
        looking.node.peer("n0")
        for _ in range(3):
            looking.look()
    bugs = [record for record in caplog.records if "a bug" in record.getMessage()]
    assert [each.getMessage().split(": ")[0] for each in bugs] == ["the weight of our services", "our own record"]
    assert all(each.exc_info for each in bugs), "where it arose is told too"
    assert "x is broken" in said(caplog, logging.ERROR)
    looking.look()
    assert "the weight of our services: well again" in said(caplog, logging.INFO)


TABLE = ["the access log", "the weight of our services", "the health of our services", "the health of what is new here", "copies and their editions",
         "trimming hit logs", "what changes have left", "our certificate", "our own record", "records whose certificates count no longer",
         "whom we have heard from", "warnings", "company", "on_change",
         "counting", "the time line", "rates"]  # fmt: skip


def test_the_table_above_is_that_of_all_chores(looking):
    assert [chore.what for chore in looking.chores._chores] == TABLE


@pytest.mark.parametrize("what", TABLE)
def test_each_chore_that_fails_is_told_by_status_until_it_is_well_and_the_others_are_done(looking, what):
    chores, done = looking.chores, []

    def instead(chore):
        def do(wall):
            if chore.what == what and is_broken:
                raise KeyError("oops")
            done.append(chore.what)

        return chore._replace(do=do)

    is_broken = True
    chores._chores = tuple(map(instead, chores._chores))
    chores._due_at = dict.fromkeys(chores._chores, 0.0)
    looking.look()
    assert done == [each for each in TABLE if each != what]
    assert Heard(looking.node.heard.path).report().failing == (f"{what}: a bug: KeyError('oops')",)
    assert f"{what}: a bug: KeyError('oops')" in nodes.warnings(looking.node)
    is_broken = False
    looking.look(max(each.seconds for each in chores._chores))
    assert Heard(looking.node.heard.path).report().failing == ()


def test_what_can_not_even_be_told_stops_nothing(looking, monkeypatch, caplog):
    def broken(failing):
        raise KeyError("oops")

    monkeypatch.setattr(looking.node.heard, "tell", broken)
    looking.look()
    looking.look()
    assert [line for line in said(caplog, logging.ERROR) if "telling what fails" in line] == [
        "telling what fails: a bug: KeyError('oops')"
    ]


def test_a_loop_that_has_not_turned_for_long_is_told_by_status(looking):
    def warnings():
        return [line for line in nodes.warnings(looking.node) if "hangs" in line]

    assert warnings() == [], "it has not begun"
    looking.node.beat.note(time.monotonic())
    assert warnings() == []
    looking.node.beat.note(time.monotonic() - HUNG_SECONDS - 1)
    assert warnings() == ["the discoverer hangs for 11 s: this node hears no news, and others take it for dead"]


def test_a_cache_that_is_locked_too_long_skips_a_turn(looking, caplog, monkeypatch):
    def locked():
        raise TooBusy("the lock was not to be had")

    looking.node.service("Echo")
    with monkeypatch.context() as patch:
        patch.setattr(looking.node.cache, "locked", locked)
        for _ in range(3):
            looking.look()
        assert said(caplog, logging.WARNING) == ["our own record: skipping a turn: the lock was not to be had"]
        assert "Echo" not in looking.own.services
    looking.look()
    assert "Echo" in looking.own.services


def test_each_chore_is_done_when_it_is_due_and_those_of_every_second_when_something_has_changed(looking):
    looking.look()
    assert looking.chores.next_at() == looking.clock + module.LOOK_SECONDS
    looking.node.service("Echo")
    looking.look(0.5)
    assert "Echo" not in looking.own.services
    looking.chores.look_now()
    looking.look(0.0)
    assert "Echo" in looking.own.services


def test_states_are_forgotten_when_they_are_too_many():
    states = States()
    for number in range(module.STATES_MAX):
        assert states.say(f"thing {number}", "bad") and not states.say(f"thing {number}", "bad")
    assert states.say("one more", "bad")
    assert states.say("thing 0", "bad"), "said again, rather than remembered for ever"


def test_a_bug_in_what_news_mean_for_copies_is_a_warning_and_ends_nobody(looking, monkeypatch, caplog):
    def fail(*arguments):
        raise KeyError("oops")

    view = looking.node.cache.view()
    looking.chores.notice(view, looking.clock, time.time())
    monkeypatch.setattr(looking.chores.copying, "notice", fail)
    for _ in range(3):
        looking.chores.notice(view, looking.clock, time.time())
    assert [line for line in said(caplog, logging.ERROR) if "oops" in line] == ["copies, by the news: a bug: KeyError('oops')"]
    looking.look()
    assert Heard(looking.node.heard.path).report().failing == ("copies, by the news: a bug: KeyError('oops')",)
    monkeypatch.undo()
    looking.chores.notice(view, looking.clock, time.time())
    looking.look()
    assert Heard(looking.node.heard.path).report().failing == ()
