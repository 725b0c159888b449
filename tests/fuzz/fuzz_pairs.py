"""No matter what bytes stand in a KEY=VALUE file, a stranger's .bdcert say, either its pairs are read, and are read the same when
they are written again, or not written, and then the file stays as it was; or BadConfig has a line for each line that is no
pair, which begins with the file's name.

    python -m tests.fuzz.fuzz_pairs
"""

from __future__ import annotations

import os
import sys
import tempfile

from bdserver.errors import BadConfig
from bdserver.files import pairs
from tests.fuzz.running import fuzz

SEEDS = (
    b"weight=2\ntype=static\nrack=7\n",
    b"\xef\xbb\xbf# of 2006\r\n WEIGHT = 2 \r\n\r\nurl=http://h/x?a=b#c\n",
    "name=äöü\u2028x\n".encode(),
)
TOKENS = (
    b"=",
    b"==",
    b"\n",
    b"\r",
    b"\0",
    b"#",
    b" ",
    b"\x0b",
    b"\x1c",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xff",
    b"\xef\xbb\xbf",
    "İ=".encode(),
    b"x" * 5000,
)


def one(data: bytes) -> bool:
    """Whether all of it was pairs."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "Echo.bdcert")
        with open(path, "wb") as file:
            file.write(data)
        try:
            found = [(key, value) for _, key, value in pairs.read(path)]
        except BadConfig as error:
            assert all(line.startswith(f"{path}:") for line in str(error).split("\n")), error
            return False
        try:
            pairs.write(path, found)
        except BadConfig:  # a key that begins with a byte order mark, where another line began the file
            with open(path, "rb") as file:
                assert file.read() == data
        assert [(key, value) for _, key, value in pairs.read(path)] == found
        assert os.listdir(folder) == ["Echo.bdcert"]
    return True


if __name__ == "__main__":
    sys.exit(fuzz(one, SEEDS))
