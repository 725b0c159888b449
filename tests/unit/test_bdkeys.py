"""bdkeys: what it says, what it refuses, and in how many words."""

import os
import shutil
import stat

import pytest
from cryptography import x509

from bdserver.commands import bdkeys
from bdserver.files.minisign import PublicKey, SecretKey
from bdserver.net import keys
from bdserver.net.authority import Authority
from bdserver.net.identity import identity_of
from tests.unit.certificates import Key, load_certificate, save, uri


@pytest.fixture
def ca(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BDSERVER_CONFIG", str(tmp_path / "etc" / "bdserverd.conf"))
    folder = str(tmp_path / "ca")
    assert bdkeys.main(["init", folder, "--mesh", "prod"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{folder}: the CA of the mesh prod, good for 3650 days.") and "next, for each host" in said
    return folder


def run(*arguments):
    assert bdkeys.main(list(arguments)) == 0


def refused(capsys, *arguments):
    """What it says on stderr: one line, with status 2."""
    assert bdkeys.main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.startswith("bdkeys: ") and said.count("\n") == 1 and "[Errno" not in said
    return said


def test_issue_says_what_was_made_and_what_comes_next(ca, capsys):
    run("issue", ca, "web1", "--host", "10.0.0.5", "--host", "Web1.Example", "--host", "fe80::1")
    said = capsys.readouterr().out
    assert "node web1 of prod at 10.0.0.5, web1.example, fe80::1, good for 365 days" in said
    assert f"next: copy {ca}/web1 to the host; in its config: key_dir=… and username=web1" in said
    assert keys.load(f"{ca}/web1", "web1").identity[:3] == ("prod", "node", "web1")


def test_a_client_needs_no_address_and_a_node_does(ca, capsys):
    run("issue", ca, "me", "--role", "client")
    said = capsys.readouterr().out
    assert "client me of prod at no address" in said and f"next: bdwhereis --node HOST:PORT --keys {ca}/me/me SERVICE" in said
    assert keys.load_named(f"{ca}/me/me").identity.hosts == ()
    assert "a node needs --host" in refused(capsys, "issue", ca, "web1")


def test_request_and_sign_keep_the_key_on_the_node(ca, tmp_path, capsys):
    node = str(tmp_path / "node")
    os.mkdir(node)
    run("request", "web2", "--host", "::1", "--dir", node)
    assert f"{node}/web2.key: stays here. {node}/web2.csr: take it to the CA's host" in capsys.readouterr().out
    run("sign", ca, f"{node}/web2.csr", "--days", "30")
    assert f"{node}/web2.crt: node web2 of prod, good for 30 days" in capsys.readouterr().out
    shutil.copy(f"{ca}/ca.crt", node)
    assert keys.load(node, "web2").identity.hosts == ("::1",)
    assert not os.path.exists(f"{ca}/web2.key")


def test_the_role_is_the_command_lines(ca, tmp_path):
    run("request", "joe", "--dir", str(tmp_path))
    run("sign", ca, f"{tmp_path}/joe.csr", "--role", "admin")
    assert identity_of(load_certificate(f"{tmp_path}/joe.crt")).role == "admin"


def test_a_certificate_that_ends_with_its_ca_is_told_with_its_own_days(tmp_path, capsys):
    run("init", f"{tmp_path}/ca", "--mesh", "prod", "--days", "10")
    run("issue", f"{tmp_path}/ca", "web1", "--host", "a")
    assert "web1 of prod at a, good for 10 days" in capsys.readouterr().out


def test_show_says_what_a_file_is(ca, tmp_path, capsys):
    run("issue", ca, "web1", "--host", "10.0.0.5")
    run("issue", ca, "me", "--role", "client")
    made = load_certificate(f"{ca}/ca.crt")
    names = [uri("bd://prod/node/old"), x509.DNSName("a")]
    save(f"{ca}/old.crt", Key.of(f"{ca}/ca.key").sign(made.public_key(), made.subject, names, begins=-9, ends=-3))
    capsys.readouterr()
    for name, words in (("ca.crt", "CA CN=BDserver CA"), ("web1/web1.crt", "node web1 of prod at 10.0.0.5, 365 days left"),
                        ("web1/web1.csr", "request of CN=web1 for 10.0.0.5"), ("me/me.csr", "request of CN=me for no address"),
                        ("me/me.crt", "client me of prod at no address, 365 days left"),
                        ("old.crt", "node old of prod at a, expired 3 days ago")):  # fmt: skip
        run("show", f"{ca}/{name}")
        said = capsys.readouterr().out
        assert said.startswith(f"{ca}/{name}: ") and words in said
    serial = load_certificate(f"{ca}/web1/web1.crt").serial_number
    run("show", f"{ca}/web1/web1.crt")
    assert f"issued by {made.subject.rfc4514_string()}, serial {serial:x}\n" in capsys.readouterr().out


def test_show_names_the_file_of_a_certificate_that_is_nobodys(ca, capsys):
    made = load_certificate(f"{ca}/ca.crt")
    save(f"{ca}/x.crt", Key.of(f"{ca}/ca.key").sign(made.public_key(), made.subject, []))
    assert "x.crt: has no bd://MESH/ROLE/NAME in it" in refused(capsys, "show", f"{ca}/x.crt")


@pytest.mark.parametrize("place", ["{ca}/web1", "{ca}", ".", "{etc}"])
def test_renew_finds_the_certificate_in_each_place_that_the_guide_puts_it(ca, tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    folder = place.replace("{ca}", ca).replace("{etc}", f"{tmp_path}/etc")
    Authority.load(ca).issue(f"{tmp_path}/made", "web1", "node", [])
    os.makedirs(folder, exist_ok=True)
    shutil.copy(f"{tmp_path}/made/web1.crt", folder)
    before = load_certificate(f"{folder}/web1.crt")
    run("renew", ca, "web1", "--days", "700")
    assert "web1.crt: node web1 of prod, good for 700 days more\nnext: " in capsys.readouterr().out
    after = load_certificate(f"{folder}/web1.crt")
    assert after.serial_number != before.serial_number and after.public_key() == before.public_key()
    assert load_certificate(f"{folder}/ca.crt") == load_certificate(f"{ca}/ca.crt")


def test_renew_of_what_was_made_elsewhere_names_the_remedy(ca, tmp_path, capsys):
    run("issue", ca, "web1", "--host", "a", "--out", f"{tmp_path}/elsewhere")
    capsys.readouterr()
    said = refused(capsys, "renew", ca, "web1")
    assert f"web1.crt is not in {ca}/web1 nor in {ca} nor in . nor in {tmp_path}/etc (say where it is with --in DIR)" in said
    run("renew", ca, "web1", "--in", f"{tmp_path}/elsewhere")
    assert refused(capsys, "renew", ca, "web1", "--in", ca).endswith(f"web1.crt is not in {ca}\n")


def test_roll_says_what_is_to_be_done_and_keeps_the_old_key(ca, capsys):
    run("roll", ca)
    said = capsys.readouterr().out
    [old_key] = [name for name in os.listdir(ca) if name.startswith("ca-")]
    assert f"ca.crt holds both, {old_key} is the old one's key\nnext: 1. this ca.crt to every host" in said


def test_a_second_roll_at_once_would_drop_the_ca_that_all_hang_under_and_is_refused(ca, tmp_path, capsys):
    run("issue", ca, "web1", "--host", "a", "--out", f"{tmp_path}/web1")
    run("roll", ca)
    before = open(f"{ca}/ca.crt").read()
    assert "was rolled 0 days ago, and one more drops the CA before that" in refused(capsys, "roll", ca)
    assert open(f"{ca}/ca.crt").read() == before
    run("roll", ca, "--again")
    assert open(f"{ca}/ca.crt").read() != before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["init", "{ca}", "--mesh", "prod"], "ca.key: is there already"),
        (["init", "{ca}2", "--mesh", "../x"], "'../x' is no name"),
        (["init", "{ca}/ca.crt/x", "--mesh", "prod"], "ca.crt/x: Not a directory"),
        (["issue", "{ca}", "a/b", "--host", "a"], "'a/b' is no name"),
        (["issue", "{ca}", "web9", "--host", "not a host"], "host 'not a host' is neither an address nor a host's name"),
        (["issue", "{ca}x", "web9", "--host", "a"], "ca.key: No such file or directory"),
        (["issue", "{ca}", "web9"], "a node needs --host"),
        (["request", "web9", "--dir", "{ca}/none"], "none/web9.key: No such file or directory"),
        (["sign", "{ca}", "{ca}/ca.crt"], "is not a signing request"),
        (["show", "{ca}/ca.key"], "is neither a certificate nor a signing request"),
        (["show", "{ca}/nothing"], "No such file"),
        (["renew", "{ca}", "nobody"], "nobody.crt is not in"),
        (["roll", "{ca}x"], "No such file"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_exit_2(ca, capsys, arguments, reason):
    assert reason in refused(capsys, *(each.replace("{ca}", ca) for each in arguments))


def test_a_disk_that_fails_is_one_line(ca, capsys, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(bdkeys.Authority, "roll", fail)
    assert refused(capsys, "roll", ca) == "bdkeys: output: Input/output error\n"


@pytest.mark.parametrize("days", ["0", "-1", "36501", "99999999999", "x", "", "1.5", "²"])
def test_a_certificate_is_good_for_some_days_or_is_not_made(ca, capsys, days):
    for arguments in (
        ["issue", ca, "web1", "--host", "a"],
        ["init", f"{ca}2", "--mesh", "m"],
        ["roll", ca],
        ["renew", ca, "x"],
    ):
        with pytest.raises(SystemExit) as end:
            bdkeys.main([*arguments, f"--days={days}"])
        assert end.value.code == 2
        assert f"argument --days: {days!r} is no number of days from 1 to 36500" in capsys.readouterr().err
    assert sorted(os.listdir(ca)) == ["ca.crt", "ca.key", "publisher.key", "publisher.pub"]


@pytest.mark.parametrize("days", ["1", "36500"])
def test_one_day_and_a_hundred_years_are_some(tmp_path, capsys, days):
    run("init", f"{tmp_path}/ca", "--mesh", "prod", "--days", days)
    run("issue", f"{tmp_path}/ca", "web1", "--host", "a", "--days", days)
    assert f"good for {days} days" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "bdkeys: the following arguments are required: COMMAND"),
        (["isue", "{ca}", "web9"], "bdkeys: there is no command 'isue': did you mean issue?"),
        (["revoke"], "bdkeys: there is no command 'revoke' (bdkeys --help tells more)"),
        (["join", "10.0.0.1"], "bdkeys join: the following arguments are required: TOKEN"),
        (["issue", "{ca}", "-x", "--host", "a"], "bdkeys issue: the following arguments are required: NAME"),
        (["issue", "{ca}", "x", "--role", "king"], "bdkeys issue: argument --role: invalid choice: 'king'"),
        (["init", "", "--mesh", "m"], "bdkeys init: argument DIR: an empty text is no path"),
        (["issue", "", "a", "--host", "h"], "bdkeys issue: argument DIR: an empty text is no path"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(ca, capsys, arguments, said):
    with pytest.raises(SystemExit) as end:
        bdkeys.main([each.replace("{ca}", ca) for each in arguments])
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.startswith(said) and err.count("\n") == 1, err


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        bdkeys.main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out.startswith("bdkeys 1.")


def test_a_publishers_key_is_its_owners_alone_and_says_what_comes_next(tmp_path, capsys):
    run("publisher", str(tmp_path / "new"), "--name", "ann")
    path = tmp_path / "new" / "ann.key"
    key = SecretKey.of_file(path.read_bytes())
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith(f"{path}: signs services (bdctl publish --sign {path})")
    assert said.splitlines()[1] == f"next, into the list that `publishers` names on every host: {key.public.line} # ann"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert PublicKey.of_file((tmp_path / "new" / "ann.pub").read_bytes()) == key.public
    assert "is there already" in refused(capsys, "publisher", str(tmp_path / "new"), "--name", "ann")
    assert SecretKey.of_file(path.read_bytes()) == key
    assert "is no name" in refused(capsys, "publisher", str(tmp_path), "--name", "../x")


def test_init_makes_a_publishers_key_unless_there_is_one_and_says_what_it_is_for(ca, tmp_path, capsys):
    path = tmp_path / "ca" / "publisher.key"
    before = path.read_bytes()
    for name in ("ca.key", "ca.crt"):
        os.unlink(f"{ca}/{name}")
    run("init", ca, "--mesh", "prod")
    assert f"{ca}/publisher.key: a publisher's key, which signs services" in capsys.readouterr().out
    assert path.read_bytes() == before and SecretKey.of_file(before)
