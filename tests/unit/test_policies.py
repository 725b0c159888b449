"""Which nodes may talk, by the texts of the policies in a view."""

import pytest

from bdserver.core import policy
from bdserver.core.membership import POLICIES_MAX
from bdserver.core.policies import UNKNOWN, Policies
from bdserver.errors import TooLarge
from tests.unit.nodes import COSTLY, a_node, document


@pytest.fixture
def view(tmp_path):
    """The view of `me`, with nodes that ask for nothing, for A, for B, for what is not known by its text, for what is none."""
    node = a_node(tmp_path)
    for name, text in (("none", ""), ("a", document("A")), ("b", document("B")), ("unknown", document("C"))):
        node.knows(a_node(tmp_path, name, policy=text))
    view = node.cache.view().copy()
    del view.policies[policy.digest(document("C"))]
    view.put(view.records["none"]._replace(name="broken", policy="broken"))
    view.policies["broken"] = "<Policy"
    return view


def parsed(*assertions):
    return policy.parse(document(*assertions))


def talkable(policies, view):
    return {name for name, record in view.records.items() if policies.talkable(view, record)}


def test_a_policy_of_a_record_is_known_by_its_text(view):
    policies = Policies(None, "lax")
    assert policies.of(view, view.records["none"]) is None
    assert policies.of(view, view.records["a"]) == parsed("A")
    assert policies.of(view, view.records["unknown"]) is policies.of(view, view.records["broken"]) is UNKNOWN


def test_without_a_policy_all_may_be_called_and_with_one_those_that_meet_it_and_those_that_nobody_knows(view):
    assert talkable(Policies(None, "lax"), view) == view.records.keys()
    assert talkable(Policies(parsed("A"), "lax"), view) == {"me", "none", "a", "unknown", "broken"}


def test_two_others_meet_as_far_as_both_are_known(view):
    policies, records = Policies(parsed("X"), "lax"), view.records
    assert policies.can_talk(view, records["a"], records["none"]) and policies.can_talk(view, records["a"], records["a"])
    for other in ("b", "unknown", "broken"):
        assert not policies.can_talk(view, records["a"], records[other])
        assert not policies.can_talk(view, records[other], records["a"])


def test_two_are_apart_when_it_is_known_that_they_do_not_meet(view, monkeypatch):
    policies = Policies(None, "lax")
    assert policies.are_apart(view, "a", "b") and not policies.are_apart(view, "a", "none")
    for other in ("unknown", "broken", "a"):
        assert not policies.are_apart(view, "a", other) and not policies.are_apart(view, other, "a")

    def costly(*_):
        raise TooLarge("it takes too long")

    monkeypatch.setattr(policy, "can_talk", costly)
    assert not policies.are_apart(view, "a", "b")


def test_a_client_is_named_nodes_that_meet_its_policy_and_are_known(view):
    policies = Policies(parsed("X"), "lax")
    assert [name for name in view.records if policies.suits(view, parsed("A"), view.records[name])] == ["me", "none", "a"]
    assert {name for name in view.records if policies.suits(view, None, view.records[name])} == {"me", "none", "a", "b"}


def test_a_caller_meets_us_or_not():
    policies = Policies(parsed("A"), "lax")
    assert policies.meets_ours(None) and policies.meets_ours(parsed("A")) and not policies.meets_ours(parsed("B"))


def test_the_mode_counts():
    ignorable = policy.parse(
        document("A").replace("<t:A/>", '<t:A xmlns:w="http://www.w3.org/ns/ws-policy" w:Ignorable="true"/>')
    )
    assert Policies(ignorable, "lax").meets_ours(parsed()) and not Policies(ignorable, "strict").meets_ours(parsed())


def test_a_text_is_parsed_once_and_not_kept_for_ever(monkeypatch):
    parses, any_policy = [], parsed("A")
    monkeypatch.setattr(policy, "parse", lambda text: parses.append(text) or any_policy)
    policies = Policies(None, "lax")
    for _ in range(2):
        for number in range(POLICIES_MAX):
            policies.parse(str(number), "text")
    assert len(parses) == POLICIES_MAX
    for number in range(POLICIES_MAX, POLICIES_MAX + 5):
        policies.parse(str(number), "text")
    assert len(policies._parsed) < 10


def test_what_another_process_has_parsed_is_not_kept_for_ever():
    policies, any_policy = Policies(None, "lax"), parsed("A")
    policies.take({str(number): any_policy for number in range(POLICIES_MAX)})
    policies.take({"one more": any_policy})  # still room for one
    assert len(policies._parsed) == POLICIES_MAX + 1
    policies.take({"the next": any_policy})
    assert list(policies._parsed) == ["the next"]


def test_what_takes_too_long_to_compare_does_not_meet_and_a_caller_hears_why(tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "STEPS_MAX", 80_000)
    node = a_node(tmp_path).knows(a_node(tmp_path, "few", policy=COSTLY[0]), a_node(tmp_path, "many", policy=COSTLY[1]))
    view, ours = node.cache.view(), policy.parse(COSTLY[0])
    few, many = view.records["few"], view.records["many"]
    policies = Policies(ours, "lax")
    assert not policies.can_talk(view, few, many) and not policies.talkable(view, many) and not policies.suits(view, ours, many)
    assert policies.talkable(view, few)
    with pytest.raises(TooLarge, match="more than 80000 steps"):
        Policies(policy.parse(COSTLY[1]), "lax").meets_ours(ours)


def test_what_takes_too_long_to_compare_is_compared_once(monkeypatch):
    ours, theirs = (policy.parse(text.replace("t:a", "t:once")) for text in COSTLY)
    monkeypatch.setattr(policy, "STEPS_MAX", 1000)
    for _ in range(2):
        with pytest.raises(TooLarge, match="more than 1000 steps"):
            Policies(ours, "lax").meets_ours(theirs)
        monkeypatch.setattr(policy, "_compatible_pairs", None)
