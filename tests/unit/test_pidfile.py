"""The pid file and its lock, with real processes."""

import os
import signal

import pytest

from bdserver.errors import BadConfig
from bdserver.processes.pidfile import PidFile
from tests.hosts import until


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "node.pid")


def holder(path, then=signal.pause):
    """A process that has claimed the file and written its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            file = PidFile(path)
            file.claim()
            with file:
                then()
        finally:
            os._exit(0)
    until(lambda: os.path.exists(path) and open(path).read() == f"{pid}\n", 10, "its pid is there")
    return pid


def end(pid, number=signal.SIGKILL):
    os.kill(pid, number)
    os.waitpid(pid, 0)


def test_while_a_process_has_it_nobody_else_gets_it_and_is_told_the_pid(path):
    pid = holder(path)
    try:
        assert PidFile(path).is_held()
        with pytest.raises(BadConfig, match=f"{path}: it runs already, as process {pid}$"):
            PidFile(path, "it runs already").claim()
    finally:
        end(pid)


def test_a_file_that_is_held_and_says_nonsense_is_a_process_that_is_unknown(path):
    with open(path, "wb") as file:
        file.write(bytes(range(128, 148)))
    held = PidFile(path)
    held.claim()
    with pytest.raises(BadConfig, match="is running already, as process ") as error:
        PidFile(path).claim()
    assert "\n" not in str(error.value)
    held.release()


def test_kill_9_leaves_nothing_that_keeps_the_next_one_from_starting(path):
    end(holder(path))
    assert os.path.exists(path) and not PidFile(path).is_held()
    file = PidFile(path)
    file.claim()
    with file:
        assert open(path).read() == f"{os.getpid()}\n"
    assert not os.path.exists(path)


def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(path):
    file = PidFile(path)
    file.claim()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        file.release()
        os.write(write, b"!")
        signal.pause()
    try:
        os.read(read, 1)
        file.release()
        assert not PidFile(path).is_held()
    finally:
        end(pid)


def test_one_that_was_removed_while_another_opened_it_is_no_lock_for_it(path, monkeypatch):
    first, second = PidFile(path), PidFile(path)
    first.claim()
    real_open = open

    def open_and_then_the_first_ends(*arguments, **keywords):
        file = real_open(*arguments, **keywords)
        monkeypatch.undo()
        first.remove()
        return file

    monkeypatch.setattr("builtins.open", open_and_then_the_first_ends)
    second.claim()
    assert os.path.exists(path) and PidFile(path).is_held()
    second.remove()


def test_where_no_file_can_be_is_a_wrong_config(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadConfig, match="Not a directory"):
        PidFile(str(tmp_path / "file" / "node.pid")).claim()
    assert not PidFile(str(tmp_path / "nothing")).is_held()


def test_what_was_not_claimed_is_not_removed(path):
    pid = holder(path)
    try:
        PidFile(path).remove()
        assert os.path.exists(path)
    finally:
        end(pid)


def test_a_pipe_in_its_place_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pid")
    claim = PidFile(str(tmp_path / "pid"))
    assert not claim.is_held()
    with pytest.raises(BadConfig, match="pid: not a regular file"):
        claim.claim()


def test_a_file_of_somebody_is_not_written_over_and_is_told_before(path):
    assert PidFile(path).trouble() == ""
    with open(path, "w") as file:
        file.write("root:x:0:0:root:/root:/bin/bash\n")
    words = f"{path}: is there, and is no file with a process's number: it is not written over"
    assert PidFile(path).trouble() == words
    with pytest.raises(BadConfig) as caught:
        PidFile(path).claim()
    with open(path) as file:
        assert (str(caught.value), file.read()) == (words, "root:x:0:0:root:/root:/bin/bash\n")


def test_a_folder_or_our_own_file_in_its_place_is_told_for_what_it_is(path, tmp_path):
    assert PidFile(str(tmp_path)).trouble() == f"{tmp_path}: not a regular file"
    with open(path, "w") as file:
        file.write("12345\n")
    assert PidFile(path).trouble() == ""
