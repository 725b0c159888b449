"""Certificates and TLS contexts by whichever cryptography and pyOpenSSL there are: today's, or Debian 12's 38 and 23.

Promises the same of both. What a certificate means is `identity`'s business, what is asked of its owner `handshake`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto

IS_OLD = not hasattr(x509.Certificate, "not_valid_after_utc")
IS_OLD_TLS = not hasattr(SSL.Context, "set_tls13_ciphersuites")
# SSL_MODE_AUTO_RETRY, which pyOpenSSL does not name, and sets for each connection.
_MODE_AUTO_RETRY = 0x4
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?(?:-----END CERTIFICATE-----|\Z)", re.DOTALL)

# OpenSSL's own numbers, which pyOpenSSL 23 does not name.
CODES: Any = getattr(SSL, "X509VerificationCodes", None) or SimpleNamespace(
    ERR_UNABLE_TO_GET_ISSUER_CERT=2,
    ERR_CERT_SIGNATURE_FAILURE=7,
    ERR_CERT_NOT_YET_VALID=9,
    ERR_CERT_HAS_EXPIRED=10,
    ERR_DEPTH_ZERO_SELF_SIGNED_CERT=18,
    ERR_SELF_SIGNED_CERT_IN_CHAIN=19,
    ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY=20,
    ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE=21,
    ERR_INVALID_CA=24,
    ERR_PATH_LENGTH_EXCEEDED=25,
    ERR_INVALID_PURPOSE=26,
    ERR_SUBJECT_ISSUER_MISMATCH=29,
    ERR_AKID_SKID_MISMATCH=30,
    ERR_AKID_ISSUER_SERIAL_MISMATCH=31,
    ERR_PERMITTED_VIOLATION=47,
)


# To be called before each step of a connection. OpenSSL keeps errors in a queue of the thread, and before its version 4 takes
# what lies in it for the outcome of the next step, of whichever connection: a broken one's is left there. It costs 0.1 µs.
forget_errors: Callable[[], None] = Binding().lib.ERR_clear_error


def load_all(pem: bytes) -> list[x509.Certificate]:
    """The certificates in the text, at least one; ValueError when there is none, or one is malformed."""
    if not IS_OLD:
        return x509.load_pem_x509_certificates(pem)
    return [x509.load_pem_x509_certificate(text) for text in _PEM.findall(pem) or [pem]]


def begins(certificate: x509.Certificate) -> datetime:
    """The first moment at which a certificate is good (notBefore, UTC)."""
    return certificate.not_valid_before.replace(tzinfo=UTC) if IS_OLD else certificate.not_valid_before_utc


def ends(certificate: x509.Certificate) -> datetime:
    """The last moment at which a certificate is good (notAfter, UTC)."""
    return certificate.not_valid_after.replace(tzinfo=UTC) if IS_OLD else certificate.not_valid_after_utc


def is_key_of(key: Any, certificate: x509.Certificate) -> bool:
    """Whether the certificate is for the owner of this private key."""
    mine, its = (
        each.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for each in (key.public_key(), certificate.public_key())
    )
    return mine == its


def refuse_other_issuer(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    """ValueError, TypeError or InvalidSignature unless the authority's key signed it, under the authority's name."""
    if not IS_OLD:
        certificate.verify_directly_issued_by(authority)
        return
    key, algorithm = authority.public_key(), certificate.signature_hash_algorithm
    if certificate.issuer != authority.subject or not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
        raise ValueError("another issuer")
    key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(algorithm))


def use(
    context: Any, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, signer: x509.Certificate | None = None
) -> None:
    """The context proves with the key that it is whom the certificate names; the signer's goes along, if there is one."""
    context.use_privatekey(crypto.PKey.from_cryptography_key(key) if IS_OLD_TLS else key)
    context.use_certificate(crypto.X509.from_cryptography(certificate) if IS_OLD_TLS else certificate)
    if signer is not None:
        context.add_extra_chain_cert(crypto.X509.from_cryptography(signer) if IS_OLD_TLS else signer)


def choose_quick(context: Any) -> None:
    """Key exchange and ciphers that make a handshake cheap."""
    # OpenSSL's own first choice is a hybrid with ML-KEM: 644 µs and 2,300 bytes more, against 536 µs with P-256 alone.
    context.set_tmp_ecdh(crypto.get_elliptic_curve("prime256v1") if IS_OLD_TLS else ec.SECP256R1())
    # SHA-256 before SHA-384: shorter schedules of keys. pyOpenSSL 23 leaves OpenSSL's order, of the same three.
    if not IS_OLD_TLS:
        context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256")


def read_by_the_record(connection: SSL.Connection) -> None:
    """A reading ends with each record, also one that brings nothing for us, as an update of keys does. Else OpenSSL reads on
    until something comes, and whoever sends such records by the million holds us in one call, behind every deadline."""
    Binding().lib.SSL_clear_mode(connection._ssl, _MODE_AUTO_RETRY)
