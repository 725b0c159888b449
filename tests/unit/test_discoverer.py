"""The discoverer: what it does with nudges, signals and outcomes, among others of its kind in one process, over real TLS."""

import errno
import logging
import os
import shutil
import signal
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from bdserver.core import nudges
from bdserver.core.exchange import EVERYBODY
from bdserver.core.gossip.actions import Verdict
from bdserver.core.membership import ALIVE, DEAD, Record, as_json
from bdserver.errors import TooBusy
from bdserver.processes import discoverer as module
from bdserver.processes import facts, heartbeat
from bdserver.processes.describing import Told, describe
from bdserver.processes.lines import SHORTAGE_SECONDS
from tests.hosts import until
from tests.unit import nodes
from tests.unit.gossipers import PATIENCE, Gossiper, Peer, Said, credentials_of, make_authority, signed, turn_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def gossiper(tmp_path, authority):
    """Makes nodes; those made last know those made before."""
    made = []

    def make(name, knows=(), **settings):
        made.append(Gossiper(str(tmp_path), authority, name, **{"probe_interval": 0.1} | settings))
        for other in knows:
            made[-1].meet(other)
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def two(gossiper):
    """Two nodes that know each other and have told their news."""
    one = gossiper("n0")
    other = gossiper("n1", [one])
    pair = [one, other]
    turn_until(pair, lambda: "n1" in one.view.records and one.view.digest() == other.view.digest(), what="they are equal")
    return pair


def calm(one):
    """It has nothing to do of its own for long."""
    mind = one.discoverer._mind
    mind.watch._probe_at = mind.rounds._round_at = time.monotonic() + 1000.0


# --- among others -------------------------------------------------------------------------------------------------


def test_a_change_of_ours_is_told(two):
    with two[0].node.cache.locked() as view:
        describe(two[0].node, view, time.time(), Told(draining=True))
    turn_until(two, lambda: two[1].view.records["n0"].draining)


def test_who_is_refused_is_suspected_and_dead_soon(two, caplog):
    caplog.set_level(logging.INFO)
    one, other = two
    other.end()
    turn_until([one], lambda: one.status_of("n1") == DEAD)
    lines = [record.getMessage() for record in caplog.records]
    assert lines.index("n1 is suspect") < lines.index("n1 is dead")


def test_a_watched_node_that_hangs_up_is_probed_at_once_on_a_new_line(two):
    one, other = two
    address = f"127.0.0.1:{other.node.gossip_port}"
    turn_until(two, lambda: address in one.lines and one.lines[address].is_open)
    calm(one)
    line = one.lines[address]
    other.discoverer._board.callers.dismiss_all()
    turn_until(two, lambda: one.lines.get(address) not in (None, line) and one.lines[address].is_open)
    assert one.status_of("n1") == ALIVE


def test_helpers_are_asked_before_anybody_is_accused(two, gossiper, tmp_path, authority):
    """n2 answers its helper, and us it does not."""
    one = two[0]
    probed = []

    def behave(said):
        while (message := said.hear()) is not None:
            if said.stream.identity.name == "n1" and message[0] != "OPEN":
                probed.append(said.stream.identity.name)
                said.say(["PONG"] if message[0] == "PING" else ["SYNCHRONIZE", {}])

    peer = Peer(credentials_of(str(tmp_path / "k2"), authority, "n2"), behave)
    port = int(peer.address.rpartition(":")[2])
    record = Record("n2", f"127.0.0.1:{port - 1}", (1, 0), gossip_port=port)
    for each in two:
        with each.node.cache.locked() as view:
            view.merge(record, time.time())
    one.nudge(nudges.Hurry("n2"))
    turn_until(two, lambda: probed)
    deadline = time.monotonic() + 1.0
    turn_until(two, lambda: time.monotonic() > deadline)
    assert one.status_of("n2") == ALIVE
    peer.close()


def test_a_hint_is_followed_to_the_port_for_news(gossiper, tmp_path, authority):
    """A listener is beside the discoverer: what it answers tells the way."""
    other = gossiper("n1")

    def behave(said):
        while (message := said.hear()) is not None:
            if message[0] == "PING":
                said.say(["PONG", other.view.digest(), other.node.gossip_port])

    listener = Peer(other.node.credentials, behave)
    one = gossiper("n0", hints=listener.address)
    turn_until([one, other], lambda: "n1" in one.view.records and "n0" in other.view.records)
    listener.close()


def test_a_hint_that_leads_back_to_us_is_dropped_quietly(gossiper, caplog):
    caplog.set_level(logging.INFO)
    one = gossiper("n0")
    one.node.settings = one.node.settings.with_reloadable(
        type(one.node.settings)(one.node.settings.path, {"hints": (f"127.0.0.1:{one.node.gossip_port}",)})
    )
    dials = one.discoverer._mind.dials
    turn_until([one], lambda: any(pause > 2.0 for _, pause in dials._next.values()))  # it waits longer each time
    assert one.view.records.keys() == {"n0"}
    assert not [record for record in caplog.records if "call to" in record.getMessage()]


# --- verdicts -----------------------------------------------------------------------------------------------------


def test_when_the_cache_is_locked_too_long_a_verdict_waits(two, caplog, monkeypatch):
    def locked(*seconds):
        raise TooBusy("the lock was not to be had")

    one, other = two
    other.end()
    with monkeypatch.context() as patch:
        patch.setattr(one.node.cache, "locked", locked)
        turn_until([one], lambda: "skipping a turn: the lock was not to be had" in caplog.messages)
        assert one.status_of("n1") == ALIVE
    turn_until([one], lambda: one.status_of("n1") == DEAD)


def test_where_no_verdict_can_be_written_the_loop_rests_between_its_turns(gossiper, caplog, monkeypatch):
    """The folder of the cache is gone: what is due stays due, and must not be tried as fast as the processor can."""
    one = gossiper("n0")
    shutil.rmtree(os.path.dirname(one.node.cache.path))
    mind = one.discoverer._mind
    monkeypatch.setattr(mind, "verdicts", lambda view, now: [Verdict(True, "n1")])
    monkeypatch.setattr(mind, "next_at", lambda view: 0.0)
    turns, until = 0, time.monotonic() + 3 * SHORTAGE_SECONDS
    while time.monotonic() < until:
        assert one.discoverer.turn()
        turns += 1
    assert turns < 50, turns
    assert any("skipping a turn: " in message for message in caplog.messages)


def test_a_verdict_about_a_node_that_is_forgotten_meanwhile_is_none(gossiper):
    one = gossiper("n0")
    one.discoverer._write([Verdict(False, "nobody"), Verdict(True, "nobody")])
    assert one.view.records.keys() == {"n0"}


def test_a_ping_for_another_one_of_who_is_forgotten_says_that_nobody_is_there(gossiper):
    said = []
    gossiper("n0").discoverer._ping("nobody", said.append)
    assert "not known any more" in str(said[0])


# --- nudges -------------------------------------------------------------------------------------------------------


def test_who_could_not_be_reached_is_probed_at_once_and_who_is_not_known_is_not(two):
    one = two[0]
    calm(one)
    one.node.heard.write(set(), 0.0, time.time())
    before = one.node.heard.report().times.get("n1", 0.0)
    one.nudge(nudges.Hurry("n1"), nudges.Hurry("n1"), nudges.Hurry("nobody"))
    turn_until(two, lambda: one.node.heard.report().times.get("n1", 0.0) > before)


def test_who_has_something_unexpected_is_visited(two):
    one, other = two
    for each in two:
        calm(each)
    other.hears_of("far")
    one.nudge(nudges.Visit("nobody"), nudges.Visit("n1"))
    turn_until(two, lambda: "far" in one.view.records)


@pytest.mark.parametrize("nudge", [nudges.Tell(EVERYBODY, ("far",)), nudges.Look()])
def test_what_a_child_was_told_is_passed_on_and_a_look_finds_what_has_changed(two, nudge):
    one, other = two
    one.hears_of("far")
    one.nudge(nudge)
    turn_until(two, lambda: "far" in other.view.records)


def test_a_nudge_that_another_reader_has_taken_is_no_nudge(gossiper):
    gossiper("n0").discoverer._take_nudges()


# --- its listener -------------------------------------------------------------------------------------------------


def test_a_turn_in_which_something_runs_out_is_not_its_end_and_a_bug_is(gossiper, monkeypatch, caplog):
    one = gossiper("n0").discoverer
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "SHORTAGE_SECONDS", 0.0)
    numbers = [errno.EMFILE, errno.ENOMEM, errno.EMFILE, errno.EBADF]

    def turn(patience=0.0):
        if numbers:
            number = numbers.pop(0)
            raise OSError(number, os.strerror(number))
        return False

    monkeypatch.setattr(one, "turn", turn)
    assert not facts.gather(one.node, one.node.cache.view(), time.time()).is_short
    assert [one._turned() for _ in range(3)] == [True] * 3
    assert facts.gather(one.node, one.node.cache.view(), time.time()).is_short, "and status says so"
    with pytest.raises(OSError, match="Bad file descriptor"):
        one._turned()
    assert one._turned() is False
    said = [record.getMessage() for record in caplog.records if "lacks something" in record.getMessage()]
    assert len(said) == 3 and "Too many open files" in said[0] and "well again" in caplog.text


def test_it_ends_with_its_listener(gossiper):
    one = gossiper("n0")
    os.close(one.life_write)
    deadline = time.monotonic() + PATIENCE
    while one.discoverer.turn():
        assert time.monotonic() < deadline


def test_when_its_listener_hangs_it_says_so_and_is_mute(two, caplog, monkeypatch):
    monkeypatch.setattr(heartbeat, "PATIENCE", 0.5)
    one, other = two
    services = one.node.settings.services_dir
    with open(os.path.join(services, "Echo.bdcert"), "w") as file:
        file.write("weight=1\ntype=static\nurl=http://127.0.0.1:1/Echo\nhealth=none\n")
    turn_until(two, lambda: "Echo" in other.view.records["n0"].services, what="Echo is known")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(one.node.settings.socket)
    listener.listen()
    heart = one.discoverer._heartbeat
    heart._answered_at = 0.0  # it has answered long ago, and accepts nothing now
    turn_until(two, lambda: heart.is_hung, what="it hangs")
    turn_until(two, lambda: "Echo" not in other.view.records["n0"].services, what="its services are not offered")
    turn_until(two, lambda: other.status_of("n0") == DEAD, what="it does not answer")
    assert "our listener does not answer" in caplog.text
    heart._over("")  # it has answered
    turn_until(two, lambda: other.status_of("n0") == ALIVE, what="it speaks again")
    turn_until(two, lambda: "Echo" in other.view.records["n0"].services, what="its services are offered again")
    listener.close()


# --- SIGHUP, and the process --------------------------------------------------------------------------------------


@pytest.fixture
def own_signals():
    numbers = signal.SIGHUP, signal.SIGTERM, signal.SIGINT
    before, level = [signal.getsignal(each) for each in numbers], logging.getLogger().level
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    logging.getLogger().setLevel(level)


def test_what_sighup_changes_takes_effect_here_too(gossiper, own_signals, monkeypatch, tmp_path, authority):
    """The whole of it: `run`, a signal, and a node that is met because the new config has a hint at it."""
    monkeypatch.setattr(module.setproctitle, "setproctitle", lambda title: None)
    logging.getLogger().setLevel(logging.WARNING)
    one = gossiper("n0", log_level="warning")
    levels = []

    def behave(said):
        while (message := said.hear()) is not None:
            if message[0] == "PING":
                levels.append(logging.getLogger().level)
                said.say(["ERROR", "policy-mismatch", "no"])

    peer = Peer(credentials_of(str(tmp_path / "k"), authority, "n1"), behave)

    def hup():
        with open(one.node.settings.path, "a") as file:
            file.write(f"hints={peer.address}\n")
        text = open(one.node.settings.path).read().replace("log_level=warning", "log_level=debug")
        with open(one.node.settings.path, "w") as file:
            file.write(text)
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: levels, PATIENCE, "it is dialled")
        os.close(one.life_write)

    def when_it_runs():
        until(lambda: signal.getsignal(signal.SIGHUP) is not before, PATIENCE, "it hears signals")
        hup()

    before = signal.getsignal(signal.SIGHUP)
    thread = threading.Thread(target=when_it_runs)
    thread.start()
    module.run(one.node, [], one.wake_read, one.life_read)
    thread.join(PATIENCE)
    assert levels[0] == logging.DEBUG and one.node.settings.hints == (peer.address,)
    peer.close()


def test_with_new_keys_everybody_is_spoken_to_anew(two):
    one, other = two
    address = f"127.0.0.1:{other.node.gossip_port}"
    turn_until(two, lambda: address in one.lines and one.lines[address].is_open)
    line = one.lines[address]
    one.discoverer._note_reload(signal.SIGHUP, None)
    turn_until(two, lambda: one.lines.get(address) not in (None, line) and one.lines[address].is_open)
    assert one.status_of("n1") == ALIVE and other.status_of("n0") == ALIVE


def test_a_loop_that_is_late_says_so_in_its_log_and_in_status_and_when_it_is_well_again(gossiper, caplog, monkeypatch):
    one, now = gossiper("n0"), time.monotonic()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))  # else a machine that is busy is late, too
    one.discoverer.turn(0.0)
    one.discoverer._wished_at = now - 0.8
    one.discoverer.turn(0.0)
    one.discoverer._chores.look_now()
    one.discoverer.turn(0.0)
    assert one.node.heard.report().lag == pytest.approx(0.8)
    assert "the discoverer's loop is more than 0.5 s late" in caplog.text
    [warning] = [each for each in nodes.warnings(one.node, time.time()) if "loop" in each]
    assert "s late: this machine has too little processor time" in warning
    monkeypatch.setattr("bdserver.files.heard.WRITE_SECONDS", 0.0)
    one.node.heard.note("n1", time.time())
    one.discoverer._chores.look_now()
    one.discoverer.turn(0.0)
    assert one.node.heard.report().lag < 0.5 and "the loop: well again" in caplog.text


def test_a_node_outside_speaks_to_it(gossiper, tmp_path, authority):
    """One conversation by hand, as docs/PROTOCOL.md has it."""
    one = gossiper("n0")
    came = []

    def talk():
        said = Said.dial(one.node.gossip_port, credentials_of(str(tmp_path / "k"), authority, "n9"))
        sealed, certificate = signed(str(tmp_path), authority, Record("n9", "127.0.0.1:9", (1, 1)))
        news = {"records": [as_json(sealed)], "certificates": {sealed.certificate: certificate}}
        came.extend([said.ask(["PING"]), said.ask(["SYNCHRONIZE", news]), said.ask(["STATUS"])])

    thread = threading.Thread(target=talk)
    thread.start()
    turn_until([one], lambda: len(came) == 3)
    thread.join(PATIENCE)
    assert [each[0] for each in came] == ["PONG", "SYNCHRONIZE", "ERROR"]
    assert came[2][1] == "no-such-command" and one.node.address in came[2][2] and "n9" in one.view.records


def test_its_chores_are_done_every_second_however_seldom_it_probes(gossiper):
    one = gossiper("n0", probe_interval=3600)
    one.discoverer.turn(0.0)
    soon = time.monotonic() + 1.0
    assert one.discoverer._chores.next_at() <= soon and one.discoverer._heartbeat.next_at() <= soon
