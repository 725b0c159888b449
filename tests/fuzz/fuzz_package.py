"""No matter what another node sends as a package, either it is unpacked to one new folder of plain files and folders, within the
limits; or BadPackage or TooLarge is raised and nothing is left. Nothing is ever made beside that folder.

    python -m tests.fuzz.fuzz_package

The first byte of the input says whether the checksums of its headers are put right before, as a liar would.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import sys
import tarfile
import tempfile

from bdserver.errors import BadPackage, TooLarge
from bdserver.files.package import BLOCK_BYTES, unpack
from tests.fuzz.running import fuzz

BYTES_MAX, FILES_MAX = 64 << 10, 5


def _tar(*members: tuple[str, bytes | None]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = (tarfile.DIRTYPE, 0) if content is None else (tarfile.REGTYPE, len(content))
            archive.addfile(info, io.BytesIO(content or b""))
    return out.getvalue()[
        : (2 + 2 * len(members) + sum(len(content or b"") // BLOCK_BYTES for _, content in members)) * BLOCK_BYTES
    ]


SEEDS = (
    b"\1" + _tar(("Echo", b"x" * 700), ("Echo.bdcert", b"weight=1\n")),
    b"\1" + _tar(("Echo", None), ("Echo/a", b"1"), ("Echo/sub", None), ("Echo/sub/b", b""), ("Echo.bdcert", b"weight=2\n")),
)
TOKENS = (b"../", b"/", b"Echo/", b"Echo.bdcert", b"\0", b"\xff", b"2", b"5", b"0000777", b"7" * 11, b"\0" * BLOCK_BYTES, b"ustar\x0000",
          b"\x80\0\0\0\0\0\0\0", b"\xc3\x28", b"\\", b"\n")  # fmt: skip


def with_checksums(data: bytes) -> bytes:
    """The same, with the right checksum in each block that could be a header."""
    blocks = [bytearray(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES)]
    for block in blocks:
        if len(block) == BLOCK_BYTES and block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    return b"".join(blocks)


def one(data: bytes) -> bool:
    """Whether it was unpacked."""
    body = with_checksums(data[1:]) if data[:1] > b"\0" else data[1:]
    with tempfile.TemporaryDirectory() as top:
        scratch = os.path.join(top, "scratch")
        try:
            folder = unpack(io.BytesIO(body), hashlib.sha256(body).hexdigest(), "Echo", scratch, BYTES_MAX, FILES_MAX)
        except (BadPackage, TooLarge) as error:
            assert "\n" not in str(error)
            assert os.listdir(scratch) == []
            assert os.listdir(top) == ["scratch"]
            return False
        assert os.listdir(top) == ["scratch"]
        assert [os.path.join(scratch, name) for name in os.listdir(scratch)] == [folder]
        assert len(body) <= BYTES_MAX
        _check_tree(folder)
    return True


def _check_tree(folder: str) -> None:
    assert sorted(os.listdir(folder)) == ["Echo", "Echo.bdcert"]
    found = [os.path.join(at, name) for at, folders, files in os.walk(folder) for name in folders + files]
    assert len(found) <= FILES_MAX + 1
    for path in found:
        mode = os.lstat(path).st_mode
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        assert stat.S_IMODE(mode) in (0o644, 0o755)


if __name__ == "__main__":
    sys.exit(fuzz(one, SEEDS))
