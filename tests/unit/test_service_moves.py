"""How a service is published, replaced, withdrawn and restored by moves: what is there at each instant, and after a kill or a fault."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
import threading

import pytest

from bdserver.errors import CantFind, NoSpace, TooBusy
from bdserver.files import moves as module
from bdserver.files.bdcert import Service, read_service
from bdserver.files.services import Services
from tests.unit import changes
from tests.unit.changes import drop, install, left_in_scratch, publish, scratch

NOW = 1_700_000_000.0
FORK = multiprocessing.get_context("fork")

folder, services, soon = changes.folder, changes.services, changes.soon


@pytest.mark.parametrize("by", ["file", "url"])
def test_a_folder_with_a_bdcerts_name_is_published_over(services, folder, by):
    (folder / "a.bdcert").mkdir()
    source = os.path.join(scratch(services, "a"), "a") if by == "file" else None
    publish(services, source, "a", 1, "http://x/")
    assert services.get("a").is_here == (by == "file") and services.complaints == []


@pytest.mark.parametrize("by", ["file", "folder"])
def test_a_published_service_is_live_with_its_mode_and_its_scratch_folder_is_gone(services, folder, by):
    source = os.path.join(scratch(services, "a", cert="rack=me\n"), "a")
    if by == "folder":
        os.unlink(source)
        os.mkdir(source)
    os.chmod(source, 0o755)
    publish(services, source, "a", 2, "http://{host}/a", "tcp")
    assert services.get("a") == Service("a", "static", 2.0, "http://{host}/a", "tcp", str(folder / "a"), 0.0, (("rack", "me"),))
    assert os.stat(folder / "a").st_mode & 0o777 == 0o755
    assert left_in_scratch(services) == []
    assert sorted(os.listdir(folder)) == ["a", "a.bdcert"]


def test_a_source_outside_scratch_is_moved_and_its_folder_stays(services, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("a")
    (tmp_path / "mine" / "b").write_text("b")
    publish(services, str(tmp_path / "mine" / "a"), "a", 1.5)
    assert services.get("a").cost == 1.5
    assert os.listdir(tmp_path / "mine") == ["b"]


@pytest.mark.parametrize("old", ["file", "folder", "link"])
@pytest.mark.parametrize("new", ["file", "folder", "url"])
def test_what_is_published_over_goes_to_the_graveyard_and_can_come_back(services, folder, old, new):
    drop(folder, "a", "weight=7\n", "old")
    if old != "file":
        (folder / "a").unlink()
    if old == "folder":
        (folder / "a").mkdir()
        (folder / "a" / "file").write_text("old")
    if old == "link":
        (folder / "a").symlink_to("/etc/hostname")
    source = os.path.join(scratch(services, "a"), "a")
    if new == "folder":
        os.unlink(source)
        os.mkdir(source)
    publish(services, None if new == "url" else source, "a", 3, "http://x/" if new == "url" else "")
    assert services.get("a").cost == 3
    assert (services.get("a").path is None) == (new == "url")
    assert services.buried() == ["a"]
    services.withdraw("a")
    assert services.all() == {} and os.listdir(folder) == []
    services.restore("a")
    assert services.get("a").cost == 3, "the graveyard keeps the last one of a name"
    assert services.buried() == []


def test_the_replaced_one_comes_back_whole(services, folder):
    drop(folder, "a", "weight=7\n", "old")
    publish(services, os.path.join(scratch(services, "a", "new"), "a"), "a", 3)
    (folder / "a").unlink()
    (folder / "a.bdcert").unlink()
    services.restore("a")
    assert services.get("a").cost == 7 and (folder / "a").read_text() == "old"


def test_a_file_that_is_replaced_is_offered_all_the_while(services, folder, monkeypatch):
    drop(folder, "a", "weight=7\n", "old")
    seen = []
    for name in ("link", "rename", "replace", "unlink", "fsync"):
        real = getattr(os, name)

        def watched(*arguments, real=real, **keywords):
            result = real(*arguments, **keywords)
            seen.append(read_service(str(folder), "a"))  # raises when there is none
            return result

        monkeypatch.setattr(os, name, watched)
    publish(services, os.path.join(scratch(services, "a"), "a"), "a", 3)
    assert {each.cost for each in seen} == {7.0, 3.0}


def test_nobody_ever_sees_a_bdcert_without_its_file(services, folder):
    """A reader looks all the time, while files are published, published anew and withdrawn."""
    is_over, looks, wrong = threading.Event(), set(), []

    def look():
        while not is_over.is_set():
            names = set(os.listdir(folder))
            looks.add(len(names))
            if "a.bdcert" in names and "a" not in names:
                wrong.append(names)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(60):
        publish(services, os.path.join(scratch(services, "a"), "a"), "a", 1)
        publish(services, os.path.join(scratch(services, "a"), "a"), "a", 2)
        services.withdraw("a")
    is_over.set()
    reader.join()
    assert wrong == [] and len(looks) > 1


def test_a_withdrawn_service_leaves_nothing_of_an_older_one_in_its_grave(services, folder):
    drop(folder, "a", content="old")
    services.withdraw("a")
    publish(services, None, "a", 1, "http://x/")
    services.withdraw("a")
    services.restore("a")
    assert services.get("a").path is None and os.listdir(folder) == ["a.bdcert"]


@pytest.mark.usefixtures("soon")
def test_a_withdrawal_that_is_killed_half_way_can_be_restored(services, folder, monkeypatch):
    drop(folder, "a", content="text")
    real_rename = os.rename

    def killed(source, target):
        if not source.endswith(".bdcert"):
            raise KeyboardInterrupt
        real_rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        services.withdraw("a")
    monkeypatch.undo()
    assert services.all() == {} and services.buried() == ["a"]
    services.restore("a")
    assert services.get("a") is not None and (folder / "a").read_text() == "text"


def test_a_withdrawal_that_is_killed_half_way_goes_on_when_another_one_is_published(services, folder, monkeypatch):
    drop(folder, "a", "weight=7\n", "old")
    real_rename = os.rename

    def killed(source, target):
        if not source.endswith(".bdcert"):
            raise KeyboardInterrupt
        real_rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            services.withdraw("a")
    publish(services, os.path.join(scratch(services, "a"), "a"), "a", 3)
    (folder / "a").unlink()
    (folder / "a.bdcert").unlink()
    services.restore("a")
    assert services.get("a").cost == 7 and (folder / "a").read_text() == "old"


def test_what_was_never_offered_does_not_take_the_place_of_a_whole_service_in_the_graveyard(services, folder, tmp_path):
    drop(folder, "a", "weight=7\n", "old")
    services.withdraw("a")
    for text in ("stray", "another"):
        drop(folder, "a", None, text)
        publish(services, os.path.join(scratch(services, "a"), "a"), "a", 3)
        (folder / "a.bdcert").unlink()
        (folder / "a").unlink()
        assert (tmp_path / "graveyard" / ".a.unoffered").read_text() == text
    services.restore("a")
    assert services.get("a").cost == 7 and (folder / "a").read_text() == "old"


def test_other_things_in_the_graveyard_are_not_listed(services, tmp_path):
    assert services.buried() == []
    (tmp_path / "graveyard").mkdir()
    for name in ("a", "a.bdcert", "b", ".incoming", "bad name.bdcert"):
        (tmp_path / "graveyard" / name).write_text("")
    assert services.buried() == ["a"]


def test_at_every_instant_of_an_installation_there_is_all_or_nothing(services, folder, monkeypatch):
    """Killed at the n-th system call, the service is there whole, or not offered; and a second try succeeds."""
    for call in range(1, 40):
        count = 0
        real = {name: getattr(os, name) for name in ("rename", "replace", "fsync", "link", "open", "unlink")}

        def killed_at(name, *arguments, **keywords):
            nonlocal count
            count += 1
            if count == call:  # noqa: B023
                raise KeyboardInterrupt
            return real[name](*arguments, **keywords)  # noqa: B023

        path = scratch(services, "a")
        with monkeypatch.context() as patched:
            for name in real:
                patched.setattr(os, name, lambda *args, name=name, **kw: killed_at(name, *args, **kw))
            with contextlib.suppress(KeyboardInterrupt):
                install(services, path, "a", NOW)
        was_killed = count >= call
        offered = Services(services.services_dir, services.graveyard_dir, services.scratch_dir).get("a")
        if offered is not None:
            assert (folder / "a").read_text() == "new" and offered.cost == 2
        shutil.rmtree(path, ignore_errors=True)
        install(services, scratch(services, "a"), "a", NOW)
        assert services.get("a") is not None
        services.withdraw("a")
        if not was_killed:
            assert call > 5
            return
    pytest.fail("an installation of forty system calls?")


def test_changes_of_many_processes_come_one_after_the_other(services, folder):
    """Four processes publish, install and withdraw the same few names; whatever the order, each is whole or away."""

    def change(number):
        for each in range(15):
            name = f"s{each % 3}"
            path = os.path.join(services.scratch_dir, f"{number}.{each}")
            os.makedirs(os.path.join(path, name))
            with open(os.path.join(path, name, "text"), "w") as file:
                file.write("x")
            with open(os.path.join(path, f"{name}.bdcert"), "w") as file:
                file.write("weight=1\n")
            if each % 2:
                publish(services, os.path.join(path, name), name, 1)
            else:
                install(services, path, name, NOW)
            with contextlib.suppress(CantFind):
                services.withdraw(name)

    children = [FORK.Process(target=change, args=(number,)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    assert os.listdir(folder) == [] and all(".old." in each for each in left_in_scratch(services))
    assert services.buried() == ["s0", "s1", "s2"]
    for name in services.buried():
        services.restore(name)
        assert (folder / name / "text").read_text() == "x"


def test_who_can_not_have_the_lock_in_time_is_told(services, monkeypatch):
    monkeypatch.setattr(module, "CHANGE_SECONDS", 0.05)
    publish(services, None, "a", 1, "http://x/")
    with open(os.path.join(services.scratch_dir, ".lock")) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TooBusy, match=r"\.lock: its lock was not to be had in 0.05 s"):
            services.withdraw("a")
    services.withdraw("a")


def test_remains_of_killed_changes_are_swept_after_an_hour_and_nothing_else(services, folder):
    publish(services, None, "a", 1, "http://x/")
    graveyard = os.path.dirname(services.scratch_dir)
    remains = [
        os.path.join(services.scratch_dir, "b.abc"),
        str(folder / ".b.moving.12"),
        os.path.join(graveyard, ".b.moving.1"),
    ]
    remains += [str(folder / ".b.bdcert.new.123"), os.path.join(services.scratch_dir, "b.lock")]
    others = [str(folder / ".htaccess"), str(folder / ".b.moving.x"), os.path.join(graveyard, "old"), str(folder / "b")]
    for path in remains + others:
        os.makedirs(os.path.join(path, "sub")) if path.endswith((".abc", ".12")) else open(path, "w").close()
    publish(services, None, "a", 2, "http://x/")
    assert all(map(os.path.exists, remains + others))
    for path in remains + others:
        os.utime(path, (NOW, NOW))
    publish(services, None, "a", 3, "http://x/")
    assert [path for path in remains if os.path.exists(path)] == []
    assert [path for path in others if not os.path.exists(path)] == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_between_two_file_systems_a_service_is_copied_beside_and_renamed(services, folder, monkeypatch, kind):
    source = os.path.join(scratch(services, "a"), "a")
    if kind == "folder":
        os.unlink(source)
        os.makedirs(os.path.join(source, "sub"))
        os.symlink("/etc/passwd", os.path.join(source, "sub", "link"))
    os.chmod(source, 0o750)
    real_rename, targets = os.rename, []

    def across(one, other):
        targets.append(other)
        if os.path.dirname(one) != os.path.dirname(other):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real_rename(one, other)

    monkeypatch.setattr(os, "rename", across)
    publish(services, source, "a", 1)
    assert services.get("a") is not None and os.stat(folder / "a").st_mode & 0o777 == 0o750
    assert (kind == "file") or os.path.islink(folder / "a" / "sub" / "link")
    services.withdraw("a")
    services.restore("a")
    assert sorted(os.listdir(folder)) == ["a", "a.bdcert"]
    assert left_in_scratch(services) == []


@pytest.mark.parametrize("at", ["fsync", "rename", "copy"])
def test_a_full_disk_is_told_and_nothing_half_is_live(services, folder, monkeypatch, at):
    def full(*arguments, **keywords):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def other_disk(*arguments):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    source = os.path.join(scratch(services, "a"), "a")
    monkeypatch.setattr(os, "rename" if at == "copy" else at, other_disk if at == "copy" else full)
    if at == "copy":
        monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(NoSpace, match="No space left on device"):
        publish(services, source, "a", 1)
    monkeypatch.undo()
    assert services.all() == {}
    assert [name for name in os.listdir(folder) if name != "a"] == []
    assert left_in_scratch(services) == []


def test_a_pipe_in_the_place_of_a_file_of_ours_keeps_nobody_waiting(services, folder):
    os.makedirs(services.scratch_dir)
    os.mkfifo(os.path.join(services.graveyard_dir, ".edited"))
    drop(folder, "a")
    services.look()
    assert list(services.all()) == ["a"]
    os.mkfifo(os.path.join(services.scratch_dir, ".lock"))
    with pytest.raises(OSError, match="not a regular file"):
        services.withdraw("a")


def test_what_was_never_offered_is_no_reason_to_keep_a_second_name(services, folder):
    drop(folder, "Echo", cert=None)
    (folder / "Echo.bdcert").symlink_to("/etc/passwd")
    assert not services._moves._is_linked_to_graveyard("Echo")
