"""No matter what bytes come in, and in which pieces, the Decoder either gives messages that can be written again and come out the
same, or raises BadFrame or TooLarge; and it does the same with them whole and byte by byte.

    python -m tests.fuzz.fuzz_wire
"""

from __future__ import annotations

import math
import sys

from bdserver.core.wire import HEADER, Decoder, encode
from bdserver.errors import BadFrame, TooLarge
from tests.fuzz.running import fuzz

SEEDS = (
    encode(["PING"]),
    encode(["WHEREIS", "Echo", None]) + encode(["YES", "10.0.0.1", 9001, 1.5e-3, True, {"ä": "\U0001f600"}]),
    encode(["SYNCHRONIZE", {"versions": {f"n{number}": [1, number] for number in range(300)}}]),
    HEADER.pack(16, 0) + b'["\\ud83d\\ude00"]',
)
TOKENS = (b"[", b"{", b'"', b"\\ud800", b",", b"1e999", b"NaN", b"-0", b"9" * 25, b"null", b"\0\0\0\x02\0", b"\xff", b"[" * 40)


def outcome(pieces: list[bytes]) -> tuple[list[object], str]:
    """The messages, and how it ended: with which error, or with how many bytes of an unfinished frame."""
    decoder, messages = Decoder(), []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (message := decoder.next_message()) is not None:
                messages.append(message)
    except (BadFrame, TooLarge) as error:
        assert "\n" not in str(error)
        return messages, error.code
    return messages, f"{decoder.pending_bytes} left"


def one(data: bytes) -> bool:
    """Whether all of it was messages."""
    messages, end = outcome([data])
    assert outcome([data[at : at + 1] for at in range(len(data))]) == (messages, end)
    for message in messages:
        decoder = Decoder()
        decoder.feed(encode(message))
        assert decoder.next_message() == message
        assert _is_finite(message)
    return end == "0 left"


def _is_finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


if __name__ == "__main__":
    sys.exit(fuzz(one, SEEDS))
