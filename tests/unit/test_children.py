"""The pool of children: its table of states, and its policy, without a fork and without a clock."""

import random
import socket
from collections import Counter

import pytest

from bdserver.processes.children import (
    OWN_SECONDS,
    SPARE_PAUSE,
    TRANSITIONS,
    Caller,
    Child,
    Event,
    Impossible,
    Kind,
    Limits,
    Pool,
    State,
)

LINE = socket.socket()  # the pool never touches one
FAR, NEAR, ROOT = Caller(Kind.TLS, "192.0.2.1"), Caller(Kind.LOCAL, "user 33"), Caller(Kind.OWN, "user 0")


def pool(children=100, per_caller=100, **limits):
    return Pool(Limits(children, per_caller, **limits))


def add(pool, caller=None, now=0.0):
    pid = 1000 + len(pool.children())
    while any(child.pid == pid for child in pool.children()):
        pid += 1
    return pool.add(pid, LINE, now, caller)


def spare(pool, now=0.0):
    child = add(pool, now=now)
    assert pool.ready(child, now)
    return child


def test_a_question_of_the_nodes_own_forks_no_child_ahead_unless_its_answer_takes_long():
    children = pool()
    only = spare(children)
    children.give(only, ROOT, 5.0)
    assert children.spare_at() == 5.0 + OWN_SECONDS
    assert children.ready(only, 5.001) and children.spare_at() is None
    children.give(only, FAR, 6.0)
    assert children.spare_at() <= 6.0, "for others there is one at once"


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_a_child_goes_from_state_to_state_by_the_table_and_in_no_other_way(state, event):
    child = Child(1, LINE, 0, None, 0.0)
    child.state = state
    if event in TRANSITIONS[state]:
        assert child.after(event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(Impossible, match=f"child 1 is {state}, and then: {event}"):
            child.after(event)


def test_nothing_happens_to_a_dismissed_child_but_its_end():
    assert TRANSITIONS[State.DISMISSED] == {}
    assert {state for row in TRANSITIONS.values() for state in row.values()} == set(State) - {State.STARTING}


def test_an_event_that_is_impossible_changes_no_count():
    children = pool()
    child = spare(children)
    with pytest.raises(Impossible):
        children.ready(child, 1.0)  # twice
    assert child.state is State.SPARE and children.next_spare() is child
    with pytest.raises(Impossible):
        children.give(add(children, FAR), NEAR, 1.0)  # it serves somebody already
    assert children.busy == 1 and children.count(NEAR) == 0


def test_a_child_serves_waits_and_serves_again():
    children = pool()
    child = add(children)
    assert child.state is State.STARTING and children.next_spare() is None
    assert children.ready(child, 1.0) and children.next_spare() is child
    children.give(child, FAR, 2.0)
    assert (child.state, child.caller, children.busy, children.count(FAR)) == (State.SERVING, FAR, 1, 1)
    assert children.ready(child, 3.0)
    assert (child.state, child.caller, children.busy, children.count(FAR)) == (State.SPARE, None, 0, 0)


def test_the_one_that_waits_shortest_gets_the_next_caller():
    children = pool()
    first, second = spare(children, 1.0), spare(children, 2.0)
    assert children.next_spare() is second
    children.give(first, FAR, 3.0)
    children.ready(first, 4.0)
    assert children.next_spare() is first


# --- who may have a child -----------------------------------------------------------------------------------------


def fill(children, caller, most=1000):
    """How many children this caller gets."""
    count = 0
    while count < most and children.has_room(caller):
        add(children, caller)
        count += 1
    return count


@pytest.mark.parametrize("caller", [FAR, NEAR])
def test_a_caller_has_so_many_children_and_no_more(caller):
    children = pool(children=100, per_caller=3)
    assert fill(children, caller) == 3
    assert children.has_room(caller._replace(name="another"))


def test_root_has_no_cap_of_its_own():
    assert fill(pool(children=100, per_caller=3), ROOT) == 100


def test_local_users_leave_a_quarter_to_the_mesh_and_everybody_leaves_a_sixteenth_to_root():
    children = pool(children=160, per_caller=1000)
    assert fill(children, NEAR) == 120
    assert not children.has_room(Caller(Kind.LOCAL, "user 34"))
    assert fill(children, FAR) == 30
    assert fill(children, ROOT) == 10
    assert children.busy == 160


def test_the_mesh_shuts_root_out_no_more_than_local_users_do():
    children = pool(children=160, per_caller=1000)
    assert (fill(children, FAR), fill(children, NEAR), fill(children, ROOT)) == (150, 0, 10)


@pytest.mark.parametrize("most", range(1, 5))
def test_of_few_children_everybody_may_have_one(most):
    for caller in (FAR, NEAR, ROOT):
        assert pool(children=most).has_room(caller)


def test_a_child_counts_for_its_caller_until_it_is_free_or_gone():
    children = pool(per_caller=1)
    for end in (
        lambda child: children.ready(child, 1.0),
        lambda child: children.hung_up(child, 1.0),
        lambda child: children.ended(child.pid, 1.0),
    ):
        child = add(children, FAR)
        assert not children.has_room(FAR)
        end(child)
        assert children.has_room(FAR)


# --- how many wait, and how long ----------------------------------------------------------------------------------


def test_a_child_is_forked_ahead_when_none_waits_or_starts():
    children = pool()
    assert children.spare_at() == 0.0
    child = add(children)
    assert children.spare_at() is None  # it starts
    children.ready(child, 1.0)
    assert children.spare_at() is None  # it waits
    children.give(child, FAR, 2.0)
    assert children.spare_at() == 0.0  # at once


@pytest.mark.parametrize("is_ready", [False, True])
@pytest.mark.parametrize("is_reaped", [False, True])
def test_after_one_that_died_before_it_had_a_caller_the_next_one_comes_later(is_ready, is_reaped):
    children = pool()
    child = spare(children) if is_ready else add(children)
    if is_reaped:
        assert children.ended(child.pid, 5.0) is child
    else:
        children.hung_up(child, 5.0)
    assert children.spare_at() == 5.0 + SPARE_PAUSE


def test_a_child_that_ends_with_its_caller_delays_nothing():
    children = pool()
    children.ended(add(children, FAR).pid, 5.0)
    assert children.spare_at() == 0.0


def test_no_more_wait_than_a_few():
    children = pool(spares=2)
    busy = [add(children, FAR) for _ in range(4)]
    assert [children.ready(child, 1.0) for child in busy] == [True, True, False, False]
    assert [child.state for child in busy] == [State.SPARE] * 2 + [State.DISMISSED] * 2


def test_all_but_one_wait_for_some_seconds_only():
    children = pool(spare_seconds=10.0)
    first, second, third = (spare(children, now) for now in (1.0, 2.0, 3.0))
    assert children.expires_at() == 11.0
    assert children.expired(10.9) == []
    assert children.expired(12.5) == [first, second]
    assert children.expires_at() is None and children.expired(1e9) == [] and children.next_spare() is third


def test_renewed_children_serve_nobody_who_comes_later():
    children = pool()
    busy, waiting, starting = add(children, FAR), spare(children), add(children)
    assert set(children.renew(1.0)) == {waiting, starting}
    assert waiting.state is starting.state is State.DISMISSED and children.next_spare() is None
    assert busy.state is State.SERVING and not children.ready(busy, 2.0)
    fresh = add(children, FAR)
    assert children.ready(fresh, 3.0)


def test_when_the_listener_leaves_nobody_waits_and_nobody_is_forked_ahead():
    children = pool()
    busy, waiting = add(children, FAR), spare(children)
    assert children.close(1.0) == [waiting] and children.spare_at() is None
    assert not children.ready(busy, 2.0) and children.busy == 0 and children.spare_at() is None


def test_a_process_that_is_no_child_is_nobodys():
    assert pool().ended(1, 0.0) is None


@pytest.mark.parametrize("seed", range(20))
def test_no_count_ever_disagrees_with_the_states(seed):
    """Against a slow twin that counts all children anew after each of many random events."""
    rng, children = random.Random(seed), pool(children=12, per_caller=4, spares=3, spare_seconds=5.0)
    callers = [FAR, NEAR, ROOT, FAR._replace(name="192.0.2.2")]
    for now in range(400):
        all_of_them = children.children()
        child = rng.choice(all_of_them) if all_of_them else None
        caller = rng.choice(callers)
        what = rng.randrange(8)
        if what == 0 and children.spare_at() is not None:
            add(children, now=now)
        elif what == 1 and children.has_room(caller):
            chosen = children.next_spare()
            if chosen:
                children.give(chosen, caller, now)
            else:
                add(children, caller, now)
        elif what == 2 and child and Event.READY in TRANSITIONS[child.state]:
            children.ready(child, now)
        elif what == 3 and child:
            children.hung_up(child, now)
        elif what == 4 and child:
            children.ended(child.pid, now)
        elif what == 5:
            children.expired(now)
        elif what == 6 and rng.random() < 0.2:
            children.renew(now)
        serving = [each for each in children.children() if each.state is State.SERVING]
        counted = Counter(each.caller for each in serving)
        assert children.busy == len(serving) <= 12
        assert all(children.count(each) == counted[each] for each in callers)
        waiting = {each.pid for each in children.children(State.SPARE)}
        assert len(waiting) <= 3 and (children.next_spare() is None) == (not waiting)
        assert (children.expires_at() is not None) == (len(waiting) > 1)
        assert all((each.caller is None) == (each.state is not State.SERVING) for each in children.children())
