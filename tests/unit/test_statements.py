"""Signed statements about certificates: their shapes and sizes, who is revoked by them, and that views merge them as sets."""

import json
from random import Random

import pytest

from bdserver.core import exchange, statements
from bdserver.core.membership import Record
from bdserver.core.statements import NAME, SERIAL, SIGNER, Holder, Revocation, Revocations, Roll, Statement
from bdserver.core.view import View
from bdserver.errors import BadRequest
from tests.exchanges import synchronise

NOW = 1_000_000.0
DAY = 86400.0


def revoked(what=NAME, value="beta", at=NOW, until=NOW + 90 * DAY):
    return Statement(Revocation(what, value, at, until).text(), "sig", "cert")


def test_what_is_said_is_read_as_it_was_meant():
    for said in (Revocation(NAME, "beta", NOW, NOW + 5, "stolen"), Roll("QQ==", ("Qg==",), NOW, NOW + 5)):
        statement = Statement(said.text(), "s", "c")
        assert statements.meaning(statement) == said
        assert statements.from_json(statement.as_json()) == statement
    assert statements.meaning(revoked(SERIAL, "00AB")).value == "ab"
    assert revoked().characters == len(revoked().said) + 7


@pytest.mark.parametrize("value", [None, 5, {}, {"said": "x"}, {"said": "x" * 20000, "signature": "", "certificate": ""},
                                   {"said": 5, "signature": "", "certificate": ""}])  # fmt: skip
def test_what_is_no_statement_is_refused(value):
    with pytest.raises(BadRequest, match="three texts"):
        statements.from_json(value)


GOOD = {"kind": "revoke", "what": "name", "value": "beta", "at": NOW, "until": NOW + 5}
ROLL = {"kind": "roll", "authority": "QQ==", "signers": [], "at": NOW, "until": NOW + 5}


@pytest.mark.parametrize(
    "said",
    [
        "no JSON", "[]", "[" * 1000,
        *[json.dumps({**GOOD, **changes}) for changes in (
            {"kind": "other"}, {"what": "colour"}, {"value": "a b"}, {"value": 5}, {"why": 5}, {"why": "x" * 201}, {"at": "x"},
            {"at": -1}, {"at": True}, {"until": NOW - 1}, {"until": 1e300}, {"what": "serial", "value": "xyz"},
            {"what": "serial", "value": "0"}, {"what": "serial", "value": "f" * 50})],
        *[json.dumps({**ROLL, **changes}) for changes in (
            {"authority": 5}, {"signers": "x"}, {"signers": ["x"] * 17}, {"signers": [5]}, {"authority": "x" * 5000})],
        json.dumps({key: value for key, value in GOOD.items() if key != "value"}),
    ],
)  # fmt: skip
def test_a_statement_that_makes_no_sense_is_refused_in_one_line(said):
    with pytest.raises(BadRequest, match="^a statement that cannot be read: [^\n]*$"):
        statements.meaning(Statement(said, "", ""))


def test_a_statement_has_its_time():
    assert statements.untimely(revoked(), NOW) is None
    assert statements.untimely(revoked(), NOW + 91 * DAY) == "its time is over"
    assert statements.untimely(revoked(at=NOW + 2 * DAY), NOW) == "it is of the day after tomorrow"


def test_there_is_room_for_so_many_and_no_more():
    few = {str(number): revoked(value=f"n{number}") for number in range(statements.STATEMENTS_MAX)}
    assert not statements.has_room(few, revoked()) and statements.has_room({}, revoked())
    large = {str(number): Statement("x" * 16000, "", "") for number in range(66)}
    assert not statements.has_room(large, revoked())


BETA = Holder("beta", 0xAB, NOW - 100, "alpha", 0xCD, NOW - 1000)


@pytest.mark.parametrize(
    ("statement", "holder", "is_revoked"),
    [
        (revoked(), BETA, True),
        (revoked(), BETA._replace(name="gamma"), False),
        (revoked(), BETA._replace(begins=NOW + 1), False),
        (revoked(at=NOW + 5), BETA, False),
        (revoked(SERIAL, "ab"), BETA, True),
        (revoked(SERIAL, "cd"), BETA, True),
        (revoked(SERIAL, "ef"), BETA, False),
        (revoked(SIGNER, "alpha"), BETA, True),
        (revoked(SIGNER, "alpha"), BETA._replace(signer_begins=NOW + 1), False),
        (revoked(SIGNER, "alpha"), BETA._replace(signer="omega"), False),
        (revoked(NAME, "alpha"), BETA, False),
    ],
)
def test_who_is_revoked(statement, holder, is_revoked):
    assert bool(Revocations([statement]).of(holder, NOW)) is is_revoked


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("what", "value"), [(NAME, "beta"), (SIGNER, "alpha"), (SERIAL, "ab")])
def test_what_is_told_in_advance_takes_nothing_from_what_counts_already(what, value, order):
    """Somebody plans, and then it is urgent; or what is revoked is planned once more."""
    at_once, planned = revoked(what, value, NOW - 5), revoked(what, value, NOW + 600)
    said = Revocations([at_once, planned][::order])
    assert said.of(BETA, NOW).at == NOW - 5 and said.of(BETA, NOW + 600).at == NOW + 600
    assert said.ends_at(BETA) == (NOW - 5 if what != SERIAL else float("inf"))
    assert [each.at for each in said.all(NOW)] == [NOW + 600, NOW - 5]
    assert [each.at for each in said.all(NOW + 600)] == [NOW + 600]


def test_the_last_word_on_a_name_counts_and_what_is_coming_is_known():
    said = Revocations([revoked(at=NOW - 5), revoked(at=NOW), revoked(at=NOW - 9), revoked(SIGNER, "alpha", NOW + 600)])
    assert said.name_at("beta") == NOW and said.name_at("other") == 0.0
    assert [each.at for each in said.all(NOW)] == [NOW + 600, NOW]
    assert said.ends_at(BETA._replace(name="x")) == NOW + 600 and said.ends_at(Holder("x", 1, 0.0)) == float("inf")
    rolls = [Statement(Roll("QQ==", (), at, at + 5).text(), "", "") for at in (NOW + 5, NOW)]
    assert [each.at for each in Revocations(rolls).rolls] == [NOW, NOW + 5]


def a_view(name="me"):
    view = View(name)
    view.start(Record(name, f"{name}:1", (0, 0)), NOW)
    return view


def test_a_view_takes_a_statement_once_and_forgets_it_when_its_time_is_over():
    view = a_view()
    assert view.revocations.of(BETA, NOW) is None
    assert view.state(revoked(), NOW) and not view.state(revoked(), NOW) and view.revocations.of(BETA, NOW)
    assert not view.state(revoked(until=NOW), NOW + 1)
    twin = view.copy()
    twin.unstate(revoked().id)
    twin.unstate(revoked().id)
    assert twin.revocations.of(BETA, NOW) is None and view.revocations.of(BETA, NOW)
    assert not view.expire(NOW + DAY) and view.expire(NOW + 91 * DAY) and not view.statements


def test_our_record_said_once_more_is_news():
    view = a_view()
    before = view.own.version
    view.repeat(NOW)
    assert view.own.version > before


def believe(record, certificate):
    return None


def absorb(view, said, vouch=lambda statement: None):
    return exchange.absorb(view, exchange.checked(said), NOW, "other", believe, vouch=vouch)


def test_statements_ride_on_news_while_they_are_young():
    view = a_view()
    view.state(revoked(), NOW)
    assert len(exchange.push(view, ["me"], None, NOW + 59)["statements"]) == 1
    assert "statements" not in exchange.push(view, ["me"], None, NOW + 61)
    other = a_view("other")
    absorb(other, exchange.push(view, ["me"], None, NOW))
    assert other.statements == view.statements


@pytest.mark.parametrize("seed", range(20))
def test_two_views_have_the_same_statements_after_a_conversation(seed):
    rng, mine, theirs = Random(seed), a_view(), a_view("other")
    for number in range(rng.randrange(6)):
        rng.choice([mine, theirs]).state(revoked(value=f"n{number}"), NOW)
    both = {**mine.statements, **theirs.statements}

    def turn(say):
        assert exchange.has_news(say) or not say.get("statements")
        if exchange.has_news(say):
            exchange.absorb(theirs, exchange.checked(say), NOW, "me", believe, vouch=lambda statement: None)
        return exchange.respond(theirs, say)

    synchronise(lambda: mine, lambda said: absorb(mine, said).answer, turn)
    assert mine.statements == theirs.statements == both, f"seed {seed}"


def test_views_with_the_same_statements_say_only_a_digest():
    mine, theirs = a_view(), a_view("other")
    for view in (mine, theirs):
        view.state(revoked(), NOW)
    answer = exchange.respond(theirs, exchange.opening(mine))
    assert "statements" not in answer and "stated" not in answer


def test_what_is_not_believed_is_left_out_and_said():
    view = a_view()
    said = {"statements": [revoked().as_json(), {"said": 5}, Statement("x", "", "").as_json()]}
    absorbed = absorb(view, said, lambda statement: "its signature does not fit")
    assert not view.statements and len(absorbed.refused) == 3 and "does not fit" in absorbed.refused[0]
    assert absorb(view, {"statements": [revoked(until=NOW - 1, at=NOW - 2).as_json()]}).refused
    assert exchange.absorb(view, said, NOW, "other", believe).refused, "nobody who can't prove it believes it"
    absorb(view, {"statements": [revoked().as_json()]})
    assert absorb(view, {"statements": [revoked().as_json()]}, lambda statement: "no").refused == []


def test_no_message_carries_more_than_there_is_room_for():
    view = a_view()
    for number in range(60):
        view.state(Statement(json.dumps({**GOOD, "value": f"n{number}", "x": "y" * 15000}), "", ""), NOW)
    told = exchange.respond(view, {"stated": "other"})["statements"]
    assert 1 <= len(told) < 60 and sum(len(each["said"]) for each in told) <= exchange.STATEMENTS_BYTES_MAX
