"""Whose a copy is, which edition counts, and what becomes of it: each rule alone."""

from random import Random

import pytest

from bdserver.core import copies
from bdserver.core.copies import Go, Lately, Place, Renew, Rivals, Standing
from bdserver.core.membership import COUNTER_MAX, DEAD, LEFT, NO_EDITION, SUSPECT, Copies, Edition
from tests.unit.offers import NAME, a_copy, holds, original, seen, withdrew

E1, E2, E3 = Edition(1, "d1"), Edition(2, "d2"), Edition(3, "d3")


# --- who decides ----------------------------------------------------------------------------------------------------


def test_a_node_that_is_named_as_the_service_counts_as_any_other():
    record = holds(NAME, a_copy("gone"))
    assert copies._in_turn(NAME, [record]) == [NAME]
    alone = seen(record)
    alone.me = NAME
    assert copies.is_decider(alone, NAME)
