"""The services directory: what is live, what is not, which changes may be made. How each is made is test_service_moves'."""

import contextlib
import errno
import os
import time

import pytest

from bdserver.errors import BadPackage, BadService, CantFind, TooBusy
from bdserver.files import durable
from bdserver.files import services as module
from bdserver.files.bdcert import Service
from bdserver.files.durable import Stamp
from bdserver.files.services import RETIRED_MAX, Services
from tests.unit import changes
from tests.unit.changes import drop, install, left_in_scratch, publish, scratch

NOW = 1_700_000_000.0

folder, services, soon = changes.folder, changes.services, changes.soon


# --- looking ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("soon")
def test_what_is_dropped_in_is_live_at_once_and_what_is_taken_out_is_not(services, folder):
    assert services.all() == {}
    for number in range(50):
        drop(folder, f"s{number}")
        assert services.get(f"s{number}").path == str(folder / f"s{number}")
    for number in range(50):
        (folder / f"s{number}.bdcert").unlink()
        assert services.get(f"s{number}") is None
    assert services.complaints == []


@pytest.mark.usefixtures("soon")
def test_a_bdcert_that_is_edited_in_place_counts_at_once_however_fast(services, folder):
    for weight in list(range(1, 10)) * 20:
        drop(folder, "a", f"weight={weight}\n")
        services.look()
        assert services.get("a").cost == weight


def test_a_folder_is_a_service_like_a_file(services, folder):
    (folder / "site").mkdir()
    drop(folder, "site", content=None)
    assert services.get("site").path == str(folder / "site")


def test_nothing_is_read_again_while_nothing_changes(services, folder, monkeypatch):
    monkeypatch.setattr(module, "SETTLED_NS", 0)
    drop(folder, "a")
    drop(folder, "b", "weight=x")
    first, said = services.all(), list(services.complaints)
    monkeypatch.setattr(module, "read_service", None)
    assert services.all() is first and services.complaints == said != []


@pytest.mark.usefixtures("soon")
def test_what_may_change_within_the_same_tick_is_the_same_answer_as_long_as_it_does_not(services, folder, monkeypatch):
    monkeypatch.setattr(module, "SETTLED_NS", 3_600_000_000_000)
    monkeypatch.setattr(module, "SETTLED_NS_COARSE", 3_600_000_000_000)
    drop(folder, "a")
    first = services.all()
    assert all(services.all() is first for _ in range(3)), "each is a look at the files, and finds nothing new"
    drop(folder, "a", "weight=7\n")
    services.look()
    assert services.all() is not first and services.get("a").cost == 7


def test_a_service_without_a_bdcert_is_not_offered(services, folder):
    (folder / "a").write_text("a")
    assert services.all() == {} and services.complaints == []


def test_whatever_lies_in_the_directory_harms_nobody(services, folder):
    os.mkfifo(folder / "pipe.bdcert")
    drop(folder, "pipe2")
    (folder / "pipe2").unlink()
    os.mkfifo(folder / "pipe2")
    (folder / "link.bdcert").symlink_to("nowhere")
    (folder / "loop.bdcert").symlink_to("loop.bdcert")
    (folder / "folder.bdcert").mkdir()
    (folder / "binary.bdcert").write_bytes(b"\xff\0" * 99)
    (folder / "bad name.bdcert").write_text("")
    (folder / "big.bdcert").write_text("#" * 2_000_000)
    (folder / ".hidden.bdcert").write_text("weight=x")
    (folder / "gone.bdcert").write_text("weight=1")
    (folder / "dead").symlink_to("nowhere")
    (folder / "dead.bdcert").write_text("weight=1")
    drop(folder, "well")
    assert list(services.all()) == ["well"]
    about = {line.removeprefix(f"{folder}/").split(":")[0].removesuffix(".bdcert") for line in services.complaints}
    assert about == {"pipe", "pipe2", "link", "loop", "folder", "binary", "bad name", "big", "gone", "dead"}
    assert all("\n" not in line for line in services.complaints)


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"caf\xe9.bdcert", "caf\\xe9.bdcert"), (b"a\nb.bdcert", "a\\nb.bdcert"), (b"\x1b[2J.bdcert", "\\x1b[2J.bdcert")],
)
def test_a_file_with_any_name_is_complained_of_on_one_line_that_can_be_encoded(services, folder, name, shown):
    with open(os.path.join(os.fsencode(folder), name), "w"):
        pass
    assert services.all() == {}
    assert services.complaints == [f"{folder}/{shown}: this is no service's name: 1 to 100 letters, digits and ._-"]
    assert services.complaints[0].encode()


def test_a_file_that_comes_after_its_bdcert_makes_it_whole(services, folder):
    drop(folder, "a", content=None)
    assert services.get("a") is None and len(services.complaints) == 1
    (folder / "a").write_text("late")
    assert services.get("a") is not None and services.complaints == []


def test_a_directory_that_can_not_be_read_is_said_and_found_again(services, folder):
    drop(folder, "a")
    folder.rename(folder.parent / "away")
    assert services.all() == {} and services.complaints == [f"{folder}: No such file or directory"]
    (folder.parent / "away").rename(folder)
    assert list(services.all()) == ["a"] and services.complaints == []


def test_a_directory_with_more_services_than_anybody_has_is_said(services, folder, monkeypatch):
    monkeypatch.setattr(module, "SERVICES_MAX", 3)
    for name in "abc":
        drop(folder, name)
    assert list(services.all()) == ["a", "b", "c"] and services.complaints == []
    drop(folder, "d")
    assert list(services.all()) == ["a", "b", "c"]
    assert services.complaints == [f"{folder}: of 4 services only the first 3 by name are offered"]


def test_of_a_folder_that_is_too_large_the_first_are_looked_at_and_no_more(services, folder, monkeypatch):
    monkeypatch.setattr(module, "SERVICES_MAX", 3)
    for number in range(30):
        drop(folder, f"s{number:02}")
    looked_at, stamp = [], module._stamp
    monkeypatch.setattr(module, "_stamp", lambda entry: looked_at.append(entry.name) or stamp(entry))
    assert list(services.all()) == ["s00", "s01", "s02"] and len(looked_at) == 3


def test_a_service_more_than_a_node_offers_is_refused_and_takes_nobodys_place(services, folder, monkeypatch):
    monkeypatch.setattr(module, "SERVICES_MAX", 2)
    publish(services, None, "m", 1.0, "http://h/m")
    publish(services, None, "n", 1.0, "http://h/n")
    services.withdraw("n")
    publish(services, None, "o", 1.0, "http://h/o")
    for change in (lambda: publish(services, None, "a", 1.0, "http://h/a"), lambda: services.restore("n")):
        with pytest.raises(BadService, match="2 services at most"):
            change()
    with pytest.raises(BadService, match="2 services at most"):
        install(services, scratch(services, "b"), "b", 1.0)
    publish(services, None, "m", 2.0, "http://h/m")
    assert list(services.all()) == ["m", "o"] and services.get("m").cost == 2.0


def settled(services):
    """Look until nothing can change any more within the same tick."""
    deadline = time.monotonic() + 10
    while services._seen is None and time.monotonic() < deadline:
        services.all()
    assert services._seen is not None, "it never settled"


@pytest.mark.usefixtures("soon")
def test_a_request_looks_at_no_folder_and_one_process_finds_what_was_edited_in_place(services, folder, monkeypatch):
    drop(folder, "a", "weight=1\n")
    drop(folder, "b")
    child = Services(services.services_dir, services.graveyard_dir, services.scratch_dir)
    services.look()
    settled(child)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_looks", lambda folder: pytest.fail("it looked"))
        with open(folder / "a.bdcert", "w") as file:  # in place: the folder's time does not change
            file.write("weight=2\n")
        assert child.get("a").cost == 1
    services.look()
    assert services.get("a").cost == child.get("a").cost == 2


# --- publishing and withdrawing -----------------------------------------------------------------------------------


def test_a_url_is_published_and_published_anew(services, folder):
    publish(services, None, "a", 1, "http://one/")
    publish(services, None, "a", 1, "http://two/", "http")
    assert services.get("a")[4:6] == ("http", None) and services.get("a").url == "http://two/"
    assert os.listdir(folder) == ["a.bdcert"] and services.buried() == []


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_neither_pipes_nor_links_are_published_and_their_scratch_folder_is_gone(services, kind):
    source = os.path.join(scratch(services, "a"), "a")
    os.unlink(source)
    os.mkfifo(source) if kind == "pipe" else os.symlink("/etc/passwd", source)
    with pytest.raises(BadService):
        publish(services, source, "a", 1)
    assert not os.path.exists(source) and services.all() == {}


def test_withdrawing_what_is_not_offered_is_said(services, folder):
    (folder / "stray").write_text("no .bdcert")
    for name in ("a", "stray", "../services", ""):
        with pytest.raises(CantFind, match="not offered here"):
            services.withdraw(name)
    assert os.listdir(folder) == ["stray"]


# --- the graveyard ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("soon")
def test_what_is_not_in_the_graveyard_or_here_already_is_not_restored(services, folder, tmp_path):
    for name in ("a", "../services/a", ""):
        with pytest.raises(CantFind, match="not in the graveyard"):
            services.restore(name)
    drop(folder, "a", content="first")
    services.withdraw("a")
    drop(folder, "a", content="second")
    with pytest.raises(BadService, match="withdraw it first"):
        services.restore("a")
    (folder / "a.bdcert").unlink()
    with pytest.raises(BadService, match="services/a is in the way, and is not offered: remove it first"):
        services.restore("a")
    assert (folder / "a").read_text() == "second"
    assert services.buried() == ["a"]


def test_only_replicas_are_retired(services, folder):
    drop(folder, "mine")
    drop(folder, "copy", "type=dynamic\n")
    with pytest.raises(BadService, match="static"):
        services.retire("mine")
    services.retire("copy")
    services.retire("copy")  # somebody else made room first
    assert list(services.all()) == ["mine"] and services.buried() == ["copy"]


def test_of_retired_replicas_the_newest_are_kept_and_all_that_was_withdrawn(services, folder, monkeypatch):
    assert RETIRED_MAX == 100
    monkeypatch.setattr(module, "RETIRED_MAX", 2)
    drop(folder, "mine")
    services.withdraw("mine")
    for name in ("c1", "b2", "a3", "d4"):
        drop(folder, name, "type=dynamic\n")
        services.retire(name)
    assert services.buried() == ["a3", "d4", "mine"]
    assert not os.path.exists(os.path.join(services.graveyard_dir, "c1"))


def test_a_bdcert_is_written_anew_when_it_says_something_else(services, folder):
    publish(services, None, "a", 1.0, "http://h/")
    before = os.stat(folder / "a.bdcert")
    assert services.relabel("a", lambda service: service).cost == 1 and os.stat(folder / "a.bdcert") == before
    assert services.relabel("a", lambda service: service._replace(cost=2.0)).cost == 2
    assert Services(str(folder), services.graveyard_dir, services.scratch_dir).get("a").cost == 2


def test_what_is_gone_is_not_written_anew(services, folder):
    assert services.relabel("a", lambda service: service) is None and os.listdir(folder) == []


def test_a_bdcert_that_goes_while_the_folder_is_looked_at_is_not_offered(services, folder, monkeypatch):
    drop(folder, "a")
    drop(folder, "b")
    real = os.scandir

    @contextlib.contextmanager
    def goes(path):
        with real(path) as entries:
            listed = list(entries)
        (folder / "a.bdcert").unlink(missing_ok=True)
        yield listed

    monkeypatch.setattr(os, "scandir", goes)
    assert list(services.all()) == ["b"]


@pytest.mark.usefixtures("soon")
def test_a_bdcert_that_goes_after_the_folder_was_listed_is_looked_for_again(services, folder, monkeypatch):
    drop(folder, "a")
    services.look()
    monkeypatch.setattr(module, "SETTLED_NS", 0)
    real, called = os.lstat, []

    def lstat(path, **keywords):
        if str(path).endswith("a.bdcert") and not called:
            called.append(path)
            os.unlink(path)
        return real(path, **keywords)

    assert list(services.all()) == ["a"]
    monkeypatch.setattr(os, "lstat", lstat)
    services.look()
    assert called and services.all() == {}


# --- replicas -----------------------------------------------------------------------------------------------------


def test_an_installed_package_is_a_replica_that_arrived_now(services, folder):
    path = scratch(services, "a", "text", "weight=4\ntype=static\nhealth=tcp\narrived_at=5\nrack=x\n")
    install(services, path, "a", NOW)
    assert services.get("a") == Service("a", "dynamic", 4.0, "", "tcp", str(folder / "a"), NOW, (("rack", "x"),))
    assert left_in_scratch(services) == []


def test_what_is_here_already_stays_as_it_is(services, folder):
    drop(folder, "a", "weight=9\n", "mine")
    install(services, scratch(services, "a"), "a", NOW)
    assert services.get("a").type == "static" and (folder / "a").read_text() == "mine"
    assert left_in_scratch(services) == [] and services.buried() == []


def test_a_package_with_a_broken_bdcert_is_refused_and_gone(services, folder):
    for cert in ("weight=x\n", "\0\n\0\n", "type=other\n"):
        with pytest.raises(BadPackage, match=r"a\.bdcert:1: ") as caught:
            install(services, scratch(services, "a", cert=cert), "a", NOW)
        assert "\n" not in str(caught.value)
        assert left_in_scratch(services) == [] and os.listdir(folder) == []


@pytest.mark.parametrize("name", ["WEB-INF", "web-inf", "Meta-Inf"])
def test_a_web_applications_own_folder_is_neither_replaced_by_a_package_nor_published(services, folder, name):
    (folder / name).mkdir()
    (folder / name / "web.xml").write_text("mine")
    with pytest.raises(BadPackage, match="servlet container's own folder"):
        install(services, scratch(services, name), name, NOW)
    with pytest.raises(BadService, match="servlet container's own folder"):
        publish(services, scratch(services, name) + f"/{name}", name, 1.0)
    assert (folder / name / "web.xml").read_text() == "mine"
    assert left_in_scratch(services) == [] and services.buried() == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE])
@pytest.mark.usefixtures("soon")
def test_what_can_not_be_read_at_the_moment_is_offered_as_it_was_and_said(folder, services, monkeypatch, number):
    """A host short of descriptors must not tell the mesh that it has nothing."""
    drop(folder, "a")
    assert list(services.all()) == ["a"]
    refused, whole = f"{folder}/a.bdcert", os.open

    def opens(path, *arguments, **named):
        if path == refused:
            raise OSError(number, os.strerror(number), path)
        return whole(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opens)
        drop(folder, "b", "weight=3\n")
        with open(refused, "w") as file:
            file.write("weight=5\n")
        services.look()
        assert services.all()["a"].cost == 1 and services.all()["b"].cost == 3
        assert services.complaints == [f"{refused}: {os.strerror(number)}"]
    assert services.all()["a"].cost == 5 and services.complaints == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_a_folder_that_can_not_be_looked_at_is_not_empty(folder, services, monkeypatch, number):
    drop(folder, "a")
    assert list(services.all()) == ["a"]

    def refuses(path):
        raise OSError(number, os.strerror(number), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuses)
        drop(folder, "b")
        assert list(services.all()) == ["a"] and services.complaints == [f"{folder}: {os.strerror(number)}"]
    assert list(services.all()) == ["a", "b"] and services.complaints == []


# --- written in place ---------------------------------------------------------------------------------------------

WHOLE = "weight=3\ncopies=none\nreplicas=0\nurl=http://{host}/a\n"


@pytest.fixture
def rested(services, folder, monkeypatch):
    """A service whose .bdcert has been as it is for long: a rest takes a twentieth of a second here."""
    monkeypatch.setattr(durable, "REST_NS", 50_000_000)
    drop(folder, "a", WHOLE)
    services.all()
    rest(folder / "a.bdcert")
    return services.get("a")


def rest(path):
    """Wait until this file, or folder, has rested, by the clock of the file system too, which ticks less often."""
    while time.time_ns() - os.stat(path).st_ctime_ns <= durable.REST_NS + 20_000_000:
        time.sleep(0.001)


def write(file, data):
    """In place, and not whole before it is closed."""
    file.write(data)
    file.flush()


@pytest.mark.parametrize("at", range(len(WHOLE)))
def test_a_bdcert_that_is_cut_anywhere_for_a_moment_says_what_it_said_before(services, folder, rested, monkeypatch, at):
    monkeypatch.setattr(durable, "REST_NS", 10**12)  # no machine is too slow for that
    os.utime(folder / "a.bdcert")
    services._read["a"] = services._read["a"]._replace(is_whole=True)
    with open(folder / "a.bdcert", "w") as file:
        write(file, WHOLE[:at])
        services.look()
        assert services.get("a") == rested and services.complaints == []
        write(file, WHOLE[at:])
    services.look()
    assert services.get("a") == rested


def test_what_is_written_in_place_counts_when_it_has_rested_in_each_process(services, folder, rested, monkeypatch):
    child = Services(services.services_dir, services.graveyard_dir, services.scratch_dir)
    assert child.get("a") == rested
    for text, cost in (("weight=4\n", 4), ("weight=5\n", 5)):
        with monkeypatch.context() as patch:
            patch.setattr(durable, "REST_NS", 10**12)
            services._read["a"] = services._read["a"]._replace(is_whole=True)
            child._read["a"] = child._read["a"]._replace(is_whole=True)
            (folder / "a.bdcert").write_text(text)
            services.look()
            assert services.get("a").cost == child.get("a").cost == cost - 1
        rest(folder / "a.bdcert")
        services._again_at = child._again_at = 0.0
        assert services.get("a").cost == child.get("a").cost == cost
        rest(folder / "a.bdcert")


@pytest.mark.usefixtures("soon")
def test_what_has_just_come_counts_at_once_and_so_does_each_change_before_it_has_rested(services, folder):
    (folder / "a").write_text("a")
    for text, cost in (("", 1), ("weigh", None), ("weight=1", 1), ("weight=15\n", 15)):
        (folder / "a.bdcert").write_text(text)
        services.look()
        assert (services.get("a").cost if services.get("a") else None) == cost


def test_a_bdcert_that_a_node_has_written_counts_at_once(services, folder, rested):
    services.relabel("a", lambda service: service._replace(cost=7.0))
    assert services.get("a").cost == 7
    content = (folder / "a.bdcert").read_bytes()
    (folder / "a.bdcert").write_bytes(content.replace(b"7", b"8"))  # whose last line is that of before
    services.look()
    assert services.get("a").cost == 7
    (folder / "a.bdcert").write_bytes(content)
    services.look()
    assert services.get("a").cost == 7 and not services._restless


def test_what_somebody_is_writing_is_not_written_over(services, folder, rested):
    with open(folder / "a.bdcert", "w") as file:
        for _ in range(2):  # known to be under way, or not yet
            with pytest.raises(TooBusy, match=r"a\.bdcert: is being changed by hand"):
                services.relabel("a", lambda service: service._replace(cost=7.0))
            services.look()
        write(file, "weight=9\n")
    rest(folder / "a.bdcert")
    services._again_at = 0.0
    services.look()
    assert services.relabel("a", lambda service: service._replace(replicas=2)).cost == 9
    assert "weight=9" in (folder / "a.bdcert").read_text()


def test_a_bdcert_that_is_away_for_a_moment_takes_no_service_and_one_that_is_removed_does(
    services, folder, rested, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(durable, "REST_NS", 10**12)
        services._read["a"] = services._read["a"]._replace(is_whole=True)
        (folder / "a.bdcert").rename(folder / "a.bdcert~")  # as editors and git do
        assert services.get("a") == rested
        (folder / "a.bdcert").write_text(WHOLE)
        assert services.get("a") == rested
        (folder / "a.bdcert").unlink()
        assert services.get("a") == rested
    rest(folder)
    services._again_at = 0.0
    assert services.get("a") is None and not services._restless
    assert services.complaints == []


def test_what_is_withdrawn_is_so_at_once_though_it_had_rested(services, folder, rested):
    services.withdraw("a")
    assert services.get("a") is None
    services.restore("a")
    rest(folder / "a.bdcert")
    assert services.get("a") is not None
    (folder / "a").unlink()
    assert services.get("a").path is None  # it has a url left


@pytest.mark.parametrize("text", ["weig", "weight=heavy\n", "\0", "weight=1\nweight=2\n"])
def test_a_bdcert_that_is_broken_for_good_is_said_and_what_it_said_before_counts(services, folder, rested, text):
    for again in ("", " "):
        (folder / "a.bdcert").write_text(text + again)
        rest(folder / "a.bdcert")
        services._again_at = 0.0
        services.look()
        assert services.get("a") == rested and "a.bdcert:" in services.complaints[0]
        with pytest.raises(TooBusy):
            services.relabel("a", lambda service: service._replace(cost=7.0))
    (folder / "a.bdcert").write_text("weight=9\n")
    rest(folder / "a.bdcert")
    services._again_at = 0.0
    services.look()
    assert services.get("a").cost == 9 and services.complaints == []
    (folder / "a.bdcert").write_text(text)
    rest(folder / "a.bdcert")
    (folder / "a").unlink()
    services.look()
    assert services.get("a") is None, "its file is gone"


def test_no_copy_takes_the_place_of_what_lies_here_with_a_bdcert_that_is_broken(services, folder):
    drop(folder, "a", "weigh", content="mine")
    with pytest.raises(BadPackage, match=r"a\.bdcert: is in the way"):
        install(services, scratch(services, "a"), "a", 1.0)
    assert (folder / "a").read_text() == "mine" and left_in_scratch(services) == []


def test_what_comes_back_from_the_graveyard_is_whole_whoever_wrote_it(services, folder, rested):
    services.withdraw("a")
    services.restore("a")
    assert services.get("a") == rested
    assert services.relabel("a", lambda service: service._replace(cost=7.0)).cost == 7


def test_a_bdcert_that_was_emptied_for_good_changes_nothing_and_is_said(services, folder, rested):
    """As by a disk that was full when it was written; and nothing is written over whoever goes on after a while."""
    with open(folder / "a.bdcert", "w") as file:
        for _ in range(3):
            rest(folder / "a.bdcert")
            services.look()
            assert services.get("a") == rested
            with pytest.raises(TooBusy):
                services.relabel("a", lambda service: service._replace(cost=7.0))
        services._restless["a"] -= module.RESTLESS_SECONDS
        services._again_at = 0.0
        services.look()
        assert services.complaints == [module.RESTLESS % (folder / "a.bdcert")]
        write(file, "weight=9\n")
    rest(folder / "a.bdcert")
    services.look()
    services._again_at = 0.0
    assert services.get("a").cost == 9 and services.complaints == []


def test_a_bdcert_that_never_rests_is_said_and_what_it_said_before_counts(services, folder, rested, monkeypatch):
    monkeypatch.setattr(durable, "REST_NS", 10**12)
    services._read["a"] = services._read["a"]._replace(is_whole=True)
    (folder / "a.bdcert").write_text("weight=4\n")
    services.look()
    assert services.complaints == []
    services._restless["a"] -= module.RESTLESS_SECONDS
    services._again_at = 0.0
    services.look()
    assert services.get("a") == rested and services.complaints == [module.RESTLESS % (folder / "a.bdcert")]


def test_on_a_clock_of_whole_seconds_what_is_read_is_read_again_until_the_second_is_over(monkeypatch):
    now = 10**9 * 1_700_000_000
    monkeypatch.setattr(durable.time, "time_ns", lambda: now + 400_000_000)
    coarse, fine = (Stamp(1, 2, 3, at, at) for at in (now, now + 1))
    assert not module._is_settled(coarse) and module._is_settled(fine)
    monkeypatch.setattr(durable.time, "time_ns", lambda: now + 1_000_000_001)
    assert module._is_settled(coarse)
