"""How far a roll of the CA is, and which step may come next."""

from bdserver.core.rolling import DROP_SHARE, SIGN_SHARE, Sight, stage

LIFE, AGE = 1000.0, 1000.0 * DROP_SHARE
OLD, TRUSTING, UNDER = (False, False), (True, False), (True, True)


def node(name, state, signs=None):
    return Sight(name, *state, signs)


def test_nobody_signs_by_the_new_ca_before_all_that_are_known_believe_it_and_some_days_are_over():
    assert not stage([node("a", TRUSTING, signs=False), node("b", OLD)], AGE, LIFE).may_sign
    assert stage([node("a", TRUSTING, signs=False), node("b", TRUSTING)], AGE, LIFE).may_sign
    assert not stage([node("a", TRUSTING, signs=False)], SIGN_SHARE * LIFE - 1, LIFE).may_sign, "some may be switched off"
    assert stage([node("a", UNDER), node("b", (False, True))], AGE, LIFE).may_sign, "whose certificate is by it believes it"


def test_the_old_ca_is_dropped_when_nobodys_certificate_is_by_it():
    all_under = [node("a", UNDER, signs=True), node("b", UNDER)]
    assert stage(all_under, AGE, LIFE).may_drop
    assert not stage(all_under, AGE - 1, LIFE).may_drop, "some may be switched off"
    assert not stage([*all_under, node("c", TRUSTING)], AGE, LIFE).may_drop, "a dead one may come back"
    assert not stage([*all_under, node("c", UNDER, signs=False)], AGE, LIFE).may_drop, "it would sign by the old one"


def test_a_person_sees_how_far_it_is_and_for_whom_it_waits():
    first = stage([node("a", TRUSTING, signs=False), node("b", OLD), node("c", TRUSTING)], 0, LIFE)
    assert first.words() == ("2 of 3 nodes trust it, 0 of 1 signers sign by it, 0 of 3 certificates are by it; waits for b")
    second = stage([node("a", UNDER, signs=True), node("b", TRUSTING)], 0, LIFE)
    assert second.waits_for == ("b",) and (second.renewed, second.signing) == (1, 1)
    pausing = stage([node("a", TRUSTING, signs=False), node("b", TRUSTING)], 0, 90 * 86400.0)
    assert pausing.waits_for == () and pausing.words().endswith(
        "; the next step is in 3.0 d, since hosts that are switched off may come back"
    )
    assert stage([node("a", TRUSTING, signs=False)], SIGN_SHARE * LIFE, LIFE).waits_for == ("a",)
    dropping = stage([node("a", UNDER, signs=True)], AGE - 30, LIFE)
    assert dropping.waits_for == () and "the next step is in 30.0 s" in dropping.words()
    over = stage([node("a", UNDER, signs=True)], AGE, LIFE)
    assert over.waits_for == () and over.words().endswith("1 of 1 certificates are by it")
    many = stage([node(f"n{number}", OLD) for number in range(9)], 0, LIFE)
    assert len(many.waits_for) == 5
