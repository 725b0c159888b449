"""HOST:PORT, in and out."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core.address import (
    HOST_CHARACTERS_MAX,
    host_of,
    host_part,
    join_address,
    normal_host,
    split_address,
    without_zone,
)
from bdserver.errors import BadRequest

LONGEST_NAME = ".".join(["a" * 63] * 3 + ["a" * 61])
assert len(LONGEST_NAME) == HOST_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1:9001", "192.0.2.1", 9001),
        ("[::1]:9001", "::1", 9001),
        ("[2001:DB8:0:0::1]:1", "2001:db8::1", 1),
        ("[::ffff:192.0.2.1]:9001", "192.0.2.1", 9001),
        ("[fe80::1%eth0]:9001", "fe80::1%eth0", 9001),
        ("Node-1.Example.ORG.:65535", "node-1.example.org", 65535),
        ("build_host:00080", "build_host", 80),
        ("  a:5\n", "a", 5),
        (f"{LONGEST_NAME}:5", LONGEST_NAME, 5),
        (f"{LONGEST_NAME}.:5", LONGEST_NAME, 5),
    ],
)
def test_an_address_has_one_canonical_form(text, host, port):
    assert split_address(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "host"), [("a", "a"), ("192.0.2.1", "192.0.2.1"), ("::1", "::1"), ("[::1]", "::1"), ("::ffff:1.2.3.4", "1.2.3.4")]
)
def test_without_a_port_the_default_is_taken_and_without_that_it_is_no_address(text, host):
    assert split_address(text, 9001) == (host, 9001)
    with pytest.raises(BadRequest, match="port"):
        split_address(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":5", "a:", "a:0", "a:65536", "a:-1", "a:+5", "a:5x", "a:0x5", "a:1_0", "a:٥", f"a:{'0' * 9000}5"),
        *("[", "[]:5", "[::1", "[::1]5", "[::1]:", "[a]:5", "[192.0.2.1]:5", "::1]:5", "[[::1]]:5", "[::1]:5:6"),
        *(
            "1.2.3:5",
            "256.1.1.1:5",
            "1.2.3.4.5:5",
            "-a:5",
            "a..b:5",
            ".a:5",
            "a b:5",
            "a\n:5",
            "a\0:5",
            "a/b:5",
            "a@b:5",
            "ä:5",
            "\u212a:5",  # the Kelvin sign, whose lower case is k
            "a..:5",
        ),
        *("[fe80::1%]:5", "[fe80::1%a b]:5", "[fe80::1%a\n]:5", f"{'a' * 64}:5", f"a.{LONGEST_NAME}:5"),
    ],
)
def test_whatever_else_is_refused_in_one_line(text):
    with pytest.raises(BadRequest) as caught:
        split_address(text, 9001 if text else None)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


HOSTS = st.one_of(
    st.ip_addresses().map(str),
    st.from_regex(r"[a-z][a-z0-9_-]{0,20}(\.[a-z][a-z0-9_-]{0,20}){0,3}", fullmatch=True),
)


@given(HOSTS, st.integers(1, 65535))
def test_what_is_joined_is_split_the_same(host, port):
    mapped = getattr(ipaddress.ip_address(host), "ipv4_mapped", None) if ":" in host else None
    assert split_address(join_address(host, port)) == (str(mapped or host), port)


@given(st.text(max_size=60) | st.text("[]:.%0123456789abf", max_size=30))
def test_any_text_is_an_address_whose_canonical_form_stays_or_is_refused(text):
    try:
        address = split_address(text, 9001)
    except BadRequest:
        return
    assert split_address(join_address(*address)) == address


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:a00:1", "10.0.0.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("FE80::1%eth0", "fe80::1%eth0"),
        ("Web.Example.", "web.example"),
        ("LOCALHOST", "localhost"),
    ],
)
def test_a_host_has_one_text(text, host):
    assert normal_host(text) == host == normal_host(host)


@pytest.mark.parametrize(
    "text", ["", ".", "a b", "a..", "10.0.0.256", "1.2.3.4.", "[::1]", "a:5", "*.example", "fe80::1%a b", "\u212a"]
)
def test_what_is_no_host_is_refused_in_one_line(text):
    with pytest.raises(BadRequest) as refusal:
        normal_host(text)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 200


@given(HOSTS, st.integers(1, 65535))
def test_the_host_of_an_address_is_the_normal_text_of_the_host_alone(host, port):
    assert split_address(join_address(normal_host(host), port))[0] == normal_host(host)


def test_a_zone_is_no_part_of_what_other_machines_know():
    assert [without_zone(host) for host in ("fe80::1%eth0", "fe80::1", "a.example")] == ["fe80::1", "fe80::1", "a.example"]


@given(HOSTS, st.integers(1, 65535))
def test_the_host_part_of_a_canonical_address_is_what_a_url_needs(host, port):
    host = normal_host(host)
    assert host_part(join_address(host, port)) == (f"[{host}]" if ":" in host else host)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("::1", 5, 0, 0), "::1"),
        (("fe80::1%eth0:1", 5, 0, 2), "fe80::1%eth0:1"),  # whatever an interface is called, it never fails
        (("::ffff:0:1", 5, 0, 0), "::ffff:0:1"),
    ],
)
def test_the_host_of_a_socket_has_the_same_text(address, host):
    assert host_of(address) == host


def test_a_caller_over_ipv4_is_the_same_host_on_a_socket_for_both():
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening,
        socket.create_connection(("127.0.0.1", listening.getsockname()[1])),
    ):
        sock, address = listening.accept()
        sock.close()
    assert address[0].startswith("::ffff:") and host_of(address) == normal_host(address[0]) == "127.0.0.1"


def test_a_text_is_an_address_with_few_blanks_and_what_is_long_is_not_remembered():
    assert split_address(" " * 100 + "h:1") == ("h", 1)
    before = split_address.cache_info().currsize
    for number in range(10):
        with pytest.raises(BadRequest, match="characters") as error:
            split_address(" " * 100_000 + f"h{number}:1")
        assert len(str(error.value)) < 300
    assert split_address.cache_info().currsize == before


@pytest.mark.parametrize(("text", "reason"), [("h", "it has no port"), ("h:0", "the port must be 1 to 65535")])
def test_a_missing_port_is_not_told_as_a_wrong_one(text, reason):
    with pytest.raises(BadRequest, match=f"is no HOST:PORT: {reason}$"):
        split_address(text)
