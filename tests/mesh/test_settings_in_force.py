"""SIGHUP: every setting that it may change takes effect in every process that it concerns, and in connections that are open."""

import os
import signal
import socket
import time

import pytest

from bdserver.files.settings import SETTINGS, AppliedBy
from bdserver.net import dialling, keys
from tests.hosts import until

POLICY = '<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:z="urn:z"><z:blue/></wsp:Policy>'


def changes(folder):
    """name -> a value that differs from the default; each reloadable row has one."""
    for name, text in (
        ("policy", POLICY),
        ("black", "127.0.0.9\n"),
        ("revoked", "somebody\n"),
        ("access", ""),
        ("publishers", ""),
    ):
        (folder / name).write_text(text)
    return {
        "receiver_threshold": 7, "max_dynamic": 2, "axis_port": 81, "axis_web_dir": "elsewhere",
        "service_url": "http://{host}/{service}", "admin_password": "sesame", "hints": "127.0.0.1:9",
        "ws_policy": folder / "policy", "black_list": folder / "black", "revoked": folder / "revoked", "policy_mode": "strict",
        "routing": "original", "log_level": "error", "access_log": folder / "access", "access_log_format": "common",
        "publishers": folder / "publishers", "require_signed": "yes",
        "on_change": "/bin/true", "on_change_seconds": 9, "idle_timeout": 17, "request_timeout": 3, "package_bytes_max": 1000, "package_files_max": 3, "hit_log_bytes": 500,
        "copies": "none", "replica_idle": 900, "certificate_days": 5, "signer": "yes", "timeline_hours": 2,
        "callers_seen_by": "admin",
    }  # fmt: skip


def test_each_reloadable_row_says_who_applies_it_and_has_a_value_to_change_to(tmp_path):
    assert {each.name for each in SETTINGS if each.applied_by is not AppliedBy.NOBODY} == set(changes(tmp_path))


def settings_of(talk):
    return talk.ask(["STATUS"], time.monotonic() + 10).own["settings"]


def test_every_row_takes_effect_in_a_child_that_serves_and_in_a_new_one(mesh, tmp_path):
    host = mesh.host("n1", idle_timeout=600).start()
    wanted = {name: str(value) for name, value in changes(tmp_path).items()}
    admin = keys.load(mesh.issue("boss", role="admin"), "boss")
    with (
        dialling.dial_local(host.socket, time.monotonic() + 60) as local,
        dialling.dial(host.address, admin, time.monotonic() + 60) as over_tls,
    ):
        for talk in (local, over_tls):
            before = settings_of(talk)
            assert not [name for name, value in wanted.items() if before[name] == value]
        host.write_config(**wanted)
        os.kill(host.process.pid, signal.SIGHUP)
        wanted |= {"admin_password": "(set)", "idle_timeout": "17", "request_timeout": "3"}
        for talk in (local, over_tls):
            until(lambda talk=talk: settings_of(talk)["receiver_threshold"] == "7", 20, "the open connection knows")
            after = settings_of(talk)
            assert {name: after[name] for name in wanted} == wanted
    with dialling.dial_local(host.socket, time.monotonic() + 60) as fresh:
        after = settings_of(fresh)
        assert {name: after[name] for name in wanted} == wanted


def test_what_the_listener_applies_the_black_list_and_the_revoked(mesh, tmp_path):
    host = mesh.host("n1", bind="127.0.0.1").start()
    client = keys.load(mesh.issue("app", role="client"), "app")
    (tmp_path / "black").write_text("127.0.0.9\n")
    (tmp_path / "revoked").write_text("app\n")

    def is_closed_unread():
        with socket.create_connection(("127.0.0.1", host.port), timeout=10, source_address=("127.0.0.9", 0)) as sock:
            sock.settimeout(1)
            try:
                return sock.recv(1) == b""
            except TimeoutError:  # it waits for our handshake
                return False

    assert not is_closed_unread()
    with dialling.dial(host.address, client, time.monotonic() + 60) as talk:
        assert talk.ask(["PING"], time.monotonic() + 10).digest
        host.write_config(black_list=tmp_path / "black", revoked=tmp_path / "revoked")
        os.kill(host.process.pid, signal.SIGHUP)
        until(is_closed_unread, 20, "the black list is read")
        with pytest.raises(Exception, match="the certificate of app .* is revoked here"):
            talk.ask(["PING"], time.monotonic() + 10)


def test_what_the_discoverer_applies_hints_the_log_level_and_our_record(mesh):
    one, two = mesh.host("n1", log_level="info").start(), mesh.host("n2").start()
    two.add_service("Echo")
    assert one.alive_names() == ["n1"] and "DEBUG" not in one.log
    one.write_config(hints=two.address, log_level="debug", receiver_threshold=7, axis_web_dir="elsewhere")
    os.kill(one.process.pid, signal.SIGHUP)
    until(lambda: set(one.alive_names()) == {"n1", "n2"}, 20, "the hint is followed")
    until(lambda: any(n["name"] == "n1" and n["receiver_threshold"] == 7 for n in two.nodes()), 20, "the other hears of it")
    pid = one.discoverer_pid()
    two.kill()
    until(lambda: one.status_of("n2") == "dead", 40, "n2 is dead")
    assert "DEBUG" in one.log and pid == one.discoverer_pid()


def test_a_bad_file_leaves_each_setting_as_it_was_and_new_ones_count_all_the_same(mesh, tmp_path):
    host = mesh.host("n1").start()
    host.write_config(ws_policy=tmp_path / "none", receiver_threshold=7)
    os.kill(host.process.pid, signal.SIGHUP)
    until(lambda: host.ask(["STATUS"])[1]["receiver_threshold"] == 7, 20, "the threshold counts")
    assert "the old one stays" in host.log and host.ask(["STATUS"])[1]["policy"] is None
