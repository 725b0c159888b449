"""bdctl export --to --then: whole, only when it changed, and back again when its reader refuses it."""

import os

import pytest

from bdserver.commands.ctl.writing import write
from bdserver.errors import BadConfig, CommandFailed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out"


def test_it_is_written_when_it_changed_and_the_command_runs_then(path, tmp_path):
    count = f"echo run >> {tmp_path}/runs"
    assert write(str(path), "one\n", count) and not write(str(path), "one\n", count) and write(str(path), "two\n", count)
    assert path.read_text() == "two\n" and (tmp_path / "runs").read_text() == "run\n" * 2
    assert sorted(os.listdir(tmp_path)) == ["out", "runs"]


def test_mode_and_link_stay(path, tmp_path):
    path.write_text("old\n")
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert write(str(link), "new\n", None) and link.is_symlink() and path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_its_reader_refuses_does_not_stay_and_is_tried_again(path):
    path.write_text("good\n")
    with pytest.raises(CommandFailed, match=f"false: exit status 1; {path} is as it was before") as failed:
        write(str(path), "bad\n", "false")
    assert path.read_text() == "good\n" and failed.value.exit == 1
    assert write(str(path), "bad\n", f"grep -q bad {path}"), "the command sees the new file"
    assert not write(str(path), "bad\n", "false")


def test_where_there_was_no_file_none_is_left(path):
    with pytest.raises(CommandFailed, match="signal 9"):
        write(str(path), "bad\n", "kill -9 $$")
    assert not path.exists()
    with pytest.raises(CommandFailed):
        write(str(path), "bad\n", f"rm {path}; false")


def test_a_command_that_never_ended_runs_again_though_the_file_is_the_same(path, tmp_path):
    path.write_text("new\n")
    (tmp_path / ".out.due").touch()  # as a kill leaves it
    assert write(str(path), "new\n", f"touch {tmp_path}/ran") and (tmp_path / "ran").exists()
    assert not write(str(path), "new\n", "false")
    (tmp_path / ".out.due").touch()
    assert not write(str(path), "new\n", None), "without a command nothing is due"


def test_what_can_not_be_written_is_said(tmp_path):
    with pytest.raises(BadConfig, match="not a regular file"):
        write(str(tmp_path), "x", None)
    with pytest.raises(OSError, match="No such file"):
        write(str(tmp_path / "none" / "out"), "x", None)
