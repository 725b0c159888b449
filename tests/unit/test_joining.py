"""From both ends: what a signer says to a stranger, and what bdkeys does on the stranger's host."""

import os
import re
import socket
import stat
import time
from types import SimpleNamespace

import pytest

from bdserver.commands import bdkeys, starting
from bdserver.commands import joining as commands
from bdserver.core import checkup
from bdserver.core import joining as rules
from bdserver.core.joining import Wish
from bdserver.core.messages import Checkup, Invited
from bdserver.errors import BadConfig, BadRequest, BDError, Forbidden, NobodyThere, NoSuchCommand
from bdserver.files.settings import load
from bdserver.net import keys, welcome
from bdserver.net.authority import Authority, general_names, request_by
from bdserver.net.identity import identity_of
from bdserver.processes import joining
from tests.hosts import free_port
from tests.unit import signers
from tests.unit.certificates import Key
from tests.unit.signers import Door, asked, begun, place

made, alpha = signers.made, signers.alpha


@pytest.fixture
def door(alpha):
    with Door(alpha) as door:
        yield door


def the_line(said):
    """The only one of what was said on stderr, without the program's name."""
    assert said.startswith("bdkeys: ") and said.count("\n") == 1, said
    return said.removeprefix("bdkeys: ")


def token(node, **wish):
    said = asked(node, "INVITE", wish)
    assert isinstance(said, Invited) and said.address == node.address
    return said.token


def join(folder, door, token, name="beta", *more, **settings):
    return bdkeys.main(["join", door.address, token, *place(folder, name, **settings), *more])


def test_the_first_node_is_a_whole_one_and_signs_for_itself(made, alpha, capsys):
    identity = alpha.credentials.identity
    assert (identity.name, identity.mesh, identity.signer.name) == ("alpha", "home", "alpha")
    assert stat.S_IMODE(os.stat(f"{made}/alpha/var/keys/alpha.signer.key").st_mode) == 0o600
    assert 89 < alpha.credentials.days_left(time.time()) <= 90
    assert bdkeys.main(["init", f"{made}/ca", "--mesh", "home", "--here", *place(made, "alpha")]) == 2
    assert "is there already, of alpha of mesh home" in the_line(capsys.readouterr().err)


def test_a_token_brings_keys_a_config_and_the_mesh_s_ca(made, alpha, door, tmp_path, capsys):
    assert join(tmp_path, door, token(alpha)) == 0
    assert "ready; start it with" in capsys.readouterr().out
    settings = load(f"{tmp_path}/beta/bdserverd.conf")
    credentials = keys.load(settings.key_dir, settings.username)
    assert credentials.identity.signer.name == "alpha" and settings.hints == (door.address,)
    assert join(tmp_path, door, token(alpha)) == 2
    line = the_line(capsys.readouterr().err)
    assert f"beta of mesh home is here already, and good for 90 days: start it with bdserverd {settings.path};" in line
    assert f"remove {settings.key_dir}/beta.{{key,crt}}, and join again" in line


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"name": "gamma"}, "the token is for gamma, not for beta"),
        ({"seconds": 0.001}, r"the token has ended \d+ s ago"),
    ],
)
def test_a_token_that_lets_in_nobody_the_line(alpha, door, tmp_path, capsys, wish, reason):
    text = token(alpha, **wish)
    time.sleep(0.01)
    assert join(tmp_path, door, text) == 5
    assert re.search(reason, the_line(capsys.readouterr().err))
    assert not os.path.exists(f"{tmp_path}/beta/bdserverd.conf")


def test_rubbish_is_no_token_and_a_revoked_one_lets_nobody_knock(alpha, door, tmp_path, capsys):
    assert join(tmp_path, door, "rubbish") == 2
    assert "that is no token" in the_line(capsys.readouterr().err)
    text = token(alpha)
    [told] = asked(alpha, "INVITATIONS").invitations
    asked(alpha, "UNINVITE", told["id"])
    assert join(tmp_path, door, text) == 4
    assert "is no invitation open there any more" in the_line(capsys.readouterr().err)
    with pytest.raises(BDError, match="there is no such invitation"):
        asked(alpha, "UNINVITE", told["id"])


def test_a_role_of_the_invitation_is_that_of_the_keys(alpha, door, tmp_path, capsys):
    assert join(tmp_path, door, token(alpha, name="ann", role="admin"), "ann") == 0
    assert "admin ann of home" in capsys.readouterr().out
    assert keys.load(f"{tmp_path}/ann/var/keys", "ann").identity.role == "admin"
    assert not os.path.exists(f"{tmp_path}/ann/bdserverd.conf")


def test_an_admins_keys_come_to_a_host_that_is_a_node_and_its_node_stays_as_it_is(alpha, door, tmp_path, capsys):
    assert join(tmp_path, door, token(alpha)) == 0
    config = f"{tmp_path}/beta/bdserverd.conf"
    before = open(config).read(), open(f"{tmp_path}/beta/var/keys/beta.crt").read()
    capsys.readouterr()

    def join_as(role, *more):
        text = token(alpha, name="ann", role="admin")
        return bdkeys.main(["join", door.address, text, "--name", "ann", "--config", config, "--no-start", *role, *more])

    assert join_as([]) == 2
    assert "for a client's or an admin's keys beside it: --role" in the_line(capsys.readouterr().err)
    assert join_as(["--role", "admin"]) == 0 and f"{tmp_path}/beta/var/keys/ann: admin ann of home" in capsys.readouterr().out
    assert (open(config).read(), open(f"{tmp_path}/beta/var/keys/beta.crt").read()) == before
    assert keys.load(f"{tmp_path}/beta/var/keys", "ann").identity.role == "admin"
    assert join_as(["--role", "admin"]) == 2
    said = the_line(capsys.readouterr().err)
    assert "ann.{key,crt}: admin ann is here already, and good for 90 days" in said and "start it" not in said
    assert join_as(["--role", "admin"], "--set", f"key_dir={tmp_path}/elsewhere") == 0
    assert keys.load(f"{tmp_path}/elsewhere", "ann").identity.role == "admin"


def test_a_node_s_token_for_an_admin_says_so(alpha, door, tmp_path, capsys):
    text = token(alpha)
    assert join(tmp_path, door, text, "beta", "--role", "admin") == 2
    assert "the token was a node's: the same line without --role admin" in the_line(capsys.readouterr().err)
    assert join(tmp_path, door, text) == 0


@pytest.mark.parametrize("other", ["another", "rubbish"])
def test_keys_of_another_mesh_keep_their_ca(alpha, door, made, tmp_path, capsys, other):
    folder = f"{tmp_path}/keys"
    Authority.make(f"{tmp_path}/ca", "other", 10)
    os.makedirs(folder)
    text = open(f"{tmp_path}/ca/ca.crt").read() if other == "another" else other
    for name in ("ca.crt", "joe.crt"):
        with open(f"{folder}/{name}", "w") as file:
            file.write(text)
    line = ["join", door.address, token(alpha, name="ann", role="admin"), "--name", "ann", "--role", "admin"]
    assert bdkeys.main([*line, "--config", f"{tmp_path}/none", "--set", f"key_dir={folder}"]) == 2
    assert "ca.crt: is another mesh's, and others' keys lie beside it" in the_line(capsys.readouterr().err)
    assert open(f"{folder}/ca.crt").read() == text and not os.path.exists(f"{folder}/ann.key")
    os.unlink(f"{folder}/joe.crt")
    assert bdkeys.main([*line, "--config", f"{tmp_path}/none", "--set", f"key_dir={folder}"]) == 0


def test_a_node_that_is_here_and_runs_is_not_told_to_be_started(alpha, door, tmp_path, capsys, monkeypatch):
    assert join(tmp_path, door, token(alpha)) == 0
    capsys.readouterr()
    for runs, words in ((True, ": it runs; where"), (False, ": start it with bdserverd ")):
        monkeypatch.setattr(starting, "runs", lambda settings, runs=runs: runs)
        assert join(tmp_path, door, token(alpha)) == 2
        assert words in the_line(capsys.readouterr().err)


def test_a_name_that_somebody_has_is_refused_and_a_host_that_lost_its_keys_gets_its_own_again(alpha, door, tmp_path, capsys):
    assert join(tmp_path, door, token(alpha, name="alpha"), "alpha") == 5
    assert "the name alpha is taken, by a node at" in the_line(capsys.readouterr().err)
    assert join(tmp_path / "first", door, token(alpha)) == 0
    assert join(tmp_path / "second", door, token(alpha)) == 5
    assert "the name beta was had before, by a host that this node has signed for" in capsys.readouterr().err
    assert join(tmp_path / "second", door, token(alpha, name="beta")) == 0


def test_with_another_certificate_what_was_said_of_the_one_before_is_over(alpha):
    alpha.heard.note_visit("beta", "forbidden", "h:1: the certificate of alpha is revoked")
    alpha.read_keys_anew()
    alpha.heard.write(set(), 0.0, time.time())
    assert alpha.heard.report().unmet == {}


def test_an_invitation_for_a_name_that_somebody_has_says_so_before_the_line_is_carried_away(alpha):
    assert asked(alpha, "INVITE", {"name": "alpha"}).note == (
        f"alpha is alive, at {alpha.address}: while it is, no other host is let in by this line"
    )
    assert asked(alpha, "INVITE", {"name": "another"}).note == asked(alpha, "INVITE", {}).note == ""


def test_a_host_that_got_its_name_again_comes_again_by_the_same_key_while_its_node_lives(monkeypatch):
    """The answer was lost, or what came after it failed; that somebody had the name before, by another key, is over."""
    record = SimpleNamespace(address="h:1", is_there=True)
    node = SimpleNamespace(cache=SimpleNamespace(view=lambda: SimpleNamespace(records={"beta": record})))
    book = SimpleNamespace(keys_of=lambda name: {"before", joining.key_digest(ours)}, given_at=lambda name, key: 5.0)
    ours = Key().key.public_key()
    request = SimpleNamespace(name="beta", public_key=ours)
    invitation = SimpleNamespace(name="beta", made_at=9.0)
    monkeypatch.setattr(joining, "_keys_in", lambda view, name: {joining.key_digest(ours)})
    joining._refuse_name(node, book, invitation, request)
    monkeypatch.setattr(joining, "_keys_in", lambda view, name: {"before"})
    with pytest.raises(Forbidden, match="the name beta is taken, by a node at h:1"):
        joining._refuse_name(node, book, invitation, request)


def test_a_config_that_is_there_keeps_what_it_says(alpha, door, tmp_path):
    os.makedirs(f"{tmp_path}/beta")
    path = f"{tmp_path}/beta/bdserverd.conf"
    with open(path, "w") as file:
        file.write("max_dynamic=1")
    assert join(tmp_path, door, token(alpha)) == 0
    text = open(path).read()
    assert text.startswith("max_dynamic=1\n\n# Added by bdkeys:\nusername=beta\n") and load(path).max_dynamic == 1


def test_a_setting_that_the_config_has_otherwise_is_refused_instead_of_passed_over(alpha, door, tmp_path, capsys):
    os.makedirs(f"{tmp_path}/beta")
    with open(f"{tmp_path}/beta/bdserverd.conf", "w") as file:
        file.write("max_dynamic=1\n")
    assert join(tmp_path, door, token(alpha), max_dynamic=2) == 2
    line = f"--set max_dynamic=2: {tmp_path}/beta/bdserverd.conf says otherwise, and is not overwritten: edit it there\n"
    assert the_line(capsys.readouterr().err) == line and not os.path.exists(f"{tmp_path}/beta/var")
    assert join(tmp_path, door, token(alpha), max_dynamic=1) == 0


@pytest.mark.parametrize(("says", "web"), [("user=", "embedded"), ("axis_port=80", "none"), ("username=beta", "none")])
def test_a_packages_config_says_nothing_of_a_web_server_so_ours_serves(alpha, door, tmp_path, monkeypatch, says, web):
    monkeypatch.setattr(commands, "_has_web_server", lambda port: False)
    os.makedirs(f"{tmp_path}/beta")
    with open(f"{tmp_path}/beta/bdserverd.conf", "w") as file:
        file.write(f"# A package's.\n{says}\n")
    assert join(tmp_path, door, token(alpha)) == 0
    assert load(f"{tmp_path}/beta/bdserverd.conf").web == web


def test_what_is_made_is_open_to_others_whatever_the_umask_and_keys_are_not(alpha, door, made, tmp_path):
    text, before = token(alpha), os.umask(0o077)
    try:
        assert join(tmp_path, door, text) == 0
        assert bdkeys.main(["init", f"{tmp_path}/ca", "--mesh", "other", "--here", *place(tmp_path, "gamma")]) == 0
    finally:
        os.umask(before)
    for host in ("beta", "gamma"):
        for path, mode in {"": 0o755, "/bdserverd.conf": 0o644, "/var/services": 0o755, "/var/run": 0o755}.items():
            assert stat.S_IMODE(os.stat(f"{tmp_path}/{host}{path}").st_mode) == mode, path
        for path, mode in {"/var/keys": 0o700, f"/var/keys/{host}.key": 0o600}.items():
            assert stat.S_IMODE(os.stat(f"{tmp_path}/{host}{path}").st_mode) == mode, path
    assert stat.S_IMODE(os.stat(f"{tmp_path}/ca").st_mode) == 0o700


def test_an_address_that_is_translated_on_the_way_is_no_node_s(alpha, door, tmp_path, capsys, monkeypatch):
    """The door says that it sees 192.0.2.7: a certificate for the address from which this host calls is of no use there."""
    text = token(alpha)
    line = ["join", door.address, text, "--name", "beta", "--config", f"{tmp_path}/beta/bdserverd.conf", "--no-start"]
    line += ["--set", f"var_dir={tmp_path}/beta/var"]
    assert bdkeys.main(line) == 2
    said = the_line(capsys.readouterr().err)
    assert "this host called from 127.0.0.1, and alpha sees 192.0.2.7" in said and "say with --host by which one" in said
    assert not os.path.exists(f"{tmp_path}/beta/var") and not asked(alpha, "INVITATIONS").invitations[0]["joined"]
    assert bdkeys.main([*line, "--host", "192.0.2.7", "--set", "advertise=192.0.2.7"]) == 0, "whoever says it is believed"
    text = token(alpha, role="client")
    assert bdkeys.main(["join", door.address, text, "--name", "joe", "--role", "client", *line[5:]]) == 0, (
        "nobody calls clients"
    )


def test_an_account_that_may_not_write_there_makes_nothing_at_all(tmp_path, alpha, door, capsys, monkeypatch):
    os.makedirs(f"{tmp_path}/closed")
    real = os.access
    closed = str(tmp_path / "closed")
    monkeypatch.setattr(commands.os, "access", lambda path, *more, **kw: path != closed and real(path, *more, **kw))
    places = {
        "var_dir": ["--config", f"{tmp_path}/open/x.conf", "--set", f"var_dir={closed}/var"],
        "key_dir": ["--config", f"{tmp_path}/open/x.conf", "--set", f"var_dir={tmp_path}/v", "--set", f"key_dir={closed}/k"],
        "config": ["--config", f"{closed}/x.conf", "--set", f"var_dir={tmp_path}/v"],
    }
    for key, options in places.items():
        begin = ["init", f"{tmp_path}/ca", "--mesh", "other", "--here"]
        for words in (begin, ["join", door.address, token(alpha)]):
            assert bdkeys.main([*words, "--name", "beta", "--host", "127.0.0.1", "--no-start", *options]) == 2
            said = the_line(capsys.readouterr().err)
            assert f"may not write into {closed}" in said and "do this as root, or choose another place with --" in said
            assert ("--config FILE" in said) == (key == "config")
    assert os.listdir(tmp_path) == ["closed"] and os.listdir(closed) == []


def test_a_line_to_type_next_is_right_as_it_stands(tmp_path, monkeypatch):
    odd = SimpleNamespace(path=f"{tmp_path}/my node/x.conf")
    assert starting.line_of("bdserverd", odd) == f"bdserverd '{odd.path}'"
    assert starting.line_of("bdctl status", odd) == f"bdctl --config '{odd.path}' status"
    monkeypatch.setenv("BDSERVER_CONFIG", odd.path)
    assert starting.line_of("bdctl status", odd) == "bdctl status"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--set", "port"], "a setting is KEY=VALUE"),
        (["--set", "prot=5"], "there is no such setting"),
        (["--set", "port=x"], "must be a whole number"),
        (["--name", "a b"], "is no name"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_one_line_and_nothing_is_made(alpha, door, tmp_path, capsys, more, reason):
    assert join(tmp_path, door, token(alpha), "beta", *more) in (2, 5)
    assert reason in the_line(capsys.readouterr().err)


@pytest.mark.parametrize(("has_one", "more"), [(True, {}), (True, {"axis_port": 8099}), (False, {})])
def test_a_web_server_that_is_there_is_to_serve_the_services_and_that_is_said(
    alpha, door, tmp_path, capsys, monkeypatch, has_one, more
):
    monkeypatch.setattr(commands, "_has_web_server", lambda port: has_one)
    assert join(tmp_path, door, token(alpha), **more) == 0
    settings = load(f"{tmp_path}/beta/bdserverd.conf")
    line = f"port 8080 has a web server: let it serve {settings.services_dir} at /axis/, or set web=embedded, and another axis_port"
    assert (line in capsys.readouterr().out) == (has_one and not more)
    assert settings.web == ("none" if has_one else "embedded")


@pytest.mark.parametrize("which", ["port", "gossip_port"])
def test_a_port_that_is_taken_is_said_before_the_token_is_spent(alpha, door, tmp_path, capsys, which):
    text = token(alpha)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert join(tmp_path, door, text, **{which: taken}) == 2
        said = the_line(capsys.readouterr().err)
        assert f"{which}={taken} can't be had" in said and "nothing was made (--set port=N is for another one)" in said
        assert bdkeys.main(["init", f"{tmp_path}/ca", "--mesh", "other", "--here", *place(tmp_path, "gamma", port=taken)]) == 2
    assert not os.path.exists(f"{tmp_path}/ca") and not os.path.exists(f"{tmp_path}/beta/bdserverd.conf")
    assert join(tmp_path, door, text) == 0


def test_a_web_server_at_another_port_than_this_nodes_is_not_its_own(alpha, door, tmp_path):
    """As of a second node on one host, beside the first one's."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert join(tmp_path / "first", door, token(alpha), axis_port=taken) == 0
        assert join(tmp_path / "second", door, token(alpha), "gamma", axis_port=free_port()) == 0
    assert load(f"{tmp_path}/first/beta/bdserverd.conf").web == "none"
    assert load(f"{tmp_path}/second/gamma/bdserverd.conf").web == "embedded"


def test_two_hosts_in_one_certificate_are_told_apart_in_the_config(alpha, door, tmp_path):
    assert join(tmp_path, door, token(alpha), "beta", "--host", "beta.example.org") == 0
    assert load(f"{tmp_path}/beta/bdserverd.conf").advertise == "127.0.0.1"


def test_a_host_without_a_name_of_its_own_must_be_given_one(monkeypatch):
    monkeypatch.setattr(commands.socket, "gethostname", lambda: "beta.example.org")
    assert commands._host_name() == "beta"
    for name in ("localhost", "", "-x"):
        monkeypatch.setattr(commands.socket, "gethostname", lambda name=name: name)
        with pytest.raises(BadConfig, match="say another one with --name"):
            commands._host_name()


def test_a_host_without_an_address_must_be_given_one(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(commands, "local_addresses", lambda: ["0.0.0.0"])
    monkeypatch.setattr(commands, "interface_addresses", list)
    assert bdkeys.main(["init", f"{tmp_path}/ca", "--mesh", "home", "--here", "--name", "alpha"]) == 2
    assert "say it with --host" in the_line(capsys.readouterr().err)
    assert bdkeys.main(["init", "--mesh", "home"]) == 2
    assert "init needs DIR" in the_line(capsys.readouterr().err)


def test_without_a_route_the_only_address_is_the_one_and_of_several_a_person_chooses(monkeypatch):
    monkeypatch.setattr(commands, "local_addresses", list)
    for own in (["10.0.0.5"], ["10.0.0.5", "2001:db8::5"]):
        monkeypatch.setattr(commands, "interface_addresses", lambda own=own: own)
        assert commands._own_hosts() == own
    monkeypatch.setattr(commands, "interface_addresses", lambda: ["10.0.0.5", "192.0.2.5"])
    with pytest.raises(
        BadConfig, match=r"by which of 10\.0\.0\.5, 192\.0\.2\.5 do others reach this host\? Say it with --host"
    ):
        commands._own_hosts()
    monkeypatch.setattr(commands, "local_addresses", lambda: ["10.0.0.5"])
    assert commands._own_hosts() == ["10.0.0.5"]


def test_a_ca_that_is_there_is_used_and_another_mesh_s_is_not(made, tmp_path, capsys):
    for mesh, status in (("other", 2), ("home", 0)):
        assert bdkeys.main(["init", f"{made}/ca", "--mesh", mesh, "--here", *place(tmp_path, "delta")]) == status
    assert "is there already, and the CA of mesh home" in capsys.readouterr().err


# --- who is at the door -------------------------------------------------------------------------------------------


def test_only_the_inviter_of_the_token_s_mesh_is_told_anything(alpha, door, tmp_path):
    other = begun(str(tmp_path), "omega", "away")
    right = rules.read_token(token(alpha))
    deadline = time.monotonic() + 10
    with pytest.raises(Forbidden, match="a node of mesh home is there, and the token is of another CA"):
        welcome.meet(door.address, rules.read_token(token(other)), deadline)
    with pytest.raises(Forbidden, match="alpha is there, and another node gave the token"):
        welcome.meet(door.address, right._replace(inviter=rules.inviter_digest("beta")), deadline)
    meeting = welcome.meet(door.address, right, deadline)
    meeting.close()
    assert (meeting.welcome.name, meeting.welcome.mesh, meeting.own) == ("alpha", "home", "127.0.0.1")


def test_a_clock_that_is_off_is_named(alpha, door, monkeypatch):
    right, real = rules.read_token(token(alpha)), time.time
    for seconds, words in ((2 * 86400, "2.0 days ahead of that of alpha"), (-900, "15 min behind that of alpha")):
        monkeypatch.setattr(welcome.time, "time", lambda seconds=seconds: real() + seconds)
        with pytest.raises(BadConfig, match=words):
            welcome.meet(door.address, right, time.monotonic() + 10)


class Said:
    """A stream on which a node says these messages, whoever it is."""

    def __init__(self, *said):
        from bdserver.core.wire import encode

        self._left = [encode(each) for each in said]

    def recv(self, bytes_max, deadline):
        return self._left.pop(0) if self._left else b""

    def send(self, data, deadline):
        pass

    def chain(self):
        return []

    def close(self):
        self.closed = True


def test_whoever_is_no_node_of_ours_is_told_nothing(alpha, monkeypatch):
    right = rules.read_token(token(alpha))
    hello = rules.said(rules.Welcome("alpha", "home", "PEM", time.time(), ""))
    for said, error in (
        (([["ERROR", "too-busy", "later"]]), "later"),
        ([], "hung up"),
        ([["WELCOME", 5]], "WELCOME has a wrong shape"),
        ([hello], "the certificate there"),
    ):
        stream = Said(*said)
        monkeypatch.setattr(welcome.tls, "knock", lambda *_, stream=stream: stream)
        monkeypatch.setattr(welcome.tcp, "connect", lambda *_: SimpleNamespace(getsockname=lambda: ("127.0.0.1", 1)))
        with pytest.raises(BDError, match=error):
            welcome.meet("127.0.0.1:1", right, time.monotonic() + 5)
        assert stream.closed


def test_a_certificate_that_is_another_one_is_not_taken(alpha, tmp_path):
    mine, chain = Key().key, alpha.credentials.chain
    pem = "".join(rules_pem.decode() for rules_pem in [chain.pem()])
    root = alpha.credentials.root
    for admission, reason in (
        (rules.Admission(pem, joining.authorities_of(alpha), []), "is not the one that was asked for"),
        (rules.Admission("x", "x", []), "the certificate that came"),
    ):
        meeting = SimpleNamespace(
            wish=lambda *_, admission=admission: admission, where="h:1", root=root, welcome=None, own="127.0.0.1"
        )
        with pytest.raises(BadConfig, match=reason):
            commands._admitted(meeting, rules.read_token(token(alpha)), mine, "beta", ["127.0.0.1"], 0.0)


# --- the signer's end ---------------------------------------------------------------------------------------------


def wish(text, key=None, name="beta", hosts=("127.0.0.2",)):
    said = rules.read_token(text)
    request = request_by(key or Key().key, name, general_names(hosts)).decode()
    return Wish(said.id.hex(), said.secret.hex(), request)


def test_the_same_key_comes_again_and_another_does_not(alpha):
    text, key = token(alpha), Key().key
    for _ in range(2):
        admission = joining.admit(alpha, wish(text, key), "h")
    assert len(asked(alpha, "INVITATIONS").invitations[0]["joined"]) == 1
    assert admission.hints == [alpha.address]
    with pytest.raises(Forbidden, match="was used already"):
        joining.admit(alpha, wish(text, name="gamma"), "h")


def test_wrong_secrets_and_unknown_tokens_are_counted(alpha):
    said = wish(token(alpha))
    for changed in (said._replace(secret="00" * 16), said._replace(id="00" * 5)):
        with pytest.raises(Forbidden, match="the token is not known here"):
            joining.admit(alpha, changed, "h")
    told = asked(alpha, "INVITATIONS")
    assert told.unknown == 1 and told.invitations[0]["wrong"] == 1


@pytest.mark.parametrize("changes", [{"secret": "zz" * 16}, {"request": "x"}])
def test_what_is_no_wish_is_refused(alpha, changes):
    with pytest.raises(BadRequest, match="INVALID REQUEST"):
        joining.admit(alpha, wish(token(alpha))._replace(**changes), "h")


def test_a_node_needs_a_host_and_a_client_none(alpha):
    with pytest.raises(BadRequest, match="needs the address"):
        joining.admit(alpha, wish(token(alpha), hosts=()), "h")
    assert joining.admit(alpha, wish(token(alpha, role="client"), name="joe", hosts=()), "h").certificate


def test_a_node_that_does_not_sign_lets_nobody_in_and_says_who_does(alpha):
    said = wish(token(alpha))
    alpha.signer = None
    assert not joining.may_join(alpha)
    with pytest.raises(Forbidden):
        joining.admit(alpha, said, "h")
    with pytest.raises(NoSuchCommand, match="alpha is no signer, and none is known: bdkeys signer"):
        asked(alpha, "INVITE", {})


def test_a_revoked_name_comes_back_with_a_certificate_that_counts(alpha):
    asked(alpha, "REVOKE", {"what": "name", "value": "zeta"})
    admission = joining.admit(alpha, wish(token(alpha), name="zeta"), "h")
    from bdserver.net.chain import from_pem

    identity = identity_of(*from_pem(admission.certificate.encode()))
    assert alpha.refusal(identity) is None
    assert "is revoked" in alpha.refusal(identity._replace(not_before=identity.not_before - 10))


def test_somebody_who_hangs_up_or_is_gone_is_no_trouble(alpha, caplog):
    token(alpha)
    caplog.set_level("INFO")
    joining.serve(alpha, Said(), "192.0.2.7", time.monotonic() + 5)
    assert "192.0.2.7 wanted to join, and did not go on" in caplog.text
    joining.serve(alpha, Said(["JOIN", 5]), "192.0.2.7", time.monotonic() + 5)
    assert "192.0.2.7 wants to join: INVALID REQUEST: JOIN has a wrong shape" in caplog.text


# --- the start ----------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path):
    os.makedirs(tmp_path / "x")
    (tmp_path / "x" / "conf").write_text(f"username=beta\nvar_dir={tmp_path}\n")
    return load(str(tmp_path / "x" / "conf"))


OPTIONS = SimpleNamespace(no_start=False, foreground=False)


def test_a_start_is_systemd_s_or_the_script_s_for_the_usual_config_alone(here, monkeypatch):
    assert starting._words(here)[-1] == here.path
    usual = SimpleNamespace(path=starting.DEFAULT_PATH)
    monkeypatch.setattr(starting.os.path, "isdir", lambda path: path == "/run/systemd/system")
    monkeypatch.setattr(starting, "_has_unit", lambda: True)
    assert starting._words(usual) == ["systemctl", "enable", "--now", "bdserverd.service"]
    monkeypatch.setattr(starting, "_has_unit", lambda: False)
    monkeypatch.setattr(starting.os, "access", lambda path, mode: path == starting.INIT_SCRIPT)
    assert starting._words(usual) == [starting.INIT_SCRIPT, "start"]


def test_a_start_that_fails_is_told_by_its_last_line(here, monkeypatch, capsys):
    done = SimpleNamespace(returncode=1, stderr="first\nthe port is taken\n", stdout="")
    monkeypatch.setattr(starting.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(BadConfig, match="the node does not start: the port is taken"):
        starting.start(here, OPTIONS, lambda: "well")
    done.stderr = ""
    with pytest.raises(BadConfig, match="exit status 1"):
        starting.start(here, OPTIONS, lambda: "well")
    done.returncode = 0
    assert starting.start(here, OPTIONS, lambda: "well") == 0 and capsys.readouterr().out == "well\n"
    assert starting._has_unit()


def test_a_node_that_runs_is_not_started_again(here, monkeypatch, capsys):
    """One that joins anew, since its certificate was revoked or is over."""
    monkeypatch.setattr(starting, "ask", lambda settings, request: request == ["PING"])
    monkeypatch.setattr(starting.subprocess, "run", lambda *_, **__: pytest.fail("it is started"))
    assert starting.start(here, OPTIONS, lambda: "well") == 0 and capsys.readouterr().out == "well\n"


def test_in_the_foreground_the_command_becomes_the_daemon(here, monkeypatch):
    became = []
    monkeypatch.setattr(starting.os, "execv", lambda *words: became.append(words) or (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        starting.start(here, SimpleNamespace(no_start=False, foreground=True), lambda: "")
    assert became[0][1][-2:] == ["--foreground", here.path]


def seen(here, monkeypatch, alive, by=(), warnings=(), visit=None):
    """wait_seen, of a node that sees these and is seen by those; `visit`: what came of theirs."""
    monkeypatch.setattr(starting, "SEEN_SECONDS", 0.1)
    monkeypatch.setattr(starting, "VISIT_PAUSE_SECONDS", 0.01)
    rows = [{"name": name, "status": "alive"} for name in ("beta", *alive)]

    def ask(settings, request, seconds=0):
        if request[0] == "HINT":
            return None
        of = request[1]["of"] if len(request) > 1 and "of" in request[1] else None
        if request[0] == "DOCTOR":
            assert request[1]["visit"] == "beta" and of in by
            if isinstance(visit, BDError):
                raise visit
            return Checkup(of, [], [checkup.as_json(visit or checkup.Visit("beta", "h:1"))])
        status = [["beta", "h:1", "alive"]] if of in by else []
        return SimpleNamespace(nodes=status, own={}, next="")

    monkeypatch.setattr(starting, "ask", ask)
    monkeypatch.setattr(starting, "_status", lambda settings: SimpleNamespace(nodes=rows, own={"warnings": list(warnings)}))
    return starting.wait_seen(here, "beta", "alpha", "h:1")


def test_it_is_in_the_mesh_when_another_node_sees_it(here, monkeypatch):
    assert seen(here, monkeypatch, ["gamma", "alpha"], ["alpha"]) == (
        "beta is in the mesh: alpha sees it alive, and it sees gamma, alpha"
    )
    assert "gamma sees it alive" in seen(here, monkeypatch, ["gamma", "alpha"], ["gamma"])
    for alive, warnings, reason in (
        (["alpha"], [], "it knows alpha, and none of them sees it"),
        ([], ["alone: because"], "alone: because"),
        ([], [], "it has met nobody yet"),
    ):
        with pytest.raises(NobodyThere, match=reason):
            seen(here, monkeypatch, alive, [], warnings)


def test_a_node_that_called_and_can_t_be_called_is_not_in_the_mesh(here, monkeypatch):
    """The firewall that most hosts have: what goes out is let through, and what comes in is not."""
    silent = checkup.Visit("beta", "h:1", NobodyThere.code, "h:1: no answer", "call", news="h:2: no answer")
    with pytest.raises(NobodyThere) as caught:
        seen(here, monkeypatch, ["alpha"], ["alpha"], visit=silent)
    assert str(caught.value).startswith("beta runs, and the others can't call it: alpha does not reach beta: h:1: no answer: ")
    assert "firewall" in str(caught.value)
    no_news = checkup.Visit("beta", "h:1", news="h:2: no answer")
    with pytest.raises(NobodyThere, match="on the port for news: h:2: no answer"):
        seen(here, monkeypatch, ["alpha"], ["alpha"], visit=no_news)
    policies = checkup.Visit("beta", "h:1", "policy-mismatch", "they do not meet", "call")
    for fine in (policies, checkup.Visit("gamma", "h:3", NobodyThere.code, "no", "call"), NoSuchCommand("DOCTOR: none")):
        assert "alpha sees it alive" in seen(here, monkeypatch, ["alpha"], ["alpha"], visit=fine)


def test_a_node_that_does_not_answer_is_told_so(here, monkeypatch):
    monkeypatch.setattr(starting, "SEEN_SECONDS", 0.1)
    monkeypatch.setattr(starting, "READY_SECONDS", 0.1)
    with pytest.raises(NobodyThere, match="is bdserverd running"):
        starting.wait_seen(here, "beta", "alpha", "h:1")
    with pytest.raises(NobodyThere, match="is bdserverd running"):
        starting.invite(here)
    monkeypatch.setattr(starting, "ask", lambda *_: Invited("T", "[::1]:1", 5.0))
    monkeypatch.setenv("BDSERVER_CONFIG", here.path)
    assert commands._is_begun(here).splitlines() == [
        "beta runs at [::1]:1: bdctl status, and what is wrong: bdctl doctor",
        "on the next host, within an hour:",
        "    bdkeys join '[::1]:1' T",
    ]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give files away")
def test_where_there_is_an_account_for_the_daemon_its_files_are_that_account_s(alpha, door, tmp_path, monkeypatch):
    """As with the package: its unit and its script expect the socket and the pid file where they are."""
    for folder in [tmp_path, *tmp_path.parents][:4]:
        folder.chmod(0o755)
    path = f"{tmp_path}/etc/bdserverd.conf"
    monkeypatch.setattr(commands, "DEFAULT_PATH", path)
    monkeypatch.setattr(commands, "ACCOUNT", "nobody")
    sockets = {"socket": f"{tmp_path}/run/x.sock", "pid_file": f"{tmp_path}/run/x.pid"}
    monkeypatch.setattr(commands, "AS_PACKAGED", {"user": "nobody", **sockets})
    options = place(tmp_path, "beta")
    options[options.index("--config") + 1] = path
    assert bdkeys.main(["join", door.address, token(alpha), *options]) == 0
    settings = load(path)
    assert (settings.user, settings.socket) == ("nobody", sockets["socket"])
    for each in (settings.var_dir, settings.key_dir, f"{settings.key_dir}/beta.key", f"{settings.key_dir}/beta.crt"):
        assert os.stat(each).st_uid == 65534, each
    assert not commands._is_account("nobody-of-that-name")


def test_a_node_whose_certificate_is_gone_or_over_joins_again_into_its_config(alpha, door, tmp_path, capsys):
    assert join(tmp_path, door, token(alpha)) == 0
    key = open(f"{tmp_path}/beta/var/keys/beta.key").read()
    with open(f"{tmp_path}/beta/var/keys/beta.crt", "w") as file:
        file.write("damaged")
    assert bdkeys.main(["init", f"{tmp_path}/ca", "--mesh", "home", "--here", *place(tmp_path, "beta")]) == 2
    assert "and its node has no good certificate" in the_line(capsys.readouterr().err)
    before = open(f"{tmp_path}/beta/bdserverd.conf").read()
    assert join(tmp_path, door, token(alpha)) == 0
    assert open(f"{tmp_path}/beta/bdserverd.conf").read() == before
    assert open(f"{tmp_path}/beta/var/keys/beta.key").read() == key
