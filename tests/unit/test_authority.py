"""The CA: what it makes, signs and refuses."""

import datetime
import os
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bdserver.core.roles import ADMIN, CLIENT, NODE, Role
from bdserver.errors import BadConfig
from bdserver.net import authority, keys
from bdserver.net.authority import Authority, general_names, make_request, read_request
from bdserver.net.chain import issuers_among
from bdserver.net.identity import identity_of, is_authority
from tests.unit.certificates import Key, in_days, load_certificate, make_keys, save, uri


@pytest.fixture
def ca(tmp_path):
    folder = str(tmp_path / "ca")
    Authority.make(folder, "prod")
    return folder


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_ca_signs_and_does_nothing_else_and_its_owner_alone_can_enter(ca):
    made = load_certificate(f"{ca}/ca.crt")
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca and constraints.path_length == 1
    assert usage.key_cert_sign and not usage.digital_signature
    assert (mode(f"{ca}/ca.key"), mode(ca), mode(f"{ca}/ca.crt")) == (0o600, 0o700, 0o644)
    assert sorted(os.listdir(ca)) == ["ca.crt", "ca.key"]
    assert Authority.load(ca).mesh == "prod"
    assert made.not_valid_after_utc - made.not_valid_before_utc == datetime.timedelta(days=3650) + authority.BACKDATED


def test_what_is_issued_is_a_folder_that_a_node_can_use_as_it_is(ca, tmp_path):
    folder = str(tmp_path / "web1")
    hosts = general_names(["10.0.0.5", "Web1.Example", "fe80::1"])
    made = Authority.load(ca).issue(folder, "web1", NODE, hosts)
    identity = keys.load(folder, "web1").identity
    assert identity[:3] == ("prod", "node", "web1") and set(identity.hosts) == {"10.0.0.5", "web1.example", "fe80::1"}
    assert identity == identity_of(made) and made.not_valid_after_utc < in_days(365)
    assert sorted(os.listdir(folder)) == ["ca.crt", "web1.crt", "web1.csr", "web1.key"]
    assert [mode(f"{folder}/{name}") for name in ("web1.key", "web1.crt", "ca.crt")] == [0o600, 0o644, 0o644]


def test_public_files_can_be_read_whatever_the_umask(ca, tmp_path):
    before = os.umask(0o077)
    try:
        folder = make_keys(tmp_path, ca, "web1")
    finally:
        os.umask(before)
    assert [mode(f"{folder}/{name}") for name in ("web1.key", "web1.crt", "ca.crt")] == [0o600, 0o644, 0o644]


@pytest.mark.parametrize(("role", "serves"), [(NODE, True), (CLIENT, False), (ADMIN, False)])
def test_only_a_node_may_be_called(ca, tmp_path, role, serves):
    folder = make_keys(tmp_path, ca, "x", role=role)
    usages = load_certificate(f"{folder}/x.crt").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) == serves and ExtendedKeyUsageOID.CLIENT_AUTH in usages


def test_no_certificate_outlasts_its_ca(tmp_path):
    made = Authority.make(str(tmp_path), "prod", 10)
    certificate = made.sign(Key().key.public_key(), "web1", NODE, [], 365)
    assert certificate.not_valid_after_utc == made.certificate.not_valid_after_utc


# -- requests


def test_a_request_keeps_the_key_where_it_was_made(ca, tmp_path):
    make_request(str(tmp_path), "web2", general_names(["::1"]))
    path, made = Authority.load(ca).sign_request(f"{tmp_path}/web2.csr", NODE)
    assert path == f"{tmp_path}/web2.crt" and identity_of(made)[:4] == ("prod", "node", "web2", ("::1",))
    assert sorted(os.listdir(ca)) == ["ca.crt", "ca.key"]


def request_of(tmp_path, *names, subject="evil", key=None):
    """A signing request as odd as it is asked for."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    attributes = [
        x509.NameAttribute(NameOID.COMMON_NAME, each) for each in ([subject] if isinstance(subject, str) else subject)
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    save(tmp_path / "evil.csr", builder.sign(key, hashes.SHA256()))
    return str(tmp_path / "evil.csr")


def test_a_request_that_claims_a_role_does_not_get_it(ca, tmp_path):
    path = request_of(tmp_path, uri("bd://prod/admin/evil"), x509.DNSName("Evil.Example"))
    _, made = Authority.load(ca).sign_request(path, CLIENT)
    assert identity_of(made)[1:4] == ("client", "evil", ("evil.example",)) and not is_authority(made)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: request_of(path), "evil.csr: names no host, and a node needs one"),
        (lambda path: request_of(path, x509.DNSName("*.example")), r"evil.csr: host '\*.example' is neither an address nor"),
        (lambda path: request_of(path, subject="a.bdcert"), "evil.csr: its common name is no name for a node"),
        (lambda path: request_of(path, subject=[]), "evil.csr: its common name is no name for a node"),
        (lambda path: request_of(path, subject=["a", "b"]), "evil.csr: its common name is no name for a node"),
        (
            lambda path: request_of(path, key=rsa.generate_private_key(65537, 2048)),
            "evil.csr: is an RSA key, and all keys of a mesh are P-256 keys",
        ),
        (lambda path: forged(request_of(path, x509.DNSName("a"))), "evil.csr: its signature is wrong"),
        (lambda path: f"{path}/ca/ca.crt", "ca.crt: is not a signing request in PEM"),
        (lambda path: f"{path}/none.csr", "none.csr: No such file"),
    ],
)
def test_a_request_that_may_not_be_signed_is_refused_in_one_line(ca, tmp_path, make, reason):
    with pytest.raises(BadConfig, match=reason) as refusal:
        Authority.load(ca).sign_request(make(tmp_path), NODE)
    assert "\n" not in str(refusal.value) and not os.path.exists(tmp_path / "evil.crt")


def forged(path):
    """The request for another key than the one that signed it."""
    with open(path, "rb") as file:
        request = x509.load_pem_x509_csr(file.read())
    data = request.public_bytes(Encoding.DER)
    mine, others = (
        key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        for key in (request.public_key(), Key().key.public_key())
    )
    save(path, x509.load_der_x509_csr(data.replace(mine, others)))
    return path


# -- the CA's own life


def test_after_a_roll_both_cas_are_believed_and_the_new_one_signs(ca, tmp_path):
    old = make_keys(tmp_path, ca, "old")
    before = load_certificate(f"{ca}/ca.crt")
    kept = Authority.load(ca).roll()
    new = make_keys(tmp_path, ca, "new")
    assert open(f"{ca}/ca.crt").read().count("BEGIN CERTIFICATE") == 2
    assert keys.load(new, "new")
    assert mode(f"{ca}/{kept}") == 0o600 and Key.of(f"{ca}/{kept}").key.public_key() == before.public_key()
    Authority.load(ca).renew(f"{old}/old.crt")  # its certificate is the old CA's
    assert not issuers_among([before], load_certificate(f"{old}/old.crt")) and keys.load(old, "old")
    Authority.load(ca).roll()
    assert open(f"{ca}/ca.crt").read().count("BEGIN CERTIFICATE") == 2  # the oldest is gone


def crash(*_):
    raise OSError(5, "crash", "ca.key")


def test_a_roll_that_crashed_half_way_leaves_a_ca_that_signs(ca, tmp_path, monkeypatch):
    real = os.replace
    with monkeypatch.context() as patched:  # when ca.crt holds both, and ca.key is still the old one
        patched.setattr(authority.os, "replace", lambda old, new: crash() if new.endswith("ca.key") else real(old, new))
        with pytest.raises(OSError, match="crash"):
            Authority.load(ca).roll()
    assert open(f"{ca}/ca.crt").read().count("BEGIN CERTIFICATE") == 2
    assert keys.load(make_keys(tmp_path, ca, "web1"), "web1")
    Authority.load(ca).roll()
    assert keys.load(make_keys(tmp_path, ca, "web2"), "web2")


@pytest.mark.parametrize("dates", [[(-400, -1), (-1, 50)], [(-1, 50), (-400, -1)], [(-400, 5), (-1, 50)]])
def test_a_ca_renewed_with_the_same_key_signs_by_its_last_certificate(ca, dates):
    made, key = load_certificate(f"{ca}/ca.crt"), Key.of(f"{ca}/ca.key")
    renewed = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "prod")])
    save(
        f"{ca}/ca.crt", *(key.sign(made.public_key(), renewed, begins=b, ends=e, is_ca=True, subject=renewed) for b, e in dates)
    )
    signed = Authority.load(ca).sign(Key().key.public_key(), "web1", NODE, [])
    assert in_days(49) < signed.not_valid_after_utc < in_days(51)


def test_a_ca_that_has_expired_signs_nothing_and_can_be_rolled(ca):
    made, key = load_certificate(f"{ca}/ca.crt"), Key.of(f"{ca}/ca.key")
    save(f"{ca}/ca.crt", key.renewed(made, -400, -1))
    with pytest.raises(BadConfig, match=rf"ca.crt: expired on .*, and nothing that it signs is good \(bdkeys roll {ca}\)"):
        Authority.load(ca).sign(Key().key.public_key(), "web1", NODE, [])
    Authority.load(ca).roll()
    assert Authority.load(ca).sign(Key().key.public_key(), "web1", NODE, [])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda ca: os.chmod(f"{ca}/ca.key", 0o640), "ca.key: others can read this private key"),
        (lambda ca: os.unlink(f"{ca}/ca.key"), "ca.key: No such file or directory"),
        (lambda ca: os.unlink(f"{ca}/ca.crt"), "ca.crt: No such file or directory"),
        (lambda ca: Key().save(f"{ca}/ca.key"), "ca.key: is not the key of .*ca.crt"),
        (lambda ca: Key(rsa.generate_private_key(65537, 2048)).save(f"{ca}/ca.key"), "ca.key: is an RSA key, and all keys"),
        (lambda ca: open(f"{ca}/ca.crt", "w").close(), "ca.crt: is not a CA certificate in PEM"),
        (lambda ca: of_others(ca), "ca.crt: was not made by bdkeys init"),
    ],
)
def test_a_folder_that_holds_no_ca_of_ours_is_refused(ca, spoil, reason):
    spoil(ca)
    with pytest.raises(BadConfig, match=reason):
        Authority.load(ca)


def of_others(ca):
    key, name = Key.of(f"{ca}/ca.key"), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    save(f"{ca}/ca.crt", key.sign(key.key.public_key(), name, is_ca=True, subject=name))


# -- renewing


def test_a_renewal_keeps_key_name_role_and_hosts(ca, tmp_path):
    folder = make_keys(tmp_path, ca, "web1", "10.0.0.5", "web1.example", role="client", days=5)
    before = load_certificate(f"{folder}/web1.crt")
    after = Authority.load(ca).renew(f"{folder}/web1.crt", 100)
    assert after == load_certificate(f"{folder}/web1.crt")
    assert before.public_key() == after.public_key() and identity_of(before)[:4] == identity_of(after)[:4]
    assert after.not_valid_after_utc - before.not_valid_after_utc > datetime.timedelta(days=90)
    keys.load(folder, "web1")


def test_an_expired_certificate_is_renewed(ca, tmp_path):
    folder = make_keys(tmp_path, ca, "web1")
    made, old = load_certificate(f"{ca}/ca.crt"), load_certificate(f"{folder}/web1.crt")
    names = [uri("bd://prod/node/web1"), x509.DNSName("web1")]
    save(f"{folder}/web1.crt", Key.of(f"{ca}/ca.key").sign(old.public_key(), made.subject, names, begins=-9, ends=-1))
    Authority.load(ca).renew(f"{folder}/web1.crt")
    assert keys.load(folder, "web1").identity.hosts == ("web1",)


@pytest.mark.parametrize("signer", ["itself", "a namesake"])
def test_a_certificate_that_this_ca_did_not_sign_is_not_renewed(ca, tmp_path, signer):
    """Else whoever can write NAME.crt on a node could choose its role."""
    folder = make_keys(tmp_path, ca, "web1")
    key = Key.of(f"{folder}/web1.key") if signer == "itself" else Key()
    issuer = load_certificate(f"{ca}/ca.crt").subject
    forged = key.sign(Key.of(f"{folder}/web1.key").key.public_key(), issuer, [uri("bd://prod/admin/web1")])
    save(f"{folder}/web1.crt", forged)
    with pytest.raises(BadConfig, match="web1.crt: is not signed by a CA in .*ca.crt: issue it anew"):
        Authority.load(ca).renew(f"{folder}/web1.crt")
    assert load_certificate(f"{folder}/web1.crt") == forged


def test_a_certificate_of_ours_that_names_nobody_is_not_renewed(ca, tmp_path):
    made = load_certificate(f"{ca}/ca.crt")
    save(tmp_path / "x.crt", Key.of(f"{ca}/ca.key").sign(Key().key.public_key(), made.subject, []))
    with pytest.raises(BadConfig, match="x.crt: has no bd://"):
        Authority.load(ca).renew(str(tmp_path / "x.crt"))


# -- names, hosts, files


@pytest.mark.parametrize("name", ["", ".x", "-x", "a/b", "../x", "a.bdcert", "x" * 65, "ä"])
def test_a_name_that_the_rule_forbids_is_in_no_certificate(ca, tmp_path, name):
    for make in (
        lambda: Authority.make(str(tmp_path / "new"), name),
        lambda: Authority.load(ca).issue(str(tmp_path / "new"), name, NODE, []),
        lambda: make_request(str(tmp_path), name, []),
        lambda: Authority.load(ca).sign(Key().key.public_key(), name, Role.NODE, []),
    ):
        with pytest.raises(BadConfig, match="is no name: 1 to 64 of letters"):
            make()
    assert os.listdir(tmp_path) == ["ca"]


def test_the_longest_name_is_one(ca, tmp_path):
    assert keys.load(make_keys(tmp_path, ca, "x" * 64), "x" * 64).identity.name == "x" * 64


def test_a_host_has_one_text_however_it_is_written():
    texts = ["10.0.0.5", "::ffff:10.0.0.5", "Web1.Example.", "web1.example", "FE80::1%eth0", "fe80:0::1"]
    assert [str(host.value) for host in general_names(texts)] == ["10.0.0.5", "web1.example", "fe80::1"]


@pytest.mark.parametrize("text", ["not a host", "*.example", "10.0.0.5:9001", "[::1]", "10.0.0.256", ""])
def test_what_is_no_host_is_in_no_certificate(text):
    with pytest.raises(BadConfig, match="host '.*' is neither an address nor a host's name"):
        general_names([text])


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"])
def test_an_address_that_is_no_one_hosts_is_in_no_certificate(text):
    with pytest.raises(BadConfig, match=f"host {text} is no address of one host"):
        general_names([text])


def test_a_hundred_hosts_go_into_a_certificate_and_no_more():
    texts = [f"h{k}" for k in range(authority.HOSTS_MAX + 1)]
    assert len(general_names(texts[1:])) == authority.HOSTS_MAX
    with pytest.raises(BadConfig, match="more than 100 hosts"):
        general_names(texts)


def test_a_key_is_never_overwritten(ca, tmp_path):
    folder = make_keys(tmp_path, ca, "web1")
    before = open(f"{folder}/web1.key").read()
    with pytest.raises(BadConfig, match="web1.crt: is there already, and is not overwritten"):
        make_keys(tmp_path, ca, "web1")
    os.unlink(f"{folder}/web1.crt")
    with pytest.raises(BadConfig, match="web1.key: is there already, and a key is never overwritten"):
        make_keys(tmp_path, ca, "web1")
    with pytest.raises(BadConfig, match="ca.key: is there already"):
        Authority.make(ca, "prod")
    assert open(f"{folder}/web1.key").read() == before


def test_a_full_disk_leaves_what_was_there_and_nothing_half(ca, tmp_path, monkeypatch):
    folder = make_keys(tmp_path, ca, "web1")
    before = {name: open(f"{folder}/{name}").read() for name in os.listdir(folder)}
    for name in os.listdir(folder):
        open(f"{folder}/{name}.new.{os.getpid()}", "w").close()  # what a crash may leave
    with monkeypatch.context() as patched:
        patched.setattr(authority.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(BadConfig, match="ca.crt: can't be written: No space left on device"):
            Authority.load(ca).renew(f"{folder}/web1.crt")
        with pytest.raises(BadConfig, match="can't be written: No space left on device"):
            make_keys(tmp_path, ca, "web2")
    assert not os.path.exists(f"{tmp_path}/web2/web2.key")
    assert {name: open(f"{folder}/{name}").read() for name in before} == before
    assert Authority.load(ca).renew(f"{folder}/web1.crt")


def test_a_signing_request_is_read_as_it_was_made(tmp_path):
    key = make_request(str(tmp_path), "web1", general_names(["10.0.0.5", "a.example"]))
    made = read_request(f"{tmp_path}/web1.csr")
    assert (made.name, [str(host.value) for host in made.hosts]) == ("web1", ["10.0.0.5", "a.example"])
    assert made.public_key == key.public_key()
