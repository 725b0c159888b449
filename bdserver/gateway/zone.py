"""The zone of services, NAME.DOMAIN: what a DNS query asks for, and the message that answers it.

Touches no socket, clock or node: bytes in, bytes out; where a service is, others find out. Every answer has a TTL of 0: a host
has agreed to one call. What is never answered: less than a header, and what is an answer itself, lest two servers answer each
other for ever. Limits come before the parser, which is dnspython's.

    NAME.DOMAIN        A, AAAA: the host's addresses; SRV: its port, and a name below
    _NAME._tcp.DOMAIN  SRV, as RFC 2782 has it
    HEX.addr.DOMAIN    the address that HEX spells: what an SRV record names
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterable

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from bdserver.core.names import valid_name
from bdserver.core.tuples import NamedTuple

HEADER = struct.Struct("!HHHHHH")
OPCODE = 0x7800  # of the flags; 0 is QUERY
# A question of 255 bytes, an OPT and a TSIG record are far below it.
QUERY_BYTES_MAX = 4096
# Of additional records a query has its OPT, and perhaps a signature.
ADDITIONAL_MAX = 2
# What goes through any network in one piece (DNS flag day 2020); and what whoever speaks no EDNS takes.
UDP_BYTES_MAX, PLAIN_BYTES_MAX = 1232, 512
TCP_BYTES_MAX = 65535
# Of the words that say why there is no answer: with them it fits the smallest datagram.
WHY_BYTES_MAX = 200
TTL = 0
# Nobody transfers this zone: the figures of its SOA mean nothing, but for the last, how long "no such name" may be kept.
SOA = "localhost. hostmaster.{domain} 1 3600 600 86400 0"
SERVED = frozenset({RdataType.A, RdataType.AAAA, RdataType.SRV})
TRANSFERS = frozenset({RdataType.AXFR, RdataType.IXFR})
_HEX_ADDRESS = re.compile(r"[0-9a-f]{8}|[0-9a-f]{32}", re.ASCII)
ADDRESSES = "addr"


class Place(NamedTuple):
    """Where a service is served: the addresses of the host, the port, and the host's name where its URL has one."""

    addresses: tuple[str, ...]
    port: int
    name: str = ""


class Query(NamedTuple):
    """A question about a service. `wants`: which of SERVED; none when it asks for something that no service has."""

    message: dns.message.Message
    service: str
    wants: frozenset[RdataType]


class Zone:
    """The zone of a domain."""

    def __init__(self, domain: str) -> None:
        self.origin = dns.name.from_text(domain + ".")
        self._soa = SOA.format(domain=self.origin.to_text())

    # -- questions

    def read(self, data: bytes) -> Query | dns.message.Message | bytes | None:
        """What these bytes ask: for a service; for something that is answered here; or nothing that deserves an answer."""
        if len(data) < HEADER.size:
            return None
        number, flags, questions, answers, authorities, additional = HEADER.unpack_from(data)
        if flags & dns.flags.QR:
            return None
        if flags & OPCODE:
            return _bare(number, flags, Rcode.NOTIMP)
        if questions != 1 or answers or authorities or additional > ADDITIONAL_MAX or len(data) > QUERY_BYTES_MAX:
            return _bare(number, flags, Rcode.FORMERR)
        try:
            message = dns.message.from_wire(data)
            return self._meant(message)
        except dns.message.UnknownTSIGKey:
            return _bare(number, flags, Rcode.NOTAUTH)
        except Exception:  # whatever a parser of strangers' bytes raises: they are no query
            return _bare(number, flags, Rcode.FORMERR)

    def _meant(self, message: dns.message.Message) -> Query | dns.message.Message:
        (question,) = message.question
        if message.edns > 0:
            return self.failed(message, Rcode.BADVERS)
        if question.rdclass != dns.rdataclass.IN or not question.name.is_subdomain(self.origin) or question.rdtype in TRANSFERS:
            return self.failed(message, Rcode.REFUSED)
        labels = question.name.relativize(self.origin).labels
        if not labels:
            return self._apex(message)
        try:
            words = [label.decode("ascii") for label in labels]
        except UnicodeDecodeError:
            return self.nothing(message)
        kind = question.rdtype
        wants = SERVED if kind == RdataType.ANY else SERVED & {kind}
        ends = words[-1].lower()
        if ends == ADDRESSES and len(words) == 2 and _HEX_ADDRESS.fullmatch(words[0].lower()):
            return self._address(message, bytes.fromhex(words[0]))
        if len(words) == 1 and ends in (ADDRESSES, "_tcp"):  # nothing is there, and something below it
            return self.no_data(message)
        if ends == "_tcp" and words[0].startswith("_"):
            words, wants = [words[0][1:], *words[1:-1]], wants & {RdataType.SRV}
        name = ".".join(words)
        if any("." in word for word in words) or not valid_name(name):
            return self.nothing(message)
        return Query(message, name, wants)

    def _apex(self, message: dns.message.Message) -> dns.message.Message:
        (question,) = message.question
        answer = _answer(message)
        for kind, text in ((RdataType.SOA, self._soa), (RdataType.NS, "localhost.")):
            if question.rdtype in (kind, RdataType.ANY):
                answer.answer.append(dns.rrset.from_text(question.name, TTL, "IN", kind, text))
        return answer if answer.answer else self.no_data(message)

    def _address(self, message: dns.message.Message, packed: bytes) -> dns.message.Message:
        (question,) = message.question
        answer = _answer(message)
        _add_addresses(answer.answer, question.name, [str(ipaddress.ip_address(packed))], question.rdtype)
        return answer if answer.answer else self.no_data(message)

    # -- answers

    def found(self, query: Query, place: Place) -> dns.message.Message:
        """The host that takes the call, as far as it was asked for."""
        (question,) = query.message.question
        answer = _answer(query.message)
        for kind in sorted(query.wants & {RdataType.A, RdataType.AAAA}):
            _add_addresses(answer.answer, question.name, place.addresses, kind)
        if RdataType.SRV in query.wants:
            targets = [dns.name.from_text(place.name)] if place.name else [self._name_of(each) for each in place.addresses]
            texts = [f"0 0 {place.port} {target.to_text()}" for target in targets]
            answer.answer.append(dns.rrset.from_text_list(question.name, TTL, "IN", "SRV", texts))
            if not place.name:
                for target, address in zip(targets, place.addresses, strict=True):
                    _add_addresses(answer.additional, target, [address], RdataType.ANY)
        return answer if answer.answer else self.no_data(query.message)

    def _name_of(self, address: str) -> dns.name.Name:
        return dns.name.from_text(f"{ipaddress.ip_address(address).packed.hex()}.{ADDRESSES}", self.origin)

    def no_data(self, message: dns.message.Message) -> dns.message.Message:
        """The name is there, and has nothing of this type (RFC 2308)."""
        answer = _answer(message)
        answer.authority.append(dns.rrset.from_text(self.origin, TTL, "IN", "SOA", self._soa))
        return answer

    def nothing(self, message: dns.message.Message) -> dns.message.Message:
        """There is no such name."""
        answer = self.no_data(message)
        answer.set_rcode(Rcode.NXDOMAIN)
        return answer

    def failed(
        self, message: dns.message.Message, code: Rcode, why: dns.edns.EDECode | None = None, words: str = ""
    ) -> dns.message.Message:
        """No answer; `why`: the reason for whoever speaks EDNS (RFC 8914)."""
        answer = dns.message.make_response(message, our_payload=UDP_BYTES_MAX)
        answer.set_rcode(code)
        if why is not None and message.edns >= 0:
            words = words.encode(errors="replace")[:WHY_BYTES_MAX].decode(errors="ignore")
            answer.use_edns(0, 0, UDP_BYTES_MAX, options=[dns.edns.EDEOption(why, words)])
        return answer


def packed(answer: dns.message.Message | bytes, query: bytes, is_tcp: bool) -> bytes:
    """The answer's bytes; what is too long for a datagram is cut off, and says so: it is asked for again by TCP."""
    if isinstance(answer, bytes):
        return answer
    limit = TCP_BYTES_MAX if is_tcp else _room(answer)
    try:
        return answer.to_wire(max_size=limit)
    except dns.exception.TooBig:
        for section in (answer.answer, answer.authority, answer.additional):
            section.clear()
        answer.flags |= dns.flags.TC
        return answer.to_wire(max_size=limit)


def _room(answer: dns.message.Message) -> int:
    if answer.edns < 0:
        return PLAIN_BYTES_MAX
    return min(max(answer.request_payload, PLAIN_BYTES_MAX), UDP_BYTES_MAX)


def _answer(message: dns.message.Message) -> dns.message.Message:
    answer = dns.message.make_response(message, our_payload=UDP_BYTES_MAX)
    answer.flags |= dns.flags.AA
    return answer


def _add_addresses(section: list[dns.rrset.RRset], name: dns.name.Name, addresses: Iterable[str], wanted: RdataType) -> None:
    for kind, version in ((RdataType.A, 4), (RdataType.AAAA, 6)):
        texts = [each for each in addresses if ipaddress.ip_address(each).version == version]
        if texts and wanted in (kind, RdataType.ANY):
            section.append(dns.rrset.from_text_list(name, TTL, "IN", kind, texts))


def _bare(number: int, flags: int, code: Rcode) -> bytes:
    """An answer to what is not understood: a header alone."""
    kept = flags & (OPCODE | dns.flags.RD)
    return HEADER.pack(number, dns.flags.QR | kept | code, 0, 0, 0, 0)
