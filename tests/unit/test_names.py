"""Names of nodes and services."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core import names
from bdserver.core.names import valid_name


@pytest.mark.parametrize("name", ["a", "7", "_", "Calculator.jws", "a-b_c.d", "x" * 100, "a.bdcert.bak", "a.."])
def test_letters_digits_dots_underscores_and_hyphens_make_a_name(name):
    assert valid_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".a", "-a", "x" * 101, "a/b", "a\\b", "a b", "a\n", "\na", "a\0", "ä", "٣", "a~", "a%2f", "a:b"]
    + ["a.bdcert", "bdcert.bdcert"],
)
def test_whatever_could_mean_something_else_in_a_path_or_url_is_no_name(name):
    assert not valid_name(name)


@given(st.text(max_size=120))
def test_a_name_is_ascii_and_short_and_never_leaves_its_folder(name):
    if valid_name(name):
        assert name.isascii() and 1 <= len(name) <= 100
        assert "/" not in name and name not in (".", "..") and name[0] not in ".-" and name.isprintable()


def test_a_long_text_is_no_name_and_is_not_remembered():
    before = names._is_well_formed.cache_info().currsize
    assert not any(valid_name("x" * 100_000 + str(number)) for number in range(100))
    assert names._is_well_formed.cache_info().currsize == before
