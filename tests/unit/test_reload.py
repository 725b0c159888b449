"""What SIGHUP reads anew: each part for itself, and what is bad leaves the old one in force."""

import logging
import os
import shutil
import time

import pytest

from bdserver import errors
from bdserver.core.roles import CLIENT
from bdserver.files import durable, policyfile, quarantine
from bdserver.files.settings import load
from bdserver.net.identity import Identity
from bdserver.processes import reload
from bdserver.processes.node import open_node
from bdserver.processes.reload import read_anew
from bdserver.processes.run import begin
from tests.unit.certificates import make_keys
from tests.unit.configs import config, folder  # noqa: F401 (fixtures)
from tests.unit.nodes import NOW, a_mesh, document, warnings
from tests.unit.signed import KEY, SIGNER


def whose(name):
    return Identity("mesh", CLIENT, name, (), NOW, 1)


def test_a_reload_takes_all_that_may_change(config, tmp_path):  # noqa: F811
    node = open_node(load(config()))
    (tmp_path / "p.xml").write_text(document("A"))
    (tmp_path / "b").write_text("192.0.2.1\n")
    (tmp_path / "r").write_text("joe\n")
    (tmp_path / "k").write_text(KEY.public.line)
    before = node.credentials
    config(
        receiver_threshold=8,
        ws_policy=tmp_path / "p.xml",
        black_list=tmp_path / "b",
        revoked=tmp_path / "r",
        publishers=tmp_path / "k",
        policy_mode="strict",
        port=1,
    )
    assert read_anew(node) == []
    assert (node.settings.receiver_threshold, node.settings.port) == (8, 9001)
    assert node.rules.document.text == document("A") and node.policies.own == node.rules.document.policy
    assert node.policies.mode == "strict" and node.is_black_listed("192.0.2.1")
    assert node.refusal(whose("joe")) and node.credentials is not before
    assert set(node.rules.publishers.keys) == {SIGNER}
    config()
    assert read_anew(node) == [] and node.rules.document == policyfile.NONE and not node.refusal(whose("joe"))
    assert not node.rules.publishers.are_asked_for


def test_a_config_that_was_emptied_leaves_the_settings_as_they_were(config, tmp_path):  # noqa: F811
    node = open_node(load(config(receiver_threshold=8)))
    with open(node.settings.path, "w") as file:
        file.write("# nothing\n")
    [said] = read_anew(node)
    assert "nothing is set in it" in said and node.settings.receiver_threshold == 8 and said in node.stale
    config(receiver_threshold=9)
    assert read_anew(node) == [] and node.settings.receiver_threshold == 9


def test_what_is_read_rests_a_second_after_it_was_written_last(config, tmp_path, monkeypatch):  # noqa: F811
    paths = {"black_list": tmp_path / "b", "publishers": tmp_path / "k", "ws_policy": tmp_path / "p"}
    for path, text in zip(paths.values(), ("", KEY.public.line, document("A")), strict=True):
        path.write_text(text)
    node = open_node(load(config(**paths)))
    keys = os.path.join(node.settings.key_dir, "ca.crt"), os.path.join(node.settings.key_dir, f"{node.settings.username}.crt")
    for path in (node.settings.path, *map(str, paths.values()), *keys):
        now = time.time_ns()
        monkeypatch.setattr(durable.time, "time_ns", lambda now=now: now + 5 * durable.REST_NS)
        assert node.rests_in() == 0
        os.utime(path)
        monkeypatch.setattr(durable.time, "time_ns", lambda path=path: os.stat(path).st_ctime_ns + durable.REST_NS // 4)
        assert node.rests_in() == 0.75
        monkeypatch.undo()


def test_a_list_of_publishers_that_is_broken_shuts_out_all_until_it_is_mended(config, tmp_path):  # noqa: F811
    (tmp_path / "k").write_text(KEY.public.line)
    node = open_node(load(config(publishers=tmp_path / "k")))
    for content in ("no key!", None):
        (tmp_path / "k").unlink() if content is None else (tmp_path / "k").write_text(content)
        [said] = read_anew(node)
        assert node.rules.publishers.are_asked_for and node.rules.publishers.keys == {}
        assert node.rules.publishers.complaint == said and str(tmp_path / "k") in said
        with pytest.raises(errors.BadPackage, match="can't be read"):
            node.trust.check("Echo", "f" * 64, "", NOW)
    with pytest.raises(errors.BadConfig, match="No such file"):
        open_node(load(config(publishers=tmp_path / "k")))
    (tmp_path / "k").write_text(KEY.public.line)
    assert read_anew(node) == [] and set(node.rules.publishers.keys) == {SIGNER} and not node.rules.publishers.complaint
    before = node.rules.publishers
    assert read_anew(node) == [] and node.rules.publishers is before


@pytest.mark.parametrize(
    ("setting", "content", "complaint"),
    [
        ("ws_policy", "<Policy", "f:1"),
        ("black_list", "not a host!", "f:1"),
        ("revoked", "no name!", "f:1"),
        ("ws_policy", None, "No such file"),
    ],
)
def test_what_is_bad_is_told_and_the_old_one_stays_and_all_else_is_taken(
    config,  # noqa: F811
    tmp_path,
    monkeypatch,
    setting,
    content,
    complaint,
):
    monkeypatch.setattr(quarantine, "HASTY_SECONDS", 30.0)  # however busy the machine is
    (tmp_path / "f").write_text({"ws_policy": document("A"), "black_list": "192.0.2.1", "revoked": "joe"}[setting])
    node = open_node(load(config(**{setting: tmp_path / "f"})))
    (tmp_path / "f").unlink() if content is None else (tmp_path / "f").write_text(content)
    config(**{setting: tmp_path / "f"}, receiver_threshold=9)
    [said] = read_anew(node)
    assert complaint in said and node.settings.receiver_threshold == 9
    begin(node)
    [warning] = [line for line in warnings(node, time.time()) if "SIGHUP" in line or "list of revoked" in line]
    assert complaint in warning and warning.startswith(
        "the list of revoked" if setting == "revoked" else "what was before SIGHUP is in force: "
    )
    if setting == "ws_policy":
        assert node.rules.document.text == document("A") and node.policies.own == node.rules.document.policy
    elif setting == "black_list":
        assert node.is_black_listed("192.0.2.1")
    else:
        assert node.refusal(whose("joe")) and complaint in node.rules.revoked.complaint


def test_a_bug_in_reading_anew_is_a_complaint_and_its_traceback_is_said_by_one_process(config, monkeypatch, caplog):  # noqa: F811
    node = open_node(load(config()))

    def oops(path):
        raise KeyError("planted")

    monkeypatch.setattr(reload, "BlackList", oops)
    config(receiver_threshold=9)
    assert read_anew(node) == ["what SIGHUP reads anew can't be read: KeyError('planted')"]
    assert node.settings.receiver_threshold == 9
    [line] = [record for record in caplog.records if record.exc_info]
    assert line.levelno == logging.ERROR and 'in oops\n    raise KeyError("planted")' in caplog.text
    caplog.clear()
    node.life = node.life._replace(listener_pid=os.getppid())
    assert len(read_anew(node)) == 1 and not caplog.records


def test_a_bad_config_leaves_the_settings_and_a_bad_policy_its_new_mode(config, tmp_path):  # noqa: F811
    node = open_node(load(config()))
    config(receiver_threshold="many")
    [complaint] = read_anew(node)
    assert "receiver_threshold='many'" in complaint and node.settings.receiver_threshold == 7
    config(policy_mode="strict", ws_policy=tmp_path / "none.xml")
    assert len(read_anew(node)) == 1 and node.policies.mode == "strict"


@pytest.mark.parametrize("as_", ["other", "joe", "nobody"])
def test_keys_of_another_are_refused_and_the_old_ones_stay(config, tmp_path, folder, as_):  # noqa: F811
    os.mkdir(tmp_path / "keys")

    def put(name):
        for file in ("ca.crt", f"{name}.key", f"{name}.crt"):
            target = tmp_path / "keys" / file.replace(name, "me")
            target.unlink(missing_ok=True)
            with open(f"{folder}/{name}/{file}", "rb") as source:
                target.write_bytes(source.read())
            target.chmod(0o600)

    put("me")
    node = open_node(load(config(key_dir=tmp_path / "keys")))
    before = node.credentials
    if as_ == "nobody":
        (tmp_path / "keys" / "me.crt").write_text("")
    else:
        put(as_)
    [complaint] = read_anew(node)
    assert "me.crt" in complaint and node.credentials is before
    assert ("is now for another node: restart instead" in complaint) == (as_ != "nobody")


def test_a_certificate_that_does_not_name_our_address_is_refused_and_the_old_one_stays(config, tmp_path, folder):  # noqa: F811
    keys = tmp_path / "me"

    def certify(*hosts):
        shutil.rmtree(keys, ignore_errors=True)
        make_keys(tmp_path, f"{folder}/ca", "me", *hosts)

    certify("10.0.0.1")
    node = open_node(load(config(key_dir=keys)))
    before = node.credentials
    certify("10.0.0.2", "me.example.org")
    [complaint] = read_anew(node)
    words = "me.crt is now for me.example.org and 10.0.0.2, and the others know this node at 10.0.0.1 until a restart"
    assert complaint == words and node.credentials is before
    certify("10.0.0.2", "10.0.0.1")
    assert not read_anew(node) and node.credentials is not before


def test_whatever_goes_wrong_at_sighup_ends_nobody_and_the_old_one_stays(tmp_path, monkeypatch):
    node, *_ = a_mesh(tmp_path, "me")
    before = node.credentials

    def damaged(*arguments):
        raise KeyError("an algorithm that nobody knows")

    monkeypatch.setattr("bdserver.processes.node.keys.load", damaged)
    assert any("an algorithm that nobody knows" in each for each in read_anew(node))
    assert node.credentials is before
