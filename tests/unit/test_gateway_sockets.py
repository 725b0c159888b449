"""The sockets of a gateway, and how they change."""

import socket
from types import SimpleNamespace

import pytest

from bdserver.errors import NotYet
from bdserver.gateway.sockets import Sockets
from tests.hosts import free_port


@pytest.fixture
def sockets():
    made = []

    def make(**faces):
        made.append(Sockets(SimpleNamespace(**{"dns": (), "http": ()} | faces)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def addresses(count):
    return tuple(f"127.0.0.1:{free_port()}" for _ in range(count))


def test_dns_has_two_kinds_at_each_address_and_http_one(sockets):
    made = sockets(dns=addresses(2), http=addresses(1))
    assert [sock.type for sock in made.of("dns")] == 2 * [socket.SOCK_DGRAM, socket.SOCK_STREAM]
    assert [sock.type for sock in made.of("http")] == [socket.SOCK_STREAM]


def test_a_change_binds_what_is_new_and_hands_back_what_is_left(sockets):
    stays, goes, comes = addresses(3)
    made = sockets(http=(stays, goes))
    kept, left = made.of("http")
    added, gone = made.change("http", (stays, comes, comes))
    assert gone == [left] and len(added) == 1 and made.of("http") == [kept, *added]
    assert left.fileno() >= 0, "whoever serves on it closes it"
    left.close()
    assert made.change("http", (stays, comes)) == ([], [])


def test_what_can_not_be_bound_changes_nothing_and_leaves_nothing_bound(sockets):
    old, free = addresses(2)
    made = sockets(http=(old,))
    before = made.of("http")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotYet, match=f"^127.0.0.1:{port}: Address already in use$"):
            made.change("http", (free, f"127.0.0.1:{port}"))
        with pytest.raises(NotYet, match="Address already in use"):
            Sockets(SimpleNamespace(dns=(free,), http=(f"127.0.0.1:{port}",)))
    assert made.of("http") == before
    sockets(dns=(free,))


def test_ipv6_is_ipv6_alone(sockets):
    try:
        [sock] = sockets(http=(f"[::1]:{free_port()}",)).of("http")
    except NotYet:
        pytest.skip("no IPv6 here")
    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
