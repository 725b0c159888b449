"""The cache file: saved change by change, read without a lock, merged under one, and never the end of a node."""

import errno
import json
import logging
import multiprocessing
import os
import random
import threading
from itertools import pairwise
from zlib import crc32

import pytest

from bdserver.core.membership import Record, Service, from_json
from bdserver.core.view import View
from bdserver.errors import BadRequest, NoSpace, TooBusy
from bdserver.files import cache as module
from bdserver.files import durable
from bdserver.files.cache import Cache, decode, encode
from tests.unit.seals import sealed

NOW = 1_700_000_000.0


def a_cache(tmp_path):
    cache = Cache(str(tmp_path / "me.bdcache"), "me")
    with cache.locked() as view:
        view.start(Record("me", "10.0.0.9:1", (0, 0)), NOW)
    return cache


def test_what_is_saved_is_read_by_another_process_of_the_node(tmp_path):
    cache = a_cache(tmp_path)
    with cache.locked() as view:
        view.merge(
            Record("a", "10.0.0.1:1", (1, 2), services={"Echo": Service("static", 1.5, "", True)}, extra={"rack": 7}), NOW
        )
        view.hint("10.0.0.5:1")
        view.learn_policy("ab", "<Policy/>")
    other = Cache(cache.path, "me").view()
    assert other.records == cache.view().records and other.hints == {"10.0.0.5:1"} and other.policies == {"ab": "<Policy/>"}
    assert other.generation == cache.view().generation and other.heard_at == cache.view().heard_at


def test_our_own_record_is_signed_before_it_is_saved_each_version_once(tmp_path):
    signed = []

    def seal(record):
        signed.append(record.version)
        return sealed(record)

    cache = Cache(str(tmp_path / "me.bdcache"), "me", seal)
    with cache.locked() as view:
        view.start(Record("me", "10.0.0.9:1", (0, 0)), NOW)
        view.describe(view.own._replace(load=3), NOW)
        view.learn_certificate("ab", "text")
    assert signed == [cache.view().own.version] and cache.view().own.said
    with cache.locked() as view:
        view.hint("10.0.0.5:1")
    other = Cache(cache.path, "me", seal)
    assert other.view().records == cache.view().records and other.view().certificates == {"ab": "text"}
    with other.locked() as view:
        view.merge(view.own._replace(status="dead"), NOW)
    assert signed == [(view.generation, view.own.version[1] - 1), view.own.version] and cache.view().own == sealed(view.own)
    with other.locked() as view:
        view.expire(NOW)
    assert cache.view().certificates == {}


def test_what_could_not_be_signed_is_not_saved(tmp_path):
    def seal(record):
        raise BadRequest("nobody could read it")

    cache = a_cache(tmp_path)
    before, cache.seal = cache.view(), seal
    with pytest.raises(BadRequest), cache.locked() as view:
        view.describe(view.own._replace(load=3), NOW)
    assert cache.view() is before
    cache.seal = sealed
    with cache.locked(0.5) as view:
        assert view.own == before.own


def test_the_view_is_decoded_anew_only_when_the_file_changed(tmp_path):
    cache = a_cache(tmp_path)
    assert cache.view() is cache.view()
    with Cache(cache.path, "me").locked() as view:
        view.hint("10.0.0.5:1")
    assert cache.view().hints == {"10.0.0.5:1"}


def test_nothing_is_written_when_nothing_changed(tmp_path):
    cache = a_cache(tmp_path)
    before = os.stat(cache.path).st_ino, os.path.getsize(cache.path)
    with cache.locked():
        pass
    assert (os.stat(cache.path).st_ino, os.path.getsize(cache.path)) == before


def test_a_view_that_is_being_changed_is_nobody_elses(tmp_path):
    cache = a_cache(tmp_path)
    seen = cache.view()
    with cache.locked() as view:
        view.hint("10.0.0.5:1")
        assert not seen.hints and cache.view() is seen
    assert not seen.hints and cache.view().hints


def test_a_failure_inside_saves_nothing_and_frees_the_lock(tmp_path):
    cache = a_cache(tmp_path)

    def fail():
        with cache.locked() as view:
            view.hint("10.0.0.5:1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not cache.view().hints
    with cache.locked(0.5) as view:
        assert not view.hints


def test_who_waits_for_the_lock_has_it_when_it_is_let_go(tmp_path):
    cache = Cache(str(tmp_path / "me.bdcache"), "me")
    held, done = threading.Event(), threading.Event()

    def hold():
        with Cache(cache.path, "me").locked():
            held.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    threading.Timer(0.05, done.set).start()
    with cache.locked(10) as view:
        assert done.is_set() and view.records == {}
    holder.join()


def test_a_lock_file_that_is_removed_before_it_is_locked_guards_nothing(tmp_path, monkeypatch):
    cache, lock = Cache(str(tmp_path / "me.bdcache"), "me"), durable.lock

    def removed(descriptor, seconds, path):
        os.unlink(path)
        lock(descriptor, seconds, path)

    monkeypatch.setattr(durable, "lock", removed)
    with cache.locked(1):
        monkeypatch.undo()
        with pytest.raises(TooBusy), Cache(cache.path, "me").locked(0.01):
            pass


def test_who_waits_too_long_for_the_lock_is_told(tmp_path):
    cache = a_cache(tmp_path)
    with (
        cache.locked(),
        pytest.raises(TooBusy, match=r"me\.bdcache\.lock was not to be had"),
        Cache(cache.path, "me").locked(0.05),
    ):
        pass


def test_two_saves_never_look_the_same(tmp_path):
    cache, stamps = a_cache(tmp_path), set()
    for number in range(200):  # the same size each time, and the kernel's clock stands still between many of them
        with cache.locked() as view:
            view.hint("10.1.0.5:1") if number % 2 else view.unhint("10.1.0.5:1")
            view.changes += 1
        stamps.add(durable.stamp(cache.path))
    assert len(stamps) == 200


def _hint_many(path, worker):
    cache = Cache(path, "me")
    for number in range(40):
        with cache.locked(60) as view:
            view.hint(f"10.1.{worker}.{number}:1")


def test_processes_that_merge_at_once_lose_nothing(tmp_path):
    cache = a_cache(tmp_path)
    workers = [multiprocessing.Process(target=_hint_many, args=(cache.path, worker)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert len(cache.view().hints) == 160
    assert sorted(os.listdir(tmp_path)) == ["me.bdcache", "me.bdcache.lock"]


def test_threads_of_one_process_share_its_cache(tmp_path):
    cache, failures = a_cache(tmp_path), []

    def work(worker):
        try:
            for number in range(60):
                assert "me" in cache.view().records
                if worker < 2:
                    with cache.locked(60) as view:
                        view.hint(f"10.1.{worker}.{number}:1")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures and len(cache.view().hints) == 120 == len(hints_of(cache.path))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"{",
        b"[]",
        b"null",
        b'{"format": 3, "generation": 1}',
        b'{"format": 2}',
        b'{"format": 1}',
        b"\xff",
        b'{"format": 1, "records": 5}',
    ],
)
def test_what_cannot_be_read_is_set_aside_and_the_node_starts_anew(tmp_path, data, caplog):
    path = tmp_path / "me.bdcache"
    path.write_bytes(data)
    view = Cache(str(path), "me").view()
    assert view.records == {} and not path.exists()
    assert (tmp_path / "me.bdcache.corrupt").read_bytes() == data
    assert "set aside" in caplog.text


def test_any_cut_of_a_view_is_noticed(tmp_path):
    cache = a_cache(tmp_path)
    data = open(cache.path, "rb").read().removesuffix(b"\n")
    for end in range(len(data)):
        with pytest.raises(ValueError):
            decode(data[:end], "me")


def hints_of(path):
    return Cache(str(path), "me").view().hints


def test_of_a_file_cut_in_a_change_all_whole_lines_count_and_the_next_save_goes_on_behind_them(tmp_path):
    cache = a_cache(tmp_path)
    lengths = []
    for number in range(3):
        with cache.locked() as view:
            view.hint(f"10.0.0.{number}:1")
        lengths.append(os.path.getsize(cache.path))
    data = open(cache.path, "rb").read()
    for end in range(lengths[0], lengths[2]):
        path = tmp_path / "cut.bdcache"
        path.write_bytes(data[:end])
        whole = sum(length <= end for length in lengths)
        assert hints_of(path) == {f"10.0.0.{number}:1" for number in range(whole)}
        with Cache(str(path), "me").locked() as view:
            view.hint("10.0.0.8:1")
        assert hints_of(path) == {f"10.0.0.{number}:1" for number in range(whole)} | {"10.0.0.8:1"}


@pytest.mark.parametrize("at", [0, 600, 1500])
def test_a_last_line_that_a_power_cut_took_a_part_of_is_as_half_a_line(tmp_path, at, caplog):
    """A write of several blocks: the last one is on the disk, with the line's end, another one is not."""
    cache = a_cache(tmp_path)
    before, size = cache.view(), os.path.getsize(cache.path)
    with cache.locked() as view:
        view.hint("x" * 2000)
    with open(cache.path, "r+b") as file:
        file.seek(size + at)
        file.write(bytes(512))
    view = Cache(cache.path, "me").view()
    assert view.records == before.records and view.generation == before.generation and view.hints == before.hints
    with Cache(cache.path, "me").locked() as view:
        view.hint("10.0.0.7:1")
    assert "ended in half a line" in caplog.text and "set aside" not in caplog.text
    assert hints_of(cache.path) == {*before.hints, "10.0.0.7:1"}


def test_a_change_that_is_none_sets_the_file_aside_and_what_stands_before_it_counts(tmp_path, caplog):
    path = a_cache(tmp_path).path
    before = Cache(path, "me").view()
    with open(path, "ab") as file:
        file.write(b"\0" * 20 + b"\n\n")
    after = Cache(path, "me").view()
    assert after.records == before.records and after.generation == before.generation
    assert "set aside" in caplog.text and "the lines before it count" in caplog.text
    assert Cache(path, "me").view().records == before.records, "it is on disk again"
    assert sorted(os.listdir(tmp_path)) == ["me.bdcache", "me.bdcache.corrupt", "me.bdcache.lock"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"format":2,"generation":7,"records":[{"name":"me","address":"10.0.0.1:1","version":[5,2]}],"hints":[]}\n',
        module._line(1, {"format": 3, "generation": 7}),
    ],
)
def test_a_file_of_an_older_format_is_set_aside(tmp_path, data, caplog):
    path = tmp_path / "me.bdcache"
    path.write_bytes(data)
    assert Cache(str(path), "me").view().records == {} and "set aside" in caplog.text


def first_line(path):
    """The object in the first line, its checksum checked."""
    checksum, _, text = open(path, "rb").readline().rstrip(b"\n").partition(b" ")
    assert int(checksum, 16) == crc32(text)
    return json.loads(text)


def test_a_change_costs_a_line_and_the_file_does_not_grow_for_ever(tmp_path):
    cache, reader = a_cache(tmp_path), Cache(str(tmp_path / "me.bdcache"), "me")
    with cache.locked() as view:
        for number in range(200):
            view.merge(Record(f"n{number}", f"10.0.0.1:{number + 1}", (5, 1)), NOW)
    sizes = []
    for number in range(2000):
        with cache.locked() as view:
            view.merge(Record("n7", "10.0.0.1:7", (6, number)), NOW + number)
        sizes.append(os.path.getsize(cache.path))
        if number % 7 == 0:  # a reader that looks now and then, across files written anew
            assert reader.view().records["n7"].version == (6, number)
    assert min(b - a for a, b in pairwise(sizes)) < 0, "it was never written anew"
    assert sum(b < a for a, b in pairwise(sizes)) < 10, "it is written anew too often"
    assert max(sizes) < 2 * len(encode(cache.view())) + (64 << 10)
    assert Cache(cache.path, "me").view().records == cache.view().records


def test_what_lines_change_is_what_was_changed(tmp_path):
    """Random changes by two processes' caches in turn: a third that reads along, and one that reads at the end, agree."""
    seed = int.from_bytes(os.urandom(4), "big")
    rng = random.Random(seed)
    one, two, along = a_cache(tmp_path), Cache(str(tmp_path / "me.bdcache"), "me"), Cache(str(tmp_path / "me.bdcache"), "me")

    def same(a, b):
        fields = ("records", "hints", "policies", "heard_at", "rival", "generation")
        return all(getattr(a, field) == getattr(b, field) for field in fields) and a.digest() == b.digest()

    for number in range(300):
        cache = rng.choice((one, two))
        with cache.locked() as view:
            name = f"n{rng.randrange(20)}"
            services = {f"S{rng.randrange(5)}": Service("static", 1.0, "", True) for _ in range(rng.randrange(3))}
            rng.choice(
                (
                    lambda view=view, name=name, services=services, number=number: view.merge(
                        Record(name, f"10.0.0.1:{number + 1}", (5, number), services=services, policy=f"p{number % 9}"),
                        NOW + number,
                    ),
                    lambda view=view, name=name: view.forget(name),
                    lambda view=view, number=number: view.hint(f"10.1.0.1:{number + 1}"),
                    lambda view=view: view.hints and view.unhint(sorted(view.hints)[0]),
                    lambda view=view, number=number: view.learn_policy(f"p{number % 9}", f"<Policy {number}/>"),
                    lambda view=view, number=number: view.expire(NOW + number),
                    lambda view=view, number=number: view.merge(Record("me", "10.7.7.7:1", (2**31, number)), NOW + 20 * number),
                )
            )()
        if rng.random() < 0.3:
            assert same(along.view(), cache.view()), f"seed {seed}, step {number}"
        view = cache.view()
        for service in ("S0", "S1", "S2", "S3", "S4"):
            wanted = {record.name for record in view.records.values() if service in record.services and record.is_there}
            assert {record.name for record in view.holders(service)} == wanted, f"seed {seed}, step {number}"
    assert same(Cache(one.path, "me").view(), along.view()), f"seed {seed}"


def test_a_disk_that_takes_nothing_leaves_memory_right(tmp_path, monkeypatch, caplog):
    cache = a_cache(tmp_path)
    real = os.fsync, os.fdatasync

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(os, "fdatasync", full)
    for number in range(3):
        with cache.locked() as view:
            view.hint(f"10.0.0.{number}:1")
    assert len(cache.view().hints) == 3
    assert caplog.text.count("can't be saved") == 1  # said once
    monkeypatch.setattr(os, "fsync", real[0])
    monkeypatch.setattr(os, "fdatasync", real[1])
    with cache.locked() as view:
        view.hint("10.0.0.9:2")
    assert "is saved again" in caplog.text
    assert len(Cache(cache.path, "me").view().hints) == 4
    assert not [name for name in os.listdir(tmp_path) if ".new." in name]


def test_the_first_line_tells_its_format_and_our_own_record_before_the_others():
    view = View("me")
    for name in ("a", "me", "b"):
        view.put(Record(name, "10.0.0.1:1", (1, 1)))
    content = json.loads(encode(view, 7)[9:])
    assert (content["format"], content["save"]) == (4, 7)
    assert [from_json(each).name for each in content["records"]] == ["me", "a", "b"]


# --- a checksum a line --------------------------------------------------------------------------------------------


def a_file_of_many_lines(tmp_path):
    cache = a_cache(tmp_path)
    for number in range(3):
        with cache.locked() as view:
            view.merge(Record(f"n{number}", f"10.0.0.{number}:1", (5, number)), NOW)
    return open(cache.path, "rb").read()


def test_no_flip_of_a_bit_is_taken_in_without_a_word(tmp_path, caplog, monkeypatch):
    """The file says what it said, or less: what stands before the line. That is said at once, or of the last line, which a
    power cut may have left so, by the next save."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor: None)
    data = a_file_of_many_lines(tmp_path)
    path = tmp_path / "flipped.bdcache"
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 7
        path.write_bytes(flipped)
        caplog.clear()
        assert len(Cache(str(path), "me").view().records) == data.count(b"\n", 0, at), at
        if "set aside" not in caplog.text:
            assert at >= data.rindex(b"\n", 0, -1)
            with Cache(str(path), "me").locked() as fresh:
                fresh.hint("10.0.7.7:1")
            assert "ended in half a line" in caplog.text


def test_a_line_that_is_missing_doubled_or_out_of_turn_is_noticed(tmp_path, caplog):
    lines = a_file_of_many_lines(tmp_path).splitlines(keepends=True)
    path = tmp_path / "other.bdcache"
    for order, good in (((0, 2, 3), 1), ((0, 1, 1, 2), 2), ((0, 2, 1), 1), ((1, 2, 3), 0), ((0, 1, 2, 3, 0, 1), 4)):
        path.unlink(missing_ok=True)
        path.write_bytes(b"".join(lines[each] for each in order))
        assert len(Cache(str(path), "me").view().records) == good, order
    assert caplog.text.count("set aside") == 5


# --- what a running node knew it does not lose --------------------------------------------------------------------

LOSSES = {
    "removed": os.unlink,
    "cut to nothing": lambda path: os.truncate(path, 0),
    "cut in the first line": lambda path: os.truncate(path, 30),
    "cut behind the first line": lambda path: os.truncate(path, open(path, "rb").read().index(b"\n") + 1),
    "cut in a line": lambda path: os.truncate(path, os.path.getsize(path) - 5),
    "full of NULs": lambda path: open(path, "r+b").write(b"\0" * os.path.getsize(path)),
    "garbage": lambda path: open(path, "wb").write(b"garbage\n" * 9),
    "garbage behind": lambda path: open(path, "ab").write(b"garbage\n" * 2),
    "without us": lambda path: open(path, "wb").write(encode(View("other", 1), 99)),
    "an older copy": lambda path: os.replace(path + ".copy", path),
    "of a newer format": lambda path: open(path, "wb").write(b"12345678 4 whatever\n"),
    "of a newer format, checked": lambda path: open(path, "wb").write(module._line(99, {"format": 5, "generation": 1})),
    "a folder": lambda path: (os.unlink(path), os.mkdir(path), os.mkdir(path + "/in it")),
    "a pipe": lambda path: (os.unlink(path), os.mkfifo(path)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_file_of_a_running_node_is_made_anew_at_once_and_one_line_says_so(tmp_path, loss, caplog):
    cache = a_cache(tmp_path)
    with open(cache.path + ".copy", "wb") as file:
        file.write(open(cache.path, "rb").read())
    for number in range(2):
        with cache.locked() as view:
            view.merge(Record(f"n{number}", f"10.0.0.{number}:1", (5, number)), NOW)
            view.describe(view.own._replace(load=number + 1), NOW)
    other = Cache(cache.path, "me")
    before = other.view()
    LOSSES[loss](cache.path)
    assert other.view().own == before.own and (other.view().records == before.records) == (loss != "without us")
    assert len(caplog.records) == 1 and "made anew" in caplog.text
    assert Cache(cache.path, "me").view().records == other.view().records, "it is on disk again"
    with cache.locked() as view:
        view.hint("10.0.7.7:1")
    assert other.view().hints == {"10.0.7.7:1"} and other.view().own == before.own
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_a_file_that_is_lost_while_it_is_locked_is_made_anew_by_that_save(tmp_path):
    cache = a_cache(tmp_path)
    with cache.locked() as view:
        os.unlink(cache.path)
        assert Cache(cache.path, "me").view().records == {}
        assert "me" in cache.view().records, "nobody waits for the lock, and memory goes on"
        view.hint("10.0.0.5:1")
    assert Cache(cache.path, "me").view().own == cache.view().own and hints_of(cache.path) == {"10.0.0.5:1"}


def test_a_file_that_another_process_has_mended_meanwhile_is_not_set_aside(tmp_path, monkeypatch):
    cache, other = a_cache(tmp_path), Cache(str(tmp_path / "me.bdcache"), "me")
    other.view()
    with open(cache.path, "ab") as file:
        file.write(b"garbage\n" * 2)
    real = module._taken

    def slowly(*arguments):
        monkeypatch.setattr(module, "_taken", real)
        assert cache.view().own
        return real(*arguments)

    monkeypatch.setattr(module, "_taken", slowly)
    with open(cache.path + ".corrupt", "w") as file:
        file.write("older")
    assert other.view().own == cache.view().own and open(cache.path + ".corrupt", "rb").read().endswith(b"garbage\n")


def test_a_file_that_goes_between_two_system_calls_is_gone(tmp_path, monkeypatch, caplog):
    cache, other = a_cache(tmp_path), Cache(str(tmp_path / "me.bdcache"), "me")
    other.view()
    with cache.locked() as view:
        view.hint("10.0.0.5:1")
    real = durable.open_regular

    def gone(path, *arguments, **keywords):
        monkeypatch.setattr(durable, "open_regular", real)
        os.unlink(path)
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(durable, "open_regular", gone)
    assert "me" in other.view().records and "is gone: made anew" in caplog.text and os.path.exists(cache.path)


@pytest.mark.parametrize(
    "content",
    [b"[]", b'{"format":4}', b'{"format":4,"generation":1,"save":"x"}', b'{"format":4,"generation":1,"save":1,"records":[7]}']
    + [b'{"format":4,"generation":1,"save":1,"%b":7}' % field for field in (b"gone", b"hints", b"heard_at", b"rival")],
)
def test_a_line_with_a_right_checksum_and_wrong_content_is_set_aside(tmp_path, content, caplog):
    path = tmp_path / "me.bdcache"
    path.write_bytes(b"%08x %b\n" % (crc32(content), content))
    assert not Cache(str(path), "me").view().records and "set aside" in caplog.text


def test_what_a_process_that_knew_less_made_anew_costs_nothing_of_what_another_knows(tmp_path):
    cache, stale = a_cache(tmp_path), Cache(str(tmp_path / "me.bdcache"), "me")
    stale.view()
    for number in range(3):
        with cache.locked() as view:
            view.merge(Record(f"n{number}", f"10.0.0.{number}:1", (5, number)), NOW)
    os.unlink(cache.path)
    with stale.locked() as view:
        view.describe(view.own._replace(load=7), NOW)
    assert stale.view().records.keys() == {"me"}
    assert cache.view().own.load == 7 and cache.view().records.keys() == {"me", "n0", "n1", "n2"}
    assert stale.view().records == cache.view().records, "and that is what the file says now"


def test_a_second_folder_of_its_name_is_set_aside_too(tmp_path):
    cache = a_cache(tmp_path)
    for _ in range(2):
        LOSSES["a folder"](cache.path)
        assert cache.view().own and os.path.isfile(cache.path)
    assert sum(name.startswith("me.bdcache.corrupt") for name in os.listdir(tmp_path)) == 2


def test_what_cannot_be_set_aside_is_replaced_by_the_next_save(tmp_path, monkeypatch, caplog):
    cache = a_cache(tmp_path)
    with open(cache.path, "ab") as file:
        file.write(b"garbage\n" * 2)

    def refuse(*arguments):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "rename", refuse)
    assert "me" in cache.view().records and "nor set aside" in caplog.text
    assert Cache(cache.path, "me").view().own == cache.view().own


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_a_good_file_that_can_not_be_read_now_is_left_as_it_is(tmp_path, monkeypatch, number, caplog):
    cache, other = a_cache(tmp_path), Cache(str(tmp_path / "me.bdcache"), "me")
    other.view()
    with cache.locked() as view:
        view.hint("10.0.0.5:1")
    data = open(cache.path, "rb").read()
    real = durable.open_regular

    def refuse(path, *arguments, **keywords):
        if path == cache.path:
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(durable, "open_regular", refuse)
    for _ in range(3):
        assert "me" in other.view().records
        with other.locked() as view:
            view.hint("10.0.0.6:1")
    assert other.view().hints == {"10.0.0.6:1"}, "memory goes on"
    assert open(cache.path, "rb").read() == data and not os.path.exists(cache.path + ".corrupt")
    assert [record.getMessage() for record in caplog.records] == [
        f"{cache.path} can't be read ({os.strerror(number)}): it is left as it is, going on in memory"
    ]
    fresh = Cache(cache.path, "me")
    assert fresh.view().records == {}
    with pytest.raises(NoSpace, match="can't be read, and nothing is known without it"), fresh.locked():
        pass
    monkeypatch.undo()
    assert other.view().hints == {"10.0.0.5:1"} and "is read again" in caplog.text
    assert fresh.view().own == cache.view().own


def test_a_file_beyond_its_limit_is_neither_read_nor_written(tmp_path, monkeypatch, caplog):
    cache = a_cache(tmp_path)
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 2000)
    monkeypatch.setattr(module, "CHANGES_BYTES_MIN", 0)
    with cache.locked() as view:
        view.learn_policy("ab", "x" * 2000)
    assert "more than 2000 bytes" in caplog.text and os.path.getsize(cache.path) <= 2000
    assert cache.view().policies and Cache(cache.path, "me").view().own == cache.view().own
    with open(cache.path, "ab") as file:
        file.write(b"\0" * 2000)
    assert not Cache(cache.path, "me").view().records and "larger than 2000 bytes" in caplog.text


def test_where_no_lock_can_be_made_that_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NoSpace, match=r"me\.bdcache\.lock: (File exists|Not a directory)"):
        Cache(str(tmp_path / "file" / "me.bdcache"), "me").locked().__enter__()


def test_what_a_crash_left_half_written_is_swept(tmp_path):
    cache = a_cache(tmp_path)
    (tmp_path / ".me.bdcache.new.123").write_text("half")
    cache.sweep()
    assert sorted(os.listdir(tmp_path)) == ["me.bdcache", "me.bdcache.lock"]
