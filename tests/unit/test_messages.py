"""The tables of messages: roles and shapes of requests are checked from them, answers are decoded by them, whatever came."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core import fields, messages
from bdserver.core.messages import REQUESTS, check
from bdserver.core.roles import ADMIN, CLIENT, NODE
from bdserver.core.wire import VERSION
from bdserver.errors import BadFrame, BadRequest, Forbidden, NoSuchCommand
from bdserver.processes.answers import ANSWERS


def test_every_request_has_an_answer_at_its_port_and_no_more():
    assert ANSWERS.keys() == {name for name, row in REQUESTS.items() if messages.CALLERS in row.ports}
    assert {name for name, row in REQUESTS.items() if messages.NEWS in row.ports} == {"PING", "PROBE", "SYNCHRONIZE"}
    assert all(row.ports for row in REQUESTS.values())


def test_the_original_requests_are_all_there_but_makeimage():
    looking = {"PING", "STATUS", "WHEREIS", "GIVEYOURSERVICES", "SYNCHRONIZE", "HINT", "KILL"}
    routing = {"WILLYOUEXECUTE", "YOUWILLEXECUTE", "WILLYOUREPLICATE", "GIVESERVICE", "FIND", "MASSMESSAGE"}
    assert looking | routing <= REQUESTS.keys() and "MAKEIMAGE" not in REQUESTS


@pytest.mark.parametrize("message", [None, {}, "PING", [], [1], [None], [["PING"]]])
def test_what_is_no_request_is_an_invalid_format(message):
    with pytest.raises(BadRequest, match="INVALID FORMAT"):
        check(message, ADMIN)


def test_what_is_not_in_the_table_does_not_exist():
    with pytest.raises(NoSuchCommand, match="NO SUCH COMMAND: 'MAKEIMAGE'"):
        check(["MAKEIMAGE"], ADMIN)


def test_the_role_is_checked_before_the_arguments():
    with pytest.raises(Forbidden, match="DRAIN needs the role admin, and the caller's is node"):
        check(["DRAIN", "nonsense", 3], NODE)


@pytest.mark.parametrize(
    "message",
    [
        ["WHEREIS"], ["WHEREIS", "Echo"], ["WHEREIS", "../Echo", None], ["WHEREIS", "Echo", 5], ["WHEREIS", "Echo", None, 1],
        ["WHEREIS", "x" * 101, None], ["WHEREIS", "", None], ["WHEREIS", "-x", None], ["WHEREIS", "Echo", "x" * 65537],
        ["HINT", 5], ["DRAIN", 1], ["PUBLISH", "Echo", []], ["FORGET"], ["KILL", 5],
    ],
)  # fmt: skip
def test_arguments_of_a_wrong_shape_are_an_invalid_request(message):
    with pytest.raises(BadRequest, match=f"INVALID REQUEST: {message[0]}"):
        check(message, ADMIN)


@pytest.mark.parametrize(
    "arguments",
    [
        [{"self": []}, [], ["KILL"]], [{"self": []}, [], ["MASSMESSAGE"]], [{"self": [1]}, [], ["GIVESERVICE", "x"]],
        [[], [], ["GIVESERVICE", "x"]], [{"self": []}, "x", ["GIVESERVICE", "x"]], [{"self": []}, [], []],
    ],
)  # fmt: skip
def test_a_massmessage_carries_a_plan_and_a_request_of_routing(arguments):
    with pytest.raises(BadRequest, match="INVALID REQUEST: MASSMESSAGE"):
        check(["MASSMESSAGE", *arguments], NODE)


@pytest.mark.parametrize(
    ("steps", "is_fine"), [(0, True), (fields.STEPS_MAX, True), (fields.STEPS_MAX + 1, False), (-1, False), (True, False)]
)
def test_find_goes_so_many_steps_and_no_further(steps, is_fine):
    if is_fine:
        assert check(["FIND", "Echo", [], steps], NODE)[1] == ["Echo", [], steps]
    else:
        with pytest.raises(BadRequest, match="steps"):
            check(["FIND", "Echo", [], steps], NODE)


def test_what_a_client_may_ask_is_little():
    allowed = {name for name, row in REQUESTS.items() if CLIENT in row.roles}
    assert allowed == {"PING", "STATUS", "WHEREIS", "GIVEYOURSERVICES", "RENEW", "KILL"}


# --- answers ------------------------------------------------------------------------------------------------------

DETAILS = {"url": "http://h/x", "node": "a", "service": "x", "phase": 1, "asked": [{"node": "a", "answer": "YES", "ms": 1.5}]}
OWN = {
    "address": "h:1", "name": "a", "mesh": "m", "version": [1, 2], "software": "1", "nodes": 1, "weight": 0.0,
    "receiver_threshold": 5, "overloaded": False, "draining": False, "free_dynamic": 1, "uptime": 1.0,
    "certificate_days_left": 3.5, "policy": None, "complaints": [], "warnings": [], "services": {},
}  # fmt: skip
SEEN = {
    "address": "h:1", "name": "a", "status": "alive", "version": [1, 2], "services": ["x"], "types": {"x": "static"},
    "urls": {"x": "http://h/x"}, "free_dynamic": 1, "talkable": True, "draining": False, "heard_at": 0.0,
}  # fmt: skip
PACKAGE = {"bytes": 3, "sha256": "00"}
# One answer of each row, and a request that it answers.
EXAMPLES = [
    ("PING", messages.Error("forbidden", "no")),
    ("PING", messages.Pong("ab")),
    ("PROBE", messages.Pong()),
    ("PROBE", messages.NoPong("refused", "connection refused")),
    ("GIVEYOURSERVICES", messages.Offers(1.5, ["x"], 2)),
    ("STATUS", messages.Status(OWN, [SEEN, SEEN | {"name": None}])),
    ("STATUS", messages.Status(OWN, [["a", "h:1", "alive", [1, 2], True, 0.0]])),
    ("STATUS", messages.Status(OWN, [SEEN], "nodes b")),
    ("WHEREIS", messages.Place("ME", 80, "axis", DETAILS)),
    ("WHEREIS", messages.Nobody(DETAILS)),
    ("WHEREIS", messages.Mismatch(DETAILS)),
    ("WILLYOUEXECUTE", messages.Yes(80, "axis", "http://h/x", {"tickets": 3, "seconds": 1.0})),
    ("WILLYOUEXECUTE", messages.No({"not_before": 0.5})),
    ("YOUWILLEXECUTE", messages.DontHave()),
    ("WILLYOUREPLICATE", messages.NotGiven()),
    ("GIVESERVICE", messages.Package(PACKAGE)),
    ("FIND", messages.Found("a", PACKAGE)),
    ("FIND", messages.Found("a", {"url": "http://h/x"})),
    ("FIND", messages.NotFound(["a", "b"])),
    ("MASSMESSAGE", messages.RelayedYes("h", 80, "axis", "http://h/x", "a")),
    ("MASSMESSAGE", messages.Found("a", PACKAGE)),
    ("MASSMESSAGE", messages.NetFault(["a"], "NO")),
    ("SYNCHRONIZE", messages.Exchanged({"digest": "ab"})),
    ("HINT", messages.Ok()),
    ("PUBLISH", messages.Ok("http://h/x", ["another line"])),
    ("WITHDRAW", messages.Withdrawn(["beta"], ["gamma"])),
    ("STATEMENT", messages.Stated(7, "ab", "7 ab RU", {"weight": 2.0})),
    ("GRAVEYARD", messages.Graveyard(["x"])),
    ("GRAVEYARD", messages.Graveyard(["x"], 7)),
    ("DOCTOR", messages.Checkup("a", [{"key": "disk"}], [{"name": "b"}])),
    ("KILL", messages.Goodbye()),
    ("INVITE", messages.Invited("AXek", "10.0.0.1:9001", 1.5)),
    ("RENEW", messages.Certified("-----BEGIN", "-----BEGIN", [{"said": "{}"}])),
    ("INVITATIONS", messages.Invitations([{"id": "ab"}], 2)),
]


def test_every_type_of_answer_has_an_example_and_answers_some_request():
    assert {type(answer) for _, answer in EXAMPLES} == set(messages.ANSWER_ROWS)
    assert {each for row in REQUESTS.values() for each in row.answers} | {messages.Error} == set(messages.ANSWER_ROWS)


@pytest.mark.parametrize(("command", "answer"), EXAMPLES, ids=[f"{c}-{type(a).__name__}" for c, a in EXAMPLES])
def test_an_answer_is_the_same_at_the_other_end_and_what_a_newer_node_adds_is_passed_over(command, answer):
    said, wish = messages.encoded(answer), [{"brief": True}] if command == "STATUS" else []
    assert messages.decode(command, said, wish) == answer
    if messages.ANSWER_ROWS[type(answer)].fields and len(said) > 1:
        added = [*said, *([0] if command in ("PING", "GRAVEYARD") else []), "new"]
        assert messages.decode(command, added, wish) in (answer, answer._replace(**{answer._fields[-1]: "new"}))


@pytest.mark.parametrize(("command", "answer"), EXAMPLES, ids=[f"{c}-{type(a).__name__}" for c, a in EXAMPLES])
@pytest.mark.parametrize("wrong", [None, 7, [], {}, -1.5, True, [[]], {"bytes": -1, "sha256": "x"}])
def test_a_field_of_a_wrong_shape_is_never_taken_for_that_answer(command, answer, wrong):
    row = messages.ANSWER_ROWS[type(answer)]
    for number, field in enumerate(row.fields):
        if field.is_right(wrong):
            continue
        said = [row.word, *answer[: len(row.fields)]] if row.word else list(answer)
        said[number + bool(row.word)] = wrong
        try:
            assert type(messages.decode(command, said)) is not type(answer)
        except BadFrame as error:
            assert command in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    "said", [["STATUS"], ["STATUS", {}], ["STATUS", {}, []], ["CANTFIND"], ["YES"], [], None, 5, "PONG", [None]]
)
def test_nonsense_is_an_answer_to_nothing_that_has_fields(said):
    for command in REQUESTS:
        if command in ("WILLYOUREPLICATE", "PLACE") and said == ["CANTFIND"]:
            continue
        with pytest.raises(BadFrame, match=f"is no answer to {command}"):
            messages.decode(command, said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.sampled_from(["YES", "NO", "PONG"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from([*OWN, *SEEN, *DETAILS, "bytes", "sha256"]), inner, max_size=8),
    max_leaves=20,
)  # fmt: skip


@given(st.sampled_from(list(REQUESTS)), JSON)
def test_whatever_comes_is_an_answer_of_the_row_or_a_bad_frame(command, said):
    try:
        answer = messages.decode(command, said)
    except BadFrame:
        return
    assert type(answer) in (messages.Error, *REQUESTS[command].answers)
    assert messages.decode(command, messages.encoded(answer)) == answer


def test_a_stream_is_a_column_of_requests_and_of_answers():
    assert [row.name for row in REQUESTS.values() if row.stream] == ["PUBLISH"]
    assert {row.type for row in messages.ANSWER_ROWS.values() if row.stream} == {messages.Package, messages.Found}


def test_nodes_in_brief_are_an_answer_to_a_caller_that_wished_so_and_the_long_form_to_all():
    brief, full = ([row for row in EXAMPLES if isinstance(row[1], messages.Status)][n][1] for n in (1, 0))
    for wish in ((), [{}], [{"brief": False}], [{"of": "a"}]):
        assert messages.decode("STATUS", messages.encoded(full), wish) == full
        with pytest.raises(BadFrame, match="is no answer to STATUS"):
            messages.decode("STATUS", messages.encoded(brief), wish)
    for each in (brief, full):
        assert messages.decode("STATUS", messages.encoded(each), [{"brief": True}]) == each


# --- the opening --------------------------------------------------------------------------------------------------


def test_an_opening_is_the_same_at_the_other_end():
    for opening in (messages.Opening(), messages.Opening(2, 1, 3.5, "digest"), messages.Opening(1, 1, 0, None, "<document/>")):
        message = messages.opened(opening)
        assert messages.is_opening(message) and messages.opening_of(message) == opening


def test_an_opening_without_an_oldest_version_speaks_one_alone():
    assert messages.opening_of(["OPEN", {"version": 2, "colour": "unknown"}]).oldest == 2


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (["OPEN"], "an object"), (["OPEN", []], "an object"), (["OPEN", {}, 1], "an object"), (["OPEN", {}], "version"),
        (["OPEN", {"version": "2"}], "version"), (["OPEN", {"version": 0}], "version"), (["OPEN", {"version": True}], "version"),
        (["OPEN", {"version": 2, "oldest": None}], "oldest"), (["OPEN", {"version": 2, "deadline": -1}], "deadline"),
        (["OPEN", {"version": 2, "deadline": "soon"}], "deadline"), (["OPEN", {"version": 2, "policy": 5}], "policy"),
        (["OPEN", {"version": 2, "policy_text": "x" * 65537}], "policy_text"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_an_opening_is_named(message, named):
    with pytest.raises(BadRequest, match=named):
        messages.opening_of(message)


def test_an_argument_of_a_version_to_come_is_not_known_in_the_one_before(monkeypatch):
    """A stand-in, as long as there is one version: PING with a colour since the next."""
    older, newer = VERSION, VERSION + 1
    row = messages.REQUESTS["PING"]
    row = row._replace(arguments=(fields.Field("colour", lambda value: value == "red", "red", True, newer),))
    monkeypatch.setitem(messages.REQUESTS, "PING", row)
    for version in (older, newer):
        known = {**messages._KNOWN[VERSION], "PING": messages._known(row, version)}
        monkeypatch.setitem(messages._KNOWN, version, known)
    assert messages.check(["PING", "red"], NODE, newer) == (row, ["red"])
    for version in (older, newer):
        assert messages.check(["PING"], NODE, version) == (row, [])
    with pytest.raises(BadRequest, match="colour must be red"):
        messages.check(["PING", "blue"], NODE, newer)
    with pytest.raises(BadRequest, match="takes 0 arguments, not 1"):
        messages.check(["PING", "red"], NODE, older)


@pytest.mark.parametrize("url", ["http://h/ x", "http://h/\nhttp://i/", "http://h/\x1b[31m", 'http://h/"', "x" * 2001])
def test_a_yes_with_a_url_that_is_more_than_one_word_is_no_answer(url):
    details = {"url": url, "node": "a", "service": "Echo", "phase": 1, "asked": []}
    for command, said in (
        ("WILLYOUEXECUTE", ["YES", 80, "axis", url]),
        ("WILLYOUEXECUTE", ["YES", 80, url, "http://h/"]),
        ("FIND", ["YES", "a", {"url": url}]),
        ("WHEREIS", ["ME", 80, "axis", details]),
    ):
        with pytest.raises(BadFrame):
            messages.decode(command, said)
        assert messages.decode(command, json.loads(json.dumps(said).replace(json.dumps(url), '"http://h/x"')))
