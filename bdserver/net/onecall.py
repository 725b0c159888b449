"""TLS for a process that makes one call and ends: for the short way of bdwhereis.

By what Python's ssl and socket are made of (_ssl, _socket): to import these takes 2 ms, ssl and socket 13, pyOpenSSL and
cryptography 85. Promises to take nobody whom `tls.connect` with credentials of `keys` would refuse: TLS 1.3 and bd/1, a
certificate of the mesh's CA, in date, for being called, of our mesh, of the role node, for the host that was dialled. When in
doubt, in our own files too, or should a Python to come have another _ssl, it raises one of UNUSUAL, with no words for a person:
whoever called then goes the other way, which has them. The tests of handshakes go both ways.
"""

from __future__ import annotations

import _socket
import _ssl
import posix
from binascii import a2b_base64
from time import monotonic

from bdserver.errors import Deadline

TYPE_CHECKING = False  # as typing's, whose import would cost two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# OpenSSL's own errors and TimeoutError are OSErrors.
UNUSUAL = (OSError, ValueError, LookupError, AttributeError, TypeError)

ALPN = b"bd/1"
# As in keys.
KEY_FILE_BYTES_MAX = 1 << 20
# How a P-256 key begins in a certificate: all keys of a mesh are of this kind.
_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_FILE_TYPE, _REGULAR, _OTHERS = 0o170000, 0o100000, 0o077
# ssl's PROTOCOL_TLS_CLIENT, CERT_REQUIRED and TLSVersion.TLSv1_3, the last of which is a number of the protocol itself.
_CLIENT, _REQUIRED, _TLS_1_3 = _ssl.PROTOCOL_TLS_CLIENT, _ssl.CERT_REQUIRED, 0x304


class _Socket(_socket.socket):
    """_ssl holds a weak reference to its socket, which _socket's own do not allow."""


class Caller:
    """Our end of the mesh: what we show, whom we believe, and our mesh's name. `is_name`: the rule for names."""

    def __init__(self, context: Any, mesh: str, is_name: Callable[[str], bool]) -> None:
        self.context, self.mesh, self.is_name = context, mesh, is_name

    @classmethod
    def load(cls, keys: str, is_name: Callable[[str], bool]) -> Caller:
        """With DIR/NAME.key, DIR/NAME.crt and DIR/ca.crt; one of UNUSUAL unless all is as `bdkeys` makes it."""
        folder = keys.rpartition("/")[0] if "/" in keys else "."
        authorities, certificate = _text(f"{folder}/ca.crt"), _text(f"{keys}.crt")
        _text(f"{keys}.key", is_secret=True)
        begin, body, rest = certificate.strip().partition(_END)
        der = a2b_base64(begin.removeprefix(_BEGIN))
        if not begin.startswith(_BEGIN) or not body or _P256 not in der:
            raise ValueError("not one certificate for a P-256 key")
        if rest and not _is_signers(rest.strip()):
            raise ValueError("not one certificate, and that of its signer")
        return cls(context_of(f"{keys}.key", f"{keys}.crt", authorities), _mesh(der, is_name), is_name)

    def dial(self, host: str, port: int, deadline: float) -> Stream:
        """A connection to the node at an IPv4 address; one of UNUSUAL, or a BDError in the words of dialling.dial."""
        address = f"{host}:{port}"
        sock = _Socket(_socket.AF_INET, _socket.SOCK_STREAM)
        started = monotonic()
        sock.settimeout(max(deadline - started, 0.001))
        try:
            sock.connect((host, port))
        except OSError as error:
            from bdserver.net.tcp import unreached

            raise unreached(address, error, deadline - started) from None
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        try:
            return self.call(sock, host, deadline)
        except TimeoutError:
            raise Deadline(f"{address}: did not answer in time") from None

    def call(self, sock: _socket.socket, host: str, deadline: float) -> Stream:
        """The handshake with the node that was dialled at `host`, in its canonical form; else one of UNUSUAL."""
        sock.settimeout(max(deadline - monotonic(), 0.001))
        tls = self.context._wrap_socket(sock, False)
        tls.do_handshake()
        if tls.selected_alpn_protocol() != ALPN.decode() or not self.is_node(tls.getpeercert(), host):
            raise ValueError("somebody else")
        return Stream(sock, tls)

    def is_node(self, certificate: dict[str, Any] | None, host: str) -> bool:
        """As handshake.Judge has it."""
        names = (certificate or {}).get("subjectAltName", ())
        hosts = [text.removesuffix(".").lower() for kind, text in names if kind in ("DNS", "IP Address") and text.isascii()]
        uris = [text for kind, text in names if kind == "URI" and text.startswith("bd:")]
        name = uris[0].rpartition("/")[2] if len(uris) == 1 else ""
        return host in hosts and self.is_name(name) and uris == [f"bd://{self.mesh}/node/{name}"]


class Stream:
    """The connection, with as much of a socket's manners as is needed for one question."""

    def __init__(self, sock: _socket.socket, tls: Any) -> None:
        self._socket, self._tls = sock, tls
        self.settimeout = sock.settimeout

    def sendall(self, data: bytes) -> None:
        """All of it, within the timeout, or one of UNUSUAL."""
        while data:
            data = data[self._tls.write(data) :]

    def recv(self, bytes_max: int) -> bytes:
        """What there is, b"" at the end; one of UNUSUAL where it broke off."""
        return self._tls.read(bytes_max)  # type: ignore[no-any-return]


def context_of(key_path: str, certificate_path: str, authorities: str) -> Any:
    """TLS 1.3, bd/1, our key, and of CAs these alone."""
    context: Any = _ssl._SSLContext(_CLIENT)
    context.check_hostname = False  # `call` does it, by our own rules; the chain is verified all the same
    context.verify_mode, context.minimum_version = _REQUIRED, _TLS_1_3
    context._set_alpn_protocols(bytes([len(ALPN)]) + ALPN)
    context.load_verify_locations(cadata=authorities)
    if not context.cert_store_stats()["x509"] == context.cert_store_stats()["x509_ca"] == authorities.count(_BEGIN):
        raise ValueError("not all of them are CAs")
    context.load_cert_chain(certificate_path, key_path, "")  # an empty passphrase: else OpenSSL would ask whoever sits there
    return context


def _is_signers(certificate: str) -> bool:
    """Whether this is one certificate, with the unit "signer" in it (a text of UTF-8, type 12), and nobody's bd:// URI: who
    vouches for it the other side finds out."""
    body = certificate.removeprefix(_BEGIN).removesuffix(_END)
    der = a2b_base64(body)
    return certificate == f"{_BEGIN}{body}{_END}" and _END not in body and b"\x0c\x06signer" in der and b"bd://" not in der


def _mesh(der: bytes, is_name: Callable[[str], bool]) -> str:
    """The mesh in our own certificate's bd://MESH/ROLE/NAME, which stands behind its kind (6, a URI) and its length."""
    at = der.index(b"bd://")
    length = der[at - 1]
    _, _, mesh, _, name = der[at : at + length].decode().split("/")
    if der[at - 2] != 0x86 or length > 127 or b"bd://" in der[at + length :] or not is_name(mesh) or not is_name(name):
        raise ValueError("no bd://MESH/ROLE/NAME, or two")
    return mesh


def _text(path: str, is_secret: bool = False) -> str:
    """Of a regular file of a reasonable size, which nobody else can read if it is secret: `keys` knows of exceptions."""
    status = posix.stat(path)
    is_open = is_secret and status.st_mode & _OTHERS
    if status.st_mode & _FILE_TYPE != _REGULAR or status.st_size > KEY_FILE_BYTES_MAX or is_open:
        raise ValueError("no file of keys")
    with open(path, "rb") as file:
        return file.read().decode("ascii")
