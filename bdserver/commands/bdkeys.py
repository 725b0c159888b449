"""bdkeys: the mesh's certificate authority, and the keys of its nodes, clients and administrators.

bdkeys init DIR --mesh NAME · request NAME --host H… · sign DIR FILE.csr [--role R] · issue DIR NAME --host H… · show FILE ·
renew DIR NAME · roll DIR

The CA lives in DIR and nowhere else. P-256 throughout; who a certificate is for stands in a URI bd://MESH/ROLE/NAME.
`sign` takes hosts and name from the request, the role only from the command line. Private keys are 0600 from their first
instant, files appear whole or not at all, and no key is ever overwritten. Reading the files is tls' business.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import sys
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bdserver import __version__
from bdserver.core.names import valid_name
from bdserver.errors import BadConfig, BDError
from bdserver.net import openssl, tls

CA_DAYS, DAYS = 3650, 365
# Clocks of hosts differ; a certificate made now must be good on one that is a little behind.
BACKDATED = timedelta(minutes=10)
HOSTS_MAX = 100


def main(arguments: list[str] | None = None) -> int:
    """Exit 0, or 2 with one line that says which file or name is wrong."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except BDError as error:
        print(f"bdkeys: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"bdkeys: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bdkeys", description="Keys and certificates for a BDserver mesh.")
    parser.add_argument("--version", action="version", version=f"bdkeys {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name, run, text, **days):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        if days:
            sub.add_argument("--days", type=int, help=f"how long it is good (default {days['default']})", **days)
        return sub

    sub = add("init", init, "make a certificate authority in DIR", default=CA_DAYS)
    sub.add_argument("dir", metavar="DIR")
    sub.add_argument("--mesh", metavar="NAME", required=True)
    sub = add("request", request, "make a key and a signing request, on the node itself")
    sub.add_argument("name", metavar="NAME")
    _add_hosts(sub)
    sub.add_argument("--dir", metavar="DIR", default=".", help="where to put NAME.key and NAME.csr (default: here)")
    sub = add("sign", sign, "sign a request; the role is yours to give, whatever the request says", default=DAYS)
    sub.add_argument("dir", metavar="DIR")
    sub.add_argument("csr", metavar="FILE.csr")
    _add_role(sub)
    sub = add("issue", issue, "make a key and its certificate at once", default=DAYS)
    sub.add_argument("dir", metavar="DIR")
    sub.add_argument("name", metavar="NAME")
    _add_hosts(sub)
    _add_role(sub)
    sub.add_argument("--out", metavar="DIR", help="where to put them, with ca.crt (default: DIR/NAME)")
    sub = add("show", show, "say what a certificate or request is")
    sub.add_argument("file", metavar="FILE")
    sub = add("renew", renew, "a new certificate for the same key, name, role and hosts", default=DAYS)
    sub.add_argument("dir", metavar="DIR")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--in", dest="within", metavar="DIR", help="where NAME.crt is (default: DIR/NAME, else DIR, else here)")
    sub = add("roll", roll, "a second CA: it signs from now on, ca.crt holds both", default=CA_DAYS)
    sub.add_argument("dir", metavar="DIR")
    return parser


def _add_hosts(sub) -> None:
    sub.add_argument("--host", metavar="HOST", action="append", default=[], help="address or name it is dialled at")


def _add_role(sub) -> None:
    sub.add_argument("--role", choices=tls.ROLES, default="node", help="default: node")


# --- the commands -------------------------------------------------------------------------------------------------


def init(options) -> None:
    """DIR with ca.key and ca.crt."""
    _check_name(options.mesh)
    os.makedirs(options.dir, mode=0o700, exist_ok=True)
    os.chmod(options.dir, 0o700)
    _refuse_existing(os.path.join(options.dir, "ca.key"), os.path.join(options.dir, "ca.crt"))
    _make_authority(options.dir, options.mesh, options.days, [], "")
    print(f"{options.dir}: the CA of the mesh {options.mesh}, good for {options.days} days. Keep ca.key to yourself.")
    print(f"next, for each host: bdkeys issue {options.dir} NAME --host ADDRESS")


def request(options) -> None:
    """NAME.key and NAME.csr."""
    _check_name(options.name)
    key_path, csr_path = (os.path.join(options.dir, options.name + suffix) for suffix in (".key", ".csr"))
    key = _new_key(key_path)
    _write(csr_path, _signing_request(key, options.name, _hosts(options.host, "client")).public_bytes(Encoding.PEM))
    print(f"{key_path}: stays here. {csr_path}: take it to the CA's host")
    print(f"next, there: bdkeys sign DIR {os.path.basename(csr_path)}")


def sign(options) -> None:
    """NAME.crt beside the request; name and hosts are the request's, the role is ours."""
    try:
        csr = x509.load_pem_x509_csr(tls.read_key_file(options.csr))
    except ValueError:
        raise BadConfig(f"{options.csr}: is not a signing request in PEM") from None
    if not csr.is_signature_valid or not tls.is_p256(csr.public_key()):
        raise BadConfig(f"{options.csr}: its signature is wrong, or its key is not a P-256 key")
    name = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(name) != 1 or not valid_name(str(name[0].value)):
        raise BadConfig(f"{options.csr}: its common name is no name for a node")
    authority = _Authority(options.dir)
    certificate = authority.sign(
        csr.public_key(), str(name[0].value), options.role, _hosts_of(csr, options.csr, options.role), options.days
    )
    path = os.path.splitext(options.csr)[0] + ".crt"
    _write(path, certificate)
    print(f"{path}: {options.role} {name[0].value!s} of {authority.mesh}, good for {options.days} days")
    print(f"next: put it and {os.path.join(options.dir, 'ca.crt')} beside the node's key")


def issue(options) -> None:
    """A folder with NAME.key, .csr, .crt and ca.crt, which is a node's key_dir."""
    _check_name(options.name)
    authority = _Authority(options.dir)
    folder = options.out or os.path.join(options.dir, options.name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    hosts = _hosts(options.host, options.role)
    base = os.path.join(folder, options.name)
    _refuse_existing(base + ".crt")
    key = _new_key(base + ".key")
    _write(base + ".csr", _signing_request(key, options.name, hosts).public_bytes(Encoding.PEM))
    _write(base + ".crt", authority.sign(key.public_key(), options.name, options.role, hosts, options.days))
    _write(os.path.join(folder, "ca.crt"), authority.bundle)
    places = ", ".join(map(_host_text, hosts)) or "no address"
    print(f"{folder}: {options.role} {options.name} of {authority.mesh} at {places}, good for {options.days} days")
    if options.role == "node":
        print(f"next: copy {folder} to the host; in its config: key_dir=… and username={options.name}")
    else:
        print(f"next: bdwhereis --node HOST:PORT --keys {base} SERVICE")


def show(options) -> None:
    """Role, name, mesh, hosts, days left and issuer of each certificate, or name and hosts of a request."""
    data = tls.read_key_file(options.file)
    with contextlib.suppress(ValueError):
        for certificate in openssl.load_all(data):
            _show_certificate(certificate, options.file)
        return
    with contextlib.suppress(ValueError):
        csr = x509.load_pem_x509_csr(data)
        hosts = ", ".join(map(_host_text, _hosts_of(csr, options.file, "client"))) or "no address"
        print(f"{options.file}: request of {csr.subject.rfc4514_string()} for {hosts}")
        return
    raise BadConfig(f"{options.file}: is neither a certificate nor a signing request in PEM")


def renew(options) -> None:
    """A new certificate over the old one, from the old one; the key stays."""
    authority = _Authority(options.dir)
    path = _find_certificate(options.dir, options.name, options.within)
    certificate = x509.load_pem_x509_certificate(tls.read_key_file(path))
    identity = tls.identity_of(certificate)
    hosts = _hosts(list(identity.hosts), identity.role)
    _write(path, authority.sign(certificate.public_key(), identity.name, identity.role, hosts, options.days))
    _write(os.path.join(os.path.dirname(path), "ca.crt"), authority.bundle)
    print(f"{path}: {identity.role} {identity.name} of {authority.mesh}, good for {options.days} days more")
    print("next: copy it and ca.crt to the host, and `kill -HUP` its bdserverd: no connection is dropped")


def roll(options) -> None:
    """A new CA key; ca.crt holds the new certificate and the one before it."""
    authority = _Authority(options.dir)
    serial = format(authority.certificate.serial_number, "x")[:16]
    _make_authority(options.dir, authority.mesh, options.days, [authority.certificate], f"ca-{serial}.key")
    print(f"{options.dir}: a new CA signs from now on; ca.crt holds both, ca-{serial}.key is the old one's key")
    print("next: 1. this ca.crt to every host, and SIGHUP  2. bdkeys renew each node, and SIGHUP  3. bdkeys roll again one day")


# --- the authority ------------------------------------------------------------------------------------------------


class _Authority:
    """The CA in a folder: ca.key, and the certificate in ca.crt that it belongs to."""

    def __init__(self, folder: str):
        key_path, path = os.path.join(folder, "ca.key"), os.path.join(folder, "ca.crt")
        try:
            key = load_pem_private_key(tls.read_key_file(key_path, secret=True), None)
            self.bundle = tls.read_key_file(path)
            certificates = openssl.load_all(self.bundle)
        except (ValueError, TypeError):
            raise BadConfig(f"{folder}: ca.key or ca.crt is not in PEM") from None
        own = [certificate for certificate in certificates if openssl.is_key_of(key, certificate)]
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not own:
            raise BadConfig(f"{key_path}: is not the key of {path}")
        self._key, self.certificate = key, own[0]
        organization = self.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        if not organization:
            raise BadConfig(f"{path}: was not made by bdkeys init")
        self.mesh = str(organization[0].value)

    def sign(self, public_key, name: str, role: str, hosts: list, days: int) -> bytes:
        """A certificate in PEM."""
        who = x509.UniformResourceIdentifier(f"bd://{self.mesh}/{role}/{name}")
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if role == "node" else [])
        ends_at = min(datetime.now(UTC) + timedelta(days=days), openssl.ends(self.certificate))
        return (
            _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]), public_key, ends_at)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([who, *hosts]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )


def _make_authority(folder: str, mesh: str, days: int, older: list[x509.Certificate], keep_key_as: str) -> None:
    """A new ca.key and its certificate; a crash on the way leaves the old CA in force."""
    key_path, new_path = os.path.join(folder, "ca.key"), os.path.join(folder, "ca.key.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new_path)  # of such a crash
    key = _new_key(new_path)
    born = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, mesh[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"BDserver CA {born}"),
        ]
    )
    certificate = (
        _builder(subject, key.public_key(), datetime.now(UTC) + timedelta(days=days))
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    if keep_key_as:
        with contextlib.suppress(FileExistsError):  # of such a crash, too
            os.link(key_path, os.path.join(folder, keep_key_as))
    _write(os.path.join(folder, "ca.crt"), b"".join(each.public_bytes(Encoding.PEM) for each in [certificate, *older]))
    os.replace(new_path, key_path)  # this last: until then the old key signs, and its certificate is in the bundle


def _builder(subject: x509.Name, public_key, ends_at: datetime) -> x509.CertificateBuilder:
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


# --- names, hosts and files ---------------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    if not valid_name(name) or len(name) > 64:  # X.509 allows 64 characters in a common name
        raise BadConfig(f"{name[:80]!r} is no name: 1 to 64 of letters, digits and ._-, not beginning with . or -")


def _hosts(texts: list[str], role: str = "node") -> list:
    if role == "node" and not texts:
        raise BadConfig("a node needs --host, the address or name that others dial")
    if len(texts) > HOSTS_MAX:
        raise BadConfig(f"more than {HOSTS_MAX} hosts in one certificate")
    return [_host(text) for text in dict.fromkeys(map(tls.normal_host, texts))]


def _host(text: str):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    from bdserver.core.address import split_address

    try:
        return x509.DNSName(split_address(text, 1)[0])
    except (BDError, ValueError):
        raise BadConfig(f"--host {text[:80]!r} is neither an address nor a host's name") from None


def _host_text(host) -> str:
    return str(host.value)


def _hosts_of(csr: x509.CertificateSigningRequest, path: str, role: str) -> list:
    """The request's addresses and names, and nothing else of what it asks for."""
    try:
        names = list(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, ValueError):
        names = []
    hosts = [name for name in names if isinstance(name, x509.IPAddress | x509.DNSName)]
    if role == "node" and not hosts:
        raise BadConfig(f"{path}: names no host, and a node needs one")
    return _hosts([_host_text(host) for host in hosts], role)


def _signing_request(key, name: str, hosts: list) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder()
    builder = builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return builder.sign(key, hashes.SHA256())


def _show_certificate(certificate: x509.Certificate, path: str) -> None:
    days = (openssl.ends(certificate) - datetime.now(UTC)).total_seconds() / 86400
    left = f"{days:.0f} days left" if days >= 0 else f"expired {-days:.0f} days ago"
    issuer = certificate.issuer.rfc4514_string()
    if tls.is_authority(certificate):
        print(f"{path}: CA {certificate.subject.rfc4514_string()}, {left}")
        return
    identity = tls.identity_of(certificate)
    print(
        f"{path}: {identity.role} {identity.name} of {identity.mesh} at {', '.join(identity.hosts)}, {left}, "
        f"issued by {issuer}, serial {certificate.serial_number:x}"
    )


def _find_certificate(folder: str, name: str, within: str | None) -> str:
    """Where we are told that it is, else where `issue` or `sign` put it."""
    folders = [within] if within else [os.path.join(folder, name), folder, "."]
    for path in (os.path.join(each, f"{name}.crt") for each in folders):
        if os.path.exists(path):
            return path
    raise BadConfig(f"{name}.crt is not in {' nor in '.join(folders)}")


def _new_key(path: str) -> ec.EllipticCurvePrivateKey:
    """A key in a new file that only its owner could ever read."""
    key = ec.generate_private_key(ec.SECP256R1())
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadConfig(f"{path}: is there already, and a key is never overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return key


def _refuse_existing(*paths: str) -> None:
    for path in paths:
        if os.path.exists(path):
            raise BadConfig(f"{path}: is there already, and is not overwritten")


def _write(path: str, data: bytes) -> None:
    """A public file, whole or not at all."""
    new = f"{path}.new.{os.getpid()}"
    with open(new, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
