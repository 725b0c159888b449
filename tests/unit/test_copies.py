"""Whose a copy is, which edition counts, and what becomes of it: each rule alone."""

import pytest

from bdserver.core import copies
from bdserver.core.copies import Go, Raise, Renew, Rivals, Standing
from bdserver.core.membership import COUNTER_MAX, DEAD, LEFT, NO_EDITION, Edition, Withdrawal
from tests.unit.offers import NAME, a_copy, holds, original, seen, withdrew

E1, E2, E3 = Edition(1, "d1"), Edition(2, "d2"), Edition(3, "d3")


# --- how a copy stands ----------------------------------------------------------------------------------------------


def standing(view, edition=E1, of="a"):
    return copies.standing(view, NAME, a_copy(of, *edition))


@pytest.mark.parametrize(
    ("told", "is_stale"), [(E1, False), (E2, True), (Edition(1, "other"), True), (Edition(0, "d0"), False), (NO_EDITION, False)]
)
def test_a_copy_follows_its_original_unless_that_has_fallen_back(told, is_stale):
    view = seen(holds("a", original(*told)))
    assert standing(view) == Standing("a", told, is_stale)
    assert (
        copies.is_stale(seen(holds("a", original(*told)), holds("b", a_copy("a"))), NAME, holds("b", a_copy("a"))) == is_stale
    )


@pytest.mark.parametrize("counter", [1, 7])
def test_a_copy_of_what_was_withdrawn_goes(counter):
    for status in ("alive", "suspect", "dead", "left"):
        view = seen(withdrew("a", counter, status=status))
        assert standing(view) == Standing("a", E1, is_withdrawn=True)
        assert copies.to_withdraw(view, NAME, a_copy("a")) == Go(NAME, "withdrawn", "a has withdrawn it")
        assert not copies.may_serve(view, NAME, a_copy("a"))


def test_a_withdrawal_does_not_count_for_a_later_edition_nor_where_the_original_is_back():
    assert standing(seen(withdrew("a", 1)), E2) == Standing("a", E2, is_orphan=True)
    assert standing(seen(withdrew("a", 1, original(*E2)))) == Standing("a", E2, is_stale=True)


def test_a_withdrawal_counts_where_the_name_is_a_url_alone_since_then():
    for status in ("alive", "dead"):
        view = seen(withdrew("a", 1, original(*NO_EDITION), status=status))
        assert standing(view).is_withdrawn and not copies.may_serve(view, NAME, a_copy("a")) and not believed(view)
        assert standing(view, E2) == Standing("a", NO_EDITION if status == "alive" else E2, is_orphan=status == "dead")


@pytest.mark.parametrize("gone", [[], [holds("a")], [holds("a", a_copy("x"))], [holds("a", a_copy("a"))]])
def test_a_copy_whose_original_went_without_a_word_is_an_orphan_and_stays(gone):
    view = seen(*gone, holds("x", original(*E3)))
    assert standing(view) == Standing("a", E1, is_orphan=True)
    assert copies.to_withdraw(view, NAME, a_copy("a")) is None and copies.to_renew(view, NAME, a_copy("a")) is None
    assert copies.may_serve(view, NAME, a_copy("a"))


@pytest.mark.parametrize("status", [DEAD, LEFT])
def test_what_a_dead_originals_node_said_last_is_the_truth(status):
    dead = holds("a", original(*E2), status=status)
    assert standing(seen(dead), E2) == Standing("a", E2, is_orphan=True)
    assert standing(seen(dead), E1) == Standing("a", E1, is_stale=True, is_orphan=True)  # nobody has it, so this one serves on
    assert copies.may_serve(seen(dead), NAME, a_copy("a")) and copies.to_renew(seen(dead), NAME, a_copy("a")) is None
    assert standing(seen(dead), E3) == Standing("a", E3, is_orphan=True)
    with_one = seen(dead, holds("b", a_copy("a", *E2)), holds("liar", a_copy("a", *E3)))
    assert standing(with_one) == Standing("a", E2, is_stale=True, is_orphan=True)
    assert copies.to_renew(with_one, NAME, a_copy("a")) == Renew(NAME, "a", E2) and not copies.may_serve(
        with_one, NAME, a_copy("a")
    )


def test_orphans_become_the_newest_edition_that_is_left_among_them():
    for a in ([], [holds("a")], [holds("a", original(*E3), status=DEAD)]):
        view = seen(*a, holds("b", a_copy("a", *E2)), holds("x", a_copy("other", *E3)))
        assert standing(view) == Standing("a", E2, is_stale=True, is_orphan=True)
        assert copies.to_renew(view, NAME, a_copy("a")) == Renew(NAME, "a", E2)
        assert standing(view, E2).newest == E2


def test_the_others_follow_whoever_has_adopted_it_since():
    view = seen(
        holds("a"), holds("b", original(*E2, after="a")), holds("c", original(*E3, after="a")), holds("x", original(*E3))
    )
    assert standing(view) == Standing("c", E3, is_stale=True)
    assert copies.to_renew(view, NAME, a_copy("a")) == Renew(NAME, "c", E3)
    assert standing(view, E3) == Standing("a", E3, is_orphan=True)  # none of them is above it
    view.merge(
        holds(
            "a",
            original(*E1),
        )._replace(version=(2, 0)),
        0,
    )  # it is back, and had never withdrawn
    assert standing(view) == Standing("a", E1)


def test_who_follows_a_node_that_has_adopted_it_follows_on_when_it_is_adopted_from_there():
    gone = holds("b", original(*E2, after="a"), status=DEAD)
    c = holds("c", original(*E3, after="b"))
    assert standing(seen(gone, c)) == Standing("c", E3, is_stale=True)  # it slept while b had it
    assert standing(seen(gone, c), of="b") == Standing("c", E3, is_stale=True)
    assert standing(seen(holds("b"), c)) == Standing("a", E1, is_orphan=True)  # nobody knows that b ever had it
    around = holds("a", original(*E3, after="b"), status=DEAD)
    assert standing(seen(gone, around)) == Standing("a", E1, is_stale=True, is_orphan=True)  # none of the two lives


def test_whose_copies_were_left_behind():
    orphan, older = holds("b", a_copy("a", *E2)), holds("c", a_copy("gone", *E1))
    assert copies.left_behind(seen(holds("me", original(*E3)), orphan, older), NAME) == "a"
    assert copies.left_behind(seen(holds("a", original(*E2)), orphan), NAME) == ""
    assert copies.left_behind(seen(holds("d", original(*E3, after="a")), orphan), NAME) == "", "they follow that one"
    assert copies.left_behind(seen(withdrew("a", 2), orphan), NAME) == "", "they go"
    assert copies.left_behind(seen(), NAME) == ""


# --- what may be served ---------------------------------------------------------------------------------------------


def test_an_old_edition_is_served_as_long_as_the_new_one_is_not_to_be_had():
    a, b, c = holds("a", original(*E2)), holds("b", a_copy("a")), holds("c", original(*E1))
    view = seen(a, b, c)
    assert copies.current(view, NAME, [a, b, c]) == [a, c]
    assert copies.holders_of(view, NAME, E2) == [a]
    assert copies.to_renew(view, NAME, None) is None and copies.to_renew(view, NAME, original()) is None
    assert copies.to_withdraw(view, NAME, None) is None and copies.to_withdraw(view, NAME, original()) is None
    assert copies.may_serve(view, NAME, a_copy(""))  # nobody knows whose it is


def test_what_can_not_be_copied_any_more_is_served_by_its_original_alone():
    view = seen(holds("a", original(2, "")))
    assert not copies.may_serve(view, NAME, a_copy("a")) and copies.to_renew(view, NAME, a_copy("a")) is None


# --- whom to believe ------------------------------------------------------------------------------------------------


def believed(view, edition=E1, giver="b", of="a"):
    return copies.is_credible(view, NAME, giver, of, edition)


def test_a_giver_is_believed_that_has_the_original_or_says_what_its_node_says():
    view = seen(holds("a", original(*E2)), holds("b", a_copy("a")))
    assert believed(view, E1, "a") and believed(view, E2) and not believed(view, E1) and not believed(view, E3)
    assert not believed(view, E3, of="nobody")  # an orphan, it says, and a lives


def test_an_orphan_is_believed_while_nobody_has_what_its_original_was_last():
    assert believed(seen(holds("b", a_copy("a")))) and believed(seen(holds("a"), holds("b", a_copy("a"))))
    dead = holds("a", original(*E2), status=DEAD)
    assert believed(seen(dead, holds("b", a_copy("a")))) and believed(seen(dead), E2)
    assert not believed(seen(dead, holds("b", a_copy("a")), holds("c", a_copy("a", *E2))))


def test_what_was_withdrawn_is_nobodys_to_give():
    view = seen(withdrew("a", 1), holds("b", a_copy("a")))
    assert not believed(view) and not believed(view, giver="a") and believed(view, E2)


# --- numbers ------------------------------------------------------------------------------------------------------


def test_the_next_edition_is_above_those_before_whatever_the_clock_says():
    assert copies.next_edition("d", 1000.9) == Edition(1000, "d")
    assert copies.next_edition("d", 5, Edition(7, "x"), Edition(9, "y")) == Edition(10, "d")
    assert copies.next_edition("d", -5) == Edition(0, "d")
    assert copies.next_edition("d", 5, Edition(COUNTER_MAX, "x")) == Edition(COUNTER_MAX, "d")


@pytest.mark.parametrize(
    ("edition", "of_copies", "numbered"),
    [
        (E2, None, E2), (E2, E1, E2), (E2, E2, E2), (E2, Edition(2, "other"), Edition(3, "d2")), (E1, E2, Edition(3, "d1")),
        (E1, Edition(2, "d1"), Edition(3, "d1")), (Edition(5, ""), E2, Edition(5, "")),
    ],
)  # fmt: skip
def test_an_original_that_fell_back_is_numbered_above_its_copies(edition, of_copies, numbered):
    others = (
        [holds("b", a_copy("me", *of_copies)), holds("c", a_copy("x", *E3)), holds("d", original(*E3))] if of_copies else []
    )
    view = seen(*others, mine=original(*edition))
    assert copies.above_copies(view, NAME, edition, "") == numbered
    is_due = edition.digest and numbered != edition
    assert copies.to_raise(view, NAME, original(*edition)) == (Raise(NAME) if is_due else None)
    assert copies.to_raise(view, NAME, a_copy("x", *edition)) is None


def test_what_was_adopted_is_numbered_above_the_orphans_that_are_to_follow():
    orphan = holds("c", a_copy("a", *E2))
    assert copies.above_copies(seen(holds("a"), orphan), NAME, E1, "a") == Edition(3, "d1")
    assert copies.above_copies(seen(holds("a"), orphan), NAME, E2, "a") == Edition(3, "d2")  # to them it is no heir at the same
    assert copies.above_copies(seen(holds("a"), orphan, holds("d", a_copy("me", *E2))), NAME, E2, "a") == Edition(3, "d2")
    assert copies.above_copies(seen(holds("a", original(*E2)), orphan), NAME, E1, "a") == E1  # they follow a
    assert copies.above_copies(seen(holds("a"), holds("x", original(*E3))), NAME, E1, "") == E1


def test_what_is_hashed_is_numbered_above_what_was_here_and_what_was_withdrawn():
    def numbered(here, view=None, digest="d", now=5):
        return copies.numbered(view or seen(), NAME, digest, here, "", now)

    assert numbered(None) == Edition(5, "d") and numbered(None, digest="") == NO_EDITION
    assert numbered(original(3, "d")) == Edition(3, "d") and numbered(original(8, "other")) == Edition(9, "d")
    assert numbered(a_copy("a", 3, "d")) == Edition(5, "d") and numbered(a_copy("a", 7, "d")) == Edition(8, "d")
    by_hand, told = original(0, ""), seen(mine=original(3, "d"))
    assert numbered(by_hand, told) == Edition(3, "d") and numbered(by_hand, told, digest="new") == Edition(5, "new")
    assert numbered(by_hand, seen(mine=a_copy("a", 3, "d"))) == numbered(by_hand) == Edition(5, "d")
    gone = seen(withdrawn={NAME: Withdrawal(7, 1)})
    assert numbered(None, gone) == Edition(8, "d") == numbered(original(3, "d"), gone)
    assert numbered(original(3, "d"), seen(holds("b", a_copy("me", 9, "d")))) == Edition(10, "d")


# --- rivals ---------------------------------------------------------------------------------------------------------


def test_originals_that_differ_are_rivals():
    a, b, c = holds("a", original(*E1)), holds("b", original(*E3)), holds("c", a_copy("a", *E2))
    assert copies.rivals(seen(a, b, c), NAME) == Rivals({"a": "d1", "b": "d3"}, 3)
    assert copies.originals(seen(a, b, c, holds("d", original(0, ""))), NAME) == [a, b]
    assert copies.rivals(seen(a, c), NAME) is None and copies.rivals(seen(a, holds("b", original(2, "d1"))), NAME) is None
    assert copies.rivals(seen(a, b._replace(status=DEAD)), NAME) is None
    assert standing(seen(a, b)) == Standing("a", E1) and standing(seen(a, b), E3, "b") == Standing("b", E3)
