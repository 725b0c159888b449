"""Nudges: whatever one process writes into the pipe, the discoverer reads."""

import select

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bdserver.core.exchange import EVERYBODY
from bdserver.core.nudges import LINE_BYTES_MAX, Hurry, Look, Tell, Visit, decode, encode

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", fullmatch=True).filter(lambda name: not name.endswith(".bdcert"))
NUDGES = st.one_of(
    st.just(Look()),
    st.builds(Hurry, NAMES),
    st.builds(Visit, NAMES),
    st.builds(Tell, st.one_of(st.just(EVERYBODY), NAMES), st.lists(NAMES, min_size=1, max_size=30).map(tuple)),
)


def typed(nudges):
    """Nudges with their types: tuples of the same names are equal, whatever they mean."""
    return [(type(each), each) for each in nudges]


@given(NUDGES)
def test_each_that_is_written_is_read(nudge):
    line = encode(nudge)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and len(line) <= LINE_BYTES_MAX
    assert typed(decode(line)) == typed([nudge])


@given(st.lists(NUDGES, max_size=8))
def test_of_many_each_is_read_once_in_the_order_of_their_coming(nudges):
    read = typed(decode(b"".join(map(encode, nudges + nudges))))
    assert read == list(dict.fromkeys(typed(nudges)))


@given(st.binary(max_size=200))
@example(b"hurry\n")
@example(b"hurry \n")
@example(b"hurry ../x\n")
@example(b"hurry a b\n")
@example(b"tell *\n")
@example(b"tell .. a\n")
@example(b"tell a b \n")
@example(b"\xff\n")
@example(b"dance n0\n")
def test_a_line_that_nobody_understands_is_a_look_and_nothing_raises(data):
    read = decode(data)
    assert all(isinstance(each, Look | Hurry | Visit | Tell) for each in read)
    assert bool(read) == bool(data.strip(b"\n"))
    if not data.startswith((b"hurry", b"visit", b"tell")):
        assert typed(decode(data.replace(b"\n", b" "))) == typed([Look()] if data.replace(b"\n", b" ") else [])


@pytest.mark.parametrize("line", [b"hurry \n", b"hurry ../x\n", b"hurry a b\n", b"tell *\n", b"tell .. a\n", b"tell a  b\n"])
def test_a_verb_with_names_that_are_none_is_a_look(line):
    assert typed(decode(line)) == typed([Look()])


def test_a_line_that_would_be_too_long_to_be_written_as_one_is_a_look():
    names = tuple(f"{number:0100d}" for number in range(40))
    room = LINE_BYTES_MAX - len(encode(Tell(EVERYBODY, names)))
    assert 0 <= room < 101
    longest = Tell("x" * (room + 1), names)
    assert len(encode(longest)) == LINE_BYTES_MAX == select.PIPE_BUF and typed(decode(encode(longest))) == typed([longest])
    assert encode(Tell("x" * (room + 2), names)) == b"look\n"


@pytest.mark.parametrize("nudge", [Hurry("a\nhurry b"), Visit(""), Tell(EVERYBODY, ()), Tell("a b", ("c",)), Hurry("\udc80")])
def test_a_nudge_about_a_name_that_is_none_is_written_as_a_look(nudge):
    assert encode(nudge) == b"look\n"


def test_what_is_no_nudge_is_a_bug_of_the_writer():
    with pytest.raises(AssertionError):
        encode("look")
