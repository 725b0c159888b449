"""No matter what bytes stand in a config, either it is loaded, and what it means, written out in full, loads to the same values;
or BadConfig has a line for each thing that is wrong, which begins with the file's name.

    python -m tests.fuzz.fuzz_settings
"""

from __future__ import annotations

import os
import sys
import tempfile

from bdserver.errors import BadConfig
from bdserver.files.settings import SETTINGS, Settings, load
from tests.fuzz.running import fuzz

SEEDS = (
    b"",
    b"# a comment\nusername=alpha\nport=9001\nhints=10.0.0.1:9001 [::1]:9002\n",
    b"\xef\xbb\xbfUSERNAME = alpha\r\nround_min=1.5\nround_max=20\nservice_url=http://{host}/{service}?a=b\n",
    b"".join(
        f"{each.name}={each.kind.write(each.default)}\n".encode() for each in SETTINGS if not isinstance(each.default, str)
    ),
)
TOKENS = (*(f"\n{each.name}=".encode() for each in SETTINGS), b"=", b"\n", b"\0", b"\xff", b"\xe2\x80\xa8", b"\x1c", b"\x85", b"nan", b"inf", b"1e400",
          b"-1", b"9" * 5000, b"\xd9\xa3", b"{var_dir}", b"{", b"..", b"true")  # fmt: skip


def _load(folder: str, data: bytes) -> Settings:
    path = os.path.join(folder, "bdserverd.conf")
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o600)
    return load(path)


def _in_full(settings: Settings) -> bytes:
    return "".join(f"{each.name}={each.kind.write(getattr(settings, each.name))}\n" for each in SETTINGS).encode()


def one(data: bytes) -> bool:
    """Whether it was loaded."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            settings = _load(folder, data)
        except BadConfig as error:
            assert all(line.startswith(f"{folder}/bdserverd.conf:") for line in str(error).split("\n")), error
            return False
        if "{var_dir}" in settings.var_dir:  # in a path written in full, that would be put in once more
            return True
        again = _load(folder, _in_full(settings))
        assert [getattr(settings, each.name) for each in SETTINGS] == [getattr(again, each.name) for each in SETTINGS]
    return True


if __name__ == "__main__":
    sys.exit(fuzz(one, SEEDS))
