"""A policy's file: the policy, its text as it travels, its digest; and what is no policy."""

import os

import pytest

from bdserver.core import policy
from bdserver.errors import BadConfig, BadPolicy, TooLarge
from bdserver.files import policyfile

TEXT = '<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy"><a xmlns="urn:é"/></wsp:Policy>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_policy_is_read_with_its_text_and_digest(tmp_path, encoding):
    path = tmp_path / "p.xml"
    path.write_bytes(TEXT.encode(encoding))
    assert policyfile.read(str(path)) == (policy.parse(TEXT), TEXT, policy.digest(TEXT))


def test_without_a_file_there_is_no_policy():
    assert policyfile.read("") == (None, None, None)


def test_what_is_no_policy_is_said_with_its_file_and_line(tmp_path):
    path = tmp_path / "p.xml"
    with pytest.raises(BadConfig, match=r"p\.xml: No such file"):
        policyfile.read(str(path))
    path.write_text("\n<x>")
    with pytest.raises(BadPolicy, match=r"p\.xml:2: "):
        policyfile.read(str(path))
    path.write_text(TEXT + " " * policy.TEXT_BYTES_MAX)
    with pytest.raises(TooLarge, match=r"p\.xml: "):
        policyfile.read(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BadConfig, match="not a regular file"):
        policyfile.read(str(path))


def test_a_command_takes_a_policy_from_a_pipe(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, TEXT.encode())
    os.close(writer)
    assert policyfile.read(f"/dev/fd/{reader}", pipes=True).text == TEXT
    os.close(reader)
    with pytest.raises(BadConfig, match="none: No such file"):
        policyfile.read(str(tmp_path / "none"), pipes=True)
