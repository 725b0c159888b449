"""Key files: what is loaded, what is refused, and in how many words."""

import errno
import grp
import os
import shutil
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from bdserver.errors import BadConfig
from bdserver.net import keyfiles, keys
from bdserver.net.authority import Authority
from tests.unit.certificates import Key, conversation, is_one_line, load_certificate, make_keys, save, uri


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the CA of a mesh and two nodes' keys."""
    folder = str(tmp_path_factory.mktemp("keys"))
    Authority.make(f"{folder}/ca", "prod")
    Authority.make(f"{folder}/strangers", "prod")
    make_keys(folder, f"{folder}/ca", "web1", "127.0.0.1")
    make_keys(folder, f"{folder}/ca", "web2", "127.0.0.1")
    return folder


@pytest.fixture
def web1(made, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(f"{made}/web1", str(tmp_path / "web1"))


def sign_anew(made, folder, **options):
    """web1's certificate in this folder, by the CA itself, with what `options` say."""
    authority = load_certificate(f"{made}/ca/ca.crt")
    names = options.pop("names", [uri("bd://prod/node/web1")])
    public_key = load_certificate(f"{folder}/web1.crt").public_key()
    save(f"{folder}/web1.crt", Key.of(f"{made}/ca/ca.key").sign(public_key, authority.subject, names, **options))


def test_the_credentials_are_those_of_the_files(made):
    credentials = keys.load(f"{made}/web1", "web1")
    assert credentials.identity[:4] == ("prod", "node", "web1", ("127.0.0.1",))
    assert keys.load_named(f"{made}/web1/web1").identity == credentials.identity
    assert credentials.days_left(time.time()) == pytest.approx(100, abs=0.1)


def test_names_without_a_folder_are_here(web1, monkeypatch):
    monkeypatch.chdir(web1)
    assert keys.load_named("web1").identity.name == "web1"


def lock(path):
    key = Key.of(path).key
    with open(path, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda d: os.unlink(f"{d}/web1.key"), "web1.key: missing"),
        (lambda d: os.unlink(f"{d}/ca.crt"), "ca.crt: missing"),
        (lambda d: os.chmod(f"{d}/web1.key", 0o644), "others can read this private key .chmod 600"),
        (lambda d: shutil.copy(f"{d}/../web2.key", f"{d}/web1.key"), "web1.key: is not the key of .*web1.crt"),
        (lambda d: shutil.copy(f"{d}/../strangers.crt", f"{d}/ca.crt"), "web1.crt: is not signed by a CA in .*ca.crt"),
        (lambda d: open(f"{d}/web1.crt", "w").close(), "web1.crt: is not a certificate in PEM"),
        (lambda d: open(f"{d}/ca.crt", "w").close(), "ca.crt: is not a CA certificate in PEM"),
        (lambda d: shutil.copy(f"{d}/web1.crt", f"{d}/ca.crt"), r"ca.crt: holds a certificate that is not a CA's \(CN=web1\)"),
        (lambda d: save(f"{d}/web1.crt", *[load_certificate(f"{d}/web1.crt")] * 2), "web1.crt: holds 2 certificates where one"),
        (lambda d: save(f"{d}/web1.crt", *[load_certificate(f"{d}/web1.crt")] * 3), "holds 3 certificates where one belongs, or"),
        (lambda d: open(f"{d}/web1.key", "w").close(), "web1.key: is not a private key in PEM"),
        (lambda d: lock(f"{d}/web1.key"), "web1.key: is locked with a passphrase"),
        (lambda d: open(f"{d}/ca.crt", "a").write("#" * keys.KEY_FILE_BYTES_MAX), "ca.crt: too long for a file of keys"),
        (lambda d: (os.unlink(f"{d}/ca.crt"), os.mkdir(f"{d}/ca.crt")), "ca.crt: Is a directory"),
    ],
)  # fmt: skip
def test_bad_key_files_are_one_line_with_the_file(made, web1, tmp_path, spoil, reason):
    shutil.copy(f"{made}/web2/web2.key", tmp_path)
    shutil.copy(f"{made}/strangers/ca.crt", tmp_path / "strangers.crt")
    spoil(web1)
    with pytest.raises(BadConfig, match=reason) as refusal:
        keys.load(web1, "web1")
    assert is_one_line(refusal.value)


@pytest.mark.parametrize("length", [keys.KEY_FILE_BYTES_MAX - 1, keys.KEY_FILE_BYTES_MAX])
def test_a_file_up_to_the_limit_is_read(tmp_path, length):
    (tmp_path / "file").write_bytes(b"#" * length)
    assert len(keys.read_public(str(tmp_path / "file"))) == length


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"names": []}, "web1.crt: has no bd://MESH/ROLE/NAME in it"),
        ({"names": [uri("bd://prod/node/a.bdcert")]}, "web1.crt: has no bd://MESH/ROLE/NAME in it"),
        ({"begins": -3, "ends": -2}, "web1.crt: expired on 20"),
        ({"begins": 1, "ends": 2}, r"web1.crt: is not valid before 20.* \(is a clock wrong\?\)"),
    ],
)
def test_a_certificate_of_no_use_is_refused_at_the_start(made, web1, options, reason):
    sign_anew(made, web1, **options)
    with pytest.raises(BadConfig, match=reason) as refusal:
        keys.load(web1, "web1")
    assert is_one_line(refusal.value)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (lambda: rsa.generate_private_key(65537, 2048), "an RSA key"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "an EC key on secp384r1"),
        (ed25519.Ed25519PrivateKey.generate, "another kind of key"),
    ],
)
def test_the_refusal_of_another_kind_of_key_says_that_p256_is_the_rule(web1, key, kind):
    Key(key()).save(f"{web1}/web1.key")
    with pytest.raises(BadConfig, match=f"web1.key: is {kind}, and all keys of a mesh are P-256 keys"):
        keys.load(web1, "web1")


# -- who may read a private key


def give(path, group, mode):
    os.chown(path, -1, grp.getgrnam(group).gr_gid)
    os.chmod(path, mode)


def own_group():
    """A group that a test may give a file to, whoever runs it."""
    return grp.getgrgid(os.getgid()).gr_name


def test_the_group_that_the_config_names_may_read_the_key(web1):
    give(f"{web1}/web1.key", own_group(), 0o640)
    assert keys.load(web1, "web1", own_group()).identity.name == "web1"
    for group in ("", "daemon-of-others"):
        with pytest.raises(BadConfig, match="others can read this private key"):
            keys.load(web1, "web1", group)


def test_a_systems_own_group_for_keys_may_read_them(web1, monkeypatch):
    give(f"{web1}/web1.key", own_group(), 0o640)
    assert "ssl-cert" in keys.KEY_GROUPS
    monkeypatch.setattr(keys, "KEY_GROUPS", (own_group(),))
    assert keys.load(web1, "web1").identity.name == "web1"
    assert keys.load_named(f"{web1}/web1").identity.name == "web1"


@pytest.mark.parametrize("mode", [0o660, 0o650, 0o644, 0o604, 0o602, 0o601, 0o677])
def test_whatever_else_a_group_or_others_may_do_with_a_key_is_refused(web1, mode):
    give(f"{web1}/web1.key", own_group(), mode)
    with pytest.raises(BadConfig, match="others can read this private key .chmod 600"):
        keys.load(web1, "web1", own_group())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to a group without a name")
def test_a_group_without_a_name_is_nobodys(web1):
    os.chown(f"{web1}/web1.key", -1, 54321)
    os.chmod(f"{web1}/web1.key", 0o640)
    with pytest.raises(BadConfig, match="others can read this private key"):
        keys.load(web1, "web1", "")


# -- a CA that was renewed


@pytest.mark.parametrize(
    ("dates", "days_left"),
    [
        ([(-400, -1), (-1, 50)], 50),  # the expired one first
        ([(-1, 50), (-400, -1)], 50),
        ([(-400, 5), (-1, 50)], 50),  # the one that ends first, first: no false alarm
        ([(-1, 50), (-400, 5)], 50),
        ([(10, 90), (-1, 50)], 50),  # one that is not yet in date does not count
        ([(-1, 400)], 100),  # the node's own end
    ],
)
def test_of_a_cas_certificates_for_one_key_any_in_date_counts(made, web1, dates, days_left):
    authority, key = load_certificate(f"{made}/ca/ca.crt"), Key.of(f"{made}/ca/ca.key")
    save(f"{web1}/ca.crt", *(key.renewed(authority, *each) for each in dates))
    credentials = keys.load(web1, "web1")
    assert credentials.days_left(time.time()) == pytest.approx(days_left, abs=0.1)
    # And in a handshake, on both sides.
    assert conversation(credentials, credentials)["me"] == b"HELLO"


@pytest.mark.parametrize(
    ("dates", "reason"),
    [
        ([(-400, -2), (-400, -1)], "ca.crt: the CA that signed .*web1.crt expired on"),
        ([(-400, -1), (1, 50)], "ca.crt: the CA that signed .*web1.crt is not valid before"),
    ],
)
def test_when_no_certificate_of_the_ca_is_in_date_the_latest_is_named(made, web1, dates, reason):
    authority, key = load_certificate(f"{made}/ca/ca.crt"), Key.of(f"{made}/ca/ca.key")
    latest = [key.renewed(authority, *each) for each in dates]
    save(f"{web1}/ca.crt", *latest)
    with pytest.raises(BadConfig, match=reason) as refusal:
        keys.load(web1, "web1")
    assert f"{latest[1].not_valid_after_utc if '-2' in str(dates) else latest[1].not_valid_before_utc:%Y-%m-%d}" in str(
        refusal.value
    )


# -- files that are not there, and what to do


def test_a_nodes_missing_keys_are_made_with_a_host(tmp_path):
    with pytest.raises(BadConfig) as refusal:
        keys.load(str(tmp_path), "web1")
    names = ", ".join(f"{tmp_path}/{name}" for name in ("web1.key", "web1.crt", "ca.crt"))
    by_hand = f"`bdkeys issue DIR web1 --host HOST --out {tmp_path}`"
    begin = "`bdkeys init --mesh NAME --here`, the line of `bdctl invite` on another host"
    assert str(refusal.value) == f"{names}: missing (make with {begin}, or by hand {by_hand})"


def test_a_clients_missing_keys_are_made_with_its_role(tmp_path):
    with pytest.raises(
        BadConfig, match=f"`bdkeys issue DIR joe --role client --out {tmp_path}`, or .*`bdctl invite joe --role client`"
    ):
        keys.load_named(f"{tmp_path}/joe")


def test_a_missing_certificate_that_was_asked_for_is_to_be_signed(web1):
    os.unlink(f"{web1}/web1.crt")
    with pytest.raises(BadConfig, match="web1.crt: missing .make with `bdkeys sign DIR web1.csr`"):
        keys.load(web1, "web1")


def test_a_folder_alone_names_nobody(tmp_path):
    with pytest.raises(BadConfig, match="is a folder; whose keys in it"):
        keys.load_named(f"{tmp_path}/")


def test_what_lies_below_a_file_is_missing_and_what_cannot_be_looked_at_is_not(web1):
    with pytest.raises(BadConfig, match="missing"):
        keys.load(f"{web1}/web1.crt", "web1")
    with pytest.raises(BadConfig, match=": File name too long"):
        keys.load(web1, "x" * 300)


@pytest.mark.parametrize("name", ["me.key", "me.crt", "ca.crt"])
def test_what_is_no_file_is_refused_at_once_and_not_waited_for(tmp_path, name):
    """A daemon reads them at SIGHUP, in its listener."""
    os.mkfifo(tmp_path / name)
    (tmp_path / name).chmod(0o600)
    reads = keys.load_key if name.endswith(".key") else keys.load_chain
    with pytest.raises(BadConfig, match=f"{name}: not a regular file"):
        reads(str(tmp_path / name))


def test_where_a_key_can_not_be_made_its_own_path_is_named(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(keyfiles.os, "unlink", refused)
    with pytest.raises(PermissionError) as caught:
        keyfiles.new_key(str(tmp_path / "web1.key"))
    assert caught.value.filename == str(tmp_path / "web1.key")
