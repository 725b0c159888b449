"""Tokens as people carry them, invitations as signers keep them, and who is let in by which; the joiner's conversation."""

import os

import pytest

from bdserver.core import joining
from bdserver.core.joining import Admission, Invitation, Joined, Welcome, Wish, read_token
from bdserver.core.roles import NODE, Role
from bdserver.errors import BadRequest, Forbidden

ROOT = b"a CA's certificate"
NOW = 1000.0
SECRET = bytes(16)
OPEN = Invitation("id", joining.hash_of(SECRET), "", NODE, 1, NOW - 10, NOW + 600, "ann")


def test_a_token_is_one_word_that_no_shell_takes_apart_or_for_an_option():
    for _ in range(200):
        token = joining.make_token(ROOT, "alpha", os.urandom)
        text = token.text()
        assert len(text) == 60 and text[0] == "A" and text.replace("-", "").replace("_", "").isalnum()
        assert read_token(text) == token
    assert token.is_of(ROOT) and not token.is_of(b"another") and token.is_by("alpha") and not token.is_by("beta")


def test_a_token_that_lacks_a_letter_or_has_another_one_is_none():
    text = joining.make_token(ROOT, "alpha", lambda count: bytes(count)).text()
    others = [text[:at] + ("B" if text[at] != "B" else "C") + text[at + 1 :] for at in range(60)]
    wrong = 0
    for each in (text[:-1], text + "A", "", "ä" * 60, "~" * 60, *others):
        try:
            read_token(each)
        except BadRequest:
            wrong += 1
    assert wrong >= 64, "of 65, one in 256 that is misread passes"


@pytest.mark.parametrize(
    ("changes", "name", "key", "why"),
    [
        ({}, "beta", "k", None),
        ({"name": "beta"}, "beta", "k", None),
        ({"name": "beta"}, "gamma", "k", "the token is for beta, not for gamma"),
        ({"until": NOW - 5}, "beta", "k", "the token has ended 5 s ago"),
        ({"until": NOW - 300}, "beta", "k", "the token has ended 5 min ago"),
        ({"until": NOW - 8000}, "beta", "k", "the token has ended 2 h ago"),
        ({"wrong": 10}, "beta", "k", "the token is closed, since 10 wrong secrets were tried for it"),
        ({"joined": (Joined("gamma", "g", NOW),)}, "beta", "k", "the token was used already (by gamma)"),
        ({"joined": (Joined("gamma", "g", NOW),), "uses": 2}, "beta", "k", None),
        ({"joined": (Joined("beta", "k", NOW),), "until": NOW - 5}, "beta", "k", None),
        ({"joined": (Joined("beta", "k", NOW),)}, "beta", "another", "the token was used already (by beta)"),
    ],
)
def test_who_is_let_in_by_an_invitation(changes, name, key, why):
    assert joining.refusal(OPEN._replace(**changes), name, key, NOW) == why


def test_what_is_wrong_is_told_to_nobody_who_does_not_know_the_secret():
    over = OPEN._replace(until=NOW - 5)
    for invitation, secret in ((None, SECRET), (OPEN, b"x" * 16), (over, b"x" * 16)):
        with pytest.raises(Forbidden, match="the token is not known here"):
            joining.checked(invitation, secret, "beta", "k", NOW)
    with pytest.raises(Forbidden, match="has ended 5 s ago: bdctl invite prints another line"):
        joining.checked(over, SECRET, "beta", "k", NOW)
    assert joining.checked(OPEN, SECRET, "beta", "k", NOW) is OPEN


@pytest.mark.parametrize(
    ("name", "known", "is_alive", "given_at", "why"),
    [
        ("", set(), False, 0.0, None),
        ("", {"k"}, True, 0.0, None),
        ("", {"other"}, True, 0.0, "the name beta is taken, by a node at h:1: choose another one with --name"),
        ("beta", {"other"}, True, 0.0, "the name beta is taken, by a node at h:1: choose another one with --name"),
        ("beta", {"other"}, False, 0.0, None),
        ("beta", {"other"}, False, NOW - 5, "the name beta is taken, by a node at h:1: choose another one with --name"),
        ("", {"other"}, False, 0.0, "the name beta was had before, by a node at h:1: if this is that host, invite it by its name"
         " (bdctl invite beta)"),
    ],
)  # fmt: skip
def test_who_gets_a_name(name, known, is_alive, given_at, why):
    said = joining.name_refusal(OPEN._replace(name=name), "beta", "k", known, is_alive, given_at, "a node at h:1")
    assert said == why


def test_an_invitation_is_kept_whole_and_told_without_its_hash():
    kept = OPEN._replace(joined=(Joined("beta", "k", NOW),), wrong=2)
    assert joining.invitation_of(kept.as_json()) == kept
    told = kept.told(NOW)
    assert "hash" not in told and told["joined"] == ["beta"] and told["state"] == "used"
    assert [each.state(NOW) for each in (OPEN, OPEN._replace(until=1.0), OPEN._replace(wrong=10))] == [
        "open", "ended", "closed: guessed at"]  # fmt: skip
    assert not OPEN.is_over(NOW) and OPEN.is_over(NOW + 601) and kept.is_over(NOW) and OPEN._replace(wrong=10).is_over(NOW)
    for broken in ({}, {**OPEN.as_json(), "role": "king"}, {**OPEN.as_json(), "joined": [1]}):
        with pytest.raises((KeyError, ValueError, TypeError)):
            joining.invitation_of(broken)


MESSAGES = [
    (Welcome("alpha", "home", "PEM", 1.5, "192.0.2.7"), joining.heard_welcome),
    (Wish("ab" * 5, "cd" * 16, "PEM"), joining.heard_wish),
    (Admission("PEM", "PEM", ["h:1"]), joining.heard_admission),
]


@pytest.mark.parametrize(("message", "heard"), MESSAGES)
def test_what_is_said_is_heard_and_nothing_else(message, heard):
    said = joining.said(message)
    assert heard(said) == message
    assert heard([said[0], {**said[1], "more": 1}]) == message, "a newer node says more"
    wrong = [None, [], ["WELCOME"], [said[0], 5], ["OTHER", said[1]], [*said, 1]]
    for field in said[1]:
        wrong += [[said[0], {**said[1], field: value}] for value in (None, {}, b"x")]
        wrong.append([said[0], {key: value for key, value in said[1].items() if key != field}])
    for each in wrong:
        with pytest.raises(BadRequest, match="has a wrong shape"):
            heard(each)


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        (joining.heard_wish, Wish("ab", "cd" * 16, "PEM")),
        (joining.heard_wish, Wish("ab" * 5, "cd", "PEM")),
        (joining.heard_wish, Wish("ab" * 5, "cd" * 16, "x" * 20000)),
        (joining.heard_welcome, Welcome("a b", "home", "", 1.5, "")),
        (joining.heard_welcome, Welcome("alpha", "", "", 1.5, "")),
        (joining.heard_admission, Admission("", "", [5])),
    ],
)
def test_texts_have_their_lengths_and_names_are_names(heard, said):
    with pytest.raises(BadRequest, match="has a wrong shape"):
        heard(joining.said(said))


def test_an_invitation_is_wished_within_bounds():
    assert joining.wished({}) == ("", NODE, 1, 600.0)
    assert joining.wished({"name": "ann", "role": "admin", "uses": 1, "seconds": 5}) == ("ann", Role.ADMIN, 1, 5.0)
    for wrong in (
        {"name": "a b"}, {"name": 5}, {"role": "king"}, {"uses": 0}, {"uses": 1001}, {"uses": True}, {"seconds": 0},
        {"seconds": 1e9}, {"seconds": "x"}, {"name": "beta", "uses": 2},
    ):  # fmt: skip
        with pytest.raises(BadRequest, match="INVALID REQUEST"):
            joining.wished(wrong)


@pytest.mark.parametrize("field", ["until", "made_at", "uses", "wrong"])
@pytest.mark.parametrize("value", ["1", None, [], True, float("nan"), float("inf")])
def test_an_invitation_whose_numbers_are_none_is_none(field, value):
    kept = joining.Invitation("a", "hash", "", Role("node"), 1, 1.0, 2.0, "ann").as_json()
    assert joining.invitation_of(kept).until == 2.0
    with pytest.raises(ValueError, match="number"):
        joining.invitation_of(kept | {field: value})
