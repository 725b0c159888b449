"""Which rows the audit shows: by words, state, policy and service; and that script and server go by the same attributes."""

import re

import pytest

from bdserver.audit import page, search
from bdserver.audit.search import Filter
from bdserver.audit.snapshot import Snapshot

from . import crawls

OFFICE, CENTRE = crawls.document("office"), crawls.document("centre")


@pytest.fixture(scope="module")
def snapshot():
    made = crawls.mesh(20, dead=[3], suspect=[4], silent=[6], overloaded=[2], policies=[OFFICE, CENTRE])
    return Snapshot(made)


def shown(snapshot, **wish):
    """The numbers of the nodes that a wish takes."""
    rows = {node.name: search.node_row(snapshot, node) for node in snapshot.nodes}
    return {int(name[1:]) for name, row in rows.items() if Filter(**wish).takes(row)}


def test_no_wish_takes_all(snapshot):
    assert shown(snapshot) == set(range(20)) == shown(snapshot, find="  ")


@pytest.mark.parametrize(
    ("find", "numbers"),
    [
        ("n013", {13}),
        ("N01 10.0.0.1", set(range(10, 20))),
        ("10.0.0.7:", {7}),
        ("dead", {3}),
        ("n00 silent", {6}),
        ("moon", set()),
    ],
)
def test_each_word_must_occur_somewhere(snapshot, find, numbers):
    assert shown(snapshot, find=find) == numbers


def test_words_find_services_and_policies(snapshot):
    has = {int(node.name[1:]) for node in snapshot.nodes if "Orders" in node.services}
    assert has and shown(snapshot, find="ORDERS") == has == shown(snapshot, offers="Orders")
    assert shown(snapshot, offers="Order") == set()
    assert shown(snapshot, find="centre") == set(range(1, 20, 2))


@pytest.mark.parametrize(
    ("state", "numbers"), [("dead", {3}), ("suspect", {4}), ("silent", {6}), ("overloaded", {2}), ("attention", {2, 3, 4, 6})]
)
def test_a_state_may_be_chosen(snapshot, state, numbers):
    assert shown(snapshot, state=state) == numbers
    assert state in search.STATES


def test_nodes_of_one_policy_share_a_key_that_stays(snapshot):
    keys = {zone.shown: zone.key for zone in snapshot.zones}
    assert len(set(keys.values())) == len(keys) == 2
    assert shown(snapshot, zone=keys["(centre)"], state="dead") == {3}
    assert keys["(office)"] == Snapshot(crawls.mesh(1, policies=[OFFICE])).zones[0].key


def test_a_service_is_not_asked_for_a_state(snapshot):
    rows = {service.name: search.service_row(snapshot, service) for service in snapshot.services}
    assert all(Filter(state="dead", zone="x").takes(row) for row in rows.values())
    assert [name for name, row in rows.items() if Filter(offers="Orders").takes(row)] == ["Orders"]
    holder = snapshot.by_service["Orders"].holders[0]
    assert Filter(find=holder).takes(rows["Orders"])


def test_the_page_hides_what_is_not_wished_for_and_says_how_many_are_shown(snapshot):
    html = page.render(snapshot, 0, 20, Filter(state="dead", find="n00"))
    rows = dict(re.findall(r'<tr role="row" data-key="(n\d{3})" data-find="[^"]*" data-state="[^"]*"[^>]*?( hidden)?>', html))
    assert len(rows) == 20 and [name for name, hidden in rows.items() if not hidden] == ["n003"]
    assert "1 of 20 nodes" in html and '<option value="dead" selected>' in html and 'value="n00"' in html
