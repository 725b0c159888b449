"""What systemd is told, over a real socket; and where nobody listens, nothing happens."""

import logging
import os
import re
import socket
import sys

import pytest

from bdserver.processes import systemd


@pytest.fixture(params=["path", "abstract"])
def heard(request, tmp_path, monkeypatch):
    """Datagrams that arrived."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@bdserver-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield lambda: sock.recv(4096).decode()


def test_fields_are_lines(heard):
    systemd.notify(READY=1, STATUS="3 nodes\nand more")
    assert heard() == "READY=1\nSTATUS=3 nodes and more"


def test_a_reload_begins_with_the_time(heard):
    systemd.reloading()
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=[0-9]+", heard())


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "relative", "@" + "x" * 200])
def test_where_nobody_listens_nothing_happens(monkeypatch, name):
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    systemd.notify(READY=1)


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", None, 30.0),
        ("30000000", "self", 30.0),
        ("30000000", "1", None),
        ("", None, None),
        ("0", None, None),
        ("x", None, None),
    ],
)
def test_the_watchdog_is_ours_or_somebody_elses(monkeypatch, usec, pid, seconds):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "self" else pid)
    assert systemd.watchdog_seconds() == seconds


def test_lines_for_the_journal_begin_with_their_priority(tmp_path, monkeypatch):
    with open(tmp_path / "log", "w") as file:
        status = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert systemd.is_journal(file) and not systemd.is_journal(sys.__stdin__)
    formatter = systemd.JournalFormatter("%(message)s")
    record = logging.LogRecord("x", logging.ERROR, "", 0, "two\nlines", None, None)
    assert formatter.format(record) == "<3>two\n<3>lines"
    assert formatter.format(logging.LogRecord("x", logging.INFO, "", 0, "well", None, None)) == "<6>well"
