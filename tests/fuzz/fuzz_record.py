"""No matter what comes as a record, it is a BadRequest, or a record whose numbers are within their ranges, that travels on as it
came, byte for byte, and that its owner could have said.

    python -m tests.fuzz.fuzz_record
"""

from __future__ import annotations

import sys

from bdserver.core import membership
from bdserver.core.membership import Record, Service, as_json, from_json, statement, unsealed
from bdserver.core.wire import Decoder, encode, read_text
from bdserver.errors import BadFrame, BadRequest, TooLarge
from tests.fuzz.running import fuzz

_RECORD = Record(
    "n1", "[::1]:9001", (1_700_000_000, 7), since=5.0, services={"Echo": Service("static", 1.5, "http://{host}/", True)},
    free_dynamic=3, load=20, receiver_threshold=1e12, web_port=65535, gossip_port=1, web_dir="axis", service_url="http://x/",
    policy="0" * 32, draining=True, extra={"rack": [1, {"ä": None}]},
)  # fmt: skip
SEEDS = (
    statement(_RECORD).encode(),
    statement(_RECORD._replace(status="left")).encode(),
    b'{"said":"{\\"name\\":\\"a\\",\\"address\\":\\"a:1\\",\\"version\\":[1,2]}","signature":"c2ln","status":"suspect","since":1e9}',
)
TOKENS = (
    b"[", b"{", b'"', b'\\"', b"\\ud800", b",", b"1e308", b"1e999", b"NaN", b"-1", b"9" * 18, b"9" * 25, b"null", b"true",
    b'"left":true', b'"version":[', b'"since":', b'"load":', b'"status":"dead"', b"[" * 40, b"\\u0000", b"\xc3\xa4", b"21",
)  # fmt: skip


def one(data: bytes) -> bool:
    """Whether it is a record: these bytes, or the statement that they are."""
    as_said = {"said": _text(data), "signature": "c2ln", "certificate": "ab"}
    found = [_is_record(value) for value in (_read(data), as_said)]  # both are tried
    return any(found)


def _read(data: bytes) -> object:
    try:
        return read_text(data)
    except (BadFrame, TooLarge):
        return None


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _is_record(value: object) -> bool:
    try:
        record = from_json(value)
    except BadRequest as error:
        assert "\n" not in str(error)
        return False
    assert 0 <= record.load <= 20 and 0 <= record.free_dynamic <= 10**6 and 0 <= record.receiver_threshold <= 1e12
    assert 0 <= record.since <= 2**53 and all(0 <= each <= 2**53 for each in record.version)
    assert all(0 <= each.cost <= 1e9 for each in record.services.values()) and len(record.services) <= 1000
    travelled = _travelled(as_json(record))
    assert from_json(travelled) == record
    assert not record.signature or travelled["said"] == value["said"]  # type: ignore[index]
    said_anew = from_json(as_json(unsealed(record._replace(extra={}))))
    assert unsealed(said_anew) == unsealed(record._replace(extra={}))
    assert len(statement(membership.fitting(unsealed(record))[0])) > 0
    return True


def _travelled(value: object) -> object:
    decoder = Decoder()
    decoder.feed(encode(value))
    return decoder.next_message()


if __name__ == "__main__":
    sys.exit(fuzz(one, SEEDS))
