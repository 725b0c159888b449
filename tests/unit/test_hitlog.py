"""Hit logs: appended to, read and trimmed by many processes at once."""

import contextlib
import fcntl
import multiprocessing
import os
import re
import shutil
import tempfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdserver.core.weight import BACK, HIT, HORIZON, REPLICATE, weight
from bdserver.errors import NoSpace
from bdserver.files import durable, hitlog
from bdserver.files.hitlog import HitLog

NOW = 1_700_000_000
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def log(tmp_path):
    log = HitLog(str(tmp_path))
    yield log
    log.close()


@pytest.fixture
def bytes_read(monkeypatch):
    """How many bytes were read so far, as a one-element list."""
    total, pread = [0], os.pread

    def counting(descriptor, count, offset):
        data = pread(descriptor, count, offset)
        total[0] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counting)
    return total


def line(second, kind=HIT, client="127.0.0.1"):
    return f"{kind} ~ {second} ~ {time.ctime(NOW)} ~ {client}\n".encode()


def write(log, data, service="a"):
    with open(log.path(service), "ab") as file:
        file.write(data)


def content(log, service="a"):
    with open(log.path(service), "rb") as file:
        return file.read()


# --- a hit that is taken back -------------------------------------------------------------------------------------


def test_a_hit_that_is_taken_back_weighs_nothing_for_those_who_read_and_those_who_write(log, tmp_path):
    for kind, second in ((HIT, NOW), (HIT, NOW), (HIT, NOW + 1), (BACK, NOW), (BACK, NOW + 1)):
        log.append("a", kind, "192.0.2.1", second)
    wanted = [(HIT, NOW + 1, 0), (HIT, NOW, 1)]
    assert log.runs("a", NOW + 2) == HitLog(str(tmp_path)).runs("a", NOW + 2) == wanted
    assert content(log).decode().splitlines()[3] == f"BACK ~ {NOW} ~ {time.ctime(NOW)} ~ 192.0.2.1"


def test_many_calls_that_were_promised_and_did_not_come_are_taken_back_at_once(log, tmp_path):
    """They stand with the next second, and lines of this one may follow them."""
    other = HitLog(str(tmp_path))
    log.append("a", HIT, "192.0.2.1", NOW + 1, 5)
    log.append("a", HIT, "192.0.2.1", NOW)
    other.append("a", HIT, "192.0.2.1", NOW, 2)
    log.append("a", BACK, "192.0.2.1", NOW + 1, 3)
    wanted = [(HIT, NOW, 3), (HIT, NOW + 1, 2)]
    assert log.runs("a", NOW) == other.runs("a", NOW) == HitLog(str(tmp_path)).runs("a", NOW) == wanted
    assert content(log).count(b"\n") == 11


def test_more_is_never_taken_back_than_there_was(log):
    write(
        log,
        line(NOW) + line(NOW + 5, REPLICATE) + line(NOW + 5) * 2 + line(NOW, BACK) * 3 + line(NOW + 3, BACK) + line(NOW + 9),
    )
    assert log.runs("a", NOW + 9) == [(HIT, NOW + 9, 1), (HIT, NOW + 5, 2), (REPLICATE, NOW + 5, 1), (HIT, NOW, 0)]


def test_hits_of_one_second_that_stand_apart_are_taken_back_one_after_the_other(log):
    write(log, line(NOW) + line(NOW, REPLICATE) + line(NOW) + line(NOW, BACK) * 2)
    assert [count for kind, _, count in log.runs("a", NOW) if kind == HIT] == [0, 0]


def test_what_is_taken_back_late_hides_no_hit_behind_it(log):
    """Its second is that of the hit: a reader that looks for the last minute's beginning must not take it for old lines."""
    write(log, line(NOW) + line(NOW + 2) * 3 + line(NOW, BACK) + line(NOW + 2))
    assert log.runs("a", NOW + HORIZON + 1) == [(HIT, NOW + 2, 4)]


# --- a line -------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from([HIT, HIT, HIT, REPLICATE, BACK]), st.integers(-70, 2), st.integers(1, 3), st.booleans()),
        max_size=30,
    ),
    st.sampled_from([0.5, 1.0, 3.0]),
)
@settings(max_examples=200, deadline=None)
def test_a_weight_that_is_kept_up_is_that_of_all_lines(lines, cost):
    """Lines of this process and of another, of now and of before, while the clock goes on."""
    with tempfile.TemporaryDirectory() as folder:
        here, there = HitLog(folder), HitLog(folder)
        now = float(NOW)
        for kind, at, count, is_ours in lines:
            now += abs(at) % 4 / 2
            (here if is_ours else there).append("a", kind, "x", now + at, count)
            assert here.weight("a", cost, now) == pytest.approx(weight(HitLog(folder).runs("a", now), cost, now), abs=1e-9)
        here.close()
        there.close()


def test_a_minute_of_calls_is_added_up_once_a_second(log, monkeypatch):
    added_up, runs = [], log.runs
    monkeypatch.setattr(log, "runs", lambda *asked: added_up.append(True) or runs(*asked))
    for number in range(1, 50):
        log.append("a", HIT, "x", NOW)
        assert log.weight("a", 2.0, NOW + number / 100) == 2.0 * number
    assert len(added_up) == 1


def test_a_hit_is_logged_in_the_originals_form(log, tmp_path):
    log.append("a", HIT, "192.0.2.1", NOW + 0.9)
    log.append("a", REPLICATE, "::1", NOW + 1)
    assert (tmp_path / "a.bdlog").read_text() == (
        f"HIT ~ {NOW} ~ {time.ctime(NOW)} ~ 192.0.2.1\nREPLICATE ~ {NOW + 1} ~ {time.ctime(NOW + 1)} ~ ::1\n"
    )


@pytest.mark.parametrize(
    ("client", "logged"),
    [
        (f"x\nHIT ~ {NOW} ~ now ~ y", f"xHIT  {NOW}  now  y"),
        ("", "-"),
        ("~\r\n\0\x1b", "-"),
        ("c" * 500, "c" * hitlog.CLIENT_CHARACTERS_MAX),
        ("é", "é"),
        ("\ud800", "-"),
    ],
)
def test_no_client_can_write_more_than_its_own_hit(log, client, logged):
    log.append("a", HIT, client, NOW)
    assert content(log).decode() == f"HIT ~ {NOW} ~ {time.ctime(NOW)} ~ {logged}\n"
    assert log.runs("a", NOW) == [(HIT, NOW, 1)]


def test_the_longest_line_that_we_write_counts(log):
    log.append("a", REPLICATE, "\U0001f600" * 500, 10**12 - 1)
    assert len(content(log)) <= hitlog.LINE_BYTES_MAX
    assert log.runs("a", 10**12) == [(REPLICATE, 10**12 - 1, 1)]


BROKEN = [
    *(b"", b"HIT", b"HIT ~ ", b"HIT ~ 17000", b"HIT ~ 1700000000 ~ Tue Nov", b"HIT ~ 1700000000 ~ Tue ~ ", b"\x00" * 99),
    *(b"HIT ~ -5 ~ Tue ~ c", b"HIT ~ 1.5 ~ Tue ~ c", b"HIT ~ 1_0 ~ Tue ~ c", b"HIT ~ 1e9 ~ Tue ~ c", b"HIT ~ x ~ Tue ~ c"),
    *(b"HIT ~ 1700000000000 ~ Tue ~ c", b"HIT ~  ~ Tue ~ c", b"hit ~ 1700000000 ~ Tue ~ c", b" HIT ~ 1700000000 ~ T ~ c"),
    *(b"MISS ~ 1700000000 ~ Tue ~ c", b"HIT ~ 1700000000 ~ Tue ~ c ~ d", b"HIT ~ 1700000000 ~ Tue ~ \x00\x01"),
    *(
        b"\xff\xfe\x00H\x00I\x00T",
        b"HIT ~ 1700000000 ~ " + b"T" * 9999 + b" ~ c",
        b"x" * 9999,
        b"\x00" * 50 + b"HIT ~ 1 ~ T ~ c",
    ),
    "HIT ~ ١٧ ~ Tue ~ c".encode(),
]


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_lines_count_nothing_and_harm_none_beside_them(log, broken):
    write(log, line(NOW - 1) + broken + b"\n" + line(NOW))
    assert log.runs("a", NOW) == [(HIT, NOW, 1), (HIT, NOW - 1, 1)]


def test_half_a_line_counts_when_its_other_half_has_come_and_not_before(log):
    whole = line(NOW)
    for cut in range(len(whole)):
        log.forget("a")
        write(log, line(NOW - 1) + whole[:cut])
        assert log.runs("a", NOW) == [(HIT, NOW - 1, 1)]
        write(log, whole[cut:])
        assert log.runs("a", NOW) == [(HIT, NOW, 1), (HIT, NOW - 1, 1)]


def test_half_a_line_that_a_crash_left_does_not_swallow_the_next_hit(log):
    write(log, line(NOW)[:20])
    log.append("a", HIT, "c", NOW)
    assert log.runs("a", NOW) == [(HIT, NOW, 1)]


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_removed_comes_back_with_the_next_hit(tmp_path):
    log = HitLog(str(tmp_path / "log"))
    for _ in range(2):
        log.append("a", HIT, "c", NOW)
        assert log.runs("a", NOW) == [(HIT, NOW, 1)]
        shutil.rmtree(tmp_path / "log")
    log.close()


def test_without_a_log_there_are_no_hits(log, tmp_path):
    assert log.runs("a", NOW) == []
    os.mkfifo(tmp_path / "pipe.bdlog")
    (tmp_path / "folder.bdlog").mkdir()
    assert log.runs("pipe", NOW) == log.runs("folder", NOW) == []


def test_what_is_older_than_a_minute_ends_the_reading(log):
    write(log, line(NOW) + line(NOW - HORIZON - 1) + line(NOW - HORIZON) * 2 + line(NOW + 9))
    assert log.runs("a", NOW) == [(HIT, NOW + 9, 1), (HIT, NOW - HORIZON, 2)]
    assert HitLog(log.directory).runs("a", NOW) == [(HIT, NOW + 9, 1), (HIT, NOW - HORIZON, 2)]


def test_what_was_read_ages_without_being_read_again(log, bytes_read):
    write(log, line(NOW) + line(NOW + 30))
    assert len(log.runs("a", NOW + 30)) == 2
    so_far = bytes_read[0]
    assert log.runs("a", NOW + HORIZON + 1) == [(HIT, NOW + 30, 1)]
    assert log.runs("a", NOW + 10 * HORIZON) == []
    assert bytes_read[0] == so_far


def test_of_a_long_log_only_the_last_minute_is_read(log, bytes_read):
    write(log, line(NOW - 1000) * 100_000 + line(NOW) * 10)
    assert log.runs("a", NOW) == [(HIT, NOW, 10)]
    assert bytes_read[0] < 3 * hitlog.BACK_CHUNK_BYTES < os.path.getsize(log.path("a")) / 20


def test_a_second_reading_takes_in_only_what_is_new(log, bytes_read):
    write(log, line(NOW) * 10_000)
    log.runs("a", NOW)
    before = bytes_read[0]
    assert log.runs("a", NOW) == [(HIT, NOW, 10_000)]
    assert bytes_read[0] == before
    log.append("a", HIT, "c", NOW)
    assert log.runs("a", NOW) == [(HIT, NOW, 10_001)]
    assert bytes_read[0] < before + 300


def test_a_log_full_of_garbage_is_searched_so_far_and_no_further(log, monkeypatch, bytes_read):
    monkeypatch.setattr(hitlog, "BACK_BYTES_MAX", 5000)
    monkeypatch.setattr(hitlog, "BACK_CHUNK_BYTES", 1000)
    write(log, line(NOW) + b"garbage ~ 1 ~ 2 ~ 3\n" * 10_000 + line(NOW - 5))
    assert log.runs("a", NOW) == [(HIT, NOW - 5, 1)]
    assert bytes_read[0] < 20_000
    assert log.trim("a", NOW, 0) > 190_000
    assert log.runs("a", NOW) == [(HIT, NOW - 5, 1)]


def test_a_log_that_was_cut_or_replaced_is_read_anew(log):
    write(log, line(NOW) * 10)
    assert log.runs("a", NOW) == [(HIT, NOW, 10)]
    os.truncate(log.path("a"), 0)
    assert log.runs("a", NOW) == []
    write(log, line(NOW) * 3)
    assert log.runs("a", NOW) == [(HIT, NOW, 3)]
    os.rename(log.path("a"), log.path("old"))
    assert log.runs("a", NOW) == []
    write(log, line(NOW) * 20)
    assert log.runs("a", NOW) == [(HIT, NOW, 20)]


def test_another_log_with_the_same_inode_and_greater_length_is_not_taken_for_the_old_one(log):
    write(log, line(NOW - 1) * 10)
    log.runs("a", NOW)
    with open(log.path("a"), "r+b") as file:  # what an inode looks like that was given to a new file
        file.write(line(NOW) * 11)
    assert log.runs("a", NOW) == [(HIT, NOW, 11)]


def test_a_child_goes_on_reading_where_its_parent_stopped(log, monkeypatch):
    write(log, line(NOW) * 5)
    log.runs("a", NOW)
    write(log, line(NOW + 1))

    def in_child():
        monkeypatch.setattr(hitlog, "_start_of_what_counts", None)  # a reading from the end would fail on it
        assert log.runs("a", NOW + 1) == [(HIT, NOW + 1, 1), (HIT, NOW, 5)]

    child = FORK.Process(target=in_child)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert log.runs("a", NOW + 1) == [(HIT, NOW + 1, 1), (HIT, NOW, 5)]


def test_many_services_that_come_and_go_do_not_fill_memory(log, monkeypatch):
    monkeypatch.setattr(hitlog, "FOLDED_MAX", 10)
    for number in range(25):
        log.runs(f"s{number}", NOW)
    assert len(log._tallies) <= 10


def obvious_runs(data, now):
    """Line by line from the end."""
    runs: list[tuple[str, int, int]] = []
    for each in reversed(data.split(b"\n")[:-1]):
        if not re.fullmatch(rb"(HIT|REPLICATE) ~ \d{1,12} ~ [^~\0-\x1f\x7f]+~ [^~\0-\x1f\x7f]+", each) or len(each) > 300:
            continue
        kind, second = each.split(b" ~ ")[0].decode(), int(each.split(b" ~ ")[1])
        if second < now - 60:
            break
        if runs and runs[-1][:2] == (kind, second):
            runs[-1] = (kind, second, runs[-1][2] + 1)
        else:
            runs.append((kind, second, 1))
    return runs


PIECES = st.one_of(
    st.builds(line, st.integers(NOW - 80, NOW + 20), st.sampled_from([HIT, REPLICATE])),
    st.builds(lambda second, count: line(second) * count, st.integers(NOW - 61, NOW), st.integers(1, 4)),
    st.sampled_from([each + b"\n" for each in BROKEN]),
    st.sampled_from([b"HIT ~ ", b"x", b"\n", b"~"]),
)


@settings(max_examples=3 * settings.default.max_examples // 2)
@given(
    st.lists(st.lists(PIECES, max_size=8).map(b"".join), max_size=6),
    st.lists(st.integers(0, 30), min_size=6, max_size=6),
    st.integers(1, 2000),
)
def test_however_it_was_appended_a_reader_sees_what_an_obvious_one_sees(tmp_path_factory, writes, pauses, chunk_bytes):
    log = HitLog(str(tmp_path_factory.mktemp("log")))
    now, before = NOW - 30, (hitlog.BACK_CHUNK_BYTES, hitlog.CHUNK_BYTES)
    hitlog.BACK_CHUNK_BYTES = hitlog.CHUNK_BYTES = chunk_bytes
    try:
        for data, pause in zip(writes, pauses, strict=False):
            write(log, data)
            now += pause
            expected = obvious_runs(content(log), now)
            assert log.runs("a", now) == expected
            assert HitLog(log.directory).runs("a", now) == expected
    finally:
        hitlog.BACK_CHUNK_BYTES, hitlog.CHUNK_BYTES = before


# --- trimming -----------------------------------------------------------------------------------------------------


def test_a_log_is_trimmed_above_its_limit_and_not_at_it(log):
    write(log, line(NOW - 100) * 10 + line(NOW))
    size = os.path.getsize(log.path("a"))
    assert log.trim("a", NOW, size) == 0
    assert log.trim("a", NOW, size - 1) == size - len(line(NOW))
    assert content(log) == line(NOW)


def test_trimming_keeps_all_that_counts_and_the_files_mode(log, tmp_path):
    write(log, line(NOW - 100) * 20 + line(NOW - 60) + line(NOW - 30, REPLICATE) + b"broken" + line(NOW))
    os.chmod(log.path("a"), 0o604)
    before = log.runs("a", NOW)
    assert log.trim("a", NOW, 0) > 0
    assert log.runs("a", NOW) == HitLog(log.directory).runs("a", NOW) == before
    assert os.stat(log.path("a")).st_mode & 0o777 == 0o604
    assert os.listdir(tmp_path) == ["a.bdlog"]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 50, 56, 57, 58, 113, 1000])
def test_wherever_the_chunks_begin_the_cut_is_behind_the_newest_old_line(log, monkeypatch, chunk_bytes):
    monkeypatch.setattr(hitlog, "BACK_CHUNK_BYTES", chunk_bytes)
    counts = line(NOW, client="c" * 20) + b"broken\n" + line(NOW - 60)
    write(log, line(NOW) + line(NOW - 61) * 5 + counts)
    log.trim("a", NOW, 0)
    assert content(log) == counts


def test_a_trim_that_waited_for_another_one_trims_what_that_has_left(log, monkeypatch):
    write(log, line(NOW - 100) * 10 + line(NOW))
    real = durable.lock

    def lock(descriptor, seconds, path):
        monkeypatch.setattr(durable, "lock", real)
        assert HitLog(log.directory).trim("a", NOW, 0) == 10 * len(line(NOW))
        real(descriptor, seconds, path)

    monkeypatch.setattr(durable, "lock", lock)
    assert log.trim("a", NOW, 0) == 0 and content(log) == line(NOW)


def test_a_log_that_counts_for_the_most_part_is_not_copied_for_the_rest(log):
    write(log, line(NOW - 100) * 4 + line(NOW) * 5)
    assert log.trim("a", NOW, 0) == 0
    assert log.trim("a", NOW + 100, 0) == 9 * len(line(NOW))
    assert content(log) == b""


def test_there_is_nothing_to_trim_where_there_is_no_log(log):
    assert log.trim("a", NOW, 0) == 0


def test_the_remains_of_a_trim_that_was_killed_are_in_nobodys_way(log, tmp_path):
    write(log, line(NOW - 100) * 10 + line(NOW))
    (tmp_path / ".a.bdlog.new.12345").write_bytes(b"half" * 1000)
    assert log.trim("a", NOW, 0) > 0
    assert content(log) == line(NOW)
    assert os.listdir(tmp_path) == ["a.bdlog"]


@contextlib.contextmanager
def processes(count, target):
    children = [FORK.Process(target=target, args=(number,)) for number in range(count)]
    for child in children:
        child.start()
    yield children
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * count


def test_no_hit_is_lost_while_four_processes_append_and_one_trims(log):
    """Each round is 100 s later than the one before, so that a trim cuts the last round off while this one is written."""
    rounds, hits, writers = 25, 40, 4
    barrier = FORK.Barrier(writers + 1)

    def append_hits(number):
        for each in range(rounds):
            barrier.wait(60)
            for _ in range(hits):
                log.append("a", HIT, f"w{number}", NOW + 100 * each)
            barrier.wait(60)

    cut = 0
    with processes(writers, append_hits):
        for each in range(rounds):
            now = NOW + 100 * each
            barrier.wait(60)
            while barrier.n_waiting < writers:
                cut += log.trim("a", now, 0) > 0
            assert log.runs("a", now) == [(HIT, now, hits * writers)]
            barrier.wait(60)
    assert cut, "no trim fell among the hits, so this showed nothing"


def test_hits_of_many_processes_never_mix(log):
    def append_hits(number):
        for _ in range(200):
            log.append("a", HIT, f"writer{number}" * 5, NOW)

    with processes(4, append_hits):
        pass
    assert log.runs("a", NOW) == [(HIT, NOW, 800)]
    lines = [each for each in content(log).splitlines() if each]  # an empty one is possible, and harmless
    assert len(lines) == 800 and all(re.fullmatch(rb"HIT ~ .* ~ (writer\d)\1{4}", each) for each in lines)


# --- trouble ------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told(log, monkeypatch):
    real_write, full = os.write, os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(os, "write", lambda _, data: real_write(full, data))
    with pytest.raises(NoSpace, match=r"a\.bdlog: No space left on device$"):
        log.append("a", HIT, "c", NOW)


@pytest.mark.parametrize(
    ("kind", "reason"), [("link", "a symbolic link"), ("pipe", "not a regular file"), ("folder", "Is a directory")]
)
def test_what_is_no_log_of_ours_is_refused_at_once_and_left_alone(log, tmp_path, kind, reason):
    (tmp_path / "else").write_bytes(line(NOW - 100) * 10 + line(NOW))
    before = (tmp_path / "else").read_bytes()
    make = {"link": lambda path: os.symlink(tmp_path / "else", path), "pipe": os.mkfifo, "folder": os.mkdir}[kind]
    make(log.path("a"))
    began = time.monotonic()
    with pytest.raises(NoSpace, match=rf"a\.bdlog: {reason}"):
        log.append("a", HIT, "c", NOW)
    with pytest.raises(NoSpace, match=rf"a\.bdlog: {reason}"):
        log.trim("a", NOW, -1)
    assert log.runs("a", NOW) == [] and time.monotonic() - began < 1
    log.forget("a")
    assert (tmp_path / "else").read_bytes() == before and os.path.lexists(log.path("a")) == (kind == "folder")


def test_a_log_that_becomes_a_link_while_it_is_open_is_refused(log, tmp_path):
    log.append("a", HIT, "c", NOW)
    os.rename(log.path("a"), tmp_path / "else")
    os.symlink(tmp_path / "else", log.path("a"))
    with pytest.raises(NoSpace, match="symbolic link"):
        log.append("a", HIT, "c", NOW)
    assert log.runs("a", NOW) == [] and (tmp_path / "else").read_bytes().count(b"\n") == 1


def test_many_hits_come_with_one_write_and_are_not_read_again(log, bytes_read):
    log.runs("a", NOW)
    log.extend("a", [("c", NOW - 1), ("d", NOW), ("e", NOW)])
    log.runs("a", NOW)
    before = bytes_read[0]
    log.extend("a", [("f", NOW)])
    assert log.runs("a", NOW) == [(HIT, NOW, 3), (HIT, NOW - 1, 1)] and bytes_read[0] == before


def test_a_disk_that_takes_half_a_line_is_told_and_the_next_hit_counts(log, monkeypatch):
    write(log, line(NOW))
    real_write = os.write

    def half(descriptor, data):
        monkeypatch.setattr(os, "write", lambda *_: real_write(os.open("/dev/full", os.O_WRONLY), data))
        return real_write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(NoSpace):
        log.append("a", HIT, "c", NOW)
    monkeypatch.undo()
    log.append("a", HIT, "c", NOW)
    assert log.runs("a", NOW) == [(HIT, NOW, 2)]


def test_a_full_disk_while_trimming_leaves_the_log_as_it_was(log, tmp_path, monkeypatch):
    write(log, line(NOW - 100) * 10 + line(NOW))
    before = content(log)
    full = os.open("/dev/full", os.O_WRONLY)
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda _, data: real_write(full, data))
    with pytest.raises(NoSpace):
        log.trim("a", NOW, 0)
    monkeypatch.undo()
    os.close(full)
    assert content(log) == before
    assert os.listdir(tmp_path) == ["a.bdlog"]


def test_a_folder_that_can_not_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    os.symlink("nowhere", tmp_path / "link")
    for folder, why in (("file/log", "Not a directory"), ("link", "File exists")):
        with pytest.raises(NoSpace, match=why):
            HitLog(str(tmp_path / folder)).append("a", HIT, "c", NOW)


@pytest.mark.parametrize("held", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_a_process_that_was_stopped_while_it_had_the_lock_delays_nobody_for_long(log, monkeypatch, held):
    monkeypatch.setattr(hitlog, "LOCK_SECONDS", 0.05)
    write(log, line(NOW - 100) * 10)
    with open(log.path("a")) as file:
        fcntl.flock(file, held)
        with pytest.raises(NoSpace, match="lock"):
            log.trim("a", NOW, 0)
        if held == fcntl.LOCK_EX:
            with pytest.raises(NoSpace, match="lock"):
                log.append("a", HIT, "c", NOW)
        else:
            log.append("a", HIT, "c", NOW)
        assert log.runs("a", NOW) == ([] if held == fcntl.LOCK_EX else [(HIT, NOW, 1)])


def test_forgetting_a_service_removes_its_log(log, tmp_path):
    log.append("a", HIT, "c", NOW)
    log.runs("a", NOW)
    log.forget("a")
    log.forget("a")
    assert os.listdir(tmp_path) == [".called"]
    assert log.runs("a", NOW) == []


# --- which services were called -----------------------------------------------------------------------------------


def test_the_first_call_of_a_service_is_known_to_all_processes_at_once(log, tmp_path):
    other = HitLog(str(tmp_path))
    assert other.called() == frozenset()
    log.append("a", HIT, "c", NOW)
    assert other.called() == {"a"}
    log.append("a", HIT, "c", NOW)
    other.append("a", HIT, "c", NOW)
    assert (tmp_path / ".called").read_text().split() == ["a"], "once is enough"


def test_a_call_while_the_list_is_made_stays_in_it(log, tmp_path):
    other = HitLog(str(tmp_path))
    log.append("a", HIT, "c", NOW)
    before = log.called()
    other.append("b", HIT, "c", NOW)
    log.list_called({"a"}, before)
    assert HitLog(str(tmp_path)).called() == {"a", "b"}
    log.list_called({"a"}, log.called())
    assert HitLog(str(tmp_path)).called() == {"a"}


def test_a_call_is_added_to_the_list_that_has_the_name(log, tmp_path, monkeypatch):
    made, append = [], durable.append

    def replaced_first(descriptor, data):
        if data == b"\na\n" and not made:
            made.append(durable.replace(f"{tmp_path}/.called", [b"z"], is_synced=False))
        append(descriptor, data)

    monkeypatch.setattr(durable, "append", replaced_first)
    log.append("a", HIT, "c", NOW)
    assert HitLog(str(tmp_path)).called() == {"a", "z"}


def test_a_list_that_can_not_be_written_costs_no_call(log, tmp_path):
    (tmp_path / ".called").mkdir()
    log.append("a", HIT, "c", NOW)
    assert log.runs("a", NOW) == [(HIT, NOW, 1)] and log.called() == {"a"}


# --- who calls ----------------------------------------------------------------------------------------------------


def test_who_called_within_the_last_minute_the_most_first(log):
    log.append("a", HIT, "192.0.2.9", NOW - 90)
    for client, count in (("192.0.2.1", 2), ("192.0.2.2", 5), ("192.0.2.3", 1)):
        log.extend("a", [(client, NOW - 1)] * count)
    log.append("a", HIT, "192.0.2.9", NOW + 90)
    log.append("a", BACK, "192.0.2.3", NOW - 1)
    assert log.askers("a", NOW) == [["192.0.2.2", 5], ["192.0.2.1", 2]]
    assert log.askers("nothing", NOW) == []


def test_of_many_callers_and_a_long_log_the_end_is_looked_at(log, monkeypatch):
    log.extend("a", [(f"192.0.2.{number}", NOW - 1) for number in range(200)])
    assert len(log.askers("a", NOW)) == hitlog.ASKERS_TOLD_MAX
    monkeypatch.setattr(hitlog, "ASKERS_BYTES_MAX", 500)
    log.extend("a", [("192.0.2.250", NOW)] * 30)
    assert [client for client, _ in log.askers("a", NOW)] == ["192.0.2.250"]
