"""Who a certificate speaks for."""

import ipaddress

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core.names import valid_name
from bdserver.core.roles import EVERYONE, Role
from bdserver.net.identity import expired, identity_of, is_authority, too_early, uri_of
from tests.unit.certificates import Key, uri

KEY = Key()
CA_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])


def certificate(*names, **options):
    return KEY.sign(KEY.key.public_key(), CA_NAME, names, **options)


def test_mesh_role_name_and_hosts_are_read_hosts_in_their_normal_form():
    made = certificate(
        uri("bd://prod/node/web1"),
        uri("https://example.org/of-no-interest"),
        x509.DNSName("Web1.Example."),
        x509.DNSName("*.example"),
        x509.DNSName("10.0.0.5"),
        x509.IPAddress(ipaddress.ip_address("::ffff:10.0.0.5")),
        x509.IPAddress(ipaddress.ip_address("2001:DB8::1")),
    )
    identity = identity_of(made)
    assert identity[:4] == ("prod", "node", "web1", ("web1.example", "*.example", "10.0.0.5", "2001:db8::1"))
    assert identity.role is Role.NODE and identity.serial == made.serial_number
    assert identity.not_after == made.not_valid_after_utc.timestamp()


@pytest.mark.parametrize(
    ("uris", "reason"),
    [
        ([], "has no bd://MESH/ROLE/NAME in it"),
        (["https://example.org/"], "has no bd://"),
        (["bd://prod/node/web1", "bd://prod/node/web2"], "has two bd:// URIs"),
        (["bd://prod/king/web1"], "is for king, which is no role"),
        (["bd://prod/Node/web1"], "has no bd://"),
        (["bd://prod/node/web1/x"], "has no bd://"),
        (["bd://prod/node"], "has no bd://"),
        (["bd:///node/web1"], "has no bd://"),
        (["bd://prod/node/"], "has no bd://"),
        (["bd:prod/node/web1"], "has no bd://"),
        # The one rule for names, here as everywhere.
        (["bd://prod/node/a.bdcert"], "has no bd://"),
        (["bd://prod.bdcert/node/web1"], "has no bd://"),
        (["bd://prod/node/.web1"], "has no bd://"),
        (["bd://-prod/node/web1"], "has no bd://"),
        (["bd://prod/node/" + "x" * 101], "has no bd://"),
        (["bd://prod/node/web1\n"], "has no bd://"),
    ],
)
def test_what_names_nobody_is_refused(uris, reason):
    with pytest.raises(ValueError, match=reason):
        identity_of(certificate(*map(uri, uris), x509.DNSName("web1")))


def test_a_malformed_certificate_is_refused_in_words():
    names = x509.UnrecognizedExtension(x509.oid.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x03\x82\x05x")
    builder = x509.CertificateBuilder().subject_name(CA_NAME).issuer_name(CA_NAME).public_key(KEY.key.public_key())
    good = certificate(uri("bd://prod/node/web1"))
    builder = builder.serial_number(1).not_valid_before(good.not_valid_before_utc).not_valid_after(good.not_valid_after_utc)
    made = builder.add_extension(names, critical=False).sign(KEY.key, good.signature_hash_algorithm)
    with pytest.raises(ValueError, match="is malformed"):
        identity_of(made)


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", fullmatch=True), st.sampled_from(EVERYONE))
def test_a_uri_that_is_written_is_read_the_same(name, role):
    match = valid_name(name)
    made = certificate(uri(uri_of("prod", role, name)))
    if match:
        assert identity_of(made)[:3] == ("prod", role, name)
    else:
        with pytest.raises(ValueError):
            identity_of(made)


def test_only_a_cas_certificate_is_an_authority():
    assert is_authority(certificate(is_ca=True)) and not is_authority(certificate())
    bare = x509.CertificateBuilder().subject_name(CA_NAME).issuer_name(CA_NAME).public_key(KEY.key.public_key())
    good = certificate()
    bare = bare.serial_number(1).not_valid_before(good.not_valid_before_utc).not_valid_after(good.not_valid_after_utc)
    assert not is_authority(bare.sign(KEY.key, good.signature_hash_algorithm))


def test_dates_are_told_to_the_minute_and_an_early_one_hints_at_the_clock():
    made = certificate()
    assert expired(made) == f"expired on {made.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    assert too_early(made) == f"is not valid before {made.not_valid_before_utc:%Y-%m-%d %H:%M} UTC (is a clock wrong?)"
