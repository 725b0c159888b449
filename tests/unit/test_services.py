"""The services directory: what is live, what is broken, how it changes, how it is."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
import threading
import time

import pytest

from bdserver.errors import BadPackage, BadService, CantFind, NoSpace, TooBusy
from bdserver.files import bdcert, moves
from bdserver.files import services as module
from bdserver.files.bdcert import Service, read_service
from bdserver.files.services import RETIRED_MAX, Services
from tests.unit.changes import install, publish

NOW = 1_700_000_000.0
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def folder(tmp_path):
    """The services directory itself, to drop files into."""
    path = tmp_path / "services"
    path.mkdir()
    return path


@pytest.fixture
def services(tmp_path, folder):
    return Services(str(folder), str(tmp_path / "graveyard"), str(tmp_path / "graveyard" / ".incoming"))


def drop(folder, name, cert="weight=1\ntype=static\n", content="#!/bin/sh\n"):
    """As a person would: the service first, the .bdcert last."""
    if content is not None:
        (folder / name).write_text(content)
    if cert is not None:
        (folder / f"{name}.bdcert").write_text(cert)


def scratch(services, name, content="new", cert="weight=2\ntype=static\n"):
    """An unpacked package; the path of its folder."""
    path = os.path.join(services.scratch_dir, f"{name}.xyz")
    os.makedirs(path)
    for each, text in ((name, content), (f"{name}.bdcert", cert)):
        with open(os.path.join(path, each), "w") as file:
            file.write(text)
    return path


def left_in_scratch(services):
    return sorted(set(os.listdir(services.scratch_dir)) - {".lock"})


# --- looking ------------------------------------------------------------------------------------------------------


def test_what_is_dropped_in_is_live_at_once_and_what_is_taken_out_is_not(services, folder):
    assert services.all() == {}
    for number in range(50):
        drop(folder, f"s{number}")
        assert services.get(f"s{number}").path == str(folder / f"s{number}")
    for number in range(50):
        (folder / f"s{number}.bdcert").unlink()
        assert services.get(f"s{number}") is None
    assert services.complaints == []


def test_a_bdcert_that_is_edited_in_place_counts_at_once_however_fast(services, folder):
    for weight in list(range(1, 10)) * 20:
        drop(folder, "a", f"weight={weight}\n")
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


def test_a_service_without_a_bdcert_is_not_offered(services, folder):
    (folder / "a").write_text("a")
    assert services.all() == {} and services.complaints == []


def test_every_value_of_a_bdcert_is_taken_and_what_we_do_not_know_is_kept(services, folder):
    drop(
        folder,
        "a",
        "# c\nWeight=2.5\nTYPE=DYNAMIC\nurl=http://{host}/a?b=c\nhealth=HTTP\narrived_at=12.5\nrack=Don = B\nx=\n",
    )
    assert services.get("a") == Service(
        "a", "dynamic", 2.5, "http://{host}/a?b=c", "http", str(folder / "a"), 12.5, (("rack", "Don = B"), ("x", ""))
    )


def test_the_defaults_of_a_bdcert(services, folder):
    drop(folder, "a", "")
    assert services.get("a") == Service("a", "static", 1.0, "", "none", str(folder / "a"), 0.0, ())


def test_a_service_without_a_file_is_registered_by_its_url(services, folder):
    drop(folder, "a", "url=http://elsewhere/", None)
    assert services.get("a").path is None


@pytest.mark.parametrize(
    ("cert", "complaint"),
    [
        ("weight=x", "a.bdcert:1: weight must be a number from 0 to 1e+09"),
        ("\nweight=-1", "a.bdcert:2: weight must be a number from 0 to 1e+09"),
        ("weight=nan", "a.bdcert:1: weight must be a number from 0 to 1e+09"),
        ("weight=1000000001", "a.bdcert:1: weight must be a number from 0 to 1e+09"),
        ("weight=", "a.bdcert:1: weight must be a number from 0 to 1e+09"),
        ("type=other", "a.bdcert:1: type must be static or dynamic"),
        ("health=icmp", "a.bdcert:1: health must be none or tcp or http"),
        ("arrived_at=-1", "a.bdcert:1: arrived_at must be a number of seconds"),
        ("url=http://a b/", f"a.bdcert:1: url must be {bdcert.URL_WORDS}"),
        ("weight=1\nweight=2", "a.bdcert:2: weight was set in line 1 already"),
        ("MHcCAQEEIGtleQ==\nMHcCAQEEIGtleQ==", "a.bdcert:2: a key was set in line 1 already"),
        ("weight 1\n\0\n", "a.bdcert:1: not KEY=VALUE|a.bdcert:2: a NUL byte"),
    ],
)
def test_a_broken_bdcert_is_said_with_its_line_and_takes_out_no_other(services, folder, cert, complaint):
    drop(folder, "a", cert)
    drop(folder, "b")
    assert list(services.all()) == ["b"]
    assert [line.removeprefix(f"{folder}/") for line in services.complaints] == complaint.split("|")
    drop(folder, "a")
    assert list(services.all()) == ["a", "b"]
    assert services.complaints == []


@pytest.mark.parametrize("weight", ["0", "1e9", "0.001"])
def test_the_lightest_and_the_heaviest_service(services, folder, weight):
    drop(folder, "a", f"weight={weight}")
    assert services.get("a").cost == float(weight)


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


SECRET = (
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIGtleWtleWtleWtleWtleQ==\nroot:$6$salt$hash:19000:0:99999:7:::\nweight=hunter2\n"
)


@pytest.mark.parametrize("kind", ["link", "link within", "text"])
def test_no_complaint_quotes_what_stands_in_a_bdcert(services, folder, tmp_path, kind):
    secret = tmp_path / "key" if kind == "link" else folder / "key"
    secret.write_text(SECRET)
    (folder / "x.bdcert").write_text(SECRET) if kind == "text" else (folder / "x.bdcert").symlink_to(secret)
    drop(folder, "x", content="y", cert=None) if kind == "text" else (folder / "x").write_text("y")
    assert services.all() == {} and services.complaints
    said = "\n".join(services.complaints)
    assert all(word not in said for word in ("BEGIN", "MHcC", "mhcc", "hunter2", "hash", "root:"))
    assert (f"{folder}/x.bdcert: a symbolic link, not a regular file" in said) == (kind != "text")


def test_a_bdcert_that_is_a_link_is_not_copied_to_the_graveyard(services, folder, tmp_path):
    (tmp_path / "key").write_text(SECRET)
    drop(folder, "a", cert=None)
    (folder / "a.bdcert").symlink_to(tmp_path / "key")
    publish(services, os.path.join(scratch(services, "a"), "a"), "a", 1)
    assert (tmp_path / "graveyard" / "a.bdcert").is_symlink() and services.get("a").cost == 1
    assert (tmp_path / "key").read_text() == SECRET


@pytest.mark.parametrize("by", ["file", "url"])
def test_a_folder_with_a_bdcerts_name_is_published_over(services, folder, by):
    (folder / "a.bdcert").mkdir()
    source = os.path.join(scratch(services, "a"), "a") if by == "file" else None
    publish(services, source, "a", 1, "http://x/")
    assert services.get("a").is_here == (by == "file") and services.complaints == []


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


URLS_OK = [
    *(
        "http://h/x",
        "https://h:65535/",
        "http://[::1]:80/x",
        "http://{host}:{axis_port}/{axis_web_dir}/{service}?wsdl",
        "ftp://h/",
    ),
    "http://h/" + "x" * 1991,
]
URLS_BAD = [
    *(
        "http://[x/",
        "http://h:99999/x",
        "http://h:0/",
        "http://h:x/",
        "http:///x",
        "//h/x",
        "h/x",
        "wiki.example.org",
        "mailto:x",
    ),
    *("http://h/ x", "http://h/\x7f", "http://h/" + "x" * 1992, "http://[x]/", "http://a\u2100b/"),
]


@pytest.mark.parametrize("url", URLS_OK + URLS_BAD)
def test_a_url_that_nobody_can_take_apart_is_refused_where_it_comes_in(services, folder, url):
    drop(folder, "a", f"url={url}\n", None)
    if url in URLS_OK:
        assert services.get("a").url == url and not services.get("a").is_here
        publish(services, None, "b", 1, url)
        assert services.get("b").url == url
    else:
        assert services.all() == {} and services.complaints == [f"{folder}/a.bdcert:1: url must be {bdcert.URL_WORDS}"]
        with pytest.raises(BadService, match="its url must be a URL as http://host:port/path"):
            publish(services, None, "b", 1, url)


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


def test_weights_survive_a_round_trip_to_the_last_digit(services):
    for weight in (0.1 + 0.2, 1e-7, 123456789.123, 1e9, 0, 3):
        publish(services, None, "a", weight, "http://x/")
        assert services.get("a").cost == weight


def test_a_url_is_published_and_published_anew(services, folder):
    publish(services, None, "a", 1, "http://one/")
    publish(services, None, "a", 1, "http://two/", "http")
    assert services.get("a")[4:6] == ("http", None) and services.get("a").url == "http://two/"
    assert os.listdir(folder) == ["a.bdcert"] and services.buried() == []


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


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((None, "../a", 1, "http://x/"), "is no service's name"),
        ((None, "a.bdcert", 1, "http://x/"), "is no service's name"),
        ((None, "a", -1, "http://x/"), "a weight is 0 to"),
        ((None, "a", float("nan"), "http://x/"), "a weight is 0 to"),
        ((None, "a", 1, "http://x/\nweight=0"), "its url must be"),
        ((None, "a", 1, "http://x/ y"), "its url must be"),
        ((None, "a", 1, "http://h:99999/x"), "its url must be"),
        ((None, "a", 1, "wiki.example.org"), "its url must be"),
        ((None, "a", 1, "http://x/", "icmp"), "health is one of none, tcp, http, not 'icmp'"),
        ((None, "a", 1), "neither a file nor a url"),
        (("/none/a", "a", 1), "no such file or folder"),
    ],
)
def test_what_can_not_be_published_is_refused_in_one_line(services, folder, arguments, reason):
    with pytest.raises(BadService, match=reason) as caught:
        publish(services, *arguments)
    assert "\n" not in str(caught.value)
    assert os.listdir(folder) == []


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


def test_a_withdrawn_service_leaves_nothing_of_an_older_one_in_its_grave(services, folder):
    drop(folder, "a", content="old")
    services.withdraw("a")
    publish(services, None, "a", 1, "http://x/")
    services.withdraw("a")
    services.restore("a")
    assert services.get("a").path is None and os.listdir(folder) == ["a.bdcert"]


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


# --- the graveyard ------------------------------------------------------------------------------------------------


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


def test_other_things_in_the_graveyard_are_not_listed(services, tmp_path):
    assert services.buried() == []
    (tmp_path / "graveyard").mkdir()
    for name in ("a", "a.bdcert", "b", ".incoming", "bad name.bdcert"):
        (tmp_path / "graveyard" / name).write_text("")
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
    drop(folder, "a", "weight=1\n")
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


# --- several processes --------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(moves, "CHANGE_SECONDS", 0.05)
    publish(services, None, "a", 1, "http://x/")
    with open(os.path.join(services.scratch_dir, ".lock")) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TooBusy, match=r"\.lock: its lock was not to be had in 0.05 s"):
            services.withdraw("a")
    services.withdraw("a")


# --- trouble ------------------------------------------------------------------------------------------------------


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


def test_a_copy_to_another_file_system_is_synced_whole_and_links_with_their_folder(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(moves.durable, "sync", synced.append)
    folder = tmp_path / "Site"
    folder.mkdir()
    (folder / "page").write_text("hello")
    (folder / "link").symlink_to("page")
    moves._sync_all(str(folder))
    moves._sync_all(str(folder / "link"))
    assert synced == [str(folder), str(folder / "page")]


def test_what_was_never_offered_is_no_reason_to_keep_a_second_name(services, folder):
    drop(folder, "Echo", cert=None)
    (folder / "Echo.bdcert").symlink_to("/etc/passwd")
    assert not services._moves._is_linked_to_graveyard("Echo")
