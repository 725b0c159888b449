"""Every file of a node, cut at each 64th byte, a bit of each 64th byte flipped, gone, unreadable, or something else in its place:
whoever reads it, before or after, says nothing that was not written, and goes on."""

import contextlib
import errno
import os
import re
import socket

import pytest

from bdserver.errors import BDError
from bdserver.processes import nodefiles
from tests.unit.nodefiles import CASES

STEP_BYTES = 64
HUGE_BYTES = 200 << 20  # more than any of them may have; no block of it is on the disk


def content(path):
    with open(path, "rb") as file:
        return file.read()


def put(path, data):
    """In place, as a damage is."""
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:
        file.truncate(len(data))
        file.write(data)


@pytest.mark.parametrize("name", CASES)
def test_whoever_reads_a_file_that_was_cut_or_bent_goes_on(tmp_path, name):
    case = CASES[name](tmp_path)
    data = content(case.path)
    assert len(data) > 3 * STEP_BYTES
    for at in range(0, len(data), STEP_BYTES):
        bent = data[:at] + bytes([data[at] ^ 1 << at // STEP_BYTES % 8]) + data[at + 1 :]
        for what, damaged in (("cut", data[:at]), ("bent", bent)):
            is_judged = what == "cut" or case.has_checksums
            put(case.path, data)
            before = case.reader()
            case.seen(before)
            put(case.path, damaged)
            for reader, may in ((before, case.kept), (case.reader(), case.began)):
                put(case.path, damaged)
                seen = case.seen(reader)
                assert not is_judged or may(seen), (what, at, seen)
                case.goes_on(reader)


def huge(path):
    with open(path, "wb") as file:
        file.truncate(HUGE_BYTES)


def written(data):
    def write(path):
        with open(path, "wb") as file:
            file.write(data)

    return write


def full_folder(path):
    os.mkdir(path)
    written(b"in it")(os.path.join(path, "something"))


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(os.path.dirname(path), os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{here}/{os.path.basename(path)}")  # however long the path is
        os.close(here)


# What may lie in a file's place, and whether it is one that may be read, and says nothing.
INSTEAD = {
    "nothing": lambda path: None,
    "an empty file": written(b""),
    "zeros": written(bytes(1000)),
    "noise": written(bytes(range(256)) * 3),
    "a huge file": huge,
    "deep brackets": written(b"[" * 100_000),
    "a folder": os.mkdir,
    "a full folder": full_folder,
    "a pipe": os.mkfifo,
    "a socket": a_socket,
    "a link to itself": lambda path: os.symlink(path, path),
    "a link to nothing": lambda path: os.symlink(path + ".none", path),
    "a link to a device": lambda path: os.symlink("/dev/zero", path),
}


@pytest.mark.parametrize("number", ["9" * 400, "-1", "1e999", "NaN", "null", '"\\ud800"', "[]", '""'])
@pytest.mark.parametrize("name", CASES)
def test_whoever_reads_numbers_that_are_none_goes_on(tmp_path, name, number):
    case = CASES[name](tmp_path)
    data, before = content(case.path), case.reader()
    case.seen(before)
    bent = re.sub(rb"\b\d+(\.\d+)?\b", number.encode().replace(b"\\", rb"\\"), data)
    for reader in (before, case.reader):
        put(case.path, bent)
        reader = reader if reader is before else case.reader()
        case.seen(reader)
        with contextlib.suppress(AssertionError, BDError):
            case.goes_on(reader)
        case.seen(reader)


def refusing(path, number):
    """In place of os.open: this file, and what is written to replace it, is refused."""
    whole, folder, name = os.open, *os.path.split(path)

    def opens(file, *arguments, **named):
        if isinstance(file, str) and (file == path or file.startswith(f"{folder}/.{name}.new.")):
            raise OSError(number, os.strerror(number), file)
        return whole(file, *arguments, **named)

    return opens


@pytest.mark.parametrize("instead", INSTEAD)
@pytest.mark.parametrize("name", CASES)
def test_whoever_reads_what_lies_in_the_place_of_a_file_goes_on(tmp_path, name, instead):
    case = CASES[name](tmp_path)
    data, folder = content(case.path), os.path.dirname(case.path)

    def damage():
        if os.path.lexists(case.path):
            os.rename(case.path, f"{folder}/.away{len(os.listdir(folder))}")
        INSTEAD[instead](case.path)

    before = case.reader()
    case.seen(before)
    damage()
    for reader, may in ((before, case.kept), (case.reader(), case.began_empty or case.began)):
        seen = case.seen(reader)
        assert may(seen) or (case.began_empty or case.began)(seen), seen
        with contextlib.suppress(AssertionError, BDError):  # what can't be written is not there
            case.goes_on(reader)
        damage()
    os.rename(case.path, f"{folder}/.away") if os.path.lexists(case.path) else None
    written(data)(case.path)
    os.chmod(case.path, 0o600)
    case.seen(before)
    case.seen(case.reader())


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE])
@pytest.mark.parametrize("name", CASES)
def test_whoever_may_not_read_a_file_goes_on_and_does_no_harm_to_it(tmp_path, monkeypatch, name, number):
    case = CASES[name](tmp_path)
    data, before = content(case.path), case.reader()
    seen_before = case.seen(before)
    os.utime(case.path, (1, 1))  # it seems to have changed
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing(case.path, number))
        assert case.kept(case.seen(before)) or (case.began_empty or case.began)(case.seen(before))
        fresh = case.reader()
        case.seen(fresh)
        for reader in (before, fresh):
            with contextlib.suppress(AssertionError, BDError):
                case.goes_on(reader)
    assert content(case.path) == data, "it was as good as ever"
    if not isinstance(before, str):
        assert case.seen(case.reader()) == seen_before


def test_there_is_a_case_for_each_file_that_a_node_keeps(tmp_path):
    """Whoever adds one, adds what is asked of it."""
    kept = nodefiles.open_files.__code__.co_consts
    suffixes = {each for each in kept if isinstance(each, str) and each.startswith(".bd")}
    paths = {
        os.path.basename(case(tmp_path / name.replace(" ", "-")).path) for name, case in CASES.items() if made(tmp_path, name)
    }
    assert suffixes and {f"me{suffix}" for suffix in suffixes} <= paths


def made(tmp_path, name):
    (tmp_path / name.replace(" ", "-")).mkdir()
    return True


def test_no_bit_of_a_ca_s_certificate_makes_another_exception_than_a_complaint(tmp_path):
    case = CASES["CAs"](tmp_path)
    with open(case.path, "rb") as file:
        data = file.read()
    for at in range(len(data)):
        put(case.path, data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        case.seen(None)
