"""What made its reader crash twice is left out, and said; what merely failed, or was killed once, is not."""

import contextlib
import errno
import io
import itertools
import math
import os
import signal
import time
from types import SimpleNamespace

import pytest

from bdserver.core import policy
from bdserver.core.policies import UNKNOWN, Policies
from bdserver.core.roles import ADMIN
from bdserver.errors import BadConfig, BadPolicy, NobodyThere, Quarantined
from bdserver.files import package, services, trials
from bdserver.files import quarantine as module
from bdserver.files.quarantine import ENTRIES_MAX, Kind, Quarantine
from bdserver.processes import reload, run
from bdserver.processes.rules import guarded
from tests.hosts import is_gone, until
from tests.unit.nodes import a_node, document, warnings


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "me.bdquarantine")


def read(quarantine, digest="d1", fault=None, origin="a.bdcert", kind=Kind.SERVICE):
    with quarantine.guard(kind, digest, origin):
        if isinstance(fault, Exception):
            raise fault
        if fault is not None:
            fault()
    return "read"


def dies_of(quarantine, digest="d1", fault=lambda: os._exit(1), kind=Kind.SERVICE):
    pid = os.fork()
    if pid == 0:
        read(quarantine, digest, fault, kind=kind)
        os._exit(0)
    os.waitpid(pid, 0)


def notes(path):
    folder = os.path.dirname(path)
    return [each for each in os.listdir(folder) if ".reading." in each]


@pytest.mark.parametrize("has_file", [True, False])
def test_what_met_a_bug_twice_is_left_out_by_this_process_and_by_others(path, has_file):
    quarantine = Quarantine(path if has_file else "")
    for _ in range(2):
        with pytest.raises(Quarantined, match="a.bdcert: in quarantine"):
            read(quarantine, fault=KeyError("oops"))
    for each in (quarantine, Quarantine(path)) if has_file else (quarantine,):
        with pytest.raises(Quarantined, match=r"went wrong 2 times \(KeyError\('oops'\)\)"):
            read(each)
        [entry] = each.entries()
        assert (entry.kind, entry.digest, entry.origin, entry.strikes) == (Kind.SERVICE, "d1", "a.bdcert", 2)
    assert read(quarantine, "d2") == "read" and notes(path) == []


def test_once_is_not_enough_and_a_reading_that_goes_well_takes_it_back(path):
    quarantine = Quarantine(path)
    for _ in range(3):
        with pytest.raises(Quarantined):
            read(quarantine, fault=KeyError())
        assert read(quarantine) == "read" and quarantine.entries() == []


@pytest.mark.parametrize("fault", [BadPolicy("f:1: none"), OSError(errno.EMFILE, "x"), MemoryError()], ids=repr)
def test_what_the_reader_says_and_what_the_host_lacks_is_no_crash(path, fault):
    quarantine = Quarantine(path)
    for _ in range(3):
        with pytest.raises(type(fault)):
            read(quarantine, fault=fault)
    assert read(quarantine) == "read" and not os.path.exists(path)


def spin():
    while True:
        pass


def spin_in_c():
    sum(itertools.repeat(0))


FATAL = {
    "exit": lambda: os._exit(1),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "a loop": spin,
    "a loop in C": spin_in_c,
}


@pytest.mark.parametrize("fault", FATAL.values(), ids=FATAL)
def test_the_death_of_a_process_at_it_is_a_crash_that_the_next_reader_sees(path, fault, monkeypatch):
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)
    for _ in range(2):
        dies_of(Quarantine(path), fault=fault)
    with pytest.raises(Quarantined, match="its reader died"):
        read(Quarantine(path))
    assert notes(path) == []


def test_a_death_is_settled_once_and_not_while_the_reader_lives(path):
    quarantine = Quarantine(path)
    with quarantine.guard(Kind.POLICY, "living", ""):
        dies_of(Quarantine(path))
        assert Quarantine(path).settle() == 1 and Quarantine(path).settle() == 0
        assert read(Quarantine(path), "living") == "read", "two may read the same"
    assert quarantine.entries() == [] and Quarantine("").settle() == 0


@pytest.mark.parametrize(
    "look", [lambda path: Quarantine(path).settle(), lambda path: read(Quarantine(path))], ids=["settle", "read"]
)
def test_a_reader_that_is_through_while_its_note_is_looked_at_has_not_died(path, monkeypatch, look):
    whole = module.durable.lock
    held = Quarantine(path).guard(Kind.SERVICE, "d1", "")
    held.__enter__()

    def lock_a_moment_later(descriptor, seconds, name):
        monkeypatch.setattr(module.durable, "lock", whole)
        held.__exit__(None, None, None)
        whole(descriptor, seconds, name)

    monkeypatch.setattr(module.durable, "lock", lock_a_moment_later)
    look(path)
    assert not os.path.exists(path) and notes(path) == []


def test_records_are_read_by_one_process_which_keeps_one_note_for_all(path, monkeypatch):
    opened, whole = [], module.durable.open_regular
    monkeypatch.setattr(module.durable, "open_regular", lambda path, *a, **b: opened.append(path) or whole(path, *a, **b))
    quarantine = Quarantine(path)
    for number in range(100):
        assert read(quarantine, f"d{number}" * number, kind=Kind.RECORD) == "read"
    assert opened == [f"{os.path.dirname(path)}/.me.bdquarantine.reading.records"]
    assert Quarantine(path).settle() == 0 and read(Quarantine(path), kind=Kind.RECORD) == "read", "two may read"
    assert not os.path.exists(path)


def test_the_record_that_a_reader_died_of_is_told_from_those_that_it_has_read(path):
    for _ in range(2):  # the second reader takes up what the first has left
        pid = os.fork()
        if pid == 0:
            quarantine = Quarantine(path)
            for digest, fault in (("long" * 20, None), ("d2", lambda: os._exit(1)), ("never", None)):
                read(quarantine, digest, fault, kind=Kind.RECORD)
            os._exit(0)
        os.waitpid(pid, 0)
    assert Quarantine(path).settle() == 1
    [entry] = Quarantine(path).entries()
    assert (entry.kind, entry.digest, entry.strikes, entry.why) == (Kind.RECORD, "d2", 2, "its reader died")


def tell(quarantine, digest, about, fault=None):
    with quarantine.guard(Kind.RECORD, digest, f"a record of {about}", about):
        if fault is not None:
            raise fault
    return "read"


@pytest.mark.parametrize("times", [1, 2], ids=["ever others", "each twice"])
def test_a_node_whose_records_all_meet_a_bug_costs_four_strikes_not_two_for_each_that_it_makes(path, monkeypatch, times):
    now = [1e9]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    quarantine, met = Quarantine(path), 0
    for number in range(20):
        for _ in range(times):
            now[0] += 1.0
            with pytest.raises(Quarantined) as refused:
                tell(quarantine, f"d{number}", "sick", KeyError("oops"))
            met += isinstance(refused.value.__cause__, KeyError)
    assert met == module.RESTLESS_STRIKES
    for each in (quarantine, Quarantine(path)):
        said = {entry.origin: entry.words() for entry in each.entries()}
        assert list(said) == ["a record of sick"] and "went wrong" in said["a record of sick"]
        assert tell(each, "other", "well") == "read" and tell(each, "nobody's", "") == "read"
        with pytest.raises(
            Quarantined, match=r"a record of sick: in quarantine, since reading it went wrong 4 times \(KeyError"
        ):
            tell(each, "not yet read", "sick")
    now[0] += module.RESTLESS_SECONDS
    assert tell(quarantine, "well again", "sick") == "read"
    with pytest.raises(Quarantined):
        tell(quarantine, "sick again", "sick", KeyError("oops"))
    with pytest.raises(Quarantined, match="went wrong 5 times"):
        tell(quarantine, "and again", "sick")


def test_a_disk_that_is_full_costs_the_count_not_the_record(path, monkeypatch):
    def full(descriptor, data, at):
        raise OSError(errno.ENOSPC, "No space left on device")

    quarantine = Quarantine(path)
    assert read(quarantine, kind=Kind.RECORD) == "read"
    monkeypatch.setattr(module.os, "pwrite", full)
    assert [read(each, kind=Kind.RECORD) for each in (quarantine, Quarantine(path))] == ["read", "read"]


def test_a_note_of_nothing_and_a_stranger_s_are_no_strikes(path):
    folder, name = os.path.split(path)
    for each, content in (("empty", b""), ("odd", b"[]"), ("kind", b'{"kind": "none"}')):
        with open(f"{folder}/.{name}.reading.{each}", "wb") as file:
            file.write(content)
    os.mkfifo(f"{folder}/.{name}.reading.pipe")
    assert Quarantine(path).settle() == 0 and notes(path) == [f".{name}.reading.pipe"]


def test_another_process_reads_first_until_none_dies_of_it(path):
    quarantine = Quarantine(path)
    seen = []

    def all_three():
        for digest, fault in (("d1", lambda: os._exit(0)), ("d2", None), ("d3", lambda: os._exit(3))):
            try:
                read(quarantine, digest, fault)
                seen.append(digest)
            except Quarantined:
                pass

    def read_all():
        seen.clear()
        all_three()
        return list(seen)

    assert quarantine.read_elsewhere("x", read_all) == ["d2"] and seen == []
    assert [entry.digest for entry in quarantine.entries()] == ["d1", "d3"]
    all_three()
    assert seen == ["d2"]


def test_what_kills_one_reader_after_the_other_is_not_known_yet(path):
    quarantine = Quarantine(path)

    def each_one_kills():
        for each in map(str, range(module.TRIALS_MAX + 1)):
            with contextlib.suppress(Quarantined):
                read(quarantine, each, lambda: os._exit(1))

    assert quarantine.read_elsewhere("x", each_one_kills) is None
    assert quarantine.read_elsewhere("x", lambda: "another") == "another"


def test_who_is_in_haste_and_what_takes_long_have_their_time(path, monkeypatch):
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)

    def work():
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass

    quarantine = Quarantine(path)
    assert read(quarantine, fault=work, kind=Kind.PACKAGE) == "read"
    quarantine.be_hasty()
    assert read(quarantine, fault=work) == "read"


def test_the_time_ends_with_the_reading(path, monkeypatch):
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)
    read(Quarantine(path))
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


@pytest.mark.parametrize("fault", [spin, spin_in_c])
def test_one_that_never_comes_to_an_end_is_ended_and_left_out(path, monkeypatch, fault):
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)
    quarantine = Quarantine(path)

    def hang():
        for digest, act in (("d1", None), ("d2", fault), ("d3", None)):
            with contextlib.suppress(Quarantined):
                read(quarantine, digest, act)

    quarantine.read_elsewhere("x", hang)
    assert [entry.digest for entry in quarantine.entries()] == ["d2"]


def test_a_disk_that_is_slow_is_nothing_to_blame_what_lies_on_it_for(path, monkeypatch, caplog):
    monkeypatch.setattr(trials, "TRIAL_SECONDS", 0.05)
    quarantine = Quarantine(path)
    for _ in range(3):
        assert quarantine.read_elsewhere("x", lambda: read(quarantine, fault=lambda: time.sleep(60))) is None
    assert "reading what is new takes too long" in caplog.text and notes(path) == []
    assert read(quarantine) == "read" and not os.path.exists(path)


def test_the_death_of_another_process_is_counted_also_when_what_is_read_elsewhere_takes_too_long(path, monkeypatch):
    monkeypatch.setattr(trials, "TRIAL_SECONDS", 0.05)
    quarantine = Quarantine(path)
    for _ in range(2):
        dies_of(Quarantine(path), "d9")
        assert quarantine.read_elsewhere("x", lambda: read(quarantine, fault=lambda: time.sleep(60))) is None
    assert [entry.digest for entry in quarantine.entries()] == ["d9"]


def test_who_is_in_haste_waits_a_moment_and_finds_what_was_read_when_it_asks_again(path, tmp_path, monkeypatch):
    quarantine, gate = Quarantine(path), tmp_path / "gate"
    os.mkfifo(gate)

    def read_late():
        with open(gate):  # until somebody opens it for writing
            return "late"

    with monkeypatch.context() as changed:
        changed.setattr(module, "HASTY_SECONDS", 30.0)  # more than the busiest machine takes
        quarantine.be_hasty()
        assert quarantine.read_elsewhere("x", lambda: "at once") == "at once"
    quarantine.be_hasty()
    assert quarantine.read_elsewhere("y", read_late) is None, "nobody has opened it yet"
    waited = time.thread_time()
    for _ in range(5):
        assert quarantine.read_elsewhere("y", lambda: "another") is None, "that one still reads"
    assert time.thread_time() - waited < 1.0
    with open(gate, "w"):
        pass
    until(lambda: quarantine.read_elsewhere("y", lambda: "another") == "late", 20, "it has read")
    assert quarantine.read_elsewhere("y", lambda: "another") in ("another", None)


def test_who_is_in_haste_waits_for_a_tenth_of_its_time_at_most(path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    quarantine = Quarantine(path)
    assert quarantine._patience(100.0, "x") == math.inf
    quarantine.be_hasty()
    assert quarantine._patience(100.0, "x") == module.HASTY_SECONDS
    quarantine._may_wait_seconds -= module.HASTY_SECONDS + 0.2  # as long as it took, however long that was
    assert [quarantine._patience(at, "x") for at in (100.0, 101.0, 103.0, 1000.0)] == pytest.approx([0.0, 0.1, 0.3, 0.5])
    assert quarantine._patience(1000.0, None) == module.HASTY_SECONDS


def test_what_is_never_asked_for_again_is_ended_and_so_is_what_is_late(path, tmp_path, monkeypatch, caplog):
    quarantine = Quarantine(path)
    quarantine.be_hasty()
    monkeypatch.setattr(module, "HASTY_SECONDS", 0.05)
    pids = tmp_path / "pids"
    pids.touch()  # on a busy machine each may be ended before it writes

    def hang():
        with open(pids, "a") as file:
            print(os.getpid(), file=file)
        time.sleep(1000)

    assert quarantine.read_elsewhere(None, hang) is None and "takes too long" in caplog.text
    monkeypatch.setattr(trials, "TRIAL_SECONDS", 0.2)
    until(lambda: quarantine.read_elsewhere("x", hang) is None and caplog.text.count("takes too long") >= 2, 20, "it is late")
    quarantine.begin_apart()
    for pid in pids.read_text().split():
        until(lambda pid=pid: is_gone(int(pid)), 10, "it is ended")
    assert notes(path) == [] and quarantine._trials == {} and not quarantine.is_hasty


def test_whoever_reaps_all_children_may_reap_this_one(path, monkeypatch):
    quarantine = Quarantine(path)
    quarantine.be_hasty()
    quarantine._may_wait_seconds, quarantine._earned_at = 0.0, time.monotonic() + 1000
    here, there = os.pipe()
    assert quarantine.read_elsewhere("x", lambda: os.read(here, 4).decode()) is None
    [trial] = quarantine._trials.values()
    os.write(there, b"read")
    os.waitpid(trial._pid, 0)
    assert quarantine.read_elsewhere("x", lambda: 1 / 0) == "read"
    os.close(here)
    os.close(there)


def test_without_a_process_to_read_it_is_not_known_yet(path, monkeypatch, caplog):
    def no_room():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_room)
    assert Quarantine(path).read_elsewhere("x", lambda: 1 / 0) is None
    assert "can't fork to read what is new: Resource temporarily unavailable" in caplog.text


def test_a_process_that_ends_before_it_has_told_what_it_read_has_told_nothing(path):
    assert Quarantine(path).read_elsewhere("x", lambda: os._exit(0)) is None
    assert Quarantine(path).read_elsewhere("x", lambda: 1 / 0) is None
    assert Quarantine("").read_elsewhere("x", os.getpid) == os.getpid(), "without a file there is nobody to hear of a death"


def test_what_raises_elsewhere_is_read_twice_there_so_that_all_leave_it_out(path):
    quarantine = Quarantine(path)

    def raises():
        with contextlib.suppress(Quarantined):
            read(quarantine, fault=KeyError())
        return "the rest"

    assert quarantine.read_elsewhere("x", raises) == "the rest"
    assert [entry.strikes for entry in quarantine.entries()] == [2]


def test_many_are_bounded_and_the_oldest_go(path):
    quarantine = Quarantine(path)
    for number in range(ENTRIES_MAX + 3):
        with pytest.raises(Quarantined):
            read(quarantine, f"d{number}", KeyError())
    assert list(Quarantine(path)._look()) == [f"d{number}" for number in range(3, ENTRIES_MAX + 3)]


def test_a_newer_version_tries_again_and_so_does_one_whose_line_was_removed(path, monkeypatch):
    for _ in range(2):
        dies_of(Quarantine(path))
        Quarantine(path).settle()
    monkeypatch.setattr(module, "__version__", "99.0.0")
    assert read(Quarantine(path)) == "read" and os.path.getsize(path) == 0
    monkeypatch.undo()
    quarantine = Quarantine(path)
    for _ in range(2):
        with pytest.raises(Quarantined):
            read(quarantine, fault=KeyError())
    os.unlink(path)
    assert read(quarantine) == "read"


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"[]\n{}\n", b'{"kind": "policy", "digest": "x"}\n', b"{" * 99999])
def test_a_file_that_is_none_of_ours_holds_nothing_and_is_written_anew(path, content):
    with open(path, "wb") as file:
        file.write(content)
    quarantine = Quarantine(path)
    assert read(quarantine) == "read"
    with pytest.raises(Quarantined):
        read(quarantine, fault=KeyError())
    assert list(Quarantine(path)._look()) == ["d1"]


def test_where_nothing_can_be_written_memory_counts(tmp_path, caplog):
    quarantine = Quarantine(str(tmp_path / "none" / "me.bdquarantine"))
    for _ in range(2):
        with pytest.raises(Quarantined):
            read(quarantine, fault=KeyError())
    with pytest.raises(Quarantined, match="2 times"):
        read(quarantine)
    assert "No such file or directory" in caplog.text


# --- what a node does of it ---------------------------------------------------------------------------------------


def planted(monkeypatch, where, name, faults):
    """A bug in a reader: `faults` says for a word what happens when it stands in what is read."""
    whole = getattr(where, name)

    def reads(*arguments):
        for word, fault in faults.items():
            if word in str(arguments):
                fault()
        return whole(*arguments)

    monkeypatch.setattr(where, name, reads)


def oops():
    raise KeyError("oops")


FAULTS = {"Raises": oops, "Dies": lambda: os._exit(1)}


def test_a_service_that_ends_its_reader_is_left_out_and_named_and_the_others_are_offered(tmp_path, monkeypatch):
    node = a_node(tmp_path)
    planted(monkeypatch, services, "read_service", FAULTS)
    for name in ("Dies", "Echo", "Raises"):
        node.offer(name)
    assert list(node.services.all()) == ["Echo"] == list(node.ask("STATUS").own["services"])
    warnings = node.ask("STATUS").own["warnings"]
    for name in ("Dies", "Raises"):
        assert len([line for line in warnings if f"{name}.bdcert: in quarantine, since reading it went wrong 2" in line]) == 1
    another = services.Services(node.services.services_dir, node.services.graveyard_dir, "", node.quarantine)
    assert list(another.all()) == ["Echo"]
    os.unlink(node.quarantine.path)
    monkeypatch.undo()
    node.services.read_anew()
    assert list(node.services.all()) == ["Dies", "Echo", "Raises"]


def test_a_policy_that_ends_its_reader_meets_none_and_its_owner_is_named(tmp_path, monkeypatch):
    node, raises, dies, well = (a_node(tmp_path, f"n{x}", policy=x and document(x)) for x in ("", "Raises", "Dies", "Well"))
    planted(monkeypatch, policy, "parse", FAULTS)
    node.rules = node.rules._replace(policies=Policies(None, "lax", guarded(node.quarantine)))
    node.knows(raises, dies, well)
    node.refresh()
    assert [node.policies.of(node.cache.view(), each.cache.view().own) is UNKNOWN for each in (raises, dies, well)] == [1, 1, 0]
    warnings = node.ask("STATUS").own["warnings"]
    for name in ("nRaises", "nDies"):
        assert len([line for line in warnings if f"the policy of {name}: in quarantine, since reading it went" in line]) == 1
    assert not [line for line in warnings if "nWell" in line]


def test_the_process_that_forks_all_others_parses_nothing_that_strangers_wrote(tmp_path, monkeypatch):
    """Where it did, a bug in the parser, or one policy that takes seconds, would be the end of the node or keep it from accepting."""
    node, other = a_node(tmp_path), a_node(tmp_path, "n2", policy=document("Theirs"))

    def planted_here(whole):
        here = os.getpid()

        def reads(*arguments):
            assert os.getpid() != here, arguments
            return whole(*arguments)

        return reads

    monkeypatch.setattr(policy, "parse", planted_here(policy.parse))
    monkeypatch.setattr(services, "read_service", planted_here(services.read_service))
    node.offer("Echo", weight=7)
    node.knows(other)
    node.refresh()
    theirs = node.policies.of(node.cache.view(), node.cache.view().records["n2"])
    assert theirs == other.policies.own and hash(theirs) == hash(other.policies.own)
    assert node.services.all()["Echo"].cost == 7


def test_a_policy_that_takes_long_keeps_the_process_that_forks_all_others_for_a_moment_alone(tmp_path, monkeypatch):
    """It neither waits for all of it nor reads it itself: at the end, and after SIGHUP, either."""
    node, other = a_node(tmp_path), a_node(tmp_path, "n2", policy=document("Slow"))
    third = a_node(tmp_path, "n3", policy=document("Well"))
    here, whole = os.getpid(), policy.parse

    def parse(text, *arguments):
        assert os.getpid() != here, "in this very process"
        if "Slow" in str(text):
            time.sleep(1000)
        return whole(text, *arguments)

    node.knows(other, third)
    node.quarantine.be_hasty()
    monkeypatch.setattr(module, "HASTY_SECONDS", 0.2)
    monkeypatch.setattr(policy, "parse", parse)
    began = time.monotonic()
    node.refresh()
    node.refresh()
    assert time.monotonic() - began < 5 and len(node.policies.unread(node.cache.view())) == 2
    reload._policy(node)

    def silent(*arguments):
        raise NobodyThere("silent")

    node.dial = silent
    run.say_goodbye(node, SimpleNamespace(remove=lambda: None, close_ears=lambda: None))
    assert all(node.policies.of(node.cache.view(), node.cache.view().records[name]) is UNKNOWN for name in ("n2", "n3"))
    for trial in node.quarantine._trials.values():
        trial.end()


def test_policies_come_a_few_at_a_time_and_stay_at_sighup(tmp_path, monkeypatch):
    node = a_node(tmp_path)
    others = [a_node(tmp_path, f"n{number}", policy=document(f"P{number}")) for number in range(10)]
    node.knows(*others)
    left = []
    for _ in range(3):
        node.refresh()
        left.append(len(node.policies.unread(node.cache.view())))
    assert left == [2, 0, 0]
    monkeypatch.setattr(policy, "parse", lambda *arguments: 1 / 0)
    reload._policy(node)
    assert node.policies.unread(node.cache.view()) == {}


def test_our_own_policy_that_ends_its_reader_is_a_complaint_at_sighup_and_the_old_one_stays(tmp_path, monkeypatch):
    node = a_node(tmp_path, policy=document("Ours"))
    planted(monkeypatch, policy, "parse", FAULTS)
    for word in FAULTS:
        with open(node.settings.ws_policy, "w") as file:
            file.write(document(word))
        with pytest.raises(BadConfig, match=f"{node.settings.ws_policy}: in quarantine"):
            reload._policy(node)
        assert node.rules.document.text == document("Ours")
    with open(node.settings.ws_policy, "w") as file:
        file.write(document("Better"))
    reload._policy(node)
    assert node.rules.document.text == document("Better") and node.policies.own == policy.parse(document("Better"))


def test_of_many_services_what_could_be_read_counts_and_the_next_look_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(services, "READ_AT_ONCE", 2)
    node = a_node(tmp_path)
    for number in range(5):
        node.offer(f"S{number}")
    fresh = services.Services(node.services.services_dir, node.services.graveyard_dir, "", node.quarantine)
    whole, left = node.quarantine.read_elsewhere, [1]
    with monkeypatch.context() as here:
        here.setattr(node.quarantine, "read_elsewhere", lambda what, read: whole(what, read) if left and left.pop() else None)
        assert list(fresh.all()) == ["S0", "S1"]
    assert list(fresh.all()) == [f"S{number}" for number in range(5)]


def test_what_could_not_be_read_elsewhere_is_read_by_whoever_needs_it(tmp_path, monkeypatch):
    node, other = a_node(tmp_path), a_node(tmp_path, "n2", policy=document("Theirs"))
    node.knows(other)
    with monkeypatch.context() as here:
        here.setattr(node.quarantine, "read_elsewhere", lambda what, read: None)
        node.offer("Echo")
        node.refresh()
        assert node.services.all() == {} and node.policies.unread(node.cache.view())
    assert node.policies.of(node.cache.view(), node.cache.view().records["n2"]) == other.policies.own
    assert list(node.services.all()) == ["Echo"]


def test_a_caller_s_policy_that_met_a_bug_is_its_caller_s_affair(tmp_path, monkeypatch):
    node = a_node(tmp_path).offer("Echo")
    planted(monkeypatch, policy, "parse", FAULTS)
    for _ in range(3):
        with pytest.raises(Quarantined, match=r"the client's policy \(node caller from [^)]*\): in quarantine"):
            node.ask("WHEREIS", "Echo", document("Raises"))
        with (
            node.call_me(policy_text=document("Raises", "too")) as talk,
            pytest.raises(Quarantined, match=r"the caller's policy \(node caller from"),
        ):
            talk.ask(["PING"])
    assert node.ask("WHEREIS", "Echo", document()).host == "ME"


def test_a_package_that_ends_its_reader_is_left_out_whatever_digest_is_declared(tmp_path, monkeypatch):
    node, content = a_node(tmp_path, max_dynamic=3), io.BytesIO(b"x" * 512)
    planted(monkeypatch, package, "unpack", {"Echo": oops})
    for number in range(3):
        described = {"bytes": 512, "sha256": str(number)}
        with pytest.raises(Quarantined, match="the package of Echo from caller: in quarantine"):
            node.ask("PUBLISH", "Echo", described, role=ADMIN, package=content)
        content.seek(0)
    [entry] = node.quarantine.entries()
    assert entry.kind is Kind.PACKAGE and any("package of Echo" in line for line in warnings(node))
