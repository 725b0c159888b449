"""gateway.conf: what it may say."""

import pytest

from bdserver.errors import BadConfig
from bdserver.gateway import config


def test_without_a_file_all_is_default(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "DEFAULT_PATH", str(tmp_path / "gateway.conf"))
    loaded = config.load()
    assert not loaded.is_there
    assert (loaded.dns, loaded.http, loaded.domain) == (("127.0.0.1:9053",), ("127.0.0.1:9080",), "bd.internal")
    assert loaded.socket == "/run/bdserver/bdserver.sock" and loaded.open_to_others == []


def test_each_face_is_switched_off_by_one_setting_and_paths_begin_at_the_files_folder(gateway_conf, tmp_path):
    loaded = config.load(gateway_conf("dns=\nsocket=run/x.sock\npolicy=p.xml\n"))
    assert (
        loaded.dns == () and loaded.http and loaded.socket == f"{tmp_path}/run/x.sock" and loaded.policy == f"{tmp_path}/p.xml"
    )
    assert config.load(gateway_conf("http=\n")).http == ()


def test_what_others_can_reach_is_known(gateway_conf):
    loaded = config.load(gateway_conf("dns=0.0.0.0:53 127.0.0.1:53\nhttp=[::1]:9080 10.0.0.1:80\n"))
    assert loaded.open_to_others == ["0.0.0.0:53", "10.0.0.1:80"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("dns=\nhttp=\n", "there is nothing to do"),
        ("\ndns=localhost:53\n", ":2: dns=localhost:53: give an address of this host"),
        ("domain=a..b\n", ":1: domain='a..b' must be a domain's name"),
        ("domain=\n", "must be a domain's name"),
        ("domain=" + "x" * 60 + "." + "y" * 60 + "\n", "of up to 120 characters"),
        ("dnss=127.0.0.1:53\n", r"unknown key 'dnss' \(did you mean dns\?\)"),
        ("lookups_max=0\n", "must be a whole number from 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(gateway_conf, text, complaint):
    with pytest.raises(BadConfig, match=complaint):
        config.load(gateway_conf(text))


def test_what_the_faces_are_made_with_is_left_for_a_restart_and_the_rest_counts(gateway_conf):
    before = config.load(gateway_conf("http=127.0.0.1:1\nqueries_per_second=7\nlookups_max=2\n"))
    fresh = config.load(gateway_conf("http=127.0.0.1:2\nqueries_per_second=9\nlookups_max=3\nwatchers_max=4\ndomain=x.y\n"))
    after, left = before.reloaded(fresh)
    assert left == ["lookups_max", "watchers_max"]
    assert (after.http, after.queries_per_second, after.lookups_max, after.domain) == (("127.0.0.1:2",), 9, 2, "x.y")
    assert before.reloaded(before)[1] == []


def test_a_domain_may_be_written_with_its_last_dot_and_capitals(gateway_conf):
    assert config.load(gateway_conf("domain=BD.Internal.\n")).domain == "bd.internal"
