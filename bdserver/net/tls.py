"""TLS for the mesh: this node's key files, and a connection whose other end has proved who it is.

Promises: TLS 1.3 and `bd/1` or nothing. Both sides show a certificate of the mesh's CA, with one `bd://MESH/ROLE/NAME`
in it; the callee's is for the address that was dialled. Whatever is wrong ends as one BDError with a line that says what,
on the side that found it and, by a TLS alert, on the other. No call outlasts its deadline, however slowly bytes drip in.

Leaves to others: dialling and listening (a connected socket comes in, and is closed here when the handshake fails),
what a role may do, what the bytes mean, when to load the key files anew."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import select
import socket
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from bdserver.errors import BadConfig, BadFrame, BDError, Deadline, Forbidden, NobodyThere, Refused
from bdserver.net import openssl

ALPN = b"bd/1"
ROLES = ("node", "client", "admin")

# The rule for every name of the product; no dot or dash in front, as it becomes a file's name and a command's argument.
NAME = re.compile(r"(?![.-])[A-Za-z0-9._-]{1,100}")
_URI = re.compile(rf"bd://({NAME.pattern})/([a-z]{{1,20}})/({NAME.pattern})")

# A key or certificate is some 1 kB; ca.crt holds one or two. More than this is another file by mistake.
KEY_FILE_BYTES_MAX = 1 << 20

# The longest payload of a record of TLS.
_RECORD_BYTES = 1 << 14
# Holds what is written back until it is taken off; None where a kernel has no such thing.
_CORK = getattr(socket, "TCP_CORK", None)

# SSL_MODE_NO_AUTO_CHAIN, which pyOpenSSL does not name. Without it OpenSSL verifies our own certificate anew in each
# handshake to send the CA along, which the other side has anyway: 768 µs and 1,100 bytes more became 644 µs.
_MODE_NO_AUTO_CHAIN = 0x8


class Identity(NamedTuple):
    """Who a certificate speaks for; `hosts` are the DNS names (lower case) and IP addresses it may be dialled at."""

    mesh: str
    role: str
    name: str
    hosts: tuple[str, ...]
    not_after: float
    serial: int


def identity_of(certificate: x509.Certificate) -> Identity:
    """Who the certificate says it is: no word on whether that is true."""
    try:
        return _read_identity(certificate)
    except ValueError as reason:
        raise Forbidden(f"the certificate {reason}") from None


def normal_host(host: str) -> str:
    """One spelling for each host: `FE80::1%eth0` is fe80::1, `::ffff:10.0.0.1` is 10.0.0.1, `Web.Example.` web.example."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower().removesuffix(".")
    return str(getattr(address, "ipv4_mapped", None) or address)


def _read_identity(certificate: x509.Certificate) -> Identity:
    """As identity_of; the ValueError's text goes on after "the certificate …"."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        not_after = openssl.ends(certificate).timestamp()
    except x509.ExtensionNotFound:
        names, not_after = x509.SubjectAlternativeName([]), 0.0
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise ValueError("is malformed") from None
    uris = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith("bd:")]
    match = _URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if not match:
        raise ValueError("has two bd:// URIs" if len(uris) > 1 else "has no bd://MESH/ROLE/NAME in it")
    mesh, role, name = match.groups()
    if role not in ROLES:
        raise ValueError(f"is for {role}, which is no role")
    hosts = tuple(
        dict.fromkeys(
            [normal_host(host) for host in names.get_values_for_type(x509.DNSName)]
            + [normal_host(str(host)) for host in names.get_values_for_type(x509.IPAddress)]
        )
    )
    return Identity(mesh, role, name, hosts, not_after, certificate.serial_number)


def _date(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M UTC")


def _a(role: str) -> str:
    return f"an {role}" if role == "admin" else f"a {role}"


# --------------------------------------------------------------------------------------------------------------------
# The key files


def _paths(key_dir: str, username: str) -> tuple[str, str, str]:
    return tuple(os.path.join(key_dir, name) for name in (f"{username}.key", f"{username}.crt", "ca.crt"))  # type: ignore[return-value]


def fingerprint_of_files(key_dir: str, username: str) -> tuple:
    """Changes whenever one of the three files does: compare it with `Credentials.fingerprint_of_files`."""
    return tuple(_fingerprint(path) for path in _paths(key_dir, username))


def _fingerprint(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class Credentials:
    """Our key, our certificate, and the CAs we believe, checked, in one OpenSSL context for calling and being called."""

    __slots__ = ("context", "fingerprint_of_files", "identity", "not_after")

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        authorities: list[x509.Certificate],
        fingerprint: tuple,
        not_after: float,
    ):
        self.identity = identity_of(certificate)
        self.fingerprint_of_files = fingerprint
        self.not_after = not_after
        self.context = _context(key, certificate, authorities)

    def days_left(self, now: float) -> float:
        """Until our certificate is worth nothing: its own end or that of the CA that signed it, whichever comes first."""
        return (self.not_after - now) / 86400


def load_named(keys: str) -> Credentials:
    """The credentials at DIR/NAME, as commands and configs name them."""
    folder, name = os.path.split(keys)
    return load(folder or ".", name)


def load(key_dir: str, username: str) -> Credentials:
    """The credentials in USERNAME.key, USERNAME.crt and ca.crt; BadConfig says which file is wrong and what to do."""
    key_path, certificate_path, authorities_path = _paths(key_dir, username)
    fingerprint = fingerprint_of_files(key_dir, username)  # this first: a file that changes while we read is read again
    _refuse_missing(key_dir, username, fingerprint)
    key = _load_key(key_path)
    [certificate] = _load_certificates(certificate_path, "certificate", count_max=1)
    authorities = _load_certificates(authorities_path, "CA certificate")
    if not openssl.is_key_of(key, certificate):
        raise BadConfig(f"{key_path}: is not the key of {certificate_path}")
    try:
        _read_identity(certificate)
    except ValueError as reason:
        raise BadConfig(f"{certificate_path}: {reason}") from None
    for authority in authorities:
        if not is_authority(authority):
            raise BadConfig(f"{authorities_path}: holds a certificate that is not a CA's ({authority_name(authority)})")
    now = datetime.now(UTC)
    _refuse_outdated(certificate_path, "", certificate, now)
    issuer = issuer_among(authorities, certificate)
    if issuer is None:
        raise BadConfig(f"{certificate_path}: is not signed by a CA in {authorities_path}")
    _refuse_outdated(authorities_path, f"the CA that signed {certificate_path} ", issuer, now)
    not_after = min(openssl.ends(certificate), openssl.ends(issuer)).timestamp()
    return Credentials(key, certificate, authorities, fingerprint, not_after)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False


def authority_name(certificate: x509.Certificate) -> str:
    """What people call it: its subject in one line."""
    return certificate.subject.rfc4514_string()


def issuer_among(authorities: list[x509.Certificate], certificate: x509.Certificate) -> x509.Certificate | None:
    """The one of these CAs whose signature the certificate bears."""
    for authority in authorities:
        try:
            openssl.refuse_other_issuer(certificate, authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return authority
    return None


def read_key_file(path: str, secret: bool = False) -> bytes:
    """The file's bytes; a secret one only if nobody but its owner can read it."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if secret and stat.S_IMODE(mode) & 0o077:
                raise BadConfig(f"{path}: others can read this private key (chmod 600 {path})")
            text = file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    if len(text) > KEY_FILE_BYTES_MAX:
        raise BadConfig(f"{path}: too long for a file of keys")
    return text


def _load_key(path: str) -> ec.EllipticCurvePrivateKey:
    text = read_key_file(path, secret=True)
    try:
        key = load_pem_private_key(text, None)
    except TypeError:
        raise BadConfig(f"{path}: is locked with a passphrase, which a daemon cannot type") from None
    except Exception:  # the parser has many: ValueError, UnsupportedAlgorithm, …; none of them is worth more words
        raise BadConfig(f"{path}: is not a private key in PEM") from None
    if not is_p256(key.public_key()):
        raise BadConfig(f"{path}: is not a P-256 key")
    return key  # type: ignore[return-value]


def is_p256(public_key: object) -> bool:
    """The one kind of key in a mesh."""
    return isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name == "secp256r1"


def _load_certificates(path: str, what: str, count_max: int | None = None) -> list[x509.Certificate]:
    try:
        certificates = openssl.load_all(read_key_file(path))
    except ValueError:
        raise BadConfig(f"{path}: is not a {what} in PEM") from None
    if count_max is not None and len(certificates) > count_max:
        raise BadConfig(f"{path}: holds {len(certificates)} certificates where one belongs")
    return certificates


def _refuse_missing(key_dir: str, username: str, fingerprint: tuple) -> None:
    paths = _paths(key_dir, username)
    missing = [path for path, found in zip(paths, fingerprint, strict=True) if found is None]
    if not missing:
        return
    if missing == [paths[1]] and os.path.exists(os.path.join(key_dir, f"{username}.csr")):
        remedy = f"bdkeys sign DIR {username}.csr"
    else:
        remedy = f"bdkeys issue DIR {username} --host HOST --out {key_dir}"
    raise BadConfig(f"{', '.join(missing)}: missing (make with `{remedy}`)")


def _refuse_outdated(path: str, whose: str, certificate: x509.Certificate, now: datetime) -> None:
    if now > openssl.ends(certificate):
        raise BadConfig(f"{path}: {whose}expired on {_date(openssl.ends(certificate))}")
    if now < openssl.begins(certificate):
        raise BadConfig(f"{path}: {whose}is not valid before {_date(openssl.begins(certificate))} (is a clock wrong?)")


def _context(
    key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, authorities: list[x509.Certificate]
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    openssl.use(context, key, certificate)
    store = context.get_cert_store()
    assert store is not None
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    context.set_alpn_protos([ALPN])
    context.set_alpn_select_callback(_select_alpn)
    # What follows makes a handshake cheap; in µs for both sides together, without the network (tests/bench has the whole).
    context.set_mode(_MODE_NO_AUTO_CHAIN)
    openssl.choose_quick(context)
    # No resumption: it would skip the checks of _Judge. That leaves two tickets of 79 bytes; real ones cost 50 µs and 1,400 B.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    return context


# --------------------------------------------------------------------------------------------------------------------
# The other side's certificate

_UNKNOWN_AUTHORITY = frozenset(
    (
        openssl.CODES.ERR_UNABLE_TO_GET_ISSUER_CERT,
        openssl.CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        openssl.CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        openssl.CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
        openssl.CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN,
        openssl.CODES.ERR_CERT_SIGNATURE_FAILURE,
        openssl.CODES.ERR_AKID_SKID_MISMATCH,
        openssl.CODES.ERR_AKID_ISSUER_SERIAL_MISMATCH,
        openssl.CODES.ERR_SUBJECT_ISSUER_MISMATCH,
    )
)


class _Judge:
    """What we ask of the other side's certificate, and what came out; hung on the connection during its handshake."""

    __slots__ = ("host", "identity", "mesh", "problem", "role", "somebody_else", "whose")

    def __init__(self, whose: str, mesh: str, role: str | None, host: str | None, somebody_else: type[BDError]):
        self.whose = whose
        self.mesh = mesh
        self.role = role
        self.host = host
        self.somebody_else = somebody_else
        self.identity: Identity | None = None
        self.problem: BaseException | None = None

    def check(self, certificate: x509.Certificate) -> None:
        """The certificate is the CA's work; is it of our mesh, of the right role, for the host that we dialled?"""
        try:
            identity = _read_identity(certificate)
        except ValueError as reason:
            raise self.somebody_else(f"{self.whose} {reason}") from None
        self._check_mesh(identity)
        self._check_role(identity)
        if self.host is not None and self.host not in identity.hosts:
            hosts = " and ".join(identity.hosts) or "no host"
            raise self.somebody_else(f"{self.whose} ({identity.name}) is for {hosts}, not for {self.host}")
        self.identity = identity

    def explain(self, certificate: x509.Certificate, error: int, depth: int) -> NoReturn:
        """OpenSSL does not like it: say so in words. What the certificate says of itself is not proved here."""
        codes = openssl.CODES
        named = self.whose
        if depth == 0:
            try:
                identity = _read_identity(certificate)
            except ValueError:
                pass
            else:
                named = f"{self.whose} ({identity.name})"
                self._check_mesh(identity)
                if error == codes.ERR_INVALID_PURPOSE:
                    self._check_role(identity)
        else:
            named = f"the CA of {self.whose}" if self.whose.startswith("the ") else f"{self.whose}: its CA"
        if error == codes.ERR_CERT_HAS_EXPIRED:
            raise Forbidden(f"{named} expired on {_date(openssl.ends(certificate))}")
        if error == codes.ERR_CERT_NOT_YET_VALID:
            before = _date(openssl.begins(certificate))
            raise Forbidden(f"{named} is not valid before {before} (is a clock wrong?)")
        if error in _UNKNOWN_AUTHORITY:
            raise Forbidden(f"{named} is signed by a CA that is not in our ca.crt")
        if error == codes.ERR_INVALID_PURPOSE:
            raise Forbidden(f"{named} is not for this use")
        raise Forbidden(f"{named} is not valid (X.509 error {error})")

    def _check_mesh(self, identity: Identity) -> None:
        if identity.mesh != self.mesh:
            raise self.somebody_else(f"{self.whose} ({identity.name}) is of mesh {identity.mesh}, not of our mesh {self.mesh}")

    def _check_role(self, identity: Identity) -> None:
        if self.role is not None and identity.role != self.role:
            raise self.somebody_else(f"{self.whose} ({identity.name}) is that of {_a(identity.role)}, not of {_a(self.role)}")


def _verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """OpenSSL's callback. An exception must not pass through C, where it is printed and lost: it waits in the judge."""
    judge: _Judge = connection.get_app_data()
    try:
        if not ok:
            judge.explain(certificate.to_cryptography(), error, depth)
        if depth == 0:
            judge.check(certificate.to_cryptography())
    except BaseException as problem:  # a signal's SystemExit too
        judge.problem = judge.problem or problem
        return False
    return True


def _select_alpn(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    if ALPN not in offered:
        raise BadFrame("the caller does not speak bd/1")
    return ALPN


# --------------------------------------------------------------------------------------------------------------------
# The connection


def connect(sock: socket.socket, credentials: Credentials, address: str, deadline: float, role: str | None = "node") -> Stream:
    """TLS as the caller, with whoever was dialled at `address`, HOST:PORT; `role` None takes any.

    Our last part of the handshake leaves with the first `send` (or before the first `recv`): one packet and one waking
    of the callee less. So that he refuses *us* comes out only then."""
    host = normal_host(address.rpartition(":")[0].strip("[]"))
    judge = _Judge(f"{address}: its certificate", credentials.identity.mesh, role, host, Refused)
    stream = Stream(sock, credentials.context, f"{address}:", judge)
    stream._tls.set_connect_state()
    stream._handshake(judge, deadline, _callee_trouble, is_corked=True)
    return stream


def accept(sock: socket.socket, credentials: Credentials, deadline: float) -> Stream:
    """TLS as the callee. What the caller's role may do is for others to check."""
    judge = _Judge("the caller's certificate", credentials.identity.mesh, None, None, Forbidden)
    stream = Stream(sock, credentials.context, "the caller", judge)
    stream._tls.set_accept_state()
    stream._handshake(judge, deadline, _caller_trouble, is_corked=False)
    return stream


def rehearse(credentials: Credentials) -> None:
    """A handshake with ourselves: whatever memory that touches, a forked process has to itself afterwards."""
    ends = []
    set_states = (SSL.Connection.set_connect_state, SSL.Connection.set_accept_state)
    for sock, set_state in zip(socket.socketpair(), set_states, strict=True):
        sock.setblocking(False)
        end = SSL.Connection(credentials.context, sock)
        end.set_app_data(_Judge("our own certificate", credentials.identity.mesh, None, None, Forbidden))
        set_state(end)
        ends.append(end)
    for end in (*ends, *ends):
        with contextlib.suppress(SSL.Error):  # it wants to read; or our certificate is no good: callers will be told
            end.do_handshake()
    for end in ends:
        end.close()


class Stream:
    """Bytes both ways, to and from `identity`.

    The socket does not block: poll waits, as long as the deadline allows, so that no dripping of bytes can hold us inside
    OpenSSL past it."""

    __slots__ = ("_failure", "_is_corked", "_readable", "_sock", "_tls", "_who", "identity")

    identity: Identity

    def __init__(self, sock: socket.socket, context: SSL.Context, who: str, judge: _Judge):
        self._sock = sock
        self._who = who
        self._tls = SSL.Connection(context, sock)
        self._tls.set_app_data(judge)
        self._readable = select.poll()
        self._is_corked = False  # what we wrote waits for something to travel with
        self._failure: BDError | None = None  # what ended the reading, for whoever reads again

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        """All of it is with the kernel, or an exception says why not; after one, only `recv` and `close` make sense."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._tls.send(view) :]
            except SSL.WantWriteError:
                self._await_room(deadline)
            except SSL.Error as error:
                raise self._last_words(error) from None
        self._uncork()

    def recv(self, max_bytes: int, deadline: float) -> bytes:
        """At least one byte and at most these; b"" when the other side closed as it should, NobodyThere when it broke off."""
        if self._failure is not None:
            raise self._failure
        self._uncork()
        while True:
            if not self._tls.pending():
                self._await_word(deadline)
            try:
                return self._tls.recv(min(max_bytes, _RECORD_BYTES))
            except SSL.WantReadError:  # not yet a whole record
                pass
            except SSL.ZeroReturnError:
                return b""
            except SSL.Error as error:
                self._failure = self._trouble(error)
                raise self._failure from None

    def pending(self) -> int:
        """Bytes that are decrypted and were not received: the socket does not tell of them."""
        return self._tls.pending()

    def fileno(self) -> int:
        """The socket's, to wait on when all that was said has been received."""
        return self._sock.fileno()

    def close(self) -> None:
        """Says goodbye if that costs no waiting, and closes the socket."""
        if self._sock.fileno() < 0:
            return
        with contextlib.suppress(SSL.Error):  # the handshake is not over, or TLS has failed: nothing to say goodbye to
            self._tls.shutdown()
        self._close()

    # From here on: the way between TLS and the socket.

    def _handshake(self, judge: _Judge, deadline: float, trouble: Callable[[str, list[str]], BDError], is_corked: bool) -> None:
        """With `is_corked`, what we write last waits for our first message."""
        try:
            self._prepare()
            while True:
                try:
                    self._tls.do_handshake()
                except SSL.WantReadError:
                    self._uncork()
                    self._await_word(deadline)
                    if is_corked:
                        self._cork()
                except SSL.SysCallError as error:
                    raise judge.problem or self._gone(error) from None
                except SSL.Error as error:
                    raise judge.problem or trouble(self._who, _reasons(error)) from None
                else:
                    break
            self._finish(judge, trouble)
        except BaseException:
            self._close()
            raise

    def _prepare(self) -> None:
        try:
            self._sock.setblocking(False)
            self._readable.register(self._sock, select.POLLIN)
            if self._sock.family != socket.AF_UNIX:
                # Else the second small message in a row waits for the acknowledgement of the first: 40 ms.
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise NobodyThere(f"{self._who} broke off ({error.strerror or error})") from None

    def _finish(self, judge: _Judge, trouble: Callable[[str, list[str]], BDError]) -> None:
        if self._tls.get_alpn_proto_negotiated() != ALPN:
            raise trouble(self._who, ["no application protocol"])
        if judge.problem is not None:
            raise judge.problem
        if judge.identity is None:  # cannot be: it would mean a handshake without a certificate
            raise Forbidden(f"{judge.whose} was not checked")
        self.identity = judge.identity
        self._tls.set_app_data(None)

    def _cork(self) -> None:
        if _CORK is not None and self._sock.family != socket.AF_UNIX:
            self._sock.setsockopt(socket.IPPROTO_TCP, _CORK, 1)
            self._is_corked = True

    def _uncork(self) -> None:
        if self._is_corked:
            self._is_corked = False
            with contextlib.suppress(OSError):  # it has gone: reading or writing will say so
                self._sock.setsockopt(socket.IPPROTO_TCP, _CORK, 0)  # type: ignore[arg-type]

    def _await_word(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not self._readable.poll(left * 1000):
            raise Deadline(f"{self._who} did not answer in time")

    def _await_room(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        writable = select.poll()
        writable.register(self._sock, select.POLLOUT)
        if left <= 0 or not writable.poll(left * 1000):
            raise Deadline(f"{self._who} did not read in time")

    def _last_words(self, error: SSL.Error) -> BDError:
        """Our sending failed: has the other side said why, before it closed? What it said can still be read by `recv`."""
        if self._failure is None:
            try:
                self._tls.recv(1, socket.MSG_PEEK)
            except (SSL.WantReadError, SSL.ZeroReturnError, SSL.SysCallError):
                pass
            except SSL.Error as said:
                self._failure = self._trouble(said)
        return self._failure or self._trouble(error)

    def _close(self) -> None:
        self._uncork()
        with contextlib.suppress(OSError):
            # Bytes left unread would turn our goodbye, or the alert that says why, into a reset that overtakes it.
            self._sock.recv(1 << 16, socket.MSG_DONTWAIT)
        self._sock.close()

    def _gone(self, error: SSL.SysCallError) -> NobodyThere:
        number = error.args[0]
        return NobodyThere(f"{self._who} broke off {f'({os.strerror(number)})' if number > 0 else 'without a word'}")

    def _trouble(self, error: SSL.Error) -> BDError:
        if isinstance(error, SSL.SysCallError):
            return self._gone(error)
        return _alert_trouble(self._who, _reasons(error)) or BadFrame(
            f"{self._who} sent what does not decrypt ({'; '.join(_reasons(error)) or 'TLS failed'})"
        )


# --------------------------------------------------------------------------------------------------------------------
# OpenSSL's reasons in our words

_NOT_ACCEPTED = {
    "certificate expired": "it has expired, or a clock is wrong",
    "bad certificate": "it is not valid yet, or a clock is wrong",
    "unknown ca": "it is signed by a CA that is not in the ca.crt there",
    "certificate unknown": "wrong mesh, role or address",
    "unsupported certificate": "it is not for this use",
    "certificate revoked": "it is revoked",
    "certificate required": "none came",
    "access denied": "access denied",
    "decrypt error": "its signature is wrong",
}
_NOT_OURS = ("no application protocol", "protocol version", "handshake failure", "insufficient security")


def _reasons(error: SSL.Error) -> list[str]:
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return [reason for _, _, reason in queue if reason]


def _alert_trouble(who: str, reasons: list[str]) -> BDError | None:
    """What the other side's alert means, if one came."""
    for reason in reasons:
        _, is_alert, alert = reason.partition(" alert ")
        if not is_alert:
            continue
        if alert in _NOT_ACCEPTED:
            return Forbidden(f"{who} does not accept our certificate: {_NOT_ACCEPTED[alert]}")
        if alert in _NOT_OURS:
            return Refused(f"{who} does not speak bd/1 over TLS 1.3 ({alert})")
        return NobodyThere(f"{who} broke off the TLS ({alert})")
    return None


def _callee_trouble(who: str, reasons: list[str]) -> BDError:
    """Our call failed, and not for the callee's certificate."""
    return _alert_trouble(who, reasons) or Refused(
        f"{who} does not speak bd/1 over TLS 1.3 ({'; '.join(reasons) or 'TLS failed'})"
    )


def _caller_trouble(who: str, reasons: list[str]) -> BDError:
    """A caller's handshake failed, and not for what its certificate says."""
    trouble = _alert_trouble(who, reasons)
    if trouble is not None:
        return trouble
    if "peer did not return a certificate" in reasons:
        return Forbidden(f"{who} sent no certificate")
    if "http request" in reasons or "https proxy request" in reasons:
        return BadFrame(f"{who} speaks plain HTTP, this port is for bd/1 over TLS 1.3")
    if "unsupported protocol" in reasons:
        return BadFrame(f"{who} speaks a TLS older than 1.3")
    if "no application protocol" in reasons:
        return BadFrame(f"{who} does not speak bd/1")
    return BadFrame(f"{who} does not speak TLS ({'; '.join(reasons) or 'TLS failed'})")
