"""What many visits mean together: causes, not symptoms; pure."""

import pytest

from bdserver.core import checkup
from bdserver.core.attention import Severity
from bdserver.core.checkup import VISITS_MAX, Visit, findings

SILENT = ("nobody-there", "10.0.0.2:9001: no answer")


def visits(names="abc", **changes):
    """Everybody visits everybody, and all is well; but for `changes`, {"ab": fields of a's visit to b}."""
    return {
        one: [
            Visit(other, f"{other}:9001", seconds=0.01, clock_off=0.0)._replace(**changes.get(one + other, {}))
            for other in names
            if other != one
        ]
        for one in names
    }


def failing(code, text, step="call"):
    return {"code": code, "text": text, "step": step, "clock_off": None}


def keys(found):
    return [each.key for each in found]


def test_a_sound_mesh_has_no_findings():
    assert findings(visits()) == [] and findings({}) == [] and findings({"a": []}) == []


def test_a_host_that_nobody_reaches_is_one_finding():
    down = failing(*SILENT)
    [found] = findings(visits(ab=down, cb=down, ba={}, bc={}))
    assert found.words == "none of 2 nodes reaches b: 10.0.0.2:9001: no answer" and found.key == "unreached-silence"
    assert found.severity is Severity.GRAVE and "firewall" in found.remedy


def test_a_host_that_reaches_nobody_is_one_finding():
    down = failing(*SILENT)
    [found] = findings(visits(ba=down, bc=down))
    assert found.words.startswith("b reaches none of 2 nodes")
    assert [each.words.split(":")[0] for each in findings(visits(ab=down, cb=down, ba=down, bc=down))] == [
        "none of 2 nodes reaches b",
        "b reaches none of 2 nodes",
    ]


def test_a_firewall_that_lets_one_direction_through_is_told_from_two_that_do_not_meet():
    down = failing(*SILENT)
    [found] = findings(visits(ab=down))
    assert found.key == "one-way" and found.words.startswith("a does not reach b, and b reaches a")
    [found] = findings(visits(ab=down, ba=down))
    assert found.words.startswith("a and b do not reach each other") and found.key == "unreached-silence"
    [found] = findings({"a": [Visit("b", "b:9001", *SILENT, "call")]})
    assert found.words.startswith("a does not reach b: ") and found.key == "unreached-silence"
    [found] = findings(visits(ab=failing("refused", "b:9001: its certificate (b) is for c, not for b")))
    assert found.key == "unreached-certificate"


@pytest.mark.parametrize(
    ("fields", "key", "words"),
    [
        ({"news": "b:9002: no answer"}, "news-port", "on the port for news: b:9002: no answer"),
        (failing("deadline", "the time is over", "large"), "mtu", "with large messages, and does with small ones"),
        (failing("deadline", "the time is over", "ask"), "hangs", "which takes connections and does not answer"),
        (failing("forbidden", "the certificate of a is revoked here"), "unreached-revoked", "is revoked here"),
        (failing("no-such-command", "STATUS is answered at b:9001", "ask"), "wrong-port", "is answered at b:9001"),
    ],
)
def test_each_way_to_fail_has_its_key(fields, key, words):
    [found] = findings(visits(ab=fields, cb=fields))
    assert found.key == key and words in found.words and found.remedy


def test_zones_of_policy_are_a_note_and_a_node_that_meets_nobody_is_not():
    apart = failing("policy-mismatch", "POLICYMISMATCH")
    [found] = findings(visits("abcd", ab=apart, ba=apart))
    assert (found.severity, found.words) == (Severity.NOTE, "the policies of a and b do not meet")
    found = findings(visits("abc", ab=apart, cb=apart, ba=apart, bc=apart))
    assert found[0].key == "unreached-policy" and found[0].severity is Severity.GRAVE


def test_the_clock_that_most_others_disagree_with_is_the_one_that_is_off():
    off = {"ab": {"clock_off": 90.0}, "cb": {"clock_off": 90.2}, "ba": {"clock_off": -90.0}, "bc": {"clock_off": -90.0}}
    [found] = findings(visits(**off))
    assert found.words == "the clock of b is 90 s ahead of those of most other nodes" and found.severity is Severity.WARNING
    day = {pair: {"clock_off": 960 * fields["clock_off"]} for pair, fields in off.items()}
    assert findings(visits(**day))[0].severity is Severity.GRAVE


def test_of_two_clocks_nobody_knows_which_is_wrong():
    [found] = findings(visits("ab", ab={"clock_off": 5.0}, ba={"clock_off": -5.0}))
    assert found.line == "the clock of a is 5 s behind that of b: set the wrong one, and have NTP keep both"
    assert findings(visits("ab", ab={"clock_off": 1.0}, ba={"clock_off": -1.0})) == []


def test_slow_answers_are_one_warning():
    [found] = findings(visits(ab={"seconds": 1.5}, cb={"seconds": 1.2}, ac={"seconds": 1.1}))
    assert (found.key, found.words) == ("slow", "answers from b, c take up to 1.5 s")


def test_a_visit_travels_and_whatever_comes_is_one():
    for visit in (Visit("b", "b:9001"), Visit("b", "b:9001", *SILENT, "call", 0.5, -3.0, "no news")):
        assert checkup.from_json(checkup.as_json(visit)) == visit
    odd = checkup.from_json({"name": 5, "text": "x" * 1000, "seconds": "y", "clock_off": 1e300, "address": None})
    assert odd == Visit("", "", text="x" * checkup.WORDS_CHARACTERS_MAX)


def test_in_a_large_mesh_each_is_visited_as_often_and_nobody_visits_itself():
    names = [f"n{number:03}" for number in range(100)]
    counts = dict.fromkeys(names, 0)
    for name in names:
        for other in checkup.whom(name, names):
            assert other != name
            counts[other] += 1
    assert set(counts.values()) == {VISITS_MAX}
    assert checkup.whom("b", ["a", "b", "c"]) == ["c", "a"]
