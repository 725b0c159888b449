"""NamedTuple is typing's in all that we use of it."""

import copy
import pickle
import typing

import pytest

from bdserver.core import tuples


class Ours(tuples.NamedTuple):
    """A pair."""

    left: int
    right: str = "r"

    def doubled(self):
        return 2 * self.left


class Theirs(typing.NamedTuple):
    """A pair."""

    left: int
    right: str = "r"


class Empty(tuples.NamedTuple):
    """No fields at all."""


@pytest.mark.parametrize(("values", "named"), [((1,), {}), ((1, "x"), {}), ((), {"left": 1}), ((1,), {"right": "y"})])
def test_it_is_made_as_typings_is(values, named):
    ours, theirs = Ours(*values, **named), Theirs(*values, **named)
    assert ours == theirs and (ours.left, ours.right) == tuple(theirs) and hash(ours) == hash(theirs)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours") and ours._fields == theirs._fields


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1, "x", 3), {}), ((1,), {"left": 1}), ((1, "x"), {"right": "y"}), ((1,), {"colour": "red"})],
)
def test_what_typings_refuses_it_refuses(values, named):
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            kind(*values, **named)


def test_it_can_be_changed_matched_pickled_and_have_methods():
    pair = Ours(3)._replace(right="z")
    assert pair == Ours(3, "z") and pair.doubled() == 6
    match pair:
        case Ours(left, right):
            assert (left, right) == (3, "z")
    assert pickle.loads(pickle.dumps(pair)) == pair == copy.copy(pair) and type(copy.copy(pair)) is Ours
    with pytest.raises(TypeError):
        pair._replace(colour="red")
    with pytest.raises(AttributeError):
        pair.left = 4


def test_one_without_fields_is_itself_alone():
    assert Empty() == () and repr(Empty()) == "Empty()" and type(Empty()._replace()) is Empty
    with pytest.raises(TypeError):
        Empty(1)


def test_its_fields_are_to_be_had_as_typings_are():
    for kind in (Ours, Theirs):
        assert kind._fields == ("left", "right") and kind._field_defaults == {"right": "r"}
        assert kind._make([1, "x"]) == (1, "x") and kind._make([1, "x"])._asdict() == {"left": 1, "right": "x"}
        with pytest.raises(TypeError):
            kind._make([1])
    assert Empty() == () and repr(Empty()) == "Empty()"


def test_many_fields_and_a_class_of_the_class():
    class Wide(tuples.NamedTuple):
        a: int
        b: int
        c: int = 3
        d: int = 4

    class Child(Wide):
        def both(self):
            return self.a + self.d

    assert Wide(1, b=2, d=5) == (1, 2, 3, 5) and Child(1, 2).both() == 5 and Ours(1) == (1, "r")
    with pytest.raises(TypeError, match="'b'"):
        Wide(1)
