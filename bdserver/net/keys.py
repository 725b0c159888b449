"""The files that prove who we are, NAME.key, NAME.crt and ca.crt, and what is wrong with them in one line.

Promises that credentials which came out of here work: the key is the certificate's, the certificate is in date, and one of the
CAs in ca.crt, in date too, signed it. Else BadConfig names the file and the remedy. A private key that others can read is no
secret, and is refused.

Leaves to others: making such files (`authority`), what is said in a handshake (`handshake`), when to load them anew.
"""

from __future__ import annotations

import grp
import os
import stat
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bdserver.errors import BadConfig, NotYet
from bdserver.net import chain as chains
from bdserver.net import openssl
from bdserver.net.chain import Chain
from bdserver.net.handshake import make_context
from bdserver.net.identity import Identity, expired, identity_of, is_authority, too_early

# A key or certificate is some 1 kB; ca.crt holds one or two. More than this is another file by mistake.
KEY_FILE_BYTES_MAX = 1 << 20

# Debian's package of this name makes the group for daemons that share a key, and gives keys root:ssl-cert and mode 0640.
KEY_GROUPS = ("ssl-cert",)

# As core.membership has it, which a client's commands need not import.
DIGEST_CHARACTERS = 32


class Credentials:
    """Our key, our certificate (with its signer's), and the CAs we believe, checked, in one OpenSSL context for calling and
    being called.

    `not_after`: when our certificate is worth nothing, its own end or that of those who vouch for it, whichever is first.
    `root`: the CA among them that vouches for us. `digest`: of the chain, `der` itself in base64, as records name and
    tell it."""

    __slots__ = ("authorities", "chain", "context", "der", "digest", "identity", "key", "not_after", "root")

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        authorities: list[x509.Certificate],
        not_after: float,
        signer: x509.Certificate | None = None,
        root: x509.Certificate | None = None,
    ):
        self.root = root or authorities[0]
        self.chain = Chain(certificate, signer)
        self.identity = identity_of(certificate, signer)
        self.not_after = not_after
        self.context = make_context(key, self.chain, authorities)
        self.key, self.authorities = key, authorities
        der = self.chain.der()
        self.der, self.digest = b64encode(der).decode(), sha256(der).hexdigest()[:DIGEST_CHARACTERS]

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Of our key."""
        return self.key.public_key()

    def sign(self, data: bytes) -> bytes:
        """Our signature of this: ECDSA with SHA-256."""
        return self.key.sign(data, ec.ECDSA(SHA256()))

    def refuse_other(self, chain: Chain, authorities: list[x509.Certificate]) -> Identity:
        """Whom this chain is for; BadConfig unless that is the holder of ours, at the same hosts and by the same key, and one
        of these CAs vouches for it: what a renewal must bring."""
        identity = identity_of(*chain)
        is_ours = (identity.mesh, identity.role, identity.name) == self.identity[:3]
        if not is_ours or set(identity.hosts) != set(self.identity.hosts) or not chains.roots(authorities, chain):
            raise BadConfig("the certificate that came is not the one that was asked for")
        if not openssl.is_key_of(self.key, chain.certificate):
            raise BadConfig("the certificate that came is for another key")
        return identity

    def days_left(self, now: float) -> float:
        """Days until `not_after`."""
        return (self.not_after - now) / 86400


def load(key_dir: str, username: str, group: str = "") -> Credentials:
    """A node's credentials, from USERNAME.key, USERNAME.crt and ca.crt in its key_dir.

    `group`: whose members may read the key, beside its owner and the system's own groups for keys."""
    by_hand = f"bdkeys issue DIR {username} --host HOST --out {key_dir}"
    remedy = f"bdkeys init --mesh NAME --here`, the line of `bdctl invite` on another host, or by hand `{by_hand}"
    return _load(key_dir, username, group, remedy)


def load_named(keys: str) -> Credentials:
    """The credentials at DIR/NAME, as a client's commands and configs name them."""
    folder, name = os.path.split(keys)
    if not name:
        raise BadConfig(f"{keys}: is a folder; whose keys in it? (DIR/NAME, for DIR/NAME.key and DIR/NAME.crt)")
    folder = folder or "."
    by_ca, by_signer = f"bdkeys issue DIR {name} --role client --out {folder}", f"bdctl invite {name} --role client"
    return _load(folder, name, "", f"{by_ca}`, or join by the line of `{by_signer}")


def _to_join_again(chain: Chain) -> str:
    """What the holder of a certificate that a signer has signed does when it is over."""
    names = chains.names_of(chain.signer) if chain.signer is not None else None
    if names is None:
        return ""
    return f" ({names[1]} has signed it: bdctl invite {identity_of(chain.certificate).name} there, and bdkeys join again here)"


def _load(folder: str, name: str, group: str, remedy: str) -> Credentials:
    key_path, certificate_path, authorities_path = (
        os.path.join(folder, each) for each in (f"{name}.key", f"{name}.crt", "ca.crt")
    )
    _refuse_missing([key_path, certificate_path, authorities_path], remedy)
    key = load_key(key_path, group)
    chain = load_chain(certificate_path)
    certificate, authorities = chain.certificate, load_authorities(authorities_path)
    if not openssl.is_key_of(key, certificate):
        raise BadConfig(f"{key_path}: is not the key of {certificate_path}")
    try:
        identity_of(certificate)
    except ValueError as reason:
        raise BadConfig(f"{certificate_path}: {reason}") from None
    now = datetime.now(UTC)
    _refuse_outdated(certificate_path, "", certificate, now, _to_join_again(chain))
    roots = chains.roots(authorities, chain)
    if not roots:
        raise BadConfig(f"{certificate_path}: is not signed by a CA in {authorities_path}")
    root = longest(roots, now)
    _refuse_outdated(authorities_path, f"the CA that signed {certificate_path} ", root, now)
    if chain.signer is not None:
        _refuse_outdated(certificate_path, "that of its signer ", chain.signer, now)
    not_after = min(openssl.ends(each) for each in (*chain.certificates, root)).timestamp()
    try:
        return Credentials(key, certificate, authorities, not_after, chain.signer, root)
    except Exception:  # OpenSSL looks closer than what has read them until here
        raise BadConfig(f"{certificate_path}, {authorities_path}: OpenSSL can't read one of these certificates") from None


def longest(certificates: list[x509.Certificate], now: datetime) -> x509.Certificate:
    """The one in date that ends last, or, when none is in date, just the one that ends last.

    OpenSSL takes an issuer in date before one that is not, wherever it stands: what passes here passes in a handshake."""
    return max(certificates, key=lambda each: (openssl.begins(each) <= now <= openssl.ends(each), openssl.ends(each)))


# --------------------------------------------------------------------------------------------------------------------
# One file


def load_key(path: str, group: str = "") -> ec.EllipticCurvePrivateKey:
    """The private key in the file, which must be a secret of its owner, or of one of the groups of `load`."""
    text = _read(path, group)
    try:
        key = load_pem_private_key(text, None)
    except TypeError:
        raise BadConfig(f"{path}: is locked with a passphrase, which nothing here asks for: keys go without one") from None
    except Exception:  # the parser has many: ValueError, UnsupportedAlgorithm, …; none of them is worth more words
        raise BadConfig(f"{path}: is not a private key in PEM") from None
    refuse_other_kinds(path, key.public_key())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def load_certificate(path: str) -> x509.Certificate:
    """The one certificate in the file."""
    certificates = _certificates(path, "certificate")
    if len(certificates) > 1:
        raise BadConfig(f"{path}: holds {len(certificates)} certificates where one belongs")
    return certificates[0]


def load_chain(path: str) -> Chain:
    """The certificate in the file, and its signer's behind it, if it has one."""
    certificates = _certificates(path, "certificate")
    try:
        found = chains.of(certificates)
    except ValueError as reason:
        raise BadConfig(f"{path}: holds {reason}") from None
    if found.signer is not None and not chains.is_signer(found.signer):
        raise BadConfig(f"{path}: holds 2 certificates where one belongs, and the second is not that of a signer")
    return found


def load_authorities(path: str) -> list[x509.Certificate]:
    """The certificates in a ca.crt, all of them CAs'."""
    authorities = _certificates(path, "CA certificate")
    for authority in authorities:
        if not is_authority(authority):
            raise BadConfig(f"{path}: holds a certificate that is not a CA's ({authority.subject.rfc4514_string()})")
    return authorities


def read_public(path: str) -> bytes:
    """The bytes of a file that anybody may read, or of a pipe: a certificate, a signing request."""
    return _read(path, None, is_waiting=True)


def refuse_other_kinds(path: str, public_key: object) -> None:
    """P-256 is the one kind of key in a mesh, so that the cost of a handshake is known, and one choice is right everywhere."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        if public_key.curve.name == "secp256r1":
            return
        kind = f"an EC key on {public_key.curve.name}"
    else:
        kind = "an RSA key" if isinstance(public_key, rsa.RSAPublicKey) else "another kind of key"
    raise BadConfig(f"{path}: is {kind}, and all keys of a mesh are P-256 keys (as bdkeys makes them)")


def _certificates(path: str, what: str) -> list[x509.Certificate]:
    text = _read(path, None)
    try:
        certificates = openssl.load_all(text)
        for certificate in certificates:  # each part is read when it is asked for: a damaged one shows no earlier
            _ = certificate.public_key(), certificate.extensions, certificate.subject, certificate.signature_hash_algorithm
    except Exception:  # as many kinds as for keys
        raise BadConfig(f"{path}: is not a {what} in PEM") from None
    return certificates


def _read(path: str, group: str | None, is_waiting: bool = False) -> bytes:
    """The file's bytes; unless `group` is None they are a secret, and the file that was opened is the one that is looked at.

    A daemon waits for nobody: only `is_waiting` reads what is not a regular file."""
    try:
        with open(path, "rb", opener=None if is_waiting else _at_once) as file:
            if not is_waiting and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadConfig(f"{path}: not a regular file")
            if group is not None:
                _refuse_open(path, os.fstat(file.fileno()), group)
            text = file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    if len(text) > KEY_FILE_BYTES_MAX:
        raise BadConfig(f"{path}: too long for a file of keys")
    return text


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _refuse_open(path: str, status: os.stat_result, group: str) -> None:
    others = stat.S_IMODE(status.st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
    if others == stat.S_IRGRP and _name_of(status.st_gid) in (*KEY_GROUPS, group):
        return
    if others:
        raise BadConfig(f"{path}: others can read this private key (chmod 600 {path})")


def _name_of(gid: int) -> str | None:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


def _refuse_missing(paths: list[str], remedy: str) -> None:
    missing = [path for path in paths if _is_missing(path)]
    if not missing:
        return
    key_path, certificate_path, _ = paths
    request_path = key_path.removesuffix(".key") + ".csr"
    if missing == [certificate_path] and os.path.exists(request_path):
        remedy = f"bdkeys sign DIR {os.path.basename(request_path)}"
    raise NotYet(f"{', '.join(missing)}: missing (make with `{remedy}`)")  # or their disk is not mounted yet


def _is_missing(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # it may be there: whoever reads it says what is wrong
    return False


def _refuse_outdated(path: str, whose: str, certificate: x509.Certificate, now: datetime, remedy: str = "") -> None:
    if now > openssl.ends(certificate):
        raise BadConfig(f"{path}: {whose}{expired(certificate)}{remedy}")
    if now < openssl.begins(certificate):
        raise NotYet(f"{path}: {whose}{too_early(certificate)}")
