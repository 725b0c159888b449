"""Two live nodes of one name: what their records say of it, and which of it is shown."""

import json

import pytest

from bdserver.core.membership import Record, as_json, from_json
from bdserver.core.namesakes import FIELD, Claim, Namesakes, told

ONE, OTHER = Claim("10.0.0.1:9001", "ab12", "alpha"), Claim("10.0.0.2:9001", "cd34")
TWO = Namesakes(OTHER, ONE)


def saying(said):
    return Record("web", "10.0.0.1:9001", (1, 0), extra={FIELD: said})


def test_both_say_the_same_and_it_survives_the_wire():
    words = "at 10.0.0.1:9001 (serial ab12, signed by alpha) and at 10.0.0.2:9001 (serial cd34, signed by the CA)"
    assert TWO.words == Namesakes(ONE, OTHER).words == words
    assert TWO.as_json() == Namesakes(ONE, OTHER).as_json()
    record = from_json(json.loads(json.dumps(as_json(saying(TWO.as_json())))))
    assert told(record) == Namesakes(ONE, OTHER)
    assert told(Record("web", "10.0.0.1:9001", (1, 0))) is None


def test_a_certificate_that_is_not_known_is_not_told_of():
    assert Claim("10.0.0.1:9001").words == "at 10.0.0.1:9001"


@pytest.mark.parametrize(
    "said",
    [
        7, "ab", [], [ONE], [list(ONE)] * 3, [list(ONE), None], [list(ONE), ["10.0.0.2:9001", "ab"]], {"one": 1, "other": 2},
        *([list(ONE), wrong] for wrong in (
            ["nowhere", "", ""], ["10.0.0.2:9001", 7, ""], ["10.0.0.2:9001", "no hex", ""], ["10.0.0.2:9001", "a" * 41, ""],
            ["10.0.0.2:9001\n", "ab", ""], ["10.0.0.2:9001", "ab", "two words"], ["h" * 400 + ":1", "ab", ""],
        )),
    ],
)  # fmt: skip
def test_what_a_node_says_that_is_not_this_is_not_shown(said):
    assert told(saying(said)) is None
