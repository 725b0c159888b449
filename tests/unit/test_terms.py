"""The terms of a conversation, by what its opening says."""

import pytest

from bdserver.core.policies import Policies
from bdserver.core.policy import digest, parse
from bdserver.errors import BadPolicy, BadRequest, PolicyMismatch, PolicyUnknown
from bdserver.processes.terms import Terms
from tests.unit.peers import StandIn

ONE, OTHER = (
    f'<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:x="urn:x"><x:{name}/></wsp:Policy>' for name in "AB"
)


@pytest.fixture
def node(tmp_path):
    node = StandIn(tmp_path, request_timeout=7)
    node.rules = node.rules._replace(policies=Policies(parse(ONE, "ours"), "strict"))
    yield node
    node.close()


def test_without_an_opening_a_request_has_the_time_of_the_settings_and_no_policy_to_refuse(node):
    assert Terms(node).seconds == 7.0
    Terms(node).check()


def test_a_policy_by_its_text_or_by_a_digest_that_is_known(node):
    terms = Terms(node)
    terms.take(["OPEN", {"version": 1, "policy": digest(ONE), "deadline": 3}], "n1")
    with pytest.raises(PolicyUnknown):
        terms.check()
    terms.take(["OPEN", {"version": 1, "policy_text": ONE}], "n1")
    terms.check()
    with node.cache.locked() as view:
        view.learn_policy(digest(ONE), ONE)
    terms.take(["OPEN", {"version": 1, "policy": digest(ONE)}], "n1")
    terms.check()
    assert terms.seconds == 3.0


@pytest.mark.parametrize(
    ("opening", "error"),
    [
        ({"version": 1, "policy_text": OTHER}, PolicyMismatch),
        ({"version": 1, "policy_text": "<"}, BadPolicy),
        ({"version": 99, "oldest": 99}, BadRequest),
        ({}, BadRequest),
        ({"version": 1, "deadline": -1}, BadRequest),
    ],
)
def test_what_is_wrong_with_an_opening_is_told_until_the_next_one(node, opening, error):
    terms = Terms(node)
    terms.take(["OPEN", opening], "n1")
    for _ in range(2):
        with pytest.raises(error):
            terms.check()
    terms.take(["OPEN", {"version": 1, "policy_text": ONE}], "n1")
    terms.check()


def test_a_policy_is_parsed_once_as_long_as_it_is_the_same_and_each_that_is_broken_counts(node):
    terms, of_ours = Terms(node), ["OPEN", {"version": 1, "policy_text": ONE}]
    for opening in (of_ours, of_ours, ["OPEN", {"version": 1}], of_ours, of_ours):
        terms.take(opening, "n1")
        terms.check()
    assert terms.parsed == 2
    for _ in range(2):
        terms.take(["OPEN", {"version": 1, "policy_text": "<"}], "n1")
    assert terms.parsed == 4
