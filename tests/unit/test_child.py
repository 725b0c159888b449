"""A child serves: over a real socket, what a caller may send, and what ends a conversation. The child is this process, and for
signals that end it a forked one; the caller wrote before, or is a thread."""

import contextlib
import errno
import hashlib
import io
import logging
import os
import select
import signal
import socket
import tempfile
import threading
import time

import pytest

from bdserver import errors
from bdserver.core import messages, tickets, wire
from bdserver.core.messages import Pong
from bdserver.core.policy import digest
from bdserver.core.roles import ADMIN, CLIENT, NODE
from bdserver.core.wire import FRAME_BYTES_MAX, HEADER, OLDEST, VERSION, Decoder, encode
from bdserver.files import package
from bdserver.files.settings import Settings
from bdserver.net import keys
from bdserver.net.authority import Authority
from bdserver.net.conversation import Conversation, LocalStream
from bdserver.net.dialling import dial, dial_local
from bdserver.net.identity import Identity
from bdserver.processes import child
from bdserver.processes.answers import ANSWERS
from bdserver.processes.session import Caller
from bdserver.processes.terms import POLICIES_MAX
from tests.hosts import until
from tests.unit.certificates import make_keys
from tests.unit.nodes import a_node, acquaint, document
from tests.unit.test_answers_admin import packed

SECONDS = 10.0
PING = encode(["PING"])


def whose(name, serial):
    """The identity of a caller with a certificate of this number; of a local one."""
    return None if serial is None else Identity("mesh", NODE, name, (), 0.0, serial)


def soon(seconds=SECONDS):
    return time.monotonic() + seconds


@pytest.fixture
def own_signals():
    """What a child does to signals is undone."""
    yield
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # of one that waits yet
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def node(tmp_path, own_signals):
    node = a_node(tmp_path)
    be_its_listener(node)
    return node


def be_its_listener(node, pid=None):
    """As if this process's parent (or `pid`) had forked us to serve."""
    node.life = node.life._replace(listener_pid=pid or os.getppid())


def served(node, data, role=CLIENT, serial=None):
    """(messages, raw bytes behind the last) that the child says to a caller who wrote all this, and hung up."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(data)
        there.shutdown(socket.SHUT_WR)
        child.serve(node, LocalStream(here), Caller(role, "joe", "192.0.2.7", whose("joe", serial)))
        here.close()
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while more := there.recv(1 << 16):
                received += more
    decoder, said = Decoder(), []
    decoder.feed(received)
    while decoder.pending_bytes:
        try:
            message = decoder.next_message()
        except errors.BDError:  # the bytes of a package
            message = None
        if message is None:
            break
        said.append(message)
    return said, decoder.take(1 << 30)


def codes(node, data, **options):
    """The words of the answers, an error's code in its place."""
    said, _ = served(node, data, **options)
    return [each[1] if each[0] == "ERROR" else each[0] for each in said]


def served_to(node, talk, role=NODE, serial=None):
    """What `talk(conversation)` returns in a thread, while the child serves it."""
    here, there = socket.socketpair()
    results = []

    def call():
        with Conversation(LocalStream(there), "here") as conversation:
            try:
                results.append(talk(conversation))
            except errors.BDError as error:
                results.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    with here:
        child.serve(node, LocalStream(here), Caller(role, "joe", "192.0.2.7", whose("joe", serial)))
    thread.join(SECONDS)
    return results[0]


def test_a_request_that_comes_in_the_same_words_again_is_read_once(node, monkeypatch):
    read, texts = wire.read_text, []

    def counted(text, *limits):
        texts.append(text)
        return read(text, *limits)

    monkeypatch.setattr(wire, "read_text", counted)
    ping, offers = encode(["PING"]), encode(["GIVEYOURSERVICES"])
    said, _ = served(node, ping * 3 + offers + ping)
    assert [each[0] == "PONG" for each in said[:5]] == [True, True, True, False, True]
    assert texts[:3] == [b'["PING"]', b'["GIVEYOURSERVICES"]', b'["PING"]']


def test_a_request_that_holds_more_than_words_is_read_each_time(node):
    status = encode(["STATUS", {"brief": True}])
    opening = encode(["OPEN", {"version": 1, "deadline": 3.0}])
    assert codes(node, opening + status + status + encode(["PING"]) + opening + encode(["PING"])) == [
        *["STATUS"] * 2,
        *["PONG"] * 2,
    ]


def test_a_request_that_makes_no_sense_makes_none_the_second_time(node):
    assert codes(node, encode(["NONE"]) * 2) == ["no-such-command"] * 2


def failing(error):
    def answer(session, *arguments):
        raise error

    return answer


def lines(caplog):
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "bdserver.child"]


def title():
    with open("/proc/self/cmdline") as file:
        return file.read()


# --- requests -----------------------------------------------------------------------------------------------------


def test_requests_in_one_write_are_answered_in_order(node):
    said, _ = served(node, PING + encode(["GIVEYOURSERVICES"]) + encode(["NOPE"]) + PING)
    assert [each[0] for each in said] == ["PONG", node.clock(), "ERROR", "PONG"]


def test_byte_by_byte_is_as_good_as_at_once(node):
    here, there = socket.socketpair()

    def call():
        for byte in encode(["OPEN", {"version": VERSION}]) + PING:
            there.sendall(bytes([byte]))
        there.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=call)
    thread.start()
    with here:
        child.serve(node, LocalStream(here), Caller(CLIENT, "joe", "h"))
    thread.join(SECONDS)
    with there:
        assert there.recv(1000).endswith(encode(["PONG", node.cache.view().digest(), node.gossip_port]))


def test_a_stranger_may_ask_little_and_is_warned_of(node, caplog):
    caplog.set_level(logging.INFO)
    assert codes(node, encode(["DRAIN", True])) == ["forbidden"]
    assert lines(caplog) == [
        (logging.WARNING, "client joe from 192.0.2.7: DRAIN: DRAIN needs the role admin, and the caller's is client")
    ]


@pytest.mark.parametrize("message", [["PI\0NG"], ["\n\x1b[31m"], ["x" * 100_000], [["PING"]], [], {}, 5, ["MAKEIMAGE"]])
def test_a_command_that_somebody_made_up_is_answered_and_is_in_no_title_and_no_log(node, caplog, message):
    caplog.set_level(logging.DEBUG)
    assert codes(node, encode(message) + PING) in (["no-such-command", "PONG"], ["bad-request", "PONG"])
    assert "PING for client joe" in title()
    assert all(text.startswith("client joe from 192.0.2.7: ?") for _, text in lines(caplog)[:1])
    assert all(len(text) < 300 and text.isprintable() for _, text in lines(caplog))


def test_what_is_owed_to_others_is_done_after_the_answer(node, monkeypatch):
    done = []
    monkeypatch.setitem(ANSWERS, "PING", lambda session: session.later.append(lambda: done.append(1)) or Pong())
    assert codes(node, PING) == ["PONG"] and done == [1]


# --- the opening --------------------------------------------------------------------------------------------------


def opening(**fields):
    return encode(["OPEN", {"version": VERSION} | fields])


def test_an_opening_is_not_answered(node):
    assert codes(node, opening() + opening(deadline=3) + PING) == ["PONG"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (encode(["OPEN"]), "bad-request"),
        (encode(["OPEN", {"version": "2"}]), "bad-request"),
        (opening(oldest=VERSION + 1), "bad-request"),
        (opening(deadline=0), "deadline"),
        (opening(policy="ab" * 16), "policy-unknown"),
        (opening(policy_text="<"), "bad-policy"),
        (opening(policy_text=document("Other")), "policy-mismatch"),
    ],
)
def test_what_is_wrong_with_an_opening_answers_each_request_until_there_is_a_better_one(tmp_path, said, code):
    node = a_node(tmp_path, policy=document("Signed"))
    be_its_listener(node)
    assert codes(node, said + PING + PING + opening(policy_text=document("Signed"), deadline=3) + PING) == [code, code, "PONG"]


def test_a_caller_with_ever_other_policies_is_hung_up_on_at_a_limit(node, caplog):
    policies = [opening(policy_text=document(f"A{number}")) for number in range(POLICIES_MAX + 1)]
    assert codes(node, b"".join(policies[:-1]) + policies[-2] * 10 + PING) == ["PONG"]
    assert codes(node, b"".join(policies) + PING) == ["too-large"]
    assert lines(caplog) == [(logging.WARNING, "client joe from 192.0.2.7: more than 4 policies on one connection")]


def test_a_policy_that_is_known_by_its_digest_is_enough(tmp_path):
    node, other = a_node(tmp_path, policy=document("Signed")), a_node(tmp_path, "other", policy=document("Signed"))
    node.knows(other)
    be_its_listener(node)
    assert codes(node, opening(policy=digest(document("Signed"))) + PING) == ["PONG"]


def test_an_older_node_speaks_its_version_and_refuses_a_caller_that_speaks_only_newer_ones(tmp_path):
    """Of a version to come, as far as that is known: its number."""
    node = a_node(tmp_path, protocol=OLDEST)
    be_its_listener(node)
    said, _ = served(node, opening(version=VERSION + 1, oldest=VERSION + 1) + PING)
    assert said[0][1] == "bad-request" and f"versions {OLDEST} to {OLDEST}" in said[0][2]
    assert codes(node, opening(version=VERSION + 1, oldest=OLDEST) + PING) == ["PONG"]


def test_a_deadline_is_for_each_request(node, monkeypatch):
    left = []
    monkeypatch.setitem(ANSWERS, "PING", lambda session: left.append(session.left()) or Pong())
    served(node, PING + opening(deadline=2.0) + PING + PING)
    assert [round(each) for each in left] == [5, 2, 2]


# --- what ends a conversation -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "bad-frame"),
        (HEADER.pack(6, 0) + b"[PING]", "bad-frame"),
        (HEADER.pack(4, 0) + b"null", "bad-frame"),
        (HEADER.pack(FRAME_BYTES_MAX + 1, 0), "too-large"),
        (PING[:-1], "bad-frame"),
    ],
    ids=["HTTP", "no JSON", "null", "too large", "hung up in the middle of a frame"],
)
def test_nonsense_is_told_once_and_ends_it(node, caplog, data, code):
    said, _ = served(node, PING + data)
    assert [each[:2] for each in said[1:]] == [["ERROR", code]] and "\n" not in said[1][2]
    assert [level for level, _ in lines(caplog)] == [logging.WARNING]
    if len(data) > 20 or code == "too-large":
        assert codes(node, data + PING) == [code]


def test_a_caller_that_says_nothing_is_hung_up_on(node):
    node.settings = Settings(node.settings.path, {**node.settings.given, "idle_timeout": 0.1})
    here, there = socket.socketpair()
    with here, there:
        started = time.monotonic()
        child.serve(node, LocalStream(here), Caller(CLIENT, "joe", "h"))
        assert 0.05 < time.monotonic() - started < 5
        here.close()
        assert there.recv(100) == b""


def test_a_caller_that_went_away_costs_no_line(node, caplog):
    here, there = socket.socketpair()
    with here:
        there.sendall(PING * 3)
        there.close()
        child.serve(node, LocalStream(here), Caller(CLIENT, "joe", "h"))
    assert lines(caplog) == []


def test_nonsense_from_a_caller_that_went_away_is_told_to_nobody(node):
    here, there = socket.socketpair()
    with here:
        there.sendall(b"GET / HTTP/1.1\r\n\r\n")
        there.close()
        child.serve(node, LocalStream(here), Caller(CLIENT, "joe", "h"))


@pytest.mark.parametrize("line", ["joe", "serial 2a"])
def test_a_certificate_that_is_revoked_meanwhile_ends_it_with_the_reason(tmp_path, line):
    path = tmp_path / "revoked"
    path.write_text("")
    node = a_node(tmp_path, revoked=str(path))
    be_its_listener(node)

    def talk(conversation):
        first = conversation.ask(["PING"], soon())
        path.write_text(f"{line}\n")
        with pytest.raises(errors.Forbidden, match="revoked here"):
            conversation.ask(["PING"], soon())
        with pytest.raises(errors.NobodyThere):
            conversation.ask(["PING"], soon())
        return first

    assert isinstance(served_to(node, talk, serial=0x2A), Pong)


def test_without_its_listener_a_child_answers_nothing(node):
    be_its_listener(node, pid=os.getpid())
    assert codes(node, PING) == []


# --- what goes wrong in an answer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "words", "level"),
    [
        (ZeroDivisionError("division"), "error", "PING met a bug of me: see its log", logging.ERROR),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no-space", "No space left on device", logging.ERROR),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "no-space", "Disk quota exceeded", logging.ERROR),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "error", "Too many open files", logging.ERROR),
        (OSError("odd"), "error", "odd", logging.ERROR),
        (errors.TooBusy("later"), "too-busy", "later", logging.INFO),
        (errors.Forbidden("no"), "forbidden", "no", logging.WARNING),
    ],
)
def test_what_fails_is_told_and_logged_and_the_conversation_goes_on(node, caplog, monkeypatch, error, code, words, level):
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(ANSWERS, "PING", failing(error))
    said, _ = served(node, PING + encode(["GIVEYOURSERVICES"]))
    assert said[0] == ["ERROR", code, words] and said[1][1] == []
    assert [each for each, _ in lines(caplog)] == [level]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Pong("x" * (FRAME_BYTES_MAX * 9)), "too-large"),
        (Pong(object()), "error"),
        (Pong("caf\udce9 \ud800"), "PONG"),
        (None, "error"),
    ],
    ids=["too large", "no JSON", "no Unicode", "no answer at all"],
)
def test_an_answer_that_can_not_travel_is_an_error_or_shown_escaped_and_never_the_end(node, monkeypatch, answer, said):
    monkeypatch.setitem(ANSWERS, "PING", lambda session: answer)
    got, _ = served(node, PING + encode(["GIVEYOURSERVICES"]))
    assert said in got[0] and len(got) == 2
    if said == "PONG":
        assert got[0] == ["PONG", "caf\\xe9 \\ud800"]


def test_an_error_whose_text_is_no_unicode_is_shown_escaped(node, monkeypatch):
    monkeypatch.setitem(ANSWERS, "PING", failing(errors.BadService("caf\udce9.bdcert")))
    assert served(node, PING)[0] == [["ERROR", "bad-service", "caf\\xe9.bdcert"]]


# --- packages -----------------------------------------------------------------------------------------------------


def test_a_package_that_follows_its_request_is_taken_and_the_next_request_found_behind_it(node, tmp_path):
    described, file = packed(tmp_path)
    data = encode(["PUBLISH", "Echo", described]) + file.read() + PING
    assert codes(node, data, role=ADMIN) == ["OK", "PONG"] and "Echo" in node.services.all()


@pytest.mark.parametrize("role", [ADMIN, CLIENT])
def test_a_refusal_of_a_package_ends_the_conversation(node, tmp_path, role):
    described, file = packed(tmp_path)
    described["sha256"] = hashlib.sha256(b"another").hexdigest()
    data = encode(["PUBLISH", "Echo", described]) + file.read() + PING
    assert codes(node, data, role=role) == ["bad-package" if role == ADMIN else "forbidden"]


def test_a_package_that_is_cut_is_said(node, tmp_path):
    described, file = packed(tmp_path)
    data = encode(["PUBLISH", "Echo", described]) + file.read()[:-1]
    assert codes(node, data, role=ADMIN) == ["nobody-there"] and node.services.all() == {}


def test_a_full_disk_reaches_a_caller_that_still_sends(node, tmp_path, monkeypatch):
    described, file = packed(tmp_path, content=b"x" * (8 << 20))
    full = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir=None: open("/dev/full", "r+b", buffering=0) if dir else full())
    said = served_to(node, lambda talk: talk.ask(["PUBLISH", "Echo", described], soon(), file), role=ADMIN)
    assert isinstance(said, errors.NoSpace) and said.exit == 1 and "No space left on device" in str(said)


@pytest.mark.parametrize("is_told", [False, True])
def test_a_caller_of_a_refused_package_that_falls_silent_is_hung_up_on(node, monkeypatch, is_told):
    monkeypatch.setattr(child, "LAST_WORD_SECONDS", 0.1)
    monkeypatch.setitem(ANSWERS, "PUBLISH", failing(errors.BadService("no")))
    if is_told:
        monkeypatch.setitem(
            ANSWERS, "PUBLISH", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or failing(errors.BadService("no"))(None)
        )
    here, there = socket.socketpair()
    with here, there:
        there.sendall(encode(["PUBLISH", "Echo", {"bytes": 9, "sha256": ""}]) + b"123")
        child.serve(node, LocalStream(here), Caller(ADMIN, "joe", "h"))
        here.close()
        assert b"ERROR" in there.recv(1000)


def test_a_package_that_is_given_follows_its_answer_and_then_the_next(node, tmp_path):
    node.offer("Echo", b"x" * 100_000)

    def talk(conversation):
        given, out = conversation.ask(["GIVESERVICE", "Echo"], soon()).described, io.BytesIO()
        conversation.receive_package(given["bytes"], out, soon())
        out.seek(0)
        package.unpack(out, given["sha256"], "Echo", str(tmp_path / "out"), 1 << 20, 10)
        return conversation.ask(["PING"], soon())

    assert isinstance(served_to(node, talk), Pong)


def test_a_caller_that_does_not_read_its_package_costs_its_deadline_and_no_file(node, monkeypatch):
    node.offer("Echo", b"x" * (4 << 20))
    monkeypatch.setattr(child, "LAST_WORD_SECONDS", 0.1)
    here, there = socket.socketpair()
    with here, there:
        there.sendall(opening(deadline=0.2) + encode(["GIVESERVICE", "Echo"]))
        child.serve(node, LocalStream(here), Caller(NODE, "joe", "h"))
        open_files = [os.readlink(f"/proc/self/fd/{each.name}") for each in os.scandir("/proc/self/fd") if each.is_symlink()]
    assert not any(each.startswith(node.services.scratch_dir) for each in open_files)


# --- SIGTERM ------------------------------------------------------------------------------------------------------


def test_told_to_leave_while_idle_a_child_leaves_at_once(node):
    def talk(conversation):
        said = conversation.ask(["PING"], soon())
        os.kill(os.getpid(), signal.SIGTERM)
        assert select.select([conversation], [], [], SECONDS)[0]  # it hangs up, unasked
        with pytest.raises(errors.NobodyThere):
            conversation.ask(["PING"], soon())
        return said

    assert isinstance(served_to(node, talk), Pong)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_told_to_leave_while_a_request_runs_a_child_answers_it_and_no_other(node, monkeypatch):
    monkeypatch.setitem(ANSWERS, "PING", lambda session: os.kill(os.getpid(), signal.SIGTERM) or Pong("last"))
    assert served(node, PING + PING)[0] == [["PONG", "last"]]


def test_told_while_a_message_has_come_in_half_a_child_leaves_without_a_complaint(node, caplog):
    here, there = socket.socketpair()
    with here, there:
        there.sendall(PING[:7])
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        child.serve(node, LocalStream(here), Caller(CLIENT, "joe", "h"))
    assert lines(caplog) == []


TAKES = ["WILLYOUEXECUTE", "Echo", {"spent": 0}]


def ask_for_tickets(talk):
    """Questions until something is promised."""
    while not (said := talk.ask(TAKES, soon())).promise:
        pass
    return said.promise["tickets"]


def hung_up_within(talk, seconds):
    try:
        return talk.is_readable(soon(seconds)) and talk.ask(["PING"], soon()) is None
    except errors.NobodyThere:
        return True


def test_what_was_promised_ends_with_the_listener_and_so_does_the_connection(node):
    node.offer("Echo")
    life, its_end = os.pipe()
    node.life = node.life._replace(life_descriptor=life)

    def talk(conversation):
        assert conversation.ask(["PING"], soon())  # nothing is promised yet: the listener's end is found at the next request
        ask_for_tickets(conversation)
        assert conversation.ask(TAKES, soon()).url  # and while it lives, all goes on
        os.close(its_end)
        return hung_up_within(conversation, SECONDS)

    assert served_to(node, talk) is True
    os.close(life)


def test_what_was_promised_ends_when_settings_are_read_anew(node):
    node.offer("Echo")

    def talk(conversation):
        assert ask_for_tickets(conversation) == 1
        os.kill(os.getpid(), signal.SIGHUP)
        return hung_up_within(conversation, SECONDS)

    assert served_to(node, talk) is True


def test_holders_are_told_of_tickets_that_have_ended_while_the_caller_is_idle(node, tmp_path, monkeypatch):
    holder = a_node(tmp_path, "holder").offer("Echo")
    acquaint(node, holder)
    monkeypatch.setattr(tickets, "TICKET_SECONDS", 0.2)

    def backs():
        with open(holder.hitlog.path("Echo")) as file:
            return sum(line.startswith("BACK") for line in file)

    def talk(conversation):
        words = []
        while words.count("TICKET") < 3:
            words.append(conversation.ask(["WHEREIS", "Echo", None], soon()).details["asked"][-1]["answer"])
        conversation.ask(["WHEREIS", "Echo", None], soon())
        until(lambda: backs() > 0, SECONDS, "what was not spent is taken back")
        return conversation.ask(["WHEREIS", "Echo", None], soon()).details["node"]

    assert served_to(node, talk, role=CLIENT) == "holder"


def test_what_is_counted_is_with_the_others_soon_though_not_after_each_answer(node, monkeypatch):
    monkeypatch.setattr(child, "COUNT_SECONDS", 2.0)
    flushes = []
    flush = node.counters.flush
    monkeypatch.setattr(node.counters, "flush", lambda: (flushes.append(True), flush()))

    def talk(conversation):
        for _ in range(20):
            conversation.ask(["PING"], soon())
        asked = len(flushes)
        until(lambda: node.counters.value("requests", "PING", "pong") == 20, SECONDS, "all are counted")
        return asked

    assert served_to(node, talk) < 20
    assert node.counters.value("sent", "callers") > 0 < node.counters.value("received", "callers")


def test_told_that_settings_have_changed_a_child_reads_them_anew_before_the_next_request(node, monkeypatch):
    read = []
    monkeypatch.setattr(child.reload, "read_anew", lambda node: read.append(node) or [])

    def talk(conversation):
        conversation.ask(["PING"], soon())
        os.kill(os.getpid(), signal.SIGHUP)
        assert not read
        conversation.ask(["PING"], soon())
        return conversation.ask(["PING"], soon())

    assert isinstance(served_to(node, talk), Pong) and read == [node]


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_forked_child_ends_in_order(node, monkeypatch, is_busy):
    here, there = socket.socketpair()
    (begun_read, begun_write), (go_read, go_write) = os.pipe(), os.pipe()

    def slow(session):
        os.write(begun_write, b"!")
        os.read(go_read, 1)
        return Pong("in time")

    if is_busy:
        monkeypatch.setitem(ANSWERS, "PING", slow)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            there.close()
            be_its_listener(node)
            child.serve(node, LocalStream(here), Caller(CLIENT, "joe", "h"))
            status = 0
        finally:
            os._exit(status)
    here.close()
    with there:
        there.sendall(PING)
        if is_busy:
            os.read(begun_read, 1)
        else:
            assert there.recv(1000)
        os.kill(pid, signal.SIGTERM)
        os.write(go_write, b"!")
        received = b""
        while data := there.recv(1000):
            received += data
    assert os.waitpid(pid, 0)[1] == 0
    assert received == (encode(["PONG", "in time"]) if is_busy else b"")
    for each in (begun_read, begun_write, go_read, go_write):
        os.close(each)


# --- one connection -----------------------------------------------------------------------------------------------


def test_a_local_caller_of_this_user_administers(node):
    here, there = socket.socketpair()
    with here, there:
        there.sendall(encode(["DRAIN", True]))
        there.shutdown(socket.SHUT_WR)
        child.serve_connection(node, here, None)
        assert node.cache.view().own.draining and "spare of me, for the next caller" in title()
        assert child.local_caller(here) == Caller(ADMIN, f"uid {os.getuid()}", "127.0.0.1")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user")
def test_a_local_caller_of_another_user_looks_up_and_does_no_more(node):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0bdserver-test-{os.getpid()}")  # a name that is in no folder
        listening.listen()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setuid(12345)
                with dial_local(listening.getsockname().decode(), soon()) as conversation:
                    os.write(write, messages.word_of(conversation.ask(["PING"], soon())).encode())
                    conversation.ask(["DRAIN", True], soon())
            except errors.Forbidden as error:
                os.write(write, f" {error}".encode())
            finally:
                os._exit(0)
        os.close(write)
        sock, _ = listening.accept()
        with sock:
            child.serve_connection(node, sock, None)
        os.waitpid(pid, 0)
    with os.fdopen(read) as file:
        assert "the caller's is client" in file.read().removeprefix("PONG ") and not node.cache.view().own.draining


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("keys"))
    Authority.make(f"{folder}/ca", "mesh")
    for name, role in (("me", "node"), ("joe", "client"), ("root", "admin")):
        make_keys(folder, f"{folder}/ca", name, role=role)
    Authority.make(f"{folder}/foreign", "mesh")
    make_keys(folder, f"{folder}/foreign", "mallory")
    return folder


@pytest.fixture
def secure(node, folder):
    """The node with a certificate."""
    node.credentials = keys.load(f"{folder}/me", "me")
    return node


def over_tls(node, talk):
    """What `talk(address)` returns or raises in a thread, while the child serves one connection over TCP."""
    results = []

    def call():
        try:
            results.append(talk(f"127.0.0.1:{listening.getsockname()[1]}"))
        except errors.BDError as error:
            results.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=call)
        thread.start()
        sock, address = listening.accept()
        with sock:
            child.serve_connection(node, sock, address)
        thread.join(SECONDS)
    return results[0]


def test_over_tls_a_caller_is_who_its_certificate_says(secure, folder, caplog):
    caplog.set_level(logging.INFO)

    def talk(address):
        with dial(address, keys.load(f"{folder}/joe", "joe"), soon(), "me") as conversation:
            with pytest.raises(errors.Forbidden, match="the caller's is client"):
                conversation.ask(["DRAIN", True], soon())
            return conversation.ask(["PING"], soon())

    assert isinstance(over_tls(secure, talk), Pong)
    assert "client joe from 127.0.0.1: DRAIN" in lines(caplog)[0][1] and "spare of me" in title()


def test_over_tls_too_a_refusal_reaches_a_caller_that_still_sends(secure, folder, tmp_path, monkeypatch):
    described, file = packed(tmp_path, content=os.urandom(32 << 20))
    full = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir=None: open("/dev/full", "r+b", buffering=0) if dir else full())

    def talk(address):
        with dial(address, keys.load(f"{folder}/root", "root"), soon(), "me") as conversation:
            return conversation.ask(["PUBLISH", "Echo", described], soon(), file)

    assert isinstance(over_tls(secure, talk), errors.NoSpace)


@pytest.mark.parametrize(
    ("data", "level"), [(b"GET / HTTP/1.0\r\n\r\n", logging.INFO), (b"\0" * 64, logging.INFO), (b"", logging.DEBUG)]
)
def test_a_stranger_costs_a_handshake_and_a_line_of_its_worth(secure, caplog, data, level):
    def talk(address):
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(data)

    caplog.set_level(logging.DEBUG)
    over_tls(secure, talk)
    [(found, text)] = lines(caplog)
    assert found == level and text.startswith("127.0.0.1: ")


def test_a_certificate_of_another_mesh_is_worth_a_warning(secure, folder, caplog):
    def talk(address):
        with dial(address, keys.load(f"{folder}/mallory", "mallory"), soon()) as conversation:
            conversation.ask(["PING"], soon())

    assert isinstance(over_tls(secure, talk), errors.BDError)
    assert [level for level, _ in lines(caplog)] == [logging.WARNING]


def test_a_child_that_has_rehearsed_is_a_spare_and_has_told_nobody(secure, caplog):
    child.rehearse(secure)
    assert "spare of me, for the next caller" in title() and lines(caplog) == []
    rehearsal = child._Rehearsal(["PING"])
    assert rehearsal.fileno() == -1 and rehearsal.recv(1, 0) == PING and rehearsal.recv(1, 0) == b""
    rehearsal.close()


def test_an_answer_is_told_in_the_log_when_somebody_debugs(node, caplog):
    caplog.set_level(logging.DEBUG)
    served(node, PING)
    assert lines(caplog)[0][1].startswith("client joe from 192.0.2.7: PING -> PONG in ")
    assert messages.word_of(Pong()) == "PONG"
