"""Files that people write by hand: UTF-8, a line for each thing, `#` comments; a complaint has FILE:LINE.

KEY=VALUE is the business of pairs, what an entry of a list means that of its reader.
"""

from __future__ import annotations

import os
from zlib import crc32

from bdserver.errors import BadConfig
from bdserver.files import durable

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator

# A config of a thousand hints is 30 KB; whatever is larger was not written by hand, and must not be read whole to find out.
FILE_BYTES_MAX = 1 << 20
# Of a wrong value or line, this much is shown in a complaint.
SHOWN_CHARACTERS_MAX = 60


def content(path: str, *, follow: bool = True) -> tuple[bytes, os.stat_result]:
    """Content and status of the file; BadConfig says why it can't be read."""
    try:
        return durable.read(path, FILE_BYTES_MAX, follow=follow)
    except OSError as error:
        raise BadConfig(f"{durable.shown(path)}: {error.strerror}") from error


def numbered(data: bytes) -> Iterator[tuple[int, str, str]]:
    """(number, stripped line, "") of every line that is not blank; (number, "", complaint) when it is no text."""
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            yield number, "", "not UTF-8 text"
            continue
        if "\0" in line:
            yield number, "", "a NUL byte"
        elif line:
            yield number, line, ""


def ending(rows: bytes) -> bytes:
    """A last line, a comment, which shows that the rows before it are all there, as they were written."""
    return b"# %08x\n" % crc32(rows)


def split_ending(data: bytes) -> tuple[bytes, bool]:
    """The rows before the last line, and whether that is their ending."""
    rows = data[: data.rfind(b"\n", 0, -1) + 1]
    return rows, data[len(rows) :] == ending(rows)


def entries(path: str, data: bytes) -> Iterator[tuple[int, str]]:
    """(number, entry) of a list: one a line, without what follows a `#`. BadConfig names the line that is no text."""
    for number, line, complaint in numbered(data):
        if complaint:
            raise BadConfig(f"{durable.shown(path)}:{number}: {complaint}")
        entry = line.partition("#")[0].strip()
        if entry:
            yield number, entry
