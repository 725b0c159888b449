"""A link: two ends in one process, on a pair of sockets, driven step by step."""

import errno
import random
import selectors
import socket
from types import SimpleNamespace

import pytest

from bdserver.core.roles import CLIENT, NODE
from bdserver.core.wire import FRAME_BYTES_MAX, HEADER, encode
from bdserver.errors import BadFrame, BDError, Deadline, Forbidden, NobodyThere, Refused, TooLarge
from bdserver.net import links, tls
from bdserver.net.links import FRAME_SECONDS, OPENING_SECONDS, WAITING_BYTES_MAX, Link, State
from tests.unit.gossipers import credentials_of, make_authority

NOW = 1000.0


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Of two nodes of a mesh, a client of it, and a node of another mesh."""
    folder, other = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("others")
    ours, others = make_authority(folder), make_authority(other)
    made = {name: credentials_of(str(folder / name), ours, name) for name in ("a", "b")}
    made["client"] = credentials_of(str(folder / "c"), ours, "joe", CLIENT)
    made["stranger"] = credentials_of(str(other / "s"), others, "s")
    return made


class Pair:
    """Two ends; the second one may be nobody's, a bare socket."""

    def __init__(self, keys, caller="a", has_callee=True):
        here, there = socket.socketpair()
        self.here = Link(tls.calling(here, keys[caller], "127.0.0.1:1"), "127.0.0.1:1", NOW, True, OPENING_SECONDS)
        self.bare = there
        self.there = Link(tls.called(there, keys["b"], NODE), "somebody", NOW, True, OPENING_SECONDS) if has_callee else None

    def open(self):
        for _ in range(4):
            self.here.ready(NOW)
            self.there.ready(NOW)
        return self

    def close(self):
        for each in (self.here, self.there):
            if each is not None:
                each.close()
        self.bare.close()


@pytest.fixture
def pair(keys):
    made = []

    def make(*arguments, **named):
        made.append(Pair(keys, *arguments, **named))
        return made[-1]

    yield make
    for each in made:
        each.close()


def heard(link, clock=NOW):
    """What comes within a few steps."""
    found = []
    for _ in range(200):
        found += link.ready(clock)
    return found


def test_each_end_knows_the_other_and_messages_go_both_ways(pair):
    two = pair().open()
    assert (two.here.state, two.there.state) == (State.OPEN, State.OPEN)
    assert (two.here.name, two.there.name) == ("b", "a")
    two.here.say(encode(["PING"]) + encode(["PING", 2]))
    assert heard(two.there) == [["PING"], ["PING", 2]]
    two.there.say(encode(["PONG", "x" * 100_000]))
    assert heard(two.here) == [["PONG", "x" * 100_000]]
    assert two.here.late(NOW + 1e9) is None, "nothing is under way"


def test_what_it_wants_to_be_told_of_follows_its_state(pair):
    two = pair()
    assert two.here.wants() == selectors.EVENT_READ
    two.open()
    assert two.here.wants() == selectors.EVENT_READ
    for _ in range(3):
        two.here.say(b"\0" * 500_000)  # more than a socket takes
    assert two.here.wants() == selectors.EVENT_READ | selectors.EVENT_WRITE


def test_what_is_said_before_it_is_open_goes_out_when_it_is(pair):
    two = pair()
    two.here.say(encode(["PING"]))
    two.here.ready(NOW)
    two.there.ready(NOW)
    two.here.ready(NOW)
    assert heard(two.there) == [["PING"]]


@pytest.mark.parametrize("caller", ["client", "stranger"])
def test_who_is_no_node_of_this_mesh_is_not_heard(pair, caller):
    two = pair(caller)
    two.here.say(encode(["PING"]))
    with pytest.raises(BDError) as refusal:
        two.open()
    assert isinstance(refusal.value, Forbidden | Refused) and two.there.state is not State.OPEN


def test_a_peer_that_does_not_shake_hands_has_its_time(pair):
    two = pair(has_callee=False)
    two.here.ready(NOW)
    assert two.here.late_at() == NOW + OPENING_SECONDS and two.here.late(NOW + OPENING_SECONDS - 0.01) is None
    assert isinstance(two.here.late(NOW + OPENING_SECONDS), Deadline)


def test_a_frame_has_its_time_from_its_first_byte_however_it_drips(pair):
    two = pair().open()
    frame = encode(["PING"])
    for number, byte in enumerate(frame[:-1]):
        two.here.say(bytes([byte]))
        assert two.there.ready(NOW + number / 10) == []
    assert two.there.late_at() == NOW + FRAME_SECONDS
    late = two.there.late(NOW + FRAME_SECONDS)
    assert isinstance(late, BadFrame) and "half a message" in str(late)


def test_a_whole_frame_ends_the_time_and_the_half_of_the_next_begins_it_anew(pair):
    two = pair().open()
    frame = encode(["PING"])
    two.here.say(frame[:3])
    two.there.ready(NOW)
    two.here.say(frame[3:] + frame[:3])
    assert two.there.ready(NOW + 2) == [["PING"]] and two.there.late_at() == NOW + 2 + FRAME_SECONDS
    two.here.say(frame[3:])
    assert two.there.ready(NOW + 3) == [["PING"]] and two.there.late_at() == float("inf")


def test_a_peer_that_does_not_read_is_given_up_at_a_limit(pair):
    two = pair().open()
    two.here.say(b"\0" * WAITING_BYTES_MAX)
    two.here.say(b"\0" * 1000)  # what the kernel took made room
    with pytest.raises(TooLarge, match="does not read"):
        two.here.say(b"\0" * WAITING_BYTES_MAX)


@pytest.mark.parametrize("data", [b"\xff" * 64, HEADER.pack(FRAME_BYTES_MAX + 1, 0)])
def test_nonsense_is_the_end(pair, data):
    two = pair().open()
    two.here.say(data)
    with pytest.raises((BadFrame, TooLarge)):
        heard(two.there)


def test_messages_before_nonsense_are_handed_out_first(pair):
    two = pair().open()
    two.here.say(encode(["PING"]) + b"\xff" * 64)
    assert two.there.ready(NOW) == [["PING"]]
    assert isinstance(two.there.ended, BadFrame | TooLarge)


def test_messages_before_the_end_are_handed_out_first(pair):
    two = pair().open()
    two.here.say(encode(["PING"]))
    two.here.close()
    assert two.there.ready(NOW) == [["PING"]] and two.there.ended is None
    with pytest.raises(NobodyThere):
        two.there.ready(NOW)


def test_a_hang_up_is_told_and_so_is_a_reset(pair):
    two = pair().open()
    two.here.close()
    with pytest.raises(NobodyThere):
        heard(two.there)
    two = pair().open()
    two.here.channel.sock.close()
    with pytest.raises(NobodyThere):
        heard(two.there)


def test_of_a_flood_only_so_much_is_read_at_once(pair):
    two = pair().open()
    for _ in range(links.READS_MAX + 2):
        two.here.say(encode(["PING", "x" * 10_000]))
    at_once = len(two.there.ready(NOW))
    assert 0 < at_once <= links.READS_MAX and at_once + len(heard(two.there)) == links.READS_MAX + 2


BOMB = encode(["PING", "x" * (links.DECODED_BYTES_MAX // 2)])  # of a few kilobytes


@pytest.mark.parametrize(
    ("frame", "count", "at_once"), [(BOMB, 9, 2), (encode(["PING"]), 3 * links.MESSAGES_MAX, links.MESSAGES_MAX)]
)
def test_so_much_is_decoded_in_a_turn_and_the_rest_comes_without_another_byte(pair, frame, count, at_once):
    two = pair().open()
    two.here.say(frame * count)
    with selectors.DefaultSelector() as selector:
        links.watch(selector, two.there, "it")
        turns = []
        while sum(turns) < count:
            assert selector.select(5), "nobody is told that there is more"
            turns.append(len(two.there.ready(NOW)))
            links.watch(selector, two.there, "it")
        assert max(turns) == at_once and two.there.late_at() == float("inf")
        assert not selector.select(0)
    assert two.there.wants() == selectors.EVENT_READ


def test_what_waits_for_its_turn_is_not_late_and_comes_before_the_end(pair):
    two = pair().open()
    two.here.say(BOMB * 5 + encode(["PING"])[:-1])
    two.here.close()
    assert len(two.there.ready(NOW)) == 2 and two.there.ended is None and two.there.late_at() == float("inf")
    assert len(two.there.ready(NOW + 1)) == 2 and two.there.ended is None
    assert len(two.there.ready(NOW + 2)) == 1 and isinstance(two.there.ended, NobodyThere)


def dialled(keys, address):
    sock = socket.socket()
    channel = tls.calling(sock, keys["a"], "127.0.0.1:1")
    sock.connect_ex(address)
    link = Link(channel, "127.0.0.1:1", NOW, False, OPENING_SECONDS)
    with selectors.DefaultSelector() as selector:
        links.watch(selector, link, "it")
        assert selector.select(5)[0][0].data == "it"
    return link


def test_a_connection_under_way_becomes_a_handshake_or_is_refused(keys):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        link = dialled(keys, address)
        assert link.wants() == selectors.EVENT_WRITE and link.ready(NOW) == [] and link.state is State.SHAKING
        link.close()
    with pytest.raises(BDError) as refused:
        dialled(keys, address).ready(NOW)
    assert isinstance(refused.value, Refused)


def test_a_host_that_cannot_be_reached_is_nobody_there(keys):
    """As a socket tells it that has waited in vain."""
    sock = SimpleNamespace(getsockopt=lambda *option: errno.EHOSTUNREACH)
    link = Link(SimpleNamespace(sock=sock), "10.0.0.1:1", NOW, False, OPENING_SECONDS)
    with pytest.raises(NobodyThere, match=r"^10.0.0.1:1: No route to host$"):
        link.ready(NOW)


def test_half_a_message_is_not_late_while_nobody_reads_and_an_opening_is(pair):
    two = pair()
    two.here.rest()
    assert two.here.late_at() == NOW + OPENING_SECONDS
    two.open()
    two.here.say(encode(["PING"])[:-1])
    two.there.ready(NOW)
    assert two.there.late_at() == NOW + FRAME_SECONDS
    two.there.rest()
    assert two.there.late(NOW + 1e9) is None


def test_a_message_longer_than_a_turn_comes_over_several(pair):
    two = pair().open()
    text = random.Random(5).randbytes(100_000).hex()  # which is half as long on its way
    two.here.say(encode(["PING", text]))
    turns = [two.there.ready(NOW) for _ in range(20)]
    assert turns[0] == [], "the others have had their turn"
    assert [message for turn in turns for message in turn] == [["PING", text]]


def test_watching_follows_what_a_link_wants_and_hanging_up_forgets_it(pair):
    two = pair().open()
    with selectors.DefaultSelector() as selector:
        links.watch(selector, two.here, "it")
        assert selector.get_key(two.here).events == selectors.EVENT_READ
        two.here.say(b"\0" * 3_000_000)
        links.watch(selector, two.here, "it")
        assert selector.get_key(two.here).events == selectors.EVENT_READ | selectors.EVENT_WRITE
        links.hang_up(selector, two.here)
        links.hang_up(selector, two.here)
        links.watch(selector, two.here, "it")
        assert two.here.state is State.CLOSED and two.here.ready(NOW) == [] and not selector.get_map()
