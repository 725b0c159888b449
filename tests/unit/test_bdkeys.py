"""bdkeys: what it makes, what it refuses, and in how many words."""

import datetime
import os
import stat

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from bdserver.commands import bdkeys
from bdserver.net import tls


@pytest.fixture
def ca(tmp_path, capsys):
    folder = str(tmp_path / "ca")
    assert bdkeys.main(["init", folder, "--mesh", "prod"]) == 0
    capsys.readouterr()
    return folder


def certificate(path):
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


def test_init_makes_a_ca_that_signs_and_nothing_else(ca):
    made = certificate(f"{ca}/ca.crt")
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert usage.key_cert_sign and not usage.digital_signature
    assert stat.S_IMODE(os.stat(f"{ca}/ca.key").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(ca).st_mode) == 0o700


def test_issue_makes_a_folder_that_a_node_can_use_as_it_is(ca, capsys):
    assert bdkeys.main(["issue", ca, "web1", "--host", "10.0.0.5", "--host", "Web1.Example", "--host", "fe80::1"]) == 0
    said = capsys.readouterr().out
    assert "node web1 of prod at 10.0.0.5, web1.example, fe80::1" in said and "next: copy" in said
    credentials = tls.load(f"{ca}/web1", "web1")
    assert credentials.identity[:3] == ("prod", "node", "web1")
    assert set(credentials.identity.hosts) == {"10.0.0.5", "web1.example", "fe80::1"}
    assert sorted(os.listdir(f"{ca}/web1")) == ["ca.crt", "web1.crt", "web1.csr", "web1.key"]
    assert stat.S_IMODE(os.stat(f"{ca}/web1/web1.key").st_mode) == 0o600


@pytest.mark.parametrize(("role", "serves"), [("node", True), ("client", False), ("admin", False)])
def test_only_a_node_may_be_called(ca, role, serves):
    bdkeys.main(["issue", ca, "x", "--host", "10.0.0.5", "--role", role])
    usages = certificate(f"{ca}/x/x.crt").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) == serves and ExtendedKeyUsageOID.CLIENT_AUTH in usages


def test_request_and_sign_keep_the_key_on_the_node(ca, tmp_path, capsys):
    node = tmp_path / "node"
    node.mkdir()
    assert bdkeys.main(["request", "web2", "--host", "::1", "--dir", str(node)]) == 0
    assert bdkeys.main(["sign", ca, str(node / "web2.csr")]) == 0
    assert "web2.crt: node web2 of prod" in capsys.readouterr().out
    (node / "ca.crt").write_bytes((tmp_path / "ca" / "ca.crt").read_bytes())
    assert tls.load(str(node), "web2").identity.hosts == ("::1",)
    assert not os.path.exists(f"{ca}/web2.key")


def test_a_request_that_claims_a_role_does_not_get_it(ca, tmp_path):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    names = [x509.UniformResourceIdentifier("bd://prod/admin/evil"), x509.DNSName("evil.example")]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "evil")]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    path = tmp_path / "evil.csr"
    path.write_bytes(request.public_bytes(Encoding.PEM))
    assert bdkeys.main(["sign", ca, str(path), "--role", "client"]) == 0
    made = certificate(tmp_path / "evil.crt")
    assert tls.identity_of(made).role == "client" and not tls.is_authority(made)


def test_show_says_what_a_file_is(ca, capsys):
    bdkeys.main(["issue", ca, "web1", "--host", "10.0.0.5"])
    capsys.readouterr()
    for name, words in (("ca.crt", "CA CN=BDserver CA"), ("web1/web1.crt", "node web1 of prod at 10.0.0.5, 365 days left"),
                        ("web1/web1.csr", "request of CN=web1 for 10.0.0.5")):  # fmt: skip
        assert bdkeys.main(["show", f"{ca}/{name}"]) == 0
        assert words in capsys.readouterr().out


def test_renew_keeps_key_name_role_and_hosts(ca):
    bdkeys.main(["issue", ca, "web1", "--host", "10.0.0.5", "--role", "client", "--days", "5"])
    before = certificate(f"{ca}/web1/web1.crt")
    assert bdkeys.main(["renew", ca, "web1", "--days", "100"]) == 0
    after = certificate(f"{ca}/web1/web1.crt")
    assert before.public_key() == after.public_key()
    assert tls.identity_of(before)[:4] == tls.identity_of(after)[:4]
    assert after.not_valid_after_utc - before.not_valid_after_utc > datetime.timedelta(days=90)
    tls.load(f"{ca}/web1", "web1")


def test_after_a_roll_both_cas_are_believed_and_the_new_one_signs(ca):
    bdkeys.main(["issue", ca, "old", "--host", "10.0.0.5"])
    assert bdkeys.main(["roll", ca]) == 0
    bdkeys.main(["issue", ca, "new", "--host", "10.0.0.6"])
    assert open(f"{ca}/ca.crt").read().count("BEGIN CERTIFICATE") == 2
    assert tls.load(f"{ca}/new", "new")
    with open(f"{ca}/ca.crt") as bundle, open(f"{ca}/old/ca.crt", "w") as file:
        file.write(bundle.read())
    assert tls.load(f"{ca}/old", "old")  # its certificate is the old CA's
    bdkeys.main(["renew", ca, "old"])
    assert tls.load(f"{ca}/old", "old")
    assert bdkeys.main(["roll", ca]) == 0
    assert open(f"{ca}/ca.crt").read().count("BEGIN CERTIFICATE") == 2  # the oldest is gone


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["init", "{ca}", "--mesh", "prod"], "ca.key: is there already"),
        (["init", "{ca}2", "--mesh", "../x"], "is no name"),
        (["issue", "{ca}", "-x", "--host", "a"], None),
        (["issue", "{ca}", "a/b", "--host", "a"], "'a/b' is no name"),
        (["issue", "{ca}", "web9", "--host", "not a host"], "--host 'not a host' is neither"),
        (["issue", "{ca}x", "web9", "--host", "a"], "ca.key: No such file or directory"),
        (["issue", "{ca}", "web9"], "a node needs --host"),
        (["sign", "{ca}", "{ca}/ca.crt"], "is not a signing request"),
        (["show", "{ca}/ca.key"], "is neither a certificate nor a signing request"),
        (["show", "{ca}/nothing"], "No such file"),
        (["renew", "{ca}", "nobody"], "nobody.crt is not in"),
        (["roll", "{ca}x"], "No such file"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_exit_2(ca, capsys, arguments, reason):
    arguments = [each.replace("{ca}", ca) for each in arguments]
    if reason is None:
        with pytest.raises(SystemExit) as end:
            bdkeys.main(arguments)
        assert end.value.code == 2
        return
    assert bdkeys.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("bdkeys: ") and said.count("\n") == 1 and reason in said


def test_a_client_needs_no_address_and_a_node_does(ca, capsys):
    assert bdkeys.main(["issue", ca, "me", "--role", "client"]) == 0
    assert tls.load(f"{ca}/me", "me").identity.hosts == ()
    capsys.readouterr()
    assert bdkeys.main(["issue", ca, "web1"]) == 2
    assert "a node needs --host" in capsys.readouterr().err


def test_a_roll_that_crashed_half_way_leaves_a_ca_that_signs(ca, monkeypatch):
    monkeypatch.setattr(bdkeys.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "crash", "ca.key")))
    assert bdkeys.main(["roll", ca]) == 2
    monkeypatch.undo()
    assert bdkeys.main(["issue", ca, "web1", "--host", "10.0.0.5"]) == 0
    assert tls.load(f"{ca}/web1", "web1")
    assert bdkeys.main(["roll", ca]) == 0


def test_a_key_is_never_overwritten(ca, capsys):
    bdkeys.main(["issue", ca, "web1", "--host", "10.0.0.5"])
    before = open(f"{ca}/web1/web1.key").read()
    os.unlink(f"{ca}/web1/web1.crt")
    assert bdkeys.main(["issue", ca, "web1", "--host", "10.0.0.5"]) == 2
    assert "never overwritten" in capsys.readouterr().err and open(f"{ca}/web1/web1.key").read() == before


def test_a_ca_key_that_others_can_read_is_refused(ca, capsys):
    os.chmod(f"{ca}/ca.key", 0o640)
    assert bdkeys.main(["issue", ca, "web1", "--host", "10.0.0.5"]) == 2
    assert f"chmod 600 {ca}/ca.key" in capsys.readouterr().err
