"""Callers: other nodes, and those who are none, at the port for news; real TLS on loopback, the loop in a thread."""

import contextlib
import errno
import os
import socket
import struct
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from bdserver.core import messages
from bdserver.core.roles import CLIENT
from bdserver.core.wire import FRAME_BYTES_MAX, HEADER, encode
from bdserver.errors import BadRequest, BDError
from bdserver.net import links
from bdserver.processes import callers as module
from bdserver.processes.names import Names
from bdserver.processes.switchboard import Switchboard
from bdserver.processes.terms import POLICIES_MAX
from tests.hosts import until
from tests.unit.gossipers import Said, Turning, credentials_of, make_authority, make_node


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder, other = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("others")
    ours, others = make_authority(folder), make_authority(other)
    return {
        "node": credentials_of(str(folder / "n"), ours, "n1"),
        "another": credentials_of(str(folder / "o"), ours, "n2"),
        "client": credentials_of(str(folder / "c"), ours, "joe", CLIENT),
        "stranger": credentials_of(str(other / "s"), others, "n1"),
        "authority": ours,
    }


class Callee:
    """A node that hears callers; what it answers is the test's."""

    def __init__(self, folder, keys):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.node = make_node(str(folder), keys["authority"], "me", self.port - 1)
        self.slots, self.heard = [], []
        self.board = Switchboard(self.node, [self.listening], Names(lambda f: f()), self.answer, *[lambda name: None] * 2)
        self.callers = self.board.callers
        self.turning = Turning(self.board)

    def answer(self, caller, message, slot):
        self.heard.append(message)
        match message:
            case ["PING"]:
                slot.fill(messages.Pong("digest"))
            case ["PROBE", _]:
                self.slots.append(slot)
            case ["BUG"]:
                raise RuntimeError("oh")
            case ["LARGE"]:
                slot.fill(messages.Exchanged({"digest": os.urandom(300_000).hex()}))
            case _:
                raise BadRequest("what?")

    def raw(self):
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.settimeout(20)
        return sock

    def dial(self, keys, role="node"):
        return Said.dial(self.port, keys[role])

    def end(self):
        self.turning.end()
        self.callers.dismiss_all()
        self.listening.close()


@pytest.fixture
def callee(tmp_path, keys):
    callee = Callee(tmp_path, keys)
    yield callee
    callee.end()


def is_closed(sock):
    """Wait until the other side closes."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


# --- who is heard -------------------------------------------------------------------------------------------------


def test_a_node_is_answered_in_the_order_of_its_requests(callee, keys):
    said = callee.dial(keys)
    said.say(["PROBE", "x"], ["PING"], ["WHAT"], ["BUG"], ["PING"])
    until(lambda: len(callee.heard) == 5, 10, "all are heard")
    slot = callee.slots[0]
    slot.fill(messages.NoPong("refused", "first"))
    slot.fill(messages.NoPong("refused", "a second answer is none"))
    came = [said.hear() for _ in range(5)]
    assert [each[:2] for each in came] == [
        ["NOPONG", "refused"], ["PONG", "digest"], ["ERROR", "bad-request"], ["ERROR", "error"], ["PONG", "digest"],
    ]  # fmt: skip
    assert said.ask(["PING"]) == ["PONG", "digest"]


@pytest.mark.parametrize("role", ["client", "stranger"])
def test_who_is_no_node_of_this_mesh_is_never_heard(callee, keys, role):
    with pytest.raises(BDError):
        callee.dial(keys, role).ask(["PING"])
    assert callee.heard == []


def test_who_is_in_the_black_list_is_hung_up_on_at_once(callee, tmp_path):
    (tmp_path / "black").write_text("127.0.0.1\n")
    rules = callee.node.rules
    callee.node.rules = rules._replace(black_list=type(rules.black_list)(str(tmp_path / "black")))
    assert is_closed(callee.raw()) and not callee.callers._callers


def test_who_is_revoked_is_told_so_at_its_next_request_or_when_it_comes(callee, keys, tmp_path):
    said = callee.dial(keys)
    assert said.ask(["PING"])[0] == "PONG"
    (tmp_path / "revoked").write_text("n1\n")
    callee.node.rules.revoked.reload(str(tmp_path / "revoked"))
    assert said.ask(["PING"])[:2] == ["ERROR", "forbidden"] and said.is_hung_up()
    late = callee.dial(keys)
    assert late.hear()[:2] == ["ERROR", "forbidden"] and late.is_hung_up()
    assert callee.heard == [["PING"]]


def test_an_opening_is_not_answered_and_what_is_wrong_with_it_is_the_answer_to_each_request(callee, keys):
    said = callee.dial(keys)
    said.say(["OPEN", {"version": 99, "oldest": 99}], ["PING"])
    assert said.hear()[:2] == ["ERROR", "bad-request"]
    said.say(["OPEN", {"version": 1, "policy": "ab"}], ["PING"])
    assert said.hear()[:2] == ["ERROR", "policy-unknown"]
    said.say(["OPEN", {"version": 1}], ["PING"])
    assert said.hear()[0] == "PONG"


# --- limits -------------------------------------------------------------------------------------------------------


def test_the_silent_and_the_half_open_are_hung_up_on(callee, monkeypatch):
    monkeypatch.setattr(links, "OPENING_SECONDS", 0.1)
    silent, half = callee.raw(), callee.raw()
    half.sendall(b"\x16\x03\x01\x01\x00\x01")
    assert is_closed(silent) and is_closed(half)


def test_one_byte_a_moment_is_too_slow(callee, keys, monkeypatch):
    monkeypatch.setattr(links, "FRAME_SECONDS", 0.3)
    said, began = callee.dial(keys), time.monotonic()
    with contextlib.suppress(BDError):
        for byte in encode(["SYNCHRONIZE", {"digest": "x" * 2000}]):
            said.stream.send(bytes([byte]), time.monotonic() + 5)
            time.sleep(0.02)
    assert said.is_hung_up() and time.monotonic() - began < 10 and callee.heard == []


@pytest.mark.parametrize("data", [b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", HEADER.pack(FRAME_BYTES_MAX + 1, 0)])
def test_nonsense_ends_it(callee, keys, data, caplog):
    said = callee.dial(keys)
    said.stream.send(data, time.monotonic() + 5)
    assert said.is_hung_up() and "n1 from 127.0.0.1" in caplog.text
    raw = callee.raw()
    raw.sendall(data)
    assert is_closed(raw)


def test_resets_and_hang_ups_leave_nothing(callee, keys):
    for number in range(20):
        sock = callee.raw()
        if number % 2:
            sock.sendall(b"\x16\x03\x01")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    said = callee.dial(keys)
    said.say(["PROBE", "x"])
    until(lambda: callee.slots, 10, "it is heard")
    said.close()
    until(lambda: not callee.callers._callers, 10, "all are gone")
    callee.slots[0].fill(messages.Pong())  # an answer for one who is gone
    assert callee.dial(keys).ask(["PING"])[0] == "PONG"


def test_who_asks_and_does_not_wait_for_answers_is_hung_up_on_at_a_limit(callee, keys):
    said = callee.dial(keys)
    said.say(*[["PROBE", "x"]] * module.SLOTS_MAX)
    until(lambda: len(callee.slots) == module.SLOTS_MAX, 10, "all are heard")
    said.say(["PING"])
    assert said.is_hung_up()


def test_a_caller_with_ever_other_policies_is_hung_up_on_at_a_limit(callee, keys, caplog):
    said = callee.dial(keys)
    texts = [f'<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:x="urn:x"><x:A{n}/></wsp:Policy>' for n in range(5)]
    for text in texts[:POLICIES_MAX] + [texts[POLICIES_MAX - 1]] * 10:  # the same one again costs nothing
        said.say(["OPEN", {"version": 1, "policy_text": text}])
        assert said.ask(["PING"])[0] == "PONG"
    said.say(["OPEN", {"version": 1, "policy_text": texts[-1]}])
    assert said.is_hung_up() and "more than 4 policies on one connection" in caplog.text


def test_who_does_not_read_is_hung_up_on_at_a_limit(callee, keys, monkeypatch, caplog):
    monkeypatch.setattr(links, "WAITING_BYTES_MAX", 2 << 20)
    said = callee.dial(keys)
    with contextlib.suppress(BDError):
        for _ in range(1000):
            said.say(["LARGE"])
            if not callee.callers._callers:
                break
    until(lambda: not callee.callers._callers and "does not read" in caplog.text, 10, "it is hung up on, and said")
    assert len(callee.heard) < 1000


def test_a_large_answer_that_came_late_leaves_whole(callee, keys):
    """Nothing but the answer itself wakes the loop to go on sending it."""
    said = callee.dial(keys)
    said.say(["PROBE", "x"])
    until(lambda: callee.slots, 10, "it is heard")
    answers = [messages.NoPong("refused", os.urandom(30_000).hex())] * 40
    for _ in answers[1:]:
        said.say(["PROBE", "x"])
    until(lambda: len(callee.slots) == len(answers), 10, "all are heard")
    for slot, answer in zip(reversed(callee.slots), answers, strict=True):  # the first one last
        slot.fill(answer)
    for _ in answers:
        assert len(said.hear()[2]) == 60_000


def test_a_stranger_gives_way_when_others_wait_and_a_node_gets_through(callee, keys, monkeypatch):
    monkeypatch.setattr(module, "STRANGERS_MAX", 4)
    monkeypatch.setattr(module, "STRANGER_SECONDS", 0.05)
    crowd = [callee.raw() for _ in range(60)]
    assert callee.dial(keys).ask(["PING"])[0] == "PONG"
    assert len(callee.callers._callers) <= 5
    assert all(is_closed(sock) for sock in crowd[:50])


def test_on_a_machine_that_is_short_of_time_a_stranger_gives_way_later(callee, monkeypatch):
    """Whoever is hung up on in the middle of a handshake has cost us most of one, and calls again."""
    callers = callee.board.callers
    monkeypatch.setattr(module, "STRANGERS_MAX", 1)
    with socket.create_connection(("127.0.0.1", callee.port)):
        until(lambda: callers._callers, 20, "it is taken")
        usual = callers._room_at()
        callers._patience = lambda seconds: 9 * seconds
        assert callers._room_at() - usual == pytest.approx(8 * module.STRANGER_SECONDS)


def test_who_is_idle_gives_way_when_there_is_no_more_room_and_at_last_anyway(callee, keys, monkeypatch):
    monkeypatch.setattr(module, "CALLERS_MAX", 2)
    monkeypatch.setattr(module, "IDLE_SECONDS_WHEN_FULL", 0.2)
    idle, other = callee.dial(keys), callee.dial(keys)
    assert idle.ask(["PING"]) and other.ask(["PING"])
    third = callee.dial(keys)
    assert third.ask(["PING"])[0] == "PONG" and idle.is_hung_up()
    assert other.ask(["PING"])[0] == "PONG"
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    callee.callers._sweep_at = 0.0
    assert other.is_hung_up() and third.is_hung_up()


def test_who_waits_for_an_answer_is_not_idle(callee, keys, monkeypatch):
    said = callee.dial(keys)
    said.say(["PROBE", "x"])
    until(lambda: callee.slots, 10, "it is heard")
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    callee.callers._sweep_at = 0.0
    until(lambda: callee.callers._sweep_at > 0.0, 10, "it is looked who is idle")
    callee.slots[0].fill(messages.Pong())
    assert said.hear() == ["PONG"]


def test_without_descriptors_accepting_pauses_and_does_not_spin(callee, keys, monkeypatch, caplog):
    class Short:
        """A listening socket whose process has no descriptor left."""

        def __init__(self, sock):
            self.sock, self.is_short, self.tries = sock, True, 0

        def fileno(self):
            return self.sock.fileno()

        def accept(self):
            self.tries += 1
            if self.is_short:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return self.sock.accept()

    short = Short(callee.listening)
    monkeypatch.setattr(module, "SHORTAGE_SECONDS", 0.2)
    real = callee.callers.accept
    monkeypatch.setattr(callee.callers, "accept", lambda listening: real(short))
    caller = callee.raw()
    began = time.monotonic()
    until(lambda: short.tries == 3, 10, "three tries")
    assert time.monotonic() - began >= 0.4 and "can't accept: Too many open files" in caplog.text
    short.is_short = False
    caller.close()
    assert callee.dial(keys).ask(["PING"])[0] == "PONG"


# --- when we are mute ---------------------------------------------------------------------------------------------


def test_a_mute_node_answers_nobody_and_accepts_nobody_until_it_speaks_again(callee, keys):
    said = callee.dial(keys)
    assert said.ask(["PING"])[0] == "PONG"
    callee.callers.is_mute = True
    turns = callee.turning.turns
    until(lambda: callee.turning.turns > turns + 2, 10, "the loop turns")
    said.say(["PING"])
    assert said.is_hung_up(), "else an answer that comes later would be taken for another one's"
    waiting = callee.raw()
    turns = callee.turning.turns
    until(lambda: callee.turning.turns > turns + 2, 10, "the loop turns")
    assert callee.heard == [["PING"]] and not callee.callers._callers
    callee.callers.is_mute = False
    assert callee.dial(keys).ask(["PING"])[0] == "PONG"
    waiting.close()


# --- what one node gets -------------------------------------------------------------------------------------------


def test_of_one_node_s_connections_the_one_that_is_not_used_gives_way(callee, keys, monkeypatch):
    monkeypatch.setattr(module, "LINKS_MAX", 3)
    another = callee.dial(keys, "another")
    assert another.ask(["PING"]) == ["PONG", "digest"]
    said = [callee.dial(keys) for _ in range(3)]
    for each in (*said, said[0]):
        assert each.ask(["PING"]) == ["PONG", "digest"]
    newest = callee.dial(keys)
    assert newest.ask(["PING"]) == ["PONG", "digest"]
    assert said[1].is_hung_up()
    assert [each.ask(["PING"]) for each in (said[0], said[2], newest, another)] == [["PONG", "digest"]] * 4


def busy(seconds):
    began = time.thread_time()
    while time.thread_time() < began + seconds:
        pass


@pytest.mark.parametrize(
    ("message", "share", "at_most"),
    [
        (["PING"], 0.0, module.TURN_MESSAGES_MAX),
        (["SYNCHRONIZE", {"digest": "x" * (module.TURN_BYTES_MAX // 2)}], 0.0, 2),
        (["PING"], 1 / 2, 3),
    ],
    ids=["messages", "bytes", "time"],
)
def test_of_all_connections_of_one_node_so_much_is_read_in_a_turn(callee, keys, monkeypatch, message, share, at_most):
    """`share`: of the time of a turn that each message takes."""
    monkeypatch.setattr(module, "SHARE_SECONDS", 1000.0)
    if share:
        monkeypatch.setattr(module, "TURN_SECONDS", 0.02)
    said, another = [callee.dial(keys) for _ in range(4)], callee.dial(keys, "another")
    assert [each.ask(["PING"]) for each in (*said, another)] == [["PONG", "digest"]] * 5
    turns, count = Counter(), 24

    def answer(caller, message, slot):
        turns[callee.callers._turn, caller.link.name] += 1
        busy(share * module.TURN_SECONDS)
        slot.fill(messages.Pong("digest"))

    callee.callers._answer = answer
    for each in said:
        each.say(*[message] * (count // len(said)))
    another.say(["PING"])
    for _ in range(count // len(said)):
        assert [each.hear() for each in said] == [["PONG", "digest"]] * len(said)
    assert another.hear() == ["PONG", "digest"]
    assert max(turns.values()) <= at_most and sum(turns.values()) == count + 1


def test_who_has_spent_its_share_rests_until_its_minute_is_over_and_others_do_not(callee, keys, monkeypatch):
    monkeypatch.setattr(links, "FRAME_SECONDS", 0.2)  # half a message is not late while nobody reads it
    said, more, another = callee.dial(keys), callee.dial(keys), callee.dial(keys, "another")
    assert [each.ask(["PING"]) for each in (said, more, another)] == [["PONG", "digest"]] * 3
    share = callee.callers._shares["n1"]
    share.take(module.SHARE_SECONDS, time.monotonic())
    assert [each.ask(["PING"]) for each in (said, more)] == [["PONG", "digest"]] * 2, "that was under way"
    until(lambda: [each.is_resting for each in callee.callers._callers.values()].count(True) == 2, 10, "both rest")
    frame, late = encode(["PING"]), time.monotonic() + 20
    said.stream.send(frame[:3], late)
    more.stream.send(frame, late)
    heard, sent_at = len(callee.heard), time.monotonic()
    until(lambda: time.monotonic() > sent_at + 2 * links.FRAME_SECONDS, 10, "half a message would be late")
    assert another.ask(["PING"]) == ["PONG", "digest"] and len(callee.heard) == heard + 1
    share.began -= module.MINUTE
    assert more.hear() == ["PONG", "digest"]
    said.stream.send(frame[3:], late)
    assert said.hear() == ["PONG", "digest"]


def test_a_share_is_one_for_all_connections_of_a_node_also_where_many_are_forgotten(callee, keys, monkeypatch):
    monkeypatch.setattr(module, "SHARES_MAX", 1)
    monkeypatch.setattr(module, "MINUTE", 0.0)
    said = [callee.dial(keys, name) for name in ("node", "another", "node")]
    assert [each.ask(["PING"]) for each in said] == [["PONG", "digest"]] * 3
    shares = [each.share for each in callee.callers._callers.values() if each.link.name == "n1"]
    assert len(shares) == 2 and shares[0] is shares[1] is callee.callers._shares["n1"]


def test_what_is_done_for_a_caller_is_counted_and_too_much_is_said(monkeypatch, caplog):
    monkeypatch.setattr(module, "SHARE_SECONDS", 0.01)
    caller = module.Caller(SimpleNamespace(state=links.State.OPEN, name="n1"), None, "10.0.0.1")

    def work():
        busy(0.02)
        raise KeyError

    with pytest.raises(KeyError), caller.at_work():
        work()
    assert caller.share.rests_until() > time.monotonic()
    assert "n1 from 10.0.0.1 took 0.01 s of processor time: not heard until a minute is over" in caplog.text


def test_a_share_is_spent_once_a_minute_and_all_of_it_there_again():
    share = module.Share(100.0)
    assert not share.take(6.0, 110.0) and share.rests_until() == 0.0
    assert share.take(6.0, 120.0) and not share.take(1.0, 121.0) and share.rests_until() == 160.0
    assert not share.take(6.0, 160.0) and share.rests_until() == 0.0 and share.began == 160.0
