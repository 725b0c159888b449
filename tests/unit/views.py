"""Records and views for the tests of the core, as a mesh might hold them."""

from hypothesis import strategies as st

from bdserver.core.membership import ACCUSERS_MAX, ALIVE, DEAD, LEFT, SUSPECT, Record, Service
from bdserver.core.view import View

NOW = 1_700_000_000.0


def records(names=("a",)):
    """Records as the mesh may see them; few different values, so that they meet."""
    status = st.sampled_from([ALIVE, SUSPECT, DEAD, LEFT])
    return st.builds(
        lambda name, g, c, status, since, load, accusers: Record(
            name,
            "10.0.0.1:1",
            (g, c),
            status,
            NOW - since,
            {"Echo": Service("static", 1.0, "", True)} if load else {},
            load=load,
            accusers=tuple(sorted(accusers))[:ACCUSERS_MAX] if status == SUSPECT else (),
        ),
        st.sampled_from(names),
        st.integers(1, 2),
        st.integers(0, 2),
        status,
        st.integers(0, 2).map(float),
        st.integers(0, 1),
        st.sets(st.sampled_from("pqrstuv"), max_size=5),
    )


def a_view(*others, me="me"):
    """The view of a node that has just started; others are records, or names."""
    view = View(me)
    view.start(Record(me, f"{me}:1", (0, 0)), NOW)
    for each in others:
        view.merge(Record(each, f"{each}:1", (1, 0)) if isinstance(each, str) else each, NOW)
    return view


def changed(view, do):
    """A copy of the view, after `do` was done to it."""
    twin = view.copy()
    do(twin)
    return twin
