"""Which edition a service is, of nodes in memory with real files."""

import os

from bdserver.core.membership import NO_EDITION, Edition, Withdrawal
from bdserver.processes import editions
from bdserver.processes.describing import Told, update_own
from tests.unit.nodes import NOW, a_node


def write(node, name, content):
    with open(os.path.join(node.settings.services_dir, name), "wb") as file:
        file.write(content)


def of_original(node, name="Echo"):
    return editions.of_original(node, node.cache.view(), node.services.get(name))


def test_what_is_offered_has_a_digest_by_its_content_and_what_its_bdcert_says_of_it(tmp_path):
    node, twin = a_node(tmp_path).offer("Echo", b"1", weight=2), a_node(tmp_path, "twin").offer("Echo", b"1", weight=2)
    digest = editions.digest_of(node, node.services.get("Echo"))
    assert len(digest) == 32 and digest == editions.digest_of(twin, twin.services.get("Echo"))
    for pairs in ({"weight": 3}, {"weight": 2, "replicas": 3}, {"weight": 2, "url": "http://h/"}):
        node.offer("Echo", b"1", **pairs).services.look()
        assert editions.digest_of(node, node.services.get("Echo")) != digest
    node.offer("Echo", b"1", weight=2, type="dynamic", arrived_at=5, original="a", edition=f"7:{digest}").services.look()
    assert editions.digest_of(node, node.services.get("Echo")) == digest  # where it lies and since when is not what it is


def test_what_has_just_a_url_or_is_too_large_has_no_edition(tmp_path):
    node = a_node(tmp_path, package_bytes_max=20_000).offer("Url", None, url="http://h/").offer("Large", b"x" * 30_000)
    assert of_original(node, "Url") == of_original(node, "Large") == NO_EDITION


def test_an_edition_stays_until_something_differs(tmp_path):
    node = a_node(tmp_path).offer("Echo", b"1")
    first = of_original(node)
    assert first == Edition(int(NOW), first.digest)
    node.services.relabel("Echo", lambda service: service._replace(edition=first))
    node.clock.now += 5
    assert of_original(node) == first
    write(node, "Echo", b"2")
    second = of_original(node)
    assert second.counter == NOW + 5 and second.digest != first.digest


def test_it_is_above_what_was_withdrawn_and_what_was_here_though_the_clock_fell_back(tmp_path):
    node = a_node(tmp_path).offer("Echo", b"1")
    update_own(node, Told(withdrawn={"Echo": Withdrawal(int(NOW) + 50, int(NOW))}))
    assert of_original(node).counter == NOW + 51
    node.services.relabel("Echo", lambda service: service._replace(edition=Edition(int(NOW) + 99, "old")))
    assert of_original(node).counter == NOW + 100
