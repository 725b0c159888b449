"""The bytes of a TLS connection: sizes, deadlines, and how it ends."""

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from OpenSSL import SSL

from bdserver.errors import BadFrame, Deadline, Forbidden, NobodyThere
from bdserver.net import handshake, keys, tls
from bdserver.net.authority import Authority
from bdserver.net.tls import Want
from tests.hostile.attacks import key_updates, secret_kept
from tests.unit.certificates import SECONDS, Key, load_certificate, make_keys, uri
from tests.unit.descriptors import none_left


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("keys"))
    Authority.make(f"{folder}/ca", "prod")
    return folder


@pytest.fixture(scope="module")
def made(folder):
    """(a node's credentials, a client's)."""
    make_keys(folder, f"{folder}/ca", "web1")
    make_keys(folder, f"{folder}/ca", "me", role="client")
    return keys.load(f"{folder}/web1", "web1"), keys.load(f"{folder}/me", "me")


def soon(seconds=SECONDS):
    return time.monotonic() + seconds


@contextlib.contextmanager
def connected(made, is_tcp=False):
    """(the callee's Stream, the caller's, the callee's bare socket, the caller's)."""
    if is_tcp:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            there = socket.create_connection(listening.getsockname())
            here, _ = listening.accept()
    else:
        here, there = socket.socketpair()
    server, client = made
    with here, there:
        with ThreadPoolExecutor() as pool:
            accepted = pool.submit(tls.accept, here, server, soon())
            caller = tls.connect(there, client, "127.0.0.1:1", soon())
            # Over TCP our last part of the handshake waits for our first word.
            caller.send(b"", soon())
            callee = accepted.result()
        yield callee, caller, here, there
        callee.close(), caller.close()


def talk_on(stream):
    """Until it fails: the kernel takes a word or two before it knows that the other side has hung up."""
    deadline = soon()
    while True:
        stream.send(b"hello", deadline)


def test_a_record_that_drips_in_does_not_move_the_deadline(made):
    with connected(made) as (callee, _, _, bare):
        bare.send(b"\x17\x03\x03\x40\x00")  # 16 kB are to follow
        is_over = threading.Event()

        def drip():
            while not is_over.wait(0.01):
                bare.send(b"x")

        with ThreadPoolExecutor() as pool:
            pool.submit(drip)
            try:
                with pytest.raises(Deadline):
                    callee.recv(10, soon(0.3))
            finally:
                is_over.set()


def test_who_does_not_read_meets_the_deadline_and_can_still_be_heard(made):
    with connected(made) as (callee, caller, _, _):
        caller.send(b"one word", soon())
        with pytest.raises(Deadline, match="did not read in time"):
            callee.send(bytes(10_000_000), soon(0.3))
        assert callee.recv(100, soon()) == b"one word"


@pytest.mark.parametrize(("sender", "after"), [("CLIENT", 0), ("SERVER", 3)])
def test_records_that_bring_nothing_hold_up_neither_a_turn_nor_a_deadline(made, folder, sender, after):
    """Not even OpenSSL reads on by itself: a million of them are two seconds' work."""
    node, client = (keys.load(f"{folder}/{name}", name) for name in ("web1", "me"))
    secret_of = secret_kept((client if sender == "CLIENT" else node).context)
    with connected((node, client)) as (callee, caller, here, there):
        callee.send(b"first", soon())
        assert caller.recv(10, soon()) == b"first", "behind two tickets"
        reader, bare_reader, bare = (callee, here, there) if sender == "CLIENT" else (caller, there, here)
        sent = key_updates(secret_of(sender), 1000, after)
        bare.sendall(sent)
        assert reader._channel.read(10) is None
        (left,) = struct.unpack("i", fcntl.ioctl(bare_reader, termios.FIONREAD, bytes(4)))
        assert left == len(sent) - len(sent) // 1000
        with pytest.raises(Deadline):
            reader.recv(10, soon(0.3))


def test_a_deadline_that_is_over_is_met_without_waiting(made):
    with connected(made) as (callee, _, _, _), pytest.raises(Deadline, match="did not answer in time"):
        callee.recv(1, soon(-1))


def test_a_record_longer_than_was_asked_for_comes_in_pieces(made):
    with connected(made) as (callee, caller, _, _):
        caller.send(b"abcdefgh", soon())
        assert [callee.recv(3, soon()) for _ in range(3)] == [b"abc", b"def", b"gh"]


@pytest.mark.parametrize("is_tcp", [True, False])
def test_five_megabytes_both_ways(made, is_tcp):
    data = os.urandom(5_000_000)

    def echo(stream):
        received = bytearray()
        while len(received) < len(data):
            received += stream.recv(65536, soon(30))
        stream.send(received, soon(30))
        stream.close()

    with connected(made, is_tcp) as (callee, caller, _, _), ThreadPoolExecutor() as pool:
        pool.submit(echo, callee)
        caller.send(data, soon(30))
        echoed = bytearray()
        while chunk := caller.recv(65536, soon(30)):  # until a clean end
            echoed += chunk
    assert echoed == data


def test_an_end_without_goodbye_is_a_broken_connection_for_reader_and_writer(made):
    with connected(made, is_tcp=True) as (callee, caller, bare, _):
        caller.send(b"x", soon())
        assert callee.recv(10, soon()) == b"x"
        bare.shutdown(socket.SHUT_RDWR)
        for _ in range(2):  # and again, in the same words
            with pytest.raises(NobodyThere, match="127.0.0.1:1: broke off without a word"):
                caller.recv(10, soon())
        with pytest.raises(NobodyThere):
            talk_on(caller)


def test_what_does_not_decrypt_ends_the_reading(made):
    with connected(made) as (callee, _, _, bare):
        bare.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        for _ in range(2):
            with pytest.raises(BadFrame, match="the caller sent what does not decrypt"):
                callee.recv(10, soon())


def test_a_refusal_of_our_certificate_comes_out_when_we_send_and_when_we_read(made, folder):
    authority, mine = load_certificate(f"{folder}/ca/ca.crt"), Key()
    forged = Key().sign(mine.key.public_key(), authority.subject, [uri("bd://prod/client/me")])
    credentials = keys.Credentials(mine.key, forged, [authority], 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor() as pool:
        there = socket.create_connection(listening.getsockname())
        here, _ = listening.accept()
        refusal = pool.submit(tls.accept, here, made[0], soon())
        caller = tls.connect(there, credentials, "127.0.0.1:1", soon())  # so far nobody has seen it

        def talk():
            caller.send(b"hello", soon())  # with which it goes out
            refusal.exception()  # is there before we write on: after a write that met a reset OpenSSL reads no alert
            talk_on(caller)

        with pytest.raises(Forbidden, match="127.0.0.1:1: does not accept our certificate"):
            talk()
        assert isinstance(refusal.exception(), Forbidden)
        with pytest.raises(Forbidden, match="does not accept our certificate"):
            caller.recv(1, soon())
        caller.close()


def test_a_connection_is_closed_once_and_a_broken_one_too(made):
    with connected(made) as (callee, caller, _, bare):
        assert caller.fileno() == bare.fileno() >= 0
        for stream in (caller, callee):
            stream.close()
            stream.close()
            assert stream.fileno() < 0


def reset(sock):
    """Breaks it off as a host does that has crashed and is back."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_writing_to_one_that_is_gone_is_nobody_there(made):
    with connected(made) as (callee, caller, _, _):
        callee.close()
        with pytest.raises(NobodyThere, match="127.0.0.1:1: broke off .Broken pipe"):
            caller.send(b"hello", soon())
        with connected(made, is_tcp=True) as (callee, caller, bare, _):
            reset(bare)
            with pytest.raises(NobodyThere, match="127.0.0.1:1: broke off"):
                talk_on(caller)


def test_a_broken_connection_does_no_harm_to_the_next_one_of_the_thread(made):
    with connected(made) as (callee, _, _, bare), connected(made, is_tcp=True) as (broken, _, _, there):
        reset(there)
        for fails in (lambda: broken.recv(1, soon()), lambda: broken.send(bytes(100), soon())):
            with pytest.raises(NobodyThere):
                fails()
            bare.send(b"\x17")  # not yet a record: OpenSSL wants to read, and says so by having no error
            with pytest.raises(Deadline):
                callee.recv(1, soon(0.1))


def test_a_handshake_that_fails_closes_the_socket(made):
    here, there = socket.socketpair()
    with there:
        there.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(BadFrame):
            tls.accept(here, made[0], soon())
        assert here.fileno() < 0


def test_a_rehearsal_goes_through_and_leaves_nothing_open(made, folder):
    authority, mine = load_certificate(f"{folder}/ca/ca.crt"), Key()
    expired = Key.of(f"{folder}/ca/ca.key").sign(
        mine.key.public_key(), authority.subject, [uri("bd://prod/node/x")], begins=-2, ends=-1
    )
    with none_left():
        tls.rehearse(made[0])
        tls.rehearse(keys.Credentials(mine.key, expired, [authority], 0.0))  # callers will be told, we go on


# --- a connection that is broken, full or not what it should be ---------------------------------------------------


def test_a_connection_that_broke_before_a_word_is_nobody_there_and_closed(made):
    class Broken(socket.socket):
        """Of a kernel that lets nothing be set any more once the other side has reset it."""

        def setsockopt(self, *arguments):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    sock = Broken()
    with pytest.raises(NobodyThere, match=r"^127.0.0.1:1: broke off \(Invalid argument\)$"):
        tls.connect(sock, made[1], "127.0.0.1:1", soon())
    assert sock.fileno() < 0


def filled(sock):
    """So many bytes were written to the socket that no more have room."""
    sock.setblocking(False)
    written = 0
    for size in (1 << 16, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                written += sock.send(bytes(size))
    return written


def test_a_handshake_waits_for_room_until_its_deadline(made):
    here, there = socket.socketpair()
    with here, there:
        filled(there)
        with pytest.raises(Deadline, match="127.0.0.1:1: did not read in time"):
            tls.connect(there, made[1], "127.0.0.1:1", soon(0.1))
        assert there.fileno() < 0


def test_a_handshake_goes_on_when_there_is_room_again(made):
    here, there = socket.socketpair()
    with here, there, ThreadPoolExecutor() as pool:
        left = filled(there)
        channel = tls.calling(there, made[1], "127.0.0.1:1")
        assert channel.shake() is Want.ROOM
        while left:
            left -= len(here.recv(left))
        accepted = pool.submit(tls.accept, here, made[0], soon())
        tls.Stream(channel).shake(soon())
        assert channel.identity.name == "web1" and accepted.result().identity.name == "me"


def test_what_openssl_lets_through_unjudged_is_not_let_in(made, folder):
    """Should a context ever come without the demand for a certificate: who was not found good is nobody."""
    strangers = f"{folder}/strangers"
    Authority.make(strangers, "prod")
    make_keys(strangers, strangers, "web1")
    authority, strange = load_certificate(f"{folder}/ca/ca.crt"), keys.load(f"{strangers}/web1", "web1")
    for verify, words in (
        (handshake._verify, "is signed by a CA that is not in our ca.crt"),
        (lambda *_: True, "127.0.0.1:1: its certificate was not checked"),
    ):
        lax = keys.Credentials(made[1].key, made[1].chain.certificate, [authority], 0.0)
        lax.context.set_verify(SSL.VERIFY_NONE, verify)
        here, there = socket.socketpair()
        with here, there, ThreadPoolExecutor() as pool:
            pool.submit(tls.accept, here, strange, soon())
            with pytest.raises(Forbidden, match=words):
                tls.connect(there, lax, "127.0.0.1:1", soon())
            assert there.fileno() < 0


def test_a_stream_that_is_to_hear_no_more_finds_the_end_behind_what_has_come(made):
    with connected(made, is_tcp=True) as (callee, caller, bare, _):
        caller.send(b"so far", soon())
        select.select([bare], [], [], SECONDS)
        callee.hear_no_more()
        assert callee.recv(10, soon()) == b"so far"
        with pytest.raises(NobodyThere, match="broke off without a word"):
            callee.recv(10, soon())
        callee.close()
        callee.hear_no_more()  # as when a signal comes after the end


def test_breaking_off_says_no_goodbye(made):
    with connected(made) as (callee, caller, bare, _):
        callee.break_off()
        assert bare.fileno() < 0
        with pytest.raises(NobodyThere, match="127.0.0.1:1: broke off without a word"):
            caller.recv(10, soon())
