"""The cache file: saved change by change, read without a lock, merged under one, and never the end of a node."""

import json
import multiprocessing
import os
import random
import threading
from itertools import pairwise

import pytest

from bdserver.core.membership import Record, Service, View
from bdserver.errors import TooBusy
from bdserver.files.cache import Cache, decode, encode

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
        stamps.add(cache._stamp_now())
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


def test_a_change_that_is_none_sets_the_file_aside(tmp_path, caplog):
    cache = a_cache(tmp_path)
    with open(cache.path, "ab") as file:
        file.write(b"\0" * 20 + b"\n")
    assert not cache.view().records and "set aside" in caplog.text
    assert sorted(os.listdir(tmp_path)) == ["me.bdcache.corrupt", "me.bdcache.lock"]


def test_a_file_of_format_1_is_read_and_written_anew(tmp_path):
    old = {"format": 1, "generation": 7, "records": [{"name": "a", "address": "10.0.0.1:1", "version": [5, 2]}],
           "hints": ["10.0.0.5:1"], "policies": {"ab": "<Policy/>"}, "heard_at": {"a": 12.5}, "rival": None}  # fmt: skip
    path = tmp_path / "me.bdcache"
    path.write_text(json.dumps(old))
    cache = Cache(str(path), "me")
    assert cache.view().generation == 7 and cache.view().records["a"].version == (5, 2)
    with cache.locked() as view:
        view.hint("10.0.0.6:1")
    assert json.loads(path.read_text())["format"] == 2
    assert Cache(str(path), "me").view().hints == {"10.0.0.5:1", "10.0.0.6:1"}


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


def test_the_file_is_json_with_its_format_first():
    content = json.loads(encode(View("me")))
    assert next(iter(content)) == "format" and content["format"] == 2
