"""What bdctl shows of STATUS: lines for a person, and the check of an answer that core.messages has not seen. The rest is in
test_bdctl."""

import copy

import pytest

from bdserver.commands import showing
from bdserver.core import messages
from bdserver.core.messages import Status
from bdserver.errors import BadFrame
from tests.unit.canned import own, seen, unvisited

SAID = messages.encoded(Status(own(lag=0.5), [seen("alpha"), seen("beta", 2), unvisited("10.0.0.3:9001")]))
WRONG = (None, True, 7, 1.5, "text", [], {}, [7], {"x": 7})


def is_taken(said):
    try:
        showing.check(said)
    except Exception:
        return False
    return True


def is_right(said):
    try:
        messages.decode("STATUS", said)
    except BadFrame:
        return False
    return True


def changed(said, path, value):
    """The answer with something else in one place."""
    said = copy.deepcopy(said)
    inner = said
    for step in path[:-1]:
        inner = inner[step]
    if value is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return said


def places(value, path=()):
    """Where something stands in an answer."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for step in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[step], (*path, step))


# What is shown as it comes, or not at all: for these, this check may be content with less than that of messages.
LENIENT = {"version", "types", "urls", "costs", "load", "complaints", "policy", "receiver_threshold"}


def test_a_whole_status_is_taken():
    assert is_taken(SAID) and is_right(SAID)


@pytest.mark.parametrize("path", [path for path in places(SAID) if path != (0,)], ids=str)
def test_what_messages_refuses_is_refused_here(path):
    for value in (*WRONG, KeyError):
        said = changed(SAID, path, value)
        if is_taken(said) and not is_right(said):
            assert LENIENT & {*map(str, path)} or (path[-1] == "name" and isinstance(value, str)), (path, value)


@pytest.mark.parametrize("said", [[], ["STATUS"], ["STATUS", own()], [*SAID, "nodes x"], ["STATUS", own(), [["a", "b"]]]])
def test_a_page_of_several_and_the_brief_form_are_not_for_this(said):
    assert not is_taken(said)


def test_lines_of_a_table_end_where_their_text_does():
    assert showing.table([["a", 1], ["bcd", None]], ["x", "y"]) == ["x    y", "a    1", "bcd  None"]


@pytest.mark.parametrize(
    ("days", "words"),
    [(90.0, "90 days left"), (1.5, "36 h left"), (0.0004, "35 s left"), (0.0, "over"), (-0.0, "over"), (-3.0, "over")],
)
def test_how_long_a_certificate_lasts_is_told_in_a_unit_that_fits(days, words):
    lines = showing.status(own(certificate_days_left=days), False)
    assert f"  certificate: {words}" in lines


def test_what_a_node_tells_does_not_move_the_terminal():
    assert showing.visible("alpha of home") == "alpha of home"
    assert showing.visible("\x1b[2Jalpha\u202e\n") == "?[2Jalpha??"


def test_what_a_node_of_another_version_tells_in_other_words_is_passed_over():
    rates = {"requests": "many", "lookups": [1], "lookup_seconds": {}, "received": None, "sent": 5000}
    findings = [{}, {"severity": "note"}, {"severity": "note", "text": "hello"}, {"severity": 5}]
    lines = showing.status(own(rates=rates, findings=findings), False)
    assert "  a second: 0.0 requests, 0.0 look-ups, 0.0 kB in, 5.0 kB out" in lines and "  note: hello" in lines
