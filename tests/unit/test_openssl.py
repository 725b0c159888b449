"""Both ways to ask cryptography, the old and today's, say the same (.ci/deb's tests run on the old one itself)."""

import itertools
import pathlib
import re

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bdserver.core.roles import Role
from bdserver.net import openssl
from bdserver.net.authority import general_names
from bdserver.net.issuing import Issuer
from bdserver.net.keys import Credentials
from tests.unit.certificates import Key, conversation

CA, OTHER = Key(), Key()
NAME, OTHER_NAME = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("ca", "other"))
AUTHORITY = CA.sign(CA.key.public_key(), NAME, is_ca=True, subject=NAME)
LOOPBACK = general_names(["127.0.0.1"])
LEAF = CA.sign(OTHER.key.public_key(), NAME)


@pytest.fixture(params=[True, False], autouse=True)
def age(request, monkeypatch):
    monkeypatch.setattr(openssl, "IS_OLD", openssl.IS_OLD or request.param)


def test_all_certificates_of_a_text_are_loaded_whatever_stands_between():
    pem = b"# first\n" + AUTHORITY.public_bytes(Encoding.PEM) + b"\n# second\n" + LEAF.public_bytes(Encoding.PEM)
    assert openssl.load_all(pem) == [AUTHORITY, LEAF]


@pytest.mark.parametrize(
    "pem",
    [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"-----BEGIN CERTIFICATE-----\n"],
)
def test_a_text_without_a_whole_certificate_is_refused(pem):
    with pytest.raises(ValueError):
        openssl.load_all(pem)


def test_the_issuer_is_known_by_name_and_signature():
    openssl.refuse_other_issuer(LEAF, AUTHORITY)
    namesake = OTHER.sign(OTHER.key.public_key(), NAME, is_ca=True, subject=NAME)
    of_another_name = CA.sign(CA.key.public_key(), OTHER_NAME, is_ca=True, subject=OTHER_NAME)
    of_another_kind = CA.sign(rsa.generate_private_key(65537, 2048).public_key(), NAME, is_ca=True, subject=NAME)
    for authority in (namesake, of_another_name, of_another_kind):
        with pytest.raises((ValueError, TypeError, InvalidSignature)):
            openssl.refuse_other_issuer(LEAF, authority)


def test_a_key_belongs_to_the_certificate_that_was_made_for_it():
    assert openssl.is_key_of(OTHER.key, LEAF) and not openssl.is_key_of(CA.key, LEAF)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_contexts_of_the_old_way_and_of_today_s_shake_hands(monkeypatch):
    """With a signer's certificate behind the holder's, which the old way gives to OpenSSL in its own class."""
    its, key = Key(), Key()
    signer = Issuer(CA.key, AUTHORITY, "prod").signers(its.key.public_key(), "s", 1)
    certificate = Issuer(its.key, signer, "prod").holders(key.key.public_key(), "web1", Role.NODE, LOOPBACK, 1)
    made = []
    for is_old in (openssl.IS_OLD_TLS, True):
        monkeypatch.setattr(openssl, "IS_OLD_TLS", is_old)
        made.append(Credentials(key.key, certificate, [AUTHORITY], 0.0, signer))
    for server, client in itertools.product(made, made):
        results = conversation(server, client)
        assert results["me"] == b"HELLO" and results["caller"].signer.name == "s"


def test_what_debians_cryptography_has_not_is_asked_for_in_one_module_alone():
    """Its tests are run on today's: there the names that came later would pass anywhere."""
    package = pathlib.Path(openssl.__file__).parents[1]
    named = [path.name for path in package.rglob("*.py") if re.search(r"not_valid_\w+_utc", path.read_text())]
    assert named == ["openssl.py"]
