"""Files that are there whole or not at all, appended to by one write, locked with a deadline, and told apart by their stamps."""

import ctypes
import errno
import fcntl
import os
import socket
import subprocess
import sys
import time

import pytest

from bdserver.errors import NoSpace, TooBusy
from bdserver.files import durable

# --- has it changed? ----------------------------------------------------------------------------------------------


def settle(path):
    """Wait until a change would show in the file's times: the kernel's clock ticks every few milliseconds."""
    status = os.stat(path)
    deadline = time.monotonic() + 10
    while time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < 50_000_000:
        assert time.monotonic() < deadline


def replaced_by_a_copy(path):
    status = os.stat(path)
    other = f"{path}.other"
    with open(other, "w") as file:
        file.write("text")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)


def written_and_set_back(path):
    status = os.stat(path)
    with open(path, "r+") as file:
        file.write("TEXT")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def grown(path):
    with open(path, "a") as file:
        file.write("more")


@pytest.mark.parametrize(
    "change", [replaced_by_a_copy, written_and_set_back, grown, lambda path: os.chmod(path, 0o600), os.unlink]
)
def test_every_change_of_a_file_shows_in_its_stamp(tmp_path, change):
    path = str(tmp_path / "a")
    with open(path, "w") as file:
        file.write("text")
    settle(path)
    before = durable.stamp(path)
    assert before == durable.stamp(path)
    change(path)
    assert durable.stamp(path) != before


def test_what_is_not_there_or_not_to_be_seen_has_no_stamp(tmp_path):
    (tmp_path / "a").write_text("")
    assert durable.stamp(str(tmp_path / "none")) is None and durable.stamp(str(tmp_path / "a" / "below")) is None


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_file_is_read_up_to_its_limit_and_no_further(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    data, status = durable.read(str(path), 5)
    assert data == b"12345" and durable.stamp_of(status) == durable.stamp(str(path))
    with pytest.raises(durable.Unfit, match="larger than 4 bytes"):
        durable.read(str(path), 4)


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device", "link", "name"])
def test_what_is_no_regular_file_is_refused_and_keeps_nobody_waiting(tmp_path, kind):
    path, follow = str(tmp_path / "a"), kind != "link"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "socket":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.close()
    elif kind == "device":
        path = "/dev/zero"
    elif kind == "link":
        (tmp_path / "b").write_text("secret")
        os.symlink(tmp_path / "b", path)
        assert durable.read(path, 99)[0] == b"secret"
    else:
        path = "a\0b"
    reason = {"link": "a symbolic link, not a regular file", "name": "no file can have this name"}.get(
        kind, "not a regular file"
    )
    with pytest.raises(durable.Unfit) as caught:
        durable.read(path, 99, follow=follow)
    assert caught.value.strerror == reason


def test_a_file_that_is_not_there_is_no_unfit_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        durable.read(str(tmp_path / "none"), 9)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/a/plain é", "/a/plain é"),
        (os.fsdecode(b"/caf\xe9.bdcert"), "/caf\\xe9.bdcert"),
        ("a\nb\x1b", "a\\nb\\x1b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_any_path_is_shown_on_one_line_and_can_be_encoded(path, text):
    assert durable.shown(path) == text and durable.shown(path).encode()


# --- replacing ----------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_and_its_stamp_told(tmp_path):
    path = tmp_path / "a"
    for content in (b"one", b"two"):
        made = durable.replace(str(path), [content[:1], content[1:]], mode=0o600)
        assert path.read_bytes() == content and made == durable.stamp(str(path))
    assert path.stat().st_mode & 0o777 == 0o600 and os.listdir(tmp_path) == ["a"]


def test_a_file_in_the_folder_of_now_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    durable.replace("a", [b"x"])
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_file_made_like_another_has_its_mode_and_owner(tmp_path):
    (tmp_path / "a").write_text("")
    os.chmod(tmp_path / "a", 0o604)
    if os.geteuid() == 0:
        os.chown(tmp_path / "a", 12, 34)
    like = os.stat(tmp_path / "a")
    durable.replace(str(tmp_path / "a"), [b"x"], like=like)
    now = os.stat(tmp_path / "a")
    assert (now.st_mode, now.st_uid, now.st_gid) == (like.st_mode, like.st_uid, like.st_gid)


def test_who_is_not_root_gives_it_the_mode_and_keeps_it(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("")
    os.chmod(tmp_path / "a", 0o604)
    given = []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "fchown", lambda *arguments: given.append(arguments))
    durable.replace(str(tmp_path / "a"), [b"x"], like=os.stat(tmp_path / "a"))
    assert given == [] and os.stat(tmp_path / "a").st_mode & 0o777 == 0o604


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, OSError)])
def test_a_disk_that_does_not_take_it_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, number, kind):
    (tmp_path / "a").write_text("old")

    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(kind, match=os.strerror(number)):
        durable.replace(str(tmp_path / "a"), [b"new"])
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_content_folder_and_rename_come_in_the_order_that_survives_a_crash(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, real=real: calls.append((name, os.path.isdir(args[0]))) or real(*args)
        )
    durable.replace(str(tmp_path / "a"), [b"x"])
    assert calls == [("fsync", False), ("replace", False), ("fsync", True)]
    del calls[:]
    durable.replace(str(tmp_path / "a"), [b"x"], is_synced=False)
    assert calls == [("replace", False)]


def test_the_remains_of_a_killed_process_are_swept_and_nothing_else(tmp_path):
    script = (
        "import os, sys; from bdserver.files import durable\n"
        "os.replace = lambda *_: os._exit(9)\n"
        "durable.replace(sys.argv[1], [b'half'])"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a")], cwd=os.getcwd(), check=False)
    (remains,) = os.listdir(tmp_path)
    assert remains.startswith(".a.new.")
    (tmp_path / ".b.new.1").write_text("of another")
    durable.sweep(str(tmp_path / "a"))
    durable.sweep(str(tmp_path / "nowhere" / "a"))
    assert os.listdir(tmp_path) == [".b.new.1"]


# --- appending ----------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path):
    descriptor = durable.open_regular(str(tmp_path / "log"), os.O_RDWR | os.O_APPEND | os.O_CREAT)
    yield descriptor, tmp_path / "log"
    os.close(descriptor)


def test_a_short_write_is_finished_or_raises(log, monkeypatch):
    descriptor, path = log
    real, sizes = os.write, []

    def short(to, data):
        sizes.append(len(data))
        return real(to, data[:3])

    monkeypatch.setattr(os, "write", short)
    durable.append(descriptor, b"abcdefgh")
    assert path.read_bytes() == b"abcdefgh" and sizes == [8, 5, 2]
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(os, "write", lambda to, data: real(to, data[:3]) if len(data) > 5 else real(full, data))
    with pytest.raises(OSError, match="No space left on device"):
        durable.append(descriptor, b"abcdefgh")
    os.close(full)


def test_a_line_behind_half_a_line_begins_on_its_own(log):
    descriptor, path = log
    durable.append_lines(descriptor, b"one\n")
    os.write(descriptor, b"ha")
    durable.append_lines(descriptor, b"two\n")
    durable.append_lines(descriptor, b"three\n")
    assert path.read_bytes() == b"one\nha\ntwo\nthree\n"


# --- locking ------------------------------------------------------------------------------------------------------


def test_a_lock_is_had_by_one_shared_by_many_and_waited_for_so_long(log):
    descriptor, path = log
    with open(path) as one, open(path) as two:
        durable.lock(one.fileno(), 0, "p", is_shared=True)
        durable.lock(two.fileno(), 0, "p", is_shared=True)
        began = time.monotonic()
        with pytest.raises(TooBusy, match=r"^p\\n: its lock was not to be had in 0.05 s$"):
            durable.lock(descriptor, 0.05, "p\n")
        assert 0.05 <= time.monotonic() - began < 2
        durable.unlock(one.fileno())
        fcntl.flock(two, fcntl.LOCK_UN)
        durable.lock(descriptor, 0, "p")
        with pytest.raises(TooBusy):
            durable.lock(one.fileno(), 0, "p", is_shared=True)


def test_an_open_file_has_its_name_until_it_is_removed_or_another_takes_its_place(tmp_path):
    path = tmp_path / "file"
    with open(path, "w") as file:
        assert durable.has_name(file.fileno(), str(path))
        path.rename(tmp_path / "elsewhere")
        assert not durable.has_name(file.fileno(), str(path))
        path.touch()
        assert not durable.has_name(file.fileno(), str(path))
        assert durable.has_name(file.fileno(), str(tmp_path / "elsewhere"))


def test_a_lock_is_made_kept_as_it_is_and_not_waited_for_where_something_else_has_its_name(tmp_path):
    path = str(tmp_path / "lock")
    for _ in range(2):
        with durable.open_lock(path) as file:
            durable.lock(file.fileno(), 0, path)
    assert os.path.getsize(path) == 0
    os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(durable.Unfit):
        durable.open_lock(path)


# --- changing places ----------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    """A file and a folder."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("one")
    other.mkdir()
    (other / "page").write_text("other")
    return one, other


def no_renameat2(number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [0, errno.ENOSYS, errno.EINVAL])
def test_a_file_and_a_folder_change_places_where_the_system_can_t_do_it_at_once_as_well(two, monkeypatch, number):
    one, other = two
    if number:  # an old kernel, or a file system that has none
        monkeypatch.setattr(durable, "_renameat2", no_renameat2(number))
    durable.exchange(str(one), str(other))
    assert (one / "page").read_text() == "other" and other.read_text() == "one"
    assert sorted(os.listdir(one.parent)) == ["one", "other"]


def test_what_else_keeps_two_from_changing_places_is_said_and_both_are_where_they_were(two):
    one, other = two
    with pytest.raises(FileNotFoundError, match="No such file"):
        durable.exchange(str(one), str(other.parent / "nowhere" / "x"))
    assert one.read_text() == "one"


def test_without_the_call_in_the_c_library_two_change_places_all_the_same(two, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: object())
    one, other = two
    durable.exchange(str(one), str(other))
    assert other.read_text() == "one"


def test_where_nothing_can_be_made_the_file_that_was_asked_for_is_named(tmp_path):
    """The one beside it is nobody's business."""
    with pytest.raises(FileNotFoundError) as caught:
        durable.replace(str(tmp_path / "nowhere" / "a"), [b"x"])
    assert caught.value.filename == str(tmp_path / "nowhere" / "a")


def test_a_look_tells_whether_a_file_is_still_what_it_was(tmp_path):
    path = str(tmp_path / "file")
    assert durable.is_still(path, None)
    (tmp_path / "file").write_text("one")
    known = durable.stamp(path)
    assert durable.is_still(path, known) and not durable.is_still(path, None)
    (tmp_path / "file").write_text("another")
    assert not durable.is_still(path, known) and durable.is_still(path, durable.stamp(path))
    os.unlink(path)
    assert not durable.is_still(path, known) and durable.is_still(path, None)
