"""No matter what document a node is given as another's policy, it is either a policy, which can be shown, meets itself if it has an
alternative, and is the same when it is read again, or BadPolicy or TooLarge in one line.

    python -m tests.fuzz.fuzz_policy
"""

from __future__ import annotations

import json
import sys

from bdserver.core.policy import as_json, can_talk, parse, show
from bdserver.errors import BadPolicy, TooLarge
from tests.fuzz.running import fuzz

_HEAD = '<wsp:Policy xmlns:wsp="http://schemas.xmlsoap.org/ws/2004/09/policy" xmlns:a="urn:a">'
_INSIDES = (
    "<a:one/><a:two wsp:Optional='true'/>",
    "<wsp:ExactlyOne><wsp:All><a:one><wsp:Policy><a:in/></wsp:Policy></a:one></wsp:All><a:two p='1'>text</a:two></wsp:ExactlyOne>",
    "<wsp:Policy xml:id='x'><a:one wsp:Ignorable='true'/></wsp:Policy><wsp:PolicyReference URI='#x'/>",
)
SEEDS = (
    *(f"{_HEAD}{inside}</wsp:Policy>".encode() for inside in _INSIDES),
    f"{_HEAD}{_INSIDES[0]}</wsp:Policy>".encode("utf-16"),
)
TOKENS = (b"<!DOCTYPE a>", b"&#0;", b"&amp;", b"\0", b"</", b"<![CDATA[", b"\xed\xa0\x80", b'="', b"<wsp:All>", b"</wsp:All>", b"<?xml ", b"xml:id='x'",
          b"<wsp:PolicyReference URI='#x'/>", b"<wsp:ExactlyOne/>", b"wsp:Optional='true' ", b"encoding='latin-1'")  # fmt: skip


def one(data: bytes) -> bool:
    """Whether it was taken for a policy."""
    try:
        policy = parse(data)
    except (BadPolicy, TooLarge) as error:
        assert "\n" not in str(error)
        return False
    assert show(policy) and json.dumps(as_json(policy))
    try:
        assert can_talk(policy, policy) == bool(policy.alternatives)
    except TooLarge:  # that many steps are not taken
        pass
    assert parse(data) == policy
    return True


if __name__ == "__main__":
    sys.exit(fuzz(one, SEEDS))
