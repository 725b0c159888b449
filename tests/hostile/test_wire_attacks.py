"""Bytes that no BDserver sends, and what the node says to them: over the local socket, where there is no TLS in the way."""

import json
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bdserver.core.wire import FRAME_BYTES_MAX, Decoder, encode
from bdserver.processes.lograte import BURST, RATE
from tests.hostile.attacks import BAD
from tests.hosts import until


def exchanged(target, data, half_close=True):
    """Everything the node says to these bytes until it hangs up."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(target.socket)
        try:
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
        received = b""
        while True:
            try:
                data = sock.recv(65536)
            except ConnectionResetError:
                break
            if not data:
                break
            received += data
    decoder = Decoder()
    decoder.feed(received)
    messages = []
    while (message := decoder.next_message()) is not None:
        messages.append(message)
    return messages


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes_are_told_by_their_code(target, name):
    data, code = BAD[name]
    messages = exchanged(target, data)
    assert [message[:2] for message in messages] == [["ERROR", code]]
    assert "\n" not in messages[0][2] and len(messages[0][2]) < 500


def test_whoever_makes_it_say_ever_other_lines_fills_no_log(target):
    """Eight callers at once, whose children come and go."""
    began, said_before, each = time.monotonic(), len(target.log), BURST // 4

    def flood(first):
        for size in range(first, first + each):
            exchanged(target, struct.pack("!IB", FRAME_BYTES_MAX + 1 + size, 0))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(flood, range(0, 8 * each, each)))
    said = target.log[said_before:].count("is over the 1048576 allowed")
    # Two processes that write at once may let a line more through.
    assert BURST / 2 < said < BURST + RATE * (time.monotonic() - began) + 50


def test_byte_by_byte_is_as_good_as_at_once(target):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(target.socket)
        for byte in encode(["PING"]):
            sock.sendall(bytes([byte]))
        decoder = Decoder()
        while (message := decoder.next_message()) is None:
            decoder.feed(sock.recv(100))
        assert message[0] == "PONG"


def test_many_requests_in_one_write_are_answered_in_order(target):
    messages = exchanged(target, encode(["PING"]) + encode(["GIVEYOURSERVICES"]) + encode(["NOPE"]) + encode(["PING"]))
    assert [message[0] for message in messages[:1] + messages[3:]] == ["PONG", "PONG"]
    assert "Echo" in messages[1][1] and messages[2][1] == "no-such-command"


def test_an_idle_caller_is_hung_up_on(target):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(target.socket)
        assert sock.recv(1) == b""


def test_a_caller_that_never_reads_does_not_hold_a_child_for_ever(target):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(target.socket)
        try:
            for _ in range(20_000):
                sock.sendall(encode(["STATUS"]))
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            pass
        until(lambda: not [t for t in target.children().values() if "child" in t], 60, "the child gives up")


def test_a_package_of_another_length_or_digest_is_refused(target):
    for described in (
        {"bytes": 10, "sha256": "00"},
        {"bytes": -1, "sha256": ""},
        {"bytes": 1 << 60, "sha256": ""},
        {"bytes": "x"},
    ):
        messages = exchanged(target, encode(["PUBLISH", "Evil", described]) + b"x" * 10)
        assert messages[0][0] == "ERROR", described
        assert messages[0][1] in ("bad-package", "bad-request", "too-large")
    assert target.lookup("Evil")[0] == "CANTFIND"


def test_plain_http_and_silence_on_the_tls_port_cost_one_child_each_and_end(target):
    def drip():
        with socket.create_connection(("127.0.0.1", target.port), 10) as sock:
            sock.settimeout(20)
            try:
                sock.sendall(b"\x16\x03\x01")
                while sock.recv(100):
                    pass
            except OSError:
                pass

    threads = [threading.Thread(target=drip) for _ in range(10)]
    for thread in threads:
        thread.start()
    with socket.create_connection(("127.0.0.1", target.port), 10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        sock.settimeout(10)
        try:
            assert not sock.recv(1000).startswith(b"HTTP")
        except ConnectionResetError:
            pass
    assert target.ask(["PING"])[0] == "PONG"
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    until(lambda: not [t for t in target.children().values() if "child" in t], 20, "all children end")


def test_records_that_are_none_change_nothing(target):
    import time

    from bdserver.net import dialling, keys

    credentials = keys.load(f"{target.mesh.folder}/node", "a-node")
    well = {"name": "liar", "address": "127.0.0.1:1", "version": [1, 1]}
    records = [
        *({"said": json.dumps(well | change)} for change in (
            {}, {"version": [2**53, 1]}, {"version": [2**60, 1]}, {"version": [int(time.time()) + 90000, 1]}, {"name": "../liar"},
            {"address": "no address"}, {"version": "x"}, {"services": {"../x": ["static", 1, "", True]}}, {"services": 5},
        )),
        {"said": json.dumps(well), "status": "undead"}, {"said": "[" * 10_000}, {"said": well}, well, {"name": "liar"}, [], 5, None,
    ]  # fmt: skip
    deadline = time.monotonic() + 10
    with dialling.dial(target.gossip_address, credentials, deadline) as talk:
        assert talk.ask(["SYNCHRONIZE", {"records": records}], deadline).exchange
        for bad in (
            {"records": 5},
            {"versions": [1]},
            {"of": [99]},
            {"wanted": [[]]},
            {"policies": {"a": 1}},
            {"buckets": 7},
            {"certificates": {"a": "x" * 5000}},
            3,
        ):
            with pytest.raises(Exception, match="INVALID REQUEST"):
                talk.ask(["SYNCHRONIZE", bad], deadline)
    assert target.status_of("liar") == "unknown"
