"""Packages on their way: packed once for all who ask at once, so many at once, and nothing left of them."""

import contextlib
import fcntl
import hashlib
import os
import signal
import threading

import pytest

from bdserver import errors
from bdserver.core.messages import No, Package
from bdserver.files import package
from bdserver.files.parcels import OF_ONE_CALLER_MAX, UNDER_WAY_MAX, Parcels
from bdserver.processes.answers import answer
from tests.unit.nodes import a_node, acquaint

LIMITS = 1 << 20, 100


@pytest.fixture
def parcels(tmp_path):
    return Parcels(str(tmp_path / ".outgoing"))


@pytest.fixture
def packed_names(monkeypatch):
    """The services that were packed, in order."""
    names, pack = [], package.pack

    def noted(service, *rest):
        names.append(service.name)
        return pack(service, *rest)

    monkeypatch.setattr(package, "pack", noted)
    return names


def lying(parcels):
    """Names of the packages that lie ready."""
    return [name for name in os.listdir(parcels.folder) if not name.startswith(".")]


def content(parcel):
    with parcel.opened() as file:
        data = file.read()
    assert parcel.described == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return data


# --- packed once --------------------------------------------------------------------------------------------------


def test_those_who_ask_at_once_share_one_file_and_the_last_removes_it(tmp_path, parcels, packed_names):
    service = a_node(tmp_path).offer("Echo", b"x" * 10_000, is_seen=False).services.get("Echo")
    given = [parcels.packed(service, *LIMITS, 1.0) for _ in range(40)]
    assert packed_names == ["Echo"] and len(lying(parcels)) == 1
    assert len({content(parcel) for parcel in given}) == 1
    for parcel in given[1:]:
        parcel.close()
    assert len(lying(parcels)) == 1 and content(given[0])
    given[0].close()
    assert lying(parcels) == []


def test_who_still_reads_is_not_disturbed_by_the_removal(tmp_path, parcels):
    service = a_node(tmp_path).offer("Echo").services.get("Echo")
    parcel = parcels.packed(service, *LIMITS, 1.0)
    with parcel.opened() as file:
        parcel.close()
        assert lying(parcels) == [] and hashlib.sha256(file.read()).hexdigest() == parcel.described["sha256"]


@pytest.mark.parametrize("change", ["content", "cost", "a file more"])
def test_a_service_that_has_changed_is_packed_anew(tmp_path, parcels, packed_names, change):
    node = a_node(tmp_path)
    folder = os.path.join(node.settings.services_dir, "Folder")
    os.makedirs(folder)
    with open(os.path.join(folder, "a"), "w") as file:
        file.write("a")
    before = node.offer("Folder", None, is_seen=False).services.get("Folder")
    first = parcels.packed(before, *LIMITS, 1.0)
    if change != "cost":
        with open(os.path.join(folder, "a" if change == "content" else "b"), "w") as file:
            file.write("another one")
    after = before._replace(cost=7.0) if change == "cost" else before
    second = parcels.packed(after, *LIMITS, 1.0)
    assert packed_names == ["Folder"] * 2 and content(first) != content(second)


def test_one_packs_and_the_others_wait_for_as_long_as_they_may(tmp_path, parcels, monkeypatch):
    service, pack = a_node(tmp_path).offer("Echo").services.get("Echo"), package.pack
    has_begun, may_go_on, given = threading.Event(), threading.Event(), []

    def slowly(*arguments):
        has_begun.set()
        assert may_go_on.wait(10)
        return pack(*arguments)

    monkeypatch.setattr(package, "pack", slowly)
    first = threading.Thread(target=lambda: given.append(parcels.packed(service, *LIMITS, 10.0)))
    first.start()
    assert has_begun.wait(10)
    with pytest.raises(errors.TooBusy, match=r"\.packing"):
        parcels.packed(service, *LIMITS, 0.05)
    may_go_on.set()
    first.join(10)
    assert content(given[0]) == content(parcels.packed(service, *LIMITS, 1.0))


def test_what_is_larger_than_we_copy_is_not_packed_and_leaves_nothing(tmp_path, parcels):
    service = a_node(tmp_path).offer("Echo", b"x" * 10_000, is_seen=False).services.get("Echo")
    with pytest.raises(errors.TooLarge):
        parcels.packed(service, 5_000, 100, 1.0)
    assert lying(parcels) == []


def test_what_killed_processes_left_is_removed_by_the_next_that_packs(tmp_path, parcels):
    node = a_node(tmp_path).offer("Echo").offer("Other")
    in_use = parcels.packed(node.services.get("Other"), *LIMITS, 1.0)
    parcel = parcels.packed(node.services.get("Echo"), *LIMITS, 1.0)
    [of_echo] = [name for name in lying(parcels) if name.startswith("Echo")]
    parcel.close()
    for name in ("Echo.0123", "Echo.4567.new", of_echo):
        with open(os.path.join(parcels.folder, name), "wb") as file:
            file.write(b"half a package")
    parcel = parcels.packed(node.services.get("Echo"), *LIMITS, 1.0)
    assert sorted(lying(parcels))[0] == of_echo and len(lying(parcels)) == 2 and content(parcel) and content(in_use)


def test_a_package_that_is_removed_while_it_is_asked_for_is_given_whole(tmp_path, parcels):
    """Those who let it go do not wait for those who pack."""
    service = a_node(tmp_path).offer("Echo").services.get("Echo")
    is_over = threading.Event()

    def come_and_go():
        while not is_over.is_set():
            parcels.packed(service, *LIMITS, 10.0).close()

    others = [threading.Thread(target=come_and_go) for _ in range(3)]
    for other in others:
        other.start()
    try:
        for _ in range(300):
            parcel = parcels.packed(service, *LIMITS, 10.0)
            assert content(parcel)
            parcel.close()
    finally:
        is_over.set()
        for other in others:
            other.join(10)


# --- places -------------------------------------------------------------------------------------------------------


def test_what_else_lies_in_the_folder_keeps_nobody_from_giving_packages(tmp_path, parcels):
    node = a_node(tmp_path).offer("Echo")
    os.makedirs(f"{parcels.folder}/lost+found")
    os.mkfifo(f"{parcels.folder}/pipe")
    os.symlink("/dev/zero", f"{parcels.folder}/link")
    os.mkdir(f"{parcels.folder}/.place.0")
    os.mkfifo(f"{parcels.folder}/.place.1")
    assert content(parcels.packed(node.services.get("Echo"), *LIMITS, 1.0))
    assert {"lost+found", "pipe", "link"} < set(lying(parcels))
    taken = [parcels.place(f"n{number}") for number in range(UNDER_WAY_MAX - 2)]
    with pytest.raises(errors.TooBusy, match="come later"):
        parcels.place("another")
    taken.pop().close()
    parcels.place("another").close()


def test_so_many_are_under_way_and_a_place_that_is_left_is_free(parcels):
    taken = [parcels.place(f"n{number}") for number in range(UNDER_WAY_MAX)]
    with pytest.raises(errors.TooBusy, match="come later"):
        parcels.place("another")
    taken[3].close()
    parcels.place("another").close()


def test_one_caller_leaves_places_to_the_others(parcels):
    taken = [parcels.place("greedy") for _ in range(OF_ONE_CALLER_MAX)]
    with pytest.raises(errors.TooBusy, match="2 for greedy"):
        parcels.place("greedy")
    with parcels.place("greed"):
        taken.pop().close()
        parcels.place("greedy").close()


def test_the_place_of_a_process_that_is_killed_is_free(parcels):
    ready, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            places = [parcels.place("greedy") for _ in range(OF_ONE_CALLER_MAX)]
            os.write(write, b"!")
            while places:
                signal.pause()
        os._exit(1)
    assert os.read(ready, 1) == b"!"
    with pytest.raises(errors.TooBusy):
        parcels.place("greedy")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    parcels.place("greedy").close()
    os.close(ready), os.close(write)


def test_a_place_whose_lock_is_held_by_who_looks_is_no_reason_to_say_no(parcels):
    parcels.place("first").close()
    with open(os.path.join(parcels.folder, ".places"), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        looks = threading.Thread(target=lambda: parcels.place("second").close())
        looks.start()
    looks.join(10)
    assert not looks.is_alive()


# --- a node -------------------------------------------------------------------------------------------------------


def test_forty_callers_that_do_not_read_hold_one_file_and_most_are_told_to_come_later(tmp_path):
    node = a_node(tmp_path).offer("Echo", b"x" * 100_000)
    said = []
    with contextlib.ExitStack() as sessions:
        for number in range(40):
            session = sessions.enter_context(node.call_me(name=f"n{number}")).session
            try:
                said.append(answer(session, ["GIVESERVICE", "Echo"]))
            except errors.TooBusy as error:
                said.append(error)
        sizes = [os.path.getsize(os.path.join(node.parcels.folder, name)) for name in os.listdir(node.parcels.folder)]
        assert sum(isinstance(each, Package) for each in said) == UNDER_WAY_MAX and sum(sizes) < 110_000
        for each in said[:UNDER_WAY_MAX]:
            each.file.close()
    assert lying(node.parcels) == [] and isinstance(node.ask("GIVESERVICE", "Echo"), Package)


def test_what_is_relayed_takes_a_place_too(tmp_path):
    node, holder = a_node(tmp_path), a_node(tmp_path, "holder").offer("Echo")
    acquaint(node, holder)
    plan = {"self": ["holder"]}, ["holder"], ["GIVESERVICE", "Echo"]
    with contextlib.ExitStack() as places:
        for number in range(UNDER_WAY_MAX):
            places.enter_context(node.parcels.place(f"n{number}"))
        assert node.ask("MASSMESSAGE", *plan) == No() and node.scratch == []
    assert node.ask("MASSMESSAGE", *plan).giver == "holder"
