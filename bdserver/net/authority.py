"""The mesh's certificate authority (CA), the folder that it lives in, and what it signs.

Promises P-256 throughout; who a certificate is for stands in a URI bd://MESH/ROLE/NAME. Private keys are 0600 from their first
instant, no key is ever overwritten, and every file appears whole or not at all. No crash undoes what was made; whenever it
comes, the CA signs as before or as after, and a node's files stay good. A request says what its name and hosts are, never its
role. Nothing is signed that nobody would accept: by a CA that has expired, or for a certificate of another CA.

Leaves to others: what people read about it (bdkeys), the reading of files of keys (`keys`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bdserver.core.address import normal_host, without_zone
from bdserver.core.names import valid_name
from bdserver.core.roles import NODE, Role
from bdserver.errors import BadConfig, BadRequest
from bdserver.net import keys, openssl
from bdserver.net.identity import expired, identity_of, uri_of

CA_DAYS, DAYS = 3650, 365
# A hundred years: what is meant to last for ever ends before the dates of X.509 do.
DAYS_MAX = 36500
# Clocks of hosts differ; a certificate made now must be good on one that is a little behind.
BACKDATED = timedelta(minutes=10)
HOSTS_MAX = 100
# X.509 allows 64 characters in a common name.
NAME_CHARACTERS_MAX = 64

Hosts: TypeAlias = list[x509.IPAddress | x509.DNSName]


class Authority:
    """The CA in a folder: ca.key, and the certificate in ca.crt that it belongs to; ca.crt may hold the one before it too."""

    __slots__ = ("_certificates", "_key", "certificate", "folder", "mesh")

    def __init__(self, folder: str, key: ec.EllipticCurvePrivateKey, certificates: list[x509.Certificate]):
        """`certificates`: what ca.crt holds."""
        path = os.path.join(folder, "ca.crt")
        own = [certificate for certificate in certificates if openssl.is_key_of(key, certificate)]
        if not own:
            raise BadConfig(f"{os.path.join(folder, 'ca.key')}: is not the key of {path}")
        self.folder = folder
        self._key, self._certificates = key, certificates
        self.certificate = keys.longest(own, datetime.now(UTC))
        organization = self.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        if not organization:
            raise BadConfig(f"{path}: was not made by bdkeys init")
        self.mesh = str(organization[0].value)

    @classmethod
    def load(cls, folder: str) -> Authority:
        """The CA that `make` made there."""
        key = keys.load_key(os.path.join(folder, "ca.key"))
        return cls(folder, key, keys.load_authorities(os.path.join(folder, "ca.crt")))

    @classmethod
    def make(cls, folder: str, mesh: str, days: int = CA_DAYS) -> Authority:
        """A new CA, in a folder that its owner alone can enter from now on."""
        refuse_other_names(mesh)
        _make_folder(folder)
        os.chmod(folder, 0o700)
        _refuse_existing(os.path.join(folder, "ca.key"), os.path.join(folder, "ca.crt"))
        _make(folder, mesh, days, [], "")
        return cls.load(folder)

    def roll(self, days: int = CA_DAYS) -> str:
        """A new CA in the place of this one, whose certificate stays in ca.crt; the name of the file that keeps its key."""
        old_key_name = f"ca-{format(self.certificate.serial_number, 'x')[:16]}.key"
        _make(self.folder, self.mesh, days, [self.certificate], old_key_name)
        return old_key_name

    def sign(
        self, public_key: ec.EllipticCurvePublicKey, name: str, role: Role, hosts: Hosts, days: int = DAYS
    ) -> x509.Certificate:
        """A certificate, which ends with ours at the latest."""
        refuse_other_names(name)
        now, ends_at = datetime.now(UTC), openssl.ends(self.certificate)
        if now > ends_at:
            path = os.path.join(self.folder, "ca.crt")
            raise BadConfig(
                f"{path}: {expired(self.certificate)}, and nothing that it signs is good (bdkeys roll {self.folder})"
            )
        who = x509.UniformResourceIdentifier(uri_of(self.mesh, role, name))
        # Only a node is ever called, so nobody else's certificate can stand in for one.
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if role == NODE else [])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return (
            _builder(subject, public_key, min(now + timedelta(days=days), ends_at))
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([who, *hosts]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, folder: str, name: str, role: Role, hosts: Hosts, days: int = DAYS) -> x509.Certificate:
        """NAME.key, NAME.csr, NAME.crt and ca.crt in a folder, which is a node's key_dir."""
        refuse_other_names(name)
        _make_folder(folder)
        base = os.path.join(folder, name)
        _refuse_existing(base + ".crt")
        key = make_request(folder, name, hosts)
        certificate = self.sign(key.public_key(), name, role, hosts, days)
        self._put_bundle(folder)
        _write(base + ".crt", _pem([certificate]))
        return certificate

    def sign_request(self, request_path: str, role: Role, days: int = DAYS) -> tuple[str, x509.Certificate]:
        """A signing request's (path, certificate), beside it; the role is ours to give, whatever the request says."""
        request = read_request(request_path)
        if role == NODE and not request.hosts:
            raise BadConfig(f"{request_path}: names no host, and a node needs one")
        certificate = self.sign(request.public_key, request.name, role, request.hosts, days)
        path = os.path.splitext(request_path)[0] + ".crt"
        _write(path, _pem([certificate]))
        return path, certificate

    def renew(self, path: str, days: int = DAYS) -> x509.Certificate:
        """A new certificate for the key, name, role and hosts of the one at `path`, in its place, and ca.crt beside it.

        All of that is believed because we, or the CA before us, signed it: who wrote the file does not matter."""
        certificate = keys.load_certificate(path)
        if not keys.issuers_among(self._certificates, certificate):
            raise BadConfig(f"{path}: is not signed by a CA in {os.path.join(self.folder, 'ca.crt')}: issue it anew")
        try:
            identity = identity_of(certificate)
        except ValueError as reason:
            raise BadConfig(f"{path}: {reason}") from None
        public_key = certificate.public_key()
        keys.refuse_other_kinds(path, public_key)
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        fresh = self.sign(public_key, identity.name, identity.role, general_names(identity.hosts), days)
        self._put_bundle(os.path.dirname(path))  # this first: it knows the CA of the old certificate, too
        _write(path, _pem([fresh]))
        return fresh

    def _put_bundle(self, folder: str) -> None:
        _write(os.path.join(folder, "ca.crt"), _pem(self._certificates))


class SigningRequest(NamedTuple):
    """What of a request is taken: a key that its sender has, a name, hosts."""

    public_key: ec.EllipticCurvePublicKey
    name: str
    hosts: Hosts


def make_request(folder: str, name: str, hosts: Hosts) -> ec.EllipticCurvePrivateKey:
    """A new key: NAME.key, and NAME.csr to take to the CA."""
    refuse_other_names(name)
    base = os.path.join(folder, name)
    key = _new_key(base + ".key")
    builder = x509.CertificateSigningRequestBuilder()
    builder = builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    _write(base + ".csr", builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return key


def read_request(path: str) -> SigningRequest:
    """The request in the file; BadConfig when it is none that may be signed."""
    try:
        request = x509.load_pem_x509_csr(keys.read_public(path))
    except ValueError:
        raise BadConfig(f"{path}: is not a signing request in PEM") from None
    public_key = request.public_key()
    keys.refuse_other_kinds(path, public_key)
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    if not request.is_signature_valid:
        raise BadConfig(f"{path}: its signature is wrong")
    names = [str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or not valid_name(names[0]):
        raise BadConfig(f"{path}: its common name is no name for a node")
    try:
        return SigningRequest(public_key, names[0], _hosts_in(request))
    except BadConfig as reason:
        raise BadConfig(f"{path}: {reason}") from None


def general_names(hosts: Iterable[str]) -> Hosts:
    """Hosts as X.509 has them, each once; BadConfig names the text that is neither an address nor a host's name."""
    found: Hosts = []
    for text in dict.fromkeys(map(_normal, hosts)):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            found.append(x509.DNSName(text))
    if len(found) > HOSTS_MAX:
        raise BadConfig(f"more than {HOSTS_MAX} hosts in one certificate")
    return found


def refuse_other_names(name: str) -> None:
    """BadConfig when a node, a client or a mesh can't have this name in a certificate."""
    if not valid_name(name) or len(name) > NAME_CHARACTERS_MAX:
        raise BadConfig(
            f"{name[:80]!r} is no name: 1 to {NAME_CHARACTERS_MAX} of letters, digits and ._-, "
            "not beginning with . or -, nor ending in .bdcert"
        )


def _normal(host: str) -> str:
    try:
        return without_zone(normal_host(host))
    except BadRequest as reason:
        raise BadConfig(f"host {reason}") from None


def _hosts_in(request: x509.CertificateSigningRequest) -> Hosts:
    """The request's addresses and names, and nothing else of what it asks for."""
    try:
        names = list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, ValueError):
        names = []
    return general_names(str(name.value) for name in names if isinstance(name, x509.IPAddress | x509.DNSName))


# --------------------------------------------------------------------------------------------------------------------
# The CA's own certificate


def _make(folder: str, mesh: str, days: int, older: list[x509.Certificate], keep_key_as: str) -> None:
    """A new ca.key and its certificate; a crash on the way leaves the old CA in force."""
    key_path, new_path = os.path.join(folder, "ca.key"), os.path.join(folder, "ca.key.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new_path)  # of such a crash
    key = _new_key(new_path)
    now = datetime.now(UTC)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, mesh),
            x509.NameAttribute(NameOID.COMMON_NAME, f"BDserver CA {now:%Y-%m-%d %H:%M:%S}"),
        ]
    )
    certificate = (
        _builder(subject, key.public_key(), now + timedelta(days=days))
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    if keep_key_as:
        with contextlib.suppress(FileExistsError):  # of such a crash, too
            os.link(key_path, os.path.join(folder, keep_key_as))
    _write(os.path.join(folder, "ca.crt"), _pem([certificate, *older]))
    os.replace(new_path, key_path)  # this last: until then the old key signs, and its certificate is in the bundle
    _settle(folder)


def _builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, ends_at: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - BACKDATED)
        .not_valid_after(ends_at)
    )


def _key_usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


# --------------------------------------------------------------------------------------------------------------------
# Files


def _new_key(path: str) -> ec.EllipticCurvePrivateKey:
    """A key in a new file that only its owner could ever read."""
    key = ec.generate_private_key(ec.SECP256R1())
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        _create(path, data, 0o600)
    except FileExistsError:
        raise BadConfig(f"{path}: is there already, and a key is never overwritten") from None
    return key


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def _refuse_existing(*paths: str) -> None:
    for path in paths:
        if os.path.exists(path):
            raise BadConfig(f"{path}: is there already, and is not overwritten")


def _write(path: str, data: bytes) -> None:
    """A public file, whole or not at all. Anybody may read it, whatever the umask: a node runs as another user than root."""
    os.replace(_beside(path, data, 0o644), path)
    _settle(os.path.dirname(path) or ".")


def _create(path: str, data: bytes, mode: int) -> None:
    """A new file, whole or not at all; FileExistsError when there is one of that name."""
    new = _beside(path, data, mode)
    try:
        os.link(new, path)
    finally:
        os.unlink(new)


def _beside(path: str, data: bytes, mode: int) -> str:
    """A file beside this one with all of this on the disk; its path."""
    new = f"{path}.new.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)  # of a crash of another process that had our number
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        os.unlink(new)
        raise BadConfig(f"{path}: can't be written: {error.strerror}") from None
    return new


def _make_folder(folder: str) -> None:
    """A folder that its owner alone can enter, on the disk with those above it."""
    path, made = os.path.abspath(folder), []
    while not os.path.isdir(path):
        path = os.path.dirname(path)
        made.append(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for each in made:
        _settle(each)


def _settle(folder: str) -> None:
    """A new name in a folder lasts through a power cut only when the folder is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise BadConfig(f"{folder}: can't be written: {error.strerror}") from None
    finally:
        os.close(descriptor)
