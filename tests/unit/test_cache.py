"""The cache file: saved whole, read without a lock, merged under one, and never the end of a node."""

import json
import multiprocessing
import os

import pytest

from bdserver.cache import Cache, decode, encode
from bdserver.core.membership import Record, Service, View
from bdserver.errors import TooBusy

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
    before = os.stat(cache.path).st_ino
    with cache.locked():
        pass
    assert os.stat(cache.path).st_ino == before


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


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100, b"{", b"[]", b"null", b'{"format": 2}', b'{"format": 1}', b"\xff", b'{"format": 1, "records": 5}'],
)
def test_what_cannot_be_read_is_set_aside_and_the_node_starts_anew(tmp_path, data, caplog):
    path = tmp_path / "me.bdcache"
    path.write_bytes(data)
    view = Cache(str(path), "me").view()
    assert view.records == {} and not path.exists()
    assert (tmp_path / "me.bdcache.corrupt").read_bytes() == data
    assert "set aside" in caplog.text


def test_any_cut_of_a_good_file_is_noticed(tmp_path):
    cache = a_cache(tmp_path)
    data = open(cache.path, "rb").read()
    for end in range(len(data)):
        with pytest.raises(ValueError):
            decode(data[:end], "me")


def test_a_disk_that_takes_nothing_leaves_memory_right(tmp_path, monkeypatch, caplog):
    cache = a_cache(tmp_path)
    real = os.fsync

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for number in range(3):
        with cache.locked() as view:
            view.hint(f"10.0.0.{number}:1")
    assert len(cache.view().hints) == 3
    assert caplog.text.count("can't be saved") == 1  # said once
    monkeypatch.setattr(os, "fsync", real)
    with cache.locked() as view:
        view.hint("10.0.0.9:2")
    assert "is saved again" in caplog.text
    assert len(Cache(cache.path, "me").view().hints) == 4
    assert not [name for name in os.listdir(tmp_path) if ".new." in name]


def test_the_file_is_json_with_its_format_first():
    content = json.loads(encode(View("me")))
    assert next(iter(content)) == "format" and content["format"] == 1
