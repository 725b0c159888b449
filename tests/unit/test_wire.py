"""The frame: whole and byte by byte, and every limit from both sides."""

import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdserver.core import wire
from bdserver.core.wire import HEADER, Decoder, encode
from bdserver.errors import BadFrame, TooLarge

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=5) | st.dictionaries(TEXTS, below, max_size=5), max_leaves=20
)
MESSAGES = st.lists(VALUES, max_size=5)


def decoded(data, **limits):
    decoder = Decoder(**limits)
    decoder.feed(data)
    return decoder.next_message()


def frame(payload, flags=0):
    return HEADER.pack(len(payload), flags) + payload


@given(MESSAGES)
def test_what_is_encoded_comes_out_again(message):
    assert decoded(encode(message)) == message


@settings(max_examples=2 * settings.default.max_examples // 5)
@given(st.lists(MESSAGES, max_size=4))
def test_byte_by_byte_is_as_good_as_whole(messages):
    decoder, found = Decoder(), []
    for byte in b"".join(map(encode, messages)):
        decoder.feed(bytes([byte]))
        while (message := decoder.next_message()) is not None:
            found.append(message)
    assert found == messages and decoder.pending_bytes == 0


@given(st.binary(max_size=200))
def test_garbage_is_a_message_or_one_of_two_errors(data):
    decoder = Decoder()
    decoder.feed(data)
    try:
        while decoder.next_message() is not None:
            pass
    except (BadFrame, TooLarge):
        pass


@given(st.binary(max_size=200), st.sampled_from([0, 1]))
def test_a_framed_payload_of_garbage_is_a_message_or_one_of_two_errors(payload, flags):
    try:
        assert decoded(frame(payload, flags)) is not None
    except (BadFrame, TooLarge):
        pass


def test_long_messages_are_compressed():
    message = ["x" * 10_000]
    assert len(encode(message)) < 500 and decoded(encode(message)) == message


def test_raw_bytes_behind_a_message_are_taken_apart_from_it():
    decoder = Decoder()
    decoder.feed(encode(["YES"]) + b"package" + encode(["PONG"]))
    assert decoder.next_message() == ["YES"]
    assert decoder.take(7) == b"package"
    assert decoder.next_message() == ["PONG"]


@given(st.recursive(SCALARS | st.text(), lambda below: st.lists(below) | st.dictionaries(st.text(), below), max_leaves=10))
def test_whatever_text_we_send_can_be_read(value):
    assert len(decoded(encode([value]))) == 1


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("caf\udce9", "caf\\xe9"),
        ("\udc80\udcff!", "\\x80\\xff!"),
        ("\ud800", "\\ud800"),
        ("\udc7f", "\\udc7f"),
        ("\\xe9 é 𝕏", "\\xe9 é 𝕏"),
    ],
)
def test_a_name_of_a_file_that_is_no_text_is_shown_escaped(sent, shown):
    assert decoded(encode([sent, {sent: 1}])) == [shown, {shown: 1}]


def test_a_declared_length_is_refused_before_a_byte_of_it_came():
    decoder = Decoder()
    decoder.feed(struct.pack("!IB", wire.FRAME_BYTES_MAX, 0))
    assert decoder.next_message() is None
    decoder = Decoder()
    decoder.feed(struct.pack("!IB", wire.FRAME_BYTES_MAX + 1, 0))
    with pytest.raises(TooLarge, match="over the 1048576 allowed"):
        decoder.next_message()


def test_the_largest_frame_passes():
    payload = b'["' + b"x" * (wire.FRAME_BYTES_MAX - 4) + b'"]'
    assert len(decoded(frame(payload))[0]) == wire.FRAME_BYTES_MAX - 4


@pytest.mark.parametrize("extra", [0, 1])
def test_a_message_inflates_to_its_limit_and_no_further(extra):
    payload = zlib.compress(b"[" + b" " * (wire.MESSAGE_BYTES_MAX - 2 + extra) + b"]", 9)
    if extra:
        with pytest.raises(TooLarge, match="inflates"):
            decoded(frame(payload, 1))
    else:
        assert decoded(frame(payload, 1)) == []


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_depth_stands_at_its_limit(brackets):
    opening, closing = ("[", "]") if brackets == "[]" else ('{"a":', "}")
    for depth in (wire.DEPTH_MAX - 1, wire.DEPTH_MAX):
        text = "[" + opening * depth + "0" + closing * depth + "]"
        if depth + 1 <= wire.DEPTH_MAX:
            assert decoded(frame(text.encode()))
        else:
            with pytest.raises(TooLarge, match="nested deeper"):
                decoded(frame(text.encode()))


def test_brackets_in_strings_are_no_depth():
    message = ["[" * 500 + '"\\"[{' * 10]
    assert decoded(frame(encode(message)[HEADER.size :])) == message


@given(
    st.recursive(
        st.none() | st.text('\\\\"[]{}é,:', max_size=8),
        lambda inner: st.lists(inner) | st.dictionaries(st.text('\\\\"[{'), inner),
    )
)
def test_depth_is_what_a_walk_finds(message):
    def walked(value):
        if isinstance(value, dict):
            return 1 + max(map(walked, value.values()), default=0)
        return 1 + max(map(walked, value), default=0) if isinstance(value, list) else 0

    assert wire._depth(json.dumps(message).encode()) == wire._depth(wire.payload(message)) == walked(message)


@pytest.mark.parametrize("before", [b'["a",\\"', b'["a', b'["\\', b'["\\\\"\\"'])
def test_what_is_no_json_ends_as_that_however_deep_it_looks(before):
    with pytest.raises((BadFrame, TooLarge)):
        decoded(frame(before + b"[" * 100_000))


def test_values_stand_at_their_limit():
    for count in (wire.VALUES_MAX, wire.VALUES_MAX + 1):
        payload = zlib.compress(b"[" + b"1," * count + b"1]")
        if count <= wire.VALUES_MAX:
            assert len(decoded(frame(payload, 1))) == count + 1
        else:
            with pytest.raises(TooLarge, match="values"):
                decoded(frame(payload, 1))


def test_a_decoder_may_take_less_than_usual():
    with pytest.raises(TooLarge, match="more than 10 values"):
        decoded(frame(b"[" + b"1," * 11 + b"1]"), values_max=10)
    with pytest.raises(TooLarge, match="inflates to more than the 100 bytes"):
        decoded(frame(zlib.compress(b"[" + b" " * 200 + b"]"), 1), bytes_max=100)
    with pytest.raises(TooLarge, match="over the 100 allowed"):
        decoded(frame(b"[" + b" " * 200 + b"]"), bytes_max=100)
    with pytest.raises(TooLarge, match=f"over the {wire.FRAME_BYTES_MAX} allowed"):
        decoded(HEADER.pack(wire.FRAME_BYTES_MAX + 1, 0), bytes_max=2 * wire.FRAME_BYTES_MAX)


@pytest.mark.parametrize(("digits", "is_fine"), [(wire.INTEGER_DIGITS_MAX, True), (wire.INTEGER_DIGITS_MAX + 1, False)])
def test_integers_have_a_longest(digits, is_fine):
    payload = b"[" + b"9" * digits + b"]"
    if is_fine:
        assert decoded(frame(payload)) == [int("9" * digits)]
    else:
        with pytest.raises(BadFrame):
            decoded(frame(payload))


def test_a_message_too_large_to_be_read_is_not_sent():
    with pytest.raises(TooLarge):
        encode(["x" * (wire.MESSAGE_BYTES_MAX + 1)])


@pytest.mark.parametrize("payload", [b"null", b"[NaN]", b"[-Infinity]", b"[1e999]", b"[-1e999]"])
def test_what_no_other_reader_would_understand_is_a_bad_frame(payload):
    with pytest.raises(BadFrame):
        decoded(frame(payload))


def test_a_message_that_zlib_makes_no_smaller_than_a_frame_takes_is_not_sent(monkeypatch):
    monkeypatch.setattr(wire, "FRAME_BYTES_MAX", 100)
    assert decoded(encode(["x" * 96])) == ["x" * 96]
    with pytest.raises(TooLarge, match="a frame of 101 bytes"):
        encode(["x" * 97])
