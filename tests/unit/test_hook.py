"""The program of on_change: what it is told, and what becomes of one that fails, hangs or says too much."""

import json
import os
import signal
import time

import pytest

from bdserver.core.membership import ALIVE, DEAD, Record
from bdserver.processes import hook as module
from bdserver.processes.hook import Hook, Sights
from tests.hosts import is_gone, until
from tests.unit.clocks import Clock
from tests.unit.descriptors import none_left
from tests.unit.peers import StandIn
from tests.unit.views import NOW

ABOUT = {"node": "me", "mesh": "home", "config": "/etc/x.conf"}
SECONDS = 30.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def hook(clock):
    hook = Hook(clock)
    yield hook
    if hook._pid:
        os.killpg(hook._pid, signal.SIGKILL)
        os.waitpid(hook._pid, 0)


@pytest.fixture
def program(tmp_path):
    def made(text):
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return made


def change(number):
    return {"node": "a", "kind": "status", "change": f"change {number}"}


def run(hook, program):
    """One turn, and more until what it began is over."""
    hook.turn(program, SECONDS, ABOUT)
    until(lambda: hook.turn("", SECONDS, ABOUT) or not hook._pid, 30, "the run is over")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_it_is_told_what_changed_and_of_whom(hook, program, tmp_path):
    text = program(f"cat >> {tmp_path}/told")
    hook.turn(text, SECONDS, ABOUT)
    assert not hook._pid, "nothing is to be told"
    hook.tell([change(1), change(2)])
    run(hook, text)
    assert lines(tmp_path / "told") == [ABOUT | {"changes": [change(1), change(2)]}] and hook.complaint == ""
    run(hook, text)
    assert len(lines(tmp_path / "told")) == 1, "once"


def test_one_runs_at_a_time_and_what_comes_meanwhile_is_told_together(hook, program, tmp_path):
    os.mkfifo(tmp_path / "gate")
    text = program(f"cat >> {tmp_path}/told; read line < {tmp_path}/gate")
    hook.tell([change(1)])
    hook.turn(text, SECONDS, ABOUT)
    first = hook._pid
    for number in (2, 3):
        hook.tell([change(number)])
        hook.turn(text, SECONDS, ABOUT)
        assert hook._pid == first
    (tmp_path / "gate").write_text("go\n")
    until(lambda: hook.turn(text, SECONDS, ABOUT) or hook._pid != first, 30, "the next run begins")
    (tmp_path / "gate").write_text("go\n")
    until(lambda: hook.turn(text, SECONDS, ABOUT) or not hook._pid, 30, "it is over")
    assert [each["changes"] for each in lines(tmp_path / "told")] == [[change(1)], [change(2), change(3)]]


def is_handed_on(descriptor):
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def test_its_environment_is_four_words_and_it_can_be_ended(hook, program, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        hook.tell([change(1)])
        run(
            hook,
            program(
                f"env > {tmp_path}/env; grep SigIgn /proc/self/status >> {tmp_path}/env; ls /proc/self/fd >> {tmp_path}/env"
            ),
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    said = (tmp_path / "env").read_text()
    names = {line.partition("=")[0] for line in said.splitlines() if "=" in line}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "LANG", "BDSERVER_CONFIG", "HOME"}, "but for the shell's own"
    ignored = int(said.partition("SigIgn:")[2].split()[0], 16)
    assert not ignored & (1 << (signal.SIGTERM - 1)), "what the daemon ignores is not ignored there"
    given = {fd for fd in map(int, os.listdir("/proc/self/fd")) if is_handed_on(fd)}  # by whoever started this test
    own = {0, 1, 2, 3, 10}  # and the shell's and ls's
    assert set(map(int, said.partition("SigIgn:")[2].split()[1:])) <= given | own, "no descriptor of the daemon's goes along"


def test_one_that_fails_is_said_with_its_last_word_and_told_again(hook, program, tmp_path, clock):
    failing = program("echo one; echo 'it is \x1b[31mbroken' >&2; exit 3")
    hook.tell([change(1)])
    run(hook, failing)
    assert hook.complaint == f"on_change={failing}: exit status 3: it is ?[31mbroken"
    hook.turn(failing, SECONDS, ABOUT)
    assert not hook._pid, "not at once"
    good = program(f"cat >> {tmp_path}/told")
    clock.now += module.RETRY_SECONDS
    run(hook, good)
    assert lines(tmp_path / "told")[0]["changes"] == [change(1)] and hook.complaint == ""


def test_the_next_change_does_not_wait(hook, program, tmp_path):
    hook.tell([change(1)])
    run(hook, program("kill -9 $$"))
    assert hook.complaint.endswith("ended by signal 9")
    hook.tell([change(2)])
    run(hook, program(f"cat >> {tmp_path}/told"))
    assert lines(tmp_path / "told")[0]["changes"] == [change(1), change(2)]


@pytest.mark.parametrize(("path", "why"), [("/nowhere/x", "No such file"), ("/etc/passwd", "Permission denied")])
def test_one_that_can_not_be_started_is_said(hook, path, why):
    hook.tell([change(1)])
    hook.turn(path, SECONDS, ABOUT)
    assert why in hook.complaint and not hook._pid
    hook.tell([change(2)])
    with none_left():
        hook.turn(path, SECONDS, ABOUT)


def test_one_that_hangs_is_ended_with_all_that_it_began(hook, program, tmp_path, clock):
    hook.tell([change(1)])
    hook.turn(program(f"sleep 600 & echo $! > {tmp_path}/child; wait"), SECONDS, ABOUT)
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(), 30, "it runs")
    child = int((tmp_path / "child").read_text())
    clock.now += SECONDS + 1
    until(lambda: hook.turn("", SECONDS, ABOUT) or not hook._pid, 30, "it is ended")
    assert hook.complaint.endswith("it took too long")
    until(lambda: is_gone(child), 30, "its child too")


def test_one_that_talks_without_end_goes_on(hook, program):
    hook.tell([change(1)])
    run(hook, program("head -c 3000000 /dev/zero; echo; echo last; exit 1"))
    assert hook.complaint.endswith("exit status 1: last")


def test_at_the_nodes_end_it_ends(hook, program):
    hook.end()
    hook.tell([change(1)])
    hook.turn(program("exec sleep 600"), SECONDS, ABOUT)
    time.sleep(0)
    hook.end()
    until(lambda: hook.turn("", SECONDS, ABOUT) or not hook._pid, 30, "it is ended")
    assert "signal 15" in hook.complaint


def test_more_than_can_be_told_is_counted_until_it_was_told(hook, program, tmp_path, clock):
    hook.tell([change(number) for number in range(module.CHANGES_MAX + 7)])
    run(hook, program("exit 1"))
    clock.now += module.RETRY_SECONDS
    run(hook, program(f"cat >> {tmp_path}/told"))
    hook.tell([change(0)])
    run(hook, program(f"cat >> {tmp_path}/told"))
    told, later = lines(tmp_path / "told")
    assert later["changes"] == [change(0)] and "left_out" not in later
    assert told["left_out"] == 7 and len(told["changes"]) == module.CHANGES_MAX and told["changes"][0] == change(7)


def test_sights_tell_what_changed_since_the_last_one(tmp_path):
    node = StandIn(tmp_path)
    sights = Sights()

    def seen():
        return [(each["node"], each["kind"]) for each in sights.changes(node, node.cache.view(), 5.0)]

    assert seen() == [("me", "began")] and seen() == []
    with node.cache.locked() as view:
        view.put(Record("b", "10.0.0.2:9001", (1, 1), ALIVE))
        view.changes += 1
    assert seen() == [("b", "new")]
    with node.cache.locked() as view:
        view.put(view.records["b"]._replace(status=DEAD, since=NOW))
        view.changes += 1
    assert seen() == [("b", "status")] and seen() == []
