"""The list of revoked certificates: what it holds, when it is read, and what becomes of it when it is wrong."""

import errno
import os

import pytest

from bdserver.errors import BadConfig
from bdserver.files.revoked import SETTLED_SECONDS, Revoked


@pytest.fixture
def path(tmp_path):
    return tmp_path / "revoked"


def test_names_and_serial_numbers_with_comments(path):
    path.write_text("# who left\n\njoe # in May\n serial 0A1b \nserial: 7f:ff\n")
    revoked = Revoked(str(path))
    assert revoked.refusal("joe", 5) == "the certificate of joe (serial 5) is revoked here"
    assert revoked.refusal("ann", 0xA1B) and revoked.refusal("ann", 0x7FFF)
    assert revoked.refusal("ann", 5) is None and revoked.refusal("JOE", 5) is None


def test_a_name_that_looks_like_a_number_is_a_name(path):
    path.write_text("abcdef0123456789\n")
    assert Revoked(str(path)).refusal("abcdef0123456789", 1) and Revoked(str(path)).refusal("x", 0xABCDEF0123456789) is None


def test_without_a_list_nobody_is_refused():
    assert Revoked("").refusal("joe", 1) is None


@pytest.mark.parametrize(
    "line", ["a b", "serial xyz", "serial", "/etc/passwd", "-x", "serial :", "serial ::", "serial 7f:", f"serial {'7' * 61}"]
)
def test_a_wrong_line_is_named(path, line):
    path.write_text(f"joe\n{line}\n")
    if line == "serial":  # is a name
        assert Revoked(str(path)).refusal("serial", 1)
        return
    with pytest.raises(BadConfig, match=r"revoked:2: neither a name nor a serial number"):
        Revoked(str(path))


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_list_that_cannot_be_read_is_said_at_the_start(path, content):
    if content:
        path.write_bytes(content)
    with pytest.raises(BadConfig, match="revoked:(1: not UTF-8| No such file)"):
        Revoked(str(path))


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock that the list sees: a list of one number."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_change_counts_at_once_and_a_bad_one_not_at_all(path, caplog, clock):
    path.write_text("joe\n")
    revoked = Revoked(str(path))
    path.write_text("joe\nann\n")
    assert revoked.refusal("ann", 1)
    path.write_text("joe ann\n")
    assert revoked.refusal("ann", 1) and revoked.refusal("joe", 1)
    assert "neither a name" in revoked.complaint
    os.unlink(path)
    assert revoked.refusal("ann", 1) and caplog.text.count("stays as it was") == 2, "said once a change"
    assert "No such file" in revoked.complaint
    path.write_text("")
    assert revoked.refusal("ann", 1) and revoked.complaint == ""
    clock[0] += SETTLED_SECONDS
    assert revoked.refusal("ann", 1) is None and revoked.complaint == ""


@pytest.mark.parametrize("cut", ["", "serial 7f", "jo"])
@pytest.mark.parametrize("then", ["joe\nserial 7f:ff\n", "no line: that\n"])
def test_a_list_that_is_rewritten_in_place_lets_nobody_in_meanwhile(path, clock, cut, then):
    path.write_text("joe\nserial 7f:ff\n")
    revoked = Revoked(str(path))
    path.write_text(cut)  # as whoever looks between an editor's open and its write finds it
    assert revoked.refusal("joe", 1) and revoked.refusal("ann", 0x7FFF)
    clock[0] += SETTLED_SECONDS / 2
    path.write_text(then)
    for _ in range(3):
        assert revoked.refusal("joe", 1) and revoked.refusal("ann", 0x7FFF)
        clock[0] += SETTLED_SECONDS


def test_who_was_taken_out_is_let_in_when_the_list_has_been_still_for_a_second_and_that_is_a_change(path, clock):
    path.write_text("joe\nann\n")
    revoked = Revoked(str(path))
    path.write_text("ann\nsue\n")
    assert revoked.refresh() and revoked.refusal("joe", 1) and revoked.refusal("sue", 1) and not revoked.refresh()
    clock[0] += SETTLED_SECONDS / 2
    path.write_text("ann\n")
    assert revoked.refresh() and revoked.refusal("joe", 1) and revoked.refusal("sue", 1)
    clock[0] += SETTLED_SECONDS * 0.75
    assert not revoked.refresh() and revoked.refusal("joe", 1)
    clock[0] += SETTLED_SECONDS / 2
    assert revoked.refresh() and revoked.entries == ({"ann"}, set()) and not revoked.refresh()
    path.write_text("ann\nbob\n")
    assert revoked.refresh(), "one that only grows"
    clock[0] += SETTLED_SECONDS
    assert not revoked.refresh() and revoked.refusal("bob", 1)


def test_a_running_node_says_a_wrong_serial_number_and_keeps_the_old_list(path, caplog):
    path.write_text("joe\n")
    revoked = Revoked(str(path))
    path.write_text("serial :\n")
    assert revoked.refusal("joe", 1) and revoked.complaint.endswith("revoked:1: neither a name nor a serial number: 'serial :'")


def test_a_list_that_could_not_be_read_for_a_while_is_read_though_it_did_not_change(path, monkeypatch, caplog):
    path.write_text("joe\n")
    revoked = Revoked(str(path))
    path.write_text("joe\nann\n")
    real, calls = os.open, []

    def no_descriptor(*arguments, **keywords):
        calls.append(arguments)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", no_descriptor)
    assert revoked.refusal("ann", 1) is None and revoked.refusal("joe", 1)
    assert "Too many open files" in revoked.complaint and len(calls) == 2 and caplog.text.count("Too many") == 1
    monkeypatch.setattr(os, "open", real)
    assert not Revoked("").refresh() and revoked.refresh() and revoked.refusal("ann", 1) and revoked.complaint == ""
    assert not revoked.refresh()


def test_a_reload_that_fails_leaves_the_list_in_force_until_the_new_one_can_be_read(path, tmp_path, clock):
    path.write_text("joe\n")
    revoked = Revoked(str(path))
    with pytest.raises(BadConfig, match="other: No such file"):
        revoked.reload(str(tmp_path / "other"))
    assert revoked.refusal("joe", 1) and "other: No such file" in revoked.complaint
    (tmp_path / "other").write_text("ann\n")
    assert revoked.refusal("ann", 1) and revoked.refusal("joe", 1) and revoked.complaint == ""
    clock[0] += SETTLED_SECONDS
    assert revoked.refusal("ann", 1) and revoked.refusal("joe", 1) is None and revoked.complaint == ""
    revoked.reload("")
    assert revoked.refusal("ann", 1) is None
