"""The table of requests: roles and shapes are checked from it, before anything is answered."""

import pytest

from bdserver.core import requests
from bdserver.core.requests import ADMIN, CLIENT, NODE, REQUESTS, check
from bdserver.errors import BadRequest, Forbidden, NoSuchCommand
from bdserver.processes.answers import ANSWERS


def test_every_request_has_an_answer_and_no_more():
    assert ANSWERS.keys() == REQUESTS.keys()


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
    ("steps", "is_fine"), [(0, True), (requests.STEPS_MAX, True), (requests.STEPS_MAX + 1, False), (-1, False), (True, False)]
)
def test_find_goes_so_many_steps_and_no_further(steps, is_fine):
    if is_fine:
        assert check(["FIND", "Echo", [], steps], NODE)[1] == ["Echo", [], steps]
    else:
        with pytest.raises(BadRequest, match="steps"):
            check(["FIND", "Echo", [], steps], NODE)


def test_what_a_client_may_ask_is_little():
    allowed = {name for name, row in REQUESTS.items() if CLIENT in row.roles}
    assert allowed == {"PING", "STATUS", "WHEREIS", "GIVEYOURSERVICES", "KILL"}
