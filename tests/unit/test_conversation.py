"""The caller's end of a conversation, over a real socket, against a callee that says what the test wants: whole and byte by byte."""

import contextlib
import io
import socket
import threading
import time

import pytest

from bdserver import errors
from bdserver.core import messages
from bdserver.core.policy import digest
from bdserver.core.wire import FRAME_BYTES_MAX, HEADER, OLDEST, VERSION, Decoder, encode
from bdserver.net.conversation import PLACE_BYTES_MAX, PLACES_MAX, Conversation, LocalStream, receive
from tests.unit.sockets import soon
from tests.unit.test_messages import EXAMPLES


class Callee:
    """The other end: what it has heard, and what it answers to each request, in turn: bytes, or None to hang up."""

    def __init__(self, *answers, at_once=1 << 20, hangs_up_after=None):
        self.here, self.there = socket.socketpair()
        self.heard, self.answers = [], list(answers)
        self.at_once, self.hangs_up_after = at_once, hangs_up_after
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        decoder = Decoder()
        with self.there, contextlib.suppress(OSError):
            while self.answers:
                while (message := decoder.next_message()) is None:
                    data = self.there.recv(4096)
                    if not data:
                        return
                    decoder.feed(data)
                self.heard.append(message)
                if messages.is_opening(message):
                    continue
                answer = self.answers.pop(0)
                if answer is None:
                    return
                for start in range(0, len(answer), self.at_once):
                    self.there.sendall(answer[start : start + self.at_once])

    def openings(self):
        return [each[1] for each in self.heard if each[0] == "OPEN"]

    def requests(self):
        return [each for each in self.heard if each[0] != "OPEN"]


@pytest.fixture
def talk_to():
    """Conversation with a Callee; both are closed at the end."""
    open_ones = []

    def made(callee, **options):
        open_ones.append(callee)
        return Conversation(LocalStream(callee.here), "/run/n.sock", **options)

    yield made
    for each in open_ones:
        each.here.close()
        each.thread.join(10)


def said(answer):
    return encode(messages.encoded(answer))


# --- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1 << 20, 1], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(("command", "answer"), EXAMPLES, ids=[f"{c}-{type(a).__name__}" for c, a in EXAMPLES])
def test_every_kind_of_answer_comes_out_as_it_went_in(talk_to, command, answer, at_once):
    is_brief = isinstance(answer, messages.Status) and isinstance(answer.nodes[0], list)
    request = [command, {"brief": True}] if is_brief else [command]
    conversation = talk_to(Callee(said(answer), at_once=at_once))
    if isinstance(answer, messages.Error):
        with pytest.raises(errors.Forbidden, match=r"^/run/n.sock: no$"):
            conversation.ask(request, soon())
    else:
        assert conversation.ask(request, soon()) == answer


def place(service, ms=0.0):
    details = {
        "url": "http://h/x",
        "node": "n",
        "service": service,
        "phase": 1,
        "asked": [{"node": "n", "answer": "YES", "ms": ms}],
    }
    return messages.Place("h", 80, "x", details)


def test_a_place_that_comes_in_the_same_words_is_the_one_before(talk_to):
    places = [place("a"), place("b"), place("a", 0.1), place("a")]
    conversation = talk_to(Callee(*map(said, places)))
    got = [conversation.ask(["WHEREIS", "any", None], soon()) for _ in places]
    assert got == places
    assert got[3] is got[0]


def test_what_one_request_is_answered_with_is_no_answer_to_another(talk_to):
    conversation = talk_to(Callee(said(place("a")), said(place("a"))))
    conversation.ask(["WHEREIS", "a", None], soon())
    with pytest.raises(errors.BadFrame, match="no answer to PING"):
        conversation.ask(["PING"], soon())


def test_as_many_places_are_kept_as_there_is_room_for_and_no_long_ones(talk_to):
    places = [place("a", ms / 10) for ms in range(PLACES_MAX + 1)] + [place("a" * PLACE_BYTES_MAX)] * 2
    conversation = talk_to(Callee(*map(said, places)))
    got = [conversation.ask(["WHEREIS", "any", None], soon()) for _ in places]
    assert got == places
    assert got[-1] is not got[-2]
    assert len(conversation._places) == 1


@pytest.mark.parametrize("code", errors.BY_CODE)
def test_an_error_comes_out_as_the_exception_of_its_code(talk_to, code):
    with pytest.raises(errors.BY_CODE[code], match=r"^/run/n.sock: reason$") as caught:
        talk_to(Callee(encode(["ERROR", code, "reason"]))).ask(["PING"], soon())
    assert type(caught.value) is errors.BY_CODE[code]


def test_an_error_of_a_newer_version_is_an_error(talk_to):
    with pytest.raises(errors.BDError, match="reason") as caught:
        talk_to(Callee(encode(["ERROR", "newer", "reason"]))).ask(["PING"], soon())
    assert type(caught.value) is errors.BDError


@pytest.mark.parametrize("request_", [["STATUS"], ["WHEREIS", "x", None], ["FIND", "x", [], 1], ["STATUS", {"brief": False}]])
@pytest.mark.parametrize("answer", [["STATUS"], ["CANTFIND"], ["YES"], ["STATUS", {}, []], [], {}, 5, "x", ["PONG", "x"]])
def test_an_answer_that_is_none_is_one_line_and_a_broken_peer(talk_to, request_, answer):
    with pytest.raises(errors.BadFrame, match=rf"^/run/n.sock: .* is no answer to {request_[0]}$") as caught:
        talk_to(Callee(encode(answer))).ask(request_, soon())
    assert caught.value.exit == errors.NobodyThere.exit == 4 and "\n" not in str(caught.value)


def test_nodes_in_brief_unasked_are_no_status(talk_to):
    [status] = [answer for _, answer in EXAMPLES if isinstance(answer, messages.Status) and isinstance(answer.nodes[0], list)]
    with pytest.raises(errors.BadFrame, match="is no answer to STATUS"):
        talk_to(Callee(said(status))).ask(["STATUS"], soon())


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.0 400 Bad\r\n", HEADER.pack(FRAME_BYTES_MAX + 1, 0), HEADER.pack(2, 0) + b"[x", HEADER.pack(4, 0) + b"null"],
    ids=["another protocol", "too large", "no JSON", "null"],
)
def test_nonsense_is_a_broken_peer(talk_to, data):
    with pytest.raises(errors.BadFrame, match=r"^/run/n.sock: "):
        talk_to(Callee(data)).ask(["PING"], soon())


# --- how it ends --------------------------------------------------------------------------------------------------


def test_a_node_that_hangs_up_instead_is_not_there(talk_to):
    conversation = talk_to(Callee(None))
    with pytest.raises(errors.NobodyThere, match="hung up without an answer"):
        conversation.ask(["PING"], soon())
    with pytest.raises(errors.NobodyThere):
        conversation.ask(["PING"], soon())


def test_a_node_that_hangs_up_in_the_middle_of_a_frame_is_broken(talk_to):
    with pytest.raises(errors.BadFrame, match="in the middle of a frame"):
        talk_to(Callee(said(messages.Pong("x"))[:-1])).ask(["PING"], soon())


def test_a_node_that_does_not_answer_costs_the_deadline(talk_to):
    conversation = talk_to(Callee(b"", b""))
    started = time.monotonic()
    with pytest.raises(errors.Deadline, match="the time is over"):
        conversation.ask(["PING"], soon(0.1))
    assert 0.05 < time.monotonic() - started < 5
    with pytest.raises(errors.Deadline, match="the time is over"):
        conversation.ask(["PING"], soon(0.0))


def test_a_node_that_does_not_read_costs_the_deadline():
    here, there = socket.socketpair()
    with here, there, pytest.raises(errors.Deadline, match="while sending"):
        Conversation(LocalStream(here), "x").ask(["PUBLISH", "x", {}], soon(0.2), io.BytesIO(b"x" * (16 << 20)))


def test_a_stream_that_is_to_hear_no_more_finds_the_end_behind_what_has_come():
    here, there = socket.socketpair()
    with here, there:
        stream = LocalStream(here)
        there.sendall(b"so far")
        stream.hear_no_more()
        assert stream.recv(10, soon()) == b"so far" and stream.recv(10, soon()) == b""
        stream.close()
        stream.hear_no_more()


def test_a_connection_that_broke_is_nobody():
    here, there = socket.socketpair()
    with here:
        stream = LocalStream(here)
        assert stream.fileno() == here.fileno() and stream.identity is None
        stream.send(b"nobody reads this", soon())
        there.close()
        with pytest.raises(errors.NobodyThere, match="the connection broke: Connection reset"):
            stream.recv(1, soon())
        with pytest.raises(errors.NobodyThere, match="the connection broke: Broken pipe"):
            stream.send(b"x", soon())


# --- begun now, finished later ------------------------------------------------------------------------------------


def test_what_is_begun_is_answered_when_it_is_finished(talk_to):
    callee = Callee(*pongs(1), encode(["ERROR", "forbidden", "no"]))
    conversation = talk_to(callee)
    conversation.begin(["PING"], soon())
    assert conversation.is_readable(soon()) and conversation.finish(["PING"], soon()) == messages.Pong()
    assert not conversation.is_readable(soon(0.0)), "it was all of it"
    conversation.begin(["PING"], soon())
    with pytest.raises(errors.Forbidden, match=r"^/run/n.sock: no$"):
        conversation.finish(["PING"], soon())
    assert callee.requests() == [["PING"]] * 2 and len(callee.openings()) == 1


def test_who_does_not_answer_what_was_begun_is_broken_off(talk_to):
    callee = Callee(b"", b"")
    conversation = talk_to(callee)
    conversation.begin(["PING"], soon())
    assert not conversation.is_readable(soon(0.05))
    conversation.break_off()
    assert callee.here.fileno() == -1


# --- a package behind a request -----------------------------------------------------------------------------------


def test_a_package_follows_its_request(talk_to):
    callee = Callee(said(messages.Ok("http://h/x")))
    conversation = talk_to(callee)
    data = bytes(range(256)) * 1024
    assert conversation.ask(["PUBLISH", "x", {"bytes": len(data)}], soon(), io.BytesIO(data)) == messages.Ok("http://h/x")


@pytest.mark.parametrize("is_reset", [False, True], ids=["read to the end", "unread"])
def test_a_refusal_reaches_a_caller_that_still_sends(is_reset):
    here, there = socket.socketpair()
    heard = threading.Event()

    def serve():
        decoder = Decoder()
        with there:
            while not isinstance(decoder.next_message(), list) or not heard.is_set():
                decoder.feed(there.recv(4096))
                heard.set()
            there.sendall(encode(["ERROR", "no-space", "No space left on device"]))
            if not is_reset:
                there.shutdown(socket.SHUT_RD)

    thread = threading.Thread(target=serve)
    thread.start()
    with here, pytest.raises(errors.NoSpace, match="x: No space left on device"):
        Conversation(LocalStream(here), "x").ask(["PUBLISH", "x", {}], soon(), io.BytesIO(b"x" * (16 << 20)))
    thread.join(10)


def test_a_node_that_hangs_up_on_a_package_without_a_word_is_not_there(talk_to):
    with pytest.raises(errors.NobodyThere):
        talk_to(Callee(None)).ask(["PUBLISH", "x", {}], soon(), io.BytesIO(b"x" * (16 << 20)))


def test_half_a_word_while_it_hangs_up_is_none(talk_to):
    conversation = talk_to(Callee(said(messages.Ok())[:-1]))
    with pytest.raises(errors.NobodyThere):
        conversation.ask(["PUBLISH", "x", {}], soon(), io.BytesIO(b"x" * (16 << 20)))


# --- a package behind an answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1 << 20, 7])
def test_a_package_behind_an_answer_is_copied_and_the_next_answer_found_behind_it(talk_to, at_once):
    data = bytes(range(256)) * 300
    given = messages.Package({"bytes": len(data), "sha256": "0"})
    conversation = talk_to(Callee(said(given) + data, said(messages.Pong("x")), at_once=at_once))
    out = io.BytesIO()
    conversation.receive_package(conversation.ask(["GIVESERVICE", "x"], soon()).described["bytes"], out, soon())
    assert out.getvalue() == data and conversation.ask(["PING"], soon()) == messages.Pong("x")


def test_a_package_that_is_cut_is_said(talk_to):
    conversation = talk_to(Callee(said(messages.Package({"bytes": 10, "sha256": "0"})) + b"1234"))
    conversation.ask(["GIVESERVICE", "x"], soon())
    with pytest.raises(errors.NobodyThere, match="ended 6 bytes before the package did"):
        conversation.receive_package(10, io.BytesIO(), soon())


def test_of_an_empty_package_nothing_is_read():
    here, there = socket.socketpair()
    with here, there:
        receive(LocalStream(here), Decoder(), 0, io.BytesIO(), 0.0)


# --- openings -----------------------------------------------------------------------------------------------------


def pongs(count):
    return [said(messages.Pong())] * count


def test_an_opening_goes_first_and_again_when_the_time_changes(talk_to):
    callee = Callee(*pongs(4))
    conversation = talk_to(callee)
    for seconds in (5.0, 5.2, 2.0, 2.0):
        conversation.ask(["PING"], soon(seconds))
    assert [round(each["deadline"]) for each in callee.openings()] == [5, 2]
    assert callee.openings()[0].keys() == {"version", "oldest", "deadline"} and callee.openings()[0]["version"] == VERSION


def test_an_older_version_is_spoken_when_told(talk_to):
    for version in (OLDEST, VERSION, VERSION + 1):
        callee = Callee(*pongs(1))
        talk_to(callee, version=version).ask(["PING"], soon())
        assert (callee.openings()[0]["version"], callee.openings()[0]["oldest"]) == (version, OLDEST)


def test_a_client_says_its_policy_at_once(talk_to):
    callee = Callee(*pongs(1))
    talk_to(callee, policy_text="<P/>").ask(["PING"], soon())
    assert callee.openings()[0]["policy_text"] == "<P/>" and "policy" not in callee.openings()[0]


UNKNOWN = encode(["ERROR", "policy-unknown", "send policy_text"])


def test_a_node_names_its_policy_and_says_it_when_it_is_not_known(talk_to):
    callee = Callee(UNKNOWN, *pongs(2))
    conversation = talk_to(callee, policy_digest=digest("<P/>"), policy_text="<P/>")
    assert conversation.ask(["PING"], soon()) == conversation.ask(["PING"], soon()) == messages.Pong()
    first, second = callee.openings()
    assert first["policy"] == digest("<P/>") and "policy_text" not in first
    assert second["policy_text"] == "<P/>" and "policy" not in second
    assert callee.requests() == [["PING"]] * 3


def test_a_policy_that_stays_unknown_is_said_once(talk_to):
    with pytest.raises(errors.PolicyUnknown):
        talk_to(Callee(UNKNOWN, UNKNOWN), policy_digest="ab", policy_text="<P/>").ask(["PING"], soon())
    with pytest.raises(errors.PolicyUnknown):
        talk_to(Callee(UNKNOWN), policy_digest="ab").ask(["PING"], soon())


def test_a_package_is_not_sent_twice(talk_to):
    with pytest.raises(errors.PolicyUnknown):
        talk_to(Callee(UNKNOWN), policy_digest="ab", policy_text="<P/>").ask(["PUBLISH", "x", {}], soon(), io.BytesIO(b"x"))


def test_a_conversation_ends_with_its_block(talk_to):
    callee = Callee(*pongs(2))
    with talk_to(callee) as conversation:
        assert conversation.fileno() == callee.here.fileno() and conversation.identity is None
        conversation.ask(["PING"], soon())
    assert callee.here.fileno() == -1
