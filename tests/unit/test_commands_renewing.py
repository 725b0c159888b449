"""bdkeys renew DIR/NAME: when it does something, what it takes from a signer, and what lies on the disk at each moment."""

import json
import os
import stat
import time
from types import SimpleNamespace

import pytest

from bdserver.commands import bdkeys, renewing
from bdserver.core.messages import Certified
from bdserver.core.roles import ADMIN, CLIENT
from bdserver.errors import Forbidden, NobodyThere
from bdserver.files import durable
from bdserver.net import chain as chains
from bdserver.net import keyfiles, keys
from bdserver.net.authority import Authority, general_names
from bdserver.net.identity import identity_of
from bdserver.net.issuing import Issuer
from bdserver.processes.answers import looking
from bdserver.processes.session import Caller
from tests.unit import signers
from tests.unit.certificates import Key
from tests.unit.signers import asked

DAY = 86400


made, alpha = signers.made, signers.alpha


def client(folder, node, days=90, role=CLIENT, name="app"):
    """DIR/NAME of a client's keys by this signer."""
    base = os.path.join(str(folder), name)
    os.makedirs(str(folder), exist_ok=True)
    key = keyfiles.new_key(base + ".key")
    keyfiles.write(base + ".crt", node.signer.certify(key.public_key(), name, role, general_names([]), days).pem())
    keyfiles.write(os.path.join(str(folder), "ca.crt"), keyfiles.pem(node.credentials.authorities))
    return base


class Talk:
    """A conversation with the node, as whoever's certificate is shown."""

    def __init__(self, node, credentials, found):
        self.node, self.found = node, found
        identity = credentials.identity
        self.caller = Caller(identity.role, identity.name, "192.0.2.9", identity)

    def ask(self, request, deadline):
        self.found.requests.append(request[0])
        if request[0] == "RENEW":
            if self.found.certified is not None:
                return self.found.certified
            why = self.node.refusal(self.caller.identity)
            if why:
                raise Forbidden(why)
        return asked(self.node, *request, caller=self.caller)

    def close(self):
        pass


@pytest.fixture
def mesh(alpha, monkeypatch, tmp_path):
    """The node that every address leads to; `addresses`: those that were dialled, `requests`: what was asked there."""
    monkeypatch.setenv("BDSERVER_CONFIG", str(tmp_path / "nowhere.conf"))
    monkeypatch.delenv("BDSERVER_KEYS", raising=False)
    found = SimpleNamespace(addresses=[], requests=[], certified=None, is_there=True)

    def ways(addresses, holder):
        found.addresses += addresses

        def dial(deadline):
            if not found.is_there:
                raise NobodyThere("nobody is there")
            return Talk(alpha, holder.credentials, found)

        return [dial for _ in addresses]

    monkeypatch.setattr(renewing, "_ways", ways)
    return found


def at(monkeypatch, days):
    """So many days from now."""
    now = time.time() + days * DAY
    monkeypatch.setattr(renewing.time, "time", lambda: now)


def serial(base):
    return keys.load_named(base).identity.serial


def refused(capsys, code, *arguments):
    assert bdkeys.main(["renew", *arguments]) == code
    said = capsys.readouterr().err
    assert said.startswith("bdkeys: ") and said.count("\n") == 1 and "[Errno" not in said
    return said


def test_before_two_thirds_of_its_life_nothing_is_done(alpha, mesh, tmp_path, capsys):
    base = client(tmp_path / "keys", alpha)
    before = serial(base)
    assert bdkeys.main(["renew", base, "--node", "10.0.0.1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{base}: client app of home is good for 90 days, and renewed from 20") and said.count("\n") == 1
    assert serial(base) == before and mesh.requests == ["STATUS"] and mesh.addresses == ["10.0.0.1:9001"]
    mesh.is_there = False
    assert bdkeys.main(["renew", base, "--node", "10.0.0.1"]) == 0
    assert "nobody could be asked whether the CA is rolled: nobody is there" in capsys.readouterr().out


@pytest.mark.parametrize("role", [CLIENT, ADMIN])
def test_it_is_renewed_by_a_signer_and_the_files_keep_their_rights(alpha, mesh, tmp_path, capsys, monkeypatch, role):
    base = client(tmp_path / "keys", alpha, days=1, role=role)
    os.chmod(base + ".crt", 0o640)
    key, before = open(base + ".key").read(), serial(base)
    at(monkeypatch, 0.7)
    monkeypatch.setenv("BDSERVER_KEYS", base)
    assert bdkeys.main(["renew", "--node", "10.0.0.1"]) == 0
    said = capsys.readouterr().out
    assert said == f"{base}: {role} app of home is renewed by alpha, and good for 89 days\n"
    assert serial(base) != before and open(base + ".key").read() == key
    assert stat.S_IMODE(os.stat(base + ".crt").st_mode) == 0o640 and stat.S_IMODE(os.stat(base + ".key").st_mode) == 0o600
    assert keys.load_named(base).identity[:3] == ("home", role, "app")
    # Who signs is known from now on, and where the mesh is.
    assert open(base + ".nodes").read() == f"{alpha.address}\n"
    mesh.addresses.clear()
    assert bdkeys.main(["renew", base, "--now"]) == 0
    assert mesh.addresses == [alpha.address] * 2
    assert sorted(os.listdir(tmp_path / "keys")) == ["app.crt", "app.key", "app.nodes", "ca.crt"]


def test_without_an_address_this_host_s_node_is_asked(alpha, mesh, tmp_path, capsys):
    base = client(tmp_path / "keys", alpha, days=1)
    said = refused(capsys, 2, base, "--now")
    assert "client app of home is not renewed, and ends on" in said and "(say whom to ask with --node HOST)" in said


def test_one_that_has_ended_joins_again(alpha, mesh, tmp_path, capsys):
    base = client(tmp_path / "keys", alpha, days=0.00001)
    time.sleep(1.0)
    assert "(alpha has signed it: bdctl invite app there, and bdkeys join again here)" in refused(
        capsys, 2, base, "--node", "h"
    )
    assert mesh.requests == []


def test_a_revoked_one_is_refused(alpha, mesh, tmp_path, capsys):
    base, other = client(tmp_path / "keys", alpha), client(tmp_path / "others", alpha, name="other")
    before = serial(base)
    asked(alpha, "REVOKE", {"what": "name", "value": "app"})
    assert "is revoked" in refused(capsys, 5, base, "--now", "--node", "h") and serial(base) == before
    assert bdkeys.main(["renew", other, "--now", "--node", "h"]) == 0


def test_what_is_not_the_certificate_that_was_asked_for_is_not_taken(alpha, mesh, tmp_path, capsys):
    base = client(tmp_path / "keys", alpha)
    mine, before = keys.load_named(base), sorted(os.listdir(tmp_path / "keys"))
    data = open(base + ".crt").read()
    stranger = Authority.make(str(tmp_path / "strangers"), "home")
    own = keyfiles.pem(alpha.credentials.authorities).decode()
    sign = alpha.signer.certify
    for chain, authorities, why in (
        (sign(mine.public_key, "app", ADMIN, [], 90), own, "is not the one that was asked for"),
        (sign(mine.public_key, "root", CLIENT, [], 90), own, "is not the one"),
        (sign(mine.public_key, "app", CLIENT, general_names(["10.0.0.9"]), 90), own, "is not the one"),
        (sign(Key().key.public_key(), "app", CLIENT, [], 90), own, "is for another key"),
        # By a CA that nobody whom we believe has named:
        (
            chains.Chain(stranger.sign(mine.public_key, "app", CLIENT, [], 90)),
            own + keyfiles.pem([stranger.certificate]).decode(),
            "is not the one",
        ),
    ):
        mesh.certified = Certified(chain.pem().decode(), authorities)
        assert why in refused(capsys, 2, base, "--now", "--node", "h")
        assert open(base + ".crt").read() == data and sorted(os.listdir(tmp_path / "keys")) == before
    mesh.certified = Certified("x", "y", [{"said": "x"}])
    assert "is not renewed" in refused(capsys, 2, base, "--now", "--node", "h")


def test_one_that_lasts_no_longer_is_left_and_told_when_time_runs_out(alpha, mesh, tmp_path, capsys, monkeypatch):
    base = client(tmp_path / "keys", alpha, days=100)
    before = serial(base)
    at(monkeypatch, 70)
    assert bdkeys.main(["renew", base, "--node", "h"]) == 0
    assert "no signer gives it longer than until" in capsys.readouterr().out
    at(monkeypatch, 95)
    assert "no signer gives it longer than until" in refused(capsys, 1, base, "--node", "h")
    assert serial(base) == before


def rolled(made, alpha, tmp_path):
    """The CA that follows, as the mesh hears of it; (its Authority, its signer as a node has it then)."""
    import shutil

    folder = str(tmp_path / "ca")
    shutil.copytree(f"{made}/ca", folder)
    assert bdkeys.main(["roll", folder]) == 0
    with open(f"{folder}/roll.json") as file:
        asked(alpha, "ROLL", json.load(file))
    return Authority.load(folder)


def test_a_ca_that_follows_is_believed_by_the_word_of_the_one_before(made, alpha, mesh, tmp_path, capsys):
    base = client(tmp_path / "keys", alpha)
    new = rolled(made, alpha, tmp_path)
    old = alpha.credentials.authorities
    before = serial(base)
    signer = Issuer(alpha.signer.key, new.sign_signer(alpha.signer.key.public_key(), "alpha"), "home")
    statements = [each.as_json() for each in alpha.cache.view().statements.values()]
    capsys.readouterr()
    # It is told by a signer that signs by the old one still.
    honest = alpha.signer.certify(keys.load_named(base).public_key, "app", CLIENT, [], 90)
    authorities = keyfiles.pem([new.certificate, *old]).decode()
    mesh.certified = Certified(honest.pem().decode(), authorities, statements)
    assert bdkeys.main(["renew", base, "--node", "h"]) == 0
    assert keys.load_authorities(str(tmp_path / "keys" / "ca.crt")) == [new.certificate, *old] and serial(base) == before
    # Then by the new one; the old one is gone, but from a folder where somebody else needs it.
    other = tmp_path / "keys" / "other.crt"
    keyfiles.write(str(other), alpha.signer.certify(Key().key.public_key(), "other", CLIENT, [], 90).pem())
    fresh = chains.Chain(signer.holders(keys.load_named(base).public_key, "app", CLIENT, [], 90), signer.certificate)
    mesh.certified = Certified(fresh.pem().decode(), keyfiles.pem([new.certificate]).decode(), statements)
    assert bdkeys.main(["renew", base, "--node", "h"]) == 0
    assert serial(base) == identity_of(*fresh).serial
    assert keys.load_authorities(str(tmp_path / "keys" / "ca.crt")) == [new.certificate, *old]
    os.unlink(other)
    assert bdkeys.main(["renew", base, "--node", "h"]) == 0
    assert keys.load_authorities(str(tmp_path / "keys" / "ca.crt")) == [new.certificate]
    assert "is good for 90 days" in capsys.readouterr().out.splitlines()[-1]


def test_after_a_crash_at_each_step_the_keys_are_good(made, alpha, mesh, tmp_path, monkeypatch):
    new = rolled(made, alpha, tmp_path)
    old = alpha.credentials.authorities
    signer = Issuer(alpha.signer.key, new.sign_signer(alpha.signer.key.public_key(), "alpha"), "home")
    statements = [each.as_json() for each in alpha.cache.view().statements.values()]
    real = durable.replace
    for step in range(4):
        base = client(tmp_path / f"keys{step}", alpha)
        fresh = chains.Chain(signer.holders(keys.load_named(base).public_key, "app", CLIENT, [], 90), signer.certificate)
        mesh.certified = Certified(fresh.pem().decode(), keyfiles.pem([new.certificate]).decode(), statements)
        left = [step]

        def replace(*arguments, left=left, **keywords):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return real(*arguments, **keywords)

        monkeypatch.setattr(durable, "replace", replace)
        try:
            bdkeys.main(["renew", base, "--node", "h"])
        except KeyboardInterrupt:
            pass
        assert keys.load_named(base).identity.name == "app"
        monkeypatch.setattr(durable, "replace", real)
        assert bdkeys.main(["renew", base, "--node", "h"]) == 0
        assert keys.load_named(base).root == new.certificate and old[0] not in keys.load_named(base).authorities


def test_who_knows_no_signer_says_so(alpha, mesh, tmp_path, capsys, monkeypatch):
    base = client(tmp_path / "keys", alpha)
    monkeypatch.setattr(looking, "SIGNER", "no such field")
    assert "alpha knows no signer that lives" in refused(capsys, 4, base, "--now", "--node", "h")


def test_what_can_t_be_renewed_so_is_refused_in_one_line(alpha, mesh, tmp_path, made, capsys):
    base = client(tmp_path / "keys", alpha)
    for arguments, why in (
        ([], "renew needs DIR/NAME"),
        ([str(tmp_path / "keys")], "is a folder"),
        ([f"{made}/alpha/var/keys/alpha"], "is a node's"),
        ([base, "--days", "3"], "--in and --days are for"),
        ([base, "--in", "x"], "--in and --days are for"),
        ([f"{made}/ca", "app", "--now"], "--node and --now are for"),
        ([base, "--now", "--node", "h:0x"], "--node: "),
        ([f"{tmp_path}/nobody"], "missing"),
    ):
        assert why in refused(capsys, 2, *arguments)
    (tmp_path / "keys" / "app.nodes").write_text("a b c\n")
    assert "app.nodes: " in refused(capsys, 2, base, "--now")


def test_addresses_that_are_none_are_not_noted(tmp_path):
    base = str(tmp_path / "app")
    renewing.write_nodes(base, ["10.0.0.1", "x\ny:1", "10.0.0.1:9001", *(f"10.0.1.{each}:1" for each in range(20))])
    noted = (tmp_path / "app.nodes").read_text().splitlines()
    assert noted[:2] == ["10.0.0.1:9001", "10.0.1.0:1"] and len(noted) == renewing.NODES_KEPT
