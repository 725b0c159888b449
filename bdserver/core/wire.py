"""Bytes to messages and back: the frame, zlib, JSON, and every limit on them.

A frame is a 4-byte length, one byte of flags (bit 0: the payload is zlib; the others must be 0) and the
payload, one JSON value in UTF-8. What comes from the network is a message, or BadFrame or TooLarge is
raised; any other exception is a bug. A declared length allocates nothing. What a message means is requests' business.
"""

from __future__ import annotations

import codecs
import json
import struct
import zlib

from bdserver.errors import BadFrame, TooLarge

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# What a caller says in its opening. Pair by pair, the older of the two sides' versions is spoken, if it is not older than the
# other's OLDEST, which is the one before VERSION as soon as there is one.
VERSION, OLDEST = 1, 1

HEADER = struct.Struct("!IB")
FLAG_ZLIB = 1

# A thousand nodes with ten services each are 300 KiB of JSON, 40 KiB of zlib.
FRAME_BYTES_MAX = 1 << 20
MESSAGE_BYTES_MAX = 8 << 20
# Our deepest message is a MASSMESSAGE in an exchange: 6.
DEPTH_MAX = 32
VALUES_MAX = 500_000
# On the port for news one loop reads for all: its shares of an exchange are less than this, and a tenth of a second at most.
NEWS_BYTES_MAX = 2 << 20
NEWS_VALUES_MAX = 100_000
# 2^63 has 19 digits; nothing that we send is larger, and int() of a long text is slow.
INTEGER_DIGITS_MAX = 19
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
# Below this many bytes zlib saves less than the packet that carries them.
COMPRESS_ABOVE_BYTES = 1024

_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False)
# The encoder in C, which `encode` would make anew for each message: that takes as long as writing a small one.
_make: Callable[..., Callable[[object, int], Iterable[str]]] | None = getattr(json.encoder, "c_make_encoder", None)
_chunks = _make and _make(None, _encoder.default, json.encoder.encode_basestring, None, ":", ",", False, False, False)


def _write(message: object) -> str:
    return "".join(_chunks(message, 0)) if _chunks else _encoder.encode(message)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Python holds a byte of a file's name that is no UTF-8 as half of a surrogate pair: it is shown as \\xe9, or \\ud800."""
    assert isinstance(error, UnicodeEncodeError)
    codes = map(ord, error.object[error.start : error.end])
    shown = (f"x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"u{code:04x}" for code in codes)
    return "".join("\\\\" + each for each in shown), error.end  # two, since we are inside of a string of JSON


codecs.register_error("bdserver.escaped", _escaped)


def payload(message: object) -> bytes:
    """A message as JSON."""
    return _write(message).encode(errors="bdserver.escaped")


def encode(message: object) -> bytes:
    """The frame of a message; TooLarge when the other side would have to refuse it."""
    content, flags = payload(message), 0
    if len(content) > COMPRESS_ABOVE_BYTES:
        if len(content) > MESSAGE_BYTES_MAX:
            raise TooLarge(f"a message of {len(content)} bytes is over the {MESSAGE_BYTES_MAX} allowed")
        content, flags = zlib.compress(content, 1), FLAG_ZLIB
    if len(content) > FRAME_BYTES_MAX:
        raise TooLarge(f"a frame of {len(content)} bytes is over the {FRAME_BYTES_MAX} allowed")
    return HEADER.pack(len(content), flags) + content


class Decoder:
    """Collects bytes as they come and gives out messages, one at a time, or the raw bytes that follow one. `decoded_bytes`: of
    all messages so far, inflated. `bytes_max`, `values_max`: of a message, inflated, where less than usual is allowed."""

    def __init__(self, bytes_max: int = MESSAGE_BYTES_MAX, values_max: int = VALUES_MAX) -> None:
        self._buffer = bytearray()
        self._frame_bytes_max = min(FRAME_BYTES_MAX, bytes_max)
        self._message_bytes_max, self._values_max = bytes_max, values_max
        self.decoded_bytes = 0

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        self._buffer += data

    def next_message(self) -> object:
        """The next whole message, or None while it is incomplete (a message is never None: null is refused)."""
        text = self.next_text()
        return None if text is None else self.read(text)

    def read(self, text: bytes) -> object:
        """The message that came so."""
        return read_text(text, self._values_max)

    def next_text(self) -> bytes | None:
        """The next whole message as it came, for `read`: who has read the same bytes before need not do so again."""
        if len(self._buffer) < HEADER.size:
            return None
        length, flags = HEADER.unpack_from(self._buffer)
        if flags & ~FLAG_ZLIB:
            raise BadFrame(f"frame with unknown flags {flags:#04x}")
        if length > self._frame_bytes_max:
            raise TooLarge(f"a frame of {length} bytes is over the {self._frame_bytes_max} allowed")
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        text = _inflate(payload, self._message_bytes_max) if flags else payload
        self.decoded_bytes += len(text)
        return text

    def take(self, bytes_max: int) -> bytes:
        """Up to `bytes_max` raw bytes that came behind the last message: the beginning of a package."""
        taken = bytes(self._buffer[:bytes_max])
        del self._buffer[:bytes_max]
        return taken

    @property
    def pending_bytes(self) -> int:
        """How much has come that is not given out yet: over 0 at the end of a connection means a cut frame."""
        return len(self._buffer)


def _inflate(payload: bytes, bytes_max: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(payload, bytes_max + 1)
    except zlib.error as error:
        raise BadFrame(f"frame with broken zlib data: {error}") from None
    if len(text) > bytes_max:
        raise TooLarge(f"a message inflates to more than the {bytes_max} bytes allowed")
    if not inflater.eof or inflater.unused_data:
        raise BadFrame("frame with zlib data that does not end where the frame ends")
    return text


def read_text(text: bytes, values_max: int = VALUES_MAX) -> object:
    """The JSON value in a text that came from a stranger, within all limits; BadFrame or TooLarge."""
    # Counting bytes is a hundred times cheaper than parsing, and counts never too little.
    if text.count(b",") > values_max:
        raise TooLarge(f"a message of more than {values_max} values")
    if text.count(b"[") + text.count(b"{") > DEPTH_MAX and _depth(text) > DEPTH_MAX:
        raise TooLarge(f"a message nested deeper than {DEPTH_MAX}")
    try:
        message = _read(text.decode())
        if b"\\u" in text:  # an escaped half of a surrogate pair is a text that nobody could write again
            _write(message).encode()
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"frame that is not JSON: {_one_line(error)}") from None
    if message is None:
        raise BadFrame("frame with null for a message")
    return message


def _depth(text: bytes) -> int:
    """How deep brackets nest outside of strings. Behind a backslash outside of one it may be wrong: no JSON goes on there."""
    outside = text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    depth = deepest = 0
    for byte in b"".join(outside).translate(None, _NO_BRACKETS):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > INTEGER_DIGITS_MAX:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number that is infinite")
    return number


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _one_line(error: Exception) -> str:
    return str(error).replace("\n", " ")[:200]


_decoder = json.JSONDecoder(parse_int=_integer, parse_float=_number, parse_constant=_constant)
_scan: Callable[[str, int], tuple[object, int]] = getattr(_decoder, "scan_once")  # noqa: B009 (typeshed does not know it)


def _read(text: str) -> object:
    """Without the search for white space around it, which `decode` begins with: we write none."""
    try:
        message, end = _scan(text, 0)
    except StopIteration:
        end = -1
    return message if end == len(text) else _decoder.decode(text)
