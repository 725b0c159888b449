"""What an attacker sends: bytes, policies and records, for each test that attacks with them."""

import hmac
import socket
import struct
import time
import zlib
from base64 import b64encode

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bdserver.core import membership
from bdserver.core.address import split_address
from bdserver.core.membership import as_json, certificate_digest, from_json
from bdserver.core.wire import DEPTH_MAX, FLAG_ZLIB, FRAME_BYTES_MAX, HEADER, encode
from bdserver.net import dialling, tls
from bdserver.net.proofs import PREFIX

SECONDS = 20.0  # for whatever an attacker does at once


# --- connections --------------------------------------------------------------------------------------------------


def raw(address):
    """A TCP connection to it on which nothing was said."""
    sock = socket.create_connection(split_address(address), SECONDS)
    sock.settimeout(SECONDS)
    return sock


def stream(address, credentials):
    """One that has shaken hands."""
    return tls.connect(raw(address), credentials, address, time.monotonic() + SECONDS)


def reset(sock):
    """Closed by a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# A ClientHello of which the end never comes.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
NO_HELLO = (b"", b"\x16", b"\x16\x03\x01\xff\xff" + bytes(1000), b"GET / HTTP/1.1\r\n\r\n")


# --- frames -------------------------------------------------------------------------------------------------------


def frame(payload, flags=0):
    return HEADER.pack(len(payload), flags) + payload


BAD = {
    "garbage": (b"\xff" * 64, "bad-frame"),
    "plain HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "bad-frame"),
    "a declared length over the limit": (struct.pack("!IB", FRAME_BYTES_MAX + 1, 0), "too-large"),
    "unknown flags": (frame(b'["PING"]', 2), "bad-frame"),
    "not JSON": (frame(b'["PING"'), "bad-frame"),
    "not UTF-8": (frame(b'["\xff"]'), "bad-frame"),
    "NaN": (frame(b'["HINT", NaN]'), "bad-frame"),
    "an infinite number": (frame(b'["HINT", 1e999]'), "bad-frame"),
    "a huge integer": (frame(b'["HINT", ' + b"9" * 5000 + b"]"), "bad-frame"),
    "a lone surrogate": (frame(b'["HINT", "\\ud800"]'), "bad-frame"),
    "null": (frame(b"null"), "bad-frame"),
    "broken zlib": (frame(b"xxxx", 1), "bad-frame"),
    "cut zlib": (frame(zlib.compress(b'["PING"]')[:-3], 1), "bad-frame"),
    "a zlib bomb": (frame(zlib.compress(b"[" + b" " * (64 << 20) + b"]", 9), 1), "too-large"),
    "deep nesting": (frame(b"[" * 100_000 + b"]" * 100_000), "too-large"),
    "one level too deep": (frame(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1)), "too-large"),
    "a million values": (frame(zlib.compress(b"[" + b"1," * 1_000_000 + b"1]"), 1), "too-large"),
    "a frame cut in the middle": (frame(b'["PING"]')[:-2], "bad-frame"),
    "an object": (frame(b"{}"), "bad-request"),
    "an empty list": (frame(b"[]"), "bad-request"),
    "a command that is no text": (frame(b"[1]"), "bad-request"),
    "no such command": (frame(b'["MAKEIMAGE"]'), "no-such-command"),
    "too many arguments": (frame(b'["PING", 1]'), "bad-request"),
    "too few arguments": (frame(b'["WHEREIS"]'), "bad-request"),
    "a path for a service": (encode(["WITHDRAW", "../../etc/passwd"]), "bad-request"),
    "a dot file for a service": (encode(["WITHDRAW", ".bashrc"]), "bad-request"),
    "an opening of another version": (encode(["OPEN", {"version": 99}]) + encode(["PING"]), "bad-request"),
    "an opening of the wrong shape": (encode(["OPEN", 3]) + encode(["PING"]), "bad-request"),
    "a policy that is no XML": (encode(["OPEN", {"version": 1, "policy_text": "<"}]) + encode(["PING"]), "bad-policy"),
    "a digest nobody knows": (encode(["OPEN", {"version": 1, "policy": "ab"}]) + encode(["PING"]), "policy-unknown"),
    "no time left": (encode(["OPEN", {"version": 1, "deadline": 0}]) + encode(["PING"]), "deadline"),
}

GARBAGE = (
    b"\xff" * 1000,
    HEADER.pack(FRAME_BYTES_MAX + 1, 0),
    encode(["PING"])[:-2],
    encode([["PING"]]),
    HEADER.pack(4, 0) + b"null",
)

_PAYLOAD = zlib.compress(b'["PING",[' + b"0," * 499_990 + b"0]]", 9)
# A kilobyte that is a megabyte, and no request.
BOMB = HEADER.pack(len(_PAYLOAD), FLAG_ZLIB) + _PAYLOAD


# --- records of TLS -----------------------------------------------------------------------------------------------


def secret_kept(context):
    """A function that returns the secret by which an end sends, CLIENT or SERVER, of the connection that this context made last."""
    lines = []
    context.set_keylog_callback(lambda _, line: lines.append(line.decode().split()))
    return lambda end: next(bytes.fromhex(line[2]) for line in reversed(lines) if line[0] == f"{end}_TRAFFIC_SECRET_0")


def key_updates(secret, count, after=0):
    """So many records that say that the sender's keys change (RFC 8446, 4.6.3 and 7.2), which brings nothing that is read; by
    TLS_AES_128_GCM_SHA256. `after`: how many it has sent before."""
    inner = b"\x18\0\0\x01\0" + b"\x16"
    header = struct.pack("!BHH", 0x17, 0x303, len(inner) + 16)
    records = []
    for _ in range(count):
        key, iv = _expanded(secret, b"key", 16), _expanded(secret, b"iv", 12)
        nonce = (int.from_bytes(iv) ^ after).to_bytes(12)
        records.append(header + AESGCM(key).encrypt(nonce, inner, header))
        after = 0
        secret = _expanded(secret, b"traffic upd", 32)
    return b"".join(records)


def _expanded(secret, label, length):
    """HKDF-Expand-Label, of no more than one block."""
    label = b"tls13 " + label
    return hmac.digest(secret, struct.pack("!HB", length, len(label)) + label + b"\0\x01", "sha256")[:length]


# --- policies -----------------------------------------------------------------------------------------------------


def policy(inside):
    """The document."""
    return f'<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:a="http://a.example/">{inside}</wsp:Policy>'


# Alternatives beside thousands of empty ones: it took half a minute of a core.
EXPENSIVE = policy("<wsp:ExactlyOne>" + "".join(f"<a:x{n}/>" for n in range(64)) + "</wsp:ExactlyOne>" + "<wsp:All/>" * 4000)


def opening(text):
    """The frame that shows this policy."""
    return encode(["OPEN", {"version": 1, "oldest": 1, "deadline": 5, "policy_text": text}])


# --- records ------------------------------------------------------------------------------------------------------


class Liar:
    """Holds the keys of a node, and tells `host` (whatever has a gossip_address) what it likes."""

    def __init__(self, host, keys):
        self.host, self.keys = host, keys

    def says(self, record, by=None, certificate=None):
        """The record as it signs it, with the key of `by`, under the certificate of `by` or another."""
        signer = by or self.keys
        said = membership.statement(record)
        text = certificate or signer.der
        signature = b64encode(signer.sign(PREFIX + said.encode())).decode()
        return as_json(record._replace(said=said, signature=signature, certificate=certificate_digest(text))), text

    def exchange(self, said):
        """The answer of the host's discoverer; None when that is NO."""
        deadline = time.monotonic() + SECONDS
        with dialling.dial(self.host.gossip_address, self.keys, deadline) as talk:
            return getattr(talk.ask(["SYNCHRONIZE", said], deadline), "exchange", None)

    def tell(self, *told):
        """Records that are (as_json, certificate)."""
        certificates = {certificate_digest(text): text for _, text in told}
        return self.exchange({"records": [record for record, _ in told], "certificates": certificates})

    def record_of(self, name):
        """(the record of that node as it stands, its certificate), as the host tells them to whoever asks."""
        said = self.exchange({"of": list(range(32)), "versions": {}})
        assert said is not None, "NO"
        for value in said["records"]:
            if (record := from_json(value)).name == name:
                return record, said["certificates"][record.certificate]
        raise AssertionError(f"no {name}")
