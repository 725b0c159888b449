"""The embedded web server's start: its ports, its account, its life; a real node with it is in tests/mesh."""

import errno
import http.client
import os
import socket

import pytest

from bdserver.errors import BadConfig, NotYet
from bdserver.files.settings import Settings
from bdserver.net import container
from bdserver.processes import webserver
from bdserver.processes.webserver import Web, begin, prepared
from tests.hosts import free_port, until


def settings(tmp_path, **given):
    (tmp_path / "services").mkdir(exist_ok=True)
    given = {"web": "embedded", "axis_port": free_port(), "bind": ("127.0.0.1",), "var_dir": str(tmp_path)} | given
    return Settings(str(tmp_path / "bdserverd.conf"), given)


def silent(text):
    raise AssertionError(text)


def test_without_it_there_is_nothing(tmp_path):
    none = settings(tmp_path, web="none")
    assert prepared(none, (1, 1), silent) == Web([], None) and begin(none, Web([], None)) is None


def test_its_port_is_had_before_the_start_and_one_that_is_taken_is_said(tmp_path, monkeypatch):
    wanted = settings(tmp_path)
    web = prepared(wanted, (1, 1), silent)
    assert [each.getsockname()[1] for each in web.listening] == [wanted.axis_port]
    with pytest.raises(NotYet, match=f"axis_port={wanted.axis_port} can't be had"):
        prepared(wanted, (1, 1), silent, is_check=True)
    web.close()
    prepared(wanted, (1, 1), silent, is_check=True).close()


def test_its_account_is_neither_root_nor_the_daemons(tmp_path, monkeypatch):
    nobody = webserver.pwd.getpwnam("nobody")
    monkeypatch.setattr(webserver.os, "geteuid", lambda: 0)
    assert webserver._account(settings(tmp_path), (1, 1)) == (nobody.pw_uid, nobody.pw_gid)
    for user, daemon in (("root", (1, 1)), ("nobody", (nobody.pw_uid, 1))):
        with pytest.raises(BadConfig, match="must be neither root nor the daemon's user"):
            webserver._account(settings(tmp_path, web_user=user), daemon)
    with pytest.raises(BadConfig, match="there is no such user"):
        webserver._account(settings(tmp_path, web_user="no-such-user-here"), (1, 1))
    monkeypatch.setattr(webserver.os, "geteuid", lambda: 1000)
    assert webserver._account(settings(tmp_path), (1, 1)) is None


def test_it_serves_files_until_its_node_is_gone(tmp_path):
    wanted = settings(tmp_path)
    (tmp_path / "services" / "Page").write_text("a page\n")
    (tmp_path / "services" / "Page.bdcert").write_text("weight=1\n")
    (tmp_path / "services" / "Run").write_text("#!/bin/sh\n")
    (tmp_path / "services" / "Run").chmod(0o755)
    (tmp_path / "services" / "Run.bdcert").write_text("weight=1\n")
    web = prepared(wanted, (1, 1), silent)._replace(owner=None)
    life = begin(wanted, web)

    def get(path):
        connection = http.client.HTTPConnection("127.0.0.1", wanted.axis_port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def is_gone():
        try:
            socket.create_connection(("127.0.0.1", wanted.axis_port)).close()
        except OSError:
            return True
        return False

    assert get("/axis/Page") == (200, b"a page\n") and get("/axis/Run")[0] == 403 and get("/axis/Page.bdcert")[0] == 404
    os.close(life)
    until(is_gone, 10, "it has ended")


NO_ROOM = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.mark.parametrize(
    ("forked", "reaped", "killed"),
    [
        ([101, 102], [(101, 9), (0, 0)], [102]),
        ([101, NO_ROOM, 102], [(101, 9), (0, 0)], [102]),
        ([NO_ROOM, NO_ROOM, NO_ROOM], [], []),
    ],
    ids=["it dies", "it dies, and there is no room for another one", "there is never any room"],
)
def test_what_supervises_it_starts_another_one_and_ends_with_the_node(tmp_path, monkeypatch, forked, reaped, killed):
    """In this process; what is forked is told by its pid."""
    coming, ends, ended = iter(forked), iter(reaped), []

    def fork():
        child = next(coming)
        if isinstance(child, OSError):
            raise child
        return child

    monkeypatch.setattr(webserver, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(webserver.os, "fork", fork)
    monkeypatch.setattr(webserver.os, "kill", lambda pid, number: ended.append(pid))
    monkeypatch.setattr(webserver.setproctitle, "setproctitle", lambda title: None)
    monkeypatch.setattr(webserver.signal, "signal", lambda number, handler: None)
    looks = iter([False] * max(len(forked) - 1, 2) + [True])
    monkeypatch.setattr(webserver.select, "select", lambda *arguments: ([3] if next(looks) else [], [], []))
    monkeypatch.setattr(webserver.os, "waitpid", lambda pid, how: next(ends, (0, 0)))
    webserver._supervise(settings(tmp_path), Web([], None), 3)
    assert ended == killed and next(coming, None) is None


def test_it_serves_on_each_of_its_sockets(tmp_path, monkeypatch):
    made = []

    class Container:
        def __init__(self, host, port, folder, web_dir, runs_scripts, listening):
            made.append((host, runs_scripts, folder))

        def serve_forever(self):
            made.append("serves")

    monkeypatch.setattr(container, "Container", Container)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    webserver._serve(settings(tmp_path), Web(sockets, (5, 5)))
    until(lambda: made.count("serves") == 2, 5, "both")
    assert made[0] == ("127.0.0.1", True, str(tmp_path / "services"))
    for each in sockets:
        each.close()
