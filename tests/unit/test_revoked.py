"""The list of revoked certificates: what it holds, when it is read, and what becomes of it when it is wrong."""

import os

import pytest

from bdserver.errors import BadConfig
from bdserver.files.revoked import Revoked


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


@pytest.mark.parametrize("line", ["a b", "serial xyz", "serial", "/etc/passwd", "-x"])
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
    with pytest.raises(BadConfig, match="revoked: (No such file|not UTF-8)"):
        Revoked(str(path))


def test_a_change_counts_at_once_and_a_bad_one_not_at_all(path, caplog):
    path.write_text("joe\n")
    revoked = Revoked(str(path))
    path.write_text("joe\nann\n")
    assert revoked.refusal("ann", 1)
    path.write_text("joe ann\n")
    assert revoked.refusal("ann", 1) and revoked.refusal("joe", 1)
    os.unlink(path)
    assert revoked.refusal("ann", 1) and caplog.text.count("stays as it was") == 2, "said once a change"
    path.write_text("")
    assert revoked.refusal("ann", 1) is None
