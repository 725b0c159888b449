"""RENEW, REVOKE, ROLL: what a signer signs over an old certificate, what it says to be revoked, which CA follows."""

import contextlib
import datetime
import json
import os
import time
from base64 import b64encode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bdserver.commands import bdkeys
from bdserver.commands.ctl import revoking
from bdserver.core import statements
from bdserver.core.messages import Certified
from bdserver.core.names import valid_name
from bdserver.core.roles import ADMIN, NODE, Role
from bdserver.core.statements import Revocation, Roll
from bdserver.errors import BadConfig, BadRequest, BDError, Forbidden, NoSuchCommand, NotYet, TooBusy
from bdserver.files.invitations import Signed
from bdserver.net import chain as chains
from bdserver.net import keyfiles, keys, onecall, signing
from bdserver.net.authority import Authority, general_names, request_by
from bdserver.net.identity import identity_of
from bdserver.net.issuing import builder_of
from bdserver.net.proofs import Proofs, holder
from bdserver.net.signing import Signer
from bdserver.processes.answers import looking
from bdserver.processes.session import Caller
from tests.unit import signers
from tests.unit.certificates import Key, conversation
from tests.unit.signers import asked, begun

made, alpha = signers.made, signers.alpha


def caller_of(node, key, name="beta", role=NODE):
    """Somebody with a certificate by this signer."""
    chain = node.signer.certify(key.public_key(), name, role, general_names(["127.0.0.2"]), 1)
    return Caller(role, name, "127.0.0.2", identity_of(*chain)), chain


def test_a_certificate_is_renewed_for_the_same_name_role_and_hosts(alpha):
    key = Key().key
    caller, _ = caller_of(alpha, key)
    said = asked(alpha, "RENEW", request_by(key, "beta", general_names(["evil.example"])).decode(), caller=caller)
    assert isinstance(said, Certified)
    identity = identity_of(*chains.from_pem(said.certificate.encode()))
    assert (identity.name, identity.role, identity.hosts) == ("beta", NODE, ("127.0.0.2",))
    assert identity.serial != caller.identity.serial and alpha.invitations.book().signed[-1].why == "renewal"


def test_a_node_that_renews_without_end_is_told_later(alpha):
    key = Key().key
    caller, _ = caller_of(alpha, key, "greedy")
    request = request_by(key, "greedy", []).decode()
    for _ in range(8):
        asked(alpha, "RENEW", request, caller=caller)
    with pytest.raises(TooBusy, match="greedy has had its certificate renewed again and again"):
        asked(alpha, "RENEW", request, caller=caller)


def test_nobody_has_another_s_renewed_nor_nonsense(alpha):
    key = Key().key
    caller, _ = caller_of(alpha, key)
    with pytest.raises(Forbidden, match="beta asks for a certificate of gamma"):
        asked(alpha, "RENEW", request_by(key, "gamma", []).decode(), caller=caller)
    with pytest.raises(BadRequest, match="INVALID REQUEST"):
        asked(alpha, "RENEW", "x", caller=caller)
    with pytest.raises(Forbidden, match="asks for none"):
        asked(alpha, "RENEW", "x", caller=Caller(NODE, "x", "h"))
    alpha.signer = None
    for request in (["RENEW", "x"], ["REVOKE", {"what": "name", "value": "beta"}]):
        with pytest.raises(NoSuchCommand, match="alpha is no signer"):
            asked(alpha, *request, caller=caller._replace(role=ADMIN) if request[0] == "REVOKE" else caller)


def test_what_is_revoked_is_refused_told_and_listed(alpha, made, capsys):
    key = Key().key
    caller, _ = caller_of(alpha, key)
    version = alpha.cache.view().own.version
    assert alpha.refusal(caller.identity) is None
    asked(alpha, "REVOKE", {"what": "name", "value": "beta", "why": "stolen"})
    assert "is revoked" in alpha.refusal(caller.identity) and alpha.cache.view().own.version > version
    told = looking._own_status(alpha, alpha.cache.view(), time.time())
    assert [(each["what"], each["value"], each["why"]) for each in told["revoked"]] == [("name", "beta", "stolen")]
    assert told["certificate"]["signer"] == "alpha" and told["roll"] == []
    [statement] = alpha.cache.view().statements.values()
    asked(alpha, "REVOKE", {"statement": statement.as_json()})  # once more is no error
    revoking.show(told["revoked"], False)
    revoking.show([], False)
    revoking.show([{"what": "signer", "value": "a", "at": 0, "why": ""}], True)
    out = capsys.readouterr().out
    assert "name beta: since " in out and "(stolen)" in out and "has revoked nothing" in out


def test_all_that_a_signer_has_signed_is_revoked_when_its_time_comes(alpha):
    caller, _ = caller_of(alpha, Key().key)
    asked(alpha, "REVOKE", {"what": "signer", "value": "alpha", "in": 600})
    view = alpha.cache.view()
    assert alpha.refusal(caller.identity) is None
    assert 0 < view.revocations.ends_at(holder(caller.identity)) - time.time() <= 600
    alpha.clock = lambda: time.time() + 601
    assert "is revoked, as all that alpha has signed" in alpha.refusal(caller.identity)


def test_a_signer_in_the_file_of_the_revoked_is_refused_by_its_number(alpha, tmp_path):
    caller, _ = caller_of(alpha, Key().key)
    path = tmp_path / "revoked"
    path.write_text(f"serial {caller.identity.signer.serial:x}\n")
    alpha.rules.revoked.reload(str(path))
    assert "is signed by alpha (serial" in alpha.refusal(caller.identity)


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({}, "REVOKE takes what"),
        ({"what": "colour", "value": "x"}, "REVOKE takes what"),
        ({"what": "name", "value": "a b"}, "is no name"),
        ({"what": "name", "value": "alpha"}, "does not revoke itself"),
        ({"what": "name", "value": "x", "in": -1}, "12 h in advance"),
        ({"what": "name", "value": "x", "in": 2 * 86400}, "12 h in advance"),
        ({"what": "name", "value": "x", "why": "y" * 300}, "200 characters"),
        ({"statement": 5}, "three texts"),
        ({"statement": {"said": "x", "signature": "", "certificate": ""}}, "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_not_said(alpha, wish, reason):
    with pytest.raises(BDError, match=reason):
        asked(alpha, "REVOKE", wish)
    assert not alpha.cache.view().statements


def test_there_is_an_end_to_statements(alpha, monkeypatch):
    monkeypatch.setattr(statements, "STATEMENTS_MAX", 1)
    assert asked(alpha, "REVOKE", {"what": "serial", "value": "ab"}).notes == []
    with pytest.raises(TooBusy, match="no room for more"):
        asked(alpha, "REVOKE", {"what": "serial", "value": "cd"})


# --- who may say so -----------------------------------------------------------------------------------------------


def signed(sign, certificate, at=None, until=None):
    at = time.time() if at is None else at
    text = Revocation("name", "beta", at, until or at + 86400).text()
    signature = b64encode(sign(statements.PREFIX + text.encode())).decode()
    return statements.Statement(text, signature, b64encode(certificate).decode())


def by(key):
    return lambda data: key.sign(data, ec.ECDSA(hashes.SHA256()))


def test_a_signer_and_an_admin_may_revoke_and_nobody_else(alpha):
    vouch = alpha.proofs.vouch
    der = chains.Chain(alpha.signer.certificate).der()
    assert vouch(signed(alpha.signer.sign, der)) is None
    for role, why in ((Role.ADMIN, None), (Role.NODE, "neither a signer nor an admin"), (Role.CLIENT, "neither a signer")):
        key = Key().key
        _, chain = caller_of(alpha, key, "ann", role)
        said = vouch(signed(by(key), chain.der()))
        assert said is None if why is None else why in said
    other = Key().key
    assert vouch(signed(by(other), der)) == "its signature does not fit"
    assert "cannot be read" in vouch(signed(by(other), b"x"))
    assert "was not in date then" in vouch(signed(alpha.signer.sign, der, at=time.time() - 86400))


def test_a_signer_of_another_mesh_may_not_nor_a_revoked_admin(alpha, tmp_path):
    other = begun(str(tmp_path), "omega", "away")
    assert "is no signer of ours" in alpha.proofs.vouch(signed(other.signer.sign, chains.Chain(other.signer.certificate).der()))
    key = Key().key
    _, chain = caller_of(alpha, key, "ann", Role.ADMIN)
    asked(alpha, "REVOKE", {"what": "name", "value": "ann"})
    assert "is revoked" in alpha.proofs.vouch(signed(by(key), chain.der()))


def test_an_admin_s_key_of_another_kind_revokes_nothing(alpha):
    """All keys of a mesh are P-256 keys: what is signed by any other one is not looked at."""
    key = ec.generate_private_key(ec.SECP384R1())
    _, chain = caller_of(alpha, key, "ann", Role.ADMIN)
    assert alpha.proofs.vouch(signed(by(key), chain.der())) == "its author has another kind of key"


# --- rolls --------------------------------------------------------------------------------------------------------


def test_bdkeys_rolls_the_ca_and_writes_what_the_mesh_is_told(tmp_path, capsys):
    node = begun(str(tmp_path))
    old = node.credentials.root
    assert bdkeys.main(["roll", f"{tmp_path}/ca"]) == 0
    assert f"bdctl roll {tmp_path}/ca/roll.json" in capsys.readouterr().out
    statement = json.load(open(f"{tmp_path}/ca/roll.json"))
    assert node.proofs.vouch(statements.from_json(statement)) is None
    asked(node, "ROLL", statement)
    [roll] = node.cache.view().revocations.rolls
    assert len(roll.signers) == 1
    [words] = looking._own_status(node, node.cache.view(), time.time())["roll"]
    assert words == "0 of 1 nodes trust it, 0 of 1 signers sign by it, 0 of 1 certificates are by it; waits for alpha"
    stranger = begun(str(tmp_path / "other"), "omega", "away")
    assert "is not in our ca.crt" in stranger.proofs.vouch(statements.from_json(statement))
    changed = {**statement, "said": statement["said"].replace('"at":', '"at": ')}
    assert node.proofs.vouch(statements.from_json(changed)) == "its signature does not fit"
    with pytest.raises(BadRequest, match="takes what bdkeys roll has made"):
        asked(node, "ROLL", signed(node.signer.sign, chains.Chain(node.signer.certificate).der()).as_json())
    with pytest.raises(BadRequest, match="is not believed: its signature does not fit"):
        asked(node, "ROLL", changed)
    assert old in node.credentials.authorities


def test_nothing_but_a_ca_follows_a_ca(tmp_path):
    """A roll to the certificate of a node or a signer is not believed, though the CA itself has signed it."""
    node, now = begun(str(tmp_path)), time.time()
    before = Authority.load(f"{tmp_path}/ca").issuer
    for certificate in (node.signer.certificate, node.credentials.chain.certificate):
        said = Roll(b64encode(chains.Chain(certificate).der()).decode(), (), now, now + 86400).text()
        signature = b64encode(by(before.key)(statements.PREFIX + said.encode())).decode()
        text = b64encode(chains.Chain(before.certificate).der()).decode()
        assert node.proofs.vouch(statements.Statement(said, signature, text)) == "what is to follow the CA is none"


def test_a_roll_of_the_signers_alone_makes_no_other_ca(tmp_path, capsys):
    node = begun(str(tmp_path))
    assert bdkeys.main(["roll", f"{tmp_path}/ca", "--signers"]) == 0
    assert "a new CA signs" not in capsys.readouterr().out
    assert Authority.load(f"{tmp_path}/ca").certificate == node.credentials.root
    assert node.proofs.vouch(statements.from_json(json.load(open(f"{tmp_path}/ca/roll.json")))) is None


def test_a_ca_of_before_may_have_no_signers_and_says_what_to_do(tmp_path, capsys):
    Authority.make(f"{tmp_path}/ca", "home")
    key = Key.of(f"{tmp_path}/ca/ca.key")
    authority = Authority.load(f"{tmp_path}/ca").certificate
    old = builder_of(authority.subject, key.key.public_key(), authority.not_valid_before_utc, authority.not_valid_after_utc)
    old = old.issuer_name(authority.subject).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    from cryptography.hazmat.primitives.serialization import Encoding

    with open(f"{tmp_path}/ca/ca.crt", "wb") as file:
        file.write(old.sign(key.key, hashes.SHA256()).public_bytes(Encoding.PEM))
    assert bdkeys.main(["signer", f"{tmp_path}/ca", "alpha"]) == 2
    assert "made before there were signers, and may have none (bdkeys roll" in capsys.readouterr().err
    assert bdkeys.main(["roll", f"{tmp_path}/ca"]) == 0
    assert bdkeys.main(["signer", f"{tmp_path}/ca", "alpha", "--out", f"{tmp_path}/out"]) == 0
    assert "alpha may sign for the mesh home, for 1095 days" in capsys.readouterr().out


# --- what a signer's certificate is worth -------------------------------------------------------------------------


def test_a_chain_is_vouched_for_by_the_ca_of_its_signer_alone(alpha, tmp_path):
    key = Key().key
    _, chain = caller_of(alpha, key)
    authorities = alpha.credentials.authorities
    assert chains.roots(authorities, chain) == authorities and chains.from_der(chain.der()) == chain
    assert chains.from_pem(chain.pem()) == chain
    assert chains.roots(authorities, chains.Chain(chain.certificate)) == [], "the CA has not signed it itself"
    assert chains.roots(authorities, chains.Chain(chain.certificate, chain.certificate)) == []
    assert chains.roots(authorities, chains.Chain(chain.certificate, authorities[0])) == [], "the CA is no signer"
    for wrong in ([], [chain.certificate] * 3):
        with pytest.raises(ValueError, match="where one belongs"):
            chains.of(wrong)
    for data in (b"", b"x", chain.der()[:-5], chain.der() + b"x"):
        with pytest.raises(ValueError):
            chains.from_der(data)


def test_a_signer_without_its_limits_is_none(alpha):
    """What is named like a signer signs for nobody unless its certificate keeps it to one mesh, and from making signers."""
    root, its, now = alpha.credentials.root, alpha.signer.certificate, datetime.datetime.now(datetime.UTC)
    only_home = x509.NameConstraints([x509.UniformResourceIdentifier("home")], None)
    away = x509.NameConstraints([x509.UniformResourceIdentifier("away")], None)
    for constraints, names, is_good in (
        (x509.BasicConstraints(ca=True, path_length=0), only_home, True),
        (x509.BasicConstraints(ca=True, path_length=0), None, False),
        (x509.BasicConstraints(ca=True, path_length=0), away, False),
        (x509.BasicConstraints(ca=True, path_length=1), only_home, False),
        (x509.BasicConstraints(ca=False, path_length=None), only_home, False),
        (None, only_home, False),
    ):
        builder = builder_of(its.subject, Key().key.public_key(), now, now + datetime.timedelta(1)).issuer_name(root.subject)
        for extension in (constraints, names):
            builder = builder.add_extension(extension, critical=True) if extension is not None else builder
        made = builder.sign(Key().key, hashes.SHA256())
        assert chains.is_signer(made) is is_good, (constraints, names)
        assert chains.may_have_signers(made) is (constraints is not None and constraints.path_length == 1)


def test_a_signer_of_another_mesh_signs_nothing_here(alpha):
    """The CA of two meshes would be one mistake too many: each constrains its signers all the same."""
    from bdserver.net.issuing import Issuer

    key = Key().key
    away = Issuer(alpha.signer.key, alpha.signer.certificate, "away").holders(key.public_key(), "x", NODE, [], 1)
    with pytest.raises(ValueError, match="of mesh away is signed by a signer of mesh home"):
        identity_of(away, alpha.signer.certificate)
    text = b64encode(chains.Chain(away, alpha.signer.certificate).der()).decode()
    proofs = Proofs(alpha.credentials, lambda identity: None)
    record = alpha.cache.view().own._replace(name="x", certificate="d", said="x", signature="x")
    assert "cannot be read" in proofs.doubt_certificate(record, text)


def test_what_is_wrong_with_the_files_of_a_signer_is_one_line(tmp_path):
    node = begun(str(tmp_path))
    folder, load = (
        node.settings.key_dir,
        lambda: Signer.load(node.settings.key_dir, "alpha", "home", node.credentials.authorities),
    )
    key_path, path = f"{folder}/alpha.signer.key", f"{folder}/alpha.signer.crt"
    good = open(path).read()
    assert load().name == "alpha" and load().not_after == pytest.approx(time.time() + 1095 * 86400, abs=60)
    own = open(f"{folder}/alpha.crt").read().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    for text, reason in (
        (own, "is not that of a signer of mesh home"),
        (good + good, "holds 2 certificates where one belongs"),
        (open(f"{folder}/ca.crt").read(), "is not that of a signer"),
    ):
        with open(path, "w") as file:
            file.write(text)
        with pytest.raises(BadConfig, match=reason):
            load()
    with open(path, "w") as file:
        file.write(good)
    stranger = begun(str(tmp_path / "other"), "omega")
    with pytest.raises(BadConfig, match="is not signed by a CA in ca.crt"):
        Signer.load(folder, "alpha", "home", stranger.credentials.authorities)
    os.unlink(key_path)
    with pytest.raises(NotYet, match="missing, and signer=yes"):
        load()
    Key().save(key_path)
    with pytest.raises(BadConfig, match="is not the key of"):
        load()


@pytest.mark.parametrize(("days", "reason"), [(2000, "expired on"), (-5, "is not valid before")])
def test_a_signer_that_is_not_in_date_signs_nothing(alpha, monkeypatch, days, reason):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.datetime.now(zone) + datetime.timedelta(days=days)

    monkeypatch.setattr(signing, "datetime", Clock)
    with pytest.raises(BadConfig, match=reason):
        alpha.signer.certify(Key().key.public_key(), "x", NODE, general_names(["127.0.0.1"]), 1)


def test_the_short_way_of_bdwhereis_shows_its_signer_s_certificate_too(alpha, tmp_path):
    key = Key()
    _, chain = caller_of(alpha, key.key, "joe", Role.CLIENT)
    base = f"{tmp_path}/joe"
    key.save(f"{base}.key")
    keyfiles.write(f"{tmp_path}/ca.crt", keyfiles.pem(alpha.credentials.authorities))
    for text, is_taken in (
        (chain.pem(), True),
        (chain.pem() + chain.pem(), False),
        (chains.Chain(chain.certificate, chain.certificate).pem(), False),
        (chain.pem() + b"x", False),
    ):
        keyfiles.write(f"{base}.crt", text)
        with contextlib.nullcontext() if is_taken else pytest.raises(onecall.UNUSUAL):
            assert onecall.Caller.load(base, valid_name).mesh == "home"
    keyfiles.write(f"{base}.crt", chain.pem())
    assert conversation(alpha.credentials, keys.load_named(base))["me"] == b"HELLO"
    assert conversation(alpha.credentials, alpha.credentials)["caller"].signer.name == "alpha"


def test_a_name_that_nobody_has_is_revoked_with_a_note(alpha):
    """It may be mistyped; or a client's, whom this node has not signed for."""
    [note] = asked(alpha, "REVOKE", {"what": "name", "value": "btea"}).notes
    assert note.startswith("note: no node named btea is known here, and none was signed for")
    with alpha.invitations.locked(alpha.clock()) as book:
        book.note(Signed("app", "client", "digest", "ab", alpha.clock(), alpha.clock() + 60, "invitation ab"))
    assert asked(alpha, "REVOKE", {"what": "name", "value": "app"}).notes == []
