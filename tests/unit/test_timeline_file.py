"""The file of the time line: a ring of one size, in which damage costs a minute and no other."""

import errno
import os
import pathlib
import random

import pytest

from bdserver.core.timeline import Span
from bdserver.errors import NoSpace
from bdserver.files import timeline
from bdserver.files.timeline import SLOT_BYTES, Timeline
from tests.unit.descriptors import none_left

NOW = 28_000_000


def minute(start):
    return Span(start, 60, 3, 1, 2, 1.5, 2.5, 100.0)


@pytest.fixture
def line(tmp_path):
    return Timeline(str(tmp_path / "me.bdtimeline"))


def filled(line, count, minutes=60):
    for start in range(NOW - count + 1, NOW + 1):
        line.write(minute(start), minutes)
    return line


def test_what_was_written_is_read_and_the_oldest_goes(line):
    assert line.read() == [] and line.at(NOW) is None
    filled(line, 200)
    assert sorted(line.read()) == [minute(start) for start in range(NOW - 59, NOW + 1)]
    assert os.path.getsize(line.path) == SLOT_BYTES * 61
    line.write(minute(NOW)._replace(calls=99), 60)
    assert line.at(NOW).calls == 99 and len(line.read()) == 60


def test_a_week_is_a_few_hundred_kilobytes(line):
    line.write(minute(NOW), timeline.MINUTES_MAX)
    assert os.path.getsize(line.path) == timeline.FILE_BYTES_MAX < 330_000


def test_another_length_keeps_what_fits(line):
    filled(line, 60)
    line.write(minute(NOW + 1), 10)
    assert sorted(each.start for each in line.read()) == list(range(NOW - 8, NOW + 2))
    line.write(minute(NOW + 2), 600)
    assert len(line.read()) == 11


@pytest.mark.parametrize("seed", range(20))
def test_damage_costs_the_minutes_that_it_hits_and_is_never_believed(line, seed):
    rng = random.Random(seed)
    filled(line, 60)
    path = pathlib.Path(line.path)
    data = bytearray(path.read_bytes())
    hit = set()
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(SLOT_BYTES, len(data))
        data[at] ^= 1 << rng.randrange(8)
        hit.add(at // SLOT_BYTES - 1)
    path.write_bytes(data)
    found = line.read()
    assert all(each == minute(each.start) for each in found), seed
    assert len(found) >= 60 - len(hit), seed
    line.write(minute(NOW + 1), 60)
    assert line.at(NOW + 1) == minute(NOW + 1)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"x" * 5000, bytes(SLOT_BYTES * 61), b"bdserver time line 2\n".ljust(SLOT_BYTES * 61)]
)
def test_a_file_that_is_none_of_ours_is_made_anew(line, content):
    pathlib.Path(line.path).write_bytes(content)
    assert line.read() == []
    filled(line, 2)
    assert len(line.read()) == 2 and os.path.getsize(line.path) == SLOT_BYTES * 61


def test_a_file_that_was_cut_keeps_what_is_there(line):
    filled(line, 60)
    os.truncate(line.path, SLOT_BYTES * 30 + 5)
    assert len(line.read()) == 29
    line.write(minute(NOW + 1), 60)
    assert len(line.read()) >= 29 and os.path.getsize(line.path) == SLOT_BYTES * 61


def test_numbers_that_are_too_large_are_as_large_as_can_be(line):
    line.write(Span(NOW, 10**6, 10**12, 10**6, 10**6, 1.0, 1.0, 1.0), 60)
    assert line.at(NOW)[:5] == (NOW, 0xFFFF, 0xFFFFFFFF, 0xFFFF, 0xFFFF)


def test_what_can_be_no_amount_is_no_minute(line):
    line.write(minute(NOW)._replace(weight=float("nan")), 60)
    line.write(minute(NOW - 1)._replace(peak=float("inf")), 60)
    line.write(minute(NOW - 2)._replace(threshold=-1.0), 60)
    assert line.read() == []


def test_a_disk_that_does_not_take_it_is_said(tmp_path):
    os.mkdir(tmp_path / "folder")
    for path in (tmp_path / "folder", tmp_path / "gone" / "x"):
        with pytest.raises(NoSpace, match=str(path)):
            Timeline(str(path)).write(minute(NOW), 60)
        assert Timeline(str(path)).read() == []


def test_a_disk_that_fails_costs_no_descriptors(line, monkeypatch):
    """It is written to every ten seconds, whatever the disk says."""
    line.write(minute(NOW), 60)

    def fails(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with none_left(), monkeypatch.context() as failing:
        failing.setattr(os, "pread", fails)
        for _ in range(3):
            with pytest.raises(NoSpace, match="Input/output error"):
                line.write(minute(NOW + 1), 60)
    assert line.read() == [minute(NOW)]
