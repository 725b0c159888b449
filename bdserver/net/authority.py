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
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bdserver.core.address import normal_host, without_zone
from bdserver.core.names import valid_name
from bdserver.core.roles import NODE, Role
from bdserver.core.statements import PREFIX as STATEMENT_PREFIX
from bdserver.core.statements import Roll, Statement
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig, BadRequest
from bdserver.net import chain as chains
from bdserver.net import keys, openssl
from bdserver.net.identity import expired, identity_of
from bdserver.net.issuing import BACKDATED, Hosts, Issuer, builder_of, key_usage
from bdserver.net.keyfiles import make_folder, new_key, pem, refuse_existing, settle, write

CA_DAYS, SIGNER_DAYS, DAYS = 3650, 1095, 365
# A hundred years: what is meant to last for ever ends before the dates of X.509 do.
DAYS_MAX = 36500
# A node that comes back after that joins again.
ROLL_DAYS = 400
# The mesh is done with a roll in less; who rolls by hand has these to renew every certificate.
AGAIN_DAYS = 30
HOSTS_MAX = 100
BROADCAST = "255.255.255.255"
# X.509 allows 64 characters in a common name.
NAME_CHARACTERS_MAX = 64


class Authority:
    """The CA in a folder: ca.key, and the certificate in ca.crt that it belongs to; ca.crt may hold the one before it too."""

    __slots__ = ("_key", "certificate", "certificates", "folder", "mesh")

    def __init__(self, folder: str, key: ec.EllipticCurvePrivateKey, certificates: list[x509.Certificate]):
        """`certificates`: what ca.crt holds."""
        path = os.path.join(folder, "ca.crt")
        own = [certificate for certificate in certificates if openssl.is_key_of(key, certificate)]
        if not own:
            raise BadConfig(f"{os.path.join(folder, 'ca.key')}: is not the key of {path}")
        self.folder = folder
        self._key, self.certificates = key, certificates
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
        make_folder(folder)
        os.chmod(folder, 0o700)
        refuse_existing(os.path.join(folder, "ca.key"), os.path.join(folder, "ca.crt"))
        _make(folder, mesh, days, [], "")
        return cls.load(folder)

    def refuse_another_roll(self) -> None:
        """BadConfig while hosts may still hang under the CA before this one: the next roll drops it from ca.crt."""
        age = (datetime.now(UTC) - openssl.begins(self.certificate)).days
        if len(self.certificates) > 1 and age < AGAIN_DAYS:
            raise BadConfig(
                f"{self.folder}: was rolled {age} days ago, and one more drops the CA before that from ca.crt: first see "
                "(bdctl status, bdkeys show) that no certificate is by it any more, then roll --again"
            )

    def roll(self, days: int = CA_DAYS) -> str:
        """A new CA in the place of this one, whose certificate stays in ca.crt; the name of the file that keeps its key."""
        old_key_name = f"ca-{format(self.certificate.serial_number, 'x')[:16]}.key"
        _make(self.folder, self.mesh, days, [self.certificate], old_key_name)
        return old_key_name

    def statement(self, before: Issuer) -> Statement:
        """That we follow the CA before, or have signed its signers anew, for the mesh to believe: the CA before signs it. The
        certificates of the signers are made here, for the keys that they have."""
        signers = []
        folder = os.path.join(self.folder, "signers")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            path = os.path.join(folder, name)
            public_key = keys.load_certificate(path).public_key()
            assert isinstance(public_key, ec.EllipticCurvePublicKey)
            certificate = self.sign_signer(public_key, name.removesuffix(".crt"))
            write(path, pem([certificate]))
            signers.append(_text(certificate))
        now = datetime.now(UTC).timestamp()
        said = Roll(_text(self.certificate), tuple(signers), now, now + 86400 * ROLL_DAYS).text()
        signature = before.key.sign(STATEMENT_PREFIX + said.encode(), ec.ECDSA(hashes.SHA256()))
        return Statement(said, b64encode(signature).decode(), _text(before.certificate))

    @property
    def issuer(self) -> Issuer:
        """Who signs."""
        return Issuer(self._key, self.certificate, self.mesh)

    def sign(
        self, public_key: ec.EllipticCurvePublicKey, name: str, role: Role, hosts: Hosts, days: int = DAYS
    ) -> x509.Certificate:
        """A certificate, which ends with ours at the latest."""
        refuse_other_names(name)
        self._refuse_expired()
        return Issuer(self._key, self.certificate, self.mesh).holders(public_key, name, role, hosts, days)

    def sign_signer(self, public_key: ec.EllipticCurvePublicKey, name: str, days: int = SIGNER_DAYS) -> x509.Certificate:
        """The certificate of a signer: it may sign in the name of this mesh, and make no other signers."""
        refuse_other_names(name)
        self._refuse_expired()
        if not chains.may_have_signers(self.certificate):
            path = os.path.join(self.folder, "ca.crt")
            raise BadConfig(
                f"{path}: this CA was made before there were signers, and may have none (bdkeys roll {self.folder})"
            )
        return Issuer(self._key, self.certificate, self.mesh).signers(public_key, name, days)

    def make_signer(self, folder: str, name: str, days: int = SIGNER_DAYS, username: str = "") -> x509.Certificate:
        """USERNAME.signer.key and USERNAME.signer.crt in a node's key_dir (its name's, unless told); the certificate is kept
        here too, for a roll."""
        refuse_other_names(name)
        make_folder(folder)
        base = os.path.join(folder, f"{username or name}.signer")
        refuse_existing(base + ".crt")
        key = new_key(base + ".key")
        certificate = self.sign_signer(key.public_key(), name, days)
        make_folder(os.path.join(self.folder, "signers"))
        for path in (os.path.join(self.folder, "signers", f"{name}.crt"), base + ".crt"):
            write(path, pem([certificate]))
        return certificate

    def _refuse_expired(self) -> None:
        if datetime.now(UTC) > openssl.ends(self.certificate):
            path = os.path.join(self.folder, "ca.crt")
            raise BadConfig(
                f"{path}: {expired(self.certificate)}, and nothing that it signs is good (bdkeys roll {self.folder})"
            )

    def issue(self, folder: str, name: str, role: Role, hosts: Hosts, days: int = DAYS) -> x509.Certificate:
        """NAME.key, NAME.csr, NAME.crt and ca.crt in a folder, which is a node's key_dir."""
        refuse_other_names(name)
        make_folder(folder)
        base = os.path.join(folder, name)
        refuse_existing(base + ".crt")
        key = make_request(folder, name, hosts)
        certificate = self.sign(key.public_key(), name, role, hosts, days)
        self.put_bundle(folder)
        write(base + ".crt", pem([certificate]))
        return certificate

    def sign_request(self, request_path: str, role: Role, days: int = DAYS) -> tuple[str, x509.Certificate]:
        """A signing request's (path, certificate), beside it; the role is ours to give, whatever the request says."""
        request = read_request(request_path)
        if role == NODE and not request.hosts:
            raise BadConfig(f"{request_path}: names no host, and a node needs one")
        certificate = self.sign(request.public_key, request.name, role, request.hosts, days)
        path = os.path.splitext(request_path)[0] + ".crt"
        write(path, pem([certificate]))
        return path, certificate

    def renew(self, path: str, days: int = DAYS) -> x509.Certificate:
        """A new certificate for the key, name, role and hosts of the one at `path`, in its place, and ca.crt beside it.

        All of that is believed because we, or the CA before us, signed it: who wrote the file does not matter."""
        chain = keys.load_chain(path)
        certificate = chain.certificate
        if not chains.roots(self.certificates, chain):
            raise BadConfig(f"{path}: is not signed by a CA in {os.path.join(self.folder, 'ca.crt')}: issue it anew")
        try:
            identity = identity_of(certificate)
        except ValueError as reason:
            raise BadConfig(f"{path}: {reason}") from None
        public_key = certificate.public_key()
        keys.refuse_other_kinds(path, public_key)
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        fresh = self.sign(public_key, identity.name, identity.role, general_names(identity.hosts), days)
        self.put_bundle(os.path.dirname(path))  # this first: it knows the CA of the old certificate, too
        write(path, pem([fresh]))
        return fresh

    def put_bundle(self, folder: str) -> None:
        """Our ca.crt, in a node's key_dir."""
        write(os.path.join(folder, "ca.crt"), pem(self.certificates))


def _text(certificate: x509.Certificate) -> str:
    return b64encode(certificate.public_bytes(Encoding.DER)).decode()


class SigningRequest(NamedTuple):
    """What of a request is taken: a key that its sender has, a name, hosts."""

    public_key: ec.EllipticCurvePublicKey
    name: str
    hosts: Hosts


def make_request(folder: str, name: str, hosts: Hosts) -> ec.EllipticCurvePrivateKey:
    """A new key: NAME.key, and NAME.csr to take to the CA."""
    refuse_other_names(name)
    base = os.path.join(folder, name)
    key = new_key(base + ".key")
    write(base + ".csr", request_by(key, name, hosts))
    return key


def request_by(key: ec.EllipticCurvePrivateKey, name: str, hosts: Hosts) -> bytes:
    """A signing request by the owner of this key, in PEM."""
    refuse_other_names(name)
    builder = x509.CertificateSigningRequestBuilder()
    builder = builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def read_request(path: str) -> SigningRequest:
    """The request in the file; BadConfig when it is none that may be signed."""
    return request_of(keys.read_public(path), path)


def request_of(text: bytes, path: str) -> SigningRequest:
    """The request in this text, which is named so in a complaint."""
    try:
        request = x509.load_pem_x509_csr(text)
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
    """Hosts as X.509 has them, each once; BadConfig names the text that is neither one host's address nor its name."""
    found: Hosts = []
    for text in dict.fromkeys(map(_normal, hosts)):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            found.append(x509.DNSName(text))
            continue
        if address.is_unspecified or address.is_multicast or str(address) == BROADCAST:
            raise BadConfig(f"host {text} is no address of one host: give the one by which others call it")
        found.append(x509.IPAddress(address))
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
    key = new_key(new_path)
    now = datetime.now(UTC)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, mesh),
            x509.NameAttribute(NameOID.COMMON_NAME, f"BDserver CA {now:%Y-%m-%d %H:%M:%S}"),
        ]
    )
    certificate = (
        builder_of(subject, key.public_key(), now - BACKDATED, now + timedelta(days=days))
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(key_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    if keep_key_as:
        with contextlib.suppress(FileExistsError):  # of such a crash, too
            os.link(key_path, os.path.join(folder, keep_key_as))
    write(os.path.join(folder, "ca.crt"), pem([certificate, *older]))
    os.replace(new_path, key_path)  # this last: until then the old key signs, and its certificate is in the bundle
    settle(folder)
