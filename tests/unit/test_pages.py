"""Answers that grow with the mesh, in pages: whole at the other end, and each within what a peer takes."""

import base64
import os
import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core import fields, messages, pages, plan, wire
from bdserver.core.membership import STATIC, Record, Service
from bdserver.core.messages import Status
from bdserver.core.pages import Section
from bdserver.core.roles import ADMIN, CLIENT
from bdserver.errors import BadRequest, NobodyThere
from bdserver.processes import answers
from tests.unit.nodes import NOW, a_node, document

WORDS = st.text("abc", min_size=1, max_size=6)
ITEMS = st.dictionaries(WORDS, st.text(max_size=30), max_size=12)


def sections(*items):
    return [Section(f"s{number}", sorted(each), each.__getitem__) for number, each in enumerate(items)]


@given(st.lists(ITEMS, min_size=1, max_size=3), st.integers(1, 200), st.integers(1, 5))
def test_page_after_page_each_item_comes_once_and_no_page_is_too_large(items, room, batch):
    told, start, before = [{} for _ in items], "", (pages.PAGE_BYTES, pages.BATCH)
    pages.PAGE_BYTES, pages.BATCH = room, batch
    try:
        for _ in range(40):
            page, start = pages.page(sections(*items), start)
            parts = [page[f"s{number}"] for number in range(len(items))]
            is_one = sum(map(len, parts)) == 1  # which alone may be larger
            assert is_one or sum(pages.size(part) for part in parts if part) <= room
            for whole, part in zip(told, parts, strict=True):
                assert not whole.keys() & part.keys()
                whole |= part
            if not start:
                break
    finally:
        pages.PAGE_BYTES, pages.BATCH = before
    assert told == items and not start


def test_what_comes_and_goes_between_two_pages_moves_no_other(monkeypatch):
    monkeypatch.setattr(pages, "PAGE_BYTES", 30)
    page, goes_on = pages.page(sections({"a": "1" * 20, "c": "2" * 20, "d": 3}))
    assert (page, goes_on) == ({"s0": {"a": "1" * 20}}, "s0 c")
    assert pages.page(sections({"b": 0, "d": 3}), goes_on) == ({"s0": {"d": 3}}, "")


@pytest.mark.parametrize("start", ["none x", "s", " s0", "s0x "])
def test_where_no_page_goes_on_is_no_request(start):
    with pytest.raises(BadRequest, match="from is where no page"):
        pages.page(sections({"a": 1}), start)


def test_lines_that_are_too_many_are_cut_and_counted():
    lines = ["x" * 98, "y" * 98, "z"]
    assert pages.lines_within(lines, 1000) == lines
    assert pages.lines_within(lines, 110) == [lines[0], "and 2 more"]
    assert pages.within(["é" * 10], 22) == [] and pages.within(["é" * 10], 23) == ["é" * 10]


# --- the other end ------------------------------------------------------------------------------------------------

OWN = {"name": "me", "warnings": [], "services": {"a": 1}, "policies": {}}


def asker(*said):
    """Answers each request by the next of these; what was asked."""
    asked, answers = [], list(said)

    def ask(request):
        asked.append(request)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask, asked


def test_the_whole_is_asked_for_page_after_page():
    first, second = Status(OWN, [1], "nodes b"), Status({**OWN, "services": {"b": 2}, "policies": {"d": "t"}}, [2, 3])
    ask, asked = asker(first, second)
    assert pages.status(ask) == Status({**OWN, "services": {"a": 1, "b": 2}, "policies": {"d": "t"}}, [1, 2, 3])
    assert asked == [["STATUS"], ["STATUS", {"from": "nodes b"}]]
    ask, asked = asker(first, second)
    assert pages.status(ask, {"brief": True}).nodes == [1, 2, 3]
    assert asked[1:] == [["STATUS", {"brief": True, "from": "nodes b"}]]


def test_a_conversation_brings_the_whole_by_one_deadline():
    ask, asked = asker(Status(OWN, [1], "nodes b"), Status(OWN, [2]))
    talk = SimpleNamespace(ask=lambda request, deadline: ask([*request, deadline]))
    assert pages.status_of(talk, 7.0).nodes == [1, 2] and [request[-1] for request in asked] == [7.0, 7.0]


def test_a_node_that_goes_on_for_ever_is_not_listened_to_for_ever():
    ask, asked = asker(Status(OWN, [1], "nodes b"))
    whole = pages.status(ask)
    assert len(asked) == pages.PAGES_MAX + 1 and whole.own["warnings"] == ["me has more to tell than was asked for"]
    ask, asked = asker(Status(OWN, [1], "nodes b"))
    assert pages.status(ask, {"brief": True}).own["warnings"] and len(asked) == pages.BRIEF_PAGES_MAX + 1


def test_a_page_larger_than_ours_can_be_is_the_last_that_is_listened_to():
    small, large = Status(OWN, [1], "nodes b"), Status(OWN, ["x" * wire.FRAME_BYTES_MAX], "nodes c")
    ask, asked = asker(small, large)
    whole = pages.status(ask)
    assert len(asked) == 2 and whole.nodes == [1, *large.nodes] and whole.own["warnings"]


# --- the largest that can be --------------------------------------------------------------------------------------


def noise(count, seed=1):
    """Text that zlib can't make smaller: what fits so, fits always."""
    return base64.b64encode(random.Random(seed).randbytes(count), altchars=b"xy")[:count].decode()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Of everything that a node tells of itself and others, as much as there can be."""
    node = a_node(
        tmp_path_factory.mktemp("large"),
        policy=document("A", f"x{noise(60000)}"),
        hints=",".join(f"h{n}.example:1" for n in range(2000)),
    )
    for number in range(40):
        name = noise(100, number)
        with open(os.path.join(node.settings.services_dir, name + ".bdcert"), "w") as file:
            file.write(f"url=http://h/{noise(1900, number)}\n" if number % 2 else "weight=none\n")
    for number in range(400):
        node.journal.note("gave", noise(100, number), NOW, why=noise(60, number))
    with node.cache.locked() as view:
        theirs = {noise(90, n): Service(STATIC, 1.0, f"http://h/{noise(1900, n)}", True) for n in range(30)}
        for number in range(40):
            view.put(Record(f"n{number}", noise(90000, number) + ":1", (1, 1), services=theirs, policy=noise(70000, number)))
            view.policies[noise(20, number)] = noise(60000, number)
            view.hints.add(f"{noise(3000, number)}:1")
        view.policies["too long to be one"] = noise(fields.TEXT_MAX + 1)
        view.changes += 1
    return node


@pytest.mark.parametrize("wish", [None, {"brief": False}, {"brief": True}], ids=str)
@pytest.mark.parametrize("role", [CLIENT, ADMIN])
def test_no_page_of_the_largest_status_is_too_large_and_all_is_told(large, wish, role):
    node, sizes = large, []

    def ask(request):
        said = node.ask(*request, role=role)
        sizes.append(len(wire.encode(messages.encoded(said))))
        assert pages.size(messages.encoded(said)) < wire.FRAME_BYTES_MAX, "even without zlib"
        return said

    whole = pages.status(ask, wish)
    assert len(whole.own["services"]) == 20 and whole.own["complaints"][-1].endswith("weight must be a number from 0 to 1e+09")
    if wish == {"brief": True}:
        assert len(sizes) == 1 and [row[0] for row in whole.nodes] == sorted(node.cache.view().records)
        return
    assert len(sizes) > 3
    assert [each["name"] for each in whole.nodes] == [*sorted(node.cache.view().records), *[None] * 40]
    many = next(each for each in whole.nodes if each["name"] == "n1")
    assert 0 < len(many["services"]) == 30 - many["left_out"] < 30 and len(many["urls"]) == len(many["services"])
    assert len(whole.own.get("policies", {})) == (0 if wish is None else 41)


def test_status_of_another_node_comes_in_pages_too(tmp_path, monkeypatch):
    node, other = a_node(tmp_path, "a"), a_node(tmp_path, "b")
    for name in ("x", "y", "z"):
        other.offer(name)
    node.knows(other)
    monkeypatch.setattr(pages, "PAGE_BYTES", 300)
    asked = []

    def ask(request):
        asked.append(request)
        return node.ask(*request)

    assert list(pages.status(ask, {"of": "b", "brief": True}).own["services"]) == ["x", "y", "z"] and len(asked) > 1
    with pytest.raises(BadRequest, match="from must be"):
        node.ask("STATUS", {"from": 7})


def test_a_graveyard_of_any_size_is_told_as_far_as_it_fits(tmp_path):
    node = a_node(tmp_path)
    for number in range(6000):
        open(os.path.join(node.settings.graveyard_dir, noise(100, number) + ".bdcert"), "w").close()
    said = node.ask("GRAVEYARD", role=ADMIN)
    assert len(said.names) + said.left_out == 6000 and said.left_out > 0
    assert len(wire.encode(messages.encoded(said))) < wire.FRAME_BYTES_MAX


def test_a_plan_through_as_many_as_are_asked_and_as_many_relays_fits(tmp_path):
    names = [noise(100, number) for number in range(2 * plan.RECIPIENTS_MAX)]
    tree = {plan.SELF: names[: plan.RECIPIENTS_MAX], **{name: [] for name in names}}
    for relay, name in zip(names, names[plan.RECIPIENTS_MAX :], strict=False):
        tree[relay].append(name)
    request = ["MASSMESSAGE", tree, names[plan.RECIPIENTS_MAX :], ["WILLYOUEXECUTE", noise(100)]]
    assert len(wire.encode(request)) < wire.FRAME_BYTES_MAX


def test_of_very_many_silent_holders_the_first_are_asked_through_others_and_the_last_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "RECIPIENTS_MAX", 3)
    monkeypatch.setattr(answers.routing, "ASKED_TOLD_MAX", 4)
    node, relay = a_node(tmp_path, "a"), a_node(tmp_path, "r")
    node.knows(relay)
    holders = [a_node(tmp_path, f"h{number}").offer("Echo") for number in range(9)]
    node.knows(*holders)
    for holder in holders:
        node.network.trouble[holder.address] = NobodyThere("silent")
    plans = []
    whole = plan.tree
    monkeypatch.setattr(plan, "tree", lambda me, there, far, *more: plans.append(far) or whole(me, there, far, *more))
    said = node.ask("WHEREIS", "Echo", None)
    assert plans and all(len(far) <= 3 for far in plans) and len(said.details["asked"]) == 4
