"""What was seen signed is kept, and nothing older comes back."""

import os
import stat

import pytest

from bdserver.errors import BadConfig, BadPackage
from bdserver.files import lines
from bdserver.files import seen as module
from bdserver.files.seen import Seen
from tests.unit.forks import forked, has_ended_well


@pytest.fixture
def seen(tmp_path):
    return Seen(str(tmp_path / "n.bdsigned"))


def test_an_older_counter_is_refused_and_the_same_one_is_not(seen):
    assert seen.newest("Echo") == 0
    seen.raise_to("Echo", 7)
    seen.raise_to("Echo", 7)
    seen.raise_to("Login", 3)
    for refused in (seen.check, seen.raise_to, Seen(seen.path).check):
        with pytest.raises(BadPackage, match="edition 6 was signed, and 7 has been here"):
            refused("Echo", 6)
    seen.check("Login", 4)
    assert (seen.newest("Echo"), seen.newest("Login")) == (7, 3)


@pytest.mark.parametrize("content", ["x Echo", "7", "7 ../x", "٣ Echo", "9" * 40 + " Echo", "\0"])
def test_a_file_that_can_not_be_read_refuses_all(seen, content):
    rows = f"{content}\n".encode()
    with open(seen.path, "wb") as file:
        file.write(rows + lines.ending(rows))
    for asked in (lambda: seen.newest("Echo"), lambda: seen.check("Echo", 7), lambda: seen.raise_to("Echo", 7)):
        with pytest.raises(BadConfig, match=r"n\.bdsigned:1: "):
            asked()
    assert os.path.exists(seen.path)


def test_a_part_of_it_or_one_with_another_digit_refuses_all(seen):
    """Each entry that is missing, or lower than it was, would let an older package in."""
    for number in range(10, 20):
        seen.raise_to(f"S{number}", number)
    with open(seen.path, "rb") as file:
        data = file.read()
    for damaged in (*(data[:at] for at in range(len(data))), data.replace(b"19 S19", b"18 S19"), data + b"20 S10\n"):
        with open(seen.path, "wb") as file:
            file.write(damaged)
        with pytest.raises(BadConfig, match="n.bdsigned: is damaged"):
            seen.check("S19", 20)


def test_where_it_can_not_be_written_nothing_is_seen(seen):
    os.mkdir(seen.path + ".lock")
    with pytest.raises(BadConfig, match="n.bdsigned.lock: "):
        seen.raise_to("Echo", 1)
    os.rmdir(seen.path + ".lock")
    os.mkdir(f"{os.path.dirname(seen.path)}/.n.bdsigned.new.{os.getpid()}")
    with pytest.raises(BadConfig, match=r"n.bdsigned: Is a directory"):
        seen.raise_to("Echo", 1)


def test_something_else_of_its_name_is_said(seen):
    os.mkdir(seen.path)
    with pytest.raises(BadConfig, match="not a regular file"):
        seen.check("Echo", 1)


def test_a_file_that_is_too_large_is_not_read(seen, monkeypatch):
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 20)
    seen.raise_to("Echo", 7)
    seen.raise_to("Login", 7)
    with pytest.raises(BadConfig, match="larger than"):
        seen.check("Echo", 7)


def test_many_at_once_lose_none(seen):
    pids = [forked(lambda number=number: Seen(seen.path).raise_to(f"s{number}", number + 1)) for number in range(8)]
    assert all(has_ended_well(pid) for pid in pids)
    assert [seen.newest(f"s{number}") for number in range(8)] == list(range(1, 9))
    assert stat.S_ISREG(os.lstat(seen.path).st_mode)
