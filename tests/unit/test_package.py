"""Packages: what goes in comes out, within limits that both sides keep. What strangers try is in tests/hostile."""

import errno
import hashlib
import io
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdserver.core.membership import STATIC
from bdserver.errors import BadPackage, NoSpace, TooLarge
from bdserver.files import durable, package
from bdserver.files.bdcert import Service, read_service
from bdserver.files.package import CERT_BYTES_MAX, DEPTH_MAX, pack, unpack

MOST = 1 << 20


def service_at(path, name="Echo", **values):
    return Service(name, "static", 2.0, "", "none", str(path), 0.0, (("rack", "7"),))._replace(**values)


def packed(service, **limits):
    out = io.BytesIO()
    length, sha256 = pack(service, out, **limits)
    data = out.getvalue()
    assert len(data) == length and hashlib.sha256(data).hexdigest() == sha256
    return data


def unpacked(data, scratch, name="Echo", bytes_max=MOST, files_max=1000):
    return unpack(io.BytesIO(data), hashlib.sha256(data).hexdigest(), name, str(scratch), bytes_max, files_max)


def listing(root):
    """path below root -> (mode, content or None) of everything in a tree."""
    found = {}
    for at, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(at, name)
            content = None if os.path.isdir(path) else open(path, "rb").read()
            found[os.path.relpath(path, root)] = (os.stat(path).st_mode & 0o7777, content)
    return found


@pytest.fixture
def file(tmp_path):
    """A service that is a file of 700 bytes."""
    (tmp_path / "Echo").write_bytes(b"x" * 700)
    return service_at(tmp_path / "Echo")


@pytest.fixture
def folder(tmp_path):
    """A service that is a folder of two files."""
    (tmp_path / "Echo" / "sub").mkdir(parents=True)
    (tmp_path / "Echo" / "sub" / "one").write_bytes(b"1" * 512)
    (tmp_path / "Echo" / "two").write_bytes(b"")
    return service_at(tmp_path / "Echo")


# --- there and back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "arrives_as"), [(0o4755, 0o755), (0o700, 0o755), (0o666, 0o644), (0o400, 0o644)])
def test_a_file_arrives_with_its_bdcert_and_whether_it_runs_but_as_nobody_else(tmp_path, file, mode, arrives_as):
    os.chmod(file.path, mode)
    assert listing(unpacked(packed(file), tmp_path / "scratch")) == {
        "Echo": (arrives_as, b"x" * 700),
        "Echo.bdcert": (0o644, b"weight=2\ntype=static\nrack=7\n"),
    }


def test_a_folder_arrives_as_it_was_whatever_our_umask(tmp_path, folder):
    before = os.umask(0o077)
    try:
        there = unpacked(packed(folder), tmp_path / "scratch")
    finally:
        os.umask(before)
    assert listing(f"{there}/Echo") == {
        "sub": (0o755, None),
        "sub/one": (0o644, b"1" * 512),
        "two": (0o644, b""),
    }
    assert os.stat(f"{there}/Echo").st_mode & 0o777 == 0o755


NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1, max_size=12).filter(
    lambda name: name.strip(".") and name.isprintable()
)


@settings(max_examples=2 * settings.default.max_examples // 5)
@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.binary(max_size=1500), max_size=6))
def test_every_tree_comes_out_as_it_went_in(tmp_path_factory, tree):
    top = tmp_path_factory.mktemp("tree")
    (top / "Echo").mkdir()
    for name, content in tree.items():
        path = top / "Echo" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:  # a file where another name wants a folder
            continue
    data = packed(service_at(top / "Echo"))
    assert listing(f"{unpacked(data, top / 'scratch')}/Echo") == listing(top / "Echo")


def test_the_same_service_packs_to_the_same_bytes_whoever_holds_it(tmp_path, folder):
    data = packed(folder)
    os.utime(f"{folder.path}/two", (1, 1))
    replica = service_at(folder.path, type="dynamic", arrived_at=1234.5)
    assert packed(replica) == data
    there = unpacked(data, tmp_path / "scratch")
    assert packed(read_service(there, "Echo")) == data


def test_it_is_a_tar_that_others_can_read(folder):
    with tarfile.open(fileobj=io.BytesIO(packed(folder))) as archive:
        assert archive.getnames() == ["Echo", "Echo/sub", "Echo/sub/one", "Echo/two", "Echo.bdcert"]
        assert {member.uid for member in archive} == {0} and {member.mtime for member in archive} == {0}


def test_a_tar_that_others_wrote_can_be_read(tmp_path):
    """With the padding to ten kilobytes that tar itself writes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in (("Echo.bdcert", b"weight=1\n"), ("Echo", b"x")):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    assert len(out.getvalue()) % 10240 == 0
    assert set(listing(unpacked(out.getvalue(), tmp_path / "scratch"))) == {"Echo", "Echo.bdcert"}


def test_a_stream_that_comes_in_drops_is_read_to_its_end(tmp_path, folder):
    class Drops(io.BytesIO):
        def read(self, count=-1):
            return super().read(min(count, 7))

    data = packed(folder)
    sha256 = hashlib.sha256(data).hexdigest().upper()
    assert "Echo" in os.listdir(unpack(Drops(data), sha256, "Echo", str(tmp_path / "scratch"), MOST, 10))


# --- limits, on both sides ----------------------------------------------------------------------------------------


def test_the_limit_on_bytes(tmp_path, file):
    data = packed(file)
    assert packed(file, bytes_max=len(data)) == data
    with pytest.raises(TooLarge, match=f"larger than {len(data) - 1} bytes"):
        packed(file, bytes_max=len(data) - 1)
    unpacked(data, tmp_path / "scratch", bytes_max=len(data))
    with pytest.raises(TooLarge, match=f"more than {len(data) - 1} bytes"):
        unpacked(data, tmp_path / "scratch2", bytes_max=len(data) - 1)
    assert os.listdir(tmp_path / "scratch2") == []


def test_a_file_that_is_too_large_is_not_begun(tmp_path):
    with open(tmp_path / "Echo", "wb") as file:
        file.truncate(1 << 40)
    out = io.BytesIO()
    with pytest.raises(TooLarge):
        pack(service_at(tmp_path / "Echo"), out, bytes_max=MOST)
    assert out.getvalue() == b""


def test_the_limit_on_files_and_folders(tmp_path, folder):
    data = packed(folder)
    assert packed(folder, files_max=4) == data
    with pytest.raises(TooLarge, match="more than 3 files"):
        packed(folder, files_max=3)
    unpacked(data, tmp_path / "scratch", files_max=4)
    with pytest.raises(TooLarge, match="more than 3 files"):
        unpacked(data, tmp_path / "scratch2", files_max=3)
    assert os.listdir(tmp_path / "scratch2") == []


def deep_service(tmp_path, depth):
    path = tmp_path.joinpath("Echo", *["d"] * (depth - 1))
    path.mkdir(parents=True)
    return service_at(tmp_path / "Echo")


def test_the_limit_on_depth(tmp_path):
    unpacked(packed(deep_service(tmp_path / "a", DEPTH_MAX)), tmp_path / "scratch")
    with pytest.raises(BadPackage, match=f"deeper than {DEPTH_MAX}"):
        packed(deep_service(tmp_path / "b", DEPTH_MAX + 1))


def test_the_limit_on_the_bdcert(tmp_path, file):
    room = CERT_BYTES_MAX - len(b"weight=2\ntype=static\nx=\n")
    unpacked(packed(file._replace(extra=(("x", "y" * room),))), tmp_path / "scratch")
    with pytest.raises(TooLarge, match="bdcert is larger"):
        packed(file._replace(extra=(("x", "y" * (room + 1)),)))


@pytest.mark.parametrize("name", ["n" * 100, "n" * 95 + "/" + "m" * 100, "ä" * 50])
def test_the_longest_names(tmp_path, name):
    path = tmp_path / "Echo" / name
    path.parent.mkdir(parents=True)
    path.write_text("x")
    assert f"Echo/{name}" in listing(unpacked(packed(service_at(tmp_path / "Echo")), tmp_path / "scratch"))
    path.rename(str(path) + "n")
    with pytest.raises(BadPackage, match="too long a path"):
        packed(service_at(tmp_path / "Echo"))


def test_a_look_at_a_folder_with_more_files_than_may_be_packed_ends(tmp_path, monkeypatch):
    (tmp_path / "Echo").mkdir()
    for number in range(30):
        (tmp_path / "Echo" / f"{number:02}").write_text("x")
    looked, lstat = [], os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: looked.append(path) or lstat(path))
    before = package.look(service_at(tmp_path / "Echo"), 10)
    assert len(looked) == 11
    (tmp_path / "Echo" / "05").write_text("another")
    assert package.look(service_at(tmp_path / "Echo"), 10) != before


@pytest.mark.parametrize("kind", ["a file", "a folder"])
@pytest.mark.parametrize("length", [93, 94, 100])
def test_a_service_of_any_name_that_it_may_have_can_be_packed(tmp_path, length, kind):
    name = "n" * length
    path = tmp_path / name
    if kind == "a file":
        path.write_text("x")
    else:
        path.mkdir()
        (path / ("m" * 100)).write_text("x")
    came = unpacked(packed(service_at(path, name), files_max=2), tmp_path / "scratch", name, files_max=2)
    assert read_service(came, name).extra == (("rack", "7"),) and sorted(os.listdir(came)) == [name, f"{name}.bdcert"]
    assert listing(path) == listing(os.path.join(came, name))


# --- what can't be packed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "dead link", "folder link", "pipe", "the service a link"])
def test_links_and_devices_are_not_packed(tmp_path, folder, kind):
    path = tmp_path / "Echo" / "odd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "the service a link":
        (tmp_path / "Echo").rename(tmp_path / "real")
        (tmp_path / "Echo").symlink_to("real")
    else:
        path.symlink_to({"link": "/etc/passwd", "dead link": "nowhere", "folder link": "/etc"}[kind])
    with pytest.raises(BadPackage, match="only files and folders can be copied"):
        packed(folder)


@pytest.mark.parametrize("name", [b"\xff", b"a\nb", b"a\\b", b"\x1b[2J"])
def test_names_that_no_stranger_would_take_are_not_packed(tmp_path, folder, name):
    with open(os.path.join(os.fsencode(folder.path), name), "w"):
        pass
    with pytest.raises(BadPackage) as caught:
        packed(folder)
    assert str(caught.value).isprintable()


def test_a_service_that_is_registered_by_url_can_not_be_packed():
    with pytest.raises(BadPackage, match="registered by its url"):
        packed(Service("Echo", "static", 1.0, "http://x/", "none", None, 0.0, ()))


def test_a_value_of_two_lines_is_not_packed(file):
    with pytest.raises(BadPackage, match="more than a line"):
        packed(file._replace(extra=(("x", "y\nweight=0"),)))


def test_a_file_that_is_gone_or_shrinks_meanwhile_is_told(tmp_path, file):
    with pytest.raises(BadPackage, match="No such file"):
        packed(file._replace(path=str(tmp_path / "none")))

    class Shrinking(io.BytesIO):
        def write(self, data):
            os.truncate(file.path, 0)
            return super().write(data)

    os.truncate(file.path, 10 * package.CHUNK_BYTES)
    with pytest.raises(BadPackage, match="became shorter"):
        pack(file, Shrinking())


# --- what must not be in it ---------------------------------------------------------------------------------------


def member(name, content=b"", kind=tarfile.REGTYPE, **values):
    """A member as a stranger may write it."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in values.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


def summed(header):
    """A header that was changed, with its checksum put right."""
    blank = header[:148] + b" " * 8 + header[156:512]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]


CERT, END = member("Echo.bdcert", b"weight=1\n"), bytes(1024)
GOOD = member("Echo", b"x")
HOSTILE = {
    "a name outside": (member("../x"), "must not be in it"),
    "a name that is not below": (member("Other"), "must not be in it"),
    "a .bdcert that is a folder": (member("Echo.bdcert", kind=tarfile.DIRTYPE), "must not be in it"),
    "a name twice": (GOOD + GOOD, "is in it twice"),
    "a file before its folder": (member("Echo/x"), "comes before its folder"),
    "a file below a file": (GOOD + member("Echo/x"), "comes before its folder"),
    "a folder with content": (
        summed(member("Echo", b"x")[:156] + b"5" + member("Echo", b"x")[157:]),
        "is a folder with content",
    ),
    "a link": (member("Echo", kind=tarfile.SYMTYPE, linkname="/etc/passwd"), "a member of kind b'2'"),
    "no ustar": (summed(GOOD[:257] + b"posix\0" + GOOD[263:]), "a member that is not ustar"),
    "a wrong checksum": (GOOD[:100] + b"0000777\0" + GOOD[108:], "a header whose checksum is wrong"),
    "a checksum that is no number": (GOOD[:148] + b"x" * 8 + GOOD[156:], "a number that is not octal"),
    "a size that is no number": (summed(GOOD[:124] + b"-1".ljust(12, b"\0") + GOOD[136:]), "a number that is not octal"),
    "a name that is no text": (summed(b"Echo/\xff" + GOOD[6:]), "a name that is not UTF-8"),
    "nothing but a .bdcert": (b"", "there is no Echo in it"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_package_with_what_must_not_be_in_it_is_refused_and_nothing_is_left(tmp_path, what):
    data, reason = HOSTILE[what]
    with pytest.raises(BadPackage, match=f"^package of Echo: .*{reason}"):
        unpacked(CERT + data + END, tmp_path / "scratch")
    assert os.listdir(tmp_path / "scratch") == []


def test_the_same_package_without_all_that_is_taken(tmp_path):
    assert set(listing(unpacked(CERT + GOOD + END, tmp_path / "scratch"))) == {"Echo", "Echo.bdcert"}
    with pytest.raises(BadPackage, match="there is no Echo.bdcert in it"):
        unpacked(GOOD + END, tmp_path / "scratch2")


def test_a_package_that_is_cut_anywhere_or_goes_on_behind_its_end_is_refused(tmp_path):
    data = CERT + GOOD + END
    for length in range(0, len(data), 100):
        with pytest.raises(BadPackage, match="it ends in the middle"):
            unpacked(data[:length], tmp_path / "scratch")
    with pytest.raises(BadPackage, match="there is something behind its end"):
        unpacked(data + b"x", tmp_path / "scratch")
    assert os.listdir(tmp_path / "scratch") == []


def test_sizes_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(TooLarge, match="more than 1048576 bytes"):
        unpacked(CERT + summed(GOOD[:124] + b"77777777777\0" + GOOD[136:]) + END, tmp_path / "scratch")
    with pytest.raises(TooLarge, match="its .bdcert is larger"):
        unpacked(member("Echo.bdcert", b"#" * (CERT_BYTES_MAX + 1)) + GOOD + END, tmp_path / "scratch")
    assert os.listdir(tmp_path / "scratch") == []


# --- trouble ------------------------------------------------------------------------------------------------------


def test_a_scratch_folder_that_can_not_be_made_is_told(tmp_path, file, monkeypatch):
    monkeypatch.setattr(package.tempfile, "mkdtemp", lambda **_: os.mkdir(tmp_path / "Echo" / "x"))
    with pytest.raises(NoSpace, match="scratch: Not a directory"):
        unpacked(packed(file), tmp_path / "scratch")


def test_what_becomes_a_link_after_its_folder_was_listed_is_not_packed(tmp_path, folder, monkeypatch):
    real = os.lstat

    def swapped(path):
        status = real(path)
        if str(path).endswith("two"):
            os.unlink(path)
            os.symlink("/etc/passwd", path)
        return status

    monkeypatch.setattr(os, "lstat", swapped)
    with pytest.raises(BadPackage, match="two: only files and folders can be copied"):
        packed(folder)


def test_a_full_disk_is_told_by_either_side_and_nothing_is_left(tmp_path, file, monkeypatch):
    data = packed(file)
    with pytest.raises(NoSpace, match="no space to pack Echo"), open("/dev/full", "wb", buffering=0) as full:
        pack(file, full)

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(NoSpace, match="no space for Echo"):
        unpacked(data, tmp_path / "scratch")
    assert os.listdir(tmp_path / "scratch") == []


def test_a_digest_that_is_not_the_declared_one_is_refused_and_nothing_is_left(tmp_path, file):
    data = packed(file)
    for declared in ("0" * 64, "", "\n" * 99, hashlib.sha256(data).hexdigest()[:-1]):
        with pytest.raises(BadPackage, match="its SHA-256 is not the declared") as caught:
            unpack(io.BytesIO(data), declared, "Echo", str(tmp_path / "scratch"), MOST, 10)
        assert str(caught.value).isprintable()
    assert os.listdir(tmp_path / "scratch") == []


def test_scratch_is_made_where_there_is_none_and_for_us_alone(tmp_path, file):
    there = unpacked(packed(file), tmp_path / "a" / "scratch")
    assert os.stat(tmp_path / "a" / "scratch").st_mode & 0o777 == os.stat(there).st_mode & 0o777 == 0o700


def test_nothing_but_a_services_name_names_its_scratch_folder(tmp_path, file):
    with pytest.raises(BadPackage, match="no service's name"):
        unpacked(packed(file), tmp_path / "scratch", name="../Echo")
    assert sorted(os.listdir(tmp_path)) == ["Echo"]


def test_what_somebody_writes_has_rested_when_all_of_it_has(tmp_path, monkeypatch):
    folder = tmp_path / "Echo"
    (folder / "within").mkdir(parents=True)
    (folder / "within" / "file").write_text("half")
    service = Service("Echo", STATIC, 1.0, "", "none", str(folder), 0.0)
    one = service._replace(path=str(folder / "within" / "file"))
    newest = max(path.stat().st_ctime_ns for path in (folder, *folder.rglob("*")))
    for passed, left in ((durable.REST_NS // 4, 0.75), (durable.REST_NS, 0.0)):
        monkeypatch.setattr(durable.time, "time_ns", lambda passed=passed: newest + passed)
        assert package.rests_in(service, 9) == left and package.rests_in(one, 9) <= left
    monkeypatch.undo()
    (folder / "within" / "file").write_text("whole")
    assert package.rests_in(service, 9) > 0 and package.rests_in(one, 9) > 0
    assert package.rests_in(service._replace(path=None), 9) == package.rests_in(service._replace(path="gone"), 9) == 0
    seen, own = [], durable.stamp(str(folder))
    monkeypatch.setattr(durable, "rests_in", lambda known: seen.append(known) or 0.0)
    assert package.rests_in(service, 0) == 0 and seen == [own], "more than is ever given: it looked at what is in it"
