"""A node's own certificate: asked for in time, taken when it is right, in force in each process; and a roll, step by step."""

import contextlib
import json
import os
import time
from types import SimpleNamespace

import pytest

from bdserver.commands import bdkeys
from bdserver.core.membership import ROOTS, SIGNER
from bdserver.core.messages import Certified
from bdserver.core.roles import NODE
from bdserver.errors import BadConfig, NobodyThere
from bdserver.net import chain as chains
from bdserver.net import keyfiles, keys
from bdserver.net.authority import general_names
from bdserver.net.proofs import fingerprint
from bdserver.processes.describing import update_own
from bdserver.processes.renewing import Renewing, rolls_told
from tests.unit.certificates import Key, make_keys
from tests.unit.signers import asked, begun, opened

DAY = 86400.0


class Lines:
    """Of the discoverer: who is asked what; `answer` is what comes."""

    def __init__(self):
        self.asked, self.answer = [], NobodyThere("nobody there")

    def patience(self, seconds):
        return seconds

    def start(self, talk, address, name, seconds, done, is_slow=False):
        self.asked.append((name, address, next(talk)))
        if self.answer is not None:
            done(self.answer)


@pytest.fixture
def alpha(tmp_path):
    return begun(str(tmp_path))


@pytest.fixture
def beta(alpha, tmp_path):
    """A node whose certificate alpha has made, and which knows it."""
    folder = f"{tmp_path}/beta"
    os.makedirs(f"{folder}/var/keys")
    key = keyfiles.new_key(f"{folder}/var/keys/beta.key")
    chain = alpha.signer.certify(key.public_key(), "beta", NODE, general_names(["127.0.0.1"]), 90)
    keyfiles.write(f"{folder}/var/keys/beta.crt", chain.pem())
    keyfiles.write(f"{folder}/var/keys/ca.crt", keyfiles.pem(alpha.credentials.authorities))
    with open(f"{folder}/bdserverd.conf", "w") as file:
        file.write(f"username=beta\nvar_dir={folder}/var\nkey_dir={folder}/var/keys\n")
    node = opened(str(tmp_path), "beta")
    with node.cache.locked() as view:
        view.merge(alpha.cache.view().own, time.time())
        view.learn_certificate(alpha.proofs.digest, alpha.proofs.certificate)
    return node


def test_nothing_is_done_before_its_time_nor_for_a_certificate_made_by_hand(alpha, beta, tmp_path):
    lines = Lines()
    Renewing(beta, lines).look(time.time() + 59 * DAY)
    beta.credentials = keys.load(make_keys(tmp_path, f"{tmp_path}/ca", "byhand"), "byhand")
    Renewing(beta, lines).look(time.time() + 89 * DAY)
    assert lines.asked == [] and not beta.look_at_keys()


def test_a_signer_renews_its_own(alpha):
    before = alpha.credentials.identity.serial
    Renewing(alpha, Lines()).look(time.time() + 70 * DAY)
    assert alpha.credentials.identity.serial == before, "it would end with the old one: no gain by this clock"
    alpha.settings = SimpleNamespace(**{**alpha.settings.__dict__, "certificate_days": 200})
    Renewing(alpha, Lines()).look(time.time() + 70 * DAY)
    assert alpha.credentials.identity.serial != before and alpha.credentials.days_left(time.time()) > 190


def test_another_one_is_asked_and_what_comes_is_in_force_in_all_processes(alpha, beta):
    lines, other = Lines(), opened(os.path.dirname(os.path.dirname(beta.settings.path)), "beta")
    chain = alpha.signer.certify(beta.credentials.public_key, "beta", NODE, general_names(["127.0.0.1"]), 200)
    lines.answer = Certified(chain.pem().decode(), "")
    renewing = Renewing(beta, lines)
    renewing.look(time.time() + 70 * DAY)
    [(name, address, request)] = lines.asked
    assert (name, address, request[0]) == ("alpha", alpha.address, "RENEW")
    assert beta.credentials.chain == chain
    assert other.credentials.chain != chain and other.look_at_keys() and other.credentials.chain == chain
    other._keys_again_at = 0.0
    assert not other.look_at_keys()
    renewing.look(time.time() + 70 * DAY)
    assert len(lines.asked) == 1


def test_while_a_signer_is_asked_nobody_else_is(beta):
    lines = Lines()
    lines.answer = None
    renewing = Renewing(beta, lines)
    renewing.look(time.time() + 70 * DAY)
    renewing.look(time.time() + 70 * DAY)
    assert len(lines.asked) == 1


def test_what_is_not_the_certificate_that_was_asked_for_is_not_taken(alpha, beta):
    mine, wrong = beta.credentials.public_key, Key().key.public_key()
    before = beta.credentials.chain
    hosts = general_names(["127.0.0.1"])
    for chain, why in (
        (alpha.signer.certify(wrong, "beta", NODE, hosts, 200), "is for another key"),
        (alpha.signer.certify(mine, "gamma", NODE, hosts, 200), "is not the one that was asked for"),
        (alpha.signer.certify(mine, "beta", NODE, general_names(["127.0.0.9"]), 200), "is not the one"),
        (alpha.signer.certify(mine, "beta", NODE, hosts, 90), "no longer good than ours|is no longer good"),
        (chains.Chain(before.certificate), "is not the one that was asked for"),
    ):
        lines = Lines()
        lines.answer = Certified(chain.pem().decode(), "")
        renewing = Renewing(beta, lines)
        renewing.look(time.time() + 70 * DAY)
        with pytest.raises(BadConfig, match=f"can't be renewed, and ends on .*(?:{why})"):
            renewing.look(time.time() + 80 * DAY)
    lines.answer = Certified("x", "")
    with pytest.raises(BadConfig, match="can't be renewed"):
        renewing.look(time.time() + 81 * DAY)
    assert beta.credentials.chain == before


def test_without_a_signer_it_says_so_and_tries_again(beta):
    with beta.cache.locked() as view:
        view.forget("alpha")
    renewing = Renewing(beta, Lines())
    renewing.look(time.time() + 70 * DAY)
    with pytest.raises(BadConfig, match="no signer is there"):
        renewing.look(time.time() + 80 * DAY)


def test_a_list_of_authorities_that_is_empty_for_a_moment_counts_as_it_was(beta):
    path = f"{beta.settings.key_dir}/ca.crt"
    with open(path) as file:
        whole = file.read()
    before, other = beta.credentials.authorities, "\n".join(["# of a CA that is gone", whole])
    with open(path, "w") as file:
        assert not beta.look_at_keys() and beta.credentials.authorities is before
        file.write(other)
    beta._keys_again_at = 0.0
    assert beta.look_at_keys() and beta.credentials.authorities is not before


def test_a_file_that_can_not_be_read_leaves_the_old_certificate(beta, caplog):
    before = beta.credentials
    with open(f"{beta.settings.key_dir}/beta.crt", "a") as file:
        file.write("x")
    os.truncate(f"{beta.settings.key_dir}/beta.crt", 10)
    assert not beta.look_at_keys() and beta.credentials is before
    assert "the old certificate stays in force" in caplog.text


def test_a_folder_that_can_not_be_written_is_named(alpha, monkeypatch, tmp_path):
    def full(path, data):
        raise OSError(13, "Permission denied", path)

    assert bdkeys.main(["roll", f"{tmp_path}/ca"]) == 0
    asked(alpha, "ROLL", json.load(open(f"{tmp_path}/ca/roll.json")))
    monkeypatch.setattr(keyfiles, "write", full)
    with pytest.raises(BadConfig, match=r"ca\.crt: can't be written: Permission denied"):
        Renewing(alpha, Lines()).look(time.time())


def test_nodes_of_a_signer_that_will_be_revoked_have_others_sign_at_once(alpha, beta):
    asked(alpha, "REVOKE", {"what": "signer", "value": "alpha", "in": 3600})
    [statement] = alpha.cache.view().statements.values()
    with beta.cache.locked() as view:
        view.state(statement, time.time())
    lines, now = Lines(), time.time()
    renewing = Renewing(beta, lines)
    for minutes in range(0, 60, 3):
        with contextlib.suppress(BadConfig):
            renewing.look(now + 60 * minutes)
    with pytest.raises(BadConfig, match="no signer is there"):
        renewing.look(now + 3599)
    assert lines.asked == [], "not by the one that is going to be revoked"


def test_a_roll_goes_step_by_step(alpha, beta, tmp_path):
    old = alpha.credentials.root
    assert bdkeys.main(["roll", f"{tmp_path}/ca"]) == 0
    asked(alpha, "ROLL", json.load(open(f"{tmp_path}/ca/roll.json")))
    [statement] = alpha.cache.view().statements.values()
    with beta.cache.locked() as view:
        view.state(statement, time.time())
    now = time.time()
    nodes = {"alpha": Renewing(alpha, Lines()), "beta": Renewing(beta, Lines())}

    def turn(wall):
        for each in nodes.values():
            each.node.clock = lambda: wall
            each.look(wall)
            update_own(each.node)
        for mine, other in ((alpha, beta), (beta, alpha)):
            with mine.cache.locked() as view:
                view.merge(other.cache.view().own, wall)
                view.learn_certificate(other.proofs.digest, other.proofs.certificate)

    turn(now)
    new = alpha.credentials.authorities[0]
    assert [len(each.credentials.authorities) for each in (alpha, beta)] == [2, 2] and new != old
    assert alpha.cache.view().own.extra[ROOTS] == sorted([fingerprint(new), fingerprint(old)])
    turn(now + 60)
    assert alpha.signer.root == old, "some may be switched off"
    turn(now + 3.1 * DAY)
    assert alpha.signer.root == new and alpha.cache.view().own.extra[SIGNER] == fingerprint(new)
    fresh = alpha.signer.certify(beta.credentials.public_key, "beta", NODE, general_names(["127.0.0.1"]), 90)
    nodes["beta"]._lines.answer = Certified(fresh.pem().decode(), "")
    for minutes in range(0, 24 * 60, 30):
        turn(now + 3.2 * DAY + 60 * minutes)
    assert alpha.credentials.root == new and beta.credentials.root == new
    assert len(beta.credentials.authorities) == 2, "a week is not over"
    turn(now + 8 * DAY)
    assert alpha.credentials.authorities == beta.credentials.authorities == [new]
    assert not alpha.cache.view().statements and ROOTS not in alpha.cache.view().own.extra


@pytest.mark.parametrize("said", [5, True, {"ca": 1}, [["ca"]], "all of {}"], ids=repr)
def test_a_node_that_says_nonsense_of_its_cas_has_none_and_stops_no_roll_of_the_others(alpha, beta, tmp_path, said):
    assert bdkeys.main(["roll", f"{tmp_path}/ca"]) == 0
    asked(alpha, "ROLL", json.load(open(f"{tmp_path}/ca/roll.json")))
    now = time.time()
    Renewing(alpha, Lines()).look(now)
    name = fingerprint(alpha.credentials.authorities[0])
    told = []
    for roots in ([], said.format(name) if isinstance(said, str) else said):
        with alpha.cache.locked() as view:
            record = view.records.get("beta") or beta.cache.view().own
            view.merge(record._replace(version=(record.version[0], record.version[1] + 1), extra={ROOTS: roots}), now)
        Renewing(alpha, Lines()).look(now + 60)
        told.append(rolls_told(alpha, alpha.cache.view(), now + 60))
    assert told[0] == told[1] != []
