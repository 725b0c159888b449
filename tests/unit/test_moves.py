"""How a service comes, is exchanged and goes, by renames alone: over one file system, over two, and when nothing can be done."""

import errno
import os

import pytest

from bdserver.core.membership import DYNAMIC, STATIC
from bdserver.errors import BadPackage
from bdserver.files import durable
from bdserver.files import moves as module
from bdserver.files.bdcert import SUFFIX, Service, read_service
from bdserver.files.moves import Moves


@pytest.fixture
def moves(tmp_path):
    for name in ("services", "graveyard", "scratch"):
        (tmp_path / name).mkdir()
    return Moves(*(str(tmp_path / name) for name in ("services", "graveyard", "scratch")))


def a_service(moves, folder, text="new", type_=STATIC, name="Site"):
    """A folder with one page, and what its .bdcert is to say."""
    path = os.path.join(folder, name)
    os.makedirs(path)
    with open(os.path.join(path, "page"), "w") as file:
        file.write(text)
    return Service(name, type_, 1.0, "", "none", path, 0.0, ())


def put(moves, text="new", type_=STATIC):
    moves.put(a_service(moves, os.path.join(moves.scratch_dir, text), text, type_))


def page(folder, name="Site"):
    with open(os.path.join(folder, name, "page")) as file:
        return file.read()


def refuse_across(monkeypatch, call, of, number=errno.EXDEV):
    """`call` as between two file systems, wherever `of` tells that these two paths lie on two."""
    real = getattr(*call)

    def across(one, other, *rest, **keywords):
        if of(one, other):
            raise OSError(number, os.strerror(number))
        return real(one, other, *rest, **keywords)

    monkeypatch.setattr(*call, across)


def in_two_folders(one, other):
    return os.path.dirname(one) != os.path.dirname(other)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.ENOSYS])
def test_a_folder_that_can_t_change_places_with_the_graveyard_is_buried_first(moves, monkeypatch, number):
    put(moves, "old")
    refuse_across(monkeypatch, (durable, "exchange"), in_two_folders, number)
    put(moves, "new")
    assert page(moves.services_dir) == "new" and page(moves.graveyard_dir) == "old"
    assert [sorted(os.listdir(each)) for each in (moves.services_dir, moves.graveyard_dir)] == [["Site", "Site.bdcert"]] * 2


def test_a_disk_that_fails_while_two_folders_change_places_is_told(moves, monkeypatch):
    put(moves, "old")
    refuse_across(monkeypatch, (durable, "exchange"), in_two_folders, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        put(moves, "new")
    assert page(moves.services_dir) == "old"


def test_a_file_whose_graveyard_is_on_another_file_system_is_buried_and_replaced(moves, monkeypatch):
    for text in ("old", "new"):
        path = os.path.join(moves.scratch_dir, "Echo")
        with open(path, "w") as file:
            file.write(text)
        if text == "new":
            refuse_across(monkeypatch, (os, "link"), in_two_folders)
            refuse_across(monkeypatch, (os, "rename"), in_two_folders)
        moves.put(Service("Echo", STATIC, 1.0, "", "none", path, 0.0, ()))
    for folder, text in ((moves.services_dir, "new"), (moves.graveyard_dir, "old")):
        with open(os.path.join(folder, "Echo")) as file:
            assert file.read() == text
        assert read_service(folder, "Echo").name == "Echo"


@pytest.mark.parametrize("is_across", [False, True])
def test_a_new_edition_of_a_copy_takes_its_place_and_the_old_one_waits_in_scratch(moves, monkeypatch, is_across):
    put(moves, "old", DYNAMIC)
    fresh = a_service(moves, os.path.join(moves.scratch_dir, "fresh"), "new", DYNAMIC)
    if is_across:  # scratch lies on another file system than the services
        refuse_across(monkeypatch, (durable, "exchange"), in_two_folders)
    moves.renew(fresh)
    assert page(moves.services_dir) == "new" and sorted(os.listdir(moves.services_dir)) == ["Site", "Site.bdcert"]
    [old] = [name for name in os.listdir(moves.scratch_dir) if name.startswith(".Site.old.")]
    assert page(moves.scratch_dir, old) == "old"


def test_a_disk_that_fails_while_a_copy_is_renewed_leaves_the_old_edition(moves, monkeypatch):
    put(moves, "old", DYNAMIC)
    fresh = a_service(moves, os.path.join(moves.scratch_dir, "fresh"), "new", DYNAMIC)
    refuse_across(monkeypatch, (durable, "exchange"), in_two_folders, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        moves.renew(fresh)
    assert page(moves.services_dir) == "old"


def test_an_edition_of_nothing_renews_nothing(moves):
    put(moves, "old", DYNAMIC)
    with pytest.raises(BadPackage, match="Site: a package without a service"):
        moves.renew(Service("Site", DYNAMIC, 1.0, "http://x/", "none", None, 0.0, ()))
    assert page(moves.services_dir) == "old" and os.path.exists(os.path.join(moves.services_dir, "Site" + SUFFIX))


def test_a_change_makes_scratch_and_waits_for_no_folder_that_is_not_there(tmp_path):
    moves = Moves(*(str(tmp_path / name) for name in ("services", "graveyard", "scratch")))
    with moves.changing():
        assert os.listdir(moves.scratch_dir) == [".lock"]
    assert sorted(os.listdir(tmp_path)) == ["scratch"]


def test_what_the_system_refuses_in_a_change_is_passed_on(moves):
    with pytest.raises(PermissionError), moves.changing():
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_copy_to_another_file_system_is_synced_whole_and_links_with_their_folder(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(durable, "sync", synced.append)
    folder = tmp_path / "Site"
    folder.mkdir()
    (folder / "page").write_text("hello")
    (folder / "link").symlink_to("page")
    module._sync_all(str(folder))
    module._sync_all(str(folder / "link"))
    assert synced == [str(folder), str(folder / "page")]
