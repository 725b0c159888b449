"""Lines outwards: talks with peers that a test scripts, over real TLS on loopback."""

import contextlib
import errno
import os
import queue
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from bdserver.core.policy import digest
from bdserver.core.wire import encode
from bdserver.errors import (
    BadFrame,
    BadRequest,
    BDError,
    Deadline,
    Forbidden,
    NobodyThere,
    PolicyMismatch,
    PolicyUnknown,
    Refused,
)  # fmt: skip
from bdserver.files import policyfile
from bdserver.net import links, tls
from bdserver.processes import lines as module
from bdserver.processes.lines import Ourselves
from bdserver.processes.names import Names
from bdserver.processes.switchboard import Switchboard
from tests.unit.gossipers import PATIENCE, Peer, Said, credentials_of, make_authority, make_node

POLICY = """<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:x="urn:x"><x:A/></wsp:Policy>"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def n0(tmp_path_factory, authority):
    """Keys of the node that most peers are."""
    return credentials_of(str(tmp_path_factory.mktemp("n0")), authority, "n0")


class Caller:
    """A node with lines, its loop in the hands of the test."""

    def __init__(self, folder, authority):
        self.node = make_node(str(folder), authority, "me")
        self.hung_up, self.late = [], []
        self.calls = queue.SimpleQueue()  # what a thread that looks a name up leaves to the loop
        self.board = Switchboard(
            self.node,
            [],
            Names(self.calls.put, lambda: self.lines.open_waiting()),
            None,
            self.hung_up.append,
            self.late.append,
        )
        self.lines = self.board.lines
        self.results = {}

    def start(self, what, talk, address, name="n0", seconds=PATIENCE, **more):
        self.lines.start(talk, address, name, seconds, lambda result: self.results.update({what: result}), **more)

    def turn(self):
        self.board.turn(min(self.board.next_at() - time.monotonic(), 0.02))
        while not self.calls.empty():
            self.calls.get()()

    def until(self, is_so):
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < deadline, self.results
            self.turn()

    def result(self, talk, *arguments, **named):
        """What comes of one talk."""
        self.results.pop("it", None)
        self.start("it", talk, *arguments, **named)
        self.until(lambda: "it" in self.results)
        return self.results["it"]

    @property
    def open(self):
        return [line for line in self.lines._lines.values() if line.is_open]


@pytest.fixture
def caller(tmp_path, authority):
    caller = Caller(tmp_path, authority)
    yield caller
    for line in list(caller.lines._lines.values()):
        caller.lines._drop(line)
    caller.board.selector.close()


@pytest.fixture
def peer(n0):
    made = []

    def make(behave, credentials=n0):
        made.append(Peer(credentials, behave))
        return made[-1]

    yield make
    for each in made:
        each.close()


def ping(said=1):
    """A talk of so many PINGs; their digests."""
    found = []
    for _ in range(said):
        found.append((yield ["PING"]).digest)
    return found


def answers(said):
    """Answers each PING by its number on this connection."""
    number = 0
    while (message := said.hear()) is not None:
        if message[0] == "PING":
            said.say(["PONG", str(number)])
            number += 1


def answer_one(said):
    """Answers the first PING: then the line is open, however long that took."""
    said.hear(), said.hear()
    said.say(["PONG", "open"])


def silent(said):
    """Hears, and says nothing."""
    while said.hear() is not None:
        pass


# --- what goes well -----------------------------------------------------------------------------------------------


def test_talks_share_a_line_and_their_requests_do_not_wait_for_each_other(caller, peer):
    heard = []

    def behave(said):  # it answers when both have asked
        heard.extend(said.hear() for _ in range(3))
        said.say(["PONG", "first"], ["PONG", "second"])
        answers(said)

    there = peer(behave)
    caller.start("a", ping(2), there.address)
    caller.start("b", ping(), there.address)
    caller.until(lambda: len(caller.results) == 2)
    assert caller.results == {"a": ["first", "0"], "b": ["second"]} and there.called == 1
    assert heard[0][0] == "OPEN" and heard[1:] == [["PING"], ["PING"]]
    assert caller.result(ping(), there.address) == ["1"] and there.called == 1


def test_what_takes_long_goes_over_a_line_of_its_own(caller, peer):
    there = peer(lambda said: [said.hear(), said.hear() == ["PING"] and said.say(["PONG", "x"]), silent(said)])

    def probe():
        yield ["PROBE", "127.0.0.1:1"]

    caller.start("long", probe(), there.address, is_slow=True)
    assert caller.result(ping(), there.address) == ["x"]
    assert "long" not in caller.results and there.called == 2


def test_a_name_is_found_beside_the_loop_and_whoever_is_there_is_taken_when_none_is_wanted(caller, peer, authority):
    there = peer(answers)
    port = there.address.rpartition(":")[2]
    assert caller.result(ping(), there.address, name=None) == ["0"]
    [line] = caller.open
    assert line.name == "n0"
    assert isinstance(caller.result(ping(), f"no-such-host.invalid:{port}"), NobodyThere)


def test_a_talk_may_say_nothing_at_all(caller):
    def mute():
        return "said nothing"
        yield

    assert caller.result(mute(), "127.0.0.1:1") == "said nothing"


def test_lines_that_nobody_uses_are_let_go_except_those_that_are_kept(caller, peer, monkeypatch):
    there = peer(answers)
    caller.result(ping(), there.address)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    caller.lines.keep(["n0"])
    caller.lines._sweep_at = 0.0
    caller.turn()
    assert len(caller.open) == 1
    caller.lines.keep([])
    caller.lines._sweep_at = 0.0
    caller.turn()
    assert caller.open == [] and caller.lines._sweep_at > time.monotonic() + 5


def test_there_is_a_limit_of_lines_and_those_that_are_kept_go_last(caller, peer, authority, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LINES_MAX", 2)
    for name in ("a", "b", "c"):
        caller.lines.keep(["a"])
        there = peer(answers, credentials_of(str(tmp_path / name), authority, name))
        assert caller.result(ping(), there.address, name) == ["0"]
    caller.turn()
    assert sorted(line.name for line in caller.open) == ["a", "c"]


def test_a_line_that_is_in_use_is_not_let_go(caller, peer, monkeypatch):
    monkeypatch.setattr(module, "LINES_MAX", 0)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    there = peer(silent)
    caller.start("it", ping(), there.address)
    caller.until(lambda: caller.open)
    caller.lines.let_go(there.address)
    caller.turn()
    assert len(caller.open) == 1 and not caller.results


def test_a_line_is_let_go_by_its_address(caller, peer):
    there = peer(answers)
    caller.result(ping(), there.address)
    caller.lines.let_go(there.address)
    caller.lines.let_go("127.0.0.1:1")
    assert caller.open == []


# --- who is there -------------------------------------------------------------------------------------------------


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


def test_where_nobody_listens_it_is_refused_and_at_no_address_nobody_is_there(caller):
    assert isinstance(caller.result(ping(), closed_port()), Refused)
    assert type(caller.result(ping(), "255.255.255.255:1")) is NobodyThere
    assert isinstance(caller.result(ping(), "127.0.0.1:65536"), BadRequest)


def test_another_node_at_an_address_is_as_good_as_nobody(caller, peer):
    there = peer(answers)
    said = caller.result(ping(), there.address, name="n1")
    assert isinstance(said, Refused) and "n0 is there, not n1" in str(said)
    assert caller.result(ping(), there.address) == ["0"]


def test_a_line_to_one_who_was_there_ends_when_another_one_is_wanted(caller, peer):
    there = peer(silent)
    caller.start("old", ping(), there.address)
    caller.until(lambda: caller.open)
    assert isinstance(caller.result(ping(), there.address, name="n1"), Refused)
    assert isinstance(caller.results["old"], NobodyThere)


def test_an_address_that_leads_back_to_us_is_told(caller, peer):
    there = peer(answers, caller.node.credentials)
    assert isinstance(caller.result(ping(), there.address, name=None), Ourselves)


def test_who_is_in_the_black_list_or_revoked_is_not_spoken_to(caller, peer, tmp_path):
    there = peer(answers)
    (tmp_path / "revoked").write_text("n0\n")
    caller.node.rules.revoked.reload(str(tmp_path / "revoked"))
    assert isinstance(caller.result(ping(), there.address), Forbidden)
    (tmp_path / "black").write_text("127.0.0.1\n")
    rules = caller.node.rules
    caller.node.rules = rules._replace(black_list=type(rules.black_list)(str(tmp_path / "black")))
    called = there.called
    said = caller.result(ping(), there.address)
    assert isinstance(said, Forbidden) and "black list" in str(said) and there.called == called


def test_who_is_no_node_is_not_spoken_to(caller, peer, tmp_path):
    other = make_authority(tmp_path / "other")
    there = peer(answers, credentials_of(str(tmp_path / "x"), other, "n0"))
    said = caller.result(ping(), there.address)
    assert isinstance(said, BDError) and not caller.open


class Found(Names):
    """Names whose addresses a test tells."""

    def __init__(self, *addresses):
        self.found = list(addresses)

    def addresses(self, host, port):
        return (self.found and [(socket.AF_INET, each) for each in self.found]) or None


def ip(address):
    host, _, port = address.rpartition(":")
    return host, int(port)


def test_a_host_with_several_addresses_is_reached_at_any_of_them(caller, peer, monkeypatch):
    there = peer(answers)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        hogs = [socket.socket() for _ in range(4)]
        for hog in hogs:
            hog.setblocking(False)
            hog.connect_ex(full.getsockname())  # a queue that is full drops what comes: silence
        monkeypatch.setattr(caller.lines, "_names", Found(ip(closed_port()), full.getsockname(), ip(there.address)))
        assert caller.result(ping(), there.address, seconds=2.0) == ["0"]
        for hog in hogs:
            hog.close()


def test_while_a_name_is_looked_up_the_talk_waits_and_its_time_runs(caller, peer, monkeypatch):
    there, names = peer(answers), Found()
    monkeypatch.setattr(caller.lines, "_names", names)
    assert isinstance(caller.result(ping(), there.address, seconds=0.05), Deadline)
    caller.results.clear()
    caller.start("it", ping(), there.address)
    caller.turn()
    names.found = [ip(there.address)]
    caller.lines.open_waiting()
    caller.until(lambda: "it" in caller.results)
    assert caller.results["it"] == ["0"]


# --- silence and its limits ---------------------------------------------------------------------------------------


def test_who_accepts_and_says_nothing_is_late(caller, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        monkeypatch.setattr(links, "OPENING_SECONDS", 0.5)
        assert isinstance(caller.result(ping(), address, seconds=0.1), Deadline)
        said = caller.result(ping(), address)
        assert isinstance(said, Deadline) and "shake hands" in str(said)


def test_a_late_answer_is_an_answer_and_nothing_is_dialled_anew(caller, peer):
    gate = threading.Event()

    def behave(said):
        answer_one(said)
        gate.wait(PATIENCE)
        answers(said)

    there = peer(behave)
    assert caller.result(ping(), there.address) == ["open"]
    assert isinstance(caller.result(ping(), there.address, seconds=0.2), Deadline)
    assert isinstance(caller.result(ping(), there.address, seconds=0.2), Deadline) and caller.late == []
    caller.start("behind", ping(), there.address)
    gate.set()
    caller.until(lambda: "behind" in caller.results)
    assert caller.results["behind"] == ["2"] and caller.late == ["n0", "n0"] and there.called == 1


def test_a_line_that_stays_mute_takes_nobody_with_it(caller, peer, monkeypatch):
    """What was asked behind the late answer is asked on another line."""
    monkeypatch.setattr("bdserver.processes.line.MUTE_SECONDS", 0.1)
    there = peer(lambda said: (answer_one(said), silent(said)) if there.called == 1 else answers(said))
    assert caller.result(ping(), there.address) == ["open"]
    caller.start("late", ping(), there.address, seconds=0.2)
    assert caller.result(ping(), there.address) == ["0"]
    assert isinstance(caller.results["late"], Deadline) and there.called == 2 and caller.late == []


def test_a_line_that_opens_late_shows_that_the_node_lives(caller, peer, n0):
    with socket.create_server(("127.0.0.1", 0)) as slow:
        address = f"127.0.0.1:{slow.getsockname()[1]}"
        assert isinstance(caller.result(ping(), address, seconds=0.1), Deadline)
        sock, _ = slow.accept()
        there = threading.Thread(target=lambda: answers(Said(tls.accept(sock, n0, time.monotonic() + PATIENCE))), daemon=True)
        there.start()
        caller.until(lambda: caller.late == ["n0"])
        assert caller.result(ping(), address) == ["0"]


def test_before_a_line_is_open_each_talk_has_its_own_time(caller, monkeypatch):
    clock = [time.monotonic()]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        for what, seconds in (("patient", 0.4), ("it", 0.1)):
            caller.start(what, ping(), address, seconds=seconds)
        for later, over in ((0.1, {"it"}), (0.2, {"it"}), (0.1, {"it", "patient"})):
            clock[0] += later + 0.001
            caller.lines.on_time()
            assert caller.results.keys() == over and all(isinstance(each, Deadline) for each in caller.results.values())


def test_half_a_frame_is_not_waited_for_for_ever(caller, peer, monkeypatch):
    monkeypatch.setattr(links, "FRAME_SECONDS", 0.1)
    there = peer(lambda said: [said.stream.send(encode(["PONG"])[:4], time.monotonic() + 5), silent(said)])
    said = caller.result(ping(), there.address)
    assert isinstance(said, BadFrame) and "half a message" in str(said)


def test_few_are_opened_at_once_but_the_silent_do_not_hold_up_the_others(caller, peer, monkeypatch):
    monkeypatch.setattr(module, "OPENING_MAX", 2)
    monkeypatch.setattr(links, "OPENING_SECONDS", 2 * PATIENCE)
    there = peer(answers)
    with contextlib.ExitStack() as stack:
        mutes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        for number, mute in enumerate(mutes):
            caller.start(number, ping(), f"127.0.0.1:{mute.getsockname()[1]}", seconds=2 * PATIENCE)
        caller.start("it", ping(), there.address)
        assert len(caller.lines._opening(time.monotonic())) == 2 and there.called == 0
        began = time.monotonic()
        caller.until(lambda: "it" in caller.results)
        assert caller.results == {"it": ["0"]}, "and none of the silent was given up"
        assert time.monotonic() - began > 2 * module.OPENING_SECONDS


def test_when_we_have_no_descriptor_it_waits_and_accuses_nobody(caller, peer, monkeypatch, caplog):
    there, real, tries = peer(answers), socket.socket, []

    def sockets(*arguments):
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(*arguments)

    monkeypatch.setattr(module, "SHORTAGE_SECONDS", 0.1)
    monkeypatch.setattr(module, "socket", SimpleNamespace(socket=sockets, SOCK_STREAM=socket.SOCK_STREAM))
    assert caller.result(ping(), there.address) == ["0"]
    assert len(tries) == 3 and tries[2] - tries[0] > 0.1 and "Too many open files" in caplog.text


# --- ends ---------------------------------------------------------------------------------------------------------


def test_what_was_asked_on_a_line_that_hung_up_is_asked_once_more(caller, peer):
    there = peer(lambda said: answers(said) if there.called > 1 else (said.hear(), said.hear()))
    assert caller.result(ping(), there.address) == ["0"]
    assert there.called == 2 and caller.hung_up == ["n0"]


def test_and_not_for_ever(caller, peer):
    there = peer(lambda said: (said.hear(), said.hear()))
    assert isinstance(caller.result(ping(), there.address), NobodyThere) and there.called == 2


def test_the_end_of_a_line_that_nobody_uses_is_told(caller, peer):
    there = peer(lambda said: (said.hear(), said.hear(), said.say(["PONG"])))
    assert caller.result(ping(), there.address) == [""]
    caller.until(lambda: caller.hung_up)
    assert caller.open == [] and there.called == 1


def test_a_last_word_is_heard_before_the_end(caller, peer):
    there = peer(lambda said: (said.hear(), said.hear(), said.say(["ERROR", "forbidden", "revoked"])))
    said = caller.result(ping(), there.address)
    assert isinstance(said, Forbidden) and there.called == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [(["ERROR", "policy-mismatch", "no"], PolicyMismatch), (["WHAT"], BadFrame), (["ERROR", "new-code", "x"], BDError)],
)
def test_an_answer_that_is_an_error_or_none_goes_to_its_talk_alone(caller, peer, answer, error):
    there = peer(lambda said: (said.hear(), said.hear(), said.say(answer), answers(said)))
    said = caller.result(ping(), there.address)
    assert isinstance(said, error) and there.address in str(said)
    assert caller.result(ping(), there.address) == ["0"] and there.called == 1


def test_a_talk_may_go_on_after_an_error(caller, peer):
    def insisting():
        try:
            yield ["PING"]
        except PolicyMismatch:
            return (yield ["PING"]).digest

    there = peer(lambda said: (said.hear(), said.hear(), said.say(["ERROR", "policy-mismatch", "no"]), answers(said)))
    assert caller.result(insisting(), there.address) == "0"


def test_but_not_on_a_line_that_is_over(caller):
    def insisting():
        while True:
            try:
                yield ["PING"]
            except Refused:
                pass

    assert isinstance(caller.result(insisting(), closed_port()), Refused)


def test_a_talk_may_make_the_best_of_the_end(caller):
    def content():
        try:
            yield ["PING"]
        except Refused:
            return "fine"

    assert caller.result(content(), closed_port()) == "fine"


def test_what_is_said_unasked_ends_the_line(caller, peer):
    there = peer(lambda said: (said.hear(), said.hear(), said.say(["PONG"], ["PONG"]), silent(said)))
    assert caller.result(ping(), there.address) == [""]
    caller.until(lambda: not caller.open)
    assert caller.hung_up == []


def test_a_bug_in_a_talk_is_that_talks_alone(caller, peer, caplog):
    def buggy():
        yield ["PING"]
        raise RuntimeError("oh")

    def buggy_at_its_end():
        try:
            yield ["PING"]
        except Refused:
            raise RuntimeError("ah") from None

    there = peer(answers)
    caller.start("bug", buggy(), there.address)
    assert caller.result(ping(), there.address) == ["1"] and str(caller.results["bug"]) == "a bug"
    assert str(caller.result(buggy_at_its_end(), closed_port())) == "a bug"
    assert "oh" in caplog.text and "ah" in caplog.text


def test_a_peer_that_does_not_read_ends_what_is_said_to_it(caller, peer):
    def endless():
        while True:
            yield ["SYNCHRONIZE", {"digest": os.urandom(100_000).hex()}]

    gone = threading.Event()
    there = peer(lambda said: gone.wait(PATIENCE))
    for number in range(100):
        caller.start(number, endless(), there.address)
    caller.until(lambda: len(caller.results) == 100)
    gone.set()
    assert all("does not read" in str(each) for each in caller.results.values())


# --- policies, and keys that are read anew ------------------------------------------------------------------------


def with_policy(node, tmp_path):
    (tmp_path / "policy.xml").write_text(POLICY)
    node.rules = node.rules._replace(document=policyfile.read(str(tmp_path / "policy.xml")))
    return node.rules.document


def test_a_policy_that_is_not_known_by_its_digest_is_told_by_its_text(caller, peer, tmp_path):
    document, openings = with_policy(caller.node, tmp_path), []

    def behave(said):
        while (message := said.hear()) is not None:
            if message[0] == "OPEN":
                openings.append(message[1])
            elif "policy_text" in openings[-1]:
                said.say(["PONG", "known"])
            else:
                said.say(["ERROR", "policy-unknown", "send policy_text"])

    there = peer(behave)
    caller.start("a", ping(), there.address)
    caller.start("b", ping(2), there.address)
    caller.until(lambda: len(caller.results) == 2)
    assert caller.results == {"a": ["known"], "b": ["known", "known"]} and there.called == 1
    assert openings[0]["policy"] == document.digest and openings[-1]["policy_text"] == document.text
    assert digest(document.text) == document.digest


def test_who_does_not_know_a_policy_by_its_text_either_is_not_told_for_ever(caller, peer, tmp_path):
    with_policy(caller.node, tmp_path)

    def behave(said):
        while (message := said.hear()) is not None:
            if message[0] == "PING":
                said.say(["ERROR", "policy-unknown", "send policy_text"])

    assert isinstance(caller.result(ping(), peer(behave).address), PolicyUnknown)


def test_when_keys_are_read_anew_what_waits_is_asked_on_a_new_line_with_them(caller, peer, authority, tmp_path):
    serials = []

    def behave(said):
        serials.append(said.stream.identity.serial)
        (silent if len(serials) == 1 else answers)(said)

    there = peer(behave)
    caller.start("it", ping(), there.address)
    caller.until(lambda: caller.open and serials)
    caller.node.credentials = credentials_of(str(tmp_path / "new"), authority, "me")
    caller.board.renew()
    caller.until(lambda: "it" in caller.results)
    assert caller.results["it"] == ["0"] and serials[0] != serials[1] == caller.node.credentials.identity.serial
    assert caller.hung_up == []
