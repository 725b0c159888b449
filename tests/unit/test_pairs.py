"""KEY=VALUE files, and lists with comments: what is read, what is refused with its line, and what is written."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.errors import BadConfig, NoSpace
from bdserver.files import lines, pairs


@pytest.fixture
def written(tmp_path):
    """Writes a file and gives its path."""

    def write(text):
        path = tmp_path / "file"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def test_pairs_come_with_their_lines(written):
    assert pairs.read(written("\n# c\nA = b \n c=D=e\nurl=\n")) == [(3, "a", "b"), (4, "c", "D=e"), (5, "url", "")]
    assert pairs.read(written(b"\xef\xbb\xbfa=1\r\nb=2\r\n")) == [(1, "a", "1"), (2, "b", "2")]


KEYS = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]) | st.sampled_from(" =#"), max_size=40)


@given(st.lists(st.tuples(KEYS, VALUES.map(str.strip)), max_size=8))
def test_pairs_that_are_written_are_read_the_same_and_no_part_of_them_looks_whole(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "pairs"
    pairs.write(str(path), content)
    assert [(key, value) for _, key, value in pairs.read(str(path))] == content
    written = path.read_bytes()
    assert lines.split_ending(written) == ("".join(f"{key}={value}\n" for key, value in content).encode(), True)
    assert not any(lines.split_ending(written[:at])[1] for at in range(len(written)))


@given(st.binary(max_size=200))
def test_any_bytes_are_pairs_or_complaints_with_their_lines(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(data)
    try:
        found = pairs.read(str(path))
    except BadConfig as error:
        said = str(error).split(f"{path}:")[1:]
        assert said and all(line.split(":")[0].isdigit() for line in said)
    else:
        assert all(key and "\0" not in key + value for _, key, value in found)


@given(st.binary(max_size=200))
def test_without_quotes_a_complaint_shows_nothing_of_what_stands_there(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "secret"
    path.write_bytes(data)
    try:
        pairs.read(str(path), quotes=False)
    except BadConfig as error:
        said = [line.removeprefix(f"{path}:").partition(": ")[2] for line in str(error).splitlines()]
        assert set(said) <= {"not KEY=VALUE", "not UTF-8 text", "a NUL byte"}


def test_without_follow_a_symbolic_link_is_not_read(written, tmp_path):
    os.symlink(written("a=1"), tmp_path / "link")
    assert pairs.read(str(tmp_path / "link")) == [(1, "a", "1")]
    with pytest.raises(BadConfig, match="link: a symbolic link, not a regular file$"):
        pairs.read(str(tmp_path / "link"), follow=False)


@pytest.mark.parametrize(
    "pair", [("a", "b\nc=d"), ("a", "b\rc"), ("a", " b"), ("a", "b "), ("a", "\0"), ("a", "\ud800"), ("", "b"), ("#a", "b")]
    + [("A", "b"), ("a=b", "c"), ("a\nb", "c")],
)  # fmt: skip
def test_a_pair_that_would_be_read_back_otherwise_is_not_written(tmp_path, pair):
    path = tmp_path / "pairs"
    pairs.write(str(path), [("before", "1")])
    with pytest.raises(BadConfig, match="pairs: "):
        pairs.write(str(path), [("x", "y"), pair])
    assert path.read_bytes() == b"before=1\n" + lines.ending(b"before=1\n")
    assert os.listdir(tmp_path) == ["pairs"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "pairs"
    pairs.write(str(path), [("a", "1")])

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match=f"^{path}: No space left on device$"):
        pairs.write(str(path), [("a", "2")])
    assert path.read_bytes() == b"a=1\n" + lines.ending(b"a=1\n")
    assert os.listdir(tmp_path) == ["pairs"]


def test_another_trouble_of_the_disk_is_not_called_a_full_one(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        pairs.write(str(tmp_path / "none" / "pairs"), [("a", "1")])


# --- lists --------------------------------------------------------------------------------------------------------


def test_a_lists_entries_come_with_their_lines_and_without_comments():
    data = b"\xef\xbb\xbf# who\n\n one # two\n\tthree\r\n#\n"
    assert list(lines.entries("list", data)) == [(3, "one"), (4, "three")]


@pytest.mark.parametrize(("data", "reason"), [(b"one\n\xff\n", "2: not UTF-8 text"), (b"\0", "1: a NUL byte")])
def test_a_line_of_a_list_that_is_no_text_is_named(data, reason):
    with pytest.raises(BadConfig, match=f"^list:{reason}$"):
        list(lines.entries("list", data))
