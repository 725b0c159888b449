"""Packages: what goes in comes out, and what must not come out does not."""

import hashlib
import io
import os
import tarfile
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdserver import package
from bdserver.errors import BadPackage, NoSpace, TooLarge
from bdserver.services import Service

MOST = 1 << 20


def a_service(folder, name="Echo"):
    return Service(name, "static", 2.0, "", "none", os.path.join(folder, name), 0.0, (("rack", "7"),))


def packed(service):
    out = io.BytesIO()
    length, sha256 = package.pack(service, out)
    data = out.getvalue()
    assert len(data) == length and hashlib.sha256(data).hexdigest() == sha256
    return data


def unpacked(data, scratch, name="Echo", bytes_max=MOST, files_max=10, sha256=None):
    return package.unpack(
        io.BytesIO(data), sha256 or hashlib.sha256(data).hexdigest(), name, str(scratch), bytes_max, files_max
    )


FOLDER = tarfile.DIRTYPE
# In place of content: what kind of member it is. No content here is one of these digits.
TYPES = (FOLDER, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)


def tar(*members):
    """(name, content or type, …) as a ustar stream by the library."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content, *mode in members:
            info = tarfile.TarInfo(name)
            info.mode = mode[0] if mode else 0o644
            if content not in TYPES:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type = content
                info.linkname = "/etc/passwd"
                archive.addfile(info)
    return out.getvalue()


CERT = ("Echo.bdcert", b"weight=1\n")


def test_a_file_and_its_bdcert(tmp_path):
    (tmp_path / "Echo").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "Echo").chmod(0o4755)
    folder = unpacked(packed(a_service(tmp_path)), tmp_path / "scratch")
    assert open(f"{folder}/Echo", "rb").read() == b"#!/bin/sh\n"
    assert os.stat(f"{folder}/Echo").st_mode & 0o7777 == 0o755  # runs, and not as somebody else
    assert open(f"{folder}/Echo.bdcert").read() == "weight=2\ntype=static\nrack=7\n"


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.lists(
            st.text("abcXYZ019._-", min_size=1, max_size=8).filter(lambda n: n.strip(".") != ""), min_size=1, max_size=3
        ).map("/".join),
        st.binary(max_size=1500),
        max_size=6,
    )
)
def test_a_tree_comes_out_as_it_went_in(tmp_path_factory, tree):
    top = tmp_path_factory.mktemp("tree")
    (top / "Echo").mkdir()
    for name, content in tree.items():
        path = top / "Echo" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:  # a file where another name wants a folder
            continue
    service = a_service(top)
    data = packed(service)
    assert data == packed(service)  # the same service, the same bytes
    folder = unpacked(data, top / "scratch", files_max=100)

    def listing(root):
        return {
            os.path.relpath(os.path.join(at, name), root): open(os.path.join(at, name), "rb").read()
            for at, _, names in os.walk(root)
            for name in names
        }

    assert listing(f"{folder}/Echo") == listing(top / "Echo")


def test_links_and_devices_are_not_packed(tmp_path):
    (tmp_path / "Echo").mkdir()
    (tmp_path / "Echo" / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadPackage, match="only files and folders"):
        packed(a_service(tmp_path))


HOSTILE = {
    "another name": tar(("Other", b"x"), CERT),
    "a path upward": tar(("../Echo", b"x"), CERT),
    "a path upward within": tar(("Echo", FOLDER), ("Echo/../../x", b"x"), CERT),
    "an absolute path": tar(("/Echo", b"x"), CERT),
    "a dot": tar(("Echo", FOLDER), ("Echo/./x", b"x"), CERT),
    "an empty part": tar(("Echo", FOLDER), ("Echo//x", b"x"), CERT),
    "a .bdcert of somebody else": tar(("Echo", b"x"), ("Other.bdcert", b"weight=1")),
    "a symbolic link": tar(("Echo", tarfile.SYMTYPE), CERT),
    "a hard link": tar(("Echo", tarfile.LNKTYPE), CERT),
    "a device": tar(("Echo", tarfile.CHRTYPE), CERT),
    "a fifo": tar(("Echo", tarfile.FIFOTYPE), CERT),
    "a name twice": tar(("Echo", b"x"), ("Echo", b"y"), CERT),
    "a file as a folder": tar(("Echo", b"x"), ("Echo/x", b"y"), CERT),
    "no service at all": tar(CERT),
    "a .bdcert that is a folder": tar(("Echo", b"x"), ("Echo.bdcert", FOLDER)),
    "a name with a line feed": tar(("Echo", FOLDER), ("Echo/a\nb", b"x"), CERT),
    "a name too deep": tar(("Echo", FOLDER), ("Echo/" + "a/" * 20 + "x", b"x"), CERT),
    "nothing": b"",
    "no tar": b"x" * 2048,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_must_not_be_unpacked_is_refused_and_nothing_is_left(tmp_path, name):
    with pytest.raises(BadPackage) as refusal:
        unpacked(HOSTILE[name], tmp_path / "scratch")
    assert "\n" not in str(refusal.value)
    assert os.listdir(tmp_path / "scratch") == [] and os.listdir(tmp_path) == ["scratch"]


def spoiled(data, offset, field):
    """A header's field changed, its checksum made right again."""
    data = bytearray(data)
    data[offset : offset + len(field)] = field
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


@pytest.mark.parametrize(
    "field",
    [b"-0000000001\0", b"99999999999\0", b"77777777777\0", b"\x80" + b"\0" * 10 + b"\x01", b"\xff" * 12, b"0x000000001\0"],
)
def test_odd_lengths_are_refused(tmp_path, field):
    with pytest.raises((BadPackage, TooLarge)):
        unpacked(spoiled(tar(("Echo", b"x"), CERT), 124, field), tmp_path / "scratch")
    assert os.listdir(tmp_path / "scratch") == []


def test_a_wrong_checksum_or_digest_is_refused(tmp_path):
    data = tar(("Echo", b"x"), CERT)
    with pytest.raises(BadPackage, match="checksum is wrong"):
        unpacked(b"F" + data[1:], tmp_path / "scratch")
    with pytest.raises(BadPackage, match="SHA-256 is not the declared"):
        unpacked(data, tmp_path / "scratch", sha256="0" * 64)
    assert os.listdir(tmp_path / "scratch") == []


def test_cut_anywhere_it_is_refused(tmp_path):
    data = packed_example(tmp_path)
    for end in range(0, len(data) - 1024, 100):
        with pytest.raises(BadPackage):
            unpacked(data[:end], tmp_path / "scratch")
    assert os.listdir(tmp_path / "scratch") == []


def packed_example(tmp_path):
    (tmp_path / "Echo").write_bytes(b"x" * 700)
    return packed(a_service(tmp_path))


@pytest.mark.parametrize("room", [0, -1])
def test_the_limit_on_bytes_from_both_sides(tmp_path, room):
    data = packed_example(tmp_path)
    if room == 0:
        assert unpacked(data, tmp_path / "scratch", bytes_max=len(data))
    else:
        with pytest.raises(TooLarge, match=f"more than {len(data) - 1} bytes"):
            unpacked(data, tmp_path / "scratch", bytes_max=len(data) - 1)


@pytest.mark.parametrize(("files", "is_fine"), [(4, True), (5, False)])
def test_the_limit_on_files_from_both_sides(tmp_path, files, is_fine):
    members = [("Echo", FOLDER), *[(f"Echo/{i}", b"") for i in range(files - 1)], CERT]
    if is_fine:
        assert unpacked(tar(*members), tmp_path / "scratch", files_max=4)
    else:
        with pytest.raises(TooLarge, match="more than 4 files"):
            unpacked(tar(*members), tmp_path / "scratch", files_max=4)


def test_changed_bytes_are_never_more_than_a_documented_error(tmp_path):
    data = packed_example(tmp_path)
    for seed in range(300):
        rng = Random(seed)
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 8)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        try:
            unpacked(bytes(changed), tmp_path / "scratch")
        except (BadPackage, TooLarge, NoSpace):
            continue
        assert sorted(os.listdir(tmp_path)) == ["Echo", "scratch"], seed
