"""What a DNS query asks for, and the message that answers it."""

import random
import struct

import dns.flags
import dns.message
import dns.rcode
import pytest
from dns.rdatatype import RdataType
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core.names import valid_name
from bdserver.gateway.zone import HEADER, QUERY_BYTES_MAX, WHY_BYTES_MAX, Place, Query, Zone, packed

ZONE = Zone("bd.internal")
PLACE = Place(("10.0.0.2", "fd00::2"), 8080)


def query(name, kind="A", **options):
    return dns.message.make_query(name, kind, id=7, **options).to_wire()  # one number: tests are named by these bytes


def read(name, kind="A", **options):
    return ZONE.read(query(name, kind, **options))


def answered(name, kind="A", place=PLACE, is_tcp=False, **options):
    """The answer, through the wire and back, to a service's query."""
    data = query(name, kind, **options)
    meant = ZONE.read(data)
    return dns.message.from_wire(packed(ZONE.found(meant, place) if isinstance(meant, Query) else meant, data, is_tcp))


def texts(section):
    return [line for rrset in section for line in sorted(rrset.to_text().splitlines())]


EDNS = query("Echo.bd.internal", use_edns=0)  # its fifth byte from the end is the version

SOA = "bd.internal. 0 IN SOA localhost. hostmaster.bd.internal. 1 3600 600 86400 0"


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("A", ["Echo.bd.internal. 0 IN A 10.0.0.2"]),
        ("AAAA", ["Echo.bd.internal. 0 IN AAAA fd00::2"]),
        (
            "SRV",
            [
                "Echo.bd.internal. 0 IN SRV 0 0 8080 0a000002.addr.bd.internal.",
                "Echo.bd.internal. 0 IN SRV 0 0 8080 fd000000000000000000000000000002.addr.bd.internal.",
            ],
        ),
    ],
)
def test_a_service_has_addresses_and_a_port(kind, lines):
    said = answered("Echo.bd.internal", kind)
    assert texts(said.answer) == lines and said.rcode() == 0 and said.flags & dns.flags.AA


def test_any_asks_for_all_of_it_and_an_srv_brings_its_addresses_along():
    assert [rrset.rdtype for rrset in answered("Echo.bd.internal", "ANY").answer] == [
        RdataType.A,
        RdataType.AAAA,
        RdataType.SRV,
    ]
    said = answered("Echo.bd.internal", "SRV")
    assert texts(said.additional) == [
        "0a000002.addr.bd.internal. 0 IN A 10.0.0.2",
        "fd000000000000000000000000000002.addr.bd.internal. 0 IN AAAA fd00::2",
    ]
    for target, kind, text in (("0a000002", "A", "10.0.0.2"), ("fd" + "0" * 29 + "2", "AAAA", "fd00::2")):
        assert answered(f"{target}.addr.bd.internal", kind).answer[0][0].to_text() == text


def test_a_host_that_its_url_names_is_named():
    said = answered("Echo.bd.internal", "SRV", Place(("10.0.0.2",), 443, "web.example"))
    assert texts(said.answer) == ["Echo.bd.internal. 0 IN SRV 0 0 443 web.example."] and not said.additional


def test_rfc_2782_names_are_taken_for_srv_alone():
    assert ZONE.read(query("_Echo._tcp.bd.internal", "SRV"))[1:] == ("Echo", {RdataType.SRV})
    assert ZONE.read(query("_a.b._tcp.bd.internal", "SRV")).service == "a.b"
    assert ZONE.read(query("_Echo._tcp.bd.internal", "A")).wants == frozenset()


def test_the_asker_sees_its_name_as_it_wrote_it_and_the_domain_knows_no_capitals():
    said = answered("eChO.Bd.INTERNAL")
    assert said.question[0].name.to_text() == said.answer[0].name.to_text() == "eChO.Bd.INTERNAL."
    assert read("eChO.Bd.INTERNAL").service == "eChO"


@pytest.mark.parametrize("kind", ["MX", "TXT", "HTTPS", "SOA", "NS"])
def test_what_no_service_has_is_a_question_about_its_name_alone(kind):
    meant = read("Echo.bd.internal", kind)
    assert meant.service == "Echo" and not meant.wants


def test_no_data_and_no_name_come_with_the_soa_and_are_not_kept():
    only_four = answered("Echo.bd.internal", "AAAA", Place(("10.0.0.2",), 80))
    assert (only_four.rcode(), only_four.answer, texts(only_four.authority)) == (0, [], [SOA])
    nothing = ZONE.nothing(read("Nothing.bd.internal").message)
    assert (nothing.rcode(), texts(nothing.authority)) == (dns.rcode.NXDOMAIN, [SOA])


@pytest.mark.parametrize(
    ("name", "kind", "answers"),
    [
        ("bd.internal", "SOA", [SOA]),
        ("bd.internal", "NS", ["bd.internal. 0 IN NS localhost."]),
        ("bd.internal", "A", []),
        ("addr.bd.internal", "A", []),
        ("_tcp.bd.internal", "A", []),
        ("0a000002.addr.bd.internal", "AAAA", []),
        ("0a000002.addr.bd.internal", "SRV", []),
    ],
)
def test_what_is_there_beside_services(name, kind, answers):
    said = answered(name, kind)
    assert (said.rcode(), texts(said.answer)) == (0, answers)
    assert answers or texts(said.authority) == [SOA]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (query("example.org"), "REFUSED"),
        (query("bd.internal.example.org"), "REFUSED"),
        (query("xbd.internal"), "REFUSED"),
        (query("bd.internal", "AXFR"), "REFUSED"),
        (query("Echo.bd.internal", rdclass="CH"), "REFUSED"),
        (query("-x.bd.internal"), "NXDOMAIN"),
        (query("a\\.b.bd.internal"), "NXDOMAIN"),
        (query("\\255.bd.internal"), "NXDOMAIN"),
        (query("x" * 60 + "." + "y" * 60 + ".bd.internal"), "NXDOMAIN"),
        (EDNS[:-5] + b"\1" + EDNS[-4:], "BADVERS"),
        (HEADER.pack(7, 0x2800, 1, 0, 0, 0), "NOTIMP"),
        (HEADER.pack(7, 0, 0, 0, 0, 0), "FORMERR"),
        (HEADER.pack(7, 0, 2, 0, 0, 0), "FORMERR"),
        (HEADER.pack(7, 0, 1, 0, 0, 9), "FORMERR"),
        (HEADER.pack(7, 0, 1, 0, 0, 0), "FORMERR"),
        (query("Echo.bd.internal") + b"x", "FORMERR"),
        (query("Echo.bd.internal") + bytes(QUERY_BYTES_MAX), "FORMERR"),
        (HEADER.pack(7, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", "FORMERR"),
    ],
)
def test_what_is_not_answered_is_said(data, code):
    meant = ZONE.read(data)
    said = dns.message.from_wire(packed(meant, data, is_tcp=False))
    assert dns.rcode.to_text(said.rcode()) == code and said.id == struct.unpack("!H", data[:2])[0]
    assert said.flags & dns.flags.QR and (code != "NOTIMP" or said.opcode() == 5)


@pytest.mark.parametrize("data", [b"", bytes(11), HEADER.pack(7, 0x8000, 1, 0, 0, 0), answered("Echo.bd.internal").to_wire()])
def test_less_than_a_header_and_answers_are_never_answered(data):
    assert ZONE.read(data) is None


def test_an_answer_too_long_for_a_datagram_says_so_and_is_whole_by_tcp():
    many = Place(tuple(f"10.0.1.{number}" for number in range(1, 101)), 80)
    assert answered("Echo.bd.internal", place=many).flags & dns.flags.TC
    assert not answered("Echo.bd.internal", place=many).answer
    assert answered("Echo.bd.internal", place=many, use_edns=0, payload=65535).flags & dns.flags.TC, "1232 bytes at most"
    said = answered("Echo.bd.internal", place=many, is_tcp=True)
    assert len(said.answer[0]) == 100 and not said.flags & dns.flags.TC


def test_why_there_is_no_answer_is_said_to_who_speaks_edns():
    for options, count in (({}, 0), ({"use_edns": 0}, 1)):
        message = read("Echo.bd.internal", **options).message
        said = ZONE.failed(message, dns.rcode.SERVFAIL, dns.edns.EDECode.PROHIBITED, "so it is")
        assert len(dns.message.from_wire(said.to_wire()).options) == count


@pytest.mark.parametrize("words", ["x" * 5000, "ä" * 500, "\ud800" * 300])
def test_however_long_the_reason_is_the_smallest_datagram_takes_the_answer(words):
    name = f"{'a' * 60}.{'b' * 39}.bd.internal"
    message = read(name, use_edns=0, payload=512).message
    said = packed(ZONE.failed(message, dns.rcode.SERVFAIL, dns.edns.EDECode.PROHIBITED, words), b"", is_tcp=False)
    found = dns.message.from_wire(said)
    assert found.rcode() == dns.rcode.SERVFAIL and not found.flags & dns.flags.TC and len(said) <= 512
    assert 150 <= len(found.options[0].text.encode()) <= WHY_BYTES_MAX


@given(st.binary(max_size=300))
def test_any_bytes_are_answered_with_a_message_or_not_at_all(data):
    check(data)


def check(data):
    """The invariant: nothing is raised, and what is answered is a message with the asker's number."""
    meant = ZONE.read(data)
    if meant is None:
        return
    if isinstance(meant, Query):
        assert valid_name(meant.service)
        meant = ZONE.found(meant, PLACE)
    wire = packed(meant, data, is_tcp=False)
    assert wire[:2] == data[:2] and wire[2] & 0x80 and len(wire) <= 1232


def test_ten_thousand_bent_queries_are_answered_or_dropped():
    seed = random.randrange(10**9)
    rng = random.Random(seed)
    kinds = ["A", "AAAA", "SRV", "ANY", "MX", "AXFR", "TXT"]
    for number in range(10_000):
        data = bytearray(
            query(rng.choice(["Echo.bd.internal", "a.b.bd.internal", "bd.internal", "x.example"]), rng.choice(kinds))
        )
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            check(bytes(data[: rng.choice([len(data), rng.randrange(len(data))])]))
        except Exception:
            print(f"seed {seed}, query {number}: {bytes(data)!r}")
            raise
